#include "arguments/args.h"

#include "arguments/messages.h"
#include "arguments/result_memory.h"

#include <math.h>

/* ---- names and positions ---- */

static int find_name(const struct signature *s, PyObject *name)
{
    for (int i = 0; s->names[i] != NULL; i++) {
        if (PyUnicode_CompareWithASCIIString(name, s->names[i]) == 0) {
            return i;
        }
    }
    return raise_format(PyExc_TypeError, UNEXPECTED_ARGUMENT, s->function, name);
}

int parse_arguments(const struct signature *s, PyObject *const *args, Py_ssize_t nargs,
                    PyObject *kwnames, PyObject **values)
{
    if (nargs > s->positional) {
        return raise_format(PyExc_TypeError, TOO_MANY_ARGUMENTS, s->function, s->positional, nargs);
    }
    for (int i = 0; s->names[i] != NULL; i++) {
        values[i] = i < nargs ? args[i] : NULL;
    }
    const Py_ssize_t keywords = kwnames == NULL ? 0 : PyTuple_GET_SIZE(kwnames);
    for (Py_ssize_t k = 0; k < keywords; k++) {
        int i = find_name(s, PyTuple_GET_ITEM(kwnames, k));
        if (i < 0) {
            return -1;
        }
        if (values[i] != NULL) {
            return raise_format(PyExc_TypeError, REPEATED_ARGUMENT, s->function, s->names[i]);
        }
        values[i] = args[nargs + k];
    }
    for (int i = 0; i < s->required; i++) {
        if (values[i] == NULL) {
            return raise_format(PyExc_TypeError, MISSING_ARGUMENT, s->function, s->names[i]);
        }
    }
    return 0;
}

int one_of_two_names(const char *function, const char *name, PyObject *value,
                     const char *other_name, PyObject *other, PyObject **chosen)
{
    if (value != NULL && other != NULL && other != Py_None) {
        return raise_template(PyExc_TypeError, "TWO_NAMES", "{ss ss ss}", "function", function,
                              "name", name, "other", other_name);
    }
    *chosen = value != NULL || other == Py_None ? value : other;
    return 0;
}

int dim_or_axis(const char *function, PyObject *dim, PyObject *axis, PyObject **chosen)
{
    return one_of_two_names(function, "dim", dim, "axis", axis, chosen);
}

PyObject *axis_error(void)
{
    OWNED PyObject *module = PyImport_ImportModule("numpy.exceptions");
    return module == NULL ? NULL : PyObject_GetAttrString(module, "AxisError");
}

/* ---- numbers ---- */

static int not_an_integer(const char *function, const char *name, const char *wanted,
                          PyObject *object)
{
    return raise_template(PyExc_TypeError, "NOT_AN_INTEGER", "{ss ss sN ss}", "function", function,
                          "name", name, "wanted", error_text(wanted), "kind", class_name(object));
}

int integer_argument_of(const char *function, const char *name, const char *wanted,
                        PyObject *object, Py_ssize_t *value)
{
    if (!PyIndex_Check(object) || PyBool_Check(object)) {
        return not_an_integer(function, name, wanted, object);
    }
    *value = PyNumber_AsSsize_t(object, NULL); /* NULL: clips large integers */
    if (*value == -1 && PyErr_Occurred()) {
        /* TypeError: an array of several elements, or an __index__ that returns no integer. */
        if (PyErr_ExceptionMatches(PyExc_TypeError)) {
            PyErr_Clear();
            not_an_integer(function, name, wanted, object);
        }
        return -1;
    }
    return 0;
}

int integer_argument(const char *function, const char *name, PyObject *object, Py_ssize_t *value)
{
    return integer_argument_of(function, name, "AN_INTEGER", object, value);
}

PyObject *integer_text(PyObject *object)
{
    OWNED PyObject *module = PyImport_ImportModule("cossim._arguments");
    return module == NULL ? NULL : PyObject_CallMethod(module, "integer_text", "(O)", object);
}

int eps_argument(const char *function, PyObject *object, double *eps)
{
    if (object == NULL) {
        return 0;
    }
    double value = PyFloat_AsDouble(object);
    if (value == -1.0 && PyErr_Occurred()) {
        if (PyErr_ExceptionMatches(PyExc_TypeError)) {
            PyErr_Clear();
            raise_template(PyExc_TypeError, "NOT_A_NUMBER", "{ss ss ss}", "function", function,
                           "name", "eps", "kind", class_name(object));
        } else if (PyErr_ExceptionMatches(PyExc_OverflowError)) {
            /* A large integer raises OverflowError. It is too long to show. */
            PyErr_Clear();
            raise_template(PyExc_ValueError, "BEYOND_FLOAT64", "{ss ss}", "function", function,
                           "name", "eps");
        }
        return -1;
    }
    /* For NaN, >= raises a floating-point exception, which can trap. isgreaterequal does not. */
    if (!isgreaterequal(value, 0.0)) {
        return raise_template(PyExc_ValueError, "NEGATIVE_EPS", "{ss sd}", "function", function,
                              "eps", value);
    }
    *eps = value;
    return 0;
}

/* ---- results ---- */

static enum dtype promoted(enum dtype x, enum dtype y)
{
    if (dtypes_compute_type(x, y) == COMPUTE_F64) {
        return DTYPE_F64;
    }
    return x == y ? x : DTYPE_F32; /* neither 16-bit float type holds all values of the other */
}

/* True if the argument has the bfloat16 of ml_dtypes. Only this bfloat16 can be the type of a
 * result. */
static bool is_numpy_bfloat16(const struct array_argument *x)
{
    return x->operand.dtype == DTYPE_BF16 && PyTypeNum_ISUSERDEF(PyArray_TYPE(x->array));
}

static PyArray_Descr *descr_of(enum dtype dtype, const struct array_argument *x,
                               const struct array_argument *y)
{
    switch (dtype) {
    case DTYPE_BF16: {
        PyArray_Descr *descr = PyArray_DESCR(is_numpy_bfloat16(x) ? x->array : y->array);
        Py_INCREF(descr);
        return descr;
    }
    case DTYPE_F16:
        return PyArray_DescrFromType(NPY_HALF);
    case DTYPE_F32:
        return PyArray_DescrFromType(NPY_FLOAT);
    default:
        return PyArray_DescrFromType(NPY_DOUBLE);
    }
}

PyArray_Descr *result_descr(const struct array_argument *x, const struct array_argument *y,
                            enum dtype *dtype)
{
    *dtype = promoted(x->operand.dtype, y == NULL ? x->operand.dtype : y->operand.dtype);
    /* Without ml_dtypes an argument can hold bfloat16, but NumPy has no such type for the result.
     */
    if (*dtype == DTYPE_BF16 && !is_numpy_bfloat16(x) && (y == NULL || !is_numpy_bfloat16(y))) {
        *dtype = DTYPE_F32;
    }
    return descr_of(*dtype, x, y);
}

/* Sets [low, high) to the bytes that hold all elements of an array. */
static void extent(PyArrayObject *array, const char **low, const char **high)
{
    *low = *high = PyArray_BYTES(array);
    if (PyArray_SIZE(array) == 0) {
        return;
    }
    *high += PyArray_ITEMSIZE(array);
    for (int i = 0; i < PyArray_NDIM(array); i++) {
        npy_intp span = PyArray_STRIDE(array, i) * (PyArray_DIM(array, i) - 1);
        *(span < 0 ? low : high) += span;
    }
}

static bool overlap(PyArrayObject *a, PyArrayObject *b)
{
    const char *a_low, *a_high, *b_low, *b_high;
    extent(a, &a_low, &a_high);
    extent(b, &b_low, &b_high);
    return a_low < b_high && b_low < a_high;
}

static bool same_elements(PyArrayObject *a, PyArrayObject *b)
{
    return PyArray_BYTES(a) == PyArray_BYTES(b) && PyArray_NDIM(a) == PyArray_NDIM(b) &&
           PyArray_ITEMSIZE(a) == PyArray_ITEMSIZE(b) &&
           PyArray_CompareLists(PyArray_DIMS(a), PyArray_DIMS(b), PyArray_NDIM(a)) &&
           PyArray_CompareLists(PyArray_STRIDES(a), PyArray_STRIDES(b), PyArray_NDIM(a));
}

static int check_out(const char *function, PyArrayObject *out, int ndim, const npy_intp *shape,
                     const struct array_argument *x, const struct array_argument *y,
                     enum dtype *dtype)
{
    struct array_argument argument = {"out", out, NULL, {0}};
    if (!dtype_of(out, dtype) || !dtype_is_float(*dtype)) {
        return fail(PyExc_TypeError, function, &argument, NULL, OUT_DTYPE);
    }
    if (PyArray_NDIM(out) != ndim ||
        !PyArray_CompareLists(PyArray_DIMS(out), (npy_intp *)shape, ndim)) {
        OWNED PyObject *wanted = PyArray_IntTupleFromIntp(ndim, shape);
        OWNED PyObject *got =
            wanted == NULL ? NULL : PyArray_IntTupleFromIntp(PyArray_NDIM(out), PyArray_DIMS(out));
        return got == NULL ? -1 : fail(PyExc_ValueError, function, x, y, OUT_SHAPE, wanted, got);
    }
    if (!PyArray_ISWRITEABLE(out)) {
        return fail(PyExc_ValueError, function, &argument, NULL, OUT_READ_ONLY);
    }
    return 0;
}

int result_open(const char *function, PyObject *out, int ndim, const npy_intp *shape,
                const struct array_argument *x, const struct array_argument *y, int in_place_ok,
                struct result *result)
{
    result->array = result->target = NULL;
    result->hold = NULL;
    if (out == NULL || out == Py_None) {
        result->array = new_result(result_descr(x, y, &result->dtype), ndim, shape);
        return result->array == NULL ? -1 : 0;
    }
    if (!PyArray_Check(out)) {
        return raise_format(PyExc_TypeError, OUT_TYPE, function, Py_TYPE(out)->tp_name);
    }
    if (is_masked(out)) {
        return raise_format(PyExc_TypeError, OUT_MASKED, function);
    }
    PyArrayObject *target = (PyArrayObject *)out;
    if (check_out(function, target, ndim, shape, x, y, &result->dtype) < 0) {
        return -1;
    }
    bool direct = PyArray_ISALIGNED(target) && !PyArray_ISBYTESWAPPED(target);
    direct =
        direct && (!overlap(target, x->array) || (in_place_ok && same_elements(target, x->array)));
    direct = direct && (y == NULL || !overlap(target, y->array));
    result->hold = hold_memory(target);
    if (result->hold == NULL) {
        return -1;
    }
    if (direct) {
        result->array = (PyArrayObject *)Py_NewRef(out);
    } else {
        result->array =
            new_result(PyArray_DescrNewByteorder(PyArray_DESCR(target), NPY_NATIVE), ndim, shape);
    }
    if (result->array == NULL) {
        Py_CLEAR(result->hold);
        return -1;
    }
    result->target = (PyArrayObject *)Py_NewRef(out);
    return 0;
}

/* Returns a view of bfloat16 elements as uint16: NumPy crashes if memory runs out while it copies a
 * user-defined type. Returns other arrays unchanged. New reference. */
static PyArrayObject *as_bits(PyArrayObject *array)
{
    if (!PyTypeNum_ISUSERDEF(PyArray_TYPE(array))) {
        return (PyArrayObject *)Py_NewRef((PyObject *)array);
    }
    PyArray_Descr *descr = PyArray_DescrFromType(NPY_UINT16);
    return descr == NULL ? NULL : (PyArrayObject *)PyArray_View(array, descr, &PyArray_Type);
}

static int copy_into(PyArrayObject *target, PyArrayObject *source)
{
    OWNED PyArrayObject *to = as_bits(target), *from = to == NULL ? NULL : as_bits(source);
    return from == NULL ? -1 : PyArray_CopyInto(to, from);
}

PyObject *result_finish(struct result *result, int ok)
{
    PyObject *object = NULL;
    if (ok && result->target != NULL) {
        if (result->array == result->target || copy_into(result->target, result->array) == 0) {
            object = Py_NewRef((PyObject *)result->target);
        }
    } else if (ok) {
        object = PyArray_Return(result->array); /* steals the reference */
        result->array = NULL;
    }
    release(result->hold);
    release((PyObject *)result->array);
    release((PyObject *)result->target);
    return object;
}
