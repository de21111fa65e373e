#pragma once

#include "nn/layers.h"

/*
 * Convolutions and their gradients. As for all layers, arrays are contiguous and hold elements of
 * the compute type, and the caller has checked that the sizes fit together (nn/layers.h).
 */

struct conv2d {
    enum compute_type compute;
    size_t images, groups;
    size_t in_channels, out_channels; /* of all groups together; groups divides both */
    struct extent2 in, out, kernel, stride, dilation;
    /* Rows and columns of zeros before the image. `out` decides how many follow it. */
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

/* If there is only one row of outputs, the vertical stride has no effect; the same holds for one
 * column. Shortens such strides to the image, because copies of images grow with the stride. */
static inline void conv2d_shorten_strides(struct conv2d *c)
{
    if (c->out.h == 1) {
        c->stride.h = smaller(c->stride.h, larger(c->in.h + c->padding.h, 1));
    }
    if (c->out.w == 1) {
        c->stride.w = smaller(c->stride.w, larger(c->in.w + c->padding.w, 1));
    }
}

/* Returns the number of output pixels along one side of a fused pooling window: 2, or 1 without
 * pooling. */
static inline size_t conv2d_pool_size(const struct conv2d *conv)
{
    return conv->pool ? 2 : 1;
}

/* Returns the number of elements that one filter writes for one image, after pooling. */
static inline size_t conv2d_map_size(const struct conv2d *conv)
{
    const size_t by = conv2d_pool_size(conv);
    return (conv->out.h / by) * (conv->out.w / by);
}

int conv2d(const struct conv2d *conv);

/* Returns the number of elements of the output before pooling, or SIZE_MAX on overflow. */
size_t conv2d_outputs(const struct conv2d *conv);

/*
 * A convolution in two steps. conv2d_plan prepares the data that all images share. conv2d_image
 * then computes one image on the calling thread, with plan.scratch bytes of memory. It computes the
 * output in blocks of rows, and each sum in blocks of channels. If conv->pool is set,
 * plan.conv.pool says whether the algorithm can fuse the pooling; if not, the output is that
 * without pooling.
 */
struct conv2d_plan {
    struct conv2d conv;
    const struct conv2d_algorithm *algorithm; /* NULL if there is nothing to compute */
    void *state;                              /* of the algorithm */
    char *trimmed;                            /* weights without some taps, or NULL */
    const struct layer_kernels *kernels;
    const struct winograd_kernels *winograd;
    size_t size;                          /* bytes of an element */
    size_t lanes;                         /* elements of a vector */
    size_t row_lanes;                     /* elements of a vector of conv2d_row_kernels */
    size_t tile_rows;                     /* largest number of filters in a call of `outer` */
    size_t channels, filters;             /* of one group */
    size_t channel_block, channel_blocks; /* channels of a block; number of blocks */
    size_t row_block, row_blocks;         /* output rows of a block; blocks of an image */
    size_t image_block;                   /* images that are computed together */
    size_t row_vectors;                   /* vectors of an output row */
    bool copied;                          /* the input is copied: see conv2d_input.h */
    bool narrow;                          /* output rows are shorter than a vector */
    /* Elements of the input, or of its copy, from one column group, row and channel to the next. */
    size_t phase, pitch, plane;
    size_t copy_bytes, scratch; /* bytes of a worker's input copy, and of all its memory */
};

/* Returns 0, or -1 when there is no memory. Free the plan in both cases. */
int conv2d_plan(struct conv2d_plan *plan, const struct conv2d *conv);
void conv2d_plan_free(struct conv2d_plan *plan);
void conv2d_image(const struct conv2d_plan *plan, const void *input, void *output, void *scratch);

/* Writes the gradients of the filters and, unless bias is NULL, of the bias. */
struct conv2d_grad_weight {
    /* The forward pass. conv.output is read: it holds the gradient of the output, (images,
     * out_channels, out.h, out.w). */
    struct conv2d conv;
    void *weight, *bias;
};
int conv2d_grad_weight(const struct conv2d_grad_weight *gradient);

/*
 * Writes the same gradients if only some pixels of the output have one, for example before a max
 * pool. Each element of conv.output is the gradient of the output pixel at its index. Gradients
 * that are 0 are skipped. So all pixels of the input must be finite: 0 times a pixel that is not
 * finite would be NaN. dilation.w must be 1.
 */
struct conv2d_grad_weight_sparse {
    struct conv2d conv;     /* conv.output is (images, out_channels, gradients_per_map) */
    const int64_t *indices; /* has the shape of conv.output; each index is below out.h * out.w */
    size_t gradients_per_map;
    void *weight, *bias;
};
int conv2d_grad_weight_sparse(const struct conv2d_grad_weight_sparse *gradient);

/* Writes the gradient of the input. */
struct conv2d_grad_input {
    /* The forward pass. conv.output is read: it holds the gradient of the output, (images,
     * out_channels, out.h, out.w). */
    struct conv2d conv;
    void *input; /* [images][in_channels][in.h][in.w] */
};
int conv2d_grad_input(const struct conv2d_grad_input *gradient);
