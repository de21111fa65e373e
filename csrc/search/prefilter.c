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
 * Returns the size of the chunk of codes that begins at row `first`. A search with few queries
 * begins without thresholds, so all rows of its first chunk are rescored. That chunk is therefore
 * small, and each of the next chunks is twice as large as the one before.
 */
static size_t rows_of_chunk(const struct prefilter *p, size_t first)
{
    return p->block.queries > SQ8_QUERIES ? CHUNK
                                          : smaller(larger(first, FIRST_CHUNK), p->code_chunk);
}

static void begin_chunk(struct prefilter_worker *w, size_t first, size_t rows)
{
    const struct search *s = w->prefilter->search;
    const bool consecutive = run_of_numbers(s->row_numbers, first, rows) == rows;
    w->first = first;
    w->rows = rows;
    w->numbers = consecutive ? NULL : s->row_numbers + first;
    w->at = consecutive ? corpus_row(s, first) : 0;
    memset(w->measured, 0, CHUNK);
    memset(w->repeats, REPEATS_UNKNOWN, CHUNK);
}

/*
 * Handles one task: prefilters its rows chunk by chunk. During a pause the task goes to GEMM
 * instead.
 */
static void prefilter_task(void *context, size_t task, size_t worker)
{
    struct prefilter *p = context;
    struct prefilter_worker *w = &p->workers[worker];
    const size_t from = p->task_first + task * p->task_rows,
                 end = smaller(p->block.rows, from + p->task_rows);
    size_t first = from;
    if (atomic_load_explicit(&p->status, memory_order_relaxed) < 0) {
        return;
    }
    if (w->task_pause.left == 0) {
        bool pays = true;
        w->survivors = 0;
        w->task_first = from;
        for (; first < end && pays && !(p->block.queries >= MIN_POLL_QUERIES && cancel_poll_here());
             first += w->rows) {
            const bool by_codes = p->use_codes && w->code_pause.left == 0;
            pause_step(&w->code_pause);
            begin_chunk(w, first,
                        smaller(by_codes ? rows_of_chunk(p, first) : COARSE_CHUNK, end - first));
            const size_t done = by_codes ? prefilter_codes(w) : prefilter_rows(w);
            rescore_queue_flush(w);
            if (done < p->block.queries) {
                pays = false;
                score_rest_by_gemm(p, worker, first, w->rows, done);
            }
        }
        pause_unless(pays, &w->task_pause, 1, MAX_TASK_PAUSE);
    } else {
        pause_step(&w->task_pause);
    }
    score_rest_by_gemm(p, worker, first, end - first, 0);
    progress_add(p->search->token,
                 gemm_pairs(p->block.triangle, from, end - from, p->block.query, p->block.queries));
}

/* Returns the code of 0 in the rows, plus the offset that the kernels add to their elements:
 * scale * (code + offset - zero) is close to x / max(|x|, eps). */
static int code_zero(const struct prefilter *p)
{
    const struct sq8_kernels *kernels = kernels_current()->sq8;
    return p->signed_codes ? kernels->i8_offset
                           : kernels->u8_offset + (p->rows_are_codes ? 0 : CODE_ZERO);
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
    const struct pair_scores *s = p->scores;
    const double divisor = pair_scores_divisor(s, p->query_norms.value[query]);
    const void *row;
    const struct gemm_rows request = {0, query, 1, 0, p->depth, 0, buffer, 0, &row};
    pair_scores_find_rows(s, SIDE_Y, &p->query_norms.exponent[query], &request);
    const float *floats = row; /* if the product is float32 */
    const bool in_floats = s->product == COMPUTE_F32;
    double square = in_floats ? sum_of_squares(floats, p->depth) : 0.0;
    for (size_t k = 0; k < p->depth && !in_floats; k++) {
        const double element = compute_load(s->product, row, k);
        square += element * element;
    }
    const double norm = sqrt(square), inverse_norm = norm > 0.0 ? 1.0 / norm : 0.0;
    for (size_t k = 0; k < p->depth && in_floats; k++) {
        to[k] = (float)(floats[k] * inverse_norm);
    }
    for (size_t k = 0; k < p->depth && !in_floats; k++) {
        to[k] = (float)(compute_load(s->product, row, k) * inverse_norm);
    }
    const double factor = divisor / norm;
    return factor < 0x1p1000 || norm == 0.0 ? factor : NAN;
}

static void prepare_queries(struct prefilter *p)
{
    /* the first worker's buffers are free until the tasks start */
    struct prefilter_worker *w = p->workers;
    for (size_t query = 0; query < p->block.queries && !cancel_poll(p->search->token, 0); query++) {
        const struct norms norms = {p->query_norms.value + query, p->query_norms.exponent + query};
        if (query % NORM_BATCH == 0) {
            pair_scores_measure(p->scores, SIDE_Y, 0, query,
                                smaller(NORM_BATCH, p->block.queries - query), &norms);
        }
        float *unit_query = p->unit_queries + (keeps_unit_queries(p) ? query * p->depth : 0);
        const double factor = normalize_query(p, query, w->query, unit_query);
        p->threshold_factors[query] = factor;
        if (p->use_codes) {
            coded_queries_set(&p->coded, query, unit_query, !isnan(factor));
        }
        if (p->use_heads) {
            head_of_query(&p->search->heads->rotation, p->depth, &p->heads, query, unit_query,
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

/* Takes the buffers of a worker. In the second pass of the arena, also sets its state. */
static void take_worker(struct prefilter *p, size_t number, struct arena *arena)
{
    const size_t queries = p->block.queries, depth = p->depth;
    struct scored *last = arena_take(arena, queries, sizeof *last);
    void *row = arena_take(arena, 1, float_row_size(depth)),
         *query = arena_take(arena, 1, float_row_size(depth));
    uint8_t *codes = arena_take(arena, p->use_codes && !p->rows_are_codes ? CHUNK : 0, depth);
    if (arena->block == NULL) {
        return;
    }
    struct prefilter_worker *w = &p->workers[number];
    memset(w, 0, sizeof *w);
    memset(last, 0, queries * sizeof *last);
    w->prefilter = p;
    w->number = number;
    w->last = last;
    w->row = row;
    w->query = query;
    w->codes = codes;
    float (*arrays)[CHUNK] = w->bounds_of_codes;
    w->bounds = (struct row_bounds){arrays[0], arrays[1], arrays[2], arrays[3]};
    arrays = w->bounds_of_heads;
    w->head_bounds = (struct row_bounds){arrays[0], arrays[1], arrays[2], arrays[3]};
    for (size_t r = 0; r < CHUNK; r++) {
        w->row_thresholds[r] = INFINITY;
    }
}

/* Takes the buffers of the queries and of the workers. */
static void take_memory(struct prefilter *p, struct arena *arena)
{
    const size_t queries = p->block.queries, depth = p->depth,
                 head_size = p->use_heads ? p->search->heads->rotation.size : 0,
                 padded = queries + COSINE_PADDING;
    p->query_norms.value = arena_take(arena, padded, sizeof *p->query_norms.value);
    p->query_norms.exponent = arena_take(arena, padded, sizeof *p->query_norms.exponent);
    p->threshold_factors = arena_take(arena, queries, sizeof *p->threshold_factors);
    p->unit_queries =
        arena_take(arena, (keeps_unit_queries(p) ? queries : 1) * depth, sizeof *p->unit_queries);
    if (p->use_codes) {
        p->coded = coded_queries_take(arena, queries, depth, code_zero(p));
        p->coded.in_halves =
            p->has_halves && !p->by_rows && queries <= kernels_current()->sq8->panel_lanes;
    }
    if (p->use_heads) {
        p->heads = coded_queries_take(arena, queries, head_size,
                                      CODE_ZERO + kernels_current()->sq8->u8_offset);
        p->head = arena_take(arena, head_size, sizeof *p->head);
    }
    p->workers = arena_take(arena, p->worker_count, sizeof *p->workers);
    for (size_t i = 0; i < p->worker_count; i++) {
        take_worker(p, i, arena);
    }
    if (arena->block != NULL) {
        memset(p->query_norms.value, 0, padded * sizeof *p->query_norms.value);
        memset(p->query_norms.exponent, 0, padded * sizeof *p->query_norms.exponent);
    }
}

int prefilter(const struct search *s, const struct search_block *block, size_t first)
{
    struct prefilter p = {.search = s, .block = *block, .task_first = first};
    struct arena arena = {.block = NULL};
    block_scores_init(&p.block_scores, &p.block);
    p.scores = &p.block_scores.scores;
    p.depth = s->depth.size;
    p.float_rows = float_rows_of(s, p.block_scores.call.x.data);
    /* docs/bounds.md derives this bound. */
    p.coarse_error =
        (float)(1.5 * kernels_current()->sums->coarse_error(p.depth) + exact_score_error + 0x1p-20);
    p.rows_are_codes =
        rows_are_codes(&p.float_rows) && (s->codes == NULL || s->codes->upper == NULL);
    p.signed_codes = p.rows_are_codes && s->corpus.dtype == DTYPE_I8;
    p.has_halves = s->codes != NULL && !p.rows_are_codes;
    p.by_rows =
        block->queries <=
        (p.has_halves ? SQ8_QUERIES : larger(SQ8_QUERIES, kernels_current()->sq8->panel_lanes / 2));
    p.longest_codes =
        (p.rows_are_codes ? UINT8_MAX : CODE_ZERO - 1) * sqrtf((float)p.depth) * (1.0f + 0x1p-20f);
    p.use_codes = p.rows_are_codes || s->codes != NULL || block->queries > COARSE_QUERIES;
    /* Rows that are their own codes are compared in small chunks, so that reading from memory
     * hardly pauses while rows are compared. */
    p.code_chunk =
        p.rows_are_codes && s->codes == NULL && block->queries <= SQ8_QUERIES ? SMALL_CHUNK : CHUNK;
    p.use_heads = p.use_codes && s->heads != NULL && !p.rows_are_codes;
    p.use_halves = p.has_halves && !s->mirrored && p.by_rows;
    p.coarse_after_codes = p.use_codes && (block->queries <= MAX_COARSE_AFTER_CODES || s->mirrored);
    const size_t rows = block->rows - first, per_row = block->queries * p.depth;
    p.task_rows = smaller(TASK_ROWS, larger(TASK_MULTIPLICATIONS / per_row / CHUNK, 1) * CHUNK);
    const size_t tasks = size_parts(rows, p.task_rows);
    const int threads =
        thread_count_for(size_product_or_max(rows, block->queries), p.depth, GRAIN_GEMM);
    p.worker_count = smaller(
        (size_t)(threads < s->result_handler->workers ? threads : s->result_handler->workers),
        tasks);
    while (arena_pass(&arena)) {
        take_memory(&p, &arena);
    }
    if (arena.block == NULL) {
        return -1;
    }
    prepare_queries(&p);
    pool_run(tasks, (int)p.worker_count, prefilter_task, &p, s->token);
    scratch_free(arena.block);
    return atomic_load(&p.status);
}
