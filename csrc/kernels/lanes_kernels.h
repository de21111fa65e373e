#pragma once

#include <stdbool.h>
#include <stddef.h>

/* The types of the kernels of layers whose vectors lie across images. */

/*
 * Layers across images: an array of vectors, each of which holds one pixel of `lanes` images. Steps
 * and offsets count elements; arrays are aligned to a vector where the caller can.
 *
 * lanes_conv_kernel computes, for each filter r < filters and each pixel p < pixels,
 *
 *     output[r * map_step + output_offsets[p] + lane] = sum over i < depth of
 *         weight[r * filter_step + i * depth_step] *
 *         input[pixel_offsets[p] + tap_offsets[i] + lane]
 *
 * The steps are added one by one in chains of `chain` steps, and the chains are added in order.
 * With `add`, the sum is added to the value in output. bias[r] and relu then act as in struct
 * outer. With `pool`, pixels 4 w to 4 w + 3 are a 2 x 2 window, row by row, and only its maximum is
 * stored, at output_offsets[w]; its number in the window, from 0 to 3, goes to choices[r *
 * choice_step + choice_offsets[w] + lane] (choices may be NULL). Among equal pixels the first
 * counts; if a window holds NaN, its last NaN counts.
 */
struct lanes_conv {
    const void *weight;
    size_t filter_step, depth_step;
    const void *input;
    const ptrdiff_t *pixel_offsets, *tap_offsets;
    size_t depth, chain;  /* chain is at least 1 */
    const void *bias;     /* or NULL */
    bool add, relu, pool; /* add and pool are never both set */
    void *output;
    size_t map_step;
    const ptrdiff_t *output_offsets;
    void *choices; /* or NULL; integers as wide as an element */
    size_t choice_step;
    const ptrdiff_t *choice_offsets;
};
typedef void lanes_conv_kernel(const struct lanes_conv *c, size_t filters, size_t pixels);

/* out[i * lanes + image] = in[image * image_step + i] for i < n and image < images. The other lanes
 * get 0. images is at most lanes. */
typedef void lanes_gather_kernel(void *out, const void *in, size_t image_step, size_t images,
                                 size_t n);

/* out[image * image_step + i] = in[i * lanes + image] for i < n and image < images. */
typedef void lanes_scatter_kernel(void *out, size_t image_step, const void *in, size_t images,
                                  size_t n);

/* ReLU of n vectors. */
typedef void lanes_relu_kernel(void *out, const void *in, size_t n);

/* The pixels of a window, without those beyond the image. */
struct lanes_window {
    size_t rows, columns, row_step, column_step;
};

/* Stores the maximum of one window, and its number in the window, counted row by row, as
 * lanes_conv_kernel does. choices may be NULL. An empty window gives -infinity and 0. */
typedef void lanes_max_pool_kernel(void *out, void *choices, const void *in,
                                   const struct lanes_window *window);

/*
 * Gradients of filters. For each filter r < filters and each of its entries e < entries:
 *
 *     sums[(r * entries + e) * lanes + lane] = sum over p < pixels of
 *         gradient[r * map_step + gradient_offsets[p] + lane] *
 *         input[entry_offsets[e] + input_offsets[p] + lane]
 *
 * With `add`, the sum is added to the value in sums.
 */
struct lanes_products {
    const void *gradient;
    size_t map_step;
    const ptrdiff_t *gradient_offsets;
    const void *input;
    const ptrdiff_t *input_offsets, *entry_offsets;
    size_t pixels, filters, entries;
    bool add;
    void *sums;
};
typedef void lanes_products_kernel(const struct lanes_products *p);

/* Copies images: out[image * image_step + i * step + c] = in[c * map_step + i * lanes + image], or
 * 0 from c = channels on, for i < n, c < step and all lanes. step is channels, or that rounded up
 * to whole vectors; image_step is at least n * step + lanes, and elements up to that can be
 * written. Adds 0 times each vector of `in` to the vector `check`. */
typedef void lanes_channels_kernel(void *out, size_t image_step, const void *in, size_t map_step,
                                   size_t channels, size_t step, size_t n, void *check);

/*
 * Gradients of the filters of a convolution before a 2 x 2 pool, from images whose channels are
 * contiguous. Only the chosen pixel of a window has a gradient. For each f < filters, y < rows and
 * x < columns:
 *
 *     sums[((f * rows + y) * columns + x) * lanes + lane] +=
 *         sum over w < windows, i = f * filter_step + w, of gradients[i] *
 *         input[window_offsets[w] + choice_offsets[choices[i]] + y * row_step + x * lanes + lane]
 *
 * Windows whose gradient is 0 are left out unless `zeros` is set. windows is at most
 * LANES_PATCH_WINDOWS. Reads rows of patches up to a multiple of lanes_patch_width(columns)
 * vectors.
 */
enum { LANES_PATCH_WINDOWS = 256 };
struct lanes_patches {
    const void *input, *gradients, *choices;
    const ptrdiff_t *window_offsets;
    ptrdiff_t choice_offsets[4];
    bool zeros;
    size_t filters, filter_step, windows, rows, columns, row_step;
    void *sums;
};
typedef void lanes_patches_kernel(const struct lanes_patches *p);

/* Returns the number of columns of a patch that the kernel sums at a time: 1 or 2, else 5 or 7,
 * whichever has the smaller multiple that covers all columns. */
static inline size_t lanes_patch_width(size_t columns)
{
    if (columns <= 2) {
        return columns;
    }
    return (columns + 4) / 5 * 5 <= (columns + 6) / 7 * 7 ? 5 : 7;
}

/* Adds the sum of n vectors to *sum. Four chains sum the vectors. */
typedef void lanes_add_sum_kernel(void *sum, const void *x, size_t n);

/* out[i] = the sum of the first `images` lanes of vector i, for each i < n. The order of summation
 * does not depend on n. */
typedef void lanes_reduce_kernel(void *out, const void *x, size_t images, size_t n);

/* The gradient of ReLU for n vectors: out = gradient, or 0 where y, the result of ReLU, is 0 or
 * less. */
typedef void lanes_relu_gradient_kernel(void *out, const void *y, const void *gradient, size_t n);

/* The gradient of 2 x 2 pooling of one output row of n windows. Writes two rows of the input,
 * row_step elements apart: the chosen pixel of a window gets its gradient, the others 0. */
typedef void lanes_unpool_kernel(void *out, size_t row_step, const void *choices,
                                 const void *gradient, size_t n);

/* The gradient of lanes_max_pool_kernel for one window: adds the gradient to the chosen pixel. */
typedef void lanes_max_unpool_kernel(void *out, const void *choices, const void *gradient,
                                     const struct lanes_window *window);

/*
 * Winograd convolution for kernels of five rows with stride 1 (lanes_winograd_template.h). A tile
 * is four output rows, which come from eight input rows. The transform of a column of a tile is
 * eight vectors, sum_step elements apart. Steps count elements.
 */
enum {
    LANES_WINOGRAD_SUMS = 8,
    LANES_WINOGRAD_ROWS = 4, /* output rows of a tile */
    LANES_WINOGRAD_WIDTH = 8 /* the largest width of a kernel */
};

/* Filter transform of weight (filters, channels, 5, width), to (8, filters, channels, width). The
 * result has a scale, by which the output transform divides. With `transposed`, for the gradient of
 * the input, it is divided already and goes to (8, channels, width, filters). */
typedef void lanes_winograd_filters_kernel(void *out, const void *weight, size_t filters,
                                           size_t channels, size_t width, bool transposed);

/* Transforms n columns of a tile: of eight rows of the input, or of four rows of the gradient of
 * the output. */
typedef void lanes_winograd_transform_kernel(void *sums, size_t sum_step, const void *in,
                                             size_t row_step, size_t n);

/* Adds the gradient of the input of a tile to rows [first, end) of its eight rows. out points to
 * row `first`. `check` is as in lanes_winograd_output. */
typedef void lanes_winograd_input_gradient_kernel(void *out, size_t row_step, size_t first,
                                                  size_t end, const void *sums, size_t sum_step,
                                                  size_t n, void *check);

/*
 * Output transform of n columns of a tile of one filter, and the layers fused into it. bias (one
 * element, or NULL), relu, pool and choices act as in struct lanes_conv. The first `rows` rows of
 * the tile are results. With pool, n and rows are even.
 *
 * Adds 0 times each result before the bias to the vector `check`. So a lane with a result that is
 * not finite becomes NaN.
 */
struct lanes_winograd_output {
    const void *sums;
    size_t sum_step, n, rows;
    const void *bias;
    bool relu, pool;
    void *output;
    size_t row_step;
    void *choices; /* or NULL */
    size_t choice_row_step;
    void *check;
};
typedef void lanes_winograd_output_kernel(const struct lanes_winograd_output *o);

/* Layers across images, for one compute type. */
struct lanes_kernels {
    size_t lanes; /* images of a vector */
    size_t rows;  /* filters that `conv` multiplies with a pixel at a time */
    lanes_conv_kernel *conv;
    lanes_gather_kernel *gather;
    lanes_scatter_kernel *scatter;
    lanes_relu_kernel *relu;
    lanes_max_pool_kernel *max_pool;
    lanes_products_kernel *products;
    lanes_channels_kernel *channels;
    lanes_patches_kernel *patches;
    lanes_add_sum_kernel *add_sum;
    lanes_reduce_kernel *reduce;
    lanes_relu_gradient_kernel *relu_gradient;
    lanes_unpool_kernel *unpool;
    lanes_max_unpool_kernel *max_unpool;
    lanes_winograd_filters_kernel *winograd_filters;
    lanes_winograd_transform_kernel *winograd_input;
    lanes_winograd_output_kernel *winograd_output;
    lanes_winograd_transform_kernel *winograd_output_gradient;
    lanes_winograd_input_gradient_kernel *winograd_input_gradient;
};
