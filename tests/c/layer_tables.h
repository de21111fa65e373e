#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "kernels/kernels.h"

/* True if the processor supports table t and no supported table before it has the same layers. */
static inline bool has_own_layers(const struct kernels *const *tables, size_t t)
{
    bool own = kernels_supported(tables[t]);
    for (size_t other = 0; other < t; other++) {
        own &= !kernels_supported(tables[other]) || tables[other]->layers != tables[t]->layers;
    }
    return own;
}
