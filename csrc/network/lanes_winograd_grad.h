#pragma once

#include "base/scratch.h"
#include "network/lanes_plan.h"

/*
 * The gradients of a convolution by Winograd's algorithm, for the stages with winograd.tiles above
 * 0. Both read the gradients of its output, before pooling, as an array of vectors
 * (filters, rows, columns) without a border; rows beyond the image, down to the end of the last
 * tile, are zeros.
 */

/* The plan of a stage, and its tables. Offsets count elements, the others vectors. */
struct lanes_winograd_gradients {
    size_t rows, columns; /* of the output gradients of a filter */
    size_t vectors;       /* of images in a batch */
    size_t tiles;         /* of a batch, or as many as are multiplied at a time */
    size_t in_columns;    /* of the input of a tile */
    size_t block;         /* filters that are multiplied at a time */
    /* gradients and inputs: the offset of each column of the tiles in a row of output gradients and
     * in a row of inputs. entries: that of each column of each channel's kernel in the transforms
     * of inputs. */
    ptrdiff_t *gradients, *inputs, *entries;
    /*
     * For the gradient of the input. A row of a filter's transform has `row` columns, with `border`
     * columns of zeros on both sides. in_at and out_at: the offset of each column of the input in
     * such a row, and in a row of the result. taps: that of each column of each filter's kernel in
     * the transforms. filters: those of lanes_winograd_filters, transposed; NULL if that gradient
     * is not wanted.
     */
    size_t border, row;
    ptrdiff_t *in_at, *out_at, *taps;
    char *filters;
};

/* Sizes everything that does not need memory. A batch has at most `vectors` vectors of images.
 * Takes the tables, then fills them. */
void lanes_winograd_grad_plan(const struct lanes_plan *plan, const struct lanes_stage *stage,
                              bool input, size_t vectors, struct lanes_winograd_gradients *g);
void lanes_winograd_grad_take(const struct lanes_plan *plan, const struct lanes_stage *stage,
                              bool input, struct lanes_winograd_gradients *g, struct arena *arena);
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

/* A batch of at most g->vectors vectors of images, whose first `images` lanes are summed. inputs
 * are the maps of the stage's input, maps the gradients of its output. With `add` the gradients are
 * added to `out`. */
struct lanes_winograd_batch {
    const char *inputs, *maps;
    size_t vectors, images;
    bool add;
    char *out;
};

/*
 * The gradients of the filters, summed over a batch. They are not finite if a sum of products is
 * not.
 *
 * A tile gives each sum few products, and there are more sums than L1 holds. So the tiles of a
 * batch are multiplied together, and for a few filters at a time, so that their sums and the
 * transforms stay in L2. scratch has lanes_winograd_filters_scratch bytes.
 */
void lanes_winograd_grad_filters(const struct lanes_plan *plan, const struct lanes_stage *stage,
                                 const struct lanes_winograd_gradients *g,
                                 const struct lanes_winograd_batch *batch, char *scratch);
size_t lanes_winograd_filters_scratch(const struct lanes_plan *plan,
                                      const struct lanes_stage *stage,
                                      const struct lanes_winograd_gradients *g);
