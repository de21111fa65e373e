#ifndef COSSIM_ARGUMENTS_DLPACK_H
#define COSSIM_ARGUMENTS_DLPACK_H

#include <stdbool.h>

#include "arguments/numpy.h"

/*
 * DLPack: tensors of other libraries in memory that the CPU can read, without a copy. The array
 * calls the tensor's deleter, once, when it dies.
 */

/* Reads what __dlpack__ of the object returns. New reference, or NULL with an error set. */
PyArrayObject *array_from_dlpack(const char *function, const char *name, PyObject *object);

/*
 * Reads an object whose class has DLPack's table of C functions, which takes a tenth of the time of
 * __dlpack__. Returns NULL without an error for an object that must be converted in another way,
 * or to which torch objects: one that requires grad, or whose elements are yet to be negated.
 */
PyArrayObject *array_from_dlpack_api(const char *function, const char *name, PyObject *object);

/* Returns whether the object has a true attribute requires_grad. */
bool requires_grad(PyObject *object);

/*
 * NumPy's type for bfloat16: that of ml_dtypes or, if that is not installed, a structured type of
 * one uint16 by the name bfloat16. New reference, or NULL with an error set.
 */
PyArray_Descr *bfloat16_descr(void);

#endif
