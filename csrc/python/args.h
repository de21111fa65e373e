#ifndef COSSIM_PYTHON_ARGS_H
#define COSSIM_PYTHON_ARGS_H

#include "python/numpy.h"

#include "vectors/dtype.h"

/* Arguments of a call, as the functions of the module take them. */

enum { MAX_ARGUMENTS = 10 };

struct signature {
    const char *function;
    int required;   /* the first arguments, without a default */
    int positional; /* the first arguments, by position or by name; those after them by name alone
                     */
    const char *names[MAX_ARGUMENTS + 1]; /* ends with NULL */
};

/* values[i] is the borrowed argument names[i], or NULL where it was not given. -1 with TypeError
 * set otherwise. */
int parse_arguments(const struct signature *signature, PyObject *const *args, Py_ssize_t nargs,
                    PyObject *kwnames, PyObject **values);

/* A row of a table of methods, for a function that takes all of its arguments by position, with its
 * docstring. */
#define BY_POSITION(name, function, arguments, text) \
    {name, function, METH_VARARGS, name "($module, " arguments ", /)\n--\n\n" text}

/* Is it an array of Dask, whose elements are calculated when they are asked for? Such calls are
 * those of cossim.search.dask_arrays. */
int is_lazy(PyObject *object);
PyObject *call_lazily(const char *function, PyObject *const *args, Py_ssize_t nargs,
                      PyObject *kwnames);

/* An operand: an array, what the core must know to read it, and what keeps its memory in place.
 * Release with array_release. */
struct array_argument {
    const char *name;
    PyArrayObject *array; /* the caller's own where that is an array, of a subclass too */
    PyObject *hold; /* while this lives, the owner of the memory cannot move or free it; or None */
    struct operand operand;
};

/*
 * Reads an argument as an array: arrays as they are, all else by NumPy's rules (buffers, __array__,
 * sequences, numbers) or by DLPack. -1 with TypeError or ValueError set, which names the function
 * and the argument.
 */
int array_argument(const char *function, const char *name, PyObject *object,
                   struct array_argument *argument);
/*
 * Re-reads an array's dtype and data pointer: converting a later argument (__array__) may run user
 * code that changes this one in place. Call it when all arguments are converted, before anything
 * else of an array is read. -1 as above.
 */
int array_reread(const char *function, struct array_argument *argument);
void array_release(struct array_argument *argument);

/* A plain array over the argument's memory, which keeps that memory in place as long as it lives.
 * New reference. */
PyObject *array_view(const struct array_argument *argument);

/* The element type of an array. False: none that holds real numbers. */
bool dtype_of(PyArrayObject *array, enum dtype *dtype);

/* A masked array would lose its mask silently. Asks the types it inherits from: looking up an
 * attribute may run user code. */
bool is_masked(PyObject *object);

/*
 * An object that keeps the owner of an array's memory from moving or freeing it, as long as the
 * object lives. An array with a weak reference refuses resize(), even with refcheck=False; a
 * bytearray or mmap with an export refuses to be resized or closed. None where the owner is of
 * another kind. NULL with an error set.
 */
PyObject *hold_memory(PyArrayObject *array);

/*
 * Drops a reference; NULL is none. An error that is set is put aside meanwhile: the end of an
 * object can run Python code (the deleter of a DLPack array can be a callback of ctypes), which
 * needs a clear state.
 */
void release(PyObject *object);

/* Are both arrays of rows of one length? y may be NULL. -1 with ValueError set otherwise. */
int check_rows(const char *function, const struct array_argument *x,
               const struct array_argument *y);

/* Sets `exception` with "function(): message (x1: shape (2, 3), dtype float32; x2: ...)"; y may be
 * NULL. Returns -1. */
int fail(PyObject *exception, const char *function, const struct array_argument *x,
         const struct array_argument *y, const char *format, ...);

/* numpy.exceptions.AxisError, borrowed; NULL with an error set. */
PyObject *axis_error(void);

/* dim (or axis) as an integer, clipped to the range of Py_ssize_t; TypeError otherwise. */
int integer_argument(const char *function, const char *name, PyObject *object, Py_ssize_t *value);

/* May integer_argument have clipped it? Then it is not the number that was given, and no error
 * shows it. */
static inline bool may_be_clipped(Py_ssize_t value)
{
    return value == PY_SSIZE_T_MAX || value == PY_SSIZE_T_MIN;
}

/* eps as a number >= 0; TypeError or ValueError otherwise. NULL leaves *eps as it is. */
int eps_argument(const char *function, PyObject *object, double *eps);

/* Two names of one argument: the value that was given, or NULL; None under the other name is none.
 * -1 when both were. */
int one_of_two_names(const char *function, const char *name, PyObject *value,
                     const char *other_name, PyObject *other, PyObject **chosen);
int dim_or_axis(const char *function, PyObject *dim, PyObject *axis, PyObject **chosen);

/* The float dtype that operands of these types give; y may be NULL. New reference. */
PyArray_Descr *result_descr(const struct array_argument *x, const struct array_argument *y,
                            enum dtype *dtype);

/*
 * Where the result goes. `array` is what the core writes, `target` the caller's `out` or NULL:
 * where out has another byte order, is misaligned or shares memory with an operand, array is a
 * temporary one that result_finish copies.
 */
struct result {
    PyArrayObject *array, *target;
    PyObject *hold; /* as that of an array_argument, for target */
    enum dtype dtype;
};

/* in_place_ok: an operand that is out itself, element for element, needs no temporary. */
int result_open(const char *function, PyObject *out, int ndim, const npy_intp *shape,
                const struct array_argument *x, const struct array_argument *y, int in_place_ok,
                struct result *result);
/* The object to return (a scalar for a 0-d result without out). ok == 0: releases, keeps the error
 * that is set. */
PyObject *result_finish(struct result *result, int ok);

#endif
