#pragma once

#include <stddef.h>

#include "kernels/kernels.h"

static inline size_t compute_size(enum compute_type compute)
{
    static const unsigned char sizes[PRODUCT_TYPES] = {sizeof(float), sizeof(double), 1, 1};
    return sizes[compute];
}

/* Returns element i of an array of the compute type. */
static inline double compute_load(enum compute_type compute, const void *values, size_t i)
{
    switch (compute) {
    case COMPUTE_F32:
        return ((const float *)values)[i];
    case COMPUTE_I8:
        return ((const int8_t *)values)[i];
    case COMPUTE_U8:
        return ((const uint8_t *)values)[i];
    default:
        return ((const double *)values)[i];
    }
}

/* Stores a value as element i of an array of the compute type, COMPUTE_F32 or COMPUTE_F64. */
static inline void compute_store(enum compute_type compute, void *values, size_t i, double value)
{
    if (compute == COMPUTE_F64) {
        ((double *)values)[i] = value;
    } else {
        ((float *)values)[i] = (float)value;
    }
}
