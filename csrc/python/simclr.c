/*
 * The way of SimCLR's parts into the core. cossim/simclr holds the public functions, with their
 * defaults, checks and messages; what is checked here is what memory safety needs: contiguous
 * arrays of one type whose sizes fit.
 */
#include "python/simclr.h"

#include <math.h>
#include <stdbool.h>

#include "base/fp_mode.h"
#include "base/scratch.h"
#include "simclr/nt_xent.h"
#include "python/args.h"
#include "python/without_gil.h"

enum { GIL_RELEASE_MIN = 1 << 14 }; /* calls of fewer multiplications keep the GIL */

static bool is_plain(PyArrayObject *array, int type, const npy_intp *shape, bool writes)
{
    return PyArray_TYPE(array) == type && PyArray_NDIM(array) == 2 && PyArray_ISCARRAY_RO(array) &&
           (!writes || PyArray_ISWRITEABLE(array)) &&
           PyArray_CompareLists(PyArray_DIMS(array), (npy_intp *)shape, 2);
}

/* Where the two halves of one array of rows begin, or two arrays. False where they are not of the
 * wanted type and shape. */
static bool halves(PyObject *first, PyObject *second, int type, npy_intp rows, npy_intp depth,
                   bool writes, char **found)
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
    found[0] = PyArray_BYTES((PyArrayObject *)first);
    found[1] = both ? PyArray_BYTES((PyArrayObject *)second) : found[0] + bytes;
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
    const npy_intp of_first = fits ? PyArray_DIM(first, 0) : 0, most = NPY_MAX_INTP / 2;
    const npy_intp rows = z[1] == Py_None ? of_first : of_first > most ? 0 : 2 * of_first;
    if (rows < 2 || rows % 2 != 0 || !(temperature > 0.0) ||
        !halves(z[0], z[1], PyArray_TYPE(first), rows, PyArray_DIM(first, 1), false, views) ||
        (dz[0] != Py_None && !halves(dz[0], dz[1], PyArray_TYPE(first), rows, PyArray_DIM(first, 1),
                                     true, gradients))) {
        PyErr_SetString(
            PyExc_ValueError,
            "nt_xent(): arrays that do not fit together; call it through cossim.simclr");
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
        "The loss. z1 None: z0 holds both views, and dz0 likewise. dz0 None: no gradients."),
    {0},
};
