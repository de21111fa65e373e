#pragma once

#include <stdbool.h>

#include "arguments/numpy.h"

/* DLPack: arrays over tensors of other libraries, without a copy, in memory that the CPU can read.
 * The tensor's deleter is called once, when the array is freed. */

/* Reads the capsule that the object's __dlpack__ returns. New reference, or NULL with an error set.
 */
PyArrayObject *array_from_dlpack(const char *function, const char *name, PyObject *object);

/*
 * Reads an object whose class has DLPack's table of C functions, which takes a tenth of the time of
 * __dlpack__. Returns NULL without an error for an object that must be converted in another way.
 * That includes tensors that torch refuses to convert: those that require grad, and those with a
 * pending negation of their elements.
 */
PyArrayObject *array_from_dlpack_api(const char *function, const char *name, PyObject *object);

/* Returns whether the object has a true attribute requires_grad. */
bool requires_grad(PyObject *object);

/* Returns NumPy's type for bfloat16: the one of ml_dtypes or, if that is not installed, a
 * structured type with one uint16 field named bfloat16. New reference, or NULL with an error
 * set. */
PyArray_Descr *bfloat16_descr(void);
