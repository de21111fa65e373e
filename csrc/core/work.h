#ifndef COSSIM_CORE_WORK_H
#define COSSIM_CORE_WORK_H

#include <stddef.h>

/* The type a driver calculates in: operands are brought to it, exactly, when they are loaded. */
enum work { WORK_F32, WORK_F64 };

static inline size_t work_size(enum work work)
{
    return work == WORK_F64 ? sizeof(double) : sizeof(float);
}

#endif
