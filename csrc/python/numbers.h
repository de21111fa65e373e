#ifndef COSSIM_PYTHON_NUMBERS_H
#define COSSIM_PYTHON_NUMBERS_H

#include "python/numpy.h"

#include <stdbool.h>

/* Reads an integer, clipped to the range of Py_ssize_t. Returns 0, or -1 with TypeError set. */
int integer_argument(const char *function, const char *name, PyObject *object, Py_ssize_t *value);

/* True if integer_argument may have clipped this value. Messages must not show such a value,
 * because the caller may have passed another number. */
static inline bool may_be_clipped(Py_ssize_t value)
{
    return value == PY_SSIZE_T_MAX || value == PY_SSIZE_T_MIN;
}

/* Reads eps, a number >= 0. NULL leaves *eps unchanged. Returns 0, or -1 with TypeError or
 * ValueError set. */
int eps_argument(const char *function, PyObject *object, double *eps);

#endif
