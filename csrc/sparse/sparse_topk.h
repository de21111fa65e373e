#pragma once

#include "sparse/postings.h"

/* Finds the k best rows of a corpus for each query, best first. Equal scores are in ascending order
 * of index. */
struct sparse_topk {
    const struct sparse_rows *queries, *corpus;
    const struct filter *filter; /* NULL: all pairs may be results */
    bool self;                   /* both are the same rows: a row is not a result of itself */
    size_t k;
    void *values;     /* (queries, k) of the compute type; places that no row fills hold NaN */
    int64_t *indices; /* (queries, k); -1 in places that no row fills */
    struct cancel_token *token; /* its progress counts pairs of rows */
};

/* Returns 0, or -1 when memory runs out. */
int sparse_topk(const struct sparse_topk *call);
