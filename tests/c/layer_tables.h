#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>

#include "base/pool.h"
#include "conv2d/convolutions.h"
#include "kernels/kernels.h"

static const char *isa; /* the instruction set that is checked */

/* True if the processor supports table t and no supported table before it has the same layers. */
static inline bool has_own_layers(const struct kernels *const *tables, size_t t)
{
    bool own = kernels_supported(tables[t]);
    for (size_t other = 0; other < t; other++) {
        own &= !kernels_supported(tables[other]) || tables[other]->layers != tables[t]->layers;
    }
    return own;
}

/* Selects each table with layers of its own in turn, and runs the check on one thread. */
static inline void check_each_table(void (*check)(const struct kernels *table))
{
    size_t count;
    const struct kernels *const *tables = kernels_all(&count);
    for (size_t t = 0; t < count; t++) {
        if (has_own_layers(tables, t)) {
            isa = tables[t]->name;
            kernels_select(isa);
            pool_set_threads(1);
            check(tables[t]);
        }
    }
}

/* Returns the number of outputs along an axis. */
static inline size_t outputs_of(size_t in, size_t before, size_t after, size_t kernel,
                                size_t stride, size_t dilation)
{
    const size_t span = (kernel - 1) * dilation + 1, padded = in + before + after;
    return padded < span ? 0 : (padded - span) / stride + 1;
}

/* True if a convolution of this shape fuses 2 x 2 pooling. */
static inline bool conv2d_pools(const struct conv2d *conv)
{
    struct conv2d pooled = *conv;
    struct conv2d_plan plan;
    void *weight = calloc(conv->out_channels * conv->in_channels,
                          conv->kernel.h * conv->kernel.w * sizeof(double));
    pooled.pool = true;
    pooled.weight = weight;
    const bool pools = conv2d_plan(&plan, &pooled) == 0 && plan.conv.pool;
    conv2d_plan_free(&plan);
    free(weight);
    return pools;
}
