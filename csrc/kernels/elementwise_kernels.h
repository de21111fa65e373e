#pragma once

#include <stddef.h>

/*
 * Kernels of layers over contiguous elements of one compute type. Sums and affine maps are
 * calculated in double. elementwise_template.h defines the kernels and states the errors of
 * activations.
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

/* Returns the position of the maximum of n > 0 elements: the first of several equal ones, or the
 * last NaN. */
typedef size_t first_maximum_kernel(size_t n, const void *elements);

struct elementwise_kernels {
    activation_kernel *leaky_relu, *gelu, *gelu_tanh;
    channel_sums_kernel *channel_sums;
    channel_affine_kernel *channel_affine;
    plane_sums_kernel *plane_sums;
    first_maximum_kernel *first_maximum;
};
