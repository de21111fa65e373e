#ifndef COSSIM_SEARCH_TOPK_H
#define COSSIM_SEARCH_TOPK_H

#include <pthread.h>
#include <stdint.h>
#include "base/cancel.h"
#include "search/result_handler.h"

/* Keeps the k best candidates of each query in values and indices, both (queries, k). */
struct topk {
    /* the first member, so that a pointer to it is a pointer to the topk */
    struct result_handler result_handler;
    size_t k;
    void *values;
    int64_t *indices;
    bool shared; /* several workers add results: lock each query */
    pthread_mutex_t *locks;
};

/*
 * Starts from the entries in values and indices, which an earlier search may have left there. Slots
 * without an entry hold NaN and -1. Returns -1 when memory runs out.
 */
int topk_init(struct topk *topk, enum compute_type compute, size_t queries, size_t k, void *values,
              int64_t *indices);
void topk_free(struct topk *topk);
/* Sorts each query's entries, best first. */
void topk_sort(enum compute_type compute, size_t queries, size_t k, void *values, int64_t *indices,
               struct cancel_token *token);

#endif
