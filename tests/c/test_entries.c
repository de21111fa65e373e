/* Checks the selection and sorting of candidates against qsort. */
#include <math.h>
#include <stdlib.h>

#include "check.h"
#include "results/entries.h"

enum { MOST = 3000 };

static struct entry entries[MOST], spare[MOST], expected[MOST];

static int compare(const void *a, const void *b)
{
    const struct entry *x = a, *y = b;
    return entry_is_better(*x, *y) ? -1 : entry_is_better(*y, *x);
}

/* Fills n entries. Scores have `kinds` different values, or are NaN. Indices are ascending if
 * `rising` is set, else in random order. */
static void fill(size_t n, unsigned kinds, bool rising)
{
    for (size_t i = 0; i < n; i++) {
        const double score = (double)(rand() % (int)kinds) / kinds - 0.5;
        entries[i] =
            (struct entry){rand() % 50 == 0 ? key_of_double(NAN) : key_of_double(score), i};
    }
    for (size_t i = n; !rising && i-- > 1;) {
        const size_t other = (size_t)rand() % (i + 1);
        const uint64_t index = entries[i].index;
        entries[i].index = entries[other].index;
        entries[other].index = index;
    }
    memcpy(expected, entries, n * sizeof *entries);
    qsort(expected, n, sizeof *expected, compare);
}

int main(void)
{
    static const size_t sizes[] = {1, 2, 16, 17, 100, 1000, MOST};
    static const unsigned kinds[] = {1, 3, 1u << 30};
    const double scores[] = {1.0, 0.5, 0x1p-149, 0.0, -0x1p-149, -0.75, -1.0};
    for (size_t i = 0; i < 7; i++) {
        CHECK(score_of_double_key(key_of_double(scores[i])) == scores[i], "%s", "wrong order");
        CHECK(score_of_float_key(key_of_float((float)scores[i])) == (float)scores[i], "%s",
              "wrong order");
        CHECK(i == 0 || key_of_double(scores[i]) > key_of_double(scores[i - 1]), "%s",
              "wrong order");
        CHECK(i == 0 || key_of_float((float)scores[i]) > key_of_float((float)scores[i - 1]), "%s",
              "wrong order");
    }
    CHECK(key_of_double(-0.0) == key_of_double(0.0) && key_of_float(-0.0f) == key_of_float(0.0f),
          "%s", "wrong order");
    CHECK(key_of_float(NAN) > key_of_float(-1.0f) && key_of_double(-NAN) > key_of_double(-1.0),
          "%s", "wrong order");
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
        for (size_t kind = 0; kind < 6; kind++) {
            const size_t n = sizes[s], k = 1 + (size_t)rand() % n;
            fill(n, kinds[kind / 2], kind % 2 == 0);
            entries_select(entries, n, k);
            CHECK(memcmp(&entries[k - 1], &expected[k - 1], sizeof *entries) == 0, "%s",
                  "wrong order");
            entries_sort(entries, spare, k);
            CHECK(memcmp(entries, expected, k * sizeof *entries) == 0, "%s", "wrong order");
        }
    }
    return finish("entries");
}
