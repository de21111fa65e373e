#pragma once

#include "arguments/operands.h"

/* Parsing of the arguments of the module's functions; numbers; results. */

enum { MAX_ARGUMENTS = 10 };

struct signature {
    const char *function;
    int required;   /* number of arguments without a default; they come first */
    int positional; /* number of arguments that may be positional; the rest are keyword-only */
    const char *names[MAX_ARGUMENTS + 1]; /* ends with NULL */
};

/* Sets values[i] to the argument names[i], borrowed, or to NULL if it is not given. Returns 0, or
 * -1 with TypeError set. */
int parse_arguments(const struct signature *signature, PyObject *const *args, Py_ssize_t nargs,
                    PyObject *kwnames, PyObject **values);

/* A row of a method table, with its docstring. The function takes positional arguments only. */
#define BY_POSITION(name, function, arguments, text) \
    {name, function, METH_VARARGS, name "($module, " arguments ", /)\n--\n\n" text}

/* A row for a function that also takes keyword arguments. */
#define BY_NAME(name, function, arguments, text) \
    {name, (PyCFunction)(void (*)(void))function, METH_VARARGS | METH_KEYWORDS, \
     name "($module, " arguments ")\n--\n\n" text}

/* The return value of a function without a result: None, or NULL if the status is negative. */
static inline PyObject *none_or_error(int status)
{
    return status < 0 ? NULL : Py_NewRef(Py_None);
}

/* Returns (first, second), or NULL if the status is negative. Takes both references, which may be
 * NULL if the status is negative. */
static inline PyObject *finished_two(PyObject *first, PyObject *second, int status)
{
    if (status >= 0) {
        return Py_BuildValue("NN", first, second);
    }
    release(first);
    release(second);
    return NULL;
}

/* Returns numpy.exceptions.AxisError. New reference, or NULL with an error set. */
PyObject *axis_error(void);

/* Reads an integer, clipped to the range of Py_ssize_t. Returns 0, or -1 with TypeError set.
 * `wanted` is the name of a text of cossim/_errors.py that says what the argument must be. */
int integer_argument_of(const char *function, const char *name, const char *wanted,
                        PyObject *object, Py_ssize_t *value);
int integer_argument(const char *function, const char *name, PyObject *object, Py_ssize_t *value);

/* Returns the text of an integer, or of a sequence of them, for a message. New reference, or NULL
 * with an error set. */
PyObject *integer_text(PyObject *object);

/* True if integer_argument may have clipped this value. Messages must not show such a value,
 * because the caller may have passed another number. */
static inline bool may_be_clipped(Py_ssize_t value)
{
    return value == PY_SSIZE_T_MAX || value == PY_SSIZE_T_MIN;
}

/* Reads eps, a number >= 0. NULL leaves *eps unchanged. Returns 0, or -1 with TypeError or
 * ValueError set. */
int eps_argument(const char *function, PyObject *object, double *eps);

/* Merges two names of one argument. Sets *chosen to the value given under either name, or to NULL
 * if neither is given. None under the second name counts as not given. Returns 0, or -1 with
 * TypeError set if both are given. */
int one_of_two_names(const char *function, const char *name, PyObject *value,
                     const char *other_name, PyObject *other, PyObject **chosen);
int dim_or_axis(const char *function, PyObject *dim, PyObject *axis, PyObject **chosen);

/* Returns the float dtype of the result of these operands; y may be NULL. New reference. */
PyArray_Descr *result_descr(const struct array_argument *x, const struct array_argument *y,
                            enum dtype *dtype);

/*
 * The destination of a result. The core writes to `array`. `target` is the caller's `out`, or NULL.
 * Usually both are the same array. But if `out` is byte-swapped, misaligned, or shares memory with
 * an operand, `array` is a temporary, which result_finish copies to `target`.
 */
struct result {
    PyArrayObject *array, *target;
    PyObject *hold; /* hold_memory of target */
    enum dtype dtype;
};

/* Checks `out`, or makes an array if `out` is NULL or None. With in_place_ok, `out` needs no
 * temporary if it is the same memory as x, element for element. Returns 0, or -1 with an error
 * set. */
int result_open(const char *function, PyObject *out, int ndim, const npy_intp *shape,
                const struct array_argument *x, const struct array_argument *y, int in_place_ok,
                struct result *result);

/* Returns the result as a Python object: a scalar if it is 0-d and out is not given, otherwise an
 * array. If ok is 0, returns NULL and keeps the error that is set. Releases everything else. */
PyObject *result_finish(struct result *result, int ok);
