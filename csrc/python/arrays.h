#ifndef COSSIM_PYTHON_ARRAYS_H
#define COSSIM_PYTHON_ARRAYS_H

#include "python/numpy.h"

/* as_array, as_arrays and as_rows: convert operands for functions written in Python. Ends with an
 * empty row. */
extern PyMethodDef array_methods[];

#endif
