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
#include "search/prefilter_state.h"
#include "search/quantize.h"

/*
 * Upper bound of the rounding error of the exact score, in units of 2^-24: 32 for a chain of
 * products, 8 for adding the chains of a block, and 8 for the score itself.
 */
static const double exact_score_error = 48 * 0x1p-24;

/* True if the codes of a pair are compared after its heads. */
static bool has_codes(const struct prefilter *p)
{
    return p->search->codes != NULL;
}

/* Returns the codes of a corpus row of an index. */
static const uint8_t *code_row(const struct prefilter *p, size_t row)
{
    return p->search->codes->codes + corpus_row(p->search, row) * p->plan.depth;
}

/*
 * Compares the codes of row r of the chunk with those of `count` queries, at most SQ8_QUERIES, and
 * queues the pairs that are not ruled out.
 */
static void compare_pairs(const struct prefilter *p, struct prefilter_worker *w, size_t worker,
                          size_t first, size_t r, const size_t *queries, size_t count)
{
    const struct row_bounds *b = &w->bounds;
    const int8_t *codes[SQ8_QUERIES];
    int32_t dots[SQ8_QUERIES];
    w->head_survivors += count;
    for (size_t i = 0; i < count && !has_codes(p); i++) {
        queue_survivor(p, w, worker, first, r, queries[i]);
    }
    if (!has_codes(p)) {
        return;
    }
    for (size_t i = 0; i < count; i++) {
        codes[i] = p->coded.codes + queries[i] * p->coded.step;
    }
    kernels_current()->sq8->row_dots_u8(dots, code_row(p, first + r), codes, count, p->plan.depth);
    for (size_t i = 0; i < count; i++) {
        const struct query_bound *q = p->coded.bounds + queries[i];
        const float bound =
            (float)(dots[i] + q->offset) * (b->scale[r] * q->scale) +
            (b->residual[r] * q->norm + b->norm[r] * q->residual + b->tail[r] * q->tail);
        if (!(bound < unit_threshold(p, worker, queries[i]))) {
            queue_survivor(p, w, worker, first, r, queries[i]);
        }
    }
}

/* Prefetches the codes of a row that passed the heads. */
static void prefetch_code_row(const struct prefilter *p, size_t row)
{
    const uint8_t *codes = code_row(p, row);
    for (size_t at = 0; at < p->plan.depth; at += SCRATCH_ALIGN) {
        __builtin_prefetch(codes + at);
    }
}

/* Passes on the pairs of one query with all rows of the chunk that w->keep marks: to the codes
 * after the heads, else to the queue. */
static void pass_rows(const struct prefilter *p, struct prefilter_worker *w, size_t worker,
                      size_t first, size_t rows, size_t query, bool after_heads)
{
    uint16_t kept[CHUNK];
    size_t count = 0;
    for (size_t r = 0; r < rows; r += sizeof(uint64_t)) {
        uint64_t flags;
        memcpy(&flags, w->keep + r, sizeof flags);
        const size_t end = flags == 0 ? r : smaller(r + sizeof flags, rows);
        for (size_t i = r; i < end; i++) {
            if (w->keep[i]) {
                kept[count++] = (uint16_t)i;
                if (after_heads && has_codes(p)) {
                    prefetch_code_row(p, first + i);
                }
            }
        }
    }
    for (size_t i = 0; i < count; i++) {
        if (after_heads) {
            compare_pairs(p, w, worker, first, kept[i], &query, 1);
        } else {
            queue_survivor(p, w, worker, first, kept[i], query);
        }
    }
}

/* The same for the pairs of a panel, whose first query is `query`, that w->keep_panel marks. */
static void pass_panel(const struct prefilter *p, struct prefilter_worker *w, size_t worker,
                       size_t first, size_t rows, size_t query, bool after_heads)
{
    for (size_t r = 0; r < rows && after_heads && has_codes(p); r++) {
        if (w->keep_panel[r] != 0) {
            prefetch_code_row(p, first + r);
        }
    }
    for (size_t r = 0; r < rows; r++) {
        for (uint32_t bits = w->keep_panel[r]; bits != 0;) {
            size_t queries[SQ8_QUERIES], count = 0;
            for (; bits != 0 && count < SQ8_QUERIES; bits &= bits - 1) {
                queries[count++] = query + (size_t)__builtin_ctz(bits);
            }
            if (after_heads) {
                compare_pairs(p, w, worker, first, r, queries, count);
                continue;
            }
            for (size_t i = 0; i < count; i++) {
                queue_survivor(p, w, worker, first, r, queries[i]);
            }
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
            pass_rows(p, w, worker, first, rows, q, false);
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
    const size_t rows = p->block.rows, end = smaller(rows, first + CHUNK * (step + 1) / steps);
    for (size_t row = smaller(rows, first + CHUNK * step / steps); row < end; row++) {
        prefetch_code_row(p, row);
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

/* Returns the numbers of a chunk's rows, or NULL if the rows follow one another in the corpus. */
static const size_t *numbers_of_chunk(const struct search *s, size_t first, size_t rows)
{
    return run_of_numbers(s->row_numbers, first, rows) == rows ? NULL : s->row_numbers + first;
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
    struct sq8_rows chunk = {w->codes, (ptrdiff_t)f->depth, rows, f->depth, w->bounds, NULL};
    const size_t *numbers = numbers_of_chunk(p->search, first, rows);
    const size_t at = numbers == NULL ? corpus_row(p->search, first) : 0;
    if (p->rows_are_codes) {
        chunk.codes = (const uint8_t *)f->data + (ptrdiff_t)at * f->row_step;
        chunk.step = f->row_step;
        chunk.numbers = numbers;
    } else if (codes != NULL) {
        chunk.codes = codes->codes + at * f->depth;
        chunk.numbers = numbers;
    }
    if (codes != NULL) {
        bounds_of_rows(codes->scales + at, numbers, rows, longest, &w->bounds);
        return chunk;
    }
    if (p->rows_are_codes) {
        scale_rows(f, first, rows, eps, w->scales);
    } else {
        quantize_rows(f, first, rows, eps, w->codes, w->scales, w->row);
    }
    bounds_of_rows(w->scales, NULL, rows, longest, &w->bounds);
    return chunk;
}

/* Returns the heads of a chunk of rows. */
static struct sq8_rows heads_of_chunk(const struct prefilter *p, struct prefilter_worker *w,
                                      size_t first, size_t rows)
{
    const struct row_heads *heads = p->search->heads;
    const size_t *numbers = numbers_of_chunk(p->search, first, rows);
    const size_t size = heads->rotation.size,
                 at = numbers == NULL ? corpus_row(p->search, first) : 0;
    bounds_of_heads(heads->scales + at, numbers, rows, size, &w->head_bounds);
    return (struct sq8_rows){heads->codes + at * size, (ptrdiff_t)size, rows, size,
                             w->head_bounds,           numbers};
}

/* What is compared: the codes of rows and queries, or their heads. */
struct comparison {
    struct sq8_rows rows;
    const struct coded_queries *queries;
    bool is_signed, of_heads;
};

/* Compares a chunk with all queries, which are few, row by row. */
static void compare_rows(const struct prefilter *p, struct prefilter_worker *w, size_t worker,
                         size_t first, const struct comparison *c)
{
    const struct sq8_kernels *kernels = kernels_current()->sq8;
    const size_t count = c->queries->queries;
    const int8_t *codes[SQ8_QUERIES];
    for (size_t q = 0; q < SQ8_QUERIES; q++) { /* missing queries repeat the first */
        codes[q] = c->queries->codes + (q < count ? q : 0) * c->queries->step;
    }
    (c->is_signed ? kernels->dots_i8 : kernels->dots_u8)(w->code_dots, CHUNK, &c->rows, codes,
                                                         count);
    for (size_t q = 0; q < count; q++) {
        if (kernels->select(w->keep, w->code_dots + q * CHUNK, &c->rows.bounds, c->rows.count,
                            c->queries->bounds + q, unit_threshold(p, worker, q))) {
            pass_rows(p, w, worker, first, c->rows.count, q, c->of_heads);
        }
    }
}

/* Compares a chunk with the panel of queries that begins at `query`. */
static void compare_panel(const struct prefilter *p, struct prefilter_worker *w, size_t worker,
                          size_t first, const struct comparison *c, size_t query)
{
    const struct sq8_kernels *kernels = kernels_current()->sq8;
    const struct sq8_panel *panel = c->queries->panels + query / kernels->panel_queries;
    float thresholds[SQ8_PANEL] = {0.0f};
    for (size_t q = 0; q < panel->queries; q++) {
        thresholds[q] = unit_threshold(p, worker, query + q);
    }
    sq8_panel_kernel *kernel = c->is_signed ? kernels->panel_i8 : kernels->panel_u8;
    if (kernel(w->keep_panel, &c->rows, panel, thresholds)) {
        pass_panel(p, w, worker, first, c->rows.count, query, c->of_heads);
    }
}

/* Prepares the comparison of a chunk: of its heads, unless they are left out, or of its codes. */
static struct comparison comparison_of_chunk(const struct prefilter *p, struct prefilter_worker *w,
                                             size_t first, size_t rows)
{
    struct comparison c = {.queries = &p->coded};
    c.of_heads = p->use_heads && w->head_pause == 0;
    if (!c.of_heads || has_codes(p)) {
        c.rows = codes_of_chunk(p, w, first, rows);
    }
    if (c.of_heads) {
        c.rows = heads_of_chunk(p, w, first, rows);
        c.queries = &p->heads;
        w->head_survivors = 0;
    } else {
        c.is_signed = p->rows_are_codes && p->float_rows.operand->dtype == DTYPE_I8;
        w->head_pause -= w->head_pause > 0;
    }
    return c;
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
    if (gemm_is_cheaper(p, w, rows_done * queries)) {
        return 0;
    }
    const struct comparison c = comparison_of_chunk(p, w, first, rows);
    const bool prefetches = s->codes != NULL && !p->rows_are_codes && !c.of_heads && queries > 1;
    /*
     * In a triangle, the query index of a pair is above its row index. Queries below the first row
     * of the chunk have no pairs with it.
     */
    const size_t lowest = p->block.query;
    const bool by_rows = queries <= SQ8_QUERIES;
    const size_t begin = !by_rows && p->block.triangle && first > lowest
                             ? smaller(first - lowest, queries) / width * width
                             : 0;
    const size_t step = by_rows ? queries : width;
    for (size_t query = begin; query < queries; query += step) {
        if (gemm_is_cheaper(p, w, rows_done * queries + rows * query)) {
            return query;
        }
        if (prefetches) {
            prefetch_codes(p, first + CHUNK, (query - begin) / step,
                           size_parts(queries - begin, step));
        }
        if (by_rows) {
            compare_rows(p, w, worker, first, &c);
        } else {
            compare_panel(p, w, worker, first, &c, query);
        }
    }
    if (c.of_heads) {
        const size_t gain = has_codes(p) ? MIN_HEAD_GAIN : MIN_HEAD_GAIN_NO_CODES;
        const bool pays = w->head_survivors * gain <= rows * queries;
        w->head_backoff = pays ? 0 : larger(2 * w->head_backoff, HEAD_PAUSE);
        w->head_pause = w->head_backoff;
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
 * Returns the size of the chunk that begins at row `first`. Few queries begin without thresholds,
 * so all rows of the first chunk are rescored: it is small, and each of the next is twice as large.
 */
static size_t rows_of_chunk(const struct prefilter *p, size_t first)
{
    if (!p->use_codes) {
        return COARSE_CHUNK;
    }
    return p->block.queries > SQ8_QUERIES ? CHUNK : smaller(larger(first, FIRST_CHUNK), CHUNK);
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
            rows = smaller(rows_of_chunk(p, first), end - first);
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
    const size_t codes = p->use_codes && p->search->codes == NULL && !p->rows_are_codes
                             ? scratch_round(CHUNK * depth)
                             : 0;
    const size_t row_norms = scratch_round(CHUNK * (sizeof(double) + sizeof(int)));
    const size_t last = scratch_round(queries * sizeof(struct scored));
    const size_t bounds = 8 * CHUNK * sizeof(float);
    const size_t buffers = scratch_round(CHUNK * sizeof(struct code_scale)) +
                           scratch_round(SQ8_QUERIES * CHUNK * sizeof(int32_t)) +
                           CHUNK * sizeof(uint32_t) + bounds + 3 * CHUNK;
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
    p.use_heads = p.use_codes && s->heads != NULL && !p.rows_are_codes;
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
