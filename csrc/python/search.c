/*
 * Python bindings of search through blocks of rows in memory. cossim/search/functions.py calls them
 * block by block and checks all arguments except the arrays, which are checked here.
 */
#include "python/search.h"

#include "base/fp_mode.h"
#include "base/scratch.h"
#include "search/components.h"
#include "search/quantize.h"
#include "search/range.h"
#include "search/search.h"
#include "search/topk.h"
#include "python/args.h"
#include "python/without_gil.h"

/* Corpus rows after which the threshold of a query is high enough for the prefilter to pay:
 * WARM_ROWS + WARM_TIMES_K * k. At most one row in thirty then reaches the threshold.
 */
enum { WARM_ROWS = 1024, WARM_TIMES_K = 32 };

/* The arguments that all searches share. */
struct call {
    const char *function;
    PyObject *corpus_object, *queries_object, *codes_object, *scales_object, *report;
    Py_ssize_t first_candidate, first_query;
    int self, mirrored;
    double eps;
    struct array_argument corpus, queries;
    struct sq8_codes codes;
    struct search search;
};

#define CALL_FORMAT "sOOnnppdOOO"
#define CALL_TARGETS(c) \
    &(c).function, &(c).corpus_object, &(c).queries_object, &(c).first_candidate, \
        &(c).first_query, &(c).self, &(c).mirrored, &(c).eps, &(c).codes_object, \
        &(c).scales_object, &(c).report

static void call_close(struct call *c)
{
    array_release(&c->corpus);
    array_release(&c->queries);
}

/* Checks an array that cossim made: contiguous, of this type and shape. Borrowed, or NULL with
 * ValueError set. */
static PyArrayObject *own_array(PyObject *object, int type, int ndim, const npy_intp *shape,
                                bool writes)
{
    PyArrayObject *array = (PyArrayObject *)object;
    if (!PyArray_Check(object) || PyArray_TYPE(array) != type || PyArray_NDIM(array) != ndim ||
        !PyArray_ISCARRAY_RO(array) || (writes && !PyArray_ISWRITEABLE(array)) ||
        !PyArray_CompareLists(PyArray_DIMS(array), (npy_intp *)shape, ndim)) {
        PyErr_SetString(PyExc_ValueError,
                        "an array that holds results or codes has the wrong type, shape or layout");
        return NULL;
    }
    return array;
}

static int call_open_codes(struct call *c)
{
    npy_intp shape[2] = {PyArray_DIM(c->corpus.array, 0), PyArray_DIM(c->corpus.array, 1)};
    if (c->codes_object == Py_None) {
        return 0;
    }
    PyArrayObject *codes = own_array(c->codes_object, NPY_UBYTE, 2, shape, false);
    shape[1] = 2;
    PyArrayObject *scales =
        codes == NULL ? NULL : own_array(c->scales_object, NPY_FLOAT, 2, shape, false);
    if (scales == NULL) {
        PyErr_Clear();
        return fail(PyExc_ValueError, c->function, &c->corpus, NULL,
                    "the corpus has been changed since the index was made");
    }
    c->codes = (struct sq8_codes){PyArray_DATA(codes), PyArray_DATA(scales)};
    c->search.codes = &c->codes;
    return 0;
}

/* first + rows: the end of the numbers of `rows` rows that start at `first`. -1 if first is
 * negative or the sum overflows. */
static npy_intp end_of(Py_ssize_t first, npy_intp rows)
{
    npy_intp end;
    return first < 0 || __builtin_add_overflow(first, rows, &end) ? -1 : end;
}

/* Checks that the numbers of all queries are below `room`; with `all` or mirrored, also those of
 * the candidates. 0, or -1 with ValueError set. */
static int check_numbers(const struct call *c, npy_intp room, bool all)
{
    const npy_intp queries = end_of(c->first_query, PyArray_DIM(c->queries.array, 0));
    const npy_intp candidates = end_of(c->first_candidate, PyArray_DIM(c->corpus.array, 0));
    if (queries < 0 || candidates < 0 || queries > room ||
        ((all || c->mirrored) && candidates > room)) {
        PyErr_SetString(PyExc_ValueError, "rows whose numbers lie beyond the results");
        return -1;
    }
    return 0;
}

static int call_open(struct call *c, const char *corpus_name, const char *queries_name)
{
    if (array_argument(c->function, corpus_name, c->corpus_object, &c->corpus) < 0 ||
        array_argument(c->function, queries_name, c->queries_object, &c->queries) < 0 ||
        check_rows(c->function, &c->queries, &c->corpus) < 0) {
        call_close(c);
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
    if (check_numbers(c, NPY_MAX_INTP, true) < 0 || call_open_codes(c) < 0) {
        call_close(c);
        return -1;
    }
    return 0;
}

static enum compute_type compute_type_of(const struct call *c)
{
    return search_compute_type(c->corpus.operand.dtype, c->queries.operand.dtype);
}

static int value_type(enum compute_type compute)
{
    return compute == COMPUTE_F64 ? NPY_DOUBLE : NPY_FLOAT;
}

/* Runs the search without the GIL. 0, or -1 with an error set. */
static int call_run(struct call *c)
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
        fail(PyExc_MemoryError, c->function, &c->queries, &c->corpus,
             "not enough memory for this search: pass fewer rows at a time");
    }
    return status;
}

static PyObject *topk(PyObject *self, PyObject *args)
{
    struct call c = {0};
    struct topk topk;
    PyObject *values, *indices;
    int status = -1;
    (void)self;
    if (!PyArg_ParseTuple(args, CALL_FORMAT "OO", CALL_TARGETS(c), &values, &indices) ||
        call_open(&c, "corpus", "queries") < 0) {
        return NULL;
    }
    const enum compute_type compute = compute_type_of(&c);
    const npy_intp shape[2] = {PyArray_Check(values) && PyArray_NDIM((PyArrayObject *)values) == 2
                                   ? PyArray_DIM((PyArrayObject *)values, 0)
                                   : 0,
                               PyArray_Check(values) && PyArray_NDIM((PyArrayObject *)values) == 2
                                   ? PyArray_DIM((PyArrayObject *)values, 1)
                                   : 0};
    PyArrayObject *to_values = own_array(values, value_type(compute), 2, shape, true);
    PyArrayObject *to_indices = to_values == NULL || check_numbers(&c, shape[0], false) < 0
                                    ? NULL
                                    : own_array(indices, NPY_INT64, 2, shape, true);
    if (to_indices != NULL && shape[1] == 0) {
        PyErr_SetString(PyExc_ValueError, "topk(): k must be at least 1");
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
            status = call_run(&c);
            topk_free(&topk);
        }
    }
    call_close(&c);
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
    if (own_array((PyObject *)values, type, 2, PyArray_DIMS(values), true) == NULL ||
        own_array((PyObject *)indices, NPY_INT64, 2, PyArray_DIMS(values), true) == NULL) {
        return NULL;
    }
    struct without_gil released;
    without_gil_begin(&released, NULL, 0);
    topk_sort(type == NPY_DOUBLE ? COMPUTE_F64 : COMPUTE_F32, (size_t)PyArray_DIM(values, 0),
              (size_t)PyArray_DIM(values, 1), PyArray_DATA(values), PyArray_DATA(indices),
              &released.token);
    return without_gil_end(&released) < 0 ? NULL : Py_NewRef(Py_None);
}

/* Returns (i, j, values, count) of the pairs found, or (None, None, None, count) if the count is
 * above pairs->max_pairs. NULL with an error set. */
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
    struct call c = {0};
    struct range_result pairs;
    double threshold;
    Py_ssize_t max_pairs;
    int swapped_sides;
    PyObject *result = NULL;
    (void)self;
    if (!PyArg_ParseTuple(args, CALL_FORMAT "dnp", CALL_TARGETS(c), &threshold, &max_pairs,
                          &swapped_sides) ||
        call_open(&c, "y", "x") < 0) {
        return NULL;
    }
    size_t queries = c.search.first_query + c.search.query_rows.size,
           candidates = c.search.first_candidate + c.search.corpus_rows.size;
    /* If mirrored, the numbers of both sides refer to one array. */
    queries = c.mirrored && candidates > queries ? candidates : queries;
    candidates = c.mirrored ? queries : candidates;
    const fp_mode caller = fp_mode_enter(); /* the threshold is rounded */
    const int status = range_init(&pairs, compute_type_of(&c), threshold, (size_t)max_pairs);
    fp_mode_leave(caller);
    if (status < 0) {
        PyErr_NoMemory();
    } else {
        pairs.swapped_sides = swapped_sides;
        c.search.result_handler = &pairs.result_handler;
        if (call_run(&c) == 0) {
            result = swapped_sides ? pairs_found(&pairs, candidates, queries)
                                   : pairs_found(&pairs, queries, candidates);
        }
        range_free(&pairs);
    }
    call_close(&c);
    return result;
}

/* Is the parent of each row that row or one before it? False with ValueError set if not. */
static bool are_parents(PyArrayObject *parents)
{
    const int64_t *parent = PyArray_DATA(parents);
    for (npy_intp i = 0; i < PyArray_DIM(parents, 0); i++) {
        if (parent[i] < 0 || parent[i] > i) {
            PyErr_SetString(PyExc_ValueError, "parents must be rows, none behind its own");
            return false;
        }
    }
    return true;
}

static PyObject *groups(PyObject *self, PyObject *args)
{
    struct call c = {0};
    struct components groups;
    double threshold;
    PyArrayObject *parents;
    int status = -1;
    (void)self;
    if (!PyArg_ParseTuple(args, CALL_FORMAT "dO!", CALL_TARGETS(c), &threshold, &PyArray_Type,
                          &parents) ||
        call_open(&c, "x", "x") < 0) {
        return NULL;
    }
    const size_t rows = c.search.first_query + c.search.query_rows.size;
    if (own_array((PyObject *)parents, NPY_INT64, 1, PyArray_DIMS(parents), true) == NULL ||
        !are_parents(parents) || check_numbers(&c, PyArray_DIM(parents, 0), true) < 0 ||
        check_numbers(&c, (npy_intp)rows, false) < 0) {
        call_close(&c);
        return NULL;
    }
    const fp_mode caller = fp_mode_enter(); /* the threshold is rounded */
    status = components_init(&groups, compute_type_of(&c), threshold, PyArray_DATA(parents));
    fp_mode_leave(caller);
    if (status < 0) {
        PyErr_NoMemory();
    } else {
        c.search.result_handler = &groups.result_handler;
        status = call_run(&c);
        components_label((size_t)PyArray_DIM(parents, 0), PyArray_DATA(parents));
        components_free(&groups);
    }
    call_close(&c);
    return status < 0 ? NULL : Py_NewRef(Py_None);
}

static PyObject *encode(PyObject *self, PyObject *args)
{
    struct call c = {.codes_object = Py_None};
    PyObject *codes, *scales;
    struct without_gil released;
    int status = -1;
    (void)self;
    if (!PyArg_ParseTuple(args, "sOdOOO", &c.function, &c.corpus_object, &c.eps, &c.report, &codes,
                          &scales)) {
        return NULL;
    }
    c.queries_object = c.corpus_object;
    if (call_open(&c, "corpus", "corpus") < 0) {
        return NULL;
    }
    npy_intp shape[2] = {PyArray_DIM(c.corpus.array, 0), PyArray_DIM(c.corpus.array, 1)};
    PyArrayObject *to_codes = own_array(codes, NPY_UBYTE, 2, shape, true), *to_scales = NULL;
    shape[1] = 2;
    if (to_codes != NULL && (to_scales = own_array(scales, NPY_FLOAT, 2, shape, true)) != NULL) {
        without_gil_begin(&released, c.report, (size_t)shape[0]);
        c.search.token = &released.token;
        status = search_quantize(&c.search, PyArray_DATA(to_codes), PyArray_DATA(to_scales));
        if (without_gil_end(&released) < 0) {
            status = -1;
        } else if (status < 0) {
            PyErr_NoMemory();
        }
    }
    call_close(&c);
    return status < 0 ? NULL : Py_NewRef(Py_None);
}

#define CALL_NAMES \
    "function, corpus, queries, first_candidate, first_query, without_self, mirrored, eps, " \
    "codes, scales, report"

PyMethodDef search_methods[] = {
    BY_POSITION("topk", topk, CALL_NAMES ", values, indices",
                "Merges the candidates of a block into the best ones of each query, unsorted."),
    BY_POSITION("topk_sort", sort_topk, "values, indices", "Sorts the results of topk."),
    BY_POSITION(
        "pairs", pairs, CALL_NAMES ", threshold, max_pairs, swapped",
        "Returns (i, j, values, count) of the pairs (query, candidate), or (candidate, query) if\n"
        "swapped. The arrays are None if there are more than max_pairs pairs."),
    BY_POSITION("components", groups, CALL_NAMES ", threshold, parents",
                "Joins the components of rows whose scores reach the threshold, in parents."),
    BY_POSITION("quantize", encode, "function, corpus, eps, report, codes, scales",
                "Writes the SQ8 codes (N, D) of the rows and their scales (N, 2)."),
    {0},
};
