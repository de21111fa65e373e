/* Makes arrays over the memory of Arrow's C data interface: capsules and streams. arrow_schema.c
 * finds which types hold rows; arrow_chunk.c reads the chunks. */
#include "arguments/arrow.h"

#include "arguments/arrow_chunk.h"
#include "arguments/messages.h"
#include "arguments/protocols.h"

struct arrow_stream {
    int (*get_schema)(struct arrow_stream *, struct arrow_schema *);
    int (*get_next)(struct arrow_stream *, struct arrow_array *);
    const char *(*get_last_error)(struct arrow_stream *);
    void (*release)(struct arrow_stream *);
    void *private_data;
};

/* ---- chunks ---- */

#define OWNER "cossim.arrow_array"

static void release_chunk(PyObject *owner)
{
    struct arrow_array *chunk = PyCapsule_GetPointer(owner, OWNER);
    if (chunk->release != NULL) {
        chunk->release(chunk);
    }
    PyMem_Free(chunk);
}

/* Moves a chunk into a new capsule, which releases the chunk when the capsule is freed. Marks the
 * source as released, as the interface requires of a move. New reference, or NULL with an error
 * set. */
static PyObject *take_chunk(struct arrow_array *source)
{
    struct arrow_array *chunk = PyMem_Malloc(sizeof *chunk);
    if (chunk == NULL) {
        return PyErr_NoMemory();
    }
    *chunk = *source;
    PyObject *owner = PyCapsule_New(chunk, OWNER, release_chunk);
    if (owner == NULL) {
        PyMem_Free(chunk);
        return NULL;
    }
    source->release = NULL;
    return owner;
}

/* Reads a chunk as an array, which then owns the chunk. Releases the chunk if that fails. */
static PyArrayObject *take_rows(struct arrow_reader *reader, const struct arrow_rows *rows,
                                struct arrow_array *source)
{
    OWNED PyObject *owner = reader->owner = take_chunk(source);
    return owner == NULL ? NULL
                         : arrow_read_chunk(reader, rows, PyCapsule_GetPointer(owner, OWNER));
}

/* ---- streams ---- */

/* The functions of a stream can wait for threads that need the GIL, so they run without it. At the
 * end of the stream, next_chunk also releases the stream. Both functions return 0 or an errno. */

static int next_chunk(struct arrow_stream *stream, struct arrow_array *chunk)
{
    PyThreadState *state = PyEval_SaveThread();
    const int status = stream->get_next(stream, chunk);
    if (status == 0 && chunk->release == NULL) {
        stream->release(stream);
        stream->release = NULL;
    }
    PyEval_RestoreThread(state);
    return status;
}

static int first_chunk(struct arrow_stream *stream, struct arrow_schema *schema,
                       struct arrow_array *chunk)
{
    PyThreadState *state = PyEval_SaveThread();
    int status = stream->get_schema(stream, schema);
    if (status == 0) {
        status = stream->get_next(stream, chunk);
    }
    PyEval_RestoreThread(state);
    return status;
}

/* Sets the error of a stream whose function returned an errno. */
static void stream_error(const struct arrow_reader *reader, struct arrow_stream *stream, int status)
{
    const char *text = stream->get_last_error == NULL ? NULL : stream->get_last_error(stream);
    if (PyErr_CheckSignals() == 0) {
        PyErr_Format(PyExc_ValueError, ARROW_STREAM, reader->function, reader->name,
                     text == NULL ? strerror(status) : text);
    }
}

/* Returns the array of a stream without rows: (0,), or (0, D) for a type of vectors or a table. */
static PyArrayObject *no_rows(const struct arrow_rows *rows)
{
    const bool matrix = rows->column < 0, vectors = rows->layout.levels > 0;
    npy_intp shape[2] = {0, matrix ? (npy_intp)rows->columns : 0};
    if (!matrix && vectors) {
        shape[1] = (npy_intp)rows->layout.level[0].width;
    }
    return (PyArrayObject *)PyArray_SimpleNew(matrix || vectors ? 2 : 1, shape,
                                              matrix ? rows->of_column[0].type : rows->layout.type);
}

/* Adds the array of a chunk to the list. Steals the reference to the array. Drops an array without
 * rows if the list has another array. Returns 0, or -1 with an error set. */
static int add_rows(const struct arrow_reader *reader, PyObject *list, PyArrayObject *array)
{
    PyArrayObject *first =
        PyList_GET_SIZE(list) == 0 ? NULL : (PyArrayObject *)PyList_GET_ITEM(list, 0);
    if (first == NULL) {
        return arrow_append(list, array);
    }
    if (PyArray_DIM(array, 0) == 0) {
        release((PyObject *)array);
        return 0;
    }
    if (PyArray_DIM(first, 0) == 0) {
        return PyList_SetItem(list, 0, (PyObject *)array); /* steals the reference */
    }
    if (PyArray_NDIM(array) > 1 && PyArray_DIM(array, 1) != PyArray_DIM(first, 1)) {
        arrow_ragged(reader, reader->first_row, PyArray_DIM(array, 1), 0, PyArray_DIM(first, 1));
        release((PyObject *)array);
        return -1;
    }
    return arrow_append(list, array);
}

/* Adds the rows of a chunk to the list. Returns 0, or -1 with an error set. */
static int add_chunk(struct arrow_reader *reader, const struct arrow_rows *rows,
                     struct arrow_array *chunk, PyObject *list)
{
    PyArrayObject *array = take_rows(reader, rows, chunk);
    if (array == NULL) {
        return -1;
    }
    const npy_intp length = PyArray_DIM(array, 0);
    if (add_rows(reader, list, array) < 0 || PyErr_CheckSignals() < 0) {
        return -1;
    }
    reader->first_row += length;
    return 0;
}

/* Reads all chunks into the list, *chunk first. Returns 0, or -1 with an error set. */
static int add_chunks(struct arrow_reader *reader, const struct arrow_rows *rows,
                      struct arrow_stream *stream, struct arrow_array *chunk, PyObject *list)
{
    while (chunk->release != NULL) {
        if (add_chunk(reader, rows, chunk, list) < 0) {
            return -1;
        }
        chunk->release = NULL;
        const int status = next_chunk(stream, chunk);
        if (status != 0) {
            chunk->release = NULL;
            stream_error(reader, stream, status);
            return -1;
        }
    }
    return 0;
}

/* Returns the rows of all chunks of a stream. If only one chunk has rows, the array lies over its
 * memory; otherwise it is a copy. */
static PyArrayObject *read_chunks(struct arrow_reader *reader, const struct arrow_rows *rows,
                                  struct arrow_stream *stream, struct arrow_array *chunk)
{
    OWNED PyObject *list = PyList_New(0);
    if (list == NULL || add_chunks(reader, rows, stream, chunk, list) < 0) {
        return NULL;
    }
    return PyList_GET_SIZE(list) > 0 ? arrow_join(reader, list, 0) : no_rows(rows);
}

/* Calls the release callbacks that have not run yet. They can be Python functions, which must not
 * start with an error set. */
static void release_all(struct arrow_schema *schema, struct arrow_array *chunk,
                        struct arrow_stream *stream)
{
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    if (schema->release != NULL) {
        schema->release(schema);
    }
    if (chunk->release != NULL) {
        chunk->release(chunk);
    }
    if (stream->release != NULL) {
        PyThreadState *state = PyEval_SaveThread();
        stream->release(stream);
        PyEval_RestoreThread(state);
    }
    PyErr_Restore(type, value, traceback);
}

/* Takes a stream out of its capsule, reads it and releases it. */
static PyArrayObject *from_stream(struct arrow_reader *reader, PyObject *capsule)
{
    struct arrow_schema schema = {.release = NULL};
    struct arrow_array chunk = {.release = NULL};
    struct arrow_rows rows = {.of_column = NULL};
    PyArrayObject *array = NULL;
    struct arrow_stream *source = PyCapsule_IsValid(capsule, "arrow_array_stream")
                                      ? PyCapsule_GetPointer(capsule, "arrow_array_stream")
                                      : NULL;
    if (source == NULL || source->release == NULL) {
        PyErr_Format(PyExc_TypeError, ARROW_CAPSULE, reader->function, reader->name);
        return NULL;
    }
    struct arrow_stream stream = *source;
    source->release = NULL;
    const int status = first_chunk(&stream, &schema, &chunk);
    if (status != 0) {
        chunk.release = NULL;
        stream_error(reader, &stream, status);
    } else if (arrow_rows_of(reader->function, reader->name, &schema, &rows) == 0) {
        reader->layout = &rows.layout;
        array = read_chunks(reader, &rows, &stream, &chunk);
    }
    PyMem_Free(rows.of_column);
    release_all(&schema, &chunk, &stream);
    return array;
}

/* Reads a tuple of two capsules: a schema and an array. */
static PyArrayObject *from_array(struct arrow_reader *reader, PyObject *pair)
{
    struct arrow_schema *schema = NULL;
    struct arrow_array *source = NULL;
    struct arrow_rows rows = {.of_column = NULL};
    PyArrayObject *array = NULL;
    if (PyTuple_Check(pair) && PyTuple_GET_SIZE(pair) == 2 &&
        PyCapsule_IsValid(PyTuple_GET_ITEM(pair, 0), "arrow_schema") &&
        PyCapsule_IsValid(PyTuple_GET_ITEM(pair, 1), "arrow_array")) {
        schema = PyCapsule_GetPointer(PyTuple_GET_ITEM(pair, 0), "arrow_schema");
        source = PyCapsule_GetPointer(PyTuple_GET_ITEM(pair, 1), "arrow_array");
    }
    if (source == NULL || source->release == NULL || schema->release == NULL) {
        PyErr_Format(PyExc_TypeError, ARROW_CAPSULE, reader->function, reader->name);
        return NULL;
    }
    if (arrow_rows_of(reader->function, reader->name, schema, &rows) == 0) {
        reader->layout = &rows.layout;
        array = take_rows(reader, &rows, source);
    }
    PyMem_Free(rows.of_column);
    return array;
}

/* Calls a method that exports an object. Its argument, a schema to convert to, has the default
 * None; polars before 1.4 lacks the default. */
static PyObject *call_export(PyObject *object, PyObject *method)
{
    PyObject *exported = PyObject_CallMethodNoArgs(object, method);
    if (exported == NULL && PyErr_ExceptionMatches(PyExc_TypeError)) {
        OWNED PyObject *type = NULL, *value = NULL, *traceback = NULL;
        PyErr_Fetch(&type, &value, &traceback);
        exported = PyObject_CallMethodOneArg(object, method, Py_None);
        if (exported == NULL) { /* the first error replaces the second */
            PyErr_Restore(Py_XNewRef(type), Py_XNewRef(value), Py_XNewRef(traceback));
        }
    }
    return exported;
}

PyArrayObject *array_from_arrow(const char *function, const char *name, PyObject *object)
{
    struct arrow_reader reader = {function, name, NULL, 0, NULL};
    const bool one_array = type_has(object, PROTOCOL_ARROW_ARRAY);
    OWNED PyObject *exported = call_export(
        object, protocol_name(one_array ? PROTOCOL_ARROW_ARRAY : PROTOCOL_ARROW_STREAM));
    if (exported == NULL) {
        explain_error(function, name, true);
        return NULL;
    }
    return one_array ? from_array(&reader, exported) : from_stream(&reader, exported);
}
