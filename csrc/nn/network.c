#include "nn/network.h"

#include <string.h>

#include "base/pool.h"
#include "base/scratch.h"
#include "vectors/reduce.h"

enum {
    /* Limit of the data between two layers for a block of images: at most half of an L2 cache.
     */
    BLOCK_BYTES = 192 << 10,
    MAX_IMAGES = 32 /* of a block */
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
    size_t count;  /* stages */
    size_t size;   /* bytes of an element */
    size_t images; /* in all */
    size_t block;  /* images of a block */
    const char *input;
    char *output;
    ptrdiff_t *at; /* for linear_rows, long enough for the longest row */
    char *scratch;
    size_t between;        /* bytes of each of the two buffers between layers */
    size_t worker_scratch; /* bytes */
    enum compute_type compute;
};

/* Does the kernel fit the padded image? *out is the number of windows along the axis. */
static bool window_count(size_t in, size_t before, size_t after, size_t kernel, size_t stride,
                         size_t dilation, size_t *out)
{
    const size_t padded = in + before + after, extent = (kernel - 1) * dilation + 1;
    *out = padded < extent ? 0 : (padded - extent) / stride + 1;
    return padded >= extent;
}

/* The same for a pool, by torch's rules: in ceil_mode the last window may extend beyond the image,
 * but it starts inside the image or in the padding before it. */
static bool pool_window_count(const struct layer *l, size_t in, size_t padding, size_t kernel,
                              size_t stride, size_t dilation, size_t *out)
{
    const size_t more = l->ceil_mode ? stride - 1 : 0;
    if (!window_count(in, padding, padding + more, kernel, stride, dilation, out) || in == 0) {
        return false;
    }
    *out -= l->ceil_mode && (*out - 1) * stride >= in + padding;
    return *out >= 1;
}

/* Can memory hold an image of that shape? Unlike the shapes of arrays, the shapes between layers
 * are not known to fit. */
static bool may_fit(const struct shape *s)
{
    return (double)s->channels * (double)s->size.h * (double)s->size.w < 0x1p48;
}

static bool shape_after(const struct layer *l, struct shape *s)
{
    struct extent2 out;
    size_t channels;
    switch (l->kind) {
    case LAYER_CONV2D:
        if (s->flat || !size_mul(l->in, l->groups, &channels) || s->channels != channels ||
            !window_count(s->size.h, l->before.h, l->after.h, l->kernel.h, l->stride.h,
                          l->dilation.h, &out.h) ||
            !window_count(s->size.w, l->before.w, l->after.w, l->kernel.w, l->stride.w,
                          l->dilation.w, &out.w)) {
            return false;
        }
        s->channels = l->out;
        s->size = out;
        return may_fit(s);
    case LAYER_MAX_POOL2D:
        if (s->flat || s->channels == 0 ||
            !pool_window_count(l, s->size.h, l->before.h, l->kernel.h, l->stride.h, l->dilation.h,
                               &out.h) ||
            !pool_window_count(l, s->size.w, l->before.w, l->kernel.w, l->stride.w, l->dilation.w,
                               &out.w)) {
            return false;
        }
        s->size = out;
        return may_fit(s);
    case LAYER_LINEAR:
        if (!s->flat || s->channels != l->in) {
            return false;
        }
        s->channels = l->out;
        return true;
    case LAYER_FLATTEN:
        if (!s->flat && !may_fit(s)) { /* possible for an array without images */
            return false;
        }
        if (!s->flat) {
            s->channels *= s->size.h * s->size.w;
            s->flat = true;
        }
        return true;
    default:
        return true;
    }
}

bool network_shape(const struct layer *layers, size_t count, struct shape *shape)
{
    for (size_t i = 0; i < count; i++) {
        if (!shape_after(&layers[i], shape)) {
            return false;
        }
    }
    return true;
}

/* Elements of one image. */
static size_t elements(const struct shape *s)
{
    return s->flat ? s->channels : s->channels * s->size.h * s->size.w;
}

/* Can conv2d fuse this layer? */
static bool is_2x2_pool(const struct layer *l)
{
    return l->kind == LAYER_MAX_POOL2D && l->kernel.h == 2 && l->kernel.w == 2 &&
           l->stride.h == 2 && l->stride.w == 2 && l->dilation.h == 1 && l->dilation.w == 1 &&
           l->before.h == 0 && l->before.w == 0 && !l->ceil_mode;
}

/* Makes a stage of the first of `count` layers and those that can be fused into it. Returns how
 * many layers that are, or 0 when there is no memory. */
static size_t make_stage(struct stage *stage, enum compute_type compute, const struct layer *layers,
                         size_t count, size_t images, struct shape *shape)
{
    const struct layer *l = layers;
    const struct shape in = *shape;
    size_t fused = 1;
    shape_after(l, shape);
    stage->kind = l->kind;
    stage->in = elements(&in);
    const bool relu = count > 1 && layers[1].kind == LAYER_RELU;
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
        fused += relu;
        if (count > fused && is_2x2_pool(&layers[fused]) && conv2d_pools(&conv)) {
            conv.pool = true;
            shape_after(&layers[fused++], shape);
        }
        if (conv2d_plan(&stage->of.conv, &conv) < 0) {
            conv2d_plan_free(&stage->of.conv);
            fused = 0;
        }
    } else if (l->kind == LAYER_LINEAR) {
        stage->of.linear = (struct linear){.compute = compute,
                                           .in_features = l->in,
                                           .out_features = l->out,
                                           .relu = relu,
                                           .weight = l->weight,
                                           .bias = l->bias};
        fused += relu;
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
    stage->out = elements(shape);
    return fused;
}

static void run_stage(const struct network_call *r, const struct stage *s, size_t images,
                      const char *input, char *output, char *scratch)
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
        max_pool2d_planes(&pool, 0, images * pool.planes);
    } else if (s->kind == LAYER_RELU) {
        relu(r->compute, images * s->out, input, output);
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
        run_stage(r, &r->stages[i], images, input, output, buffers[1] + r->between);
        input = output;
    }
}

/* Sets the memory sizes that the stages need, *vectors for the table `at`, and the images of a
 * block. Returns the multiplications of one image, or SIZE_MAX on overflow. */
static size_t plan_memory(struct network_call *r, size_t *vectors)
{
    size_t largest = 0, scratch = 0, multiplications = 0;
    *vectors = 0;
    for (size_t i = 0; i < r->count; i++) {
        const struct stage *s = &r->stages[i];
        largest = larger(largest, i + 1 < r->count ? s->out : 0);
        if (s->kind == LAYER_CONV2D) {
            const struct conv2d *c = &s->of.conv.conv;
            scratch = larger(scratch, conv2d_scratch(&s->of.conv));
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

int network_run(enum compute_type compute, const struct layer *layers, size_t count, size_t images,
                struct shape shape, const void *input, void *output, struct cancel_token *token)
{
    struct shape last = shape;
    network_shape(layers, count, &last);
    if (images == 0 || elements(&last) == 0) { /* the other sizes can then be arbitrary */
        return 0;
    }
    struct stage *stages = scratch_alloc(size_product_or_max(count, sizeof *stages));
    struct network_call r = {.stages = stages,
                             .size = compute_size(compute),
                             .images = images,
                             .input = input,
                             .output = output,
                             .compute = compute};
    size_t vectors = 0;
    int status = -1;
    for (size_t i = 0, fused; stages != NULL && i < count; i += fused, r.count++) {
        if ((fused = make_stage(&stages[r.count], compute, layers + i, count - i, images,
                                &shape)) == 0) {
            goto done;
        }
    }
    if (stages == NULL) {
        goto done;
    }
    const size_t multiplications = plan_memory(&r, &vectors);
    int threads = thread_count_for(images, multiplications, GRAIN_GEMM);
    /* At least two blocks for each thread. */
    r.block = larger(smaller(r.block, images / (2 * (size_t)threads)), 1);
    const size_t tasks = size_parts(images, r.block);
    threads = (int)smaller((size_t)threads, larger(tasks, 1));
    r.between = scratch_round(size_product_or_max(r.between, r.block));
    r.worker_scratch = size_sum_or_max(r.worker_scratch, size_product_or_max(2, r.between));
    r.at = scratch_alloc(size_product_or_max(vectors, sizeof *r.at));
    if (r.at == NULL || (r.scratch = scratch_alloc(
                             size_product_or_max((size_t)threads, r.worker_scratch))) == NULL) {
        goto done;
    }
    const size_t lanes = compute == COMPUTE_F64 ? kernels_current()->layers->lanes_f64
                                                : kernels_current()->layers->lanes_f32;
    for (size_t v = 0; v < vectors; v++) {
        r.at[v] = (ptrdiff_t)(v * lanes);
    }
    pool_run(tasks, threads, block_task, &r, token);
    status = 0;
done:
    for (size_t i = 0; i < r.count; i++) {
        if (stages[i].kind == LAYER_CONV2D) {
            conv2d_plan_free(&stages[i].of.conv);
        }
    }
    scratch_free(r.scratch);
    scratch_free(r.at);
    scratch_free(stages);
    return status;
}
