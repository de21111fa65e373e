/* SQ8: 8-bit scalar quantization of corpus rows and of queries. */
#include <math.h>
#include <string.h>

#include "base/eps.h"
#include "base/pool.h"
#include "base/scratch.h"
#include "search/head.h"
#include "search/quantize.h"

enum {
    TASK_ROWS = 256,
    SQUARES_BATCH = 64 /* rows whose squared norms one kernel call sums */
};

/* The residual of a row that is its own code: the scale, 1 / norm, has a relative error below
 * 2^-22. */
static const float OWN_RESIDUAL = 0x1p-20f;

/*
 * Divides a row's codes, those of x / |x|, by max(|x|, eps) instead of |x|. If the divisor is so
 * large that the scale could leave the range of float32, the row is never ruled out.
 */
static void clamp_scale(struct code_scale *scale, float norm, float divisor)
{
    if (isnan(divisor) || (norm > 0.0f && norm < divisor * 0x1p-60f)) {
        *scale = (struct code_scale){0.0f, INFINITY};
    } else if (divisor > norm) {
        scale->scale *= norm / divisor;
        scale->residual_norm *= norm / divisor * (1.0f + 0x1p-20f);
    }
}

/* Quantizes row `row`. *exponent is that of the row before: neighbouring rows mostly need the same
 * one. half may be NULL, else it gets the residual of the upper halves. */
static void quantize_row(const struct float_rows *rows, size_t row, double eps, uint8_t *codes,
                         struct code_scale *scale, float *half, int *exponent, void *buffer)
{
    quantize_kernel *quantize = kernels_current()->sq8->quantize;
    const float *x = float_row(rows, row, *exponent, buffer);
    float square = quantize(codes, scale, half, x, rows->depth);
    if (!square_is_accurate(square)) {
        bool zero;
        *exponent = float_row_exponent(rows, row, buffer, &zero);
        x = float_row(rows, row, *exponent, buffer);
        square = quantize(codes, scale, half, x, rows->depth);
    }
    const float norm = sqrtf(square), divisor = float_divisor(norm, eps, *exponent);
    if (half != NULL && divisor > norm) {
        *half *= norm / divisor * (1.0f + 0x1p-20f);
    }
    clamp_scale(scale, norm, divisor);
}

void quantize_rows(const struct float_rows *rows, size_t first, size_t count, double eps,
                   uint8_t *codes, struct code_scale *scales, void *buffer)
{
    int exponent = 0;
    for (size_t r = 0; r < count; r++, codes += rows->depth) {
        quantize_row(rows, first + r, eps, codes, scales + r, NULL, &exponent, buffer);
    }
}

/* The upper 16 bits of a float >= 0, rounded up. */
static uint32_t upper_bits(float number)
{
    uint32_t bits;
    memcpy(&bits, &number, sizeof bits);
    return (bits + UINT16_MAX) >> 16;
}

void quantize_halves(const struct float_rows *rows, size_t first, size_t count, double eps,
                     uint8_t *upper, uint8_t *lower, struct code_scale *scales, void *buffer)
{
    const size_t bytes = HALF_BYTES(rows->depth);
    uint8_t codes[SQ8_MAX_DEPTH];
    int exponent = 0;
    for (size_t r = 0; r < count; r++, upper += bytes, lower += bytes) {
        float half;
        quantize_row(rows, first + r, eps, codes, scales + r, &half, &exponent, buffer);
        kernels_current()->sq8->split_halves(upper, lower, codes, rows->depth);
        if (isfinite(scales[r].residual_norm)) {
            const uint32_t bits = upper_bits(scales[r].residual_norm) << 16 | upper_bits(half);
            memcpy(&scales[r].residual_norm, &bits, sizeof bits);
        }
    }
}

/* The scale of a row of 8-bit integers, whose elements are its codes. */
static struct code_scale scale_of_norm(float norm, double eps)
{
    struct code_scale scale = norm > 0.0f ? (struct code_scale){1.0f / norm, OWN_RESIDUAL}
                                          : (struct code_scale){0.0f, 0.0f};
    clamp_scale(&scale, norm, float_divisor(norm, eps, 0));
    return scale;
}

void scale_rows(const struct float_rows *rows, size_t first, size_t count, double eps,
                struct code_scale *scales)
{
    rows_kernel *squares_of = kernels_current()->sums->rows[rows->operand->dtype][SUMS_SQUARE];
    double squares[SQUARES_BATCH];
    for (size_t r = 0, n; r < count; r += n) {
        n = run_of_numbers(rows->numbers, first + r, smaller(SQUARES_BATCH, count - r));
        squares_of(&(struct sums_call){.x = float_rows_data(rows, first + r),
                                       .x_step = rows->row_step,
                                       .rows = n,
                                       .n = rows->depth,
                                       .sums = squares});
        for (size_t i = 0; i < n; i++) {
            scales[r + i] = scale_of_norm((float)sqrt(squares[i]), eps);
        }
    }
}

void bounds_of_squares(const int32_t *squares, size_t count, double eps, float longest,
                       const struct row_bounds *bounds)
{
    const struct row_bounds b = *bounds;
    /* The norm of a row of integers is 0 or at least 1, so such an eps clamps only the norm 0. */
    if (eps > 0.0 && eps <= 0.5) {
        for (size_t r = 0; r < count; r++) {
            const float inverse = 1.0f / sqrtf((float)squares[r]), longest_norm = inverse * longest;
            const float limited = longest_norm < 1.0f ? longest_norm : 1.0f;
            b.scale[r] = squares[r] > 0 ? inverse : 0.0f;
            b.residual[r] = squares[r] > 0 ? OWN_RESIDUAL : 0.0f;
            b.norm[r] = squares[r] > 0 ? limited + OWN_RESIDUAL : 0.0f;
        }
        return;
    }
    for (size_t r = 0; r < count; r++) {
        const struct code_scale s = scale_of_norm(sqrtf((float)squares[r]), eps);
        const struct row_bounds row = {b.scale + r, b.norm + r, b.residual + r, NULL};
        bounds_of_rows(&s, NULL, 1, longest, &row);
    }
}

void bounds_of_rows(const struct code_scale *scales, const size_t *numbers, size_t count,
                    float longest, const struct row_bounds *bounds)
{
    const struct row_bounds b = *bounds;
    for (size_t r = 0; r < count; r++) {
        const struct code_scale *s = scales + (numbers == NULL ? r : numbers[r]);
        const float longest_norm = s->scale * longest;
        b.scale[r] = s->scale;
        b.residual[r] = s->residual_norm;
        b.norm[r] = (longest_norm < 1.0f ? longest_norm : 1.0f) + s->residual_norm;
    }
}

struct quantize_call {
    struct float_rows rows;
    size_t row_count;
    double eps;
    uint8_t *upper, *lower; /* NULL, or the codes in halves */
    struct code_scale *scales;
    /* the directions of heads; NULL: quantizes the rows themselves */
    const struct rotation *rotation;
    uint8_t *heads;
    struct head_scale *head_scales;
    float *panels; /* of the directions */
    char *buffers; /* one for each worker */
    size_t buffer_size;
    struct cancel_token *token;
};

static void quantize_task(void *context, size_t task, size_t worker)
{
    const struct quantize_call *q = context;
    const size_t first = task * TASK_ROWS, count = smaller(TASK_ROWS, q->row_count - first);
    char *buffer = q->buffers + worker * q->buffer_size;
    if (q->rotation != NULL) {
        const struct head_source source = {&q->rows, q->rotation, q->panels, q->eps};
        quantize_heads(&source, first, count, q->heads + first * q->rotation->size,
                       q->head_scales + first, buffer);
    } else if (q->upper == NULL) {
        scale_rows(&q->rows, first, count, q->eps, q->scales + first);
    } else {
        const size_t at = first * HALF_BYTES(q->rows.depth);
        quantize_halves(&q->rows, first, count, q->eps, q->upper + at, q->lower + at,
                        q->scales + first, buffer);
    }
    progress_add(q->token, count);
}

static int run_quantize(const struct search *s, struct quantize_call *q)
{
    const size_t rows = s->corpus_rows.size, depth = s->depth.size;
    const int threads = thread_count_for(rows, depth, GRAIN_SUMS);
    q->rows = float_rows_of(s, s->corpus.data);
    q->row_count = rows;
    q->eps = s->eps;
    q->token = s->token;
    q->buffer_size =
        q->rotation == NULL ? float_row_size(depth) : head_buffer_size(depth, q->rotation->size);
    const size_t panels = q->rotation == NULL ? 0 : head_panels_size(depth, q->rotation->size);
    char *memory = scratch_alloc(
        size_sum_or_max(panels, size_product_or_max((size_t)threads, q->buffer_size)));
    if (memory == NULL) {
        return -1;
    }
    q->panels = (float *)memory;
    q->buffers = memory + panels;
    if (q->rotation != NULL) {
        make_head_panels(q->rotation, depth, q->panels);
    }
    pool_run(size_parts(rows, TASK_ROWS), threads, quantize_task, q, s->token);
    scratch_free(memory);
    return 0;
}

int search_quantize(const struct search *s, uint8_t *upper, uint8_t *lower,
                    struct code_scale *scales)
{
    struct quantize_call q = {.upper = upper, .lower = lower, .scales = scales};
    return run_quantize(s, &q);
}

int search_quantize_heads(const struct search *s, const struct rotation *rotation, uint8_t *heads,
                          struct head_scale *scales)
{
    struct quantize_call q = {.heads = heads, .rotation = rotation, .head_scales = scales};
    return run_quantize(s, &q);
}
