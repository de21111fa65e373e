/*
 * The layers' way into the core. cossim/nn/functional.py holds the public functions, with their defaults, checks and
 * messages; what is checked here is what memory safety needs: contiguous arrays of one type whose sizes fit.
 */
#include "python/nn.h"

#include <stdbool.h>

#include "core/layers.h"
#include "python/args.h"

static bool is_plain(PyArrayObject *array, int type, int ndim)
{
    return PyArray_TYPE(array) == type && PyArray_NDIM(array) == ndim && PyArray_ISCARRAY_RO(array);
}

/* The arrays of a layer: float32 or float64, all the same, C-contiguous, native; bias may be None. */
static bool are_plain(PyArrayObject *x, PyArrayObject *weight, PyObject *bias, PyArrayObject *out, int ndim)
{
    const int type = PyArray_TYPE(x);
    const bool plain_bias = bias == Py_None || (PyArray_Check(bias) && is_plain((PyArrayObject *)bias, type, 1) &&
                                                PyArray_DIM((PyArrayObject *)bias, 0) == PyArray_DIM(weight, 0));
    return (type == NPY_FLOAT || type == NPY_DOUBLE) && is_plain(x, type, ndim) && is_plain(weight, type, ndim) && is_plain(out, type, ndim) &&
           PyArray_ISWRITEABLE(out) && plain_bias;
}

static enum work work_of(PyArrayObject *array)
{
    return PyArray_TYPE(array) == NPY_DOUBLE ? WORK_F64 : WORK_F32;
}

static const void *data_or_null(PyObject *array)
{
    return array == Py_None ? NULL : PyArray_DATA((PyArrayObject *)array);
}

static struct extent2 last_two(PyArrayObject *array)
{
    const int ndim = PyArray_NDIM(array);
    struct extent2 extent = {(size_t)PyArray_DIM(array, ndim - 2), (size_t)PyArray_DIM(array, ndim - 1)};
    return extent;
}

static PyObject *does_not_fit(const char *function)
{
    PyErr_Format(PyExc_ValueError, "%s(): arrays that do not fit together; call it through cossim.nn", function);
    return NULL;
}

static PyObject *finish(int status)
{
    if (status < 0) {
        return PyErr_NoMemory();
    }
    Py_RETURN_NONE;
}

/* (x, weight, bias, out, (stride), (padding before), (dilation), groups) */
static PyObject *nn_conv2d(PyObject *self, PyObject *args)
{
    PyArrayObject *x, *weight, *out;
    PyObject *bias;
    struct extent2 stride, padding, dilation;
    Py_ssize_t groups;
    int status;
    (void)self;
    if (!PyArg_ParseTuple(args, "O!O!OO!(nn)(nn)(nn)n:conv2d", &PyArray_Type, &x, &PyArray_Type, &weight, &bias, &PyArray_Type, &out, &stride.h,
                          &stride.w, &padding.h, &padding.w, &dilation.h, &dilation.w, &groups)) {
        return NULL;
    }
    if (groups < 1 || !are_plain(x, weight, bias, out, 4) || PyArray_DIM(x, 0) != PyArray_DIM(out, 0) ||
        PyArray_DIM(x, 1) != PyArray_DIM(weight, 1) * groups || PyArray_DIM(out, 1) != PyArray_DIM(weight, 0) ||
        PyArray_DIM(weight, 0) % groups != 0) {
        return does_not_fit("conv2d");
    }
    const struct conv2d conv = {
        .work = work_of(x),
        .images = (size_t)PyArray_DIM(x, 0),
        .groups = (size_t)groups,
        .in_channels = (size_t)PyArray_DIM(x, 1),
        .out_channels = (size_t)PyArray_DIM(weight, 0),
        .in = last_two(x),
        .out = last_two(out),
        .kernel = last_two(weight),
        .stride = stride,
        .dilation = dilation,
        .padding = padding,
        .input = PyArray_DATA(x),
        .weight = PyArray_DATA(weight),
        .bias = data_or_null(bias),
        .output = PyArray_DATA(out),
    };
    Py_BEGIN_ALLOW_THREADS
    status = conv2d(&conv);
    Py_END_ALLOW_THREADS
    return finish(status);
}

/* (x, weight, bias, out), x and out of two dimensions */
static PyObject *nn_linear(PyObject *self, PyObject *args)
{
    PyArrayObject *x, *weight, *out;
    PyObject *bias;
    int status;
    (void)self;
    if (!PyArg_ParseTuple(args, "O!O!OO!:linear", &PyArray_Type, &x, &PyArray_Type, &weight, &bias, &PyArray_Type, &out)) {
        return NULL;
    }
    if (!are_plain(x, weight, bias, out, 2) || PyArray_DIM(x, 0) != PyArray_DIM(out, 0) || PyArray_DIM(x, 1) != PyArray_DIM(weight, 1) ||
        PyArray_DIM(out, 1) != PyArray_DIM(weight, 0)) {
        return does_not_fit("linear");
    }
    const struct linear layer = {
        .work = work_of(x),
        .rows = (size_t)PyArray_DIM(x, 0),
        .in_features = (size_t)PyArray_DIM(x, 1),
        .out_features = (size_t)PyArray_DIM(weight, 0),
        .input = PyArray_DATA(x),
        .weight = PyArray_DATA(weight),
        .bias = data_or_null(bias),
        .output = PyArray_DATA(out),
    };
    Py_BEGIN_ALLOW_THREADS
    status = linear(&layer);
    Py_END_ALLOW_THREADS
    return finish(status);
}

/* Does every window of the output begin inside the image or its padding, so that one element at least is inside? */
static bool windows_fit(size_t in, size_t out, size_t kernel, size_t stride, size_t dilation, size_t padding)
{
    return kernel >= 1 && stride >= 1 && dilation >= 1 && padding <= ((kernel - 1) * dilation + 1) / 2 &&
           (out == 0 || (out - 1) * stride < in + padding);
}

/* (x, out, indices or None, (kernel), (stride), (padding), (dilation)), arrays of three dimensions */
static PyObject *nn_max_pool2d(PyObject *self, PyObject *args)
{
    PyArrayObject *x, *out;
    PyObject *indices;
    struct extent2 kernel, stride, padding, dilation;
    (void)self;
    if (!PyArg_ParseTuple(args, "O!O!O(nn)(nn)(nn)(nn):max_pool2d", &PyArray_Type, &x, &PyArray_Type, &out, &indices, &kernel.h, &kernel.w,
                          &stride.h, &stride.w, &padding.h, &padding.w, &dilation.h, &dilation.w)) {
        return NULL;
    }
    const bool plain_indices = indices == Py_None || (PyArray_Check(indices) && is_plain((PyArrayObject *)indices, NPY_INT64, 3) &&
                                                      PyArray_SAMESHAPE((PyArrayObject *)indices, out));
    if (!are_plain(x, x, Py_None, out, 3) || !plain_indices || PyArray_DIM(x, 0) != PyArray_DIM(out, 0) ||
        !windows_fit(last_two(x).h, last_two(out).h, kernel.h, stride.h, dilation.h, padding.h) ||
        !windows_fit(last_two(x).w, last_two(out).w, kernel.w, stride.w, dilation.w, padding.w)) {
        return does_not_fit("max_pool2d");
    }
    const struct max_pool2d pool = {
        .work = work_of(x),
        .planes = (size_t)PyArray_DIM(x, 0),
        .in = last_two(x),
        .out = last_two(out),
        .kernel = kernel,
        .stride = stride,
        .dilation = dilation,
        .padding = padding,
        .input = PyArray_DATA(x),
        .output = PyArray_DATA(out),
        .indices = (int64_t *)data_or_null(indices),
    };
    Py_BEGIN_ALLOW_THREADS
    max_pool2d(&pool);
    Py_END_ALLOW_THREADS
    Py_RETURN_NONE;
}

/* (x, out), of one dimension */
static PyObject *nn_relu(PyObject *self, PyObject *args)
{
    PyArrayObject *x, *out;
    (void)self;
    if (!PyArg_ParseTuple(args, "O!O!:relu", &PyArray_Type, &x, &PyArray_Type, &out)) {
        return NULL;
    }
    if (!are_plain(x, x, Py_None, out, 1) || PyArray_DIM(x, 0) != PyArray_DIM(out, 0)) {
        return does_not_fit("relu");
    }
    Py_BEGIN_ALLOW_THREADS
    relu(work_of(x), (size_t)PyArray_DIM(x, 0), PyArray_DATA(x), PyArray_DATA(out));
    Py_END_ALLOW_THREADS
    Py_RETURN_NONE;
}

/* (function, name, object): what array_argument makes of an argument, for the checks in Python. */
static PyObject *nn_as_array(PyObject *self, PyObject *args)
{
    const char *function, *name;
    PyObject *object;
    struct array_argument argument;
    (void)self;
    if (!PyArg_ParseTuple(args, "ssO:as_array", &function, &name, &object) || array_argument(function, name, object, &argument) < 0) {
        return NULL;
    }
    return (PyObject *)argument.array;
}

PyMethodDef nn_methods[] = {
    {"as_array", nn_as_array, METH_VARARGS, NULL},
    {"conv2d", nn_conv2d, METH_VARARGS, NULL},
    {"linear", nn_linear, METH_VARARGS, NULL},
    {"max_pool2d", nn_max_pool2d, METH_VARARGS, NULL},
    {"relu", nn_relu, METH_VARARGS, NULL},
    {0},
};
