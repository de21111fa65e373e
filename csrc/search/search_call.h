#pragma once

#include "results/filter.h"
#include "results/result_handler.h"
#include "vectors/reduce.h"

/* Marks functions that run only a few times in a search: they are compiled for size. */
#define RUNS_ONCE __attribute__((cold))

/*
 * A search scores every row of a corpus against every query and keeps only the scores that reach a
 * threshold. A prefilter, which is cheaper, can run first. It rules out pairs whose score is
 * certainly below the threshold, and all other pairs are scored exactly. So every result has the
 * bits that pairwise/pairwise.c gives that pair, with and without the prefilter.
 */

/*
 * The SQ8 codes of a corpus in halves (N, HALF_BYTES(D)), and their scales (N). kernels/kernels.h
 * defines their meaning, and search/quantize.h that of the scales. upper and lower are NULL if the
 * rows are their own codes (rows_are_codes of search/quantize.h). An index keeps them with its
 * rows.
 */
struct sq8_codes {
    const uint8_t *upper, *lower;
    const struct code_scale *scales;
};

/*
 * The rotated heads of a corpus: coordinates of the rows along a few directions, as codes
 * (N, size), and their scales (N). search/head.h defines their meaning.
 */
struct row_heads {
    struct rotation {
        size_t size;
        const float *directions; /* (size, D) */
        double error; /* an upper bound of the distance of the directions' Gram matrix from I */
    } rotation;
    const uint8_t *codes;
    const struct head_scale *scales;
};

struct search {
    struct operand corpus, queries; /* (N, D) and (M, D); a row is one vector */
    /* Sizes N, M and D. The strides of the corpus are in x, those of the queries in y. */
    struct axis corpus_rows, query_rows, depth;
    double eps;
    /* global indices of the first corpus row and the first query */
    size_t first_candidate, first_query;
    const struct filter *filter; /* NULL: all pairs may be results */
    /*
     * The corpus rows and the queries that a filter leaves, ascending: row r of a side is row
     * numbers[r] of its array, and corpus_rows.size and query_rows.size are counts of these. NULL:
     * all rows. search() sets them.
     */
    const size_t *row_numbers, *query_numbers;
    /* Excludes a row from its own results. Both sides' indices then refer to one array. */
    bool self;
    /*
     * Reports each pair to both of its rows: corpus rows are also queries, and queries are also
     * candidates. Both sides' indices then refer to one array.
     */
    bool mirrored;
    /* Scores (i, j) as well as (j, i), even if both sides are the same rows in memory. */
    bool ordered_pairs;
    /*
     * In a search within one array: the group of each row, or 0. Pairs of two rows of one group,
     * and all pairs of rows of group 0, are left out, because they have been scored before. NULL:
     * there are no groups.
     */
    const uint32_t *groups;
    size_t scored_rows;            /* with groups: how many rows group 0 has; they come first */
    bool without_prefilter;        /* the prefilter would rule out too few pairs */
    const struct sq8_codes *codes; /* NULL: the search makes them */
    const struct row_heads *heads; /* NULL: none */
    /* Corpus rows that are scored exactly before the prefilter runs, to raise the thresholds. */
    size_t warm_up_rows;
    struct result_handler *result_handler;
    /* May be NULL. Its progress counts pairs of rows; search_quantize counts rows. */
    struct cancel_token *token;
};

/* Returns the position of corpus row r in the corpus. */
static inline size_t corpus_row(const struct search *s, size_t r)
{
    return s->row_numbers == NULL ? r : s->row_numbers[r];
}

/* Return the global indices of corpus row r and of query q. */
static inline size_t candidate_number(const struct search *s, size_t r)
{
    return s->first_candidate + corpus_row(s, r);
}

static inline size_t query_number(const struct search *s, size_t q)
{
    return s->first_query + (s->query_numbers == NULL ? q : s->query_numbers[q]);
}

/* True if both sides are the same rows of one array. */
static inline bool search_is_within(const struct search *s)
{
    return s->self && s->corpus.data == s->queries.data && s->first_candidate == s->first_query;
}

/* Returns a copy of a search that has only the queries [first, first + n). */
static inline struct search search_with_queries(const struct search *s, size_t first, size_t n)
{
    struct search part = *s;
    part.queries.data += (ptrdiff_t)first * s->query_rows.y;
    part.query_rows.size = n;
    part.first_query += first;
    return part;
}
