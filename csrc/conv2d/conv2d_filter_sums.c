#include "conv2d/conv2d_filter_sums.h"

#include <string.h>

enum {
    MAX_BLOCKS = 32,
    SUMS_BYTES = 64 << 20 /* limit of the sums of all blocks */
};

size_t filter_entries(const struct conv2d *c)
{
    return c->in_channels / c->groups * c->kernel.h * c->kernel.w + 1;
}

struct image_blocks image_blocks_of(const struct conv2d *c, size_t max_batch)
{
    const size_t sums = size_product_or_max(size_product_or_max(c->out_channels, filter_entries(c)),
                                            compute_size(c->compute));
    const size_t max_blocks = larger(smaller(MAX_BLOCKS, SUMS_BYTES / size_sum_or_max(sums, 1)), 1),
                 min_images = size_parts(c->images, max_blocks);
    struct image_blocks blocks = {.batch = larger(smaller(max_batch, c->images), 1)};
    blocks.images = size_parts(larger(min_images, blocks.batch), blocks.batch) * blocks.batch;
    blocks.count = size_parts(c->images, blocks.images);
    return blocks;
}

void add_filter_sums(const struct conv2d *c, void *sums, size_t blocks, void *weight, void *bias)
{
    const size_t size = compute_size(c->compute), n = c->out_channels * filter_entries(c),
                 weights = (filter_entries(c) - 1) * size;
    const char *filter = sums;
    kernels_current()->layers[c->compute].add_rows(sums, 0, 1, (char *)sums + n * size, n,
                                                   blocks - 1, n);
    for (size_t f = 0; f < c->out_channels; f++, filter += weights + size) {
        memcpy((char *)weight + f * weights, filter, weights);
        if (bias != NULL) {
            memcpy((char *)bias + f * size, filter + weights, size);
        }
    }
}

void clear_filters(const struct conv2d *c, void *weight, void *bias)
{
    const size_t size = compute_size(c->compute);
    memset(weight, 0, c->out_channels * (filter_entries(c) - 1) * size);
    if (bias != NULL) {
        memset(bias, 0, c->out_channels * size);
    }
}
