#ifndef COSSIM_NETWORK_NETWORK_H
#define COSSIM_NETWORK_NETWORK_H

#include "conv2d/convolutions.h"

/*
 * Runs a sequence of layers, a block of images at a time, so that the data between two layers stay
 * in the cache, and fuses layers. The results have the same bits as those of the layers one by one.
 */

/* The layers that a network can run (network/network.h). cossim/nn/modules.py lists their classes
 * in this order. */
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

/* Follows the shape through the layers until one does not fit. Sets *shape to the last output and
 * returns how many fit. */
size_t network_shape(const struct layer *layers, size_t count, struct shape *shape);

/* The number of layers, from the first, that one kernel computes together: a convolution or linear
 * layer, a ReLU, and 2 x 2 pooling after a convolution. Only the kinds of layers and the sizes of
 * pools matter. count is at least 1. */
enum { MOST_FUSED = 3 };
size_t network_fused(const struct layer *layers, size_t count);

/* There must be 1 to MOST_LAYERS layers, all must fit by network_shape, and the output must not be
 * empty. token may be NULL. Returns 0, or -1 when there is no memory. */
enum { MOST_LAYERS = 32 };
int network_run(enum compute_type compute, const struct layer *layers, size_t count, size_t images,
                struct shape shape, const void *input, void *output, struct cancel_token *token);

/* Runs a convolution and a pool in the same way, and also writes pool.indices. pool.planes is the
 * number of output channels, and pool.in is conv.out. conv.pool is false. */
int conv2d_max_pool2d(const struct conv2d *conv, const struct max_pool2d *pool);

#endif
