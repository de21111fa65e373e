#ifndef COSSIM_VECTORS_COMPUTE_TYPE_H
#define COSSIM_VECTORS_COMPUTE_TYPE_H

#include <stddef.h>

/*
 * The type in which a driver computes. Operands are converted to it, exactly, when they are loaded.
 */
enum compute_type { COMPUTE_F32, COMPUTE_F64 };

static inline size_t compute_size(enum compute_type compute)
{
    return compute == COMPUTE_F64 ? sizeof(double) : sizeof(float);
}

#endif
