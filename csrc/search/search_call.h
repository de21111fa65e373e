#ifndef COSSIM_SEARCH_SEARCH_CALL_H
#define COSSIM_SEARCH_SEARCH_CALL_H

#include "search/result_handler.h"
#include "vectors/reduce.h"

/*
 * Search: every row of a corpus with every query, and of all their scores only those that reach a
 * limit. A cheaper look at a pair comes first where there is one: it says for certain that a score
 * cannot reach its limit, and the others are calculated in full. What is found therefore has the
 * scores of all_pairs.c, bit for bit, whichever way it was found.
 */

/* 8-bit codes of a corpus beside it (kernels.h tells what they mean): N x D, and N scales. */
struct codes {
    const uint8_t *codes;
    const struct code_scale *scales;
};

struct search {
    struct operand corpus, queries; /* rows are vectors */
    struct axis corpus_rows, query_rows,
        depth; /* sizes; strides in x for the corpus, in y for queries */
    double eps;
    size_t first_candidate, first_query; /* the numbers of the first rows */
    bool self;     /* a row is not looked for by itself: numbers of both sides are of one array */
    bool mirrored; /* corpus rows are queries, too, and queries candidates: numbers of both sides
                      are of one array */
    const struct codes *codes; /* or NULL */
    size_t warm;               /* rows that are scored in full before limits mean anything */
    struct result_handler *result_handler;
    struct cancel_token *token; /* or NULL; counts pairs of rows */
};

#endif
