#pragma once

/* Top-k of rows with themselves: pairs that wait for their exact scores, groups of similar rows. */

#include "search/block.h"

/*
 * The prefilter passes a lower and an upper bound of a pair's score to the result handler
 * (add_bounds) in place of the score. The k-th largest lower bound of a query is a threshold. The
 * pair waits until the search has ended. It is scored exactly if its upper bound reaches the
 * query's last threshold.
 */
struct waiting {
    const struct search *search;
    struct block_scores scores;
    struct norms norms; /* of all rows */
    size_t k, room;     /* lower bounds and pairs of a query */
    size_t step;        /* bytes from query to query */
    char *queries;      /* [rows]: struct waiting_query */
    char *buffers;      /* [workers][2]: a converted row of buffer_size bytes */
    size_t buffer_size;
};

/* The pairs of a query that wait, and its k largest lower bounds, descending. room pairs follow. */
struct waiting_query {
    uint16_t count;
    /* There was no room for this query's pairs, because their bounds are too close to one another:
     * its later pairs are scored at once. */
    _Atomic bool is_exact;
    float low[];
};

struct waiting_pair {
    float high;
    uint32_t row; /* of the corpus */
};

enum {
    /* Beyond the k best, at least this many pairs of a query can wait. */
    WAITING = 17,
    MAX_WAITING = 96 /* for k of at most 64 */
};

static inline struct waiting_query *waiting_query_at(const struct waiting *w, size_t row)
{
    return (struct waiting_query *)(void *)(w->queries + row * w->step);
}

static inline struct waiting_pair *waiting_pairs_at(const struct waiting *w, size_t row)
{
    char *end = w->queries + (row + 1) * w->step;
    return (struct waiting_pair *)(void *)end - w->room;
}

/* Returns the threshold of a query, or -infinity if there are fewer than k lower bounds. */
static inline float waiting_threshold(const struct waiting *w, size_t row)
{
    return waiting_query_at(w, row)->low[w->k - 1];
}

/* Makes room for the pairs of a search of rows with themselves. Returns the memory, or NULL if it
 * would be too much: the search then scores pairs at once. */
void *waiting_init(struct waiting *waiting, const struct search *search, size_t k, size_t workers);

static inline bool waiting_is_exact(const struct waiting *w, size_t row)
{
    return atomic_load_explicit(&waiting_query_at(w, row)->is_exact, memory_order_relaxed);
}

/* Adds a pair of a query. Returns true if there is no room for another one. */
static inline bool waiting_add(const struct waiting *w, size_t row, struct waiting_pair pair)
{
    struct waiting_query *q = waiting_query_at(w, row);
    waiting_pairs_at(w, row)[q->count++] = pair;
    return q->count == w->room;
}

/* Inserts a lower bound in the k largest ones of a query. */
void waiting_add_low(const struct waiting *waiting, size_t row, float low);

/* Drops the pairs of a query whose upper bounds are below a threshold. */
void waiting_drop(const struct waiting *waiting, size_t row, double threshold);

/* Scores pairs of a query that can be results. */
void waiting_score(const struct waiting *waiting, size_t row, const struct waiting_pair *pairs,
                   size_t count, size_t worker);

/* ---- groups of similar rows ---- */

/*
 * A row has many of its neighbours among the rows with the same nearest center. Scoring these pairs
 * first gives each row a high threshold, so fewer of the other pairs are scored exactly. Most
 * centers are the first rows, which are the results where all rows are equal. The others are rows
 * at equal distances, because rows may be in the order of their clusters. First the pairs of the
 * centers are scored, which gives the nearest center of each other row; then the pairs of each
 * group.
 */
struct groups {
    const struct search *search;
    size_t centers, first, step; /* center c is row c, or row first + (c - first) * step */
    size_t count;
    size_t *numbers;  /* [rows]: the centers, then the rows of group after group, each ascending */
    size_t *starts;   /* [count + 1]: in numbers */
    size_t *ends;     /* [centers] */
    uint32_t *of_row; /* [rows]: the group of each row, or 0; see struct search */
    void *memory;
    _Atomic int status;
};

/* Returns how many of the centers are the first rows of the set, and the number of all centers. */
size_t first_centers(size_t centers);
size_t center_count(const struct search *search);

/* The pairs that the progress of a search with groups counts. */
size_t pairs_with_groups(size_t rows, size_t centers);

/* Finds the centers. Returns -1 when memory runs out. scratch_free() frees groups->memory. */
int groups_init(struct groups *groups, const struct search *search);

/* Scores the pairs of centers [from, to) with one another and with all rows after center to - 1. */
int score_centers(const struct groups *groups, size_t from, size_t to);

/* Cuts the other rows into groups and scores the pairs of each group. nearest[row * step] is the
 * best candidate of a row so far, usually a center. Returns -1 when memory runs out. */
int score_groups(struct groups *groups, const int64_t *nearest, size_t step);
