/*
 * Runs the layers of a cossim.nn.Sequential, as many in one call as the core can. It reads them
 * from the Python objects in each call, so every change to a layer takes effect.
 *
 * classes is a tuple of the classes of layers, in the order of enum layer_kind; layers is a list.
 */
#include "python/methods.h"
#include "python/messages.h"

#include <stdbool.h>

#include "base/scratch.h"
#include "nn/network.h"
#include "python/args.h"
#include "python/without_gil.h"

/* The attributes of layers that are read here, and their values that are texts: interned strings.
 */
static struct {
    PyObject *bias, *ceil_mode, *dilation, *end_dim, *forward, *groups, *kernel_size, *padding;
    PyObject *padding_mode, *return_indices, *same, *start_dim, *stride, *valid, *vjp, *weight;
    PyObject *zeros;
} names;

int network_init(void)
{
    /* in the order of the struct */
    static const char *const texts[] = {
        "bias",        "ceil_mode", "dilation",     "end_dim",        "forward", "groups",
        "kernel_size", "padding",   "padding_mode", "return_indices", "same",    "start_dim",
        "stride",      "valid",     "vjp",          "weight",         "zeros"};
    PyObject **name = (PyObject **)&names;
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        name[i] = PyUnicode_InternFromString(texts[i]);
        if (name[i] == NULL) {
            return -1;
        }
    }
    return 0;
}

/* Returns an attribute of a layer, or NULL without an error. New reference. */
static PyObject *get(PyObject *attributes, PyObject *name)
{
    PyObject *value = NULL;
#if PY_VERSION_HEX >= 0x030D0000
    PyDict_GetItemRef(attributes, name, &value);
#else
    value = Py_XNewRef(PyDict_GetItemWithError(attributes, name));
#endif
    if (value == NULL) {
        PyErr_Clear();
    }
    return value;
}

/* Is an attribute this object, or the same text? */
static bool is(PyObject *attributes, PyObject *name, PyObject *expected)
{
    PyObject *value = get(attributes, name);
    const bool same = value == expected ||
                      (value != NULL && PyUnicode_CheckExact(value) &&
                       PyUnicode_CheckExact(expected) && PyUnicode_Compare(value, expected) == 0);
    Py_XDECREF(value);
    return same;
}

/* Reads an integer from `least` to INT_MAX. It runs no code of a class, so other objects than
 * Python's and NumPy's integers are refused. */
static bool read_size(PyObject *value, Py_ssize_t least, size_t *size)
{
    if (value == NULL || (!PyLong_CheckExact(value) && !(PyArray_CheckAnyScalarExact(value) &&
                                                         PyArray_IsScalar(value, Integer)))) {
        return false;
    }
    const Py_ssize_t n = PyNumber_AsSsize_t(value, NULL);
    *size = (size_t)n;
    return least <= n && n <= INT_MAX;
}

static bool read_number(PyObject *attributes, PyObject *name, Py_ssize_t least, size_t *number)
{
    PyObject *value = get(attributes, name);
    const bool read = value != NULL && read_size(value, least, number);
    Py_XDECREF(value);
    return read;
}

/* Reads a (height, width), or one number for both. */
static bool read_pair(PyObject *attributes, PyObject *name, Py_ssize_t least, struct extent2 *pair)
{
    PyObject *value = get(attributes, name);
    if (value != NULL && PyList_CheckExact(value)) {
        Py_SETREF(value, PyList_AsTuple(value));
    }
    if (value == NULL) {
        PyErr_Clear();
        return false;
    }
    const Py_ssize_t n = PyTuple_CheckExact(value) ? PyTuple_GET_SIZE(value) : 0;
    PyObject *h = n > 0 ? PyTuple_GET_ITEM(value, 0) : value;
    PyObject *w = n > 1 ? PyTuple_GET_ITEM(value, 1) : h;
    bool read = n <= 2 && read_size(h, least, &pair->h);
    pair->w = pair->h;
    read = read && (w == h || read_size(w, least, &pair->w));
    Py_DECREF(value);
    return read;
}

/* What a call keeps alive of a layer: its weights, and their memory. */
struct kept {
    PyObject *weight, *weight_hold, *bias, *bias_hold;
};

/* Sets the weights of a layer, and the sizes that follow from them. Returns false unless they are
 * contiguous arrays of this type that fit each other. */
static bool read_weights(const struct kept *k, int type, int ndim, struct layer *l)
{
    PyArrayObject *w = (PyArrayObject *)k->weight;
    PyArrayObject *b = (PyArrayObject *)k->bias;
    if (w == NULL || b == NULL || !can_read(w, type, ndim, NULL) ||
        !(is_none(b) || can_read(b, type, 1, PyArray_DIMS(w)))) {
        return false;
    }
    l->weight = PyArray_DATA(w);
    l->bias = is_none(b) ? NULL : PyArray_DATA(b);
    l->out = (size_t)PyArray_DIM(w, 0);
    l->in = (size_t)PyArray_DIM(w, 1);
    if (ndim == 4) {
        l->kernel = (struct extent2){(size_t)PyArray_DIM(w, 2), (size_t)PyArray_DIM(w, 3)};
    }
    return true;
}

static bool read_conv2d(PyObject *attributes, struct layer *l)
{
    if (!read_number(attributes, names.groups, 1, &l->groups) ||
        !read_pair(attributes, names.stride, 1, &l->stride) ||
        !read_pair(attributes, names.dilation, 1, &l->dilation) ||
        !is(attributes, names.padding_mode, names.zeros) || l->out == 0 ||
        l->out % l->groups != 0 || !is_valid_size(l->kernel)) {
        return false;
    }
    if (read_pair(attributes, names.padding, 0, &l->before)) {
        l->after = l->before;
        return true;
    }
    l->before = l->after = (struct extent2){0, 0};
    if (is(attributes, names.padding, names.same)) {
        const struct extent2 zeros = {l->dilation.h * (l->kernel.h - 1),
                                      l->dilation.w * (l->kernel.w - 1)};
        l->before = (struct extent2){zeros.h / 2, zeros.w / 2};
        l->after = (struct extent2){zeros.h - l->before.h, zeros.w - l->before.w};
        return l->stride.h == 1 && l->stride.w == 1 && is_valid_padding(l->after);
    }
    return is(attributes, names.padding, names.valid);
}

static bool read_max_pool2d(PyObject *attributes, struct layer *l)
{
    l->ceil_mode = !is(attributes, names.ceil_mode, Py_False);
    return read_pair(attributes, names.kernel_size, 1, &l->kernel) &&
           read_pair(attributes, names.stride, 1, &l->stride) &&
           read_pair(attributes, names.padding, 0, &l->before) &&
           read_pair(attributes, names.dilation, 1, &l->dilation) &&
           is_valid_pool_padding(l->before, l->kernel) &&
           (!l->ceil_mode || is(attributes, names.ceil_mode, Py_True)) &&
           is(attributes, names.return_indices, Py_False);
}

/* The kind of an object; LAYER_KINDS if it is no layer of a network. */
static enum layer_kind kind_of(PyObject *classes, PyObject *layer)
{
    enum layer_kind kind = 0;
    while (kind < LAYER_KINDS && PyTuple_GET_ITEM(classes, kind) != (PyObject *)Py_TYPE(layer)) {
        kind++;
    }
    return kind;
}

/* Reads a layer into l, whose kind is set and whose other members are 0. type is that of all
 * arrays. Without kept weights, it reads what network_fused needs, and the layer must also have no
 * vjp of its own. Returns false if a network cannot run the layer, which may then run on its own.
 */
static bool read_layer(PyObject *layer, const struct kept *k, int type, struct layer *l)
{
    size_t start, end;
    PyObject *attributes = l->kind == LAYER_KINDS ? NULL : PyObject_GenericGetDict(layer, NULL);
    if (attributes == NULL) {
        PyErr_Clear();
        return false;
    }
    bool read = PyDict_GET_SIZE(attributes) == 0 ||
                (PyDict_Contains(attributes, names.forward) == 0 &&
                 (k != NULL || PyDict_Contains(attributes, names.vjp) == 0));
    switch (l->kind) {
    case LAYER_CONV2D:
        read = read && (k == NULL || (read_weights(k, type, 4, l) && read_conv2d(attributes, l)));
        break;
    case LAYER_LINEAR:
        read = read && (k == NULL || read_weights(k, type, 2, l));
        break;
    case LAYER_MAX_POOL2D:
        read = read && read_max_pool2d(attributes, l);
        break;
    case LAYER_FLATTEN:
        read = read && read_number(attributes, names.start_dim, 1, &start) && start == 1 &&
               read_number(attributes, names.end_dim, -1, &end) && end == (size_t)-1;
        break;
    default:
        break;
    }
    PyErr_Clear();
    Py_DECREF(attributes);
    return read;
}

enum { MOST_LAYERS = 32 }; /* of one call */

/* Keeps a weight, and its memory in place: a signal handler could resize it during the call. 0, or
 * -1 with an error set. */
static int keep(PyObject *attributes, PyObject *name, PyObject **weight, PyObject **its_hold)
{
    *weight = get(attributes, name);
    if (*weight != NULL && PyArray_Check(*weight)) {
        *its_hold = hold_memory((PyArrayObject *)*weight);
        return *its_hold == NULL ? -1 : 0;
    }
    return 0;
}

/* Sets the kind of a layer, and keeps its weights. 0, or -1 with an error set. */
static int keep_layer(PyObject *classes, PyObject *layer, struct layer *l, struct kept *k)
{
    *k = (struct kept){NULL};
    *l = (struct layer){.kind = kind_of(classes, layer)};
    if (l->kind != LAYER_CONV2D && l->kind != LAYER_LINEAR) {
        return 0;
    }
    PyObject *attributes = PyObject_GenericGetDict(layer, NULL);
    int status =
        attributes == NULL ? -1 : keep(attributes, names.weight, &k->weight, &k->weight_hold);
    status = status < 0 ? -1 : keep(attributes, names.bias, &k->bias, &k->bias_hold);
    release(attributes);
    return status;
}

/* Runs the layers on an array, (N, C, H, W) or (N, features), up to the first one whose input does
 * not fit. Returns (the number of layers, the output of the last one), or NULL with an error set.
 */
static PyObject *run_fitting(const struct layer *layers, size_t count, PyArrayObject *x)
{
    const npy_intp *in = PyArray_DIMS(x);
    struct shape shape = {PyArray_NDIM(x) == 2, (size_t)in[1], {0, 0}};
    if (!shape.flat) {
        shape.size = (struct extent2){(size_t)in[2], (size_t)in[3]};
    }
    const struct shape first = shape;
    count = network_shape(layers, count, &shape);
    if (count == 0) {
        return Py_BuildValue("iO", 0, Py_None);
    }
    const npy_intp dims[4] = {in[0], (npy_intp)shape.channels, (npy_intp)shape.size.h,
                              (npy_intp)shape.size.w};
    PyArrayObject *out =
        (PyArrayObject *)PyArray_SimpleNew(shape.flat ? 2 : 4, dims, PyArray_TYPE(x));
    if (out == NULL) {
        return NULL;
    }
    struct without_gil released;
    struct cancel_token *token = without_gil_begin(&released, NULL, 0);
    const int status = network_run(compute_type_of(PyArray_TYPE(x)), layers, count, (size_t)in[0],
                                   first, PyArray_DATA(x), PyArray_DATA(out), token);
    if (without_gil_finish(&released, status) < 0) {
        Py_DECREF(out);
        return NULL;
    }
    return Py_BuildValue("nN", (Py_ssize_t)count, out);
}

/* Are these the classes of all kinds, and a list that is not empty? Else an error is set. */
static bool are_layers(PyObject *classes, PyObject *list)
{
    const bool fit = PyTuple_GET_SIZE(classes) == LAYER_KINDS && PyList_GET_SIZE(list) > 0;
    if (!fit) {
        misfit();
    }
    return fit;
}

static PyObject *network_run_layers(PyObject *self, PyObject *args)
{
    PyObject *classes, *list, *object;
    (void)self;
    if (!PyArg_ParseTuple(args, "O!O!O:run_layers", &PyTuple_Type, &classes, &PyList_Type, &list,
                          &object) ||
        !are_layers(classes, list)) {
        return NULL;
    }
    if (!PyArray_CheckExact(object)) {
        return Py_BuildValue("iO", 0, Py_None);
    }
    PyArrayObject *x = (PyArrayObject *)object;
    PyObject *x_hold = hold_memory(x), *result = NULL;
    struct layer layers[MOST_LAYERS];
    struct kept kept[MOST_LAYERS];
    const int most = (int)smaller((size_t)PyList_GET_SIZE(list), MOST_LAYERS);
    int status = x_hold == NULL ? -1 : 0, known = 0, count = 0;
    while (status == 0 && known < most) {
        status = keep_layer(classes, PyList_GET_ITEM(list, known), &layers[known], &kept[known]);
        known++;
    }
    /* Keeping the weights may have run code that changed x. */
    const int type = PyArray_TYPE(x), ndim = PyArray_NDIM(x);
    const bool plain = status == 0 && (type == NPY_FLOAT || type == NPY_DOUBLE) &&
                       (ndim == 2 || ndim == 4) && PyArray_ISCARRAY_RO(x);
    while (plain && count < known &&
           read_layer(PyList_GET_ITEM(list, count), &kept[count], type, &layers[count])) {
        count++;
    }
    if (status == 0) {
        result =
            count > 0 ? run_fitting(layers, (size_t)count, x) : Py_BuildValue("iO", 0, Py_None);
    }
    for (int i = 0; i < known; i++) {
        release(kept[i].weight);
        release(kept[i].weight_hold);
        release(kept[i].bias);
        release(kept[i].bias_hold);
    }
    release(x_hold);
    return result;
}

static PyObject *network_fused_layers(PyObject *self, PyObject *args)
{
    PyObject *classes, *list;
    struct layer layers[MOST_FUSED];
    (void)self;
    if (!PyArg_ParseTuple(args, "O!O!:fused_layers", &PyTuple_Type, &classes, &PyList_Type,
                          &list) ||
        !are_layers(classes, list)) {
        return NULL;
    }
    const size_t count = smaller((size_t)PyList_GET_SIZE(list), MOST_FUSED);
    for (size_t i = 0; i < count; i++) {
        PyObject *layer = PyList_GET_ITEM(list, (Py_ssize_t)i);
        layers[i] = (struct layer){.kind = kind_of(classes, layer)};
        if (!read_layer(layer, NULL, 0, &layers[i])) {
            layers[i].kind = LAYER_KINDS;
        }
    }
    return PyLong_FromSize_t(network_fused(layers, count));
}

PyMethodDef network_methods[] = {
    BY_POSITION(
        "run_layers", network_run_layers, "classes, layers, x",
        "Runs the first layers that it can. Returns (their number, the output of the last)."),
    BY_POSITION("fused_layers", network_fused_layers, "classes, layers",
                "The number of layers, from the first, that one kernel computes together."),
    {0},
};
