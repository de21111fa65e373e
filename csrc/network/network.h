#pragma once

#include "conv2d/convolutions.h"
#include "network/shapes.h"

/*
 * Runs a sequence of layers, a block of images at a time, so that the data between two layers stay
 * in the cache, and fuses layers. Where lanes_apply holds, vectors lie across images
 * (lanes_plan.h). Otherwise the results have the same bits as those of the layers one by one.
 */

/* There must be 1 to MOST_LAYERS layers. network_shape must accept all of them, and the output must
 * not be empty. token may be NULL. Returns 0, or -1 when there is no memory. */
int network_run(enum compute_type compute, const struct layer *layers, size_t count, size_t images,
                struct shape shape, const void *input, void *output, struct cancel_token *token);

/* Runs a convolution and a pool as network_run does, and also writes pool.indices. pool.planes is
 * the number of output channels, and pool.in is conv.out. conv.pool is false. */
int conv2d_max_pool2d(const struct conv2d *conv, const struct max_pool2d *pool);
