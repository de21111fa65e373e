#ifndef COSSIM_SPARSE_RANGE_SEARCH_H
#define COSSIM_SPARSE_RANGE_SEARCH_H

#include "sparse/sparse_search.h"

/* Runs a search. Returns 0, or -1 when memory runs out. */
int sparse_range_search(const struct sparse_search *search);

#endif
