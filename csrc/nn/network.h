#ifndef COSSIM_NN_NETWORK_H
#define COSSIM_NN_NETWORK_H

#include "nn/layers.h"

/*
 * Runs a sequence of layers forward, a block of images at a time, so that the data between two
 * layers stays in the cache. ReLU and, after convolutions, 2 x 2 pooling are fused into the
 * preceding layer. Results are the same bits as those of the layers one by one.
 */
enum layer_kind { LAYER_CONV2D, LAYER_LINEAR, LAYER_MAX_POOL2D, LAYER_RELU, LAYER_FLATTEN };

struct layer {
    enum layer_kind kind;
    const void *weight, *bias; /* of convolutions and linear layers, contiguous; bias may be NULL */
    size_t out, in;            /* sizes of the first two dimensions of weight */
    struct extent2 kernel, stride, dilation;
    struct extent2 before, after; /* padding before the first and after the last row and column */
    size_t groups;
    bool ceil_mode;
};

/* The shape of one image between two layers: (channels, height, width), or (features) if flat. */
struct shape {
    bool flat;
    size_t channels; /* or features if flat */
    struct extent2 size;
};

/* Replaces the input shape of the layers by their output shape. False if a layer does not fit the
 * shape before it. */
bool network_shape(const struct layer *layers, size_t count, struct shape *shape);

/* Requires at least one layer, and that network_shape accepts the shape. token may be NULL. 0, or
 * -1 when there is no memory. */
int network_run(enum compute_type compute, const struct layer *layers, size_t count, size_t images,
                struct shape shape, const void *input, void *output, struct cancel_token *token);

#endif
