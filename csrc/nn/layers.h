#ifndef COSSIM_NN_LAYERS_H
#define COSSIM_NN_LAYERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/cancel.h"
#include "vectors/compute_type.h"
#include "kernels/kernels.h"

/*
 * The layers of a small convolutional network. All arrays are contiguous, of `work` elements; the
 * caller has checked that the sizes fit together. Functions that need memory return 0, or -1 when
 * there is none. Results do not depend on threads, nor an image's on the other images.
 *
 * Products of the sizes of one array fit, for NumPy allows no others, of an array without elements,
 * too: there the sizes that are not 0 count. So such an array can have any sizes besides, and calls
 * without results return at once.
 */

/* Height and width. */
struct extent2 {
    size_t h, w;
};

struct conv2d {
    enum compute_type compute;
    size_t images, groups;
    size_t in_channels, out_channels; /* of all groups together; groups divides both */
    struct extent2 in, out, kernel, stride, dilation;
    struct extent2
        padding; /* zeros before the first row and column; out says how far the other side goes */
    bool relu;   /* what is below 0 becomes 0 */
    bool pool;   /* of each square of 2 x 2 pixels the largest is kept; a last odd row or column is
                    left out */
    const void *input;          /* [images][in_channels][in.h][in.w] */
    const void *weight;         /* [out_channels][in_channels / groups][kernel.h][kernel.w] */
    const void *bias;           /* [out_channels] or NULL */
    void *output;               /* [images][out_channels][out.h][out.w], or half of both */
    struct cancel_token *token; /* or NULL: a call that is stopped leaves its results incomplete */
};

/*
 * Can there be memory for a padded copy of an image, with a vector's room behind its rows? Paddings
 * and dilations are numbers that somebody writes down: their products leave the range of any type,
 * so these are doubles, which only get a little inexact. Where it is true, no product of an image's
 * sizes leaves the range of size_t; nor do those of arrays that are there, filters and maps.
 */
static inline bool conv2d_may_fit(const struct conv2d *c)
{
    const double room = 64.0, largest = 0x1p52;
    const double h = (double)c->out.h * (double)c->stride.h +
                     (double)c->kernel.h * (double)c->dilation.h + (double)c->padding.h +
                     (double)c->stride.h;
    const double w = ((double)c->out.w + room) * (double)c->stride.w +
                     (double)c->kernel.w * (double)c->dilation.w + (double)c->padding.w;
    return h * w * ((double)c->in_channels + 1.0) * (double)compute_size(c->compute) < largest;
}

/* Can conv2d do that pooling by itself? */
bool conv2d_pools(const struct conv2d *conv);

int conv2d(const struct conv2d *conv);

/* How many elements the maps have before pooling, or SIZE_MAX. */
size_t conv2d_outputs(const struct conv2d *conv);

/* The same in steps, for a network: what is the same for all images, and one image at a time with
 * memory for one worker. */
struct conv2d_plan {
    struct conv2d conv;
    outer_kernel *outer;
    size_t size, lanes, most_rows; /* bytes of an element, elements of a vector, rows of a tile */
    size_t channels, filters;      /* of a group */
    size_t segment, segments;      /* channels that are summed at a time */
    bool copied, narrow; /* is the input copied; are rows of the output shorter than a vector */
    size_t phase, pitch, plane; /* elements from one column phase, row and channel to the next */
    size_t band, bands,
        row_vectors; /* rows of the output that are done at a time; vectors of a row */
    ptrdiff_t *offsets, *right_at, *out_at, *dense_at;
    size_t copy_bytes, sums_bytes; /* of a worker's memory */
    bool winograd;                 /* is it done by five.c, and what that keeps */
    ptrdiff_t *winograd_offsets, *winograd_right_at, *winograd_out_at, *winograd_last_at;
    float *winograd_weights;
};
int conv2d_plan(struct conv2d_plan *plan, const struct conv2d *conv);
size_t conv2d_column(const struct conv2d_plan *plan,
                     size_t vector); /* where a vector of a row of the output begins */
void conv2d_plan_free(struct conv2d_plan *plan);
size_t conv2d_scratch(const struct conv2d_plan *plan);
void conv2d_image(const struct conv2d_plan *plan, const void *input, void *output, void *scratch);

struct max_pool2d {
    enum compute_type compute;
    size_t planes; /* images times channels */
    struct extent2 in, out, kernel, stride, dilation, padding;
    const void *input; /* [planes][in.h][in.w] */
    void *output;      /* [planes][out.h][out.w] */
    int64_t *indices;  /* the same, or NULL: where in its plane each maximum was, as row * in.w +
                          column; that of a window without pixels may be outside */
    struct cancel_token *token; /* or NULL */
};

void max_pool2d(const struct max_pool2d *pool);

/* Some planes, whatever `planes` says. */
void max_pool2d_planes(const struct max_pool2d *pool, size_t first, size_t count);

/* input[planes][in]: zeros, and at each index the sum of the gradients that belong there. */
void max_pool2d_scatter(enum compute_type compute, size_t planes, size_t in, size_t out,
                        const int64_t *indices, const void *gradient, void *input);

/* Convolution and then pooling, image by image, so that the maps between stay in the cache;
 * pool.planes is out_channels, pool.in conv.out. */
int conv2d_max_pool2d(const struct conv2d *conv, const struct max_pool2d *pool);

/* The gradients of the filters and, unless it is NULL, of the bias, which are written. */
struct conv2d_grad_weight {
    struct conv2d conv; /* of the forward pass; its output holds the gradient
                           [images][out_channels][out.h][out.w] and is only read */
    void *weight, *bias;
};
int conv2d_grad_weight(const struct conv2d_grad_weight *gradient);

/*
 * The same where only some pixels of the maps have a gradient, as behind a pool: output is
 * [images][out_channels][kept], and each element belongs to the pixel at its index. Columns of the
 * kernel lie side by side (dilation.w is 1), and all pixels of the input are finite: what is zero
 * is left out.
 */
struct conv2d_grad_weight_sparse {
    struct conv2d conv;
    const int64_t *indices;
    size_t kept;
    void *weight, *bias;
};
int conv2d_grad_weight_sparse(const struct conv2d_grad_weight_sparse *gradient);

/*
 * Of `blocks` blocks of sums, each `entries` numbers a filter (its weights, then its bias): adds
 * the blocks to the first, in order, and writes weight and, unless it is NULL, bias.
 */
void add_filter_blocks(void *weight, void *bias, enum compute_type compute, void *sums,
                       size_t blocks, size_t filters, size_t entries);

/* Writes zeros: the gradients of no images. */
void clear_filters(void *weight, void *bias, const struct conv2d *conv);

/* Is every element finite? */
bool all_finite(enum compute_type compute, size_t n, const void *elements);

/* The gradient of the input, which is written. */
struct conv2d_grad_input {
    struct conv2d conv; /* of the forward pass; its output holds the gradient
                           [images][out_channels][out.h][out.w] and is only read */
    void *input;
};
int conv2d_grad_input(const struct conv2d_grad_input *gradient);

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

/* The rows first .. first+count-1 alone; `at` holds a multiple of the lanes for each vector of a
 * row. */
void linear_rows(const struct linear *layer, const ptrdiff_t *at, size_t first, size_t count);
size_t linear_vectors(const struct linear *layer);

/* output[i][j] = sum over k of left[i * left_step + k * left_next] * right[k][j]. */
struct matmul {
    enum compute_type compute;
    size_t rows, columns, depth;
    const void *left;
    size_t left_step, left_next;
    const void *right;
    size_t right_step; /* from row to row, as output_step */
    void *output;
    size_t output_step;
    struct cancel_token *token; /* or NULL */
};
int matmul(const struct matmul *product);

/* The same on the calling thread alone, with memory for matmul_scratch bytes. */
void matmul_block(const struct matmul *product, void *scratch);
size_t matmul_scratch(enum compute_type compute);

/* output[i] = max(input[i], 0); NaN stays. */
void relu(enum compute_type compute, size_t n, const void *input, void *output);

/* output[i] = gradient[i], or 0 where input[i] <= 0. */
void relu_gradient(enum compute_type compute, size_t n, const void *input, const void *gradient,
                   void *output);

#endif
