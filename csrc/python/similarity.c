/* Python bindings of the functions over vectors. A call parses its arguments, makes a plan, runs
 * contract() and returns an array. */
#include "python/methods.h"
#include "arguments/messages.h"

#include "base/eps.h"
#include "base/fp_mode.h"
#include "base/scratch.h"
#include "vectors/plan.h"
#include "pairwise/contract.h"
#include "pairwise/maxsim.h"
#include "arguments/args.h"
#include "python/docs.h"
#include "python/sparse.h"
#include "python/without_gil.h"

/* Runs a reduction. Only a call that releases the GIL calls report, with the number of scores done.
 * report may be NULL. Returns 0, or -1 with an error set. */
static int run_reduction(struct reduction *reduction, PyObject *report, size_t total)
{
    struct without_gil released;
    /* At least 1, because vectors without elements have outputs too. */
    const size_t depth = larger(reduction->plan->depth, 1),
                 multiplications = size_product_or_max(reduction->plan->outputs, depth);
    reduction->token = without_gil_begin_sized(&released, multiplications, report, total);
    return without_gil_finish(&released, contract(reduction));
}

/* ---- shapes ---- */

/* Returns the message for shapes that do not broadcast. */
static const char *no_broadcast(enum op op, PyArrayObject *x, PyArrayObject *y)
{
    const int ndim = PyArray_NDIM(x);
    if (ndim == 1 && PyArray_NDIM(y) == 1) {
        return VECTOR_LENGTHS;
    }
    if (ndim != 2 || PyArray_NDIM(y) != 2 || PyArray_DIM(x, 1) != PyArray_DIM(y, 1)) {
        return NO_BROADCAST;
    }
    /* NO_BROADCAST_OF_ROWS suggests pairwise, which computes no dot products. */
    return op == OP_DOT ? NO_BROADCAST : NO_BROADCAST_OF_ROWS;
}

/* Sets axes to the broadcast shape of both operands and to their strides. The strides of the result
 * are set later. Returns 0, or -1 with ValueError set. */
static int broadcast(const char *function, enum op op, const struct array_argument *x,
                     const struct array_argument *y, struct axis *axes, int *ndim)
{
    const int x_ndim = PyArray_NDIM(x->array), y_ndim = PyArray_NDIM(y->array);
    *ndim = x_ndim > y_ndim ? x_ndim : y_ndim;
    for (int i = 0; i < *ndim; i++) {
        const int xi = i - (*ndim - x_ndim), yi = i - (*ndim - y_ndim);
        const npy_intp x_size = xi < 0 ? 1 : PyArray_DIM(x->array, xi),
                       y_size = yi < 0 ? 1 : PyArray_DIM(y->array, yi);
        if (x_size != y_size && x_size != 1 && y_size != 1) {
            return fail(PyExc_ValueError, function, x, y, no_broadcast(op, x->array, y->array),
                        x->name, y->name, x_size, y_size, i - *ndim);
        }
        axes[i].size = (size_t)(x_size == 1 ? y_size : x_size);
        axes[i].x = x_size == 1 ? 0 : PyArray_STRIDE(x->array, xi);
        axes[i].y = y_size == 1 ? 0 : PyArray_STRIDE(y->array, yi);
        axes[i].out = 0;
    }
    return 0;
}

/* Sets axes to the shape and strides of a single operand. */
static void axes_of_one(const struct array_argument *x, struct axis *axes, int *ndim)
{
    *ndim = PyArray_NDIM(x->array);
    for (int i = 0; i < *ndim; i++) {
        const npy_intp size = PyArray_DIM(x->array, i),
                       stride = size == 1 ? 0 : PyArray_STRIDE(x->array, i);
        axes[i] = (struct axis){(size_t)size, stride, stride, 0};
    }
}

/* Adds one dim to the bit set of reduced axes. A 0-d array accepts 0 and -1, as in torch. Returns
 * 0, or -1 with an error set. */
static int reduce_dim(const char *function, const struct array_argument *x,
                      const struct array_argument *y, Py_ssize_t dim, int ndim, uint64_t *reduced)
{
    const int range = ndim == 0 ? 1 : ndim;
    if (dim < -range || dim >= range) {
        char number[32] = "";
        if (!may_be_clipped(dim)) {
            PyOS_snprintf(number, sizeof number, " %zd", dim);
        }
        OWNED PyObject *error = axis_error();
        return fail(error, function, x, y, ndim == 1 ? DIM_OF_ONE_VECTOR : DIM_OUT_OF_RANGE, number,
                    ndim, -range, range - 1);
    }
    dim += dim < 0 ? range : 0;
    if (*reduced >> dim & 1) {
        return fail(PyExc_ValueError, function, x, y, DIM_TWICE, dim);
    }
    *reduced |= (uint64_t)1 << dim;
    return 0;
}

/* Returns the default dim: the last for vecdot, 0 for a single vector, otherwise 1, as in torch. */
static Py_ssize_t default_dim(enum op op, int ndim)
{
    if (op == OP_DOT) {
        return -1;
    }
    return ndim == 1 ? 0 : 1;
}

/* The value of the argument dim: an integer, or a tuple or list of integers. */
struct dims {
    Py_ssize_t dim[PLAN_MAX_AXES + 1]; /* one more than can be valid, so that reduce_dims fails */
    int count;
};

/* Reads dim. NULL and None give count 0. Returns 0, or -1 with an error set. */
static int dims_argument(const char *function, PyObject *object, struct dims *dims)
{
    dims->count = 0;
    if (object == NULL || object == Py_None) {
        return 0;
    }
    if (!PyTuple_Check(object) && !PyList_Check(object)) {
        dims->count = 1;
        return integer_argument(function, "dim", object, &dims->dim[0]);
    }
    OWNED PyObject *tuple = PySequence_Tuple(object);
    if (tuple == NULL) {
        return -1;
    }
    const Py_ssize_t size = PyTuple_GET_SIZE(tuple), most = PLAN_MAX_AXES + 1;
    dims->count = (int)(size < most ? size : most);
    for (int i = 0; i < dims->count; i++) {
        if (integer_argument(function, "dim", PyTuple_GET_ITEM(tuple, i), &dims->dim[i]) < 0) {
            return -1;
        }
    }
    return 0;
}

/* Sets the bit set of reduced axes. Without dims these are all axes, as in
 * torch.linalg.vector_norm. Returns 0, or -1 with an error set. */
static int reduce_dims(const char *function, const struct array_argument *x,
                       const struct dims *dims, int ndim, uint64_t *reduced)
{
    const uint64_t all = ndim == 64 ? ~(uint64_t)0 : ((uint64_t)1 << ndim) - 1;
    *reduced = dims->count > 0 ? 0 : all;
    for (int i = 0; i < dims->count; i++) {
        if (reduce_dim(function, x, NULL, dims->dim[i], ndim, reduced) < 0) {
            return -1;
        }
    }
    return 0;
}

/* ---- one call ---- */

struct vector_call {
    const char *function;
    enum op op;
    double eps;
    struct array_argument x, y;
    PyObject *out;
    int ndim;
    struct axis axes[PLAN_MAX_AXES];
    uint64_t reduced;
    bool keepdim;
};

static void close_call(struct vector_call *call)
{
    array_release(&call->x);
    array_release(&call->y);
}

/* Sets the shape of the result. axis_of[i] becomes the axis of the call that is dimension i of the
 * result, or -1 for a reduced dimension, which keepdim keeps with size 1. Returns the number of
 * dimensions. */
static int result_shape(const struct vector_call *call, npy_intp *shape, int *axis_of)
{
    int ndim = 0;
    shape[0] = 0; /* only to avoid a compiler's warning about 0-d results */
    for (int i = 0; i < call->ndim; i++) {
        const bool reduced = call->reduced >> i & 1 && call->op != OP_NORMALIZE;
        if (!reduced || call->keepdim) {
            axis_of[ndim] = reduced ? -1 : i;
            shape[ndim++] = reduced ? 1 : (npy_intp)call->axes[i].size;
        }
    }
    return ndim;
}

/* Plans and runs a call whose axes are set. Returns its result, or NULL with an error set. */
static PyObject *run_call(struct vector_call *call)
{
    npy_intp shape[PLAN_MAX_AXES];
    int axis_of[PLAN_MAX_AXES];
    struct result result;
    struct plan plan;
    const struct array_argument *y = op_has_one_operand(call->op) ? NULL : &call->y;
    const int ndim = result_shape(call, shape, axis_of);
    if (result_open(call->function, call->out, ndim, shape, &call->x, y, call->op == OP_NORMALIZE,
                    &result) < 0) {
        return NULL;
    }
    for (int i = 0; i < ndim; i++) {
        if (axis_of[i] >= 0) {
            call->axes[axis_of[i]].out = PyArray_STRIDE(result.array, i);
        }
    }
    const struct plan_request request = {
        .ndim = call->ndim,
        .axes = call->axes,
        .reduced = call->reduced,
        .x_item = PyArray_ITEMSIZE(call->x.array),
        .y_item = PyArray_ITEMSIZE(y == NULL ? call->x.array : y->array),
        .one_operand = y == NULL,
    };
    if (!plan_make(&plan, &request)) {
        fail(PyExc_ValueError, call->function, &call->x, y, TOO_MANY_ELEMENTS);
        return result_finish(&result, 0);
    }
    struct reduction reduction = {
        .op = call->op,
        .eps = call->eps,
        .x = call->x.operand,
        .y = y == NULL ? call->x.operand : y->operand,
        .out_dtype = result.dtype,
        .out = PyArray_BYTES(result.array),
        .plan = &plan,
    };
    return result_finish(&result, run_reduction(&reduction, NULL, 0) == 0);
}

/* Returns an array of n results, or a scalar if ndim is 0. */
static PyObject *few_results(enum dtype dtype, int ndim, const npy_intp *shape,
                             const double *results, size_t n)
{
    if (ndim > 0) {
        PyObject *array =
            PyArray_SimpleNew(ndim, shape, dtype == DTYPE_F64 ? NPY_DOUBLE : NPY_FLOAT);
        if (array != NULL) {
            dtype_store(dtype, PyArray_BYTES((PyArrayObject *)array), (ptrdiff_t)dtype_size(dtype),
                        results, n);
        }
        return array;
    }
    PyObject *scalar = dtype == DTYPE_F64 ? PyArrayScalar_New(Double) : PyArrayScalar_New(Float);
    if (scalar != NULL && dtype == DTYPE_F64) {
        PyArrayScalar_ASSIGN(scalar, Double, results[0]);
    } else if (scalar != NULL) {
        PyArrayScalar_ASSIGN(scalar, Float, (float)results[0]);
    }
    return scalar;
}

/*
 * The fast path for small calls: a few rows of two arrays of the same type and shape, along the
 * last dimension. given is NULL for the default dim. Returns false for all other calls, invalid
 * ones included; the general path handles them. If it returns true, *result may be NULL with an
 * error set. This function neither sets nor restores the floating-point mode: the thread must be in
 * the fixed mode already.
 */
static bool fast_path(enum op op, PyObject *x1, PyObject *x2, const Py_ssize_t *given, double eps,
                      PyObject **result)
{
    PyArrayObject *x = (PyArrayObject *)x1, *y = (PyArrayObject *)x2;
    if (!PyArray_CheckExact(x1) || !PyArray_CheckExact(x2)) {
        return false;
    }
    const int ndim = PyArray_NDIM(x), type = float_type(x);
    const Py_ssize_t dim = given == NULL ? default_dim(op, ndim) : *given;
    if (ndim == 0 || (dim != ndim - 1 && dim != -1) || !can_read(x, type, ndim, NULL) ||
        !can_read(y, type, ndim, PyArray_DIMS(x))) {
        return false;
    }
    const size_t depth = (size_t)PyArray_DIM(x, ndim - 1), size = (size_t)PyArray_SIZE(x);
    if (size == 0 || size >= GIL_RELEASE_MIN || size / depth > FEW_ROWS) {
        return false;
    }
    const enum dtype dtype = type == NPY_FLOAT ? DTYPE_F32 : DTYPE_F64;
    double results[FEW_ROWS];
    if (!reduce_few_rows(op, eps, dtype, PyArray_DATA(x), PyArray_DATA(y), size / depth, depth,
                         results)) {
        return false;
    }
    *result = few_results(dtype, ndim - 1, PyArray_DIMS(x), results, size / depth);
    return true;
}

/* Sets *value to the value of an exact int that fits, or leaves it unset for NULL. Returns false
 * for other objects; integer_argument then handles them. */
static bool plain_integer(PyObject *object, Py_ssize_t *value)
{
    int overflow = 0;
    if (object == NULL) {
        return true;
    }
    if (!PyLong_CheckExact(object)) {
        return false;
    }
    *value = PyLong_AsLongAndOverflow(object, &overflow);
    return overflow == 0;
}

/* Converts one or two operands, whose names are set. The second object is NULL if there is only
 * one. Returns 0, or -1 with an error set. Release both in either case. */
static int open_operands(const char *function, PyObject *first, struct array_argument *x,
                         PyObject *second, struct array_argument *y)
{
    if (array_argument(function, x->name, first, x) < 0 ||
        (second != NULL && array_argument(function, y->name, second, y) < 0) ||
        array_reread(function, x) < 0) {
        return -1;
    }
    return second == NULL ? 0 : array_reread(function, y);
}

/* Returns the name of the function in cossim/_finders.py that finds the Python function to call
 * instead, if an operand is a Dask array or sparse rows. Else NULL. y may be NULL. */
static inline const char *finder_for(PyObject *x, PyObject *y)
{
    if (is_lazy(x) || (y != NULL && is_lazy(y))) {
        return "dask_function";
    }
    return is_sparse(x) || (y != NULL && is_sparse(y)) ? "sparse_function" : NULL;
}

/* The general path of cosine_similarity, cosine_distance and vecdot: two operands and one dim.
 * given is NULL for the default dim. Not inlined, because small calls are 5 % faster without it. */
static __attribute__((noinline)) PyObject *general_path(struct vector_call *call, PyObject *x1,
                                                        PyObject *x2, const Py_ssize_t *given)
{
    call->x.name = "x1";
    call->y.name = "x2";
    if (open_operands(call->function, x1, &call->x, x2, &call->y) < 0 ||
        broadcast(call->function, call->op, &call->x, &call->y, call->axes, &call->ndim) < 0 ||
        reduce_dim(call->function, &call->x, &call->y,
                   given == NULL ? default_dim(call->op, call->ndim) : *given, call->ndim,
                   &call->reduced) < 0) {
        return NULL;
    }
    return run_call(call);
}

static PyObject *two_operands(PyObject *self, const struct signature *signature, enum op op,
                              PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    enum { X1, X2, DIM, EPS, OUT, AXIS };
    PyObject *v[MAX_ARGUMENTS], *dim_object, *result;
    Py_ssize_t dim = 0;
    double eps = DEFAULT_EPS;
    if (parse_arguments(signature, args, nargs, kwnames, v) < 0) {
        if (op != OP_DOT && nargs == 1 && kwnames == NULL) {
            raise_format(PyExc_TypeError, ONE_OPERAND, signature->function);
        }
        return NULL;
    }
    const char *finder = finder_for(v[X1], v[X2]);
    if (finder != NULL) {
        return call_found(self, finder, signature->function, args, nargs, kwnames);
    }
    if (op == OP_DOT) { /* vecdot has no eps */
        v[AXIS] = v[OUT];
        v[OUT] = v[EPS];
        v[EPS] = NULL;
    }
    if (dim_or_axis(signature->function, v[DIM], v[AXIS], &dim_object) < 0 ||
        eps_argument(signature->function, v[EPS], &eps) < 0) {
        return NULL;
    }
    const Py_ssize_t *given = dim_object == NULL ? NULL : &dim;
    if (v[OUT] == NULL && fp_mode_is_fixed() && plain_integer(dim_object, &dim) &&
        fast_path(op, v[X1], v[X2], given, eps, &result)) {
        return result;
    }
    if (dim_object != NULL && integer_argument(signature->function, "dim", dim_object, &dim) < 0) {
        return NULL;
    }
    CLOSED_BY(close_call)
    struct vector_call call = {
        .function = signature->function, .op = op, .eps = eps, .out = v[OUT]};
    return general_path(&call, v[X1], v[X2], given);
}

static PyObject *cosine_similarity(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                                   PyObject *kwnames)
{
    static const struct signature signature = {
        "cosine_similarity", 2, 4, {"x1", "x2", "dim", "eps", "out", "axis", NULL}};
    return two_operands(self, &signature, OP_COSINE, args, nargs, kwnames);
}

static PyObject *cosine_distance(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                                 PyObject *kwnames)
{
    static const struct signature signature = {
        "cosine_distance", 2, 4, {"x1", "x2", "dim", "eps", "out", "axis", NULL}};
    return two_operands(self, &signature, OP_DISTANCE, args, nargs, kwnames);
}

static PyObject *vecdot(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    static const struct signature signature = {
        "vecdot", 2, 3, {"x1", "x2", "dim", "out", "axis", NULL}};
    return two_operands(self, &signature, OP_DOT, args, nargs, kwnames);
}

/* vector_norm and normalize: one operand and any number of dims. Dims of NULL mean the default. */
static PyObject *one_operand(struct vector_call *call, PyObject *x, const struct dims *dims)
{
    if (array_argument(call->function, "x", x, &call->x) < 0) {
        return NULL;
    }
    axes_of_one(&call->x, call->axes, &call->ndim);
    const struct dims one = {{default_dim(call->op, call->ndim)}, 1};
    dims = dims == NULL ? &one : dims;
    if (reduce_dims(call->function, &call->x, dims, call->ndim, &call->reduced) < 0) {
        return NULL;
    }
    return run_call(call);
}

static PyObject *vector_norm(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                             PyObject *kwnames)
{
    static const struct signature signature = {
        "vector_norm", 1, 3, {"x", "dim", "keepdim", "out", "axis", "keepdims", NULL}};
    enum { X, DIM, KEEPDIM, OUT, AXIS, KEEPDIMS };
    PyObject *v[MAX_ARGUMENTS], *dim, *keepdim;
    CLOSED_BY(close_call)
    struct vector_call call = {.function = signature.function, .op = OP_NORM};
    struct dims dims;
    if (parse_arguments(&signature, args, nargs, kwnames, v) < 0 ||
        dim_or_axis(signature.function, v[DIM], v[AXIS], &dim) < 0 ||
        one_of_two_names(signature.function, "keepdim", v[KEEPDIM], "keepdims", v[KEEPDIMS],
                         &keepdim) < 0) {
        return NULL;
    }
    const char *finder = finder_for(v[X], NULL);
    if (finder != NULL) {
        return call_found(self, finder, signature.function, args, nargs, kwnames);
    }
    const int keep = keepdim == NULL ? 0 : PyObject_IsTrue(keepdim);
    call.keepdim = keep > 0;
    call.out = v[OUT];
    if (keep < 0 || dims_argument(signature.function, dim, &dims) < 0) {
        return NULL;
    }
    return one_operand(&call, v[X], &dims);
}

static PyObject *normalize(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                           PyObject *kwnames)
{
    static const struct signature signature = {
        "normalize", 1, 3, {"x", "dim", "eps", "out", "axis", NULL}};
    enum { X, DIM, EPS, OUT, AXIS };
    PyObject *v[MAX_ARGUMENTS], *dim;
    CLOSED_BY(close_call)
    struct vector_call call = {
        .function = signature.function, .op = OP_NORMALIZE, .eps = NORMALIZE_EPS};
    struct dims dims;
    if (parse_arguments(&signature, args, nargs, kwnames, v) < 0 ||
        dim_or_axis(signature.function, v[DIM], v[AXIS], &dim) < 0) {
        return NULL;
    }
    const char *finder = finder_for(v[X], NULL);
    if (finder != NULL) {
        return call_found(self, finder, signature.function, args, nargs, kwnames);
    }
    call.out = v[OUT];
    if (eps_argument(signature.function, v[EPS], &call.eps) < 0 ||
        (dim != NULL && dims_argument(signature.function, dim, &dims) < 0)) {
        return NULL;
    }
    return one_operand(&call, v[X], dim == NULL ? NULL : &dims);
}

/* ---- pairwise ---- */

/* Returns the scores (N, M) of the rows of x (N, D) with the rows of y (M, D). y == NULL means x. A
 * vector (D,) in place of a matrix is a single row, and the result lacks its axis, as in matmul. */
static PyObject *run_pairs(const char *function, const struct array_argument *x,
                           const struct array_argument *y, double eps, PyObject *out,
                           PyObject *report)
{
    const struct array_argument *right = y == NULL ? x : y;
    const bool has_left = PyArray_NDIM(x->array) == 2, has_right = PyArray_NDIM(right->array) == 2;
    npy_intp shape[2];
    int ndim = 0;
    struct result result;
    struct plan plan;
    if (has_left) {
        shape[ndim++] = PyArray_DIM(x->array, 0);
    }
    if (has_right) {
        shape[ndim++] = PyArray_DIM(right->array, 0);
    }
    if (result_open(function, out, ndim, shape, x, y, 0, &result) < 0) {
        return NULL;
    }
    struct axis left_axis = {1, 0, 0, 0}, right_axis = {1, 0, 0, 0};
    if (has_left) {
        left_axis = (struct axis){(size_t)shape[0], PyArray_STRIDE(x->array, 0), 0,
                                  PyArray_STRIDE(result.array, 0)};
    }
    if (has_right) {
        right_axis = (struct axis){(size_t)shape[ndim - 1], 0, PyArray_STRIDE(right->array, 0),
                                   PyArray_STRIDE(result.array, ndim - 1)};
    }
    const struct axis depth_axis = {(size_t)PyArray_DIM(x->array, has_left),
                                    PyArray_STRIDE(x->array, has_left),
                                    PyArray_STRIDE(right->array, has_right), 0};
    plan_pairs(&plan, &left_axis, &right_axis, &depth_axis);
    struct reduction reduction = {
        .op = OP_COSINE,
        .eps = eps,
        .x = x->operand,
        .y = right->operand,
        .out_dtype = result.dtype,
        .out = PyArray_BYTES(result.array),
        .plan = &plan,
    };
    const size_t total = y == NULL ? pairs_of_rows(left_axis.size)
                                   : size_product_or_max(left_axis.size, right_axis.size);
    return result_finish(&result, run_reduction(&reduction, report, total) == 0);
}

static PyObject *pairwise(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                          PyObject *kwnames)
{
    static const struct signature signature = {
        "pairwise", 1, 2, {"x", "y", "eps", "out", "progress", "binary", NULL}};
    enum { X, Y, EPS, OUT, PROGRESS, BINARY };
    PyObject *v[MAX_ARGUMENTS], *result = NULL, *report, *context;
    CLOSED_BY(array_release) struct array_argument x = {.name = "x"}, y = {.name = "y"};
    double eps = DEFAULT_EPS;
    if (parse_arguments(&signature, args, nargs, kwnames, v) < 0) {
        return NULL;
    }
    const char *finder = finder_for(v[X], v[Y]);
    if (finder != NULL) {
        return call_found(self, finder, signature.function, args, nargs, kwnames);
    }
    if (eps_argument(signature.function, v[EPS], &eps) < 0) {
        return NULL;
    }
    PyObject *other = v[Y] == Py_None ? NULL : v[Y];
    const struct array_argument *right = other == NULL ? NULL : &y;
    const int binary = v[BINARY] == NULL ? 0 : PyObject_IsTrue(v[BINARY]);
    if (binary < 0 || progress_open(signature.function, v[PROGRESS], &report, &context) < 0) {
        return NULL;
    }
    if (open_operands(signature.function, v[X], &x, other, &y) == 0 &&
        (!binary || (bits_argument(signature.function, &x) == 0 &&
                     (other == NULL || bits_argument(signature.function, &y) == 0))) &&
        check_rows(signature.function, &x, right) == 0) {
        result = run_pairs(signature.function, &x, right, eps, v[OUT], report);
    }
    if (progress_close(report, context) < 0) {
        release(result);
        return NULL;
    }
    return result;
}

/* ---- maxsim ---- */

/* Returns whether offsets rise strictly from 0 to `rows`. */
static bool are_offsets(PyArrayObject *offsets, npy_intp rows)
{
    if (!can_read(offsets, NPY_INT64, 1, NULL) || PyArray_DIM(offsets, 0) < 1) {
        return false;
    }
    const int64_t *at = PyArray_DATA(offsets);
    const npy_intp documents = PyArray_DIM(offsets, 0) - 1;
    for (npy_intp i = 0; i < documents; i++) {
        if (at[i + 1] <= at[i]) {
            return false;
        }
    }
    return at[0] == 0 && at[documents] == rows;
}

static PyObject *maxsim(PyObject *Py_UNUSED(self), PyObject *args)
{
    static const char function[] = "maxsim";
    CLOSED_BY(array_release)
    struct array_argument query = {.name = "query"}, documents = {.name = "documents"};
    PyObject *query_rows, *document_rows, *report;
    PyArrayObject *offsets, *mask, *scores;
    double eps;
    if (!PyArg_ParseTuple(args, "OOOOdOO:maxsim", &query_rows, &document_rows, &offsets, &mask,
                          &eps, &report, &scores) ||
        open_operands(function, query_rows, &query, document_rows, &documents) < 0 ||
        check_rows(function, &query, &documents) < 0) {
        return NULL;
    }

    PyArrayObject *x = documents.array, *y = query.array;
    if (PyArray_NDIM(x) != 2 || PyArray_NDIM(y) != 2 || !are_offsets(offsets, PyArray_DIM(x, 0))) {
        return misfit();
    }
    const npy_intp shape[1] = {PyArray_DIM(offsets, 0) - 1};
    if (!can_write(scores, NPY_DOUBLE, 1, shape) ||
        (!is_none(mask) && !can_read(mask, NPY_BOOL, 1, shape))) {
        return misfit();
    }

    struct without_gil released;
    struct maxsim call = {
        .x = documents.operand,
        .y = query.operand,
        .rows = {(size_t)PyArray_DIM(x, 0), PyArray_STRIDE(x, 0), 0, 0},
        .query_rows = {(size_t)PyArray_DIM(y, 0), 0, PyArray_STRIDE(y, 0), 0},
        .depth = {(size_t)PyArray_DIM(x, 1), PyArray_STRIDE(x, 1), PyArray_STRIDE(y, 1), 0},
        .eps = eps,
        .offsets = PyArray_DATA(offsets),
        .documents = (size_t)shape[0],
        .mask = is_none(mask) ? NULL : PyArray_DATA(mask),
        .scores = PyArray_DATA(scores),
    };
    call.token = without_gil_begin(&released, report, call.documents);
    const int status = maxsim_run(&call);
    if (without_gil_end(&released) < 0) {
        return NULL;
    }
    return none_or_error(
        status < 0 ? fail(PyExc_MemoryError, function, &query, &documents, NO_MEMORY) : 0);
}

#define METHOD(name) \
    {#name, (PyCFunction)(void (*)(void))name, METH_FASTCALL | METH_KEYWORDS, DOC_##name}

PyMethodDef similarity_methods[] = {
    METHOD(cosine_similarity),
    METHOD(cosine_distance),
    METHOD(vecdot),
    METHOD(vector_norm),
    METHOD(normalize),
    METHOD(pairwise),
    BY_POSITION("maxsim", maxsim, "query, documents, offsets, mask, eps, report, scores",
                "Writes the MaxSim of the documents that the mask marks, or of all of them."),
    {0},
};
