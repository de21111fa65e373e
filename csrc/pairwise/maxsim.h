#pragma once

#include <stdint.h>

#include "vectors/reduce.h"

/*
 * ColBERT's MaxSim. x holds the rows of all documents (R, D), y the rows of the query (T, D).
 * Document n has the rows from offsets[n] to offsets[n + 1]. offsets rises from 0 to R. Its score
 * is the sum, over the rows of the query in their order, of the largest cosine in the document. It
 * is NaN if a cosine is NaN.
 */
struct maxsim {
    struct operand x, y;
    struct axis rows, query_rows, depth;
    double eps;
    const int64_t *offsets; /* (documents + 1,) */
    size_t documents;
    const uint8_t *mask;        /* (documents,): documents with 0 get no score. May be NULL */
    double *scores;             /* (documents,) */
    struct cancel_token *token; /* may be NULL; its progress counts documents */
};

/* Returns 0, or -1 when memory runs out. */
int maxsim_run(const struct maxsim *maxsim);
