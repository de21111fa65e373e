#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "vectors/compute_type.h"
#include "kernels/kernels.h"

static inline bool dtype_is_float(enum dtype dtype)
{
    return dtype <= DTYPE_BF16;
}

/* float32 and 16-bit floats are loaded as float, float64 and integers as double. */
static inline enum compute_type dtype_compute_type(enum dtype dtype)
{
    return dtype == DTYPE_F64 || !dtype_is_float(dtype) ? COMPUTE_F64 : COMPUTE_F32;
}

/* The compute type of scores of two dtypes: float32 if both are floats of at most 32 bits. */
static inline enum compute_type dtypes_compute_type(enum dtype x, enum dtype y)
{
    return dtype_compute_type(x) == COMPUTE_F32 ? dtype_compute_type(y) : COMPUTE_F64;
}

static inline enum dtype compute_element(enum compute_type compute)
{
    static const unsigned char elements[PRODUCT_TYPES] = {
        [COMPUTE_F32] = DTYPE_F32,
        [COMPUTE_F64] = DTYPE_F64,
        [COMPUTE_I8] = DTYPE_I8,
        [COMPUTE_U8] = DTYPE_U8,
    };
    return (enum dtype)elements[compute];
}

size_t dtype_size(enum dtype dtype);

/* An input array: its start, and the format of its elements. */
struct operand {
    const char *data;
    enum dtype dtype;
    bool swapped; /* elements have the opposite of the processor's byte order */
    bool aligned; /* data and all strides keep the elements aligned */
    /* Bytes of DTYPE_U8 that hold eight elements each, +1 for bit 1 and -1 for bit 0. Only
     * pairwise/bits.c reads them. */
    bool packed_bits;
};

/* True if a kernel can read contiguous elements in place. */
static inline bool operand_in_place(const struct operand *operand)
{
    return operand->dtype < KERNEL_DTYPES && operand->aligned && !operand->swapped;
}

/*
 * Loads n elements, `stride` bytes apart, as contiguous elements of the compute type. Inexact in
 * two cases: 64-bit integers beyond 2^53, and loading a COMPUTE_F64 dtype other than an 8-bit
 * integer as COMPUTE_F32. Only 8-bit integers of the same type can be loaded as COMPUTE_I8 or
 * COMPUTE_U8.
 */
void operand_load(const struct operand *operand, const char *from, ptrdiff_t stride, size_t n,
                  enum compute_type compute, void *to);

/*
 * Rounds n values once to a float dtype and stores them `stride` bytes apart. dtype_store takes
 * doubles, dtype_store_computed elements of a compute type.
 */
void dtype_store(enum dtype dtype, char *to, ptrdiff_t stride, const double *values, size_t n);
void dtype_store_computed(enum dtype dtype, char *to, ptrdiff_t stride, enum compute_type compute,
                          const void *values, size_t n);
