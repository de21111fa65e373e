/* Runs a network with lanes across images. A task is a block of vectors of images. */
#include "network/lanes.h"

#include "base/pool.h"
#include "base/scratch.h"
#include "network/lanes_stages.h"

struct lanes_call {
    struct lanes_plan plan;
    const char *input;
    char *output;
    size_t block; /* vectors of a task */
    /* Bytes of a buffer for the maps of a vector between two stages, and of a buffer for the flat
     * data of a block. Each worker has two buffers of each kind. */
    size_t between, flat;
    size_t worker_scratch; /* bytes of the buffers and of a stage's own memory */
    char *scratch;
};

/* Runs stages [first, end) on `vectors` vectors. Returns the address of the last output: `last` or,
 * if that is NULL, one of the buffers. */
static const char *run_range(const struct lanes_plan *p, size_t first, size_t end, size_t vectors,
                             const char *input, char *const buffers[2], char *last, char *scratch)
{
    for (size_t i = first; i < end; i++) {
        char *output = i + 1 == end && last != NULL ? last
                       : input == buffers[0]        ? buffers[1]
                                                    : buffers[0];
        lanes_run_stage(p, &p->stages[i], vectors, input, output, NULL, scratch);
        input = output;
    }
    return input;
}

static void block_task(void *context, size_t task, size_t worker)
{
    const struct lanes_call *r = context;
    const struct lanes_plan *p = &r->plan;
    const size_t first = task * r->block, vectors = smaller(p->vectors - first, r->block),
                 features = lanes_bytes(p, &p->stages[p->mapped - 1].out);
    char *scratch = r->scratch + worker * r->worker_scratch;
    char *const maps[2] = {scratch, scratch + r->between}, *const flat[2] = {maps[1] + r->between,
                                                                             maps[1] + r->between +
                                                                                 r->flat};
    char *stage_scratch = flat[1] + r->flat;
    const struct lanes_map *out = lanes_output(p);
    for (size_t v = 0; v < vectors; v++) {
        char *last = p->mapped < p->count ? flat[0] + v * features : NULL;
        lanes_gather(p, lanes_input(p), first + v, r->input, maps[0]);
        const char *result = run_range(p, 0, p->mapped, 1, maps[0], maps, last, stage_scratch);
        if (last == NULL) {
            lanes_scatter(p, out, first + v, result, r->output);
        }
    }
    if (p->mapped < p->count) {
        const char *result =
            run_range(p, p->mapped, p->count, vectors, flat[0], flat, NULL, stage_scratch);
        for (size_t v = 0; v < vectors; v++) {
            lanes_scatter(p, out, first + v, result + v * lanes_bytes(p, out), r->output);
        }
    }
}

/* Sets the sizes of the buffers. */
static void plan_memory(struct lanes_call *r)
{
    const struct lanes_plan *p = &r->plan;
    for (size_t i = 0; i < p->count; i++) {
        const struct lanes_stage *s = &p->stages[i];
        size_t *bytes = i < p->mapped ? &r->between : &r->flat;
        *bytes = larger(*bytes, larger(lanes_bytes(p, &s->in), lanes_bytes(p, &s->out)));
    }
    r->between = scratch_round(r->between);
    r->flat = scratch_round(size_product_or_max(r->flat, r->block));
    r->worker_scratch = size_sum_or_max(
        size_product_or_max(2, size_sum_or_max(r->between, r->flat)), lanes_stage_scratch(p));
}

int lanes_run(enum compute_type compute, const struct layer *layers, size_t count, size_t images,
              struct shape shape, const void *input, void *output, struct cancel_token *token)
{
    struct lanes_call r = {.input = input, .output = output};
    int status = lanes_plan(&r.plan, compute, layers, count, images, shape);
    if (status == 0) {
        const struct lanes_plan *p = &r.plan;
        int threads = thread_count_for(images, p->multiplications, GRAIN_GEMM);
        r.block = lanes_block(p, threads);
        const size_t tasks = size_parts(p->vectors, r.block);
        threads = (int)smaller((size_t)threads, tasks);
        plan_memory(&r);
        r.scratch = scratch_alloc(size_product_or_max((size_t)threads, r.worker_scratch));
        status = r.scratch == NULL ? -1 : 0;
        if (status == 0) {
            pool_run(tasks, threads, block_task, &r, token);
        }
        scratch_free(r.scratch);
    }
    lanes_plan_free(&r.plan);
    return status;
}
