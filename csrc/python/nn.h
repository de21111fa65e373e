#ifndef COSSIM_PYTHON_NN_H
#define COSSIM_PYTHON_NN_H

#include "python/numpy.h"

/* conv2d, max_pool2d, linear and relu, and their gradients. */
extern PyMethodDef nn_methods[];

/* Network: see network.c. */
int add_network_type(PyObject *module);

#endif
