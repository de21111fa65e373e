/* Layers with lanes across images: plans stages, transposes images and runs a stage. */
#include "network/lanes_plan.h"

#include <string.h>

#include "base/cancel.h"
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

static size_t clamp_from_one(size_t n, size_t most)
{
    return n == 0 ? 1 : smaller(n, most);
}

/* Returns the map of a shape, without a border. The stage that reads the map adds the border. */
static struct lanes_map map_of(const struct shape *s)
{
    const struct lanes_map map = {.channels = s->channels,
                                  .size = s->flat ? (struct extent2){1, 1} : s->size};
    return map;
}

/* Sizes the border of the map that a convolution reads. */
static void add_border(struct lanes_map *map, const struct layer *l, struct extent2 out)
{
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
    const size_t most = clamp_from_one(CHAIN_STEPS / taps, larger(s->channels, 1)),
                 chains = larger(size_parts(s->channels, most), 1);
    s->chain = larger(size_parts(s->channels, chains) * taps, 1);
    s->unit = s->pool ? 2 : 1;
    s->units = s->computed.h / s->unit;
    s->unit_pixels = s->computed.w / s->unit * s->unit * s->unit;
    const size_t calls = larger(s->units * s->unit_pixels / CALL_PIXELS, 1);
    s->unit_block = size_parts(s->units, calls);
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
        if (layers[i].kind == LAYER_CONV2D) {
            add_border(&s->in, &s->layer, s->computed);
        }
        if (layers[i].kind == LAYER_CONV2D || layers[i].kind == LAYER_LINEAR) {
            plan_sums(s);
            p->multiplications = size_sum_or_max(
                p->multiplications,
                size_product_or_max(size_product_or_max(s->depth, layers[i].out),
                                    size_product_or_max(s->computed.h, s->computed.w)));
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
    const size_t lanes = p->lanes;
    ptrdiff_t *tap = s->taps, *pixel = s->pixels;
    for (size_t c = 0; c < s->channels; c++) {
        for (size_t y = 0; y < l->kernel.h; y++) {
            for (size_t x = 0; x < l->kernel.w; x++) {
                *tap++ = (ptrdiff_t)((c * s->in.plane + y * l->dilation.h * s->in.pitch +
                                      x * l->dilation.w) *
                                     lanes);
            }
        }
    }
    const size_t columns = s->computed.w / s->unit;
    for (size_t i = 0; i < s->unit_block * columns; i++) {
        const size_t row = i / columns, column = i % columns;
        s->outputs[i] = (ptrdiff_t)((row * s->out.pitch + column) * lanes);
        s->choices[i] = (ptrdiff_t)((row * s->out.size.w + column) * lanes);
        for (size_t j = 0; j < s->unit * s->unit; j++) {
            const size_t y = row * s->unit + j / s->unit, x = column * s->unit + j % s->unit;
            *pixel++ = (ptrdiff_t)((y * l->stride.h * s->in.pitch + x * l->stride.w) * lanes);
        }
    }
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
        } else if (s->layer.kind == LAYER_LINEAR) {
            for (size_t k = 0; k < s->depth; k++) {
                s->taps[k] = (ptrdiff_t)(k * p->lanes);
            }
        }
    }
    return 0;
}

void lanes_plan_free(struct lanes_plan *p)
{
    scratch_free(p->tables);
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
    if (m->plane == m->size.h * m->size.w) {
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
    if (m->plane == pixels) {
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

static void run_conv2d(const struct lanes_plan *p, const struct lanes_stage *s, const char *input,
                       char *output, char *choices)
{
    const struct layer *l = &s->layer;
    const size_t vector = p->lanes * p->size, chosen = s->out.size.h * s->out.size.w;
    struct lanes_conv c = {
        .filter_step = s->depth,
        .depth_step = 1,
        .pixel_offsets = s->pixels,
        .tap_offsets = s->taps,
        .depth = s->depth,
        .chain = s->chain,
        .relu = s->relu,
        .pool = s->pool,
        .map_step = s->out.plane * p->lanes,
        .output_offsets = s->outputs,
        .choice_step = chosen * p->lanes,
        .choice_offsets = s->choices,
    };
    lanes_clear_border(p, &s->out, output);
    for (size_t group = 0; group < l->groups; group++) {
        const size_t filter = group * s->filters;
        c.weight = (const char *)l->weight + filter * s->depth * p->size;
        c.bias = l->bias == NULL ? NULL : (const char *)l->bias + filter * p->size;
        for (size_t unit = 0, n; unit < s->units && !cancel_poll_here(); unit += n) {
            n = smaller(s->units - unit, s->unit_block);
            const size_t in = group * s->channels * s->in.plane +
                              unit * s->unit * l->stride.h * s->in.pitch,
                         out = filter * s->out.plane + s->out.first + unit * s->out.pitch,
                         chosen_at = filter * chosen + unit * s->out.size.w;
            c.input = input + in * vector;
            c.output = output + out * vector;
            c.choices = choices == NULL ? NULL : choices + chosen_at * vector;
            p->kernels->conv(&c, s->filters, n * s->unit_pixels);
        }
    }
}

/* Each vector of images is a pixel. */
static void run_linear(const struct lanes_plan *p, const struct lanes_stage *s, size_t vectors,
                       const char *input, char *output)
{
    enum { MOST = 16 };
    ptrdiff_t inputs[MOST], outputs[MOST];
    const size_t vector = p->lanes * p->size;
    for (size_t v = 0; v < MOST; v++) {
        inputs[v] = (ptrdiff_t)(v * s->in.total * p->lanes);
        outputs[v] = (ptrdiff_t)(v * s->out.total * p->lanes);
    }
    struct lanes_conv c = {
        .weight = s->layer.weight,
        .filter_step = s->depth,
        .depth_step = 1,
        .pixel_offsets = inputs,
        .tap_offsets = s->taps,
        .depth = s->depth,
        .chain = s->chain,
        .bias = s->layer.bias,
        .relu = s->relu,
        .map_step = p->lanes,
        .output_offsets = outputs,
    };
    for (size_t v = 0; v < vectors && !cancel_poll_here(); v += MOST) {
        c.input = input + v * s->in.total * vector;
        c.output = output + v * s->out.total * vector;
        p->kernels->conv(&c, s->filters, smaller(vectors - v, MOST));
    }
}

/* The pixels of window `at` along one axis: from the first one inside the image. */
static size_t first_inside(size_t at, size_t stride, size_t padding, size_t dilation)
{
    const size_t begin = at * stride;
    return begin >= padding ? 0 : size_parts(padding - begin, dilation);
}

static size_t last_inside(size_t at, size_t stride, size_t padding, size_t dilation, size_t kernel,
                          size_t in)
{
    const size_t begin = at * stride, end = in + padding;
    return begin >= end ? 0 : smaller(kernel, size_parts(end - begin, dilation));
}

size_t lanes_pool_window(const struct lanes_plan *p, const struct lanes_stage *s, size_t y,
                         size_t x, struct lanes_window *w)
{
    const struct layer *l = &s->layer;
    const struct extent2 in = s->in.size;
    const size_t top = first_inside(y, l->stride.h, l->before.h, l->dilation.h),
                 bottom =
                     last_inside(y, l->stride.h, l->before.h, l->dilation.h, l->kernel.h, in.h),
                 left = first_inside(x, l->stride.w, l->before.w, l->dilation.w),
                 right = last_inside(x, l->stride.w, l->before.w, l->dilation.w, l->kernel.w, in.w);
    w->rows = bottom > top ? bottom - top : 0;
    w->columns = right > left ? right - left : 0;
    w->row_step = l->dilation.h * s->in.pitch * p->lanes;
    w->column_step = l->dilation.w * p->lanes;
    if (w->rows == 0 || w->columns == 0) {
        w->rows = 0;
        return 0;
    }
    return (y * l->stride.h + top * l->dilation.h - l->before.h) * s->in.pitch + x * l->stride.w +
           left * l->dilation.w - l->before.w;
}

static void run_max_pool2d(const struct lanes_plan *p, const struct lanes_stage *s,
                           const char *input, char *output, char *choices)
{
    const size_t vector = p->lanes * p->size;
    lanes_clear_border(p, &s->out, output);
    for (size_t y = 0; y < s->out.size.h && !cancel_poll_here(); y++) {
        for (size_t x = 0; x < s->out.size.w; x++) {
            struct lanes_window w;
            const size_t at = lanes_pool_window(p, s, y, x, &w);
            for (size_t c = 0; c < s->in.channels; c++) {
                const size_t to = c * s->out.plane + s->out.first + y * s->out.pitch + x,
                             chosen = (c * s->out.size.h + y) * s->out.size.w + x;
                p->kernels->max_pool(output + to * vector,
                                     choices == NULL ? NULL : choices + chosen * vector,
                                     input + (c * s->in.plane + s->in.first + at) * vector, &w);
            }
        }
    }
}

static void run_relu(const struct lanes_plan *p, const struct lanes_stage *s, size_t vectors,
                     const char *input, char *output)
{
    const size_t vector = p->lanes * p->size;
    if (s->out.plane == s->out.size.h * s->out.size.w) {
        p->kernels->relu(output, input, vectors * s->out.total);
        return;
    }
    lanes_clear_border(p, &s->out, output);
    for (size_t i = 0; i < s->out.channels * s->out.size.h; i++) {
        const size_t c = i / s->out.size.h, y = i % s->out.size.h;
        p->kernels->relu(output + (c * s->out.plane + s->out.first + y * s->out.pitch) * vector,
                         input + (c * s->in.plane + s->in.first + y * s->in.pitch) * vector,
                         s->out.size.w);
    }
}

void lanes_run_stage(const struct lanes_plan *p, const struct lanes_stage *s, size_t vectors,
                     const void *input, void *output, void *choices)
{
    if (s->layer.kind == LAYER_CONV2D) {
        run_conv2d(p, s, input, output, choices);
    } else if (s->layer.kind == LAYER_LINEAR) {
        run_linear(p, s, vectors, input, output);
    } else if (s->layer.kind == LAYER_MAX_POOL2D) {
        run_max_pool2d(p, s, input, output, choices);
    } else {
        run_relu(p, s, vectors, input, output);
    }
}
