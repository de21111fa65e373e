/* 8-bit codes of rows and queries. */
#include <math.h>
#include <string.h>

#include "base/pool.h"
#include "base/scratch.h"
#include "search/quantize.h"

enum { ROWS_OF_TASK = 256 };

void quantize_rows(const struct pair_scores *s, size_t first, size_t rows, uint8_t *codes,
                   struct code_scale *scales, void *buffer)
{
    const struct sq8_kernels *kernels = kernels_current()->codes;
    const size_t depth = s->plan->depth;
    const double eps = s->call->eps;
    const float plain_eps = (float)fmin(fmax(eps, 0.0), 0x1p60);
    for (size_t r = 0; r < rows; r++) {
        const void *row;
        float square = 0.0f;
        uint8_t *to = codes + r * depth;
        const struct gemm_rows wanted = {0, first + r, 1, 0, depth, 0, buffer, 0, &row};
        pair_scores_find_rows(s, SIDE_X, NULL, &wanted);
        if (s->product == COMPUTE_F32) {
            square = kernels->quantize(to, &scales[r], row, plain_eps, depth);
        }
        if (square >= 0x1p-80f && square <= 0x1p80f) {
            continue;
        }
        /* brought near 1 by a power of two first, as floats */
        float *near = (float *)((double *)buffer + depth);
        double largest = 0.0;
        for (size_t k = 0; k < depth; k++) {
            const double magnitude =
                fabs(s->product == COMPUTE_F64 ? ((const double *)row)[k]
                                               : (double)((const float *)row)[k]);
            largest = magnitude > largest || isnan(magnitude) ? magnitude : largest;
        }
        const int exponent = largest > 0.0 && isfinite(largest) ? ilogb(largest) : 0;
        for (size_t k = 0; k < depth; k++) {
            near[k] = (float)ldexp(s->product == COMPUTE_F64 ? ((const double *)row)[k]
                                                             : (double)((const float *)row)[k],
                                   -exponent);
        }
        kernels->quantize(to, &scales[r], near, (float)fmin(ldexp(eps, -exponent), 0x1p120), depth);
    }
}

struct code_query quantize_query(const float *direction, bool finite, size_t depth, void *to,
                                 size_t bytes)
{
    const struct sq8_kernels *kernels = kernels_current()->codes;
    double largest = 0.0, square = 0.0, sum = 0.0;
    memset(to, 0, bytes);
    for (size_t k = 0; finite && k < depth; k++) {
        largest = fmax(largest, fabs((double)direction[k]));
    }
    const double scale = (double)(float)(largest / kernels->query_code_max);
    for (size_t k = 0; finite && scale > 0.0 && k < depth; k++) {
        const double most = kernels->query_code_max,
                     factor = fmax(-most, fmin(most, rint(direction[k] / scale))),
                     rest = direction[k] - factor * scale;
        if (kernels->query_code_size == sizeof(int8_t)) {
            ((int8_t *)to)[k] = (int8_t)factor;
        } else {
            ((int16_t *)to)[k] = (int16_t)factor;
        }
        square += rest * rest;
        sum += factor;
    }
    const double rest = finite ? sqrt(square) * (1.0 + 0x1p-20) + 0x1p-22 : INFINITY;
    return (struct code_query){(float)scale, (float)rest, (int32_t)(CODE_ZERO * sum), 0.0f};
}

struct encoding {
    struct pair_scores scores;
    uint8_t *codes;
    struct code_scale *scales;
    char *buffers;
    size_t buffer;
    struct cancel_token *token;
};

static void quantize_task(void *context, size_t task, size_t worker)
{
    const struct encoding *e = context;
    const size_t first = task * ROWS_OF_TASK, rows = smaller(ROWS_OF_TASK, e->scores.left - first);
    quantize_rows(&e->scores, first, rows, e->codes + first * e->scores.plan->depth,
                  e->scales + first, e->buffers + worker * e->buffer);
    progress_add(e->token, rows);
}

int search_quantize(const struct search *s, uint8_t *codes, struct code_scale *scales)
{
    struct search_block part = {
        .search = s, .rows = s->corpus_rows.size, .queries = 1, .only = (size_t)ANY_WORKER};
    struct plan plan;
    struct encoding e = {.codes = codes, .scales = scales, .token = s->token};
    block_plan(&part, &plan);
    const struct reduction call = block_call(&part, &plan);
    pair_scores_init(&e.scores, &call);
    const int threads = thread_count_for(part.rows, plan.depth, GRAIN_SUMS);
    e.buffer = scratch_round(size_product_or_max(plan.depth, sizeof(double) + sizeof(float)));
    e.buffers = scratch_alloc(size_product_or_max((size_t)threads, e.buffer));
    if (e.buffers == NULL) {
        return -1;
    }
    pool_run(size_parts(part.rows, ROWS_OF_TASK), threads, quantize_task, &e, s->token);
    scratch_free(e.buffers);
    return 0;
}
