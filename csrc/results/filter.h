#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * The pairs of a search that may be results. Bit i of a bitmap is bit i % 64 of word i / 64,
 * counted from the least significant one.
 *
 * Queries and candidates have their numbers in the whole search. In a pair (i, j), i is the query
 * and j the candidate. If both are rows of the same array and `both` is set, `rows` restricts i and
 * j.
 */
struct filter {
    const uint64_t *rows;  /* (words): the candidates. NULL: all */
    const uint64_t *pairs; /* (queries, words): the candidates of each query. NULL: all */
    size_t words;
    /* (queries, excluded_count): the candidates that are left out for each query, in ascending
     * order. Negative numbers fill unused places. */
    const int64_t *excluded;
    size_t excluded_count;
    bool both;
    /* The operands of the search are swapped: its corpus rows are the queries of this filter, and
     * its queries are the candidates. */
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

/*
 * Packs a mask of n bytes, where 0 stands for false, to a bitmap of (n + 63) / 64 words. The bits
 * from n on are 0. Returns how many bits are set.
 */
size_t bitmap_of_mask(const unsigned char *mask, size_t n, uint64_t *bits);
/*
 * Sets bits of a bitmap of n bits by their numbers, which may repeat. Returns how many were not set
 * before, or SIZE_MAX if a number is not in [0, n).
 */
size_t bitmap_of_numbers(const int64_t *numbers, size_t count, size_t n, uint64_t *bits);

/*
 * Bitmaps as bytes: bit i is bit i % 8 of byte i / 8. They have (n + 63) / 64 * 8 bytes for n bits.
 *
 * byte_bitmap_with copies a bitmap and sets the bits [first, n), which it does not have yet; from
 * may be NULL if first is 0. byte_bitmap_without clears the bits of `numbers` in a bitmap of n
 * bits. Number i has bit i or, if column (n numbers, ascending) is not NULL, bit j with column[j] =
 * i. Returns false if a number has no bit or its bit is not set.
 */
void byte_bitmap_with(const uint8_t *from, size_t first, size_t n, uint8_t *bits);
bool byte_bitmap_without(uint8_t *bits, size_t n, const int64_t *column, const int64_t *numbers,
                         size_t count);

/* Returns how many of the bits [first, first + n) are set. */
size_t bitmap_count(const uint64_t *bits, size_t first, size_t n);
/* Writes the positions of these bits, minus `first`, in ascending order. Returns how many it wrote:
 * at most `most`, because another thread may set bits at the same time. */
size_t bitmap_numbers(const uint64_t *bits, size_t first, size_t n, size_t *numbers, size_t most);

/* Returns the length of the run of consecutive numbers that begins at numbers[at], at most `most`.
 * numbers may be NULL: numbers[i] is then i. */
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
