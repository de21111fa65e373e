/*
 * Python bindings of augment. cossim/simclr/augment.py has the public function, its checks, its
 * messages and its random choices. This file only checks what memory safety needs.
 */
#include "python/methods.h"

#include "simclr/augment.h"
#include "arguments/args.h"
#include "python/without_gil.h"

static PyObject *augment_augment(PyObject *Py_UNUSED(self), PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"", "", "", "", "colours", "noise", "low", "high", NULL};
    PyArrayObject *images, *maps, *keys, *out, *colours;
    double noise, low, high;
    struct without_gil released;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OOOO$Oddd:augment", names, &images, &maps,
                                     &keys, &out, &colours, &noise, &low, &high)) {
        return NULL;
    }
    const int type = float_type(images);
    if (!can_read(images, type, 4, NULL) || PyArray_DIM(images, 2) > AUGMENT_MAX_SIZE ||
        PyArray_DIM(images, 3) > AUGMENT_MAX_SIZE) {
        return misfit();
    }
    const npy_intp maps_shape[3] = {PyArray_DIM(images, 0), 2, 3};
    if (!can_read(maps, NPY_DOUBLE, 3, maps_shape) || !can_read(keys, NPY_UINT64, 1, maps_shape) ||
        !can_write(out, type, 4, PyArray_DIMS(images))) {
        return misfit();
    }
    const npy_intp colours_shape[2] = {PyArray_DIM(images, 0),
                                       sizeof(struct colour) / sizeof(double)};
    if (!is_none(colours) && (!can_read(colours, NPY_DOUBLE, 2, colours_shape) ||
                              (PyArray_DIM(images, 1) != 1 && PyArray_DIM(images, 1) != 3))) {
        return misfit();
    }
    struct augment call = {
        .compute = compute_type_of(type),
        .images = (size_t)PyArray_DIM(images, 0),
        .channels = (size_t)PyArray_DIM(images, 1),
        .height = (size_t)PyArray_DIM(images, 2),
        .width = (size_t)PyArray_DIM(images, 3),
        .input = PyArray_DATA(images),
        .maps = PyArray_DATA(maps),
        .colours = is_none(colours) ? NULL : PyArray_DATA(colours),
        .noise = noise,
        .keys = PyArray_DATA(keys),
        .low = low,
        .high = high,
        .output = PyArray_DATA(out),
    };
    call.token = without_gil_begin(&released, NULL, 0);
    return none_or_error(without_gil_finish(&released, augment(&call)));
}

PyMethodDef augment_methods[] = {
    BY_NAME(
        "augment", augment_augment, "images, maps, keys, out, /, *, colours, noise, low, high",
        "Writes views of images (N, C, H, W) through affine maps (N, 2, 3) of float64, with\n"
        "normal random numbers from keys (N,) of uint64. colours is None or (N, 11) of float64."),
    {0},
};
