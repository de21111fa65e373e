/* The filter of a search: bitmaps of candidates, and lists of excluded ones. */
#include "results/filter.h"

#include <string.h>

enum { WORD = 64 };

/* The number of bits that are set. Without a flag for POPCNT, compilers call a function for it. */
static inline size_t ones(uint64_t bits)
{
    bits -= bits >> 1 & UINT64_C(0x5555555555555555);
    bits = (bits & UINT64_C(0x3333333333333333)) + (bits >> 2 & UINT64_C(0x3333333333333333));
    bits = (bits + (bits >> 4)) & UINT64_C(0x0f0f0f0f0f0f0f0f);
    return (size_t)(bits * UINT64_C(0x0101010101010101) >> 56);
}

/* Bit i says whether byte i of eight bytes is not 0. */
static inline uint64_t bits_of_bytes(const unsigned char *bytes)
{
    const uint64_t low = UINT64_C(0x7f7f7f7f7f7f7f7f);
    uint64_t eight;
    memcpy(&eight, bytes, sizeof eight);
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    eight = __builtin_bswap64(eight);
#endif
    const uint64_t top = ((eight & low) + low) | eight; /* its bits 8 i + 7 */
    /* The product moves bit 8 i to bit 56 + i. No two of its terms share a bit. */
    return (top >> 7 & UINT64_C(0x0101010101010101)) * UINT64_C(0x0102040810204080) >> 56;
}

/* Bit i says whether byte i of 64 bytes is not 0. Most words of a sparse mask are 0. */
static inline uint64_t word_of_bytes(const unsigned char *bytes)
{
    uint64_t parts[WORD / 8], any = 0, word = 0;
    memcpy(parts, bytes, sizeof parts);
    for (size_t n = 0; n < WORD / 8; n++) {
        any |= parts[n];
    }
    for (size_t n = 0; n < WORD / 8 && any != 0; n++) {
        word |= bits_of_bytes(bytes + 8 * n) << 8 * n;
    }
    return word;
}

size_t bitmap_of_mask(const unsigned char *mask, size_t n, uint64_t *bits)
{
    size_t count = 0;
    for (size_t word = 0; word < n / WORD; word++) {
        bits[word] = word_of_bytes(mask + word * WORD);
        count += bits[word] == 0 ? 0 : ones(bits[word]);
    }
    if (n % WORD != 0) {
        unsigned char rest[WORD] = {0};
        memcpy(rest, mask + n / WORD * WORD, n % WORD);
        bits[n / WORD] = word_of_bytes(rest);
        count += ones(bits[n / WORD]);
    }
    return count;
}

size_t bitmap_of_numbers(const int64_t *numbers, size_t count, size_t n, uint64_t *bits)
{
    size_t set = 0;
    for (size_t i = 0; i < count; i++) {
        const uint64_t number = (uint64_t)numbers[i];
        if (number >= n) {
            return SIZE_MAX;
        }
        set += !bitmap_has(bits, (size_t)number);
        bits[number / WORD] |= UINT64_C(1) << number % WORD;
    }
    return set;
}

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
        count += bits[word] == 0 ? 0 : ones(word_within(bits, word, first, end));
    }
    return count;
}

size_t bitmap_numbers(const uint64_t *bits, size_t first, size_t n, size_t *numbers, size_t most)
{
    const size_t end = first + n;
    size_t count = 0;
    for (size_t word = first / WORD; word * WORD < end; word++) {
        if (bits[word] == 0) {
            continue;
        }
        const size_t base = word * WORD - first; /* may wrap below 0; the sums in the loop do not */
        for (uint64_t within = word_within(bits, word, first, end); within != 0 && count < most;
             within &= within - 1) {
            numbers[count++] = base + (size_t)__builtin_ctzll(within);
        }
    }
    return count;
}

/* Returns the position of a number in an ascending list, or SIZE_MAX if it is not there. */
static size_t position_of(const int64_t *list, size_t count, int64_t number)
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
            return from + half;
        }
    }
    return SIZE_MAX;
}

void byte_bitmap_with(const uint8_t *from, size_t first, size_t n, uint8_t *bits)
{
    const size_t kept = (first + 7) / 8, bytes = (n + WORD - 1) / WORD * (WORD / 8);
    memset(bits + kept, 0, bytes - kept);
    if (kept > 0) {
        memcpy(bits, from, kept);
    }
    for (; first < n && first % 8 != 0; first++) {
        bits[first / 8] |= (uint8_t)(1U << first % 8);
    }
    if (first < n) {
        memset(bits + first / 8, UINT8_MAX, (n - first) / 8);
        if (n % 8 != 0) {
            bits[n / 8] = (uint8_t)((1U << n % 8) - 1);
        }
    }
}

bool byte_bitmap_without(uint8_t *bits, size_t n, const int64_t *column, const int64_t *numbers,
                         size_t count)
{
    for (size_t i = 0; i < count; i++) {
        const size_t place =
            column == NULL ? (size_t)numbers[i] : position_of(column, n, numbers[i]);
        if (place >= n || (bits[place / 8] >> place % 8 & 1) == 0) {
            return false;
        }
        bits[place / 8] ^= (uint8_t)(1U << place % 8);
    }
    return true;
}

bool filter_allows(const struct filter *f, size_t query, size_t candidate)
{
    if (f->pairs != NULL && !bitmap_has(f->pairs + query * f->words, candidate)) {
        return false;
    }
    return f->excluded_count == 0 || position_of(f->excluded + query * f->excluded_count,
                                                 f->excluded_count, (int64_t)candidate) == SIZE_MAX;
}
