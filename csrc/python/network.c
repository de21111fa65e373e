/*
 * cossim._core.Network: a sequence of layers. A Network checks the arguments of its layers once and
 * runs them in one call. It refers to the arrays of weights, so later writes to them take effect.
 * cossim/nn/sequential.py makes and caches the Network objects.
 */
#include "python/methods.h"
#include "python/messages.h"

#include <stdbool.h>

#include "base/scratch.h"
#include "nn/network.h"
#include "python/args.h"
#include "python/without_gil.h"

struct network {
    PyObject_HEAD
    int type; /* NPY_FLOAT or NPY_DOUBLE, or -1 if no layer has weights */
    Py_ssize_t count;
    struct layer *layers;
    PyArrayObject **weights; /* [count][2]: weight and bias of each layer; both may be NULL */
};

static bool is_plain(PyArrayObject *array, int type)
{
    return PyArray_TYPE(array) == type && PyArray_ISCARRAY_RO(array);
}

static void network_dealloc(PyObject *object)
{
    struct network *self = (struct network *)object;
    PyTypeObject *type = Py_TYPE(object);
    for (Py_ssize_t i = 0; self->weights != NULL && i < 2 * self->count; i++) {
        Py_XDECREF(self->weights[i]);
    }
    scratch_free(self->weights);
    scratch_free(self->layers);
    freefunc free_object = PyType_GetSlot(type, Py_tp_free);
    free_object(object);
    Py_DECREF(type);
}

/* Keeps references to the arrays of layer i. Returns false unless they are contiguous float arrays
 * that have the type of the previous layers. */
static bool keep_weights(struct network *self, Py_ssize_t i, PyObject *weight, PyObject *bias,
                         int ndim)
{
    if (!PyArray_Check(weight) || (bias != Py_None && !PyArray_Check(bias))) {
        return false;
    }
    PyArrayObject *w = (PyArrayObject *)weight, *b = bias == Py_None ? NULL : (PyArrayObject *)bias;
    const int type = PyArray_TYPE(w);
    if ((type != NPY_FLOAT && type != NPY_DOUBLE) || (self->type >= 0 && self->type != type) ||
        !is_plain(w, type) || PyArray_NDIM(w) != ndim ||
        (b != NULL &&
         (!is_plain(b, type) || PyArray_NDIM(b) != 1 || PyArray_DIM(b, 0) != PyArray_DIM(w, 0)))) {
        return false;
    }
    self->type = type;
    self->weights[2 * i] = (PyArrayObject *)Py_NewRef(weight);
    self->weights[2 * i + 1] = (PyArrayObject *)Py_XNewRef((PyObject *)b);
    return true;
}

/*
 * Reads layer i from one of these tuples:
 *
 *     ("conv2d", weight, bias, (stride), (padding before), (padding after), (dilation), groups)
 *     ("linear", weight, bias)
 *     ("max_pool2d", (kernel), (stride), (padding), (dilation), ceil_mode)
 *     ("relu",)
 *     ("flatten",)
 *
 * Returns 1, or 0 if a Network cannot run the layer, or -1 with an error set.
 */
static int read_layer(struct network *self, Py_ssize_t i, PyObject *tuple)
{
    struct layer *l = &self->layers[i];
    PyObject *name, *weight, *bias;
    Py_ssize_t groups;
    int ceil_mode;
    if (!PyTuple_Check(tuple) || PyTuple_Size(tuple) < 1 ||
        !PyUnicode_Check(name = PyTuple_GetItem(tuple, 0))) {
        return 0;
    }
    if (PyUnicode_CompareWithASCIIString(name, "conv2d") == 0) {
        l->kind = LAYER_CONV2D;
        if (!PyArg_ParseTuple(tuple, "OOO(nn)(nn)(nn)(nn)n", &name, &weight, &bias, &l->stride.h,
                              &l->stride.w, &l->before.h, &l->before.w, &l->after.h, &l->after.w,
                              &l->dilation.h, &l->dilation.w, &groups)) {
            return -1;
        }
        if (!keep_weights(self, i, weight, bias, 4)) {
            return 0;
        }
        l->groups = (size_t)groups;
        l->kernel.h = (size_t)PyArray_DIM(self->weights[2 * i], 2);
        l->kernel.w = (size_t)PyArray_DIM(self->weights[2 * i], 3);
        l->out = (size_t)PyArray_DIM(self->weights[2 * i], 0);
        l->in = (size_t)PyArray_DIM(self->weights[2 * i], 1);
        return groups >= 1 && l->out >= 1 && l->out % l->groups == 0 && is_valid_size(l->kernel) &&
               is_valid_size(l->stride) && is_valid_size(l->dilation) &&
               is_valid_padding(l->before) && is_valid_padding(l->after);
    }
    if (PyUnicode_CompareWithASCIIString(name, "linear") == 0) {
        l->kind = LAYER_LINEAR;
        if (!PyArg_ParseTuple(tuple, "OOO", &name, &weight, &bias)) {
            return -1;
        }
        if (!keep_weights(self, i, weight, bias, 2)) {
            return 0;
        }
        l->out = (size_t)PyArray_DIM(self->weights[2 * i], 0);
        l->in = (size_t)PyArray_DIM(self->weights[2 * i], 1);
        return 1;
    }
    if (PyUnicode_CompareWithASCIIString(name, "max_pool2d") == 0) {
        l->kind = LAYER_MAX_POOL2D;
        if (!PyArg_ParseTuple(tuple, "O(nn)(nn)(nn)(nn)p", &name, &l->kernel.h, &l->kernel.w,
                              &l->stride.h, &l->stride.w, &l->before.h, &l->before.w,
                              &l->dilation.h, &l->dilation.w, &ceil_mode)) {
            return -1;
        }
        l->ceil_mode = ceil_mode;
        return is_valid_size(l->kernel) && is_valid_size(l->stride) && is_valid_size(l->dilation) &&
               is_valid_pool_padding(l->before, l->kernel);
    }
    l->kind = PyUnicode_CompareWithASCIIString(name, "relu") == 0 ? LAYER_RELU : LAYER_FLATTEN;
    return l->kind == LAYER_RELU || PyUnicode_CompareWithASCIIString(name, "flatten") == 0;
}

/* Network(layers). Raises ValueError if there are no layers, or if a Network cannot run one of
 * them. That layer may still be valid by itself. */
static PyObject *network_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    PyObject *layers;
    if (kwargs != NULL && PyDict_Size(kwargs) > 0) {
        PyErr_SetString(PyExc_TypeError, NETWORK_NAMES);
        return NULL;
    }
    if (!PyArg_ParseTuple(args, "O!:Network", &PyTuple_Type, &layers)) {
        return NULL;
    }
    allocfunc allocate = PyType_GetSlot(type, Py_tp_alloc);
    struct network *self = (struct network *)allocate(type, 0);
    if (self == NULL) {
        return NULL;
    }
    self->type = -1;
    self->count = PyTuple_Size(layers);
    self->layers = scratch_alloc((size_t)self->count * sizeof *self->layers);
    self->weights = scratch_alloc(2 * (size_t)self->count * sizeof *self->weights);
    if (self->layers == NULL || self->weights == NULL) {
        self->count = 0;
        Py_DECREF(self);
        return PyErr_NoMemory();
    }
    memset(self->layers, 0, (size_t)self->count * sizeof *self->layers);
    memset(self->weights, 0, 2 * (size_t)self->count * sizeof *self->weights);
    for (Py_ssize_t i = 0; i < self->count; i++) {
        const int read = read_layer(self, i, PyTuple_GetItem(layers, i));
        if (read <= 0) {
            if (read == 0) {
                PyErr_SetString(PyExc_ValueError, NETWORK_LAYERS);
            }
            Py_DECREF(self);
            return NULL;
        }
    }
    if (self->count == 0) {
        PyErr_SetString(PyExc_ValueError, NETWORK_LAYERS);
        Py_DECREF(self);
        return NULL;
    }
    return (PyObject *)self;
}

/* Sets the addresses of the weights, which may have changed, in a copy of the layers. Returns false
 * if an array of weights no longer has its type and sizes. */
static bool update_weights(const struct network *self, struct layer *layers)
{
    for (Py_ssize_t i = 0; i < self->count; i++) {
        struct layer *l = &layers[i];
        PyArrayObject *w = self->weights[2 * i], *b = self->weights[2 * i + 1];
        if (w == NULL) {
            continue;
        }
        const int ndim = l->kind == LAYER_CONV2D ? 4 : 2;
        if (!is_plain(w, self->type) || PyArray_NDIM(w) != ndim ||
            (size_t)PyArray_DIM(w, 0) != l->out || (size_t)PyArray_DIM(w, 1) != l->in ||
            (ndim == 4 && ((size_t)PyArray_DIM(w, 2) != l->kernel.h ||
                           (size_t)PyArray_DIM(w, 3) != l->kernel.w)) ||
            (b != NULL && (!is_plain(b, self->type) || PyArray_NDIM(b) != 1 ||
                           (size_t)PyArray_DIM(b, 0) != l->out))) {
            return false;
        }
        l->weight = PyArray_DATA(w);
        l->bias = b == NULL ? NULL : PyArray_DATA(b);
    }
    return true;
}

/* Runs the layers on an array, (N, C, H, W) or (N, features). Returns the output of the last layer,
 * None if the shapes do not fit, or NULL with an error set. */
static PyObject *run_layers(const struct layer *layers, size_t count, PyArrayObject *array)
{
    const npy_intp *in = PyArray_DIMS(array);
    struct shape shape = {PyArray_NDIM(array) == 2, (size_t)in[1], {0, 0}};
    if (!shape.flat) {
        shape.size = (struct extent2){(size_t)in[2], (size_t)in[3]};
    }
    const struct shape first = shape;
    if (!network_shape(layers, count, &shape)) {
        Py_RETURN_NONE;
    }
    const npy_intp dims[4] = {in[0], (npy_intp)shape.channels, (npy_intp)shape.size.h,
                              (npy_intp)shape.size.w};
    PyArrayObject *out =
        (PyArrayObject *)PyArray_SimpleNew(shape.flat ? 2 : 4, dims, PyArray_TYPE(array));
    if (out == NULL) {
        return NULL;
    }
    struct without_gil released;
    without_gil_begin(&released, NULL, 0);
    const int status =
        network_run(PyArray_TYPE(array) == NPY_DOUBLE ? COMPUTE_F64 : COMPUTE_F32, layers, count,
                    (size_t)in[0], first, PyArray_DATA(array), PyArray_DATA(out), &released.token);
    const bool stopped = without_gil_end(&released) < 0;
    if (status < 0 && !stopped) {
        PyErr_NoMemory();
    }
    if (status < 0 || stopped) {
        Py_CLEAR(out);
    }
    return (PyObject *)out;
}

/*
 * Returns a tuple that keeps the memory of x and of all weights in place, because a signal handler
 * could resize them during the call. Returns NULL with an error set.
 */
static PyObject *hold_arrays(const struct network *self, PyArrayObject *x)
{
    PyObject *holds = PyTuple_New(2 * self->count + 1);
    for (Py_ssize_t i = 0; holds != NULL && i <= 2 * self->count; i++) {
        PyArrayObject *array = i < 2 * self->count ? self->weights[i] : x;
        PyObject *hold = array == NULL ? Py_NewRef(Py_None) : hold_memory(array);
        if (hold == NULL) {
            Py_CLEAR(holds);
        } else {
            PyTuple_SET_ITEM(holds, i, hold);
        }
    }
    return holds;
}

/* Network.run(x). Returns None if x is not a plain array of the right type and shape. The caller
 * then runs the layers one by one; they convert x or raise an error. */
static PyObject *network_call(PyObject *object, PyObject *x)
{
    struct network *self = (struct network *)object;
    PyArrayObject *array = (PyArrayObject *)x;
    PyObject *result = NULL;
    if (!PyArray_CheckExact(x) || (PyArray_NDIM(array) != 4 && PyArray_NDIM(array) != 2) ||
        (PyArray_TYPE(array) != NPY_FLOAT && PyArray_TYPE(array) != NPY_DOUBLE) ||
        (self->type >= 0 && PyArray_TYPE(array) != self->type) || !PyArray_ISCARRAY_RO(array)) {
        Py_RETURN_NONE;
    }
    /* Each call uses its own copy of the layers, because calls may be concurrent. The reference to
     * self keeps the weights alive during the call. */
    struct layer few[16],
        *layers = self->count <= 16 ? few : scratch_alloc((size_t)self->count * sizeof *layers);
    if (layers == NULL) {
        return PyErr_NoMemory();
    }
    memcpy(layers, self->layers, (size_t)self->count * sizeof *layers);
    Py_INCREF(self);
    PyObject *holds = hold_arrays(self, array);
    if (holds != NULL) {
        result = update_weights(self, layers) ? run_layers(layers, (size_t)self->count, array)
                                              : Py_NewRef(Py_None);
    }
    release(holds);
    Py_DECREF(self);
    if (layers != few) {
        scratch_free(layers);
    }
    return result;
}

static PyMethodDef methods[] = {
    {"run", network_call, METH_O,
     "run($self, x, /)\n--\n\n"
     "The output of the layers for x. None if x is not a plain array that fits them."},
    {0},
};

static PyType_Slot slots[] = {
    {Py_tp_new, network_new},
    {Py_tp_dealloc, network_dealloc},
    {Py_tp_methods, methods},
    {Py_tp_doc, "Network(layers, /)\n--\n\nA sequence of layers that run in one call."},
    {0, NULL},
};

static PyType_Spec spec = {
    .name = "cossim._core.Network",
    .basicsize = sizeof(struct network),
    .flags = Py_TPFLAGS_DEFAULT,
    .slots = slots,
};

int add_network_type(PyObject *module)
{
    PyObject *type = PyType_FromSpec(&spec);
    if (type == NULL || PyModule_AddObject(module, "Network", type) < 0) {
        Py_XDECREF(type);
        return -1;
    }
    return 0;
}
