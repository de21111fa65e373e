/*
 * The gradients of a network with lanes across images.
 *
 * Stages pass on the gradient of a map without its border. A convolution copies this gradient, or
 * spreads it over the pixels that pooling chose, into a map with a border of zeros. The gradient of
 * the convolution's input is then a convolution of that map. Input pixels of one residue modulo the
 * stride (a phase) meet the same taps.
 */
#include <string.h>

#include "base/pool.h"
#include "base/scratch.h"
#include "network/lanes_grad.h"

enum {
    CALL_PIXELS = 64,   /* output pixels of one kernel call; their gradients stay in L1 */
    CHAIN_STEPS = 256,  /* approximate limit of the terms of a chain */
    BLOCK_VECTORS = 4,  /* vectors that a linear layer multiplies with a weight at a time */
    MOST_GROUPS = 16,   /* largest number of groups of full vectors; each group has its own sums */
    LINEAR_FILTERS = 20 /* filters of a linear layer in one task */
};

/* Input pixels of one residue modulo the stride. */
struct phase {
    size_t first, pixels; /* in the tables of pixels */
    size_t taps_at, taps; /* first entry in the table of taps; taps of a filter */
    size_t weights_at;    /* first element of its packed weights */
};

/* Tables and sizes for the gradients of a convolution. */
struct conv_grad {
    bool input;           /* the gradient of its input is computed */
    struct lanes_map map; /* of the gradients of its output, before pooling */
    /* The offset of each output pixel in that map and in the input. */
    ptrdiff_t *gradients, *inputs;
    /* By phase, for each input pixel: its offset in the map and in the gradient of the input. For
     * each tap: its offset in the map. */
    struct phase *phases;
    size_t phase_count;
    ptrdiff_t *pixels, *outputs, *taps;
    char *weights; /* packed, [phase][filter's group][channel][filter][tap] */
    size_t sums;   /* byte position of its sums in a worker's memory; the sums of the bias follow */
    /* position of its sums among the sums of a group, in elements; the sums of the bias follow */
    size_t result;
};

struct backward_call {
    const struct lanes_tape *tape;
    const struct lanes_gradients *gradients;
    struct conv_grad convs[MOST_LAYERS];
    char *flat[MOST_LAYERS]; /* for flat stages: the gradients of the outputs of all vectors */
    size_t full;             /* vectors without idle lanes */
    size_t group;            /* vectors of a group */
    /* number of groups, including the incomplete vector, which forms a separate group */
    size_t groups;
    size_t parameters; /* elements of the sums of a group */
    char *results;     /* [groups][parameters] */
    char *scratch;
    size_t worker_scratch, sums, map, between, features; /* bytes */
    const struct lanes_stage *linear; /* the linear layer whose gradients linear_task sums */
    size_t linear_number;
    char *linear_scratch;
    size_t linear_worker;
};

static size_t vector_bytes(const struct lanes_plan *p)
{
    return p->lanes * p->size;
}

/* Returns the bytes of a map without its border. */
static size_t dense_bytes(const struct lanes_plan *p, const struct lanes_map *m)
{
    return m->channels * m->size.h * m->size.w * vector_bytes(p);
}

static void add_elements(enum compute_type compute, void *to, const void *from, size_t n)
{
    kernels_current()->layers[compute].add_rows(to, n, 1, from, n, 1, n);
}

static bool is_dense(const struct lanes_map *m)
{
    return m->plane == m->size.h * m->size.w;
}

/* ---- the plan ---- */

/* Sizes the map of a convolution's output gradients, with the border that the gradient of its input
 * reads. With pooling, an odd last row or column belongs to the border. */
static void plan_map(struct conv_grad *g, const struct lanes_stage *s)
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
    /* An odd plane keeps the channels of a copied map from colliding in the cache. */
    if (s->pool || m->plane > m->size.h * m->size.w) {
        m->plane |= 1;
    }
    m->first = m->before.h * m->pitch + m->before.w;
    m->total = size_product_or_max(m->plane, m->channels);
    g->phase_count =
        g->input ? smaller(l->stride.h, s->in.size.h) * smaller(l->stride.w, s->in.size.w) : 0;
}

/* Along one axis, tap k of output pixel q + offset reads pixel q * stride + residue of the padded
 * input, where offset = (residue - k * dilation) / stride. Lists the taps whose offset is a whole
 * number, and these offsets. Returns the number of taps. */
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

/* The taps of a phase along both axes, with the distances of their output pixels. */
struct tap_lists {
    size_t *rows, *columns;
    ptrdiff_t *row_offsets, *column_offsets;
};

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
    size_t n = 0;
    for (size_t y = 0; y < m->size.h; y++) {
        for (size_t x = 0; x < m->size.w; x++, n++) {
            g->gradients[n] = (ptrdiff_t)((m->first + y * m->pitch + x) * p->lanes);
            g->inputs[n] =
                (ptrdiff_t)((y * s->layer.stride.h * s->in.pitch + x * s->layer.stride.w) *
                            p->lanes);
        }
    }
}

/* Takes the tables of a convolution. */
static void take_tables(const struct lanes_plan *p, const struct lanes_stage *s,
                        struct conv_grad *g, struct arena *arena)
{
    const size_t out = g->map.size.h * g->map.size.w,
                 in = g->input ? s->in.size.h * s->in.size.w : 0,
                 taps = g->input ? s->layer.kernel.h * s->layer.kernel.w : 0;
    g->gradients = arena_take(arena, out, sizeof *g->gradients);
    g->inputs = arena_take(arena, out, sizeof *g->inputs);
    g->phases = arena_take(arena, g->phase_count, sizeof *g->phases);
    g->pixels = arena_take(arena, in, sizeof *g->pixels);
    g->outputs = arena_take(arena, in, sizeof *g->outputs);
    g->taps = arena_take(arena, taps * s->filters, sizeof *g->taps);
    g->weights = arena_take(arena, taps * s->layer.out * s->channels, p->size);
}

/* Sets all sizes that can be set before memory is allocated. */
static void plan_sizes(struct backward_call *r)
{
    const struct lanes_plan *p = &r->tape->plan;
    size_t parameters = 0;
    r->full = p->images / p->lanes;
    r->group = larger(size_parts(r->full, MOST_GROUPS), 1);
    r->groups = size_parts(r->full, r->group) + (p->vectors - r->full);
    for (size_t i = 0; i < p->mapped; i++) {
        const struct lanes_stage *s = &p->stages[i];
        struct conv_grad *g = &r->convs[i];
        r->between = larger(r->between, larger(dense_bytes(p, &s->in), dense_bytes(p, &s->out)));
        if (s->layer.kind != LAYER_CONV2D) {
            continue;
        }
        g->input = i > 0 || r->gradients->input != NULL;
        plan_map(g, s);
        r->map = larger(r->map, size_product_or_max(g->map.total, vector_bytes(p)));
        const size_t sums = s->layer.out * s->depth + s->layer.out;
        g->sums = r->sums;
        r->sums = size_sum_or_max(r->sums, size_product_or_max(sums, vector_bytes(p)));
        g->result = parameters;
        parameters += sums;
    }
    r->parameters = parameters;
    r->features =
        p->mapped < p->count ? dense_bytes(p, &p->stages[p->mapped - 1].out) * BLOCK_VECTORS : 0;
    r->worker_scratch =
        size_sum_or_max(size_sum_or_max(scratch_round(r->sums), scratch_round(r->map)),
                        size_sum_or_max(2 * scratch_round(r->between), scratch_round(r->features)));
}

/* ---- stages ---- */

/* gradient = 0 where the output y of a stage with ReLU is 0 or less. gradient has no border. */
static void gate(const struct lanes_plan *p, const struct lanes_map *m, const char *y,
                 char *gradient)
{
    const size_t vector = vector_bytes(p);
    if (is_dense(m)) {
        p->kernels->relu_gradient(gradient, y, gradient, m->total);
        return;
    }
    for (size_t i = 0; i < m->channels * m->size.h; i++, gradient += m->size.w * vector) {
        const size_t at = i / m->size.h * m->plane + m->first + i % m->size.h * m->pitch;
        p->kernels->relu_gradient(gradient, y + at * vector, gradient, m->size.w);
    }
}

/* Writes the gradients of a convolution's output before pooling, with their border, to `map` and
 * returns it. Returns `gradient` itself if the map would hold the same elements. */
static const char *spread(const struct lanes_plan *p, const struct lanes_stage *s,
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

static void filter_gradients(const struct lanes_plan *p, const struct lanes_stage *s,
                             const struct conv_grad *g, const char *input, const char *map,
                             bool add, char *sums)
{
    const size_t vector = vector_bytes(p), pixels = g->map.size.h * g->map.size.w;
    for (size_t group = 0; group < s->layer.groups; group++) {
        const size_t filter = group * s->filters;
        struct lanes_products d = {
            .gradient = map + filter * g->map.plane * vector,
            .map_step = g->map.plane * p->lanes,
            .input = input + group * s->channels * s->in.plane * vector,
            .entry_offsets = s->taps,
            .filters = s->filters,
            .entries = s->depth,
            .sums = sums + filter * s->depth * vector,
        };
        for (size_t i = 0; i < pixels && !cancel_poll_here(); i += CALL_PIXELS) {
            d.gradient_offsets = g->gradients + i;
            d.input_offsets = g->inputs + i;
            d.pixels = smaller(pixels - i, CALL_PIXELS);
            d.add = add || i > 0;
            p->kernels->products(&d);
        }
    }
}

static void input_gradient(const struct lanes_plan *p, const struct lanes_stage *s,
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

static void pool_gradient(const struct lanes_plan *p, const struct lanes_stage *s,
                          const char *choices, const char *gradient, char *output)
{
    const size_t vector = vector_bytes(p), out = s->out.size.h * s->out.size.w;
    memset(output, 0, dense_bytes(p, &s->in));
    for (size_t y = 0; y < s->out.size.h && !cancel_poll_here(); y++) {
        for (size_t x = 0; x < s->out.size.w; x++) {
            struct lanes_window w;
            const size_t at = lanes_pool_window(p, s, y, x, &w);
            for (size_t c = 0; c < s->in.channels; c++) {
                const size_t from = (c * out + y * s->out.size.w + x) * vector;
                p->kernels->max_unpool(output + (c * s->in.plane + at) * vector, choices + from,
                                       gradient + from, &w);
            }
        }
    }
}

/* Computes the gradients of the parameters and of the input of a convolution. `gradient` is the
 * gradient of its output and is overwritten. The gradient of the input goes to `output`. */
static void conv_gradients(const struct backward_call *r, size_t i, size_t v, bool add,
                           char *gradient, char *output, char *scratch)
{
    const struct lanes_tape *t = r->tape;
    const struct lanes_plan *p = &t->plan;
    const struct lanes_stage *s = &p->stages[i];
    const struct conv_grad *g = &r->convs[i];
    const size_t vector = vector_bytes(p), out = s->out.size.h * s->out.size.w;
    char *sums = scratch + g->sums, *bias = sums + s->layer.out * s->depth * vector;
    if (s->relu) {
        gate(p, &s->out, t->maps[i + 1] + v * lanes_bytes(p, &s->out), gradient);
    }
    for (size_t f = 0; f < s->layer.out; f++) {
        p->kernels->add_sum(bias + f * vector, gradient + f * out * vector, out);
    }
    const char *choices =
        t->choices[i] == NULL ? NULL : t->choices[i] + v * dense_bytes(p, &s->out);
    const char *map = spread(p, s, g, choices, gradient, scratch + scratch_round(r->sums));
    filter_gradients(p, s, g, t->maps[i] + v * lanes_bytes(p, &s->in), map, add, sums);
    if (g->input) {
        input_gradient(p, s, g, map, output);
    }
}

/* Runs the stages that read images backward. `gradient` holds the gradient of the last one's
 * output. */
static void mapped_gradients(const struct backward_call *r, size_t v, bool add, char *gradient,
                             char *const buffers[2], char *scratch)
{
    const struct lanes_tape *t = r->tape;
    const struct lanes_plan *p = &t->plan;
    for (size_t i = p->mapped; i-- > 0;) {
        const struct lanes_stage *s = &p->stages[i];
        char *output = gradient == buffers[0] ? buffers[1] : buffers[0];
        if (s->layer.kind == LAYER_CONV2D) {
            conv_gradients(r, i, v, add, gradient, output, scratch);
        } else if (s->layer.kind == LAYER_MAX_POOL2D) {
            pool_gradient(p, s, t->choices[i] + v * dense_bytes(p, &s->out), gradient, output);
        } else {
            gate(p, &s->out, t->maps[i + 1] + v * lanes_bytes(p, &s->out), gradient);
            output = gradient;
        }
        gradient = output;
    }
    if (r->gradients->input != NULL) {
        struct lanes_map dense = p->stages[0].in;
        dense.total = dense.channels * dense.size.h * dense.size.w;
        lanes_scatter(p, &dense, v, gradient, r->gradients->input);
    }
}

/* Computes the gradients of the flat stages for vectors [first, first + vectors). The gradient of
 * the first stage's input goes to `features`. */
static void flat_gradients(const struct backward_call *r, size_t first, size_t vectors,
                           char *features)
{
    const struct lanes_tape *t = r->tape;
    const struct lanes_plan *p = &t->plan;
    ptrdiff_t inputs[BLOCK_VECTORS], outputs[BLOCK_VECTORS];
    for (size_t i = p->count; i-- > p->mapped;) {
        const struct lanes_stage *s = &p->stages[i];
        const size_t in = lanes_bytes(p, &s->in), out = lanes_bytes(p, &s->out);
        char *gradient = r->flat[i] + first * out,
             *to = i == p->mapped ? features : r->flat[i - 1] + first * in;
        if (s->relu || s->layer.kind == LAYER_RELU) {
            p->kernels->relu_gradient(gradient, t->maps[i + 1] + first * out, gradient,
                                      vectors * s->out.total);
        }
        if (s->layer.kind != LAYER_LINEAR) {
            memcpy(to, gradient, vectors * in);
            continue;
        }
        for (size_t v = 0; v < vectors; v++) {
            inputs[v] = (ptrdiff_t)(v * s->out.total * p->lanes);
            outputs[v] = (ptrdiff_t)(v * s->in.total * p->lanes);
        }
        const struct lanes_conv c = {
            .weight = s->layer.weight, /* transposed: its columns are the filters */
            .filter_step = 1,
            .depth_step = s->depth,
            .input = gradient,
            .pixel_offsets = inputs,
            .tap_offsets = r->convs[i].taps,
            .depth = s->filters,
            .chain = CHAIN_STEPS,
            .output = to,
            .map_step = p->lanes,
            .output_offsets = outputs,
        };
        p->kernels->conv(&c, s->depth, vectors);
    }
}

static void group_task(void *context, size_t task, size_t worker)
{
    const struct backward_call *r = context;
    const struct lanes_plan *p = &r->tape->plan;
    const size_t first = smaller(task * r->group, r->full),
                 end = task * r->group >= r->full ? p->vectors : smaller(r->full, first + r->group),
                 images = lanes_images(p, first);
    const struct lanes_map out = *lanes_output(p);
    char *scratch = r->scratch + worker * r->worker_scratch,
         *buffers[2] = {scratch + scratch_round(r->sums) + scratch_round(r->map), NULL};
    buffers[1] = buffers[0] + scratch_round(r->between);
    char *features = buffers[1] + scratch_round(r->between);
    memset(scratch, 0, r->sums);
    for (size_t block = first, vectors; block < end; block += vectors) {
        vectors = smaller(end - block, BLOCK_VECTORS);
        if (p->mapped < p->count) {
            for (size_t v = block; v < block + vectors; v++) {
                lanes_gather(p, &out, v, r->gradients->output,
                             r->flat[p->count - 1] + v * lanes_bytes(p, &out));
            }
            flat_gradients(r, block, vectors, features);
        }
        for (size_t v = block; v < block + vectors; v++) {
            char *gradient = buffers[0];
            if (p->mapped < p->count) {
                gradient = features + (v - block) * dense_bytes(p, &p->stages[p->mapped - 1].out);
            } else {
                lanes_gather(p, &out, v, r->gradients->output, gradient);
            }
            mapped_gradients(r, v, v > first, gradient, buffers, scratch);
        }
    }
    for (size_t i = 0; i < p->mapped; i++) {
        const struct lanes_stage *s = &p->stages[i];
        if (s->layer.kind == LAYER_CONV2D) {
            p->kernels->reduce(r->results + (task * r->parameters + r->convs[i].result) * p->size,
                               scratch + r->convs[i].sums, images, s->layer.out * (s->depth + 1));
        }
    }
}

/* Computes the gradients of the parameters of a linear layer: sums over all vectors of images. */
static void linear_task(void *context, size_t task, size_t worker)
{
    const struct backward_call *r = context;
    const struct lanes_tape *t = r->tape;
    const struct lanes_plan *p = &t->plan;
    const struct lanes_stage *s = r->linear;
    const size_t vector = vector_bytes(p), filter = task * LINEAR_FILTERS,
                 filters = smaller(s->filters - filter, LINEAR_FILTERS), sums = s->depth * filters;
    char *scratch = r->linear_scratch + worker * r->linear_worker,
         *partial = scratch + sums * vector, *biases = partial + sums * p->size;
    ptrdiff_t gradients[CALL_PIXELS], inputs[CALL_PIXELS];
    const char *gradient = r->flat[r->linear_number], *input = t->maps[r->linear_number];
    char *weight = (char *)r->gradients->weights[s->number] + filter * s->depth * p->size,
         *bias = r->gradients->biases[s->number];
    bias = bias == NULL ? NULL : bias + filter * p->size;
    for (size_t part = 0; part < 2; part++) { /* full vectors, then the incomplete one */
        const size_t first = part == 0 ? 0 : r->full, end = part == 0 ? r->full : p->vectors;
        if (first == end) {
            continue;
        }
        struct lanes_products d = {
            .map_step = p->lanes,
            .gradient_offsets = gradients,
            .input_offsets = inputs,
            .entry_offsets = s->taps,
            .filters = filters,
            .entries = s->depth,
            .sums = scratch,
        };
        memset(biases, 0, filters * vector);
        for (size_t v = first; v < end && !cancel_poll_here(); v += CALL_PIXELS) {
            d.gradient = gradient + (v * s->out.total + filter) * vector;
            d.input = input + v * s->in.total * vector;
            d.pixels = smaller(end - v, CALL_PIXELS);
            d.add = v > first;
            for (size_t i = 0; i < d.pixels; i++) {
                gradients[i] = (ptrdiff_t)(i * s->out.total * p->lanes);
                inputs[i] = (ptrdiff_t)(i * s->in.total * p->lanes);
                for (size_t f = 0; f < filters; f++) {
                    p->kernels->add_sum(biases + f * vector,
                                        (const char *)d.gradient + (i * s->out.total + f) * vector,
                                        1);
                }
            }
            p->kernels->products(&d);
        }
        const size_t images = lanes_images(p, first);
        p->kernels->reduce(part == 0 ? weight : partial, scratch, images, sums);
        if (part == 1) {
            add_elements(p->compute, weight, partial, sums);
        }
        if (bias != NULL) {
            p->kernels->reduce(part == 0 ? bias : partial, biases, images, filters);
            if (part == 1) {
                add_elements(p->compute, bias, partial, filters);
            }
        }
    }
}

static int linear_gradients(struct backward_call *r, struct cancel_token *token)
{
    const struct lanes_plan *p = &r->tape->plan;
    for (size_t i = p->mapped; i < p->count; i++) {
        const struct lanes_stage *s = &p->stages[i];
        if (s->layer.kind != LAYER_LINEAR) {
            continue;
        }
        const size_t tasks = size_parts(s->filters, LINEAR_FILTERS);
        const int threads =
            (int)smaller((size_t)thread_count_for(p->images, s->filters * s->depth, GRAIN_GEMM),
                         larger(tasks, 1));
        r->linear = s;
        r->linear_number = i;
        r->linear_worker = scratch_round(size_product_or_max(
            (s->depth + 1) * LINEAR_FILTERS + s->depth, vector_bytes(p) + p->size));
        r->linear_scratch = scratch_alloc(size_product_or_max((size_t)threads, r->linear_worker));
        if (r->linear_scratch == NULL) {
            return -1;
        }
        pool_run(tasks, threads, linear_task, r, token);
        scratch_free(r->linear_scratch);
    }
    return 0;
}

/* Adds the sums of the groups, in order. */
static void add_groups(const struct backward_call *r)
{
    const struct lanes_plan *p = &r->tape->plan;
    for (size_t group = 1; group < r->groups; group++) {
        add_elements(p->compute, r->results, r->results + group * r->parameters * p->size,
                     r->parameters);
    }
    for (size_t i = 0; i < p->mapped; i++) {
        const struct lanes_stage *s = &p->stages[i];
        if (s->layer.kind == LAYER_CONV2D) {
            const char *sums = r->results + r->convs[i].result * p->size;
            const size_t weights = s->layer.out * s->depth * p->size;
            memcpy(r->gradients->weights[s->number], sums, weights);
            if (r->gradients->biases[s->number] != NULL) {
                memcpy(r->gradients->biases[s->number], sums + weights, s->layer.out * p->size);
            }
        }
    }
}

int lanes_backward(const struct lanes_tape *tape, const struct lanes_gradients *gradients,
                   struct cancel_token *token)
{
    struct backward_call r = {.tape = tape, .gradients = gradients};
    const struct lanes_plan *p = &tape->plan;
    size_t side = 1, features = 1;
    plan_sizes(&r);
    for (size_t i = 0; i < p->count; i++) {
        const struct layer *l = &p->stages[i].layer;
        if (l->kind == LAYER_CONV2D) {
            side = larger(side, larger(l->kernel.h, l->kernel.w));
        } else if (l->kind == LAYER_LINEAR) {
            features = larger(features, l->out);
        }
    }
    int threads =
        thread_count_for(p->images, size_product_or_max(p->multiplications, 2), GRAIN_GEMM);
    threads = (int)smaller((size_t)threads, r.groups);
    struct arena arena = {.block = NULL};
    struct tap_lists lists = {NULL, NULL, NULL, NULL};
    ptrdiff_t *feature_taps = NULL;
    while (arena_pass(&arena)) {
        lists.rows = arena_take(&arena, side, sizeof *lists.rows);
        lists.columns = arena_take(&arena, side, sizeof *lists.columns);
        lists.row_offsets = arena_take(&arena, side, sizeof *lists.row_offsets);
        lists.column_offsets = arena_take(&arena, side, sizeof *lists.column_offsets);
        feature_taps = arena_take(&arena, features, sizeof *feature_taps);
        for (size_t i = 0; i < p->count; i++) {
            const struct lanes_stage *s = &p->stages[i];
            if (s->layer.kind == LAYER_CONV2D) {
                take_tables(p, s, &r.convs[i], &arena);
            } else if (i >= p->mapped) {
                r.flat[i] = arena_take(&arena, p->vectors, lanes_bytes(p, &s->out));
                r.convs[i].taps = feature_taps;
            }
        }
        r.results = arena_take(&arena, size_product_or_max(r.groups, r.parameters), p->size);
        r.scratch = arena_take(&arena, (size_t)threads, r.worker_scratch);
    }
    if (arena.block == NULL) {
        return -1;
    }
    for (size_t f = 0; f < features; f++) {
        feature_taps[f] = (ptrdiff_t)(f * p->lanes);
    }
    for (size_t i = 0; i < p->mapped; i++) {
        if (p->stages[i].layer.kind == LAYER_CONV2D) {
            fill_pixels(p, &p->stages[i], &r.convs[i]);
            if (r.convs[i].input) {
                fill_phases(p, &p->stages[i], &r.convs[i], &lists);
            }
        }
    }
    pool_run(r.groups, threads, group_task, &r, token);
    add_groups(&r);
    const int status = linear_gradients(&r, token);
    scratch_free(arena.block);
    return status;
}
