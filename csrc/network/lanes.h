#pragma once

#include "base/cancel.h"
#include "network/lanes_plan.h"

/* network_run with lanes across images, for layers for which lanes_apply holds. */
int lanes_run(enum compute_type compute, const struct layer *layers, size_t count, size_t images,
              struct shape shape, const void *input, void *output, struct cancel_token *token);
