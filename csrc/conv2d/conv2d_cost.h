#pragma once

#include "conv2d/convolutions.h"

/*
 * Estimates that the costs of algorithms share (conv2d_algorithm.h has the unit). Their constants
 * were fitted to times on one core of Ice Lake with 512-bit vectors.
 */

/* Returns the number of terms of a sum. */
static inline double conv2d_cost_terms(const struct conv2d_plan *p)
{
    return (double)p->channels * (double)p->conv.kernel.h * (double)p->conv.kernel.w;
}

/* Returns the cost of pixels_kernel for one term: `pixels` pixels times `vectors` vectors. Fewer
 * vectors mean more loads. */
static inline double conv2d_cost_pixels(const struct conv2d_plan *p, size_t pixels, size_t vectors)
{
    static const double by_vectors[] = {2.3, 1.5, 1.22, 1.15};
    const size_t blocks = size_parts(vectors, p->kernels->vectors),
                 of_block = smaller(larger(vectors / larger(blocks, 1), 1), 4);
    return (double)pixels * (double)vectors * by_vectors[of_block - 1];
}

/* Returns the cost of outer_kernel for one term: `vectors` vectors of pixels times all filters of a
 * group. Vectors of the image are not aligned, and are loaded for each tile of filters. A tile of
 * more than eight filters saves little more. */
static inline double conv2d_cost_outer(const struct conv2d_plan *p, double vectors)
{
    const size_t tiles = size_parts(p->filters, smaller(p->tile_rows, 8));
    return vectors * (1.45 * (double)p->filters + 2.0 * (double)tiles);
}

/* Returns the cost of copying elements with a border, row by row. */
static inline double conv2d_cost_copy(double rows, double columns)
{
    return rows * (0.15 * columns + 10.0);
}
