#pragma once

#include "arguments/layers.h"
#include "arguments/messages.h"
#include "arguments/result_memory.h"

/* Results of the functions of layers, and checks of arrays that cossim's Python code has made. */

static inline void *data_or_null(PyArrayObject *array)
{
    return is_none(array) ? NULL : PyArray_DATA(array);
}

/* NumPy raises ValueError for arrays that are too large for any memory; this raises MemoryError. */
static inline PyArrayObject *new_array(int ndim, const npy_intp *shape, int type)
{
    PyArrayObject *array = new_result(PyArray_DescrFromType(type), ndim, shape);
    if (array == NULL && PyErr_ExceptionMatches(PyExc_ValueError)) {
        PyErr_SetString(PyExc_MemoryError, NO_MEMORY_FOR_CALL);
    }
    return array;
}

static inline PyArrayObject *new_like(PyArrayObject *array)
{
    return new_array(PyArray_NDIM(array), PyArray_DIMS(array), PyArray_TYPE(array));
}

/* Returns the array as a Python object, or NULL if the status is negative. Takes the reference. */
static inline PyObject *finished(PyArrayObject *array, int status)
{
    if (status < 0) {
        Py_CLEAR(array);
    }
    return array == NULL ? NULL : PyArray_Return(array);
}

/* True if indices is an int64 array of the shape of `gradients` whose elements are all in [0,
 * size). */
static inline bool are_indices(PyArrayObject *indices, PyArrayObject *gradients, size_t size)
{
    if (!can_read(indices, NPY_INT64, PyArray_NDIM(gradients), PyArray_DIMS(gradients))) {
        return false;
    }
    const int64_t *index = PyArray_DATA(indices);
    const npy_intp n = PyArray_SIZE(gradients);
    bool fit = true;
    for (npy_intp i = 0; i < n; i++) {
        fit &= (uint64_t)index[i] < size;
    }
    return fit;
}
