#pragma once

#include "search/search_call.h"

/*
 * Runs a search and passes its results to the result handler. Returns 0, or -1 when memory runs
 * out.
 */
int search(const struct search *search);

/*
 * A search whose rows are packed bits. A distance takes no more time than a prefilter would, so all
 * distances are computed. A threshold is converted to the largest distance that reaches it. Only
 * distances up to this one are converted to scores. Returns 0, or -1 when memory runs out.
 */
int search_bits(const struct search *search);

/* Returns the number of pairs that the progress of a search counts, or SIZE_MAX on overflow. */
size_t search_pairs(const struct search *search);
/* True if the search runs the prefilter after warm_up_rows rows. */
bool search_has_prefilter(const struct search *search);
