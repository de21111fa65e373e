#pragma once

#include <stdbool.h>
#include <stddef.h>

/* The transforms of Winograd convolution with kernels of five rows. winograd_template.h has their
 * contracts. */
struct winograd_output_transform {
    const float *sums;
    size_t sum_step, row_step, rows, vectors;
    const float *bias;
    bool relu, pool;
    float *out;
    size_t out_step;
    const ptrdiff_t *out_offsets;
};
typedef void winograd_input_transform_kernel(float *out, size_t sum_step, const float *in,
                                             size_t row_step, size_t pairs, size_t n);
typedef void winograd_filter_transform_kernel(float *out, size_t sum_step, const float *weight,
                                              size_t count, size_t n);
typedef bool winograd_output_transform_kernel(const struct winograd_output_transform *call);

/* The transforms of Winograd convolution with kernels of 3 x 3. winograd3_template.h has their
 * contracts. */
struct winograd3_output_transform {
    const float *sums;
    size_t sum_step, width, first, count, tiles, rows, columns;
    const float *bias; /* (width,) or NULL */
    bool relu;
    float *out;
};
typedef void winograd3_input_transform_kernel(float *out, size_t sum_step, const float *in,
                                              size_t pitch, size_t tile_rows, size_t tiles);
typedef void winograd3_tile_transform_kernel(float *out, size_t sum_step,
                                             const float *const *pixels, size_t n);
typedef void winograd3_filter_transform_kernel(float *out, size_t sum_step, const float *in,
                                               size_t channels, size_t width);
typedef bool winograd3_output_transform_kernel(const struct winograd3_output_transform *call);

enum {
    WINOGRAD3_PRODUCTS = 16, /* products for a tile of 2 x 2 output pixels */
    WINOGRAD_PRODUCTS = 6,   /* products for two output rows */
    WINOGRAD_PADDING = 16    /* the largest VF_LANES of any instruction set */
};

struct winograd_kernels {
    winograd_input_transform_kernel *input_transform;
    winograd_filter_transform_kernel *filter_transform;
    winograd_output_transform_kernel *output_transform;
    winograd3_input_transform_kernel *input_transform3;
    winograd3_tile_transform_kernel *tile_transform3;
    winograd3_filter_transform_kernel *filter_transform3;
    winograd3_output_transform_kernel *output_transform3;
};
