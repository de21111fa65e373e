#pragma once

#include "base/scratch.h"
#include "kernels/kernels.h"

/*
 * 8-bit codes of the queries of a block, with their bounds: row by row, and side by side in panels.
 * A vector of a query has `depth` elements.
 */
struct coded_queries {
    size_t queries, depth;
    size_t step; /* bytes from query to query: depth rounded up to SQ8_PADDING, plus SQ8_PADDING */
    bool in_halves; /* true: the one panel is for half_panel of the kernels */
    int zero;       /* the code of 0 in the rows, plus the offset that the kernels add to rows */
    int8_t *codes;
    struct query_bound *bounds;
    int32_t *sums;            /* of the codes of each query */
    struct sq8_panel *panels; /* panel i has the queries from i * panel_queries on */
};

/* Takes the arrays for a block of queries. Call it in both passes of an arena. */
struct coded_queries coded_queries_take(struct arena *arena, size_t queries, size_t depth,
                                        int zero);

/*
 * Quantizes the vector of a query. With finite = false no row is ruled out for the query. The
 * bound's norm is 1 and its tail 0.
 */
void coded_queries_set(struct coded_queries *c, size_t query, const float *vector, bool finite);

/* The sum of squares of n elements, in double. */
double sum_of_squares(const float *vector, size_t n);

/* Makes the panels, after all queries are set. */
void coded_queries_pack(struct coded_queries *c);
