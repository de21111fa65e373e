#ifndef COSSIM_PYTHON_NN_H
#define COSSIM_PYTHON_NN_H

#include "python/numpy.h"

/* conv2d, max_pool2d, linear, matmul, relu, and their gradients. Ends with an empty row. */
extern PyMethodDef nn_methods[];

/* Adds the type Network (network.c) to the module. Returns 0, or -1 with an error set. */
int add_network_type(PyObject *module);

#endif
