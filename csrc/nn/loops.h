#pragma once

#include "nn/layers.h"

/* The loops of layers over single elements, once for each compute type. loops_template.h defines
 * them. */
struct layer_loops {
    /* output[i] = max(input[i], 0); NaN stays NaN. */
    void (*relu)(size_t n, const void *input, void *output);

    /* output[i] = gradient[i], or 0 where input[i] <= 0. */
    void (*relu_gradient)(size_t n, const void *input, const void *gradient, void *output);

    /* True if every element is finite. */
    bool (*all_finite)(size_t n, const void *elements);

    /* Adds the sum of n elements to *to. */
    void (*add_sum)(size_t n, const void *elements, void *to);

    /* to[indices[i]] += from[i] */
    void (*scatter)(size_t n, const int64_t *indices, const void *from, void *to);

    /* to[i] = from[offsets[i]] */
    void (*gather)(size_t n, const ptrdiff_t *offsets, const void *from, void *to);

    /* Copies the elements of `from` that are not 0, and first + offsets[indices[i]] of each to
     * offsets_to. Returns their number, and writes up to one element beyond them. */
    size_t (*gather_nonzero)(size_t n, const int64_t *indices, const void *from,
                             const ptrdiff_t *offsets, ptrdiff_t first, ptrdiff_t *offsets_to,
                             void *to);

    /* Copies a row of an image whose columns are grouped, as conv2d_input.h describes. */
    void (*copy_grouped)(const void *row, size_t width, size_t padding, size_t stride, size_t phase,
                         void *to);

    /* Copies a row of n elements. Its border repeats the first and the last element: `before` and
     * `after` times. positions (or NULL) gets the positions of the elements, from `first` on, as
     * integers as wide as an element. */
    void (*repeat_ends)(const void *row, size_t n, size_t before, size_t after, int64_t first,
                        void *to, void *positions);

    /* to[i] = from[i * stride] */
    void (*every)(size_t n, size_t stride, const void *from, void *to);

    /* to[i] = positions[i], which are as wide as an element */
    void (*widen_positions)(size_t n, const void *positions, int64_t *to);

    /* Pools one plane. indices may be NULL. */
    void (*max_pool)(const struct max_pool2d *pool, const void *in, void *out, int64_t *indices);
};

extern const struct layer_loops layer_loops[COMPUTE_TYPES];
