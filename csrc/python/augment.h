#ifndef COSSIM_PYTHON_AUGMENT_H
#define COSSIM_PYTHON_AUGMENT_H

#include "python/numpy.h"

/* augment, for cossim/simclr/augment.py: views of images from affine maps and random streams; ends
 * with an empty row. */
extern PyMethodDef augment_methods[];

#endif
