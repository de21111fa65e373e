#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kernels/kernels.h"
#include "vectors/compute_type.h"

/*
 * The candidates of one query, for top-k with large k. Up to `capacity` candidates are collected in
 * any order. Then all but the k best are dropped. Their order is that of results/ranking.h.
 */
struct candidates {
    size_t count;
    void *scores;     /* [capacity + SELECT_PADDING], elements of the compute type */
    int64_t *numbers; /* [capacity + SELECT_PADDING] */
    /* The k-th best candidate when candidates were last dropped. Later ones with lower scores are
     * not results. */
    bool has_last;
    double last_score;
    int64_t last_number;
};

/* Drops all but the k best candidates, 1 <= k <= count. Takes O(count) time. */
void candidates_select(struct candidates *c, enum compute_type compute, size_t k);

/*
 * Writes the candidates to values and indices, best first. Takes O(count) time. Overwrites
 * numbers[count] to numbers[2 * count - 1]. There are at most CANDIDATES_MAX.
 */
void candidates_store(struct candidates *c, enum compute_type compute, void *values,
                      int64_t *indices);

#define CANDIDATES_MAX UINT32_MAX
