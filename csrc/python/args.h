#ifndef COSSIM_PYTHON_ARGS_H
#define COSSIM_PYTHON_ARGS_H

#include "python/numpy.h"

#include "vectors/dtype.h"

/* Parsing and conversion of the arguments of the module's functions. */

enum { MAX_ARGUMENTS = 10 };

struct signature {
    const char *function;
    int required;   /* number of first arguments without a default */
    int positional; /* number of first arguments that may be positional; the others are keyword-only
                     */
    const char *names[MAX_ARGUMENTS + 1]; /* ends with NULL */
};

/* Sets values[i] to the argument names[i], borrowed, or to NULL if it is not given. 0, or -1 with
 * TypeError set. */
int parse_arguments(const struct signature *signature, PyObject *const *args, Py_ssize_t nargs,
                    PyObject *kwnames, PyObject **values);

/* A method table row, with its docstring, for a function whose arguments are all positional-only.
 */
#define BY_POSITION(name, function, arguments, text) \
    {name, function, METH_VARARGS, name "($module, " arguments ", /)\n--\n\n" text}

/* Is it a Dask array, which computes its elements on demand? */
int is_lazy(PyObject *object);

/* Calls the function of that name in cossim.search.dask_arrays, which handles Dask arrays. */
PyObject *call_lazily(const char *function, PyObject *const *args, Py_ssize_t nargs,
                      PyObject *kwnames);

/* An operand: an array, the description by which the core reads it, and an object that keeps its
 * memory in place. Release it with array_release. */
struct array_argument {
    const char *name;
    PyArrayObject *array; /* the argument itself if that is an array, subclasses included */
    PyObject *hold;       /* see hold_memory */
    struct operand operand;
};

/*
 * Converts an argument to an array. Arrays are used without a copy; other objects are converted by
 * NumPy's rules (buffers, __array__, sequences, numbers) or by DLPack. 0, or -1 with a TypeError or
 * ValueError set that names the function and the argument.
 */
int array_argument(const char *function, const char *name, PyObject *object,
                   struct array_argument *argument);

/*
 * Re-reads an array's dtype and data pointer: converting a later argument (__array__) may run user
 * code that changes this one in place. Call it after all arguments are converted and before any
 * other property of an array is read. 0, or -1 as above.
 */
int array_reread(const char *function, struct array_argument *argument);
void array_release(struct array_argument *argument);

/* A plain array over the argument's memory. It keeps that memory in place while it lives. New
 * reference. */
PyObject *array_view(const struct array_argument *argument);

/* Sets *dtype to the element type of an array. False if that type does not hold real numbers. */
bool dtype_of(PyArrayObject *array, enum dtype *dtype);

/* Is it a numpy.ma.MaskedArray, whose mask would be ignored silently? Tests the names of its base
 * classes, because looking up an attribute may run user code. */
bool is_masked(PyObject *object);

/*
 * Returns an object that, while it lives, keeps the owner of an array's memory from moving or
 * freeing it. For an owner that is an array it holds a weak reference, with which the array refuses
 * resize(), even with refcheck=False. For a bytearray or mmap it holds a buffer export, with which
 * they refuse to be resized or closed. None for other owners. NULL with an error set.
 */
PyObject *hold_memory(PyArrayObject *array);

/*
 * Drops a reference, which may be NULL, and keeps the error that is set, if any. The error is
 * cleared meanwhile, because freeing an object can run Python code (the deleter of a DLPack array
 * can be a ctypes callback), which must not start with an error set.
 */
void release(PyObject *object);

/* Checks that x and y are (N, D) and (M, D). y may be NULL. 0, or -1 with ValueError set. */
int check_rows(const char *function, const struct array_argument *x,
               const struct array_argument *y);

/* Sets `exception` with "function(): message (x1: shape (2, 3), dtype float32; x2: ...)"; y may be
 * NULL. Returns -1. */
int fail(PyObject *exception, const char *function, const struct array_argument *x,
         const struct array_argument *y, const char *format, ...);

/* numpy.exceptions.AxisError, borrowed; NULL with an error set. */
PyObject *axis_error(void);

/* Reads an integer argument, clipped to the range of Py_ssize_t. 0, or -1 with TypeError set. */
int integer_argument(const char *function, const char *name, PyObject *object, Py_ssize_t *value);

/* May integer_argument have clipped this value? Then messages must not show it, because the caller
 * may have passed another number. */
static inline bool may_be_clipped(Py_ssize_t value)
{
    return value == PY_SSIZE_T_MAX || value == PY_SSIZE_T_MIN;
}

/* Reads eps, a number >= 0. An object that is NULL leaves *eps unchanged. 0, or -1 with TypeError
 * or ValueError set. */
int eps_argument(const char *function, PyObject *object, double *eps);

/* Merges two names of one argument: *chosen is the value that is given under one of them, or NULL.
 * None under the other name counts as not given. 0, or -1 with TypeError set if both are given. */
int one_of_two_names(const char *function, const char *name, PyObject *value,
                     const char *other_name, PyObject *other, PyObject **chosen);
int dim_or_axis(const char *function, PyObject *dim, PyObject *axis, PyObject **chosen);

/* The float dtype of the result of these operands; y may be NULL. New reference. */
PyArray_Descr *result_descr(const struct array_argument *x, const struct array_argument *y,
                            enum dtype *dtype);

/*
 * The destination of a result. The core writes `array`; `target` is the caller's `out`, or NULL. If
 * out is byte-swapped, is misaligned or shares memory with an operand, array is a temporary that
 * result_finish copies to target.
 */
struct result {
    PyArrayObject *array, *target;
    PyObject *hold; /* hold_memory of target */
    enum dtype dtype;
};

/* in_place_ok: no temporary is needed if out is the same memory as x, element for element. 0, or -1
 * with an error set. */
int result_open(const char *function, PyObject *out, int ndim, const npy_intp *shape,
                const struct array_argument *x, const struct array_argument *y, int in_place_ok,
                struct result *result);

/* Returns the result as a Python object, which is a scalar if the result is 0-d and out is not
 * given. With ok == 0, releases everything, keeps the error that is set and returns NULL. */
PyObject *result_finish(struct result *result, int ok);

#endif
