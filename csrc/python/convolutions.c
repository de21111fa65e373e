/* Python bindings of convolutions. arguments/layers.c checks their arguments. The functions for
 * gradients also take arrays that cossim's Python code has made. */
#include "python/methods.h"

#include <stdbool.h>

#include "base/scratch.h"
#include "network/network.h"
#include "conv2d/conv2d_algorithm.h"
#include "arguments/args.h"
#include "python/layer_results.h"
#include "python/without_gil.h"

static PyObject *core_conv2d_options(PyObject *Py_UNUSED(self), PyObject *args)
{
    const char *function;
    PyObject *stride, *padding, *dilation, *groups;
    struct conv2d_options o;
    if (!PyArg_ParseTuple(args, "sOOOO:conv2d_options", &function, &stride, &padding, &dilation,
                          &groups) ||
        conv2d_options_read(&o, function, stride, padding, dilation, groups) < 0) {
        return NULL;
    }
    PyObject *zeros =
        PyUnicode_Check(padding) ? PyUnicode_FromObject(padding) : size_tuple(o.padding);
    return Py_BuildValue("NNNn", size_tuple(o.stride), zeros, size_tuple(o.dilation),
                         (Py_ssize_t)o.groups);
}

static void close_arguments(struct conv2d_arguments *a)
{
    layer_arrays_close(&a->arrays);
}

#define CONV2D_ARGUMENTS(a) \
    CLOSED_BY(close_arguments) struct conv2d_arguments a = {.arrays = {.count = 0}}

/* The shape of the feature maps of a convolution, without the images' axis if x has none. */
static void maps_shape(const struct conv2d_arguments *a, struct extent2 size, npy_intp *shape)
{
    npy_intp *end = shape + a->ndim;
    shape[0] = (npy_intp)a->conv.images;
    end[-3] = (npy_intp)a->conv.out_channels;
    end[-2] = (npy_intp)size.h;
    end[-1] = (npy_intp)size.w;
}

static PyArrayObject *new_maps(const struct conv2d_arguments *a, struct extent2 size, int type)
{
    npy_intp shape[4];
    maps_shape(a, size, shape);
    return new_array(a->ndim, shape, type);
}

/* Runs a convolution whose output is set, then `pool` unless it is NULL. */
static int run_conv2d(struct conv2d_arguments *a, const struct max_pool2d *pool)
{
    struct without_gil released;
    a->conv.token = without_gil_begin(&released, NULL, 0);
    return without_gil_finish(&released,
                              pool == NULL ? conv2d(&a->conv) : conv2d_max_pool2d(&a->conv, pool));
}

/* Parses (arguments, *, relu) and checks them. */
static int parse_conv2d(struct conv2d_arguments *a, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"", "relu", NULL};
    PyObject *tuple;
    int relu = 0;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|$p:conv2d", names, &tuple, &relu) ||
        conv2d_arguments_open(a, tuple) < 0) {
        return -1;
    }
    a->conv.relu = relu;
    return 0;
}

static PyObject *core_conv2d(PyObject *Py_UNUSED(self), PyObject *args, PyObject *kwargs)
{
    CONV2D_ARGUMENTS(a);
    PyArrayObject *out =
        parse_conv2d(&a, args, kwargs) < 0 ? NULL : new_maps(&a, a.conv.out, a.arrays.type);
    if (out == NULL) {
        return NULL;
    }
    a.conv.output = PyArray_DATA(out);
    return finished(out, run_conv2d(&a, NULL));
}

/* Raises the error of max_pool2d for feature maps that are smaller than its windows. */
static void raise_pool_is_empty(const struct conv2d_arguments *a, struct extent2 size)
{
    struct layer_arrays maps = {.function = "max_pool2d", .count = 1, .names = {"x"}};
    maps.arrays[0] = new_maps(a, a->conv.out, a->arrays.type);
    if (maps.arrays[0] != NULL) {
        layer_error(PyExc_ValueError, &maps, "POOL_EMPTY", "{sN}", "size", size_tuple(size));
        layer_arrays_close(&maps);
    }
}

static PyObject *core_conv2d_pooled(PyObject *Py_UNUSED(self), PyObject *args, PyObject *kwargs)
{
    CONV2D_ARGUMENTS(a);
    if (parse_conv2d(&a, args, kwargs) < 0) {
        return NULL;
    }
    struct max_pool2d pool = {
        .compute = a.conv.compute,
        .planes = a.conv.out_channels,
        .in = a.conv.out,
        .out = {a.conv.out.h / 2, a.conv.out.w / 2},
        .kernel = {2, 2},
        .stride = {2, 2},
        .dilation = {1, 1},
    };
    if (pool.out.h < 1 || pool.out.w < 1) {
        raise_pool_is_empty(&a, pool.out);
        return NULL;
    }
    OWNED PyArrayObject *out = new_maps(&a, pool.out, a.arrays.type),
                        *indices = out == NULL ? NULL : new_maps(&a, pool.out, NPY_INT64);
    if (indices == NULL) {
        return NULL;
    }
    pool.output = PyArray_DATA(out);
    pool.indices = PyArray_DATA(indices);
    if (run_conv2d(&a, &pool) < 0) {
        return NULL;
    }
    return Py_BuildValue("OON", out, indices, size_tuple(pool.in));
}

/* Returns (zeros before, zeros after) of the images, each (height, width). */
static PyObject *core_conv2d_padding(PyObject *Py_UNUSED(self), PyObject *arguments)
{
    CONV2D_ARGUMENTS(a);
    if (conv2d_arguments_open(&a, arguments) < 0) {
        return NULL;
    }
    return Py_BuildValue("NN", size_tuple(a.conv.padding), size_tuple(a.after));
}

static PyObject *core_conv2d_grad_input(PyObject *Py_UNUSED(self), PyObject *args)
{
    CONV2D_ARGUMENTS(a);
    PyObject *tuple;
    PyArrayObject *maps;
    npy_intp shape[4];
    struct without_gil released;
    if (!PyArg_ParseTuple(args, "OO:conv2d_grad_input", &tuple, &maps) ||
        conv2d_arguments_open(&a, tuple) < 0) {
        return NULL;
    }
    maps_shape(&a, a.conv.out, shape);
    if (!can_read(maps, a.arrays.type, a.ndim, shape)) {
        return misfit();
    }
    PyArrayObject *dx = new_like(a.arrays.arrays[0]);
    if (dx == NULL) {
        return NULL;
    }
    a.conv.output = PyArray_DATA(maps);
    a.conv.token = without_gil_begin(&released, NULL, 0);
    const struct conv2d_grad_input gradient = {a.conv, PyArray_DATA(dx)};
    return finished(dx, without_gil_finish(&released, conv2d_grad_input(&gradient)));
}

/* True if `maps` holds the gradients of the feature maps. Without indices, it holds those of all
 * pixels. With indices it holds those of some, as conv2d_grad_weight_sparse takes them. */
static bool are_gradients(PyArrayObject *maps, PyArrayObject *indices,
                          const struct conv2d_arguments *a)
{
    const struct extent2 some = {SIZE_MAX, SIZE_MAX}; /* -1 as npy_intp: any size */
    npy_intp shape[4];
    size_t pixels;
    maps_shape(a, is_none(indices) ? a->conv.out : some, shape);
    if (!can_read(maps, a->arrays.type, a->ndim, shape)) {
        return false;
    }
    if (is_none(indices)) {
        return true;
    }
    return a->conv.dilation.w == 1 && size_mul(a->conv.out.h, a->conv.out.w, &pixels) &&
           are_indices(indices, maps, pixels);
}

/* Writes both gradients; see conv2d_grad_weight.h. bias may be NULL. */
static int run_grad_weight(struct conv2d *conv, PyArrayObject *maps, PyArrayObject *indices,
                           PyArrayObject *weight, PyArrayObject *bias)
{
    struct without_gil released;
    void *to_weight = PyArray_DATA(weight), *to_bias = data_or_null(bias);
    const struct extent2 pooled = last_two(maps);
    conv->output = PyArray_DATA(maps);
    conv->token = without_gil_begin(&released, NULL, 0);
    const struct conv2d_grad_weight all_pixels = {*conv, to_weight, to_bias};
    const struct conv2d_grad_weight_sparse some_pixels = {*conv, data_or_null(indices),
                                                          pooled.h * pooled.w, to_weight, to_bias};
    return without_gil_finish(&released, is_none(indices)
                                             ? conv2d_grad_weight(&all_pixels)
                                             : conv2d_grad_weight_sparse(&some_pixels));
}

static PyObject *core_conv2d_grad_weight(PyObject *Py_UNUSED(self), PyObject *args)
{
    CONV2D_ARGUMENTS(a);
    PyObject *tuple;
    PyArrayObject *maps, *indices;
    if (!PyArg_ParseTuple(args, "OOO:conv2d_grad_weight", &tuple, &maps, &indices) ||
        conv2d_arguments_open(&a, tuple) < 0 || !are_gradients(maps, indices, &a)) {
        return misfit();
    }
    PyArrayObject *weight = new_like(a.arrays.arrays[1]),
                  *bias = weight == NULL        ? NULL
                          : a.arrays.count == 3 ? new_like(a.arrays.arrays[2])
                                                : (PyArrayObject *)Py_NewRef(Py_None);
    const int status = bias == NULL ? -1 : run_grad_weight(&a.conv, maps, indices, weight, bias);
    return finished_two((PyObject *)weight, (PyObject *)bias, status);
}

/* Forces the algorithm of all convolutions that it fits, or none. */
static PyObject *core_conv2d_force(PyObject *Py_UNUSED(self), PyObject *name)
{
    const char *text = name == Py_None ? NULL : PyUnicode_AsUTF8(name);
    if (text == NULL && name != Py_None) {
        return NULL;
    }
    return conv2d_force_algorithm(text) ? Py_NewRef(Py_None) : misfit();
}

/* arguments: (x, weight, bias, stride, padding, dilation, groups), as in cossim.nn.conv2d. */
PyMethodDef conv2d_methods[] = {
    BY_NAME("conv2d", core_conv2d, "arguments, /, *, relu=False", "Convolution."),
    BY_POSITION("conv2d_grad_input", core_conv2d_grad_input, "arguments, maps",
                "The gradient of a convolution's input, from maps, the gradient of its output."),
    BY_POSITION(
        "conv2d_grad_weight", core_conv2d_grad_weight, "arguments, maps, indices",
        "Returns the gradients of a convolution's weights, and of its bias or None. indices is\n"
        "None, or the pixels that have the gradients in maps; all others have gradient 0."),
    BY_POSITION("conv2d_options", core_conv2d_options,
                "function, stride, padding, dilation, groups",
                "Checks the four arguments and returns them with pairs for single numbers."),
    {"conv2d_padding", core_conv2d_padding, METH_O,
     "conv2d_padding($module, arguments, /)\n--\n\n"
     "Returns ((top, left), (bottom, right)), the numbers of zeros around an image."},
    BY_NAME(
        "conv2d_pooled", core_conv2d_pooled, "arguments, /, *, relu=False",
        "Convolution and 2 x 2 max pooling. Returns the maxima, their indices, and the size of\n"
        "the feature maps before pooling."),
    {"_conv2d_force", core_conv2d_force, METH_O,
     "_conv2d_force($module, name, /)\n--\n\n"
     "Makes all convolutions that an algorithm fits use it; None: the cheapest one. For tests and\n"
     "benchmarks."},
    {0},
};
