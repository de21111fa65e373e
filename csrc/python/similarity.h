#ifndef COSSIM_PYTHON_SIMILARITY_H
#define COSSIM_PYTHON_SIMILARITY_H

#include "python/numpy.h"

/* cosine_similarity, cosine_distance, vecdot, vector_norm, normalize and pairwise. Ends with an
 * empty row. */
extern PyMethodDef similarity_methods[];

#endif
