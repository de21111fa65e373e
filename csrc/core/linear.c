/* Rows of features times rows of weights, as they lie; the products of its gradients; and the activation that follows most layers. */
#include <stdint.h>
#include <string.h>

#include "base/pool.h"
#include "base/scratch.h"
#include "core/layers.h"
#include "core/reduce.h"

enum {
    ROWS_AT_ONCE = 64,        /* input rows of a task */
    FEATURES_AT_ONCE = 64,    /* weight rows that it takes at a time */
    SEGMENT_STEPS = 256,      /* terms of a product that are summed in one chain */
    PRODUCT_ROWS = 24,        /* rows of a product's task */
    PRODUCT_VECTORS = 32      /* and vectors: the right side's part of a segment stays in L2 */
};

static size_t lanes_of(enum work work)
{
    const struct layer_kernels *kernels = kernels_current()->layers;
    return work == WORK_F64 ? kernels->lanes_f64 : kernels->lanes_f32;
}

size_t linear_vectors(const struct linear *l)
{
    return l->in_features / lanes_of(l->work);
}

void linear_rows(const struct linear *l, const ptrdiff_t *at, size_t first, size_t count)
{
    const size_t size = work_size(l->work), row = l->in_features * size, lanes = lanes_of(l->work);
    const void *inputs[ROWS_AT_ONCE], *weights[FEATURES_AT_ONCE];
    dots_kernel *dots = l->work == WORK_F64 ? kernels_current()->layers->dots_f64 : kernels_current()->layers->dots_f32;
    struct dots d = {
        .left_at = at,
        .right_at = at,
        .vectors = l->in_features / lanes,
        .rest = l->in_features % lanes,
        .rest_at = (ptrdiff_t)(l->in_features / lanes * lanes),
        .relu = l->relu,
        .left_step = 1,
        .right_step = l->out_features,
    };
    for (size_t i = 0, n; i < count; i += n) {
        n = smaller(count - i, ROWS_AT_ONCE);
        for (size_t r = 0; r < n; r++) {
            inputs[r] = (const char *)l->input + (first + i + r) * row;
        }
        for (size_t f = 0, some; f < l->out_features; f += some) {
            some = smaller(l->out_features - f, FEATURES_AT_ONCE);
            for (size_t r = 0; r < some; r++) {
                weights[r] = (const char *)l->weight + (f + r) * row;
            }
            d.bias = l->bias == NULL ? NULL : (const char *)l->bias + f * size;
            dots(&d, weights, some, inputs, n, (char *)l->output + ((first + i) * l->out_features + f) * size);
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
    linear_rows(run->layer, run->at, task * ROWS_AT_ONCE, smaller(run->layer->rows - task * ROWS_AT_ONCE, ROWS_AT_ONCE));
}

int linear(const struct linear *l)
{
    const size_t vectors = linear_vectors(l);
    ptrdiff_t *at = scratch_alloc(vectors * sizeof *at);
    if (at == NULL) {
        return -1;
    }
    for (size_t i = 0; i < vectors; i++) {
        at[i] = (ptrdiff_t)(i * lanes_of(l->work));
    }
    struct linear_run run = {l, at};
    pool_run((l->rows + ROWS_AT_ONCE - 1) / ROWS_AT_ONCE, threads_for(l->rows * l->out_features, l->in_features, WORK_OF_TILES), linear_task, &run, NULL);
    scratch_free(at);
    return 0;
}

/* ---- products ---- */

struct product_run {
    const struct product *call;
    outer_kernel *outer;
    size_t size, lanes, most_rows;
    size_t width;                /* columns of the right side as it is read: at least a vector */
    const char *right;
    size_t column_blocks;
    ptrdiff_t *offsets, *at, *dense; /* of a segment's steps; of a block's vectors */
    char *scratch;
    size_t scratch_of_worker;    /* two blocks of sums */
};

static size_t columns_of_block(const struct product_run *run)
{
    return PRODUCT_VECTORS * run->lanes;
}

static void product_task(void *context, size_t task, size_t worker)
{
    const struct product_run *run = context;
    const struct product *c = run->call;
    const size_t row = task / run->column_blocks * PRODUCT_ROWS, rows = smaller(c->rows - row, PRODUCT_ROWS);
    const size_t block = task % run->column_blocks, column = block * columns_of_block(run);
    const size_t columns = block + 1 == run->column_blocks ? run->width - column : columns_of_block(run);
    const size_t vectors = (columns + run->lanes - 1) / run->lanes, dense = vectors * run->lanes;
    const bool overlap = columns % run->lanes != 0; /* then the last vector begins before its place */
    ptrdiff_t at[2 * PRODUCT_VECTORS];
    for (size_t v = 0; v < vectors; v++) {
        at[v] = (ptrdiff_t)column + (overlap && v + 1 == vectors ? (ptrdiff_t)columns - (ptrdiff_t)run->lanes : (ptrdiff_t)(v * run->lanes));
    }
    char *sums = run->scratch + worker * run->scratch_of_worker, *results = sums + PRODUCT_ROWS * dense * run->size;
    const bool narrow = c->columns < run->lanes;
    for (size_t k = 0; k == 0 || k < c->depth; k += SEGMENT_STEPS) {
        const bool last = k + SEGMENT_STEPS >= c->depth;
        struct outer o = {
            .left_step = c->left_step,
            .left_next = c->left_next,
            .right = run->right + k * run->width * run->size,
            .right_at = at,
            .offsets = run->offsets,
            .vectors = vectors,
            .steps = smaller(c->depth - k, SEGMENT_STEPS),
            .before_step = dense,
            .out_step = !last || narrow ? dense : c->columns,
            .out_at = !last || narrow ? run->dense : at,
        };
        for (size_t r = 0; r < rows; r += run->most_rows) {
            o.left = (const char *)c->left + ((row + r) * c->left_step + k * c->left_next) * run->size;
            o.before = k > 0 ? sums + r * dense * run->size : NULL;
            o.out = (!last ? sums + r * dense * run->size : narrow ? results + r * dense * run->size : (char *)c->output + (row + r) * c->columns * run->size);
            run->outer(&o, smaller(rows - r, run->most_rows));
        }
    }
    for (size_t r = 0; narrow && r < rows; r++) {
        memcpy((char *)c->output + (row + r) * c->columns * run->size, results + r * dense * run->size, c->columns * run->size);
    }
}

/* Rows shorter than a vector, with zeros behind them. */
static char *widen_rows(const struct product *c, size_t width, size_t size)
{
    size_t bytes;
    char *wide = size_mul(c->depth, width * size, &bytes) ? scratch_alloc(bytes) : NULL;
    for (size_t k = 0; wide != NULL && k < c->depth; k++) {
        memset(wide + k * width * size, 0, width * size);
        memcpy(wide + k * width * size, (const char *)c->right + k * c->columns * size, c->columns * size);
    }
    return wide;
}

int product(const struct product *c)
{
    const struct layer_kernels *kernels = kernels_current()->layers;
    struct product_run run = {
        .call = c,
        .outer = c->work == WORK_F64 ? kernels->outer_f64 : kernels->outer_f32,
        .size = work_size(c->work),
        .lanes = lanes_of(c->work),
        .most_rows = kernels->outer_rows,
        .right = c->right,
    };
    if (c->rows == 0 || c->columns == 0) {
        return 0;
    }
    int status = -1;
    char *wide = NULL;
    run.width = larger(c->columns, run.lanes);
    run.column_blocks = larger(run.width / columns_of_block(&run), 1); /* the last takes what is left, too */
    const size_t tasks = (c->rows + PRODUCT_ROWS - 1) / PRODUCT_ROWS * run.column_blocks;
    const int threads = (int)smaller((size_t)threads_for(c->rows * c->columns, larger(c->depth, 1), WORK_OF_TILES), tasks);
    run.scratch_of_worker = 4 * PRODUCT_ROWS * columns_of_block(&run) * run.size;
    run.scratch = scratch_alloc((size_t)threads * run.scratch_of_worker);
    run.offsets = scratch_alloc((SEGMENT_STEPS + 2 * PRODUCT_VECTORS) * sizeof *run.offsets);
    if (run.scratch == NULL || run.offsets == NULL || (run.width > c->columns && (run.right = wide = widen_rows(c, run.width, run.size)) == NULL)) {
        goto done;
    }
    run.dense = run.offsets + SEGMENT_STEPS;
    for (size_t i = 0; i < SEGMENT_STEPS; i++) {
        run.offsets[i] = (ptrdiff_t)(i * run.width);
    }
    for (size_t v = 0; v < 2 * PRODUCT_VECTORS; v++) {
        run.dense[v] = (ptrdiff_t)(v * run.lanes);
    }
    pool_run(tasks, threads, product_task, &run, NULL);
    status = 0;
done:
    scratch_free(wide);
    scratch_free(run.offsets);
    scratch_free(run.scratch);
    return status;
}

/* ---- relu ---- */

/* `0 > x` and not `x > 0`, so that NaN is kept. */
void relu(enum work work, size_t n, const void *input, void *output)
{
    for (size_t i = 0; work == WORK_F64 && i < n; i++) {
        const double x = ((const double *)input)[i];
        ((double *)output)[i] = 0.0 > x ? 0.0 : x;
    }
    for (size_t i = 0; work == WORK_F32 && i < n; i++) {
        const float x = ((const float *)input)[i];
        ((float *)output)[i] = 0.0f > x ? 0.0f : x;
    }
}

void relu_gradient(enum work work, size_t n, const void *input, const void *gradient, void *output)
{
    for (size_t i = 0; work == WORK_F64 && i < n; i++) {
        ((double *)output)[i] = ((const double *)input)[i] <= 0.0 ? 0.0 : ((const double *)gradient)[i];
    }
    for (size_t i = 0; work == WORK_F32 && i < n; i++) {
        ((float *)output)[i] = ((const float *)input)[i] <= 0.0f ? 0.0f : ((const float *)gradient)[i];
    }
}
