#include "network/network.h"

#include <string.h>

#include "base/pool.h"
#include "base/scratch.h"
#include "network/lanes.h"
#include "nn/loops.h"
#include "vectors/reduce.h"

enum {
    /* Limit of the data between two layers for a block of images: at most half of an L2 cache. */
    BLOCK_BYTES = 192 << 10,
    MAX_IMAGES = 32 /* largest number of images of a block */
};

/* A layer and the layers fused into it. */
struct stage {
    enum layer_kind kind;
    union {
        struct conv2d_plan conv;
        struct linear linear;
        struct max_pool2d pool;
    } of;
    size_t in, out; /* elements of one image */
};

struct network_call {
    const struct stage *stages;
    size_t count;  /* number of stages */
    size_t size;   /* bytes of an element */
    size_t images; /* images of all blocks */
    size_t block;  /* images of a block */
    const char *input;
    char *output;
    ptrdiff_t *at; /* the argument `at` of linear_rows, for the longest row */
    char *scratch;
    /* Bytes of one buffer for the data between two layers. Each worker has two. */
    size_t between;
    size_t worker_scratch; /* bytes */
    enum compute_type compute;
};

/* Makes a stage of the first of `count` layers and of the layers that can be fused into it. Returns
 * the number of layers of the stage, or 0 when there is no memory. */
static size_t make_stage(struct stage *stage, enum compute_type compute, const struct layer *layers,
                         size_t count, size_t images, struct shape *shape)
{
    const struct layer *l = layers;
    const struct shape in = *shape;
    size_t fused = network_fused(layers, count);
    shape_after(l, shape);
    stage->kind = l->kind;
    stage->in = shape_elements(&in);
    const bool relu = fused > 1 && layers[1].kind == LAYER_RELU;
    if (l->kind == LAYER_CONV2D) {
        struct conv2d conv = {
            .compute = compute,
            .images = images,
            .groups = l->groups,
            .in_channels = in.channels,
            .out_channels = l->out,
            .in = in.size,
            .out = shape->size,
            .kernel = l->kernel,
            .stride = l->stride,
            .dilation = l->dilation,
            .padding = l->before,
            .relu = relu,
            .weight = l->weight,
            .bias = l->bias,
        };
        conv.pool = fused > 1 + (size_t)relu;
        const int status = conv2d_plan(&stage->of.conv, &conv);
        const bool pooled = stage->of.conv.conv.pool;
        fused = status < 0 ? 0 : 1 + (size_t)relu + pooled;
        if (status == 0 && pooled) {
            shape_after(&layers[fused - 1], shape);
        }
    } else if (l->kind == LAYER_LINEAR) {
        stage->of.linear = (struct linear){.compute = compute,
                                           .in_features = l->in,
                                           .out_features = l->out,
                                           .relu = relu,
                                           .weight = l->weight,
                                           .bias = l->bias};
    } else if (l->kind == LAYER_MAX_POOL2D) {
        stage->of.pool = (struct max_pool2d){.compute = compute,
                                             .planes = in.channels,
                                             .in = in.size,
                                             .out = shape->size,
                                             .kernel = l->kernel,
                                             .stride = l->stride,
                                             .dilation = l->dilation,
                                             .padding = l->before};
    }
    stage->out = shape_elements(shape);
    return fused;
}

/* Runs a stage on images [first, first + images). input and output point to image `first`. */
static void run_stage(const struct network_call *r, const struct stage *s, size_t first,
                      size_t images, const char *input, char *output, char *scratch)
{
    if (s->kind == LAYER_CONV2D) {
        for (size_t i = 0; i < images; i++) {
            conv2d_image(&s->of.conv, input + i * s->in * r->size, output + i * s->out * r->size,
                         scratch);
        }
    } else if (s->kind == LAYER_LINEAR) {
        struct linear linear = s->of.linear;
        linear.input = input;
        linear.output = output;
        linear_rows(&linear, r->at, 0, images);
    } else if (s->kind == LAYER_MAX_POOL2D) {
        struct max_pool2d pool = s->of.pool;
        pool.input = input;
        pool.output = output;
        pool.indices = pool.indices == NULL ? NULL : pool.indices + first * s->out;
        max_pool2d_planes(&pool, 0, images * pool.planes);
    } else if (s->kind == LAYER_RELU) {
        layer_loops[r->compute].relu(images * s->out, input, output);
    } else {
        memcpy(output, input, images * s->out * r->size);
    }
}

static void block_task(void *context, size_t task, size_t worker)
{
    const struct network_call *r = context;
    const size_t first = task * r->block, images = smaller(r->images - first, r->block);
    char *buffers[2] = {r->scratch + worker * r->worker_scratch, NULL};
    buffers[1] = buffers[0] + r->between;
    const char *input = r->input + first * r->stages[0].in * r->size;
    for (size_t i = 0; i < r->count; i++) {
        const bool last = i + 1 == r->count;
        char *output = last ? r->output + first * r->stages[i].out * r->size : buffers[i % 2];
        run_stage(r, &r->stages[i], first, images, input, output, buffers[1] + r->between);
        input = output;
    }
}

/* Sets the number of images of a block, the sizes of memory for the stages, and *vectors, the
 * length of the table `at`. Returns the multiplications of one image, or SIZE_MAX on overflow. */
static size_t plan_memory(struct network_call *r, size_t *vectors)
{
    size_t largest = 0, scratch = 0, multiplications = 0;
    *vectors = 0;
    for (size_t i = 0; i < r->count; i++) {
        const struct stage *s = &r->stages[i];
        largest = larger(largest, i + 1 < r->count ? s->out : 0);
        if (s->kind == LAYER_CONV2D) {
            const struct conv2d *c = &s->of.conv.conv;
            scratch = larger(scratch, s->of.conv.scratch);
            const size_t terms = c->in_channels / c->groups * c->kernel.h * c->kernel.w;
            multiplications = size_sum_or_max(
                multiplications, size_product_or_max(c->out_channels * c->out.h * c->out.w, terms));
        } else if (s->kind == LAYER_LINEAR) {
            *vectors = larger(*vectors, linear_vectors(&s->of.linear));
            multiplications = size_sum_or_max(multiplications, size_product_or_max(s->in, s->out));
        }
        multiplications = size_sum_or_max(multiplications, s->out);
    }
    r->between = size_product_or_max(largest, r->size);
    r->block = larger(smaller(BLOCK_BYTES / size_sum_or_max(r->between, 1), MAX_IMAGES), 1);
    r->worker_scratch = scratch_round(scratch);
    return multiplications;
}

/* Runs the stages of a call. A task is a block of images. Returns 0, or -1 when there is no
 * memory. */
static int run_stages(struct network_call *r, struct cancel_token *token)
{
    size_t vectors, bytes = 0;
    const size_t multiplications = plan_memory(r, &vectors);
    int threads = thread_count_for(r->images, multiplications, GRAIN_GEMM);
    /* At least two blocks for each thread. */
    r->block = larger(smaller(r->block, r->images / (2 * (size_t)threads)), 1);
    const size_t tasks = size_parts(r->images, r->block);
    threads = (int)smaller((size_t)threads, larger(tasks, 1));
    r->between = scratch_round(size_product_or_max(r->between, r->block));
    r->worker_scratch = size_sum_or_max(r->worker_scratch, size_product_or_max(2, r->between));
    scratch_add(&bytes, vectors, sizeof *r->at);
    const size_t scratch = scratch_add(&bytes, (size_t)threads, r->worker_scratch);
    char *memory = scratch_alloc(bytes);
    if (memory == NULL) {
        return -1;
    }
    r->at = (ptrdiff_t *)memory;
    r->scratch = memory + scratch;
    fill_steps(r->at, vectors, layer_lanes(r->compute));
    pool_run(tasks, threads, block_task, r, token);
    scratch_free(memory);
    return 0;
}

int network_run(enum compute_type compute, const struct layer *layers, size_t count, size_t images,
                struct shape shape, const void *input, void *output, struct cancel_token *token)
{
    if (lanes_apply(compute, layers, count, images, shape)) {
        return lanes_run(compute, layers, count, images, shape, input, output, token);
    }
    struct stage stages[MOST_LAYERS];
    struct network_call r = {.stages = stages,
                             .size = compute_size(compute),
                             .images = images,
                             .input = input,
                             .output = output,
                             .compute = compute};
    size_t made = 0, fused = 1;
    while (made < count && fused > 0) {
        fused = make_stage(&stages[r.count], compute, layers + made, count - made, images, &shape);
        made += fused;
        r.count++;
    }
    const int status = made < count ? -1 : run_stages(&r, token);
    for (size_t i = 0; i < r.count; i++) {
        if (stages[i].kind == LAYER_CONV2D) {
            conv2d_plan_free(&stages[i].of.conv);
        }
    }
    return status;
}

int conv2d_max_pool2d(const struct conv2d *c, const struct max_pool2d *pool)
{
    struct stage stages[2] = {
        {.kind = LAYER_CONV2D,
         .in = c->in_channels * c->in.h * c->in.w,
         .out = c->out_channels * c->out.h * c->out.w},
        {.kind = LAYER_MAX_POOL2D,
         .of.pool = *pool,
         .out = pool->planes * pool->out.h * pool->out.w},
    };
    struct network_call r = {.stages = stages,
                             .count = 2,
                             .size = compute_size(c->compute),
                             .images = c->images,
                             .input = c->input,
                             .output = pool->output,
                             .compute = c->compute};
    if (c->images == 0) { /* an empty array: its other sizes may be huge */
        return 0;
    }
    const int planned = conv2d_plan(&stages[0].of.conv, c),
              status = planned < 0 ? -1 : run_stages(&r, c->token);
    conv2d_plan_free(&stages[0].of.conv);
    return status;
}
