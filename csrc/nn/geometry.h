#pragma once

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/scratch.h"

/* The sizes of windows on an image: which sizes are valid, and how many windows fit. Tables of the
 * offsets of pixels. */

/* Height and width. */
struct extent2 {
    size_t h, w;
};

/* Fills a table of offsets: to[y * columns + x] = first + y * row_step + x * column_step. Returns
 * the end of the table. */
static inline ptrdiff_t *fill_offsets(ptrdiff_t *to, size_t first, size_t rows, size_t columns,
                                      size_t row_step, size_t column_step)
{
    for (size_t y = 0; y < rows; y++, first += row_step) {
        for (size_t x = 0; x < columns; x++) {
            *to++ = (ptrdiff_t)(first + x * column_step);
        }
    }
    return to;
}

/* Fills a table of n offsets: to[i] = i * step. */
static inline void fill_steps(ptrdiff_t *to, size_t n, size_t step)
{
    fill_offsets(to, 0, 1, n, 0, step);
}

/* True if both sizes of a kernel, stride or dilation are from 1 to INT_MAX. A negative size from
 * Python is a huge size_t, so it is invalid. */
static inline bool is_valid_size(struct extent2 size)
{
    return size.h >= 1 && size.w >= 1 && size.h <= INT_MAX && size.w <= INT_MAX;
}

/* True if the padding is at most 2^60. It can be larger than an int, because padding="same"
 * computes it. Sums of valid sizes and paddings do not overflow. */
static inline bool is_valid_padding(struct extent2 padding)
{
    const size_t most = (size_t)1 << 60;
    return padding.h <= most && padding.w <= most;
}

/* The zeros before and after an image that keep its size. `zeros` is the number of both together.
 * If it is odd, the end gets one more, as in torch. */
static inline void same_padding(struct extent2 zeros, struct extent2 *before, struct extent2 *after)
{
    *before = (struct extent2){zeros.h / 2, zeros.w / 2};
    *after = (struct extent2){zeros.h - before->h, zeros.w - before->w};
}

/* True if the padding of a pool is at most half of its kernel, as in torch. */
static inline bool is_valid_pool_padding(struct extent2 padding, struct extent2 kernel)
{
    return padding.h <= kernel.h / 2 && padding.w <= kernel.w / 2;
}

/* Returns the number of windows along an axis of `padded` pixels, including the padding. */
static inline size_t window_count(size_t padded, size_t kernel, size_t stride, size_t dilation)
{
    const size_t extent = (kernel - 1) * dilation + 1;
    return padded < extent ? 0 : (padded - extent) / stride + 1;
}

/* True if the last of `count` windows starts inside the image of `in` pixels or in the padding
 * before it, or if there are no windows. */
static inline bool last_window_starts_inside(size_t in, size_t count, size_t stride, size_t padding)
{
    size_t last;
    return count == 0 || (size_mul(count - 1, stride, &last) && last < in + padding);
}

/* Returns the number of windows of a pool on `in` pixels, by torch's rules: in ceil_mode the last
 * window may extend beyond the image, but it starts inside the image or in the padding before it.
 * An empty image has no windows. */
static inline size_t pool_window_count(size_t in, size_t kernel, size_t stride, size_t dilation,
                                       size_t padding, bool ceil_mode)
{
    const size_t count = in == 0 ? 0
                                 : window_count(in + 2 * padding + (ceil_mode ? stride - 1 : 0),
                                                kernel, stride, dilation);
    return count - !last_window_starts_inside(in, count, stride, padding);
}
