#pragma once

#include <math.h>
#include <stdbool.h>

/*
 * The rule of eps: a norm below eps is replaced by eps, so zero rows are never divided by 0. Every
 * comparison of a norm with eps goes through these functions. NaN does not count as below eps, so a
 * NaN norm stays NaN.
 */

/* The default eps of normalize, and that of all other functions. torch has the same defaults. */
#define NORMALIZE_EPS 1e-12
#define DEFAULT_EPS 1e-08

/* True if eps replaces this norm. */
static inline bool eps_clamps(double norm, double eps)
{
    return norm < eps;
}

/* Returns max(norm, eps). */
static inline double eps_clamp(double norm, double eps)
{
    return eps_clamps(norm, eps) ? eps : norm;
}

/* Returns eps for a row that is scaled by 2^-exponent. */
static inline double eps_scaled(double eps, int exponent)
{
    return exponent == 0 ? eps : ldexp(eps, -exponent);
}

/*
 * Returns a bound for computed squares of norms. If the computed square of a norm reaches the
 * bound, eps does not clamp the norm. relative_error is the largest relative error of the computed
 * square. The bound is above 0 even if eps is 0, so the square of a zero row is always below it.
 */
static inline double eps_unclamped_square(double eps, double relative_error)
{
    return eps * eps * (1.0 + relative_error) + 0x1p-1000;
}

/* The relative_error to pass for sums of squares in double. The actual error is far smaller. */
#define EPS_ERROR_OF_DOUBLES 0x1p-40
