/*
 * Maps a plan to its driver: reduce.c for rows and columns, pairwise.c for all pairs, and bits.c
 * for all pairs of packed bits. Calls without outputs or without elements to sum go to reduce.c.
 */
#include "pairwise/contract.h"

#include "pairwise/bits.h"
#include "pairwise/pairwise.h"

int contract(const struct reduction *call)
{
    const struct plan *plan = call->plan;
    if (call->x.packed_bits) {
        return bit_pairs(call);
    }
    if (plan->driver != PLAN_GEMM || plan->outputs == 0 || plan->depth == 0) {
        return reduce(call);
    }
    struct reduction swapped = *call;
    swapped.x = plan->swapped ? call->y : call->x;
    swapped.y = plan->swapped ? call->x : call->y;
    return pairwise_run(&swapped);
}
