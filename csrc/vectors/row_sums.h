#ifndef COSSIM_VECTORS_ROW_SUMS_H
#define COSSIM_VECTORS_ROW_SUMS_H

#include <stdbool.h>
#include <stddef.h>

#include "vectors/dtype.h"
#include "vectors/plan.h"

/* Which stride of an axis belongs to an operand. */
enum side { SIDE_X, SIDE_Y };

/* Elements k .. k+n-1 of the row at `from`, in the order of the reduced axes, as contiguous work
 * elements. */
void gather_row(const struct operand *operand, const char *from, const struct axes *reduced,
                enum side side, size_t k, size_t n, enum compute_type compute, void *to);

/*
 * x.y, x.x and y.y of one pair of rows, with what it takes to keep doubles in range: where a plain
 * sum of squares left the safe range the rows were scaled by 2^-x_exponent and 2^-y_exponent first,
 * and the sums are those of the scaled rows.
 */
struct row_sums {
    double xy, xx, yy;
    int x_exponent, y_exponent;
};

/* A pair of rows in memory. For SUMS_SQUARE there is no y. */
struct row_pair {
    const struct operand *x_operand, *y_operand;
    const char *x, *y;
    const struct axes *reduced;
    size_t depth;
    enum compute_type compute;
    enum sums kind;
};

/*
 * Sums of squares within these bounds neither lost terms to underflow nor overflow when two of them
 * are multiplied. Sums of narrow floats are always within: the squares of all floats are doubles.
 */
static inline bool square_is_safe(double square)
{
    return square >= 0x1p-500 && square <= 0x1p500;
}

/* Elements summed in one go; longer rows are summed in blocks of so many. */
enum { ROW_BLOCK = 1024 };

/* Plain sums, exponents 0. */
struct row_sums row_sums_plain(const struct row_pair *pair);

/* Scaled sums, for a pair whose plain sums are not safe. A row that holds NaN, infinity or nothing
 * but zeros keeps exponent 0. */
struct row_sums row_sums_scaled(const struct row_pair *pair);

/* Plain sums where they are safe, else scaled ones. */
struct row_sums row_sums_of(const struct row_pair *pair);

#endif
