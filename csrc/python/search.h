#ifndef COSSIM_PYTHON_SEARCH_H
#define COSSIM_PYTHON_SEARCH_H

#include "python/numpy.h"

/* What cossim/search/functions.py and cossim/search/index.py are built on: search through blocks of
 * rows in memory. */
extern PyMethodDef search_methods[];

#endif
