#pragma once

#include "search/search_call.h"

/*
 * A search whose rows are packed bits. A distance takes no more time than a prefilter would, so all
 * distances are computed. A threshold is converted to the largest distance that reaches it. Only
 * distances up to this one are converted to scores. Returns 0, or -1 when memory runs out.
 */
int search_bits(const struct search *search);
