#pragma once

#include "sparse/topk_call.h"

/* True if the index of short floats finds the results of most queries. */
bool coarse_topk_pays(const struct sparse_topk *call);

/*
 * Searches queries, and sets is_done for those whose results it has stored: those with k clearly
 * positive scores. All must be false before. *progress is the number of pairs that a query adds to
 * the progress when it is done; on return, it is this number for each query that is not done yet.
 * Returns 0, or -1 when memory runs out.
 */
int coarse_topk(const struct sparse_topk *call, int threads, bool *is_done, size_t *progress);
