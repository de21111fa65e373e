#ifndef COSSIM_PAIRWISE_PAIRWISE_H
#define COSSIM_PAIRWISE_PAIRWISE_H

#include "pairwise/pair_scores.h"

/* Scores every left row with every right row, as a matrix or block by block. 0, or -1 when there is
 * no memory. */
int pairwise_run(const struct reduction *call);

#endif
