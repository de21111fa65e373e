/* Scores a block of corpus rows against a block of queries by GEMM. */
#include "search/block.h"

#include <string.h>

#include "pairwise/pairwise.h"

/* With this many words of matches in a tile, many scores are likely to be ties. */
enum { MANY_MATCHES = 32 };

/* Thresholds of the queries of a tile. Kernels read SELECT_PADDING more. */
struct tile_thresholds {
    double rows[GEMM_MAX_ROWS + SELECT_PADDING], columns[GEMM_MAX_COLUMNS + SELECT_PADDING];
};

/*
 * Writes the thresholds of numbered queries, one for each number. If `raised` is set, they are for
 * candidates from `candidate` on, as those of thresholds_from.
 */
static void gather_thresholds(const struct search *s, size_t worker, const size_t *numbers,
                              size_t count, size_t candidate, bool raised, void *to)
{
    const struct result_handler *handler = s->result_handler;
    for (size_t i = 0; i < count; i++) {
        const size_t query = s->first_query + numbers[i];
        if (raised) {
            void *at = (char *)to + i * compute_size(handler->compute);
            handler->thresholds_from(handler, worker, query, 1, candidate, at);
        } else {
            compute_store(handler->compute, to, i, threshold_at(handler, worker, query));
        }
    }
}

/* select_scores for a mirrored search whose rows and queries have numbers, and in which each query
 * has its own threshold. */
static size_t select_numbered(const struct search *s, const struct gemm_block *b,
                              const void *scores, size_t step, size_t worker, const size_t *rows,
                              const size_t *columns, uint32_t *found)
{
    const struct result_handler *handler = s->result_handler;
    select_kernel *select_at_least = kernels_current()->tiles[handler->compute].select_at_least;
    struct tile_thresholds thresholds = {{0.0}, {0.0}};
    size_t count = 0;
    for (int raised = 0; raised < 2; raised++) {
        gather_thresholds(s, worker, rows, b->rows, s->first_candidate + columns[0], raised,
                          thresholds.rows);
        gather_thresholds(s, worker, columns, b->columns, s->first_candidate + rows[0], raised,
                          thresholds.columns);
        count = select_at_least(scores, step, b->rows, b->columns, thresholds.rows,
                                thresholds.columns, found);
        if (handler->thresholds_from == NULL || count < MANY_MATCHES) {
            break;
        }
    }
    return count;
}

/* Finds the pairs of a tile that reach the threshold of one of their queries. found is that of
 * select_kernel. */
static size_t select_scores(const struct search *s, size_t worker, const struct score_tile *tile,
                            bool mirrored, uint32_t *found)
{
    const struct result_handler *handler = s->result_handler;
    const size_t size = compute_size(handler->compute);
    const char *thresholds =
        (const char *)handler->thresholds + worker * handler->thresholds_step * size;
    const void *rows = thresholds + (tile->candidate & handler->thresholds_mask) * size,
               *columns = thresholds + (tile->query & handler->thresholds_mask) * size;
    select_kernel *select_at_least = kernels_current()->tiles[handler->compute].select_at_least;
    const size_t count = select_at_least(tile->scores, tile->step, tile->rows, tile->columns,
                                         mirrored ? rows : NULL, columns, found);
    if (!mirrored || handler->thresholds_from == NULL || count < MANY_MATCHES) {
        return count;
    }
    struct tile_thresholds raised;
    handler->thresholds_from(handler, worker, tile->candidate, tile->rows, tile->query,
                             raised.rows);
    handler->thresholds_from(handler, worker, tile->query, tile->columns, tile->candidate,
                             raised.columns);
    memset((char *)raised.columns + tile->columns * size, 0, SELECT_PADDING * size);
    return select_at_least(tile->scores, tile->step, tile->rows, tile->columns, raised.rows,
                           raised.columns, found);
}

/* Passes each score that reaches its threshold to the result handler. */
static void handle_scores(const void *context, const struct gemm_block *b, const void *scores,
                          size_t step)
{
    const struct search_block *block = context;
    const struct search *s = block->search;
    const struct result_handler *handler = s->result_handler;
    const size_t worker = block->owner == (size_t)ANY_WORKER ? b->worker : block->owner;
    const size_t row = block->row + b->row, column = block->query + b->column;
    const struct score_tile tile = {
        .candidate = candidate_number(s, row),
        .rows = b->rows,
        .query = query_number(s, column),
        .columns = b->columns,
        .scores = scores,
        .step = step,
        .without_self = s->self,
        .numbers = s->row_numbers == NULL ? NULL : s->row_numbers + row,
        .first_candidate = s->first_candidate,
    };
    if (handler->add_tile != NULL && !(s->filter != NULL && filter_has_pairs(s->filter))) {
        handler->add_tile(s->result_handler, worker, &tile);
        return;
    }
    const bool mirrored = s->mirrored || (block->symmetric && !s->self),
               numbered = s->mirrored && s->query_numbers != NULL;
    uint32_t found[GEMM_MAX_ROWS * GEMM_MAX_COLUMNS / COSINE_STEP + 2];
    const size_t count = numbered
                             ? select_numbered(s, b, scores, step, worker, s->row_numbers + row,
                                               s->query_numbers + column, found)
                             : select_scores(s, worker, &tile, mirrored, found);
    for (size_t n = 0; n < count; n++) {
        const size_t r = found[n] >> 16;
        for (uint32_t bits = found[n] & 0xff; bits != 0; bits &= bits - 1) {
            const size_t c = (found[n] >> 8 & 0xff) + (size_t)__builtin_ctz(bits),
                         at = r * step + c, i = candidate_number(s, row + r),
                         j = query_number(s, column + c);
            const bool below_diagonal = block->symmetric && b->column + c < b->row + r;
            const double score = compute_load(handler->compute, scores, at);
            if (below_diagonal || (block->triangle && i >= j)) {
                continue;
            }
            add_score(s, worker, j, i, score);
            if (mirrored && i != j) {
                add_score(s, worker, i, j, score);
            }
        }
    }
}

void block_plan(const struct search_block *block, struct plan *plan)
{
    const struct search *s = block->search;
    struct axis rows = s->corpus_rows, queries = s->query_rows;
    rows.size = block->rows;
    queries.size = block->queries;
    plan_pairs(plan, &rows, &queries, &s->depth);
}

struct reduction block_call(const struct search_block *block, const struct plan *plan)
{
    const struct search *s = block->search;
    struct reduction call = {
        .op = OP_COSINE, .eps = s->eps, .x = s->corpus, .y = s->queries, .plan = plan};
    call.out_dtype = dtypes_compute_type(s->corpus.dtype, s->queries.dtype) == COMPUTE_F64
                         ? DTYPE_F64
                         : DTYPE_F32;
    call.distinct =
        s->ordered_pairs || s->first_candidate + block->row != s->first_query + block->query;
    if (s->row_numbers == NULL) {
        call.x.data += (ptrdiff_t)block->row * s->corpus_rows.x;
    } else {
        call.x_numbers = s->row_numbers + block->row;
        call.x_step = s->corpus_rows.x;
    }
    if (s->query_numbers == NULL) {
        call.y.data += (ptrdiff_t)block->query * s->query_rows.y;
    } else {
        call.y_numbers = s->query_numbers + block->query;
        call.y_step = s->query_rows.y;
    }
    return call;
}

int score_block(struct search_block *block, struct cancel_token *token)
{
    struct plan plan;
    struct pair_scores scores;
    block_plan(block, &plan);
    struct reduction call = block_call(block, &plan);
    const struct score_receiver receiver = {handle_scores, block};
    pair_scores_init(&scores, &call);
    block->symmetric = scores.symmetric;
    call.receiver = &receiver;
    call.token = token;
    call.workers = block->owner == (size_t)ANY_WORKER ? block->search->result_handler->workers : 1;
    return pairwise_run(&call);
}
