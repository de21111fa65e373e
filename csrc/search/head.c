/* The rotated head of rows and queries, see head.h. */
#include "search/head.h"

#include <math.h>
#include <string.h>

enum { BATCH = 16 }; /* rows that stay in L1 while all directions are multiplied with them */

static double head_error(size_t depth, const struct rotation *rotation)
{
    return COARSE_DOT_ERROR(depth) * sqrt((double)rotation->size * (1.0 + rotation->error));
}

/* The head of a batch of rows, and their squared norms. */
struct batch {
    float *dots; /* [size][COARSE_STEP] */
    float *head; /* [size]: that of one row */
    float squares[BATCH];
};

/* Multiplies rows of floats with all directions. */
static void multiply(const struct rotation *rotation, struct batch *b, enum dtype dtype,
                     const void *x, ptrdiff_t step, size_t rows, size_t depth)
{
    coarse_dots_kernel *kernel = kernels_current()->sums->coarse_dots[dtype];
    for (size_t i = 0; i < rotation->size; i += HEAD_STEP) {
        const float *directions[HEAD_STEP];
        for (size_t j = 0; j < HEAD_STEP; j++) {
            directions[j] = rotation->directions + (i + j) * depth;
        }
        kernel(b->dots + i * COARSE_STEP, b->squares, x, step, rows, directions, HEAD_STEP, depth);
    }
}

/* Quantizes the head of row r of the batch, which has this squared norm and divisor. */
static void quantize_head(const struct rotation *rotation, struct batch *b, size_t depth, size_t r,
                          float divisor, uint8_t *codes, struct head_scale *scale)
{
    struct code_scale code;
    for (size_t i = 0; i < rotation->size; i++) {
        b->head[i] = b->dots[i * COARSE_STEP + r];
    }
    const double norm = sqrt((double)b->squares[r]), error = head_error(depth, rotation),
                 rounding = COARSE_DOT_ERROR(depth) + COARSE_DOT_ERROR(rotation->size) + 0x1p-20;
    const double square = kernels_current()->sq8->quantize(codes, &code, b->head, rotation->size);
    /* |head| / |x|; the relative error of both norms is below `rounding` */
    const double ratio = norm > 0.0 ? sqrt(square) / norm : 0.0,
                 least = fmax(0.0, ratio * (1.0 - 2 * rounding) - error),
                 rest = 1.0 - least * least / (1.0 + rotation->error),
                 shrink = norm < (double)divisor ? norm / (double)divisor : 1.0;
    const double residual =
        (code.residual_norm + 4 * rounding) * ratio * (1.0 + 4 * rounding) + error;
    /* A divisor far above the norm could take the scale out of the range of float32. */
    if (isnan(divisor) || !(ratio < 2.0 && residual < 2.0) || (norm > 0.0 && shrink < 0x1p-60)) {
        *scale = (struct head_scale){0.0f, INFINITY, 0.0f};
        return;
    }
    *scale = (struct head_scale){
        .scale = (float)(code.scale * ratio * shrink),
        .residual = (float)(residual * shrink * (1.0 + 0x1p-20)),
        .tail = (float)(sqrt(fmax(rest, 0.0) + 0x1p-40) * shrink * (1.0 + 0x1p-20)),
    };
}

size_t head_buffer_size(size_t depth, size_t size)
{
    return float_row_size(depth) + scratch_round(size * COARSE_STEP * sizeof(float)) +
           scratch_round(size * sizeof(float));
}

void quantize_heads(const struct float_rows *rows, const struct rotation *rotation, size_t first,
                    size_t count, double eps, uint8_t *codes, struct head_scale *scales,
                    void *buffer)
{
    const size_t depth = rows->depth, size = rotation->size;
    const enum dtype dtype = rows->operand->dtype;
    const bool in_place = rows->in_place && kernels_current()->sums->coarse_dots[dtype] != NULL;
    struct batch b = {.dots = (float *)((char *)buffer + float_row_size(depth))};
    b.head = b.dots + size * COARSE_STEP;
    for (size_t r = 0, n; r < count; r += n) {
        n = in_place ? run_of_numbers(rows->numbers, first + r, smaller(BATCH, count - r)) : 1;
        if (in_place) {
            multiply(rotation, &b, dtype, float_rows_data(rows, first + r), rows->row_step, n,
                     depth);
        } else {
            multiply(rotation, &b, DTYPE_F32, float_row(rows, first + r, 0, buffer), 0, 1, depth);
        }
        bool accurate = true;
        for (size_t i = 0; i < n; i++) {
            accurate = accurate && square_is_accurate(b.squares[i]);
        }
        for (size_t i = 0; i < n && accurate; i++) {
            quantize_head(rotation, &b, depth, i, float_divisor(sqrtf(b.squares[i]), eps, 0),
                          codes + (r + i) * size, scales + r + i);
        }
        for (size_t i = 0; i < n && !accurate; i++) {
            bool zero;
            const int exponent = float_row_exponent(rows, first + r + i, buffer, &zero);
            multiply(rotation, &b, DTYPE_F32, float_row(rows, first + r + i, exponent, buffer), 0,
                     1, depth);
            const bool known = zero || square_is_accurate(b.squares[0]);
            const float divisor = float_divisor(sqrtf(b.squares[0]), eps, exponent);
            quantize_head(rotation, &b, depth, 0, known ? divisor : NAN, codes + (r + i) * size,
                          scales + r + i);
        }
    }
}

void bounds_of_heads(const struct head_scale *scales, const size_t *numbers, size_t count,
                     size_t size, const struct row_bounds *bounds)
{
    float *scale = (float *)bounds->scale, *norm = (float *)bounds->norm,
          *residual = (float *)bounds->residual, *tail = (float *)bounds->tail;
    const float longest = (CODE_ZERO - 1) * sqrtf((float)size) * (1.0f + 0x1p-20f),
                most = 1.0f + (float)MAX_ROTATION_ERROR; /* bounds |R x| for |x| <= 1 */
    for (size_t r = 0; r < count; r++) {
        const struct head_scale *s = scales + (numbers == NULL ? r : numbers[r]);
        const float longest_norm = s->scale * longest;
        scale[r] = s->scale;
        residual[r] = s->residual;
        norm[r] = (longest_norm < most ? longest_norm : most) + s->residual;
        tail[r] = s->tail;
    }
}

void head_of_query(const struct rotation *rotation, size_t depth, struct coded_queries *heads,
                   size_t query, const float *unit_query, bool finite, float *vector)
{
    coarse_dots_kernel *kernel = kernels_current()->sums->coarse_dots[DTYPE_F32];
    struct query_bound *bound = heads->bounds + query;
    float squares[COARSE_STEP];
    double head = 0.0, square = 0.0;
    for (size_t i = 0; i < rotation->size; i += COARSE_STEP) {
        kernel(vector + i, squares, rotation->directions + i * depth,
               (ptrdiff_t)(depth * sizeof(float)), smaller(COARSE_STEP, rotation->size - i),
               &unit_query, 1, depth);
    }
    for (size_t i = 0; i < rotation->size; i++) {
        head += (double)vector[i] * vector[i];
    }
    for (size_t k = 0; k < depth; k++) {
        square += (double)unit_query[k] * unit_query[k];
    }
    coded_queries_set(heads, query, vector, finite && isfinite(head));
    const double error = head_error(depth, rotation), least = fmax(0.0, sqrt(head) - error),
                 rest = square - least * least / (1.0 + rotation->error);
    bound->norm = (float)((sqrt(head) + error) * (1.0 + 0x1p-20));
    bound->residual += (float)((error + 1.1 * rotation->error) * (1.0 + 0x1p-20));
    bound->tail = (float)(sqrt(fmax(rest, 0.0) + 0x1p-40) * (1.0 + 0x1p-20) + 0x1p-17);
}
