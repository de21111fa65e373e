/*
 * Python bindings of augment. cossim/simclr/augment.py has the public function, its checks, its
 * messages and its random choices. This file only checks what memory safety needs.
 */
#include "python/methods.h"
#include "python/messages.h"

#include <stdbool.h>

#include "simclr/augment.h"
#include "python/without_gil.h"

/* True for an array of this type and number of dimensions that the core can read in place. */
static bool is_plain(PyArrayObject *array, int type, int ndim)
{
    return PyArray_TYPE(array) == type && PyArray_NDIM(array) == ndim && PyArray_ISCARRAY_RO(array);
}

static PyObject *augment_augment(PyObject *self, PyObject *args)
{
    PyArrayObject *images, *maps, *keys, *out;
    double noise, low, high;
    struct without_gil released;
    (void)self;
    if (!PyArg_ParseTuple(args, "O!O!O!O!ddd:augment", &PyArray_Type, &images, &PyArray_Type, &maps,
                          &PyArray_Type, &keys, &PyArray_Type, &out, &noise, &low, &high)) {
        return NULL;
    }
    const int type = PyArray_TYPE(images);
    if ((type != NPY_FLOAT && type != NPY_DOUBLE) || !is_plain(images, type, 4) ||
        !is_plain(out, type, 4) || !PyArray_ISWRITEABLE(out) || !PyArray_SAMESHAPE(images, out) ||
        !is_plain(maps, NPY_DOUBLE, 3) || !is_plain(keys, NPY_UINT64, 1) ||
        PyArray_DIM(maps, 0) != PyArray_DIM(images, 0) || PyArray_DIM(maps, 1) != 2 ||
        PyArray_DIM(maps, 2) != 3 || PyArray_DIM(keys, 0) != PyArray_DIM(images, 0) ||
        PyArray_DIM(images, 2) > AUGMENT_MAX_SIZE || PyArray_DIM(images, 3) > AUGMENT_MAX_SIZE) {
        PyErr_SetString(PyExc_ValueError, MISFIT);
        return NULL;
    }
    struct augment call = {
        .compute = type == NPY_DOUBLE ? COMPUTE_F64 : COMPUTE_F32,
        .images = (size_t)PyArray_DIM(images, 0),
        .channels = (size_t)PyArray_DIM(images, 1),
        .height = (size_t)PyArray_DIM(images, 2),
        .width = (size_t)PyArray_DIM(images, 3),
        .input = PyArray_DATA(images),
        .maps = PyArray_DATA(maps),
        .noise = noise,
        .keys = PyArray_DATA(keys),
        .low = low,
        .high = high,
        .output = PyArray_DATA(out),
    };
    without_gil_begin(&released, NULL, 0);
    call.token = &released.token;
    const int status = augment(&call);
    if (without_gil_end(&released) < 0) {
        return NULL;
    }
    if (status < 0) {
        return PyErr_NoMemory();
    }
    Py_RETURN_NONE;
}

PyMethodDef augment_methods[] = {
    {"augment", augment_augment, METH_VARARGS,
     "augment($module, images, maps, keys, out, noise, low, high, /)\n--\n\n"
     "Writes views of images (N, C, H, W) through affine maps (N, 2, 3) of float64, with normal\n"
     "random numbers from keys (N,) of uint64."},
    {0},
};
