#pragma once

#include "results/filter.h"
#include "sparse/exact_sum.h"
#include "sparse/rows.h"

/*
 * An inverted index of sparse rows: for each block of rows and each column, a list of the entries
 * in that column, each with its row and value. The scores of a query with a block of rows are sums
 * along the lists of the query's columns. A block is small enough that its sums stay in the L2
 * cache, and large enough that reading a list takes longer than finding its start.
 */
struct postings_block {
    size_t first, rows;
    const uint32_t *starts; /* (columns + 1) */
    const void *lists;      /* the entries of all lists; their type depends on the compute type */
    void *memory;
};

struct postings {
    const struct sparse_rows *rows;
    const uint64_t *kept; /* a bitmap of the rows whose entries are listed. NULL: all */
    size_t block_rows, block_count;
    struct postings_block *blocks;
};

/* The rows that a query touches are listed if its lists have fewer entries than 1 / LISTED_SHARE of
 * a block's rows. Otherwise all sums are read. */
enum { LISTED_SHARE = 4 };

/* Returns 0, or -1 when memory runs out. Free the index in either case. */
int postings_init(struct postings *postings, const struct sparse_rows *rows, const uint64_t *kept,
                  struct cancel_token *token);
void postings_free(struct postings *postings);

/* Products that were added to sums other than 0: the sums before, the products, and their rows. */
struct additions {
    double *sums, *products;
    uint32_t *rows;
};

/* The sums of one query with the rows of a block. A row is touched if it shares a column with the
 * query; the sums of other rows are 0. Each worker has its own accumulator. */
struct accumulator {
    enum compute_type compute;
    size_t rows;  /* size of the arrays: the rows of a block */
    double *sums; /* exact_total of each row's sum */
    /* For COMPUTE_F64: the additions whose rounding errors are not in `errors` yet. They are few
     * where rows share few columns, because the first product of a row is exact. There is room for
     * two lists. */
    struct additions additions;
    double *errors; /* (rows): all 0 between two queries */
    uint8_t *is_touched;
    uint32_t *touched; /* the touched rows, numbered within the block, in no order */
    size_t count;
    bool lists_rows; /* false: touched rows are never listed, because the caller reads all sums */
    bool listed;     /* touched and is_touched are filled for the current query */
};

/* Takes arrays for the blocks of an index. Call it in both passes of an arena. */
void accumulator_allocate(struct accumulator *a, const struct postings *postings, bool lists_rows,
                          struct arena *arena);
void accumulator_clear(struct accumulator *a);

/* Adds the products of a query with the rows of a block to the sums. Leaves out the first `from`
 * rows of the block. */
void accumulate(struct accumulator *a, const struct postings_block *block,
                const struct sparse_rows *queries, size_t query, size_t from);

/* Returns the sum of a row and sets it to 0, while it is in the cache. */
static inline double accumulator_take(struct accumulator *a, size_t row)
{
    const double sum = a->sums[row];
    a->sums[row] = 0.0;
    return sum;
}

/* Empties the list of touched rows. Call it after all sums have been taken. */
void accumulator_forget(struct accumulator *a);

/* Sets all sums of a block to 0. */
void accumulator_reset(struct accumulator *a, const struct postings_block *block);
