/*
 * Runs the layers of a cossim.nn.Sequential, as many as possible in one call of the core. Each call
 * reads the layers from the Python objects again, so every change to a layer takes effect.
 *
 * classes is a tuple of the classes of layers, in the order of enum layer_kind.
 */
#include "python/methods.h"

#include <stdbool.h>
#include <string.h>

#include "base/scratch.h"
#include "network/lanes_grad.h"
#include "network/network.h"
#include "arguments/args.h"
#include "python/without_gil.h"

/* The interned names of the attributes of layers that this file reads. */
static struct {
    PyObject *bias, *ceil_mode, *dilation, *end_dim, *forward, *groups, *kernel_size, *padding;
    PyObject *padding_mode, *return_indices, *start_dim, *stride, *vjp, *weight;
} names;

int network_init(void)
{
    /* in the order of the struct */
    static const char *const texts[] = {"bias",         "ceil_mode",      "dilation",    "end_dim",
                                        "forward",      "groups",         "kernel_size", "padding",
                                        "padding_mode", "return_indices", "start_dim",   "stride",
                                        "vjp",          "weight"};
    PyObject **name = (PyObject **)&names;
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        name[i] = PyUnicode_InternFromString(texts[i]);
        if (name[i] == NULL) {
            return -1;
        }
    }
    return 0;
}

/* Returns an attribute of a layer, borrowed. Returns NULL if there is none, or with an error set.
 * The next lookup can run user code (__eq__ of a key), which can change the layer. */
static PyObject *get(PyObject *attributes, PyObject *name)
{
    return PyDict_GetItemWithError(attributes, name);
}

/* The functions below read a value, which may be NULL. They return false for a value of another
 * kind. They run no user code. */

static bool is_text(PyObject *value, const char *text)
{
    return value != NULL && PyUnicode_CheckExact(value) &&
           PyUnicode_CompareWithASCIIString(value, text) == 0;
}

/* Reads a Python or NumPy integer from `least` to INT_MAX. */
static bool read_size(PyObject *value, Py_ssize_t least, size_t *size)
{
    int overflow = 0;
    long n;
    if (value != NULL && PyLong_CheckExact(value)) {
        n = PyLong_AsLongAndOverflow(value, &overflow);
    } else if (value != NULL && PyArray_CheckAnyScalarExact(value) &&
               PyArray_IsScalar(value, Integer)) {
        n = PyNumber_AsSsize_t(value, NULL);
    } else {
        return false;
    }
    *size = (size_t)n;
    return overflow == 0 && least <= n && n <= INT_MAX;
}

/* Reads a (height, width), or one number for both. */
static bool read_pair(PyObject *value, Py_ssize_t least, struct extent2 *pair)
{
    PyObject *h = value, *w = value;
    if (value != NULL && (PyTuple_CheckExact(value) || PyList_CheckExact(value))) {
        const Py_ssize_t n = PySequence_Fast_GET_SIZE(value);
        if (n < 1 || n > 2) {
            return false;
        }
        h = PySequence_Fast_GET_ITEM(value, 0);
        w = PySequence_Fast_GET_ITEM(value, n - 1);
    }
    bool read = read_size(h, least, &pair->h);
    pair->w = pair->h;
    return read && (w == h || read_size(w, least, &pair->w));
}

/* References to the weights of a layer, which a call holds. The call reads their shapes later. */
struct kept {
    PyArrayObject *weight, *bias;
    PyObject *weight_hold, *bias_hold; /* see hold_memory: a signal handler could resize weights */
    bool same;                         /* padding="same" */
};

static bool keep_weights(PyObject *attributes, struct kept *k)
{
    k->weight = (PyArrayObject *)Py_XNewRef(get(attributes, names.weight));
    k->bias = (PyArrayObject *)Py_XNewRef(get(attributes, names.bias));
    if (k->bias == NULL || k->weight == NULL || !PyArray_Check(k->weight)) {
        return false;
    }
    k->weight_hold = hold_memory(k->weight);
    if (k->weight_hold == NULL || is_none(k->bias)) {
        return k->weight_hold != NULL;
    }
    k->bias_hold = PyArray_Check(k->bias) ? hold_memory(k->bias) : NULL;
    return k->bias_hold != NULL;
}

static bool read_conv2d(PyObject *attributes, struct layer *l, struct kept *k)
{
    PyObject *padding = get(attributes, names.padding);
    k->same = is_text(padding, "same");
    if (k->same || is_text(padding, "valid")) {
        l->before = (struct extent2){0, 0};
    } else if (!read_pair(padding, 0, &l->before)) {
        return false;
    }
    l->after = l->before;
    return read_size(get(attributes, names.groups), 1, &l->groups) &&
           read_pair(get(attributes, names.stride), 1, &l->stride) &&
           read_pair(get(attributes, names.dilation), 1, &l->dilation) &&
           is_text(get(attributes, names.padding_mode), "zeros") && keep_weights(attributes, k);
}

static bool read_max_pool2d(PyObject *attributes, struct layer *l)
{
    PyObject *ceil_mode = get(attributes, names.ceil_mode);
    l->ceil_mode = ceil_mode == Py_True;
    return (l->ceil_mode || ceil_mode == Py_False) &&
           get(attributes, names.return_indices) == Py_False &&
           read_pair(get(attributes, names.kernel_size), 1, &l->kernel) &&
           read_pair(get(attributes, names.stride), 1, &l->stride) &&
           read_pair(get(attributes, names.padding), 0, &l->before) &&
           read_pair(get(attributes, names.dilation), 1, &l->dilation) &&
           is_valid_pool_padding(l->before, l->kernel);
}

static bool read_flatten(PyObject *attributes)
{
    size_t start, end;
    return read_size(get(attributes, names.start_dim), 1, &start) && start == 1 &&
           read_size(get(attributes, names.end_dim), -1, &end) && end == (size_t)-1;
}

/* Returns the kind of a layer, or LAYER_KINDS for an object that a network cannot run. */
static enum layer_kind kind_of(PyObject *classes, PyObject *layer)
{
    enum layer_kind kind = 0;
    while (kind < LAYER_KINDS && PyTuple_GET_ITEM(classes, kind) != (PyObject *)Py_TYPE(layer)) {
        kind++;
    }
    return kind;
}

/* Reads a layer into *l, and stores references to its weights in *k. If k is NULL, reads only the
 * members that network_fused needs. With `gradients`, a layer object that has its own vjp is not
 * read. Returns false, with or without an error set, if a network cannot run the layer. */
static bool read_layer(PyObject *classes, PyObject *layer, bool gradients, struct layer *l,
                       struct kept *k)
{
    l->kind = kind_of(classes, layer);
    OWNED PyObject *attributes =
        l->kind == LAYER_KINDS ? NULL : PyObject_GenericGetDict(layer, NULL);
    if (attributes == NULL) {
        return false;
    }
    bool read = PyDict_Contains(attributes, names.forward) == 0 &&
                (!gradients || PyDict_Contains(attributes, names.vjp) == 0);
    if (l->kind == LAYER_CONV2D) {
        read = read && (k == NULL || read_conv2d(attributes, l, k));
    } else if (l->kind == LAYER_LINEAR) {
        read = read && (k == NULL || keep_weights(attributes, k));
    } else if (l->kind == LAYER_MAX_POOL2D) {
        read = read && read_max_pool2d(attributes, l);
    } else if (l->kind == LAYER_FLATTEN) {
        read = read && read_flatten(attributes);
    }
    return read;
}

/* Sets the weights of a layer that read_layer has read, and the sizes that follow from the weights.
 * Returns false unless the weights are contiguous arrays of this type that fit each other. */
static bool set_weights(struct layer *l, const struct kept *k, int type)
{
    const bool conv = l->kind == LAYER_CONV2D;
    if (k->weight == NULL) {
        return true;
    }
    if (!can_read(k->weight, type, conv ? 4 : 2, NULL) ||
        !(is_none(k->bias) || can_read(k->bias, type, 1, PyArray_DIMS(k->weight)))) {
        return false;
    }
    const npy_intp *shape = PyArray_DIMS(k->weight);
    l->weight = PyArray_DATA(k->weight);
    l->bias = is_none(k->bias) ? NULL : PyArray_DATA(k->bias);
    l->out = (size_t)shape[0];
    l->in = (size_t)shape[1];
    if (!conv) {
        return true;
    }
    l->kernel = (struct extent2){(size_t)shape[2], (size_t)shape[3]};
    if (l->out == 0 || l->out % l->groups != 0 || !is_valid_size(l->kernel)) {
        return false;
    }
    if (!k->same) {
        return true;
    }
    const struct extent2 zeros = {l->dilation.h * (l->kernel.h - 1),
                                  l->dilation.w * (l->kernel.w - 1)};
    same_padding(zeros, &l->before, &l->after);
    return l->stride.h == 1 && l->stride.w == 1 && is_valid_padding(l->after);
}

/* Returns the shape of one image of an array (N, C, H, W) or (N, features). */
static struct shape shape_of(PyArrayObject *x)
{
    const npy_intp *in = PyArray_DIMS(x);
    struct shape shape = {PyArray_NDIM(x) == 2, (size_t)in[1], {0, 0}};
    if (!shape.flat) {
        shape.size = (struct extent2){(size_t)in[2], (size_t)in[3]};
    }
    return shape;
}

static PyArrayObject *array_of(npy_intp images, const struct shape *shape, int type)
{
    const npy_intp dims[4] = {images, (npy_intp)shape->channels, (npy_intp)shape->size.h,
                              (npy_intp)shape->size.w};
    return (PyArrayObject *)PyArray_SimpleNew(shape->flat ? 2 : 4, dims, type);
}

/* Runs the layers on an array (N, C, H, W) or (N, features), up to the first layer that does not
 * fit its input. Sets *count to the number of layers that ran. Returns the output of the last one.
 * Returns NULL if none ran, or with an error set. */
static PyObject *run_fitting(const struct layer *layers, size_t *count, PyArrayObject *x)
{
    const npy_intp *in = PyArray_DIMS(x);
    const struct shape first = shape_of(x);
    struct shape shape = first;
    *count = network_shape(layers, *count, &shape);
    if (*count == 0) {
        return NULL;
    }
    PyArrayObject *out = array_of(in[0], &shape, PyArray_TYPE(x));
    if (out == NULL || PyArray_SIZE(out) == 0) { /* an empty array: its other sizes may be huge */
        return (PyObject *)out;
    }
    struct without_gil released;
    struct cancel_token *token = without_gil_begin(&released, NULL, 0);
    const int status = network_run(compute_type_of(PyArray_TYPE(x)), layers, *count, (size_t)in[0],
                                   first, PyArray_DATA(x), PyArray_DATA(out), token);
    if (without_gil_finish(&released, status) < 0) {
        Py_CLEAR(out);
    }
    return (PyObject *)out;
}

/* Converts x to an array that layers can read in place. Returns NULL without an error if the first
 * layer must convert x itself, or must refuse it with a message that names the layer. */
static PyArrayObject *plain_array(struct array_argument *argument, PyObject *x)
{
    if (array_argument("Sequential", "x", x, argument) < 0) {
        if (PyErr_ExceptionMatches(PyExc_TypeError) || PyErr_ExceptionMatches(PyExc_ValueError)) {
            PyErr_Clear();
        }
        return NULL;
    }
    PyArrayObject *array = argument->array;
    const int type = float_type(array), ndim = PyArray_NDIM(array);
    if (type < 0 || (ndim != 2 && ndim != 4)) {
        return NULL;
    }
    if (can_read(array, type, ndim, NULL)) {
        return (PyArrayObject *)Py_NewRef((PyObject *)array);
    }
    return (PyArrayObject *)PyArray_FROM_OTF((PyObject *)array, type,
                                             NPY_ARRAY_CARRAY_RO | NPY_ARRAY_ENSUREARRAY);
}

/* The layers that one call has read from a tuple. */
struct layers_read {
    struct layer layers[MOST_LAYERS];
    struct kept kept[MOST_LAYERS];
    size_t known, begun; /* number of layers that a network can run; number of entries of kept */
};

static void release_layers(struct layers_read *r)
{
    for (size_t i = 0; i < r->begun; i++) {
        release((PyObject *)r->kept[i].weight);
        release((PyObject *)r->kept[i].bias);
        release(r->kept[i].weight_hold);
        release(r->kept[i].bias_hold);
    }
    r->begun = 0;
}

/* Reads layers from layers[start] on, then x. Sets *count to the number of layers whose parameters
 * have the type of x. Returns x as an array that layers can read in place, or NULL, with or without
 * an error set, if that is not possible. Release the layers and the argument in both cases. */
static PyArrayObject *read_layers(PyObject *classes, PyObject *layers, Py_ssize_t start,
                                  PyObject *object, bool gradients, struct layers_read *r,
                                  struct array_argument *x, size_t *count)
{
    const size_t most = smaller((size_t)(PyTuple_GET_SIZE(layers) - start), MOST_LAYERS);
    r->known = r->begun = 0;
    while (r->begun < most) {
        PyObject *layer = PyTuple_GET_ITEM(layers, start + (Py_ssize_t)r->begun);
        r->kept[r->begun] = (struct kept){0};
        r->begun++;
        if (!read_layer(classes, layer, gradients, &r->layers[r->known], &r->kept[r->known])) {
            break;
        }
        r->known++;
    }
    *count = 0;
    if (r->known == 0 || PyErr_Occurred()) {
        return NULL;
    }
    /* The shapes of x and of the weights are read after all user code has run. */
    PyArrayObject *array = plain_array(x, object);
    while (array != NULL && *count < r->known &&
           set_weights(&r->layers[*count], &r->kept[*count], PyArray_TYPE(array))) {
        ++*count;
    }
    return array;
}

/* Runs layers from layers[start] on, as many as one call of the core can. Sets *count to the number
 * of layers that ran. Returns the output of the last one. Returns NULL if none ran, or with an
 * error set. */
static PyObject *run_known(PyObject *classes, PyObject *layers, Py_ssize_t start, PyObject *object,
                           size_t *count)
{
    struct layers_read read;
    CLOSED_BY(array_release) struct array_argument x = {0};
    OWNED PyArrayObject *array =
        read_layers(classes, layers, start, object, false, &read, &x, count);
    PyObject *result = array == NULL ? NULL : run_fitting(read.layers, count, array);
    release_layers(&read);
    return result;
}

static PyObject *network_run_layers(PyObject *Py_UNUSED(self), PyObject *args)
{
    PyObject *classes, *run_alone, *layer_names, *layers, *x;
    if (!PyArg_ParseTuple(args, "O!OO!O!O:run_layers", &PyTuple_Type, &classes, &run_alone,
                          &PyTuple_Type, &layer_names, &PyTuple_Type, &layers, &x) ||
        PyTuple_GET_SIZE(classes) != LAYER_KINDS ||
        PyTuple_GET_SIZE(layer_names) != PyTuple_GET_SIZE(layers)) {
        return misfit();
    }
    Py_INCREF(x);
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(layers);) {
        size_t count = 1;
        PyObject *y = run_known(classes, layers, i, x, &count);
        if (y == NULL && !PyErr_Occurred()) {
            y = PyObject_CallFunctionObjArgs(run_alone, PyTuple_GET_ITEM(layer_names, i),
                                             PyTuple_GET_ITEM(layers, i), x, NULL);
            count = 1;
        }
        release(x);
        if (y == NULL) {
            return NULL;
        }
        x = y;
        i += (Py_ssize_t)count;
    }
    return x;
}

static PyObject *network_fused_layers(PyObject *Py_UNUSED(self), PyObject *args)
{
    PyObject *classes, *layers;
    struct layer read[MOST_FUSED];
    if (!PyArg_ParseTuple(args, "O!O!:fused_layers", &PyTuple_Type, &classes, &PyTuple_Type,
                          &layers) ||
        PyTuple_GET_SIZE(classes) != LAYER_KINDS || PyTuple_GET_SIZE(layers) == 0) {
        return misfit();
    }
    const size_t most = smaller((size_t)PyTuple_GET_SIZE(layers), MOST_FUSED);
    size_t known = 0;
    while (known < most && read_layer(classes, PyTuple_GET_ITEM(layers, (Py_ssize_t)known), true,
                                      &read[known], NULL)) {
        known++;
    }
    if (PyErr_Occurred()) {
        return NULL;
    }
    return PyLong_FromSize_t(known == 0 ? 1 : network_fused(read, known));
}

/* ---- gradients with lanes across images ---- */

/* A forward pass and the parameters of its layers, for any number of backward passes. */
struct tape {
    struct lanes_tape tape;
    struct layers_read read;
    struct shape in, out; /* shapes of one image */
    size_t count;         /* layers */
    int type;             /* NumPy's number of the dtype */
};

static const char *const tape_name = "cossim._core.tape";

static void tape_free(PyObject *capsule)
{
    struct tape *t = PyCapsule_GetPointer(capsule, tape_name);
    lanes_tape_free(&t->tape);
    release_layers(&t->read);
    scratch_free(t);
}

/* Runs the layers that fit the array, if the batch is large enough for lanes across images, and
 * fills the other members of t. Returns the output, or NULL with or without an error set. */
static PyObject *run_forward(struct tape *t, PyArrayObject *x)
{
    const size_t images = (size_t)PyArray_DIM(x, 0);
    const enum compute_type compute = compute_type_of(PyArray_TYPE(x));
    t->in = t->out = shape_of(x);
    t->count = network_shape(t->read.layers, t->count, &t->out);
    t->type = PyArray_TYPE(x);
    if (PyArray_SIZE(x) == 0 || t->count == 0 ||
        !lanes_apply(compute, t->read.layers, t->count, images, t->in)) {
        return NULL;
    }
    PyArrayObject *out = array_of(PyArray_DIM(x, 0), &t->out, t->type);
    if (out == NULL) {
        return NULL;
    }
    struct without_gil released;
    struct cancel_token *token = without_gil_begin(&released, NULL, 0);
    int status = lanes_tape_alloc(&t->tape, compute, t->read.layers, t->count, images, t->in);
    if (status == 0) {
        status = lanes_forward(&t->tape, PyArray_DATA(x), PyArray_DATA(out), token);
    }
    if (without_gil_finish(&released, status) < 0) {
        Py_CLEAR(out);
    }
    return (PyObject *)out;
}

static PyObject *network_forward_layers(PyObject *Py_UNUSED(self), PyObject *args)
{
    PyObject *classes, *layers, *object, *capsule = NULL;
    CLOSED_BY(array_release) struct array_argument x = {0};
    if (!PyArg_ParseTuple(args, "O!O!O:forward_layers", &PyTuple_Type, &classes, &PyTuple_Type,
                          &layers, &object) ||
        PyTuple_GET_SIZE(classes) != LAYER_KINDS || PyTuple_GET_SIZE(layers) == 0) {
        return misfit();
    }
    struct tape *t = scratch_alloc(sizeof *t);
    if (t == NULL) {
        return PyErr_NoMemory();
    }
    memset(&t->tape, 0, sizeof t->tape);
    OWNED PyArrayObject *array =
        read_layers(classes, layers, 0, object, true, &t->read, &x, &t->count);
    PyObject *y = array == NULL ? NULL : run_forward(t, array);
    const Py_ssize_t together = (Py_ssize_t)larger(t->count, 1);
    if (y != NULL) {
        capsule = PyCapsule_New(t, tape_name, tape_free);
    }
    if (capsule == NULL) {
        lanes_tape_free(&t->tape);
        release_layers(&t->read);
        scratch_free(t);
        release(y);
        return PyErr_Occurred() ? NULL : Py_BuildValue("OnO", Py_None, together, Py_None);
    }
    return Py_BuildValue("NnN", y, together, capsule);
}

/* Makes the arrays of the gradients: a tuple (weight, bias or None) for each layer with parameters.
 * Returns NULL with an error set. */
static PyObject *gradient_arrays(const struct tape *t, struct lanes_gradients *g)
{
    PyObject *list = PyList_New(0);
    for (size_t i = 0; list != NULL && i < t->count; i++) {
        const struct kept *k = &t->read.kept[i];
        if (k->weight == NULL) {
            continue;
        }
        const struct layer *l = &t->read.layers[i];
        const npy_intp shape[4] = {(npy_intp)l->out, (npy_intp)l->in, (npy_intp)l->kernel.h,
                                   (npy_intp)l->kernel.w};
        const int ndim = l->kind == LAYER_CONV2D ? 4 : 2;
        OWNED PyArrayObject *weight = (PyArrayObject *)PyArray_SimpleNew(ndim, shape, t->type),
                            *bias = (PyArrayObject *)(l->bias == NULL
                                                          ? Py_NewRef(Py_None)
                                                          : PyArray_SimpleNew(1, shape, t->type));
        OWNED PyObject *pair =
            weight == NULL || bias == NULL ? NULL : PyTuple_Pack(2, weight, bias);
        if (pair == NULL || PyList_Append(list, pair) < 0) {
            Py_CLEAR(list);
        } else {
            g->weights[i] = PyArray_DATA(weight);
            g->biases[i] = is_none(bias) ? NULL : PyArray_DATA(bias);
        }
    }
    return list;
}

static PyObject *network_backward_layers(PyObject *Py_UNUSED(self), PyObject *args)
{
    PyObject *capsule, *input = NULL;
    PyArrayObject *dy;
    int input_wanted;
    if (!PyArg_ParseTuple(args, "OO!p:backward_layers", &capsule, &PyArray_Type, &dy,
                          &input_wanted)) {
        return NULL;
    }
    const struct tape *t = PyCapsule_GetPointer(capsule, tape_name);
    if (t == NULL) {
        return NULL;
    }
    const npy_intp images = (npy_intp)t->tape.plan.images;
    const npy_intp dims[4] = {images, (npy_intp)t->out.channels, (npy_intp)t->out.size.h,
                              (npy_intp)t->out.size.w};
    if (!can_read(dy, t->type, t->out.flat ? 2 : 4, dims)) {
        return misfit();
    }
    struct lanes_gradients g = {.output = PyArray_DATA(dy)};
    PyObject *parameters = gradient_arrays(t, &g);
    input = parameters == NULL ? NULL
            : input_wanted     ? (PyObject *)array_of(images, &t->in, t->type)
                               : Py_NewRef(Py_None);
    if (input == NULL) {
        release(parameters);
        return NULL;
    }
    g.input = input_wanted ? PyArray_DATA((PyArrayObject *)input) : NULL;
    struct without_gil released;
    struct cancel_token *token = without_gil_begin(&released, NULL, 0);
    const int status = lanes_backward(&t->tape, &g, token);
    return finished_two(input, parameters, without_gil_finish(&released, status));
}

PyMethodDef network_methods[] = {
    BY_POSITION("run_layers", network_run_layers, "classes, run_alone, names, layers, x",
                "Passes x through the layers, as many in one call of the core as it can. It calls\n"
                "run_alone(name, layer, x) for any other layer."),
    BY_POSITION("fused_layers", network_fused_layers, "classes, layers",
                "The number of layers, from the first, that one kernel computes together."),
    BY_POSITION("forward_layers", network_forward_layers, "classes, layers, x",
                "Passes x through the first layers and keeps what their gradients need. Returns\n"
                "(result, number of layers, tape). Where run_layers goes image by image through\n"
                "these layers, the result and the tape are None."),
    BY_POSITION("backward_layers", network_backward_layers, "tape, dy, input_gradient",
                "Returns the gradient of x, or None, and a list of the gradients (weight, bias)\n"
                "of the layers that have parameters."),
    {0},
};
