/* The rotated head of rows and queries, see head.h. */
#include "search/head.h"

#include <math.h>
#include <string.h>

enum {
    BATCH = 16, /* rows that stay in L1 while all directions are multiplied with them */
    MAX_VECTORS = SQ8_MAX_DEPTH / 4, /* of a row; a vector has at least four lanes */
    DIRECTIONS = 64                  /* directions of one kernel call */
};

static size_t vector_lanes(void)
{
    return kernels_current()->layers[COMPUTE_F32].lanes;
}

/*
 * The largest error of a dot product of D elements, in proportion to the norms. A lane adds
 * D / lanes products; then come at most 16 additions of lanes and 15 products of the last elements.
 * Each takes at most two roundings of 2^-24. The last factor covers the terms of second order.
 */
static double dot_error(size_t depth)
{
    return ((double)depth / (double)vector_lanes() + 32.0) * 0x1p-23 * (1.0 + 0x1p-9);
}

static double head_error(size_t depth, const struct rotation *rotation)
{
    return dot_error(depth) * sqrt((double)rotation->size * (1.0 + rotation->error));
}

/* Multiplies at most BATCH rows of floats, x_step bytes apart, with all directions. heads is
 * (rows, size). */
static void multiply(const struct rotation *rotation, const void *x, ptrdiff_t x_step, size_t rows,
                     size_t depth, float *heads)
{
    const size_t lanes = vector_lanes(), vectors = depth / lanes;
    ptrdiff_t at[MAX_VECTORS];
    const void *right[BATCH], *left[DIRECTIONS];
    const struct dots d = {
        .left_offsets = at,
        .right_offsets = at,
        .vectors = vectors,
        .tail = depth % lanes,
        .tail_offset = (ptrdiff_t)(vectors * lanes),
        .out_row_step = 1,
        .out_column_step = rotation->size,
    };
    for (size_t i = 0; i < vectors; i++) {
        at[i] = (ptrdiff_t)(i * lanes);
    }
    for (size_t r = 0; r < rows; r++) {
        right[r] = (const char *)x + (ptrdiff_t)r * x_step;
    }
    for (size_t i = 0, n; i < rotation->size; i += n) {
        n = smaller(DIRECTIONS, rotation->size - i);
        for (size_t j = 0; j < n; j++) {
            left[j] = rotation->directions + (i + j) * depth;
        }
        kernels_current()->layers[COMPUTE_F32].dots(&d, left, n, right, rows, heads + i);
    }
}

/* The squared norms of at most BATCH rows of floats, x_step bytes apart. */
static void squares_of(const void *x, ptrdiff_t x_step, size_t rows, size_t depth, float *squares)
{
    float dots[COARSE_STEP];
    const float *any = x; /* a vector for the products, which are not used */
    kernels_current()->sums->coarse_dots[DTYPE_F32](dots, squares, x, x_step, rows, &any, 1, depth);
}

/* Quantizes the head of a row that has this squared norm and divisor. */
static void quantize_head(const struct rotation *rotation, const float *head, size_t depth,
                          float row_square, float divisor, uint8_t *codes, struct head_scale *scale)
{
    struct code_scale code;
    const double norm = sqrt((double)row_square), error = head_error(depth, rotation),
                 rounding = COARSE_DOT_ERROR(depth) + COARSE_DOT_ERROR(rotation->size) + 0x1p-20;
    const double square = kernels_current()->sq8->quantize(codes, &code, head, rotation->size);
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
    return float_row_size(depth) + scratch_round(BATCH * size * sizeof(float));
}

void quantize_heads(const struct float_rows *rows, const struct rotation *rotation, size_t first,
                    size_t count, double eps, uint8_t *codes, struct head_scale *scales,
                    void *buffer)
{
    const size_t depth = rows->depth, size = rotation->size;
    const bool in_place = rows->in_place && rows->operand->dtype == DTYPE_F32;
    float *heads = (float *)((char *)buffer + float_row_size(depth)), squares[COARSE_STEP];
    for (size_t r = 0, n; r < count; r += n) {
        n = in_place ? run_of_numbers(rows->numbers, first + r, smaller(BATCH, count - r)) : 1;
        const void *x = float_row(rows, first + r, 0, buffer);
        bool accurate = true;
        squares_of(x, rows->row_step, n, depth, squares);
        multiply(rotation, x, rows->row_step, n, depth, heads);
        for (size_t i = 0; i < n; i++) {
            accurate = accurate && square_is_accurate(squares[i]);
        }
        for (size_t i = 0; i < n && accurate; i++) {
            quantize_head(rotation, heads + i * size, depth, squares[i],
                          float_divisor(sqrtf(squares[i]), eps, 0), codes + (r + i) * size,
                          scales + r + i);
        }
        for (size_t i = 0; i < n && !accurate; i++) {
            bool zero;
            float square;
            const int exponent = float_row_exponent(rows, first + r + i, buffer, &zero);
            x = float_row(rows, first + r + i, exponent, buffer);
            squares_of(x, 0, 1, depth, &square);
            multiply(rotation, x, 0, 1, depth, heads);
            const bool known = zero || square_is_accurate(square);
            const float divisor = float_divisor(sqrtf(square), eps, exponent);
            quantize_head(rotation, heads, depth, square, known ? divisor : NAN,
                          codes + (r + i) * size, scales + r + i);
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
    struct query_bound *bound = heads->bounds + query;
    multiply(rotation, unit_query, 0, 1, depth, vector);
    const double head = sum_of_squares(vector, rotation->size),
                 square = sum_of_squares(unit_query, depth);
    coded_queries_set(heads, query, vector, finite && isfinite(head));
    const double error = head_error(depth, rotation), least = fmax(0.0, sqrt(head) - error),
                 rest = square - least * least / (1.0 + rotation->error);
    bound->norm = (float)((sqrt(head) + error) * (1.0 + 0x1p-20));
    bound->residual += (float)((error + 1.1 * rotation->error) * (1.0 + 0x1p-20));
    bound->tail = (float)(sqrt(fmax(rest, 0.0) + 0x1p-40) * (1.0 + 0x1p-20) + 0x1p-17);
}
