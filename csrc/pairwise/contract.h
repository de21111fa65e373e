#ifndef COSSIM_PAIRWISE_CONTRACT_H
#define COSSIM_PAIRWISE_CONTRACT_H

#include "vectors/reduce.h"

/* Runs a planned contraction by the driver that its plan names. 0, or -1 when there is no memory.
 */
int contract(const struct reduction *call);

#endif
