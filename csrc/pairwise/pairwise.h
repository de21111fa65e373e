#pragma once

#include "pairwise/pair_scores.h"

/*
 * Scores every left row with every right row. Stores the scores in call->out, or passes them block
 * by block to call->receiver. Returns 0, or -1 when memory runs out.
 */
int pairwise_run(const struct reduction *call);
