#ifndef COSSIM_PYTHON_SIMCLR_H
#define COSSIM_PYTHON_SIMCLR_H

#include "python/numpy.h"

/* nt_xent, for cossim/simclr/loss.py. Ends with an empty row. */
extern PyMethodDef simclr_methods[];

#endif
