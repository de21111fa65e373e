/* Checks the exponentials and NT-Xent kernels of every instruction set that this machine supports
 * against naive references. */
#include <math.h>
#include <string.h>

#include "guarded.h"
#include "kernels/kernels.h"

enum { MAX_ROWS = 64, MAX_WIDTH = 32, DEPTH = 37 };

struct kind {
    const char *name; /* name of the instruction set */
    bool f64;
    size_t width;
    const struct xent_kernels *kernels;
};

/* Returns the error in units in the last place of the expected value. A unit is at least the
 * smallest subnormal number. */
static double ulps(const struct kind *k, double got, long double expected)
{
    const int digits = k->f64 ? 53 : 24, least = k->f64 ? -1074 : -149;
    const long double magnitude = fabsl(expected);
    const int exponent = magnitude > 0 ? ilogbl(magnitude) - digits + 1 : least;
    return (double)fabsl((got - expected) / ldexpl(1.0L, exponent > least ? exponent : least));
}

static double buffer[MAX_ROWS * MAX_WIDTH], block[MAX_ROWS * MAX_WIDTH],
    out[MAX_ROWS * MAX_WIDTH + MAX_WIDTH];

/* Returns the kernel's exponential of x, computed in one lane while other lanes hold other numbers.
 */
static double exp_of(const struct kind *k, double x)
{
    double sums[MAX_WIDTH];
    for (size_t i = 0; i < k->width; i++) {
        sums[i] = i == 3 ? x : -1.0;
    }
    k->kernels->exponents(out, sums, k->width, 1.0, 0.0, true);
    CHECK(ulps(k, get(k->f64, out, 0), expl(-1.0L)) <= 2, "%s: neighbours of %g", k->name, x);
    return get(k->f64, out, 3);
}

static void check_exp(const struct kind *k)
{
    const double bound = long_double_is_longer() || !k->f64 ? 1.5 : 2.5;
    const double lowest = k->f64 ? -745.2 : -104.0, highest = k->f64 ? 709.7 : 88.7;
    double worst = 0;
    for (int i = 0; i <= 40000; i++) {
        double x = lowest + (highest - lowest) * i / 40000 + random_number() * 1e-3;
        x = i % 3 == 0 ? random_number() : x;
        x = k->f64 ? x : (double)(float)x;
        const long double expected = expl((long double)x);
        const double got = exp_of(k, x);
        if (expected < (k->f64 ? 0x1.fffffffffffffp1023L : 0x1.fffffep127L)) {
            const double error = ulps(k, got, expected);
            CHECK(error <= bound, "%s exp(%a): %a, %g units", k->name, x, got, error);
            worst = error > worst ? error : worst;
        }
    }
    CHECK(worst > 0.1, "%s: no exponential has an error", k->name);
    CHECK(exp_of(k, 0.0) == 1.0 && exp_of(k, -0.0) == 1.0, "%s exp(0)", k->name);
    CHECK(exp_of(k, -INFINITY) == 0.0 && exp_of(k, k->f64 ? -1e300 : -3e38) == 0.0 &&
              exp_of(k, k->f64 ? -746 : -104) == 0.0,
          "%s exp of much below 0", k->name);
    CHECK(exp_of(k, INFINITY) == INFINITY && exp_of(k, k->f64 ? 1e300 : 3e38) == INFINITY &&
              exp_of(k, k->f64 ? 709.8 : 88.73) == INFINITY,
          "%s exp of much above 0", k->name);
    CHECK(isnan(exp_of(k, NAN)), "%s exp of NaN", k->name);
}

static void check_exponents(const struct kind *k)
{
    const size_t n = 5 * k->width;
    for (size_t i = 0; i < n; i++) {
        buffer[i] = random_number();
    }
    put(k->f64, out, n, 7);
    k->kernels->exponents(out, buffer, n, 12.5, -3.0, false);
    for (size_t i = 0; i < n; i++) {
        CHECK(fabs(get(k->f64, out, i) - (buffer[i] * 12.5 - 3.0)) <= (k->f64 ? 4e-15 : 1e-6),
              "%s exponent %zu", k->name, i);
    }
    k->kernels->exponents(out, buffer, n, 12.5, -3.0, true);
    for (size_t i = 0; i < n; i++) {
        const double expected = exp(buffer[i] * 12.5 - 3.0);
        CHECK(fabs(get(k->f64, out, i) - expected) <= (k->f64 ? 2e-14 : 2e-6) * expected,
              "%s exponential %zu", k->name, i);
    }
    CHECK(get(k->f64, out, n) == 7, "%s exponents wrote past their end", k->name);
}

static void fill_block(const struct kind *k, size_t rows)
{
    for (size_t i = 0; i < rows * k->width; i++) {
        put(k->f64, block, i, random_number() * 3);
    }
}

static void check_sums(const struct kind *k, size_t rows)
{
    double sums[MAX_WIDTH], log_sums[MAX_WIDTH], maxima[MAX_WIDTH];
    fill_block(k, rows);
    for (size_t c = 0; c < k->width; c++) {
        sums[c] = (double)c;
        log_sums[c] = 2.0;
        put(k->f64, maxima, c, c % 2 == 0 ? -1.0 : 5.0);
        if (c % 3 == 0 && rows > 1) {
            put(k->f64, block, k->width + c, -INFINITY);
        }
    }
    k->kernels->log_sums(log_sums, maxima, block, rows);
    for (size_t c = 0; c < k->width; c++) {
        double maximum = c % 2 == 0 ? -1.0 : 5.0, expected = 0;
        const double before = 2.0 * exp(maximum);
        for (size_t j = 0; j < rows; j++) {
            maximum = fmax(maximum, get(k->f64, block, j * k->width + c));
        }
        for (size_t j = 0; j < rows; j++) {
            expected += exp(get(k->f64, block, j * k->width + c) - maximum);
        }
        expected += before * exp(-maximum);
        CHECK(get(k->f64, maxima, c) == maximum, "%s maximum of column %zu", k->name, c);
        CHECK(fabs(log_sums[c] - expected) <= (k->f64 ? 1e-14 : 1e-6) * expected,
              "%s %zu rows column %zu: %g, not %g", k->name, rows, c, log_sums[c], expected);
    }
    fill_block(k, rows);
    k->kernels->sums(sums, block, rows);
    for (size_t c = 0; c < k->width; c++) {
        double expected = (double)c;
        for (size_t j = 0; j < rows; j++) {
            expected += get(k->f64, block, j * k->width + c);
        }
        CHECK(fabs(sums[c] - expected) <= (k->f64 ? 1e-14 : 3e-7) * (double)(rows + c + 1),
              "%s %zu rows column %zu", k->name, rows, c);
    }
    put(k->f64, block, 2, NAN);
    put(k->f64, maxima, 2, -5);
    k->kernels->sums(sums, block, rows);
    k->kernels->log_sums(log_sums, maxima, block, rows);
    CHECK(isnan(sums[2]) && isnan(log_sums[2]) && !isnan(sums[1]) && !isnan(log_sums[1]),
          "%s NaN in a column of %zu", k->name, rows);
}

static void check_weights(const struct kind *k, size_t rows)
{
    double row[MAX_ROWS], column[MAX_WIDTH];
    fill_block(k, rows);
    for (size_t i = 0; i < MAX_ROWS; i++) {
        put(k->f64, row, i, random_number());
    }
    for (size_t c = 0; c < k->width; c++) {
        put(k->f64, column, c, random_number());
    }
    for (int logs = 0; logs < 2; logs++) {
        put(k->f64, out, rows * k->width, 7);
        (logs ? k->kernels->weigh_logs : k->kernels->weigh)(out, block, row, column, rows);
        for (size_t i = 0; i < rows * k->width; i++) {
            const double x = get(k->f64, block, i), r = get(k->f64, row, i / k->width),
                         c = get(k->f64, column, i % k->width);
            const double expected = logs ? exp(x + r) + exp(x + c) : x * (r + c),
                         scale = logs ? expected : fabs(x) * (fabs(r) + fabs(c));
            CHECK(fabs(get(k->f64, out, i) - expected) <= (k->f64 ? 4e-15 : 2e-6) * scale,
                  "%s weight %zu", k->name, i);
        }
        CHECK(get(k->f64, out, rows * k->width) == 7, "%s weights wrote past their end", k->name);
    }
}

static void check_rest(const struct kind *k)
{
    double factors[MAX_WIDTH], projected[MAX_WIDTH], panel[DEPTH * MAX_WIDTH];
    for (size_t n = 0; n < 40; n++) {
        fill_block(k, 4);
        put(k->f64, out, n, 7);
        k->kernels->scale(out, block, 0.3, n);
        for (size_t i = 0; i < n; i++) {
            CHECK(get(k->f64, out, i) == (k->f64 ? get(k->f64, block, i) * 0.3
                                                 : (double)(float)(get(k->f64, block, i) * 0.3)),
                  "%s scaled %zu", k->name, i);
        }
        CHECK(get(k->f64, out, n) == 7, "%s scaling wrote past its end", k->name);
    }
    for (size_t i = 0; i < DEPTH * k->width; i++) {
        buffer[i] = random_number();
        put(k->f64, panel, i, random_number());
    }
    for (size_t c = 0; c < k->width; c++) {
        factors[c] = random_number();
        projected[c] = (double)(c % 2);
    }
    k->kernels->project(out, buffer, panel, factors, projected, DEPTH);
    for (size_t c = 0; c < k->width; c++) {
        double along = 0;
        for (size_t d = 0; d < DEPTH; d++) {
            along += buffer[d * k->width + c] * get(k->f64, panel, d * k->width + c);
        }
        for (size_t d = 0; d < DEPTH; d++) {
            const double expected = (buffer[d * k->width + c] -
                                     projected[c] * along * get(k->f64, panel, d * k->width + c)) *
                                    factors[c];
            CHECK(fabs(get(k->f64, out, d * k->width + c) - expected) <= (k->f64 ? 2e-14 : 1e-6),
                  "%s projected %zu %zu", k->name, d, c);
        }
    }
}

int main(void)
{
    size_t count;
    const struct kernels *const *tables = kernels_all(&count);
    for (size_t t = 0; t < count; t++) {
        for (int f64 = 0; f64 < 2 && kernels_supported(tables[t]); f64++) {
            const struct tile_kernels *tiles = tables[t]->tiles;
            const struct kind k = {tables[t]->name, f64, tiles[f64].columns, &tiles[f64].xent};
            check_exp(&k);
            check_exponents(&k);
            check_rest(&k);
            for (size_t rows = 1; rows <= MAX_ROWS; rows++) {
                check_sums(&k, rows);
                check_weights(&k, rows);
            }
        }
    }
    return finish("xent_kernels");
}
