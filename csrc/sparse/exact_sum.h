#pragma once

#include "vectors/compute_type.h"

/*
 * The sums of sparse rows. Every sum of products adds common columns in ascending order. A column
 * that one of the rows lacks adds nothing. So a sum depends on the two rows alone, and not on which
 * row comes first.
 *
 * Products of two floats are exact in double, and their sum is rounded to float, so COMPUTE_F32
 * needs the sum alone. COMPUTE_F64 also adds the rounding errors of its additions (TwoSum, Knuth).
 */
struct exact_sum {
    double sum, error;
};

static inline __attribute__((always_inline)) void exact_add(const enum compute_type compute,
                                                            struct exact_sum *s, double term)
{
    const double total = s->sum + term;
    if (compute == COMPUTE_F64) {
        const double added = total - s->sum;
        s->error += (s->sum - (total - added)) + (term - added);
    }
    s->sum = total;
}

static inline double exact_total(const struct exact_sum *s)
{
    return s->sum + s->error;
}
