#ifndef COSSIM_NN_NETWORK_H
#define COSSIM_NN_NETWORK_H

#include "nn/layers.h"

/*
 * Layers one after another, forward, a block of images at a time, so that what lies between two
 * layers stays in the cache. What follows a layer and can be done where its sums are, is: relu, and
 * pooling of 2 x 2 pixels after convolutions. Results have the bits of the layers one by one.
 */
enum layer_kind { LAYER_CONV2D, LAYER_LINEAR, LAYER_MAX_POOL2D, LAYER_RELU, LAYER_FLATTEN };

struct layer {
    enum layer_kind kind;
    const void *weight, *bias; /* of convolutions and linear layers, contiguous; bias may be NULL */
    size_t out, in;            /* sizes of the first two dimensions of weight */
    struct extent2 kernel, stride, dilation, before, after; /* before and after: padding */
    size_t groups;
    bool ceil_mode;
};

/* What a layer takes or gives for one image: channels of height and width, or flat features. */
struct shape {
    bool flat;
    size_t channels; /* or features */
    struct extent2 size;
};

/* What the layers make of an image of that shape; false where they do not fit together. */
bool network_shape(const struct layer *layers, size_t count, struct shape *shape);

/* The layers fit the shape, and there is at least one. 0, or -1 when there is no memory. watch may
 * be NULL. */
int network_run(enum compute_type compute, const struct layer *layers, size_t count, size_t images,
                struct shape shape, const void *input, void *output, struct cancel_token *token);

#endif
