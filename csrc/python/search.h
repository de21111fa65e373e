#pragma once

#include "arguments/numpy.h"

#include "results/filter.h"
#include "results/range.h"

/* Returns (i, j, values, count) of the pairs found, or (None, None, None, count) if there are more
 * than pairs->max_pairs. Returns NULL with an error set. */
PyObject *pairs_found(struct range_result *pairs);

/*
 * Reads the filter of a search: None, or (rows, pairs, excluded, both, most), the members of
 * struct filter and a number for Python. The arrays are uint64 (words), uint64 (queries, words) and
 * int64 (queries, count), or None. Returns 1 for a filter, 0 for None, or -1 with an error set if
 * they do not fit.
 */
int read_filter(PyObject *object, npy_intp queries, npy_intp candidates, struct filter *filter);

/* True if the parent of each row is the row itself or an earlier one. */
bool are_parents(PyArrayObject *parents);

/* The NumPy type of scores. */
static inline int value_type(enum compute_type compute)
{
    return compute == COMPUTE_F64 ? NPY_DOUBLE : NPY_FLOAT;
}
