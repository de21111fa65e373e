/* Max pooling, plane by plane, by torch's rules: the maximum is never in the padding, the index is
 * that of the first of several equal maxima, and NaN is greater than every number. */
#include <math.h>
#include <stdbool.h>
#include <string.h>

#include "base/pool.h"
#include "base/scratch.h"
#include "nn/layers.h"
#include "vectors/reduce.h"

/* The pixels of a window that lie inside the image, along one axis: first, first + dilation, ...,
 * below end. */
struct span {
    size_t first, end;
};

static struct span window(size_t out, size_t stride, size_t padding, size_t kernel, size_t dilation,
                          size_t size)
{
    ptrdiff_t first = (ptrdiff_t)(out * stride) - (ptrdiff_t)padding;
    ptrdiff_t end = first + (ptrdiff_t)((kernel - 1) * dilation) + 1;
    if (first < 0) { /* skips the pixels before the image without a loop: there can be 2^30 */
        first += (-first + (ptrdiff_t)dilation - 1) / (ptrdiff_t)dilation * (ptrdiff_t)dilation;
    }
    struct span span = {(size_t)first, end < (ptrdiff_t)size ? (size_t)end : size};
    return span;
}

/* The number of windows that take about 10 us together, or one large window. */
static size_t windows_between_polls(const struct max_pool2d *p)
{
    return (1 << 14) / larger(size_product_or_max(p->kernel.h, p->kernel.w), 1) + 1;
}

#define POOL_PLANE(type) \
    static void pool_plane_##type(const struct max_pool2d *p, const type *in, type *out, \
                                  int64_t *indices) \
    { \
        const size_t windows_to_poll = windows_between_polls(p); \
        size_t windows_left = windows_to_poll; \
        for (size_t y = 0; y < p->out.h; y++) { \
            const struct span rows = \
                window(y, p->stride.h, p->padding.h, p->kernel.h, p->dilation.h, p->in.h); \
            for (size_t x = 0; x < p->out.w; x++, out++) { \
                if (windows_left-- == 0) { \
                    if (cancel_poll_here()) { \
                        return; \
                    } \
                    windows_left = windows_to_poll - 1; \
                } \
                const struct span columns = \
                    window(x, p->stride.w, p->padding.w, p->kernel.w, p->dilation.w, p->in.w); \
                type maximum = -(type)INFINITY; \
                size_t maximum_at = rows.first * p->in.w + columns.first; \
                for (size_t r = rows.first; r < rows.end; r += p->dilation.h) { \
                    for (size_t c = columns.first; c < columns.end; c += p->dilation.w) { \
                        const type value = in[r * p->in.w + c]; \
                        if (value > maximum || isnan(value)) { \
                            maximum = value; \
                            maximum_at = r * p->in.w + c; \
                        } \
                    } \
                } \
                *out = maximum; \
                if (indices != NULL) { \
                    *indices++ = (int64_t)maximum_at; \
                } \
            } \
        } \
    }
POOL_PLANE(float)
POOL_PLANE(double)

/* Are the windows 2 x 2 squares with stride 2, all inside the image? */
static bool windows_are_squares(const struct max_pool2d *p)
{
    return p->kernel.h == 2 && p->kernel.w == 2 && p->stride.h == 2 && p->stride.w == 2 &&
           p->dilation.h == 1 && p->dilation.w == 1 && p->padding.h == 0 && p->padding.w == 0 &&
           2 * p->out.h <= p->in.h && 2 * p->out.w <= p->in.w;
}

static void pool_plane(const struct max_pool2d *p, size_t plane)
{
    const size_t in = plane * p->in.h * p->in.w, out = plane * p->out.h * p->out.w;
    int64_t *indices = p->indices == NULL ? NULL : p->indices + out;
    if (windows_are_squares(p)) {
        const size_t size = compute_size(p->compute);
        kernels_current()->layers[p->compute].max_pool2x2((char *)p->output + out * size, indices,
                                                          (const char *)p->input + in * size,
                                                          p->in.w, p->out.h, p->out.w);
    } else if (p->compute == COMPUTE_F64) {
        pool_plane_double(p, (const double *)p->input + in, (double *)p->output + out, indices);
    } else {
        pool_plane_float(p, (const float *)p->input + in, (float *)p->output + out, indices);
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
    /* Several small planes are a task, so that it is worth waking a thread for. */
    struct max_pool2d_run run = {p, larger(smaller(p->planes / 64, 8), 1)};
    const size_t windows = size_product_or_max(size_product_or_max(p->planes, p->out.h), p->out.w),
                 tasks = size_parts(p->planes, run.planes_per_task);
    pool_run(tasks,
             thread_count_for(windows, size_product_or_max(p->kernel.h, p->kernel.w), GRAIN_SUMS),
             planes_task, &run, p->token);
}

#define SCATTER(type) \
    static void scatter_##type(size_t out, const int64_t *indices, const type *gradient, \
                               type *input) \
    { \
        for (size_t i = 0; i < out; i++) { \
            input[indices[i]] += gradient[i]; \
        } \
    }
SCATTER(float)
SCATTER(double)

void max_pool2d_scatter(enum compute_type compute, size_t planes, size_t in, size_t out,
                        const int64_t *indices, const void *gradient, void *input)
{
    memset(input, 0, planes * in * compute_size(compute));
    for (size_t p = 0; p < planes; p++, indices += out) {
        if (compute == COMPUTE_F64) {
            scatter_double(out, indices, (const double *)gradient + p * out,
                           (double *)input + p * in);
        } else {
            scatter_float(out, indices, (const float *)gradient + p * out, (float *)input + p * in);
        }
    }
}
