/* Reads arguments that are numbers. */
#include "python/numbers.h"

#include <math.h>

#include "python/messages.h"

int integer_argument(const char *function, const char *name, PyObject *object, Py_ssize_t *value)
{
    if (!PyIndex_Check(object) || PyBool_Check(object)) {
        PyErr_Format(PyExc_TypeError, NOT_AN_INTEGER, function, name, Py_TYPE(object)->tp_name);
        return -1;
    }
    *value = PyNumber_AsSsize_t(object, NULL); /* NULL: clips large integers */
    if (*value == -1 && PyErr_Occurred()) {
        /* TypeError: an array of several elements, or an __index__ that returns no integer. */
        if (PyErr_ExceptionMatches(PyExc_TypeError)) {
            PyErr_Format(PyExc_TypeError, NOT_AN_INTEGER, function, name, Py_TYPE(object)->tp_name);
        }
        return -1;
    }
    return 0;
}

int eps_argument(const char *function, PyObject *object, double *eps)
{
    if (object == NULL) {
        return 0;
    }
    double value = PyFloat_AsDouble(object);
    if (value == -1.0 && PyErr_Occurred()) {
        if (PyErr_ExceptionMatches(PyExc_TypeError)) {
            PyErr_Format(PyExc_TypeError, EPS_TYPE, function, Py_TYPE(object)->tp_name);
        } else if (PyErr_ExceptionMatches(PyExc_OverflowError)) {
            /* A large integer raises OverflowError. It is too long to show. */
            PyErr_Format(PyExc_ValueError, EPS_BEYOND_FLOAT64, function);
        }
        return -1;
    }
    /* For NaN, >= raises a floating-point exception, which can trap. isgreaterequal does not. */
    if (!isgreaterequal(value, 0.0)) {
        PyObject *number = PyFloat_FromDouble(value); /* %R shows it as Python does */
        if (number != NULL) {
            PyErr_Format(PyExc_ValueError, NEGATIVE_EPS, function, number);
            Py_DECREF(number);
        }
        return -1;
    }
    *eps = value;
    return 0;
}
