#pragma once

#include "arguments/numpy.h"

/*
 * Arrow's C data interface, which needs no library: arrays, columns and tables of pyarrow, polars,
 * nanoarrow and others, by the PyCapsule protocol.
 *
 * Returns numbers as an array of shape (N,), lists of D numbers as (N, D), tensors of shape S as
 * (N, *S). A table stands for its only column of lists or, if all of its C columns are numbers, for
 * the array (N, C). A single chunk is not copied, except for the bits of booleans; several chunks
 * are joined in a copy. The release callback of a chunk is called once: when the array over it is
 * freed.
 *
 * Lengths, offsets, nulls, and the numbers of buffers and children are checked. The interface does
 * not give the length of a buffer. So the buffers of values and of offsets are assumed to be as
 * long as the length of the array requires.
 *
 * New reference, or NULL with a TypeError or ValueError set. The message names the function, the
 * argument and, if there are nulls, the first row with a null.
 */
PyArrayObject *array_from_arrow(const char *function, const char *name, PyObject *object);
