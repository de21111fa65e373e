#pragma once

#include "sparse/sparse_search.h"

/* Runs a search. Returns 0, or -1 when memory runs out. */
int sparse_range_search(const struct sparse_search *search);
