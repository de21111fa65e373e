#include "core/search.h"

#include <math.h>
#include <string.h>

#include "base/pool.h"
#include "base/scratch.h"
#include "core/scores.h"

enum {
    QUERIES_AT_ONCE = 4096,        /* queries that pass over the corpus together */
    CHUNK = 256,                   /* corpus rows that stay in the cache while the queries go past */
    SCREEN_CHUNK = 32,             /* the same where there are few queries: rows of floats in L1 */
    TASK_ROWS = 4096,              /* corpus rows of a task, at the most */
    TASK_WORK = 1 << 28,           /* multiplications of a task, some 5 ms */
    SHALLOW = 16,                  /* rows of fewer elements have scores about as cheap as a first look */
    WAITING = 64,
    FULL_SHARE = 16,               /* a score of its own takes so many times as long as one of a tile */
    FULL_FREE = 1 << 14            /* scores of their own that are no reason to think of tiles yet */
};

/* What tiles and scores of their own add to a score in the worst case: the rounding of chains of 32, of the 8 of a block, and of the score. */
static const double score_error = 48 * 0x1p-24;

static size_t smaller(size_t a, size_t b)
{
    return a < b ? a : b;
}

static size_t larger(size_t a, size_t b)
{
    return a > b ? a : b;
}

enum work search_work(enum dtype corpus, enum dtype queries)
{
    return dtype_work(corpus) == WORK_F32 && dtype_work(queries) == WORK_F32 ? WORK_F32 : WORK_F64;
}

/* ---- scores in full, by tiles ---- */

/* Some corpus rows with some queries. `only`: the worker on whose behalf it is, or any. */
struct part {
    const struct search *search;
    size_t row, rows, query, queries;
    bool symmetric;
    size_t only;
};

enum { ANY_WORKER = -1 };

static double limit_at(const struct finder *f, size_t worker, size_t query)
{
    const size_t at = worker * f->limits_step + query;
    return f->work == WORK_F64 ? ((const double *)f->limits)[at] : (double)((const float *)f->limits)[at];
}

static void offer(const struct search *s, size_t worker, size_t query, size_t candidate, double score)
{
    if (!(score < limit_at(s->finder, worker, query))) {
        s->finder->offer(s->finder, worker, query, candidate, score);
    }
}

static void take_scores(const void *context, const struct tiles_block *b, const void *scores, size_t step)
{
    const struct part *p = context;
    const struct search *s = p->search;
    const struct finder *f = s->finder;
    const struct tile_kernels *kernels = kernels_current()->tiles;
    const size_t worker = p->only == (size_t)ANY_WORKER ? b->worker : p->only, size = work_size(f->work);
    const size_t candidate = s->first_candidate + p->row + b->row, query = s->first_query + p->query + b->column;
    const bool mirrored = s->mirrored || (p->symmetric && !s->self);
    const char *limits = (const char *)f->limits + worker * f->limits_step * size;
    uint32_t found[TILES_MAX_ROWS * TILES_MAX / COSINE_STEP + 2];
    const size_t count = (f->work == WORK_F64 ? kernels->reach_f64 : kernels->reach_f32)(
        scores, step, b->rows, b->columns, mirrored ? limits + candidate * size : NULL, limits + query * size, found);
    for (size_t n = 0; n < count; n++) {
        const size_t r = found[n] >> 16;
        for (uint32_t bits = found[n] & 0xff; bits != 0; bits &= bits - 1) {
            const size_t c = (found[n] >> 8 & 0xff) + (size_t)__builtin_ctz(bits), at = r * step + c;
            const bool mirror_image = p->symmetric && b->column + c < b->row + r, same = candidate + r == query + c;
            const double score = f->work == WORK_F64 ? ((const double *)scores)[at] : (double)((const float *)scores)[at];
            if (mirror_image || (same && s->self)) {
                continue;
            }
            offer(s, worker, query + c, candidate + r, score);
            if (mirrored && !same) {
                offer(s, worker, candidate + r, query + c, score);
            }
        }
    }
}

static void plan_part(const struct part *p, struct plan *plan)
{
    const struct search *s = p->search;
    struct axis rows = s->corpus_rows, queries = s->query_rows;
    rows.size = p->rows;
    queries.size = p->queries;
    plan_pairs(plan, &rows, &queries, &s->depth);
}

static struct reduction reduction_of(const struct part *p, const struct plan *plan)
{
    const struct search *s = p->search;
    struct reduction call = {.op = OP_COSINE, .eps = s->eps, .x = s->corpus, .y = s->queries, .plan = plan};
    call.out_dtype = search_work(s->corpus.dtype, s->queries.dtype) == WORK_F64 ? DTYPE_F64 : DTYPE_F32;
    call.x.data += (ptrdiff_t)p->row * s->corpus_rows.x;
    call.y.data += (ptrdiff_t)p->query * s->query_rows.y;
    return call;
}

static int search_tiles(struct part *p, struct watch *watch)
{
    struct plan plan;
    struct scores scores;
    plan_part(p, &plan);
    struct reduction call = reduction_of(p, &plan);
    const struct scores_sink sink = {take_scores, p};
    scores_init(&scores, &call);
    p->symmetric = scores.symmetric;
    call.sink = &sink;
    call.watch = watch;
    call.workers = p->only == (size_t)ANY_WORKER ? p->search->finder->workers : 1;
    return reduce_all_pairs(&call);
}

/* ---- a first look ---- */

/* What a worker has to itself. */
struct worker {
    size_t looked, full; /* pairs lately looked at, and of those the ones that were scored in full */
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
    w->full++;
    if (s->self && number == candidate) {
        return;
    }
    const struct norms row_norms = {w->row_norms.weight + r, w->row_norms.exponent + r};
    const struct norms norms = {l->queries.weight + query, l->queries.exponent + query};
    const struct scored_row left = {row, &row_norms, w->row}, right = {query, &norms, w->query};
    if (!w->measured[r]) {
        scores_measure(&l->scores, SIDE_X, 0, row, 1, &row_norms);
        w->measured[r] = 1;
    }
    scores_one(&l->scores, &left, &right, &score);
    offer(s, worker, number, candidate, l->scores.work == WORK_F64 ? score.f64 : (double)score.f32);
}

static void score_waiting(const struct look *l, struct worker *w, size_t worker, size_t first)
{
    for (size_t i = 0; i < w->waiting; i++) {
        score_in_full(l, w, worker, first, w->wait[i].row, w->wait[i].query);
    }
    w->waiting = 0;
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
    for (size_t r = 0; r < rows; r += sizeof(uint64_t)) {
        uint64_t eight;
        memcpy(&eight, w->keep + r, sizeof eight);
        for (size_t i = 0; eight != 0 && i < sizeof eight && r + i < rows; i++) {
            if (w->keep[r + i]) {
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

static void look_at_rows(const struct look *l, struct worker *w, size_t worker, size_t first, size_t rows)
{
    const struct search *s = l->search;
    const size_t depth = l->plan.depth, queries = l->part.queries;
    const double error = SCREEN_ERROR(depth) * 2 + score_error + 0x1p-22;
    const float eps = (float)fmin(s->eps, 0x1p60), *vectors[SCREEN_VECTORS];
    const float *x = (const float *)(l->call.x.data + (ptrdiff_t)first * s->corpus_rows.x), *squares = w->dots + SCREEN_VECTORS * SCREEN_CHUNK;
    for (size_t query = 0, count; query < queries; query += count) {
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
}

/* Codes of rows first .. first+rows-1, wherever and whatever they are. buffer: room for a row of doubles and one of floats. */
static void encode_rows(const struct scores *s, size_t first, size_t rows, uint8_t *codes, struct code_scale *scales, void *buffer)
{
    const struct codes_kernels *kernels = kernels_current()->codes;
    const size_t depth = s->plan->depth;
    const double eps = s->call->eps;
    const float plain_eps = (float)fmin(fmax(eps, 0.0), 0x1p60);
    for (size_t r = 0; r < rows; r++) {
        const void *row;
        float square = 0.0f;
        uint8_t *to = codes + r * depth;
        const struct tiles_rows wanted = {0, first + r, 1, 0, depth, 0, buffer, 0, &row};
        scores_find_rows(s, SIDE_X, NULL, &wanted);
        if (s->product == WORK_F32) {
            square = kernels->encode(to, &scales[r], row, plain_eps, depth);
        }
        if (square >= 0x1p-80f && square <= 0x1p80f) {
            continue;
        }
        /* brought near 1 by a power of two first, as floats */
        float *near = (float *)((double *)buffer + depth);
        double largest = 0.0;
        for (size_t k = 0; k < depth; k++) {
            const double magnitude = fabs(s->product == WORK_F64 ? ((const double *)row)[k] : (double)((const float *)row)[k]);
            largest = magnitude > largest || isnan(magnitude) ? magnitude : largest;
        }
        const int exponent = largest > 0.0 && isfinite(largest) ? ilogb(largest) : 0;
        for (size_t k = 0; k < depth; k++) {
            near[k] = (float)ldexp(s->product == WORK_F64 ? ((const double *)row)[k] : (double)((const float *)row)[k], -exponent);
        }
        kernels->encode(to, &scales[r], near, (float)fmin(ldexp(eps, -exponent), 0x1p120), depth);
    }
}

static void look_at_codes(const struct look *l, struct worker *w, size_t worker, size_t first, size_t rows)
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
    for (size_t query = 0, count; query < queries; query += count) {
        const void *factors[CODES_QUERIES];
        count = smaller(CODES_QUERIES, queries - query);
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
}

/* Where nearly every first look is followed by the full score, tiles are faster, until it looks better again. */
static bool tiles_are_faster(struct worker *w)
{
    return w->full > FULL_FREE + w->looked / FULL_SHARE;
}

static void look_at_task(void *context, size_t task, size_t worker)
{
    struct look *l = context;
    struct worker *w = (struct worker *)(l->scratch + worker * l->scratch_of_worker);
    const size_t from = l->task_first + task * l->task_rows, end = smaller(l->part.rows, from + l->task_rows);
    if (atomic_load_explicit(&l->status, memory_order_relaxed) < 0) {
        return;
    }
    if (tiles_are_faster(w)) {
        struct part part = l->part;
        part.row = from;
        part.rows = end - from;
        part.only = worker;
        if (search_tiles(&part, NULL) < 0) {
            atomic_store(&l->status, -1);
        }
    } else {
        for (size_t first = from, rows, chunk = l->by_codes ? CHUNK : SCREEN_CHUNK; first < end; first += rows) {
            rows = smaller(chunk, end - first);
            memset(w->measured, 0, CHUNK);
            (l->by_codes ? look_at_codes : look_at_rows)(l, w, worker, first, rows);
            score_waiting(l, w, worker, first);
        }
    }
    w->looked += (end - from) * l->part.queries;
    if (w->looked > 64 * (size_t)FULL_FREE * FULL_SHARE) { /* what was long ago counts less and less */
        w->looked /= 2;
        w->full /= 2;
    }
    watch_advance(l->search->watch, (end - from) * l->part.queries);
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

static void encode_query(const struct look *l, size_t query, const float *direction, bool finite)
{
    const struct codes_kernels *kernels = kernels_current()->codes;
    char *to = l->factors + query * l->factors_step;
    double largest = 0.0, square = 0.0, sum = 0.0;
    memset(to, 0, l->factors_step);
    for (size_t k = 0; finite && k < l->plan.depth; k++) {
        largest = fmax(largest, fabs((double)direction[k]));
    }
    const double scale = (double)(float)(largest / kernels->factor_most);
    for (size_t k = 0; finite && scale > 0.0 && k < l->plan.depth; k++) {
        const double most = kernels->factor_most, factor = fmax(-most, fmin(most, rint(direction[k] / scale))), rest = direction[k] - factor * scale;
        if (kernels->factor_size == sizeof(int8_t)) {
            ((int8_t *)to)[k] = (int8_t)factor;
        } else {
            ((int16_t *)to)[k] = (int16_t)factor;
        }
        square += rest * rest;
        sum += factor;
    }
    const double rest = finite ? sqrt(square) * (1.0 + 0x1p-20) + 0x1p-22 : INFINITY;
    l->code_queries[query] = (struct code_query){(float)scale, (float)rest, (int32_t)(CODE_ZERO * sum), 0.0f};
}

static void prepare_queries(struct look *l)
{
    struct worker *w = (struct worker *)l->scratch; /* whose buffers nobody needs yet */
    scores_measure(&l->scores, l->scores.symmetric ? SIDE_X : SIDE_Y, 0, 0, l->part.queries, &l->queries);
    for (size_t query = 0; query < l->part.queries; query++) {
        float *direction = l->by_codes ? l->vectors : l->vectors + query * l->plan.depth;
        const bool finite = find_direction(l, query, w->query, direction);
        if (l->by_codes) {
            encode_query(l, query, direction, finite);
        }
    }
}

/* One block of memory for everything: the queries' parts, then each worker's. */
static int lay_out(struct look *l, char **block)
{
    const size_t queries = l->part.queries, depth = l->plan.depth, row = scratch_round(depth * (sizeof(double) + sizeof(float)));
    const size_t rounded = (queries + CODES_QUERIES - 1) / CODES_QUERIES * CODES_QUERIES;
    const size_t padded = (depth + CODES_PADDING - 1) / CODES_PADDING * CODES_PADDING;
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
static int look(const struct search *s, const struct part *part, size_t first, bool by_codes)
{
    struct look l = {.search = s, .part = *part, .by_codes = by_codes, .task_first = first};
    char *block;
    plan_part(&l.part, &l.plan);
    l.call = reduction_of(&l.part, &l.plan);
    scores_init(&l.scores, &l.call);
    const size_t rows = part->rows - first, per_row = part->queries * l.plan.depth;
    l.task_rows = smaller(TASK_ROWS, larger(TASK_WORK / per_row / CHUNK, 1) * CHUNK);
    const size_t tasks = (rows + l.task_rows - 1) / l.task_rows;
    const int threads = threads_for(rows * part->queries, l.plan.depth, WORK_OF_TILES);
    l.workers = smaller((size_t)(threads < s->finder->workers ? threads : s->finder->workers), tasks);
    if (lay_out(&l, &block) < 0) {
        return -1;
    }
    prepare_queries(&l);
    pool_run(tasks, (int)l.workers, look_at_task, &l, s->watch);
    scratch_free(block);
    return atomic_load(&l.status);
}

/* ---- the whole ---- */

static bool rows_are_floats(const struct search *s)
{
    return s->corpus.dtype == DTYPE_F32 && operand_in_place(&s->corpus) && (s->depth.x == sizeof(float) || s->depth.size == 1);
}

static int search_queries(const struct search *s, struct part *part, size_t warm)
{
    const bool few = part->queries <= SCREEN_VECTORS && s->codes == NULL && rows_are_floats(s);
    const bool looks_pay = s->depth.size >= SHALLOW && s->depth.size <= CODES_DEPTH && !s->mirrored;
    const size_t rows = part->rows;
    if (looks_pay && !few) {
        part->rows = smaller(warm, rows);
    } else if (looks_pay) {
        part->rows = 0;
    }
    const int status = search_tiles(part, s->watch);
    const size_t first = part->rows;
    part->rows = rows;
    return status < 0 || first == rows || watch_stopped(s->watch) ? status : look(s, part, first, !few);
}

int search(const struct search *s)
{
    struct part part = {.search = s, .rows = s->corpus_rows.size, .queries = s->query_rows.size, .only = (size_t)ANY_WORKER};
    struct plan plan;
    struct scores scores;
    if (part.rows == 0 || part.queries == 0) {
        return 0;
    }
    plan_part(&part, &plan);
    const struct reduction call = reduction_of(&part, &plan);
    scores_init(&scores, &call);
    if (scores.symmetric && (s->self || s->mirrored)) {
        return search_tiles(&part, s->watch);
    }
    for (part.query = 0; part.query < s->query_rows.size && !watch_stopped(s->watch); part.query += QUERIES_AT_ONCE) {
        part.queries = smaller(QUERIES_AT_ONCE, s->query_rows.size - part.query);
        const int status = search_queries(s, &part, s->warm);
        if (status < 0) {
            return status;
        }
    }
    return 0;
}

struct encoding {
    struct scores scores;
    uint8_t *codes;
    struct code_scale *scales;
    char *buffers;
    size_t buffer;
    struct watch *watch;
};

static void encode_task(void *context, size_t task, size_t worker)
{
    const struct encoding *e = context;
    const size_t first = task * CHUNK, rows = smaller(CHUNK, e->scores.left - first);
    encode_rows(&e->scores, first, rows, e->codes + first * e->scores.plan->depth, e->scales + first, e->buffers + worker * e->buffer);
    watch_advance(e->watch, rows);
}

int search_encode(const struct search *s, uint8_t *codes, struct code_scale *scales)
{
    struct part part = {.search = s, .rows = s->corpus_rows.size, .queries = 1, .only = (size_t)ANY_WORKER};
    struct plan plan;
    struct encoding e = {.codes = codes, .scales = scales, .watch = s->watch};
    plan_part(&part, &plan);
    const struct reduction call = reduction_of(&part, &plan);
    scores_init(&e.scores, &call);
    const int threads = threads_for(part.rows, plan.depth, WORK_OF_SUMS);
    e.buffer = scratch_round(plan.depth * (sizeof(double) + sizeof(float)));
    e.buffers = scratch_alloc((size_t)threads * e.buffer);
    if (e.buffers == NULL) {
        return -1;
    }
    pool_run((part.rows + CHUNK - 1) / CHUNK, threads, encode_task, &e, s->watch);
    scratch_free(e.buffers);
    return 0;
}
