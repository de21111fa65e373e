/* The filter of a search: bitmaps of candidates, and lists of excluded ones. */
#include "results/filter.h"

enum { WORD = 64 };

/* Returns word `word` of a bitmap, with the bits outside of [first, end) cleared. */
static uint64_t word_within(const uint64_t *bits, size_t word, size_t first, size_t end)
{
    uint64_t within = bits[word];
    if (word * WORD < first) {
        within &= UINT64_MAX << (first - word * WORD);
    }
    if (end - word * WORD < WORD) {
        within &= ~(UINT64_MAX << (end - word * WORD));
    }
    return within;
}

size_t bitmap_count(const uint64_t *bits, size_t first, size_t n)
{
    const size_t end = first + n;
    size_t count = 0;
    for (size_t word = first / WORD; word * WORD < end; word++) {
        count += (size_t)__builtin_popcountll(word_within(bits, word, first, end));
    }
    return count;
}

size_t bitmap_numbers(const uint64_t *bits, size_t first, size_t n, size_t *numbers, size_t most)
{
    const size_t end = first + n;
    size_t count = 0;
    for (size_t word = first / WORD; word * WORD < end; word++) {
        const size_t base = word * WORD - first; /* may wrap below 0; the sums in the loop do not */
        for (uint64_t within = word_within(bits, word, first, end); within != 0 && count < most;
             within &= within - 1) {
            numbers[count++] = base + (size_t)__builtin_ctzll(within);
        }
    }
    return count;
}

/* True if an ascending list contains a number. */
static bool is_listed(const int64_t *list, size_t count, int64_t number)
{
    size_t from = 0;
    while (count > 0) {
        const size_t half = count / 2;
        if (list[from + half] < number) {
            from += half + 1;
            count -= half + 1;
        } else if (list[from + half] > number) {
            count = half;
        } else {
            return true;
        }
    }
    return false;
}

bool filter_allows(const struct filter *f, size_t query, size_t candidate)
{
    if (f->pairs != NULL && !bitmap_has(f->pairs + query * f->words, candidate)) {
        return false;
    }
    return f->excluded_count == 0 || !is_listed(f->excluded + query * f->excluded_count,
                                                f->excluded_count, (int64_t)candidate);
}
