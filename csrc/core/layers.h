#ifndef COSSIM_CORE_LAYERS_H
#define COSSIM_CORE_LAYERS_H

#include <stddef.h>
#include <stdint.h>

#include "core/work.h"

/*
 * The layers of a small convolutional network, forward. All arrays are contiguous, of `work` elements; the caller has
 * checked that the sizes fit together. Functions that need memory return 0, or -1 when there is none.
 */

/* Height and width. */
struct extent2 {
    size_t h, w;
};

struct conv2d {
    enum work work;
    size_t images, groups;
    size_t in_channels, out_channels; /* of all groups together; groups divides both */
    struct extent2 in, out, kernel, stride, dilation;
    struct extent2 padding;  /* zeros before the first row and column; out says how far the other side goes */
    const void *input;       /* [images][in_channels][in.h][in.w] */
    const void *weight;      /* [out_channels][in_channels / groups][kernel.h][kernel.w] */
    const void *bias;        /* [out_channels] or NULL */
    void *output;            /* [images][out_channels][out.h][out.w] */
};

int conv2d(const struct conv2d *conv);

struct linear {
    enum work work;
    size_t rows, in_features, out_features;
    const void *input;  /* [rows][in_features] */
    const void *weight; /* [out_features][in_features] */
    const void *bias;   /* [out_features] or NULL */
    void *output;       /* [rows][out_features] */
};

int linear(const struct linear *layer);

struct max_pool2d {
    enum work work;
    size_t planes; /* images times channels */
    struct extent2 in, out, kernel, stride, dilation, padding;
    const void *input; /* [planes][in.h][in.w] */
    void *output;      /* [planes][out.h][out.w] */
    int64_t *indices;  /* the same, or NULL: where in its plane each maximum was, as row * in.w + column */
};

void max_pool2d(const struct max_pool2d *pool);

/* output[i] = max(input[i], 0); NaN stays. */
void relu(enum work work, size_t n, const void *input, void *output);

#endif
