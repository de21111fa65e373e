/*
 * Python bindings of the layers. arguments/layers.c checks the arguments of users. The functions
 * for gradients, averages and channels take arrays that cossim's Python code has made: contiguous
 * ones of one type whose sizes fit.
 */
#include "python/methods.h"

#include <stdbool.h>
#include <string.h>

#include "base/fp_mode.h"
#include "base/scratch.h"
#include "nn/activations.h"
#include "nn/avg_pool2d.h"
#include "nn/batch_norm.h"
#include "nn/loops.h"
#include "arguments/args.h"
#include "python/layer_results.h"
#include "python/without_gil.h"

static PyObject *nn_layer_arrays(PyObject *Py_UNUSED(self), PyObject *args, PyObject *kwargs)
{
    static char *keywords[] = {"", "", "", "channels", NULL};
    const char *function, *names[LAYER_ARRAYS];
    PyObject *name_tuple, *objects;
    CLOSED_BY(layer_arrays_close) struct layer_arrays a = {.count = 0};
    int channels = 0;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "sO!O!|$p:layer_arrays", keywords, &function,
                                     &PyTuple_Type, &name_tuple, &PyTuple_Type, &objects,
                                     &channels)) {
        return NULL;
    }
    const Py_ssize_t count = PyTuple_GET_SIZE(name_tuple);
    if (count < 1 || count > LAYER_ARRAYS || count != PyTuple_GET_SIZE(objects)) {
        return misfit();
    }
    for (Py_ssize_t i = 0; i < count; i++) {
        names[i] = PyUnicode_AsUTF8(PyTuple_GET_ITEM(name_tuple, i));
        if (names[i] == NULL) {
            return NULL;
        }
    }
    PyObject *const *items = PySequence_Fast_ITEMS(objects);
    if (layer_arrays_open(&a, function, (size_t)count, names, items) < 0 ||
        (channels && layer_check_channels(&a) < 0)) {
        return NULL;
    }
    PyObject *result = PyTuple_New(count);
    for (Py_ssize_t i = 0; result != NULL && i < count; i++) {
        PyTuple_SET_ITEM(result, i, Py_NewRef((PyObject *)a.arrays[i]));
    }
    return result;
}

static PyObject *nn_pair_argument(PyObject *Py_UNUSED(self), PyObject *args)
{
    const char *function, *name;
    PyObject *object;
    Py_ssize_t least;
    struct extent2 size;
    if (!PyArg_ParseTuple(args, "ssOn:pair_argument", &function, &name, &object, &least) ||
        pair_argument(function, name, object, least, &size) < 0) {
        return NULL;
    }
    return size_tuple(size);
}

static PyObject *nn_all_finite(PyObject *Py_UNUSED(self), PyObject *x)
{
    PyArrayObject *array = (PyArrayObject *)x;
    const int type = float_type(array);
    if (type < 0 || !PyArray_ISCARRAY_RO(array)) {
        return misfit();
    }
    const fp_mode caller = fp_mode_enter();
    const bool finite = layer_loops[compute_type_of(type)].all_finite((size_t)PyArray_SIZE(array),
                                                                      PyArray_DATA(array));
    fp_mode_leave(caller);
    return PyBool_FromLong(finite);
}

static PyObject *nn_linear(PyObject *Py_UNUSED(self), PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"", "", "", "relu", NULL};
    CLOSED_BY(linear_arguments_close) struct linear_arguments a = {.bias = NULL};
    struct without_gil released;
    PyObject *o[3];
    int relu = 0;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OOO|$p:linear", names, &o[0], &o[1], &o[2],
                                     &relu) ||
        linear_arguments_open(&a, o) < 0) {
        return NULL;
    }
    PyArrayObject *x = a.arrays.arrays[0], *weight = a.arrays.arrays[1];
    const int ndim = PyArray_NDIM(x) - 2 + PyArray_NDIM(weight);
    npy_intp shape[NPY_MAXDIMS];
    memcpy(shape, PyArray_DIMS(x), (size_t)PyArray_NDIM(x) * sizeof *shape);
    if (PyArray_NDIM(weight) == 2) {
        shape[ndim - 1] = PyArray_DIM(weight, 0);
    }
    PyArrayObject *out = new_array(ndim, shape, a.arrays.type);
    if (out == NULL) {
        return NULL;
    }
    a.layer.relu = relu;
    a.layer.output = PyArray_DATA(out);
    a.layer.token = without_gil_begin(&released, NULL, 0);
    return finished(out, without_gil_finish(&released, linear(&a.layer)));
}

static PyObject *nn_matmul(PyObject *Py_UNUSED(self), PyObject *args)
{
    PyArrayObject *left, *right;
    struct without_gil released;
    if (!PyArg_ParseTuple(args, "OO:matmul", &left, &right)) {
        return NULL;
    }
    const int type = float_type(right);
    if (!can_read(right, type, 2, NULL) || float_type(left) != type || PyArray_NDIM(left) != 2 ||
        !(PyArray_ISCARRAY_RO(left) || PyArray_ISFARRAY_RO(left)) ||
        dim(left, 1) != dim(right, 0)) {
        return misfit();
    }
    const npy_intp shape[2] = {PyArray_DIM(left, 0), PyArray_DIM(right, 1)};
    PyArrayObject *out = new_array(2, shape, type);
    if (out == NULL) {
        return NULL;
    }
    const bool by_row = PyArray_ISCARRAY_RO(left);
    struct matmul call = {
        .compute = compute_type_of(type),
        .rows = dim(out, 0),
        .columns = dim(out, 1),
        .depth = dim(right, 0),
        .left = PyArray_DATA(left),
        .left_step = by_row ? dim(left, 1) : 1,
        .left_next = by_row ? 1 : dim(left, 0),
        .right = PyArray_DATA(right),
        .right_step = dim(right, 1),
        .output = PyArray_DATA(out),
        .output_step = dim(out, 1),
    };
    call.token = without_gil_begin(&released, NULL, 0);
    return finished(out, without_gil_finish(&released, matmul(&call)));
}

static PyObject *nn_pool_windows(PyObject *Py_UNUSED(self), PyObject *args)
{
    const char *function;
    PyObject *windows;
    struct max_pool2d pool;
    if (!PyArg_ParseTuple(args, "sO:pool_windows", &function, &windows) ||
        pool_windows_read(&pool, function, windows) < 0) {
        return NULL;
    }
    return Py_BuildValue("NNNN", size_tuple(pool.kernel), size_tuple(pool.stride),
                         size_tuple(pool.padding), size_tuple(pool.dilation));
}

static PyObject *nn_pool_images(PyObject *Py_UNUSED(self), PyObject *args)
{
    const char *function;
    PyObject *x, *windows;
    struct max_pool2d pool;
    CLOSED_BY(layer_arrays_close) struct layer_arrays a = {.count = 0};
    int ceil_mode;
    if (!PyArg_ParseTuple(args, "sOOp:pool_images", &function, &x, &windows, &ceil_mode) ||
        pool_windows_read(&pool, function, windows) < 0 ||
        pool_images_open(&a, &pool, function, x, ceil_mode) < 0) {
        return NULL;
    }
    return Py_BuildValue("ON", a.arrays[0], size_tuple(pool.out));
}

/* Returns a new array for images like x, (C, H, W) or (N, C, H, W), of another size. */
static PyArrayObject *new_images(PyArrayObject *x, npy_intp height, npy_intp width, int type)
{
    npy_intp shape[4] = {PyArray_DIM(x, 0), PyArray_DIM(x, 1)}, *end = shape + PyArray_NDIM(x);
    end[-2] = height;
    end[-1] = width;
    return new_array(PyArray_NDIM(x), shape, type);
}

/* Returns the type of images (C, H, W) or (N, C, H, W) that the core can read, else -1. */
static int type_of_images(PyArrayObject *x)
{
    const int type = float_type(x), ndim = type < 0 ? 0 : PyArray_NDIM(x);
    return (ndim == 3 || ndim == 4) && can_read(x, type, ndim, NULL) ? type : -1;
}

static PyObject *nn_max_pool2d(PyObject *Py_UNUSED(self), PyObject *args)
{
    PyObject *x, *windows;
    struct max_pool2d pool;
    CLOSED_BY(layer_arrays_close) struct layer_arrays a = {.count = 0};
    struct without_gil released;
    int ceil_mode, return_indices, status = -1;
    if (!PyArg_ParseTuple(args, "OOpp:max_pool2d", &x, &windows, &ceil_mode, &return_indices) ||
        pool_windows_read(&pool, "max_pool2d", windows) < 0 ||
        pool_images_open(&a, &pool, "max_pool2d", x, ceil_mode) < 0) {
        return NULL;
    }
    const npy_intp height = (npy_intp)pool.out.h, width = (npy_intp)pool.out.w;
    PyArrayObject *out = new_images(a.arrays[0], height, width, a.type),
                  *indices = return_indices ? new_images(a.arrays[0], height, width, NPY_INT64)
                                            : (PyArrayObject *)Py_NewRef(Py_None);
    if (out != NULL && indices != NULL) {
        pool.output = PyArray_DATA(out);
        pool.indices = data_or_null(indices);
        pool.token = without_gil_begin(&released, NULL, 0);
        max_pool2d(&pool);
        status = without_gil_end(&released);
    }
    return finished_two((PyObject *)out, (PyObject *)indices, status);
}

static PyObject *nn_max_pool2d_scatter(PyObject *Py_UNUSED(self), PyObject *args)
{
    PyArrayObject *indices, *gradient;
    Py_ssize_t height, width;
    struct without_gil released;
    if (!PyArg_ParseTuple(args, "OO(nn):max_pool2d_scatter", &indices, &gradient, &height,
                          &width)) {
        return NULL;
    }
    const int type = type_of_images(gradient);
    if (type < 0) {
        return misfit();
    }
    PyArrayObject *out = new_images(gradient, height, width, type);
    if (out == NULL) {
        return NULL;
    }
    const size_t all = (size_t)PyArray_SIZE(out), pixels = (size_t)height * (size_t)width;
    if (all == 0) { /* its other sizes may be huge */
        return finished(out, 0);
    }
    if (!are_indices(indices, gradient, pixels)) {
        return finished(out, misfit_status());
    }
    const size_t planes = all / pixels, pooled = (size_t)PyArray_SIZE(gradient) / planes;
    without_gil_begin(&released, NULL, 0);
    max_pool2d_scatter(compute_type_of(type), planes, pixels, pooled, PyArray_DATA(indices),
                       PyArray_DATA(gradient), PyArray_DATA(out));
    return finished(out, without_gil_end(&released));
}

static PyObject *nn_relu_gradient(PyObject *Py_UNUSED(self), PyObject *args)
{
    PyArrayObject *x, *gradient;
    struct without_gil released;
    if (!PyArg_ParseTuple(args, "OO:relu_gradient", &x, &gradient)) {
        return NULL;
    }
    const int type = float_type(x);
    if (type < 0 || !can_read(x, type, PyArray_NDIM(x), NULL) ||
        !can_read(gradient, type, PyArray_NDIM(x), PyArray_DIMS(x))) {
        return misfit();
    }
    PyArrayObject *out = new_like(x);
    if (out == NULL) {
        return NULL;
    }
    without_gil_begin(&released, NULL, 0);
    layer_loops[compute_type_of(type)].relu_gradient((size_t)PyArray_SIZE(x), PyArray_DATA(x),
                                                     PyArray_DATA(gradient), PyArray_DATA(out));
    return finished(out, without_gil_end(&released));
}

static PyObject *nn_relu(PyObject *Py_UNUSED(self), PyObject *x)
{
    static const char *const names[] = {"x"};
    CLOSED_BY(layer_arrays_close) struct layer_arrays a = {.count = 0};
    struct without_gil released;
    PyArrayObject *out =
        layer_arrays_open(&a, "relu", 1, names, &x) < 0 ? NULL : new_like(a.arrays[0]);
    if (out == NULL) {
        return NULL;
    }
    without_gil_begin(&released, NULL, 0);
    layer_loops[compute_type_of(a.type)].relu((size_t)PyArray_SIZE(out), PyArray_DATA(a.arrays[0]),
                                              PyArray_DATA(out));
    return finished(out, without_gil_end(&released));
}

/* Sets the arrays of a call: x and y are (images, channels, pixels), centre is (channels,). y may
 * be None. Returns false if they do not fit each other. */
static bool set_channels(struct channels *call, PyArrayObject *x, PyArrayObject *y,
                         PyArrayObject *centre)
{
    const int type = float_type(x);
    if (!can_read(x, type, 3, NULL) || !(is_none(y) || can_read(y, type, 3, PyArray_DIMS(x))) ||
        !can_read(centre, NPY_DOUBLE, 1, PyArray_DIMS(x) + 1)) {
        return false;
    }
    call->compute = compute_type_of(type);
    call->images = dim(x, 0);
    call->channels = dim(x, 1);
    call->pixels = dim(x, 2);
    call->x = PyArray_DATA(x);
    call->y = data_or_null(y);
    call->centre = PyArray_DATA(centre);
    return true;
}

static PyObject *nn_channel_sums(PyObject *Py_UNUSED(self), PyObject *args)
{
    PyArrayObject *x, *y, *centre;
    struct channels call;
    struct without_gil released;
    if (!PyArg_ParseTuple(args, "OOO:channel_sums", &x, &y, &centre) ||
        !set_channels(&call, x, y, centre)) {
        return misfit();
    }
    const npy_intp shape[2] = {PyArray_DIM(x, 1), 2};
    PyArrayObject *sums = new_array(2, shape, NPY_DOUBLE);
    if (sums == NULL) {
        return NULL;
    }
    call.token = without_gil_begin(&released, NULL, 0);
    channel_sums(&call, PyArray_DATA(sums));
    return finished(sums, without_gil_end(&released));
}

static PyObject *nn_channel_statistics(PyObject *Py_UNUSED(self), PyObject *args)
{
    PyArrayObject *x, *means, *sums;
    struct channels call;
    struct without_gil released;
    if (!PyArg_ParseTuple(args, "OOO:channel_statistics", &x, &means, &sums) ||
        !set_channels(&call, x, (PyArrayObject *)Py_None, means)) {
        return misfit();
    }
    const npy_intp shape[2] = {PyArray_DIM(x, 1), 2};
    if (!can_write(means, NPY_DOUBLE, 1, shape) || !can_write(sums, NPY_DOUBLE, 2, shape)) {
        return misfit();
    }
    call.token = without_gil_begin(&released, NULL, 0);
    channel_statistics(&call, PyArray_DATA(means), PyArray_DATA(sums));
    return none_or_error(without_gil_end(&released));
}

static PyObject *nn_channel_affine(PyObject *Py_UNUSED(self), PyObject *args)
{
    PyArrayObject *x, *y, *centre, *factors;
    struct channels call;
    struct without_gil released;
    if (!PyArg_ParseTuple(args, "OOOO:channel_affine", &x, &y, &centre, &factors) ||
        !set_channels(&call, x, y, centre)) {
        return misfit();
    }
    const npy_intp shape[2] = {PyArray_DIM(x, 1), 3};
    if (!can_read(factors, NPY_DOUBLE, 2, shape)) {
        return misfit();
    }
    PyArrayObject *out = new_like(x);
    if (out == NULL) {
        return NULL;
    }
    call.token = without_gil_begin(&released, NULL, 0);
    channel_affine(&call, PyArray_DATA(factors), PyArray_DATA(out));
    return finished(out, without_gil_end(&released));
}

/* True if spans is an int64 array (windows, 2) of pixels within `size`, and sizes is a float64
 * array (windows,). */
static bool are_spans(PyArrayObject *spans, PyArrayObject *sizes, npy_intp windows, npy_intp size)
{
    const npy_intp shape[2] = {windows, 2};
    if (!can_read(spans, NPY_INT64, 2, shape) || !can_read(sizes, NPY_DOUBLE, 1, shape)) {
        return false;
    }
    const struct pool_span *span = PyArray_DATA(spans);
    bool fit = true;
    for (npy_intp i = 0; i < windows; i++) {
        fit &= span[i].begin >= 0 && span[i].end <= size;
    }
    return fit;
}

/* Pools images to a size, or with gradient=True spreads a gradient of pooled images to this size.
 */
static PyObject *nn_avg_pool2d(PyObject *Py_UNUSED(self), PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"", "", "", "", "", "", "gradient", NULL};
    PyArrayObject *x, *rows, *row_sizes, *columns, *column_sizes;
    Py_ssize_t height, width;
    int gradient;
    struct without_gil released;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O(nn)OOOO$p:avg_pool2d", names, &x, &height,
                                     &width, &rows, &row_sizes, &columns, &column_sizes,
                                     &gradient)) {
        return NULL;
    }
    const int type = type_of_images(x);
    if (type < 0) {
        return misfit();
    }
    PyArrayObject *out = new_images(x, height, width, type);
    if (out == NULL || PyArray_SIZE(out) == 0) { /* its other sizes may be huge */
        return finished(out, 0);
    }
    PyArrayObject *image = gradient ? out : x, *pooled = gradient ? x : out;
    const struct extent2 in = last_two(image), to = last_two(pooled);
    if (!are_spans(rows, row_sizes, (npy_intp)to.h, (npy_intp)in.h) ||
        !are_spans(columns, column_sizes, (npy_intp)to.w, (npy_intp)in.w)) {
        return finished(out, misfit_status());
    }
    struct avg_pool2d pool = {
        .compute = compute_type_of(type),
        .planes = (size_t)PyArray_SIZE(out) / ((size_t)height * (size_t)width),
        .in = in,
        .out = to,
        .rows = PyArray_DATA(rows),
        .columns = PyArray_DATA(columns),
        .row_sizes = PyArray_DATA(row_sizes),
        .column_sizes = PyArray_DATA(column_sizes),
    };
    pool.token = without_gil_begin(&released, NULL, 0);
    const int status =
        (gradient ? avg_pool2d_gradient : avg_pool2d)(&pool, PyArray_DATA(x), PyArray_DATA(out));
    return finished(out, without_gil_finish(&released, status));
}

static PyObject *nn_activation(PyObject *Py_UNUSED(self), PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"", "", "", "slope", NULL};
    PyArrayObject *x, *gradient;
    const char *name;
    double slope = 0.0;
    struct without_gil released;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "sOO|$d:activation", names, &name, &x, &gradient,
                                     &slope)) {
        return NULL;
    }
    static const char *const activations[ACTIVATIONS] = {
        [LEAKY_RELU] = "leaky_relu", [GELU] = "gelu", [GELU_TANH] = "gelu_tanh"};
    size_t kind = 0;
    while (kind < ACTIVATIONS && strcmp(name, activations[kind]) != 0) {
        kind++;
    }
    const int type = float_type(x), ndim = type < 0 ? 0 : PyArray_NDIM(x);
    if (kind == ACTIVATIONS || !can_read(x, type, ndim, NULL) ||
        !(is_none(gradient) || can_read(gradient, type, ndim, PyArray_DIMS(x)))) {
        return misfit();
    }
    PyArrayObject *out = new_like(x);
    if (out == NULL) {
        return NULL;
    }
    struct activation_call call = {
        .compute = compute_type_of(type),
        .activation = (enum activation)kind,
        .slope = slope,
        .n = (size_t)PyArray_SIZE(x),
        .input = PyArray_DATA(x),
        .gradient = data_or_null(gradient),
        .output = PyArray_DATA(out),
    };
    call.token = without_gil_begin(&released, NULL, 0);
    activation(&call);
    return finished(out, without_gil_end(&released));
}

PyMethodDef nn_methods[] = {
    BY_NAME("activation", nn_activation, "name, x, gradient, /, *, slope=0.0",
            "leaky_relu, gelu or gelu_tanh of x, or gradient, unless it is None, times its\n"
            "derivative."),
    BY_NAME(
        "avg_pool2d", nn_avg_pool2d,
        "x, size, rows, row_sizes, columns, column_sizes, /, *, gradient",
        "Average pooling of images over rows (oh, 2) and columns (ow, 2) to the size (oh, ow),\n"
        "or its gradient: then x is the gradient of the result, and size that of the images."),
    BY_POSITION("channel_affine", nn_channel_affine, "x, y, centre, factors",
                "(x - centre) * factors[:, 0] + y * factors[:, 1] + factors[:, 2] of x and y\n"
                "(images, channels, pixels). y may be None."),
    BY_POSITION(
        "channel_sums", nn_channel_sums, "x, y, centre",
        "Returns sums (channels, 2): of y and of (x - centre) * y. If y is None, x - centre\n"
        "stands in its place."),
    BY_POSITION(
        "channel_statistics", nn_channel_statistics, "x, means, sums",
        "Writes means (channels,) of x (images, channels, pixels), and the sums (channels, 2)\n"
        "of (x - means) and of its squares."),
    {"all_finite", nn_all_finite, METH_O,
     "all_finite($module, x, /)\n--\n\nTrue if every element is finite."},
    BY_NAME("layer_arrays", nn_layer_arrays, "function, names, objects, /, *, channels=False",
            "Converts arguments of a layer to contiguous arrays of one type, float32 or\n"
            "float64. With channels=True, the first is (N, C, ...), and the others are (C,).\n"
            "Errors name the function and the argument."),
    BY_NAME("linear", nn_linear, "x, weight, bias, /, *, relu=False",
            "x @ weight.T + bias. The arguments are those of cossim.nn.linear."),
    BY_POSITION("max_pool2d", nn_max_pool2d, "x, windows, ceil_mode, return_indices",
                "Returns the maxima, and their indices or None. windows is (kernel_size, stride,\n"
                "padding, dilation)."),
    BY_POSITION("max_pool2d_scatter", nn_max_pool2d_scatter, "indices, gradient, size",
                "Returns images of this size, (height, width): at each index of an image, the sum\n"
                "of the gradients that have it."),
    BY_POSITION("matmul", nn_matmul, "left, right",
                "left @ right, for matrices. left may be the transpose of a C-contiguous array."),
    BY_POSITION("pair_argument", nn_pair_argument, "function, name, value, least",
                "Returns (height, width) from a pair of integers, or from one that is both."),
    BY_POSITION("pool_images", nn_pool_images, "function, x, windows, ceil_mode",
                "Checks the images of a pool. Returns them and the (height, width) of the result."),
    BY_POSITION("pool_windows", nn_pool_windows, "function, windows",
                "Checks (kernel_size, stride, padding, dilation) and returns them as pairs."),
    {"relu", nn_relu, METH_O, "relu($module, x, /)\n--\n\nThe larger of x and 0."},
    BY_POSITION("relu_gradient", nn_relu_gradient, "x, gradient",
                "The gradient, or 0 where x <= 0. All arrays have one shape."),
    {0},
};
