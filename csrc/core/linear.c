/* Rows of features times rows of weights, and the activation that follows most layers. */
#include "core/layers.h"
#include "core/tiles.h"

static void find_rows(const struct linear *l, const void *data, const struct tiles_rows *wanted)
{
    const size_t row = l->in_features * work_size(l->work);
    for (size_t r = 0; r < wanted->count; r++) {
        wanted->rows[r] = (const char *)data + (wanted->first + r) * row + wanted->k * work_size(l->work);
    }
}

static void input_rows(const void *context, const struct tiles_rows *wanted)
{
    const struct linear *l = context;
    find_rows(l, l->input, wanted);
}

static void weight_rows(const void *context, const struct tiles_rows *wanted)
{
    const struct linear *l = context;
    find_rows(l, l->weight, wanted);
}

static void store_features(const struct linear *l, size_t row, size_t feature, size_t n, const double *sums)
{
    const size_t at = row * l->out_features + feature;
    for (size_t i = 0; i < n; i++) {
        if (l->work == WORK_F64) {
            ((double *)l->output)[at + i] = sums[i] + (l->bias == NULL ? 0.0 : ((const double *)l->bias)[feature + i]);
        } else {
            ((float *)l->output)[at + i] = (float)(sums[i] + (l->bias == NULL ? 0.0 : ((const float *)l->bias)[feature + i]));
        }
    }
}

static void store_tile(const void *context, const struct tiles_block *b)
{
    for (size_t r = 0; r < b->rows; r++) {
        store_features(context, b->row + r, b->column, b->columns, b->sums + r * b->step);
    }
}

int linear(const struct linear *l)
{
    const struct tiles tiles = {
        .work = l->work,
        .batches = 1,
        .left = l->rows,
        .right = l->out_features,
        .depth = l->in_features,
        .left_rows = input_rows,
        .right_rows = weight_rows,
        .finish = store_tile,
        .context = l,
    };
    return tiles_run(&tiles);
}

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
