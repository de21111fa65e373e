/* A first look at pairs, and the full scores of those that it does not rule out. */
#include "core/look.h"

#include <math.h>
#include <string.h>

#include "base/pool.h"
#include "base/scratch.h"

enum {
    CHUNK = 256,           /* corpus rows that stay in the cache while the queries go past */
    SCREEN_CHUNK = 32,     /* the same where there are few queries: rows of floats in L1 */
    TASK_ROWS = 4096,      /* corpus rows of a task, at the most */
    TASK_WORK = 1 << 28,   /* multiplications of a task, some 5 ms */
    WAITING = 64,
    MEASURED = 64,         /* queries whose norms are measured at a time */
    MANY_QUERIES = 64,     /* for so many a worker looks at the watch chunk by chunk */
    FULL_FREE = 1 << 12,   /* scores of their own that are no reason to think of tiles yet */
    FULL_SHARE = 16,       /* a score of its own takes so many times as long as one of a tile, */
    FULL_COLUMNS = 32,     /* which takes no less time for fewer queries than these */
    MOST_SKIPS = 64
};

/* What tiles and scores of their own add to a score in the worst case: the rounding of chains of 32, of the 8 of a block, and of the score. */
static const double score_error = 48 * 0x1p-24;

/* What a worker has to itself. */
struct worker {
    size_t full;         /* pairs of a task that a first look did not rule out */
    size_t skip, skips;  /* tasks to do by tiles before the next look; how many there were of late, while looks were of no use */
    struct norms row_norms; /* of a chunk's rows, measured when one of them is scored */
    uint8_t *measured;   /* [CHUNK] */
    void *row, *query;   /* one of each, as they go into a product */
    uint8_t *codes;
    struct code_scale *scales;
    int32_t *sums;       /* [CODES_QUERIES][CHUNK] */
    float *dots;         /* [SCREEN_VECTORS + 1][SCREEN_CHUNK], the last of them squares */
    uint8_t *keep;       /* [CHUNK] */
    size_t waiting;      /* pairs of a chunk that are to be scored in full, while their rows come from memory */
    struct {
        uint16_t row;    /* of the chunk */
        uint16_t query;
    } wait[WAITING];
};

struct look {
    const struct search *search;
    struct part part;       /* all rows, some queries */
    struct plan plan;
    struct reduction call;
    struct scores scores;
    bool by_codes;          /* or by rows of floats */
    struct norms queries;
    char *factors;          /* by_codes: [queries rounded up][depth rounded up] */
    size_t factors_step;
    struct code_query *code_queries;
    float *vectors;         /* otherwise: queries of norm 1, [queries][depth] */
    size_t task_rows, task_first;
    char *scratch;
    size_t scratch_of_worker;
    size_t workers;
    _Atomic int status;
};

/* The full score of one pair, row r of the chunk at `first`, offered. */
static void score_in_full(const struct look *l, struct worker *w, size_t worker, size_t first, size_t r, size_t query)
{
    const size_t row = first + r;
    const struct search *s = l->search;
    const size_t number = s->first_query + l->part.query + query, candidate = s->first_candidate + row;
    union {
        double f64;
        float f32;
    } score;
    const struct norms row_norms = {w->row_norms.weight + r, w->row_norms.exponent + r};
    const struct norms norms = {l->queries.weight + query, l->queries.exponent + query};
    const struct scored_row left = {row, &row_norms, w->row}, right = {query, &norms, w->query};
    if (!w->measured[r]) {
        scores_measure(&l->scores, SIDE_X, 0, row, 1, &row_norms);
        w->measured[r] = 1;
    }
    scores_one(&l->scores, &left, &right, &score);
    offer_score(s, worker, number, candidate, l->scores.work == WORK_F64 ? score.f64 : (double)score.f32);
}

static void score_waiting(const struct look *l, struct worker *w, size_t worker, size_t first)
{
    for (size_t i = 0; i < w->waiting; i++) {
        score_in_full(l, w, worker, first, w->wait[i].row, w->wait[i].query);
    }
    w->waiting = 0;
}

/* Would tiles have been faster for so many pairs? */
static bool look_is_of_no_use(const struct look *l, const struct worker *w, size_t looked)
{
    return w->full > FULL_FREE + looked * FULL_COLUMNS / (FULL_SHARE * smaller(l->part.queries, FULL_COLUMNS));
}

/* Asks for a row's cache lines, as far as it lies there in one piece. */
static void prefetch_row(const struct look *l, size_t row)
{
    const char *from = l->call.x.data + (ptrdiff_t)row * l->search->corpus_rows.x;
    const size_t bytes = l->plan.depth * dtype_size(l->call.x.dtype);
    for (size_t line = 0; line < bytes; line += SCRATCH_ALIGN) {
        __builtin_prefetch(from + line);
    }
}

/* Rows of a chunk that a first look did not rule out for a query. */
static void take_kept(const struct look *l, struct worker *w, size_t worker, size_t first, size_t rows, size_t query)
{
    const struct search *s = l->search;
    for (size_t r = 0; r < rows; r += sizeof(uint64_t)) {
        uint64_t eight;
        memcpy(&eight, w->keep + r, sizeof eight);
        for (size_t i = 0; eight != 0 && i < sizeof eight && r + i < rows; i++) {
            if (w->keep[r + i]) {
                if (l->part.triangle && s->first_candidate + first + r + i >= s->first_query + l->part.query + query) {
                    continue;
                }
                w->full++;
                if (w->waiting == WAITING) {
                    score_waiting(l, w, worker, first);
                }
                w->wait[w->waiting].row = (uint16_t)(r + i);
                w->wait[w->waiting++].query = (uint16_t)query;
                prefetch_row(l, first + r + i);
            }
        }
    }
}

/* Which rows' squares a float holds well, with a norm that eps does not clamp: the cosine is then x.v / |x|. */
static bool square_is_plain(float square, float eps)
{
    return square >= 0x1p-80f && square <= 0x1p80f && square > eps * eps * 1.001f;
}

/* Looks return how many queries they got to: all of them, or fewer where they are of no use. `before`: rows of the task before these. */
static size_t look_at_rows(const struct look *l, struct worker *w, size_t worker, size_t first, size_t rows, size_t before)
{
    const struct search *s = l->search;
    const size_t depth = l->plan.depth, queries = l->part.queries;
    const double error = SCREEN_ERROR(depth) * 2 + score_error + 0x1p-22;
    const float eps = (float)fmin(s->eps, 0x1p60), *vectors[SCREEN_VECTORS];
    const float *x = (const float *)(l->call.x.data + (ptrdiff_t)first * s->corpus_rows.x), *squares = w->dots + SCREEN_VECTORS * SCREEN_CHUNK;
    for (size_t query = 0, count; query < queries; query += count) {
        if (look_is_of_no_use(l, w, before * queries + rows * query)) {
            return query;
        }
        count = smaller(SCREEN_VECTORS, queries - query);
        for (size_t q = 0; q < count; q++) {
            vectors[q] = l->vectors + (query + q) * depth;
        }
        kernels_current()->sums->screen(w->dots, w->dots + SCREEN_VECTORS * SCREEN_CHUNK, x, s->corpus_rows.x, rows, vectors, count, depth);
        for (size_t q = 0; q < count; q++) {
            const float limit = (float)(limit_at(s->finder, worker, s->first_query + l->part.query + query + q) - error);
            const float *dots = w->dots + q * rows;
            unsigned any = 0;
            for (size_t r = 0; r < rows; r++) {
                w->keep[r] = !(dots[r] < limit * sqrtf(squares[r])) | !square_is_plain(squares[r], eps);
                any |= w->keep[r];
            }
            if (any != 0) {
                take_kept(l, w, worker, first, rows, query + q);
            }
        }
    }
    return queries;
}

/* Asks for the codes of the next chunk little by little: part `part` of `parts`. */
static void prefetch_codes(const struct look *l, size_t first, size_t part, size_t parts)
{
    const size_t depth = l->plan.depth, rows = l->part.rows;
    const size_t from = smaller(rows, first + CHUNK * part / parts) * depth, end = smaller(rows, first + CHUNK * (part + 1) / parts) * depth;
    for (size_t at = from; at < end; at += SCRATCH_ALIGN) {
        __builtin_prefetch(l->search->codes->codes + at);
    }
}

static size_t look_at_codes(const struct look *l, struct worker *w, size_t worker, size_t first, size_t rows, size_t before)
{
    const struct search *s = l->search;
    const struct codes_kernels *kernels = kernels_current()->codes;
    const size_t depth = l->plan.depth, queries = l->part.queries;
    const uint8_t *codes = w->codes;
    const struct code_scale *scales = w->scales;
    if (s->codes != NULL) {
        codes = s->codes->codes + first * depth;
        scales = s->codes->scales + first;
    } else {
        encode_rows(&l->scores, first, rows, w->codes, w->scales, w->row);
    }
    /* in a triangle the queries whose numbers are all below those of the rows have no pairs here */
    const size_t number = s->first_candidate + first, lowest = s->first_query + l->part.query;
    const size_t begin = l->part.triangle && number > lowest ? smaller(number - lowest, queries) / CODES_QUERIES * CODES_QUERIES : 0;
    for (size_t query = begin, count; query < queries; query += count) {
        const void *factors[CODES_QUERIES];
        if (look_is_of_no_use(l, w, before * queries + rows * query)) {
            return query;
        }
        count = smaller(CODES_QUERIES, queries - query);
        if (s->codes != NULL && queries > 1) {
            prefetch_codes(l, first + CHUNK, (query - begin) / CODES_QUERIES,
                           size_parts(queries - begin, CODES_QUERIES));
        }
        for (size_t q = 0; q < CODES_QUERIES; q++) { /* those that are not there are the first again */
            factors[q] = l->factors + (query + (q < count ? q : 0)) * l->factors_step;
        }
        kernels->sums(w->sums, CHUNK, codes, depth, rows, factors, count, depth);
        for (size_t q = 0; q < count; q++) {
            struct code_query look = l->code_queries[query + q];
            look.limit = (float)limit_at(s->finder, worker, s->first_query + l->part.query + query + q);
            if (kernels->reach(w->keep, w->sums + q * CHUNK, scales, rows, &look)) {
                take_kept(l, w, worker, first, rows, query + q);
            }
        }
    }
    return queries;
}

/* Scores a task's rows from `first` on by tiles, for the queries from `query` on. */
static void take_tiles(struct look *l, size_t worker, size_t first, size_t rows, size_t query)
{
    struct part part = l->part;
    part.row = first;
    part.rows = rows;
    part.query += query;
    part.queries -= query;
    part.only = worker;
    if (rows > 0 && part.queries > 0 && search_tiles(&part, NULL) < 0) {
        atomic_store(&l->status, -1);
    }
}

/* Pairs of rows from .. end-1 with the part's queries; in a triangle those with a candidate not above the query. */
static size_t pairs_of(const struct part *p, size_t from, size_t end)
{
    size_t pairs = (end - from) * p->queries;
    for (size_t row = from; p->triangle && row < end; row++) {
        pairs -= row > p->query ? smaller(row - p->query, p->queries) : 0;
    }
    return pairs;
}

/* A first look at each chunk, or tiles for a while where looks turn out to be of no use. */
static void look_at_task(void *context, size_t task, size_t worker)
{
    struct look *l = context;
    struct worker *w = (struct worker *)(l->scratch + worker * l->scratch_of_worker);
    const size_t from = l->task_first + task * l->task_rows, end = smaller(l->part.rows, from + l->task_rows);
    size_t first = from;
    if (atomic_load_explicit(&l->status, memory_order_relaxed) < 0) {
        return;
    }
    if (w->skip == 0) {
        bool of_use = true;
        w->full = 0;
        for (size_t rows; first < end && of_use && !(l->part.queries >= MANY_QUERIES && watch_look()); first += rows) {
            rows = smaller(l->by_codes ? CHUNK : SCREEN_CHUNK, end - first);
            memset(w->measured, 0, CHUNK);
            const size_t done = (l->by_codes ? look_at_codes : look_at_rows)(l, w, worker, first, rows, first - from);
            score_waiting(l, w, worker, first);
            if (done < l->part.queries) {
                of_use = false;
                take_tiles(l, worker, first, rows, done);
            }
        }
        w->skips = of_use ? 0 : smaller(2 * w->skips + 1, MOST_SKIPS);
        w->skip = w->skips;
    } else {
        w->skip--;
    }
    take_tiles(l, worker, first, end - first, 0);
    watch_advance(l->search->watch, pairs_of(&l->part, from, end));
}

/* A query as a vector of norm 1; false where it holds NaN or infinity. */
static bool find_direction(const struct look *l, size_t query, void *buffer, float *to)
{
    const struct scores *s = &l->scores;
    const double weight = l->queries.weight[query];
    const void *row;
    const struct tiles_rows wanted = {0, query, 1, 0, l->plan.depth, 0, buffer, 0, &row};
    bool finite = true;
    scores_find_rows(s, s->symmetric ? SIDE_X : SIDE_Y, &l->queries.exponent[query], &wanted);
    for (size_t k = 0; k < l->plan.depth; k++) {
        const double element = s->product == WORK_F64 ? ((const double *)row)[k] : (double)((const float *)row)[k];
        to[k] = (float)(s->work == WORK_F32 ? element * weight : element / weight);
        finite = finite && isfinite(to[k]);
    }
    return finite;
}

static void prepare_queries(struct look *l)
{
    struct worker *w = (struct worker *)l->scratch; /* whose buffers nobody needs yet */
    for (size_t query = 0; query < l->part.queries && !watch_step(l->search->watch, 0); query++) {
        const struct norms norms = {l->queries.weight + query, l->queries.exponent + query};
        if (query % MEASURED == 0) {
            scores_measure(&l->scores, l->scores.symmetric ? SIDE_X : SIDE_Y, 0, query,
                           smaller(MEASURED, l->part.queries - query), &norms);
        }
        float *direction = l->by_codes ? l->vectors : l->vectors + query * l->plan.depth;
        const bool finite = find_direction(l, query, w->query, direction);
        if (l->by_codes) {
            l->code_queries[query] = encode_query(direction, finite, l->plan.depth, l->factors + query * l->factors_step, l->factors_step);
        }
    }
}

/* One block of memory for everything: the queries' parts, then each worker's. At most 4096 queries
 * of CODES_DEPTH elements. */
static int lay_out(struct look *l, char **block)
{
    const size_t queries = l->part.queries, depth = l->plan.depth, row = scratch_round(depth * (sizeof(double) + sizeof(float)));
    const size_t rounded = size_parts(queries, CODES_QUERIES) * CODES_QUERIES;
    const size_t padded = size_parts(depth, CODES_PADDING) * CODES_PADDING;
    l->factors_step = padded * kernels_current()->codes->factor_size;
    const size_t norms = scratch_round((queries + COSINE_PADDING) * (sizeof(double) + sizeof(int)));
    const size_t factors = l->by_codes ? scratch_round(rounded * l->factors_step) : 0;
    const size_t code_queries = l->by_codes ? scratch_round(rounded * sizeof(struct code_query)) : 0;
    const size_t vectors = scratch_round((l->by_codes ? 1 : queries) * depth * sizeof(float));
    const size_t codes = l->by_codes && l->search->codes == NULL ? scratch_round(CHUNK * depth) : 0;
    const size_t row_norms = scratch_round(CHUNK * (sizeof(double) + sizeof(int)));
    const size_t looks = scratch_round(CHUNK * sizeof(struct code_scale)) + scratch_round(CODES_QUERIES * CHUNK * sizeof(int32_t)) + 2 * CHUNK;
    l->scratch_of_worker = scratch_round(sizeof(struct worker)) + row_norms + 2 * row + codes + looks +
                           scratch_round((SCREEN_VECTORS + 1) * SCREEN_CHUNK * sizeof(float));
    char *at = *block = scratch_alloc(norms + factors + code_queries + vectors + l->workers * l->scratch_of_worker);
    if (at == NULL) {
        return -1;
    }
    memset(at, 0, norms);
    l->queries = (struct norms){(double *)at, (int *)((double *)at + queries + COSINE_PADDING)};
    l->factors = at += norms;
    l->code_queries = (struct code_query *)(at += factors);
    l->vectors = (float *)(at += code_queries);
    l->scratch = at += vectors;
    for (size_t i = 0; i < l->workers; i++, at = l->scratch + i * l->scratch_of_worker) {
        struct worker *w = (struct worker *)at;
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
int look(const struct search *s, const struct part *part, size_t first, bool by_codes)
{
    struct look l = {.search = s, .part = *part, .by_codes = by_codes, .task_first = first};
    char *block;
    part_plan(&l.part, &l.plan);
    l.call = part_call(&l.part, &l.plan);
    scores_init(&l.scores, &l.call);
    const size_t rows = part->rows - first, per_row = part->queries * l.plan.depth;
    l.task_rows = smaller(TASK_ROWS, larger(TASK_WORK / per_row / CHUNK, 1) * CHUNK);
    const size_t tasks = size_parts(rows, l.task_rows);
    const int threads =
        threads_for(size_product_or_max(rows, part->queries), l.plan.depth, WORK_OF_TILES);
    l.workers = smaller((size_t)(threads < s->finder->workers ? threads : s->finder->workers), tasks);
    if (lay_out(&l, &block) < 0) {
        return -1;
    }
    prepare_queries(&l);
    pool_run(tasks, (int)l.workers, look_at_task, &l, s->watch);
    scratch_free(block);
    return atomic_load(&l.status);
}
