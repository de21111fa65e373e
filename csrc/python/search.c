/*
 * Python bindings of search through blocks of rows in memory. cossim/search/functions.py calls
 * these functions for each pair of blocks. It checks all arguments except arrays, which this file
 * checks.
 */
#include "python/methods.h"
#include "arguments/messages.h"

#include "base/fp_mode.h"
#include "base/scratch.h"
#include "results/components.h"
#include "results/first_match.h"
#include "search/head.h"
#include "search/block.h"
#include "search/quantize.h"
#include "results/range.h"
#include "search/search.h"
#include "results/top_pairs.h"
#include "search/topk.h"
#include "arguments/args.h"
#include "python/search.h"
#include "python/without_gil.h"

/* A call from Python: the members of a cossim.search.blocks.Request, converted. */
struct search_call {
    const char *function;
    PyObject *report;
    struct array_argument corpus, queries;
    npy_intp corpus_end, queries_end; /* the global indices are below these */
    PyObject *rotated;                /* None, or the tuple that read_heads() reads */
    struct sq8_codes codes;
    struct row_heads heads;
    struct filter filter;
    bool swapped; /* i are corpus rows and j are queries, so the filter's sides are swapped too */
    struct search search;
};

static void close_call(struct search_call *c)
{
    array_release(&c->corpus);
    array_release(&c->queries);
}

/* A call whose operands have these names in messages. */
#define SEARCH_CALL(c, corpus_name, queries_name) \
    CLOSED_BY(close_call) \
    struct search_call c = {.corpus.name = corpus_name, .queries.name = queries_name}

/* Reads the heads of the corpus: (directions, error, codes, scales). With `written`, codes and
 * scales are arrays that the call will fill. Returns false if they do not fit the corpus. */
static bool read_heads(struct search_call *c, bool written)
{
    PyArrayObject *directions, *codes, *scales;
    const npy_intp *rows = PyArray_DIMS(c->corpus.array);
    double error;
    if (!PyTuple_Check(c->rotated) ||
        !PyArg_ParseTuple(c->rotated, "OdOO", &directions, &error, &codes, &scales)) {
        PyErr_Clear();
        return false;
    }
    if (!PyArray_Check((PyObject *)directions) || PyArray_NDIM(directions) != 2) {
        return false;
    }
    const npy_intp size = PyArray_DIM(directions, 0), of_directions[2] = {size, rows[1]},
                   of_codes[2] = {rows[0], size}, of_scales[2] = {rows[0], 3};
    const bool known = size >= 1 && size <= rows[1] && size % HEAD_STEP == 0 &&
                       rows[1] <= SQ8_MAX_DEPTH && error >= 0.0 && error <= MAX_ROTATION_ERROR;
    if (!known || !can_read(directions, NPY_FLOAT, 2, of_directions)) {
        return false;
    }
    const bool fits =
        written
            ? can_write(codes, NPY_UBYTE, 2, of_codes) && can_write(scales, NPY_FLOAT, 2, of_scales)
            : can_read(codes, NPY_UBYTE, 2, of_codes) && can_read(scales, NPY_FLOAT, 2, of_scales);
    if (fits) {
        c->heads = (struct row_heads){{(size_t)size, PyArray_DATA(directions), error},
                                      PyArray_DATA(codes),
                                      PyArray_DATA(scales)};
    }
    return fits;
}

/*
 * Reads the codes of the corpus, None or halves (upper, lower), and their scales. With `written`,
 * they are arrays that the call will fill. None stands for rows that are their own codes. Returns
 * false if they do not fit the corpus.
 */
static bool read_codes(struct search_call *c, PyObject *codes, PyArrayObject *scales, bool written)
{
    PyArrayObject *halves[2];
    const npy_intp *rows = PyArray_DIMS(c->corpus.array), of_scales[2] = {rows[0], 2},
                   of_halves[2] = {rows[0], HALF_BYTES(rows[1])};
    if (is_none(scales) || !(written ? can_write : can_read)(scales, NPY_FLOAT, 2, of_scales)) {
        return false;
    }
    c->codes = (struct sq8_codes){.scales = PyArray_DATA(scales)};
    if (codes == Py_None) {
        const struct float_rows own = float_rows_of(&c->search, c->search.corpus.data);
        return rows_are_codes(&own);
    }
    if (!PyTuple_Check(codes) || !PyArg_ParseTuple(codes, "OO", &halves[0], &halves[1])) {
        PyErr_Clear();
        return false;
    }
    for (int i = 0; i < 2; i++) {
        if (!(written ? can_write : can_read)(halves[i], NPY_UBYTE, 2, of_halves)) {
            return false;
        }
    }
    c->codes.upper = PyArray_DATA(halves[0]);
    c->codes.lower = PyArray_DATA(halves[1]);
    return rows[1] <= SQ8_MAX_DEPTH;
}

/* Reads the codes, scales and heads of an Index. Without codes, the scales are used only if the
 * rows are their own codes (rows_are_codes). Returns 0, or -1 with an error set. */
static int open_codes(struct search_call *c, PyObject *codes, PyArrayObject *scales)
{
    const struct float_rows own = float_rows_of(&c->search, c->search.corpus.data);
    const bool has_codes = codes != Py_None || (!is_none(scales) && rows_are_codes(&own)),
               has_heads = c->rotated != Py_None;
    if ((has_codes && !read_codes(c, codes, scales, false)) ||
        (has_heads && !read_heads(c, false))) {
        return fail(PyExc_ValueError, c->function, &c->corpus, NULL, CORPUS_CHANGED);
    }
    c->search.codes = has_codes ? &c->codes : NULL;
    c->search.heads = has_heads ? &c->heads : NULL;
    return 0;
}

/* True for None and for an array of this type and of at least these sizes. */
static bool covers(PyArrayObject *array, int type, int ndim, npy_intp rows, npy_intp columns)
{
    return is_none(array) || (can_read(array, type, ndim, NULL) && PyArray_DIM(array, 0) >= rows &&
                              (ndim == 1 || PyArray_DIM(array, 1) >= columns));
}

int read_filter(PyObject *object, npy_intp queries, npy_intp candidates, struct filter *filter)
{
    PyArrayObject *rows, *pairs, *excluded;
    Py_ssize_t count; /* Python reads it */
    int both;
    if (object == Py_None) {
        return 0;
    }
    if (!PyTuple_Check(object) ||
        !PyArg_ParseTuple(object, "OOOpn", &rows, &pairs, &excluded, &both, &count)) {
        PyErr_Clear();
        return misfit_status();
    }
    const npy_intp most = both && queries > candidates ? queries : candidates,
                   words = (most + 63) / 64;
    if (!covers(rows, NPY_UINT64, 1, words, 0) || !covers(pairs, NPY_UINT64, 2, queries, words) ||
        !covers(excluded, NPY_INT64, 2, queries, 0)) {
        return misfit_status();
    }
    *filter = (struct filter){.both = both};
    if (!is_none(rows)) {
        filter->rows = PyArray_DATA(rows);
    }
    if (!is_none(pairs)) {
        filter->pairs = PyArray_DATA(pairs);
        filter->words = (size_t)PyArray_DIM(pairs, 1);
    }
    if (!is_none(excluded)) {
        filter->excluded = PyArray_DATA(excluded);
        filter->excluded_count = (size_t)PyArray_DIM(excluded, 1);
    }
    return 1;
}

/* Reads the filter of a call. Returns 0, or -1 with an error set. */
static int open_filter(struct search_call *c, PyObject *filter)
{
    const npy_intp ends[2] = {c->queries_end, c->corpus_end};
    const int status = read_filter(filter, ends[c->swapped], ends[!c->swapped], &c->filter);
    c->filter.swapped = c->swapped;
    c->search.filter = status > 0 ? &c->filter : NULL;
    return status < 0 ? -1 : 0;
}

/* Sets *end to first + rows. Returns false if first is negative or the sum overflows. */
static bool set_end(Py_ssize_t first, npy_intp rows, npy_intp *end)
{
    return first >= 0 && !__builtin_add_overflow(first, rows, end);
}

/* Reads a request. The names of both operands are set; messages use them. Returns 0, or -1 with an
 * error set. Close the call in either case. */
static int open_call(struct search_call *c, PyObject *request)
{
    PyObject *corpus, *queries, *codes, *filter;
    PyArrayObject *scales;
    Py_ssize_t first_candidate, first_query;
    int without_self, binary;
    double eps;
    if (!PyTuple_Check(request)) {
        return misfit_status();
    }
    if (!PyArg_ParseTuple(request, "sOOnnpdOpOOOO", &c->function, &corpus, &queries,
                          &first_candidate, &first_query, &without_self, &eps, &c->report, &binary,
                          &codes, &scales, &c->rotated, &filter) ||
        array_argument(c->function, c->corpus.name, corpus, &c->corpus) < 0 ||
        array_argument(c->function, c->queries.name, queries, &c->queries) < 0 ||
        check_rows(c->function, &c->queries, &c->corpus) < 0 ||
        (binary && (bits_argument(c->function, &c->queries) < 0 ||
                    bits_argument(c->function, &c->corpus) < 0))) {
        return -1;
    }
    PyArrayObject *x = c->corpus.array, *y = c->queries.array;
    if (PyArray_NDIM(x) != 2 || PyArray_NDIM(y) != 2 ||
        !set_end(first_candidate, PyArray_DIM(x, 0), &c->corpus_end) ||
        !set_end(first_query, PyArray_DIM(y, 0), &c->queries_end)) {
        return misfit_status();
    }
    c->search = (struct search){
        .corpus = c->corpus.operand,
        .queries = c->queries.operand,
        .corpus_rows = {(size_t)PyArray_DIM(x, 0), PyArray_STRIDE(x, 0), 0, 0},
        .query_rows = {(size_t)PyArray_DIM(y, 0), 0, PyArray_STRIDE(y, 0), 0},
        .depth = {(size_t)PyArray_DIM(x, 1), PyArray_STRIDE(x, 1), PyArray_STRIDE(y, 1), 0},
        .eps = eps,
        .first_candidate = (size_t)first_candidate,
        .first_query = (size_t)first_query,
        .self = without_self,
    };
    return open_codes(c, codes, scales) < 0 ? -1 : open_filter(c, filter);
}

static enum compute_type compute_type_of_call(const struct search_call *c)
{
    return dtypes_compute_type(c->corpus.operand.dtype, c->queries.operand.dtype);
}

/* Returns the result of a search that ran without the GIL: 0, or -1 with an error set. */
static int end_call(const struct search_call *c, struct without_gil *released, int status)
{
    if (without_gil_end(released) < 0) {
        return -1;
    }
    if (status < 0) {
        fail(PyExc_MemoryError, c->function, &c->queries, &c->corpus, NO_MEMORY);
    }
    return status;
}

/* Runs the search without the GIL. Returns 0, or -1 with an error set. */
static int run_call(struct search_call *c, struct result_handler *handler)
{
    struct without_gil released;
    c->search.result_handler = handler;
    c->search.token = without_gil_begin(&released, c->report, search_pairs(&c->search));
    return end_call(c, &released, search(&c->search));
}

static PyObject *topk(PyObject *Py_UNUSED(self), PyObject *args)
{
    SEARCH_CALL(c, "corpus", "queries");
    PyObject *request;
    PyArrayObject *values, *indices;
    struct topk found;
    if (!PyArg_ParseTuple(args, "OOO:topk", &request, &values, &indices) ||
        open_call(&c, request) < 0) {
        return NULL;
    }
    const enum compute_type compute = compute_type_of_call(&c);
    /* A filter of both sides would leave out queries, but topk has a result for each row. */
    if (c.filter.both || !can_write(values, value_type(compute), 2, NULL) ||
        PyArray_DIM(values, 1) == 0 || !can_write(indices, NPY_INT64, 2, PyArray_DIMS(values)) ||
        c.queries_end > PyArray_DIM(values, 0) ||
        (c.search.self && c.corpus_end > PyArray_DIM(values, 0))) {
        return misfit();
    }
    const size_t rows = (size_t)PyArray_DIM(values, 0), k = (size_t)PyArray_DIM(values, 1);
    const fp_mode caller = fp_mode_enter();
    int status = topk_init(&found, compute, rows, k, PyArray_DATA(values), PyArray_DATA(indices));
    fp_mode_leave(caller);
    if (status < 0) {
        return PyErr_NoMemory();
    }
    struct without_gil released;
    c.search.token = without_gil_begin(&released, c.report, topk_pairs(&found, &c.search));
    status = end_call(&c, &released, topk_search(&found, &c.search));
    topk_free(&found);
    return none_or_error(status);
}

/* ---- pairs: a capsule collects those of all requests ---- */

static const char pairs_capsule[] = "cossim.search.pairs";

/* The contents of the capsule. A call runs without the GIL, so another thread or a progress
 * callback could pass the same capsule while the call runs. */
struct pair_collector {
    struct range_result pairs;
    _Atomic bool in_use;
};

static void free_collector(PyObject *capsule)
{
    struct pair_collector *collector = PyCapsule_GetPointer(capsule, pairs_capsule);
    range_free(&collector->pairs);
    scratch_free(collector);
}

/* Returns the collector for one call, which sets in_use to false at its end. Returns NULL with an
 * error set if another call uses it, or if it was emptied. */
static struct pair_collector *take_collector(PyObject *capsule)
{
    struct pair_collector *collector = PyCapsule_GetPointer(capsule, pairs_capsule);
    if (collector == NULL) {
        return NULL;
    }
    if (atomic_exchange(&collector->in_use, true)) {
        misfit();
        return NULL;
    }
    if (collector->pairs.lists == NULL) {
        atomic_store(&collector->in_use, false);
        misfit();
        return NULL;
    }
    return collector;
}

static PyObject *pairs_begin(PyObject *Py_UNUSED(self), PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"", "", "threshold", "max_pairs", "double", NULL};
    Py_ssize_t rows, columns, max_pairs;
    double threshold;
    int is_double;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "nn$dnp:pairs_begin", names, &rows, &columns,
                                     &threshold, &max_pairs, &is_double) ||
        rows < 0 || columns < 0 || max_pairs < 0) {
        return misfit();
    }
    struct pair_collector *collector = scratch_alloc(sizeof *collector);
    if (collector == NULL || range_init(&collector->pairs, is_double ? COMPUTE_F64 : COMPUTE_F32,
                                        threshold, (size_t)rows, (size_t)columns) < 0) {
        scratch_free(collector);
        return PyErr_NoMemory();
    }
    collector->pairs.max_pairs = (size_t)max_pairs;
    atomic_init(&collector->in_use, false);
    PyObject *capsule = PyCapsule_New(collector, pairs_capsule, free_collector);
    if (capsule == NULL) {
        range_free(&collector->pairs);
        scratch_free(collector);
    }
    return capsule;
}

/* Runs pairs for a collector that is taken. Returns 0, or -1 with an error set. */
static int run_pairs(struct search_call *c, PyObject *request, struct range_result *pairs)
{
    if (open_call(c, request) < 0) {
        return -1;
    }
    const npy_intp rows = c->swapped ? c->corpus_end : c->queries_end,
                   columns = c->swapped ? c->queries_end : c->corpus_end;
    if (pairs->result_handler.compute != compute_type_of_call(c) || (size_t)rows > pairs->rows ||
        (size_t)columns > pairs->columns) {
        return misfit_status();
    }
    pairs->swapped_sides = c->swapped;
    if (run_call(c, &pairs->result_handler) < 0) {
        return -1;
    }
    return atomic_load(&pairs->no_memory) ? no_memory_status() : 0;
}

static PyObject *pairs(PyObject *Py_UNUSED(self), PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"", "", "swapped", NULL};
    SEARCH_CALL(c, "y", "x");
    struct pair_collector *found;
    int swapped;
    PyObject *request, *capsule;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OO$p:pairs", names, &request, &capsule,
                                     &swapped) ||
        (found = take_collector(capsule)) == NULL) {
        return NULL;
    }
    c.swapped = swapped;
    const int status = run_pairs(&c, request, &found->pairs);
    atomic_store(&found->in_use, false);
    return none_or_error(status);
}

PyObject *pairs_found(struct range_result *pairs)
{
    const size_t count = atomic_load(&pairs->count);
    if (count > pairs->max_pairs) {
        return Py_BuildValue("OOOn", Py_None, Py_None, Py_None, (Py_ssize_t)count);
    }
    npy_intp shape[1] = {(npy_intp)count};
    OWNED PyArrayObject *i = (PyArrayObject *)PyArray_SimpleNew(1, shape, NPY_INT64),
                        *j = (PyArrayObject *)PyArray_SimpleNew(1, shape, NPY_INT64),
                        *values = (PyArrayObject *)PyArray_SimpleNew(
                            1, shape, value_type(pairs->result_handler.compute));
    if (i == NULL || j == NULL || values == NULL) {
        return NULL;
    }
    struct without_gil released;
    const struct pair_arrays to = {PyArray_DATA(i), PyArray_DATA(j), PyArray_DATA(values)};
    struct cancel_token *token = without_gil_begin(&released, NULL, 0);
    if (without_gil_finish(&released, range_store(pairs, &to, token)) < 0) {
        return NULL;
    }
    return Py_BuildValue("OOOn", i, j, values, (Py_ssize_t)count);
}

static PyObject *pairs_end(PyObject *Py_UNUSED(self), PyObject *args)
{
    PyObject *capsule;
    if (!PyArg_ParseTuple(args, "O:pairs_end", &capsule)) {
        return NULL;
    }
    struct pair_collector *collector = take_collector(capsule);
    if (collector == NULL) {
        return NULL;
    }
    PyObject *found = pairs_found(&collector->pairs);
    range_free(&collector->pairs);
    atomic_store(&collector->in_use, false);
    return found;
}

bool are_parents(PyArrayObject *parents)
{
    if (!can_write(parents, NPY_INT64, 1, NULL)) {
        return false;
    }
    const int64_t *parent = PyArray_DATA(parents);
    for (npy_intp i = 0; i < PyArray_DIM(parents, 0); i++) {
        if (parent[i] < 0 || parent[i] > i) {
            return false;
        }
    }
    return true;
}

/* Runs components for an open call. Returns 0, or -1 with an error set. */
static int run_components(struct search_call *c, PyArrayObject *parents, double threshold)
{
    struct components joined;
    if (!are_parents(parents) || c->queries_end > PyArray_DIM(parents, 0) ||
        c->corpus_end > PyArray_DIM(parents, 0)) {
        return misfit_status();
    }
    if (components_init(&joined, compute_type_of_call(c), threshold, PyArray_DATA(parents)) < 0) {
        return no_memory_status();
    }
    const int status = run_call(c, &joined.result_handler);
    components_label((size_t)PyArray_DIM(parents, 0), PyArray_DATA(parents));
    components_free(&joined);
    return status;
}

/* Parses (request, array, *, threshold), and runs a search that writes to the array. */
static PyObject *run_threshold_search(PyObject *args, PyObject *kwargs, const char *format,
                                      int (*run)(struct search_call *, PyArrayObject *, double))
{
    static char *names[] = {"", "", "threshold", NULL};
    SEARCH_CALL(c, "x", "x");
    PyObject *request;
    PyArrayObject *array;
    double threshold;
    const bool is_open =
        PyArg_ParseTupleAndKeywords(args, kwargs, format, names, &request, &array, &threshold) &&
        open_call(&c, request) == 0;
    return none_or_error(is_open ? run(&c, array, threshold) : -1);
}

static PyObject *components(PyObject *Py_UNUSED(self), PyObject *args, PyObject *kwargs)
{
    return run_threshold_search(args, kwargs, "OO$d:components", run_components);
}

static PyObject *top_pairs(PyObject *Py_UNUSED(self), PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"", "", "", "", "least", "swapped", NULL};
    SEARCH_CALL(c, "y", "x");
    PyObject *request;
    PyArrayObject *values, *i, *j;
    double least;
    int swapped;
    struct top_pairs best;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OOOO$dp:top_pairs", names, &request, &values,
                                     &i, &j, &least, &swapped)) {
        return NULL;
    }
    c.swapped = swapped;
    if (open_call(&c, request) < 0) {
        return NULL;
    }
    const enum compute_type compute = compute_type_of_call(&c);
    if (!can_write(values, value_type(compute), 1, NULL) || PyArray_DIM(values, 0) == 0 ||
        !can_write(i, NPY_INT64, 1, PyArray_DIMS(values)) ||
        !can_write(j, NPY_INT64, 1, PyArray_DIMS(values))) {
        return misfit();
    }
    if (top_pairs_init(&best, compute, (size_t)PyArray_DIM(values, 0), least, PyArray_DATA(values),
                       PyArray_DATA(i), PyArray_DATA(j)) < 0) {
        return PyErr_NoMemory();
    }
    best.self = c.search.self;
    best.swapped_sides = swapped;
    c.search.warm_up_rows = least > -1.0 ? 0 : TOP_PAIRS_WARM_UP;
    const int status = run_call(&c, &best.result_handler);
    top_pairs_free(&best);
    return none_or_error(status);
}

/* Runs first_match for an open call. Returns 0, or -1 with an error set. */
static int run_first_match(struct search_call *c, PyArrayObject *matches, double threshold)
{
    struct first_match first;
    if (!can_write(matches, NPY_INT64, 1, NULL) || c->queries_end > PyArray_DIM(matches, 0)) {
        return misfit_status();
    }
    if (first_match_init(&first, compute_type_of_call(c), threshold, PyArray_DATA(matches)) < 0) {
        return no_memory_status();
    }
    const int status = run_call(c, &first.result_handler);
    first_match_free(&first);
    return status;
}

static PyObject *first_match(PyObject *Py_UNUSED(self), PyObject *args, PyObject *kwargs)
{
    return run_threshold_search(args, kwargs, "OO$d:first_match", run_first_match);
}

static PyObject *quantize(PyObject *Py_UNUSED(self), PyObject *args)
{
    SEARCH_CALL(c, "corpus", "corpus");
    PyObject *request, *codes;
    PyArrayObject *scales;
    struct without_gil released;
    if (!PyArg_ParseTuple(args, "OOO:quantize", &request, &codes, &scales) ||
        open_call(&c, request) < 0 || !read_codes(&c, codes, scales, true)) {
        return misfit();
    }
    c.search.token = without_gil_begin(&released, c.report, c.search.corpus_rows.size);
    const int status = search_quantize(&c.search, (uint8_t *)c.codes.upper,
                                       (uint8_t *)c.codes.lower, PyArray_DATA(scales));
    return none_or_error(without_gil_finish(&released, status));
}

static PyObject *quantize_heads_of(PyObject *Py_UNUSED(self), PyObject *args)
{
    SEARCH_CALL(c, "corpus", "corpus");
    PyObject *request, *rotated;
    struct without_gil released;
    if (!PyArg_ParseTuple(args, "OO:quantize_heads", &request, &rotated) ||
        open_call(&c, request) < 0) {
        return NULL;
    }
    c.rotated = rotated;
    if (!read_heads(&c, true)) {
        return misfit();
    }
    c.search.token = without_gil_begin(&released, c.report, c.search.corpus_rows.size);
    const int status = search_quantize_heads(&c.search, &c.heads.rotation, (uint8_t *)c.heads.codes,
                                             (struct head_scale *)c.heads.scales);
    return none_or_error(without_gil_finish(&released, status));
}

PyMethodDef search_methods[] = {
    BY_POSITION("topk", topk, "request, values, indices",
                "Merges the candidates of a block into the k best of each query, best first."),
    BY_NAME(
        "pairs_begin", pairs_begin, "rows, columns, /, *, threshold, max_pairs, double",
        "Returns a capsule that collects the pairs of searches, i below rows and j below columns."),
    BY_NAME("pairs", pairs, "request, capsule, /, *, swapped",
            "Collects the pairs of a request. i are queries and j candidates, or the reverse if\n"
            "swapped."),
    BY_POSITION("pairs_end", pairs_end, "capsule",
                "Returns (i, j, values, count) and empties the capsule. The arrays are None if\n"
                "there are more than max_pairs pairs."),
    BY_NAME("components", components, "request, parents, /, *, threshold",
            "Joins components in parents: those of two rows whose score reaches the threshold."),
    BY_NAME(
        "top_pairs", top_pairs, "request, values, i, j, /, *, least, swapped",
        "Merges the pairs of a block into the best of all blocks, in no order. Leaves out pairs\n"
        "below least."),
    BY_NAME("first_match", first_match, "request, matches, /, *, threshold",
            "Lowers each query's match to the lowest candidate that reaches the threshold."),
    BY_POSITION(
        "quantize", quantize, "request, codes, scales",
        "Writes the SQ8 codes of the rows of the corpus and their scales (N, 2). codes are\n"
        "the arrays of their upper and lower halves, (N, ceil(D / 2))."),
    BY_POSITION(
        "quantize_heads", quantize_heads_of, "request, rotated",
        "Writes the heads (N, H) of the rows and their scales (N, 3), which are in rotated."),
    {0},
};
