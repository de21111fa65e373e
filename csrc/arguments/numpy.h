#pragma once

/* Includes Python.h and NumPy's headers with the same settings in every file. Only module.c defines
 * COSSIM_IMPORT_ARRAY: it holds NumPy's function table, which the other files use. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#define NPY_NO_DEPRECATED_API NPY_1_22_API_VERSION
#define NPY_TARGET_VERSION NPY_1_22_API_VERSION
#define PY_ARRAY_UNIQUE_SYMBOL cossim_ARRAY_API
#ifndef COSSIM_IMPORT_ARRAY
#define NO_IMPORT_ARRAY
#endif
#include <numpy/arrayobject.h>
#include <numpy/arrayscalars.h>
