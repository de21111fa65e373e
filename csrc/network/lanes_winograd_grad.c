/* The gradient of a convolution's input by Winograd's algorithm, with lanes across images. */
#include "network/lanes_winograd_grad.h"

#include <string.h>

#include "base/cancel.h"
#include "network/lanes_winograd.h"

/* Pixels that the kernel multiplies with a filter at a time (LANES_PIXELS). Half of them are of
 * another tile where there is one, so that fewer columns of kernels meet pixels of the border. */
enum { TILE_PIXELS = 4 };

void lanes_winograd_grad_plan(const struct lanes_stage *s, struct lanes_winograd_gradients *g)
{
    const struct layer *l = &s->layer;
    const struct lanes_winograd *w = &s->winograd;
    const size_t after = s->in.size.w + l->before.w; /* end of the columns of the input */
    g->rows = LANES_WINOGRAD_ROWS * w->tiles;
    g->columns = w->width;
    g->border = larger(l->kernel.w - 1, after > w->width ? after - w->width : 0);
    g->row = smaller(w->tiles, LANES_WINOGRAD_TILES) * (w->width + g->border) + g->border;
}

void lanes_winograd_grad_take(const struct lanes_plan *p, const struct lanes_stage *s,
                              struct lanes_winograd_gradients *g, struct arena *arena)
{
    for (size_t tiles = 1; tiles <= LANES_WINOGRAD_TILES; tiles++) {
        g->in_at[tiles - 1] = arena_take(arena, tiles * s->in.size.w, sizeof **g->in_at);
        g->out_at[tiles - 1] = arena_take(arena, tiles * s->in.size.w, sizeof **g->out_at);
    }
    g->taps = arena_take(arena, s->filters * s->layer.kernel.w, sizeof *g->taps);
    g->filters = arena_take(arena, s->layer.groups * lanes_winograd_elements(s), p->size);
}

void lanes_winograd_grad_fill(const struct lanes_plan *p, const struct lanes_stage *s,
                              struct lanes_winograd_gradients *g)
{
    const size_t width = s->layer.kernel.w, lanes = p->lanes, in = s->in.size.w;
    for (size_t tiles = 1; tiles <= LANES_WINOGRAD_TILES; tiles++) {
        for (size_t i = 0; i < tiles * in; i++) {
            const size_t first = i / TILE_PIXELS * (TILE_PIXELS / tiles),
                         columns = smaller(in - first, TILE_PIXELS / tiles),
                         tile = i % TILE_PIXELS / columns, x = first + i % TILE_PIXELS % columns;
            g->in_at[tiles - 1][i] =
                (ptrdiff_t)((tile * (g->columns + g->border) + g->border + x + s->layer.before.w) *
                            lanes);
            g->out_at[tiles - 1][i] = (ptrdiff_t)((tile * in + x) * lanes);
        }
    }
    for (size_t i = 0; i < s->filters * width; i++) {
        g->taps[i] =
            ((ptrdiff_t)(i % s->filters * g->row) - (ptrdiff_t)(i / s->filters)) * (ptrdiff_t)lanes;
    }
    lanes_winograd_filters(p, s, g->filters, true);
}

size_t lanes_winograd_grad_scratch(const struct lanes_plan *p, const struct lanes_stage *s,
                                   const struct lanes_winograd_gradients *g)
{
    return size_sum_or_max(
        lanes_winograd_bytes(p, s->filters, g->row),
        lanes_winograd_bytes(p, lanes_winograd_part(p, s->channels),
                             smaller(s->winograd.tiles, LANES_WINOGRAD_TILES) * s->in.size.w));
}

/* The products of one sum of `tiles` tiles, for n channels. Columns of a kernel that meet only the
 * border from the pixels of a block are left out: a quarter of all for 8 columns of gradients and
 * kernels of 5 x 5. */
static void multiply(const struct lanes_plan *p, const struct lanes_stage *s,
                     const struct lanes_winograd_gradients *g, size_t tiles, const char *weight,
                     const char *transform, size_t n, char *products)
{
    const size_t kernel = s->layer.kernel.w, in = s->in.size.w, before = s->layer.before.w;
    struct lanes_conv conv = {
        .filter_step = s->filters * kernel,
        .depth_step = 1,
        .input = transform,
        .chain = lanes_winograd_chain(s->filters, kernel),
        .output = products,
        .map_step = tiles * in * p->lanes,
    };
    for (size_t x = 0, columns; x < in; x += columns) {
        columns = smaller(in - x, TILE_PIXELS / tiles);
        const size_t left = x + before, right = left + columns,
                     first = left < g->columns ? 0 : smaller(left - g->columns + 1, kernel),
                     end = larger(first, smaller(right, kernel));
        conv.weight = weight + first * s->filters * p->size;
        conv.tap_offsets = g->taps + first * s->filters;
        conv.depth = (end - first) * s->filters;
        conv.pixel_offsets = g->in_at[tiles - 1] + x * tiles;
        conv.output_offsets = g->out_at[tiles - 1] + x * tiles;
        p->kernels->conv(&conv, n, columns * tiles);
    }
}

/* The tiles of a group from `tile` on that are multiplied at a time. scratch begins with their
 * transformed gradients; output is the gradient of the group's input. */
static void grad_input_tiles(const struct lanes_plan *p, const struct lanes_stage *s,
                             const struct lanes_winograd_gradients *g, size_t group, size_t tile,
                             char *scratch, char *output, void *check)
{
    const char *weight = g->filters + group * lanes_winograd_elements(s) * p->size;
    char *products = scratch + lanes_winograd_bytes(p, s->filters, g->row);
    const struct extent2 in = s->in.size;
    const size_t vector = p->lanes * p->size, part = lanes_winograd_part(p, s->channels),
                 in_step = lanes_winograd_step(s->filters, g->row) * vector,
                 depth = s->filters * s->layer.kernel.w, rows = LANES_WINOGRAD_ROWS + 4,
                 border = s->layer.before.h,
                 tiles = smaller(s->winograd.tiles - tile, LANES_WINOGRAD_TILES);
    for (size_t c = 0, n; c < s->channels; c += n) {
        n = smaller(s->channels - c, part);
        const size_t out_step = lanes_winograd_step(n, tiles * in.w);
        for (size_t i = 0; i < LANES_WINOGRAD_SUMS; i++) {
            multiply(p, s, g, tiles, weight + (i * s->channels + c) * depth * p->size,
                     scratch + i * in_step, n, products + i * out_step * vector);
        }
        for (size_t i = 0; i < n * tiles; i++) {
            /* The rows of the tile that are inside the image. */
            const size_t top = (tile + i % tiles) * LANES_WINOGRAD_ROWS,
                         first = border > top ? smaller(border - top, rows) : 0,
                         end = in.h + border > top ? smaller(in.h + border - top, rows) : 0;
            if (first < end) {
                p->kernels->winograd_input_gradient(
                    output + ((c + i / tiles) * in.h + top + first - border) * in.w * vector,
                    in.w * p->lanes, first, end, products + i * in.w * vector, out_step * p->lanes,
                    in.w, check);
            }
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
            for (size_t x = 0; x < g->row; x += g->border + g->columns) {
                memset(row + x * vector, 0, g->border * vector);
            }
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
        size_t tiles;
        for (size_t tile = 0; tile < s->winograd.tiles && !cancel_poll_here(); tile += tiles) {
            tiles = smaller(s->winograd.tiles - tile, LANES_WINOGRAD_TILES);
            for (size_t i = 0; i < s->filters * tiles; i++) {
                const size_t f = i / tiles,
                             at = (group * s->filters + f) * plane +
                                  (tile + i % tiles) * LANES_WINOGRAD_ROWS * g->columns,
                             to = f * g->row + g->border + i % tiles * (g->columns + g->border);
                p->kernels->winograd_output_gradient(
                    scratch + to * vector, lanes_winograd_step(s->filters, g->row) * p->lanes,
                    map + at * vector, g->columns * p->lanes, g->columns);
            }
            grad_input_tiles(p, s, g, group, tile, scratch,
                             output + group * s->channels * pixels * vector, check);
        }
    }
}
