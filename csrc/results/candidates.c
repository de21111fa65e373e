/* Selects and sorts the candidates of a query, as arrays of scores and of numbers. */
#include <math.h>
#include <string.h>

#include "kernels/kernels.h"
#include "results/candidates.h"
#include "results/entries.h"

/* key_of and score_of convert scores to keys and back. A score is a number of the compute type. */

static uint64_t key_of(enum compute_type compute, double score)
{
    return compute == COMPUTE_F32 ? key_of_float((float)score) : key_of_double(score);
}

static double score_of(enum compute_type compute, uint64_t key)
{
    return compute == COMPUTE_F32 ? (double)score_of_float_key(key) : score_of_double_key(key);
}

/* ---- selection ---- */

static inline bool is_tie(double score, double last)
{
    return score == last || (isnan(score) && isnan(last));
}

/*
 * Keeps the candidates with scores above `last`, and the `ties` lowest numbers of those with the
 * score `last`. If `last` is NaN, every other score is above it. Sets last_number.
 */
static inline __attribute__((always_inline)) void
keep_lowest_ties(struct candidates *c, enum compute_type compute, double last, size_t ties)
{
    int64_t below = -1, reached = 0; /* the highest number to keep is in (below, reached] */
    for (size_t i = 0; i < c->count; i++) {
        reached = c->numbers[i] > reached ? c->numbers[i] : reached;
    }
    while (reached - below > 1) {
        const int64_t middle = below + (reached - below) / 2;
        size_t count = 0;
        for (size_t i = 0; i < c->count; i++) {
            count += is_tie(compute_load(compute, c->scores, i), last) && c->numbers[i] <= middle;
        }
        below = count < ties ? middle : below;
        reached = count < ties ? reached : middle;
    }
    size_t kept = 0;
    for (size_t i = 0; i < c->count; i++) {
        const double score = compute_load(compute, c->scores, i);
        const bool better = isnan(last) ? !isnan(score) : score > last;
        compute_store(compute, c->scores, kept, score);
        c->numbers[kept] = c->numbers[i];
        kept += better || (is_tie(score, last) && c->numbers[i] <= reached);
    }
    c->count = kept;
    c->last_number = reached;
}

/* Finds the worst of the candidates, none of which is NaN. */
static inline __attribute__((always_inline)) void find_last(struct candidates *c,
                                                            enum compute_type compute)
{
    c->last_score = compute_load(compute, c->scores, 0);
    c->last_number = c->numbers[0];
    for (size_t i = 1; i < c->count; i++) {
        const double score = compute_load(compute, c->scores, i);
        if (score < c->last_score || (score == c->last_score && c->numbers[i] > c->last_number)) {
            c->last_score = score;
            c->last_number = c->numbers[i];
        }
    }
}

/*
 * Bisection by counts of the scores that reach a limit. A pass over the scores takes a fraction of
 * a cycle for each. The passes end when k scores reach the limit, usually after about 15.
 */
static inline __attribute__((always_inline)) void
select_numbers(struct candidates *c, enum compute_type compute, size_t k)
{
    const struct tile_kernels *kernels = &kernels_current()->tiles[compute];
    /* Keys fall as scores rise. At least k scores reach the score of `low`, and fewer than k reach
     * that of `high`. */
    uint64_t low = key_of(compute, c->has_last && !isnan(c->last_score) ? c->last_score : -1.0),
             high = key_of(compute, 1.0) - 1;
    size_t at_low = c->count, at_high = 0;
    while (at_low > k && low - high > 1) {
        const uint64_t middle = low - (low - high) / 2;
        const size_t count =
            kernels->count_at_least(c->scores, c->count, score_of(compute, middle));
        if (count < k) {
            high = middle;
            at_high = count;
        } else {
            low = middle;
            at_low = count;
        }
    }
    const double least = score_of(compute, low);
    c->count =
        kernels->keep_at_least(c->scores, c->numbers, c->scores, c->numbers, c->count, least);
    if (c->count > k) {
        c->last_score = least;
        keep_lowest_ties(c, compute, least, k - at_high);
    } else {
        find_last(c, compute);
    }
}

static inline __attribute__((always_inline)) void select_typed(struct candidates *c,
                                                               enum compute_type compute, size_t k)
{
    const size_t nans =
        kernels_current()->tiles[compute].count_at_least(c->scores, c->count, INFINITY);
    if (c->count - nans < k) {
        c->last_score = NAN;
        keep_lowest_ties(c, compute, NAN, k - (c->count - nans));
    } else {
        size_t kept = 0;
        for (size_t i = 0; nans > 0 && i < c->count; i++) {
            const double score = compute_load(compute, c->scores, i);
            compute_store(compute, c->scores, kept, score);
            c->numbers[kept] = c->numbers[i];
            kept += !isnan(score);
        }
        c->count -= nans;
        select_numbers(c, compute, k);
    }
    c->has_last = true;
}

void candidates_select(struct candidates *c, enum compute_type compute, size_t k)
{
    if (compute == COMPUTE_F64) {
        select_typed(c, COMPUTE_F64, k);
    } else {
        select_typed(c, COMPUTE_F32, k);
    }
}

/* ---- sorting ---- */

/* The digits of the sort, from the least to the most significant. */
enum digit { NUMBER_LOW, NUMBER_HIGH, KEY_LOW, KEY_HIGH, DIGITS };

static inline uint32_t digit_of(const struct candidates *c, enum compute_type compute,
                                enum digit digit, uint32_t position)
{
    if (digit == NUMBER_LOW || digit == NUMBER_HIGH) {
        return (uint32_t)((uint64_t)c->numbers[position] >> (digit == NUMBER_LOW ? 0 : 32));
    }
    if (compute == COMPUTE_F64) {
        const uint64_t key = key_of_double(((const double *)c->scores)[position]);
        return (uint32_t)(key >> (digit == KEY_LOW ? 0 : 32));
    }
    return (uint32_t)key_of_float(((const float *)c->scores)[position]);
}

/* Returns the number of bits of n. */
static unsigned bits_of(uint64_t n)
{
    return n == 0 ? 0 : 64 - (unsigned)__builtin_clzll(n);
}

/*
 * Radix sort: sorts n words by their upper halves; words with equal upper halves keep their order.
 * The smallest upper half is subtracted first, so fewer digits have to be sorted. The words move
 * between both arrays. Returns the array that holds the sorted words.
 */
static uint64_t *sort_words(uint64_t *from, uint64_t *to, size_t n)
{
    enum { MAX_BITS = 9, VALUES = 1 << MAX_BITS, PASSES = 4 };
    uint32_t counts[PASSES][VALUES];
    uint64_t least = UINT64_MAX, most = 0;
    for (size_t i = 0; i < n; i++) {
        least = from[i] < least ? from[i] : least;
        most = from[i] > most ? from[i] : most;
    }
    least &= ~(uint64_t)UINT32_MAX;
    const unsigned bits = bits_of((most - least) >> 32), passes = (bits + MAX_BITS - 1) / MAX_BITS,
                   width = passes == 0 ? 0 : (bits + passes - 1) / passes;
    const uint64_t mask = ((uint64_t)1 << width) - 1;
    memset(counts, 0, passes * sizeof *counts);
    for (size_t i = 0; i < n; i++) {
        uint64_t word = (from[i] - least) >> 32;
        for (unsigned pass = 0; pass < passes; pass++, word >>= width) {
            counts[pass][word & mask]++;
        }
    }
    for (unsigned pass = 0; pass < passes; pass++) {
        const unsigned shift = 32 + pass * width;
        uint32_t next = 0;
        for (size_t value = 0; value <= mask; value++) {
            const uint32_t count = counts[pass][value];
            counts[pass][value] = next;
            next += count;
        }
        for (size_t i = 0; i < n; i++) {
            to[counts[pass][(from[i] - least) >> shift & mask]++] = from[i];
        }
        uint64_t *const sorted = to;
        to = from;
        from = sorted;
    }
    return from;
}

/*
 * Completes the sort of words of doubles, which are sorted by the upper halves of their keys: sorts
 * words with the same upper half by their whole keys. Returns false if that takes too long, because
 * many keys have the same upper half.
 */
static bool sort_lower_halves(const struct candidates *c, uint64_t *words, size_t n)
{
    enum { MOVES_PER_WORD = 4 };
    const double *scores = c->scores;
    size_t moves = 0;
    for (size_t i = 1; i < n; i++) {
        const uint64_t word = words[i];
        size_t at = i;
        if (word >> 32 != words[i - 1] >> 32) {
            continue;
        }
        const uint64_t key = key_of_double(scores[(uint32_t)word]);
        while (at > 0 && words[at - 1] >> 32 == word >> 32 &&
               key_of_double(scores[(uint32_t)words[at - 1]]) > key) {
            words[at] = words[at - 1];
            at--;
            moves++;
        }
        words[at] = word;
        if (moves > MOVES_PER_WORD * n) {
            return false;
        }
    }
    return true;
}

/* Sorts words, whose lower halves are the positions 0 to n - 1, by the digits from `first` on. If
 * without_low is set, leaves out KEY_LOW. The words move between both arrays; returns the array
 * that holds the sorted words. */
static inline __attribute__((always_inline)) uint64_t *
sort_digits(const struct candidates *c, enum compute_type compute, uint64_t *words, uint64_t *other,
            enum digit first, bool without_low)
{
    for (size_t i = 0; i < c->count; i++) {
        words[i] = i;
    }
    for (enum digit digit = first; digit < DIGITS; digit++) {
        if ((digit == KEY_HIGH && compute == COMPUTE_F32) || (digit == KEY_LOW && without_low)) {
            continue;
        }
        for (size_t i = 0; i < c->count; i++) {
            const uint32_t position = (uint32_t)words[i];
            words[i] = (uint64_t)digit_of(c, compute, digit, position) << 32 | position;
        }
        uint64_t *const sorted = sort_words(words, other, c->count);
        other = sorted == words ? other : words;
        words = sorted;
    }
    return words;
}

static inline __attribute__((always_inline)) void
store_typed(struct candidates *c, enum compute_type compute, void *values, int64_t *indices)
{
    const size_t n = c->count;
    uint64_t *const spare = (uint64_t *)c->numbers + n, *const result = (uint64_t *)indices;
    bool ascending = true;
    for (size_t i = 1; i < n; i++) {
        ascending &= c->numbers[i] > c->numbers[i - 1];
    }
    if (n == 0) {
        return;
    }
    const enum digit first = ascending ? KEY_LOW : NUMBER_LOW;
    const bool wide = compute == COMPUTE_F64;
    uint64_t *words = sort_digits(c, compute, spare, result, first, wide);
    if (wide && !sort_lower_halves(c, words, n)) {
        words = sort_digits(c, compute, spare, result, first, false);
    }
    for (size_t i = 0; i < n; i++) {
        const uint32_t position = (uint32_t)words[i];
        compute_store(compute, values, i, compute_load(compute, c->scores, position));
        indices[i] = c->numbers[position];
    }
}

void candidates_store(struct candidates *c, enum compute_type compute, void *values,
                      int64_t *indices)
{
    if (compute == COMPUTE_F64) {
        store_typed(c, COMPUTE_F64, values, indices);
    } else {
        store_typed(c, COMPUTE_F32, values, indices);
    }
}
