/* The gradient of a convolution's input by Winograd's algorithm, with lanes across images. */
#include "network/lanes_winograd_grad.h"

#include <string.h>

#include "base/cancel.h"
#include "network/lanes_winograd.h"

void lanes_winograd_grad_plan(const struct lanes_stage *s, struct lanes_winograd_gradients *g)
{
    const struct layer *l = &s->layer;
    const struct lanes_winograd *w = &s->winograd;
    const size_t after = s->in.size.w + l->before.w; /* end of the columns of the input */
    g->rows = LANES_WINOGRAD_ROWS * w->tiles;
    g->columns = w->width;
    g->border = larger(l->kernel.w - 1, after > w->width ? after - w->width : 0);
    g->row = w->width + 2 * g->border;
}

void lanes_winograd_grad_take(const struct lanes_plan *p, const struct lanes_stage *s,
                              struct lanes_winograd_gradients *g, struct arena *arena)
{
    g->in_at = arena_take(arena, s->in.size.w, sizeof *g->in_at);
    g->out_at = arena_take(arena, s->in.size.w, sizeof *g->out_at);
    g->taps = arena_take(arena, s->filters * s->layer.kernel.w, sizeof *g->taps);
    g->filters = arena_take(arena, s->layer.groups * lanes_winograd_elements(s), p->size);
}

void lanes_winograd_grad_fill(const struct lanes_plan *p, const struct lanes_stage *s,
                              struct lanes_winograd_gradients *g)
{
    const size_t width = s->layer.kernel.w, lanes = p->lanes;
    for (size_t x = 0; x < s->in.size.w; x++) {
        g->in_at[x] = (ptrdiff_t)((g->border + x + s->layer.before.w) * lanes);
        g->out_at[x] = (ptrdiff_t)(x * lanes);
    }
    for (size_t i = 0; i < s->filters * width; i++) {
        g->taps[i] = ((ptrdiff_t)(i / width * g->row) - (ptrdiff_t)(i % width)) * (ptrdiff_t)lanes;
    }
    lanes_winograd_filters(p, s, g->filters, true);
}

size_t lanes_winograd_grad_scratch(const struct lanes_plan *p, const struct lanes_stage *s,
                                   const struct lanes_winograd_gradients *g)
{
    return size_sum_or_max(
        lanes_winograd_bytes(p, s->filters, g->row),
        lanes_winograd_bytes(p, lanes_winograd_part(p, s->channels), s->in.size.w));
}

/* One tile of the channels of a group. scratch begins with its transformed gradients; output is the
 * gradient of the group's input. */
static void grad_input_tile(const struct lanes_plan *p, const struct lanes_stage *s,
                            const struct lanes_winograd_gradients *g, const char *weight,
                            size_t tile, char *scratch, char *output, void *check)
{
    const char *transform = scratch;
    char *products = scratch + lanes_winograd_bytes(p, s->filters, g->row);
    const struct extent2 in = s->in.size;
    const size_t vector = p->lanes * p->size, part = lanes_winograd_part(p, s->channels),
                 in_step = lanes_winograd_step(s->filters, g->row) * p->lanes,
                 depth = s->filters * s->layer.kernel.w, rows = LANES_WINOGRAD_ROWS + 4,
                 top = tile * LANES_WINOGRAD_ROWS, border = s->layer.before.h;
    /* The rows of the tile that are inside the image. */
    const size_t first = border > top ? smaller(border - top, rows) : 0,
                 end = in.h + border > top ? smaller(in.h + border - top, rows) : 0;
    if (first >= end) {
        return;
    }
    for (size_t c = 0, n; c < s->channels; c += n) {
        n = smaller(s->channels - c, part);
        const size_t out_step = lanes_winograd_step(n, in.w) * p->lanes;
        struct lanes_conv conv = {
            .filter_step = depth,
            .depth_step = 1,
            .pixel_offsets = g->in_at,
            .tap_offsets = g->taps,
            .depth = depth,
            .chain = lanes_winograd_chain(s->filters, s->layer.kernel.w),
            .map_step = in.w * p->lanes,
            .output_offsets = g->out_at,
        };
        for (size_t i = 0; i < LANES_WINOGRAD_SUMS; i++) {
            conv.weight = weight + (i * s->channels + c) * depth * p->size;
            conv.input = transform + i * in_step * p->size;
            conv.output = products + i * out_step * p->size;
            p->kernels->conv(&conv, n, in.w);
        }
        for (size_t r = 0; r < n; r++) {
            p->kernels->winograd_input_gradient(
                output + ((c + r) * in.h + top + first - border) * in.w * vector, in.w * p->lanes,
                first, end, products + r * in.w * vector, out_step, in.w, check);
        }
    }
}

/* Fills the borders of a transform with zeros. */
static void clear_borders(const struct lanes_plan *p, const struct lanes_stage *s,
                          const struct lanes_winograd_gradients *g, char *transform)
{
    const size_t vector = p->lanes * p->size, step = lanes_winograd_step(s->filters, g->row);
    for (size_t i = 0; i < LANES_WINOGRAD_SUMS; i++) {
        for (size_t f = 0; f < s->filters; f++) {
            char *row = transform + (i * step + f * g->row) * vector;
            memset(row, 0, g->border * vector);
            memset(row + (g->border + g->columns) * vector, 0, g->border * vector);
        }
    }
}

void lanes_winograd_grad_input(const struct lanes_plan *p, const struct lanes_stage *s,
                               const struct lanes_winograd_gradients *g, const char *map,
                               char *output, char *scratch, void *check)
{
    const size_t vector = p->lanes * p->size, pixels = s->in.size.h * s->in.size.w,
                 plane = g->rows * g->columns;
    memset(output, 0, s->in.channels * pixels * vector);
    clear_borders(p, s, g, scratch);
    for (size_t group = 0; group < s->layer.groups; group++) {
        const char *weight = g->filters + group * lanes_winograd_elements(s) * p->size;
        for (size_t tile = 0; tile < s->winograd.tiles && !cancel_poll_here(); tile++) {
            for (size_t f = 0; f < s->filters; f++) {
                const size_t at =
                    (group * s->filters + f) * plane + tile * LANES_WINOGRAD_ROWS * g->columns;
                p->kernels->winograd_output_gradient(
                    scratch + (f * g->row + g->border) * vector,
                    lanes_winograd_step(s->filters, g->row) * p->lanes, map + at * vector,
                    g->columns * p->lanes, g->columns);
            }
            grad_input_tile(p, s, g, weight, tile, scratch,
                            output + group * s->channels * pixels * vector, check);
        }
    }
}
