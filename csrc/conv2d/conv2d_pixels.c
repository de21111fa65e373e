#include "conv2d/conv2d_pixels.h"

#include <string.h>

enum { ROWS_PER_CALL = 64 }; /* row pointers of one transposition */

size_t conv2d_filter_blocks(const struct conv2d_plan *p)
{
    return size_parts(conv2d_filter_vectors(p), p->kernels->vectors);
}

struct filter_block conv2d_filter_block(const struct conv2d_plan *p, size_t i)
{
    /* Blocks are as even as possible: 6 vectors are divided into 3 and 3, not 4 and 2. */
    const size_t vectors = conv2d_filter_vectors(p), blocks = conv2d_filter_blocks(p),
                 first = i * vectors / blocks, end = (i + 1) * vectors / blocks;
    return (struct filter_block){
        .first = first * p->lanes,
        .count = smaller(end * p->lanes, p->filters) - first * p->lanes,
        .vectors = end - first,
        .first_vector = first,
    };
}

void conv2d_pack_filters(const struct conv2d_plan *p, size_t filter, struct filter_block block,
                         size_t first, size_t count, void *to)
{
    const size_t steps = p->channels * p->conv.kernel.h * p->conv.kernel.w,
                 width = block.vectors * p->lanes;
    if (block.count < width) {
        memset(to, 0, count * width * p->size);
    }
    const char *weight =
        (const char *)p->conv.weight + ((filter + block.first) * steps + first) * p->size;
    for (size_t f = 0, n; f < block.count; f += n) {
        const void *rows[ROWS_PER_CALL];
        n = smaller(block.count - f, ROWS_PER_CALL);
        for (size_t i = 0; i < n; i++) {
            rows[i] = weight + (f + i) * steps * p->size;
        }
        kernels_current()->tiles[p->conv.compute].transpose((char *)to + f * p->size, width, rows,
                                                            n, count);
    }
}

void conv2d_pack_bias(const struct conv2d_plan *p, void *to)
{
    const size_t line = conv2d_filter_vectors(p) * p->lanes * p->size;
    memset(to, 0, p->conv.groups * line);
    for (size_t g = 0; g < p->conv.groups; g++) {
        memcpy((char *)to + g * line, (const char *)p->conv.bias + g * p->filters * p->size,
               p->filters * p->size);
    }
}

void conv2d_store_pixels(const struct conv2d_plan *p, const void *sums, struct filter_block block,
                         size_t pixels, void *out)
{
    const size_t line = block.vectors * p->lanes * p->size, map = conv2d_map_size(&p->conv);
    if (map == 1) { /* the filters of an image are adjacent */
        memcpy(out, sums, block.count * p->size);
        return;
    }
    for (size_t first = 0, n; first < pixels; first += n) {
        const void *rows[ROWS_PER_CALL];
        n = smaller(pixels - first, ROWS_PER_CALL);
        for (size_t i = 0; i < n; i++) {
            rows[i] = (const char *)sums + (first + i) * line;
        }
        kernels_current()->tiles[p->conv.compute].transpose((char *)out + first * p->size, map,
                                                            rows, n, block.count);
    }
}

void conv2d_pool_sums(const struct conv2d_plan *p, void *sums, size_t rows, size_t width, void *row)
{
    const size_t columns = p->conv.out.w / 2, pixel = width * p->size, line = p->conv.out.w * pixel,
                 half = columns * pixel;
    for (size_t y = 0; y < rows / 2; y++) {
        for (size_t i = 0; i < 2 * columns; i++) {
            const char *left =
                (const char *)sums + (2 * y + i / columns) * line + i % columns * 2 * pixel;
            p->kernels->max_pairs((char *)row + i * pixel, NULL, left, NULL, left + pixel, NULL,
                                  width);
        }
        p->kernels->max_pairs((char *)sums + y * half, NULL, row, NULL, (char *)row + half, NULL,
                              columns * width);
    }
}

void conv2d_copy_padded(const struct conv2d *c, const char *planes, size_t channels, size_t first,
                        size_t rows, size_t pitch, char *to)
{
    const size_t size = compute_size(c->compute), line = c->in.w * size,
                 before = smaller(c->padding.w, pitch), n = smaller(c->in.w, pitch - before) * size,
                 end = first + rows, top = larger(first, smaller(c->padding.h, end)),
                 bottom = larger(top, smaller(c->padding.h + c->in.h, end));
    for (size_t i = 0; i < channels; i++, planes += c->in.h * line, to += rows * pitch * size) {
        if (n < pitch * size || bottom - top < rows) {
            memset(to, 0, rows * pitch * size);
        }
        char *row = to + ((top - first) * pitch + before) * size;
        for (size_t y = top; y < bottom; y++, row += pitch * size) {
            memcpy(row, planes + (y - c->padding.h) * line, n);
        }
    }
}
