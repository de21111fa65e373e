/* Converts arguments to arrays, for functions that check everything else in Python. */
#include "python/methods.h"

#include "arguments/args.h"
#include "arguments/messages.h"
#include "python/without_gil.h"
#include "results/communities.h"
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
    for (Py_ssize_t i = 0; views != NULL && i < n; i++) {
        const bool valid =
            array_reread(function, &arguments[i]) == 0 &&
            (!rows || (check_rows(function, &arguments[i], NULL) == 0 &&
                       (i == 0 || check_rows(function, &arguments[0], &arguments[i]) == 0)));
        PyObject *view = NULL;
        if (valid) {
            view = rows ? array_view(&arguments[i]) : view_for_numpy(&arguments[i]);
        }
        if (view == NULL) {
            Py_CLEAR(views);
        } else {
            PyTuple_SET_ITEM(views, i, view);
        }
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
    CLOSED_BY(array_release) struct array_argument argument = {0};
    if (!PyArg_ParseTuple(args, "ssO:as_array", &function, &name, &object) ||
        array_argument(function, name, object, &argument) < 0) {
        return NULL;
    }
    return view_for_numpy(&argument);
}

static PyObject *check_bits(PyObject *Py_UNUSED(self), PyObject *args)
{
    const char *function, *name;
    PyObject *object;
    CLOSED_BY(array_release) struct array_argument argument = {0};
    if (!PyArg_ParseTuple(args, "ssO:check_bits", &function, &name, &object) ||
        array_argument(function, name, object, &argument) < 0) {
        return NULL;
    }
    return none_or_error(bits_argument(function, &argument));
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
    OWNED PyArrayObject *mask = (PyArrayObject *)PyArray_FROM_OF(object, NPY_ARRAY_CARRAY_RO);
    if (mask == NULL) {
        return NULL;
    }
    const int ndim = PyArray_NDIM(mask);
    const npy_intp rows = ndim == 2 ? PyArray_DIM(mask, 0) : 1, n = PyArray_DIM(mask, ndim - 1);
    PyArrayObject *bitmap = new_bitmap(ndim, rows, n);
    if (bitmap == NULL) {
        return NULL;
    }
    const unsigned char *from = PyArray_DATA(mask);
    uint64_t *to = PyArray_DATA(bitmap);
    size_t most = 0;
    for (npy_intp row = 0; row < rows; row++) {
        const size_t count = bitmap_of_mask(from + row * n, (size_t)n, to + row * ((n + 63) / 64));
        most = count > most ? count : most;
    }
    return Py_BuildValue("Nn", bitmap, (Py_ssize_t)most);
}

static PyObject *pack_numbers(PyObject *Py_UNUSED(self), PyObject *args)
{
    PyObject *object;
    Py_ssize_t n;
    if (!PyArg_ParseTuple(args, "On:pack_numbers", &object, &n) || n < 0 ||
        !PyArray_Check(object) || PyArray_TYPE((PyArrayObject *)object) != NPY_INT64 ||
        PyArray_NDIM((PyArrayObject *)object) != 1) {
        return misfit();
    }
    OWNED PyArrayObject *numbers = (PyArrayObject *)PyArray_FROM_OF(object, NPY_ARRAY_CARRAY_RO),
                        *bitmap = numbers == NULL ? NULL : new_bitmap(1, 1, n);
    if (bitmap == NULL) {
        return NULL;
    }
    const size_t count = bitmap_of_numbers(PyArray_DATA(numbers), (size_t)PyArray_DIM(numbers, 0),
                                           (size_t)n, PyArray_DATA(bitmap));
    return count == SIZE_MAX ? Py_NewRef(Py_None) : Py_BuildValue("On", bitmap, (Py_ssize_t)count);
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

/* ---- changes of an Index: a State of cossim/search/index_state.py ---- */

/* The positions of the fields of a State that changes replace or read. */
enum state_field {
    STATE_ARRAYS = 0,
    STATE_LIVING = 3,
    STATE_SIZE = 4,
    STATE_GIVEN = 5,
    STATE_ANY = 7
};

/* Larger additions of rows are left to Python's code, which releases the GIL. */
enum { MAX_ROW_BYTES = 1 << 20 };

/* The members of a State that a change reads. The references are borrowed. */
struct index_state {
    PyObject *state, *arrays;
    PyArrayObject *corpus, *living, *numbers; /* living and numbers are None or NULL if all live */
    Py_ssize_t size, given;
};

/* Reads a State. Returns false with an error set if the object is no State. */
static bool read_state(PyObject *object, struct index_state *s)
{
    if (!PyTuple_Check(object) || PyTuple_GET_SIZE(object) <= STATE_ANY) {
        misfit();
        return false;
    }
    s->state = object;
    s->arrays = PyTuple_GET_ITEM(object, STATE_ARRAYS);
    s->living = (PyArrayObject *)PyTuple_GET_ITEM(object, STATE_LIVING);
    s->size = PyLong_AsSsize_t(PyTuple_GET_ITEM(object, STATE_SIZE));
    s->given = PyLong_AsSsize_t(PyTuple_GET_ITEM(object, STATE_GIVEN));
    if (PyErr_Occurred()) {
        return false;
    }
    PyObject *corpus = PyDict_Check(s->arrays) ? PyDict_GetItemString(s->arrays, "corpus") : NULL;
    if (corpus == NULL || !PyArray_Check(corpus) || PyArray_NDIM((PyArrayObject *)corpus) != 2) {
        misfit();
        return false;
    }
    s->corpus = (PyArrayObject *)corpus;
    s->numbers = (PyArrayObject *)PyDict_GetItemString(s->arrays, "numbers");
    return true;
}

/* Returns a State with other arrays, whose references it takes, and other numbers. If `arrays`
 * is NULL, they stay the same. Returns NULL with an error set. */
static PyObject *state_with(const struct index_state *s, PyObject *arrays, PyObject *living,
                            Py_ssize_t size, Py_ssize_t given)
{
    const Py_ssize_t fields = PyTuple_GET_SIZE(s->state);
    OWNED PyObject *values = PyTuple_New(fields);
    PyObject *new[STATE_GIVEN + 1] = {[STATE_ARRAYS] = arrays,
                                      [STATE_LIVING] = living,
                                      [STATE_SIZE] = PyLong_FromSsize_t(size),
                                      [STATE_GIVEN] = PyLong_FromSsize_t(given)};
    for (Py_ssize_t i = 0; values != NULL && i < fields; i++) {
        const bool replaced = i <= STATE_GIVEN && new[i] != NULL;
        PyObject *value = replaced ? new[i] : PyTuple_GET_ITEM(s->state, i);
        Py_INCREF(value);
        PyTuple_SET_ITEM(values, i, value);
    }
    for (int i = 0; i <= STATE_GIVEN; i++) {
        Py_XDECREF(new[i]);
    }
    OWNED PyObject *args = values == NULL ? NULL : PyTuple_Pack(1, values);
    return args == NULL || PyErr_Occurred() ? NULL
                                            : PyTuple_Type.tp_new(Py_TYPE(s->state), args, NULL);
}

/* Returns a view of rows [first, last) of an array of at least as many rows. */
static PyObject *view_of_rows(PyArrayObject *array, npy_intp first, npy_intp last, bool writable)
{
    npy_intp shape[NPY_MAXDIMS];
    const int ndim = PyArray_NDIM(array);
    memcpy(shape, PyArray_DIMS(array), (size_t)ndim * sizeof *shape);
    shape[0] = last - first;
    Py_INCREF(PyArray_DESCR(array));
    PyObject *view = PyArray_NewFromDescr(&PyArray_Type, PyArray_DESCR(array), ndim, shape,
                                          PyArray_STRIDES(array),
                                          PyArray_BYTES(array) + first * PyArray_STRIDE(array, 0),
                                          writable ? NPY_ARRAY_CARRAY : NPY_ARRAY_CARRAY_RO, NULL);
    if (view != NULL) {
        Py_INCREF(array);
        if (PyArray_SetBaseObject((PyArrayObject *)view, (PyObject *)array) < 0) {
            Py_CLEAR(view);
        }
    }
    return view;
}

/* Returns the first rows of all arrays of a dict, as a dict of views. The view of the corpus is
 * read-only. */
static PyObject *first_rows(PyObject *room, npy_intp rows)
{
    PyObject *views = PyDict_New(), *name, *array;
    Py_ssize_t at = 0;
    while (views != NULL && PyDict_Next(room, &at, &name, &array)) {
        OWNED PyObject *view = NULL;
        if (PyArray_Check(array) && PyArray_NDIM((PyArrayObject *)array) >= 1 &&
            PyArray_DIM((PyArrayObject *)array, 0) >= rows) {
            const bool corpus =
                PyUnicode_Check(name) && PyUnicode_CompareWithASCIIString(name, "corpus") == 0;
            view = view_of_rows((PyArrayObject *)array, 0, rows, !corpus);
        } else {
            misfit();
        }
        if (view == NULL || PyDict_SetItem(views, name, view) < 0) {
            Py_CLEAR(views);
        }
    }
    return views;
}

/*
 * True if rows can be copied after the rows of a State: they have its dtype and length, room has
 * space for them, and at most one row was removed for every `holes` live rows.
 */
static bool fits_behind(const struct index_state *s, PyObject *room, PyArrayObject *rows,
                        Py_ssize_t holes)
{
    if (!PyDict_Check(room) || PyObject_IsTrue(PyTuple_GET_ITEM(s->state, STATE_ANY))) {
        return false;
    }
    PyArrayObject *corpus = (PyArrayObject *)PyDict_GetItemString(room, "corpus");
    const npy_intp first = PyArray_DIM(s->corpus, 0), *shape = PyArray_DIMS(s->corpus);
    const int type = PyArray_TYPE(s->corpus);
    return corpus != NULL && (PyTypeNum_ISINTEGER(type) || PyTypeNum_ISFLOAT(type)) &&
           PyArray_CheckExact((PyObject *)rows) &&
           can_read(rows, type, 2, (npy_intp[]){-1, shape[1]}) && PyArray_DIM(rows, 0) > 0 &&
           PyArray_NBYTES(rows) <= MAX_ROW_BYTES &&
           can_write(corpus, type, 2, (npy_intp[]){-1, shape[1]}) &&
           PyArray_DIM(corpus, 0) >= first &&
           PyArray_DIM(corpus, 0) - first >= PyArray_DIM(rows, 0) &&
           (first - s->size) <= s->size / holes;
}

/* Returns the numbers of `count` new rows. Also writes them to the array of numbers in `room`, if
 * it has one. */
static PyObject *new_numbers(const struct index_state *s, PyObject *room, npy_intp count)
{
    PyArrayObject *column = (PyArrayObject *)PyDict_GetItemString(room, "numbers");
    const npy_intp first = PyArray_DIM(s->corpus, 0);
    if (column != NULL &&
        (!can_write(column, NPY_INT64, 1, NULL) || PyArray_DIM(column, 0) < first + count)) {
        return misfit();
    }
    PyObject *numbers = PyArray_SimpleNew(1, &count, NPY_INT64);
    for (npy_intp n = 0; numbers != NULL && n < count; n++) {
        ((int64_t *)PyArray_DATA((PyArrayObject *)numbers))[n] = s->given + n;
        if (column != NULL) {
            ((int64_t *)PyArray_DATA(column))[first + n] = s->given + n;
        }
    }
    return numbers;
}

static PyObject *state_with_rows(PyObject *Py_UNUSED(self), PyObject *args)
{
    PyObject *object, *room;
    PyArrayObject *rows;
    Py_ssize_t holes;
    struct index_state s;
    if (!PyArg_ParseTuple(args, "OOOn:state_with_rows", &object, &room, &rows, &holes) ||
        !read_state(object, &s) || holes < 1) {
        return misfit();
    }
    if (!fits_behind(&s, room, rows, holes)) {
        Py_RETURN_NONE;
    }
    const npy_intp first = PyArray_DIM(s.corpus, 0), count = PyArray_DIM(rows, 0),
                   last = first + count;
    PyArrayObject *corpus = (PyArrayObject *)PyDict_GetItemString(room, "corpus");
    OWNED PyObject *numbers = new_numbers(&s, room, count),
                   *added = numbers == NULL ? NULL : view_of_rows(corpus, first, last, false),
                   *arrays = added == NULL ? NULL : first_rows(room, last),
                   *living = arrays == NULL      ? NULL
                             : is_none(s.living) ? Py_NewRef(Py_None)
                                                 : (PyObject *)copy_living(s.living, first, last);
    if (living == NULL) {
        return NULL;
    }
    memmove(PyArray_BYTES(corpus) + first * PyArray_STRIDE(corpus, 0), PyArray_DATA(rows),
            (size_t)PyArray_NBYTES(rows));
    PyObject *state =
        state_with(&s, Py_NewRef(arrays), Py_NewRef(living), s.size + count, s.given + count);
    return state == NULL ? NULL : Py_BuildValue("NOnO", state, added, (Py_ssize_t)first, numbers);
}

static PyObject *state_without(PyObject *Py_UNUSED(self), PyObject *args)
{
    PyObject *object;
    PyArrayObject *numbers;
    struct index_state s;
    if (!PyArg_ParseTuple(args, "OO:state_without", &object, &numbers) || !read_state(object, &s)) {
        return NULL;
    }
    const npy_intp rows = PyArray_DIM(s.corpus, 0);
    const bool column = s.numbers != NULL && rows > 0;
    if (!PyArray_CheckExact((PyObject *)numbers) || !can_read(numbers, NPY_INT64, 1, NULL) ||
        PyArray_DIM(numbers, 0) == 0) {
        Py_RETURN_NONE;
    }
    if (column && !can_read(s.numbers, NPY_INT64, 1, &rows)) {
        return misfit();
    }
    OWNED PyArrayObject *living = copy_living(s.living, rows, rows);
    if (living == NULL) {
        return NULL;
    }
    if (!byte_bitmap_without(PyArray_DATA(living), (size_t)rows,
                             column ? PyArray_DATA(s.numbers) : NULL, PyArray_DATA(numbers),
                             (size_t)PyArray_DIM(numbers, 0))) {
        Py_RETURN_NONE;
    }
    return state_with(&s, NULL, Py_NewRef((PyObject *)living), s.size - PyArray_DIM(numbers, 0),
                      s.given);
}

/* ---- communities ---- */

/* True if the pairs are sorted by i, with i < j < rows. */
static bool are_pairs(const struct neighbourhoods *n)
{
    int64_t last = 0;
    for (size_t k = 0; k < n->pairs; last = n->i[k++]) {
        if (n->i[k] < last || n->j[k] <= n->i[k] || n->j[k] >= (int64_t)n->rows) {
            return false;
        }
    }
    return true;
}

/* Reads the arguments of communities. Returns false if they do not fit each other. */
static bool read_neighbourhoods(PyArrayObject *i, PyArrayObject *j, PyArrayObject *own,
                                struct neighbourhoods *n)
{
    if (!can_read(i, NPY_INT64, 1, NULL) || !can_read(j, NPY_INT64, 1, PyArray_DIMS(i)) ||
        !can_read(own, NPY_BOOL, 1, NULL)) {
        return false;
    }
    *n = (struct neighbourhoods){(size_t)PyArray_DIM(own, 0), (size_t)PyArray_DIM(i, 0),
                                 PyArray_DATA(i), PyArray_DATA(j), PyArray_DATA(own)};
    return are_pairs(n);
}

static PyObject *communities(PyObject *Py_UNUSED(self), PyObject *args)
{
    PyArrayObject *i, *j, *own, *results[4] = {NULL};
    struct neighbourhoods n;
    Py_ssize_t min_size;
    if (!PyArg_ParseTuple(args, "OOOn:communities", &i, &j, &own, &min_size) ||
        !read_neighbourhoods(i, j, own, &n) || min_size < 1) {
        return misfit();
    }
    npy_intp rows = PyArray_DIM(own, 0), found = -1;
    bool made = true;
    for (int k = 0; k < 4; k++) {
        results[k] = (PyArrayObject *)PyArray_SimpleNew(1, &rows, NPY_INT64);
        made = made && results[k] != NULL;
    }
    if (made) {
        struct without_gil released;
        const struct community_arrays to = {PyArray_DATA(results[0]), PyArray_DATA(results[1]),
                                            PyArray_DATA(results[2]), PyArray_DATA(results[3])};
        struct cancel_token *token = without_gil_begin(&released, NULL, 0);
        found = communities_find(&n, (size_t)min_size, &to, token);
        found = without_gil_finish(&released, found < 0 ? -1 : 0) < 0 ? -1 : found;
    }
    if (found < 0) {
        for (int k = 0; k < 4; k++) {
            Py_XDECREF(results[k]);
        }
        return NULL;
    }
    return Py_BuildValue("NNNNn", results[0], results[1], results[2], results[3],
                         (Py_ssize_t)found);
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
        "state_with_rows", state_with_rows, "state, room, rows, holes",
        "Copies rows after those of the State of an Index. Returns the new State, without codes\n"
        "and heads of the rows, a view of the copies, their place, and their numbers. Returns\n"
        "None unless room has place, rows are a C-contiguous array (M, D) of the dtype of the\n"
        "corpus, of at most 1 MB, and at most one row was removed for each `holes` live rows."),
    BY_POSITION(
        "state_without", state_without, "state, numbers",
        "The State of an Index without the rows of these numbers. Returns None unless they are an\n"
        "array of int64 (n,), n > 0, of different numbers of live rows."),
    BY_POSITION(
        "communities", communities, "i, j, own, min_size",
        "Returns (members, pair, centres, ends, count) of the communities among rows with these\n"
        "pairs i < j, sorted by i. own: whether each row is in its own neighbourhood. Elements\n"
        "[ends[n - 1], ends[n]) of members are community n, and those of pair the positions of\n"
        "their pairs with the centre, or -1 for the centre. All arrays have one element for each\n"
        "row; only the first ones are set."),
    {0},
};
