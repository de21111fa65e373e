#ifndef COSSIM_SPARSE_SPARSE_SEARCH_H
#define COSSIM_SPARSE_SPARSE_SEARCH_H

#include "results/result_handler.h"
#include "sparse/rows.h"

/* A search for the pairs of rows whose score reaches the threshold that all queries share. */
struct sparse_search {
    const struct sparse_rows *queries, *corpus;
    bool self; /* both are the same rows: only pairs with query < candidate are results */
    struct result_handler *result_handler;
    struct cancel_token *token; /* its progress counts pairs of rows */
};

/* Passes a score to the result handler, unless it is below the threshold. */
static inline void sparse_add_score(const struct sparse_search *s, size_t worker, size_t query,
                                    size_t candidate, double xy)
{
    const double score = sparse_score(s->queries, query, s->corpus, candidate, xy);
    if (!(score < threshold_at(s->result_handler, worker, query))) {
        s->result_handler->add_result(s->result_handler, worker, query, candidate, score);
    }
}

#endif
