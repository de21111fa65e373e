#ifndef COSSIM_SEARCH_SEARCH_CALL_H
#define COSSIM_SEARCH_SEARCH_CALL_H

#include "search/result_handler.h"
#include "vectors/reduce.h"

/*
 * A search scores every row of a corpus against every query and keeps only the scores that reach a
 * threshold. A cheaper prefilter runs first where there is one. It rules out pairs whose score
 * certainly cannot reach its threshold; all other pairs are scored exactly. Every result therefore
 * has the bits that pairwise.c gives that pair, whichever path found it.
 */

/*
 * The SQ8 codes of a corpus, kept next to its rows: codes are (N, D), scales are (N). kernels.h
 * defines their meaning.
 */
struct sq8_codes {
    const uint8_t *codes;
    const struct code_scale *scales;
};

struct search {
    struct operand corpus, queries; /* (N, D) and (M, D); a row is one vector */
    /* Sizes N, M and D. The strides of the corpus are in x, those of the queries in y. */
    struct axis corpus_rows, query_rows, depth;
    double eps;
    /* global indices of the first corpus row and the first query */
    size_t first_candidate, first_query;
    /* Excludes a row from its own results. Both sides' indices then refer to one array. */
    bool self;
    /*
     * Reports each pair to both of its rows: corpus rows are queries too, and queries are
     * candidates. Both sides' indices then refer to one array.
     */
    bool mirrored;
    const struct sq8_codes *codes; /* NULL: none were stored */
    /*
     * Corpus rows that are scored exactly first, to raise the thresholds before the prefilter runs.
     */
    size_t warm_up_rows;
    struct result_handler *result_handler;
    struct cancel_token *token; /* may be NULL; its progress counts pairs of rows */
};

#endif
