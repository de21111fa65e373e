#pragma once

#include "search/search_call.h"

/*
 * Runs a search and passes its results to the result handler. Returns 0, or -1 when memory runs
 * out.
 */
int search(const struct search *search);

/* Returns the number of pairs that the progress of a search counts, or SIZE_MAX on overflow. */
size_t search_pairs(const struct search *search);
/* True if the search runs the prefilter after warm_up_rows rows. */
bool search_has_prefilter(const struct search *search);
