/* The forward pass that keeps the maps between its stages, for gradients. */
#include "base/kept.h"
#include "base/pool.h"
#include "base/scratch.h"
#include "network/lanes_grad.h"
#include "network/lanes_stages.h"

struct forward_call {
    const struct lanes_tape *tape;
    const void *input;
    void *output;
    size_t block;
    char *scratch;
    size_t worker_scratch; /* bytes */
};

static void block_task(void *context, size_t task, size_t worker)
{
    const struct forward_call *r = context;
    const struct lanes_tape *t = r->tape;
    const struct lanes_plan *p = &t->plan;
    const size_t first = task * r->block, end = smaller(p->vectors, first + r->block);
    char *scratch = r->scratch + worker * r->worker_scratch;
    for (size_t v = first; v < end; v++) {
        lanes_gather(p, lanes_input(p), v, r->input,
                     t->maps[0] + v * lanes_bytes(p, lanes_input(p)));
        for (size_t i = 0; i < p->mapped; i++) {
            const struct lanes_stage *s = &p->stages[i];
            lanes_run_stage(p, s, 1, t->maps[i] + v * lanes_bytes(p, &s->in),
                            t->maps[i + 1] + v * lanes_bytes(p, &s->out),
                            t->choices[i] == NULL ? NULL
                                                  : t->choices[i] + v * dense_bytes(p, &s->out),
                            scratch);
        }
    }
    for (size_t i = p->mapped; i < p->count; i++) {
        const struct lanes_stage *s = &p->stages[i];
        lanes_run_stage(p, s, end - first, t->maps[i] + first * lanes_bytes(p, &s->in),
                        t->maps[i + 1] + first * lanes_bytes(p, &s->out), NULL, scratch);
    }
    for (size_t v = first; v < end; v++) {
        const struct lanes_map *out = lanes_output(p);
        lanes_scatter(p, out, v, t->maps[p->count] + v * lanes_bytes(p, out), r->output);
    }
}

/* Sets the arrays of the tape in `memory`. Returns their bytes. */
static size_t take_arrays(struct lanes_tape *t, char *memory)
{
    const struct lanes_plan *p = &t->plan;
    struct arena arena = {.block = memory};
    t->maps[0] = arena_take(&arena, p->vectors, lanes_bytes(p, lanes_input(p)));
    for (size_t i = 0; i < p->count; i++) {
        const struct lanes_stage *s = &p->stages[i];
        t->maps[i + 1] = arena_take(&arena, p->vectors, lanes_bytes(p, &s->out));
        t->choices[i] = NULL;
        if (s->pool || s->layer.kind == LAYER_MAX_POOL2D) {
            t->choices[i] = arena_take(&arena, p->vectors, dense_bytes(p, &s->out));
        }
    }
    return arena.bytes;
}

int lanes_tape_alloc(struct lanes_tape *t, enum compute_type compute, const struct layer *layers,
                     size_t count, size_t images, struct shape shape)
{
    t->memory = NULL;
    if (lanes_plan(&t->plan, compute, layers, count, images, shape) < 0) {
        return -1;
    }
    t->memory = kept_alloc(KEPT_TAPE, take_arrays(t, NULL));
    if (t->memory == NULL) {
        return -1;
    }
    take_arrays(t, t->memory);
    return 0;
}

int lanes_forward(struct lanes_tape *t, const void *input, void *output, struct cancel_token *token)
{
    const struct lanes_plan *p = &t->plan;
    const int threads = thread_count_for(p->images, p->multiplications, GRAIN_GEMM);
    struct forward_call r = {.tape = t,
                             .input = input,
                             .output = output,
                             .block = lanes_block(p, threads),
                             .worker_scratch = lanes_stage_scratch(p)};
    r.scratch = scratch_alloc(size_product_or_max((size_t)threads, r.worker_scratch));
    if (r.scratch == NULL) {
        return -1;
    }
    pool_run(size_parts(p->vectors, r.block), threads, block_task, &r, token);
    scratch_free(r.scratch);
    return 0;
}

void lanes_tape_free(struct lanes_tape *t)
{
    kept_free(KEPT_TAPE, t->memory);
    lanes_plan_free(&t->plan);
}
