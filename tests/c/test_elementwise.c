/* Checks activations, batch normalization, average pooling, division and the position of a maximum
 * (csrc/nn, layer_kernels/elementwise_template.h) against naive references in long double, for
 * every instruction set that this machine supports. All arrays are guarded blocks. */
#include <math.h>
#include <string.h>

#include "check.h"
#include "guarded.h"
#include "layer_tables.h"
#include "kernels/kernels.h"
#include "nn/activations.h"
#include "nn/avg_pool2d.h"
#include "nn/batch_norm.h"

#ifdef EMULATED /* the references are slow */
enum { MANY = 1500 };
#else
enum { MANY = 9000 };
#endif

/* One unit in the last place of x, at least the smallest subnormal number. */
static long double unit_of(int f64, long double x)
{
    const int digits = f64 ? 53 : 24, least = f64 ? -1074 : -149;
    const int exponent = x == 0 ? least : ilogbl(x) - digits + 1;
    return ldexpl(1.0L, exponent > least ? exponent : least);
}

static long double phi(long double x)
{
    return erfcl(-x * 0.70710678118654752440084436210484903928L) / 2;
}

static long double density(long double x)
{
    return expl(-x * x / 2) * 0.39894228040143267793994605993438186848L;
}

/* The exponent -2 u of the tanh form, and the slope 2 u'. Their constants are exact decimals. */
static long double exponent_of(long double x)
{
    return -2 * 0.79788456080286535587989211986876373695L * (x + 0.044715L * x * x * x);
}

static long double slope_of(long double x)
{
    return 2 * 0.79788456080286535587989211986876373695L * (1 + 3 * 0.044715L * x * x);
}

/* Returns the function or its derivative. *scale is the size of its larger term. */
static long double exact(enum activation kind, bool derivative, long double x, double slope,
                         long double *scale)
{
    if (kind == LEAKY_RELU) {
        *scale = 0;
        return (derivative ? 1 : x) * (x > 0 ? 1 : (long double)slope);
    }
    const long double e = kind == GELU ? 0 : expl(exponent_of(x)), s = 1 / (1 + e),
                      first = kind == GELU ? phi(x) : s,
                      second = kind == GELU ? x * density(x)
                               : s == 0     ? 0
                                            : x * slope_of(x) * s * (e * s);
    *scale = !derivative ? fabsl(x * first) : fmaxl(fabsl(first), fabsl(second));
    return derivative ? first + second : x * first;
}

/* Upper bound of the error of the reference, in units. Where long double has no more digits than
 * double, erfcl and expl multiply the rounding of their arguments. */
static double reference_error(int f64, enum activation kind, double x)
{
    return !f64 || long_double_is_longer() ? 0.02
           : kind == GELU                  ? 8 + 2 * x * x
                                           : 8 + 2 * fabs((double)exponent_of(x));
}

/* The bounds that elementwise_template.h states, in units, and the error of the reference. */
static double bound_of(int f64, enum activation kind, double x)
{
    return kind == LEAKY_RELU ? 0.5
           : kind == GELU     ? (f64 ? 10 : 6) + reference_error(f64, kind, x)
           : !f64             ? 0.54
                  : 6 + 4 * fabs((double)exponent_of(x)) + reference_error(f64, kind, x);
}

static double worst[2][ACTIVATIONS][2];

/* Results so small that they, or the reciprocal of e^(-2 u), have fewer digits have no bound. Where
 * long double is no longer than double, the reference has none for larger results already. */
static double least_bounded(int f64)
{
    return !f64 ? 0x1p-122 : long_double_is_longer() ? 0x1p-1018 : 0x1p-960;
}

static bool has_bound(int f64, enum activation kind, double x, long double result)
{
    return fabsl(result) >= least_bounded(f64) && (kind != GELU_TANH || exponent_of(x) < 709);
}

static void check_activation(int f64, enum activation kind, bool derivative, size_t n, double reach)
{
    const size_t size = size_of(f64);
    struct activation_call call = {.compute = f64 ? COMPUTE_F64 : COMPUTE_F32,
                                   .activation = kind,
                                   .slope = f64 ? 0.01 : (double)0.01f,
                                   .n = n};
    void *input = guarded_alloc(n * size), *output = guarded_alloc(n * size);
    void *gradient = derivative ? guarded_alloc(n * size) : NULL;
    for (size_t i = 0; i < n; i++) {
        put(f64, input, i, reach * random_number());
        if (derivative) {
            put(f64, gradient, i, ldexp(1.0, (int)below(9) - 4)); /* products are exact */
        }
    }
    call.input = input;
    call.gradient = gradient;
    call.output = output;
    activation(&call);
    for (size_t i = 0; i < n; i++) {
        const double x = get(f64, input, i), dy = derivative ? get(f64, gradient, i) : 1;
        long double scale, expected = dy * exact(kind, derivative, x, call.slope, &scale);
        scale = fmaxl(fabsl(expected), dy * scale);
        const double error = (double)(fabsl(get(f64, output, i) - expected) / unit_of(f64, scale));
        const double small = least_bounded(f64) * (f64 ? 0x1p10 : 0x1p6);
        const bool bounded = has_bound(f64, kind, x, scale),
                   tiny = fabsl(expected) < small && fabs(get(f64, output, i)) < small;
        CHECK(bounded                                         ? error <= bound_of(f64, kind, x)
              : kind == GELU_TANH || !long_double_is_longer() ? tiny
                                                              : error <= 20,
              "%s activation %d f%d %s of %a: %a, not %La: %g units", isa, kind, f64 ? 64 : 32,
              derivative ? "derivative" : "value", x, get(f64, output, i), expected, error);
        if (bounded && error > worst[f64][kind][derivative]) {
            worst[f64][kind][derivative] = error;
        }
    }
    if (n > 0) { /* an element alone has the same bits */
        const size_t i = below(n);
        char one[sizeof(double)];
        call.input = (const char *)input + i * size;
        call.gradient = derivative ? (const char *)gradient + i * size : NULL;
        call.output = one;
        call.n = 1;
        activation(&call);
        CHECK(memcmp(one, (const char *)output + i * size, size) == 0,
              "%s activation %d: element %zu alone", isa, kind, i);
    }
    guarded_release("activation");
}

static void check_special_values(int f64)
{
    const size_t size = size_of(f64), n = 8;
    const double values[] = {NAN, INFINITY, -INFINITY, 0, 1e-40, -1e-40, 3e38, -3e38};
    void *input = guarded_alloc(n * size), *output = guarded_alloc(n * size);
    for (size_t i = 0; i < n; i++) {
        put(f64, input, i, values[i]);
    }
    for (int a = GELU; a <= GELU_TANH; a++) {
        struct activation_call call = {.compute = f64 ? COMPUTE_F64 : COMPUTE_F32,
                                       .activation = (enum activation)a,
                                       .n = n,
                                       .input = input,
                                       .output = output};
        activation(&call);
        const double expected[] = {NAN, INFINITY, NAN, 0, 5e-41, -5e-41, 3e38, 0};
        for (size_t i = 0; i < n; i++) {
            CHECK(fits(f64, get(f64, output, i), (f64 ? expected[i] : (double)(float)expected[i]),
                       2, fabs(expected[i]) + (f64 ? 0 : 1e-37)),
                  "%s activation %d of %g: %g", isa, a, values[i], get(f64, output, i));
        }
    }
    guarded_release("special values");
}

/* ---- batch normalization ---- */

static void check_channels(int f64, size_t images, size_t channels, size_t pixels, bool with_y)
{
    const size_t n = images * channels * pixels;
    double centre[8], factors[8][3], sums[8][2];
    struct channels call = {.compute = f64 ? COMPUTE_F64 : COMPUTE_F32,
                            .images = images,
                            .channels = channels,
                            .pixels = pixels,
                            .x = numbers(f64, n, 0),
                            .y = with_y ? numbers(f64, n, 0) : NULL,
                            .centre = centre};
    for (size_t c = 0; c < channels; c++) {
        centre[c] = random_number();
        for (size_t k = 0; k < 3; k++) {
            factors[c][k] = random_number();
        }
    }
    void *output = guarded_alloc(n * size_of(f64));
    channel_sums(&call, sums);
    channel_affine(&call, (const double (*)[3])factors, output);
    if (!with_y && n > 0) {
        double zeros[8] = {0}, means[8], about_means[8][2], again[8][2];
        struct channels plain = call;
        plain.centre = zeros;
        channel_sums(&plain, again);
        channel_statistics(&call, means, about_means);
        for (size_t c = 0; c < channels; c++) {
            CHECK(means[c] == again[c][0] / (double)(images * pixels), "%s mean of channel %zu",
                  isa, c);
        }
        plain.centre = means;
        channel_sums(&plain, again);
        CHECK(memcmp(again, about_means, channels * sizeof *again) == 0,
              "%s channel_statistics f%d (%zu, %zu, %zu)", isa, f64 ? 64 : 32, images, channels,
              pixels);
    }
    for (size_t c = 0; c < channels; c++) {
        long double expected[2] = {0, 0}, most[2] = {0, 0};
        for (size_t i = 0; i < images * pixels; i++) {
            const size_t at = (i / pixels * channels + c) * pixels + i % pixels;
            const long double v = (long double)get(f64, call.x, at) - centre[c],
                              w = with_y ? get(f64, call.y, at) : v;
            expected[0] += w;
            expected[1] += v * w;
            most[0] += fabsl(w);
            most[1] += fabsl(v * w);
            const long double result =
                v * factors[c][0] + factors[c][2] + (with_y ? (long double)factors[c][1] * w : 0);
            CHECK(fits(f64, get(f64, output, at), (double)result, f64 ? 8 : 2, 3 * 1.0),
                  "%s channel_affine f%d (%zu, %zu, %zu): %zu: %g, not %g", isa, f64 ? 64 : 32,
                  images, channels, pixels, at, get(f64, output, at), (double)result);
        }
        for (int k = 0; k < 2; k++) {
            CHECK(fits(1, sums[c][k], (double)expected[k],
                       (double)(images * pixels) / CHANNEL_SUMS + 2 * CHANNEL_SUMS,
                       (double)most[k]),
                  "%s channel_sums f%d (%zu, %zu, %zu), sum %d of channel %zu: %g, not %g", isa,
                  f64 ? 64 : 32, images, channels, pixels, k, c, sums[c][k], (double)expected[k]);
        }
    }
    guarded_release("channels");
}

/* ---- average pooling ---- */

static void draw_windows(struct pool_span *spans, double *sizes, size_t windows, size_t in)
{
    for (size_t i = 0; i < windows; i++) {
        const size_t begin = below(in + 1), length = below(in - begin + 1);
        spans[i] = (struct pool_span){(int64_t)begin, (int64_t)(begin + length)};
        sizes[i] = (double)(1 + length + below(2));
    }
}

/* Windows of one width with stride 2. Some of the first and the last ones may be cut off. */
static void draw_regular_windows(struct pool_span *spans, double *sizes, size_t windows, size_t in,
                                 size_t width)
{
    const int64_t padding = (int64_t)below(2);
    for (size_t i = 0; i < windows; i++) {
        const int64_t begin = 2 * (int64_t)i - padding, end = begin + (int64_t)width,
                      last = (int64_t)in;
        spans[i].begin = begin < 0 ? 0 : begin < last ? begin : last;
        spans[i].end = end < last ? end : last;
        sizes[i] = (double)width;
    }
}

enum windows { RANDOM_WINDOWS, ONE_WINDOW, REGULAR_WINDOWS };

static void check_avg_pool2d(int f64, enum windows windows)
{
    enum { MOST = 40 };
    struct pool_span rows[MOST], columns[MOST];
    double row_sizes[MOST], column_sizes[MOST];
    const bool global = windows == ONE_WINDOW, regular = windows == REGULAR_WINDOWS;
    const size_t most = regular ? MOST : 8, width = 1 + below(regular && below(2) == 0 ? 9 : 2);
    struct avg_pool2d p = {.compute = f64 ? COMPUTE_F64 : COMPUTE_F32,
                           .planes = below(global ? 150 : 4),
                           .in = {1 + below(10), 1 + below(global    ? 50
                                                           : regular ? 80
                                                                     : 10)},
                           .out = {global ? 1 : below(8), global ? 1 : below(most)},
                           .rows = rows,
                           .columns = columns,
                           .row_sizes = row_sizes,
                           .column_sizes = column_sizes};
    draw_windows(rows, row_sizes, p.out.h, p.in.h);
    draw_windows(columns, column_sizes, p.out.w, p.in.w);
    if (global) {
        rows[0] = (struct pool_span){0, (int64_t)p.in.h};
        columns[0] = (struct pool_span){0, (int64_t)p.in.w};
    }
    if (regular) {
        draw_regular_windows(rows, row_sizes, p.out.h, p.in.h, width);
        draw_regular_windows(columns, column_sizes, p.out.w, p.in.w, width);
    }
    const size_t in = p.in.h * p.in.w, out = p.out.h * p.out.w, size = size_of(f64);
    const void *x = numbers(f64, p.planes * in, 0), *dy = numbers(f64, p.planes * out, 0);
    void *y = guarded_alloc(p.planes * out * size), *dx = guarded_alloc(p.planes * in * size);
    CHECK(avg_pool2d(&p, x, y) == 0 && avg_pool2d_gradient(&p, dy, dx) == 0, "no memory");
    double *back = calloc(p.planes * in + 1, sizeof *back);
    CHECK(back != NULL, "no memory");
    for (size_t i = 0; i < p.planes * out; i++) {
        const struct pool_span r = rows[i % out / p.out.w], c = columns[i % p.out.w];
        const double divisor = row_sizes[i % out / p.out.w] * column_sizes[i % p.out.w];
        double sum = 0, most = 0;
        for (int64_t at_row = r.begin; at_row < r.end; at_row++) {
            for (int64_t at = c.begin; at < c.end; at++) {
                const size_t pixel = i / out * in + (size_t)at_row * p.in.w + (size_t)at;
                sum += get(f64, x, pixel);
                most += fabs(get(f64, x, pixel));
                back[pixel] += get(f64, dy, i) / divisor;
            }
        }
        CHECK(fits(f64, get(f64, y, i), sum / divisor, f64 ? (double)in + 2 : 2, most / divisor),
              "%s avg_pool2d f%d: %zu: %g, not %g", isa, f64 ? 64 : 32, i, get(f64, y, i),
              sum / divisor);
    }
    for (size_t i = 0; i < p.planes * in; i++) {
        CHECK(fits(f64, get(f64, dx, i), back[i], (double)(p.out.h + 2) * 2, (double)out + 1),
              "%s avg_pool2d_gradient f%d: %zu: %g, not %g", isa, f64 ? 64 : 32, i, get(f64, dx, i),
              back[i]);
    }
    if (global && p.planes > 0) { /* a plane alone has the same bits */
        const size_t i = below(p.planes);
        char one[sizeof(double)];
        p.planes = 1;
        CHECK(avg_pool2d(&p, (const char *)x + i * in * size, one) == 0 &&
                  memcmp(one, (const char *)y + i * size, size) == 0,
              "%s avg_pool2d: plane %zu alone", isa, i);
    }
    free(back);
    guarded_release("avg_pool2d");
}

/* ---- the first maximum ---- */

static void check_first_maximum(int f64, size_t n, size_t kinds)
{
    static const double values[] = {1, 2, -0.0, 0, -INFINITY, 3, INFINITY, NAN};
    void *elements = guarded_alloc(n * size_of(f64));
    size_t expected = 0;
    for (size_t i = 0; i < n; i++) {
        const double best = i == 0 ? -INFINITY : get(f64, elements, expected);
        const double value = below(9) > 0 ? -(double)i : values[below(kinds)];
        put(f64, elements, i, value);
        expected = i == 0 || value > best || isnan(value) ? i : expected;
    }
    for (int find = 0; find < 2; find++) {
        double maximum = 0.0; /* room for both types */
        const size_t got =
            kernels_current()->elementwise[f64].first_maximum(n, elements, find, &maximum);
        CHECK(memcmp(&maximum, (char *)elements + expected * size_of(f64), size_of(f64)) == 0 &&
                  (!find || got == expected),
              "%s first_maximum f%d of %zu: %g at %zu, not at %zu", isa, f64 ? 64 : 32, n,
              get(f64, &maximum, 0), got, expected);
    }
    guarded_release("first_maximum");
}

/* ---- division ---- */

/* True if fused sums of zeros have the right sign. Valgrind 3.19 computes fma(0, -1, -0) as +0. */
static bool fma_keeps_sign_of_zero(void)
{
    volatile double zero = 0.0, minus_one = -1.0, minus_zero = -0.0;
    return signbit(fma(zero, minus_one, minus_zero));
}

/* Divisors and elements include ones beyond the range in which reciprocals are used. A third of the
 * elements are midpoints between floats times the divisor, whose quotients are hardest to round. */
static void check_divide(int f64, size_t n, size_t step)
{
    static const double values[] = {0, -0.0, INFINITY, -INFINITY, NAN, 0x1p-149, -0x1.8p-140, 3e38};
    double *divisors = guarded_alloc((step == 0 ? 1 : n) * sizeof *divisors);
    void *x = guarded_alloc(n * size_of(f64)), *out = guarded_alloc(n * size_of(f64));
    for (size_t i = 0; i < (step == 0 ? 1 : n); i++) {
        const double divisor = ldexp(2 + random_number(), (int)below(20) - 10);
        divisors[i] = below(8) > 0   ? divisor
                      : below(2) > 0 ? values[below(8)]
                                     : ldexp(divisor, 310);
    }
    for (size_t i = 0; i < n; i++) {
        const double middle = (1 + (double)below(1 << 24) * 0x1p-24) * divisors[i * step],
                     value = ldexp(random_number(), (int)below(60) - 40);
        const double special = values[below(8)];
        put(f64, x, i, below(9) == 0 ? special : below(3) == 0 ? middle : value);
        if (step == 0 && isinf(get(f64, x, i)) && isfinite(divisors[0])) {
            put(f64, x, i, value); /* the contract excludes it; a midpoint may overflow, too */
        }
    }
    const bool signs = fma_keeps_sign_of_zero();
    kernels_current()->elementwise[f64].divide(n, x, divisors, step, out);
    for (size_t i = 0; i < n; i++) {
        const double got = get(f64, out, i), quotient = get(f64, x, i) / divisors[i * step],
                     expected = f64 ? quotient : (double)(float)quotient;
        CHECK((isnan(got) && isnan(expected)) ||
                  (got == expected && (!signbit(got) == !signbit(expected) || !signs)),
              "%s divide f%d, step %zu: %a / %a is %a, not %a", isa, f64 ? 64 : 32, step,
              get(f64, x, i), divisors[i * step], got, expected);
    }
    guarded_release("divide");
}

static void check_table(const struct kernels *table)
{
    kernels_use_wide_layers(true);
    kernels_select(table->name);
    for (int f64 = 0; f64 < 2; f64++) {
        for (int a = 0; a < ACTIVATIONS; a++) {
            for (int derivative = 0; derivative < 2; derivative++) {
                const enum activation kind = (enum activation)a;
                for (size_t n = 0; n < 40; n++) {
                    check_activation(f64, kind, derivative, n, 4);
                }
                check_activation(f64, kind, derivative, MANY / 2, 1);
                check_activation(f64, kind, derivative, MANY, 8);
                check_activation(f64, kind, derivative, MANY, f64 ? 45 : 16);
            }
        }
        check_special_values(f64);
        for (int round = 0; round < 150; round++) {
            const size_t pixels = round % 2 == 0 ? below(70) : 1 + below(20);
            check_channels(f64, below(4), 1 + below(7), pixels, round % 3 == 0);
            check_avg_pool2d(f64, (enum windows)(round % 3));
            check_first_maximum(f64, 1 + below(round % 3 == 0 ? 400 : 40), 1 + below(8));
            check_divide(f64, 1 + below(round % 3 == 0 ? 400 : 40), (size_t)(round % 2));
        }
    }
}

int main(void)
{
    check_each_table(check_table);
    if (getenv("SHOW_ERRORS") != NULL) {
        for (int i = 0; i < 4 * ACTIVATIONS; i++) {
            printf("f%d activation %d %s: %.3f units\n", i % 2 ? 64 : 32, i / 4,
                   i / 2 % 2 ? "derivative" : "value", worst[i % 2][i / 4][i / 2 % 2]);
        }
    }
    return finish("elementwise");
}
