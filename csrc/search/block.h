#ifndef COSSIM_SEARCH_BLOCK_H
#define COSSIM_SEARCH_BLOCK_H

#include "pairwise/pair_scores.h"
#include "search/search_call.h"

/* Corpus rows [row, row + rows) against queries [query, query + queries). */
struct search_block {
    const struct search *search;
    size_t row, rows, query, queries;
    bool symmetric; /* both sides are the same rows in memory; set by score_block */
    bool triangle;  /* pairs count only if candidate index < query index */
    /* The worker that scores the whole block, or ANY_WORKER to share it among the pool's. */
    size_t owner;
};

enum { ANY_WORKER = -1 };

/* Scores all pairs of a block by GEMM. Returns 0, or -1 when memory runs out. */
int score_block(struct search_block *block, struct cancel_token *token);

/* The compute type of the scores: float32 when both dtypes are narrow floats, else float64. */
enum compute_type search_compute_type(enum dtype corpus, enum dtype queries);

/* The plan of a block, and the reduction that scores it. */
void block_plan(const struct search_block *block, struct plan *plan);
struct reduction block_call(const struct search_block *block, const struct plan *plan);

static inline void add_score(const struct search *s, size_t worker, size_t query, size_t candidate,
                             double score)
{
    if (!(score < threshold_at(s->result_handler, worker, query))) {
        s->result_handler->add_result(s->result_handler, worker, query, candidate, score);
    }
}

#endif
