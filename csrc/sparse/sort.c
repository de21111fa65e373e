/* Sorting of numbers: by insertion, or a radix sort of the digits in which they differ. */
#include "sparse/sort.h"

#include <string.h>

enum {
    SORTED_BY_INSERTION = 32,
    DIGIT_BITS = 8, /* of one pass of the radix sort */
    DIGITS = 1 << DIGIT_BITS
};

static void insertion_sort(uint64_t *keys, size_t n)
{
    for (size_t i = 1; i < n; i++) {
        const uint64_t key = keys[i];
        size_t at = i;
        for (; at > 0 && keys[at - 1] > key; at--) {
            keys[at] = keys[at - 1];
        }
        keys[at] = key;
    }
}

/* Copies n numbers from `from` to `to`, sorted by one digit. */
static void sort_by_digit(const uint64_t *from, uint64_t *to, size_t n, int shift)
{
    size_t starts[DIGITS] = {0}, at = 0;
    for (size_t i = 0; i < n; i++) {
        starts[from[i] >> shift & (DIGITS - 1)]++;
    }
    for (size_t d = 0; d < DIGITS; d++) {
        const size_t count = starts[d];
        starts[d] = at;
        at += count;
    }
    for (size_t i = 0; i < n; i++) {
        to[starts[from[i] >> shift & (DIGITS - 1)]++] = from[i];
    }
}

void sort_numbers(uint64_t *keys, uint64_t *buffer, size_t n)
{
    if (n <= SORTED_BY_INSERTION) {
        insertion_sort(keys, n);
        return;
    }
    uint64_t differing = 0, *from = keys, *to = buffer;
    for (size_t i = 1; i < n; i++) {
        differing |= keys[i] ^ keys[0];
    }
    for (int shift = 0; shift < 64; shift += DIGIT_BITS) {
        if ((differing >> shift & (DIGITS - 1)) != 0) {
            sort_by_digit(from, to, n, shift);
            uint64_t *const sorted = to;
            to = from;
            from = sorted;
        }
    }
    if (from != keys) {
        memcpy(keys, from, n * sizeof *keys);
    }
}
