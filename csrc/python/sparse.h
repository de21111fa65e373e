#pragma once

#include "arguments/numpy.h"

/* Returns 1 for an object that can be converted to CSR (`tocsr`), for an object that has the arrays
 * of CSR and cannot be converted to a dense array, and for a path, because the file may hold sparse
 * rows: cossim/search/sparse.py opens it. Returns 0 for other objects. */
int is_sparse_object(PyObject *object);

static inline int is_sparse(PyObject *object)
{
    return object != Py_None && !PyArray_Check(object) && !PyList_CheckExact(object) &&
           is_sparse_object(object);
}
