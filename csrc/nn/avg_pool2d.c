#include "nn/avg_pool2d.h"

#include <stdbool.h>
#include <string.h>

#include "base/pool.h"
#include "base/scratch.h"
#include "kernels/kernels.h"

static bool is_empty(struct pool_span span)
{
    return span.begin >= span.end;
}

/* Output columns [first, end) whose windows have the same width and size, and stride 2. */
struct column_run {
    size_t first, end;
};

enum {
    WIDEST_OF_RUN = 8, /* wider windows are summed one by one */
    MOST_LANES = 8     /* lanes of double of any instruction set */
};

/* Returns the run that begins with the first window of full width, or an empty one. */
static struct column_run column_run(const struct avg_pool2d *p)
{
    int64_t width = 0;
    struct column_run run = {0, 0};
    for (size_t j = 0; j < p->out.w; j++) {
        const int64_t n = p->columns[j].end - p->columns[j].begin;
        if (n > width) {
            width = n;
            run.first = j;
        }
    }
    if (width == 0 || width > WIDEST_OF_RUN) {
        return (struct column_run){0, 0};
    }
    for (run.end = run.first + 1; run.end < p->out.w; run.end++) {
        const struct pool_span before = p->columns[run.end - 1], next = p->columns[run.end];
        if (next.begin != before.begin + 2 || next.end != before.end + 2 ||
            p->column_sizes[run.end] != p->column_sizes[run.first]) {
            break;
        }
    }
    return run;
}

/* Returns the number of doubles in `sums`: mean_alternate reads whole vectors. */
static size_t sums_of_row(const struct avg_pool2d *p)
{
    return size_sum_or_max(size_sum_or_max(p->in.w, WIDEST_OF_RUN), 2 * MOST_LANES);
}

#define ELEMENT float
#define NAME(loop) loop##_f32
#include "nn/avg_pool2d_template.h"

#define ELEMENT double
#define NAME(loop) loop##_f64
#include "nn/avg_pool2d_template.h"

/* out[i] = sums[i] / size, and each of the n elements of plane i of out = gradient[i] / size. */
typedef void (*means_loop)(size_t planes, const double *sums, double size, void *out);
typedef void (*fill_loop)(size_t planes, size_t n, const void *gradient, double size, void *out);
typedef void (*plane_loop)(const struct avg_pool2d *pool, struct column_run run, const void *from,
                           void *to, double *sums);

static const struct avg_pool2d_loops {
    plane_loop pool, spread;
    means_loop means;
    fill_loop fill;
} loops[COMPUTE_TYPES] = {
    [COMPUTE_F32] = {pool_f32, spread_f32, means_f32, fill_f32},
    [COMPUTE_F64] = {pool_f64, spread_f64, means_f64, fill_f64},
};

struct planes_run {
    const struct avg_pool2d *pool;
    struct column_run columns;
    plane_loop loop;
    const char *from;
    char *to;
    size_t from_bytes, to_bytes; /* of one plane */
    char *sums;                  /* sums_bytes for each worker */
    size_t sums_bytes;
};

static void plane_task(void *context, size_t plane, size_t worker)
{
    const struct planes_run *run = context;
    run->loop(run->pool, run->columns, run->from + plane * run->from_bytes,
              run->to + plane * run->to_bytes,
              (double *)(void *)(run->sums + worker * run->sums_bytes));
}

static int plane_threads(const struct avg_pool2d *pool)
{
    return thread_count_for(pool->planes, size_product_or_max(pool->in.h, pool->in.w), GRAIN_SUMS);
}

static int run_planes(struct planes_run *run)
{
    const struct avg_pool2d *pool = run->pool;
    const size_t workers = smaller((size_t)plane_threads(pool), larger(pool->planes, 1));
    if (pool->planes == 0 || run->to_bytes == 0) { /* there can be many planes without pixels */
        return 0;
    }
    run->sums_bytes = scratch_round(size_product_or_max(sums_of_row(pool), sizeof(double)));
    run->sums = scratch_alloc(size_product_or_max(run->sums_bytes, workers));
    if (run->sums == NULL) {
        return -1;
    }
    pool_run(pool->planes, (int)workers, plane_task, run, pool->token);
    scratch_free(run->sums);
    return 0;
}

/* Runs a task, which needs no memory, for every `planes` planes. Returns 0. */
static int run_tasks(struct planes_run *run, size_t planes, pool_task task)
{
    pool_run(size_parts(run->pool->planes, planes), plane_threads(run->pool), task, run,
             run->pool->token);
    return 0;
}

/* True if there is one window along an axis, which covers all of its pixels. */
static bool is_whole(const struct pool_span *spans, size_t in, size_t out)
{
    return out == 1 && in > 0 && spans[0].begin == 0 && spans[0].end == (int64_t)in;
}

/* True if there is one window, which covers the whole image. */
static bool is_global(const struct avg_pool2d *p)
{
    return is_whole(p->rows, p->in.h, p->out.h) && is_whole(p->columns, p->in.w, p->out.w);
}

/* True if the windows along an axis are pairs of pixels with stride 2 and size 2. */
static bool are_pairs(const struct pool_span *spans, const double *sizes, size_t out)
{
    bool pairs = true;
    for (size_t i = 0; i < out && pairs; i++) {
        const int64_t first = 2 * (int64_t)i;
        pairs = spans[i].begin == first && spans[i].end == first + 2 && sizes[i] == 2.0;
    }
    return pairs;
}

/* True if all windows are 2 x 2 squares with stride 2 and divisor 4. */
static bool windows_are_squares(const struct avg_pool2d *p)
{
    return p->out.w >= MOST_LANES && are_pairs(p->rows, p->row_sizes, p->out.h) &&
           are_pairs(p->columns, p->column_sizes, p->out.w);
}

static void squares_task(void *context, size_t plane, size_t worker)
{
    const struct planes_run *run = context;
    const struct avg_pool2d *p = run->pool;
    (void)worker;
    kernels_current()->elementwise[p->compute].mean_pool2x2(run->to + plane * run->to_bytes,
                                                            run->from + plane * run->from_bytes,
                                                            p->in.w, p->out.h, p->out.w);
}

enum { GLOBAL_PLANES = 64 }; /* planes of a task of global pooling */

static void global_task(void *context, size_t task, size_t worker)
{
    const struct planes_run *run = context;
    const struct avg_pool2d *p = run->pool;
    const size_t first = task * GLOBAL_PLANES, planes = smaller(p->planes - first, GLOBAL_PLANES);
    double sums[GLOBAL_PLANES];
    (void)worker;
    kernels_current()->elementwise[p->compute].plane_sums(
        planes, p->in.h * p->in.w, run->from + first * run->from_bytes, sums);
    loops[p->compute].means(planes, sums, p->row_sizes[0] * p->column_sizes[0],
                            run->to + first * run->to_bytes);
}

static void global_gradient_task(void *context, size_t task, size_t worker)
{
    const struct planes_run *run = context;
    const struct avg_pool2d *p = run->pool;
    const size_t first = task * GLOBAL_PLANES, planes = smaller(p->planes - first, GLOBAL_PLANES);
    (void)worker;
    loops[p->compute].fill(planes, p->in.h * p->in.w, run->from + first * run->from_bytes,
                           p->row_sizes[0] * p->column_sizes[0], run->to + first * run->to_bytes);
}

int avg_pool2d(const struct avg_pool2d *pool, const void *input, void *output)
{
    const size_t size = compute_size(pool->compute);
    struct planes_run run = {.pool = pool,
                             .loop = loops[pool->compute].pool,
                             .from = input,
                             .to = output,
                             .from_bytes = pool->in.h * pool->in.w * size,
                             .to_bytes = pool->out.h * pool->out.w * size};
    if (is_global(pool)) {
        return run_tasks(&run, GLOBAL_PLANES, global_task);
    }
    if (windows_are_squares(pool)) {
        return run_tasks(&run, 1, squares_task);
    }
    run.columns = column_run(pool);
    return run_planes(&run);
}

int avg_pool2d_gradient(const struct avg_pool2d *pool, const void *gradient, void *output)
{
    const size_t size = compute_size(pool->compute);
    struct planes_run run = {.pool = pool,
                             .loop = loops[pool->compute].spread,
                             .from = gradient,
                             .to = output,
                             .from_bytes = pool->out.h * pool->out.w * size,
                             .to_bytes = pool->in.h * pool->in.w * size};
    return is_global(pool) ? run_tasks(&run, GLOBAL_PLANES, global_gradient_task)
                           : run_planes(&run);
}
