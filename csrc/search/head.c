/* The rotated head of rows and queries, see head.h. */
#include "search/head.h"

#include <math.h>
#include <string.h>

enum {
    BATCH = 30, /* rows that are multiplied with a panel; a multiple of 6, at most COARSE_STEP */
    DEPTH_BLOCK = 128 /* elements of a panel that stay in L1 while a batch is multiplied with it */
};

static size_t vector_lanes(void)
{
    return kernels_current()->layers[COMPUTE_F32].lanes;
}

/*
 * The largest error of a dot product of D elements by panels, in proportion to the norms: a sum
 * takes DEPTH_BLOCK products, then one addition for each block, and each of these at most two
 * roundings of 2^-24. The last factor covers the terms of second order.
 */
static double panel_error(size_t depth)
{
    return ((double)smaller(depth, DEPTH_BLOCK) + (double)size_parts(depth, DEPTH_BLOCK) + 8.0) *
           0x1p-23 * (1.0 + 0x1p-9);
}

/* The largest error of a head, in proportion to the norm of its row. `error` is that of an element.
 */
static double head_error(double error, const struct rotation *rotation)
{
    return error * sqrt((double)rotation->size * (1.0 + rotation->error));
}

/* Multiplies a vector with all directions. head is (size,). */
static void multiply(const struct rotation *rotation, const float *vector, size_t depth,
                     float *head)
{
    float squares[COARSE_STEP]; /* of the directions; not used */
    for (size_t i = 0, n; i < rotation->size; i += n) {
        n = smaller(COARSE_STEP, rotation->size - i);
        kernels_current()->sums->coarse_dots[DTYPE_F32](
            head + i, squares, rotation->directions + i * depth,
            (ptrdiff_t)(depth * sizeof *vector), n, &vector, 1, depth);
    }
}

/* Directions of one panel. */
static size_t panel_width(void)
{
    return kernels_current()->layers[COMPUTE_F32].vectors * vector_lanes();
}

static size_t padded_size(size_t size)
{
    return size_parts(size, panel_width()) * panel_width();
}

size_t head_panels_size(size_t depth, size_t size)
{
    return scratch_round(size_product_or_max(depth, padded_size(size) * sizeof(float)));
}

void make_head_panels(const struct rotation *rotation, size_t depth, float *panels)
{
    const size_t width = panel_width();
    memset(panels, 0, head_panels_size(depth, rotation->size));
    for (size_t i = 0; i < rotation->size; i++) {
        float *panel = panels + i / width * width * depth + i % width;
        for (size_t k = 0; k < depth; k++) {
            panel[k * width] = rotation->directions[i * depth + k];
        }
    }
}

/* Multiplies at most BATCH rows of floats, x_step bytes apart, with all directions. heads is
 * (rows, padded_size(size)). */
static void multiply_rows(const struct rotation *rotation, const float *panels, const void *x,
                          ptrdiff_t x_step, size_t rows, size_t depth, float *heads)
{
    const size_t width = panel_width(), step = padded_size(rotation->size);
    ptrdiff_t of_rows[BATCH], of_elements[DEPTH_BLOCK];
    for (size_t r = 0; r < rows; r++) { /* the rows are aligned */
        of_rows[r] = (ptrdiff_t)r * (x_step / (ptrdiff_t)sizeof(float));
    }
    for (size_t k = 0; k < DEPTH_BLOCK; k++) {
        of_elements[k] = (ptrdiff_t)k;
    }
    for (size_t i = 0; i < step; i += width, panels += width * depth) {
        for (size_t k = 0; k < depth; k += DEPTH_BLOCK) {
            kernels_current()->layers[COMPUTE_F32].pixels(
                &(struct pixels){.input = (const float *)x + k,
                                 .pixel_offsets = of_rows,
                                 .depth_offsets = of_elements,
                                 .pixels = rows,
                                 .depth = smaller(DEPTH_BLOCK, depth - k),
                                 .filters = panels + k * width,
                                 .vectors = width / vector_lanes(),
                                 .add = k > 0,
                                 .sums = heads + i,
                                 .sums_step = step});
        }
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
    const double norm = sqrt((double)row_square), error = head_error(panel_error(depth), rotation),
                 rounding = COARSE_DOT_ERROR(depth) + COARSE_DOT_ERROR(rotation->size) + 0x1p-20;
    const double square =
        kernels_current()->sq8->quantize(codes, &code, NULL, head, rotation->size);
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
    return float_row_size(depth) + scratch_round(BATCH * depth * sizeof(float)) +
           scratch_round(BATCH * padded_size(size) * sizeof(float));
}

void quantize_heads(const struct head_source *source, size_t first, size_t count, uint8_t *codes,
                    struct head_scale *scales, void *buffer)
{
    const struct float_rows *rows = source->rows;
    const struct rotation *rotation = source->rotation;
    const float *panels = source->panels;
    const double eps = source->eps;
    const size_t depth = rows->depth, size = rotation->size, step = padded_size(size);
    const bool in_place = rows->in_place && rows->operand->dtype == DTYPE_F32;
    float *converted = (float *)((char *)buffer + float_row_size(depth)), squares[COARSE_STEP];
    float *heads = (float *)((char *)converted + scratch_round(BATCH * depth * sizeof *converted));
    for (size_t r = 0, n; r < count; r += n) {
        n = smaller(BATCH, count - r);
        n = in_place ? run_of_numbers(rows->numbers, first + r, n) : n;
        const void *x = converted;
        ptrdiff_t x_step = (ptrdiff_t)(depth * sizeof *converted);
        for (size_t i = 0; i < n && !in_place; i++) {
            memcpy(converted + i * depth, float_row(rows, first + r + i, 0, buffer),
                   (size_t)x_step);
        }
        if (in_place) {
            x = float_row(rows, first + r, 0, buffer);
            x_step = rows->row_step;
        }
        squares_of(x, x_step, n, depth, squares);
        multiply_rows(rotation, panels, x, x_step, n, depth, heads);
        for (size_t i = 0; i < n; i++) {
            float *head = heads + i * step;
            bool zero = false;
            int exponent = 0;
            if (!square_is_accurate(squares[i])) { /* scales the row */
                exponent = float_row_exponent(rows, first + r + i, buffer, &zero);
                const float *scaled = float_row(rows, first + r + i, exponent, buffer);
                squares_of(scaled, 0, 1, depth, squares + i);
                multiply_rows(rotation, panels, scaled, 0, 1, depth, head);
            }
            const bool known = zero || square_is_accurate(squares[i]);
            const float divisor = float_divisor(sqrtf(squares[i]), eps, exponent);
            quantize_head(rotation, head, depth, squares[i], known ? divisor : NAN,
                          codes + (r + i) * size, scales + r + i);
        }
    }
}

void bounds_of_heads(const struct head_scale *scales, const size_t *numbers, size_t count,
                     size_t size, const struct row_bounds *bounds)
{
    const struct row_bounds b = *bounds;
    const float longest = (CODE_ZERO - 1) * sqrtf((float)size) * (1.0f + 0x1p-20f),
                most = 1.0f + (float)MAX_ROTATION_ERROR; /* bounds |R x| for |x| <= 1 */
    for (size_t r = 0; r < count; r++) {
        const struct head_scale *s = scales + (numbers == NULL ? r : numbers[r]);
        const float longest_norm = s->scale * longest;
        b.scale[r] = s->scale;
        b.residual[r] = s->residual;
        b.norm[r] = (longest_norm < most ? longest_norm : most) + s->residual;
        b.tail[r] = s->tail;
    }
}

void head_of_query(const struct rotation *rotation, size_t depth, struct coded_queries *heads,
                   size_t query, const float *unit_query, bool finite, float *vector)
{
    struct query_bound *bound = heads->bounds + query;
    multiply(rotation, unit_query, depth, vector);
    const double head = sum_of_squares(vector, rotation->size),
                 square = sum_of_squares(unit_query, depth);
    coded_queries_set(heads, query, vector, finite && isfinite(head));
    const double error = head_error(kernels_current()->sums->coarse_error(depth), rotation),
                 least = fmax(0.0, sqrt(head) - error),
                 rest = square - least * least / (1.0 + rotation->error);
    bound->norm = (float)((sqrt(head) + error) * (1.0 + 0x1p-20));
    bound->residual += (float)((error + 1.1 * rotation->error) * (1.0 + 0x1p-20));
    bound->tail = (float)(sqrt(fmax(rest, 0.0) + 0x1p-40) * (1.0 + 0x1p-20) + 0x1p-17);
}
