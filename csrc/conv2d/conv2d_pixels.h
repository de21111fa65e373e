#pragma once

#include "conv2d/conv2d_algorithm.h"

/*
 * Functions for algorithms whose lanes lie across filters (pixels_kernel). The filters of a group
 * are divided into blocks of a few vectors. The last vector of a group is padded with zeros.
 */

struct filter_block {
    size_t first, count; /* filters of the group */
    size_t vectors;
    size_t first_vector; /* vectors of the group before this block */
};

/* Return the number of blocks of a group, and block i. */
size_t conv2d_filter_blocks(const struct conv2d_plan *plan);
struct filter_block conv2d_filter_block(const struct conv2d_plan *plan, size_t i);

/* Returns the number of vectors of all filters of a group. */
static inline size_t conv2d_filter_vectors(const struct conv2d_plan *p)
{
    return size_parts(p->filters, p->lanes);
}

/* Packs weights [first, first + count) of each filter of one block: to is (count, vectors * lanes).
 * A filter has channels * kernel.h * kernel.w weights. `filter` is the group's first filter. */
void conv2d_pack_filters(const struct conv2d_plan *plan, size_t filter, struct filter_block block,
                         size_t first, size_t count, void *to);

/* Packs the bias: to is (groups, vectors * lanes). The plan must have a bias. */
void conv2d_pack_bias(const struct conv2d_plan *plan, void *to);

/* Copies sums (pixels, vectors * lanes) of a block to the output: pixel p of the block's filter f
 * to out[f * map_size + p]. out is at the block's first filter. */
void conv2d_store_pixels(const struct conv2d_plan *plan, const void *sums,
                         struct filter_block block, size_t pixels, void *out);

/* Max pooling with 2 x 2 windows, in place: sums (rows, out.w, width) become (rows / 2, out.w / 2,
 * width). rows is even, and width is the lanes of a block. `row` holds 2 * (out.w / 2) * width
 * elements. */
void conv2d_pool_sums(const struct conv2d_plan *plan, void *sums, size_t rows, size_t width,
                      void *row);

/* Copies rows [first, first + rows) of the padded images of `channels` channels, whose rows are
 * `pitch` elements long. */
void conv2d_copy_padded(const struct conv2d *conv, const char *planes, size_t channels,
                        size_t first, size_t rows, size_t pitch, char *to);

/* The packed weights with which the state of conv2d_filter_lanes begins. */
struct packed_filters {
    /* [groups][blocks of filters][steps][lanes of a block], or NULL: each chain of a block is
     * packed just before it is multiplied, in scratch memory, so that it is in the cache then. */
    char *filters;
    char *bias; /* [groups][lanes of all blocks], or NULL */
};
