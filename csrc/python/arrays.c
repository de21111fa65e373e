/* Converts arguments to arrays, for functions that check everything else in Python. */
#include "python/methods.h"

#include "arguments/args.h"
#include "arguments/messages.h"
#include "results/filter.h"

/*
 * Converts all objects before it reads the memory of any array, because converting one object can
 * run user code that changes another. If `rows` is set, checks the arrays as check_rows does.
 * Returns a tuple of plain arrays that keep the memory in place, or NULL with an error set.
 */
static PyObject *views_of(const char *function, PyObject *names, PyObject *objects, bool rows,
                          struct array_argument *arguments)
{
    const Py_ssize_t n = PyTuple_GET_SIZE(names);
    for (Py_ssize_t i = 0; i < n; i++) {
        const char *name = PyUnicode_AsUTF8(PyTuple_GET_ITEM(names, i));
        if (name == NULL ||
            array_argument(function, name, PyTuple_GET_ITEM(objects, i), &arguments[i]) < 0) {
            return NULL;
        }
    }
    PyObject *views = PyTuple_New(n);
    if (views == NULL) {
        return NULL;
    }
    for (Py_ssize_t i = 0; i < n; i++) {
        const bool valid =
            array_reread(function, &arguments[i]) == 0 &&
            (!rows || (check_rows(function, &arguments[i], NULL) == 0 &&
                       (i == 0 || check_rows(function, &arguments[0], &arguments[i]) == 0)));
        PyObject *view = NULL;
        if (valid) {
            view = rows ? array_view(&arguments[i]) : view_for_numpy(&arguments[i]);
        }
        if (view == NULL) {
            Py_DECREF(views);
            return NULL;
        }
        PyTuple_SET_ITEM(views, i, view);
    }
    return views;
}

/* Reads the arguments (function, names, objects) of as_arrays or as_rows and converts the objects.
 */
static PyObject *convert_all(PyObject *args, const char *format, bool rows)
{
    const char *function;
    PyObject *names, *objects;
    if (!PyArg_ParseTuple(args, format, &function, &PyTuple_Type, &names, &PyTuple_Type,
                          &objects)) {
        return NULL;
    }
    const Py_ssize_t n = PyTuple_GET_SIZE(names);
    if (n != PyTuple_GET_SIZE(objects)) {
        PyErr_Format(PyExc_ValueError, NAMES_OF_OBJECTS, function, n, PyTuple_GET_SIZE(objects));
        return NULL;
    }
    struct array_argument *arguments = PyMem_Calloc((size_t)n, sizeof *arguments);
    if (arguments == NULL) {
        return PyErr_NoMemory();
    }
    PyObject *views = views_of(function, names, objects, rows, arguments);
    for (Py_ssize_t i = 0; i < n; i++) {
        array_release(&arguments[i]);
    }
    PyMem_Free(arguments);
    return views;
}

static PyObject *as_arrays(PyObject *Py_UNUSED(self), PyObject *args)
{
    return convert_all(args, "sO!O!:as_arrays", false);
}

static PyObject *as_rows(PyObject *Py_UNUSED(self), PyObject *args)
{
    return convert_all(args, "sO!O!:as_rows", true);
}

static PyObject *as_array(PyObject *Py_UNUSED(self), PyObject *args)
{
    const char *function, *name;
    PyObject *object;
    struct array_argument argument;
    if (!PyArg_ParseTuple(args, "ssO:as_array", &function, &name, &object) ||
        array_argument(function, name, object, &argument) < 0) {
        return NULL;
    }
    PyObject *view = view_for_numpy(&argument);
    array_release(&argument);
    return view;
}

static PyObject *check_bits(PyObject *Py_UNUSED(self), PyObject *args)
{
    const char *function, *name;
    PyObject *object;
    struct array_argument argument;
    if (!PyArg_ParseTuple(args, "ssO:check_bits", &function, &name, &object) ||
        array_argument(function, name, object, &argument) < 0) {
        return NULL;
    }
    const bool valid =
        check_rows(function, &argument, NULL) == 0 && bits_argument(function, &argument) == 0;
    array_release(&argument);
    return none_or_error(valid ? 0 : -1);
}

/* ---- bitmaps: struct filter of results/filter.h ---- */

/* Returns a bitmap of zeros: shape (words), or (rows, words) with ndim 2. */
static PyArrayObject *new_bitmap(int ndim, npy_intp rows, npy_intp n)
{
    const npy_intp words = n / 64 + (n % 64 != 0);
    npy_intp shape[2] = {rows, words};
    return (PyArrayObject *)PyArray_ZEROS(ndim, shape + (2 - ndim), NPY_UINT64, 0);
}

static PyObject *pack_mask(PyObject *Py_UNUSED(self), PyObject *object)
{
    if (!PyArray_Check(object) || PyArray_TYPE((PyArrayObject *)object) != NPY_BOOL ||
        PyArray_NDIM((PyArrayObject *)object) < 1 || PyArray_NDIM((PyArrayObject *)object) > 2) {
        return misfit();
    }
    PyArrayObject *mask = (PyArrayObject *)PyArray_FROM_OF(object, NPY_ARRAY_CARRAY_RO);
    if (mask == NULL) {
        return NULL;
    }
    const int ndim = PyArray_NDIM(mask);
    const npy_intp rows = ndim == 2 ? PyArray_DIM(mask, 0) : 1, n = PyArray_DIM(mask, ndim - 1);
    PyArrayObject *bitmap = new_bitmap(ndim, rows, n);
    if (bitmap == NULL) {
        Py_DECREF(mask);
        return NULL;
    }
    const unsigned char *from = PyArray_DATA(mask);
    uint64_t *to = PyArray_DATA(bitmap);
    size_t most = 0;
    for (npy_intp row = 0; row < rows; row++) {
        const size_t count = bitmap_of_mask(from + row * n, (size_t)n, to + row * ((n + 63) / 64));
        most = count > most ? count : most;
    }
    Py_DECREF(mask);
    return Py_BuildValue("Nn", bitmap, (Py_ssize_t)most);
}

static PyObject *pack_numbers(PyObject *Py_UNUSED(self), PyObject *args)
{
    PyObject *object;
    Py_ssize_t n;
    if (!PyArg_ParseTuple(args, "On:pack_numbers", &object, &n)) {
        return NULL;
    }
    if (n < 0 || !PyArray_Check(object) || PyArray_TYPE((PyArrayObject *)object) != NPY_INT64 ||
        PyArray_NDIM((PyArrayObject *)object) != 1) {
        return misfit();
    }
    PyArrayObject *numbers = (PyArrayObject *)PyArray_FROM_OF(object, NPY_ARRAY_CARRAY_RO),
                  *bitmap = numbers == NULL ? NULL : new_bitmap(1, 1, n);
    if (bitmap == NULL) {
        Py_XDECREF(numbers);
        return NULL;
    }
    const size_t count = bitmap_of_numbers(PyArray_DATA(numbers), (size_t)PyArray_DIM(numbers, 0),
                                           (size_t)n, PyArray_DATA(bitmap));
    Py_DECREF(numbers);
    if (count == SIZE_MAX) {
        Py_DECREF(bitmap);
        Py_RETURN_NONE;
    }
    return Py_BuildValue("Nn", bitmap, (Py_ssize_t)count);
}

/* Returns a byte bitmap of n bits: a copy of `living`, or None for all, with the bits from `first`
 * on set. Returns NULL with an error set. */
static PyArrayObject *copy_living(PyArrayObject *living, Py_ssize_t first, Py_ssize_t n)
{
    const bool all = (PyObject *)living == Py_None;
    if (first < 0 || n < first || n > PY_SSIZE_T_MAX - 63 ||
        (!all &&
         (!can_read(living, NPY_UBYTE, 1, NULL) || PyArray_DIM(living, 0) < (first + 7) / 8))) {
        misfit();
        return NULL;
    }
    npy_intp size = (n + 63) / 64 * 8;
    PyArrayObject *bits = (PyArrayObject *)PyArray_SimpleNew(1, &size, NPY_UBYTE);
    if (bits != NULL) {
        byte_bitmap_with(all ? NULL : PyArray_DATA(living), all ? 0 : (size_t)first, (size_t)n,
                         PyArray_DATA(bits));
    }
    return bits;
}

static PyObject *living_with(PyObject *Py_UNUSED(self), PyObject *args)
{
    PyArrayObject *living;
    Py_ssize_t first, n;
    return PyArg_ParseTuple(args, "Onn:living_with", &living, &first, &n)
               ? (PyObject *)copy_living(living, first, n)
               : NULL;
}

static PyObject *living_without(PyObject *Py_UNUSED(self), PyObject *args)
{
    PyArrayObject *living, *column, *numbers;
    Py_ssize_t n;
    if (!PyArg_ParseTuple(args, "OnOO:living_without", &living, &n, &column, &numbers)) {
        return NULL;
    }
    const bool places = (PyObject *)column == Py_None;
    if (!can_read(numbers, NPY_INT64, 1, NULL) ||
        (!places && !can_read(column, NPY_INT64, 1, &(npy_intp){n}))) {
        return misfit();
    }
    PyArrayObject *bits = copy_living(living, n, n);
    if (bits != NULL &&
        !byte_bitmap_without(PyArray_DATA(bits), (size_t)n, places ? NULL : PyArray_DATA(column),
                             PyArray_DATA(numbers), (size_t)PyArray_DIM(numbers, 0))) {
        Py_DECREF(bits);
        Py_RETURN_NONE;
    }
    return (PyObject *)bits;
}

PyMethodDef array_methods[] = {
    BY_POSITION(
        "as_array", as_array, "function, name, object",
        "A plain array over the memory of an operand. It keeps that memory in place. Errors name\n"
        "the function and the argument. Without ml_dtypes, bfloat16 is converted to float32."),
    BY_POSITION(
        "as_arrays", as_arrays, "function, names, objects",
        "as_array for several operands: converts all of them before it reads the memory of any."),
    BY_POSITION(
        "as_rows", as_rows, "function, names, objects",
        "as_arrays for operands of shape (N, D), whose rows are vectors of one length, or of\n"
        "shape (D,), which are one vector."),
    BY_POSITION("check_bits", check_bits, "function, name, array",
                "Raises an error, which names the function and the argument, if an array does not\n"
                "hold rows of packed bits."),
    {"pack_mask", pack_mask, METH_O,
     "pack_mask($module, mask, /)\n--\n\n"
     "Packs a mask (N,) or (Q, N). Returns its bitmap (words) or (Q, words), and the largest\n"
     "number of candidates of a row."},
    BY_POSITION("pack_numbers", pack_numbers, "numbers, rows",
                "Returns the bitmap of row numbers, int64, which may repeat, and how many it has.\n"
                "Returns None if a number is not in [0, rows)."),
    BY_POSITION("living_with", living_with, "living, first, rows",
                "A copy of a bitmap of the rows that live, where the rows [first, rows) live too."),
    BY_POSITION(
        "living_without", living_without, "living, rows, column, numbers",
        "A copy without the rows of these numbers. A column has the number of each row; with\n"
        "None it is its place. Returns None if a number has no living row or is there twice."),
    {0},
};
