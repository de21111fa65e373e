#pragma once

#include "sparse/sparse_search.h"

/* The lowest threshold that the prefix filter can search. */
#define PREFIX_MIN_THRESHOLD 0.01

/*
 * Runs a search by the prefix filter. Its threshold is at least PREFIX_MIN_THRESHOLD. Returns 0, or
 * -1 when memory runs out.
 */
int prefix_filter(const struct sparse_search *search);
