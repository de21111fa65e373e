/*
 * Convolution with kernels of 1 x 1 as a matrix product, with lanes along pixels: the pixels that
 * the outputs read are packed into panels, (channels, up to four vectors), and each weight is
 * broadcast and multiplied with the vectors of a panel. Rows need not be whole vectors, because
 * vectors run on from one row of a block to the next. The results need no transposition.
 *
 * Sums have the same order and the same bits as in conv2d_direct.
 */
#include <string.h>

#include "conv2d/conv2d_algorithm.h"
#include "conv2d/conv2d_cost.h"
#include "conv2d/conv2d_input.h"
#include "nn/loops.h"

enum {
    BLOCK_PIXELS = 512, /* approximate number of output pixels of a block */
    LINE = 64
};

struct pointwise {
    size_t sums; /* offset in scratch memory, after the panel */
    /* Offsets of the weights of a filter and of the channels of a chain. pixel_at has those of the
     * pixels of a block of rows in a plane. */
    ptrdiff_t *filter_at, *channel_at, *pixel_at;
    ptrdiff_t tables[]; /* the memory of these offsets */
};

static bool pointwise_fits(const struct conv2d_plan *p)
{
    const struct conv2d *c = &p->conv;
    return c->kernel.h == 1 && c->kernel.w == 1 && !c->pool && c->padding.h == 0 &&
           c->padding.w == 0 && (c->out.h - 1) * c->stride.h < c->in.h &&
           (c->out.w - 1) * c->stride.w < c->in.w;
}

static double pointwise_cost(const struct conv2d_plan *p, size_t images)
{
    (void)images;
    const size_t vectors = size_parts(p->conv.out.h * p->conv.out.w, p->lanes);
    const double pack = p->conv.stride.w == 1 ? 4.0 : 2.0 * (double)p->lanes;
    return conv2d_cost_terms(p) * conv2d_cost_pixels(p, p->filters, vectors) +
           (double)vectors * (pack * (double)p->channels + 4.0 * (double)p->filters);
}

static void pointwise_layout(struct conv2d_plan *p)
{
    const struct conv2d *c = &p->conv;
    const size_t rows = smaller(size_parts(BLOCK_PIXELS, c->out.w), c->out.h);
    /* blocks of nearly equal sizes */
    p->row_block = size_parts(c->out.h, size_parts(c->out.h, rows));
    p->image_block = 1;
}

static void *pointwise_plan(const struct conv2d_plan *p, size_t *scratch)
{
    const struct conv2d *c = &p->conv;
    const size_t pixels = p->row_block * c->out.w, width = p->kernels->vectors * p->lanes,
                 entries = size_sum_or_max(pixels, p->filters + p->channel_block);
    struct pointwise *s =
        scratch_alloc(size_sum_or_max(sizeof *s, size_product_or_max(entries, sizeof *s->tables)));
    if (s == NULL) {
        return NULL;
    }
    s->filter_at = s->tables;
    s->channel_at = s->filter_at + p->filters;
    s->pixel_at = s->channel_at + p->channel_block;
    fill_steps(s->filter_at, p->filters, p->channels);
    fill_steps(s->channel_at, p->channel_block, 1);
    fill_offsets(s->pixel_at, 0, p->row_block, c->out.w, c->stride.h * c->in.w, c->stride.w);
    *scratch = 0;
    scratch_add(scratch, size_product_or_max(p->channels, width), p->size);
    s->sums = scratch_add(scratch, size_product_or_max(p->filters, width), p->size);
    return s;
}

/* Packs pixels [first, first + count) of a block. to is (channels, width); the rest of a row is 0.
 * Fetches the `next` pixels that follow in each channel, because each channel is on other pages. */
static void pack_pixels(const struct conv2d_plan *p, const struct pointwise *s,
                        const struct conv2d_block *b, size_t first, size_t count, size_t next,
                        size_t width, char *to)
{
    const struct conv2d *c = &p->conv;
    const bool adjacent = c->stride.w == 1 && (c->out.w == c->in.w || c->out.h == 1) &&
                          (c->stride.h == 1 || c->out.h == 1);
    const size_t map = c->in.h * c->in.w * p->size;
    const char *plane = b->input + b->row * c->stride.h * c->in.w * p->size;
    for (size_t i = 0; i < p->channels; i++, plane += map, to += width * p->size) {
        if (adjacent) {
            const char *from = plane + first * p->size, *end = from + count * p->size;
            memcpy(to, from, count * p->size);
            for (size_t at = 0; at < next * p->size; at += LINE) {
                __builtin_prefetch(end + smaller(at + LINE, next * p->size) - 1, 0, 2);
            }
        } else {
            layer_loops[c->compute].gather(count, s->pixel_at + first, plane, to);
        }
        memset(to + count * p->size, 0, (width - count) * p->size);
    }
}

/* Multiplies all filters of a group with a panel of pixels [first, first + count) of a block. */
static void multiply_panel(const struct conv2d_plan *p, const struct pointwise *s,
                           const struct conv2d_block *b, size_t first, size_t count, size_t vectors)
{
    const size_t end = b->row * p->conv.out.w + first + count,
                 next = smaller(conv2d_map_size(&p->conv) - end, count);
    const size_t width = vectors * p->lanes, map = conv2d_map_size(&p->conv);
    const bool whole = count == width;
    char *sums = whole ? b->output + first * p->size : b->scratch + s->sums;
    pack_pixels(p, s, b, first, count, next, width, b->scratch);
    for (size_t k = 0; k < p->channel_blocks; k++) {
        const bool last = k + 1 == p->channel_blocks;
        const size_t channel = k * p->channel_block;
        const struct pixels call = {
            .input = (const char *)p->conv.weight + (b->filter * p->channels + channel) * p->size,
            .pixel_offsets = s->filter_at,
            .depth_offsets = s->channel_at,
            .pixels = p->filters,
            .depth = conv2d_channels(p, k),
            .filters = b->scratch + channel * width * p->size,
            .vectors = vectors,
            .add = k > 0,
            .relu = last && p->conv.relu,
            .pixel_bias = last ? b->bias : NULL,
            .sums = sums,
            .sums_step = whole ? map : width,
            .prefetch = b->output + (first + count) * p->size, /* results of the next panel */
            .prefetch_rows = last && next > 0 ? p->filters : 0,
            .prefetch_step = map,
            .prefetch_bytes = next * p->size,
        };
        p->kernels->pixels(&call);
    }
    const size_t copied = whole ? 0 : p->filters;
    for (size_t f = 0; f < copied; f++) {
        memcpy(b->output + (f * map + first) * p->size, sums + f * width * p->size,
               count * p->size);
    }
}

static void pointwise_run(const struct conv2d_plan *p, const void *state,
                          const struct conv2d_block *b)
{
    const size_t pixels = b->rows * p->conv.out.w, vectors = size_parts(pixels, p->lanes),
                 panels = size_parts(vectors, p->kernels->vectors);
    for (size_t i = 0; i < panels; i++) { /* panels of nearly equal sizes */
        const size_t start = i * vectors / panels, end = (i + 1) * vectors / panels,
                     first = start * p->lanes;
        multiply_panel(p, state, b, first, smaller(end * p->lanes, pixels) - first, end - start);
    }
}

const struct conv2d_algorithm conv2d_pointwise = {
    .name = "pointwise",
    .rows_together = 1,
    .exact = true,
    .fits = pointwise_fits,
    .cost = pointwise_cost,
    .layout = pointwise_layout,
    .plan = pointwise_plan,
    .free_state = scratch_free,
    .run = pointwise_run,
};
