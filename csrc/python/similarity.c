/* Python bindings of the functions over vectors. A call parses its arguments, makes a plan, runs
 * contract() and returns an array. */
#include "python/methods.h"
#include "python/messages.h"

#include "base/eps.h"
#include "base/fp_mode.h"
#include "base/scratch.h"
#include "vectors/plan.h"
#include "pairwise/contract.h"
#include "python/args.h"
#include "python/docs.h"
#include "python/without_gil.h"

/* Calls with fewer multiplications keep the GIL, because releasing it would cost more than the
 * call. */
enum { GIL_RELEASE_MIN = 1 << 14 };

/* Runs a reduction. Only a call that releases the GIL calls report, with the number of scores done.
 * report may be NULL. Returns 0, or -1 with an error set. */
static int run_reduction(struct reduction *reduction, PyObject *report, size_t total)
{
    struct without_gil released;
    int status;
    /* At least 1, because vectors without elements have outputs too. */
    const size_t depth = larger(reduction->plan->depth, 1);
    if (size_product_or_max(reduction->plan->outputs, depth) < GIL_RELEASE_MIN) {
        const fp_mode caller = fp_mode_enter();
        status = contract(reduction);
        fp_mode_leave(caller);
    } else {
        without_gil_begin(&released, report, total);
        reduction->token = &released.token;
        status = contract(reduction);
        if (without_gil_end(&released) < 0) {
            return -1;
        }
    }
    if (status < 0) {
        PyErr_NoMemory();
    }
    return status;
}

/* ---- shapes ---- */

/* Returns true for shapes (N, D) and (M, D), which pairwise takes. */
static bool differ_in_rows(PyArrayObject *x, PyArrayObject *y)
{
    return PyArray_NDIM(x) == 2 && PyArray_NDIM(y) == 2 && PyArray_DIM(x, 1) == PyArray_DIM(y, 1);
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
            const bool pairs = op != OP_DOT && differ_in_rows(x->array, y->array);
            return fail(PyExc_ValueError, function, x, y,
                        pairs ? NO_BROADCAST_OF_ROWS : NO_BROADCAST, x->name, y->name, x_size,
                        y_size, i - *ndim);
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
        return fail(axis_error(), function, x, y, ndim == 1 ? DIM_OF_ONE_VECTOR : DIM_OUT_OF_RANGE,
                    number, ndim, -range, range - 1);
    }
    dim += dim < 0 ? range : 0;
    if (*reduced >> dim & 1) {
        return fail(PyExc_ValueError, function, x, y, DIM_TWICE, dim);
    }
    *reduced |= (uint64_t)1 << dim;
    return 0;
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
    PyObject *tuple = PySequence_Tuple(object);
    int status = tuple == NULL ? -1 : 0;
    for (; status == 0 && dims->count < PyTuple_GET_SIZE(tuple) && dims->count <= PLAN_MAX_AXES;
         dims->count++) {
        status = integer_argument(function, "dim", PyTuple_GET_ITEM(tuple, dims->count),
                                  &dims->dim[dims->count]);
    }
    Py_XDECREF(tuple);
    return status;
}

/* Sets the bit set of reduced axes. Without dims it is all axes, as in torch.linalg.vector_norm.
 * Returns 0, or -1 with an error set. */
static int reduce_dims(const char *function, const struct array_argument *x,
                       const struct dims *dims, int ndim, uint64_t *reduced)
{
    int status = 0;
    const uint64_t all = ndim == 64 ? ~(uint64_t)0 : ((uint64_t)1 << ndim) - 1;
    *reduced = dims->count > 0 ? 0 : all;
    for (int i = 0; status == 0 && i < dims->count; i++) {
        status = reduce_dim(function, x, NULL, dims->dim[i], ndim, reduced);
    }
    return status;
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

/* Sets the shape of the result, and for each of its dimensions the axis of the call. The axis is -1
 * for a reduced dimension, which keepdim keeps with size 1. Returns the number of dimensions. */
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

/* True for a numpy.ndarray, not a subclass, of float32 or float64, which is C-contiguous, aligned
 * and in native byte order. */
static bool is_plain_array(PyObject *object)
{
    if (!PyArray_CheckExact(object)) {
        return false;
    }
    PyArrayObject *array = (PyArrayObject *)object;
    const int type = PyArray_TYPE(array);
    return (type == NPY_FLOAT || type == NPY_DOUBLE) && PyArray_ISCARRAY_RO(array);
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
 * last dimension. Returns false for all other calls, invalid ones included; the general path
 * handles them. If it returns true, *result may be NULL with an error set. This function neither
 * sets nor restores the floating-point mode: the thread must be in the fixed mode already.
 */
static bool fast_path(enum op op, PyObject *x1, PyObject *x2, Py_ssize_t dim, double eps,
                      PyObject **result)
{
    if (!is_plain_array(x1) || !is_plain_array(x2)) {
        return false;
    }
    PyArrayObject *x = (PyArrayObject *)x1, *y = (PyArrayObject *)x2;
    const int ndim = PyArray_NDIM(x);
    if (ndim == 0 || PyArray_TYPE(x) != PyArray_TYPE(y) || PyArray_NDIM(y) != ndim ||
        (dim != ndim - 1 && dim != -1)) {
        return false;
    }
    const size_t depth = (size_t)PyArray_DIM(x, ndim - 1), size = (size_t)PyArray_SIZE(x);
    if (size == 0 || size >= GIL_RELEASE_MIN || size / depth > FEW_ROWS ||
        !PyArray_CompareLists(PyArray_DIMS(x), PyArray_DIMS(y), ndim)) {
        return false;
    }
    const enum dtype dtype = PyArray_TYPE(x) == NPY_FLOAT ? DTYPE_F32 : DTYPE_F64;
    double results[FEW_ROWS];
    if (!reduce_few_rows(op, eps, dtype, PyArray_DATA(x), PyArray_DATA(y), size / depth, depth,
                         results)) {
        return false;
    }
    *result = few_results(dtype, ndim - 1, PyArray_DIMS(x), results, size / depth);
    return true;
}

/* Sets *value to the value of an int, or to the default if object is NULL. Returns false if the
 * value does not fit or if the object is not exactly an int; integer_argument then handles it. */
static bool plain_integer(PyObject *object, Py_ssize_t default_value, Py_ssize_t *value)
{
    int overflow = 0;
    *value = default_value;
    if (object == NULL) {
        return true;
    }
    if (!PyLong_CheckExact(object)) {
        return false;
    }
    *value = PyLong_AsLongAndOverflow(object, &overflow);
    return overflow == 0;
}

/* The general path of cosine_similarity, cosine_distance and vecdot: two operands and one dim. */
static PyObject *general_path(const char *function, enum op op, Py_ssize_t default_dim,
                              PyObject *x1, PyObject *x2, PyObject *dim, double eps, PyObject *out)
{
    struct vector_call call = {
        .function = function, .op = op, .eps = eps, .out = out, .reduced = 0, .keepdim = false};
    PyObject *result = NULL;
    Py_ssize_t chosen_dim = default_dim;
    if ((dim != NULL && integer_argument(function, "dim", dim, &chosen_dim) < 0) ||
        array_argument(function, "x1", x1, &call.x) < 0 ||
        array_argument(function, "x2", x2, &call.y) < 0) {
        goto done;
    }
    if (array_reread(function, &call.x) == 0 && array_reread(function, &call.y) == 0 &&
        broadcast(function, op, &call.x, &call.y, call.axes, &call.ndim) == 0 &&
        reduce_dim(function, &call.x, &call.y, chosen_dim, call.ndim, &call.reduced) == 0) {
        result = run_call(&call);
    }
done:
    array_release(&call.x);
    array_release(&call.y);
    return result;
}

static PyObject *two_operands(const char *function, enum op op, Py_ssize_t default_dim,
                              PyObject *x1, PyObject *x2, PyObject *dim, PyObject *axis,
                              PyObject *eps, PyObject *out)
{
    PyObject *result = NULL, *chosen;
    Py_ssize_t plain_dim;
    double eps_value = DEFAULT_EPS;
    if (dim_or_axis(function, dim, axis, &chosen) < 0 ||
        eps_argument(function, eps, &eps_value) < 0) {
        return NULL;
    }
    if (out == NULL && fp_mode_is_fixed() && plain_integer(chosen, default_dim, &plain_dim) &&
        fast_path(op, x1, x2, plain_dim, eps_value, &result)) {
        return result;
    }
    return general_path(function, op, default_dim, x1, x2, chosen, eps_value, out);
}

static PyObject *cosine_similarity(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                                   PyObject *kwnames)
{
    static const struct signature signature = {
        "cosine_similarity", 2, 4, {"x1", "x2", "dim", "eps", "out", "axis", NULL}};
    enum { X1, X2, DIM, EPS, OUT, AXIS };
    PyObject *v[MAX_ARGUMENTS];
    if (parse_arguments(&signature, args, nargs, kwnames, v) < 0) {
        return NULL;
    }
    if (is_lazy(v[X1]) || is_lazy(v[X2])) {
        return call_lazily(self, signature.function, args, nargs, kwnames);
    }
    return two_operands(signature.function, OP_COSINE, 1, v[X1], v[X2], v[DIM], v[AXIS], v[EPS],
                        v[OUT]);
}

static PyObject *cosine_distance(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                                 PyObject *kwnames)
{
    static const struct signature signature = {
        "cosine_distance", 2, 4, {"x1", "x2", "dim", "eps", "out", "axis", NULL}};
    enum { X1, X2, DIM, EPS, OUT, AXIS };
    PyObject *v[MAX_ARGUMENTS];
    if (parse_arguments(&signature, args, nargs, kwnames, v) < 0) {
        return NULL;
    }
    if (is_lazy(v[X1]) || is_lazy(v[X2])) {
        return call_lazily(self, signature.function, args, nargs, kwnames);
    }
    return two_operands(signature.function, OP_DISTANCE, 1, v[X1], v[X2], v[DIM], v[AXIS], v[EPS],
                        v[OUT]);
}

static PyObject *vecdot(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    static const struct signature signature = {
        "vecdot", 2, 3, {"x1", "x2", "dim", "out", "axis", NULL}};
    enum { X1, X2, DIM, OUT, AXIS };
    PyObject *v[MAX_ARGUMENTS];
    if (parse_arguments(&signature, args, nargs, kwnames, v) < 0) {
        return NULL;
    }
    if (is_lazy(v[X1]) || is_lazy(v[X2])) {
        return call_lazily(self, signature.function, args, nargs, kwnames);
    }
    return two_operands(signature.function, OP_DOT, -1, v[X1], v[X2], v[DIM], v[AXIS], NULL,
                        v[OUT]);
}

static PyObject *vector_norm(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                             PyObject *kwnames)
{
    static const struct signature signature = {
        "vector_norm", 1, 3, {"x", "dim", "keepdim", "out", "axis", "keepdims", NULL}};
    enum { X, DIM, KEEPDIM, OUT, AXIS, KEEPDIMS };
    PyObject *v[MAX_ARGUMENTS], *dim, *keepdim, *result = NULL;
    struct vector_call call = {.function = signature.function, .op = OP_NORM};
    struct dims dims;
    if (parse_arguments(&signature, args, nargs, kwnames, v) < 0 ||
        dim_or_axis(signature.function, v[DIM], v[AXIS], &dim) < 0 ||
        one_of_two_names(signature.function, "keepdim", v[KEEPDIM], "keepdims", v[KEEPDIMS],
                         &keepdim) < 0) {
        return NULL;
    }
    if (is_lazy(v[X])) {
        return call_lazily(self, signature.function, args, nargs, kwnames);
    }
    const int keep = keepdim == NULL ? 0 : PyObject_IsTrue(keepdim);
    call.keepdim = keep > 0;
    call.out = v[OUT];
    if (keep < 0 || dims_argument(signature.function, dim, &dims) < 0 ||
        array_argument(signature.function, "x", v[X], &call.x) < 0) {
        return NULL;
    }
    axes_of_one(&call.x, call.axes, &call.ndim);
    if (reduce_dims(signature.function, &call.x, &dims, call.ndim, &call.reduced) == 0) {
        result = run_call(&call);
    }
    array_release(&call.x);
    return result;
}

static PyObject *normalize(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                           PyObject *kwnames)
{
    static const struct signature signature = {
        "normalize", 1, 3, {"x", "dim", "eps", "out", "axis", NULL}};
    enum { X, DIM, EPS, OUT, AXIS };
    PyObject *v[MAX_ARGUMENTS], *dim, *result = NULL;
    struct vector_call call = {
        .function = signature.function, .op = OP_NORMALIZE, .eps = NORMALIZE_EPS};
    struct dims dims = {{1}, 1};
    if (parse_arguments(&signature, args, nargs, kwnames, v) < 0 ||
        dim_or_axis(signature.function, v[DIM], v[AXIS], &dim) < 0 ||
        eps_argument(signature.function, v[EPS], &call.eps) < 0) {
        return NULL;
    }
    if (is_lazy(v[X])) {
        return call_lazily(self, signature.function, args, nargs, kwnames);
    }
    call.out = v[OUT];
    if ((dim != NULL && dims_argument(signature.function, dim, &dims) < 0) ||
        array_argument(signature.function, "x", v[X], &call.x) < 0) {
        return NULL;
    }
    axes_of_one(&call.x, call.axes, &call.ndim);
    if (reduce_dims(signature.function, &call.x, &dims, call.ndim, &call.reduced) == 0) {
        result = run_call(&call);
    }
    array_release(&call.x);
    return result;
}

/* ---- pairwise ---- */

/* Returns the scores (N, M) of the rows of x (N, D) with those of y (M, D). y == NULL means x. */
static PyObject *run_pairs(const char *function, const struct array_argument *x,
                           const struct array_argument *y, double eps, PyObject *out,
                           PyObject *report)
{
    const struct array_argument *right = y == NULL ? x : y;
    const npy_intp shape[2] = {PyArray_DIM(x->array, 0), PyArray_DIM(right->array, 0)};
    struct result result;
    struct plan plan;
    if (result_open(function, out, 2, shape, x, y, 0, &result) < 0) {
        return NULL;
    }
    const struct axis left_axis = {(size_t)shape[0], PyArray_STRIDE(x->array, 0), 0,
                                   PyArray_STRIDE(result.array, 0)};
    const struct axis right_axis = {(size_t)shape[1], 0, PyArray_STRIDE(right->array, 0),
                                    PyArray_STRIDE(result.array, 1)};
    const struct axis depth_axis = {(size_t)PyArray_DIM(x->array, 1), PyArray_STRIDE(x->array, 1),
                                    PyArray_STRIDE(right->array, 1), 0};
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
        "pairwise", 1, 2, {"x", "y", "eps", "out", "progress", NULL}};
    enum { X, Y, EPS, OUT, PROGRESS };
    PyObject *v[MAX_ARGUMENTS], *result = NULL, *report, *context;
    struct array_argument x = {0}, y = {0};
    double eps = DEFAULT_EPS;
    if (parse_arguments(&signature, args, nargs, kwnames, v) < 0 ||
        eps_argument(signature.function, v[EPS], &eps) < 0) {
        return NULL;
    }
    if (is_lazy(v[X]) || (v[Y] != NULL && is_lazy(v[Y]))) {
        return call_lazily(self, signature.function, args, nargs, kwnames);
    }
    const bool self_pairs = v[Y] == NULL || v[Y] == Py_None;
    const struct array_argument *right = self_pairs ? NULL : &y;
    if (progress_open(signature.function, v[PROGRESS], &report, &context) < 0) {
        return NULL;
    }
    if (array_argument(signature.function, "x", v[X], &x) == 0 &&
        (self_pairs || array_argument(signature.function, "y", v[Y], &y) == 0) &&
        array_reread(signature.function, &x) == 0 &&
        (self_pairs || array_reread(signature.function, &y) == 0) &&
        check_rows(signature.function, &x, right) == 0) {
        result = run_pairs(signature.function, &x, right, eps, v[OUT], report);
    }
    progress_close(report, context);
    array_release(&x);
    array_release(&y);
    return result;
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
    {0},
};
