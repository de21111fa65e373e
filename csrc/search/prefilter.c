/*
 * The prefilter: bounds the score of each pair, and computes the exact scores of the pairs that the
 * bound does not rule out.
 */
#include "search/prefilter.h"

#include <math.h>
#include <string.h>

#include "base/eps.h"
#include "base/pool.h"
#include "base/scratch.h"
#include "search/coded_queries.h"
#include "search/quantize.h"

enum {
    /* corpus rows that stay in the cache while all queries are compared with them */
    CHUNK = 256,
    COARSE_CHUNK = COARSE_STEP,     /* the same for rows that are read as float32 */
    TASK_ROWS = 4096,               /* maximum number of corpus rows of a task */
    TASK_MULTIPLICATIONS = 1 << 28, /* multiplications of one task: about 5 ms */
    QUEUE_SIZE = 64,
    NORM_BATCH = 64, /* queries whose norms are measured at a time */
    /* With at least this many queries, a worker polls its cancellation token after each chunk. */
    MIN_POLL_QUERIES = 64,
    SURVIVORS_FREE = 1 << 12, /* a task with at most this many survivors never switches to GEMM */
    /* A single-pair score takes as long as this many scores of a GEMM. */
    RESCORE_COST = 16,
    MIN_GEMM_QUERIES = 32, /* a GEMM of fewer queries takes as long as a GEMM of this many */
    BACKOFF_MAX = 64,      /* tasks */
    /* With more queries, pairs that pass the codes are not compared as floats: if codes rule out
     * little, a GEMM is cheaper. */
    MAX_COARSE_AFTER_CODES = 64
};

/*
 * Upper bound of the rounding error of the exact score, in units of 2^-24: 32 for a chain of
 * products, 8 for adding the chains of a block, and 8 for the score itself.
 */
static const double exact_score_error = 48 * 0x1p-24;

/*
 * The last row that a query was scored with, and their score. The next row has the same score if it
 * has the same elements.
 */
struct scored {
    const char *row; /* NULL: none yet */
    double score;
};

/* Whether the bytes of a row are those of the row before it in memory. */
enum row_repeats { REPEATS_UNKNOWN, REPEATS, DIFFERS };

/* The state and buffers of one worker. */
struct prefilter_worker {
    /* pairs of the current task that the prefilter has not ruled out and that cost time */
    size_t survivors;
    /*
     * backoff_left is the number of tasks that go to GEMM before the prefilter is tried again. Each
     * failed attempt sets it to `backoff`, which grows from one failure to the next and is 0 after
     * a success.
     */
    size_t backoff_left, backoff;
    /* norms of a chunk's rows; a norm is measured when its row is first rescored */
    struct norms row_norms;
    uint8_t *measured; /* [CHUNK]: 1 if the norm of the row is measured */
    uint8_t *repeats;  /* [CHUNK]: enum row_repeats */
    void *row, *query; /* buffers for one corpus row and one query, converted for the product */
    uint8_t *codes;
    struct code_scale *scales;
    int32_t *code_dots;       /* [SQ8_QUERIES][CHUNK] */
    float *dots;              /* [COARSE_QUERIES][COARSE_STEP] */
    float *norms, *divisors;  /* [COARSE_CHUNK], |x| and max(|x|, eps) of float32 rows */
    int exponent;             /* such rows are first scaled by 2^-exponent */
    uint8_t *keep;            /* [CHUNK] */
    uint32_t *keep_panel;     /* [CHUNK] */
    struct row_bounds bounds; /* [CHUNK] */
    struct scored *last;      /* [queries] */
    /*
     * Survivors of a chunk. They wait here while their rows are fetched from memory, and are then
     * rescored.
     */
    size_t queued;
    struct {
        uint16_t row; /* relative to the chunk */
        uint16_t query;
    } rescore_queue[QUEUE_SIZE];
};

struct prefilter {
    const struct search *search;
    struct search_block block; /* all corpus rows, one block of queries */
    struct plan plan;
    struct reduction call;
    struct pair_scores scores;
    struct float_rows float_rows;
    bool rows_are_codes;     /* 8-bit integers, in place */
    bool coarse_after_codes; /* pairs that their codes do not rule out are compared as floats */
    float coarse_error;      /* largest error of a coarse score, those of the exact one included */
    bool use_codes; /* true: compares SQ8 codes; false: compares rows that are read as float32 */
    struct norms query_norms;
    double *threshold_factors;  /* [queries], see normalize_query */
    struct coded_queries coded; /* with use_codes */
    /* queries scaled to norm 1: [queries][depth], or a buffer for one if none is kept */
    float *unit_queries;
    size_t task_rows, task_first;
    char *scratch;
    size_t scratch_per_worker;
    size_t workers;
    _Atomic int status;
};

/* The largest float that is not above a number. NaN stays NaN. */
static float float_at_most(double number)
{
    const float rounded = (float)number;
    return rounded > number ? nextafterf(rounded, -INFINITY) : rounded;
}

/*
 * The threshold of a query that is scaled to norm 1. It is lowered by more than a score can change
 * where it underflows: the bounds only cover relative errors.
 */
static float unit_threshold(const struct prefilter *p, size_t worker, size_t query)
{
    static const double underflow[] = {[COMPUTE_F32] = 0x1p-145, [COMPUTE_F64] = 0x1p-1070};
    const struct search *s = p->search;
    const double threshold =
        threshold_at(s->result_handler, worker, s->first_query + p->block.query + query);
    return float_at_most((threshold - underflow[p->scores.compute]) * p->threshold_factors[query]);
}

/*
 * Scales a row whose squared norm is not accurate, and computes its coarse dot products once more.
 * Sets elements `at` of the worker's arrays, as coarse_rows() does. Returns the row's exponent.
 */
static __attribute__((noinline)) int scaled_row(const struct prefilter *p,
                                                struct prefilter_worker *w, size_t row,
                                                const float *const *vectors, size_t count,
                                                size_t at)
{
    const struct float_rows *rows = &p->float_rows;
    bool zero;
    float square;
    const int exponent = float_row_exponent(rows, row, w->row, &zero);
    if (zero) { /* its dot products are 0 already */
        w->norms[at] = 0.0f;
        w->divisors[at] = float_divisor(0.0f, p->search->eps, 0);
        return 0;
    }
    const float *x = float_row(rows, row, exponent, w->row);
    kernels_current()->sums->coarse_dots[DTYPE_F32](w->dots + at, &square, x, 0, 1, vectors, count,
                                                    rows->depth);
    w->norms[at] = sqrtf(square);
    w->divisors[at] = NAN;
    if (square_is_accurate(square)) {
        w->divisors[at] = float_divisor(w->norms[at], p->search->eps, exponent);
    }
    return exponent;
}

/*
 * Computes the coarse dot products of a chunk's rows with `count` queries, their norms |x|, and the
 * divisors of their scores, max(|x|, eps). The divisor is NaN if a row must not be ruled out. The
 * results are in w->dots, w->norms and w->divisors.
 */
static void coarse_rows(const struct prefilter *p, struct prefilter_worker *w, size_t first,
                        size_t count_of_rows, const float *const *vectors, size_t count)
{
    const struct float_rows *rows = &p->float_rows;
    coarse_dots_kernel *const *kernels = kernels_current()->sums->coarse_dots;
    const enum dtype dtype = rows->operand->dtype;
    const int exponent = w->exponent;
    float squares[COARSE_CHUNK];
    if (rows->in_place && exponent == 0 && kernels[dtype] != NULL) {
        kernels[dtype](w->dots, squares, float_rows_data(rows, first), rows->row_step,
                       count_of_rows, vectors, count, rows->depth);
    } else {
        for (size_t r = 0; r < count_of_rows; r++) {
            const float *x = float_row(rows, first + r, exponent, w->row);
            kernels[DTYPE_F32](w->dots + r, squares + r, x, 0, 1, vectors, count, rows->depth);
        }
    }
    size_t inaccurate = 0;
    for (size_t r = 0; r < count_of_rows; r++) {
        w->norms[r] = sqrtf(squares[r]);
        w->divisors[r] = float_divisor(w->norms[r], p->search->eps, exponent);
        inaccurate += !square_is_accurate(squares[r]);
    }
    if (inaccurate == 0) {
        return;
    }
    int last = exponent;
    for (size_t r = 0; r < count_of_rows; r++) {
        if (!square_is_accurate(squares[r])) {
            last = scaled_row(p, w, first + r, vectors, count, r);
        }
    }
    if (inaccurate > count_of_rows / 2) {
        w->exponent = last;
    }
}

/* True if the score of a row and a query is certainly below this threshold of unit_threshold(). The
 * arguments are results of coarse_rows(). */
static bool is_below(const struct prefilter *p, float dot, float norm, float divisor,
                     float threshold)
{
    return dot + p->coarse_error * norm < threshold * divisor; /* false if one is NaN */
}

/* Compares one row with one query, as prefilter_rows() does. */
static bool coarse_rules_out(const struct prefilter *p, struct prefilter_worker *w, size_t worker,
                             size_t row, size_t query)
{
    const float *vector = p->unit_queries + query * p->plan.depth;
    coarse_rows(p, w, row, 1, &vector, 1);
    return is_below(p, w->dots[0], w->norms[0], w->divisors[0], unit_threshold(p, worker, query));
}

/* Computes the exact score of row r of the chunk at `first` and a query. */
static double exact_score(const struct prefilter *p, struct prefilter_worker *w, size_t first,
                          size_t r, size_t query)
{
    const size_t row = first + r;
    union {
        double f64;
        float f32;
    } score;
    const struct norms row_norms = {w->row_norms.value + r, w->row_norms.exponent + r};
    const struct norms norms = {p->query_norms.value + query, p->query_norms.exponent + query};
    const struct scored_row left = {row, &row_norms, w->row}, right = {query, &norms, w->query};
    if (!w->measured[r]) {
        pair_scores_measure(&p->scores, SIDE_X, 0, row, 1, &row_norms);
        w->measured[r] = 1;
    }
    pair_scores_one(&p->scores, &left, &right, &score);
    return p->scores.compute == COMPUTE_F64 ? score.f64 : (double)score.f32;
}

/* True if row r of the chunk has the same bytes as `other`. Most often that is the row before it,
 * and several queries ask for it. */
static bool rows_are_equal(const struct prefilter *p, struct prefilter_worker *w, size_t r,
                           const char *row, const char *other)
{
    const size_t bytes = p->plan.depth * dtype_size(p->call.x.dtype);
    if (other != row - p->float_rows.row_step) {
        return memcmp(row, other, bytes) == 0;
    }
    if (w->repeats[r] == REPEATS_UNKNOWN) {
        w->repeats[r] = memcmp(row, other, bytes) == 0 ? REPEATS : DIFFERS;
    }
    return w->repeats[r] == REPEATS;
}

/* Passes the exact score of row r of the chunk at `first` and a query to add_score. */
static void rescore(const struct prefilter *p, struct prefilter_worker *w, size_t worker,
                    size_t first, size_t r, size_t query)
{
    const struct search *s = p->search;
    const char *row = float_rows_data(&p->float_rows, first + r);
    struct scored *last = w->last + query;
    /* The score of a row with itself has a rule of its own. */
    const bool may_reuse = p->float_rows.in_place && !(p->scores.symmetric && first + r == query);
    double score;
    if (may_reuse && last->row != NULL && rows_are_equal(p, w, r, row, last->row)) {
        score = last->score;
        /* Without codes, it costs hardly anything, so it is no reason for a GEMM. */
        w->survivors -= !p->use_codes;
    } else {
        score = exact_score(p, w, first, r, query);
    }
    if (may_reuse) {
        *last = (struct scored){row, score};
    }
    add_score(s, worker, s->first_query + p->block.query + query, s->first_candidate + first + r,
              score);
}

static void rescore_queue_flush(const struct prefilter *p, struct prefilter_worker *w,
                                size_t worker, size_t first)
{
    for (size_t i = 0; i < w->queued; i++) {
        const size_t row = w->rescore_queue[i].row, query = w->rescore_queue[i].query;
        if (!p->coarse_after_codes || !coarse_rules_out(p, w, worker, first + row, query)) {
            rescore(p, w, worker, first, row, query);
        }
    }
    w->queued = 0;
}

/* Returns true if a GEMM would have been faster for the pairs checked so far. */
static bool gemm_is_cheaper(const struct prefilter *p, const struct prefilter_worker *w,
                            size_t pairs_checked)
{
    return w->survivors >
           SURVIVORS_FREE + pairs_checked * MIN_GEMM_QUERIES /
                                (RESCORE_COST * smaller(p->block.queries, MIN_GEMM_QUERIES));
}

/* Prefetches the cache lines of a contiguous corpus row. */
static void prefetch_row(const struct prefilter *p, size_t row)
{
    const char *from = p->call.x.data + (ptrdiff_t)row * p->search->corpus_rows.x;
    const size_t bytes = p->plan.depth * dtype_size(p->call.x.dtype);
    for (size_t line = 0; line < bytes; line += SCRATCH_ALIGN) {
        __builtin_prefetch(from + line);
    }
}

/* Queues a pair of a row of the chunk and a query, unless a triangle excludes it. */
static void queue_survivor(const struct prefilter *p, struct prefilter_worker *w, size_t worker,
                           size_t first, size_t r, size_t query)
{
    const struct search *s = p->search;
    if (p->block.triangle &&
        s->first_candidate + first + r >= s->first_query + p->block.query + query) {
        return;
    }
    w->survivors++;
    if (w->queued == QUEUE_SIZE) {
        rescore_queue_flush(p, w, worker, first);
    }
    w->rescore_queue[w->queued].row = (uint16_t)r;
    w->rescore_queue[w->queued++].query = (uint16_t)query;
    prefetch_row(p, first + r);
}

/* Queues the pairs of one query with all rows of the chunk that w->keep marks. */
static void queue_survivors(const struct prefilter *p, struct prefilter_worker *w, size_t worker,
                            size_t first, size_t rows, size_t query)
{
    for (size_t r = 0; r < rows; r += sizeof(uint64_t)) {
        uint64_t flags;
        memcpy(&flags, w->keep + r, sizeof flags);
        const size_t count = flags == 0 ? 0 : smaller(sizeof flags, rows - r);
        for (size_t i = 0; i < count; i++) {
            if (w->keep[r + i]) {
                queue_survivor(p, w, worker, first, r + i, query);
            }
        }
    }
}

/* Queues the pairs of a panel, whose first query is `query`, that w->keep_panel marks. */
static void queue_panel(const struct prefilter *p, struct prefilter_worker *w, size_t worker,
                        size_t first, size_t rows, size_t query)
{
    for (size_t r = 0; r < rows; r++) {
        for (uint32_t bits = w->keep_panel[r]; bits != 0; bits &= bits - 1) {
            queue_survivor(p, w, worker, first, r, query + (size_t)__builtin_ctz(bits));
        }
    }
}

/*
 * Runs the prefilter on rows [first, first + rows), a chunk that is read as float32. rows_done
 * counts the rows of the task that come before the chunk.
 *
 * Returns how many queries it compared: none if a GEMM is cheaper, else all.
 */
static size_t prefilter_rows(const struct prefilter *p, struct prefilter_worker *w, size_t worker,
                             size_t first, size_t rows, size_t rows_done)
{
    const size_t depth = p->plan.depth, queries = p->block.queries;
    const float *vectors[COARSE_QUERIES] = {NULL};
    if (gemm_is_cheaper(p, w, rows_done * queries)) {
        return 0;
    }
    for (size_t q = 0; q < queries; q++) {
        vectors[q] = p->unit_queries + q * depth;
    }
    coarse_rows(p, w, first, rows, vectors, queries);
    for (size_t q = 0; q < queries; q++) {
        const float threshold = unit_threshold(p, worker, q);
        const float *dots = w->dots + q * COARSE_STEP;
        unsigned any = 0;
        for (size_t r = 0; r < rows; r++) {
            w->keep[r] = !is_below(p, dots[r], w->norms[r], w->divisors[r], threshold);
            any |= w->keep[r];
        }
        if (any != 0) {
            queue_survivors(p, w, worker, first, rows, q);
        }
    }
    return queries;
}

/*
 * Prefetches one of `steps` equal parts of the codes of the chunk at `first`. The caller prefetches
 * one part for each group of queries, which spreads the loads over the work on the chunk before.
 */
static void prefetch_codes(const struct prefilter *p, size_t first, size_t step, size_t steps)
{
    const size_t depth = p->plan.depth, rows = p->block.rows;
    const size_t from = smaller(rows, first + CHUNK * step / steps) * depth,
                 end = smaller(rows, first + CHUNK * (step + 1) / steps) * depth;
    for (size_t at = from; at < end; at += SCRATCH_ALIGN) {
        __builtin_prefetch(p->search->codes->codes + at);
    }
}

/*
 * The code of 0 in the rows, with the offset that the kernels add to their elements:
 * scale * (code + offset - zero) is close to x / max(|x|, eps).
 */
static int code_zero(const struct prefilter *p)
{
    const struct sq8_kernels *kernels = kernels_current()->sq8;
    if (!p->rows_are_codes) {
        return CODE_ZERO + kernels->u8_offset;
    }
    return p->float_rows.operand->dtype == DTYPE_I8 ? kernels->i8_offset : kernels->u8_offset;
}

/* Returns the codes of a chunk of rows. Makes them if the search has none. */
static struct sq8_rows codes_of_chunk(const struct prefilter *p, struct prefilter_worker *w,
                                      size_t first, size_t rows)
{
    const struct sq8_codes *codes = p->search->codes;
    const struct float_rows *f = &p->float_rows;
    const double eps = p->search->eps;
    const float code_max = p->rows_are_codes ? UINT8_MAX : CODE_ZERO - 1,
                longest = code_max * sqrtf((float)f->depth) * (1.0f + 0x1p-20f);
    struct sq8_rows chunk = {w->codes, (ptrdiff_t)f->depth, rows, f->depth, w->bounds};
    const struct code_scale *scales = w->scales;
    if (p->rows_are_codes) {
        chunk.codes = float_rows_data(f, first);
        chunk.step = f->row_step;
    } else if (codes != NULL) {
        chunk.codes = codes->codes + first * f->depth;
    }
    if (codes != NULL) {
        scales = codes->scales + first;
    } else if (p->rows_are_codes) {
        scale_rows(f, first, rows, eps, w->scales);
    } else {
        quantize_rows(f, first, rows, eps, w->codes, w->scales, w->row);
    }
    bounds_of_rows(scales, rows, longest, &w->bounds);
    return chunk;
}

/* Compares a chunk of codes with all queries, which are few, row by row. */
static void compare_rows(const struct prefilter *p, struct prefilter_worker *w, size_t worker,
                         size_t first, const struct sq8_rows *chunk)
{
    const struct sq8_kernels *kernels = kernels_current()->sq8;
    const struct coded_queries *c = &p->coded;
    const bool is_signed = p->rows_are_codes && p->float_rows.operand->dtype == DTYPE_I8;
    const int8_t *codes[SQ8_QUERIES];
    for (size_t q = 0; q < SQ8_QUERIES; q++) { /* missing queries repeat the first */
        codes[q] = c->codes + (q < c->queries ? q : 0) * c->step;
    }
    (is_signed ? kernels->dots_i8 : kernels->dots_u8)(
        w->code_dots, CHUNK, chunk->codes, chunk->step, chunk->count, codes, c->queries, chunk->n);
    for (size_t q = 0; q < c->queries; q++) {
        if (kernels->select(w->keep, w->code_dots + q * CHUNK, &chunk->bounds, chunk->count,
                            c->bounds + q, unit_threshold(p, worker, q))) {
            queue_survivors(p, w, worker, first, chunk->count, q);
        }
    }
}

/* Compares a chunk of codes with the panel of queries that begins at `query`. */
static void compare_panel(const struct prefilter *p, struct prefilter_worker *w, size_t worker,
                          size_t first, const struct sq8_rows *chunk, size_t query)
{
    const struct sq8_kernels *kernels = kernels_current()->sq8;
    const struct sq8_panel *panel = p->coded.panels + query / kernels->panel_queries;
    const bool is_signed = p->rows_are_codes && p->float_rows.operand->dtype == DTYPE_I8;
    float thresholds[SQ8_PANEL] = {0.0f};
    for (size_t q = 0; q < panel->queries; q++) {
        thresholds[q] = unit_threshold(p, worker, query + q);
    }
    if ((is_signed ? kernels->panel_i8 : kernels->panel_u8)(w->keep_panel, chunk, panel,
                                                            thresholds)) {
        queue_panel(p, w, worker, first, chunk->count, query);
    }
}

/*
 * Runs the prefilter on a chunk of SQ8 codes. The arguments and the result are those of
 * prefilter_rows.
 */
static size_t prefilter_codes(const struct prefilter *p, struct prefilter_worker *w, size_t worker,
                              size_t first, size_t rows, size_t rows_done)
{
    const struct search *s = p->search;
    const size_t queries = p->block.queries, width = kernels_current()->sq8->panel_queries;
    const struct sq8_rows chunk = codes_of_chunk(p, w, first, rows);
    const bool prefetches = s->codes != NULL && !p->rows_are_codes && queries > 1;
    if (queries <= SQ8_QUERIES) {
        if (gemm_is_cheaper(p, w, rows_done * queries)) {
            return 0;
        }
        if (prefetches) {
            prefetch_codes(p, first + CHUNK, 0, 1);
        }
        compare_rows(p, w, worker, first, &chunk);
        return queries;
    }
    /*
     * In a triangle, the query index of a pair is above its row index. Queries below the first row
     * of the chunk have no pairs with it.
     */
    const size_t candidate = s->first_candidate + first, lowest = s->first_query + p->block.query;
    const size_t begin = p->block.triangle && candidate > lowest
                             ? smaller(candidate - lowest, queries) / width * width
                             : 0;
    for (size_t query = begin; query < queries; query += width) {
        if (gemm_is_cheaper(p, w, rows_done * queries + rows * query)) {
            return query;
        }
        if (prefetches) {
            prefetch_codes(p, first + CHUNK, (query - begin) / width,
                           size_parts(queries - begin, width));
        }
        compare_panel(p, w, worker, first, &chunk, query);
    }
    return queries;
}

/* Scores rows [first, first + rows) by GEMM, for the queries from `query` on. */
static void score_rest_by_gemm(struct prefilter *p, size_t worker, size_t first, size_t rows,
                               size_t query)
{
    struct search_block block = p->block;
    block.row = first;
    block.rows = rows;
    block.query += query;
    block.queries -= query;
    block.owner = worker;
    if (rows > 0 && block.queries > 0 && score_block(&block, NULL) < 0) {
        atomic_store(&p->status, -1);
    }
}

/*
 * Returns the number of pairs of rows [from, end) and the queries of the block. In a triangle,
 * pairs whose row index is above the query index do not count.
 */
static size_t pairs_in(const struct search_block *block, size_t from, size_t end)
{
    size_t pairs = (end - from) * block->queries;
    if (!block->triangle) {
        return pairs;
    }
    for (size_t row = from; row < end; row++) {
        pairs -= row > block->query ? smaller(row - block->query, block->queries) : 0;
    }
    return pairs;
}

/*
 * Handles one task: prefilters its rows chunk by chunk. While backoff_left is above 0, the task
 * goes to GEMM instead.
 */
static void prefilter_task(void *context, size_t task, size_t worker)
{
    struct prefilter *p = context;
    struct prefilter_worker *w =
        (struct prefilter_worker *)(p->scratch + worker * p->scratch_per_worker);
    const size_t from = p->task_first + task * p->task_rows,
                 end = smaller(p->block.rows, from + p->task_rows);
    size_t first = from;
    if (atomic_load_explicit(&p->status, memory_order_relaxed) < 0) {
        return;
    }
    if (w->backoff_left == 0) {
        bool pays = true;
        w->survivors = 0;
        for (size_t rows;
             first < end && pays && !(p->block.queries >= MIN_POLL_QUERIES && cancel_poll_here());
             first += rows) {
            rows = smaller(p->use_codes ? CHUNK : COARSE_CHUNK, end - first);
            memset(w->measured, 0, CHUNK);
            memset(w->repeats, REPEATS_UNKNOWN, CHUNK);
            const size_t done = (p->use_codes ? prefilter_codes : prefilter_rows)(
                p, w, worker, first, rows, first - from);
            rescore_queue_flush(p, w, worker, first);
            if (done < p->block.queries) {
                pays = false;
                score_rest_by_gemm(p, worker, first, rows, done);
            }
        }
        w->backoff = pays ? 0 : smaller(2 * w->backoff + 1, BACKOFF_MAX);
        w->backoff_left = w->backoff;
    } else {
        w->backoff_left--;
    }
    score_rest_by_gemm(p, worker, first, end - first, 0);
    progress_add(p->search->token, pairs_in(&p->block, from, end));
}

static bool keeps_unit_queries(const struct prefilter *p)
{
    return !p->use_codes || p->coarse_after_codes;
}

/*
 * Writes a query scaled to norm 1. Returns max(|query|, eps) / |query|, by which the query's
 * threshold is multiplied. That is infinity for a query of zeros. Returns NaN if no row may be
 * ruled out, because an element of the query is NaN or infinite, or because the factor is huge.
 */
static double normalize_query(const struct prefilter *p, size_t query, void *buffer, float *to)
{
    const struct pair_scores *s = &p->scores;
    const double divisor = pair_scores_divisor(s, p->query_norms.value[query]);
    const void *row;
    const struct gemm_rows request = {0, query, 1, 0, p->plan.depth, 0, buffer, 0, &row};
    double square = 0.0;
    pair_scores_find_rows(s, s->symmetric ? SIDE_X : SIDE_Y, &p->query_norms.exponent[query],
                          &request);
    for (size_t k = 0; k < p->plan.depth; k++) {
        const double element = compute_load(s->product, row, k);
        square += element * element;
    }
    const double norm = sqrt(square), inverse_norm = norm > 0.0 ? 1.0 / norm : 0.0;
    for (size_t k = 0; k < p->plan.depth; k++) {
        to[k] = (float)(compute_load(s->product, row, k) * inverse_norm);
    }
    const double factor = divisor / norm;
    return factor < 0x1p1000 || norm == 0.0 ? factor : NAN;
}

static void prepare_queries(struct prefilter *p)
{
    /* the first worker's buffers are free until the tasks start */
    struct prefilter_worker *w = (struct prefilter_worker *)p->scratch;
    for (size_t query = 0; query < p->block.queries && !cancel_poll(p->search->token, 0); query++) {
        const struct norms norms = {p->query_norms.value + query, p->query_norms.exponent + query};
        if (query % NORM_BATCH == 0) {
            pair_scores_measure(&p->scores, p->scores.symmetric ? SIDE_X : SIDE_Y, 0, query,
                                smaller(NORM_BATCH, p->block.queries - query), &norms);
        }
        float *unit_query = p->unit_queries + (keeps_unit_queries(p) ? query * p->plan.depth : 0);
        const double factor = normalize_query(p, query, w->query, unit_query);
        p->threshold_factors[query] = factor;
        if (p->use_codes) {
            coded_queries_set(&p->coded, query, unit_query, !isnan(factor));
        }
    }
    if (p->use_codes && p->block.queries > SQ8_QUERIES) {
        coded_queries_pack(&p->coded);
    }
}

/*
 * Allocates one block of memory: first the queries' buffers, then those of each worker. The sizes
 * cannot overflow, because search.c bounds the number of queries and their depth (QUERY_BLOCK,
 * SQ8_MAX_DEPTH, MAX_FLOAT_DEPTH).
 */
static int plan_scratch(struct prefilter *p, char **memory)
{
    const size_t queries = p->block.queries, depth = p->plan.depth, row = float_row_size(depth);
    const size_t norms = scratch_round((queries + COSINE_PADDING) * (sizeof(double) + sizeof(int)));
    const size_t coded = p->use_codes ? coded_queries_size(queries, depth) : 0;
    const size_t factors = scratch_round(queries * sizeof(double));
    const size_t vectors =
        scratch_round((keeps_unit_queries(p) ? queries : 1) * depth * sizeof(float));
    const size_t codes = p->use_codes && p->search->codes == NULL && !p->rows_are_codes
                             ? scratch_round(CHUNK * depth)
                             : 0;
    const size_t row_norms = scratch_round(CHUNK * (sizeof(double) + sizeof(int)));
    const size_t last = scratch_round(queries * sizeof(struct scored));
    const size_t bounds = 4 * CHUNK * sizeof(float);
    const size_t buffers = scratch_round(CHUNK * sizeof(struct code_scale)) +
                           scratch_round(SQ8_QUERIES * CHUNK * sizeof(int32_t)) +
                           CHUNK * sizeof(uint32_t) + bounds + 3 * CHUNK;
    p->scratch_per_worker =
        scratch_round(sizeof(struct prefilter_worker)) + row_norms + last + 2 * row + codes +
        buffers + scratch_round((COARSE_QUERIES * COARSE_STEP + 2 * COARSE_CHUNK) * sizeof(float));
    char *at = *memory =
        scratch_alloc(norms + coded + factors + vectors + p->workers * p->scratch_per_worker);
    if (at == NULL) {
        return -1;
    }
    memset(at, 0, norms);
    p->query_norms = (struct norms){(double *)at, (int *)((double *)at + queries + COSINE_PADDING)};
    at += norms;
    if (p->use_codes) {
        p->coded = coded_queries_at(at, queries, depth, code_zero(p));
    }
    p->unit_queries = (float *)(at += coded);
    p->threshold_factors = (double *)(at += vectors);
    p->scratch = at += factors;
    for (size_t i = 0; i < p->workers; i++, at = p->scratch + i * p->scratch_per_worker) {
        struct prefilter_worker *w = (struct prefilter_worker *)at;
        memset(w, 0, scratch_round(sizeof *w) + row_norms + last);
        at += scratch_round(sizeof *w);
        w->row_norms = (struct norms){(double *)at, (int *)((double *)at + CHUNK)};
        w->last = (struct scored *)(at += row_norms);
        w->row = at += last;
        w->query = at += row;
        w->codes = (uint8_t *)(at += row);
        w->scales = (struct code_scale *)(at += codes);
        w->code_dots = (int32_t *)(at += scratch_round(CHUNK * sizeof(struct code_scale)));
        float *of_rows = (float *)(at += scratch_round(SQ8_QUERIES * CHUNK * sizeof(int32_t)));
        memset(of_rows, 0, bounds);
        w->bounds =
            (struct row_bounds){of_rows, of_rows + CHUNK, of_rows + 2 * CHUNK, of_rows + 3 * CHUNK};
        w->keep_panel = (uint32_t *)(at += bounds);
        w->keep = (uint8_t *)(at += CHUNK * sizeof(uint32_t));
        w->measured = w->keep + CHUNK;
        w->repeats = w->measured + CHUNK;
        w->dots = (float *)(at += 3 * CHUNK);
        w->norms = w->dots + COARSE_QUERIES * COARSE_STEP;
        w->divisors = w->norms + COARSE_CHUNK;
    }
    return 0;
}

int prefilter(const struct search *s, const struct search_block *block, size_t first)
{
    struct prefilter p = {.search = s, .block = *block, .task_first = first};
    char *memory;
    block_plan(&p.block, &p.plan);
    p.call = block_call(&p.block, &p.plan);
    pair_scores_init(&p.scores, &p.call);
    p.float_rows = float_rows_of(s, p.call.x.data);
    p.coarse_error = (float)(COARSE_DOT_ERROR(p.plan.depth) * 2 + exact_score_error + 0x1p-20);
    p.rows_are_codes =
        rows_are_codes(&p.float_rows) && (s->codes == NULL || s->codes->codes == NULL);
    p.use_codes = p.rows_are_codes || s->codes != NULL || block->queries > COARSE_QUERIES;
    p.coarse_after_codes = p.use_codes && block->queries <= MAX_COARSE_AFTER_CODES;
    const size_t rows = block->rows - first, per_row = block->queries * p.plan.depth;
    p.task_rows = smaller(TASK_ROWS, larger(TASK_MULTIPLICATIONS / per_row / CHUNK, 1) * CHUNK);
    const size_t tasks = size_parts(rows, p.task_rows);
    const int threads =
        thread_count_for(size_product_or_max(rows, block->queries), p.plan.depth, GRAIN_GEMM);
    p.workers = smaller(
        (size_t)(threads < s->result_handler->workers ? threads : s->result_handler->workers),
        tasks);
    if (plan_scratch(&p, &memory) < 0) {
        return -1;
    }
    prepare_queries(&p);
    pool_run(tasks, (int)p.workers, prefilter_task, &p, s->token);
    scratch_free(memory);
    return atomic_load(&p.status);
}
