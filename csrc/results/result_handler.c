/* A threshold that all queries share. */
#include "results/result_handler.h"

#include "base/fp_mode.h"
#include "base/scratch.h"

void *constant_thresholds(enum compute_type compute, double threshold)
{
    void *thresholds = scratch_alloc(SHARED_THRESHOLDS * compute_size(compute));
    if (thresholds == NULL) {
        return NULL;
    }
    const fp_mode caller = fp_mode_enter(); /* compute_store rounds the threshold */
    for (size_t i = 0; i < SHARED_THRESHOLDS; i++) {
        compute_store(compute, thresholds, i, threshold);
    }
    fp_mode_leave(caller);
    return thresholds;
}
