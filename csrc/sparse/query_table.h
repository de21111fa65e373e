#pragma once

#include "sparse/exact_sum.h"
#include "sparse/rows.h"

/*
 * The entries of one query by column, for its sums with single rows. A table of bytes, which stays
 * in the L1 cache, rules out most columns that the query lacks. Each worker has its own table.
 */
enum { QUERY_FILTER = 1 << 12, QUERY_HITS = 256, QUERY_BATCH = 8 };
struct query_table {
    const struct sparse_rows *rows;
    size_t query;
    uint8_t *may_have;   /* (QUERY_FILTER): 1 at c % QUERY_FILTER for each column c of the query */
    uint32_t *positions; /* (columns): position of the entry of column c among those of the
                          * query. Undefined for columns that the query lacks. */
    uint32_t *hits;      /* (QUERY_BATCH, QUERY_HITS) */
};

/* Takes the arrays. Call it in both passes of an arena, and query_table_clear afterwards. */
static inline void query_table_allocate(struct query_table *t, const struct sparse_rows *queries,
                                        struct arena *arena)
{
    t->rows = queries;
    t->may_have = arena_take(arena, QUERY_FILTER, sizeof *t->may_have);
    t->positions = arena_take(arena, queries->columns, sizeof *t->positions);
    t->hits = arena_take(arena, QUERY_BATCH * QUERY_HITS, sizeof *t->hits);
}

static inline void query_table_clear(struct query_table *t)
{
    for (size_t i = 0; i < QUERY_FILTER; i++) {
        t->may_have[i] = 0;
    }
    for (size_t c = 0; c < t->rows->columns; c++) {
        t->positions[c] = 0;
    }
}

static inline void query_table_fill(struct query_table *t, size_t query)
{
    const size_t begin = t->rows->starts[query], end = t->rows->starts[query + 1];
    t->query = query;
    for (size_t e = begin; e < end; e++) {
        t->may_have[t->rows->column[e] % QUERY_FILTER] = 1;
        t->positions[t->rows->column[e]] = (uint32_t)(e - begin);
    }
}

/* Removes the entries of the current query. */
static inline void query_table_empty(struct query_table *t)
{
    const size_t begin = t->rows->starts[t->query], end = t->rows->starts[t->query + 1];
    for (size_t e = begin; e < end; e++) {
        t->may_have[t->rows->column[e] % QUERY_FILTER] = 0;
    }
}

/* Lists those of entries [first, first + n) of y whose columns the query may have, and prefetches
 * their values. Returns how many. */
static inline size_t query_table_hits(const struct query_table *t, const struct sparse_rows *y,
                                      size_t first, size_t n, uint32_t *hits)
{
    size_t count = 0;
    for (size_t i = 0; i < n; i++) {
        hits[count] = (uint32_t)i;
        count += t->may_have[y->column[first + i] % QUERY_FILTER];
    }
    for (size_t h = 0; h < count; h++) {
        __builtin_prefetch(y->values + first + hits[h]);
    }
    return count;
}

/* Adds the products of these entries to a sum. */
static inline void query_table_add(const struct query_table *t, const struct sparse_rows *y,
                                   size_t first, const uint32_t *hits, size_t count,
                                   struct exact_sum *sum)
{
    const size_t begin = t->rows->starts[t->query], entries = t->rows->starts[t->query + 1] - begin;
    for (size_t h = 0; h < count; h++) {
        const size_t e = first + hits[h];
        const uint32_t column = y->column[e], position = t->positions[column];
        if (position < entries && t->rows->column[begin + position] == column) {
            exact_add(y->compute, sum, t->rows->values[begin + position] * y->values[e]);
        }
    }
}

/* Computes x.y of the query and n <= QUERY_BATCH rows of y, in which common columns are added in
 * ascending order. Row i of the batch is row first + numbers[i] of y. */
static inline void query_table_dots(const struct query_table *t, const struct sparse_rows *y,
                                    size_t first, const uint32_t *numbers, size_t n, double *dots)
{
    size_t counts[QUERY_BATCH];
    for (size_t i = 0; i < n; i++) {
        const size_t *at = y->starts + first + numbers[i];
        counts[i] = query_table_hits(t, y, at[0], smaller(at[1] - at[0], QUERY_HITS),
                                     t->hits + i * QUERY_HITS);
    }
    for (size_t i = 0; i < n; i++) {
        const size_t *at = y->starts + first + numbers[i];
        uint32_t *hits = t->hits + i * QUERY_HITS;
        struct exact_sum sum = {0.0, 0.0};
        query_table_add(t, y, at[0], hits, counts[i], &sum);
        for (size_t e = at[0] + QUERY_HITS; e < at[1]; e += QUERY_HITS) {
            const size_t count = query_table_hits(t, y, e, smaller(at[1] - e, QUERY_HITS), hits);
            query_table_add(t, y, e, hits, count, &sum);
        }
        dots[i] = exact_total(&sum);
    }
}
