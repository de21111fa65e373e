#pragma once

#include "arguments/numpy.h"

#include "vectors/compute_type.h"
#include "vectors/dtype.h"
#include "arguments/protocols.h"

/* Returns 1 for a Dask array, which computes its elements on demand, and 0 for other objects. */
int is_lazy(PyObject *object);

/* Calls the function that module.FINDER returns for this name. cossim._finders sets the finders
 * dask_function and sparse_function: the core imports no module that imports it. */
PyObject *call_found(PyObject *module, const char *finder, const char *function,
                     PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames);

/* An array argument. Release it with array_release. */
struct array_argument {
    const char *name;
    PyArrayObject *array;   /* the argument itself if that is an array, subclasses included */
    PyObject *hold;         /* keeps the array's memory in place; see hold_memory */
    struct operand operand; /* how the core reads it */
};

/*
 * Converts an argument to an array. Arrays are used without a copy, and so are buffers, tensors
 * (DLPack) and columns (Arrow) whose memory lies in one piece. Other objects are converted by
 * NumPy's rules (__array__, sequences, numbers). Vectors that are elements of an array of objects,
 * a list or a column are stacked. Returns 0, or -1 with a TypeError or ValueError set, which names
 * the function and the argument.
 */
int array_argument(const char *function, const char *name, PyObject *object,
                   struct array_argument *argument);

/*
 * Re-reads an array's dtype and data pointer. Converting a later argument can run user code
 * (__array__) that changes this array in place. Call this function after all arguments are
 * converted and before any other property of an array is read. Returns 0, or -1 as above.
 */
int array_reread(const char *function, struct array_argument *argument);
void array_release(struct array_argument *argument);

/*
 * Turns an argument that check_rows accepts into rows of packed bits. Its elements must be uint8,
 * with at least one byte in a row. Returns 0, or -1 with a TypeError or ValueError set. Numbers
 * that were not packed have another length: of two arguments, check both before their lengths are
 * compared. array_reread undoes this.
 */
int bits_argument(const char *function, struct array_argument *argument);

/* Returns a plain array over the argument's memory. The array keeps that memory in place while it
 * lives. New reference. */
PyObject *array_view(const struct array_argument *argument);

/*
 * Returns array_view of an argument, for calculations in Python. NumPy cannot calculate with
 * bfloat16 unless ml_dtypes is installed; without it, the view is a copy as float32, whose upper
 * halves are the elements.
 */
PyObject *view_for_numpy(const struct array_argument *argument);

/*
 * Arrays that cossim's Python code has made for the core. can_read and can_write are true for an
 * array of this type and shape that the core can use in place: C-contiguous, aligned and in native
 * byte order. A size of -1 in `shape` allows any size, and a shape of NULL allows any sizes. Both
 * are false for objects that are not arrays.
 */
static inline bool can_read(PyArrayObject *array, int type, int ndim, const npy_intp *shape)
{
    if (!PyArray_Check((PyObject *)array) || PyArray_TYPE(array) != type ||
        PyArray_NDIM(array) != ndim || !PyArray_ISCARRAY_RO(array)) {
        return false;
    }
    for (int i = 0; i < ndim; i++) {
        const npy_intp size = shape == NULL ? -1 : shape[i];
        if (size >= 0 && size != PyArray_DIM(array, i)) {
            return false;
        }
    }
    return true;
}

static inline bool can_write(PyArrayObject *array, int type, int ndim, const npy_intp *shape)
{
    return can_read(array, type, ndim, shape) && PyArray_ISWRITEABLE(array);
}

/* Returns NPY_FLOAT or NPY_DOUBLE if that is the type of the array, else -1, which no array has. */
static inline int float_type(PyArrayObject *array)
{
    const int type = PyArray_Check((PyObject *)array) ? PyArray_TYPE(array) : -1;
    return type == NPY_FLOAT || type == NPY_DOUBLE ? type : -1;
}

/* Returns the compute type for arrays of NPY_FLOAT or NPY_DOUBLE. */
static inline enum compute_type compute_type_of(int type)
{
    return type == NPY_DOUBLE ? COMPUTE_F64 : COMPUTE_F32;
}

static inline bool is_none(PyArrayObject *object)
{
    return (PyObject *)object == Py_None;
}

/* Sets the ValueError for arrays that the core cannot use together, unless an error is set. misfit
 * returns NULL, misfit_status -1. */
PyObject *misfit(void);
int misfit_status(void);

/* Sets MemoryError. Returns -1. */
int no_memory_status(void);

/* Sets *dtype to the element type of an array. Returns false if its elements are not real numbers.
 */
bool dtype_of(PyArrayObject *array, enum dtype *dtype);

/* True for a numpy.ma.MaskedArray, whose mask would be ignored silently. Compares the names of the
 * base classes, because looking up an attribute can run user code. */
bool is_masked(PyObject *object);

/*
 * Returns an object that keeps an array's memory in place while it lives: the owner of the memory
 * can then neither move nor free it. If the owner is an array, the object is a weak reference; an
 * array that has one refuses resize(), even with refcheck=False. If the owner is a bytearray or an
 * mmap, the object is a buffer export; such owners then refuse to be resized or closed. For other
 * owners it is None. Returns NULL with an error set.
 */
PyObject *hold_memory(PyArrayObject *array);

/* Checks that x is (N, D) and y is (M, D). Either may be one vector, (D,), in place of a matrix,
 * and y may be NULL. Returns 0, or -1 with ValueError set. */
int check_rows(const char *function, const struct array_argument *x,
               const struct array_argument *y);

/* Raises "function(): message (x1: shape (2, 3), dtype float32; x2: ...)". y may be NULL. If
 * exception is NULL, an error is already set, and fail() leaves it unchanged. Returns -1. */
int fail(PyObject *exception, const char *function, const struct array_argument *x,
         const struct array_argument *y, const char *format, ...);
