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
#include "search/quantize.h"

enum {
    /* corpus rows that stay in the cache while all queries are compared with them */
    CHUNK = 256,
    COARSE_CHUNK = 32,              /* the same for float32 rows, which stay in L1 */
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
    BACKOFF_MAX = 64       /* tasks */
};

/*
 * Upper bound of the rounding error of the exact score, in units of 2^-24: 32 for a chain of
 * products, 8 for adding the chains of a block, and 8 for the score itself.
 */
static const double exact_score_error = 48 * 0x1p-24;

/* The state and buffers of one worker. */
struct prefilter_worker {
    /* pairs of the current task that the prefilter has not ruled out */
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
    void *row, *query; /* buffers for one corpus row and one query, converted for the product */
    uint8_t *codes;
    struct code_scale *scales;
    int32_t *code_dots; /* [SQ8_QUERIES][CHUNK] */
    /* [COARSE_QUERIES + 1][COARSE_CHUNK]; the last row holds squared norms */
    float *dots;
    uint8_t *keep; /* [CHUNK] */
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
    bool use_codes; /* true: compares SQ8 codes; false: compares float32 rows */
    struct norms query_norms;
    char *query_codes; /* with use_codes: [queries rounded up][depth rounded up] */
    size_t query_codes_step;
    struct code_query *code_queries;
    /* queries scaled to norm 1: [queries][depth]; with use_codes, a buffer for one query */
    float *unit_queries;
    size_t task_rows, task_first;
    char *scratch;
    size_t scratch_per_worker;
    size_t workers;
    _Atomic int status;
};

/*
 * Computes the exact score of row r of the chunk at `first` with one query, and passes it to
 * add_score.
 */
static void rescore(const struct prefilter *p, struct prefilter_worker *w, size_t worker,
                    size_t first, size_t r, size_t query)
{
    const size_t row = first + r;
    const struct search *s = p->search;
    const size_t query_index = s->first_query + p->block.query + query,
                 candidate = s->first_candidate + row;
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
    add_score(s, worker, query_index, candidate,
              p->scores.compute == COMPUTE_F64 ? score.f64 : (double)score.f32);
}

static void rescore_queue_flush(const struct prefilter *p, struct prefilter_worker *w,
                                size_t worker, size_t first)
{
    for (size_t i = 0; i < w->queued; i++) {
        rescore(p, w, worker, first, w->rescore_queue[i].row, w->rescore_queue[i].query);
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

/* Queues the pairs of one query with all rows of the chunk that w->keep marks. */
static void queue_survivors(const struct prefilter *p, struct prefilter_worker *w, size_t worker,
                            size_t first, size_t rows, size_t query)
{
    const struct search *s = p->search;
    for (size_t r = 0; r < rows; r += sizeof(uint64_t)) {
        uint64_t flags;
        memcpy(&flags, w->keep + r, sizeof flags);
        for (size_t i = 0; flags != 0 && i < sizeof flags && r + i < rows; i++) {
            if (w->keep[r + i]) {
                if (p->block.triangle &&
                    s->first_candidate + first + r + i >= s->first_query + p->block.query + query) {
                    continue;
                }
                w->survivors++;
                if (w->queued == QUEUE_SIZE) {
                    rescore_queue_flush(p, w, worker, first);
                }
                w->rescore_queue[w->queued].row = (uint16_t)(r + i);
                w->rescore_queue[w->queued++].query = (uint16_t)query;
                prefetch_row(p, first + r + i);
            }
        }
    }
}

/*
 * True if a float holds the squared norm accurately and eps does not clamp the norm. Then x.v / |x|
 * is the cosine of the row x and a query v of norm 1.
 */
static bool square_is_usable(float square, float unclamped_square)
{
    return square >= 0x1p-80f && square <= 0x1p80f && square >= unclamped_square;
}

/*
 * Runs the prefilter on rows [first, first + rows), a chunk of float32 rows. rows_done counts the
 * rows of the task that come before the chunk.
 *
 * Returns how many queries it compared. That is fewer than all if a GEMM is cheaper for the
 * remaining ones.
 */
static size_t prefilter_rows(const struct prefilter *p, struct prefilter_worker *w, size_t worker,
                             size_t first, size_t rows, size_t rows_done)
{
    const struct search *s = p->search;
    const size_t depth = p->plan.depth, queries = p->block.queries;
    const double error = COARSE_DOT_ERROR(depth) * 2 + exact_score_error + 0x1p-22;
    const float unclamped_square =
        (float)eps_unclamped_square(fmin(s->eps, 0x1p60), EPS_ERROR_OF_FLOATS);
    const float *vectors[COARSE_QUERIES];
    const float *x = (const float *)(p->call.x.data + (ptrdiff_t)first * s->corpus_rows.x),
                *squares = w->dots + COARSE_QUERIES * COARSE_CHUNK;
    for (size_t query = 0, count; query < queries; query += count) {
        if (gemm_is_cheaper(p, w, rows_done * queries + rows * query)) {
            return query;
        }
        count = smaller(COARSE_QUERIES, queries - query);
        for (size_t q = 0; q < count; q++) {
            vectors[q] = p->unit_queries + (query + q) * depth;
        }
        kernels_current()->sums->coarse_dots(w->dots, w->dots + COARSE_QUERIES * COARSE_CHUNK, x,
                                             s->corpus_rows.x, rows, vectors, count, depth);
        for (size_t q = 0; q < count; q++) {
            const float threshold =
                (float)(threshold_at(s->result_handler, worker,
                                     s->first_query + p->block.query + query + q) -
                        error);
            const float *dots = w->dots + q * rows;
            unsigned any = 0;
            for (size_t r = 0; r < rows; r++) {
                w->keep[r] = !(dots[r] < threshold * sqrtf(squares[r])) |
                             !square_is_usable(squares[r], unclamped_square);
                any |= w->keep[r];
            }
            if (any != 0) {
                queue_survivors(p, w, worker, first, rows, query + q);
            }
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
 * Runs the prefilter on a chunk of SQ8 codes. The arguments and the result are those of
 * prefilter_rows.
 */
static size_t prefilter_codes(const struct prefilter *p, struct prefilter_worker *w, size_t worker,
                              size_t first, size_t rows, size_t rows_done)
{
    const struct search *s = p->search;
    const struct sq8_kernels *kernels = kernels_current()->sq8;
    const size_t depth = p->plan.depth, queries = p->block.queries;
    const uint8_t *codes = w->codes;
    const struct code_scale *scales = w->scales;
    if (s->codes != NULL) {
        codes = s->codes->codes + first * depth;
        scales = s->codes->scales + first;
    } else {
        quantize_rows(&p->scores, first, rows, w->codes, w->scales, w->row);
    }
    /*
     * In a triangle, the query index of a pair is above its row index. Queries below the first row
     * of the chunk have no pairs with it.
     */
    const size_t candidate = s->first_candidate + first, lowest = s->first_query + p->block.query;
    const size_t begin = p->block.triangle && candidate > lowest
                             ? smaller(candidate - lowest, queries) / SQ8_QUERIES * SQ8_QUERIES
                             : 0;
    for (size_t query = begin, count; query < queries; query += count) {
        const void *query_codes[SQ8_QUERIES];
        if (gemm_is_cheaper(p, w, rows_done * queries + rows * query)) {
            return query;
        }
        count = smaller(SQ8_QUERIES, queries - query);
        if (s->codes != NULL && queries > 1) {
            prefetch_codes(p, first + CHUNK, (query - begin) / SQ8_QUERIES,
                           size_parts(queries - begin, SQ8_QUERIES));
        }
        for (size_t q = 0; q < SQ8_QUERIES; q++) { /* missing queries repeat the first */
            query_codes[q] = p->query_codes + (query + (q < count ? q : 0)) * p->query_codes_step;
        }
        kernels->dots(w->code_dots, CHUNK, codes, depth, rows, query_codes, count, depth);
        for (size_t q = 0; q < count; q++) {
            struct code_query bounds = p->code_queries[query + q];
            bounds.threshold = (float)threshold_at(s->result_handler, worker,
                                                   s->first_query + p->block.query + query + q);
            if (kernels->select(w->keep, w->code_dots + q * CHUNK, scales, rows, &bounds)) {
                queue_survivors(p, w, worker, first, rows, query + q);
            }
        }
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
    for (size_t row = from; block->triangle && row < end; row++) {
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

/* Writes a query scaled to norm 1. Returns false if it holds NaN or infinity. */
static bool normalize_query(const struct prefilter *p, size_t query, void *buffer, float *to)
{
    const struct pair_scores *s = &p->scores;
    const double norm = p->query_norms.value[query];
    const void *row;
    const struct gemm_rows request = {0, query, 1, 0, p->plan.depth, 0, buffer, 0, &row};
    bool finite = true;
    pair_scores_find_rows(s, s->symmetric ? SIDE_X : SIDE_Y, &p->query_norms.exponent[query],
                          &request);
    for (size_t k = 0; k < p->plan.depth; k++) {
        const double element = compute_load(s->product, row, k);
        to[k] = (float)(s->compute == COMPUTE_F32 ? element * norm : element / norm);
        finite = finite && isfinite(to[k]);
    }
    return finite;
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
        float *unit_query =
            p->use_codes ? p->unit_queries : p->unit_queries + query * p->plan.depth;
        const bool finite = normalize_query(p, query, w->query, unit_query);
        if (p->use_codes) {
            p->code_queries[query] =
                quantize_query(unit_query, finite, p->plan.depth,
                               p->query_codes + query * p->query_codes_step, p->query_codes_step);
        }
    }
}

/*
 * Allocates one block of memory: first the queries' buffers, then those of each worker. The sizes
 * cannot overflow, because there are at most 4096 queries (QUERY_BLOCK) of at most SQ8_MAX_DEPTH
 * elements.
 */
static int plan_scratch(struct prefilter *p, char **memory)
{
    const size_t queries = p->block.queries, depth = p->plan.depth,
                 row = scratch_round(depth * (sizeof(double) + sizeof(float)));
    const size_t rounded = size_parts(queries, SQ8_QUERIES) * SQ8_QUERIES;
    const size_t padded = size_parts(depth, SQ8_PADDING) * SQ8_PADDING;
    p->query_codes_step = padded * kernels_current()->sq8->query_code_size;
    const size_t norms = scratch_round((queries + COSINE_PADDING) * (sizeof(double) + sizeof(int)));
    const size_t query_codes = p->use_codes ? scratch_round(rounded * p->query_codes_step) : 0;
    const size_t code_queries =
        p->use_codes ? scratch_round(rounded * sizeof(struct code_query)) : 0;
    const size_t vectors = scratch_round((p->use_codes ? 1 : queries) * depth * sizeof(float));
    const size_t codes =
        p->use_codes && p->search->codes == NULL ? scratch_round(CHUNK * depth) : 0;
    const size_t row_norms = scratch_round(CHUNK * (sizeof(double) + sizeof(int)));
    const size_t buffers = scratch_round(CHUNK * sizeof(struct code_scale)) +
                           scratch_round(SQ8_QUERIES * CHUNK * sizeof(int32_t)) + 2 * CHUNK;
    p->scratch_per_worker = scratch_round(sizeof(struct prefilter_worker)) + row_norms + 2 * row +
                            codes + buffers +
                            scratch_round((COARSE_QUERIES + 1) * COARSE_CHUNK * sizeof(float));
    char *at = *memory = scratch_alloc(norms + query_codes + code_queries + vectors +
                                       p->workers * p->scratch_per_worker);
    if (at == NULL) {
        return -1;
    }
    memset(at, 0, norms);
    p->query_norms = (struct norms){(double *)at, (int *)((double *)at + queries + COSINE_PADDING)};
    p->query_codes = at += norms;
    p->code_queries = (struct code_query *)(at += query_codes);
    p->unit_queries = (float *)(at += code_queries);
    p->scratch = at += vectors;
    for (size_t i = 0; i < p->workers; i++, at = p->scratch + i * p->scratch_per_worker) {
        struct prefilter_worker *w = (struct prefilter_worker *)at;
        memset(w, 0, scratch_round(sizeof *w) + row_norms);
        at += scratch_round(sizeof *w);
        w->row_norms = (struct norms){(double *)at, (int *)((double *)at + CHUNK)};
        w->row = at += row_norms;
        w->query = at += row;
        w->codes = (uint8_t *)(at += row);
        w->scales = (struct code_scale *)(at += codes);
        w->code_dots = (int32_t *)(at += scratch_round(CHUNK * sizeof(struct code_scale)));
        w->keep = (uint8_t *)(at += scratch_round(SQ8_QUERIES * CHUNK * sizeof(int32_t)));
        w->measured = w->keep + CHUNK;
        w->dots = (float *)(at += 2 * CHUNK);
    }
    return 0;
}

int prefilter(const struct search *s, const struct search_block *block, size_t first,
              bool use_codes)
{
    struct prefilter p = {
        .search = s, .block = *block, .use_codes = use_codes, .task_first = first};
    char *memory;
    block_plan(&p.block, &p.plan);
    p.call = block_call(&p.block, &p.plan);
    pair_scores_init(&p.scores, &p.call);
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
