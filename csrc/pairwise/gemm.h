#ifndef COSSIM_PAIRWISE_GEMM_H
#define COSSIM_PAIRWISE_GEMM_H

#include <stdbool.h>
#include <stddef.h>

#include "base/cancel.h"
#include "vectors/compute_type.h"

/*
 * Elements k .. k+n-1 of the rows first .. first+count-1 of a side, as contiguous `work` elements:
 * rows[r] is to point into the caller's data where they lie that way, else to buffers + r * stride
 * (room for n elements), filled.
 */
struct gemm_rows {
    size_t batch, first, count, k, n;
    size_t worker; /* who asks: two calls at once come from different ones */
    char *buffers;
    size_t stride;
    const void **rows;
};

/* Left rows row .. row+rows-1 with right rows column .. column+columns-1: the sum of (r, c) is
 * sums[r * step + c]. */
struct gemm_block {
    size_t batch, row, rows, column, columns;
    size_t worker;
    const double *sums;
    size_t step;
};

/*
 * The tiles driver: sums[i][j] = sum over k of left[i][k] * right[j][k], for every pair of a left
 * and a right row, in blocks that fit the cache. Where the rows come from and what becomes of the
 * sums is the caller's: all pairs of vectors, linear and convolution are this one product.
 *
 * The order of summation over k depends on depth, work and the instruction set alone (see
 * kernels/tiles_body.h), so one sum has the same bits whatever the rest of the call looks like, and
 * swapping the sides changes nothing.
 */
struct gemm {
    enum compute_type compute;
    size_t batches; /* independent products of the same shape */
    size_t left;    /* rows of the left side */
    size_t right;   /* rows of the right side */
    size_t depth;   /* length of every row */
    bool symmetric; /* both sides are the same rows: only sums with j >= i are wanted (others in a
                       tile on the diagonal come too) */

    /* Find rows. Called from several threads. */
    void (*left_rows)(const void *context, const struct gemm_rows *wanted);
    void (*right_rows)(const void *context, const struct gemm_rows *wanted);

    /* Takes a block of sums. Called from several threads, once per sum. */
    void (*finish)(const void *context, const struct gemm_block *block);

    /* Or NULL. Told that finish is soon going to have these sums: time to ask for the cache lines
     * of the result. */
    void (*prefetch)(const void *context, const struct gemm_block *block);
    const void *context;
    int workers;                /* at most so many; 0: as many as there are threads */
    struct cancel_token *token; /* or NULL; counts sums done */
};

/* The most columns and rows that finish gets at a time; and the most left rows that are asked for
 * before the last of them are finished. */
enum { GEMM_MAX_COLUMNS = 32, GEMM_MAX_ROWS = 64, GEMM_CHUNK = 240 };

/* 0, or -1 when there is no memory for the panels. */
int gemm_run(const struct gemm *tiles);

#endif
