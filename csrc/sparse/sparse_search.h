#pragma once

#include "results/filter.h"
#include "results/result_handler.h"
#include "sparse/rows.h"

/* A search for the pairs of rows whose score reaches the threshold that all queries share. */
struct sparse_search {
    const struct sparse_rows *queries, *corpus;
    const struct filter *filter; /* NULL: all pairs may be results */
    bool self; /* both are the same rows: only pairs with query < candidate are results */
    struct result_handler *result_handler;
    struct cancel_token *token; /* its progress counts pairs of rows */
};

/* Returns the bitmap of the candidates, or NULL for all. */
static inline const uint64_t *sparse_candidates(const struct sparse_search *s)
{
    return s->filter == NULL ? NULL : s->filter->rows;
}

/* Passes a score to the result handler, unless it is below the threshold or the filter excludes the
 * pair. */
static inline void sparse_add_score(const struct sparse_search *s, size_t worker, size_t query,
                                    size_t candidate, double xy)
{
    const double score = sparse_score(s->queries, query, s->corpus, candidate, xy);
    if (!(score < threshold_at(s->result_handler, worker, query)) &&
        filter_passes(s->filter, query, candidate)) {
        s->result_handler->add_result(s->result_handler, worker, query, candidate, score);
    }
}
