#ifndef COSSIM_PYTHON_AUGMENT_H
#define COSSIM_PYTHON_AUGMENT_H

#include "python/numpy.h"

/* augment, for cossim/simclr/augment.py. Ends with an empty row. */
extern PyMethodDef augment_methods[];

#endif
