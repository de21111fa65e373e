#include "conv2d/conv2d_algorithm.h"

#include "conv2d/conv2d_input.h"

size_t conv2d_block_rows(const struct conv2d_plan *p, size_t rows)
{
    const size_t together = p->algorithm->rows_together;
    return conv2d_input_rows(&p->conv, size_parts(rows, together) * together);
}

const void *conv2d_block_input(const struct conv2d_plan *p, const struct conv2d_block *b,
                               size_t channel_block)
{
    const struct conv2d *c = &p->conv;
    const size_t map = c->in.h * c->in.w * p->size, first = b->row * c->stride.h;
    const char *planes = b->input + channel_block * p->channel_block * map;
    if (!p->copied) {
        return planes + first * p->pitch * p->size;
    }
    for (size_t i = 0; i < conv2d_channels(p, channel_block); i++) {
        conv2d_copy_rows(c, planes + i * map, first, conv2d_block_rows(p, b->rows), c->stride.w,
                         p->phase, b->copy + i * p->plane * p->size);
    }
    return b->copy;
}

void conv2d_outer(const struct conv2d_plan *p, struct outer o)
{
    const struct outer all = o;
    const size_t most = conv2d_has_wide_tiles(p) ? OUTER_WIDE_ROWS : p->tile_rows,
                 tiles = size_parts(p->filters, most);
    /* Tiles are as even as possible: 10 filters are divided into 5 and 5, not 6 and 4. */
    for (size_t i = 0; i < tiles; i++) {
        const size_t f = i * p->filters / tiles, rows = (i + 1) * p->filters / tiles - f;
        o.left = (const char *)all.left + f * all.left_row_step * p->size;
        o.bias = all.bias == NULL ? NULL : (const char *)all.bias + f * p->size;
        o.partial_sums = all.partial_sums == NULL
                             ? NULL
                             : (const char *)all.partial_sums + f * all.partial_sums_step * p->size;
        o.out = (char *)all.out + f * all.out_step * p->size;
        p->kernels->outer(&o, rows);
    }
}
