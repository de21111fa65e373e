#include "nn/avg_pool2d.h"

#include <stdbool.h>
#include <string.h>

#include "base/pool.h"
#include "base/scratch.h"

static bool is_empty(struct pool_span span)
{
    return span.begin >= span.end;
}

#define ELEMENT float
#define NAME(loop) loop##_f32
#include "nn/avg_pool2d_template.h"

#define ELEMENT double
#define NAME(loop) loop##_f64
#include "nn/avg_pool2d_template.h"

typedef void (*plane_loop)(const struct avg_pool2d *pool, const void *from, void *to, double *sums);

static const struct avg_pool2d_loops {
    plane_loop pool, spread;
} loops[COMPUTE_TYPES] = {
    [COMPUTE_F32] = {pool_f32, spread_f32},
    [COMPUTE_F64] = {pool_f64, spread_f64},
};

struct planes_run {
    const struct avg_pool2d *pool;
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
    run->loop(run->pool, run->from + plane * run->from_bytes, run->to + plane * run->to_bytes,
              (double *)(void *)(run->sums + worker * run->sums_bytes));
}

static int run_planes(struct planes_run *run)
{
    const struct avg_pool2d *pool = run->pool;
    const size_t pixels = size_product_or_max(pool->in.h, pool->in.w);
    const size_t workers = smaller((size_t)thread_count_for(pool->planes, pixels, GRAIN_SUMS),
                                   larger(pool->planes, 1));
    if (pool->planes == 0) {
        return 0;
    }
    run->sums_bytes = scratch_round(size_product_or_max(pool->in.w, sizeof(double)));
    run->sums = scratch_alloc(size_product_or_max(run->sums_bytes, workers));
    if (run->sums == NULL) {
        return -1;
    }
    pool_run(pool->planes, (int)workers, plane_task, run, pool->token);
    scratch_free(run->sums);
    return 0;
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
    return run_planes(&run);
}
