/* Range search of sparse rows by all scores, and the choice between that and the prefix filter. */
#include "sparse/sparse_search.h"

#include "base/pool.h"
#include "sparse/postings.h"
