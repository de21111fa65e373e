/* Layers with lanes across images: plans stages and transposes images. */
#include "network/lanes_plan.h"

#include <string.h>

#include "base/scratch.h"

enum {
    CHAIN_STEPS = 256, /* approximate limit of the terms of a chain, as in conv2d/conv2d.c */
    /* smallest number of output pixels in a kernel call, unless the map is smaller */
    CALL_PIXELS = 64,
    /* Limit of the bytes of one map. The input and the output of a stage should stay in the
     * cache. */
    MAP_BYTES = 4 << 20,
    /* Smallest number of multiplications for each element of the network's input and output. With
     * fewer, the transposition of the images takes more time than the vectors save. */
    LEAST_INTENSITY = 64
};

/* Returns the map of a shape, without a border. The stage that reads the map adds the border. */
static struct lanes_map map_of(const struct shape *s)
{
    const struct lanes_map map = {.channels = s->channels,
                                  .size = s->flat ? (struct extent2){1, 1} : s->size};
    return map;
}

/* Sizes the border of the map that a convolution reads. Winograd reads whole tiles. */
static void add_border(struct lanes_stage *s)
{
    const struct layer *l = &s->layer;
    struct lanes_map *map = &s->in;
    const struct extent2 out = {larger(s->computed.h, LANES_WINOGRAD_ROWS * s->winograd.tiles),
                                s->computed.w};
    const size_t rows = (out.h - 1) * l->stride.h + (l->kernel.h - 1) * l->dilation.h + 1,
                 columns = (out.w - 1) * l->stride.w + (l->kernel.w - 1) * l->dilation.w + 1;
    map->before = l->before;
    map->rows = larger(rows, map->size.h + l->before.h);
    map->pitch = larger(columns, map->size.w + l->before.w);
}

/* Returns false if the map is too large. */
static bool finish_map(struct lanes_map *map, size_t vector_bytes)
{
    map->rows = larger(map->rows, map->size.h);
    map->pitch = larger(map->pitch, map->size.w);
    map->plane = size_product_or_max(map->rows, map->pitch);
    map->total = size_product_or_max(map->plane, map->channels);
    if (size_product_or_max(map->total, vector_bytes) > MAP_BYTES) {
        return false;
    }
    map->first = map->before.h * map->pitch + map->before.w;
    return true;
}

/* Sets the sizes of a convolution's or linear layer's sums. */
static void plan_sums(struct lanes_stage *s)
{
    const struct layer *l = &s->layer;
    const bool conv = l->kind == LAYER_CONV2D;
    const size_t groups = conv ? l->groups : 1, taps = conv ? l->kernel.h * l->kernel.w : 1;
    s->channels = l->in;
    s->filters = l->out / groups;
    s->depth = s->channels * taps;
    const size_t most = larger(smaller(CHAIN_STEPS / taps, s->channels), 1),
                 chains = larger(size_parts(s->channels, most), 1);
    s->chain = larger(size_parts(s->channels, chains) * taps, 1);
    s->unit = s->pool ? 2 : 1;
    s->units = s->computed.h / s->unit;
    s->unit_pixels = s->computed.w / s->unit * s->unit * s->unit;
    const size_t calls = larger(s->units * s->unit_pixels / CALL_PIXELS, 1);
    s->unit_block = size_parts(s->units, calls);
}

/*
 * Plans Winograd's algorithm for a convolution if it is faster. The costs are multiply-adds, and
 * operations that take about as long: the input transform of a column of one channel, the output
 * transform of a column of one filter. The sizes of the layer alone decide, so all images of all
 * batches are computed in the same way.
 */
static void plan_winograd(const struct lanes_plan *p, struct lanes_stage *s)
{
    enum { INPUT_COST = 60, OUTPUT_COST = 60, TRANSFORM_BYTES = 512 << 10 };
    const struct layer *l = &s->layer;
    const size_t height = s->computed.h / s->unit * s->unit,
                 width = s->computed.w / s->unit * s->unit,
                 tiles = size_parts(height, LANES_WINOGRAD_ROWS),
                 pitch = width + (l->kernel.w - 1) * l->dilation.w;
    if (l->kernel.h != 5 || l->kernel.w > LANES_WINOGRAD_WIDTH || l->stride.h != 1 ||
        l->stride.w != 1 || l->dilation.h != 1 || l->dilation.w != 1 || tiles == 0 || width == 0) {
        return;
    }
    const size_t most = larger(s->channels, s->filters);
    if (size_product_or_max(most, size_product_or_max(pitch, p->lanes * p->size)) >
        TRANSFORM_BYTES / LANES_WINOGRAD_SUMS) {
        return;
    }
    /* The costs are whole numbers, because the caller's floating-point mode may trap. `products`
     * and `column`, the costs of one row of pixels, cannot overflow: they are bounded above. */
    const size_t products = s->channels * s->filters * l->kernel.w * width,
                 column = LANES_WINOGRAD_SUMS * products + INPUT_COST * s->channels * pitch +
                          OUTPUT_COST * s->filters * width;
    if (size_product_or_max(12 * column, tiles) < size_product_or_max(50 * products, height)) {
        s->winograd.tiles = tiles;
        s->winograd.width = width;
    }
}

/* Makes stages of the layers. Returns false if a map is too large. */
static bool make_stages(struct lanes_plan *p, const struct layer *layers, size_t count,
                        struct shape shape)
{
    size_t fused;
    p->count = p->mapped = 0;
    p->multiplications = 0;
    for (size_t i = 0; i < count; i += fused) {
        struct lanes_stage *s = &p->stages[p->count];
        const bool flat = shape.flat;
        fused = network_fused(layers + i, count - i);
        memset(s, 0, sizeof *s);
        s->layer = layers[i];
        s->number = i;
        s->relu = fused > 1 && layers[i + 1].kind == LAYER_RELU;
        s->pool = fused > 1 + (size_t)s->relu;
        s->in = map_of(&shape);
        shape_after(&layers[i], &shape);
        s->computed = shape.flat ? (struct extent2){1, 1} : shape.size;
        if (s->pool) {
            shape_after(&layers[i + fused - 1], &shape);
        }
        if (layers[i].kind == LAYER_FLATTEN) { /* the same vectors in the same order */
            continue;
        }
        if (layers[i].kind == LAYER_CONV2D || layers[i].kind == LAYER_LINEAR) {
            plan_sums(s);
            p->multiplications = size_sum_or_max(
                p->multiplications,
                size_product_or_max(size_product_or_max(s->depth, layers[i].out),
                                    size_product_or_max(s->computed.h, s->computed.w)));
        }
        if (layers[i].kind == LAYER_CONV2D) {
            plan_winograd(p, s);
            add_border(s);
        }
        s->out = map_of(&shape);
        if (!finish_map(&s->in, p->lanes * p->size)) {
            return false;
        }
        p->count++;
        p->mapped += !flat;
    }
    for (size_t i = 0; i + 1 < p->count; i++) { /* the next stage decides the border */
        struct lanes_map *out = &p->stages[i].out;
        const struct lanes_map *next = &p->stages[i + 1].in;
        if (i + 1 < p->mapped) {
            *out = *next;
        }
    }
    for (size_t i = 0; i < p->count; i++) {
        struct lanes_stage *s = &p->stages[i];
        if (s->out.rows == 0 && !finish_map(&s->out, p->lanes * p->size)) {
            return false;
        }
    }
    return true;
}

static void begin(struct lanes_plan *p, enum compute_type compute, size_t images)
{
    p->compute = compute;
    p->kernels = &kernels_current()->lanes[compute];
    p->size = compute_size(compute);
    p->lanes = p->kernels->lanes;
    p->images = images;
    p->vectors = size_parts(images, p->lanes);
    p->tables = NULL;
}

bool lanes_apply(enum compute_type compute, const struct layer *layers, size_t count, size_t images,
                 struct shape shape)
{
    struct lanes_plan p;
    bool convolutions = false;
    begin(&p, compute, images);
    for (size_t i = 0; i < count; i++) {
        convolutions |= layers[i].kind == LAYER_CONV2D;
    }
    if (!convolutions || images < p.lanes || !make_stages(&p, layers, count, shape)) {
        return false;
    }
    const struct lanes_map *in = &p.stages[0].in, *out = &p.stages[p.count - 1].out;
    const size_t elements =
        in->channels * in->size.h * in->size.w + out->channels * out->size.h * out->size.w;
    return p.multiplications / LEAST_INTENSITY >= elements;
}

/* Fills the tables of offsets of a convolution: of its taps, in the order of the weights, and of
 * its pixels. */
static void fill_conv(const struct lanes_plan *p, struct lanes_stage *s)
{
    const struct layer *l = &s->layer;
    const size_t lanes = p->lanes, columns = s->computed.w / s->unit,
                 row_step = l->stride.h * s->in.pitch * lanes, column_step = l->stride.w * lanes;
    ptrdiff_t *tap = s->taps, *pixel = s->pixels;
    for (size_t c = 0; c < s->channels; c++) {
        tap = fill_offsets(tap, c * s->in.plane * lanes, l->kernel.h, l->kernel.w,
                           l->dilation.h * s->in.pitch * lanes, l->dilation.w * lanes);
    }
    fill_offsets(s->outputs, 0, s->unit_block, columns, s->out.pitch * lanes, lanes);
    fill_offsets(s->choices, 0, s->unit_block, columns, s->out.size.w * lanes, lanes);
    for (size_t i = 0; i < s->unit_block * columns; i++) {
        const size_t first = i / columns * row_step + i % columns * column_step;
        pixel = fill_offsets(pixel, s->unit * first, s->unit, s->unit, row_step, column_step);
    }
}

size_t lanes_winograd_elements(const struct lanes_stage *s)
{
    return LANES_WINOGRAD_SUMS * s->filters * s->channels * s->layer.kernel.w;
}

void lanes_winograd_filters(const struct lanes_plan *p, const struct lanes_stage *s, char *out,
                            bool transposed)
{
    for (size_t group = 0; group < s->layer.groups; group++) {
        p->kernels->winograd_filters(out + group * lanes_winograd_elements(s) * p->size,
                                     (const char *)s->layer.weight +
                                         group * s->filters * s->depth * p->size,
                                     s->filters, s->channels, s->layer.kernel.w, transposed);
    }
}

static void take_winograd(const struct lanes_plan *p, struct lanes_stage *s, struct arena *arena)
{
    struct lanes_winograd *w = &s->winograd;
    w->columns = arena_take(arena, w->width, sizeof *w->columns);
    w->taps = arena_take(arena, s->channels * s->layer.kernel.w, sizeof *w->taps);
    w->filters = arena_take(arena, s->layer.groups * lanes_winograd_elements(s), p->size);
}

static void fill_winograd(const struct lanes_plan *p, struct lanes_stage *s)
{
    struct lanes_winograd *w = &s->winograd;
    fill_steps(w->columns, w->width, p->lanes);
    fill_offsets(w->taps, 0, s->channels, s->layer.kernel.w, s->in.pitch * p->lanes, p->lanes);
    lanes_winograd_filters(p, s, w->filters, false);
}

int lanes_plan(struct lanes_plan *p, enum compute_type compute, const struct layer *layers,
               size_t count, size_t images, struct shape shape)
{
    struct arena arena = {.block = NULL};
    begin(p, compute, images);
    make_stages(p, layers, count, shape);
    while (arena_pass(&arena)) {
        for (size_t i = 0; i < p->count; i++) {
            struct lanes_stage *s = &p->stages[i];
            const size_t outputs = s->unit_block * s->unit_pixels;
            if (s->layer.kind == LAYER_CONV2D) {
                s->taps = arena_take(&arena, s->depth, sizeof *s->taps);
                s->pixels = arena_take(&arena, outputs, sizeof *s->pixels);
                s->outputs = arena_take(&arena, outputs, sizeof *s->outputs);
                s->choices = arena_take(&arena, outputs, sizeof *s->choices);
                if (s->winograd.tiles > 0) {
                    take_winograd(p, s, &arena);
                }
            } else if (s->layer.kind == LAYER_LINEAR) {
                s->taps = arena_take(&arena, s->depth, sizeof *s->taps);
            }
        }
    }
    p->tables = arena.block;
    if (arena.block == NULL) {
        return -1;
    }
    for (size_t i = 0; i < p->count; i++) {
        struct lanes_stage *s = &p->stages[i];
        if (s->layer.kind == LAYER_CONV2D) {
            fill_conv(p, s);
            if (s->winograd.tiles > 0) {
                fill_winograd(p, s);
            }
        } else if (s->layer.kind == LAYER_LINEAR) {
            fill_steps(s->taps, s->depth, p->lanes);
        }
    }
    return 0;
}

void lanes_plan_free(struct lanes_plan *p)
{
    scratch_free(p->tables);
}

size_t lanes_block(const struct lanes_plan *p, int threads)
{
    const size_t block = threads == 1 ? LANES_BLOCK : p->vectors / (2 * (size_t)threads);
    return larger(smaller(block, LANES_BLOCK), 1);
}

const struct lanes_map *lanes_input(const struct lanes_plan *p)
{
    return &p->stages[0].in;
}

const struct lanes_map *lanes_output(const struct lanes_plan *p)
{
    return &p->stages[p->count - 1].out;
}

void lanes_clear_border(const struct lanes_plan *p, const struct lanes_map *m, void *map)
{
    char *vectors = map;
    const size_t vector = p->lanes * p->size, after = m->pitch - m->size.w - m->before.w;
    if (is_dense(m)) {
        return;
    }
    for (size_t c = 0; c < m->channels; c++) {
        char *row = vectors + c * m->plane * vector;
        for (size_t y = 0; y < m->rows; y++, row += m->pitch * vector) {
            if (y < m->before.h || y >= m->before.h + m->size.h) {
                memset(row, 0, m->pitch * vector);
            } else {
                memset(row, 0, m->before.w * vector);
                memset(row + (m->pitch - after) * vector, 0, after * vector);
            }
        }
    }
}

void lanes_gather(const struct lanes_plan *p, const struct lanes_map *m, size_t v,
                  const void *images, void *vectors)
{
    const size_t pixels = m->size.h * m->size.w, elements = m->channels * pixels,
                 vector = p->lanes * p->size, count = lanes_images(p, v);
    const char *in = (const char *)images + v * p->lanes * elements * p->size;
    char *out = (char *)vectors + m->first * vector;
    if (is_dense(m)) {
        p->kernels->gather(out, in, elements, count, elements);
        return;
    }
    lanes_clear_border(p, m, vectors);
    for (size_t c = 0; c < m->channels; c++) {
        for (size_t y = 0; y < m->size.h; y++) {
            p->kernels->gather(out + (c * m->plane + y * m->pitch) * vector,
                               in + (c * pixels + y * m->size.w) * p->size, elements, count,
                               m->size.w);
        }
    }
}

void lanes_scatter(const struct lanes_plan *p, const struct lanes_map *m, size_t v,
                   const void *vectors, void *images)
{
    p->kernels->scatter((char *)images + v * p->lanes * m->total * p->size, m->total, vectors,
                        lanes_images(p, v), m->total);
}
