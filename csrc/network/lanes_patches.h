#pragma once

#include "base/scratch.h"
#include "network/lanes_plan.h"

/*
 * The gradients of filters of a convolution before a 2 x 2 pool. Only the chosen pixel of a window
 * has a gradient, or no pixel has one if ReLU sets the output to 0. The images of a vector choose
 * different pixels. So each image is copied with contiguous channels, and a window adds one patch
 * of it, times its gradient: a quarter of the multiplications of all pixels, or less.
 *
 * A row of a patch is contiguous, because the channels of its pixels follow each other. The sums of
 * a group of filters are arrays (filters, kernel height, columns) of vectors. A few images are
 * summed from 0 and then added, in the order of the images.
 */

/* The plan of a stage, and its table. Offsets and steps count elements. */
struct lanes_patch_gradients {
    size_t step;    /* between pixels: the channels of a group, or whole vectors of them; 0: patches
                       are not faster */
    size_t columns; /* vectors of a row of a patch */
    size_t group_step, image_step; /* between copies */
    size_t windows;                /* of a filter */
    size_t block;                  /* images that are summed at a time */
    ptrdiff_t *windows_at;         /* the first pixel of each window in the copies of a block */
};

void lanes_patches_plan(const struct lanes_plan *plan, const struct lanes_stage *stage,
                        struct lanes_patch_gradients *g);
void lanes_patches_take(struct lanes_patch_gradients *g, struct arena *arena);
void lanes_patches_fill(const struct lanes_stage *stage, struct lanes_patch_gradients *g);

/* Elements of the sums of all filters. */
static inline size_t lanes_patches_elements(const struct lanes_plan *p, const struct lanes_stage *s,
                                            const struct lanes_patch_gradients *g)
{
    return size_product_or_max(s->layer.out * s->layer.kernel.h, g->columns * p->lanes);
}

/* The gradient of a pooled map, and the pixels that its windows chose: arrays (filters, windows) of
 * vectors. */
struct pooled_gradient {
    const char *choices, *values;
};

/* Adds the gradients of the filters for the first `images` lanes of a vector. scratch has
 * lanes_patches_scratch bytes. */
void lanes_patches_add(const struct lanes_plan *plan, const struct lanes_stage *stage,
                       const struct lanes_patch_gradients *g, size_t images, const char *input,
                       const struct pooled_gradient *pooled, char *scratch, char *sums);
size_t lanes_patches_scratch(const struct lanes_plan *plan, const struct lanes_stage *stage,
                             const struct lanes_patch_gradients *g);

/* The gradients of the filters, in the order of the weights. */
void lanes_patches_finish(const struct lanes_plan *plan, const struct lanes_stage *stage,
                          const struct lanes_patch_gradients *g, const char *sums, char *weights);
