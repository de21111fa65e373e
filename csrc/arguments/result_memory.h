#pragma once

#include "arguments/numpy.h"

/* Makes NumPy's functions for large results. Returns -1 with an error set if that fails. Call it
 * once, before new_result. */
int result_memory_init(void);

/* PyArray_NewFromDescr for a result in C order: takes the reference to descr, which may be NULL
 * with an error set. Large results use memory that an earlier large result has freed, unless the
 * user has set a PyDataMem_Handler. */
PyArrayObject *new_result(PyArray_Descr *descr, int ndim, const npy_intp *shape);
