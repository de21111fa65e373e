/* Arrays over tensors of other libraries, by DLPack (https://dmlc.github.io/dlpack). */
#include "arguments/dlpack.h"

#include <stdatomic.h>

#include "arguments/messages.h"
#include "arguments/protocols.h"

/* ---- the structures of DLPack 1 ---- */

enum { DEVICE_CPU = 1, DEVICE_CUDA_HOST = 3, DEVICE_ROCM_HOST = 11, DEVICE_CUDA_MANAGED = 13 };
enum { TYPE_INT, TYPE_UINT, TYPE_FLOAT, TYPE_OPAQUE, TYPE_BFLOAT, TYPE_COMPLEX, TYPE_BOOL };
enum { FLAG_READ_ONLY = 1 };
enum { MAX_DIMENSIONS = 64 }; /* of NumPy 2. NumPy 1 itself refuses more than 32. */

struct dl_tensor {
    char *data;
    int32_t device_type, device_id;
    int32_t ndim;
    uint8_t type, bits;
    uint16_t lanes;
    const int64_t *shape;
    const int64_t *strides; /* in elements; NULL: contiguous */
    uint64_t byte_offset;
};

struct dl_managed {
    struct dl_tensor tensor;
    void *context;
    void (*deleter)(struct dl_managed *);
};

struct dl_version {
    uint32_t major, minor;
};

struct dl_versioned {
    struct dl_version version;
    void *context;
    void (*deleter)(struct dl_versioned *);
    uint64_t flags;
    struct dl_tensor tensor;
};

/* Stores a new tensor over the object's memory. Returns 0, or -1 with an error set. */
typedef int from_object_function(void *object, struct dl_versioned **tensor);

/* The first members of the table of C functions. */
struct dl_api {
    struct dl_version version;
    const struct dl_api *previous; /* the table of an older version, or NULL */
    void *allocate;
    from_object_function *from_object;
};

/* ---- who owns a tensor ---- */

#define OWNER "cossim.dlpack"
#define OWNER_VERSIONED "cossim.dlpack_versioned"

static void delete_managed(PyObject *owner)
{
    struct dl_managed *managed = PyCapsule_GetPointer(owner, OWNER);
    if (managed->deleter != NULL) {
        managed->deleter(managed);
    }
}

static void delete_versioned(PyObject *owner)
{
    struct dl_versioned *versioned = PyCapsule_GetPointer(owner, OWNER_VERSIONED);
    if (versioned->deleter != NULL) {
        versioned->deleter(versioned);
    }
}

/* ---- from tensors to arrays ---- */

PyArray_Descr *bfloat16_descr(void)
{
    /* Caching is safe: NumPy and this module both support one interpreter only. */
    static _Atomic(PyArray_Descr *) cached;
    PyArray_Descr *descr = atomic_load(&cached);
    if (descr == NULL) {
        OWNED PyObject *module = PyImport_ImportModule("ml_dtypes"), *type = NULL;
        if (module != NULL) {
            type = PyObject_GetAttrString(module, "bfloat16");
        } else if (PyErr_ExceptionMatches(PyExc_ImportError)) {
            PyErr_Clear();
            type = Py_BuildValue("[(ss)]", "bfloat16", "u2");
        }
        if (type != NULL) {
            PyArray_DescrConverter(type, &descr);
        }
        if (descr == NULL) {
            return NULL;
        }
        /* Two threads can get here together. They store equal types and leak one reference. */
        atomic_store(&cached, descr);
    }
    Py_INCREF(descr);
    return descr;
}

/* Returns the type of a tensor's elements. New reference, or NULL with an error set. */
static PyArray_Descr *descr_of(const char *function, const char *name,
                               const struct dl_tensor *tensor)
{
    static const int types[][17] = {
        [TYPE_INT] = {[1] = NPY_INT8, [2] = NPY_INT16, [4] = NPY_INT32, [8] = NPY_INT64},
        [TYPE_UINT] = {[1] = NPY_UINT8, [2] = NPY_UINT16, [4] = NPY_UINT32, [8] = NPY_UINT64},
        [TYPE_FLOAT] = {[2] = NPY_HALF, [4] = NPY_FLOAT, [8] = NPY_DOUBLE},
        [TYPE_COMPLEX] = {[8] = NPY_CFLOAT, [16] = NPY_CDOUBLE},
    };
    const int type = tensor->type, bits = tensor->bits, bytes = bits / 8;
    if (tensor->lanes == 1 && type == TYPE_BFLOAT && bits == 16) {
        return bfloat16_descr();
    }
    if (tensor->lanes == 1 && type == TYPE_BOOL && bits == 8) {
        return PyArray_DescrFromType(NPY_BOOL);
    }
    const bool known = tensor->lanes == 1 && type <= TYPE_COMPLEX && bits % 8 == 0 && bytes <= 16;
    if (!known || types[type][bytes] == 0) { /* a type that NumPy lacks has 0 in the table */
        PyErr_Format(PyExc_TypeError, DLPACK_TYPE, function, name, type, bits, tensor->lanes);
        return NULL;
    }
    return PyArray_DescrFromType(types[type][bytes]);
}

/* Shape and strides in bytes of a tensor. */
struct dl_layout {
    npy_intp shape[MAX_DIMENSIONS], strides[MAX_DIMENSIONS];
    bool empty;
};

/* Returns false if the sizes are negative, or if an element would lie beyond the address space. */
static bool layout_of(const struct dl_tensor *tensor, npy_intp item, struct dl_layout *layout)
{
    npy_intp contiguous = item, extent = 0;
    const int ndim = tensor->ndim;
    if (ndim < 0 || ndim > MAX_DIMENSIONS || (ndim > 0 && tensor->shape == NULL)) {
        return false;
    }
    layout->empty = false;
    for (int i = 0; i < ndim; i++) {
        layout->empty = layout->empty || tensor->shape[i] == 0;
    }
    for (int i = ndim - 1; i >= 0; i--) {
        const int64_t size = tensor->shape[i];
        npy_intp stride = contiguous, span;
        if (size < 0 || (int64_t)(npy_intp)size != size) {
            return false;
        }
        layout->shape[i] = (npy_intp)size;
        layout->strides[i] = 0;
        if (layout->empty || size == 1) {
            continue;
        }
        if (tensor->strides != NULL && __builtin_mul_overflow(tensor->strides[i], item, &stride)) {
            return false;
        }
        if (__builtin_mul_overflow(stride, size - 1, &span) || span == NPY_MIN_INTP ||
            __builtin_add_overflow(extent, span < 0 ? -span : span, &extent) ||
            (tensor->strides == NULL && __builtin_mul_overflow(contiguous, size, &contiguous))) {
            return false;
        }
        layout->strides[i] = stride;
    }
    return layout->empty || tensor->data != NULL;
}

static bool cpu_can_read(const struct dl_tensor *tensor)
{
    const int32_t device = tensor->device_type;
    return device == DEVICE_CPU || device == DEVICE_CUDA_HOST || device == DEVICE_ROCM_HOST ||
           device == DEVICE_CUDA_MANAGED;
}

/* Returns an array over a tensor, or NULL with an error set. Steals the reference to the owner,
 * which may be NULL with an error set. */
static PyArrayObject *array_over(const char *function, const char *name,
                                 const struct dl_tensor *tensor, bool read_only, PyObject *given)
{
    OWNED PyObject *owner = given;
    struct dl_layout layout;
    if (owner == NULL) {
        return NULL;
    }
    if (!cpu_can_read(tensor)) {
        raise_template(PyExc_TypeError, "NEEDS_CPU", "{ss ss sN}", "function", function, "name",
                       name, "device",
                       PyUnicode_FromFormat("DLPack type %d", (int)tensor->device_type));
        return NULL;
    }
    OWNED PyArray_Descr *descr = descr_of(function, name, tensor);
    if (descr == NULL || !layout_of(tensor, PyDataType_ELSIZE(descr), &layout)) {
        if (descr != NULL) {
            PyErr_Format(PyExc_ValueError, DLPACK_MALFORMED, function, name);
        }
        return NULL;
    }
    Py_INCREF(descr);
    PyArrayObject *array = (PyArrayObject *)PyArray_NewFromDescr(
        &PyArray_Type, descr, tensor->ndim, layout.shape, layout.empty ? NULL : layout.strides,
        layout.empty ? NULL : tensor->data + tensor->byte_offset,
        read_only ? 0 : NPY_ARRAY_WRITEABLE, NULL);
    if (array != NULL && !layout.empty && PyArray_SetBaseObject(array, Py_NewRef(owner)) < 0) {
        Py_CLEAR(array);
    }
    return array;
}

static PyArrayObject *array_of_versioned(const char *function, const char *name,
                                         struct dl_versioned *versioned, PyObject *owner)
{
    if (owner != NULL && versioned->version.major != 1) { /* other members may differ */
        PyErr_Format(PyExc_ValueError, DLPACK_VERSION, function, name,
                     (unsigned)versioned->version.major, (unsigned)versioned->version.minor);
        release(owner);
        return NULL;
    }
    return array_over(function, name, &versioned->tensor, versioned->flags & FLAG_READ_ONLY, owner);
}

/* ---- __dlpack__ ---- */

/* Returns object.__dlpack__(max_version=(1, 0)). Exporters before DLPack 1 do not know that keyword
 * and are called without it. */
static PyObject *new_capsule(PyObject *object)
{
    PyObject *const name = protocol_name(PROTOCOL_DLPACK);
    OWNED PyObject *version = Py_BuildValue("(ii)", 1, 0),
                   *keywords = Py_BuildValue("(s)", "max_version");
    if (version == NULL || keywords == NULL) {
        return NULL;
    }
    PyObject *args[] = {object, version},
             *capsule = PyObject_VectorcallMethod(name, args, 1, keywords);
    if (capsule == NULL && PyErr_ExceptionMatches(PyExc_TypeError)) {
        PyErr_Clear();
        capsule = PyObject_CallMethodNoArgs(object, name);
    }
    return capsule;
}

PyArrayObject *array_from_dlpack(const char *function, const char *name, PyObject *object)
{
    OWNED PyObject *capsule = new_capsule(object);
    PyObject *owner;
    if (capsule == NULL) {
        explain_error(function, name, true);
        return NULL;
    }
    if (PyCapsule_IsValid(capsule, "dltensor_versioned")) {
        struct dl_versioned *versioned = PyCapsule_GetPointer(capsule, "dltensor_versioned");
        owner = PyCapsule_New(versioned, OWNER_VERSIONED, delete_versioned);
        if (owner != NULL) {
            PyCapsule_SetName(capsule, "used_dltensor_versioned");
        }
        return array_of_versioned(function, name, versioned, owner);
    }
    if (PyCapsule_IsValid(capsule, "dltensor")) {
        struct dl_managed *managed = PyCapsule_GetPointer(capsule, "dltensor");
        owner = PyCapsule_New(managed, OWNER, delete_managed);
        if (owner != NULL) {
            PyCapsule_SetName(capsule, "used_dltensor");
        }
        return array_over(function, name, &managed->tensor, false, owner);
    }
    PyErr_Format(PyExc_TypeError, DLPACK_CAPSULE, function, name, Py_TYPE(capsule)->tp_name);
    return NULL;
}

/* ---- DLPack's table of C functions ---- */

/* Returns the C function that the object's class itself exports, or NULL without an error. A table
 * that the class inherits is ignored, because a subclass can give its elements another meaning. */
static from_object_function *api_of(PyObject *object)
{
    PyObject *dict = Py_TYPE(object)->tp_dict;
    PyObject *capsule =
        dict == NULL ? NULL : PyDict_GetItemWithError(dict, protocol_name(PROTOCOL_DLPACK_API));
    if (capsule == NULL || !PyCapsule_IsValid(capsule, "dlpack_exchange_api")) {
        PyErr_Clear();
        return NULL;
    }
    const struct dl_api *api = PyCapsule_GetPointer(capsule, "dlpack_exchange_api");
    while (api != NULL && api->version.major != 1) {
        api = api->previous;
    }
    return api == NULL ? NULL : api->from_object;
}

/* Returns the truth value of an object, which may be NULL with an error set. Steals the reference
 * and clears errors. */
static bool is_true(PyObject *value)
{
    const int truth = value == NULL ? 0 : PyObject_IsTrue(value);
    Py_XDECREF(value);
    PyErr_Clear();
    return truth > 0;
}

bool requires_grad(PyObject *object)
{
    return is_true(PyObject_GetAttr(object, protocol_name(TENSOR_REQUIRES_GRAD)));
}

PyArrayObject *array_from_dlpack_api(const char *function, const char *name, PyObject *object)
{
    from_object_function *from_object = api_of(object);
    struct dl_versioned *versioned = NULL;
    if (from_object == NULL || requires_grad(object) ||
        is_true(PyObject_CallMethodNoArgs(object, protocol_name(TENSOR_IS_NEG)))) {
        return NULL;
    }
    if (from_object(object, &versioned) != 0 || versioned == NULL) {
        PyErr_Clear();
        return NULL;
    }
    PyObject *owner = PyCapsule_New(versioned, OWNER_VERSIONED, delete_versioned);
    if (owner == NULL) {
        PyErr_Clear(); /* the deleter can be Python code, which must not start with an error set */
        if (versioned->deleter != NULL) {
            versioned->deleter(versioned);
        }
        PyErr_NoMemory();
        return NULL;
    }
    return array_of_versioned(function, name, versioned, owner);
}
