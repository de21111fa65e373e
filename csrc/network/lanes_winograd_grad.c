/* The gradients of convolutions by Winograd's algorithm, with lanes across images. */
#include "network/lanes_winograd_grad.h"

#include <string.h>

#include "base/cancel.h"
#include "network/lanes_winograd.h"

enum {
    BATCH_COLUMNS = 64, /* of the output: products of a sum before it leaves the registers */
    BLOCK_BYTES = 320   /* of one vector for each filter of a block */
};

/* ---- the plan ---- */

void lanes_winograd_grad_plan(const struct lanes_plan *p, const struct lanes_stage *s, bool input,
                              size_t vectors, struct lanes_winograd_gradients *g)
{
    const struct layer *l = &s->layer;
    const struct lanes_winograd *w = &s->winograd;
    const size_t after = s->in.size.w + l->before.w, /* end of the columns of the input */
        most = larger(BATCH_COLUMNS / w->width, 1);
    g->rows = LANES_WINOGRAD_ROWS * w->tiles;
    g->columns = w->width;
    g->vectors = larger(smaller(most / w->tiles, vectors), 1);
    g->tiles = smaller(g->vectors * w->tiles, most);
    g->in_columns = w->width + l->kernel.w - 1;
    g->block = size_parts(s->filters,
                          size_parts(s->filters, larger(BLOCK_BYTES / (p->lanes * p->size), 1)));
    g->border = input ? larger(l->kernel.w - 1, after > w->width ? after - w->width : 0) : 0;
    g->row = w->width + 2 * g->border;
}

void lanes_winograd_grad_take(const struct lanes_plan *p, const struct lanes_stage *s, bool input,
                              struct lanes_winograd_gradients *g, struct arena *arena)
{
    const size_t width = s->layer.kernel.w, columns = g->tiles * g->columns;
    g->gradients = arena_take(arena, columns, sizeof *g->gradients);
    g->inputs = arena_take(arena, columns, sizeof *g->inputs);
    g->entries = arena_take(arena, s->channels * width, sizeof *g->entries);
    g->filters = NULL;
    if (input) {
        g->in_at = arena_take(arena, s->in.size.w, sizeof *g->in_at);
        g->out_at = arena_take(arena, s->in.size.w, sizeof *g->out_at);
        g->taps = arena_take(arena, s->filters * width, sizeof *g->taps);
        g->filters = arena_take(arena, s->layer.groups * lanes_winograd_elements(s), p->size);
    }
}

void lanes_winograd_grad_fill(const struct lanes_plan *p, const struct lanes_stage *s,
                              struct lanes_winograd_gradients *g)
{
    const size_t width = s->layer.kernel.w, lanes = p->lanes;
    for (size_t i = 0; i < g->tiles * g->columns; i++) {
        g->gradients[i] = (ptrdiff_t)(i * lanes);
        g->inputs[i] = (ptrdiff_t)((i / g->columns * g->in_columns + i % g->columns) * lanes);
    }
    for (size_t i = 0; i < s->channels * width; i++) {
        g->entries[i] = (ptrdiff_t)((i / width * g->tiles * g->in_columns + i % width) * lanes);
    }
    if (g->filters == NULL) {
        return;
    }
    for (size_t x = 0; x < s->in.size.w; x++) {
        g->in_at[x] = (ptrdiff_t)((g->border + x + s->layer.before.w) * lanes);
        g->out_at[x] = (ptrdiff_t)(x * lanes);
    }
    for (size_t i = 0; i < s->filters * width; i++) {
        g->taps[i] = ((ptrdiff_t)(i / width * g->row) - (ptrdiff_t)(i % width)) * (ptrdiff_t)lanes;
    }
    lanes_winograd_filters(p, s, g->filters, true);
}

/* ---- the gradient of the input ---- */

size_t lanes_winograd_grad_scratch(const struct lanes_plan *p, const struct lanes_stage *s,
                                   const struct lanes_winograd_gradients *g)
{
    return size_sum_or_max(lanes_winograd_bytes(p, s->filters, g->row),
                           lanes_winograd_bytes(p, lanes_winograd_part(s->channels), s->in.size.w));
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
    const size_t vector = p->lanes * p->size, part = lanes_winograd_part(s->channels),
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

/* ---- the gradients of the filters ---- */

/* The memory of one call. Transforms are (8, filters of a block, tiles, columns) and (8, channels,
 * tiles, columns), sums (8, filters of a block, channels, width). */
struct filters_call {
    const struct lanes_plan *plan;
    const struct lanes_stage *stage;
    const struct lanes_winograd_gradients *g;
    size_t gradient_step, input_step;
    char *gradients, *inputs, *sums, *vectors, *numbers;
};

/* Sets the arrays of a call in `memory`. Returns their bytes. */
static size_t take_arrays(struct filters_call *r, char *memory)
{
    const struct lanes_stage *s = r->stage;
    const struct lanes_winograd_gradients *g = r->g;
    const size_t vector = r->plan->lanes * r->plan->size, sums = LANES_WINOGRAD_SUMS * vector,
                 blocks = size_parts(s->filters, g->block) * s->layer.groups;
    struct arena arena = {.block = memory};
    r->gradient_step = lanes_winograd_step(g->block, g->tiles * g->columns);
    r->input_step = lanes_winograd_step(s->in.channels, g->tiles * g->in_columns);
    r->gradients = arena_take(&arena, r->gradient_step, sums);
    r->inputs = arena_take(&arena, r->input_step, sums);
    /* All blocks have sums if the tiles of a batch are not multiplied at one time. */
    r->sums = arena_take(
        &arena,
        size_product_or_max((g->tiles < g->vectors * s->winograd.tiles ? blocks : 1) * g->block,
                            s->channels * s->layer.kernel.w),
        sums);
    r->vectors = arena_take(&arena, s->depth, vector);
    r->numbers = arena_take(&arena, s->depth, r->plan->size);
    return arena.bytes;
}

size_t lanes_winograd_filters_scratch(const struct lanes_plan *p, const struct lanes_stage *s,
                                      const struct lanes_winograd_gradients *g)
{
    struct filters_call call = {.plan = p, .stage = s, .g = g};
    return take_arrays(&call, NULL);
}

/* Transforms the inputs of tiles [first, end). */
static void transform_inputs(const struct filters_call *r, const char *inputs, size_t first,
                             size_t end)
{
    const struct lanes_plan *p = r->plan;
    const struct lanes_stage *s = r->stage;
    const size_t vector = p->lanes * p->size;
    for (size_t tile = first; tile < end; tile++) {
        const char *in = inputs + tile / s->winograd.tiles * lanes_bytes(p, &s->in) +
                         tile % s->winograd.tiles * LANES_WINOGRAD_ROWS * s->in.pitch * vector;
        for (size_t c = 0; c < s->in.channels; c++) {
            p->kernels->winograd_input(r->inputs + (c * r->g->tiles + tile - first) *
                                                       r->g->in_columns * vector,
                                       r->input_step * p->lanes, in + c * s->in.plane * vector,
                                       s->in.pitch * p->lanes, r->g->in_columns);
        }
    }
}

/* Transforms the gradients of tiles [first, end) of n filters. */
static void transform_gradients(const struct filters_call *r, const char *maps, size_t filter,
                                size_t n, size_t first, size_t end)
{
    const struct lanes_plan *p = r->plan;
    const struct lanes_stage *s = r->stage;
    const struct lanes_winograd_gradients *g = r->g;
    const size_t vector = p->lanes * p->size, tiles = s->winograd.tiles;
    for (size_t f = 0; f < n; f++) {
        for (size_t tile = first; tile < end; tile++) {
            const char *map =
                maps + tile / tiles * lanes_winograd_map_bytes(p, s, g) +
                ((filter + f) * g->rows + tile % tiles * LANES_WINOGRAD_ROWS) * g->columns * vector;
            p->kernels->winograd_output_gradient(
                r->gradients + (f * g->tiles + tile - first) * g->columns * vector,
                r->gradient_step * p->lanes, map, g->columns * p->lanes, g->columns);
        }
    }
}

/* Adds the products of `tiles` tiles and of n filters of a group to their sums. */
static void multiply(const struct filters_call *r, size_t group, size_t n, size_t tiles, bool add,
                     char *sums)
{
    const struct lanes_plan *p = r->plan;
    const struct lanes_stage *s = r->stage;
    const struct lanes_winograd_gradients *g = r->g;
    const size_t vector = p->lanes * p->size, entries = s->channels * s->layer.kernel.w,
                 channel = group * s->channels * g->tiles * g->in_columns;
    for (size_t i = 0; i < LANES_WINOGRAD_SUMS; i++) {
        const struct lanes_products d = {
            .gradient = r->gradients + i * r->gradient_step * vector,
            .map_step = g->tiles * g->columns * p->lanes,
            .gradient_offsets = g->gradients,
            .input = r->inputs + (i * r->input_step + channel) * vector,
            .input_offsets = g->inputs,
            .entry_offsets = g->entries,
            .pixels = tiles * g->columns,
            .filters = n,
            .entries = entries,
            .add = add,
            .sums = sums + i * g->block * entries * vector,
        };
        p->kernels->products(&d);
    }
}

/* Writes the gradients of n filters from their sums. */
static void finish(const struct filters_call *r, const struct lanes_winograd_batch *batch,
                   const char *sums, size_t n, char *out)
{
    const struct lanes_plan *p = r->plan;
    const struct lanes_stage *s = r->stage;
    const size_t vector = p->lanes * p->size, entries = s->channels * s->layer.kernel.w;
    for (size_t f = 0; f < n; f++) {
        char *to = out + f * s->depth * p->size;
        p->kernels->winograd_filter_gradient(r->vectors, sums + f * entries * vector,
                                             r->g->block * entries * p->lanes, s->channels,
                                             s->layer.kernel.w);
        p->kernels->reduce(batch->add ? r->numbers : to, r->vectors, batch->images, s->depth);
        if (batch->add) {
            kernels_current()->layers[p->compute].add_rows(to, s->depth, 1, r->numbers, s->depth, 1,
                                                           s->depth);
        }
    }
}

void lanes_winograd_grad_filters(const struct lanes_plan *p, const struct lanes_stage *s,
                                 const struct lanes_winograd_gradients *g,
                                 const struct lanes_winograd_batch *batch, char *scratch)
{
    struct filters_call r = {.plan = p, .stage = s, .g = g};
    const size_t all = batch->vectors * s->winograd.tiles,
                 blocks = size_parts(s->filters, g->block),
                 block_bytes = LANES_WINOGRAD_SUMS * g->block * s->channels * s->layer.kernel.w *
                               p->lanes * p->size;
    take_arrays(&r, scratch);
    for (size_t first = 0, end; first < all && !cancel_poll_here(); first = end) {
        end = smaller(all, first + g->tiles);
        transform_inputs(&r, batch->inputs, first, end);
        for (size_t i = 0; i < blocks * s->layer.groups; i++) {
            const size_t group = i / blocks, at = i % blocks * g->block,
                         n = smaller(s->filters - at, g->block), filter = group * s->filters + at;
            char *sums = r.sums + (g->tiles < g->vectors * s->winograd.tiles ? i * block_bytes : 0);
            transform_gradients(&r, batch->maps, filter, n, first, end);
            multiply(&r, group, n, end - first, first > 0, sums);
            if (end == all) {
                finish(&r, batch, sums, n, batch->out + filter * s->depth * p->size);
            }
        }
    }
}
