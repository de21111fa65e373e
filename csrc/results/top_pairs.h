#pragma once

#include <pthread.h>
#include <stdint.h>
#include "results/result_handler.h"

/* Rows that a search for the best pairs scores without the prefilter, to get a threshold. */
enum { TOP_PAIRS_WARM_UP = 1024 };

/*
 * Keeps the best pairs among all queries and candidates: pairs with the highest scores, and among
 * equal scores those with the lowest (i, j). Pairs that score NaN are left out.
 *
 * If `self` is set (both sides are the same rows), i is the lower number of a pair. Else i is the
 * query and j the candidate, or the reverse if swapped_sides is set.
 */
struct top_pairs {
    struct result_handler result_handler;
    bool self, swapped_sides;
    /* A heap of `size` pairs, with the worst pair first. Places without a pair hold NaN and -1. */
    size_t size;
    double least; /* the threshold while there are fewer pairs */
    void *values;
    int64_t *i, *j;
    pthread_mutex_t lock;
};

/*
 * Starts from the pairs in values, i and j, which an earlier search may have left there. Returns -1
 * when memory runs out.
 */
int top_pairs_init(struct top_pairs *pairs, enum compute_type compute, size_t size, double least,
                   void *values, int64_t *i, int64_t *j);
void top_pairs_free(struct top_pairs *pairs);
