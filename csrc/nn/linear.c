/*
 * output (rows, out_features) = input (rows, in_features) @ weight.T + bias, by dot products of the
 * rows of input and of weight, which are read in place.
 */
#include <stdint.h>

#include "nn/layers.h"

enum {
    TASK_ROWS = 64,        /* input rows of a task */
    FEATURES_PER_CALL = 64 /* weight rows of one kernel call */
};

size_t linear_vectors(const struct linear *l)
{
    return l->in_features / layer_lanes(l->compute);
}

void linear_rows(const struct linear *l, const ptrdiff_t *at, size_t first, size_t count)
{
    const size_t size = compute_size(l->compute), row = l->in_features * size,
                 lanes = layer_lanes(l->compute);
    const void *inputs[TASK_ROWS], *weights[FEATURES_PER_CALL];
    dots_kernel *dots = kernels_current()->layers[l->compute].dots;
    struct dots d = {
        .left_offsets = at,
        .right_offsets = at,
        .vectors = l->in_features / lanes,
        .tail = l->in_features % lanes,
        .tail_offset = (ptrdiff_t)(l->in_features / lanes * lanes),
        .relu = l->relu,
        .out_row_step = 1,
        .out_column_step = l->out_features,
    };
    for (size_t i = 0, n; i < count; i += n) {
        n = smaller(count - i, TASK_ROWS);
        for (size_t r = 0; r < n; r++) {
            inputs[r] = (const char *)l->input + (first + i + r) * row;
        }
        for (size_t f = 0, features; f < l->out_features && !(f > 0 && cancel_poll_here());
             f += features) {
            features = smaller(l->out_features - f, FEATURES_PER_CALL);
            for (size_t r = 0; r < features; r++) {
                weights[r] = (const char *)l->weight + (f + r) * row;
            }
            d.bias = l->bias == NULL ? NULL : (const char *)l->bias + f * size;
            dots(&d, weights, features, inputs, n,
                 (char *)l->output + ((first + i) * l->out_features + f) * size);
        }
    }
}

struct linear_run {
    const struct linear *layer;
    const ptrdiff_t *at;
};

static void linear_task(void *context, size_t task, size_t worker)
{
    const struct linear_run *run = context;
    (void)worker;
    linear_rows(run->layer, run->at, task * TASK_ROWS,
                smaller(run->layer->rows - task * TASK_ROWS, TASK_ROWS));
}

int linear(const struct linear *l)
{
    const size_t vectors = linear_vectors(l);
    if (l->rows == 0 || l->out_features == 0) { /* an empty array: its other sizes may be huge */
        return 0;
    }
    ptrdiff_t *at = scratch_alloc(size_product_or_max(vectors, sizeof *at));
    if (at == NULL) {
        return -1;
    }
    fill_steps(at, vectors, layer_lanes(l->compute));
    struct linear_run run = {l, at};
    pool_run(
        size_parts(l->rows, TASK_ROWS),
        thread_count_for(size_product_or_max(l->rows, l->out_features), l->in_features, GRAIN_GEMM),
        linear_task, &run, l->token);
    scratch_free(at);
    return 0;
}
