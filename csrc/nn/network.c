#include "nn/network.h"

#include <string.h>

#include "base/pool.h"
#include "base/scratch.h"
#include "vectors/reduce.h"

enum {
    BLOCK_BYTES = 192 << 10, /* of what lies between two layers, for a block of images: half of an
                                L2 cache or less */
    MOST_IMAGES = 32         /* of a block */
};

/* Some layers in one. */
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
    size_t count, size;   /* bytes of an element */
    size_t images, block; /* of a block */
    const char *input;
    char *output;
    ptrdiff_t *at; /* vectors of the longest row of features */
    char *scratch;
    size_t between, scratch_of_worker; /* bytes of one of two buffers between layers */
    enum compute_type compute;
};

/* Does the kernel fit the padded image? Then *out is how often. */
static bool windows(size_t in, size_t before, size_t after, size_t kernel, size_t stride,
                    size_t dilation, size_t *out)
{
    const size_t padded = in + before + after, reach = (kernel - 1) * dilation + 1;
    *out = padded < reach ? 0 : (padded - reach) / stride + 1;
    return padded >= reach;
}

/* As torch counts them: in ceil_mode the last window may reach beyond the image, but begins in it
 * or in the padding before it. */
static bool pooled(const struct layer *l, size_t in, size_t padding, size_t kernel, size_t stride,
                   size_t dilation, size_t *out)
{
    const size_t more = l->ceil_mode ? stride - 1 : 0;
    if (!windows(in, padding, padding + more, kernel, stride, dilation, out) || in == 0) {
        return false;
    }
    *out -= l->ceil_mode && (*out - 1) * stride >= in + padding;
    return *out >= 1;
}

/* Can there be memory for that? Shapes between layers, unlike those of arrays, are nothing that is
 * there already. */
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
            !windows(s->size.h, l->before.h, l->after.h, l->kernel.h, l->stride.h, l->dilation.h,
                     &out.h) ||
            !windows(s->size.w, l->before.w, l->after.w, l->kernel.w, l->stride.w, l->dilation.w,
                     &out.w)) {
            return false;
        }
        s->channels = l->out;
        s->size = out;
        return may_fit(s);
    case LAYER_MAX_POOL2D:
        if (s->flat || s->channels == 0 ||
            !pooled(l, s->size.h, l->before.h, l->kernel.h, l->stride.h, l->dilation.h, &out.h) ||
            !pooled(l, s->size.w, l->before.w, l->kernel.w, l->stride.w, l->dilation.w, &out.w)) {
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
        if (!s->flat && !may_fit(s)) { /* an array of no images */
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

static size_t elements(const struct shape *s)
{
    return s->flat ? s->channels : s->channels * s->size.h * s->size.w;
}

static bool is_pool_of_squares(const struct layer *l)
{
    return l->kind == LAYER_MAX_POOL2D && l->kernel.h == 2 && l->kernel.w == 2 &&
           l->stride.h == 2 && l->stride.w == 2 && l->dilation.h == 1 && l->dilation.w == 1 &&
           l->before.h == 0 && l->before.w == 0 && !l->ceil_mode;
}

/* Makes a stage of the first layers; returns how many, or 0 when there is no memory. */
static size_t make_stage(struct stage *stage, enum compute_type compute, const struct layer *layers,
                         size_t count, size_t images, struct shape *shape)
{
    const struct layer *l = layers;
    const struct shape in = *shape;
    size_t taken = 1;
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
        taken += relu;
        if (count > taken && is_pool_of_squares(&layers[taken]) && conv2d_pools(&conv)) {
            conv.pool = true;
            shape_after(&layers[taken++], shape);
        }
        if (conv2d_plan(&stage->of.conv, &conv) < 0) {
            conv2d_plan_free(&stage->of.conv);
            taken = 0;
        }
    } else if (l->kind == LAYER_LINEAR) {
        stage->of.linear = (struct linear){.compute = compute,
                                           .in_features = l->in,
                                           .out_features = l->out,
                                           .relu = relu,
                                           .weight = l->weight,
                                           .bias = l->bias};
        taken += relu;
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
    return taken;
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

static void run_block(void *context, size_t task, size_t worker)
{
    const struct network_call *r = context;
    const size_t first = task * r->block, images = smaller(r->images - first, r->block);
    char *buffers[2] = {r->scratch + worker * r->scratch_of_worker, NULL};
    buffers[1] = buffers[0] + r->between;
    const char *input = r->input + first * r->stages[0].in * r->size;
    for (size_t i = 0; i < r->count; i++) {
        const bool last = i + 1 == r->count;
        char *output = last ? r->output + first * r->stages[i].out * r->size : buffers[i % 2];
        run_stage(r, &r->stages[i], images, input, output, buffers[1] + r->between);
        input = output;
    }
}

/* How much of everything the stages need. Returns multiplications of an image, or SIZE_MAX. */
static size_t measure(struct network_call *r, size_t *vectors)
{
    size_t most = 0, scratch = 0, compute = 0;
    *vectors = 0;
    for (size_t i = 0; i < r->count; i++) {
        const struct stage *s = &r->stages[i];
        most = larger(most, i + 1 < r->count ? s->out : 0);
        if (s->kind == LAYER_CONV2D) {
            const struct conv2d *c = &s->of.conv.conv;
            scratch = larger(scratch, conv2d_scratch(&s->of.conv));
            const size_t terms = c->in_channels / c->groups * c->kernel.h * c->kernel.w;
            compute = size_sum_or_max(
                compute, size_product_or_max(c->out_channels * c->out.h * c->out.w, terms));
        } else if (s->kind == LAYER_LINEAR) {
            *vectors = larger(*vectors, linear_vectors(&s->of.linear));
            compute = size_sum_or_max(compute, size_product_or_max(s->in, s->out));
        }
        compute = size_sum_or_max(compute, s->out);
    }
    r->between = size_product_or_max(most, r->size);
    r->block = larger(smaller(BLOCK_BYTES / size_sum_or_max(r->between, 1), MOST_IMAGES), 1);
    r->scratch_of_worker = scratch_round(scratch);
    return compute;
}

int network_run(enum compute_type compute, const struct layer *layers, size_t count, size_t images,
                struct shape shape, const void *input, void *output, struct cancel_token *token)
{
    struct shape last = shape;
    network_shape(layers, count, &last);
    if (images == 0 || elements(&last) == 0) { /* other sizes may be any numbers then */
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
    for (size_t i = 0, taken; stages != NULL && i < count; i += taken, r.count++) {
        if ((taken = make_stage(&stages[r.count], compute, layers + i, count - i, images,
                                &shape)) == 0) {
            goto done;
        }
    }
    if (stages == NULL) {
        goto done;
    }
    const size_t multiplications = measure(&r, &vectors);
    int threads = thread_count_for(images, multiplications, GRAIN_GEMM);
    r.block = larger(smaller(r.block, images / (2 * (size_t)threads)),
                     1); /* two blocks for each thread, at least */
    const size_t tasks = size_parts(images, r.block);
    threads = (int)smaller((size_t)threads, larger(tasks, 1));
    r.between = scratch_round(size_product_or_max(r.between, r.block));
    r.scratch_of_worker = size_sum_or_max(r.scratch_of_worker, size_product_or_max(2, r.between));
    r.at = scratch_alloc(size_product_or_max(vectors, sizeof *r.at));
    if (r.at == NULL || (r.scratch = scratch_alloc(
                             size_product_or_max((size_t)threads, r.scratch_of_worker))) == NULL) {
        goto done;
    }
    const size_t lanes = compute == COMPUTE_F64 ? kernels_current()->layers->lanes_f64
                                                : kernels_current()->layers->lanes_f32;
    for (size_t v = 0; v < vectors; v++) {
        r.at[v] = (ptrdiff_t)(v * lanes);
    }
    pool_run(tasks, threads, run_block, &r, token);
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
