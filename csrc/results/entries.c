/* Selects and sorts the candidates of a query. */
#include "results/entries.h"

enum { SORTED_BY_INSERTION = 16 };

static void insertion_sort(struct entry *entries, size_t n)
{
    for (size_t i = 1; i < n; i++) {
        const struct entry entry = entries[i];
        size_t at = i;
        for (; at > 0 && entry_is_better(entry, entries[at - 1]); at--) {
            entries[at] = entries[at - 1];
        }
        entries[at] = entry;
    }
}

/* Returns a pseudo-random position below n. Pivots at such positions keep quickselect fast for
 * every order that entries are likely to have. */
static size_t some_position(uint64_t *state, size_t n)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u; /* Knuth's MMIX generator */
    return (size_t)((*state >> 33) % n);
}

static void swap(struct entry *a, struct entry *b)
{
    const struct entry entry = *a;
    *a = *b;
    *b = entry;
}

/*
 * Chooses the median of three entries as the pivot. Moves the entries that come before the pivot to
 * the front and the pivot after them. Returns the pivot's position. The loop has no branch that
 * the processor could mispredict.
 */
static size_t partition(struct entry *entries, size_t n, uint64_t *state)
{
    struct entry *a = entries + some_position(state, n), *b = entries + some_position(state, n),
                 *c = entries + some_position(state, n);
    if (entry_is_better(*b, *a)) {
        swap(a, b);
    }
    if (entry_is_better(*c, *b)) {
        b = entry_is_better(*c, *a) ? a : c;
    }
    swap(b, entries + n - 1);
    const struct entry pivot = entries[n - 1];
    size_t at = 0;
    for (size_t i = 0; i < n - 1; i++) {
        const struct entry entry = entries[i];
        entries[i] = entries[at];
        entries[at] = entry;
        at += entry_is_better(entry, pivot);
    }
    swap(entries + at, entries + n - 1);
    return at;
}

/* Quickselect (Hoare's FIND). */
void entries_select(struct entry *entries, size_t n, size_t k)
{
    uint64_t state = n;
    size_t first = 0, end = n;
    while (end - first > SORTED_BY_INSERTION) {
        const size_t at = first + partition(entries + first, end - first, &state);
        if (at == k - 1) {
            return;
        }
        first = at < k ? at + 1 : first;
        end = at < k ? end : at;
    }
    insertion_sort(entries + first, end - first);
}

enum sort_word { BY_KEY, BY_INDEX };

static inline uint64_t word_of(struct entry entry, enum sort_word word)
{
    return word == BY_KEY ? entry.key : entry.index;
}

/*
 * Radix sort, from the lowest byte of the word to the highest. Entries of equal words keep their
 * order. Skips the bytes that are equal in all words.
 */
static inline void radix_sort(struct entry *entries, struct entry *spare, size_t n,
                              enum sort_word word)
{
    struct entry *from = entries, *to = spare;
    uint64_t varying = 0;
    for (size_t i = 1; i < n; i++) {
        varying |= word_of(entries[i], word) ^ word_of(entries[0], word);
    }
    for (unsigned shift = 0; shift < 64; shift += 8) {
        size_t ends[257] = {0};
        if ((varying >> shift & 255) == 0) {
            continue;
        }
        for (size_t i = 0; i < n; i++) {
            ends[(word_of(from[i], word) >> shift & 255) + 1]++;
        }
        for (size_t byte = 1; byte < 256; byte++) {
            ends[byte] += ends[byte - 1];
        }
        for (size_t i = 0; i < n; i++) {
            to[ends[word_of(from[i], word) >> shift & 255]++] = from[i];
        }
        struct entry *const sorted = to;
        to = from;
        from = sorted;
    }
    if (from != entries) {
        memcpy(entries, from, n * sizeof *entries);
    }
}

void entries_sort(struct entry *entries, struct entry *spare, size_t n)
{
    if (n <= SORTED_BY_INSERTION) {
        insertion_sort(entries, n);
        return;
    }
    radix_sort(entries, spare, n, BY_KEY);
    for (size_t first = 0, end; first < n; first = end) { /* runs of equal scores */
        for (end = first + 1; end < n && entries[end].key == entries[first].key; end++) {
        }
        if (end - first <= SORTED_BY_INSERTION) {
            insertion_sort(entries + first, end - first);
        } else {
            radix_sort(entries + first, spare, end - first, BY_INDEX);
        }
    }
}
