#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/cancel.h"
#include "nn/geometry.h"
#include "vectors/compute_type.h"

/* One window along an axis: the pixels [begin, end) inside the image. It may be empty. */
struct pool_span {
    int64_t begin, end;
};

/*
 * Average pooling with any rectangular windows. Window (i, j) covers the pixels of rows[i] and
 * columns[j]; its result is their sum divided by row_sizes[i] * column_sizes[j]. So one function
 * computes torch's avg_pool2d, with any of its divisors, and adaptive_avg_pool2d. Sums are double.
 */
struct avg_pool2d {
    enum compute_type compute;
    size_t planes; /* images times channels */
    struct extent2 in, out;
    const struct pool_span *rows, *columns; /* [out.h], [out.w]; within the image */
    const double *row_sizes, *column_sizes; /* [out.h], [out.w] */
    struct cancel_token *token;             /* or NULL */
};

/* input is (planes, in), output is (planes, out). Returns 0, or -1 when memory runs out. */
int avg_pool2d(const struct avg_pool2d *pool, const void *input, void *output);

/* Spreads gradient (planes, out) over output (planes, in). Returns 0, or -1 when memory runs out.
 */
int avg_pool2d_gradient(const struct avg_pool2d *pool, const void *gradient, void *output);
