#pragma once

#include <math.h>
#include <stdbool.h>
#include <stddef.h>

#include "vectors/dtype.h"
#include "vectors/plan.h"

/* Selects one operand of a pair, and its stride along an axis. */
enum side { SIDE_X, SIDE_Y };

static inline ptrdiff_t axis_stride(const struct axis *axis, enum side side)
{
    return side == SIDE_X ? axis->x : axis->y;
}

/*
 * Copies elements [k, k + n) of the row at `from`, in the order of the reduced axes, to contiguous
 * elements of the compute type.
 */
void gather_row(const struct operand *operand, const char *from, const struct axes *reduced,
                enum side side, size_t k, size_t n, enum compute_type compute, void *to);

/*
 * The sums x.y, x.x and y.y of one pair of rows. They are the sums of the rows scaled by
 * 2^-x_exponent and 2^-y_exponent. The exponents are 0 unless doubles would leave the safe range.
 */
struct row_sums {
    double xy, xx, yy;
    int x_exponent, y_exponent;
};

/* A pair of rows in memory. With SUMS_SQUARE there is no y. */
struct row_pair {
    const struct operand *x_operand, *y_operand;
    const char *x, *y;
    const struct axes *reduced;
    size_t depth;
    enum compute_type compute;
    enum sums kind;
};

/*
 * True if underflow lost no term that matters to this sum of squares, and two such sums can be
 * multiplied without overflow. float32 and 16-bit floats need no such check: the square of every
 * nonzero float is a normal double.
 */
static inline bool square_is_safe(double square)
{
    return square >= 0x1p-500 && square <= 0x1p500;
}

/* True if rows need no scaling: their plain sums and the products of these are in range. */
static inline bool sums_are_safe(enum compute_type compute, enum sums kind, double xy, double xx,
                                 double yy)
{
    if (compute != COMPUTE_F64) {
        return true;
    }
    if (kind == SUMS_DOT) {
        return isfinite(xy);
    }
    return square_is_safe(xx) && (kind == SUMS_SQUARE || square_is_safe(yy));
}

/*
 * Copies elements [k, k + n) of a pair, as gather_row does, to arrays of the compute type. y is not
 * used with SUMS_SQUARE.
 */
void gather_pair(const struct row_pair *pair, size_t k, size_t n, void *x, void *y);

/* Longer rows are summed in blocks of this many elements. */
enum { ROW_BLOCK = 1024 };

/* Sums the rows without scaling; exponents are 0. */
struct row_sums row_sums_plain(const struct row_pair *pair);

/*
 * Sums scaled rows, for a pair whose plain sums are not safe. A row of zeros has exponent 0. If a
 * row holds NaN or infinity, both exponents are 0.
 */
struct row_sums row_sums_scaled(const struct row_pair *pair);

/* Returns the plain sums if they are safe, else the scaled ones. */
struct row_sums row_sums_of(const struct row_pair *pair);
