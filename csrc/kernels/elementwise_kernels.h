#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * Kernels over contiguous elements of one compute type, for layers and normalization. Sums and
 * affine maps are calculated in double. elementwise_template.h defines the kernels and states the
 * errors of activations.
 */

/*
 * output[i] is the function of input[i], or, unless gradient is NULL, gradient[i] times its
 * derivative at input[i]. An element's result does not depend on its position or on n. The slope is
 * that of leaky ReLU. output may be input or gradient.
 */
typedef void activation_kernel(size_t n, double slope, const void *input, const void *gradient,
                               void *output);

/* Partial sums of a channel. */
enum { CHANNEL_SUMS = 16 };

/*
 * With v = x - centre, adds y to sums[0] and v * y to sums[1]. If y is NULL, v stands in its place.
 * Element i is added to partial sum i % CHANNEL_SUMS.
 */
typedef void channel_sums_kernel(size_t n, const void *x, const void *y, double centre,
                                 double (*sums)[CHANNEL_SUMS]);

/* output = (x - centre) * factors[0] + y * factors[1] + factors[2]. If y is NULL, its term is left
 * out. output overlaps neither x nor y. */
typedef void channel_affine_kernel(size_t n, const void *x, const void *y, double centre,
                                   const double *factors, void *output);

/* sums[i] is the sum of plane i of x, which is (planes, n). Its order depends on n alone. */
typedef void plane_sums_kernel(size_t planes, size_t n, const void *x, double *sums);

/* output[i] = x[i] / divisors[i * step], divided in double and then rounded to the type. step is 0
 * or 1. If step is 0 and x holds an infinity, divisors[0] is infinite or NaN. output may be x. */
typedef void divide_kernel(size_t n, const void *x, const double *divisors, size_t step,
                           void *output);

/* Writes the maximum of n > 0 elements: the first of several equal ones, or the last NaN. If
 * `find`, returns its position. */
typedef size_t first_maximum_kernel(size_t n, const void *elements, bool find, void *to);

/*
 * Pooling of rows whose windows have stride 2, and pooling down columns. n is the number of
 * results, and N the larger of n and the lanes of a vector. The first two kernels read 2 N + width
 * elements. column_maxima reads N elements of each row. max_alternate writes N elements, the other
 * kernels n.
 *
 * max_alternate: out[i] is the maximum of in[2 i], ..., in[2 i + width - 1]: the first of several
 * equal elements, or the last NaN.
 * mean_alternate: out[i] is the sum of sums[2 i], ..., sums[2 i + width - 1], in order, divided by
 * `size`.
 * column_maxima: out[i] is the maximum of in[r * step + i] for r < rows, chosen in the same way.
 * column_totals: sums[i] is the sum of these elements, in order.
 */
typedef void max_alternate_kernel(size_t n, size_t width, const void *in, void *out);
typedef void mean_alternate_kernel(size_t n, size_t width, const double *sums, double size,
                                   void *out);
typedef void column_maxima_kernel(size_t n, size_t rows, const void *in, size_t step, void *out);
typedef void column_totals_kernel(size_t n, size_t rows, const void *in, size_t step, double *sums);

/* out (out_rows, out_columns) are the means of 2 x 2 squares of `in`, whose rows lie `width`
 * elements apart. The sums have the order of column_totals and mean_alternate. out_columns is at
 * least the lanes of double. */
typedef void mean_pool2x2_kernel(void *out, const void *in, size_t width, size_t out_rows,
                                 size_t out_columns);

/*
 * Max pooling over 2 x 2 windows. in is (2 * out_rows, width); out and indices are
 * (out_rows, out_columns), and indices may be NULL. width is at least 2 * out_columns.
 *
 * out is the largest element of the window, and indices its position, row * width + column. Among
 * equal elements the first one counts. If a window holds NaN, its last NaN counts.
 */
typedef void max_pool2x2_kernel(void *out, int64_t *indices, const void *in, size_t width,
                                size_t out_rows, size_t out_columns);

/*
 * Maxima of pairs: to[i] is the maximum of a[i] and b[i], and position_to[i] its position. NaN is
 * greater than every number. If a[i] and b[i] are equal, a[i] is the maximum. If both are NaN, b[i]
 * is the maximum. Positions are integers as wide as an element; their three arrays may all be NULL.
 * `to` and position_to must not overlap any other array. The other arrays may overlap.
 */
typedef void max_pairs_kernel(void *to, void *position_to, const void *a, const void *position_a,
                              const void *b, const void *position_b, size_t n);

/*
 * Kernels of the NT-Xent loss (simclr/nt_xent.c). A block is (rows, tile columns). It holds the
 * exponentials of similarities. If those could overflow or underflow, it holds the exponents
 * instead.
 */
struct xent_kernels {
    /* out[i] = x[i] * factor */
    void (*scale)(void *out, const void *x, double factor, size_t n);

    /* exponent = sums[i] * factor + shift. out[i] = e^exponent if `exponential` is set, else the
     * exponent. n is a multiple of the number of tile columns. */
    void (*exponents)(void *out, const double *sums, size_t n, double factor, double shift,
                      bool exponential);

    /* Adds the sum of column c of the block to sums[c]. */
    void (*sums)(double *sums, const void *block, size_t rows);

    /*
     * For a block of exponents: adds e^element, for each element of column c, to the running sum
     * sums[c] * e^maxima[c]. Raises maxima[c] to the largest element so far; its initial value must
     * be finite.
     */
    void (*log_sums)(double *sums, void *maxima, const void *block, size_t rows);

    /* weigh: out = element * (row weight + column weight). weigh_logs takes a block of exponents
     * and the logarithms of weights: out = e^(element + row weight) + e^(element + column weight).
     */
    void (*weigh)(void *out, const void *block, const void *row_weights, const void *column_weights,
                  size_t rows);
    void (*weigh_logs)(void *out, const void *block, const void *row_weights,
                       const void *column_weights, size_t rows);

    /* sums, panel and out are (depth, tile columns). For each column c:
     * out = factors[c] * (sums - projected[c] * (sums . panel) * panel). */
    void (*project)(void *out, const double *sums, const void *panel, const double *factors,
                    const double *projected, size_t depth);
};

struct elementwise_kernels {
    activation_kernel *leaky_relu, *gelu, *gelu_tanh;
    channel_sums_kernel *channel_sums;
    channel_affine_kernel *channel_affine;
    plane_sums_kernel *plane_sums;
    divide_kernel *divide;
    first_maximum_kernel *first_maximum;
    max_alternate_kernel *max_alternate;
    mean_alternate_kernel *mean_alternate;
    column_maxima_kernel *column_maxima;
    column_totals_kernel *column_totals;
    mean_pool2x2_kernel *mean_pool2x2;
};
