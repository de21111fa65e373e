#ifndef COSSIM_NN_LAYERS_H
#define COSSIM_NN_LAYERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/cancel.h"
#include "vectors/compute_type.h"
#include "kernels/kernels.h"

/*
 * The layers of a small convolutional network. All arrays are contiguous and hold elements of the
 * compute type; the caller has checked that the sizes fit together. Functions that allocate return
 * 0, or -1 when there is no memory. Results do not depend on the number of threads, and the results
 * of one image do not depend on the other images.
 *
 * The product of the sizes of one array fits size_t, because NumPy allows no other arrays. For an
 * array without elements, NumPy checks the product of the sizes that are not 0. The other sizes in
 * such a call can then be arbitrary, so calls without results return at once.
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
    /* Zeros before the first row and column. The zeros after the last ones follow from `out`. */
    struct extent2 padding;
    bool relu; /* fuses ReLU: negative results become 0 */
    /* Fuses 2 x 2 max pooling with stride 2, which drops an odd last row or column. */
    bool pool;
    const void *input;  /* [images][in_channels][in.h][in.w] */
    const void *weight; /* [out_channels][in_channels / groups][kernel.h][kernel.w] */
    const void *bias;   /* [out_channels] or NULL */
    /* [images][out_channels][out.h][out.w]; with pool [images][out_channels][out.h / 2][out.w / 2]
     */
    void *output;
    struct cancel_token *token; /* or NULL; a cancelled call leaves its results incomplete */
};

/*
 * Can memory hold a padded copy of an image whose rows have room for one more vector? Users choose
 * padding and dilation freely, so products with them can overflow any integer type. These products
 * are doubles, which only lose a little precision. If the result is true, no product of an image's
 * sizes overflows size_t. Products of the sizes of filters and feature maps never do, because those
 * arrays exist.
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

/* Can conv2d fuse 2 x 2 pooling for this shape? */
bool conv2d_pools(const struct conv2d *conv);

int conv2d(const struct conv2d *conv);

/* The number of elements of the feature maps before pooling, or SIZE_MAX on overflow. */
size_t conv2d_outputs(const struct conv2d *conv);

/*
 * A convolution in steps, for a network: conv2d_plan prepares what all images share, then
 * conv2d_image processes one image on the calling thread with conv2d_scratch bytes of memory.
 */
struct conv2d_plan {
    struct conv2d conv;
    outer_kernel *outer;
    size_t size, lanes, tile_rows; /* bytes of an element; elements of a vector; rows of a tile */
    size_t channels, filters;      /* of one group */
    /* A segment is a block of channels that one chain sums. segment: channels of one, segments:
     * their number. */
    size_t segment, segments;
    bool copied;                /* the input is copied */
    bool narrow;                /* output rows are shorter than a vector */
    size_t phase, pitch, plane; /* elements from one column phase, row and channel to the next */
    /* A band is a block of output rows that one task computes. band: rows of one, bands: their
     * number in an image. */
    size_t band, bands;
    size_t row_vectors; /* vectors of an output row */
    /* Tables of offsets in elements. offsets: of each step in the input. right_at, out_at and
     * dense_at: of each output vector in the input, in the output and in a buffer without gaps. */
    ptrdiff_t *offsets, *right_at, *out_at, *dense_at;
    size_t copy_bytes, sums_bytes; /* of one worker's scratch memory */
    /* Does conv2d_winograd.c compute it? Then the tables that it uses. */
    bool winograd;
    ptrdiff_t *winograd_offsets, *winograd_right_at, *winograd_out_at, *winograd_last_at;
    float *winograd_filters;
};

/* 0, or -1 when there is no memory; free the plan in both cases. */
int conv2d_plan(struct conv2d_plan *plan, const struct conv2d *conv);
void conv2d_plan_free(struct conv2d_plan *plan);

/* Bytes of scratch memory that one worker needs. */
size_t conv2d_scratch(const struct conv2d_plan *plan);
void conv2d_image(const struct conv2d_plan *plan, const void *input, void *output, void *scratch);

/* The first column of a vector of an output row. */
size_t conv2d_column(const struct conv2d_plan *plan, size_t vector);

struct max_pool2d {
    enum compute_type compute;
    size_t planes; /* images times channels */
    struct extent2 in, out, kernel, stride, dilation, padding;
    const void *input; /* [planes][in.h][in.w] */
    void *output;      /* [planes][out.h][out.w] */
    /* The shape of output, or NULL: the position of each maximum in its plane, row * in.w + column.
     * The position for a window without pixels may lie outside the plane. */
    int64_t *indices;
    struct cancel_token *token; /* or NULL */
};

void max_pool2d(const struct max_pool2d *pool);

/* Pools planes [first, first + count) on the calling thread; ignores pool->planes. */
void max_pool2d_planes(const struct max_pool2d *pool, size_t first, size_t count);

/* Writes input (planes, in): zeros plus, at each index, the sum of the gradients with that index.
 * indices and gradient are (planes, out). */
void max_pool2d_scatter(enum compute_type compute, size_t planes, size_t in, size_t out,
                        const int64_t *indices, const void *gradient, void *input);

/* Convolves and pools one image at a time, so that the feature maps between the two stay in the
 * cache. pool.planes is out_channels, and pool.in is conv.out. */
int conv2d_max_pool2d(const struct conv2d *conv, const struct max_pool2d *pool);

/* Writes the gradients of the filters and, unless bias is NULL, of the bias. */
struct conv2d_grad_weight {
    /* Describes the forward pass, except that conv.output holds the gradient of the output,
     * (images, out_channels, out.h, out.w). It is only read. */
    struct conv2d conv;
    void *weight, *bias;
};
int conv2d_grad_weight(const struct conv2d_grad_weight *gradient);

/*
 * Writes the same gradients for feature maps of which only some pixels have a gradient, for example
 * before a max pool. conv.output is (images, out_channels, kept); each entry is the gradient of the
 * pixel that `indices` names. Gradients that are 0 are skipped. 0 times a pixel that is not finite
 * would be NaN, so all pixels of the input must be finite. dilation.w must be 1.
 */
struct conv2d_grad_weight_sparse {
    struct conv2d conv;
    const int64_t *indices; /* [images][out_channels][kept], each below out.h * out.w */
    size_t kept;
    void *weight, *bias;
};
int conv2d_grad_weight_sparse(const struct conv2d_grad_weight_sparse *gradient);

/*
 * sums is (blocks, filters, entries); the entries of a filter are its weights, then its bias. Adds
 * the blocks to the first one, in order, and writes weight (filters, entries - 1) and, unless it is
 * NULL, bias (filters).
 */
void add_filter_blocks(void *weight, void *bias, enum compute_type compute, void *sums,
                       size_t blocks, size_t filters, size_t entries);

/* Writes zeros, which are the gradients of a call without images. */
void clear_filters(void *weight, void *bias, const struct conv2d *conv);

/* Is every element finite? */
bool all_finite(enum compute_type compute, size_t n, const void *elements);

/* Writes the gradient of the input. */
struct conv2d_grad_input {
    /* The forward pass. conv.output holds the gradient of the output, (images, out_channels, out.h,
     * out.w), and is only read. */
    struct conv2d conv;
    void *input; /* [images][in_channels][in.h][in.w] */
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

/* Computes output rows [first, first + count) on the calling thread. at[v] is v times the lanes of
 * a vector, for v < linear_vectors(). */
void linear_rows(const struct linear *layer, const ptrdiff_t *at, size_t first, size_t count);

/* Whole vectors of an input row. */
size_t linear_vectors(const struct linear *layer);

/* output[i][j] = sum over k of left[i * left_step + k * left_next] * right[k][j]. */
struct matmul {
    enum compute_type compute;
    size_t rows, columns, depth;
    const void *left;
    size_t left_step, left_next;
    const void *right;
    size_t right_step; /* elements from row to row; output_step counts the same way */
    void *output;
    size_t output_step;
    struct cancel_token *token; /* or NULL */
};
int matmul(const struct matmul *product);

/* The same on the calling thread alone; scratch holds matmul_scratch bytes. */
void matmul_block(const struct matmul *product, void *scratch);
size_t matmul_scratch(enum compute_type compute);

/* output[i] = max(input[i], 0); NaN stays NaN. */
void relu(enum compute_type compute, size_t n, const void *input, void *output);

/* output[i] = gradient[i], or 0 where input[i] <= 0. */
void relu_gradient(enum compute_type compute, size_t n, const void *input, const void *gradient,
                   void *output);

#endif
