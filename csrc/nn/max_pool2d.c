/* Max pooling, plane by plane, by torch's rules: the maximum is never in the padding, the index is
 * that of the first of several equal maxima, and NaN is greater than every number. */
#include <stdbool.h>
#include <string.h>

#include "nn/loops.h"

/* Are the windows 2 x 2 squares with stride 2, all inside the image? */
static bool windows_are_squares(const struct max_pool2d *p)
{
    return p->kernel.h == 2 && p->kernel.w == 2 && p->stride.h == 2 && p->stride.w == 2 &&
           p->dilation.h == 1 && p->dilation.w == 1 && p->padding.h == 0 && p->padding.w == 0 &&
           2 * p->out.h <= p->in.h && 2 * p->out.w <= p->in.w;
}

static void pool_plane(const struct max_pool2d *p, size_t plane)
{
    const size_t size = compute_size(p->compute), first = plane * p->out.h * p->out.w;
    int64_t *indices = p->indices == NULL ? NULL : p->indices + first;
    const char *in = (const char *)p->input + plane * p->in.h * p->in.w * size;
    char *out = (char *)p->output + first * size;
    if (windows_are_squares(p)) {
        kernels_current()->layers[p->compute].max_pool2x2(out, indices, in, p->in.w, p->out.h,
                                                          p->out.w);
    } else {
        layer_loops[p->compute].max_pool(p, in, out, indices);
    }
}

void max_pool2d_planes(const struct max_pool2d *p, size_t first, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        pool_plane(p, first + i);
    }
}

struct max_pool2d_run {
    const struct max_pool2d *pool;
    size_t planes_per_task;
};

static void planes_task(void *context, size_t task, size_t worker)
{
    const struct max_pool2d_run *run = context;
    const size_t first = task * run->planes_per_task;
    (void)worker;
    max_pool2d_planes(run->pool, first, smaller(run->pool->planes - first, run->planes_per_task));
}

void max_pool2d(const struct max_pool2d *p)
{
    /* A task is up to 8 planes, so that it is worth waking a thread for. */
    struct max_pool2d_run run = {p, larger(smaller(p->planes / 64, 8), 1)};
    const size_t windows = size_product_or_max(size_product_or_max(p->planes, p->out.h), p->out.w),
                 tasks = size_parts(p->planes, run.planes_per_task);
    pool_run(tasks,
             thread_count_for(windows, size_product_or_max(p->kernel.h, p->kernel.w), GRAIN_SUMS),
             planes_task, &run, p->token);
}

void max_pool2d_scatter(enum compute_type compute, size_t planes, size_t in, size_t out,
                        const int64_t *indices, const void *gradient, void *input)
{
    const size_t size = compute_size(compute);
    memset(input, 0, planes * in * size);
    for (size_t p = 0; p < planes; p++) {
        layer_loops[compute].scatter(out, indices + p * out,
                                     (const char *)gradient + p * out * size,
                                     (char *)input + p * in * size);
    }
}
