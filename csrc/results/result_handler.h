#pragma once

#include "kernels/kernels.h"
#include "pairwise/gemm.h"

/*
 * If all queries share one threshold, the array of thresholds has this length. Kernels read one
 * element for each row or column of a tile, and SELECT_PADDING more.
 */
enum { SHARED_THRESHOLDS = GEMM_MAX_ROWS + SELECT_PADDING };

/*
 * The scores of candidates [candidate, candidate + rows) and queries [query, query + columns). The
 * score of (r, c) is element r * step + c. At most GEMM_MAX_ROWS rows and GEMM_MAX_COLUMNS columns.
 */
struct score_tile {
    size_t candidate, rows, query, columns;
    const void *scores;
    size_t step;
    bool without_self; /* leaves out pairs of equal numbers */
    /* Row r is candidate first_candidate + numbers[r], or `candidate` + r if numbers is NULL. */
    const size_t *numbers;
    size_t first_candidate;
};

struct result_handler;
typedef void add_result_function(struct result_handler *handler, size_t worker, size_t query,
                                 size_t candidate, double score);

/*
 * Receives the results of a search. Each kind of result has its own handler: topk.c, range.c,
 * top_pairs.c, components.c and first_match.c.
 */
struct result_handler {
    enum compute_type compute; /* of scores and thresholds */
    int workers;               /* worker numbers are 0 to workers - 1 */

    /*
     * Each worker has one threshold for each query. Scores below it are dropped. add_result may
     * raise the thresholds of its worker.
     *
     * Element w * thresholds_step + (q & thresholds_mask) is the threshold of worker w for query q.
     * SELECT_PADDING elements follow the last threshold.
     *
     * If each query has its own threshold, all bits of the mask are set. If all queries share one
     * threshold, mask and step are 0, and the array holds SHARED_THRESHOLDS copies of it.
     */
    void *thresholds;
    size_t thresholds_step, thresholds_mask;

    /*
     * Takes a score that reaches its threshold or is NaN. Several threads call it, each with its
     * own worker number.
     */
    add_result_function *add_result;

    /*
     * May be NULL. Writes the thresholds of a worker and `count` queries from `query` on, for
     * candidates from `candidate` on. Where an equal score of a later candidate is not a result,
     * writes the next larger number.
     */
    void (*thresholds_from)(const struct result_handler *handler, size_t worker, size_t query,
                            size_t count, size_t candidate, void *to);

    /*
     * May be NULL. Takes the tiles that a GEMM scores, with all their scores, in place of
     * add_result. Each pair of the search is then in exactly one tile (search->ordered_pairs).
     */
    void (*add_tile)(struct result_handler *handler, size_t worker, const struct score_tile *tile);

    /*
     * May be NULL. Takes bounds of a score in place of the score: low <= score <= high. Rows i and
     * j are both queries. Returns false if the pair must be scored now. Else the handler has it
     * scored later if it can be a result.
     */
    bool (*add_bounds)(struct result_handler *handler, size_t worker, size_t i, size_t j, float low,
                       float high);
    /* Prefetches what add_bounds reads of a query. */
    void (*prefetch_bounds)(const struct result_handler *handler, size_t query);
};

/* Returns the thresholds of a worker: element q & thresholds_mask is that of query q. */
static inline const char *worker_thresholds(const struct result_handler *handler, size_t worker)
{
    return (const char *)handler->thresholds +
           worker * handler->thresholds_step * compute_size(handler->compute);
}

static inline double threshold_at(const struct result_handler *handler, size_t worker, size_t query)
{
    return compute_load(handler->compute, worker_thresholds(handler, worker),
                        query & handler->thresholds_mask);
}

/*
 * Makes a handler with one threshold, which all queries and workers share. Its `thresholds` are
 * NULL when memory runs out.
 */
struct result_handler handler_of_threshold(enum compute_type compute, double threshold,
                                           add_result_function *add_result);
