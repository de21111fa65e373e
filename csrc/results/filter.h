#ifndef COSSIM_RESULTS_FILTER_H
#define COSSIM_RESULTS_FILTER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * The pairs of a search that may be results. A bitmap has bit i, counted from the least significant
 * one, in word i / 64.
 *
 * Numbers are those of the whole search: a query is a row of i, a candidate a row of j. If i and j
 * are rows of one array and `both` is set, `rows` holds for both of them.
 */
struct filter {
    const uint64_t *rows;  /* (words): the candidates. NULL: all */
    const uint64_t *pairs; /* (queries, words): the candidates of each query. NULL: all */
    size_t words;
    /* (queries, excluded_count): for each query the candidates that are left out, ascending.
     * Negative numbers stand for none. */
    const int64_t *excluded;
    size_t excluded_count;
    bool both;
    /* The search has the operands in the other order: its corpus rows are the queries here, and its
     * queries the candidates. */
    bool swapped;
};

/* True if `excluded` or `pairs` depends on the query. */
static inline bool filter_has_pairs(const struct filter *f)
{
    return f->pairs != NULL || f->excluded_count > 0;
}

/* True if `pairs` and `excluded` let the pair of a query and a candidate pass. Does not read
 * `rows`. */
bool filter_allows(const struct filter *filter, size_t query, size_t candidate);

static inline bool bitmap_has(const uint64_t *bits, size_t number)
{
    return bits == NULL || (bits[number / 64] >> number % 64 & 1) != 0;
}

/* True if a pair may be a result. The filter may be NULL. */
static inline bool filter_passes(const struct filter *f, size_t query, size_t candidate)
{
    return f == NULL ||
           (bitmap_has(f->rows, candidate) && (!f->both || bitmap_has(f->rows, query)) &&
            filter_allows(f, query, candidate));
}

/* Returns how many of the bits [first, first + n) are set. */
size_t bitmap_count(const uint64_t *bits, size_t first, size_t n);
/*
 * Writes the numbers of these bits, less `first`, in ascending order, and returns how many: at most
 * `most`, because another thread may set bits meanwhile.
 */
size_t bitmap_numbers(const uint64_t *bits, size_t first, size_t n, size_t *numbers, size_t most);

/* Returns how many numbers from `at` on follow one another, at most `most`. numbers may be NULL:
 * row i is then number i. */
static inline size_t run_of_numbers(const size_t *numbers, size_t at, size_t most)
{
    size_t n = 1;
    if (numbers == NULL || numbers[at + most - 1] - numbers[at] == most - 1) {
        return most;
    }
    while (n < most && numbers[at + n] == numbers[at] + n) {
        n++;
    }
    return n;
}

#endif
