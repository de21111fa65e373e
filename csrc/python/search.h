#ifndef COSSIM_PYTHON_SEARCH_H
#define COSSIM_PYTHON_SEARCH_H

#include "python/numpy.h"

/* topk, topk_sort, pairs, components and quantize, for cossim/search/functions.py and index.py.
 * Ends with an empty row. */
extern PyMethodDef search_methods[];

#endif
