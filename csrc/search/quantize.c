/* SQ8: 8-bit scalar quantization of corpus rows and of queries. */
#include <math.h>
#include <string.h>

#include "base/eps.h"
#include "base/pool.h"
#include "base/scratch.h"
#include "search/quantize.h"

enum { TASK_ROWS = 256 };

void quantize_rows(const struct pair_scores *s, size_t first, size_t rows, uint8_t *codes,
                   struct code_scale *scales, void *buffer)
{
    const struct sq8_kernels *kernels = kernels_current()->sq8;
    const size_t depth = s->plan->depth;
    const double eps = s->call->eps;
    const float clamped_eps = (float)fmin(eps, 0x1p60);
    for (size_t r = 0; r < rows; r++) {
        const void *row;
        float square = 0.0f;
        uint8_t *to = codes + r * depth;
        const struct gemm_rows request = {0, first + r, 1, 0, depth, 0, buffer, 0, &row};
        pair_scores_find_rows(s, SIDE_X, NULL, &request);
        if (s->product == COMPUTE_F32) {
            square = kernels->quantize(to, &scales[r], row, clamped_eps, depth);
        }
        if (square >= 0x1p-80f && square <= 0x1p80f) {
            continue;
        }
        /*
         * The kernel takes float32 rows whose squared norm is neither tiny, huge nor NaN. Scale any
         * other row by a power of two, so that its largest element is near 1, and round it to
         * float32.
         */
        float *scaled_row = (float *)((double *)buffer + depth);
        double largest = 0.0;
        for (size_t k = 0; k < depth; k++) {
            const double magnitude = fabs(compute_load(s->product, row, k));
            largest = magnitude > largest || isnan(magnitude) ? magnitude : largest;
        }
        const int exponent = largest > 0.0 && isfinite(largest) ? ilogb(largest) : 0;
        for (size_t k = 0; k < depth; k++) {
            scaled_row[k] = (float)ldexp(compute_load(s->product, row, k), -exponent);
        }
        kernels->quantize(to, &scales[r], scaled_row,
                          (float)fmin(eps_scaled(eps, exponent), 0x1p120), depth);
    }
}

struct code_query quantize_query(const float *unit_query, bool finite, size_t depth, void *codes,
                                 size_t bytes)
{
    const struct sq8_kernels *kernels = kernels_current()->sq8;
    double largest = 0.0, square = 0.0, sum = 0.0;
    memset(codes, 0, bytes);
    if (!finite) {
        return (struct code_query){.residual_norm = INFINITY};
    }
    for (size_t k = 0; k < depth; k++) {
        largest = fmax(largest, fabs((double)unit_query[k]));
    }
    const double scale = (double)(float)(largest / kernels->query_code_max);
    for (size_t k = 0; scale > 0.0 && k < depth; k++) {
        const double code_max = kernels->query_code_max,
                     code = fmax(-code_max, fmin(code_max, rint(unit_query[k] / scale))),
                     residual = unit_query[k] - code * scale;
        if (kernels->query_code_size == sizeof(int8_t)) {
            ((int8_t *)codes)[k] = (int8_t)code;
        } else {
            ((int16_t *)codes)[k] = (int16_t)code;
        }
        square += residual * residual;
        sum += code;
    }
    return (struct code_query){.scale = (float)scale,
                               .residual_norm = (float)(sqrt(square) * (1.0 + 0x1p-20) + 0x1p-22),
                               .offset = (int32_t)(CODE_ZERO * sum)};
}

struct quantize_call {
    struct pair_scores scores;
    uint8_t *codes;
    struct code_scale *scales;
    char *buffers; /* one for each worker */
    size_t buffer_size;
    struct cancel_token *token;
};

static void quantize_task(void *context, size_t task, size_t worker)
{
    const struct quantize_call *q = context;
    const size_t first = task * TASK_ROWS, rows = smaller(TASK_ROWS, q->scores.left - first);
    quantize_rows(&q->scores, first, rows, q->codes + first * q->scores.plan->depth,
                  q->scales + first, q->buffers + worker * q->buffer_size);
    progress_add(q->token, rows);
}

int search_quantize(const struct search *s, uint8_t *codes, struct code_scale *scales)
{
    struct search_block block = {
        .search = s, .rows = s->corpus_rows.size, .queries = 1, .owner = (size_t)ANY_WORKER};
    struct plan plan;
    struct quantize_call q = {.codes = codes, .scales = scales, .token = s->token};
    block_plan(&block, &plan);
    const struct reduction call = block_call(&block, &plan);
    pair_scores_init(&q.scores, &call);
    const int threads = thread_count_for(block.rows, plan.depth, GRAIN_SUMS);
    q.buffer_size = scratch_round(size_product_or_max(plan.depth, sizeof(double) + sizeof(float)));
    q.buffers = scratch_alloc(size_product_or_max((size_t)threads, q.buffer_size));
    if (q.buffers == NULL) {
        return -1;
    }
    pool_run(size_parts(block.rows, TASK_ROWS), threads, quantize_task, &q, s->token);
    scratch_free(q.buffers);
    return 0;
}
