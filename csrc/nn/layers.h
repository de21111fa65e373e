#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/cancel.h"
#include "base/pool.h"
#include "base/scratch.h"
#include "kernels/kernels.h"
#include "nn/geometry.h"
#include "vectors/compute_type.h"

/*
 * The layers of a small convolutional network. All arrays are contiguous and hold elements of the
 * compute type; the caller has checked that the sizes fit together. Functions that allocate return
 * 0, or -1 when there is no memory. Results do not depend on the number of threads, and the results
 * of one image do not depend on the other images.
 *
 * The product of the sizes of one array fits size_t, because NumPy allows no other arrays. For an
 * array without elements, NumPy checks the product of the sizes that are not 0. These sizes can be
 * huge, and their products with the sizes of other arrays can overflow. So a call without results
 * returns immediately.
 */

/* Returns the number of elements in a vector register. */
static inline size_t layer_lanes(enum compute_type compute)
{
    return kernels_current()->layers[compute].lanes;
}

/* Returns the number of threads for outputs * terms multiplications, at most one for each task. */
static inline int layer_threads(size_t outputs, size_t terms, size_t tasks)
{
    const int threads = thread_count_for(outputs, terms, GRAIN_GEMM);
    return (size_t)threads <= tasks ? threads : (int)larger(tasks, 1);
}

struct max_pool2d {
    enum compute_type compute;
    size_t planes; /* images times channels */
    struct extent2 in, out, kernel, stride, dilation, padding;
    const void *input; /* [planes][in.h][in.w] */
    void *output;      /* [planes][out.h][out.w] */
    /* [planes][out.h][out.w] or NULL: the position of each maximum in its plane, row * in.w +
     * column. The position for a window without pixels may lie outside the plane. */
    int64_t *indices;
    struct cancel_token *token; /* or NULL */
};

void max_pool2d(const struct max_pool2d *pool);

/* Pools planes [first, first + count) on the calling thread; ignores pool->planes. */
void max_pool2d_planes(const struct max_pool2d *pool, size_t first, size_t count);

/* The gradient of a pool. indices and gradient are (planes, out). Writes input (planes, in): each
 * element is the sum of the gradients whose index names it. */
void max_pool2d_scatter(enum compute_type compute, size_t planes, size_t in, size_t out,
                        const int64_t *indices, const void *gradient, void *input);

struct linear {
    enum compute_type compute;
    size_t rows, in_features, out_features;
    bool relu;
    const void *input;          /* [rows][in_features] */
    const void *weight;         /* [out_features][in_features] */
    const void *bias;           /* [out_features] or NULL */
    void *output;               /* [rows][out_features] */
    struct cancel_token *token; /* or NULL */
};

int linear(const struct linear *layer);

/* Computes output rows [first, first + count) on the calling thread. at[v] = v * layer_lanes() for
 * v < linear_vectors(). */
void linear_rows(const struct linear *layer, const ptrdiff_t *at, size_t first, size_t count);

/* Returns the number of whole vectors in an input row. */
size_t linear_vectors(const struct linear *layer);

/* output[i][j] = sum over k of left[i * left_step + k * left_next] * right[k][j]. */
struct matmul {
    enum compute_type compute;
    size_t rows, columns, depth;
    const void *left;
    size_t left_step, left_next;
    const void *right;
    size_t right_step; /* elements from one row to the next */
    void *output;
    size_t output_step;         /* elements from one row to the next */
    struct cancel_token *token; /* or NULL */
};
int matmul(const struct matmul *product);

/* Runs matmul on the calling thread, with matmul_scratch bytes of scratch memory. */
void matmul_block(const struct matmul *product, void *scratch);
size_t matmul_scratch(enum compute_type compute);
