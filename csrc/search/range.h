#ifndef COSSIM_SEARCH_RANGE_H
#define COSSIM_SEARCH_RANGE_H

#include <stdint.h>
#include "base/cancel.h"
#include "search/result_handler.h"

/* All pairs that reach one limit: (query, candidate), or the other way round if turned. */
struct pair_list;
struct range_result {
    struct result_handler result_handler;
    bool swapped_sides;
    size_t most; /* pairs that are kept; all are counted */
    _Atomic size_t count;
    _Atomic bool no_memory;
    struct pair_list *lists; /* one a worker */
    size_t workers;
};

int range_init(struct range_result *pairs, enum compute_type compute, double limit, size_t most);
void range_free(struct range_result *pairs);
/* The pairs in ascending order of i, then j; i < rows, j < columns. -1 when there is no memory. */
int range_store(const struct range_result *pairs, size_t rows, size_t columns, int64_t *i,
                int64_t *j, void *values, struct cancel_token *token);

#endif
