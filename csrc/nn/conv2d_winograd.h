#ifndef COSSIM_NN_CONV2D_WINOGRAD_H
#define COSSIM_NN_CONV2D_WINOGRAD_H

#include "nn/layers.h"

/*
 * float32 convolutions by kernels of five rows in fewer multiplications, as a part of conv2d's
 * plan: see kernels/five_body.h. The error of a result is relative to the largest of the six rows
 * that it and its neighbour are made of; where one is not finite the band is left to be done in the
 * plain way.
 */

/* Does it pay? */
bool winograd_is_profitable(const struct conv2d_plan *plan);

/* Tables and split weights; -1 where there is no memory. */
int winograd_plan(struct conv2d_plan *plan);
void winograd_plan_free(struct conv2d_plan *plan);
size_t winograd_scratch(const struct conv2d_plan *plan);

/* Adds the products of a segment of channels, whose rows lie at `planes`, a pitch apart, and
 * plane_step elements from one channel to the next. */
void winograd_add_segment(const struct conv2d_plan *plan, size_t filter, size_t segment,
                          const float *planes, size_t plane_step, size_t rows, char *scratch);

/* Writes the band's results. False where one is not finite. */
bool winograd_finish(const struct conv2d_plan *plan, const float *bias, size_t rows, float *output,
                     const char *scratch);

#endif
