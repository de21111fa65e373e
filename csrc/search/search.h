#ifndef COSSIM_SEARCH_SEARCH_H
#define COSSIM_SEARCH_SEARCH_H

#include "search/search_call.h"

/*
 * Runs a search and passes its results to the result handler. Returns 0, or -1 when memory runs
 * out.
 */
int search(const struct search *search);

/* The number of pairs whose progress a search counts, or SIZE_MAX if that does not fit. */
size_t search_pairs(const struct search *search);

#endif
