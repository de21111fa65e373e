#include "arguments/layers.h"

#include <limits.h>
#include <stdarg.h>
#include <stdio.h>

#include "arguments/args.h"

/* ---- arrays ---- */

/* Returns the arrays as a dict by name, or NULL with an error set. */
static PyObject *by_name(const struct layer_arrays *a)
{
    PyObject *dict = PyDict_New();
    for (size_t i = 0; dict != NULL && i < a->count; i++) {
        if (PyDict_SetItemString(dict, a->names[i], (PyObject *)a->arrays[i]) < 0) {
            Py_CLEAR(dict);
        }
    }
    return dict;
}

/* Returns described(x=..., weight=...) of cossim/_errors.py, or NULL with an error set. */
static PyObject *described(const struct layer_arrays *a)
{
    OWNED PyObject *arrays = by_name(a), *none = arrays == NULL ? NULL : PyTuple_New(0);
    OWNED PyObject *function = none == NULL ? NULL : error_text("described");
    return function == NULL ? NULL : PyObject_Call(function, none, arrays);
}

int layer_error(PyObject *exception, const struct layer_arrays *a, const char *template,
                const char *format, ...)
{
    va_list values;
    va_start(values, format);
    OWNED PyObject *fields = Py_VaBuildValue(format, values);
    va_end(values);
    OWNED PyObject *own =
        fields == NULL ? NULL
                       : Py_BuildValue("{ss sN}", "function", a->function, "arrays", described(a));
    if (own != NULL && PyDict_Update(fields, own) == 0) {
        raise_filled(exception, template, fields);
    }
    return -1;
}

/* Replaces arrays that the core cannot read in place by copies, and checks the types. */
static int make_floats(struct layer_arrays *a)
{
    for (size_t i = 0; i < a->count; i++) {
        const int type = float_type(a->arrays[i]);
        if (type < 0) {
            return layer_error(PyExc_TypeError, a, "NOT_FLOAT32_OR_64", "{ss sO}", "name",
                               a->names[i], "dtype", PyArray_DESCR(a->arrays[i]));
        }
        a->type = i == 0 ? type : a->type;
        if (type != a->type) {
            return layer_error(PyExc_TypeError, a, "DIFFERENT_DTYPES", "{ss ss}", "name",
                               a->names[0], "other", a->names[i]);
        }
    }
    for (size_t i = 0; i < a->count; i++) {
        PyObject *plain = PyArray_FROM_OTF((PyObject *)a->arrays[i], a->type, NPY_ARRAY_CARRAY_RO);
        if (plain == NULL) {
            return -1;
        }
        Py_SETREF(a->arrays[i], (PyArrayObject *)plain);
    }
    return 0;
}

/* Converts all objects before it reads the memory of any. */
static int convert(struct layer_arrays *a, size_t count, const char *const *names,
                   PyObject *const *objects, struct array_argument *arguments)
{
    for (size_t i = 0; i < count; i++) {
        if (array_argument(a->function, names[i], objects[i], &arguments[i]) < 0) {
            return -1;
        }
    }
    for (size_t i = 0; i < count; i++) {
        PyObject *view =
            array_reread(a->function, &arguments[i]) < 0 ? NULL : view_for_numpy(&arguments[i]);
        if (view == NULL) {
            return -1;
        }
        a->names[i] = names[i];
        a->arrays[i] = (PyArrayObject *)view;
        a->count = i + 1;
    }
    return make_floats(a);
}

int layer_arrays_open(struct layer_arrays *a, const char *function, size_t count,
                      const char *const *names, PyObject *const *objects)
{
    struct array_argument arguments[LAYER_ARRAYS] = {{0}};
    *a = (struct layer_arrays){.function = function};
    const int status = convert(a, count, names, objects, arguments);
    for (size_t i = 0; i < count; i++) {
        array_release(&arguments[i]);
    }
    return status;
}

void layer_arrays_close(struct layer_arrays *a)
{
    for (size_t i = 0; i < a->count; i++) {
        release((PyObject *)a->arrays[i]);
    }
    a->count = 0;
}

/* Reads x, weight and, unless it is None, bias. */
static int open_parameters(struct layer_arrays *a, const char *function, PyObject *const *objects)
{
    static const char *const names[] = {"x", "weight", "bias"};
    return layer_arrays_open(a, function, objects[2] == Py_None ? 2 : 3, names, objects);
}

/* ---- numbers ---- */

/* Raises TOO_SMALL or TOO_LARGE for an argument. limit is a text. Returns -1. */
static int size_error(const char *template, const char *function, const char *name,
                      const char *limit, PyObject *object)
{
    return raise_template(PyExc_ValueError, template, "{ss ss ss ss sN}", "function", function,
                          "name", name, "least", limit, "limit", limit, "value",
                          integer_text(object));
}

/* Reads the first two integers of a tuple. */
static int read_two(const char *function, const char *name, PyObject *tuple, Py_ssize_t sizes[2])
{
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(tuple) && i < 2; i++) {
        if (integer_argument_of(function, name, "INTEGER_OR_PAIR", PyTuple_GET_ITEM(tuple, i),
                                &sizes[i]) < 0) {
            return -1;
        }
    }
    return 0;
}

int pair_argument(const char *function, const char *name, PyObject *object, Py_ssize_t least,
                  struct extent2 *pair)
{
    Py_ssize_t sizes[2] = {0, 0};
    const bool several = PyTuple_Check(object) || PyList_Check(object);
    /* A copy: the __index__ of an element may change a list. */
    OWNED PyObject *elements = several ? PySequence_Tuple(object) : PyTuple_Pack(1, object);
    if (elements == NULL || read_two(function, name, elements, sizes) < 0) {
        return -1;
    }
    const Py_ssize_t count = PyTuple_GET_SIZE(elements);
    if (count < 1 || count > 2) {
        return raise_template(PyExc_ValueError, "NOT_A_PAIR", "{ss ss sN}", "function", function,
                              "name", name, "value", integer_text(object));
    }
    sizes[1] = sizes[count - 1];
    if (sizes[0] < least || sizes[1] < least) {
        char text[24];
        snprintf(text, sizeof text, "%zd", least);
        return size_error("TOO_SMALL", function, name, text, object);
    }
    if (sizes[0] > INT_MAX || sizes[1] > INT_MAX) {
        return size_error("TOO_LARGE", function, name, "2**31", object);
    }
    *pair = (struct extent2){(size_t)sizes[0], (size_t)sizes[1]};
    return 0;
}

/* ---- convolutions ---- */

static int read_padding(struct conv2d_options *options, const char *function, PyObject *padding)
{
    options->padding = (struct extent2){0, 0};
    options->same = false;
    if (!PyUnicode_Check(padding)) {
        return pair_argument(function, "padding", padding, 0, &options->padding);
    }
    if (PyUnicode_CompareWithASCIIString(padding, "valid") == 0) {
        return 0;
    }
    if (PyUnicode_CompareWithASCIIString(padding, "same") != 0) {
        return raise_template(PyExc_ValueError, "PADDING", "{sN}", "padding",
                              PyUnicode_FromObject(padding));
    }
    if (options->stride.h != 1 || options->stride.w != 1) {
        return raise_template(PyExc_ValueError, "SAME_NEEDS_STRIDE_1", "{sN}", "stride",
                              size_tuple(options->stride));
    }
    options->same = true;
    return 0;
}

int conv2d_options_read(struct conv2d_options *options, const char *function, PyObject *stride,
                        PyObject *padding, PyObject *dilation, PyObject *groups)
{
    Py_ssize_t count;
    if (integer_argument(function, "groups", groups, &count) < 0) {
        return -1;
    }
    if (count < 1) {
        return size_error("TOO_SMALL", function, "groups", "1", groups);
    }
    if (may_be_clipped(count)) {
        return size_error("TOO_LARGE", function, "groups", "2**63", groups);
    }
    options->groups = (size_t)count;
    if (pair_argument(function, "stride", stride, 1, &options->stride) < 0 ||
        pair_argument(function, "dilation", dilation, 1, &options->dilation) < 0) {
        return -1;
    }
    return read_padding(options, function, padding);
}

/* Checks that the channels and filters fit the groups, and that the bias has one element for each
 * filter. */
static int check_channels(const struct layer_arrays *a, size_t channels, size_t groups)
{
    const PyArrayObject *weight = a->arrays[1];
    const size_t filters = dim(weight, 0);
    /* Cannot overflow: it is at most the number of elements of weight, or 0. */
    const size_t wanted = dim(weight, 1) * groups;
    if (filters == 0 || filters % groups != 0) {
        return layer_error(PyExc_ValueError, a, "CONV_GROUPS", "{sn sn}", "groups",
                           (Py_ssize_t)groups, "filters", (Py_ssize_t)filters);
    }
    if (channels != wanted) {
        return layer_error(PyExc_ValueError, a, "CONV_CHANNELS", "{sn sn}", "channels",
                           (Py_ssize_t)channels, "wanted", (Py_ssize_t)wanted);
    }
    if (a->count == 3 && (PyArray_NDIM(a->arrays[2]) != 1 || dim(a->arrays[2], 0) != filters)) {
        return layer_error(PyExc_ValueError, a, "WRONG_BIAS", "{s(n)}", "wanted",
                           (Py_ssize_t)filters);
    }
    return 0;
}

/* Finds the zeros around the images and the size of the output. */
static int set_windows(struct conv2d_arguments *a, const struct conv2d_options *options)
{
    struct conv2d *conv = &a->conv;
    struct extent2 zeros, padded;
    if (conv->kernel.h < 1 || conv->kernel.w < 1) {
        return layer_error(PyExc_ValueError, &a->arrays, "CONV_EMPTY", "{}");
    }
    const bool fits = size_mul(conv->dilation.h, conv->kernel.h - 1, &zeros.h) &&
                      size_mul(conv->dilation.w, conv->kernel.w - 1, &zeros.w) &&
                      is_valid_padding((struct extent2){zeros.h / 2, zeros.w / 2});
    a->after = conv->padding = options->padding;
    if (options->same && !fits) { /* only a kernel without elements can be this large */
        return raise_template(PyExc_ValueError, "SAME_TOO_LARGE", "{sN sN}", "kernel",
                              size_tuple(conv->kernel), "dilation", size_tuple(conv->dilation));
    }
    if (options->same) {
        same_padding(zeros, &conv->padding, &a->after);
    }
    padded.h = conv->in.h + conv->padding.h + a->after.h;
    padded.w = conv->in.w + conv->padding.w + a->after.w;
    conv->out.h =
        fits ? window_count(padded.h, conv->kernel.h, conv->stride.h, conv->dilation.h) : 0;
    conv->out.w =
        fits ? window_count(padded.w, conv->kernel.w, conv->stride.w, conv->dilation.w) : 0;
    if (conv->out.h > 0 && conv->out.w > 0) {
        return 0;
    }
    return layer_error(PyExc_ValueError, &a->arrays, "CONV_KERNEL", "{sN sN sN}", "padded",
                       size_tuple(padded), "kernel", size_tuple(conv->kernel), "dilation",
                       size_tuple(conv->dilation));
}

static int set_convolution(struct conv2d_arguments *a, const struct conv2d_options *options)
{
    PyArrayObject *x = a->arrays.arrays[0], *weight = a->arrays.arrays[1];
    a->ndim = PyArray_NDIM(x);
    if (PyArray_NDIM(weight) != 4) {
        return layer_error(PyExc_ValueError, &a->arrays, "CONV_WEIGHT", "{}");
    }
    if (a->ndim != 3 && a->ndim != 4) {
        return layer_error(PyExc_ValueError, &a->arrays, "CONV_IMAGES", "{}");
    }
    const size_t channels = dim(x, a->ndim - 3);
    if (check_channels(&a->arrays, channels, options->groups) < 0) {
        return -1;
    }
    a->conv = (struct conv2d){
        .compute = compute_type_of(a->arrays.type),
        .images = a->ndim == 4 ? dim(x, 0) : 1,
        .groups = options->groups,
        .in_channels = channels,
        .out_channels = dim(weight, 0),
        .in = last_two(x),
        .kernel = last_two(weight),
        .stride = options->stride,
        .dilation = options->dilation,
        .input = PyArray_DATA(x),
        .weight = PyArray_DATA(weight),
        .bias = a->arrays.count == 3 ? PyArray_DATA(a->arrays.arrays[2]) : NULL,
    };
    return set_windows(a, options);
}

int conv2d_arguments_open(struct conv2d_arguments *a, PyObject *tuple)
{
    struct conv2d_options options;
    PyObject *o[3], *stride, *padding, *dilation, *groups;
    if (!PyArg_Parse(tuple, "(OOOOOOO)", &o[0], &o[1], &o[2], &stride, &padding, &dilation,
                     &groups) ||
        conv2d_options_read(&options, "conv2d", stride, padding, dilation, groups) < 0) {
        return -1;
    }
    return open_parameters(&a->arrays, "conv2d", o) < 0 ? -1 : set_convolution(a, &options);
}

/* ---- pools ---- */

int pool_windows_read(struct max_pool2d *pool, const char *function, PyObject *tuple)
{
    PyObject *kernel_size, *stride, *padding, *dilation;
    if (!PyArg_Parse(tuple, "(OOOO)", &kernel_size, &stride, &padding, &dilation) ||
        pair_argument(function, "kernel_size", kernel_size, 1, &pool->kernel) < 0) {
        return -1;
    }
    pool->stride = pool->kernel;
    const bool default_stride =
        stride == Py_None ||
        ((PyTuple_Check(stride) || PyList_Check(stride)) && PySequence_Fast_GET_SIZE(stride) == 0);
    if ((!default_stride && pair_argument(function, "stride", stride, 1, &pool->stride) < 0) ||
        pair_argument(function, "padding", padding, 0, &pool->padding) < 0) {
        return -1;
    }
    if (!is_valid_pool_padding(pool->padding, pool->kernel)) {
        return raise_template(PyExc_ValueError, "POOL_PADDING", "{ss sN sN}", "function", function,
                              "padding", size_tuple(pool->padding), "kernel",
                              size_tuple(pool->kernel));
    }
    return pair_argument(function, "dilation", dilation, 1, &pool->dilation);
}

static int set_pool(const struct layer_arrays *a, struct max_pool2d *pool, bool ceil_mode)
{
    const PyArrayObject *x = a->arrays[0];
    const int ndim = PyArray_NDIM(x);
    if ((ndim != 3 && ndim != 4) || dim(x, ndim - 3) == 0 || dim(x, ndim - 2) == 0 ||
        dim(x, ndim - 1) == 0) {
        return layer_error(PyExc_ValueError, a, "POOL_IMAGES", "{}");
    }
    pool->compute = compute_type_of(a->type);
    pool->planes = dim(x, ndim - 3) * (ndim == 4 ? dim(x, 0) : 1);
    pool->in = last_two(x);
    pool->out.h = pool_window_count(pool->in.h, pool->kernel.h, pool->stride.h, pool->dilation.h,
                                    pool->padding.h, ceil_mode);
    pool->out.w = pool_window_count(pool->in.w, pool->kernel.w, pool->stride.w, pool->dilation.w,
                                    pool->padding.w, ceil_mode);
    pool->input = PyArray_DATA((PyArrayObject *)x);
    if (pool->out.h < 1 || pool->out.w < 1) {
        return layer_error(PyExc_ValueError, a, "POOL_EMPTY", "{sN}", "size",
                           size_tuple(pool->out));
    }
    return 0;
}

int pool_images_open(struct layer_arrays *a, struct max_pool2d *pool, const char *function,
                     PyObject *x, bool ceil_mode)
{
    static const char *const names[] = {"x"};
    return layer_arrays_open(a, function, 1, names, &x) < 0 ? -1 : set_pool(a, pool, ceil_mode);
}

/* ---- batch normalization ---- */

int layer_check_channels(const struct layer_arrays *a)
{
    const PyArrayObject *x = a->arrays[0];
    if (PyArray_NDIM(x) < 2) {
        return layer_error(PyExc_ValueError, a, "BATCH_NORM_IMAGES", "{}");
    }
    for (size_t i = 1; i < a->count; i++) {
        if (PyArray_NDIM(a->arrays[i]) != 1 || dim(a->arrays[i], 0) != dim(x, 1)) {
            return layer_error(PyExc_ValueError, a, "BATCH_NORM_SHAPE", "{ss sn}", "name",
                               a->names[i], "channels", (Py_ssize_t)dim(x, 1));
        }
    }
    return 0;
}

/* ---- linear layers ---- */

/* Returns the bias as (out_features,): it may also have one element for all features. */
static PyArrayObject *full_bias(const struct linear_arguments *a, int features)
{
    PyArrayObject *bias = a->arrays.arrays[2];
    const npy_intp *shape = PyArray_DIMS(a->arrays.arrays[1]);
    const int ndim = PyArray_NDIM(bias);
    const bool one = ndim == 0 || (ndim == features && PyArray_DIM(bias, 0) == 1);
    if (!one && (ndim != features || PyArray_DIM(bias, 0) != shape[0])) {
        layer_error(PyExc_ValueError, &a->arrays, "WRONG_BIAS", "{sN}", "wanted",
                    PyArray_IntTupleFromIntp(features, shape));
        return NULL;
    }
    const npy_intp count = (npy_intp)a->layer.out_features;
    PyArrayObject *full = (PyArrayObject *)PyArray_SimpleNew(1, &count, a->arrays.type);
    if (full != NULL && PyArray_CopyInto(full, bias) < 0) {
        Py_CLEAR(full);
    }
    return full;
}

static int set_linear(struct linear_arguments *a)
{
    PyArrayObject *x = a->arrays.arrays[0], *weight = a->arrays.arrays[1];
    const int x_ndim = PyArray_NDIM(x), ndim = PyArray_NDIM(weight);
    if ((ndim != 1 && ndim != 2) || x_ndim < 1 ||
        PyArray_DIM(x, x_ndim - 1) != PyArray_DIM(weight, ndim - 1)) {
        return layer_error(PyExc_ValueError, &a->arrays, "LINEAR_WEIGHT", "{}");
    }
    a->layer = (struct linear){
        .compute = compute_type_of(a->arrays.type),
        .rows = 1,
        .in_features = dim(x, x_ndim - 1),
        .out_features = ndim == 2 ? dim(weight, 0) : 1,
        .input = PyArray_DATA(x),
        .weight = PyArray_DATA(weight),
    };
    for (int i = 0; i < x_ndim - 1; i++) {
        a->layer.rows *= dim(x, i);
    }
    if (a->arrays.count == 3) {
        a->bias = full_bias(a, ndim - 1);
        a->layer.bias = a->bias == NULL ? NULL : PyArray_DATA(a->bias);
        return a->bias == NULL ? -1 : 0;
    }
    return 0;
}

int linear_arguments_open(struct linear_arguments *a, PyObject *const *objects)
{
    a->bias = NULL;
    return open_parameters(&a->arrays, "linear", objects) < 0 ? -1 : set_linear(a);
}

void linear_arguments_close(struct linear_arguments *a)
{
    layer_arrays_close(&a->arrays);
    release((PyObject *)a->bias);
    a->bias = NULL;
}
