#pragma once

#include <math.h>
#include <stdbool.h>
#include <stdint.h>

/*
 * The order of results: descending score, NaN after all numbers, equal scores in ascending order of
 * index. Index -1, which means no result, comes last. Returns true if (score, index) comes before
 * (other, other_index).
 */
static inline bool is_better(double score, int64_t index, double other, int64_t other_index)
{
    if (score > other) {
        return true;
    }
    if (score < other) {
        return false;
    }
    if (score == other || (isnan(score) && isnan(other))) {
        return (uint64_t)index < (uint64_t)other_index;
    }
    return isnan(other);
}
