/*
 * Python bindings of search through blocks of rows in memory. cossim/search/functions.py calls them
 * for each pair of blocks. It checks all arguments except arrays, which this file checks.
 */
#include "python/methods.h"
#include "python/messages.h"

#include "base/fp_mode.h"
#include "base/scratch.h"
#include "search/components.h"
#include "search/quantize.h"
#include "search/range.h"
#include "search/search.h"
#include "search/topk.h"
#include "python/args.h"
#include "python/without_gil.h"

/* The first WARM_ROWS + WARM_TIMES_K * k corpus rows are scored without the prefilter. After them,
 * at most one row in thirty reaches the threshold of a query, so the prefilter pays. */
enum { WARM_ROWS = 1024, WARM_TIMES_K = 32 };

/* A call from Python: the arguments that all searches share. */
struct search_call {
    const char *function;
    PyObject *corpus_object, *queries_object, *codes_object, *scales_object, *report;
    Py_ssize_t first_candidate, first_query;
    int self, mirrored;
    double eps;
    struct array_argument corpus, queries;
    struct sq8_codes codes;
    struct search search;
};

#define SEARCH_FORMAT "sOOnnppdOOO"
#define SEARCH_TARGETS(c) \
    &(c).function, &(c).corpus_object, &(c).queries_object, &(c).first_candidate, \
        &(c).first_query, &(c).self, &(c).mirrored, &(c).eps, &(c).codes_object, \
        &(c).scales_object, &(c).report

static void close_call(struct search_call *c)
{
    array_release(&c->corpus);
    array_release(&c->queries);
}

/* Checks that an array made by cossim is contiguous and has this type and shape. Returns it,
 * borrowed, or NULL with ValueError set. */
static PyArrayObject *core_array(PyObject *object, int type, int ndim, const npy_intp *shape,
                                 bool writes)
{
    PyArrayObject *array = (PyArrayObject *)object;
    if (!PyArray_Check(object) || PyArray_TYPE(array) != type || PyArray_NDIM(array) != ndim ||
        !PyArray_ISCARRAY_RO(array) || (writes && !PyArray_ISWRITEABLE(array)) ||
        !PyArray_CompareLists(PyArray_DIMS(array), (npy_intp *)shape, ndim)) {
        PyErr_SetString(PyExc_ValueError, MISFIT);
        return NULL;
    }
    return array;
}

static int open_codes(struct search_call *c)
{
    npy_intp shape[2] = {PyArray_DIM(c->corpus.array, 0), PyArray_DIM(c->corpus.array, 1)};
    if (c->codes_object == Py_None) {
        return 0;
    }
    PyArrayObject *codes = core_array(c->codes_object, NPY_UBYTE, 2, shape, false);
    shape[1] = 2;
    PyArrayObject *scales =
        codes == NULL ? NULL : core_array(c->scales_object, NPY_FLOAT, 2, shape, false);
    if (scales == NULL) {
        PyErr_Clear();
        return fail(PyExc_ValueError, c->function, &c->corpus, NULL, CORPUS_CHANGED);
    }
    c->codes = (struct sq8_codes){PyArray_DATA(codes), PyArray_DATA(scales)};
    c->search.codes = &c->codes;
    return 0;
}

/* Returns first + rows, or -1 if first is negative or the sum overflows. */
static npy_intp end_of(Py_ssize_t first, npy_intp rows)
{
    npy_intp end;
    return first < 0 || __builtin_add_overflow(first, rows, &end) ? -1 : end;
}

/* Checks that the indices of all queries are below `limit`, and those of the candidates too if
 * `all` or if the call is mirrored. Returns 0, or -1 with ValueError set. */
static int check_indices(const struct search_call *c, npy_intp limit, bool all)
{
    const npy_intp queries = end_of(c->first_query, PyArray_DIM(c->queries.array, 0));
    const npy_intp candidates = end_of(c->first_candidate, PyArray_DIM(c->corpus.array, 0));
    if (queries < 0 || candidates < 0 || queries > limit ||
        ((all || c->mirrored) && candidates > limit)) {
        PyErr_SetString(PyExc_ValueError, MISFIT);
        return -1;
    }
    return 0;
}

static int open_call(struct search_call *c, const char *corpus_name, const char *queries_name)
{
    if (array_argument(c->function, corpus_name, c->corpus_object, &c->corpus) < 0 ||
        array_argument(c->function, queries_name, c->queries_object, &c->queries) < 0 ||
        check_rows(c->function, &c->queries, &c->corpus) < 0) {
        close_call(c);
        return -1;
    }
    PyArrayObject *x = c->corpus.array, *y = c->queries.array;
    c->search = (struct search){
        .corpus = c->corpus.operand,
        .queries = c->queries.operand,
        .corpus_rows = {(size_t)PyArray_DIM(x, 0), PyArray_STRIDE(x, 0), 0, 0},
        .query_rows = {(size_t)PyArray_DIM(y, 0), 0, PyArray_STRIDE(y, 0), 0},
        .depth = {(size_t)PyArray_DIM(x, 1), PyArray_STRIDE(x, 1), PyArray_STRIDE(y, 1), 0},
        .eps = c->eps,
        .first_candidate = (size_t)c->first_candidate,
        .first_query = (size_t)c->first_query,
        .self = c->self,
        .mirrored = c->mirrored,
    };
    if (check_indices(c, NPY_MAX_INTP, true) < 0 || open_codes(c) < 0) {
        close_call(c);
        return -1;
    }
    return 0;
}

static enum compute_type compute_type_of(const struct search_call *c)
{
    return search_compute_type(c->corpus.operand.dtype, c->queries.operand.dtype);
}

static int value_type(enum compute_type compute)
{
    return compute == COMPUTE_F64 ? NPY_DOUBLE : NPY_FLOAT;
}

/* Runs the search without the GIL. Returns 0, or -1 with an error set. */
static int run_call(struct search_call *c)
{
    struct without_gil released;
    const size_t rows = c->search.corpus_rows.size,
                 pairs = size_product_or_max(rows, c->search.query_rows.size);
    const bool half = c->corpus.operand.data == c->queries.operand.data &&
                      c->first_candidate == c->first_query && (c->self || c->mirrored);
    without_gil_begin(&released, c->report, half ? pairs_of_rows(rows) : pairs);
    c->search.token = &released.token;
    const int status = search(&c->search);
    if (without_gil_end(&released) < 0) {
        return -1;
    }
    if (status < 0) {
        fail(PyExc_MemoryError, c->function, &c->queries, &c->corpus, NO_MEMORY);
    }
    return status;
}

static PyObject *topk(PyObject *self, PyObject *args)
{
    struct search_call c = {0};
    struct topk topk;
    PyObject *values, *indices;
    int status = -1;
    (void)self;
    if (!PyArg_ParseTuple(args, SEARCH_FORMAT "OO", SEARCH_TARGETS(c), &values, &indices) ||
        open_call(&c, "corpus", "queries") < 0) {
        return NULL;
    }
    const enum compute_type compute = compute_type_of(&c);
    const bool matrix = PyArray_Check(values) && PyArray_NDIM((PyArrayObject *)values) == 2;
    const npy_intp shape[2] = {matrix ? PyArray_DIM((PyArrayObject *)values, 0) : 0,
                               matrix ? PyArray_DIM((PyArrayObject *)values, 1) : 0};
    PyArrayObject *to_values = core_array(values, value_type(compute), 2, shape, true);
    PyArrayObject *to_indices = to_values == NULL || check_indices(&c, shape[0], false) < 0
                                    ? NULL
                                    : core_array(indices, NPY_INT64, 2, shape, true);
    if (to_indices != NULL && shape[1] == 0) {
        PyErr_SetString(PyExc_ValueError, MISFIT);
    } else if (to_indices != NULL) {
        const fp_mode caller = fp_mode_enter();
        status = topk_init(&topk, compute, (size_t)shape[0], (size_t)shape[1],
                           PyArray_DATA(to_values), PyArray_DATA(to_indices));
        fp_mode_leave(caller);
        if (status < 0) {
            PyErr_NoMemory();
        } else {
            c.search.result_handler = &topk.result_handler;
            c.search.warm_up_rows =
                size_sum_or_max(WARM_ROWS, size_product_or_max(WARM_TIMES_K, (size_t)shape[1]));
            status = run_call(&c);
            topk_free(&topk);
        }
    }
    close_call(&c);
    return status < 0 ? NULL : Py_NewRef(Py_None);
}

static PyObject *sort_topk(PyObject *self, PyObject *args)
{
    PyArrayObject *values, *indices;
    (void)self;
    if (!PyArg_ParseTuple(args, "O!O!", &PyArray_Type, &values, &PyArray_Type, &indices)) {
        return NULL;
    }
    const int type = PyArray_TYPE(values) == NPY_DOUBLE ? NPY_DOUBLE : NPY_FLOAT;
    if (core_array((PyObject *)values, type, 2, PyArray_DIMS(values), true) == NULL ||
        core_array((PyObject *)indices, NPY_INT64, 2, PyArray_DIMS(values), true) == NULL) {
        return NULL;
    }
    struct without_gil released;
    without_gil_begin(&released, NULL, 0);
    topk_sort(type == NPY_DOUBLE ? COMPUTE_F64 : COMPUTE_F32, (size_t)PyArray_DIM(values, 0),
              (size_t)PyArray_DIM(values, 1), PyArray_DATA(values), PyArray_DATA(indices),
              &released.token);
    return without_gil_end(&released) < 0 ? NULL : Py_NewRef(Py_None);
}

/* Returns (i, j, values, count) of the pairs found, or (None, None, None, count) if there are more
 * than pairs->max_pairs. NULL with an error set. */
static PyObject *pairs_found(struct range_result *pairs, size_t rows, size_t columns)
{
    const size_t count = atomic_load(&pairs->count);
    if (atomic_load(&pairs->no_memory)) {
        return PyErr_NoMemory();
    }
    if (count > pairs->max_pairs) {
        return Py_BuildValue("OOOn", Py_None, Py_None, Py_None, (Py_ssize_t)count);
    }
    npy_intp shape[1] = {(npy_intp)count};
    PyObject *i = PyArray_SimpleNew(1, shape, NPY_INT64),
             *j = PyArray_SimpleNew(1, shape, NPY_INT64);
    PyObject *values = PyArray_SimpleNew(1, shape, value_type(pairs->result_handler.compute));
    int status = -1;
    if (i != NULL && j != NULL && values != NULL) {
        struct without_gil released;
        without_gil_begin(&released, NULL, 0);
        status = range_store(pairs, rows, columns, PyArray_DATA((PyArrayObject *)i),
                             PyArray_DATA((PyArrayObject *)j),
                             PyArray_DATA((PyArrayObject *)values), &released.token);
        if (without_gil_end(&released) < 0) {
            status = -1;
        } else if (status < 0) {
            PyErr_NoMemory();
        }
    }
    if (status < 0) {
        Py_XDECREF(i);
        Py_XDECREF(j);
        Py_XDECREF(values);
        return NULL;
    }
    return Py_BuildValue("NNNn", i, j, values, (Py_ssize_t)count);
}

static PyObject *pairs(PyObject *self, PyObject *args)
{
    struct search_call c = {0};
    struct range_result pairs;
    double threshold;
    Py_ssize_t max_pairs;
    int swapped_sides;
    PyObject *result = NULL;
    (void)self;
    if (!PyArg_ParseTuple(args, SEARCH_FORMAT "dnp", SEARCH_TARGETS(c), &threshold, &max_pairs,
                          &swapped_sides) ||
        open_call(&c, "y", "x") < 0) {
        return NULL;
    }
    size_t queries = c.search.first_query + c.search.query_rows.size,
           candidates = c.search.first_candidate + c.search.corpus_rows.size;
    /* If mirrored, the indices of both sides refer to one array. */
    queries = c.mirrored && candidates > queries ? candidates : queries;
    candidates = c.mirrored ? queries : candidates;
    const fp_mode caller = fp_mode_enter(); /* because the threshold is rounded */
    const int status = range_init(&pairs, compute_type_of(&c), threshold, (size_t)max_pairs);
    fp_mode_leave(caller);
    if (status < 0) {
        PyErr_NoMemory();
    } else {
        pairs.swapped_sides = swapped_sides;
        c.search.result_handler = &pairs.result_handler;
        if (run_call(&c) == 0) {
            result = swapped_sides ? pairs_found(&pairs, candidates, queries)
                                   : pairs_found(&pairs, queries, candidates);
        }
        range_free(&pairs);
    }
    close_call(&c);
    return result;
}

/* True if the parent of each row is the row itself or an earlier one. Sets ValueError if not. */
static bool are_parents(PyArrayObject *parents)
{
    const int64_t *parent = PyArray_DATA(parents);
    for (npy_intp i = 0; i < PyArray_DIM(parents, 0); i++) {
        if (parent[i] < 0 || parent[i] > i) {
            PyErr_SetString(PyExc_ValueError, MISFIT);
            return false;
        }
    }
    return true;
}

static PyObject *components(PyObject *self, PyObject *args)
{
    struct search_call c = {0};
    struct components joined;
    double threshold;
    PyArrayObject *parents;
    int status = -1;
    (void)self;
    if (!PyArg_ParseTuple(args, SEARCH_FORMAT "dO!", SEARCH_TARGETS(c), &threshold, &PyArray_Type,
                          &parents) ||
        open_call(&c, "x", "x") < 0) {
        return NULL;
    }
    const size_t rows = c.search.first_query + c.search.query_rows.size;
    if (core_array((PyObject *)parents, NPY_INT64, 1, PyArray_DIMS(parents), true) == NULL ||
        !are_parents(parents) || check_indices(&c, PyArray_DIM(parents, 0), true) < 0 ||
        check_indices(&c, (npy_intp)rows, false) < 0) {
        close_call(&c);
        return NULL;
    }
    const fp_mode caller = fp_mode_enter(); /* because the threshold is rounded */
    status = components_init(&joined, compute_type_of(&c), threshold, PyArray_DATA(parents));
    fp_mode_leave(caller);
    if (status < 0) {
        PyErr_NoMemory();
    } else {
        c.search.result_handler = &joined.result_handler;
        status = run_call(&c);
        components_label((size_t)PyArray_DIM(parents, 0), PyArray_DATA(parents));
        components_free(&joined);
    }
    close_call(&c);
    return status < 0 ? NULL : Py_NewRef(Py_None);
}

static PyObject *quantize(PyObject *self, PyObject *args)
{
    struct search_call c = {.codes_object = Py_None};
    PyObject *codes, *scales;
    struct without_gil released;
    int status = -1;
    (void)self;
    if (!PyArg_ParseTuple(args, "sOdOOO", &c.function, &c.corpus_object, &c.eps, &c.report, &codes,
                          &scales)) {
        return NULL;
    }
    c.queries_object = c.corpus_object;
    if (open_call(&c, "corpus", "corpus") < 0) {
        return NULL;
    }
    npy_intp shape[2] = {PyArray_DIM(c.corpus.array, 0), PyArray_DIM(c.corpus.array, 1)};
    PyArrayObject *to_codes = core_array(codes, NPY_UBYTE, 2, shape, true), *to_scales = NULL;
    shape[1] = 2;
    if (to_codes != NULL && (to_scales = core_array(scales, NPY_FLOAT, 2, shape, true)) != NULL) {
        without_gil_begin(&released, c.report, (size_t)shape[0]);
        c.search.token = &released.token;
        status = search_quantize(&c.search, PyArray_DATA(to_codes), PyArray_DATA(to_scales));
        if (without_gil_end(&released) < 0) {
            status = -1;
        } else if (status < 0) {
            PyErr_NoMemory();
        }
    }
    close_call(&c);
    return status < 0 ? NULL : Py_NewRef(Py_None);
}

#define SEARCH_NAMES \
    "function, corpus, queries, first_candidate, first_query, without_self, mirrored, eps, " \
    "codes, scales, report"

PyMethodDef search_methods[] = {
    BY_POSITION("topk", topk, SEARCH_NAMES ", values, indices",
                "Merges the candidates of a block into the k best of each query, in no order."),
    BY_POSITION("topk_sort", sort_topk, "values, indices", "Sorts the results of topk."),
    BY_POSITION("pairs", pairs, SEARCH_NAMES ", threshold, max_pairs, swapped",
                "Returns (i, j, values, count). i are queries and j candidates, or the reverse if\n"
                "swapped.\n"
                "The arrays are None if there are more than max_pairs pairs."),
    BY_POSITION(
        "components", components, SEARCH_NAMES ", threshold, parents",
        "Joins components in parents: those of two rows whose score reaches the threshold."),
    BY_POSITION("quantize", quantize, "function, corpus, eps, report, codes, scales",
                "Writes the SQ8 codes (N, D) of the rows and their scales (N, 2)."),
    {0},
};
