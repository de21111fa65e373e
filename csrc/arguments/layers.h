#pragma once

#include "arguments/operands.h"

#include "conv2d/convolutions.h"

/*
 * Arguments of layers: arrays of one float type, sizes of windows, and the geometry of convolutions
 * and pools. All checks of the layers' arguments are here. Functions that return an int return 0,
 * or -1 with an error set, which names the public function.
 *
 * Convert numbers before arrays: their conversion can run code of the user that changes arrays.
 */

enum { LAYER_ARRAYS = 5 };

/* Array arguments of a layer. Release them with layer_arrays_close, even if they were refused. */
struct layer_arrays {
    const char *function;
    size_t count;
    const char *names[LAYER_ARRAYS];
    PyArrayObject *arrays[LAYER_ARRAYS]; /* plain, C-contiguous, of one type */
    int type;                            /* NPY_FLOAT or NPY_DOUBLE */
};

/* Converts `count` objects. Raises TypeError unless all are float32 or all are float64. */
int layer_arrays_open(struct layer_arrays *a, const char *function, size_t count,
                      const char *const *names, PyObject *const *objects);
void layer_arrays_close(struct layer_arrays *a);

/* Raises the template of cossim/_errors.py with the fields of Py_BuildValue's dict `format`, and
 * the fields `function` and `arrays`. Returns -1. */
int layer_error(PyObject *exception, const struct layer_arrays *a, const char *template,
                const char *format, ...);

static inline size_t dim(const PyArrayObject *array, int i)
{
    return (size_t)PyArray_DIM(array, i);
}

static inline struct extent2 last_two(const PyArrayObject *array)
{
    const int ndim = PyArray_NDIM(array);
    return (struct extent2){dim(array, ndim - 2), dim(array, ndim - 1)};
}

/* Returns (height, width). New reference, or NULL with an error set. */
static inline PyObject *size_tuple(struct extent2 size)
{
    return Py_BuildValue("(nn)", (Py_ssize_t)size.h, (Py_ssize_t)size.w);
}

/* Reads (height, width) from a pair of integers, or from one integer that stands for both. Each is
 * from `least` to INT_MAX. */
int pair_argument(const char *function, const char *name, PyObject *object, Py_ssize_t least,
                  struct extent2 *pair);

/* The arguments of a convolution that are not arrays. */
struct conv2d_options {
    struct extent2 stride, padding, dilation;
    bool same; /* padding="same", which conv2d_arguments_open replaces by numbers of zeros */
    size_t groups;
};
int conv2d_options_read(struct conv2d_options *options, const char *function, PyObject *stride,
                        PyObject *padding, PyObject *dilation, PyObject *groups);

/* The arguments of a convolution, checked against each other. */
struct conv2d_arguments {
    struct layer_arrays arrays; /* x, weight and, unless it is None, bias */
    struct conv2d conv;         /* without output */
    struct extent2 after;       /* zeros after the last row and column */
    int ndim;                   /* of x: 4, or 3 for one image */
};

/* Reads a tuple (x, weight, bias, stride, padding, dilation, groups). */
int conv2d_arguments_open(struct conv2d_arguments *a, PyObject *tuple);

/* Reads the windows of a pool from a tuple (kernel_size, stride, padding, dilation). A stride of
 * None or () means the size of the kernel. */
int pool_windows_read(struct max_pool2d *pool, const char *function, PyObject *tuple);

/* Reads the images x of a pool, (N, C, H, W) or (C, H, W), and finds the size of its result. Call
 * pool_windows_read first. */
int pool_images_open(struct layer_arrays *a, struct max_pool2d *pool, const char *function,
                     PyObject *x, bool ceil_mode);

/* Checks the arrays of a batch normalization: x is (N, C, ...), and the others are (C,). */
int layer_check_channels(const struct layer_arrays *a);

/* The arguments of a linear layer. */
struct linear_arguments {
    struct layer_arrays arrays; /* x, weight and, unless it is None, bias */
    struct linear layer;        /* without output */
    PyArrayObject *bias;        /* (out_features,), or NULL */
};

/* Reads (x, weight, bias). */
int linear_arguments_open(struct linear_arguments *a, PyObject *const *objects);
void linear_arguments_close(struct linear_arguments *a);
