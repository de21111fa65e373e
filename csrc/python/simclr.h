#ifndef COSSIM_PYTHON_SIMCLR_H
#define COSSIM_PYTHON_SIMCLR_H

#include "python/numpy.h"

/* What cossim/simclr calls; ends with an empty row. */
extern PyMethodDef simclr_methods[];

#endif
