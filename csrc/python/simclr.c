/*
 * Python bindings of nt_xent. cossim/simclr has the public functions, their defaults, checks and
 * messages. This file only checks what memory safety needs: contiguous arrays of one type whose
 * sizes fit.
 */
#include "python/methods.h"
#include "python/messages.h"

#include <math.h>
#include <stdbool.h>

#include "base/fp_mode.h"
#include "base/scratch.h"
#include "simclr/nt_xent.h"
#include "python/args.h"
#include "python/without_gil.h"

enum { GIL_RELEASE_MIN = 1 << 14 }; /* calls with fewer multiplications keep the GIL */

/* True for an array of this type and shape that the core can use in place. */
static bool is_plain(PyArrayObject *array, int type, const npy_intp *shape, bool writes)
{
    return PyArray_TYPE(array) == type && PyArray_NDIM(array) == 2 && PyArray_ISCARRAY_RO(array) &&
           (!writes || PyArray_ISWRITEABLE(array)) &&
           PyArray_CompareLists(PyArray_DIMS(array), (npy_intp *)shape, 2);
}

/* Sets starts[0] and starts[1] to the first row of each half of the rows. The halves are two arrays
 * (rows / 2, depth) or, if second is None, those of one array (rows, depth). Returns false if an
 * array has another type or shape. */
static bool find_halves(PyObject *first, PyObject *second, int type, npy_intp rows, npy_intp depth,
                        bool writes, char **starts)
{
    const npy_intp shape[2] = {second == Py_None ? rows : rows / 2, depth};
    const bool both = second != Py_None;
    if (!PyArray_Check(first) || !is_plain((PyArrayObject *)first, type, shape, writes) ||
        (both &&
         (!PyArray_Check(second) || !is_plain((PyArrayObject *)second, type, shape, writes)))) {
        return false;
    }
    const size_t bytes =
        (size_t)(rows / 2) * (size_t)depth * (type == NPY_DOUBLE ? sizeof(double) : sizeof(float));
    starts[0] = PyArray_BYTES((PyArrayObject *)first);
    starts[1] = both ? PyArray_BYTES((PyArrayObject *)second) : starts[0] + bytes;
    return true;
}

static PyObject *simclr_nt_xent(PyObject *self, PyObject *args)
{
    PyObject *z[2], *dz[2];
    char *views[2], *gradients[2] = {NULL, NULL};
    double temperature, eps, loss;
    int interleaved, status;
    (void)self;
    if (!PyArg_ParseTuple(args, "OOddpOO:nt_xent", &z[0], &z[1], &temperature, &eps, &interleaved,
                          &dz[0], &dz[1])) {
        return NULL;
    }
    PyArrayObject *first = (PyArrayObject *)z[0];
    const bool fits = PyArray_Check(z[0]) && PyArray_NDIM(first) == 2 &&
                      (PyArray_TYPE(first) == NPY_FLOAT || PyArray_TYPE(first) == NPY_DOUBLE);
    const npy_intp first_rows = fits ? PyArray_DIM(first, 0) : 0, most = NPY_MAX_INTP / 2;
    const npy_intp both_rows = first_rows > most ? 0 : 2 * first_rows;
    const npy_intp rows = z[1] == Py_None ? first_rows : both_rows;
    if (rows < 2 || rows % 2 != 0 || !(temperature > 0.0) ||
        !find_halves(z[0], z[1], PyArray_TYPE(first), rows, PyArray_DIM(first, 1), false, views) ||
        (dz[0] != Py_None && !find_halves(dz[0], dz[1], PyArray_TYPE(first), rows,
                                          PyArray_DIM(first, 1), true, gradients))) {
        PyErr_SetString(PyExc_ValueError, MISFIT);
        return NULL;
    }
    struct nt_xent call = {
        .compute = PyArray_TYPE(first) == NPY_DOUBLE ? COMPUTE_F64 : COMPUTE_F32,
        .rows = (size_t)rows,
        .depth = (size_t)PyArray_DIM(first, 1),
        .views = {views[0], views[1]},
        .gradients = {gradients[0], gradients[1]},
        .interleaved = interleaved,
        .temperature = temperature,
        .eps = eps,
    };
    if (size_product_or_max(call.rows, call.depth + 1) < GIL_RELEASE_MIN / call.rows) {
        const fp_mode caller = fp_mode_enter();
        status = nt_xent(&call, &loss);
        fp_mode_leave(caller);
    } else {
        struct without_gil released;
        without_gil_begin(&released, NULL, 0);
        call.token = &released.token;
        status = nt_xent(&call, &loss);
        if (without_gil_end(&released) < 0) {
            return NULL;
        }
    }
    return status < 0 ? PyErr_NoMemory() : PyFloat_FromDouble(loss);
}

PyMethodDef simclr_methods[] = {
    BY_POSITION(
        "nt_xent", simclr_nt_xent, "z0, z1, temperature, eps, interleaved, dz0, dz1",
        "Returns the loss and writes the gradients dz0 and dz1, unless dz0 is None. If z1 is\n"
        "None, z0 holds both views and dz0 both gradients."),
    {0},
};
