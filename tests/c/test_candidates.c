/* Checks the selection and sorting of top-k's candidates against qsort, for scores that tie, NaN
 * and numbers in any order. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "results/candidates.h"
#include "results/ranking.h"

enum { MOST = 3000 };

static double wide[2 * MOST + SELECT_PADDING], values[MOST];
static float narrow[2 * MOST + SELECT_PADDING], narrow_values[MOST];
static int64_t numbers[2 * MOST + SELECT_PADDING], indices[MOST];
static struct expected {
    double score;
    int64_t number;
} expected[MOST];

static int compare(const void *a, const void *b)
{
    const struct expected *x = a, *y = b;
    return is_better(x->score, x->number, y->score, y->number)
               ? -1
               : is_better(y->score, y->number, x->score, x->number);
}

/* Fills n candidates. About one score in `nans` is NaN; the others have `kinds` different values.
 * Numbers are ascending if `rising` is set, else in random order; some are above 2^32. */
static void fill(size_t n, unsigned kinds, size_t nans, bool rising)
{
    for (size_t i = 0; i < n; i++) {
        const float score = (float)(rand() % (int)kinds) / (float)kinds - 0.5f;
        expected[i].score = (size_t)rand() % nans == 0 ? NAN : (double)score;
        expected[i].number = (int64_t)(i * i * 1000);
    }
    for (size_t i = n; !rising && i-- > 1;) {
        const size_t other = (size_t)rand() % (i + 1);
        const int64_t number = expected[i].number;
        expected[i].number = expected[other].number;
        expected[other].number = number;
    }
    for (size_t i = 0; i < n; i++) {
        narrow[i] = (float)(wide[i] = expected[i].score);
        numbers[i] = expected[i].number;
    }
    qsort(expected, n, sizeof *expected, compare);
}

static bool same(double a, double b)
{
    return a == b ? signbit(a) == signbit(b) : isnan(a) && isnan(b);
}

static void check(size_t n, size_t k, bool f64, bool has_last)
{
    const enum compute_type compute = f64 ? COMPUTE_F64 : COMPUTE_F32;
    struct candidates c = {.count = n, .scores = f64 ? (void *)wide : narrow, .numbers = numbers};
    if (has_last) { /* no candidate is below the last one of an earlier selection */
        c.has_last = true;
        c.last_score = isnan(expected[n - 1].score) ? NAN : expected[n - 1].score;
    }
    candidates_select(&c, compute, k);
    CHECK(c.count == k && c.has_last, "n = %zu, k = %zu: %zu", n, k, c.count);
    CHECK(same(c.last_score, expected[k - 1].score) && c.last_number == expected[k - 1].number,
          "n = %zu, k = %zu: last %g", n, k, c.last_score);
    candidates_store(&c, compute, f64 ? (void *)values : narrow_values, indices);
    for (size_t i = 0; i < k; i++) {
        CHECK(same(f64 ? values[i] : (double)narrow_values[i], expected[i].score), "place %zu", i);
        CHECK(indices[i] == expected[i].number, "n = %zu, k = %zu, place %zu", n, k, i);
    }
}

int main(void)
{
    static const size_t sizes[] = {1, 2, 16, 17, 100, 1000, MOST};
    static const unsigned kinds[] = {1, 3, 1u << 20};
    static const size_t nans[] = {2, 50, 1u << 20};
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
        for (size_t kind = 0; kind < 72; kind++) {
            const size_t n = sizes[s], k = kind % 3 == 0 ? n : 1 + (size_t)rand() % n;
            fill(n, kinds[kind % 3], nans[kind / 3 % 3], kind / 9 % 2 == 0);
            check(n, k, kind / 18 % 2 == 0, kind / 36 == 0);
        }
    }
    /* zeros of both signs tie, and keep their signs */
    for (size_t i = 0; i < 100; i++) {
        narrow[i] = (float)(expected[i].score = wide[i] = i % 3 == 0 ? -0.0 : 0.0);
        expected[i].number = numbers[i] = (int64_t)i;
    }
    check(100, 60, false, false);
    return finish("candidates");
}
