#pragma once

#include "conv2d/convolutions.h"

/*
 * Convolutions and the gradients of filters read an image in place, or from a copy with a border of
 * zeros. If the stride is above 1, a row of the copy groups its columns by their number modulo the
 * stride, so that the pixels of one vector are adjacent. Element i of group r is column
 * r + i * stride of the padded row. A group has `phase` elements, and a row phase * stride.
 */

/*
 * True if memory can hold a padded copy of an image whose rows have room for one more vector. Users
 * choose padding and dilation freely, so products with them can overflow any integer type. Here
 * they are computed in double, which only loses a little precision. If the result is true, no
 * product of an image's sizes overflows size_t. Products of the sizes of filters and feature maps
 * never do, because those arrays exist.
 */
bool conv2d_may_fit(const struct conv2d *conv);

/* Returns the kernels for lanes along output rows. They have narrow vectors if wide ones would
 * leave a third of their lanes unused, or half a vector on processors that split wide ones. */
const struct kernels *conv2d_row_kernels(const struct conv2d *conv);

/* Returns the number of input rows that `rows` output rows read. */
size_t conv2d_input_rows(const struct conv2d *conv, size_t rows);

/* True if an output pixel reads pixels outside the image, or if a vector of outputs reads pixels
 * that are not adjacent. */
bool conv2d_needs_copy(const struct conv2d *conv);

/* Returns the position of a column of the padded image in a row of a copy. */
static inline size_t conv2d_copied_column(size_t column, size_t stride, size_t phase)
{
    return stride == 1 ? column : column % stride * phase + column / stride;
}

/* Copies rows [first, first + rows) of the padded image of one channel. `plane` is the channel
 * without its border. */
void conv2d_copy_rows(const struct conv2d *conv, const char *plane, size_t first, size_t rows,
                      size_t stride, size_t phase, char *to);
