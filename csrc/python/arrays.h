#ifndef COSSIM_PYTHON_ARRAYS_H
#define COSSIM_PYTHON_ARRAYS_H

#include "python/numpy.h"

extern PyMethodDef array_methods[];

#endif
