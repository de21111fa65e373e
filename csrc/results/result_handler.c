/* A threshold that all queries share. */
#include "results/result_handler.h"

#include "base/fp_mode.h"
#include "base/pool.h"
#include "base/scratch.h"

struct result_handler handler_of_threshold(enum compute_type compute, double threshold,
                                           add_result_function *add_result)
{
    void *thresholds = scratch_alloc(SHARED_THRESHOLDS * compute_size(compute));
    const fp_mode caller = fp_mode_enter(); /* compute_store rounds the threshold */
    for (size_t i = 0; thresholds != NULL && i < SHARED_THRESHOLDS; i++) {
        compute_store(compute, thresholds, i, threshold);
    }
    fp_mode_leave(caller);
    return (struct result_handler){.compute = compute,
                                   .workers = pool_get_threads(),
                                   .thresholds = thresholds,
                                   .add_result = add_result};
}
