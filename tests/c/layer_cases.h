#pragma once

#include <math.h>

#include "check.h"
#include "guarded.h"

/* Arrays for the tests of layers, and the comparison of results with reference sums in double. */

/* The kinds of numbers in the arrays of a case. ANY: in [-1, 1). WHOLE: integers in [-2, 2].
 * NOT_FINITE: some are NaN or infinite. HUGE_ONES: their sums may overflow. */
enum kind { ANY, WHOLE, NOT_FINITE, HUGE_ONES, KINDS };

static inline enum kind any_kind(void)
{
    return below(2) == 0 ? WHOLE : (enum kind)below(KINDS);
}

/* Returns an array of n numbers of a kind. Without `bad`, all numbers are finite and none is huge.
 */
static inline void *of_kind(int f64, size_t n, enum kind kind, bool bad)
{
    static const double values[] = {NAN, INFINITY, -INFINITY};
    void *array = numbers(f64, n, kind == WHOLE ? 2 : 0);
    for (size_t i = 0; bad && kind == NOT_FINITE && n > 0 && i < 1 + below(3); i++) {
        put(f64, array, below(n), values[below(3)]);
    }
    for (size_t i = 0; bad && kind == HUGE_ONES && i < n; i++) {
        put(f64, array, i, get(f64, array, i) * (f64 ? 1e307 : 1e37));
    }
    return array;
}

/* True if a result agrees with its reference, a sum of `terms` products. `most` is the sum of the
 * magnitudes of the products. `times` multiplies the tolerance, for algorithms that lose more
 * digits. */
static inline bool agrees(int f64, enum kind kind, double got, double expected, size_t terms,
                          double most, double times)
{
    /* Partial sums may overflow, so the result is not compared. */
    const bool may_overflow = kind == HUGE_ONES && !(most < (f64 ? 1e308 : 3e38));
    return may_overflow ||
           fits(f64, got, expected, times * (double)(2 * terms + 4), kind == WHOLE ? 0 : most);
}
