/* The protocols by which objects of other libraries export arrays, and the errors of objects that
 * refuse to. */
#include "arguments/protocols.h"

#include <stdarg.h>

#include "arguments/messages.h"

static PyObject *names[PROTOCOLS];

int protocols_init(void)
{
    static const char *const texts[PROTOCOLS] = {
        [PROTOCOL_ARRAY] = "__array__",
        [PROTOCOL_INTERFACE] = "__array_interface__",
        [PROTOCOL_STRUCT] = "__array_struct__",
        [PROTOCOL_DASK] = "__dask_graph__",
        [PROTOCOL_DLPACK] = "__dlpack__",
        [PROTOCOL_DLPACK_API] = "__dlpack_c_exchange_api__",
        [PROTOCOL_ARROW_ARRAY] = "__arrow_c_array__",
        [PROTOCOL_ARROW_STREAM] = "__arrow_c_stream__",
        [PROTOCOL_SPARSE] = "tocsr",
        [PROTOCOL_PANDAS] = "iloc",
        [PROTOCOL_PATH] = "__fspath__",
        [TENSOR_REQUIRES_GRAD] = "requires_grad",
        [TENSOR_IS_NEG] = "is_neg",
    };
    for (int i = 0; i < PROTOCOLS; i++) {
        if (names[i] == NULL && (names[i] = PyUnicode_InternFromString(texts[i])) == NULL) {
            return -1;
        }
    }
    return 0;
}

PyObject *protocol_name(enum protocol protocol)
{
    return names[protocol];
}

bool type_has(PyObject *object, enum protocol protocol)
{
    /* _PyType_Lookup caches missing attributes too. Unlike PyObject_GetAttr, it makes no
     * AttributeError. Making one would take longer than all other steps of a conversion. */
    return _PyType_Lookup(Py_TYPE(object), names[protocol]) != NULL;
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

/* True if the error that is set is one that objects raise to refuse a conversion. */
static bool is_refusal(bool any_reason)
{
    return PyErr_ExceptionMatches(PyExc_TypeError) || PyErr_ExceptionMatches(PyExc_ValueError) ||
           PyErr_ExceptionMatches(PyExc_BufferError) ||
           /* NotImplementedError is a RuntimeError. */
           (any_reason && (PyErr_ExceptionMatches(PyExc_RuntimeError) ||
                           PyErr_ExceptionMatches(PyExc_ImportError)));
}

void explain_error(const char *function, const char *name, bool any_reason)
{
    OWNED PyObject *type = NULL, *value = NULL, *traceback = NULL;
    if (!is_refusal(any_reason)) {
        return;
    }
    const bool value_error =
        PyErr_ExceptionMatches(PyExc_ValueError) || PyErr_ExceptionMatches(PyExc_BufferError);
    PyErr_Fetch(&type, &value, &traceback);
    PyErr_Format(value_error ? PyExc_ValueError : PyExc_TypeError, NOT_AN_ARRAY, function, name,
                 value == NULL ? Py_None : value);
}

const char *class_name(PyObject *object)
{
    const char *name = Py_TYPE(object)->tp_name, *dot = strrchr(name, '.');
    return dot == NULL ? name : dot + 1;
}

PyObject *error_text(const char *name)
{
    OWNED PyObject *module = PyImport_ImportModule("cossim._errors");
    return module == NULL ? NULL : PyObject_GetAttrString(module, name);
}

void raise_filled(PyObject *exception, const char *template, PyObject *fields)
{
    OWNED PyObject *none = PyTuple_New(0), *text = none == NULL ? NULL : error_text(template);
    OWNED PyObject *method = text == NULL ? NULL : PyObject_GetAttrString(text, "format");
    OWNED PyObject *message = method == NULL ? NULL : PyObject_Call(method, none, fields);
    if (message != NULL) {
        PyErr_SetObject(exception, message);
    }
}

int raise_template(PyObject *exception, const char *template, const char *format, ...)
{
    va_list values;
    va_start(values, format);
    OWNED PyObject *fields = Py_VaBuildValue(format, values);
    va_end(values);
    if (fields != NULL) {
        raise_filled(exception, template, fields);
    }
    return -1;
}

int raise_format(PyObject *exception, const char *format, ...)
{
    va_list values;
    va_start(values, format);
    PyErr_FormatV(exception, format, values);
    va_end(values);
    return -1;
}
