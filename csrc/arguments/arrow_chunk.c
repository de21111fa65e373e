/* One chunk of Arrow's C data interface as an array over its memory. */
#include "arguments/arrow_chunk.h"

#include "arguments/messages.h"
#include "arguments/protocols.h"

/* Elements [start, start + count) of an array, counted from the array's own offset. */
struct window {
    const struct arrow_array *array;
    int64_t start, count;
};

/* The dimensions of the result that the outer lists have given. Their product is the number of
 * elements of the current window. */
struct dims {
    int ndim;
    npy_intp size[1 + ARROW_MAX_LEVELS + ARROW_MAX_TENSOR];
};

static PyArrayObject *malformed(const struct arrow_reader *reader, const char *reason)
{
    PyErr_Format(PyExc_ValueError, ARROW_MALFORMED, reader->function, reader->name, reason);
    return NULL;
}

/* No address space has more bytes, so a larger array is malformed. Offsets in bytes within smaller
 * arrays do not overflow. */
static const int64_t MAX_BYTES = (int64_t)1 << 56;

static bool has_children(const struct arrow_array *array, int64_t n_children)
{
    if (array == NULL || array->n_children != n_children ||
        (n_children > 0 && array->children == NULL)) {
        return false;
    }
    for (int64_t i = 0; i < n_children; i++) {
        if (array->children[i] == NULL) {
            return false;
        }
    }
    return true;
}

/* Checks the members of an array, and that the array contains the elements of a window. Returns 0,
 * or -1 with an error set. */
static int check_window(const struct arrow_reader *reader, struct window window, int64_t n_buffers,
                        int64_t n_children)
{
    const struct arrow_array *array = window.array;
    const char *wrong = NULL;
    int64_t end;
    if (!has_children(array, n_children)) {
        wrong = "children are missing";
    } else if (array->length < 0 || array->offset < 0 ||
               __builtin_add_overflow(array->offset, array->length, &end) || end > MAX_BYTES) {
        wrong = "a length or an offset is impossible";
    } else if (array->null_count < -1 || array->null_count > array->length) {
        wrong = "a number of nulls is impossible";
    } else if (array->n_buffers != n_buffers || array->buffers == NULL) {
        wrong = "buffers are missing";
    } else if (window.start < 0 || window.start > array->length ||
               window.count > array->length - window.start) {
        wrong = "a child is shorter than its parent says";
    } else if (array->null_count > 0 && array->buffers[0] == NULL) {
        wrong = "it counts nulls and has no bitmap of them";
    }
    if (wrong != NULL) {
        malformed(reader, wrong);
        return -1;
    }
    return 0;
}

/* Returns the first position in [start, start + count) whose bit is 0, or -1 if there is none. */
static int64_t first_zero(const uint8_t *bits, int64_t start, int64_t count)
{
    const int64_t end = start + count;
    int64_t i = start;
    while (i < end) {
        uint64_t word;
        if (i % 8 == 0 && end - i >= 64 && (memcpy(&word, bits + i / 8, 8), word == UINT64_MAX)) {
            i += 64;
        } else if (!(bits[i / 8] >> i % 8 & 1)) {
            return i;
        } else {
            i++;
        }
    }
    return -1;
}

void arrow_ragged(const struct arrow_reader *reader, int64_t row, int64_t size, int64_t first,
                  int64_t first_size)
{
    raise_template(PyExc_ValueError, "RAGGED", "{ss ss sL sN sL sL}", "function", reader->function,
                   "name", reader->name, "row", (long long)row, "size",
                   PyUnicode_FromFormat("%lld elements", (long long)size), "first",
                   (long long)first, "first_size", (long long)first_size);
}

/* Raises the error for a null in a window. Returns 0 if there is none, or -1. */
static int check_nulls(const struct arrow_reader *reader, struct window window,
                       const struct dims *dims)
{
    const uint8_t *bits = window.array->buffers[0];
    if (window.array->null_count == 0 || bits == NULL || window.count == 0) {
        return 0;
    }
    const int64_t start = window.array->offset + window.start,
                  zero = first_zero(bits, start, window.count);
    if (zero < 0) {
        return 0;
    }
    const int64_t row = reader->first_row + (zero - start) / (window.count / dims->size[0]);
    return raise_template(PyExc_ValueError, dims->ndim == 1 ? "NULL_ROW" : "NULL_IN_ROW",
                          "{ss ss sL}", "function", reader->function, "name", reader->name, "row",
                          (long long)row);
}

/* Returns a new array of bools with the values of packed bits. */
static PyArrayObject *unpack_bits(const uint8_t *bits, int64_t start, const struct dims *dims)
{
    PyArrayObject *array = (PyArrayObject *)PyArray_SimpleNew(dims->ndim, dims->size, NPY_BOOL);
    if (array != NULL) {
        npy_bool *to = PyArray_DATA(array);
        const npy_intp n = PyArray_SIZE(array);
        for (npy_intp i = 0; i < n; i++) {
            to[i] = bits[(start + i) / 8] >> (start + i) % 8 & 1;
        }
    }
    return array;
}

/* Returns an array over the numbers of a window. */
static PyArrayObject *read_numbers(const struct arrow_reader *reader, struct window window,
                                   const struct dims *dims)
{
    const struct arrow_layout *layout = reader->layout;
    npy_intp strides[1 + ARROW_MAX_LEVELS + ARROW_MAX_TENSOR], stride = layout->bytes;
    if (check_window(reader, window, 2, 0) < 0 || check_nulls(reader, window, dims) < 0) {
        return NULL;
    }
    if (window.count == 0) {
        return (PyArrayObject *)PyArray_SimpleNew(dims->ndim, dims->size, layout->type);
    }
    if (window.array->buffers[1] == NULL) {
        return malformed(reader, "its values are missing");
    }
    const int64_t start = window.array->offset + window.start;
    const int64_t bytes = (start + window.count) * layout->bytes;
    if (bytes > MAX_BYTES || bytes > PY_SSIZE_T_MAX) {
        return malformed(reader, "a length or an offset is impossible");
    }
    if (layout->bytes == 0) {
        return unpack_bits(window.array->buffers[1], start, dims);
    }
    for (int i = dims->ndim - 1; i >= 0; i--) {
        strides[i] = stride;
        stride *= dims->size[i];
    }
    char *data = (char *)window.array->buffers[1] + start * layout->bytes;
    PyObject *array = PyArray_New(&PyArray_Type, dims->ndim, (npy_intp *)dims->size, layout->type,
                                  strides, data, 0, 0, NULL);
    if (array != NULL &&
        PyArray_SetBaseObject((PyArrayObject *)array, Py_NewRef(reader->owner)) < 0) {
        Py_CLEAR(array);
    }
    return (PyArrayObject *)array;
}

/* ---- lists ---- */

/* The lists of a window, from their offsets and sizes. */
struct lists {
    const void *offsets, *sizes; /* sizes is NULL unless the lists are views */
    bool wide;                   /* offsets and sizes are int64, else int32 */
    int64_t base;                /* position of the window's first list in offsets and sizes */
    int64_t values;              /* number of elements of the child array */
};

static int64_t integer_at(const void *integers, bool wide, int64_t i)
{
    int32_t narrow;
    int64_t value;
    if (wide) {
        memcpy(&value, (const char *)integers + i * 8, sizeof value);
        return value;
    }
    memcpy(&narrow, (const char *)integers + i * 4, sizeof narrow);
    return narrow;
}

/* Sets the first value and the length of list i of the window. Returns false if the list is not
 * within the values. */
static bool list_at(const struct lists *lists, int64_t i, int64_t *first, int64_t *length)
{
    *first = integer_at(lists->offsets, lists->wide, lists->base + i);
    if (*first < 0 || *first > lists->values) {
        return false;
    }
    *length = lists->sizes == NULL
                  ? integer_at(lists->offsets, lists->wide, lists->base + i + 1) - *first
                  : integer_at(lists->sizes, lists->wide, lists->base + i);
    return *length >= 0 && *length <= lists->values - *first;
}

/*
 * Reads the offsets and sizes of a window of lists. Sets *width to the length of the lists, which
 * must be the same for all. Sets *inner to the window of their values if the lists follow one
 * another in memory, and its count to -1 otherwise. Returns 0, or -1 with an error set.
 */
static int read_offsets(const struct arrow_reader *reader, const struct lists *lists, int64_t count,
                        const struct dims *dims, struct window *inner, int64_t *width)
{
    int64_t first, length, next = 0, total;
    bool in_order = true;
    for (int64_t i = 0; i < count; i++) {
        if (!list_at(lists, i, &first, &length)) {
            malformed(reader, "offsets of its lists run backwards, or beyond their values");
            return -1;
        }
        if (i == 0) {
            inner->start = next = first;
            *width = length;
        }
        if (length != *width) {
            const int64_t lists_of_row = count / dims->size[0];
            arrow_ragged(reader, reader->first_row + i / lists_of_row, length, reader->first_row,
                         *width);
            return -1;
        }
        in_order = in_order && first == next;
        next = in_order ? first + length : next;
    }
    if (__builtin_mul_overflow(count, *width, &total)) { /* possible if views overlap */
        return raise_format(PyExc_ValueError, ARROW_TOO_LARGE, reader->function, reader->name);
    }
    inner->count = in_order || *width == 0 ? total : -1;
    return 0;
}

static PyArrayObject *read_level(const struct arrow_reader *reader, int level, struct window window,
                                 const struct dims *dims);

PyArrayObject *arrow_join(const struct arrow_reader *reader, PyObject *list, int axis)
{
    if (list != NULL && PyList_GET_SIZE(list) == 1) {
        return (PyArrayObject *)Py_NewRef(PyList_GET_ITEM(list, 0));
    }
    PyObject *array = list == NULL ? NULL : PyArray_Concatenate(list, axis);
    if (list != NULL && array == NULL) {
        explain_error(reader->function, reader->name, false);
    }
    return (PyArrayObject *)array;
}

int arrow_append(PyObject *list, PyArrayObject *array)
{
    const int status = array == NULL ? -1 : PyList_Append(list, (PyObject *)array);
    release((PyObject *)array);
    return status;
}

/* Returns an array in another shape. Steals the reference to the array, which may be NULL with an
 * error set. */
static PyArrayObject *reshaped(PyArrayObject *array, int ndim, npy_intp *shape)
{
    PyArray_Dims dims = {shape, ndim};
    PyObject *result = array == NULL ? NULL : PyArray_Newshape(array, &dims, NPY_CORDER);
    release((PyObject *)array);
    return (PyArrayObject *)result;
}

/* Reads list views whose values do not follow one another in memory: reads every list by itself,
 * and joins the arrays. */
static PyArrayObject *read_scattered(const struct arrow_reader *reader, int level,
                                     const struct lists *lists, struct window inner,
                                     const struct dims *dims, int64_t count)
{
    const int64_t lists_of_row = count / dims->size[0];
    OWNED PyObject *list = PyList_New(0);
    for (int64_t i = 0; i < count && list != NULL; i++) {
        struct arrow_reader of_row = *reader;
        list_at(lists, i, &inner.start, &inner.count);
        const struct dims one = {2, {1, inner.count}};
        of_row.first_row += i / lists_of_row;
        if (arrow_append(list, read_level(&of_row, level + 1, inner, &one)) < 0) {
            return NULL;
        }
    }
    PyArrayObject *array = arrow_join(reader, list, 0);
    if (array == NULL) {
        return NULL;
    }
    struct dims all = *dims;
    for (int i = 1; i < PyArray_NDIM(array); i++) {
        all.size[all.ndim++] = PyArray_DIM(array, i);
    }
    return reshaped(array, all.ndim, all.size);
}

/* Reads lists and list views, which have offsets. */
static PyArrayObject *read_lists(const struct arrow_reader *reader, int level, struct window window,
                                 const struct dims *dims)
{
    const enum arrow_list list = reader->layout->level[level].list;
    const bool views = list == ARROW_LIST_VIEW || list == ARROW_LARGE_LIST_VIEW;
    const struct arrow_array *array = window.array;
    if (check_window(reader, window, views ? 3 : 2, 1) < 0 ||
        check_nulls(reader, window, dims) < 0) {
        return NULL;
    }
    struct window inner = {array->children[0], 0, 0};
    struct dims more = *dims;
    int64_t width = 0;
    if (window.count > 0) {
        const struct lists lists = {
            .offsets = array->buffers[1],
            .sizes = views ? array->buffers[2] : NULL,
            .wide = list == ARROW_LARGE_LIST || list == ARROW_LARGE_LIST_VIEW,
            .base = array->offset + window.start,
            .values = inner.array->length,
        };
        if (lists.offsets == NULL || (views && lists.sizes == NULL)) {
            return malformed(reader, "offsets of its lists are missing");
        }
        if (read_offsets(reader, &lists, window.count, dims, &inner, &width) < 0) {
            return NULL;
        }
        if (inner.count < 0) {
            return read_scattered(reader, level, &lists, inner, dims, window.count);
        }
    }
    more.size[more.ndim++] = (npy_intp)width;
    return read_level(reader, level + 1, inner, &more);
}

/* Reads fixed-size lists. */
static PyArrayObject *read_fixed(const struct arrow_reader *reader, int level, struct window window,
                                 const struct dims *dims)
{
    const struct arrow_layout *layout = reader->layout;
    const int64_t width = layout->level[level].width;
    struct dims more = *dims;
    if (check_window(reader, window, 1, 1) < 0 || check_nulls(reader, window, dims) < 0) {
        return NULL;
    }
    struct window inner = {window.array->children[0], 0, 0};
    if (__builtin_mul_overflow(window.array->offset + window.start, width, &inner.start) ||
        __builtin_mul_overflow(window.count, width, &inner.count)) {
        return malformed(reader, "a length or an offset is impossible");
    }
    if (level == 0 && layout->tensor_ndim > 0) {
        for (int i = 0; i < layout->tensor_ndim; i++) {
            more.size[more.ndim++] = layout->tensor_shape[i];
        }
    } else {
        more.size[more.ndim++] = (npy_intp)width;
    }
    return read_level(reader, level + 1, inner, &more);
}

/* Returns the array of a window of lists or numbers. Its first dimension is dims->size[0] rows. */
static PyArrayObject *read_level(const struct arrow_reader *reader, int level, struct window window,
                                 const struct dims *dims)
{
    if (level == reader->layout->levels) {
        return read_numbers(reader, window, dims);
    }
    return reader->layout->level[level].list == ARROW_FIXED
               ? read_fixed(reader, level, window, dims)
               : read_lists(reader, level, window, dims);
}

/* ---- chunks ---- */

/* Returns the array with the axes of its tensors in their logical order. Steals the reference to
 * the array, which may be NULL with an error set. */
static PyArrayObject *transposed(PyArrayObject *array, const struct arrow_layout *layout)
{
    npy_intp axes[1 + ARROW_MAX_LEVELS + ARROW_MAX_TENSOR];
    PyArray_Dims dims = {axes, array == NULL ? 0 : PyArray_NDIM(array)};
    if (array == NULL || layout->tensor_ndim == 0) {
        return array;
    }
    for (int i = 0; i < dims.len; i++) {
        const bool of_tensor = i > 0 && i <= layout->tensor_ndim;
        axes[i] = of_tensor ? 1 + layout->tensor_axis[i - 1] : i;
    }
    PyObject *result = PyArray_Transpose(array, &dims);
    release((PyObject *)array);
    return (PyArrayObject *)result;
}

/* Returns the rows of one column. The window holds all elements of an array, or of one child of a
 * table. */
static PyArrayObject *read_column(const struct arrow_reader *reader, struct window window)
{
    const struct dims dims = {1, {(npy_intp)window.count}};
    if ((int64_t)dims.size[0] != window.count) {
        return malformed(reader, "a length or an offset is impossible");
    }
    return transposed(read_level(reader, 0, window, &dims), reader->layout);
}

/* Returns the array (N, C) of a table whose C columns are numbers. */
static PyArrayObject *read_matrix(const struct arrow_reader *reader, const struct arrow_rows *rows,
                                  const struct arrow_array *table)
{
    OWNED PyObject *list = PyList_New(0);
    npy_intp shape[2] = {(npy_intp)table->length, 1};
    for (int64_t i = 0; i < rows->columns && list != NULL; i++) {
        struct arrow_reader of_column = *reader;
        const struct window window = {table->children[i], table->offset, table->length};
        of_column.layout = &rows->of_column[i];
        if (arrow_append(list, reshaped(read_column(&of_column, window), 2, shape)) < 0) {
            return NULL;
        }
    }
    return arrow_join(reader, list, 1);
}

PyArrayObject *arrow_read_chunk(const struct arrow_reader *reader, const struct arrow_rows *rows,
                                const struct arrow_array *chunk)
{
    struct window window = {chunk, 0, chunk->length};
    const struct dims dims = {1, {(npy_intp)chunk->length}};
    if (!rows->table) {
        return read_column(reader, window);
    }
    if (check_window(reader, window, 1, rows->columns) < 0 ||
        check_nulls(reader, window, &dims) < 0) {
        return NULL;
    }
    if (rows->column < 0) {
        return read_matrix(reader, rows, chunk);
    }
    window = (struct window){chunk->children[rows->column], chunk->offset, chunk->length};
    return read_column(reader, window);
}
