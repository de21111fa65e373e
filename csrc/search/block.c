/* Scores a block of corpus rows against a block of queries by GEMM. */
#include "search/block.h"

#include <string.h>

#include "pairwise/pairwise.h"

/*
 * Returns the thresholds of the queries of a tile, which are its rows or its columns. These are
 * queries [first, first + count), or first + numbers[i] - numbers[0] if numbers is not NULL. If
 * `raised` is set, the thresholds are those of thresholds_from, for candidates from `candidate` on.
 * The result is in the handler's array or in buffer. SELECT_PADDING elements follow it.
 */
static const void *tile_thresholds(const struct result_handler *handler, size_t worker,
                                   size_t first, const size_t *numbers, size_t count,
                                   size_t candidate, bool raised, void *buffer)
{
    const size_t size = compute_size(handler->compute), step = numbers == NULL ? count : 1;
    if (numbers == NULL && !raised) {
        return worker_thresholds(handler, worker) + (first & handler->thresholds_mask) * size;
    }
    for (size_t i = 0; i < count; i += step) {
        const size_t query = numbers == NULL ? first : first + numbers[i] - numbers[0];
        if (raised) {
            handler->thresholds_from(handler, worker, query, step, candidate,
                                     (char *)buffer + i * size);
        } else {
            compute_store(handler->compute, buffer, i, threshold_at(handler, worker, query));
        }
    }
    memset((char *)buffer + count * size, 0, SELECT_PADDING * size);
    return buffer;
}

/* Finds the pairs of a tile that reach the threshold of one of their queries. Writes them to
 * `found` and returns the number of words, as select_kernel does. */
static size_t select_scores(const struct search *s, size_t worker, const struct score_tile *tile,
                            const size_t *query_numbers, bool mirrored, uint32_t *found)
{
    const struct result_handler *handler = s->result_handler;
    const bool numbered = s->mirrored && query_numbers != NULL;
    const size_t *of_rows = numbered ? tile->numbers : NULL,
                 *of_columns = numbered ? query_numbers : NULL;
    select_kernel *select_at_least = kernels_current()->tiles[handler->compute].select_at_least;
    double buffers[2][GEMM_MAX_ROWS + SELECT_PADDING];
    size_t count = 0;
    for (int raised = 0; raised < 2; raised++) {
        const void *rows = NULL,
                   *columns = tile_thresholds(handler, worker, tile->query, of_columns,
                                              tile->columns, tile->candidate, raised, buffers[1]);
        if (mirrored) {
            rows = tile_thresholds(handler, worker, tile->candidate, of_rows, tile->rows,
                                   tile->query, raised, buffers[0]);
        }
        count = select_at_least(tile->scores, tile->step, tile->rows, tile->columns, rows, columns,
                                found);
        /* If half of the words, of eight columns each, have matches, many are likely to be ties. */
        const bool many = 16 * count >= tile->rows * tile->columns;
        if (!mirrored || handler->thresholds_from == NULL || !many) {
            break;
        }
    }
    return count;
}

/*
 * Passes the scores of the pairs that select_scores found to the result handler, except those below
 * the threshold of their query. `compute` is that of the handler, as a constant.
 */
static inline __attribute__((always_inline)) void
add_found(const struct search_block *block, const struct gemm_block *b,
          const struct score_tile *tile, size_t worker, bool mirrored, enum compute_type compute,
          const uint32_t *found, size_t count)
{
    const struct search *s = block->search;
    struct result_handler *handler = s->result_handler;
    const void *thresholds = worker_thresholds(handler, worker);
    const size_t mask = handler->thresholds_mask, row = block->row + b->row,
                 column = block->query + b->column;
    const bool self = s->self, triangle = block->triangle, restricted = restricts_pairs(s),
               on_diagonal = block->symmetric && b->column < b->row + b->rows;
    for (size_t n = 0; n < count; n++) {
        const size_t r = found[n] >> 16, first = found[n] >> 8 & 0xff,
                     i = candidate_number(s, row + r);
        for (uint32_t bits = found[n] & 0xff; bits != 0; bits &= bits - 1) {
            const size_t c = first + (size_t)__builtin_ctz(bits), j = query_number(s, column + c);
            const double score = compute_load(compute, tile->scores, r * tile->step + c);
            if ((on_diagonal && b->column + c < b->row + r) || (triangle && i >= j) ||
                (self && i == j)) {
                continue;
            }
            if (!(score < compute_load(compute, thresholds, j & mask)) &&
                (!restricted || pair_is_allowed(s, j, i))) {
                handler->add_result(handler, worker, j, i, score);
            }
            if (mirrored && i != j && !(score < compute_load(compute, thresholds, i & mask)) &&
                (!restricted || pair_is_allowed(s, i, j))) {
                handler->add_result(handler, worker, i, j, score);
            }
        }
    }
}

/* Passes each score that reaches its threshold to the result handler. */
static void handle_scores(const void *context, const struct gemm_block *b, const void *scores,
                          size_t step)
{
    const struct search_block *block = context;
    const struct search *s = block->search;
    const struct result_handler *handler = s->result_handler;
    const size_t worker = block->owner == ANY_WORKER ? b->worker : block->owner;
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
    const bool mirrored = s->mirrored || (block->symmetric && !s->self);
    const size_t *query_numbers = s->query_numbers == NULL ? NULL : s->query_numbers + column;
    uint32_t found[GEMM_MAX_ROWS * GEMM_MAX_COLUMNS / COSINE_STEP + 2];
    const size_t count = select_scores(s, worker, &tile, query_numbers, mirrored, found);
    if (handler->compute == COMPUTE_F64) {
        add_found(block, b, &tile, worker, mirrored, COMPUTE_F64, found, count);
    } else {
        add_found(block, b, &tile, worker, mirrored, COMPUTE_F32, found, count);
    }
}

void block_scores_init(struct block_scores *b, const struct search_block *block)
{
    const struct search *s = block->search;
    struct axis rows = s->corpus_rows, queries = s->query_rows;
    rows.size = block->rows;
    queries.size = block->queries;
    plan_pairs(&b->plan, &rows, &queries, &s->depth);
    struct reduction *call = &b->call;
    *call = (struct reduction){
        .op = OP_COSINE, .eps = s->eps, .x = s->corpus, .y = s->queries, .plan = &b->plan};
    call->out_dtype = dtypes_compute_type(s->corpus.dtype, s->queries.dtype) == COMPUTE_F64
                          ? DTYPE_F64
                          : DTYPE_F32;
    call->distinct =
        s->ordered_pairs || s->first_candidate + block->row != s->first_query + block->query;
    if (s->row_numbers == NULL) {
        call->x.data += (ptrdiff_t)block->row * s->corpus_rows.x;
    } else {
        call->x_numbers = s->row_numbers + block->row;
        call->x_step = s->corpus_rows.x;
    }
    if (s->query_numbers == NULL) {
        call->y.data += (ptrdiff_t)block->query * s->query_rows.y;
    } else {
        call->y_numbers = s->query_numbers + block->query;
        call->y_step = s->query_rows.y;
    }
    pair_scores_init(&b->scores, call);
}

int score_block(struct search_block *block, struct cancel_token *token)
{
    const struct score_receiver receiver = {handle_scores, block};
    struct block_scores b;
    block_scores_init(&b, block);
    block->symmetric = b.scores.symmetric;
    b.call.receiver = &receiver;
    b.call.token = token;
    b.call.workers = block->owner == ANY_WORKER ? block->search->result_handler->workers : 1;
    return pairwise_run(&b.call);
}
