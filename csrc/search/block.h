#pragma once

#include <math.h>

#include "base/scratch.h"
#include "pairwise/pair_scores.h"
#include "search/search_call.h"

/* A block of a search: corpus rows [row, row + rows) and queries [query, query + queries). */
struct search_block {
    const struct search *search;
    size_t row, rows, query, queries;
    bool symmetric; /* both sides are the same rows in memory; score_block sets it */
    bool triangle;  /* only pairs with candidate index < query index are results */
    /* The worker that scores the whole block. With ANY_WORKER, the workers of the pool share it. */
    size_t owner;
};

#define ANY_WORKER SIZE_MAX

/* Scores all pairs of a block by GEMM. Returns 0, or -1 when memory runs out. */
int score_block(struct search_block *block, struct cancel_token *token);

/* Prefetches the cache lines of a contiguous row. */
static inline void prefetch_lines(const char *from, size_t bytes)
{
    for (size_t line = 0; line < bytes; line += SCRATCH_ALIGN) {
        __builtin_prefetch(from + line, 0, 2); /* to L2: many lines may come from memory */
    }
}

/* The largest float that is not above a number. NaN stays NaN. */
static inline float float_at_most(double number)
{
    const float rounded = (float)number;
    return rounded > number ? nextafterf(rounded, -INFINITY) : rounded;
}

/* How the pairs of a block are scored. call points to plan, and scores to both. */
struct block_scores {
    struct plan plan;
    struct reduction call;
    struct pair_scores scores;
};
void block_scores_init(struct block_scores *b, const struct search_block *block);

/* True if the filter or the groups may exclude a pair of a row and a query of the search. */
static inline bool restricts_pairs(const struct search *s)
{
    return s->groups != NULL || (s->filter != NULL && filter_has_pairs(s->filter));
}

/* True if the filter and the groups allow the pair of a query and a candidate. Does not check
 * filter->rows, because a search only has rows that pass it. */
static inline bool pair_is_allowed(const struct search *s, size_t query, size_t candidate)
{
    const struct filter *f = s->filter;
    if (s->groups != NULL) {
        const uint32_t a = s->groups[query - s->first_query],
                       b = s->groups[candidate - s->first_candidate];
        if (a == b || a == 0 || b == 0) {
            return false;
        }
    }
    return f == NULL || !filter_has_pairs(f) ||
           (f->swapped ? filter_allows(f, candidate, query) : filter_allows(f, query, candidate));
}

/* Passes a score to the result handler, unless it is below its threshold or the pair is
 * excluded. */
static inline void add_score(const struct search *s, size_t worker, size_t query, size_t candidate,
                             double score)
{
    if (!(score < threshold_at(s->result_handler, worker, query)) &&
        !(s->self && query == candidate) && pair_is_allowed(s, query, candidate)) {
        s->result_handler->add_result(s->result_handler, worker, query, candidate, score);
    }
}
