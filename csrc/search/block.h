#ifndef COSSIM_SEARCH_BLOCK_H
#define COSSIM_SEARCH_BLOCK_H

#include "pairwise/pair_scores.h"
#include "search/search_call.h"

/* Some corpus rows with some queries. `only`: the worker on whose behalf it is, or any. */
struct search_block {
    const struct search *search;
    size_t row, rows, query, queries;
    bool symmetric; /* the very same rows */
    bool triangle;  /* of both sides' numbers only pairs with the candidate's below the query's */
    size_t only;
};

enum { ANY_WORKER = -1 };

/* All pairs of a part, by tiles. 0, or -1 when there is no memory. */
int score_block(struct search_block *part, struct cancel_token *token);

/* The type of scores that rows of these types have: float for narrow floats, else double. */
enum compute_type search_compute_type(enum dtype corpus, enum dtype queries);

/* The plan of a part, and the call that gives its scores. */
void block_plan(const struct search_block *part, struct plan *plan);
struct reduction block_call(const struct search_block *part, const struct plan *plan);

static inline void add_score(const struct search *s, size_t worker, size_t query, size_t candidate,
                             double score)
{
    if (!(score < threshold_at(s->result_handler, worker, query))) {
        s->result_handler->add_result(s->result_handler, worker, query, candidate, score);
    }
}

#endif
