/*
 * Python bindings of the layers. cossim/nn/functional.py has the public functions, their defaults,
 * checks and messages. This file only checks what memory safety needs: contiguous arrays of one
 * type whose sizes fit.
 */
#include "python/methods.h"

#include <stdbool.h>
#include <string.h>

#include "base/fp_mode.h"
#include "base/scratch.h"
#include "network/network.h"
#include "nn/activations.h"
#include "nn/avg_pool2d.h"
#include "nn/batch_norm.h"
#include "conv2d/conv2d_algorithm.h"
#include "arguments/args.h"
#include "python/without_gil.h"

static void *data_or_null(PyArrayObject *array)
{
    return is_none(array) ? NULL : PyArray_DATA(array);
}

static size_t dim(PyArrayObject *array, int i)
{
    return (size_t)PyArray_DIM(array, i);
}

static struct extent2 last_two(PyArrayObject *array)
{
    const int ndim = PyArray_NDIM(array);
    const struct extent2 extent = {dim(array, ndim - 2), dim(array, ndim - 1)};
    return extent;
}

static bool can_read_bias(PyArrayObject *bias, PyArrayObject *weight)
{
    return is_none(bias) || can_read(bias, PyArray_TYPE(weight), 1, PyArray_DIMS(weight));
}

/* A converter of PyArg_Parse: reads (stride, padding, dilation, groups) into a struct conv2d. */
static int read_geometry(PyObject *object, void *to)
{
    struct conv2d *conv = to;
    Py_ssize_t groups;
    if (!PyArg_Parse(object, "((nn)(nn)(nn)n)", &conv->stride.h, &conv->stride.w, &conv->padding.h,
                     &conv->padding.w, &conv->dilation.h, &conv->dilation.w, &groups)) {
        return 0;
    }
    if (groups < 1 || !is_valid_size(conv->stride) || !is_valid_padding(conv->padding) ||
        !is_valid_size(conv->dilation)) {
        misfit();
        return 0;
    }
    conv->groups = (size_t)groups;
    return 1;
}

/* Sets the arrays and sizes of a convolution whose geometry has been read. x is
 * (images, channels, h, w), weight is (filters, channels / groups, kh, kw), and the feature maps
 * are (images, filters, oh, ow). Returns false if they do not fit each other. */
static bool set_arrays(struct conv2d *conv, PyArrayObject *x, PyArrayObject *weight,
                       PyArrayObject *maps)
{
    const int type = float_type(x);
    if (!can_read(x, type, 4, NULL) || !can_read(weight, type, 4, NULL)) {
        return false;
    }
    const npy_intp shape[4] = {PyArray_DIM(x, 0), PyArray_DIM(weight, 0), -1, -1};
    size_t channels;
    if (!can_read(maps, type, 4, shape) || dim(weight, 0) % conv->groups != 0 ||
        !size_mul(dim(weight, 1), conv->groups, &channels) || dim(x, 1) != channels ||
        dim(weight, 2) < 1 || dim(weight, 3) < 1) {
        return false;
    }
    conv->compute = compute_type_of(type);
    conv->images = dim(x, 0);
    conv->in_channels = channels;
    conv->out_channels = dim(weight, 0);
    conv->in = last_two(x);
    conv->out = last_two(maps);
    conv->kernel = last_two(weight);
    conv->input = PyArray_DATA(x);
    conv->weight = PyArray_DATA(weight);
    conv->output = PyArray_DATA(maps);
    return true;
}

static PyObject *nn_conv2d(PyObject *self, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"", "", "", "", "", "relu", NULL};
    PyArrayObject *x, *weight, *bias, *out;
    struct conv2d conv = {0};
    int relu;
    struct without_gil released;
    (void)self;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OOOOO&$p:conv2d", names, &x, &weight, &bias,
                                     &out, read_geometry, &conv, &relu)) {
        return NULL;
    }
    if (!set_arrays(&conv, x, weight, out) || !PyArray_ISWRITEABLE(out) ||
        !can_read_bias(bias, weight)) {
        return misfit();
    }
    conv.bias = data_or_null(bias);
    conv.relu = relu;
    conv.token = without_gil_begin(&released, NULL, 0);
    return none_or_error(without_gil_finish(&released, conv2d(&conv)));
}

static PyObject *nn_conv2d_grad_input(PyObject *self, PyObject *args)
{
    PyArrayObject *weight, *maps, *x;
    struct conv2d_grad_input gradient = {0};
    struct without_gil released;
    (void)self;
    if (!PyArg_ParseTuple(args, "OOOO&:conv2d_grad_input", &weight, &maps, &x, read_geometry,
                          &gradient.conv)) {
        return NULL;
    }
    if (!set_arrays(&gradient.conv, x, weight, maps) || !PyArray_ISWRITEABLE(x)) {
        return misfit();
    }
    gradient.input = PyArray_DATA(x);
    gradient.conv.token = without_gil_begin(&released, NULL, 0);
    return none_or_error(without_gil_finish(&released, conv2d_grad_input(&gradient)));
}

/* True if indices is an int64 array in the shape of `gradients` with all elements in [0, size). */
static bool are_indices(PyArrayObject *indices, PyArrayObject *gradients, size_t size)
{
    if (!can_read(indices, NPY_INT64, PyArray_NDIM(gradients), PyArray_DIMS(gradients))) {
        return false;
    }
    const int64_t *index = PyArray_DATA(indices);
    const npy_intp n = PyArray_SIZE(gradients);
    bool fit = true;
    for (npy_intp i = 0; i < n; i++) {
        fit &= (uint64_t)index[i] < size;
    }
    return fit;
}

/* True if `maps` can hold the gradients of feature maps of this size. Without indices, it holds the
 * gradients of all pixels. With indices, it holds the gradients of some pixels, as
 * conv2d_grad_weight_sparse expects them. */
static bool are_gradients(PyArrayObject *maps, PyArrayObject *indices, struct extent2 size,
                          const struct conv2d *conv)
{
    size_t pixels;
    if (is_none(indices)) {
        return size.h == conv->out.h && size.w == conv->out.w;
    }
    return conv->dilation.w == 1 && (Py_ssize_t)size.h > 0 && (Py_ssize_t)size.w > 0 &&
           size_mul(size.h, size.w, &pixels) && are_indices(indices, maps, pixels);
}

static PyObject *nn_conv2d_grad_weight(PyObject *self, PyObject *args)
{
    PyArrayObject *x, *maps, *indices, *weight, *bias;
    struct conv2d conv = {0};
    struct extent2 size;
    struct without_gil released;
    (void)self;
    if (!PyArg_ParseTuple(args, "OOOOOO&(nn):conv2d_grad_weight", &x, &maps, &indices, &weight,
                          &bias, read_geometry, &conv, &size.h, &size.w)) {
        return NULL;
    }
    if (!set_arrays(&conv, x, weight, maps) || !PyArray_ISWRITEABLE(weight) ||
        !can_read_bias(bias, weight) || (!is_none(bias) && !PyArray_ISWRITEABLE(bias)) ||
        !are_gradients(maps, indices, size, &conv)) {
        return misfit();
    }
    const size_t gradients_per_map = conv.out.h * conv.out.w;
    void *to_weight = PyArray_DATA(weight), *to_bias = data_or_null(bias);
    conv.out = size;
    conv.token = without_gil_begin(&released, NULL, 0);
    const struct conv2d_grad_weight all_pixels = {conv, to_weight, to_bias};
    const struct conv2d_grad_weight_sparse some_pixels = {conv, data_or_null(indices),
                                                          gradients_per_map, to_weight, to_bias};
    const int status = is_none(indices) ? conv2d_grad_weight(&all_pixels)
                                        : conv2d_grad_weight_sparse(&some_pixels);
    return none_or_error(without_gil_finish(&released, status));
}

static PyObject *nn_all_finite(PyObject *self, PyObject *x)
{
    PyArrayObject *array = (PyArrayObject *)x;
    const int type = float_type(array);
    (void)self;
    if (type < 0 || !PyArray_ISCARRAY_RO(array)) {
        return misfit();
    }
    const fp_mode caller = fp_mode_enter();
    const bool finite =
        all_finite(compute_type_of(type), (size_t)PyArray_SIZE(array), PyArray_DATA(array));
    fp_mode_leave(caller);
    return PyBool_FromLong(finite);
}

static PyObject *nn_conv2d_pooled(PyObject *self, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"", "", "", "", "", "", "", "relu", NULL};
    PyArrayObject *x, *weight, *bias, *out, *indices;
    struct conv2d conv = {0};
    struct extent2 size;
    int relu;
    struct without_gil released;
    (void)self;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OOOOOO&(nn)$p:conv2d_pooled", names, &x,
                                     &weight, &bias, &out, &indices, read_geometry, &conv, &size.h,
                                     &size.w, &relu)) {
        return NULL;
    }
    if (!set_arrays(&conv, x, weight, out) || !PyArray_ISWRITEABLE(out) ||
        !can_read_bias(bias, weight) || (Py_ssize_t)size.h < 0 || (Py_ssize_t)size.w < 0 ||
        conv.out.h != size.h / 2 || conv.out.w != size.w / 2 ||
        !can_write(indices, NPY_INT64, 4, PyArray_DIMS(out))) {
        return misfit();
    }
    const struct max_pool2d pool = {
        .compute = conv.compute,
        .planes = conv.out_channels,
        .in = size,
        .out = conv.out,
        .kernel = {2, 2},
        .stride = {2, 2},
        .dilation = {1, 1},
        .output = PyArray_DATA(out),
        .indices = PyArray_DATA(indices),
    };
    conv.out = size;
    conv.bias = data_or_null(bias);
    conv.relu = relu;
    conv.token = without_gil_begin(&released, NULL, 0);
    return none_or_error(without_gil_finish(&released, conv2d_max_pool2d(&conv, &pool)));
}

static PyObject *nn_linear(PyObject *self, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"", "", "", "", "relu", NULL};
    PyArrayObject *x, *weight, *bias, *out;
    int relu;
    struct without_gil released;
    (void)self;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OOOO$p:linear", names, &x, &weight, &bias, &out,
                                     &relu)) {
        return NULL;
    }
    const int type = float_type(x);
    if (!can_read(x, type, 2, NULL) || !can_read(weight, type, 2, NULL) ||
        dim(x, 1) != dim(weight, 1) || !can_read_bias(bias, weight)) {
        return misfit();
    }
    const npy_intp shape[2] = {PyArray_DIM(x, 0), PyArray_DIM(weight, 0)};
    if (!can_write(out, type, 2, shape)) {
        return misfit();
    }
    struct linear layer = {
        .compute = compute_type_of(type),
        .rows = dim(x, 0),
        .in_features = dim(x, 1),
        .out_features = dim(weight, 0),
        .relu = relu,
        .input = PyArray_DATA(x),
        .weight = PyArray_DATA(weight),
        .bias = data_or_null(bias),
        .output = PyArray_DATA(out),
    };
    layer.token = without_gil_begin(&released, NULL, 0);
    return none_or_error(without_gil_finish(&released, linear(&layer)));
}

static PyObject *nn_matmul(PyObject *self, PyObject *args)
{
    PyArrayObject *left, *right, *out;
    struct without_gil released;
    (void)self;
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

static PyObject *nn_max_pool2d(PyObject *self, PyObject *args)
{
    PyArrayObject *x, *out, *indices;
    struct max_pool2d pool = {0};
    struct without_gil released;
    (void)self;
    if (!PyArg_ParseTuple(args, "OOO((nn)(nn)(nn)(nn)):max_pool2d", &x, &out, &indices,
                          &pool.kernel.h, &pool.kernel.w, &pool.stride.h, &pool.stride.w,
                          &pool.padding.h, &pool.padding.w, &pool.dilation.h, &pool.dilation.w)) {
        return NULL;
    }
    const int type = float_type(x);
    if (!can_read(x, type, 3, NULL)) {
        return misfit();
    }
    const npy_intp shape[3] = {PyArray_DIM(x, 0), -1, -1};
    if (!can_write(out, type, 3, shape) ||
        (!is_none(indices) && !can_write(indices, NPY_INT64, 3, PyArray_DIMS(out)))) {
        return misfit();
    }
    pool.compute = compute_type_of(type);
    pool.planes = dim(x, 0);
    pool.in = last_two(x);
    pool.out = last_two(out);
    pool.input = PyArray_DATA(x);
    pool.output = PyArray_DATA(out);
    pool.indices = data_or_null(indices);
    if (!is_valid_size(pool.kernel) || !is_valid_size(pool.stride) ||
        !is_valid_size(pool.dilation) || !is_valid_pool_padding(pool.padding, pool.kernel) ||
        !last_window_starts_inside(pool.in.h, pool.out.h, pool.stride.h, pool.padding.h) ||
        !last_window_starts_inside(pool.in.w, pool.out.w, pool.stride.w, pool.padding.w)) {
        return misfit();
    }
    pool.token = without_gil_begin(&released, NULL, 0);
    max_pool2d(&pool);
    return none_or_error(without_gil_end(&released));
}

static PyObject *nn_max_pool2d_scatter(PyObject *self, PyObject *args)
{
    PyArrayObject *indices, *gradient, *out;
    struct without_gil released;
    (void)self;
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

static PyObject *nn_relu_gradient(PyObject *self, PyObject *args)
{
    PyArrayObject *x, *gradient, *out;
    struct without_gil released;
    (void)self;
    if (!PyArg_ParseTuple(args, "OOO:relu_gradient", &x, &gradient, &out)) {
        return NULL;
    }
    const int type = float_type(x);
    if (!can_read(x, type, 1, NULL) || !can_read(gradient, type, 1, PyArray_DIMS(x)) ||
        !can_write(out, type, 1, PyArray_DIMS(x))) {
        return misfit();
    }
    without_gil_begin(&released, NULL, 0);
    relu_gradient(compute_type_of(type), dim(x, 0), PyArray_DATA(x), PyArray_DATA(gradient),
                  PyArray_DATA(out));
    return none_or_error(without_gil_end(&released));
}

static PyObject *nn_relu(PyObject *self, PyObject *args)
{
    PyArrayObject *x, *out;
    struct without_gil released;
    (void)self;
    if (!PyArg_ParseTuple(args, "OO:relu", &x, &out)) {
        return NULL;
    }
    const int type = float_type(x);
    if (!can_read(x, type, 1, NULL) || !can_write(out, type, 1, PyArray_DIMS(x))) {
        return misfit();
    }
    without_gil_begin(&released, NULL, 0);
    relu(compute_type_of(type), dim(x, 0), PyArray_DATA(x), PyArray_DATA(out));
    return none_or_error(without_gil_end(&released));
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

static PyObject *nn_channel_sums(PyObject *self, PyObject *args)
{
    PyArrayObject *x, *y, *centre, *sums;
    struct channels call;
    struct without_gil released;
    (void)self;
    if (!PyArg_ParseTuple(args, "OOOO:channel_sums", &x, &y, &centre, &sums)) {
        return NULL;
    }
    if (!set_channels(&call, x, y, centre)) {
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

static PyObject *nn_channel_affine(PyObject *self, PyObject *args)
{
    PyArrayObject *x, *y, *centre, *factors, *out;
    struct channels call;
    struct without_gil released;
    (void)self;
    if (!PyArg_ParseTuple(args, "OOOOO:channel_affine", &x, &y, &centre, &factors, &out)) {
        return NULL;
    }
    if (!set_channels(&call, x, y, centre)) {
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
static PyObject *nn_avg_pool2d(PyObject *self, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"", "", "", "", "", "", "gradient", NULL};
    PyArrayObject *x, *out, *rows, *row_sizes, *columns, *column_sizes;
    int gradient;
    struct without_gil released;
    (void)self;
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

static PyObject *nn_activation(PyObject *self, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"", "", "", "", "slope", NULL};
    PyArrayObject *x, *gradient, *out;
    const char *name;
    double slope;
    struct without_gil released;
    (void)self;
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

/* Forces an algorithm for all convolutions that it fits. None lets conv2d choose again. */
static PyObject *nn_conv2d_force(PyObject *self, PyObject *name)
{
    (void)self;
    const char *text = name == Py_None ? NULL : PyUnicode_AsUTF8(name);
    if (text == NULL && name != Py_None) {
        return NULL;
    }
    return conv2d_force_algorithm(text) ? Py_NewRef(Py_None) : misfit();
}

PyMethodDef nn_methods[] = {
    BY_NAME("activation", nn_activation, "name, x, gradient, out, /, *, slope",
            "leaky_relu, gelu or gelu_tanh of x (n,), or gradient times its derivative."),
    BY_NAME("avg_pool2d", nn_avg_pool2d,
            "x, out, rows, row_sizes, columns, column_sizes, /, *, gradient",
            "Average pooling of x (planes, h, w) over rows (oh, 2) and columns (ow, 2), or its\n"
            "gradient: then x is (planes, oh, ow)."),
    BY_POSITION("channel_affine", nn_channel_affine, "x, y, centre, factors, out",
                "(x - centre) * factors[:, 0] + y * factors[:, 1] + factors[:, 2] of x and y\n"
                "(images, channels, pixels). y may be None."),
    BY_POSITION(
        "channel_sums", nn_channel_sums, "x, y, centre, sums",
        "Writes sums (channels, 2): of y and of (x - centre) * y. If y is None, x - centre\n"
        "stands in its place."),
    {"all_finite", nn_all_finite, METH_O,
     "all_finite($module, x, /)\n--\n\nTrue if every element is finite."},
    BY_NAME("conv2d", nn_conv2d, "x, weight, bias, out, geometry, /, *, relu",
            "Convolution. geometry is (stride, padding, dilation, groups), and padding the one\n"
            "before the first row and column; bias may be None."),
    {"_conv2d_force", nn_conv2d_force, METH_O,
     "_conv2d_force($module, name, /)\n--\n\n"
     "Makes all convolutions that an algorithm fits use it; None: the cheapest one. For tests and\n"
     "benchmarks."},
    BY_POSITION("conv2d_grad_input", nn_conv2d_grad_input, "weight, maps, out, geometry",
                "The gradient of a convolution's input, from maps, the gradient of its output."),
    BY_NAME("conv2d_pooled", nn_conv2d_pooled,
            "x, weight, bias, out, indices, geometry, size, /, *, relu",
            "Convolution to feature maps of shape size, and 2 x 2 max pooling."),
    BY_POSITION(
        "conv2d_grad_weight", nn_conv2d_grad_weight,
        "x, maps, indices, weight, bias, geometry, size",
        "Writes the gradients of a convolution's weights, and of its bias if that is not\n"
        "None. size is that of the feature maps. indices is None, or the pixels that have the\n"
        "gradients in maps; all others have gradient 0."),
    BY_NAME("linear", nn_linear, "x, weight, bias, out, /, *, relu",
            "x @ weight.T + bias, for matrices. bias may be None."),
    BY_POSITION("max_pool2d", nn_max_pool2d, "x, out, indices, window",
                "Max pooling of x (planes, h, w). window is (kernel, stride, padding, dilation);\n"
                "indices may be None."),
    BY_POSITION("max_pool2d_scatter", nn_max_pool2d_scatter, "indices, gradient, out",
                "Writes out (planes, h, w): at each index, the sum of the gradients that have it."),
    BY_POSITION("matmul", nn_matmul, "left, right, out",
                "left @ right, for matrices. left may be the transpose of a C-contiguous array."),
    BY_POSITION("relu", nn_relu, "x, out", "The larger of x and 0, for x of shape (n,)."),
    BY_POSITION("relu_gradient", nn_relu_gradient, "x, gradient, out",
                "The gradient, or 0 where x <= 0; all arrays of shape (n,)."),
    {0},
};
