/* Reads arguments that are numbers. */
#include "python/args.h"

#include <math.h>

/*
 * Checks a number that C refuses again, by cossim._arguments.integer_argument or, where name is
 * NULL, eps_argument. These raise the error, so each message about numbers exists once, in
 * cossim/_errors.py. They return a number only where the object answers otherwise when it is asked
 * again. New reference, or NULL with an error set.
 */
static PyObject *checked_by_python(const char *function, const char *name, PyObject *object)
{
    PyErr_Clear();
    PyObject *module = PyImport_ImportModule("cossim._arguments"), *number = NULL;
    if (module != NULL) {
        number = name == NULL ? PyObject_CallMethod(module, "eps_argument", "sO", function, object)
                              : PyObject_CallMethod(module, "integer_argument", "ssO", function,
                                                    name, object);
        Py_DECREF(module);
    }
    return number;
}

int integer_argument(const char *function, const char *name, PyObject *object, Py_ssize_t *value)
{
    PyObject *number = PyIndex_Check(object) && !PyBool_Check(object)
                           ? Py_NewRef(object)
                           : checked_by_python(function, name, object);
    if (number == NULL) {
        return -1;
    }
    *value = PyNumber_AsSsize_t(number, NULL); /* NULL clips: far out of range stays out of range */
    Py_DECREF(number);
    /* TypeError: raised by an array of several elements, and by an __index__ that returns no
     * integer. */
    if (*value == -1 && PyErr_Occurred() && PyErr_ExceptionMatches(PyExc_TypeError)) {
        number = checked_by_python(function, name, object);
        *value = number == NULL ? -1 : PyNumber_AsSsize_t(number, NULL);
        Py_XDECREF(number);
    }
    return *value == -1 && PyErr_Occurred() ? -1 : 0;
}

int eps_argument(const char *function, PyObject *object, double *eps)
{
    if (object == NULL) {
        return 0;
    }
    double value = PyFloat_AsDouble(object);
    const bool failed = value == -1.0 && PyErr_Occurred();
    if (failed && !PyErr_ExceptionMatches(PyExc_TypeError) &&
        !PyErr_ExceptionMatches(PyExc_OverflowError)) {
        return -1;
    }
    /* For NaN, >= raises a floating-point exception, which can trap. isgreaterequal does not. */
    if (failed || !isgreaterequal(value, 0.0)) {
        PyObject *number = checked_by_python(function, NULL, object);
        value = number == NULL ? -1.0 : PyFloat_AsDouble(number);
        Py_XDECREF(number);
        if (value == -1.0 && PyErr_Occurred()) {
            return -1;
        }
    }
    *eps = value;
    return 0;
}
