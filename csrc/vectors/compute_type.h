#ifndef COSSIM_VECTORS_COMPUTE_TYPE_H
#define COSSIM_VECTORS_COMPUTE_TYPE_H

#include <stddef.h>

#include "kernels/kernels.h"

static inline size_t compute_size(enum compute_type compute)
{
    return compute == COMPUTE_F64 ? sizeof(double) : sizeof(float);
}

/* Element i of an array of the compute type. */
static inline double compute_load(enum compute_type compute, const void *values, size_t i)
{
    return compute == COMPUTE_F64 ? ((const double *)values)[i]
                                  : (double)((const float *)values)[i];
}

/* Stores a value as element i of an array of the compute type. */
static inline void compute_store(enum compute_type compute, void *values, size_t i, double value)
{
    if (compute == COMPUTE_F64) {
        ((double *)values)[i] = value;
    } else {
        ((float *)values)[i] = (float)value;
    }
}

#endif
