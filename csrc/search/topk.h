#pragma once

#include <pthread.h>
#include <stdint.h>
#include "results/candidates.h"
#include "search/within.h"

/* Keeps the k best candidates of each query in values and indices, both (queries, k), sorted. */
struct topk {
    /* the first member, so that a pointer to it is a pointer to the topk */
    struct result_handler result_handler;
    size_t k;
    void *values;
    int64_t *indices;
    bool shared; /* several workers add results: lock each query */
    bool rising; /* a worker adds the candidates of each query in ascending order */
    pthread_mutex_t *locks;
    /* If not rising: the candidate whose score is a worker's threshold, else INT64_MAX;
     * [workers][thresholds_step] */
    int64_t *last;
    struct waiting *waiting; /* NULL: all pairs are scored at once */

    /* For large k: the candidates of a block of queries, which begins with `first`. */
    size_t first, capacity;
    struct candidates *candidates; /* [queries] */
    void *scores;                  /* [queries][capacity + SELECT_PADDING], of the compute type */
    int64_t *numbers;              /* [queries][capacity + SELECT_PADDING] */
};

/*
 * Starts from the entries in values and indices, which an earlier search may have left there. Slots
 * without an entry hold NaN and -1, after the others. Returns -1 when memory runs out.
 */
int topk_init(struct topk *topk, enum compute_type compute, size_t queries, size_t k, void *values,
              int64_t *indices);
void topk_free(struct topk *topk);
/* Runs a search for the k best. If search->self is set, each pair counts for both of its rows.
 * Returns 0, or -1 when memory runs out. topk_pairs returns how many pairs the search counts. */
int topk_search(struct topk *topk, const struct search *search);
size_t topk_pairs(const struct topk *topk, const struct search *search);
