#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/cancel.h"
#include "vectors/compute_type.h"

/*
 * A request for elements [k, k + n) of rows [first, first + count) of one side, as contiguous
 * elements of the compute type. The provider sets pointers[r] to the elements of row first + r. It
 * may point into its own data. If the elements do not lie there contiguously in that type, it
 * writes them to buffers + r * stride, which has room for n elements.
 */
struct gemm_rows {
    size_t batch, first, count, k, n;
    size_t worker; /* concurrent requests come from different workers */
    char *buffers;
    size_t stride; /* bytes */
    const void **pointers;
};

/*
 * The sums of left rows [row, row + rows) with right rows [column, column + columns). The sum of
 * left row `row + r` and right row `column + c` is sums[r * step + c].
 */
struct gemm_block {
    size_t batch, row, rows, column, columns;
    size_t worker;
    const double *sums;
    size_t step;
};

/*
 * Blocked matrix multiplication: sums[i][j] = sum over k of left[i][k] * right[j][k] for every left
 * row i and right row j, (left, depth) x (right, depth) -> (left, right). Blocks fit the cache.
 * Callbacks provide the rows and take the sums.
 *
 * The order of summation over k depends only on the depth, the compute type and the instruction set
 * (see kernels/gemm_template.h). A sum therefore has the same bits in every call that contains it,
 * even in one with swapped sides.
 */
struct gemm {
    enum compute_type compute;
    size_t batches; /* independent products of the same shape */
    size_t left;    /* rows of the left side */
    size_t right;   /* rows of the right side */
    size_t depth;   /* elements of every row */
    /*
     * Both sides are the same rows, so only sums with j >= i are needed. Tiles on the diagonal also
     * compute sums with j < i.
     */
    bool symmetric;
    /* The left rows lie one after another in memory, and no caller has just read them: while a
     * chunk of them is multiplied, the next one is prefetched. */
    bool prefetch_left;

    /* Provide rows. Several threads call them. */
    void (*left_rows)(const void *context, const struct gemm_rows *request);
    void (*right_rows)(const void *context, const struct gemm_rows *request);

    /* Takes a block of sums. Several threads call it. Each sum is in exactly one block. */
    void (*epilogue)(const void *context, const struct gemm_block *block);

    /*
     * May be NULL. Announces a block that the epilogue takes soon, so that the callback can
     * prefetch the cache lines of the result.
     */
    void (*prefetch)(const void *context, const struct gemm_block *block);
    const void *context;
    int workers;                /* at most this many threads; 0: the pool's number */
    struct cancel_token *token; /* may be NULL; its progress counts sums */
};

/* Upper limits. */
enum {
    GEMM_MAX_COLUMNS = 32, /* columns of an epilogue block */
    GEMM_MAX_ROWS = 64,    /* rows of an epilogue block */
    /*
     * Left rows of a request. If a request reaches the end of the depth, the epilogue takes the
     * sums of these rows before the worker requests others.
     */
    GEMM_CHUNK = 240
};

/* Runs the product. Returns 0, or -1 when memory for the panels runs out. */
int gemm_run(const struct gemm *gemm);

/*
 * Returns the number of pairs of rows [row, row + rows) of one side and [column, column + columns)
 * of the other. In a triangle, pairs whose first row comes after their second one do not count.
 */
size_t gemm_pairs(bool triangle, size_t row, size_t rows, size_t column, size_t columns);
