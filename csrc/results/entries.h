#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/*
 * A candidate of a query. Entries in ascending order of key are in descending order of score, with
 * NaN last. Entries of equal scores are in ascending order of `index`, which is twice the index of
 * the candidate, plus 1 for a score of -0.
 */
struct entry {
    uint64_t key, index;
};

/* True if `a` comes before `b`. Compares key and index as one 128-bit number, which takes no
 * branch. */
static inline bool entry_is_better(struct entry a, struct entry b)
{
    __extension__ typedef unsigned __int128 wide;
    return ((wide)a.key << 64 | a.index) < ((wide)b.key << 64 | b.index);
}

/*
 * Returns the key of a score. The bits of a number, read as a signed integer, ascend with the
 * number if all bits of negative numbers except the sign are inverted. Inverting the same bits of
 * all numbers then makes unsigned keys that ascend as the numbers descend. NaN has the largest key.
 */
static inline uint64_t key_of_double(double score)
{
    uint64_t bits;
    score += 0.0; /* -0 becomes +0 */
    memcpy(&bits, &score, sizeof bits);
    bits ^= (uint64_t)((int64_t)bits >> 63) >> 1;
    return score == score ? bits ^ (UINT64_MAX >> 1) : UINT64_MAX;
}

static inline uint64_t key_of_float(float score)
{
    uint32_t bits;
    score += 0.0f;
    memcpy(&bits, &score, sizeof bits);
    bits ^= (uint32_t)((int32_t)bits >> 31) >> 1;
    return score == score ? bits ^ (UINT32_MAX >> 1) : UINT32_MAX;
}

static inline double score_of_double_key(uint64_t key)
{
    double score;
    key ^= UINT64_MAX >> 1;
    key ^= (uint64_t)((int64_t)key >> 63) >> 1;
    memcpy(&score, &key, sizeof score);
    return score;
}

static inline float score_of_float_key(uint64_t key)
{
    float score;
    uint32_t bits = (uint32_t)key ^ (UINT32_MAX >> 1);
    bits ^= (uint32_t)((int32_t)bits >> 31) >> 1;
    memcpy(&score, &bits, sizeof score);
    return score;
}

/* Moves the k best of n entries, 1 <= k <= n, to the front, and the last of them to position k - 1.
 * Takes O(n) time on average, for any order of the entries. No two entries have the same index. */
void entries_select(struct entry *entries, size_t n, size_t k);
/* Sorts n entries, best first, in O(n). spare has room for n entries. */
void entries_sort(struct entry *entries, struct entry *spare, size_t n);
