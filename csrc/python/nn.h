#ifndef COSSIM_PYTHON_NN_H
#define COSSIM_PYTHON_NN_H

#include "python/numpy.h"

/* conv2d, max_pool2d, linear and relu. */
extern PyMethodDef nn_methods[];

#endif
