#ifndef COSSIM_CORE_SEARCH_H
#define COSSIM_CORE_SEARCH_H

#include <pthread.h>
#include <stdint.h>

#include "core/reduce.h"
#include "core/tiles.h"

/*
 * Search: every row of a corpus with every query, and of all their scores only those that reach a limit. A cheaper look at a pair
 * comes first where there is one: it says for certain that a score cannot reach its limit, and the others are calculated in full.
 * What is found therefore has the scores of all_pairs.c, bit for bit, whichever way it was found.
 */

/* Room for one limit of all queries: a kernel reads as many limits as a tile has rows or columns,
 * and padding. */
enum { ONE_LIMIT = TILES_MAX_ROWS + REACH_PADDING };

/* Takes what is found. One for each kind of result: in topk.c and pairs.c. */
struct finder {
    enum work work; /* of scores and limits */
    int workers;    /* that it has room for */

    /*
     * A score below its query's limit is of no use. Each worker has its own limits, which offer may
     * raise: that of a query is at (query & limits_mask), with room for REACH_PADDING more behind
     * the last; the next worker's are `limits_step` elements on. The mask has all bits, or none
     * where all queries share one limit: then there are ONE_LIMIT equal elements.
     */
    void *limits;
    size_t limits_step, limits_mask;

    /* A score that reaches its limit or is NaN. Called from several threads; a worker is one thread at a time. */
    void (*offer)(struct finder *finder, size_t worker, size_t query, size_t candidate, double score);
};

/* 8-bit codes of a corpus beside it (kernels.h tells what they mean): N x D, and N scales. */
struct codes {
    const uint8_t *codes;
    const struct code_scale *scales;
};

struct search {
    struct operand corpus, queries; /* rows are vectors */
    struct axis corpus_rows, query_rows, depth; /* sizes; strides in x for the corpus, in y for queries */
    double eps;
    size_t first_candidate, first_query; /* the numbers of the first rows */
    bool self;      /* a row is not looked for by itself: numbers of both sides are of one array */
    bool mirrored;  /* corpus rows are queries, too, and queries candidates: numbers of both sides are of one array */
    const struct codes *codes; /* or NULL */
    size_t warm;    /* rows that are scored in full before limits mean anything */
    struct finder *finder;
    struct watch *watch; /* or NULL; counts pairs of rows */
};

/* 0, or -1 when there is no memory. */
int search(const struct search *search);

/* The type of scores that rows of these types have: float for narrow floats, else double. */
enum work search_work(enum dtype corpus, enum dtype queries);

/* Codes of all rows of a corpus: -1 when there is no memory. Only for rows of up to CODES_DEPTH elements. */
int search_encode(const struct search *search, uint8_t *codes, struct code_scale *scales);

/* ---- the finders ---- */

/* The k best of each query, in place in values and indices, [queries][k]. */
struct topk {
    struct finder finder; /* first, so that a finder is one */
    size_t k;
    void *values;
    int64_t *indices;
    bool shared; /* by several workers: they take turns */
    pthread_mutex_t *turns;
};

/* Ready to go on from what an earlier search left in values and indices; NaN and -1 where there is nothing yet. */
int topk_init(struct topk *topk, enum work work, size_t queries, size_t k, void *values, int64_t *indices);
void topk_free(struct topk *topk);
/* Brings each query's entries in order, best first. */
void topk_sort(enum work work, size_t queries, size_t k, void *values, int64_t *indices, struct watch *watch);

/* All pairs that reach one limit: (query, candidate), or the other way round if turned. */
struct pair_list;
struct pairs {
    struct finder finder;
    bool turned;
    size_t most;    /* pairs that are kept; all are counted */
    _Atomic size_t count;
    _Atomic bool no_memory;
    struct pair_list *lists; /* one a worker */
    size_t workers;
};

int pairs_init(struct pairs *pairs, enum work work, double limit, size_t most);
void pairs_free(struct pairs *pairs);
/* The pairs in ascending order of i, then j; i < rows, j < columns. -1 when there is no memory. */
int pairs_store(const struct pairs *pairs, size_t rows, size_t columns, int64_t *i, int64_t *j, void *values, struct watch *watch);

/* Connected components: parents[i] is a row of i's group, itself for the lowest. */
struct groups {
    struct finder finder;
    int64_t *parents;
    pthread_mutex_t turn;
};

int groups_init(struct groups *groups, enum work work, double limit, int64_t *parents);
void groups_free(struct groups *groups);
/* Each row's label: the lowest row of its group. */
void groups_label(size_t rows, int64_t *parents);

#endif
