#ifndef COSSIM_ARGUMENTS_ARROW_H
#define COSSIM_ARGUMENTS_ARROW_H

#include "arguments/numpy.h"

/*
 * Arrow's C data interface, which needs no library: arrays, columns and tables of pyarrow, polars,
 * nanoarrow and others, by the PyCapsule protocol.
 *
 * Returns numbers as an array of shape (N,), lists of D numbers as (N, D), tensors of shape S as
 * (N, *S). A table stands for its only column of lists or, if all of its C columns are numbers, for
 * the array (N, C). One chunk is not copied (except for the bits of booleans); several are joined.
 * The release callback of a chunk is called once: when the array over it dies.
 *
 * What a structure says of itself is checked: lengths, offsets, nulls, numbers of buffers and
 * children. The interface does not say how long a buffer is, so that the values buffer of an array
 * and the offsets of a list are believed to have the length that the array has.
 *
 * New reference, or NULL with a TypeError or ValueError set, which names the function and the
 * argument, and the first row with a null.
 */
PyArrayObject *array_from_arrow(const char *function, const char *name, PyObject *object);

#endif
