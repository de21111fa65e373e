#pragma once

#include "base/scratch.h"
#include "network/lanes_plan.h"

/*
 * Winograd's algorithm for the stages with winograd.tiles above 0: the convolution, and the
 * gradient of its input. Infinity and NaN spread to all results of a tile, so results that are not
 * finite are to be calculated again by the definition. `check` is a vector. Each function that
 * takes it adds 0 times its results, so a lane with a result that is not finite becomes NaN.
 */
enum { LANES_VECTOR_BYTES = 64 }; /* the largest vector */

/* The convolution of a vector of images with the layers fused into it, except for the border of the
 * output. scratch has lanes_winograd_conv2d_scratch bytes. */
void lanes_winograd_conv2d(const struct lanes_plan *plan, const struct lanes_stage *stage,
                           const char *input, char *output, char *choices, char *scratch,
                           void *check);
size_t lanes_winograd_conv2d_scratch(const struct lanes_plan *plan,
                                     const struct lanes_stage *stage);

/* The gradients of the convolution's output, before pooling, with a border of zeros. */
struct lanes_winograd_gradients {
    const char *map;
    size_t plane, pitch; /* vectors of a filter's map and of a row */
    size_t first; /* the first vector of the first row of output gradients, with its border */
    size_t left;  /* vectors of that border */
    /* The offset of each column of the input, and of each column of each filter's kernel, in the
     * transform of a tile, (filters, pitch). */
    const ptrdiff_t *columns, *taps;
    const ptrdiff_t *outputs; /* the offset of each column of the input in one of its rows */
    const char *filters;      /* of lanes_winograd_filters, transposed */
};

/* The gradient of the input, as an array of vectors (channels, height, width) without a border.
 * scratch has lanes_winograd_grad_scratch bytes for that pitch. */
void lanes_winograd_grad_input(const struct lanes_plan *plan, const struct lanes_stage *stage,
                               const struct lanes_winograd_gradients *gradients, char *output,
                               char *scratch, void *check);

size_t lanes_winograd_grad_scratch(const struct lanes_plan *plan, const struct lanes_stage *stage,
                                   size_t pitch);

/* Is no lane of `check` NaN? */
bool lanes_all_finite(const struct lanes_plan *plan, const void *check);

/* Copies n vectors, but only the lanes that are NaN in `check`. */
void lanes_replace(const struct lanes_plan *plan, const void *check, void *to, const void *from,
                   size_t n);
