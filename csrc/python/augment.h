#ifndef COSSIM_PYTHON_AUGMENT_H
#define COSSIM_PYTHON_AUGMENT_H

#include "python/numpy.h"

/* What cossim/simclr/augment.py is built on: views of images by maps and streams of noise that it
 * draws. */
extern PyMethodDef augment_methods[];

#endif
