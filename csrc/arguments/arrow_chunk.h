#pragma once

#include "arguments/arrow_schema.h"

/* One chunk of Arrow's C data interface. */
struct arrow_array {
    int64_t length, null_count, offset, n_buffers, n_children;
    const void **buffers;
    struct arrow_array **children, *dictionary;
    void (*release)(struct arrow_array *);
    void *private_data;
};

/* The state of reading one argument. `function` and `name` are for messages. */
struct arrow_reader {
    const char *function, *name;
    const struct arrow_layout *layout;
    int64_t first_row; /* the number of the chunk's first row, for messages */
    PyObject *owner;   /* keeps the chunk's memory alive */
};

/* Returns the rows of a chunk: an array over its memory, which reader->owner keeps alive. New
 * reference, or NULL with an error set. */
PyArrayObject *arrow_read_chunk(const struct arrow_reader *reader, const struct arrow_rows *rows,
                                const struct arrow_array *chunk);

/* Returns the arrays of a list joined along an axis, or its only array. The list may be NULL with
 * an error set. */
PyArrayObject *arrow_join(const struct arrow_reader *reader, PyObject *list, int axis);

/* Raises the error for a row whose number of elements differs from that of an earlier row. */
void arrow_ragged(const struct arrow_reader *reader, int64_t row, int64_t size, int64_t first,
                  int64_t first_size);

/* Appends an array to a list. Steals the reference to the array, which may be NULL with an error
 * set. Returns 0, or -1 with an error set. */
int arrow_append(PyObject *list, PyArrayObject *array);
