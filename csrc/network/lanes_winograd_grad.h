#pragma once

#include "base/scratch.h"
#include "network/lanes_plan.h"

/*
 * The gradient of a convolution's input by Winograd's algorithm, for the stages with winograd.tiles
 * above 0. It reads the gradients of the output, before pooling, as an array of vectors
 * (filters, rows, columns) without a border; rows beyond the image, down to the end of the last
 * tile, are zeros. Gradients of filters are calculated by their definition, because by Winograd's
 * algorithm in float32 they would move the losses of 50 steps with Adam by 1e-4 to 2e-3 in place of
 * 2e-6.
 */

enum { LANES_WINOGRAD_TILES = 2 }; /* tiles that are multiplied at a time, at most */

/* The plan of a stage, and its tables. Offsets count elements, sizes count vectors. */
struct lanes_winograd_gradients {
    size_t rows, columns; /* of the output gradients of a filter */
    /*
     * A row of a filter's transform has `row` columns: the tiles side by side, each with `border`
     * columns of zeros on both sides, which neighbours share. For each number of tiles, in_at and
     * out_at have the offset of each column of the input in such a row, and in a row of the result;
     * columns that the tiles multiply at a time follow each other. taps has the offset of each
     * column of each filter's kernel in the transforms. filters has the transposed transforms of
     * lanes_winograd_filters.
     */
    size_t border, row;
    ptrdiff_t *in_at[LANES_WINOGRAD_TILES], *out_at[LANES_WINOGRAD_TILES], *taps;
    char *filters;
};

/* In this order: sets all sizes, takes the memory of the tables, fills them. */
void lanes_winograd_grad_plan(const struct lanes_stage *stage, struct lanes_winograd_gradients *g);
void lanes_winograd_grad_take(const struct lanes_plan *plan, const struct lanes_stage *stage,
                              struct lanes_winograd_gradients *g, struct arena *arena);
void lanes_winograd_grad_fill(const struct lanes_plan *plan, const struct lanes_stage *stage,
                              struct lanes_winograd_gradients *g);

/* Bytes of the output gradients of one vector of images. */
static inline size_t lanes_winograd_map_bytes(const struct lanes_plan *p,
                                              const struct lanes_stage *s,
                                              const struct lanes_winograd_gradients *g)
{
    return size_product_or_max(size_product_or_max(s->layer.out, g->rows * g->columns),
                               p->lanes * p->size);
}

/* The gradient of the input of one vector of images, as an array of vectors (channels, height,
 * width). scratch has lanes_winograd_grad_scratch bytes. `check` is that of
 * network/lanes_winograd.h. */
void lanes_winograd_grad_input(const struct lanes_plan *plan, const struct lanes_stage *stage,
                               const struct lanes_winograd_gradients *g, const char *map,
                               char *output, char *scratch, void *check);
size_t lanes_winograd_grad_scratch(const struct lanes_plan *plan, const struct lanes_stage *stage,
                                   const struct lanes_winograd_gradients *g);
