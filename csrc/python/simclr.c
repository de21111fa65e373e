/*
 * Python bindings of nt_xent. cossim/simclr has the public functions, their defaults, checks and
 * messages. This file only checks what memory safety needs: contiguous arrays of one type whose
 * sizes fit.
 */
#include "python/methods.h"

#include <stdbool.h>

#include "base/eps.h"
#include "base/scratch.h"
#include "simclr/nt_xent.h"
#include "arguments/args.h"
#include "python/without_gil.h"

/* `views` is two arrays (N, D), or one array (2 N, D) and None. Returns the address of the second
 * half of the rows. */
static char *second_half(PyArrayObject *const *views)
{
    return is_none(views[1]) ? PyArray_BYTES(views[0]) + PyArray_NBYTES(views[0]) / 2
                             : PyArray_BYTES(views[1]);
}

static bool are_views(PyArrayObject *const *z, int type)
{
    if (!can_read(z[0], type, 2, NULL)) {
        return false;
    }
    const npy_intp rows = PyArray_DIM(z[0], 0);
    return rows > 0 && (is_none(z[1]) ? rows % 2 == 0
                                      : rows <= NPY_MAX_INTP / 2 &&
                                            can_read(z[1], type, 2, PyArray_DIMS(z[0])));
}

/* True if dz is None or has the shapes of z. */
static bool are_gradients(PyArrayObject *const *dz, PyArrayObject *const *z, int type)
{
    const npy_intp *shape = PyArray_DIMS(z[0]);
    return is_none(dz[0]) || (can_write(dz[0], type, 2, shape) &&
                              (is_none(z[1]) ? is_none(dz[1]) : can_write(dz[1], type, 2, shape)));
}

static PyObject *simclr_nt_xent(PyObject *Py_UNUSED(self), PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"", "", "", "", "", "", "temperature", "interleaved", NULL};
    PyArrayObject *z[2], *dz[2], *classes, *positives;
    double temperature, loss;
    int interleaved;
    struct without_gil released;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OOOOOO$dp:nt_xent", names, &z[0], &z[1], &dz[0],
                                     &dz[1], &classes, &positives, &temperature, &interleaved)) {
        return NULL;
    }
    const int type = float_type(z[0]);
    if (!are_views(z, type) || !are_gradients(dz, z, type) || !(temperature > 0.0)) {
        return misfit();
    }
    struct nt_xent call = {
        .compute = compute_type_of(type),
        .rows = (size_t)PyArray_DIM(z[0], 0) * (is_none(z[1]) ? 1 : 2),
        .depth = (size_t)PyArray_DIM(z[0], 1),
        .views = {PyArray_DATA(z[0]), second_half(z)},
        .interleaved = interleaved,
        .temperature = temperature,
        .eps = DEFAULT_EPS,
    };
    const npy_intp rows = (npy_intp)call.rows;
    if (!is_none(classes)) {
        if (!can_read(classes, NPY_INT64, 1, &rows) || !can_read(positives, NPY_DOUBLE, 1, &rows)) {
            return misfit();
        }
        call.classes = PyArray_DATA(classes);
        call.positives = PyArray_DATA(positives);
    }
    if (!is_none(dz[0])) {
        call.gradients[0] = PyArray_DATA(dz[0]);
        call.gradients[1] = second_half(dz);
    }
    const size_t multiplications =
        size_product_or_max(call.rows, size_product_or_max(call.rows, call.depth + 1));
    call.token = without_gil_begin_sized(&released, multiplications, NULL, 0);
    const int status = nt_xent(&call, &loss);
    return without_gil_finish(&released, status) < 0 ? NULL : PyFloat_FromDouble(loss);
}

PyMethodDef simclr_methods[] = {
    BY_NAME(
        "nt_xent", simclr_nt_xent,
        "z0, z1, dz0, dz1, classes, positives, /, *, temperature, interleaved",
        "Returns the loss and writes the gradients dz0 and dz1, unless dz0 is None. If z1 is\n"
        "None, z0 holds both views and dz0 both gradients. classes (rows,) of int64 and\n"
        "positives (rows,) of float64, the number of other rows of a row's class, may be None."),
    {0},
};
