/* The scores of a block of corpus rows with a block of queries, by matrix products. */
#include "search/block.h"

#include "pairwise/pairwise.h"

enum compute_type search_compute_type(enum dtype corpus, enum dtype queries)
{
    return dtype_compute_type(corpus) == COMPUTE_F32 && dtype_compute_type(queries) == COMPUTE_F32
               ? COMPUTE_F32
               : COMPUTE_F64;
}

static void handle_scores(const void *context, const struct gemm_block *b, const void *scores,
                          size_t step)
{
    const struct search_block *p = context;
    const struct search *s = p->search;
    const struct result_handler *f = s->result_handler;
    const struct tile_kernels *kernels = kernels_current()->tiles;
    const size_t worker = p->only == (size_t)ANY_WORKER ? b->worker : p->only,
                 size = compute_size(f->compute);
    const size_t candidate = s->first_candidate + p->row + b->row,
                 query = s->first_query + p->query + b->column;
    const bool mirrored = s->mirrored || (p->symmetric && !s->self);
    const char *thresholds = (const char *)f->thresholds + worker * f->thresholds_step * size;
    uint32_t found[GEMM_MAX_ROWS * GEMM_MAX_COLUMNS / COSINE_STEP + 2];
    const size_t count =
        (f->compute == COMPUTE_F64 ? kernels->select_at_least_f64 : kernels->select_at_least_f32)(
            scores, step, b->rows, b->columns,
            mirrored ? thresholds + (candidate & f->thresholds_mask) * size : NULL,
            thresholds + (query & f->thresholds_mask) * size, found);
    for (size_t n = 0; n < count; n++) {
        const size_t r = found[n] >> 16;
        for (uint32_t bits = found[n] & 0xff; bits != 0; bits &= bits - 1) {
            const size_t c = (found[n] >> 8 & 0xff) + (size_t)__builtin_ctz(bits),
                         at = r * step + c;
            const bool mirror_image = p->symmetric && b->column + c < b->row + r,
                       same = candidate + r == query + c;
            const double score = f->compute == COMPUTE_F64 ? ((const double *)scores)[at]
                                                           : (double)((const float *)scores)[at];
            if (mirror_image || (same && s->self) || (p->triangle && candidate + r >= query + c)) {
                continue;
            }
            add_score(s, worker, query + c, candidate + r, score);
            if (mirrored && !same) {
                add_score(s, worker, candidate + r, query + c, score);
            }
        }
    }
}

void block_plan(const struct search_block *p, struct plan *plan)
{
    const struct search *s = p->search;
    struct axis rows = s->corpus_rows, queries = s->query_rows;
    rows.size = p->rows;
    queries.size = p->queries;
    plan_pairs(plan, &rows, &queries, &s->depth);
}

struct reduction block_call(const struct search_block *p, const struct plan *plan)
{
    const struct search *s = p->search;
    struct reduction call = {
        .op = OP_COSINE, .eps = s->eps, .x = s->corpus, .y = s->queries, .plan = plan};
    call.out_dtype = search_compute_type(s->corpus.dtype, s->queries.dtype) == COMPUTE_F64
                         ? DTYPE_F64
                         : DTYPE_F32;
    call.distinct = s->first_candidate + p->row != s->first_query + p->query;
    call.x.data += (ptrdiff_t)p->row * s->corpus_rows.x;
    call.y.data += (ptrdiff_t)p->query * s->query_rows.y;
    return call;
}

int score_block(struct search_block *p, struct cancel_token *token)
{
    struct plan plan;
    struct pair_scores scores;
    block_plan(p, &plan);
    struct reduction call = block_call(p, &plan);
    const struct score_receiver receiver = {handle_scores, p};
    pair_scores_init(&scores, &call);
    p->symmetric = scores.symmetric;
    call.receiver = &receiver;
    call.token = token;
    call.workers = p->only == (size_t)ANY_WORKER ? p->search->result_handler->workers : 1;
    return pairwise_run(&call);
}
