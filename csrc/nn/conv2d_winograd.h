#ifndef COSSIM_NN_CONV2D_WINOGRAD_H
#define COSSIM_NN_CONV2D_WINOGRAD_H

#include "nn/layers.h"

/*
 * Winograd's F(2, 5) along the rows, for float32 convolutions whose kernels have five rows: see
 * kernels/winograd_template.h. It is a part of conv2d's plan. The error of a result is relative to
 * the largest of the six input rows that its pair of output rows reads. If a result of a band is
 * not finite, conv2d computes the band again without Winograd.
 */

/* Does this convolution fit F(2, 5), and is that faster? */
bool winograd_is_profitable(const struct conv2d_plan *plan);

/* Fills the tables and transforms the filters. 0, or -1 when there is no memory. */
int winograd_plan(struct conv2d_plan *plan);
void winograd_plan_free(struct conv2d_plan *plan);

/* Bytes of scratch memory that one worker needs. */
size_t winograd_scratch(const struct conv2d_plan *plan);

/* Adds the products of a segment of channels to the band's sums in scratch. Input rows are at
 * `planes`, plan->pitch elements apart, and channels are plane_step elements apart. */
void winograd_add_segment(const struct conv2d_plan *plan, size_t filter, size_t segment,
                          const float *planes, size_t plane_step, size_t rows, char *scratch);

/* Transforms the band's sums and writes its results. False if one of them is not finite. */
bool winograd_output(const struct conv2d_plan *plan, const float *bias, size_t rows, float *output,
                     const char *scratch);

#endif
