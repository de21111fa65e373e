#pragma once

#include "sparse/postings.h"

/* Computes the matrix (N, M) of the scores of all rows of x with all rows of y. */
struct sparse_pairwise {
    const struct sparse_rows *x, *y; /* the same pointer: half of the scores are mirrored */
    enum dtype out_dtype;
    char *out;
    ptrdiff_t row_stride, column_stride; /* of out, in bytes */
    struct cancel_token *token;          /* its progress counts pairs of rows */
};

/* Returns 0, or -1 when memory runs out. */
int sparse_pairwise(const struct sparse_pairwise *call);
