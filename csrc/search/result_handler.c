/* Thresholds that all queries share. */
#include "search/result_handler.h"

#include "base/scratch.h"

/* The same limit for every query, of all workers: nobody changes it. */
void *constant_thresholds(enum compute_type compute, double limit)
{
    void *thresholds = scratch_alloc(ONE_THRESHOLD * compute_size(compute));
    for (size_t i = 0; thresholds != NULL && i < ONE_THRESHOLD; i++) {
        if (compute == COMPUTE_F64) {
            ((double *)thresholds)[i] = limit;
        } else {
            ((float *)thresholds)[i] = (float)limit;
        }
    }
    return thresholds;
}
