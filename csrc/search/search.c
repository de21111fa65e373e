/* Splits a search into blocks of queries and chooses how each block is scored. */
#include "base/scratch.h"
#include "search/bits.h"
#include "search/prefilter.h"
#include "search/search.h"

enum {
    QUERY_BLOCK = 4096, /* queries that share one pass over the corpus */
    /*
     * With fewer queries, no rows are scored first: a tile would cost more than the higher
     * thresholds save.
     */
    MIN_WARM_UP_QUERIES = 16,
    /* The exact scores of shorter rows cost about as little as the prefilter. */
    MIN_PREFILTER_DEPTH = 16,
    MAX_FLOAT_DEPTH = 1 << 16 /* this bounds the buffers for rows that are read as float32 */
};

/*
 * Searches for one block of queries. Scores the first rows exactly, which raises the thresholds,
 * and prefilters the rest. If the prefilter does not pay, scores all rows exactly.
 */
static int search_queries(const struct search *s, struct search_block *block, bool prefilter_pays)
{
    const size_t rows = block->rows, warm_up_rows = block->queries < MIN_WARM_UP_QUERIES
                                                        ? 0
                                                        : smaller(s->warm_up_rows, rows);
    block->rows = prefilter_pays ? warm_up_rows : rows;
    const int status = block->rows == 0 ? 0 : score_block(block, s->token);
    const size_t first = block->rows;
    block->rows = rows;
    return status < 0 || first == rows || cancel_requested(s->token) ? status
                                                                     : prefilter(s, block, first);
}

int search(const struct search *s)
{
    struct search_block block = {.search = s,
                                 .rows = s->corpus_rows.size,
                                 .queries = s->query_rows.size,
                                 .owner = (size_t)ANY_WORKER};
    struct plan plan;
    struct pair_scores scores;
    if (block.rows == 0 || block.queries == 0) {
        return 0;
    }
    if (s->corpus.packed_bits) {
        return search_bits(s);
    }
    block_plan(&block, &plan);
    const struct reduction call = block_call(&block, &plan);
    pair_scores_init(&scores, &call);
    const size_t queries = s->query_rows.size;
    const size_t max_depth = queries <= COARSE_QUERIES ? MAX_FLOAT_DEPTH : SQ8_MAX_DEPTH;
    const bool prefilter_pays = s->depth.size >= MIN_PREFILTER_DEPTH &&
                                s->depth.size <= max_depth && !s->mirrored && !s->without_prefilter;
    if (scores.symmetric && s->self && !prefilter_pays) {
        return score_block(&block, s->token);
    }
    block.triangle = scores.symmetric && s->self;
    for (block.query = 0; block.query < queries && !cancel_requested(s->token);
         block.query += QUERY_BLOCK) {
        block.queries = smaller(QUERY_BLOCK, queries - block.query);
        block.rows = block.triangle ? block.query + block.queries : s->corpus_rows.size;
        const int status = search_queries(s, &block, prefilter_pays);
        if (status < 0) {
            return status;
        }
    }
    return 0;
}

size_t search_pairs(const struct search *s)
{
    const size_t rows = s->corpus_rows.size;
    return search_is_within(s) && !s->ordered_pairs ? pairs_of_rows(rows)
                                                    : size_product_or_max(rows, s->query_rows.size);
}
