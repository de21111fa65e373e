/*
 * The prefilter: bounds the score of each pair, and computes the exact scores of the pairs that the
 * bound does not rule out.
 */
#include <math.h>
#include <string.h>

#include "base/eps.h"
#include "base/pool.h"
#include "base/scratch.h"
#include "search/prefilter.h"
#include "search/quantize.h"

/*
 * Upper bound of the rounding error of the exact score, in units of 2^-24: 32 for a chain of
 * products, 8 for adding the chains of a block, and 8 for the score itself.
 */
static const double exact_score_error = 48 * 0x1p-24;

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
 * Returns the size of the chunk of codes that begins at row `first`. A search with few queries
 * begins without thresholds, so all rows of its first chunk are rescored. That chunk is therefore
 * small, and each of the next chunks is twice as large as the one before.
 */
static size_t rows_of_chunk(const struct prefilter *p, size_t first)
{
    return p->block.queries > SQ8_QUERIES ? CHUNK
                                          : smaller(larger(first, FIRST_CHUNK), p->code_chunk);
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
            w->by_codes = p->use_codes && w->code_pause == 0;
            w->code_pause -= w->code_pause > 0;
            rows = smaller(w->by_codes ? rows_of_chunk(p, first) : COARSE_CHUNK, end - first);
            memset(w->measured, 0, CHUNK);
            memset(w->repeats, REPEATS_UNKNOWN, CHUNK);
            const size_t done = (w->by_codes ? prefilter_codes : prefilter_rows)(
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
    pair_scores_find_rows(s, s->symmetric ? SIDE_X : SIDE_Y, &p->query_norms.exponent[query],
                          &request);
    const float *floats = row; /* if the product is float32 */
    const bool in_floats = s->product == COMPUTE_F32;
    double square = in_floats ? sum_of_squares(floats, p->plan.depth) : 0.0;
    for (size_t k = 0; k < p->plan.depth && !in_floats; k++) {
        const double element = compute_load(s->product, row, k);
        square += element * element;
    }
    const double norm = sqrt(square), inverse_norm = norm > 0.0 ? 1.0 / norm : 0.0;
    for (size_t k = 0; k < p->plan.depth && in_floats; k++) {
        to[k] = (float)(floats[k] * inverse_norm);
    }
    for (size_t k = 0; k < p->plan.depth && !in_floats; k++) {
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
        if (p->use_heads) {
            head_of_query(&p->search->heads->rotation, p->plan.depth, &p->heads, query, unit_query,
                          !isnan(factor), p->head);
        }
    }
    if (p->use_codes && p->block.queries > SQ8_QUERIES) {
        coded_queries_pack(&p->coded);
    }
    if (p->use_heads && p->block.queries > SQ8_QUERIES) {
        coded_queries_pack(&p->heads);
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
    const size_t head_size = p->use_heads ? p->search->heads->rotation.size : 0;
    const size_t heads = p->use_heads ? coded_queries_size(queries, head_size) +
                                            scratch_round(head_size * sizeof(float))
                                      : 0;
    const size_t factors = scratch_round(queries * sizeof(double));
    const size_t vectors =
        scratch_round((keeps_unit_queries(p) ? queries : 1) * depth * sizeof(float));
    const size_t codes = p->use_codes && !p->rows_are_codes ? scratch_round(CHUNK * depth) : 0;
    const size_t row_norms = scratch_round(CHUNK * (sizeof(double) + sizeof(int)));
    const size_t last = scratch_round(queries * sizeof(struct scored));
    const size_t bounds = 9 * CHUNK * sizeof(float);
    const size_t buffers = scratch_round(CHUNK * sizeof(struct code_scale)) +
                           scratch_round(SQ8_QUERIES * CHUNK * sizeof(int32_t)) +
                           CHUNK * sizeof(uint32_t) + bounds + 4 * CHUNK;
    p->scratch_per_worker =
        scratch_round(sizeof(struct prefilter_worker)) + row_norms + last + 2 * row + codes +
        buffers + scratch_round((COARSE_QUERIES * COARSE_STEP + 2 * COARSE_CHUNK) * sizeof(float));
    char *at = *memory = scratch_alloc(norms + coded + heads + factors + vectors +
                                       p->workers * p->scratch_per_worker);
    if (at == NULL) {
        return -1;
    }
    memset(at, 0, norms);
    p->query_norms = (struct norms){(double *)at, (int *)((double *)at + queries + COSINE_PADDING)};
    at += norms;
    if (p->use_codes) {
        p->coded = coded_queries_at(at, queries, depth, code_zero(p));
        p->coded.in_halves = p->search->codes != NULL && !p->rows_are_codes && !compares_rows(p) &&
                             queries <= kernels_current()->sq8->panel_lanes;
    }
    at += coded;
    if (p->use_heads) {
        p->heads =
            coded_queries_at(at, queries, head_size, CODE_ZERO + kernels_current()->sq8->u8_offset);
        p->head = (float *)(at + coded_queries_size(queries, head_size));
    }
    p->unit_queries = (float *)(at += heads);
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
        of_rows += 4 * CHUNK;
        w->head_bounds =
            (struct row_bounds){of_rows, of_rows + CHUNK, of_rows + 2 * CHUNK, of_rows + 3 * CHUNK};
        w->row_thresholds = of_rows + 4 * CHUNK;
        for (size_t r = 0; r < CHUNK; r++) {
            w->row_thresholds[r] = INFINITY;
        }
        w->keep_panel = (uint32_t *)(at += bounds);
        w->keep = (uint8_t *)(at += CHUNK * sizeof(uint32_t));
        w->measured = w->keep + CHUNK;
        w->repeats = w->measured + CHUNK;
        w->zero = w->repeats + CHUNK;
        w->dots = (float *)(at += 4 * CHUNK);
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
    p.coarse_error = (float)(1.5 * kernels_current()->sums->coarse_error(p.plan.depth) +
                             exact_score_error + 0x1p-20);
    p.rows_are_codes =
        rows_are_codes(&p.float_rows) && (s->codes == NULL || s->codes->upper == NULL);
    p.use_codes = p.rows_are_codes || s->codes != NULL || block->queries > COARSE_QUERIES;
    /* Rows that are their own codes are compared in small chunks, so that reading from memory
     * hardly pauses while rows are compared. */
    p.code_chunk =
        p.rows_are_codes && s->codes == NULL && block->queries <= SQ8_QUERIES ? SMALL_CHUNK : CHUNK;
    p.use_heads = p.use_codes && s->heads != NULL && !p.rows_are_codes;
    p.use_halves = s->codes != NULL && !p.rows_are_codes && !s->mirrored && compares_rows(&p);
    p.coarse_after_codes = p.use_codes && (block->queries <= MAX_COARSE_AFTER_CODES || s->mirrored);
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
