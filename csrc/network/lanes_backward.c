/* The gradients of a network with lanes across images. Between two stages lies the gradient of a
 * map without its border. */
#include <string.h>

#include "base/kept.h"
#include "base/pool.h"
#include "base/scratch.h"
#include "network/lanes_conv_grad.h"
#include "network/lanes_grad.h"
#include "network/lanes_stages.h"
#include "network/lanes_winograd.h"
#include "nn/layers.h"

enum {
    CHAIN_STEPS = 256,   /* approximate limit of the terms of a chain */
    BLOCK_VECTORS = 4,   /* vectors that a linear layer multiplies with a weight at a time */
    MOST_GROUPS = 16,    /* groups of images with a full vector; each has sums of its own */
    LEAST_GROUP = 2,     /* vectors of a group, unless there are fewer: adding lanes takes time */
    LINEAR_FILTERS = 24, /* filters of a linear layer in one task */
    LINEAR_STEPS = 128   /* images of a chain; four vectors of each stay in L1 */
};

struct backward_call {
    const struct lanes_tape *tape;
    const struct lanes_gradients *gradients;
    struct conv_grad convs[MOST_LAYERS];
    /* Winograd's algorithm spreads infinity and NaN. If it gives a gradient that is not finite, the
     * call runs again with this, and calculates the images of such gradients by the definition. */
    bool by_definition;
    _Atomic bool not_finite; /* the gradient of some input is not finite */
    /* Where the sums and gradients of each convolution begin: sums_at in a worker's memory, in
     * bytes, and results_at in the results of a group, in elements. In memory the bias comes before
     * the filters, in the results after them. By patches, the results are sums of the filters. */
    size_t sums_at[MOST_LAYERS], results_at[MOST_LAYERS];
    ptrdiff_t *feature_taps; /* of flat stages */
    char *flat[MOST_LAYERS]; /* of flat stages: the gradients of the outputs of all vectors */
    size_t full;             /* vectors without idle lanes */
    size_t group;            /* vectors of a group */
    size_t groups;           /* with the incomplete vector, which is a group of its own */
    size_t parameters;       /* elements of the sums of a group */
    char *results;           /* [groups][parameters] */
    char *scratch;
    size_t worker_scratch, sums, map, between, features, stage; /* bytes */
    /* A second job computes the gradients of the filters of a linear layer. It reads the layer, its
     * inputs (one row for each image, linear_step elements apart), the gradients of its outputs
     * (one row for each filter, linear_filter_step elements apart), and the offsets of
     * LINEAR_STEPS rows of inputs. */
    const struct lanes_stage *linear;
    size_t linear_number, linear_step, linear_filter_step, linear_worker;
    char *linear_inputs, *linear_gradients, *linear_scratch;
    ptrdiff_t *linear_rows;
};

static void add_elements(enum compute_type compute, void *to, const void *from, size_t n)
{
    kernels_current()->layers[compute].add_rows(to, n, 1, from, n, 1, n);
}

/* ---- the plan ---- */

/* Returns the number of elements of the sums of a convolution's filters. */
static size_t filter_elements(const struct backward_call *r, size_t i)
{
    const struct lanes_stage *s = &r->tape->plan.stages[i];
    const struct lanes_patch_gradients *patches = &r->convs[i].patches;
    return patches->step > 0 ? lanes_patches_elements(&r->tape->plan, s, patches)
                             : s->layer.out * s->depth;
}

/* Returns the bytes of the sums of a convolution. Sums by patches need none here: they are stored
 * in the results. */
static size_t sums_bytes(const struct backward_call *r, size_t i)
{
    const struct lanes_plan *p = &r->tape->plan;
    const struct lanes_stage *s = &p->stages[i];
    const size_t filters = r->convs[i].patches.step > 0 ? 0 : s->layer.out * s->depth;
    return size_sum_or_max(scratch_round(s->layer.out * vector_bytes(p)),
                           scratch_round(size_product_or_max(filters, vector_bytes(p))));
}

/* Bytes of temporary memory for the gradients of a convolution. */
static size_t stage_bytes(const struct backward_call *r, size_t i)
{
    const struct lanes_plan *p = &r->tape->plan;
    const struct lanes_stage *s = &p->stages[i];
    const struct conv_grad *g = &r->convs[i];
    const size_t patches = lanes_patches_scratch(p, s, &g->patches);
    if (!g->winograd_input) {
        return patches;
    }
    const size_t scratch = larger(lanes_winograd_grad_scratch(p, s, &g->winograd),
                                  scratch_round(dense_bytes(p, &s->in)));
    return larger(
        patches,
        size_sum_or_max(scratch, scratch_round(lanes_winograd_map_bytes(p, s, &g->winograd))));
}

/* Sizes everything that does not need memory. */
static void plan_sizes(struct backward_call *r)
{
    const struct lanes_plan *p = &r->tape->plan;
    size_t parameters = 0;
    r->full = p->images / p->lanes;
    r->group = larger(size_parts(r->full, MOST_GROUPS), LEAST_GROUP);
    r->groups = size_parts(r->full, r->group) + (p->vectors - r->full);
    for (size_t i = 0; i < p->mapped; i++) {
        const struct lanes_stage *s = &p->stages[i];
        struct conv_grad *g = &r->convs[i];
        r->between = larger(r->between, larger(dense_bytes(p, &s->in), dense_bytes(p, &s->out)));
        if (s->layer.kind != LAYER_CONV2D) {
            continue;
        }
        g->input = i > 0 || r->gradients->input != NULL;
        conv_grad_plan(p, s, g);
        r->stage = larger(r->stage, stage_bytes(r, i));
        r->map = larger(r->map, size_product_or_max(g->map.total, vector_bytes(p)));
        r->sums_at[i] = r->sums;
        r->sums = size_sum_or_max(r->sums, sums_bytes(r, i));
        r->results_at[i] = parameters;
        parameters += filter_elements(r, i) + s->layer.out;
    }
    r->parameters = parameters;
    r->features =
        p->mapped < p->count ? dense_bytes(p, &p->stages[p->mapped - 1].out) * BLOCK_VECTORS : 0;
    r->worker_scratch =
        size_sum_or_max(size_sum_or_max(r->sums, scratch_round(r->map)),
                        size_sum_or_max(2 * scratch_round(r->between), scratch_round(r->features)));
    r->worker_scratch = size_sum_or_max(r->worker_scratch, scratch_round(r->stage));
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

/* A vector of images of a group, and the memory of its worker. */
struct group_vector {
    size_t task, v;
    size_t first; /* the first vector of the group */
    char *const *buffers;
    char *scratch;
};

/* The gradient of the input of a convolution by Winograd's algorithm. When the call is repeated,
 * images with a gradient that is not finite are calculated again by the definition, as in
 * lanes_stages.c. */
static void winograd_input(struct backward_call *r, size_t i, const struct group_vector *at,
                           const char *choices, const char *gradient, char *output)
{
    _Alignas(SCRATCH_ALIGN) char check[LANES_VECTOR_BYTES] = {0};
    const struct lanes_plan *p = &r->tape->plan;
    const struct lanes_stage *s = &p->stages[i];
    const struct conv_grad *g = &r->convs[i];
    char *map = at->scratch + r->sums,
         *tiles = at->scratch + r->worker_scratch - scratch_round(r->stage),
         *scratch = tiles + scratch_round(lanes_winograd_map_bytes(p, s, &g->winograd));
    conv_grad_spread_tiles(p, s, g, choices, gradient, tiles);
    lanes_winograd_grad_input(p, s, &g->winograd, tiles, output, scratch, check);
    if (lanes_all_finite(p, check)) {
        return;
    }
    if (!r->by_definition) {
        r->not_finite = true;
        return;
    }
    conv_grad_input(p, s, g, conv_grad_spread(p, s, g, choices, gradient, map), scratch);
    lanes_replace(p, check, output, scratch, dense_bytes(p, &s->in) / vector_bytes(p));
}

/* The gradients of the parameters and of the input of a convolution. gradient is that of its
 * output and is changed; the gradient of the input goes to `output`. */
static void conv_gradients(struct backward_call *r, size_t i, const struct group_vector *at,
                           char *gradient, char *output)
{
    const struct lanes_tape *t = r->tape;
    const struct lanes_plan *p = &t->plan;
    const struct lanes_stage *s = &p->stages[i];
    const struct conv_grad *g = &r->convs[i];
    const size_t vector = vector_bytes(p), out = s->out.size.h * s->out.size.w, v = at->v;
    const bool add = v > at->first, by_patches = g->patches.step > 0;
    char *bias = at->scratch + r->sums_at[i], *sums = bias + scratch_round(s->layer.out * vector),
         *map = at->scratch + r->sums;
    const char *input = t->maps[i] + v * lanes_bytes(p, &s->in), *spread = NULL,
               *choices =
                   t->choices[i] == NULL ? NULL : t->choices[i] + v * dense_bytes(p, &s->out);
    const struct pooled_gradient pooled = {choices, gradient};
    if (s->relu) {
        gate(p, &s->out, t->maps[i + 1] + v * lanes_bytes(p, &s->out), gradient);
    }
    if (!add) {
        memset(bias, 0, s->layer.out * vector);
    }
    for (size_t f = 0; f < s->layer.out; f++) {
        p->kernels->add_sum(bias + f * vector, gradient + f * out * vector, out);
    }
    if (by_patches) {
        char *results = r->results + (at->task * r->parameters + r->results_at[i]) * p->size,
             *scratch = at->scratch + r->worker_scratch - scratch_round(r->stage);
        if (!add) {
            memset(results, 0, filter_elements(r, i) * p->size);
        }
        lanes_patches_add(p, s, &g->patches, lanes_images(p, v), input, &pooled, scratch, results);
    } else if (s->pool && (!g->input || g->winograd_input)) {
        conv_grad_weight_of_pooled(p, s, g, input, &pooled, add, map, sums);
    } else {
        spread = conv_grad_spread(p, s, g, choices, gradient, map);
        conv_grad_weight(p, s, g, input, spread, add, sums);
    }
    if (g->winograd_input) {
        winograd_input(r, i, at, choices, gradient, output);
    } else if (g->input) {
        spread = spread == NULL ? conv_grad_spread(p, s, g, choices, gradient, map) : spread;
        conv_grad_input(p, s, g, spread, output);
    }
}

/* Runs the stages that read images backward. `gradient` holds the gradient of the last one's
 * output. */
static void mapped_gradients(struct backward_call *r, const struct group_vector *at, char *gradient)
{
    const struct lanes_tape *t = r->tape;
    const struct lanes_plan *p = &t->plan;
    const size_t v = at->v;
    for (size_t i = p->mapped; i-- > 0;) {
        const struct lanes_stage *s = &p->stages[i];
        char *output = gradient == at->buffers[0] ? at->buffers[1] : at->buffers[0];
        if (s->layer.kind == LAYER_CONV2D) {
            conv_gradients(r, i, at, gradient, output);
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

/* Gradients of the flat stages for vectors [first, first + vectors). `features` gets the gradient
 * of the input of the first flat stage. */
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
        fill_steps(inputs, vectors, s->out.total * p->lanes);
        fill_steps(outputs, vectors, s->in.total * p->lanes);
        const struct lanes_conv c = {
            .weight = s->layer.weight, /* transposed: its columns are the filters */
            .filter_step = 1,
            .depth_step = s->depth,
            .input = gradient,
            .pixel_offsets = inputs,
            .tap_offsets = r->feature_taps,
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
    struct backward_call *r = context;
    const struct lanes_plan *p = &r->tape->plan;
    const size_t first = smaller(task * r->group, r->full),
                 end = task * r->group >= r->full ? p->vectors : smaller(r->full, first + r->group),
                 images = lanes_images(p, first);
    const struct lanes_map out = *lanes_output(p);
    char *scratch = r->scratch + worker * r->worker_scratch,
         *buffers[2] = {scratch + r->sums + scratch_round(r->map), NULL};
    buffers[1] = buffers[0] + scratch_round(r->between);
    char *features = buffers[1] + scratch_round(r->between);
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
            const struct group_vector at = {
                .task = task,
                .v = v,
                .first = first,
                .buffers = buffers,
                .scratch = scratch,
            };
            mapped_gradients(r, &at, gradient);
        }
    }
    for (size_t i = 0; i < p->mapped; i++) {
        const struct lanes_stage *s = &p->stages[i];
        if (s->layer.kind != LAYER_CONV2D) {
            continue;
        }
        const size_t weights = filter_elements(r, i);
        const char *bias = scratch + r->sums_at[i];
        char *results = r->results + (task * r->parameters + r->results_at[i]) * p->size;
        if (r->convs[i].patches.step == 0) {
            p->kernels->reduce(results, bias + scratch_round(s->layer.out * vector_bytes(p)),
                               images, weights);
        }
        p->kernels->reduce(results + weights * p->size, bias, images, s->layer.out);
    }
}

/*
 * The gradients of the weights of a linear layer are sums over images. The inputs are transposed to
 * rows of one image. A vector then holds features of an image, so no lanes need to be added. The
 * gradients of the outputs are copied to rows of one filter, because its images are added in order.
 */

/* The gradient of the bias, for `filters` filters of a linear layer from `filter` on. sums has room
 * for `filters` vectors, followed by `filters` elements. */
static void linear_bias(const struct backward_call *r, size_t filter, size_t filters, char *sums,
                        char *bias)
{
    const struct lanes_plan *p = &r->tape->plan;
    const size_t vector = vector_bytes(p), out = r->linear->out.total;
    char *partial = sums + filters * vector;
    for (size_t part = 0; part < 2; part++) { /* first the full vectors, then the incomplete one */
        const size_t first = part == 0 ? 0 : r->full, end = part == 0 ? r->full : p->vectors;
        if (first == end) {
            continue;
        }
        memset(sums, 0, filters * vector);
        for (size_t v = first; v < end; v++) {
            for (size_t f = 0; f < filters; f++) {
                p->kernels->add_sum(sums + f * vector,
                                    r->flat[r->linear_number] + (v * out + filter + f) * vector, 1);
            }
        }
        p->kernels->reduce(part == 0 ? bias : partial, sums, lanes_images(p, first), filters);
        if (part == 1) {
            add_elements(p->compute, bias, partial, filters);
        }
    }
}

/* Transposes the inputs of a vector of images, and copies the gradients of its outputs. */
static void rows_task(void *context, size_t v, size_t worker)
{
    const struct backward_call *r = context;
    const struct lanes_plan *p = &r->tape->plan;
    const struct lanes_stage *s = r->linear;
    const size_t image = v * p->lanes, images = lanes_images(p, v), i = r->linear_number;
    (void)worker;
    p->kernels->scatter(r->linear_inputs + image * r->linear_step * p->size, r->linear_step,
                        r->tape->maps[i] + v * lanes_bytes(p, &s->in), images, s->depth);
    const char *gradients = r->flat[i] + v * lanes_bytes(p, &s->out);
    for (size_t f = 0; f < s->filters; f++) {
        memcpy(r->linear_gradients + (f * r->linear_filter_step + image) * p->size,
               gradients + f * vector_bytes(p), vector_bytes(p));
    }
}

static void linear_task(void *context, size_t task, size_t worker)
{
    const struct backward_call *r = context;
    const struct lanes_plan *p = &r->tape->plan;
    const struct lanes_stage *s = r->linear;
    const size_t filter = task * LINEAR_FILTERS,
                 filters = smaller(s->filters - filter, LINEAR_FILTERS),
                 vectors = size_parts(s->depth, p->lanes);
    const bool whole = s->depth % p->lanes == 0;
    char *weight = (char *)r->gradients->weights[s->number] + filter * s->depth * p->size,
         *bias = r->gradients->biases[s->number],
         *scratch = r->linear_scratch + worker * r->linear_worker;
    struct lanes_conv c = {
        .filter_step = r->linear_filter_step,
        .depth_step = 1,
        .pixel_offsets = s->taps,
        .tap_offsets = r->linear_rows,
        .output = whole ? weight : scratch,
        .map_step = vectors * p->lanes,
        .output_offsets = s->taps,
    };
    for (size_t first = 0; first < p->images && !cancel_poll_here(); first += LINEAR_STEPS) {
        c.weight = r->linear_gradients + (filter * r->linear_filter_step + first) * p->size;
        c.input = r->linear_inputs + first * r->linear_step * p->size;
        c.depth = c.chain = smaller(p->images - first, LINEAR_STEPS);
        c.add = first > 0;
        p->kernels->conv(&c, filters, vectors);
    }
    for (size_t f = 0; !whole && f < filters; f++) {
        memcpy(weight + f * s->depth * p->size, scratch + f * vectors * p->lanes * p->size,
               s->depth * p->size);
    }
    if (bias != NULL) {
        linear_bias(r, filter, filters, scratch, bias + filter * p->size);
    }
}

/* The linear layer of stage i. */
static int linear_layer(struct backward_call *r, size_t i, struct cancel_token *token)
{
    const struct lanes_plan *p = &r->tape->plan;
    const struct lanes_stage *s = &p->stages[i];
    const size_t tasks = size_parts(s->filters, LINEAR_FILTERS),
                 vectors = size_parts(s->depth, p->lanes);
    const int threads = (int)smaller(
        (size_t)thread_count_for(p->images, s->filters * s->depth, GRAIN_GEMM), larger(tasks, 1));
    struct arena arena = {.block = NULL};
    r->linear = s;
    r->linear_number = i;
    r->linear_step = (vectors | 1) * p->lanes; /* odd: see lanes_winograd_step */
    r->linear_filter_step = (p->vectors | 1) * p->lanes;
    r->linear_worker = scratch_round(
        size_product_or_max(LINEAR_FILTERS, size_product_or_max(vectors + 2, vector_bytes(p))));
    while (arena_pass(&arena)) {
        r->linear_rows = arena_take(&arena, LINEAR_STEPS, sizeof *r->linear_rows);
        r->linear_inputs =
            arena_take(&arena, size_product_or_max(p->images, r->linear_step), p->size);
        r->linear_gradients =
            arena_take(&arena, size_product_or_max(r->linear_filter_step, s->filters), p->size);
        r->linear_scratch = arena_take(&arena, (size_t)threads, r->linear_worker);
    }
    if (arena.block == NULL) {
        return -1;
    }
    fill_steps(r->linear_rows, LINEAR_STEPS, r->linear_step);
    for (size_t image = 0; s->depth % p->lanes != 0 && image < p->images; image++) {
        memset(r->linear_inputs + (image * r->linear_step + (vectors - 1) * p->lanes) * p->size, 0,
               vector_bytes(p));
    }
    pool_run(p->vectors, threads, rows_task, r, token);
    pool_run(tasks, threads, linear_task, r, token);
    scratch_free(arena.block);
    return 0;
}

static int linear_gradients(struct backward_call *r, struct cancel_token *token)
{
    const struct lanes_plan *p = &r->tape->plan;
    int status = 0;
    for (size_t i = p->mapped; i < p->count && status == 0; i++) {
        if (p->stages[i].layer.kind == LAYER_LINEAR) {
            status = linear_layer(r, i, token);
        }
    }
    return status;
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
        if (s->layer.kind != LAYER_CONV2D) {
            continue;
        }
        const char *sums = r->results + r->results_at[i] * p->size;
        const size_t weights = filter_elements(r, i) * p->size;
        if (r->convs[i].patches.step > 0) {
            lanes_patches_finish(p, s, &r->convs[i].patches, sums,
                                 r->gradients->weights[s->number]);
        } else {
            memcpy(r->gradients->weights[s->number], sums, weights);
        }
        if (r->gradients->biases[s->number] != NULL) {
            memcpy(r->gradients->biases[s->number], sums + weights, s->layer.out * p->size);
        }
    }
}

/* Sets the arrays of a call in `memory`. Returns their bytes. */
static size_t take_arrays(struct backward_call *r, struct tap_lists *lists, size_t side,
                          size_t features, int threads, char *memory)
{
    const struct lanes_plan *p = &r->tape->plan;
    struct arena arena = {.block = memory};
    lists->rows = arena_take(&arena, side, sizeof *lists->rows);
    lists->columns = arena_take(&arena, side, sizeof *lists->columns);
    lists->row_offsets = arena_take(&arena, side, sizeof *lists->row_offsets);
    lists->column_offsets = arena_take(&arena, side, sizeof *lists->column_offsets);
    r->feature_taps = arena_take(&arena, features, sizeof *r->feature_taps);
    for (size_t i = 0; i < p->count; i++) {
        const struct lanes_stage *s = &p->stages[i];
        if (s->layer.kind == LAYER_CONV2D) {
            conv_grad_take(p, s, &r->convs[i], &arena);
        } else if (i >= p->mapped) {
            r->flat[i] = arena_take(&arena, p->vectors, lanes_bytes(p, &s->out));
        }
    }
    r->results = arena_take(&arena, size_product_or_max(r->groups, r->parameters), p->size);
    r->scratch = arena_take(&arena, (size_t)threads, r->worker_scratch);
    return arena.bytes;
}

/* Sets *finite to false if a gradient that Winograd's algorithm computes is not finite. */
static int run_backward(const struct lanes_tape *tape, const struct lanes_gradients *gradients,
                        bool by_definition, bool *finite, struct cancel_token *token)
{
    struct backward_call r = {.tape = tape, .gradients = gradients, .by_definition = by_definition};
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
    struct tap_lists lists;
    char *memory =
        kept_alloc(KEPT_GRADIENTS, take_arrays(&r, &lists, side, features, threads, NULL));
    if (memory == NULL) {
        return -1;
    }
    take_arrays(&r, &lists, side, features, threads, memory);
    fill_steps(r.feature_taps, features, p->lanes);
    for (size_t i = 0; i < p->mapped; i++) {
        if (p->stages[i].layer.kind == LAYER_CONV2D) {
            conv_grad_fill(p, &p->stages[i], &r.convs[i], by_definition, &lists);
        }
    }
    pool_run(r.groups, threads, group_task, &r, token);
    *finite = !r.not_finite;
    add_groups(&r);
    const int status = linear_gradients(&r, token);
    kept_free(KEPT_GRADIENTS, memory);
    return status;
}

int lanes_backward(const struct lanes_tape *tape, const struct lanes_gradients *gradients,
                   struct cancel_token *token)
{
    bool finite;
    const int status = run_backward(tape, gradients, false, &finite, token);
    return status == 0 && !finite ? run_backward(tape, gradients, true, &finite, token) : status;
}
