#include "nn/conv2d_filter_sums.h"

#include <string.h>

#include "base/scratch.h"

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

#define ADD_BLOCKS(type) \
    static void add_blocks_##type(type *sums, size_t blocks, size_t filters, size_t entries, \
                                  type *weight, type *bias) \
    { \
        for (size_t b = 1; b < blocks; b++) { \
            for (size_t i = 0; i < filters * entries; i++) { \
                sums[i] += sums[b * filters * entries + i]; \
            } \
        } \
        for (size_t f = 0; f < filters; f++) { \
            memcpy(weight + f * (entries - 1), sums + f * entries, (entries - 1) * sizeof *sums); \
            if (bias != NULL) { \
                bias[f] = sums[f * entries + entries - 1]; \
            } \
        } \
    }
ADD_BLOCKS(float)
ADD_BLOCKS(double)

void add_filter_sums(const struct conv2d *c, void *sums, size_t blocks, void *weight, void *bias)
{
    if (c->compute == COMPUTE_F64) {
        add_blocks_double(sums, blocks, c->out_channels, filter_entries(c), weight, bias);
    } else {
        add_blocks_float(sums, blocks, c->out_channels, filter_entries(c), weight, bias);
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
