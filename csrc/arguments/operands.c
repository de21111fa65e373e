/* Array arguments: converts them, finds their element types and keeps their memory in place. */
#include "arguments/operands.h"

#include <stdarg.h>

#include "arguments/arrow.h"
#include "arguments/dlpack.h"
#include "arguments/messages.h"

/* True for the bfloat16 of ml_dtypes, which is recognised by its name because the package may be
 * missing, and for the structured type of bfloat16_descr. */
static bool is_bfloat16(PyArray_Descr *descr)
{
    const char *name = strrchr(descr->typeobj->tp_name, '.');
    if (PyTypeNum_ISUSERDEF(descr->type_num)) {
        return strcmp(name == NULL ? descr->typeobj->tp_name : name + 1, "bfloat16") == 0;
    }
    PyObject *names = PyDataType_NAMES(descr), *fields = PyDataType_FIELDS(descr), *field;
    if (names == NULL || PyTuple_GET_SIZE(names) != 1 ||
        PyUnicode_CompareWithASCIIString(PyTuple_GET_ITEM(names, 0), "bfloat16") != 0) {
        return false;
    }
    field = PyDict_GetItem(fields, PyTuple_GET_ITEM(names, 0));
    PyArray_Descr *type = (PyArray_Descr *)PyTuple_GET_ITEM(field, 0);
    return type->type_num == NPY_USHORT && PyArray_ISNBO(type->byteorder);
}

bool dtype_of(PyArrayObject *array, enum dtype *dtype)
{
    static const char kinds[] = "fiub"; /* NumPy's letters of kinds, in the order of the rows */
    static const enum dtype dtypes[][9] = {
        {[2] = DTYPE_F16, [4] = DTYPE_F32, [8] = DTYPE_F64},
        {[1] = DTYPE_I8, [2] = DTYPE_I16, [4] = DTYPE_I32, [8] = DTYPE_I64},
        {[1] = DTYPE_U8, [2] = DTYPE_U16, [4] = DTYPE_U32, [8] = DTYPE_U64},
        {[1] = DTYPE_U8},
    };
    PyArray_Descr *descr = PyArray_DESCR(array);
    const npy_intp size = PyArray_ITEMSIZE(array);
    if (PyTypeNum_ISUSERDEF(descr->type_num) || descr->kind == 'V') {
        *dtype = DTYPE_BF16;
        return size == 2 && is_bfloat16(descr);
    }
    const char *kind = descr->kind == '\0' ? NULL : strchr(kinds, descr->kind);
    if (kind == NULL || size > 8) {
        return false;
    }
    *dtype = dtypes[kind - kinds][size];
    return true;
}

/* Returns "name: shape (2, 3), dtype float32", or "" for NULL. */
static PyObject *describe(const struct array_argument *argument)
{
    if (argument == NULL) {
        return PyUnicode_FromString("");
    }
    OWNED PyObject *shape =
        PyArray_IntTupleFromIntp(PyArray_NDIM(argument->array), PyArray_DIMS(argument->array));
    return shape == NULL
               ? NULL
               : PyUnicode_FromFormat(ARRAY, argument->name, shape, PyArray_DESCR(argument->array));
}

int fail(PyObject *exception, const char *function, const struct array_argument *x,
         const struct array_argument *y, const char *format, ...)
{
    va_list arguments;
    if (exception == NULL) {
        return -1;
    }
    va_start(arguments, format);
    OWNED PyObject *message = PyUnicode_FromFormatV(format, arguments);
    va_end(arguments);
    /* Each step runs only if the previous one succeeded, because no Python code may run with an
     * error set. */
    OWNED PyObject *of_x = message == NULL ? NULL : describe(x);
    OWNED PyObject *of_y = of_x == NULL ? NULL : describe(y);
    if (of_y != NULL) {
        PyErr_Format(exception, FAILURE, function, message, of_x, y == NULL ? "" : "; ", of_y);
    }
    return -1;
}

PyObject *misfit(void)
{
    if (!PyErr_Occurred()) {
        PyErr_SetString(PyExc_ValueError, MISFIT);
    }
    return NULL;
}

int misfit_status(void)
{
    misfit();
    return -1;
}

int no_memory_status(void)
{
    PyErr_NoMemory();
    return -1;
}

/* Raises the error that cossim._arguments.unreadable returns for an object. Returns false, without
 * an error, if that function finds nothing wrong. */
static bool raise_mistake(const char *function, const char *name, PyObject *object)
{
    OWNED PyObject *module = PyImport_ImportModule("cossim._arguments");
    OWNED PyObject *mistake =
        module == NULL ? NULL
                       : PyObject_CallMethod(module, "unreadable", "ssO", function, name, object);
    if (mistake != NULL && mistake != Py_None) {
        PyErr_SetObject((PyObject *)Py_TYPE(mistake), mistake);
    }
    return mistake != Py_None;
}

/* If the error that is set refuses a conversion, replaces it by an error that says what is wrong
 * with the object. If nothing is known to be wrong, explains the error as explain_error does. */
static void explain_refusal(const char *function, const char *name, PyObject *object,
                            bool any_reason)
{
    OWNED PyObject *type = NULL, *value = NULL, *traceback = NULL;
    if (!PyErr_ExceptionMatches(PyExc_Exception) || PyErr_ExceptionMatches(PyExc_MemoryError)) {
        return;
    }
    PyErr_Fetch(&type, &value, &traceback);
    if (!raise_mistake(function, name, object)) {
        PyErr_Restore(Py_XNewRef(type), Py_XNewRef(value), Py_XNewRef(traceback));
        explain_error(function, name, any_reason);
    }
}

int is_lazy(PyObject *object)
{
    if (PyArray_CheckExact(object) || !type_has(object, PROTOCOL_DASK)) {
        return 0;
    }
    /* Containers whose arrays are in memory, for example those of xarray, return None. */
    OWNED PyObject *graph = PyObject_CallMethod(object, "__dask_graph__", NULL);
    PyErr_Clear();
    return graph != NULL && graph != Py_None;
}

PyObject *call_found(PyObject *module, const char *finder, const char *function,
                     PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    OWNED PyObject *found = PyObject_CallMethod(module, finder, "s", function);
    return found == NULL ? NULL : PyObject_Vectorcall(found, args, (size_t)nargs, kwnames);
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

/* Returns whether the object or its class has __array_interface__ or __array_struct__, which expose
 * the address of its memory. */
static bool has_interface(PyObject *object)
{
    if (type_has(object, PROTOCOL_INTERFACE) || type_has(object, PROTOCOL_STRUCT)) {
        return true;
    }
    /* NumPy also reads these attributes from the object itself. */
    OWNED PyObject *dict = PyObject_GenericGetDict(object, NULL);
    const bool found =
        dict != NULL && (PyDict_Contains(dict, protocol_name(PROTOCOL_INTERFACE)) > 0 ||
                         PyDict_Contains(dict, protocol_name(PROTOCOL_STRUCT)) > 0);
    PyErr_Clear();
    return found;
}

/* Returns the last object in an array's chain of bases. This object owns the memory. It can be an
 * array or any other object. Borrowed, never NULL. */
static PyObject *last_base(PyObject *object)
{
    while (PyArray_Check(object) && PyArray_BASE((PyArrayObject *)object) != NULL) {
        object = PyArray_BASE((PyArrayObject *)object);
    }
    return object;
}

PyObject *hold_memory(PyArrayObject *array)
{
    PyObject *owner = last_base((PyObject *)array);
    OWNED PyObject *export = Py_NewRef(Py_None);
    while (!PyArray_Check(owner) && PyObject_CheckBuffer(owner)) {
        PyObject *view = PyMemoryView_FromObject(owner);
        if (view == NULL && PyErr_ExceptionMatches(PyExc_MemoryError)) {
            return NULL;
        }
        if (view == NULL) { /* the buffer is already released or closed */
            PyErr_Clear();
            return Py_NewRef(export);
        }
        Py_SETREF(export, view);
        owner = PyMemoryView_GET_BUFFER(view)->obj;
        if (owner == NULL || !PyArray_Check(owner)) {
            return Py_NewRef(export);
        }
        owner = last_base(owner);
    }
    if (!PyArray_Check(owner)) {
        return Py_NewRef(export);
    }
    OWNED PyObject *weak = PyWeakref_NewRef(owner, NULL);
    /* A tuple keeps the owner alive even if user code releases its memoryview. */
    return weak == NULL || export == Py_None ? Py_XNewRef(weak) : PyTuple_Pack(2, weak, owner);
}

/* Replaces an array made from __array_interface__ by a copy if nothing can keep the owner of its
 * memory from freeing it. Steals the reference. New reference. */
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

static PyArrayObject *as_array(const char *function, const char *name, PyObject *object);

/* as_array, for the functions of cossim/_columns.py. */
static PyObject *as_array_for_columns(PyObject *Py_UNUSED(self), PyObject *args)
{
    const char *function, *name;
    PyObject *object;
    return PyArg_ParseTuple(args, "ssO:as_array", &function, &name, &object)
               ? (PyObject *)as_array(function, name, object)
               : NULL;
}

/* Calls a function of cossim/_columns.py, which gets as_array as an argument because it must not
 * import the module that imports it. New reference, which can be None, or NULL with an error set.
 */
static PyObject *call_columns(const char *method, const char *function, const char *name,
                              PyObject *object)
{
    static PyMethodDef definition = {"as_array", as_array_for_columns, METH_VARARGS, NULL};
    OWNED PyObject *module = PyImport_ImportModule("cossim._columns"),
                   *convert = module == NULL ? NULL : PyCFunction_New(&definition, NULL),
                   *array = convert == NULL ? NULL
                                            : PyObject_CallMethod(module, method, "ssOO", function,
                                                                  name, object, convert);
    const bool fits = array == NULL || array == Py_None || PyArray_Check(array);
    return fits ? Py_XNewRef(array) : misfit();
}

/* Converts an object by NumPy's rules. */
static PyArrayObject *by_numpy(PyObject *object)
{
    const bool interface = has_interface(object);
    PyArrayObject *array = (PyArrayObject *)PyArray_FROM_O(object);
    return array != NULL && interface ? own_memory(array) : array;
}

/* Converts a list or tuple. If NumPy cannot make an array of it, cossim/_columns.py stacks its
 * rows, or raises an error that names the wrong row. */
static PyArrayObject *from_sequence(const char *function, const char *name, PyObject *object)
{
    OWNED PyObject *type = NULL, *value = NULL, *traceback = NULL;
    PyObject *array = PyArray_FROM_O(object);
    if (array != NULL || !PyErr_ExceptionMatches(PyExc_Exception) ||
        PyErr_ExceptionMatches(PyExc_MemoryError)) {
        return (PyArrayObject *)array;
    }
    PyErr_Fetch(&type, &value, &traceback);
    PyObject *stacked = call_columns("from_objects", function, name, object);
    if (stacked == Py_None) {
        Py_CLEAR(stacked);
        PyErr_Restore(Py_XNewRef(type), Py_XNewRef(value), Py_XNewRef(traceback));
        explain_refusal(function, name, object, false);
    }
    return (PyArrayObject *)stacked;
}

/* Converts an object that has __dlpack__. */
static PyArrayObject *from_tensor(const char *function, const char *name, PyObject *object)
{
    OWNED PyObject *type = NULL, *value = NULL, *traceback = NULL;
    PyArrayObject *array = array_from_dlpack_api(function, name, object);
    if (array != NULL || PyErr_Occurred()) {
        return array;
    }
    if (!type_has(object, PROTOCOL_ARRAY)) {
        return array_from_dlpack(function, name, object);
    }
    /* __array__ is tried before __dlpack__ because it refuses more. With __dlpack__, torch exports
     * a tensor with a pending negation without negating its elements. */
    array = by_numpy(object);
    if (array != NULL || !PyErr_ExceptionMatches(PyExc_Exception)) {
        return array;
    }
    const bool type_error = PyErr_ExceptionMatches(PyExc_TypeError);
    PyErr_Fetch(&type, &value, &traceback);
    if (type_error && !requires_grad(object)) { /* for example, because NumPy lacks bfloat16 */
        array = array_from_dlpack(function, name, object);
    }
    const bool refused = PyErr_Occurred() && PyErr_ExceptionMatches(PyExc_ValueError);
    if (array == NULL && (refused || !PyErr_Occurred())) {
        PyErr_Restore(Py_XNewRef(type), Py_XNewRef(value), Py_XNewRef(traceback));
        explain_refusal(function, name, object, true);
    }
    return array;
}

static PyArrayObject *convert(const char *function, const char *name, PyObject *object)
{
    if (PyList_Check(object) || PyTuple_Check(object)) {
        return from_sequence(function, name, object);
    }
    if (PyUnicode_Check(object) || type_has(object, PROTOCOL_PATH)) {
        return (PyArrayObject *)call_columns("from_path", function, name, object);
    }
    if (!PyObject_CheckBuffer(object)) {
        if (type_has(object, PROTOCOL_PANDAS)) {
            return (PyArrayObject *)call_columns("from_pandas", function, name, object);
        }
        if (type_has(object, PROTOCOL_ARROW_ARRAY) || type_has(object, PROTOCOL_ARROW_STREAM)) {
            return array_from_arrow(function, name, object);
        }
        if (type_has(object, PROTOCOL_DLPACK)) {
            return from_tensor(function, name, object);
        }
    }
    PyArrayObject *array = by_numpy(object);
    if (array == NULL) {
        explain_refusal(function, name, object, false);
    }
    return array;
}

/* Stacks the vectors of an array of objects. An array of other objects is returned unchanged; a
 * later check refuses it with its shape. Steals the reference. New reference, or NULL with an error
 * set. */
static PyArrayObject *stack_objects(const char *function, const char *name, PyArrayObject *array)
{
    PyObject *stacked = call_columns("from_objects", function, name, (PyObject *)array);
    if (stacked == Py_None) {
        Py_DECREF(stacked);
        return array;
    }
    Py_DECREF(array);
    return (PyArrayObject *)stacked;
}

/* Converts an object to an array. Returns arrays, subclasses included, unchanged, except that it
 * stacks arrays whose elements are vectors. Reads no other property of the array: array_reread does
 * so after all arguments are converted. New reference, or NULL with an error set. */
static PyArrayObject *as_array(const char *function, const char *name, PyObject *object)
{
    PyArrayObject *array = PyArray_Check(object) ? (PyArrayObject *)Py_NewRef(object)
                                                 : convert(function, name, object);
    if (array != NULL && !PyArray_CheckExact(array) && is_masked((PyObject *)array)) {
        PyErr_Format(PyExc_TypeError, MASKED, function, name, name);
        Py_CLEAR(array);
    }
    return array != NULL && PyArray_TYPE(array) == NPY_OBJECT ? stack_objects(function, name, array)
                                                              : array;
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
    /* NumPy converts a group of arrays, such as an open .npz file, to an array of their names. */
    const bool is_group =
        argument->hold != NULL && PyTypeNum_ISSTRING(PyArray_TYPE(argument->array)) &&
        PyObject_HasAttrString(object, "keys") && raise_mistake(function, name, object);
    if (argument->hold == NULL || is_group || array_reread(function, argument) < 0) {
        array_release(argument);
        return -1;
    }
    return 0;
}

/* Returns the message for an array whose elements are not real numbers. */
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
        if (PyArray_TYPE(argument->array) == NPY_OBJECT &&
            raise_mistake(function, argument->name, (PyObject *)argument->array)) {
            return -1;
        }
        return fail(PyExc_TypeError, function, argument, NULL, not_real(argument->array),
                    argument->name, argument->name);
    }
    operand->data = PyArray_BYTES(argument->array);
    operand->swapped = PyArray_ISBYTESWAPPED(argument->array);
    operand->aligned = PyArray_ISALIGNED(argument->array);
    operand->packed_bits = false;
    return 0;
}

static bool holds_rows(const struct array_argument *x)
{
    return PyArray_NDIM(x->array) == 1 || PyArray_NDIM(x->array) == 2;
}

static npy_intp row_length(const struct array_argument *x)
{
    return PyArray_DIM(x->array, PyArray_NDIM(x->array) - 1);
}

int bits_argument(const char *function, struct array_argument *argument)
{
    if (check_rows(function, argument, NULL) < 0) {
        return -1;
    }
    if (PyArray_TYPE(argument->array) != NPY_UBYTE) {
        return fail(PyExc_TypeError, function, argument, NULL, NOT_BITS, argument->name,
                    argument->name);
    }
    if (row_length(argument) == 0) {
        return fail(PyExc_ValueError, function, argument, NULL, NO_BITS, argument->name);
    }
    if (row_length(argument) > HAMMING_MAX_BYTES) {
        return fail(PyExc_ValueError, function, argument, NULL, TOO_MANY_BITS, argument->name,
                    HAMMING_MAX_BYTES);
    }
    argument->operand.packed_bits = true;
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

PyObject *view_for_numpy(const struct array_argument *argument)
{
    OWNED PyObject *view = array_view(argument);
    if (view == NULL || argument->operand.dtype != DTYPE_BF16 ||
        PyTypeNum_ISUSERDEF(PyArray_TYPE(argument->array))) {
        return Py_XNewRef(view);
    }
    OWNED PyObject *bits =
                       PyArray_View((PyArrayObject *)view, PyArray_DescrFromType(NPY_UINT16), NULL),
                   *wide = bits == NULL ? NULL : PyArray_Cast((PyArrayObject *)bits, NPY_UINT32),
                   *sixteen = wide == NULL ? NULL : PyLong_FromLong(16),
                   *shifted = sixteen == NULL ? NULL : PyNumber_Lshift(wide, sixteen),
                   *array = shifted == NULL
                                ? NULL
                                : PyArray_FROM_O(shifted); /* a scalar if the view is 0-d */
    return array == NULL
               ? NULL
               : PyArray_View((PyArrayObject *)array, PyArray_DescrFromType(NPY_FLOAT), NULL);
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
