#ifndef COSSIM_ARGUMENTS_ARROW_SCHEMA_H
#define COSSIM_ARGUMENTS_ARROW_SCHEMA_H

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
    ARROW_FIXED, /* lists of one length, without offsets */
    ARROW_LIST,
    ARROW_LARGE_LIST,
    ARROW_LIST_VIEW,
    ARROW_LARGE_LIST_VIEW,
};

/* A type of Arrow that holds numbers: lists in lists, around a type of numbers. */
struct arrow_layout {
    int levels; /* of lists: 0 for numbers, 1 for vectors */
    struct {
        enum arrow_list list;
        int64_t width; /* of ARROW_FIXED */
    } level[ARROW_MAX_LEVELS];
    int type;       /* NumPy's type of the numbers */
    npy_intp bytes; /* of one number; 0: numbers are bits */
    /* The extension type FixedShapeTensor: each list of level 0 is a tensor of this shape. Axis i
     * of the result is axis[i] of it. */
    int tensor_ndim; /* 0: no tensor */
    npy_intp tensor_shape[ARROW_MAX_TENSOR];
    int tensor_axis[ARROW_MAX_TENSOR];
};

/* The columns of a type of Arrow that hold its rows. */
struct arrow_rows {
    bool table;                     /* the type is a struct, and layout is that of a column */
    int64_t column;                 /* -1: all columns are numbers, and each is a dimension */
    int64_t columns;                /* their number */
    struct arrow_layout layout;     /* of that column, or of an array that is no table */
    struct arrow_layout *of_column; /* if column is -1: of each; free it with PyMem_Free */
};

/* Finds where a type of Arrow holds rows. Returns 0, or -1 with a TypeError or ValueError set. */
int arrow_rows_of(const char *function, const char *name, const struct arrow_schema *schema,
                  struct arrow_rows *rows);

#endif
