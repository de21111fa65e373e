#pragma once

#include "sparse/topk_call.h"

/* Returns 0, or -1 when memory runs out. */
int sparse_topk(const struct sparse_topk *call);
