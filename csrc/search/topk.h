#ifndef COSSIM_SEARCH_TOPK_H
#define COSSIM_SEARCH_TOPK_H

#include <pthread.h>
#include <stdint.h>
#include "base/cancel.h"
#include "search/result_handler.h"

/* The k best of each query, in place in values and indices, [queries][k]. */
struct topk {
    struct result_handler result_handler; /* first, so that a finder is one */
    size_t k;
    void *values;
    int64_t *indices;
    bool shared; /* by several workers: they take turns */
    pthread_mutex_t *locks;
};

/* Ready to go on from what an earlier search left in values and indices; NaN and -1 where there is
 * nothing yet. */
int topk_init(struct topk *topk, enum compute_type compute, size_t queries, size_t k, void *values,
              int64_t *indices);
void topk_free(struct topk *topk);
/* Brings each query's entries in order, best first. */
void topk_sort(enum compute_type compute, size_t queries, size_t k, void *values, int64_t *indices,
               struct cancel_token *token);

#endif
