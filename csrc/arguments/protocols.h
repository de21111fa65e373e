#pragma once

#include <stdbool.h>

#include "arguments/numpy.h"

/* Attributes of types that show which protocol an object exports arrays by, and attributes of
 * tensors. */
enum protocol {
    PROTOCOL_ARRAY,        /* __array__ */
    PROTOCOL_INTERFACE,    /* __array_interface__ */
    PROTOCOL_STRUCT,       /* __array_struct__ */
    PROTOCOL_DASK,         /* __dask_graph__ */
    PROTOCOL_DLPACK,       /* __dlpack__ */
    PROTOCOL_DLPACK_API,   /* __dlpack_c_exchange_api__ */
    PROTOCOL_ARROW_ARRAY,  /* __arrow_c_array__ */
    PROTOCOL_ARROW_STREAM, /* __arrow_c_stream__ */
    PROTOCOL_SPARSE,       /* tocsr, which SciPy's sparse arrays have */
    PROTOCOL_PANDAS,       /* iloc, which pandas' Series and DataFrames have */
    PROTOCOL_PATH,         /* __fspath__, which paths of os and pathlib have */
    TENSOR_REQUIRES_GRAD,  /* requires_grad */
    TENSOR_IS_NEG,         /* is_neg: true for a tensor with a pending negation of its elements */
    PROTOCOLS,
};

/* Makes the names of the attributes. Returns 0, or -1 with an error set. */
int protocols_init(void);

/* Returns the name of an attribute. Borrowed. */
PyObject *protocol_name(enum protocol protocol);

/* Returns whether the type of the object, or one of its bases, has the attribute. Runs no code of
 * the object. */
bool type_has(PyObject *object, enum protocol protocol);

/* The name of an object's type, without its module. */
const char *class_name(PyObject *object);

/*
 * Drops a reference, which may be NULL. An error that is set is cleared while the object is freed,
 * and set again afterwards: freeing an object can run Python code, which must not start with an
 * error set. For example, the deleter of a DLPack array can be a ctypes callback.
 */
void release(PyObject *object);

/*
 * A variable that owns what it holds: at the end of its scope, however that is left, `function`
 * gets its address. OWNED drops the reference of a pointer to a Python object, which may be NULL.
 * Such variables are set where they are declared. A function returns another reference to their
 * object.
 */
#define CLOSED_BY(function) __attribute__((cleanup(function)))
#define OWNED CLOSED_BY(release_owned)
static inline void release_owned(void *place)
{
    PyObject *object;
    memcpy(&object, place, sizeof object); /* place points to a PyObject * or PyArrayObject * */
    release(object);
}

/*
 * Puts "function(): name cannot be read as an array: " before the message of the error that is set,
 * if objects raise this exception to refuse a conversion: TypeError, ValueError or BufferError.
 * With any_reason, RuntimeError, ImportError and NotImplementedError count too.
 */
void explain_error(const char *function, const char *name, bool any_reason);

/*
 * raise_template and raise_filled raise an error whose text is a template of cossim/_errors.py, for
 * messages that Python code raises too. raise_filled takes a dict of the template's fields.
 * raise_template makes this dict by Py_BuildValue, from `format` and the values after it.
 * raise_format is PyErr_Format. raise_template and raise_format return -1.
 */
int raise_template(PyObject *exception, const char *template, const char *format, ...);
int raise_format(PyObject *exception, const char *format, ...);
void raise_filled(PyObject *exception, const char *template, PyObject *fields);

/* Returns a text of cossim/_errors.py. New reference, or NULL with an error set. */
PyObject *error_text(const char *name);
