/* Array arguments: converts them, finds their element types and keeps their memory in place. */
#include "python/operands.h"

#include <stdarg.h>

#include "python/messages.h"

bool dtype_of(PyArrayObject *array, enum dtype *dtype)
{
    static const enum dtype floats[] = {[2] = DTYPE_F16, [4] = DTYPE_F32, [8] = DTYPE_F64};
    static const enum dtype signed_integers[] = {
        [1] = DTYPE_I8, [2] = DTYPE_I16, [4] = DTYPE_I32, [8] = DTYPE_I64};
    static const enum dtype unsigned_integers[] = {
        [1] = DTYPE_U8, [2] = DTYPE_U16, [4] = DTYPE_U32, [8] = DTYPE_U64};
    PyArray_Descr *descr = PyArray_DESCR(array);
    const npy_intp size = PyArray_ITEMSIZE(array);
    /* bfloat16 is recognised by its name, so that ml_dtypes need not be installed. */
    if (PyTypeNum_ISUSERDEF(descr->type_num)) {
        const char *name = strrchr(descr->typeobj->tp_name, '.');
        *dtype = DTYPE_BF16;
        return size == 2 &&
               strcmp(name == NULL ? descr->typeobj->tp_name : name + 1, "bfloat16") == 0;
    }
    if (size > 8) {
        return false;
    }
    switch (descr->kind) {
    case 'f':
        *dtype = floats[size];
        return true;
    case 'i':
        *dtype = signed_integers[size];
        return true;
    case 'u':
        *dtype = unsigned_integers[size];
        return true;
    case 'b':
        *dtype = DTYPE_U8;
        return true;
    default:
        return false;
    }
}

/* Returns "name: shape (2, 3), dtype float32". */
static PyObject *describe(const struct array_argument *argument)
{
    PyObject *shape =
        PyArray_IntTupleFromIntp(PyArray_NDIM(argument->array), PyArray_DIMS(argument->array));
    PyObject *text = shape == NULL ? NULL
                                   : PyUnicode_FromFormat(ARRAY, argument->name, shape,
                                                          PyArray_DESCR(argument->array));
    Py_XDECREF(shape);
    return text;
}

int fail(PyObject *exception, const char *function, const struct array_argument *x,
         const struct array_argument *y, const char *format, ...)
{
    va_list arguments;
    if (exception == NULL) {
        return -1;
    }
    va_start(arguments, format);
    PyObject *message = PyUnicode_FromFormatV(format, arguments);
    va_end(arguments);
    /* Each step runs only if the previous one succeeded: no Python code may run with an error set.
     */
    PyObject *of_x = message == NULL ? NULL : describe(x);
    PyObject *of_y = of_x == NULL ? NULL : y == NULL ? PyUnicode_FromString("") : describe(y);
    if (of_y != NULL) {
        PyErr_Format(exception, FAILURE, function, message, of_x, y == NULL ? "" : "; ", of_y);
    }
    Py_XDECREF(message);
    Py_XDECREF(of_x);
    Py_XDECREF(of_y);
    return -1;
}

PyObject *misfit(void)
{
    PyErr_SetString(PyExc_ValueError, MISFIT);
    return NULL;
}

void release(PyObject *object)
{
    PyObject *type, *value, *traceback;
    if (object == NULL || !PyErr_Occurred()) {
        Py_XDECREF(object);
        return;
    }
    PyErr_Fetch(&type, &value, &traceback);
    Py_DECREF(object);
    PyErr_Restore(type, value, traceback);
}

/*
 * Puts "function(): name cannot be read as an array: " before the message of the error that is set,
 * if that is a TypeError, ValueError or BufferError. With dlpack, also if it is a RuntimeError,
 * which becomes a TypeError: NumPy's from_dlpack raises RuntimeError for element types that NumPy
 * lacks.
 */
static void explain_error(const char *function, const char *name, bool dlpack)
{
    PyObject *type, *value, *traceback;
    const bool unsupported = dlpack && PyErr_ExceptionMatches(PyExc_RuntimeError);
    if (!unsupported && !PyErr_ExceptionMatches(PyExc_ValueError) &&
        !PyErr_ExceptionMatches(PyExc_TypeError) && !PyErr_ExceptionMatches(PyExc_BufferError)) {
        return;
    }
    const bool type_error = unsupported || PyErr_ExceptionMatches(PyExc_TypeError);
    PyErr_Fetch(&type, &value, &traceback);
    PyErr_Format(type_error ? PyExc_TypeError : PyExc_ValueError, NOT_AN_ARRAY, function, name,
                 value == NULL ? Py_None : value);
    release(type);
    release(value);
    release(traceback);
}

/* The name is interned, because the interpreter's attribute cache would otherwise keep a new string
 * for each call. */
int has_attribute(PyObject *object, const char *name)
{
    PyObject *interned = PyUnicode_InternFromString(name);
    PyObject *attribute =
        interned == NULL ? NULL : PyObject_GetAttr((PyObject *)Py_TYPE(object), interned);
    Py_XDECREF(interned);
    if (attribute == NULL && !PyErr_ExceptionMatches(PyExc_AttributeError)) {
        return -1;
    }
    PyErr_Clear();
    const int found = attribute != NULL;
    Py_XDECREF(attribute);
    return found;
}

int is_lazy(PyObject *object)
{
    if (PyArray_CheckExact(object) || has_attribute(object, "__dask_graph__") <= 0) {
        PyErr_Clear();
        return 0;
    }
    /* The graph is None for a container whose arrays are in memory, for example one of xarray. */
    PyObject *graph = PyObject_CallMethod(object, "__dask_graph__", NULL);
    const int lazy = graph != NULL && graph != Py_None;
    Py_XDECREF(graph);
    PyErr_Clear();
    return lazy;
}

PyObject *call_lazily(PyObject *module, const char *function, PyObject *const *args,
                      Py_ssize_t nargs, PyObject *kwnames)
{
    PyObject *lazy = PyObject_CallMethod(module, "dask_function", "s", function), *result = NULL;
    if (lazy != NULL) {
        result = PyObject_Vectorcall(lazy, args, (size_t)nargs, kwnames);
    }
    Py_XDECREF(lazy);
    return result;
}

static PyObject *from_dlpack(PyObject *object)
{
    PyObject *module = PyImport_ImportModule("cossim._arguments");
    PyObject *array =
        module == NULL ? NULL : PyObject_CallMethod(module, "from_dlpack", "(O)", object);
    Py_XDECREF(module);
    return array;
}

bool is_masked(PyObject *object)
{
    PyObject *types = Py_TYPE(object)->tp_mro;
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(types); i++) {
        if (strcmp(((PyTypeObject *)PyTuple_GET_ITEM(types, i))->tp_name, "MaskedArray") == 0) {
            return true;
        }
    }
    return false;
}

/* Returns 1 if the object supports DLPack, but neither the buffer protocol nor __array__. Returns 0
 * for other objects, or -1 with an error set. */
static int needs_dlpack(PyObject *object)
{
    const int exports = PyObject_CheckBuffer(object) ? 0 : has_attribute(object, "__dlpack__");
    if (exports <= 0) {
        return exports;
    }
    const int has_array = has_attribute(object, "__array__");
    return has_array < 0 ? -1 : !has_array;
}

/* Returns 1 if the object or its class has __array_interface__ or __array_struct__, which expose
 * the address of its memory. Returns 0 if not, or -1 with an error set. */
static int has_interface(PyObject *object)
{
    static const char *const names[] = {"__array_interface__", "__array_struct__"};
    /* NumPy also accepts attributes of the instance. */
    PyObject *dict = PyObject_GenericGetDict(object, NULL);
    int found = 0;
    if (dict == NULL) {
        PyErr_Clear();
    }
    for (size_t i = 0; i < 2 && found == 0; i++) {
        found = has_attribute(object, names[i]);
        if (found == 0 && dict != NULL) {
            PyObject *name = PyUnicode_FromString(names[i]);
            found = name == NULL ? -1 : PyDict_Contains(dict, name);
            Py_XDECREF(name);
        }
    }
    Py_XDECREF(dict);
    return found;
}

/* Returns the last object in an array's chain of bases. It owns the memory, and may be an array or
 * another object. Borrowed, never NULL. */
static PyObject *last_base(PyObject *object)
{
    while (PyArray_Check(object) && PyArray_BASE((PyArrayObject *)object) != NULL) {
        object = PyArray_BASE((PyArrayObject *)object);
    }
    return object;
}

PyObject *hold_memory(PyArrayObject *array)
{
    PyObject *owner = last_base((PyObject *)array), *export = Py_NewRef(Py_None);
    while (!PyArray_Check(owner) && PyObject_CheckBuffer(owner)) {
        PyObject *view = PyMemoryView_FromObject(owner);
        if (view == NULL && PyErr_ExceptionMatches(PyExc_MemoryError)) {
            Py_DECREF(export);
            return NULL;
        }
        if (view == NULL) { /* the buffer is already released or closed */
            PyErr_Clear();
            return export;
        }
        Py_SETREF(export, view);
        owner = PyMemoryView_GET_BUFFER(view)->obj;
        if (owner == NULL || !PyArray_Check(owner)) {
            return export;
        }
        owner = last_base(owner);
    }
    if (!PyArray_Check(owner)) {
        return export;
    }
    PyObject *weak = PyWeakref_NewRef(owner, NULL), *hold = weak;
    if (weak != NULL && export != Py_None) {
        /* The tuple keeps the owner alive even if user code releases its memoryview. */
        hold = PyTuple_Pack(2, weak, owner);
        Py_DECREF(weak);
    }
    Py_DECREF(export);
    return hold;
}

/* Replaces an array made from __array_interface__ by a copy if nothing can keep the owner of its
 * memory from freeing it. Takes the reference and returns a new one. */
static PyArrayObject *own_memory(PyArrayObject *array)
{
    PyObject *owner = last_base((PyObject *)array);
    if (PyArray_Check(owner) || PyObject_CheckBuffer(owner)) {
        return array;
    }
    PyObject *copy = PyArray_NewCopy(array, NPY_KEEPORDER);
    Py_DECREF(array);
    return (PyArrayObject *)copy;
}

static PyArrayObject *convert(const char *function, const char *name, PyObject *object)
{
    const int dlpack = needs_dlpack(object), interface = dlpack != 0 ? 0 : has_interface(object);
    if (dlpack < 0 || interface < 0) {
        return NULL;
    }
    PyArrayObject *array = (PyArrayObject *)(dlpack ? from_dlpack(object) : PyArray_FROM_O(object));
    if (array != NULL && interface) {
        array = own_memory(array);
    }
    if (array == NULL) {
        explain_error(function, name, dlpack);
    }
    return array;
}

/* Converts an object to an array. Returns arrays, subclasses included, unchanged. Reads no property
 * of the array: that must wait until all arguments are converted. New reference, or NULL with an
 * error set. */
static PyArrayObject *as_array(const char *function, const char *name, PyObject *object)
{
    if (PyArray_CheckExact(object)) {
        return (PyArrayObject *)Py_NewRef(object);
    }
    PyArrayObject *array = PyArray_Check(object) ? (PyArrayObject *)Py_NewRef(object)
                                                 : convert(function, name, object);
    if (array != NULL && is_masked((PyObject *)array)) {
        PyErr_Format(PyExc_TypeError, MASKED, function, name, name);
        Py_CLEAR(array);
    }
    return array;
}

int array_argument(const char *function, const char *name, PyObject *object,
                   struct array_argument *argument)
{
    argument->name = name;
    argument->hold = NULL;
    argument->array = as_array(function, name, object);
    if (argument->array == NULL) {
        return -1;
    }
    argument->hold = hold_memory(argument->array);
    if (argument->hold == NULL || array_reread(function, argument) < 0) {
        array_release(argument);
        return -1;
    }
    return 0;
}

/* The message for an array whose elements are not real numbers. */
static const char *not_real(PyArrayObject *array)
{
    switch (PyArray_DESCR(array)->kind) {
    case 'c':
        return COMPLEX;
    case 'O':
        return OBJECTS;
    case 'S':
    case 'U':
        return TEXT;
    default:
        return NOT_REAL;
    }
}

int array_reread(const char *function, struct array_argument *argument)
{
    struct operand *operand = &argument->operand;
    if (!dtype_of(argument->array, &operand->dtype)) {
        return fail(PyExc_TypeError, function, argument, NULL, not_real(argument->array),
                    argument->name, argument->name);
    }
    operand->data = PyArray_BYTES(argument->array);
    operand->swapped = PyArray_ISBYTESWAPPED(argument->array);
    operand->aligned = PyArray_ISALIGNED(argument->array);
    return 0;
}

void array_release(struct array_argument *argument)
{
    PyObject *hold = argument->hold, *array = (PyObject *)argument->array;
    argument->hold = NULL;
    argument->array = NULL;
    release(hold);
    release(array);
}

PyObject *array_view(const struct array_argument *argument)
{
    PyArrayObject *array = argument->array;
    PyArray_Descr *descr = PyArray_DESCR(array);
    Py_INCREF(descr);
    PyObject *view = PyArray_NewFromDescr(
        &PyArray_Type, descr, PyArray_NDIM(array), PyArray_DIMS(array), PyArray_STRIDES(array),
        PyArray_DATA(array), PyArray_FLAGS(array) & NPY_ARRAY_WRITEABLE, NULL);
    PyObject *base = view == NULL ? NULL : PyTuple_Pack(2, array, argument->hold);
    if (base == NULL || PyArray_SetBaseObject((PyArrayObject *)view, base) < 0) {
        Py_CLEAR(view);
    }
    return view;
}

static bool holds_rows(const struct array_argument *x)
{
    return PyArray_NDIM(x->array) == 1 || PyArray_NDIM(x->array) == 2;
}

static npy_intp row_length(const struct array_argument *x)
{
    return PyArray_DIM(x->array, PyArray_NDIM(x->array) - 1);
}

int check_rows(const char *function, const struct array_argument *x, const struct array_argument *y)
{
    if (!holds_rows(x) || (y != NULL && !holds_rows(y))) {
        const char *odd = holds_rows(x) ? y->name : x->name;
        return fail(PyExc_ValueError, function, x, y, NOT_ROWS, odd, odd);
    }
    if (y != NULL && row_length(x) != row_length(y)) {
        return fail(PyExc_ValueError, function, x, y, ROW_LENGTHS, x->name, row_length(x), y->name,
                    row_length(y));
    }
    return 0;
}
