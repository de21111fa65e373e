/* Search as a whole, and its scores by tiles. */
#include "base/scratch.h"
#include "core/look.h"

enum {
    QUERIES_AT_ONCE = 4096, /* queries that pass over the corpus together */
    FEW_QUERIES = 16,       /* fewer need no limits beforehand: a tile would cost more */
    SHALLOW = 16            /* rows of fewer elements have scores about as cheap as a first look */
};

enum work search_work(enum dtype corpus, enum dtype queries)
{
    return dtype_work(corpus) == WORK_F32 && dtype_work(queries) == WORK_F32 ? WORK_F32 : WORK_F64;
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
        scores, step, b->rows, b->columns,
        mirrored ? limits + (candidate & f->limits_mask) * size : NULL,
        limits + (query & f->limits_mask) * size, found);
    for (size_t n = 0; n < count; n++) {
        const size_t r = found[n] >> 16;
        for (uint32_t bits = found[n] & 0xff; bits != 0; bits &= bits - 1) {
            const size_t c = (found[n] >> 8 & 0xff) + (size_t)__builtin_ctz(bits), at = r * step + c;
            const bool mirror_image = p->symmetric && b->column + c < b->row + r, same = candidate + r == query + c;
            const double score = f->work == WORK_F64 ? ((const double *)scores)[at] : (double)((const float *)scores)[at];
            if (mirror_image || (same && s->self) || (p->triangle && candidate + r >= query + c)) {
                continue;
            }
            offer_score(s, worker, query + c, candidate + r, score);
            if (mirrored && !same) {
                offer_score(s, worker, candidate + r, query + c, score);
            }
        }
    }
}

void part_plan(const struct part *p, struct plan *plan)
{
    const struct search *s = p->search;
    struct axis rows = s->corpus_rows, queries = s->query_rows;
    rows.size = p->rows;
    queries.size = p->queries;
    plan_pairs(plan, &rows, &queries, &s->depth);
}

struct reduction part_call(const struct part *p, const struct plan *plan)
{
    const struct search *s = p->search;
    struct reduction call = {.op = OP_COSINE, .eps = s->eps, .x = s->corpus, .y = s->queries, .plan = plan};
    call.out_dtype = search_work(s->corpus.dtype, s->queries.dtype) == WORK_F64 ? DTYPE_F64 : DTYPE_F32;
    call.distinct = s->first_candidate + p->row != s->first_query + p->query;
    call.x.data += (ptrdiff_t)p->row * s->corpus_rows.x;
    call.y.data += (ptrdiff_t)p->query * s->query_rows.y;
    return call;
}

int search_tiles(struct part *p, struct watch *watch)
{
    struct plan plan;
    struct scores scores;
    part_plan(p, &plan);
    struct reduction call = part_call(p, &plan);
    const struct scores_sink sink = {take_scores, p};
    scores_init(&scores, &call);
    p->symmetric = scores.symmetric;
    call.sink = &sink;
    call.watch = watch;
    call.workers = p->only == (size_t)ANY_WORKER ? p->search->finder->workers : 1;
    return reduce_all_pairs(&call);
}

static bool rows_are_floats(const struct search *s)
{
    return s->corpus.dtype == DTYPE_F32 && operand_in_place(&s->corpus) && (s->depth.x == sizeof(float) || s->depth.size == 1);
}

static int search_queries(const struct search *s, struct part *part, bool looks_pay)
{
    const bool few = part->queries <= SCREEN_VECTORS && s->codes == NULL && rows_are_floats(s);
    const size_t rows = part->rows, warm = part->queries < FEW_QUERIES ? 0 : smaller(s->warm, rows);
    part->rows = looks_pay ? warm : rows;
    const int status = part->rows == 0 ? 0 : search_tiles(part, s->watch);
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
    part_plan(&part, &plan);
    const struct reduction call = part_call(&part, &plan);
    scores_init(&scores, &call);
    const size_t queries = s->query_rows.size;
    const bool looks_pay = s->depth.size >= SHALLOW && s->depth.size <= CODES_DEPTH && !s->mirrored;
    if (scores.symmetric && s->self && !looks_pay) {
        return search_tiles(&part, s->watch);
    }
    part.triangle = scores.symmetric && s->self;
    for (part.query = 0; part.query < queries && !watch_stopped(s->watch); part.query += QUERIES_AT_ONCE) {
        part.queries = smaller(QUERIES_AT_ONCE, queries - part.query);
        part.rows = part.triangle ? part.query + part.queries : s->corpus_rows.size;
        const int status = search_queries(s, &part, looks_pay);
        if (status < 0) {
            return status;
        }
    }
    return 0;
}
