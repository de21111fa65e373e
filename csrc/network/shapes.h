#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "nn/geometry.h"

/* The layers that a network can run. cossim/nn/modules.py lists their classes in this order. */
enum layer_kind {
    LAYER_CONV2D,
    LAYER_LINEAR,
    LAYER_MAX_POOL2D,
    LAYER_RELU,
    LAYER_FLATTEN,
    LAYER_KINDS
};

struct layer {
    enum layer_kind kind;
    const void *weight, *bias; /* of convolutions and linear layers, contiguous; bias may be NULL */
    size_t out, in;            /* the first two dimensions of weight */
    struct extent2 kernel, stride, dilation;
    struct extent2 before, after; /* padding before the image and after it */
    size_t groups;
    bool ceil_mode;
};

/* The shape of one image between two layers: (channels, height, width), or (features) if flat. */
struct shape {
    bool flat;
    size_t channels; /* or features if flat */
    struct extent2 size;
};

/* Returns the number of elements of one image. */
static inline size_t shape_elements(const struct shape *s)
{
    return s->flat ? s->channels : s->channels * s->size.h * s->size.w;
}

/* Replaces *shape by the shape of the layer's output. Returns false if the layer does not fit. */
bool shape_after(const struct layer *layer, struct shape *shape);

/* Follows the shape through the layers until one does not fit. Sets *shape to the last output and
 * returns how many fit. */
size_t network_shape(const struct layer *layers, size_t count, struct shape *shape);

/* Returns the number of leading layers that one kernel computes together: a convolution or linear
 * layer, a ReLU, and 2 x 2 pooling after a convolution. Only the kinds of layers and the sizes of
 * pools matter. count is at least 1. */
enum { MOST_FUSED = 3 };
size_t network_fused(const struct layer *layers, size_t count);

/* The largest number of layers of one call. */
enum { MOST_LAYERS = 32 };
