/*
 * Python bindings of the layers. cossim/nn/functional.py has the public functions, their defaults,
 * checks and messages. This file only checks what memory safety needs: contiguous arrays of one
 * type whose sizes fit.
 */
#include "python/methods.h"
#include "python/messages.h"

#include <stdbool.h>

#include "base/fp_mode.h"
#include "base/scratch.h"
#include "nn/layers.h"
#include "nn/network.h"
#include "python/args.h"
#include "python/without_gil.h"

static bool is_plain(PyArrayObject *array, int type, int ndim)
{
    return PyArray_TYPE(array) == type && PyArray_NDIM(array) == ndim && PyArray_ISCARRAY_RO(array);
}

static bool is_plain_or_none(PyObject *bias, int type, npy_intp n)
{
    return bias == Py_None || (PyArray_Check(bias) && is_plain((PyArrayObject *)bias, type, 1) &&
                               PyArray_DIM((PyArrayObject *)bias, 0) == n);
}

/* True if the arrays of a layer are all float32 or all float64, C-contiguous and in native byte
 * order. bias may be None; out must be writeable. */
static bool are_plain(PyArrayObject *x, PyArrayObject *weight, PyObject *bias, PyArrayObject *out,
                      int ndim)
{
    const int type = PyArray_TYPE(x);
    return (type == NPY_FLOAT || type == NPY_DOUBLE) && is_plain(x, type, ndim) &&
           is_plain(weight, type, ndim) && is_plain(out, type, ndim) && PyArray_ISWRITEABLE(out) &&
           is_plain_or_none(bias, type, PyArray_DIM(weight, 0));
}

static enum compute_type compute_type_of(PyArrayObject *array)
{
    return PyArray_TYPE(array) == NPY_DOUBLE ? COMPUTE_F64 : COMPUTE_F32;
}

static const void *data_or_null(PyObject *array)
{
    return array == Py_None ? NULL : PyArray_DATA((PyArrayObject *)array);
}

static struct extent2 last_two(PyArrayObject *array)
{
    const int ndim = PyArray_NDIM(array);
    struct extent2 extent = {(size_t)PyArray_DIM(array, ndim - 2),
                             (size_t)PyArray_DIM(array, ndim - 1)};
    return extent;
}

static PyObject *does_not_fit(void)
{
    PyErr_SetString(PyExc_ValueError, MISFIT);
    return NULL;
}

/* Ends a call that without_gil_begin started. Returns None, or NULL with an error set. */
static PyObject *finish_call(struct without_gil *released, int status)
{
    if (without_gil_end(released) < 0) {
        return NULL;
    }
    if (status < 0) {
        return PyErr_NoMemory();
    }
    Py_RETURN_NONE;
}

/* True if the shapes fit each other. x is (images, channels, h, w), weight is (filters, channels /
 * groups, kh, kw), and maps is (images, filters, oh, ow). */
static bool conv_fits(PyArrayObject *x, PyArrayObject *weight, PyArrayObject *maps,
                      Py_ssize_t groups)
{
    size_t channels;
    return groups >= 1 && PyArray_DIM(x, 0) == PyArray_DIM(maps, 0) &&
           size_mul((size_t)PyArray_DIM(weight, 1), (size_t)groups, &channels) &&
           (size_t)PyArray_DIM(x, 1) == channels &&
           PyArray_DIM(maps, 1) == PyArray_DIM(weight, 0) && PyArray_DIM(weight, 0) % groups == 0 &&
           PyArray_DIM(weight, 2) >= 1 && PyArray_DIM(weight, 3) >= 1;
}

static struct conv2d conv_of(PyArrayObject *x, PyArrayObject *weight, PyArrayObject *maps,
                             Py_ssize_t groups)
{
    const struct conv2d conv = {
        .compute = compute_type_of(x),
        .images = (size_t)PyArray_DIM(x, 0),
        .groups = (size_t)groups,
        .in_channels = (size_t)PyArray_DIM(x, 1),
        .out_channels = (size_t)PyArray_DIM(weight, 0),
        .in = last_two(x),
        .out = last_two(maps),
        .kernel = last_two(weight),
        .input = PyArray_DATA(x),
        .weight = PyArray_DATA(weight),
        .output = PyArray_DATA(maps),
    };
    return conv;
}

static bool conv_sizes_fit(struct extent2 stride, struct extent2 padding, struct extent2 dilation)
{
    return is_valid_size(stride) && is_valid_padding(padding) && is_valid_size(dilation);
}

static PyObject *nn_conv2d(PyObject *self, PyObject *args)
{
    PyArrayObject *x, *weight, *out;
    PyObject *bias;
    struct extent2 stride, padding, dilation;
    Py_ssize_t groups;
    int relu;
    struct without_gil released;
    (void)self;
    if (!PyArg_ParseTuple(args, "O!O!OO!(nn)(nn)(nn)np:conv2d", &PyArray_Type, &x, &PyArray_Type,
                          &weight, &bias, &PyArray_Type, &out, &stride.h, &stride.w, &padding.h,
                          &padding.w, &dilation.h, &dilation.w, &groups, &relu)) {
        return NULL;
    }
    if (!are_plain(x, weight, bias, out, 4) || !conv_fits(x, weight, out, groups) ||
        !conv_sizes_fit(stride, padding, dilation)) {
        return does_not_fit();
    }
    struct conv2d conv = conv_of(x, weight, out, groups);
    conv.stride = stride;
    conv.dilation = dilation;
    conv.padding = padding;
    conv.bias = data_or_null(bias);
    conv.relu = relu;
    without_gil_begin(&released, NULL, 0);
    conv.token = &released.token;
    return finish_call(&released, conv2d(&conv));
}

static PyObject *nn_conv2d_grad_input(PyObject *self, PyObject *args)
{
    PyArrayObject *weight, *maps, *x;
    struct extent2 stride, padding, dilation;
    Py_ssize_t groups;
    struct without_gil released;
    (void)self;
    if (!PyArg_ParseTuple(args, "O!O!O!(nn)(nn)(nn)n:conv2d_grad_input", &PyArray_Type, &weight,
                          &PyArray_Type, &maps, &PyArray_Type, &x, &stride.h, &stride.w, &padding.h,
                          &padding.w, &dilation.h, &dilation.w, &groups)) {
        return NULL;
    }
    if (!are_plain(maps, weight, Py_None, x, 4) || !conv_fits(x, weight, maps, groups) ||
        !conv_sizes_fit(stride, padding, dilation)) {
        return does_not_fit();
    }
    struct conv2d_grad_input gradient = {conv_of(x, weight, maps, groups), PyArray_DATA(x)};
    gradient.conv.stride = stride;
    gradient.conv.dilation = dilation;
    gradient.conv.padding = padding;
    without_gil_begin(&released, NULL, 0);
    gradient.conv.token = &released.token;
    return finish_call(&released, conv2d_grad_input(&gradient));
}

/* Is indices an int64 array of the shape of `gradients` whose elements are all in [0, size)? */
static bool are_indices(PyObject *indices, PyArrayObject *gradients, size_t size)
{
    if (!PyArray_Check(indices) ||
        !is_plain((PyArrayObject *)indices, NPY_INT64, PyArray_NDIM(gradients)) ||
        !PyArray_SAMESHAPE((PyArrayObject *)indices, gradients)) {
        return false;
    }
    const int64_t *index = PyArray_DATA((PyArrayObject *)indices);
    const npy_intp n = PyArray_SIZE(gradients);
    bool fit = true;
    for (npy_intp i = 0; i < n; i++) {
        fit &= (uint64_t)index[i] < size;
    }
    return fit;
}

/* maps holds the gradients of all pixels of the feature maps. But if indices is not None, it holds
 * those of some pixels: each element is the gradient of the pixel at its index. */
static PyObject *nn_conv2d_grad_weight(PyObject *self, PyObject *args)
{
    PyArrayObject *x, *maps, *weight;
    PyObject *bias, *indices;
    struct extent2 stride, padding, dilation, size;
    Py_ssize_t groups;
    struct without_gil released;
    (void)self;
    if (!PyArg_ParseTuple(args, "O!O!O!O(nn)(nn)(nn)nO(nn):conv2d_grad_weight", &PyArray_Type, &x,
                          &PyArray_Type, &maps, &PyArray_Type, &weight, &bias, &stride.h, &stride.w,
                          &padding.h, &padding.w, &dilation.h, &dilation.w, &groups, &indices,
                          &size.h, &size.w)) {
        return NULL;
    }
    const bool sparse = indices != Py_None;
    size_t pixels;
    if (!are_plain(x, maps, Py_None, weight, 4) ||
        !is_plain_or_none(bias, PyArray_TYPE(x), PyArray_DIM(weight, 0)) ||
        !conv_fits(x, weight, maps, groups) || !conv_sizes_fit(stride, padding, dilation) ||
        (Py_ssize_t)size.h < 0 || (Py_ssize_t)size.w < 0 ||
        (sparse ? dilation.w != 1 || size.h == 0 || size.w == 0 ||
                      !size_mul(size.h, size.w, &pixels) || !are_indices(indices, maps, pixels)
                : size.h != last_two(maps).h || size.w != last_two(maps).w) ||
        (bias != Py_None && !PyArray_ISWRITEABLE((PyArrayObject *)bias))) {
        return does_not_fit();
    }
    struct conv2d conv = conv_of(x, weight, maps, groups);
    conv.out = size;
    conv.stride = stride;
    conv.dilation = dilation;
    conv.padding = padding;
    void *to_weight = PyArray_DATA(weight), *to_bias = (void *)data_or_null(bias);
    without_gil_begin(&released, NULL, 0);
    conv.token = &released.token;
    const struct conv2d_grad_weight_sparse some_pixels = {
        conv, data_or_null(indices), last_two(maps).h * last_two(maps).w, to_weight, to_bias};
    const struct conv2d_grad_weight all_pixels = {conv, to_weight, to_bias};
    return finish_call(&released, sparse ? conv2d_grad_weight_sparse(&some_pixels)
                                         : conv2d_grad_weight(&all_pixels));
}

static PyObject *nn_all_finite(PyObject *self, PyObject *x)
{
    PyArrayObject *array = (PyArrayObject *)x;
    (void)self;
    if (!PyArray_Check(x) ||
        (PyArray_TYPE(array) != NPY_FLOAT && PyArray_TYPE(array) != NPY_DOUBLE) ||
        !PyArray_ISCARRAY_RO(array)) {
        return does_not_fit();
    }
    const fp_mode caller = fp_mode_enter();
    const bool finite =
        all_finite(compute_type_of(array), (size_t)PyArray_SIZE(array), PyArray_DATA(array));
    fp_mode_leave(caller);
    return PyBool_FromLong(finite);
}

static PyObject *nn_conv2d_pooled(PyObject *self, PyObject *args)
{
    PyArrayObject *x, *weight, *out, *indices;
    PyObject *bias;
    struct extent2 stride, padding, dilation, size;
    Py_ssize_t groups;
    int relu;
    struct without_gil released;
    (void)self;
    if (!PyArg_ParseTuple(args, "O!O!OO!O!(nn)(nn)(nn)np(nn):conv2d_pooled", &PyArray_Type, &x,
                          &PyArray_Type, &weight, &bias, &PyArray_Type, &out, &PyArray_Type,
                          &indices, &stride.h, &stride.w, &padding.h, &padding.w, &dilation.h,
                          &dilation.w, &groups, &relu, &size.h, &size.w)) {
        return NULL;
    }
    if (!are_plain(x, weight, bias, out, 4) || !conv_fits(x, weight, out, groups) ||
        !conv_sizes_fit(stride, padding, dilation) || (Py_ssize_t)size.h < 0 ||
        (Py_ssize_t)size.w < 0 || last_two(out).h != size.h / 2 || last_two(out).w != size.w / 2 ||
        !is_plain(indices, NPY_INT64, 4) || !PyArray_SAMESHAPE(indices, out) ||
        !PyArray_ISWRITEABLE(indices)) {
        return does_not_fit();
    }
    struct conv2d conv = conv_of(x, weight, out, groups);
    conv.out = size;
    conv.stride = stride;
    conv.dilation = dilation;
    conv.padding = padding;
    conv.bias = data_or_null(bias);
    conv.relu = relu;
    const struct max_pool2d pool = {
        .compute = conv.compute,
        .planes = conv.out_channels,
        .in = size,
        .out = last_two(out),
        .kernel = {2, 2},
        .stride = {2, 2},
        .dilation = {1, 1},
        .output = PyArray_DATA(out),
        .indices = PyArray_DATA(indices),
    };
    without_gil_begin(&released, NULL, 0);
    conv.token = &released.token;
    return finish_call(&released, conv2d_max_pool2d(&conv, &pool));
}

static PyObject *nn_linear(PyObject *self, PyObject *args)
{
    PyArrayObject *x, *weight, *out;
    PyObject *bias;
    int relu;
    struct without_gil released;
    (void)self;
    if (!PyArg_ParseTuple(args, "O!O!OO!p:linear", &PyArray_Type, &x, &PyArray_Type, &weight, &bias,
                          &PyArray_Type, &out, &relu)) {
        return NULL;
    }
    if (!are_plain(x, weight, bias, out, 2) || PyArray_DIM(x, 0) != PyArray_DIM(out, 0) ||
        PyArray_DIM(x, 1) != PyArray_DIM(weight, 1) ||
        PyArray_DIM(out, 1) != PyArray_DIM(weight, 0)) {
        return does_not_fit();
    }
    struct linear layer = {
        .compute = compute_type_of(x),
        .rows = (size_t)PyArray_DIM(x, 0),
        .in_features = (size_t)PyArray_DIM(x, 1),
        .out_features = (size_t)PyArray_DIM(weight, 0),
        .relu = relu,
        .input = PyArray_DATA(x),
        .weight = PyArray_DATA(weight),
        .bias = data_or_null(bias),
        .output = PyArray_DATA(out),
    };
    without_gil_begin(&released, NULL, 0);
    layer.token = &released.token;
    return finish_call(&released, linear(&layer));
}

static PyObject *nn_matmul(PyObject *self, PyObject *args)
{
    PyArrayObject *left, *right, *out;
    int transposed;
    struct without_gil released;
    (void)self;
    if (!PyArg_ParseTuple(args, "O!O!O!p:matmul", &PyArray_Type, &left, &PyArray_Type, &right,
                          &PyArray_Type, &out, &transposed)) {
        return NULL;
    }
    const int rows = transposed ? 1 : 0;
    if (!are_plain(left, right, Py_None, out, 2) ||
        PyArray_DIM(left, rows) != PyArray_DIM(out, 0) ||
        PyArray_DIM(left, 1 - rows) != PyArray_DIM(right, 0) ||
        PyArray_DIM(right, 1) != PyArray_DIM(out, 1)) {
        return does_not_fit();
    }
    const size_t width = (size_t)PyArray_DIM(left, 1);
    struct matmul call = {
        .compute = compute_type_of(left),
        .rows = (size_t)PyArray_DIM(out, 0),
        .columns = (size_t)PyArray_DIM(out, 1),
        .depth = (size_t)PyArray_DIM(right, 0),
        .left = PyArray_DATA(left),
        .left_step = transposed ? 1 : width,
        .left_next = transposed ? width : 1,
        .right = PyArray_DATA(right),
        .right_step = (size_t)PyArray_DIM(right, 1),
        .output = PyArray_DATA(out),
        .output_step = (size_t)PyArray_DIM(out, 1),
    };
    without_gil_begin(&released, NULL, 0);
    call.token = &released.token;
    return finish_call(&released, matmul(&call));
}

static PyObject *nn_max_pool2d(PyObject *self, PyObject *args)
{
    PyArrayObject *x, *out;
    PyObject *indices;
    struct extent2 kernel, stride, padding, dilation;
    struct without_gil released;
    (void)self;
    if (!PyArg_ParseTuple(args, "O!O!O(nn)(nn)(nn)(nn):max_pool2d", &PyArray_Type, &x,
                          &PyArray_Type, &out, &indices, &kernel.h, &kernel.w, &stride.h, &stride.w,
                          &padding.h, &padding.w, &dilation.h, &dilation.w)) {
        return NULL;
    }
    const bool plain_indices =
        indices == Py_None ||
        (PyArray_Check(indices) && is_plain((PyArrayObject *)indices, NPY_INT64, 3) &&
         PyArray_SAMESHAPE((PyArrayObject *)indices, out) &&
         PyArray_ISWRITEABLE((PyArrayObject *)indices));
    if (!are_plain(x, x, Py_None, out, 3) || !plain_indices ||
        PyArray_DIM(x, 0) != PyArray_DIM(out, 0) || !is_valid_size(kernel) ||
        !is_valid_size(stride) || !is_valid_size(dilation) ||
        !is_valid_pool_padding(padding, kernel) ||
        !last_window_starts_inside(last_two(x).h, last_two(out).h, stride.h, padding.h) ||
        !last_window_starts_inside(last_two(x).w, last_two(out).w, stride.w, padding.w)) {
        return does_not_fit();
    }
    struct max_pool2d pool = {
        .compute = compute_type_of(x),
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
    without_gil_begin(&released, NULL, 0);
    pool.token = &released.token;
    max_pool2d(&pool);
    return finish_call(&released, 0);
}

static PyObject *nn_max_pool2d_scatter(PyObject *self, PyObject *args)
{
    PyArrayObject *indices, *gradient, *out;
    (void)self;
    if (!PyArg_ParseTuple(args, "O!O!O!:max_pool2d_scatter", &PyArray_Type, &indices, &PyArray_Type,
                          &gradient, &PyArray_Type, &out)) {
        return NULL;
    }
    if (!are_plain(gradient, gradient, Py_None, out, 3) ||
        PyArray_DIM(gradient, 0) != PyArray_DIM(out, 0) ||
        !are_indices((PyObject *)indices, gradient, last_two(out).h * last_two(out).w)) {
        return does_not_fit();
    }
    const npy_intp planes = PyArray_DIM(out, 0), in = PyArray_DIM(out, 1) * PyArray_DIM(out, 2),
                   all = PyArray_SIZE(indices);
    const int64_t *index = PyArray_DATA(indices);
    Py_BEGIN_ALLOW_THREADS const fp_mode caller = fp_mode_enter();
    max_pool2d_scatter(compute_type_of(gradient), (size_t)planes, (size_t)in,
                       planes == 0 ? 0 : (size_t)(all / planes), index, PyArray_DATA(gradient),
                       PyArray_DATA(out));
    fp_mode_leave(caller);
    Py_END_ALLOW_THREADS Py_RETURN_NONE;
}

static PyObject *nn_relu_gradient(PyObject *self, PyObject *args)
{
    PyArrayObject *x, *gradient, *out;
    (void)self;
    if (!PyArg_ParseTuple(args, "O!O!O!:relu_gradient", &PyArray_Type, &x, &PyArray_Type, &gradient,
                          &PyArray_Type, &out)) {
        return NULL;
    }
    if (!are_plain(x, gradient, Py_None, out, 1) || PyArray_DIM(x, 0) != PyArray_DIM(out, 0) ||
        PyArray_DIM(x, 0) != PyArray_DIM(gradient, 0)) {
        return does_not_fit();
    }
    Py_BEGIN_ALLOW_THREADS const fp_mode caller = fp_mode_enter();
    relu_gradient(compute_type_of(x), (size_t)PyArray_DIM(x, 0), PyArray_DATA(x),
                  PyArray_DATA(gradient), PyArray_DATA(out));
    fp_mode_leave(caller);
    Py_END_ALLOW_THREADS Py_RETURN_NONE;
}

static PyObject *nn_relu(PyObject *self, PyObject *args)
{
    PyArrayObject *x, *out;
    (void)self;
    if (!PyArg_ParseTuple(args, "O!O!:relu", &PyArray_Type, &x, &PyArray_Type, &out)) {
        return NULL;
    }
    if (!are_plain(x, x, Py_None, out, 1) || PyArray_DIM(x, 0) != PyArray_DIM(out, 0)) {
        return does_not_fit();
    }
    Py_BEGIN_ALLOW_THREADS const fp_mode caller = fp_mode_enter();
    relu(compute_type_of(x), (size_t)PyArray_DIM(x, 0), PyArray_DATA(x), PyArray_DATA(out));
    fp_mode_leave(caller);
    Py_END_ALLOW_THREADS Py_RETURN_NONE;
}

PyMethodDef nn_methods[] = {
    {"all_finite", nn_all_finite, METH_O,
     "all_finite($module, x, /)\n--\n\nTrue if every element is finite."},
    BY_POSITION(
        "conv2d", nn_conv2d, "x, weight, bias, out, stride, padding, dilation, groups, relu",
        "Convolution. padding is the one before the first row and column; bias may be None."),
    BY_POSITION("conv2d_grad_input", nn_conv2d_grad_input,
                "weight, maps, out, stride, padding, dilation, groups",
                "The gradient of a convolution's input, from maps, the gradient of its output."),
    BY_POSITION("conv2d_pooled", nn_conv2d_pooled,
                "x, weight, bias, out, indices, stride, padding, dilation, groups, relu, size",
                "Convolution to feature maps of shape size, then 2 x 2 max pooling."),
    BY_POSITION("conv2d_grad_weight", nn_conv2d_grad_weight,
                "x, maps, weight, bias, stride, padding, dilation, groups, indices, size",
                "The gradients of a convolution's weights, and of its bias if that is not None."),
    BY_POSITION("linear", nn_linear, "x, weight, bias, out, relu",
                "x @ weight.T + bias, for matrices. bias may be None."),
    BY_POSITION("max_pool2d", nn_max_pool2d, "x, out, indices, kernel, stride, padding, dilation",
                "Max pooling of x (planes, h, w). indices may be None."),
    BY_POSITION("max_pool2d_scatter", nn_max_pool2d_scatter, "indices, gradient, out",
                "Writes out (planes, h, w): at each index, the sum of the gradients that have it."),
    BY_POSITION("matmul", nn_matmul, "left, right, out, transposed",
                "left @ right, or left.T @ right if transposed, for matrices."),
    BY_POSITION("relu", nn_relu, "x, out", "The larger of x and 0, for x of shape (n,)."),
    BY_POSITION("relu_gradient", nn_relu_gradient, "x, gradient, out",
                "The gradient, or 0 where x <= 0; all arrays of shape (n,)."),
    {0},
};
