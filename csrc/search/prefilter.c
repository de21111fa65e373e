/* A first look at pairs, and the full scores of those that it does not rule out. */
#include "search/prefilter.h"

#include <math.h>
#include <string.h>

#include "base/pool.h"
#include "base/scratch.h"
#include "search/quantize.h"

enum {
    CHUNK = 256,         /* corpus rows that stay in the cache while the queries go past */
    COARSE_CHUNK = 32,   /* the same where there are few queries: rows of floats in L1 */
    TASK_ROWS = 4096,    /* corpus rows of a task, at the most */
    TASK_WORK = 1 << 28, /* multiplications of a task, some 5 ms */
    QUEUE_SIZE = 64,
    MEASURED = 64,            /* queries whose norms are measured at a time */
    MANY_QUERIES = 64,        /* for so many a worker buffers at the watch chunk by chunk */
    SURVIVORS_FREE = 1 << 12, /* scores of their own that are no reason to think of tiles yet */
    RESCORE_COST = 16,        /* a score of its own takes so many times as long as one of a tile, */
    GEMM_LEAST_QUERIES = 32,  /* which takes no less time for fewer queries than these */
    BACKOFF_MAX = 64
};

/* What tiles and scores of their own add to a score in the worst case: the rounding of chains of
 * 32, of the 8 of a block, and of the score. */
static const double score_error = 48 * 0x1p-24;

/* What a worker has to itself. */
struct prefilter_worker {
    size_t survivors;             /* pairs of a task that a first look did not rule out */
    size_t backoff_left, backoff; /* tasks to do by tiles before the next look; how many there were
                                     of late, while buffers were of no use */
    struct norms row_norms;       /* of a chunk's rows, measured when one of them is scored */
    uint8_t *measured;            /* [CHUNK] */
    void *row, *query;            /* one of each, as they go into a product */
    uint8_t *codes;
    struct code_scale *scales;
    int32_t *sums; /* [CODES_QUERIES][CHUNK] */
    float *dots;   /* [COARSE_QUERIES + 1][COARSE_CHUNK], the last of them squares */
    uint8_t *keep; /* [CHUNK] */
    size_t queued; /* pairs of a chunk that are to be scored in full, while their rows come from
                      memory */
    struct {
        uint16_t row; /* of the chunk */
        uint16_t query;
    } rescore_queue[QUEUE_SIZE];
};

struct prefilter {
    const struct search *search;
    struct search_block part; /* all rows, some queries */
    struct plan plan;
    struct reduction call;
    struct pair_scores scores;
    bool by_codes; /* or by rows of floats */
    struct norms queries;
    char *query_codes; /* by_codes: [queries rounded up][depth rounded up] */
    size_t query_codes_step;
    struct code_query *code_queries;
    float *vectors; /* otherwise: queries of norm 1, [queries][depth] */
    size_t task_rows, task_first;
    char *scratch;
    size_t scratch_of_worker;
    size_t workers;
    _Atomic int status;
};

/* The full score of one pair, row r of the chunk at `first`, offered. */
static void rescore(const struct prefilter *l, struct prefilter_worker *w, size_t worker,
                    size_t first, size_t r, size_t query)
{
    const size_t row = first + r;
    const struct search *s = l->search;
    const size_t number = s->first_query + l->part.query + query,
                 candidate = s->first_candidate + row;
    union {
        double f64;
        float f32;
    } score;
    const struct norms row_norms = {w->row_norms.weight + r, w->row_norms.exponent + r};
    const struct norms norms = {l->queries.weight + query, l->queries.exponent + query};
    const struct scored_row left = {row, &row_norms, w->row}, right = {query, &norms, w->query};
    if (!w->measured[r]) {
        pair_scores_measure(&l->scores, SIDE_X, 0, row, 1, &row_norms);
        w->measured[r] = 1;
    }
    pair_scores_one(&l->scores, &left, &right, &score);
    add_score(s, worker, number, candidate,
              l->scores.compute == COMPUTE_F64 ? score.f64 : (double)score.f32);
}

static void rescore_queue_flush(const struct prefilter *l, struct prefilter_worker *w,
                                size_t worker, size_t first)
{
    for (size_t i = 0; i < w->queued; i++) {
        rescore(l, w, worker, first, w->rescore_queue[i].row, w->rescore_queue[i].query);
    }
    w->queued = 0;
}

/* Would tiles have been faster for so many pairs? */
static bool too_many_survivors(const struct prefilter *l, const struct prefilter_worker *w,
                               size_t looked)
{
    return w->survivors >
           SURVIVORS_FREE + looked * GEMM_LEAST_QUERIES /
                                (RESCORE_COST * smaller(l->part.queries, GEMM_LEAST_QUERIES));
}

/* Asks for a row's cache lines, as far as it lies there in one piece. */
static void prefetch_row(const struct prefilter *l, size_t row)
{
    const char *from = l->call.x.data + (ptrdiff_t)row * l->search->corpus_rows.x;
    const size_t bytes = l->plan.depth * dtype_size(l->call.x.dtype);
    for (size_t line = 0; line < bytes; line += SCRATCH_ALIGN) {
        __builtin_prefetch(from + line);
    }
}

/* Rows of a chunk that a first look did not rule out for a query. */
static void queue_survivors(const struct prefilter *l, struct prefilter_worker *w, size_t worker,
                            size_t first, size_t rows, size_t query)
{
    const struct search *s = l->search;
    for (size_t r = 0; r < rows; r += sizeof(uint64_t)) {
        uint64_t eight;
        memcpy(&eight, w->keep + r, sizeof eight);
        for (size_t i = 0; eight != 0 && i < sizeof eight && r + i < rows; i++) {
            if (w->keep[r + i]) {
                if (l->part.triangle &&
                    s->first_candidate + first + r + i >= s->first_query + l->part.query + query) {
                    continue;
                }
                w->survivors++;
                if (w->queued == QUEUE_SIZE) {
                    rescore_queue_flush(l, w, worker, first);
                }
                w->rescore_queue[w->queued].row = (uint16_t)(r + i);
                w->rescore_queue[w->queued++].query = (uint16_t)query;
                prefetch_row(l, first + r + i);
            }
        }
    }
}

/* Which rows' squares a float holds well, with a norm that eps does not clamp: the cosine is then
 * x.v / |x|. */
static bool square_is_plain(float square, float eps)
{
    return square >= 0x1p-80f && square <= 0x1p80f && square > eps * eps * 1.001f;
}

/* Looks return how many queries they got to: all of them, or fewer where they are of no use.
 * `before`: rows of the task before these. */
static size_t prefilter_rows(const struct prefilter *l, struct prefilter_worker *w, size_t worker,
                             size_t first, size_t rows, size_t before)
{
    const struct search *s = l->search;
    const size_t depth = l->plan.depth, queries = l->part.queries;
    const double error = COARSE_DOT_ERROR(depth) * 2 + score_error + 0x1p-22;
    const float eps = (float)fmin(s->eps, 0x1p60), *vectors[COARSE_QUERIES];
    const float *x = (const float *)(l->call.x.data + (ptrdiff_t)first * s->corpus_rows.x),
                *squares = w->dots + COARSE_QUERIES * COARSE_CHUNK;
    for (size_t query = 0, count; query < queries; query += count) {
        if (too_many_survivors(l, w, before * queries + rows * query)) {
            return query;
        }
        count = smaller(COARSE_QUERIES, queries - query);
        for (size_t q = 0; q < count; q++) {
            vectors[q] = l->vectors + (query + q) * depth;
        }
        kernels_current()->sums->coarse_dots(w->dots, w->dots + COARSE_QUERIES * COARSE_CHUNK, x,
                                             s->corpus_rows.x, rows, vectors, count, depth);
        for (size_t q = 0; q < count; q++) {
            const float limit = (float)(threshold_at(s->result_handler, worker,
                                                     s->first_query + l->part.query + query + q) -
                                        error);
            const float *dots = w->dots + q * rows;
            unsigned any = 0;
            for (size_t r = 0; r < rows; r++) {
                w->keep[r] =
                    !(dots[r] < limit * sqrtf(squares[r])) | !square_is_plain(squares[r], eps);
                any |= w->keep[r];
            }
            if (any != 0) {
                queue_survivors(l, w, worker, first, rows, query + q);
            }
        }
    }
    return queries;
}

/* Asks for the codes of the next chunk little by little: part `part` of `parts`. */
static void prefetch_codes(const struct prefilter *l, size_t first, size_t part, size_t parts)
{
    const size_t depth = l->plan.depth, rows = l->part.rows;
    const size_t from = smaller(rows, first + CHUNK * part / parts) * depth,
                 end = smaller(rows, first + CHUNK * (part + 1) / parts) * depth;
    for (size_t at = from; at < end; at += SCRATCH_ALIGN) {
        __builtin_prefetch(l->search->codes->codes + at);
    }
}

static size_t prefilter_codes(const struct prefilter *l, struct prefilter_worker *w, size_t worker,
                              size_t first, size_t rows, size_t before)
{
    const struct search *s = l->search;
    const struct sq8_kernels *kernels = kernels_current()->codes;
    const size_t depth = l->plan.depth, queries = l->part.queries;
    const uint8_t *codes = w->codes;
    const struct code_scale *scales = w->scales;
    if (s->codes != NULL) {
        codes = s->codes->codes + first * depth;
        scales = s->codes->scales + first;
    } else {
        quantize_rows(&l->scores, first, rows, w->codes, w->scales, w->row);
    }
    /* in a triangle the queries whose numbers are all below those of the rows have no pairs here */
    const size_t number = s->first_candidate + first, lowest = s->first_query + l->part.query;
    const size_t begin = l->part.triangle && number > lowest
                             ? smaller(number - lowest, queries) / CODES_QUERIES * CODES_QUERIES
                             : 0;
    for (size_t query = begin, count; query < queries; query += count) {
        const void *factors[CODES_QUERIES];
        if (too_many_survivors(l, w, before * queries + rows * query)) {
            return query;
        }
        count = smaller(CODES_QUERIES, queries - query);
        if (s->codes != NULL && queries > 1) {
            prefetch_codes(l, first + CHUNK, (query - begin) / CODES_QUERIES,
                           size_parts(queries - begin, CODES_QUERIES));
        }
        for (size_t q = 0; q < CODES_QUERIES;
             q++) { /* those that are not there are the first again */
            factors[q] = l->query_codes + (query + (q < count ? q : 0)) * l->query_codes_step;
        }
        kernels->sums(w->sums, CHUNK, codes, depth, rows, factors, count, depth);
        for (size_t q = 0; q < count; q++) {
            struct code_query bounds = l->code_queries[query + q];
            bounds.limit = (float)threshold_at(s->result_handler, worker,
                                               s->first_query + l->part.query + query + q);
            if (kernels->select(w->keep, w->sums + q * CHUNK, scales, rows, &bounds)) {
                queue_survivors(l, w, worker, first, rows, query + q);
            }
        }
    }
    return queries;
}

/* Scores a task's rows from `first` on by tiles, for the queries from `query` on. */
static void score_rest_by_gemm(struct prefilter *l, size_t worker, size_t first, size_t rows,
                               size_t query)
{
    struct search_block part = l->part;
    part.row = first;
    part.rows = rows;
    part.query += query;
    part.queries -= query;
    part.only = worker;
    if (rows > 0 && part.queries > 0 && score_block(&part, NULL) < 0) {
        atomic_store(&l->status, -1);
    }
}

/* Pairs of rows from .. end-1 with the part's queries; in a triangle those with a candidate not
 * above the query. */
static size_t pairs_of(const struct search_block *p, size_t from, size_t end)
{
    size_t pairs = (end - from) * p->queries;
    for (size_t row = from; p->triangle && row < end; row++) {
        pairs -= row > p->query ? smaller(row - p->query, p->queries) : 0;
    }
    return pairs;
}

/* A first look at each chunk, or tiles for a while where looks turn out to be of no use. */
static void prefilter_task(void *context, size_t task, size_t worker)
{
    struct prefilter *l = context;
    struct prefilter_worker *w =
        (struct prefilter_worker *)(l->scratch + worker * l->scratch_of_worker);
    const size_t from = l->task_first + task * l->task_rows,
                 end = smaller(l->part.rows, from + l->task_rows);
    size_t first = from;
    if (atomic_load_explicit(&l->status, memory_order_relaxed) < 0) {
        return;
    }
    if (w->backoff_left == 0) {
        bool pays = true;
        w->survivors = 0;
        for (size_t rows;
             first < end && pays && !(l->part.queries >= MANY_QUERIES && cancel_poll_here());
             first += rows) {
            rows = smaller(l->by_codes ? CHUNK : COARSE_CHUNK, end - first);
            memset(w->measured, 0, CHUNK);
            const size_t done = (l->by_codes ? prefilter_codes : prefilter_rows)(
                l, w, worker, first, rows, first - from);
            rescore_queue_flush(l, w, worker, first);
            if (done < l->part.queries) {
                pays = false;
                score_rest_by_gemm(l, worker, first, rows, done);
            }
        }
        w->backoff = pays ? 0 : smaller(2 * w->backoff + 1, BACKOFF_MAX);
        w->backoff_left = w->backoff;
    } else {
        w->backoff_left--;
    }
    score_rest_by_gemm(l, worker, first, end - first, 0);
    progress_add(l->search->token, pairs_of(&l->part, from, end));
}

/* A query as a vector of norm 1; false where it holds NaN or infinity. */
static bool unit_query(const struct prefilter *l, size_t query, void *buffer, float *to)
{
    const struct pair_scores *s = &l->scores;
    const double weight = l->queries.weight[query];
    const void *row;
    const struct gemm_rows wanted = {0, query, 1, 0, l->plan.depth, 0, buffer, 0, &row};
    bool finite = true;
    pair_scores_find_rows(s, s->symmetric ? SIDE_X : SIDE_Y, &l->queries.exponent[query], &wanted);
    for (size_t k = 0; k < l->plan.depth; k++) {
        const double element =
            s->product == COMPUTE_F64 ? ((const double *)row)[k] : (double)((const float *)row)[k];
        to[k] = (float)(s->compute == COMPUTE_F32 ? element * weight : element / weight);
        finite = finite && isfinite(to[k]);
    }
    return finite;
}

static void prepare_queries(struct prefilter *l)
{
    struct prefilter_worker *w =
        (struct prefilter_worker *)l->scratch; /* whose buffers nobody needs yet */
    for (size_t query = 0; query < l->part.queries && !cancel_poll(l->search->token, 0); query++) {
        const struct norms norms = {l->queries.weight + query, l->queries.exponent + query};
        if (query % MEASURED == 0) {
            pair_scores_measure(&l->scores, l->scores.symmetric ? SIDE_X : SIDE_Y, 0, query,
                                smaller(MEASURED, l->part.queries - query), &norms);
        }
        float *direction = l->by_codes ? l->vectors : l->vectors + query * l->plan.depth;
        const bool finite = unit_query(l, query, w->query, direction);
        if (l->by_codes) {
            l->code_queries[query] =
                quantize_query(direction, finite, l->plan.depth,
                               l->query_codes + query * l->query_codes_step, l->query_codes_step);
        }
    }
}

/* One block of memory for everything: the queries' parts, then each worker's. At most 4096 queries
 * of CODES_DEPTH elements. */
static int plan_scratch(struct prefilter *l, char **block)
{
    const size_t queries = l->part.queries, depth = l->plan.depth,
                 row = scratch_round(depth * (sizeof(double) + sizeof(float)));
    const size_t rounded = size_parts(queries, CODES_QUERIES) * CODES_QUERIES;
    const size_t padded = size_parts(depth, CODES_PADDING) * CODES_PADDING;
    l->query_codes_step = padded * kernels_current()->codes->query_code_size;
    const size_t norms = scratch_round((queries + COSINE_PADDING) * (sizeof(double) + sizeof(int)));
    const size_t factors = l->by_codes ? scratch_round(rounded * l->query_codes_step) : 0;
    const size_t code_queries =
        l->by_codes ? scratch_round(rounded * sizeof(struct code_query)) : 0;
    const size_t vectors = scratch_round((l->by_codes ? 1 : queries) * depth * sizeof(float));
    const size_t codes = l->by_codes && l->search->codes == NULL ? scratch_round(CHUNK * depth) : 0;
    const size_t row_norms = scratch_round(CHUNK * (sizeof(double) + sizeof(int)));
    const size_t buffers = scratch_round(CHUNK * sizeof(struct code_scale)) +
                           scratch_round(CODES_QUERIES * CHUNK * sizeof(int32_t)) + 2 * CHUNK;
    l->scratch_of_worker = scratch_round(sizeof(struct prefilter_worker)) + row_norms + 2 * row +
                           codes + buffers +
                           scratch_round((COARSE_QUERIES + 1) * COARSE_CHUNK * sizeof(float));
    char *at = *block =
        scratch_alloc(norms + factors + code_queries + vectors + l->workers * l->scratch_of_worker);
    if (at == NULL) {
        return -1;
    }
    memset(at, 0, norms);
    l->queries = (struct norms){(double *)at, (int *)((double *)at + queries + COSINE_PADDING)};
    l->query_codes = at += norms;
    l->code_queries = (struct code_query *)(at += factors);
    l->vectors = (float *)(at += code_queries);
    l->scratch = at += vectors;
    for (size_t i = 0; i < l->workers; i++, at = l->scratch + i * l->scratch_of_worker) {
        struct prefilter_worker *w = (struct prefilter_worker *)at;
        memset(w, 0, scratch_round(sizeof *w) + row_norms);
        at += scratch_round(sizeof *w);
        w->row_norms = (struct norms){(double *)at, (int *)((double *)at + CHUNK)};
        w->row = at += row_norms;
        w->query = at += row;
        w->codes = (uint8_t *)(at += row);
        w->scales = (struct code_scale *)(at += codes);
        w->sums = (int32_t *)(at += scratch_round(CHUNK * sizeof(struct code_scale)));
        w->keep = (uint8_t *)(at += scratch_round(CODES_QUERIES * CHUNK * sizeof(int32_t)));
        w->measured = w->keep + CHUNK;
        w->dots = (float *)(at += 2 * CHUNK);
    }
    return 0;
}

/* All rows from `first` on with the queries of a part. */
int prefilter(const struct search *s, const struct search_block *part, size_t first, bool by_codes)
{
    struct prefilter l = {.search = s, .part = *part, .by_codes = by_codes, .task_first = first};
    char *block;
    block_plan(&l.part, &l.plan);
    l.call = block_call(&l.part, &l.plan);
    pair_scores_init(&l.scores, &l.call);
    const size_t rows = part->rows - first, per_row = part->queries * l.plan.depth;
    l.task_rows = smaller(TASK_ROWS, larger(TASK_WORK / per_row / CHUNK, 1) * CHUNK);
    const size_t tasks = size_parts(rows, l.task_rows);
    const int threads =
        thread_count_for(size_product_or_max(rows, part->queries), l.plan.depth, GRAIN_GEMM);
    l.workers = smaller(
        (size_t)(threads < s->result_handler->workers ? threads : s->result_handler->workers),
        tasks);
    if (plan_scratch(&l, &block) < 0) {
        return -1;
    }
    prepare_queries(&l);
    pool_run(tasks, (int)l.workers, prefilter_task, &l, s->token);
    scratch_free(block);
    return atomic_load(&l.status);
}
