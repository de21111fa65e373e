#ifndef COSSIM_SEARCH_RESULT_HANDLER_H
#define COSSIM_SEARCH_RESULT_HANDLER_H

#include "kernels/kernels.h"
#include "pairwise/gemm.h"

/* Room for one limit of all queries: a kernel reads as many limits as a tile has rows or columns,
 * and padding. */
enum { ONE_THRESHOLD = GEMM_MAX_ROWS + SELECT_PADDING };

/* Takes what is found. One for each kind of result: in topk.c and pairs.c. */
struct result_handler {
    enum compute_type compute; /* of scores and limits */
    int workers;               /* that it has room for */

    /*
     * A score below its query's limit is of no use. Each worker has its own limits, which offer may
     * raise: that of a query is at (query & thresholds_mask), with room for SELECT_PADDING more
     * behind the last; the next worker's are `thresholds_step` elements on. The mask has all bits,
     * or none where all queries share one limit: then there are ONE_THRESHOLD equal elements.
     */
    void *thresholds;
    size_t thresholds_step, thresholds_mask;

    /* A score that reaches its limit or is NaN. Called from several threads; a worker is one thread
     * at a time. */
    void (*add_result)(struct result_handler *result_handler, size_t worker, size_t query,
                       size_t candidate, double score);
};

static inline double threshold_at(const struct result_handler *f, size_t worker, size_t query)
{
    const size_t at = worker * f->thresholds_step + (query & f->thresholds_mask);
    return f->compute == COMPUTE_F64 ? ((const double *)f->thresholds)[at]
                                     : (double)((const float *)f->thresholds)[at];
}

/* The same threshold for every query and worker, or NULL when there is no memory. */
void *constant_thresholds(enum compute_type compute, double limit);

#endif
