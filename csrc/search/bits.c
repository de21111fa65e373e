/* Search in rows of packed bits. */
#include <string.h>

#include "base/scratch.h"
#include "pairwise/bits.h"
#include "search/block.h"
#include "search/search.h"

/* In a mirrored search, corpus rows are queries too. For them, these are the largest distances of
 * results: one for each row of a worker's last block. */
struct bit_limits {
    size_t row, rows;
    int32_t limit[BIT_BLOCK_ROWS];
};

struct bit_search {
    const struct search *search;
    struct bit_formula formula;
    bool triangle;             /* only pairs with candidate index < query index are results */
    struct bit_limits *limits; /* one for each worker, if the search is mirrored; else NULL */
};

/* Returns the largest distance whose score reaches the threshold of a query. */
static int32_t limit_of(const struct bit_search *b, size_t worker, size_t query)
{
    return bit_distance_at_most(&b->formula,
                                threshold_at(b->search->result_handler, worker, query));
}

/* Returns the limits that a block's corpus rows have as queries of a mirrored search. Those of the
 * last block are kept, and add_pairs lowers them. */
static int32_t *limits_of_rows(const struct bit_search *b, const struct bit_block *block)
{
    struct bit_limits *limits = b->limits + block->worker;
    if (limits->row != block->row || limits->rows != block->rows) {
        limits->row = block->row;
        limits->rows = block->rows;
        for (size_t r = 0; r < block->rows; r++) {
            limits->limit[r] =
                limit_of(b, block->worker, candidate_number(b->search, block->row + r));
        }
    }
    return limits->limit;
}

/* True if any distances[r] is at most `limit` or, unless limits is NULL, at most limits[r]. */
static bool any_within(const int32_t *distances, size_t rows, int32_t limit, const int32_t *limits)
{
    int any = 0;
    if (limits == NULL) {
        for (size_t r = 0; r < rows; r++) {
            any |= distances[r] <= limit;
        }
    } else {
        for (size_t r = 0; r < rows; r++) {
            any |= (distances[r] <= limit) | (distances[r] <= limits[r]);
        }
    }
    return any != 0;
}

/* Passes to the result handler the pairs of query c of a block whose distances are within a limit.
 */
static void add_pairs(const struct bit_search *b, const struct bit_block *block, size_t c,
                      int32_t limit, int32_t *limits)
{
    const struct search *s = b->search;
    const struct result_handler *handler = s->result_handler;
    const int32_t *distances = block->distances + c * BIT_BLOCK_ROWS;
    const size_t query = query_number(s, block->column + c), worker = block->worker;
    double threshold = threshold_at(handler, worker, query);
    for (size_t r = 0; r < block->rows; r++) {
        const size_t candidate = candidate_number(s, block->row + r);
        const bool within = distances[r] <= limit || (limits != NULL && distances[r] <= limits[r]);
        if (!within || (s->self && candidate == query) || (b->triangle && candidate > query)) {
            continue;
        }
        const double score = bit_score(&b->formula, distances[r]);
        add_score(s, worker, query, candidate, score);
        if (limits != NULL) {
            add_score(s, worker, candidate, query, score);
            limits[r] = limit_of(b, worker, candidate);
        }
        if (threshold_at(handler, worker, query) > threshold) {
            threshold = threshold_at(handler, worker, query);
            limit = limit_of(b, worker, query);
        }
    }
}

static void take_block(void *context, const struct bit_block *block)
{
    const struct bit_search *b = context;
    int32_t *limits = b->limits == NULL ? NULL : limits_of_rows(b, block);
    for (size_t c = 0; c < block->columns; c++) {
        const int32_t limit =
            limit_of(b, block->worker, query_number(b->search, block->column + c));
        if (any_within(block->distances + c * BIT_BLOCK_ROWS, block->rows, limit, limits)) {
            add_pairs(b, block, c, limit, limits);
        }
    }
}

int search_bits(const struct search *s)
{
    const struct axis *rows = &s->corpus_rows, *queries = &s->query_rows, *depth = &s->depth;
    const bool symmetric = s->corpus.data == s->queries.data && rows->size == queries->size &&
                           rows->x == queries->y && depth->x == depth->y &&
                           s->first_candidate == s->first_query &&
                           s->row_numbers == s->query_numbers;
    struct bit_search b = {.search = s,
                           .formula = bit_formula_make(depth->size, s->eps),
                           .triangle = symmetric && s->self && !s->ordered_pairs};
    const size_t workers = (size_t)s->result_handler->workers;
    if (s->mirrored) {
        b.limits = scratch_alloc(workers * sizeof *b.limits);
        if (b.limits == NULL) {
            return -1;
        }
        memset(b.limits, 0, workers * sizeof *b.limits);
    }
    const struct bit_blocks blocks = {
        .x = {s->corpus.data, rows->x, depth->x, rows->size, s->row_numbers},
        .y = {s->queries.data, queries->y, depth->y, queries->size, s->query_numbers},
        .bytes = depth->size,
        .triangle = b.triangle,
        .take = take_block,
        .context = &b,
        .workers = s->result_handler->workers,
        .token = s->token,
    };
    const int status = bit_blocks_run(&blocks);
    scratch_free(b.limits);
    return status;
}
