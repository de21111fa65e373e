#pragma once

#include "conv2d/convolutions.h"

/*
 * The sums of conv2d_grad_weight and conv2d_grad_weight_sparse. Blocks of images are summed
 * separately, and their sums are added in order. Shapes alone decide the blocks. The sums are
 * (blocks, out_channels, entries). The entries of a filter are the gradients of its weights,
 * followed by the gradient of its bias.
 */

struct image_blocks {
    size_t batch;  /* images that are copied and multiplied at a time */
    size_t images; /* of a block: a multiple of batch */
    size_t count;  /* blocks */
};

size_t filter_entries(const struct conv2d *conv);

/* Divides the images into blocks, and each block into batches of at most max_batch images. */
struct image_blocks image_blocks_of(const struct conv2d *conv, size_t max_batch);

/* Adds the sums of all blocks to those of the first one. Writes them to weight (out_channels,
 * entries - 1) and, unless it is NULL, to bias (out_channels). */
void add_filter_sums(const struct conv2d *conv, void *sums, size_t blocks, void *weight,
                     void *bias);

/* Writes zeros, which are the gradients of a call without images or output pixels. */
void clear_filters(const struct conv2d *conv, void *weight, void *bias);
