#ifndef COSSIM_SPARSE_POSTINGS_H
#define COSSIM_SPARSE_POSTINGS_H

#include "results/filter.h"
#include "sparse/exact_sum.h"
#include "sparse/rows.h"

/*
 * An inverted index of sparse rows: for each block of rows and each column, the rows that have an
 * entry there, and its value. The scores of a query with a block of rows are sums along the lists
 * of the query's columns. A block is small enough for its sums to stay in the L2 cache, and large
 * enough for the lists to be longer than the search for their start takes.
 */
struct postings_block {
    size_t first, rows;
    const uint32_t *starts; /* (columns + 1) */
    const void *lists;      /* the entries of all lists; their type depends on the compute type */
};

struct postings {
    const struct sparse_rows *rows;
    const uint64_t *kept; /* a bitmap of the rows whose entries are listed. NULL: all */
    size_t block_rows, block_count;
    struct postings_block *blocks;
    void **memory; /* (block_count) */
};

/* Returns 0, or -1 when memory runs out. Free the index in either case. */
int postings_init(struct postings *postings, const struct sparse_rows *rows, const uint64_t *kept,
                  struct cancel_token *token);
void postings_free(struct postings *postings);

/*
 * The sums of one query with the rows of a block. While `touched` lists the rows that have a common
 * column with the query, sums of other rows are 0. One worker uses it at a time.
 */
struct accumulator {
    enum compute_type compute;
    size_t rows; /* room for this many */
    void *sums;  /* doubles for COMPUTE_F32, struct exact_sum for COMPUTE_F64 */
    uint8_t *is_touched;
    uint32_t *touched; /* numbers within the block, in no order */
    size_t count;
    bool lists_rows; /* false: all sums are read anyway */
    bool listed;     /* touched and is_touched are in use; else most rows may be touched */
};

/* Takes arrays for the blocks of an index. Call it in both passes of an arena. */
void accumulator_allocate(struct accumulator *a, const struct postings *postings, bool lists_rows,
                          struct arena *arena);
void accumulator_clear(struct accumulator *a);

/* Adds the products of a query with the rows of a block. Leaves out the first `from` rows of the
 * block. */
void accumulate(struct accumulator *a, const struct postings_block *block,
                const struct sparse_rows *queries, size_t query, size_t from);

/* Returns the sum of a row and sets it to 0, while it is in the cache. */
static inline double accumulator_take(struct accumulator *a, size_t row)
{
    double sum;
    if (a->compute == COMPUTE_F32) {
        double *const at = (double *)a->sums + row;
        sum = *at;
        *at = 0.0;
    } else {
        struct exact_sum *const at = (struct exact_sum *)a->sums + row;
        sum = exact_total(at);
        *at = (struct exact_sum){0.0, 0.0};
    }
    return sum;
}

/* Forgets which rows are touched. All sums have been taken. */
void accumulator_forget(struct accumulator *a);

/* Sets all sums of a block to 0. */
void accumulator_reset(struct accumulator *a, const struct postings_block *block);

static inline double accumulated(const struct accumulator *a, size_t row)
{
    return a->compute == COMPUTE_F32 ? ((const double *)a->sums)[row]
                                     : exact_total((const struct exact_sum *)a->sums + row);
}

#endif
