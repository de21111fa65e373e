#ifndef COSSIM_SEARCH_RANGE_H
#define COSSIM_SEARCH_RANGE_H

#include <stdint.h>
#include "base/cancel.h"
#include "search/result_handler.h"

/*
 * Collects all pairs whose score reaches one threshold. A pair is (query, candidate), or
 * (candidate, query) if swapped_sides is set.
 */
struct pair_list;
struct range_result {
    struct result_handler result_handler;
    bool swapped_sides;
    size_t max_pairs; /* pairs beyond this number are counted but not kept */
    _Atomic size_t count;
    _Atomic bool no_memory;
    struct pair_list *lists; /* one for each worker */
    size_t workers;
};

int range_init(struct range_result *range, enum compute_type compute, double threshold,
               size_t max_pairs);
void range_free(struct range_result *range);
/*
 * Moves the pairs to the arrays, in ascending order of i, then of j. All i are below rows, all j
 * below columns. Returns -1 when memory runs out.
 */
int range_store(struct range_result *range, size_t rows, size_t columns, int64_t *i, int64_t *j,
                void *values, struct cancel_token *token);

#endif
