#pragma once

#include <stdint.h>
#include "base/cancel.h"
#include "results/result_handler.h"

/*
 * Collects all pairs whose score reaches one threshold, from any number of searches. A pair is
 * (query, candidate), or (candidate, query) if swapped_sides is set.
 */
struct pair_lists;
struct range_result {
    struct result_handler result_handler;
    bool swapped_sides;
    size_t rows, columns; /* all i are below rows, all j below columns */
    size_t max_pairs;     /* pairs beyond this number are counted but not kept */
    _Atomic size_t count;
    _Atomic bool no_memory;
    struct pair_lists *lists; /* one for each worker */
    size_t workers;
    unsigned group_shift; /* i >> group_shift is the group of row i */
};

/* The result: arrays of `count` elements. values are of the compute type. */
struct pair_arrays {
    int64_t *i, *j;
    void *values;
};

int range_init(struct range_result *range, enum compute_type compute, double threshold, size_t rows,
               size_t columns);
void range_free(struct range_result *range);
/*
 * Moves the pairs to the arrays, in ascending order of i, then of j. Returns -1 when memory runs
 * out.
 */
int range_store(struct range_result *range, const struct pair_arrays *to,
                struct cancel_token *token);
