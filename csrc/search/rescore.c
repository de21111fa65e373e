/* Handles the pairs that codes have not ruled out: compares them as floats and computes their exact
 * scores. */
#include <math.h>
#include <string.h>

#include "search/prefilter.h"

/* Rows that do not follow one another in memory are prefetched this many rows ahead. */
enum { ROWS_AHEAD = 2 };

/*
 * A score is a dot product over a product of two norms, each clamped by eps. In double the
 * score is 0 once that product is above 2^1024. A row that is not scaled has a norm of at most
 * 2^250 (square_is_near_1), so the lost score is at most 2^250 * 2^250 / 2^1024.
 */
static const double underflow[] = {[COMPUTE_F32] = 0x1p-145, [COMPUTE_F64] = 0x1p-520};

/* Upper bound of the absolute error that underflow adds to a bound of a score. */
#define UNDERFLOW_ERROR 0x1p-60f

/* Rounds a threshold down. Thresholds near 0 become -2^-60, because products with subnormal numbers
 * take a hundred times as long. */
static float lowered(double threshold)
{
    const float rounded = float_at_most(threshold);
    return fabsf(rounded) < 0x1p-60f ? -0x1p-60f : rounded;
}

float unit_threshold(const struct prefilter_worker *w, size_t query)
{
    const struct prefilter *p = w->prefilter;
    const double threshold = exact_threshold(w, query);
    if (isinf(p->threshold_factors[query])) { /* a query of zeros: all its scores are exactly 0 */
        return threshold > 0.0 ? INFINITY : -INFINITY;
    }
    return lowered((threshold - underflow[p->scores->compute]) * p->threshold_factors[query]);
}

float row_threshold(const struct prefilter_worker *w, size_t r)
{
    const struct prefilter *p = w->prefilter;
    const double threshold = threshold_at(p->search->result_handler, w->number,
                                          candidate_number(p->search, w->first + r));
    return threshold > 0.0 ? lowered(threshold - underflow[p->scores->compute]) : -INFINITY;
}

/*
 * Scales a row whose squared norm is not accurate, and computes its coarse dot products once more.
 * Stores the results where coarse_rows() stores those of row `at`. Returns the row's exponent.
 */
static __attribute__((noinline)) int scaled_row(struct prefilter_worker *w, size_t row,
                                                const float *const *vectors, size_t count,
                                                size_t at)
{
    const struct float_rows *rows = &w->prefilter->float_rows;
    const double eps = w->prefilter->search->eps;
    bool zero;
    float square;
    const int exponent = float_row_exponent(rows, row, w->row, &zero);
    if (zero) { /* its dot products are 0 already */
        w->norms[at] = 0.0f;
        w->divisors[at] = float_divisor(0.0f, eps, 0);
        return 0;
    }
    const float *x = float_row(rows, row, exponent, w->row);
    kernels_current()->sums->coarse_dots[DTYPE_F32](w->dots + at, &square, x, 0, 1, vectors, count,
                                                    rows->depth);
    w->norms[at] = sqrtf(square);
    w->divisors[at] = NAN;
    if (square_is_accurate(square)) {
        w->divisors[at] = float_divisor(w->norms[at], eps, exponent);
    }
    return exponent;
}

/* Prefetches the cache lines of a contiguous corpus row. */
static void prefetch_row(const struct prefilter *p, size_t row)
{
    prefetch_lines(float_rows_data(&p->float_rows, row),
                   p->depth * dtype_size(p->search->corpus.dtype));
}

void coarse_rows(struct prefilter_worker *w, size_t first, size_t rows, const float *const *vectors,
                 size_t count)
{
    const struct prefilter *p = w->prefilter;
    const struct float_rows *f = &p->float_rows;
    coarse_dots_kernel *const *kernels = kernels_current()->sums->coarse_dots;
    const enum dtype dtype = f->operand->dtype;
    const int exponent = w->exponent;
    float squares[COARSE_CHUNK];
    if (f->in_place && exponent == 0 && kernels[dtype] != NULL) {
        for (size_t r = 0, n; r < rows; r += n) {
            n = run_of_numbers(f->numbers, first + r, rows - r);
            if (n < rows) {
                prefetch_row(p, first + smaller(r + n + ROWS_AHEAD, rows - 1));
            }
            kernels[dtype](w->dots + r, squares + r, float_rows_data(f, first + r), f->row_step, n,
                           vectors, count, f->depth);
        }
    } else {
        for (size_t r = 0; r < rows; r++) {
            const float *x = float_row(f, first + r, exponent, w->row);
            kernels[DTYPE_F32](w->dots + r, squares + r, x, 0, 1, vectors, count, f->depth);
        }
    }
    size_t inaccurate = 0;
    for (size_t r = 0; r < rows; r++) {
        w->norms[r] = sqrtf(squares[r]);
        w->divisors[r] = float_divisor(w->norms[r], p->search->eps, exponent);
        inaccurate += !square_is_accurate(squares[r]);
    }
    if (inaccurate == 0) {
        return;
    }
    int last = exponent;
    for (size_t r = 0; r < rows; r++) {
        if (!square_is_accurate(squares[r])) {
            last = scaled_row(w, first + r, vectors, count, r);
        }
    }
    if (inaccurate > rows / 2) {
        w->exponent = last;
    }
}

/*
 * In a search that defers scores, passes on the bounds of a pair: its score with the query of norm
 * 1 is within `error` of `score`, apart from underflow. Returns false if the pair must be scored
 * now: because the handler refuses it, because the row may not be ruled out, or because the bounds
 * do not hold for the query's own norm (normalize_query).
 */
static bool pass_bounds(const struct prefilter_worker *w, size_t r, size_t query, float score,
                        float error)
{
    const struct prefilter *p = w->prefilter;
    const struct search *s = p->search;
    struct result_handler *handler = s->result_handler;
    const size_t i = query_number(s, p->block.query + query), j = candidate_number(s, w->first + r);
    if (handler->add_bounds == NULL || !(error < 1.0f) ||
        !(fabs(p->threshold_factors[query] - 1.0) <= 0x1p-23)) {
        return false;
    }
    const float low = score - error - UNDERFLOW_ERROR, high = score + error + UNDERFLOW_ERROR;
    return handler->add_bounds(handler, w->number, i, j, low, high);
}

/* Compares one row with one query, as prefilter_rows() does. Returns true if the pair is not to be
 * scored now: it is ruled out or its bounds have been passed on. */
static bool coarse_is_enough(struct prefilter_worker *w, size_t r, size_t query)
{
    const struct prefilter *p = w->prefilter;
    const float *vector = p->unit_queries + query * p->depth;
    coarse_rows(w, w->first + r, 1, &vector, 1);
    const float dot = w->dots[0], norm = w->norms[0], divisor = w->divisors[0];
    return pass_bounds(w, r, query, dot / divisor, p->coarse_error * norm / divisor) ||
           is_below(p, dot, norm, divisor, pair_threshold(w, r, query));
}

/* Computes the exact score of row r of the chunk and a query. */
static double exact_score(struct prefilter_worker *w, size_t r, size_t query)
{
    const struct prefilter *p = w->prefilter;
    const size_t row = w->first + r;
    const struct norms row_norms = {w->norm_values + r, w->norm_exponents + r};
    const struct norms norms = {p->query_norms.value + query, p->query_norms.exponent + query};
    const struct scored_row left = {row, &row_norms, w->row}, right = {query, &norms, w->query};
    if (!w->measured[r]) {
        pair_scores_measure(p->scores, SIDE_X, 0, row, 1, &row_norms);
        w->measured[r] = 1;
    }
    return pair_scores_one(p->scores, &left, &right);
}

/* True if row r of the chunk has the same bytes as the row `other`. If `other` is the row before it
 * in memory, the answer is kept, because several queries need it. */
static bool rows_are_equal(struct prefilter_worker *w, size_t r, const char *row, const char *other)
{
    const struct prefilter *p = w->prefilter;
    const size_t bytes = p->depth * dtype_size(p->search->corpus.dtype);
    if (other != row - p->float_rows.row_step) {
        return memcmp(row, other, bytes) == 0;
    }
    if (w->repeats[r] == REPEATS_UNKNOWN) {
        w->repeats[r] = memcmp(row, other, bytes) == 0 ? REPEATS : DIFFERS;
    }
    return w->repeats[r] == REPEATS;
}

/* Passes the exact score of row r of the chunk and a query to add_score. */
static void rescore(struct prefilter_worker *w, size_t r, size_t query)
{
    const struct prefilter *p = w->prefilter;
    const struct search *s = p->search;
    const char *row = float_rows_data(&p->float_rows, w->first + r);
    struct scored *last = w->last + query;
    /* The score of a row with itself follows a separate rule. */
    const bool may_reuse =
        p->float_rows.in_place && !(p->scores->symmetric && w->first + r == query);
    double score;
    if (may_reuse && last->row != NULL && rows_are_equal(w, r, row, last->row)) {
        score = last->score;
        /* Without codes, such a pair takes hardly any time, so it does not count as a survivor. */
        w->survivors -= !p->use_codes;
    } else {
        score = exact_score(w, r, query);
    }
    if (may_reuse) {
        *last = (struct scored){row, score};
    }
    const size_t i = query_number(s, p->block.query + query), j = candidate_number(s, w->first + r);
    add_score(s, w->number, i, j, score);
    if (s->mirrored) {
        add_score(s, w->number, j, i, score);
    }
}

void rescore_queue_flush(struct prefilter_worker *w)
{
    for (size_t i = 0; i < w->queued; i++) {
        const size_t r = w->rescore_queue[i].row, query = w->rescore_queue[i].query;
        if (!w->prefilter->coarse_after_codes || !coarse_is_enough(w, r, query)) {
            rescore(w, r, query);
        }
    }
    w->queued = 0;
}

bool gemm_is_cheaper(const struct prefilter_worker *w, size_t query)
{
    const size_t queries = w->prefilter->block.queries,
                 checked = (w->first - w->task_first) * queries + w->rows * query;
    return w->survivors > SURVIVORS_FREE + checked * MIN_GEMM_QUERIES /
                                               (RESCORE_COST * smaller(queries, MIN_GEMM_QUERIES));
}

void queue_survivor(struct prefilter_worker *w, size_t r, size_t query)
{
    const struct prefilter *p = w->prefilter;
    const struct search *s = p->search;
    const size_t q = p->block.query + query;
    if (p->block.triangle && w->first + r >= q) { /* both sides are the same rows */
        return;
    }
    const size_t i = query_number(s, q), j = candidate_number(s, w->first + r);
    if (!pair_is_allowed(s, i, j)) {
        return;
    }
    w->survivors++;
    if (w->queued == QUEUE_SIZE) {
        rescore_queue_flush(w);
    }
    w->rescore_queue[w->queued].row = (uint16_t)r;
    w->rescore_queue[w->queued++].query = (uint16_t)query;
    if (w->kind != FLOATS) { /* else the row is in the cache */
        prefetch_row(p, w->first + r);
    }
    if (s->result_handler->prefetch_bounds != NULL) {
        s->result_handler->prefetch_bounds(s->result_handler, i);
        s->result_handler->prefetch_bounds(s->result_handler, j);
    }
}
