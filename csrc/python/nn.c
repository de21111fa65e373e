/*
 * Python bindings of the layers. arguments/layers.c checks the arguments of users. The functions
 * for gradients, and those that write to `out`, take arrays that cossim's Python code has made:
 * contiguous ones of one type whose sizes fit.
 */
#include "python/methods.h"

#include <stdbool.h>
#include <string.h>

#include "base/fp_mode.h"
#include "base/scratch.h"
#include "nn/activations.h"
#include "nn/avg_pool2d.h"
#include "nn/batch_norm.h"
#include "arguments/args.h"
#include "python/layer_results.h"
#include "python/without_gil.h"

static PyObject *nn_layer_arrays(PyObject *Py_UNUSED(self), PyObject *args)
{
    const char *function, *names[LAYER_ARRAYS];
    PyObject *name_tuple, *objects;
    struct layer_arrays a;
    if (!PyArg_ParseTuple(args, "sO!O!:layer_arrays", &function, &PyTuple_Type, &name_tuple,
                          &PyTuple_Type, &objects)) {
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
    const int status = layer_arrays_open(&a, function, (size_t)count, names, items);
    PyObject *result = status < 0 ? NULL : PyTuple_New(count);
    if (result != NULL) {
        for (Py_ssize_t i = 0; i < count; i++) {
            PyTuple_SET_ITEM(result, i, Py_NewRef((PyObject *)a.arrays[i]));
        }
    }
    layer_arrays_close(&a);
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
    const bool finite =
        all_finite(compute_type_of(type), (size_t)PyArray_SIZE(array), PyArray_DATA(array));
    fp_mode_leave(caller);
    return PyBool_FromLong(finite);
}

static PyObject *nn_linear(PyObject *Py_UNUSED(self), PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"", "", "", "relu", NULL};
    struct linear_arguments a;
    struct without_gil released;
    PyObject *o[3];
    int relu = 0, status = -1;
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
    if (out != NULL) {
        a.layer.relu = relu;
        a.layer.output = PyArray_DATA(out);
        a.layer.token = without_gil_begin(&released, NULL, 0);
        status = without_gil_finish(&released, linear(&a.layer));
    }
    linear_arguments_close(&a);
    return finished(out, status);
}

static PyObject *nn_matmul(PyObject *Py_UNUSED(self), PyObject *args)
{
    PyArrayObject *left, *right, *out;
    struct without_gil released;
    if (!PyArg_ParseTuple(args, "OOO:matmul", &left, &right, &out)) {
        return NULL;
    }
    const int type = float_type(right);
    if (!can_read(right, type, 2, NULL) || float_type(left) != type || PyArray_NDIM(left) != 2 ||
        !(PyArray_ISCARRAY_RO(left) || PyArray_ISFARRAY_RO(left)) ||
        dim(left, 1) != dim(right, 0)) {
        return misfit();
    }
    const npy_intp shape[2] = {PyArray_DIM(left, 0), PyArray_DIM(right, 1)};
    if (!can_write(out, type, 2, shape)) {
        return misfit();
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
    return none_or_error(without_gil_finish(&released, matmul(&call)));
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
    struct layer_arrays a;
    int ceil_mode;
    if (!PyArg_ParseTuple(args, "sOOp:pool_images", &function, &x, &windows, &ceil_mode) ||
        pool_windows_read(&pool, function, windows) < 0 ||
        pool_images_open(&a, &pool, function, x, ceil_mode) < 0) {
        return NULL;
    }
    PyObject *result = Py_BuildValue("ON", a.arrays[0], size_tuple(pool.out));
    layer_arrays_close(&a);
    return result;
}

static PyObject *nn_batch_norm_arrays(PyObject *Py_UNUSED(self), PyObject *args)
{
    PyObject *objects[LAYER_ARRAYS];
    size_t places[LAYER_ARRAYS];
    struct layer_arrays a;
    if (!PyArg_ParseTuple(args, "OOOOO:batch_norm_arrays", &objects[0], &objects[1], &objects[2],
                          &objects[3], &objects[4]) ||
        batch_norm_open(&a, objects, places) < 0) {
        return NULL;
    }
    PyObject *result = PyTuple_New(LAYER_ARRAYS);
    for (size_t i = 0; result != NULL && i < LAYER_ARRAYS; i++) {
        PyObject *array = places[i] == LAYER_ARRAYS ? Py_None : (PyObject *)a.arrays[places[i]];
        PyTuple_SET_ITEM(result, (Py_ssize_t)i, Py_NewRef(array));
    }
    layer_arrays_close(&a);
    return result;
}

static PyObject *nn_max_pool2d(PyObject *Py_UNUSED(self), PyObject *args)
{
    PyObject *x, *windows;
    struct max_pool2d pool;
    struct layer_arrays a;
    struct without_gil released;
    int ceil_mode, return_indices, status = -1;
    if (!PyArg_ParseTuple(args, "OOpp:max_pool2d", &x, &windows, &ceil_mode, &return_indices) ||
        pool_windows_read(&pool, "max_pool2d", windows) < 0 ||
        pool_images_open(&a, &pool, "max_pool2d", x, ceil_mode) < 0) {
        return NULL;
    }
    const int ndim = PyArray_NDIM(a.arrays[0]);
    npy_intp shape[4];
    memcpy(shape, PyArray_DIMS(a.arrays[0]), (size_t)ndim * sizeof *shape);
    shape[ndim - 2] = (npy_intp)pool.out.h;
    shape[ndim - 1] = (npy_intp)pool.out.w;
    PyArrayObject *out = new_array(ndim, shape, a.type);
    PyArrayObject *indices =
        return_indices ? new_array(ndim, shape, NPY_INT64) : (PyArrayObject *)Py_NewRef(Py_None);
    if (out != NULL && indices != NULL) {
        pool.output = PyArray_DATA(out);
        pool.indices = data_or_null(indices);
        pool.token = without_gil_begin(&released, NULL, 0);
        max_pool2d(&pool);
        status = without_gil_end(&released);
    }
    layer_arrays_close(&a);
    return finished_two((PyObject *)out, (PyObject *)indices, status);
}

static PyObject *nn_max_pool2d_scatter(PyObject *Py_UNUSED(self), PyObject *args)
{
    PyArrayObject *indices, *gradient, *out;
    struct without_gil released;
    if (!PyArg_ParseTuple(args, "OOO:max_pool2d_scatter", &indices, &gradient, &out)) {
        return NULL;
    }
    const int type = float_type(gradient);
    if (!can_read(gradient, type, 3, NULL)) {
        return misfit();
    }
    const npy_intp shape[3] = {PyArray_DIM(gradient, 0), -1, -1};
    if (!can_write(out, type, 3, shape) ||
        !are_indices(indices, gradient, dim(out, 1) * dim(out, 2))) {
        return misfit();
    }
    const size_t planes = dim(out, 0), all = (size_t)PyArray_SIZE(gradient);
    without_gil_begin(&released, NULL, 0);
    max_pool2d_scatter(compute_type_of(type), planes, dim(out, 1) * dim(out, 2),
                       planes == 0 ? 0 : all / planes, PyArray_DATA(indices),
                       PyArray_DATA(gradient), PyArray_DATA(out));
    return none_or_error(without_gil_end(&released));
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
    relu_gradient(compute_type_of(type), (size_t)PyArray_SIZE(x), PyArray_DATA(x),
                  PyArray_DATA(gradient), PyArray_DATA(out));
    return finished(out, without_gil_end(&released));
}

static PyObject *nn_relu(PyObject *Py_UNUSED(self), PyObject *x)
{
    static const char *const names[] = {"x"};
    struct layer_arrays a;
    struct without_gil released;
    int status = -1;
    PyArrayObject *out =
        layer_arrays_open(&a, "relu", 1, names, &x) < 0 ? NULL : new_like(a.arrays[0]);
    if (out != NULL) {
        without_gil_begin(&released, NULL, 0);
        relu(compute_type_of(a.type), (size_t)PyArray_SIZE(out), PyArray_DATA(a.arrays[0]),
             PyArray_DATA(out));
        status = without_gil_end(&released);
    }
    layer_arrays_close(&a);
    return finished(out, status);
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
    PyArrayObject *x, *y, *centre, *sums;
    struct channels call;
    struct without_gil released;
    if (!PyArg_ParseTuple(args, "OOOO:channel_sums", &x, &y, &centre, &sums) ||
        !set_channels(&call, x, y, centre)) {
        return misfit();
    }
    const npy_intp shape[2] = {PyArray_DIM(x, 1), 2};
    if (!can_write(sums, NPY_DOUBLE, 2, shape)) {
        return misfit();
    }
    call.token = without_gil_begin(&released, NULL, 0);
    channel_sums(&call, PyArray_DATA(sums));
    return none_or_error(without_gil_end(&released));
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
    PyArrayObject *x, *y, *centre, *factors, *out;
    struct channels call;
    struct without_gil released;
    if (!PyArg_ParseTuple(args, "OOOOO:channel_affine", &x, &y, &centre, &factors, &out) ||
        !set_channels(&call, x, y, centre)) {
        return misfit();
    }
    const npy_intp shape[2] = {PyArray_DIM(x, 1), 3};
    if (!can_read(factors, NPY_DOUBLE, 2, shape) ||
        !can_write(out, float_type(x), 3, PyArray_DIMS(x))) {
        return misfit();
    }
    call.token = without_gil_begin(&released, NULL, 0);
    channel_affine(&call, PyArray_DATA(factors), PyArray_DATA(out));
    return none_or_error(without_gil_end(&released));
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

/* Pools x (planes, h, w) to out (planes, oh, ow), or with gradient=True spreads x = dy (planes, oh,
 * ow) to out (planes, h, w). */
static PyObject *nn_avg_pool2d(PyObject *Py_UNUSED(self), PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"", "", "", "", "", "", "gradient", NULL};
    PyArrayObject *x, *out, *rows, *row_sizes, *columns, *column_sizes;
    int gradient;
    struct without_gil released;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OOOOOO$p:avg_pool2d", names, &x, &out, &rows,
                                     &row_sizes, &columns, &column_sizes, &gradient)) {
        return NULL;
    }
    const int type = float_type(x);
    if (!can_read(x, type, 3, NULL)) {
        return misfit();
    }
    const npy_intp shape[3] = {PyArray_DIM(x, 0), -1, -1};
    if (!can_write(out, type, 3, shape)) {
        return misfit();
    }
    PyArrayObject *image = gradient ? out : x, *pooled = gradient ? x : out;
    if (!are_spans(rows, row_sizes, PyArray_DIM(pooled, 1), PyArray_DIM(image, 1)) ||
        !are_spans(columns, column_sizes, PyArray_DIM(pooled, 2), PyArray_DIM(image, 2))) {
        return misfit();
    }
    struct avg_pool2d pool = {
        .compute = compute_type_of(type),
        .planes = dim(x, 0),
        .in = last_two(image),
        .out = last_two(pooled),
        .rows = PyArray_DATA(rows),
        .columns = PyArray_DATA(columns),
        .row_sizes = PyArray_DATA(row_sizes),
        .column_sizes = PyArray_DATA(column_sizes),
    };
    pool.token = without_gil_begin(&released, NULL, 0);
    const int status =
        (gradient ? avg_pool2d_gradient : avg_pool2d)(&pool, PyArray_DATA(x), PyArray_DATA(out));
    return none_or_error(without_gil_finish(&released, status));
}

static PyObject *nn_activation(PyObject *Py_UNUSED(self), PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"", "", "", "", "slope", NULL};
    PyArrayObject *x, *gradient, *out;
    const char *name;
    double slope;
    struct without_gil released;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "sOOO$d:activation", names, &name, &x, &gradient,
                                     &out, &slope)) {
        return NULL;
    }
    static const char *const activations[ACTIVATIONS] = {
        [LEAKY_RELU] = "leaky_relu", [GELU] = "gelu", [GELU_TANH] = "gelu_tanh"};
    size_t kind = 0;
    while (kind < ACTIVATIONS && strcmp(name, activations[kind]) != 0) {
        kind++;
    }
    const int type = float_type(x);
    if (kind == ACTIVATIONS || !can_read(x, type, 1, NULL) ||
        !(is_none(gradient) || can_read(gradient, type, 1, PyArray_DIMS(x))) ||
        !can_write(out, type, 1, PyArray_DIMS(x))) {
        return misfit();
    }
    struct activation_call call = {
        .compute = compute_type_of(type),
        .activation = (enum activation)kind,
        .slope = slope,
        .n = dim(x, 0),
        .input = PyArray_DATA(x),
        .gradient = data_or_null(gradient),
        .output = PyArray_DATA(out),
    };
    call.token = without_gil_begin(&released, NULL, 0);
    activation(&call);
    return none_or_error(without_gil_end(&released));
}

PyMethodDef nn_methods[] = {
    BY_NAME("activation", nn_activation, "name, x, gradient, out, /, *, slope",
            "leaky_relu, gelu or gelu_tanh of x (n,), or gradient times its derivative."),
    BY_NAME("avg_pool2d", nn_avg_pool2d,
            "x, out, rows, row_sizes, columns, column_sizes, /, *, gradient",
            "Average pooling of x (planes, h, w) over rows (oh, 2) and columns (ow, 2), or its\n"
            "gradient: then x is (planes, oh, ow)."),
    BY_POSITION(
        "batch_norm_arrays", nn_batch_norm_arrays, "x, running_mean, running_var, weight, bias",
        "Checks the arrays of cossim.nn.batch_norm and returns them. All but x may be None."),
    BY_POSITION("channel_affine", nn_channel_affine, "x, y, centre, factors, out",
                "(x - centre) * factors[:, 0] + y * factors[:, 1] + factors[:, 2] of x and y\n"
                "(images, channels, pixels). y may be None."),
    BY_POSITION(
        "channel_sums", nn_channel_sums, "x, y, centre, sums",
        "Writes sums (channels, 2): of y and of (x - centre) * y. If y is None, x - centre\n"
        "stands in its place."),
    BY_POSITION(
        "channel_statistics", nn_channel_statistics, "x, means, sums",
        "Writes means (channels,) of x (images, channels, pixels), and the sums (channels, 2)\n"
        "of (x - means) and of its squares."),
    {"all_finite", nn_all_finite, METH_O,
     "all_finite($module, x, /)\n--\n\nTrue if every element is finite."},
    BY_POSITION("layer_arrays", nn_layer_arrays, "function, names, objects",
                "Converts arguments of a layer to contiguous arrays of one type, float32 or\n"
                "float64. Errors name the function and the argument."),
    BY_NAME("linear", nn_linear, "x, weight, bias, /, *, relu=False",
            "x @ weight.T + bias. The arguments are those of cossim.nn.linear."),
    BY_POSITION("max_pool2d", nn_max_pool2d, "x, windows, ceil_mode, return_indices",
                "Returns the maxima, and their indices or None. windows is (kernel_size, stride,\n"
                "padding, dilation)."),
    BY_POSITION("max_pool2d_scatter", nn_max_pool2d_scatter, "indices, gradient, out",
                "Writes out (planes, h, w): at each index, the sum of the gradients that have it."),
    BY_POSITION("matmul", nn_matmul, "left, right, out",
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
