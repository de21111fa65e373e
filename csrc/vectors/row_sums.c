#include "vectors/row_sums.h"

#include <limits.h>
#include <math.h>

#include "base/cancel.h"
#include "base/scratch.h"

/* Two blocks of doubles fit the L1 cache. Long rows poll the token every POLL_ELEMENTS elements. */
enum { BLOCK = ROW_BLOCK, POLL_ELEMENTS = 16 * BLOCK };

/* Polls the cancellation token if k is a multiple of POLL_ELEMENTS. True if the call must end. */
static bool is_cancelled_at(size_t k)
{
    return k > 0 && k % POLL_ELEMENTS == 0 && cancel_poll_here();
}

void gather_row(const struct operand *operand, const char *from, const struct axes *reduced,
                enum side side, size_t k, size_t n, enum compute_type compute, void *to)
{
    const int last = reduced->count - 1;
    if (last < 0) {
        operand_load(operand, from, 0, n, compute, to);
        return;
    }
    const struct axis *inner = &reduced->at[last];
    while (n > 0) {
        const size_t count = smaller(inner->size - k % inner->size, n);
        const struct offsets offsets = axes_offsets(reduced, k);
        operand_load(operand, from + (side == SIDE_X ? offsets.x : offsets.y),
                     axis_stride(inner, side), count, compute, to);
        to = (char *)to + count * compute_size(compute);
        k += count;
        n -= count;
    }
}

void gather_pair(const struct row_pair *pair, size_t k, size_t n, void *x, void *y)
{
    gather_row(pair->x_operand, pair->x, pair->reduced, SIDE_X, k, n, pair->compute, x);
    if (pair->kind != SUMS_SQUARE) {
        gather_row(pair->y_operand, pair->y, pair->reduced, SIDE_Y, k, n, pair->compute, y);
    }
}

/* Adds `term` to a sum, and the rounding error of this addition to `error`. */
static void add_exactly(double *sum, double *error, double term)
{
    const double total = *sum + term, added = total - *sum;
    *error += (*sum - (total - added)) + (term - added);
    *sum = total;
}

static double total_of(double sum, double error)
{
    double total = sum + error;
    return isnan(total) ? sum : total; /* the error of an overflowed sum is NaN */
}

/* The value of both exponents of a pair if a row holds infinity or NaN. Only such elements decide
 * the sums then, so scale_block replaces every finite element by its sign. */
enum { NOT_FINITE = INT_MAX };

static void scale_block(double *block, size_t n, int exponent)
{
    if (exponent == 0) {
        return;
    }
    for (size_t i = 0; i < n; i++) {
        if (exponent != NOT_FINITE) {
            block[i] = ldexp(block[i], -exponent);
        } else if (isfinite(block[i])) {
            block[i] = (double)((block[i] > 0.0) - (block[i] < 0.0));
        }
    }
}

static struct row_sums sums_with_exponents(const struct row_pair *pair, int x_exponent,
                                           int y_exponent)
{
    _Alignas(64) double x[BLOCK], y[BLOCK];
    double sums[3] = {0}, errors[3] = {0};
    rows_kernel *kernel = kernels_current()->sums->rows[compute_element(pair->compute)][pair->kind];
    for (size_t k = 0, n; k < pair->depth && !is_cancelled_at(k); k += n) {
        double block[3] = {0};
        n = smaller(pair->depth - k, BLOCK);
        gather_pair(pair, k, n, x, y);
        if (pair->compute == COMPUTE_F64) {
            scale_block(x, n, x_exponent);
            scale_block(y, pair->kind == SUMS_SQUARE ? 0 : n, y_exponent);
        }
        kernel(&(struct sums_call){x, y, 0, 0, 1, n, block, 1});
        for (int s = 0; s < 3; s++) {
            add_exactly(&sums[s], &errors[s], block[s]);
        }
    }
    struct row_sums result = {total_of(sums[0], errors[0]), total_of(sums[1], errors[1]),
                              total_of(sums[2], errors[2]), x_exponent, y_exponent};
    return result;
}

struct row_sums row_sums_plain(const struct row_pair *pair)
{
    return sums_with_exponents(pair, 0, 0);
}

/*
 * Returns the exponent e for which 2^-e scales the largest magnitude into [1, 2). Returns 0 if all
 * elements are 0, NOT_FINITE if one is NaN or infinite.
 */
static int row_exponent(const struct row_pair *pair, enum side side)
{
    double block[BLOCK], largest = 0.0;
    for (size_t k = 0, n; k < pair->depth && !is_cancelled_at(k); k += n) {
        n = smaller(pair->depth - k, BLOCK);
        gather_row(side == SIDE_X ? pair->x_operand : pair->y_operand,
                   side == SIDE_X ? pair->x : pair->y, pair->reduced, side, k, n, COMPUTE_F64,
                   block);
        for (size_t i = 0; i < n; i++) {
            double magnitude = fabs(block[i]);
            if (!isfinite(magnitude)) {
                return NOT_FINITE;
            }
            largest = magnitude > largest ? magnitude : largest;
        }
    }
    return largest > 0.0 ? ilogb(largest) : 0;
}

struct row_sums row_sums_scaled(const struct row_pair *pair)
{
    int x_exponent = row_exponent(pair, SIDE_X);
    int y_exponent = pair->kind == SUMS_SQUARE ? 0 : row_exponent(pair, SIDE_Y);
    if (x_exponent != NOT_FINITE && y_exponent != NOT_FINITE) {
        return sums_with_exponents(pair, x_exponent, y_exponent);
    }
    /*
     * Neither scaling nor plain sums would be right here. Scaling can turn a finite element into 0,
     * and 0 times infinity is NaN. A plain product can overflow to infinity, which gives NaN when
     * it meets infinity of the other sign.
     */
    struct row_sums sums = sums_with_exponents(pair, NOT_FINITE, NOT_FINITE);
    sums.x_exponent = sums.y_exponent = 0;
    return sums;
}

struct row_sums row_sums_of(const struct row_pair *pair)
{
    const struct row_sums sums = row_sums_plain(pair);
    const bool safe = sums_are_safe(pair->compute, pair->kind, sums.xy, sums.xx, sums.yy);
    return safe ? sums : row_sums_scaled(pair);
}
