#pragma once

#include "base/scratch.h"
#include "network/lanes_plan.h"

/*
 * Winograd's algorithm for the stages with winograd.tiles above 0 (the gradients are in
 * network/lanes_winograd_grad.h). Infinity and NaN spread to all results of a tile, so the caller
 * calculates results that are not finite again, by the definition. `check` is a vector. Each
 * function that takes it adds 0 times its results, so a lane with a result that is not finite
 * becomes NaN.
 */
enum { LANES_VECTOR_BYTES = 64 }; /* the largest vector */

/* The step from one sum of a transform to the next, in vectors. It is odd, because the sums of a
 * column are stored one after another, and with steps of a power of two they would evict each other
 * from L1. */
static inline size_t lanes_winograd_step(size_t maps, size_t columns)
{
    return size_product_or_max(maps, columns) | 1;
}

/* Bytes of a transform. */
static inline size_t lanes_winograd_bytes(const struct lanes_plan *p, size_t maps, size_t columns)
{
    return scratch_round(size_product_or_max(LANES_WINOGRAD_SUMS * p->lanes * p->size,
                                             lanes_winograd_step(maps, columns)));
}

/* Filters, or channels, that are multiplied at a time: at most 6 of n, in whole tiles of the
 * kernel. The last tile can be smaller. */
static inline size_t lanes_winograd_part(const struct lanes_plan *p, size_t n)
{
    const size_t tile = size_parts(n, size_parts(n, p->kernels->rows));
    return smaller(n, larger(6 / tile, 1) * tile);
}

/* The number of terms of a chain, about 256 at most. A sum runs over `depth` maps and the `width`
 * columns of a kernel. */
static inline size_t lanes_winograd_chain(size_t depth, size_t width)
{
    const size_t chains = size_parts(depth, larger(256 / width, 1));
    return size_parts(depth, chains) * width;
}

/* The convolution of a vector of images with the layers fused into it, except for the border of the
 * output. scratch has lanes_winograd_conv2d_scratch bytes. */
void lanes_winograd_conv2d(const struct lanes_plan *plan, const struct lanes_stage *stage,
                           const char *input, char *output, char *choices, char *scratch,
                           void *check);
size_t lanes_winograd_conv2d_scratch(const struct lanes_plan *plan,
                                     const struct lanes_stage *stage);

/* True if no lane of `check` is NaN. */
bool lanes_all_finite(const struct lanes_plan *plan, const void *check);

/* Copies n vectors, but only the lanes that are NaN in `check`. */
void lanes_replace(const struct lanes_plan *plan, const void *check, void *to, const void *from,
                   size_t n);
