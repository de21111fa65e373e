#ifndef COSSIM_PYTHON_SEARCH_H
#define COSSIM_PYTHON_SEARCH_H

#include "python/numpy.h"

/* What cossim/_search.py and cossim/_index.py are built on: search through blocks of rows in memory. */
extern PyMethodDef search_methods[];

#endif
