#ifndef COSSIM_PYTHON_SEARCH_H
#define COSSIM_PYTHON_SEARCH_H

#include "python/numpy.h"

/* Search through blocks of rows in memory, for cossim/search/functions.py and
 * cossim/search/index.py. Ends with an empty row. */
extern PyMethodDef search_methods[];

#endif
