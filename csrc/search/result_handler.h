#ifndef COSSIM_SEARCH_RESULT_HANDLER_H
#define COSSIM_SEARCH_RESULT_HANDLER_H

#include "kernels/kernels.h"
#include "pairwise/gemm.h"

/*
 * Elements of a threshold that all queries share. A kernel reads one threshold for each row or
 * column of a tile, plus padding.
 */
enum { SHARED_THRESHOLDS = GEMM_MAX_ROWS + SELECT_PADDING };

/*
 * Receives the results of a search. Each kind of result has its own handler: topk.c, range.c and
 * components.c.
 */
struct result_handler {
    enum compute_type compute; /* of scores and thresholds */
    int workers;               /* worker numbers are below this */

    /*
     * Scores below their query's threshold are dropped. Each worker has its own thresholds, which
     * add_result may raise.
     *
     * Worker w's threshold of query q is element w * thresholds_step + (q & thresholds_mask).
     * SELECT_PADDING more elements follow the last one. The mask has all bits set, or none where
     * all queries share one threshold: the array then holds SHARED_THRESHOLDS equal elements.
     */
    void *thresholds;
    size_t thresholds_step, thresholds_mask;

    /*
     * Takes a score that reaches its threshold or is NaN. Several threads call it, each with its
     * own worker number.
     */
    void (*add_result)(struct result_handler *handler, size_t worker, size_t query,
                       size_t candidate, double score);
};

static inline double threshold_at(const struct result_handler *handler, size_t worker, size_t query)
{
    const size_t at = worker * handler->thresholds_step + (query & handler->thresholds_mask);
    return handler->compute == COMPUTE_F64 ? ((const double *)handler->thresholds)[at]
                                           : (double)((const float *)handler->thresholds)[at];
}

/* Allocates one threshold for every query and worker. Returns NULL when memory runs out. */
void *constant_thresholds(enum compute_type compute, double threshold);

#endif
