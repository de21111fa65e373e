/* Corpus rows as float32. */
#include "search/float_rows.h"

#include <math.h>
#include <string.h>

/* Rows are scaled up by at most 2^1000, which brings every double near 1, except a few subnormal
 * ones. */
enum { MAX_EXPONENT = 1000 };

struct float_rows float_rows_of(const struct search *s, const char *data)
{
    const struct operand *corpus = &s->corpus;
    const bool contiguous =
        s->depth.x == (ptrdiff_t)dtype_size(corpus->dtype) || s->depth.size <= 1;
    return (struct float_rows){.operand = corpus,
                               .data = data,
                               .row_step = s->corpus_rows.x,
                               .element_step = s->depth.x,
                               .depth = s->depth.size,
                               .numbers = s->row_numbers,
                               .in_place = contiguous && corpus->aligned && !corpus->swapped};
}

/* Loads a row as doubles into the start of the buffer. */
static const double *load_doubles(const struct float_rows *rows, size_t row, void *buffer)
{
    operand_load(rows->operand, float_rows_data(rows, row), rows->element_step, rows->depth,
                 COMPUTE_F64, buffer);
    return buffer;
}

const float *float_row(const struct float_rows *rows, size_t row, int exponent, void *buffer)
{
    const void *from = float_rows_data(rows, row);
    enum dtype dtype = rows->operand->dtype;
    if (rows->in_place && dtype == DTYPE_F32 && exponent == 0) {
        return from;
    }
    if (!rows->in_place) {
        from = load_doubles(rows, row, buffer);
        dtype = DTYPE_F64;
    }
    float *to = (float *)((double *)buffer + rows->depth);
    kernels_current()->sums->to_floats[dtype](to, from, rows->depth, ldexp(1.0, -exponent));
    return to;
}

/* True if all bytes of a contiguous row are 0. */
static bool bytes_are_zero(const char *bytes, size_t n)
{
    return n == 0 || (bytes[0] == 0 && memcmp(bytes, bytes + 1, n - 1) == 0);
}

int float_row_exponent(const struct float_rows *rows, size_t row, void *buffer, bool *zero)
{
    double largest = 0.0;
    *zero = rows->in_place && bytes_are_zero(float_rows_data(rows, row),
                                             rows->depth * dtype_size(rows->operand->dtype));
    if (*zero) {
        return 0;
    }
    const double *elements = load_doubles(rows, row, buffer);
    for (size_t k = 0; k < rows->depth; k++) {
        const double magnitude = fabs(elements[k]);
        largest = magnitude > largest || isnan(magnitude) ? magnitude : largest;
    }
    *zero = largest == 0.0;
    if (*zero || !isfinite(largest)) {
        return 0;
    }
    const int exponent = ilogb(largest);
    return exponent > -MAX_EXPONENT ? exponent : -MAX_EXPONENT;
}
