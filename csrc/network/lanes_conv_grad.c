/*
 * The gradients of a convolution with lanes across images.
 *
 * The gradient of its output is copied, or spread over the pixels that pooling chose, into a map
 * with a border of zeros. The gradient of its input is then a convolution of that map. Input pixels
 * of one residue modulo the stride (a phase) meet the same taps.
 */
#include "network/lanes_conv_grad.h"

#include <string.h>

#include "base/cancel.h"

enum {
    CALL_PIXELS = 64, /* output pixels of one kernel call; their gradients stay in L1 */
    CHAIN_STEPS = 256 /* approximate limit of the terms of a chain */
};

/* Sizes the map of a convolution's output gradients, with the border that the gradient of its input
 * reads. With pooling, an odd last row or column belongs to the border. */
void conv_grad_plan(const struct lanes_plan *p, const struct lanes_stage *s, struct conv_grad *g)
{
    const struct layer *l = &s->layer;
    struct lanes_map *m = &g->map;
    m->channels = l->out;
    m->size =
        (struct extent2){s->computed.h / s->unit * s->unit, s->computed.w / s->unit * s->unit};
    m->before = (struct extent2){0, 0};
    m->rows = s->computed.h;
    m->pitch = s->computed.w;
    if (g->input) {
        m->before.h = (l->kernel.h - 1) * l->dilation.h / l->stride.h;
        m->before.w = (l->kernel.w - 1) * l->dilation.w / l->stride.w;
        m->rows = larger(m->rows, (l->before.h + s->in.size.h - 1) / l->stride.h + 1) + m->before.h;
        m->pitch =
            larger(m->pitch, (l->before.w + s->in.size.w - 1) / l->stride.w + 1) + m->before.w;
    }
    m->plane = m->rows * m->pitch;
    if (s->pool ||
        m->plane > m->size.h * m->size.w) { /* a copy: not a power of two, for the cache */
        m->plane |= 1;
    }
    m->first = m->before.h * m->pitch + m->before.w;
    m->total = size_product_or_max(m->plane, m->channels);
    g->phase_count =
        g->input ? smaller(l->stride.h, s->in.size.h) * smaller(l->stride.w, s->in.size.w) : 0;
    g->winograd_input = g->input && s->winograd.tiles > 0;
    if (g->winograd_input) {
        lanes_winograd_grad_plan(s, &g->winograd);
    }
    lanes_patches_plan(p, s, &g->patches);
}

/* Lists the taps of an axis that meet input pixels of this residue, and for each the distance from
 * the input pixel's quotient by the stride to its output pixel. Returns their number. */
static size_t taps_of(size_t residue, size_t kernel, size_t stride, size_t dilation, size_t *taps,
                      ptrdiff_t *offsets)
{
    size_t count = 0;
    for (size_t k = 0; k < kernel; k++) {
        const ptrdiff_t distance = (ptrdiff_t)residue - (ptrdiff_t)(k * dilation);
        if (distance % (ptrdiff_t)stride == 0) {
            taps[count] = k;
            offsets[count++] = distance / (ptrdiff_t)stride;
        }
    }
    return count;
}

/* Packs the weights of a phase. */
static void pack_phase(const struct lanes_plan *p, const struct lanes_stage *s, struct conv_grad *g,
                       const struct phase *phase, const size_t *rows, const size_t *columns,
                       size_t row_count, size_t column_count)
{
    const struct layer *l = &s->layer;
    const size_t taps = l->kernel.h * l->kernel.w;
    char *to = g->weights + phase->weights_at * p->size;
    for (size_t group = 0; group < l->groups; group++) {
        for (size_t c = 0; c < s->channels; c++) {
            for (size_t f = 0; f < s->filters; f++) {
                const size_t filter = group * s->filters + f;
                const char *from =
                    (const char *)l->weight + (filter * s->channels + c) * taps * p->size;
                for (size_t i = 0; i < row_count * column_count; i++, to += p->size) {
                    const size_t tap =
                        rows[i / column_count] * l->kernel.w + columns[i % column_count];
                    memcpy(to, from + tap * p->size, p->size);
                }
            }
        }
    }
}

static void fill_phases(const struct lanes_plan *p, const struct lanes_stage *s,
                        struct conv_grad *g, const struct tap_lists *lists)
{
    const struct layer *l = &s->layer;
    const struct lanes_map *m = &g->map;
    const struct extent2 in = s->in.size;
    size_t pixel = 0, tap = 0, weight = 0;
    struct phase *phase = g->phases;
    for (size_t top = 0; top < smaller(l->stride.h, in.h); top++) {
        for (size_t left = 0; left < smaller(l->stride.w, in.w); left++, phase++) {
            const size_t rows = taps_of((top + l->before.h) % l->stride.h, l->kernel.h, l->stride.h,
                                        l->dilation.h, lists->rows, lists->row_offsets),
                         columns =
                             taps_of((left + l->before.w) % l->stride.w, l->kernel.w, l->stride.w,
                                     l->dilation.w, lists->columns, lists->column_offsets);
            *phase = (struct phase){
                .first = pixel, .taps_at = tap, .taps = rows * columns, .weights_at = weight};
            for (size_t y = top; y < in.h; y += l->stride.h) {
                for (size_t x = left; x < in.w; x += l->stride.w, pixel++) {
                    g->pixels[pixel] =
                        (ptrdiff_t)((((y + l->before.h) / l->stride.h + m->before.h) * m->pitch +
                                     (x + l->before.w) / l->stride.w + m->before.w) *
                                    p->lanes);
                    g->outputs[pixel] = (ptrdiff_t)((y * in.w + x) * p->lanes);
                }
            }
            phase->pixels = pixel - phase->first;
            for (size_t f = 0; f < s->filters; f++) {
                for (size_t i = 0; i < rows * columns; i++) {
                    g->taps[tap++] = ((ptrdiff_t)(f * m->plane) +
                                      lists->row_offsets[i / columns] * (ptrdiff_t)m->pitch +
                                      lists->column_offsets[i % columns]) *
                                     (ptrdiff_t)p->lanes;
                }
            }
            pack_phase(p, s, g, phase, lists->rows, lists->columns, rows, columns);
            weight += l->out * s->channels * phase->taps;
        }
    }
}

static void fill_pixels(const struct lanes_plan *p, const struct lanes_stage *s,
                        struct conv_grad *g)
{
    const struct lanes_map *m = &g->map;
    const struct extent2 stride = s->layer.stride;
    fill_offsets(g->gradients, m->first * p->lanes, m->size.h, m->size.w, m->pitch * p->lanes,
                 p->lanes);
    fill_offsets(g->inputs, 0, m->size.h, m->size.w, stride.h * s->in.pitch * p->lanes,
                 stride.w * p->lanes);
}

/* A stage that pools takes blocks of windows: some windows of a row, or some whole rows. A block is
 * one kernel call. */
static struct extent2 window_block(const struct lanes_stage *s)
{
    const size_t most = CALL_PIXELS / 4, w = smaller(s->out.size.w, most);
    return (struct extent2){smaller(most / w, s->out.size.h), w};
}

/* The pixels of a block of windows, window by window. */
static void fill_windows(const struct lanes_plan *p, const struct lanes_stage *s,
                         struct conv_grad *g)
{
    const struct extent2 block = window_block(s), stride = s->layer.stride;
    for (size_t i = 0; i < 4 * block.h * block.w; i++) {
        const size_t window = i / 4, y = 2 * (window / block.w) + i % 4 / 2,
                     x = 2 * (window % block.w) + i % 2;
        g->window_gradients[i] = (ptrdiff_t)((y * 2 * block.w + x) * p->lanes);
        g->window_maps[i] = (ptrdiff_t)((g->map.first + y * g->map.pitch + x) * p->lanes);
        g->window_inputs[i] = (ptrdiff_t)((y * stride.h * s->in.pitch + x * stride.w) * p->lanes);
    }
}

/* Takes the tables of a convolution. */
void conv_grad_take(const struct lanes_plan *p, const struct lanes_stage *s, struct conv_grad *g,
                    struct arena *arena)
{
    const size_t out = g->map.size.h * g->map.size.w,
                 in = g->input ? s->in.size.h * s->in.size.w : 0,
                 taps = g->input ? s->layer.kernel.h * s->layer.kernel.w : 0;
    g->gradients = arena_take(arena, out, sizeof *g->gradients);
    g->inputs = arena_take(arena, out, sizeof *g->inputs);
    if (s->pool) {
        const struct extent2 block = window_block(s);
        const size_t pixels = 4 * block.h * block.w;
        g->window_gradients = arena_take(arena, pixels, sizeof *g->window_gradients);
        g->window_maps = arena_take(arena, pixels, sizeof *g->window_maps);
        g->window_inputs = arena_take(arena, pixels, sizeof *g->window_inputs);
    }
    g->phases = arena_take(arena, g->phase_count, sizeof *g->phases);
    g->pixels = arena_take(arena, in, sizeof *g->pixels);
    g->outputs = arena_take(arena, in, sizeof *g->outputs);
    g->taps = arena_take(arena, taps * s->filters, sizeof *g->taps);
    g->weights = arena_take(arena, taps * s->layer.out * s->channels, p->size);
    if (g->winograd_input) {
        lanes_winograd_grad_take(p, s, &g->winograd, arena);
    }
    lanes_patches_take(&g->patches, arena);
}

void conv_grad_fill(const struct lanes_plan *p, const struct lanes_stage *s, struct conv_grad *g,
                    bool by_definition, const struct tap_lists *lists)
{
    fill_pixels(p, s, g);
    if (s->pool) {
        fill_windows(p, s, g);
    }
    if (g->input && (by_definition || !g->winograd_input)) {
        fill_phases(p, s, g, lists);
    }
    if (g->winograd_input) {
        lanes_winograd_grad_fill(p, s, &g->winograd);
    }
    lanes_patches_fill(s, &g->patches);
}

const char *conv_grad_spread(const struct lanes_plan *p, const struct lanes_stage *s,
                             const struct conv_grad *g, const char *choices, const char *gradient,
                             char *map)
{
    const struct lanes_map *m = &g->map;
    const size_t vector = vector_bytes(p), width = s->out.size.w;
    if (!s->pool && is_dense(m)) {
        return gradient;
    }
    lanes_clear_border(p, m, map);
    for (size_t c = 0; c < m->channels; c++) {
        char *rows = map + (c * m->plane + m->first) * vector;
        for (size_t y = 0; y < s->out.size.h; y++) {
            const size_t from = ((c * s->out.size.h + y) * width) * vector;
            if (s->pool) {
                p->kernels->unpool(rows + 2 * y * m->pitch * vector, m->pitch * p->lanes,
                                   choices + from, gradient + from, width);
            } else {
                memcpy(rows + y * m->pitch * vector, gradient + from, width * vector);
            }
        }
    }
    return map;
}

void conv_grad_spread_tiles(const struct lanes_plan *p, const struct lanes_stage *s,
                            const struct conv_grad *g, const char *choices, const char *gradient,
                            char *tiles)
{
    const struct lanes_winograd_gradients *w = &g->winograd;
    const size_t vector = vector_bytes(p), row = w->columns * vector,
                 rest = w->rows - g->map.size.h;
    for (size_t c = 0; c < s->layer.out; c++) {
        for (size_t y = 0; y < s->out.size.h; y++, gradient += s->out.size.w * vector) {
            if (s->pool) {
                p->kernels->unpool(tiles, w->columns * p->lanes, choices, gradient, s->out.size.w);
                choices += s->out.size.w * vector;
            } else {
                memcpy(tiles, gradient, row);
            }
            tiles += s->unit * row;
        }
        memset(tiles, 0, rest * row);
        tiles += rest * row;
    }
}

/* The products of one block of windows (y, x) to (y + rows, x + columns), with the gradients of
 * d->filters filters from `filter` on. They are added to the sums of earlier blocks. */
static void block_products(const struct lanes_plan *p, const struct lanes_stage *s, size_t y,
                           size_t x, size_t filter, const char *input, struct lanes_products *d)
{
    const struct extent2 block = window_block(s);
    const size_t vector = vector_bytes(p), channel = filter / s->filters * s->channels,
                 rows = smaller(s->out.size.h - y, block.h),
                 columns = smaller(s->out.size.w - x, block.w);
    d->input = input + (channel * s->in.plane + 2 * y * s->layer.stride.h * s->in.pitch +
                        2 * x * s->layer.stride.w) *
                           vector;
    d->pixels = 4 * rows * columns;
    p->kernels->products(d);
    d->add = true;
}

void conv_grad_weight(const struct lanes_plan *p, const struct lanes_stage *s,
                      const struct conv_grad *g, const char *input, const char *map, bool add,
                      char *sums)
{
    const size_t vector = vector_bytes(p), pixels = g->map.size.h * g->map.size.w;
    const struct extent2 block = window_block(s);
    for (size_t group = 0; group < s->layer.groups; group++) {
        const size_t filter = group * s->filters;
        const char *gradient = map + filter * g->map.plane * vector;
        struct lanes_products d = {
            .gradient = gradient,
            .map_step = g->map.plane * p->lanes,
            .input = input + group * s->channels * s->in.plane * vector,
            .entry_offsets = s->taps,
            .filters = s->filters,
            .entries = s->depth,
            .sums = sums + filter * s->depth * vector,
        };
        for (size_t i = 0; !s->pool && i < pixels && !cancel_poll_here(); i += CALL_PIXELS) {
            d.gradient_offsets = g->gradients + i;
            d.input_offsets = g->inputs + i;
            d.pixels = smaller(pixels - i, CALL_PIXELS);
            d.add = add || i > 0;
            p->kernels->products(&d);
        }
        d.gradient_offsets = g->window_maps;
        d.input_offsets = g->window_inputs;
        d.add = add;
        for (size_t y = 0; s->pool && y < s->out.size.h && !cancel_poll_here(); y += block.h) {
            for (size_t x = 0; x < s->out.size.w; x += block.w) {
                d.gradient = gradient + 2 * (y * g->map.pitch + x) * vector;
                block_products(p, s, y, x, filter, input, &d);
            }
        }
    }
}

void conv_grad_weight_of_pooled(const struct lanes_plan *p, const struct lanes_stage *s,
                                const struct conv_grad *g, const char *input,
                                const struct pooled_gradient *pooled, bool add, char *windows,
                                char *sums)
{
    enum { L1_BYTES = 32 << 10 };
    const struct extent2 out = s->out.size, block = window_block(s);
    const size_t vector = vector_bytes(p), pixels = 4 * block.h * block.w,
                 most = larger(L1_BYTES / (pixels * vector), 1),
                 filters = size_parts(s->filters, size_parts(s->filters, most));
    for (size_t filter = 0, n; filter < s->layer.out; filter += n) {
        n = smaller((filter / s->filters + 1) * s->filters - filter, filters);
        struct lanes_products d = {
            .gradient = windows,
            .map_step = pixels * p->lanes,
            .gradient_offsets = g->window_gradients,
            .input_offsets = g->window_inputs,
            .entry_offsets = s->taps,
            .filters = n,
            .entries = s->depth,
            .add = add,
            .sums = sums + filter * s->depth * vector,
        };
        for (size_t y = 0; y < out.h && !cancel_poll_here(); y += block.h) {
            const size_t rows = smaller(out.h - y, block.h);
            for (size_t x = 0; x < out.w; x += block.w) {
                for (size_t i = 0; i < n * rows; i++) {
                    const size_t row = i % rows, f = i / rows,
                                 at = (((filter + f) * out.h + y + row) * out.w + x) * vector;
                    p->kernels->unpool(windows + (f * block.h + row) * 4 * block.w * vector,
                                       2 * block.w * p->lanes, pooled->choices + at,
                                       pooled->values + at, smaller(out.w - x, block.w));
                }
                block_products(p, s, y, x, filter, input, &d);
            }
        }
    }
}

void conv_grad_input(const struct lanes_plan *p, const struct lanes_stage *s,
                     const struct conv_grad *g, const char *map, char *output)
{
    const size_t vector = vector_bytes(p), pixels = s->in.size.h * s->in.size.w;
    for (size_t group = 0; group < s->layer.groups; group++) {
        for (size_t i = 0; i < g->phase_count; i++) {
            const struct phase *phase = &g->phases[i];
            const size_t depth = s->filters * phase->taps,
                         most = larger(CHAIN_STEPS / larger(phase->taps, 1), 1);
            const char *weights =
                g->weights + (phase->weights_at + group * s->channels * depth) * p->size;
            /* The maps of a chain's filters stay in the L1 cache for the pixels of a call. */
            for (size_t at = 0; at < phase->pixels && !cancel_poll_here(); at += CALL_PIXELS) {
                for (size_t f = 0; f == 0 || f < s->filters; f += most) {
                    const size_t steps = smaller(s->filters - f, most) * phase->taps;
                    const struct lanes_conv c = {
                        .weight = weights + f * phase->taps * p->size,
                        .filter_step = depth,
                        .depth_step = 1,
                        .input = map + group * s->filters * g->map.plane * vector,
                        .pixel_offsets = g->pixels + phase->first + at,
                        .tap_offsets = g->taps + phase->taps_at + f * phase->taps,
                        .depth = steps,
                        .chain = larger(steps, 1),
                        .add = f > 0,
                        .output = output + group * s->channels * pixels * vector,
                        .map_step = pixels * p->lanes,
                        .output_offsets = g->outputs + phase->first + at,
                    };
                    p->kernels->conv(&c, s->channels, smaller(phase->pixels - at, CALL_PIXELS));
                }
            }
        }
    }
}
