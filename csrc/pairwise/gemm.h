#ifndef COSSIM_PAIRWISE_GEMM_H
#define COSSIM_PAIRWISE_GEMM_H

#include <stdbool.h>
#include <stddef.h>

#include "base/cancel.h"
#include "vectors/compute_type.h"

/*
 * A request for elements [k, k + n) of rows [first, first + count) of one side, as contiguous
 * elements of the compute type. The provider sets rows[r] to point into its own data if they lie
 * there that way. Otherwise it fills buffers + r * stride, which has room for n elements, and
 * points there.
 */
struct gemm_rows {
    size_t batch, first, count, k, n;
    size_t worker; /* concurrent requests come from different workers */
    char *buffers;
    size_t stride;
    const void **rows;
};

/*
 * Left rows [row, row + rows) against right rows [column, column + columns): the sum of (r, c) is
 * sums[r * step + c].
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
 * (see kernels/tiles_template.h). A sum therefore has the same bits in every call that
 * contains it, and swapping the sides changes nothing.
 */
struct gemm {
    enum compute_type compute;
    size_t batches; /* independent products of the same shape */
    size_t left;    /* rows of the left side */
    size_t right;   /* rows of the right side */
    size_t depth;   /* elements of every row */
    /*
     * Both sides are the same rows: only sums with j >= i are needed. Tiles on the diagonal also
     * produce others.
     */
    bool symmetric;

    /* Provide rows. Several threads call them. */
    void (*left_rows)(const void *context, const struct gemm_rows *request);
    void (*right_rows)(const void *context, const struct gemm_rows *request);

    /* Takes a block of sums. Several threads call it, once for each sum. */
    void (*epilogue)(const void *context, const struct gemm_block *block);

    /*
     * May be NULL. Announces a block that the epilogue takes soon, so that the caller can prefetch
     * the cache lines of the result.
     */
    void (*prefetch)(const void *context, const struct gemm_block *block);
    const void *context;
    int workers;                /* at most this many threads; 0: the pool's number */
    struct cancel_token *token; /* may be NULL; its progress counts sums */
};

/*
 * Upper limits: the columns and rows of an epilogue block, and the left rows that are requested
 * before the epilogue has taken the last of them.
 */
enum { GEMM_MAX_COLUMNS = 32, GEMM_MAX_ROWS = 64, GEMM_CHUNK = 240 };

/* Runs the product. Returns 0, or -1 when memory for the panels runs out. */
int gemm_run(const struct gemm *gemm);

#endif
