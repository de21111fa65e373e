#pragma once

#include "vectors/formula.h"
#include "vectors/reduce.h"

/*
 * Rows of packed bits (operand.packed_bits). A byte holds eight elements: bit 1 is +1 and bit 0 is
 * -1. If two rows of n elements differ in h bits, x.y = n - 2 h, and x.x = y.y = n. So a score
 * depends on h alone, and falls as h grows. h is counted exactly. A score is (n - 2 h) / n
 * correctly rounded, unless eps clamps the norm sqrt(n).
 */

struct bit_formula {
    double elements; /* n */
    double divisor;  /* formula_divisor of two rows */
};

struct bit_formula bit_formula_make(size_t bytes, double eps);

/* Returns the score of two rows that differ in `distance` bits. */
static inline double bit_score(const struct bit_formula *f, int32_t distance)
{
    return formula_clip((f->elements - 2.0 * distance) / f->divisor);
}

/* Returns the largest distance whose score is not below a threshold, or -1 if there is none. The
 * threshold must not be NaN. */
int32_t bit_distance_at_most(const struct bit_formula *f, double threshold);

/* The rows of one side, in an array of any strides. */
struct bit_rows {
    const char *data;
    ptrdiff_t row_step, byte_step;
    size_t rows;
    const size_t *numbers; /* row r is row numbers[r] of the array. NULL: it is row r */
};

/*
 * Distances of every row of x with every row of y, block by block. The rows of x in a block stay in
 * the cache while they are compared with rows of y.
 */
enum { BIT_BLOCK_ROWS = 256, BIT_BLOCK_COLUMNS = 16 };

struct bit_block {
    size_t worker;
    size_t row, rows;       /* of x */
    size_t column, columns; /* of y */
    /* distances[c * BIT_BLOCK_ROWS + r] */
    const int32_t *distances;
};

struct bit_blocks {
    struct bit_rows x, y;
    size_t bytes; /* of a row: 1 to HAMMING_MAX_BYTES */
    /* Both sides are the same rows: leaves out blocks in which every row of x comes after every row
     * of y. The other blocks hold all their pairs. */
    bool triangle;
    /* Receives each block. Several threads call it. A worker passes its blocks of the same rows of
     * x one after another, but other workers may pass some blocks of these rows. */
    void (*take)(void *context, const struct bit_block *block);
    void *context;
    int workers;
    /* May be NULL. Its progress counts pairs; with `triangle`, only pairs whose row of x does not
     * come after their row of y. */
    struct cancel_token *token;
};

/* Returns 0, or -1 when memory runs out. */
int bit_blocks_run(const struct bit_blocks *blocks);

/* All pairs of a call whose operands are packed bits, as a matrix. Returns 0, or -1 when memory
 * runs out. */
int bit_pairs(const struct reduction *call);
