/*
 * Python bindings of sparse rows, for cossim/search/sparse.py. That module checks all arguments
 * except arrays, which this file and csrc/sparse/rows.c check.
 *
 * A side of a call is an array (N, D), or the tuple (data, indices, indptr, N, D) of CSR.
 */
#include "python/sparse.h"

#include "base/fp_mode.h"
#include "base/scratch.h"
#include "search/block.h"
#include "results/components.h"
#include "results/range.h"
#include "sparse/range_search.h"
#include "sparse/sparse_pairwise.h"
#include "sparse/sparse_topk.h"
#include "arguments/args.h"
#include "arguments/messages.h"
#include "python/methods.h"
#include "python/search.h"
#include "python/without_gil.h"

int is_sparse_object(PyObject *object)
{
    static const char *const arrays[] = {"indptr", "indices", "data", "shape"};
    int found = type_has(object, PROTOCOL_SPARSE) || PyUnicode_Check(object) ||
                type_has(object, PROTOCOL_PATH);
    if (found == 0) {
        found = !type_has(object, PROTOCOL_ARRAY);
        for (size_t i = 0; i < sizeof arrays / sizeof *arrays && found == 1; i++) {
            found = PyObject_HasAttrString(object, arrays[i]);
        }
    }
    PyErr_Clear();
    return found > 0;
}

static PyObject *is_sparse_method(PyObject *Py_UNUSED(self), PyObject *object)
{
    return PyBool_FromLong(is_sparse(object));
}

/* ---- sides ---- */

enum { LONGEST_NAME = 32 };

struct sparse_side {
    const char *name;
    char names[3][LONGEST_NAME]; /* names of the arrays, for messages */
    struct array_argument data, indices, indptr;
    PyObject *copies[2]; /* copies of indices and indptr that cannot be read in place */
    struct sparse_source source;
};

static void close_side(struct sparse_side *side)
{
    array_release(&side->data);
    array_release(&side->indices);
    array_release(&side->indptr);
    release(side->copies[0]);
    release(side->copies[1]);
}

/* Reads the integers of an array (N,) in place, or from a copy. Returns their address, or NULL with
 * an error set. */
static const void *integers_of(const char *function, const struct array_argument *argument,
                               bool *wide, PyObject **copy)
{
    PyArrayObject *array = argument->array;
    const enum dtype dtype = argument->operand.dtype;
    if (dtype_is_float(dtype) || PyArray_ISBOOL(array)) {
        fail(PyExc_TypeError, function, argument, NULL, CSR_INTEGERS, argument->name);
        return NULL;
    }
    *wide = dtype != DTYPE_I32;
    if ((dtype == DTYPE_I32 || dtype == DTYPE_I64) && PyArray_ISCARRAY_RO(array)) {
        return PyArray_DATA(array);
    }
    *wide = true;
    *copy = PyArray_FROMANY((PyObject *)array, NPY_INT64, 1, 1,
                            NPY_ARRAY_CARRAY_RO | NPY_ARRAY_FORCECAST | NPY_ARRAY_ENSURECOPY);
    return *copy == NULL ? NULL : PyArray_DATA((PyArrayObject *)*copy);
}

/* Converts the arrays of a side. Reads no property of them, because converting a later argument can
 * change an array. Returns 0, or -1 with an error set. */
static int convert_side(const char *function, struct sparse_side *side, PyObject *object)
{
    PyObject *data, *indices, *indptr;
    Py_ssize_t rows, columns;
    if (!PyTuple_Check(object)) {
        return array_argument(function, side->name, object, &side->data);
    }
    if (!PyArg_ParseTuple(object, "OOOnn", &data, &indices, &indptr, &rows, &columns)) {
        return -1;
    }
    PyOS_snprintf(side->names[0], LONGEST_NAME, "%s.data", side->name);
    PyOS_snprintf(side->names[1], LONGEST_NAME, "%s.indices", side->name);
    PyOS_snprintf(side->names[2], LONGEST_NAME, "%s.indptr", side->name);
    side->source.count = (size_t)rows;
    side->source.columns = (size_t)columns;
    return array_argument(function, side->names[0], data, &side->data) < 0 ||
                   array_argument(function, side->names[1], indices, &side->indices) < 0 ||
                   array_argument(function, side->names[2], indptr, &side->indptr) < 0
               ? -1
               : 0;
}

static int read_dense(const char *function, struct sparse_side *side)
{
    PyArrayObject *array = side->data.array;
    if (array_reread(function, &side->data) < 0) {
        return -1;
    }
    if (PyArray_NDIM(array) != 2) {
        return misfit_status();
    }
    side->source = (struct sparse_source){.data = side->data.operand,
                                          .row_stride = PyArray_STRIDE(array, 0),
                                          .stride = PyArray_STRIDE(array, 1),
                                          .is_dense = true,
                                          .count = (size_t)PyArray_DIM(array, 0),
                                          .columns = (size_t)PyArray_DIM(array, 1)};
    return 0;
}

static int read_csr(const char *function, struct sparse_side *side)
{
    struct sparse_source *s = &side->source;
    PyArrayObject *data = side->data.array, *indices = side->indices.array,
                  *indptr = side->indptr.array;
    if (array_reread(function, &side->data) < 0 || array_reread(function, &side->indices) < 0 ||
        array_reread(function, &side->indptr) < 0) {
        return -1;
    }
    const Py_ssize_t rows = (Py_ssize_t)s->count, columns = (Py_ssize_t)s->columns;
    if (rows < 0 || columns < 0 || rows == PY_SSIZE_T_MAX || PyArray_NDIM(data) != 1 ||
        PyArray_NDIM(indices) != 1 || PyArray_NDIM(indptr) != 1 ||
        PyArray_DIM(data, 0) != PyArray_DIM(indices, 0) || PyArray_DIM(indptr, 0) != rows + 1) {
        return raise_format(PyExc_ValueError, CSR_ARRAYS, function, side->name, rows, columns,
                            rows == PY_SSIZE_T_MAX ? rows : rows + 1);
    }
    s->data = side->data.operand;
    s->stride = PyArray_STRIDE(data, 0);
    s->is_logical = PyArray_ISBOOL(data);
    s->entries = (size_t)PyArray_DIM(data, 0);
    s->indices = integers_of(function, &side->indices, &s->wide_indices, &side->copies[0]);
    s->indptr = s->indices == NULL
                    ? NULL
                    : integers_of(function, &side->indptr, &s->wide_indptr, &side->copies[1]);
    return s->indptr == NULL ? -1 : 0;
}

/* ---- calls ---- */

enum { X, Y, SIDES };

struct sparse_call {
    const char *function;
    struct sparse_side sides[SIDES];
    size_t count; /* of sides: 1 for x with itself */
    double eps;
    PyObject *report;
    struct filter filter;
    bool has_filter;
    enum sparse_status status;
    size_t row; /* where an error was found: a row of side `at` */
    size_t at;
    struct sparse_rows rows[SIDES];
};

static void close_call(struct sparse_call *c)
{
    close_side(&c->sides[X]);
    close_side(&c->sides[Y]);
}

static enum dtype dtype_of_side(const struct sparse_call *c, size_t side)
{
    return c->sides[side < c->count ? side : X].data.operand.dtype;
}

/* The second operand of messages, NULL for x with itself. */
static const struct array_argument *other_data(const struct sparse_call *c)
{
    return c->count == 1 ? NULL : &c->sides[Y].data;
}

/* Reads a request: a cossim.search.sparse.Request. Returns 0, or -1 with an error set. Close the
 * call in either case. */
static int open_call(struct sparse_call *c, PyObject *request)
{
    PyObject *objects[SIDES], *filter;
    if (!PyTuple_Check(request)) {
        return misfit_status();
    }
    if (!PyArg_ParseTuple(request, "ssOsOdOO", &c->function, &c->sides[X].name, &objects[X],
                          &c->sides[Y].name, &objects[Y], &c->eps, &c->report, &filter)) {
        return -1;
    }
    c->count = objects[Y] == Py_None ? 1 : 2;
    for (size_t i = 0; i < c->count; i++) {
        if (convert_side(c->function, &c->sides[i], objects[i]) < 0) {
            return -1;
        }
    }
    for (size_t i = 0; i < c->count; i++) {
        const bool is_csr = PyTuple_Check(objects[i]);
        if ((is_csr ? read_csr : read_dense)(c->function, &c->sides[i]) < 0) {
            return -1;
        }
    }
    const struct sparse_side *x = &c->sides[X], *y = &c->sides[Y];
    if (c->count == 2 && x->source.columns != y->source.columns) {
        return fail(PyExc_ValueError, c->function, &x->data, &y->data, ROW_LENGTHS, x->name,
                    (Py_ssize_t)x->source.columns, y->name, (Py_ssize_t)y->source.columns);
    }
    const int status = read_filter(filter, (npy_intp)x->source.count,
                                   (npy_intp)c->sides[c->count - 1].source.count, &c->filter);
    c->has_filter = status > 0;
    return status < 0 ? -1 : 0;
}

/* Reads the rows of all sides, without the GIL. Free the rows in any case. Returns 0, or -1 on an
 * error, which run_call raises. */
static int read_rows(struct sparse_call *c, enum compute_type compute)
{
    struct column_map map;
    struct sparse_source sources[SIDES] = {c->sides[X].source, c->sides[Y].source};
    c->status = column_map_init(&map, sources, c->count);
    for (size_t i = 0; i < c->count && c->status == SPARSE_OK; i++) {
        c->at = i;
        c->rows[i].compute = compute;
        c->rows[i].eps = c->eps;
        c->status = sparse_rows_init(&c->rows[i], &sources[i], &map, &c->row);
    }
    column_map_free(&map);
    return c->status == SPARSE_OK ? 0 : -1;
}

static const struct sparse_rows *right_rows(const struct sparse_call *c)
{
    return &c->rows[c->count - 1];
}

/* The calculation of a call. It runs without the GIL, after the rows have been read. Returns 0, or
 * -1 when memory runs out. */
typedef int calculation(struct sparse_call *c, void *context, struct cancel_token *token);

/* Reads the rows and runs the calculation without the GIL. Returns 0, or -1 with an error set. */
static int run_call(struct sparse_call *c, enum compute_type compute, calculation *calculate,
                    void *context, size_t total)
{
    struct without_gil released;
    struct cancel_token *token = without_gil_begin(&released, c->report, total);
    const struct cancel_scope before = cancel_enter(token, 0);
    int status = read_rows(c, compute);
    if (status == 0 && !cancel_requested(token)) {
        status = calculate(c, context, token);
    }
    cancel_leave(before);
    for (size_t i = 0; i < c->count; i++) {
        sparse_rows_free(&c->rows[i]);
    }
    if (without_gil_end(&released) < 0) {
        return -1;
    }
    const struct sparse_side *side = &c->sides[c->at];
    if (c->status == SPARSE_BAD_INDPTR) {
        PyErr_Format(PyExc_ValueError, CSR_INDPTR, c->function, side->name,
                     (Py_ssize_t)side->source.entries, (Py_ssize_t)c->row);
    } else if (c->status == SPARSE_BAD_INDEX) {
        PyErr_Format(PyExc_ValueError, CSR_INDEX, c->function, (Py_ssize_t)c->row, side->name,
                     (Py_ssize_t)side->source.columns - 1);
    } else if (status < 0) {
        fail(PyExc_MemoryError, c->function, &c->sides[X].data, other_data(c), NO_MEMORY);
    }
    return status;
}

static size_t pairs_of_call(const struct sparse_call *c, bool half)
{
    const size_t rows = c->sides[X].source.count;
    return c->count == 1 && half ? pairs_of_rows(rows)
                                 : size_product_or_max(rows, c->sides[c->count - 1].source.count);
}

static enum compute_type compute_type_of_call(const struct sparse_call *c)
{
    return dtypes_compute_type(dtype_of_side(c, X), dtype_of_side(c, Y));
}

/* ---- pairwise ---- */

static int compute_pairwise(struct sparse_call *c, void *context, struct cancel_token *token)
{
    struct sparse_pairwise *call = context;
    call->x = &c->rows[X];
    call->y = right_rows(c);
    call->token = token;
    return call->x->count == 0 || call->y->count == 0 ? 0 : sparse_pairwise(call);
}

static PyObject *pairwise(PyObject *Py_UNUSED(self), PyObject *args)
{
    CLOSED_BY(close_call) struct sparse_call c = {.count = 0};
    PyObject *request, *out;
    struct result result;
    if (!PyArg_ParseTuple(args, "OO:sparse_pairwise", &request, &out) ||
        open_call(&c, request) < 0) {
        return NULL;
    }
    const struct sparse_source *x = &c.sides[X].source, *y = &c.sides[c.count - 1].source;
    const npy_intp shape[2] = {(npy_intp)x->count, (npy_intp)y->count};
    if (result_open(c.function, out, 2, shape, &c.sides[X].data, other_data(&c), 0, &result) < 0) {
        return NULL;
    }
    struct sparse_pairwise call = {.out_dtype = result.dtype,
                                   .out = PyArray_BYTES(result.array),
                                   .row_stride = PyArray_STRIDE(result.array, 0),
                                   .column_stride = PyArray_STRIDE(result.array, 1)};
    const enum compute_type compute =
        result.dtype == DTYPE_F32 ? compute_type_of_call(&c) : COMPUTE_F64;
    const int status = run_call(&c, compute, compute_pairwise, &call, pairs_of_call(&c, true));
    return result_finish(&result, status == 0);
}

/* ---- search ---- */

static int compute_topk(struct sparse_call *c, void *context, struct cancel_token *token)
{
    struct sparse_topk *call = context;
    call->queries = &c->rows[X];
    call->corpus = right_rows(c);
    call->token = token;
    return sparse_topk(call);
}

static PyObject *topk(PyObject *Py_UNUSED(self), PyObject *args)
{
    CLOSED_BY(close_call) struct sparse_call c = {.count = 0};
    PyObject *request;
    PyArrayObject *values, *indices;
    if (!PyArg_ParseTuple(args, "OOO:sparse_topk", &request, &values, &indices) ||
        open_call(&c, request) < 0) {
        return NULL;
    }
    const enum compute_type compute = compute_type_of_call(&c);
    if (!can_write(values, value_type(compute), 2, NULL) ||
        !can_write(indices, NPY_INT64, 2, PyArray_DIMS(values)) ||
        (size_t)PyArray_DIM(values, 0) != c.sides[X].source.count || PyArray_DIM(values, 1) == 0) {
        return misfit();
    }
    struct sparse_topk call = {.self = c.count == 1,
                               .filter = c.has_filter ? &c.filter : NULL,
                               .k = (size_t)PyArray_DIM(values, 1),
                               .values = PyArray_DATA(values),
                               .indices = PyArray_DATA(indices)};
    return none_or_error(run_call(&c, compute, compute_topk, &call, pairs_of_call(&c, false)));
}

static int compute_search(struct sparse_call *c, void *context, struct cancel_token *token)
{
    const struct sparse_search search = {.queries = &c->rows[X],
                                         .corpus = right_rows(c),
                                         .filter = c->has_filter ? &c->filter : NULL,
                                         .self = c->count == 1,
                                         .result_handler = context,
                                         .token = token};
    return sparse_range_search(&search);
}

static int compute_pairs(struct sparse_call *c, void *context, struct cancel_token *token)
{
    const struct range_result *found = context;
    const int status = compute_search(c, context, token);
    return atomic_load(&found->no_memory) ? -1 : status;
}

static PyObject *pairs(PyObject *Py_UNUSED(self), PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"", "threshold", "max_pairs", NULL};
    CLOSED_BY(close_call) struct sparse_call c = {.count = 0};
    double threshold;
    Py_ssize_t max_pairs;
    PyObject *request, *result = NULL;
    struct range_result found;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O$dn:sparse_pairs", names, &request, &threshold,
                                     &max_pairs) ||
        open_call(&c, request) < 0) {
        return NULL;
    }
    const enum compute_type compute = compute_type_of_call(&c);
    if (range_init(&found, compute, threshold, c.sides[X].source.count,
                   c.sides[c.count - 1].source.count) < 0) {
        return PyErr_NoMemory();
    }
    found.max_pairs = (size_t)max_pairs;
    if (run_call(&c, compute, compute_pairs, &found, pairs_of_call(&c, true)) == 0) {
        result = pairs_found(&found);
    }
    range_free(&found);
    return result;
}

static PyObject *components(PyObject *Py_UNUSED(self), PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"", "", "threshold", NULL};
    CLOSED_BY(close_call) struct sparse_call c = {.count = 0};
    PyObject *request;
    PyArrayObject *parents;
    double threshold;
    struct components joined;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OO$d:sparse_components", names, &request,
                                     &parents, &threshold) ||
        open_call(&c, request) < 0) {
        return NULL;
    }
    const enum compute_type compute = compute_type_of_call(&c);
    if (!are_parents(parents) || c.count != 1 ||
        (size_t)PyArray_DIM(parents, 0) != c.sides[X].source.count) {
        return misfit();
    }
    if (components_init(&joined, compute, threshold, PyArray_DATA(parents)) < 0) {
        return PyErr_NoMemory();
    }
    const int status = run_call(&c, compute, compute_search, &joined, pairs_of_call(&c, true));
    components_label((size_t)PyArray_DIM(parents, 0), PyArray_DATA(parents));
    components_free(&joined);
    return none_or_error(status);
}

/* ---- rows ---- */

struct row_cosines {
    size_t count;
    bool distance;
    double *results;
};

/* Computes the cosine of row i of x and row i of y for every i. The row of a side with one row is
 * paired with every row of the other side. */
static int compute_cosines(struct sparse_call *c, void *context, struct cancel_token *token)
{
    const struct row_cosines *call = context;
    const struct sparse_rows *x = &c->rows[X], *y = right_rows(c);
    for (size_t i = 0; i < call->count && !cancel_poll(token, 0); i++) {
        const size_t a = x->count == 1 ? 0 : i, b = y->count == 1 ? 0 : i;
        const double cosine = sparse_cosine(x, a, y, b, sparse_dot(x, a, y, b));
        call->results[i] = call->distance ? 1.0 - cosine : cosine;
    }
    return 0;
}

static PyObject *cosines(PyObject *Py_UNUSED(self), PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"", "", "distance", NULL};
    CLOSED_BY(close_call) struct sparse_call c = {.count = 0};
    PyObject *request, *out;
    int distance;
    struct result result;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OO$p:sparse_cosines", names, &request, &out,
                                     &distance) ||
        open_call(&c, request) < 0) {
        return NULL;
    }
    const struct sparse_side *left = &c.sides[X], *right = &c.sides[c.count - 1];
    const size_t x = left->source.count, y = right->source.count;
    const npy_intp shape[1] = {(npy_intp)(x == 1 ? y : x)};
    if (x != y && x != 1 && y != 1) {
        fail(PyExc_ValueError, c.function, &left->data, &right->data, NO_BROADCAST_OF_ROWS,
             left->name, right->name, (Py_ssize_t)x, (Py_ssize_t)y);
        return NULL;
    }
    if (result_open(c.function, out, 1, shape, &left->data, other_data(&c), 0, &result) < 0) {
        return NULL;
    }
    struct row_cosines call = {
        (size_t)shape[0], distance,
        scratch_alloc(size_product_or_max((size_t)shape[0], sizeof *call.results))};
    int status = -1;
    if (call.results == NULL) {
        PyErr_NoMemory();
    } else {
        status = run_call(&c, compute_type_of_call(&c), compute_cosines, &call, call.count);
    }
    if (status == 0) {
        const fp_mode caller = fp_mode_enter();
        dtype_store(result.dtype, PyArray_BYTES(result.array), PyArray_STRIDE(result.array, 0),
                    call.results, call.count);
        fp_mode_leave(caller);
    }
    scratch_free(call.results);
    return result_finish(&result, status == 0);
}

struct row_norms {
    double *norms;
    int *exponents;
};

static int compute_norms(struct sparse_call *c, void *context, struct cancel_token *token)
{
    const struct row_norms *call = context;
    const struct sparse_rows *x = &c->rows[X];
    (void)token;
    for (size_t i = 0; i < x->count; i++) {
        call->norms[i] = sqrt(x->squares[i]);
        call->exponents[i] = x->exponents[i];
    }
    return 0;
}

static PyObject *norms(PyObject *Py_UNUSED(self), PyObject *args)
{
    CLOSED_BY(close_call) struct sparse_call c = {.count = 0};
    PyObject *request;
    if (!PyArg_ParseTuple(args, "O:sparse_norms", &request) || open_call(&c, request) < 0) {
        return NULL;
    }
    npy_intp shape[1] = {(npy_intp)c.sides[X].source.count};
    PyObject *found = PyArray_SimpleNew(1, shape, NPY_DOUBLE),
             *exponents = found == NULL ? NULL : PyArray_SimpleNew(1, shape, NPY_INT);
    int status = -1;
    if (exponents != NULL) {
        struct row_norms call = {PyArray_DATA((PyArrayObject *)found),
                                 PyArray_DATA((PyArrayObject *)exponents)};
        status = run_call(&c, COMPUTE_F64, compute_norms, &call, (size_t)shape[0]);
    }
    return finished_two(found, exponents, status);
}

PyMethodDef sparse_methods[] = {
    {"is_sparse", is_sparse_method, METH_O,
     "is_sparse($module, object, /)\n--\n\n"
     "True for objects with the arrays of CSR, for those that can be converted to CSR, and for\n"
     "paths of files, which may hold sparse rows."},
    BY_POSITION("sparse_pairwise", pairwise, "request, out",
                "The scores of all rows of x with all rows of y, as a matrix."),
    BY_POSITION("sparse_topk", topk, "request, values, indices",
                "Writes the k best rows of y for each row of x, best first."),
    BY_NAME("sparse_pairs", pairs, "request, /, *, threshold, max_pairs",
            "Returns (i, j, values, count). The arrays are None if there are more than max_pairs\n"
            "pairs."),
    BY_NAME("sparse_components", components, "request, parents, /, *, threshold",
            "Joins components in parents: those of two rows whose score reaches the threshold."),
    BY_NAME("sparse_cosines", cosines, "request, out, /, *, distance",
            "The cosines, or distances, of the rows of x with the rows of y, one by one."),
    BY_POSITION("sparse_norms", norms, "request",
                "Returns (norms, exponents): the norm of row i is norms[i] * 2**exponents[i]."),
    {0},
};
