#pragma once

#include <stdbool.h>

#include "arguments/numpy.h"

/* The structures of Arrow's C data interface: https://arrow.apache.org/docs/format/CDataInterface.
 */
struct arrow_schema {
    const char *format, *name, *metadata;
    int64_t flags, n_children;
    struct arrow_schema **children, *dictionary;
    void (*release)(struct arrow_schema *);
    void *private_data;
};

enum { ARROW_MAX_LEVELS = 8, ARROW_MAX_TENSOR = 16 };

enum arrow_list {
    ARROW_FIXED, /* fixed-size lists, which have no offsets */
    ARROW_LIST,
    ARROW_LARGE_LIST,
    ARROW_LIST_VIEW,
    ARROW_LARGE_LIST_VIEW,
};

/* An Arrow type that holds numbers: a number type inside nested lists. */
struct arrow_layout {
    int levels; /* levels of nested lists: 0 for numbers, 1 for vectors */
    struct {
        enum arrow_list list;
        int64_t width; /* length of the lists of ARROW_FIXED */
    } level[ARROW_MAX_LEVELS];
    int type;       /* NumPy's type of the numbers */
    npy_intp bytes; /* of one number; 0: numbers are bits */
    /* The extension type FixedShapeTensor: each list of level 0 is a tensor of this shape. Axis i
     * of the result is axis tensor_axis[i] of the tensor. */
    int tensor_ndim; /* 0: no tensor */
    npy_intp tensor_shape[ARROW_MAX_TENSOR];
    int tensor_axis[ARROW_MAX_TENSOR];
};

/* The columns of an Arrow type that hold its rows. */
struct arrow_rows {
    bool table;      /* the type is a struct, and layout is that of a column */
    int64_t column;  /* the column that holds the rows; -1: each column holds one dimension */
    int64_t columns; /* number of columns */
    struct arrow_layout layout;     /* layout of `column`, or of a type that is not a table */
    struct arrow_layout *of_column; /* [columns] if column is -1; free it with PyMem_Free */
};

/* Finds the columns of an Arrow type that hold its rows. Returns 0, or -1 with a TypeError or
 * ValueError set. */
int arrow_rows_of(const char *function, const char *name, const struct arrow_schema *schema,
                  struct arrow_rows *rows);
