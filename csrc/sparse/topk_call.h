#pragma once

#include "results/entries.h"
#include "sparse/postings.h"

/* Finds the k best rows of a corpus for each query, best first. Equal scores are in ascending order
 * of index. */
struct sparse_topk {
    const struct sparse_rows *queries, *corpus;
    const struct filter *filter; /* NULL: all pairs may be results */
    bool self;                   /* both are the same rows: a row is not a result of itself */
    size_t k;
    void *values;     /* (queries, k) of the compute type; places that no row fills hold NaN */
    int64_t *indices; /* (queries, k); -1 in places that no row fills */
    struct cancel_token *token; /* its progress counts pairs of rows */
};

/* The best entries of a query so far, in no order. Once there are k, entries below `threshold`, the
 * score of the k-th, are not added. Each worker has its own. */
struct best_entries {
    struct entry *entries, *spare; /* (room) and (k) */
    size_t k, count, room;
    double threshold; /* NaN, which no score is below, if a score of NaN is among the k best */
};

/* Takes the arrays, with room for more than k entries. Call it in both passes of an arena. */
static inline struct best_entries best_entries_allocate(size_t k, size_t more, struct arena *arena)
{
    struct best_entries best = {.k = k, .room = size_sum_or_max(k, size_sum_or_max(k, more))};
    best.entries = arena_take(arena, best.room, sizeof *best.entries);
    best.spare = arena_take(arena, k, sizeof *best.spare);
    return best;
}

static inline void best_entries_reset(struct best_entries *best)
{
    best->count = 0;
    best->threshold = -INFINITY;
}

/* Keeps the k best entries. */
static inline void best_entries_select(struct best_entries *best)
{
    if (best->count >= best->k) {
        entries_select(best->entries, best->count, best->k);
        best->count = best->k;
        best->threshold = score_of_double_key(best->entries[best->k - 1].key);
    }
}

static inline void best_entries_add(struct best_entries *best, double score, size_t index)
{
    if (best->count == best->room) {
        best_entries_select(best);
    }
    best->entries[best->count++] =
        (struct entry){key_of_double(score), 2 * index + (score == 0.0 && signbit(score))};
}

/* Writes count <= k entries as the result of a query, best first. spare has room for them. */
static inline void entries_store(const struct sparse_topk *call, struct entry *entries,
                                 struct entry *spare, size_t count, size_t query)
{
    entries_sort(entries, spare, count);
    for (size_t n = 0; n < call->k; n++) {
        const bool is_filled = n < count;
        const struct entry entry = is_filled ? entries[n] : (struct entry){0, 0};
        const double score = is_filled ? score_of_double_key(entry.key) : NAN;
        compute_store(call->queries->compute, call->values, query * call->k + n,
                      entry.index & 1 ? -0.0 : score);
        call->indices[query * call->k + n] = is_filled ? (int64_t)(entry.index / 2) : -1;
    }
}

static inline void best_entries_store(const struct sparse_topk *call, struct best_entries *best,
                                      size_t query)
{
    best_entries_select(best);
    entries_store(call, best->entries, best->spare, best->count, query);
}

/* Returns the k-th largest of n numbers, 1 <= k <= n, and reorders them. None is NaN. */
static inline float kth_largest(float *numbers, size_t n, size_t k)
{
    size_t first = 0, end = n;
    while (end - first > 1) {
        const float a = numbers[first], b = numbers[first + (end - first) / 2],
                    c = numbers[end - 1], high = a > b ? a : b, low = a > b ? b : a,
                    pivot = c > high  ? high
                            : c < low ? low
                                      : c;
        size_t above = first, equal = 0;
        for (size_t i = first; i < end; i++) {
            const float number = numbers[i];
            numbers[i] = numbers[above];
            numbers[above] = number;
            above += number > pivot;
            equal += number == pivot;
        }
        if (k - 1 < above) {
            end = above;
        } else if (k - 1 < above + equal) {
            return pivot;
        } else {
            size_t below = above;
            for (size_t i = above; i < end; i++) {
                const float number = numbers[i];
                numbers[i] = numbers[below];
                numbers[below] = number;
                below += number == pivot;
            }
            first = below;
        }
    }
    return numbers[first];
}
