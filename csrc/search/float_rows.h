#pragma once

#include <math.h>

#include "base/eps.h"
#include "base/scratch.h"
#include "search/search_call.h"

/*
 * Corpus rows as float32, for the prefilter and for SQ8 codes. Rows of every dtype and layout are
 * rounded to float32; the relative error of an element is at most 2^-22. A row whose squares would
 * leave the range of float32 is first scaled by a power of two.
 */
struct float_rows {
    const struct operand *operand;
    const char *data; /* address of row 0 */
    ptrdiff_t row_step, element_step;
    size_t depth;
    const size_t *numbers; /* row r is row numbers[r] of the corpus. NULL: it is row r */
    bool in_place;         /* the rows are contiguous, and a kernel can read their dtype */
};

/* `data` is the address of row 0. */
struct float_rows float_rows_of(const struct search *search, const char *data);

static inline const void *float_rows_data(const struct float_rows *rows, size_t row)
{
    const size_t number = rows->numbers == NULL ? row : rows->numbers[row];
    return rows->data + (ptrdiff_t)number * rows->row_step;
}

/* Returns the size of the buffer for one converted row, in bytes. */
static inline size_t float_row_size(size_t depth)
{
    return scratch_round(size_product_or_max(depth, sizeof(double) + sizeof(float)));
}

/* Returns a row times 2^-exponent. buffer has room for float_row_size(depth) bytes. */
const float *float_row(const struct float_rows *rows, size_t row, int exponent, void *buffer);

/*
 * Measures a row. Returns the exponent that brings its largest element near 1, or 0 if an element
 * is NaN or infinite. If all elements are 0, sets *zero and returns 0.
 */
int float_row_exponent(const struct float_rows *rows, size_t row, void *buffer, bool *zero);

/* True if a float holds this squared norm accurately. Other rows are scaled, unless they are zero
 * or not finite. */
static inline bool square_is_accurate(float square)
{
    return square >= 0x1p-80f && square <= 0x1p80f;
}

/* A row is never ruled out if eps, scaled like the row, reaches this bound. Its scores could leave
 * the range of float32. */
#define MAX_EPS 0x1p100

/* Returns max(|x|, eps) times 2^-exponent. norm is |x| times 2^-exponent. Returns NaN if the row
 * must not be ruled out, because eps and the norm are both 0 or eps is far above the norm. */
static inline float float_divisor(float norm, double eps, int exponent)
{
    const double scaled = eps_scaled(eps, exponent), divisor = eps_clamp((double)norm, scaled);
    return divisor > 0.0 && scaled < MAX_EPS ? (float)divisor : NAN;
}
