/* Checks the sum, gemm and conversion kernels of every instruction set that this machine supports
 * against naive references. */
#include <math.h>
#include <string.h>

#include "base/half.h"
#include "check.h"
#include "kernels/rough_kernels.h"
#include "kernels/kernels.h"

enum { MAX_LENGTH = 1100, ROWS = 9, MAX_DEPTH = 2200 };

static const size_t element_size[KERNEL_DTYPES] = {8, 4, 2, 2, 1, 1};

static double element(enum dtype type, const void *array, size_t i)
{
    switch (type) {
    case DTYPE_F64:
        return ((const double *)array)[i];
    case DTYPE_F32:
        return ((const float *)array)[i];
    case DTYPE_F16:
        return f16_to_f32(((const uint16_t *)array)[i]);
    case DTYPE_BF16:
        return bf16_to_f32(((const uint16_t *)array)[i]);
    case DTYPE_I8:
        return ((const int8_t *)array)[i];
    default:
        return ((const uint8_t *)array)[i];
    }
}

static void fill(enum dtype type, void *array, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        double value = random_number();
        switch (type) {
        case DTYPE_F64:
            ((double *)array)[i] = value;
            break;
        case DTYPE_F32:
            ((float *)array)[i] = (float)value;
            break;
        case DTYPE_F16:
            ((uint16_t *)array)[i] = f16_from_double(value);
            break;
        case DTYPE_I8:
            ((int8_t *)array)[i] = (int8_t)(value < 0.5 ? -128 : (int)(value * 100));
            break;
        case DTYPE_U8:
            ((uint8_t *)array)[i] = (uint8_t)(value < 0.5 ? 255 : (int)(fabs(value) * 100));
            break;
        default:
            ((uint16_t *)array)[i] = bf16_from_double(value);
            break;
        }
    }
}

/* The reference of row and column sums over n terms, `stride` elements apart. It adds the rounding
 * errors of products and sums at the end, because a long double has no more digits than a double
 * under valgrind and on some machines. */
static long double naive(enum dtype type, const void *x, const void *y, size_t first, size_t stride,
                         size_t n)
{
    double sum = 0, lost = 0;
    for (size_t i = 0; i < n; i++) {
        const double a = element(type, x, first + i * stride),
                     b = element(type, y, first + i * stride);
        const double product = a * b, next = sum + product, added = next - sum;
        lost += fma(a, b, -product) + (sum - (next - added)) + (product - added);
        sum = next;
    }
    return (long double)sum + lost;
}

static int within(double got, long double expected, long double bound)
{
    return fabsl(got - expected) <= bound;
}

static int near(double got, long double expected, size_t n)
{
    return within(got, expected, 1e-15L * (long double)(n + 1));
}

static double x_array[ROWS * MAX_LENGTH], y_array[ROWS * MAX_LENGTH];

static void check_rows(const struct kernels *k, enum dtype type, size_t n)
{
    const ptrdiff_t step = (ptrdiff_t)(n * element_size[type]);
    for (int kind = 0; kind < SUMS_KINDS; kind++) {
        double sums[3][ROWS];
        for (int i = 0; i < 3 * ROWS; i++) sums[i / ROWS][i % ROWS] = 9;
        k->sums->rows[type][kind](
            &(struct sums_call){x_array, y_array, step, step, ROWS, n, sums[0], ROWS});
        const bool wanted[3] = {kind != SUMS_SQUARE, kind != SUMS_DOT, kind == SUMS_ALL};
        const void *const left[3] = {x_array, x_array, y_array}, *const right[3] = {
                                                                     y_array, x_array, y_array};
        for (size_t r = 0; r < ROWS; r++) {
            for (int s = 0; s < 3; s++) {
                const long double bound = (long double)(n + 1) * 1e-15L;
                CHECK(wanted[s]
                          ? within(sums[s][r], naive(type, left[s], right[s], r * n, 1, n), bound)
                          : sums[s][r] == 9,
                      "%s rows type %d kind %d sum %d n %zu", k->name, type, kind, s, n);
            }
        }
    }
}

/* cosine_rows gives the same bits as row sums followed by cosine_sums. 16-bit floats are an
 * exception: cosine_rows sums them in float. */
static void check_cosine_rows(const struct kernels *k, enum dtype type, size_t rows, size_t n)
{
    const ptrdiff_t step = (ptrdiff_t)(n * element_size[type]);
    double sums[2][3][ROWS], out[2][ROWS];
    struct sums_call call = {x_array, y_array, step, step, rows, n, sums[0][0], ROWS};
    k->sums->rows[type][SUMS_ALL](&call);
    const bool all = k->sums->cosine_sums(out[0], sums[0][0], sums[0][1], sums[0][2], rows, 0.25);
    call.sums = sums[1][0];
    const bool same = k->sums->cosine_rows[type](&call, out[1], 0.25);
    CHECK(all == same, "%s cosine rows type %d %zu x %zu", k->name, type, rows, n);
    for (size_t r = 0; r < rows; r++) {
        /* 16-bit floats are summed in chains of 8 floats, followed by one more addition. */
        const double bound = element_size[type] == 2 ? 9 * 0x1p-24 * (double)(n + 1) : 0.0;
        CHECK(fabs(out[0][r] - out[1][r]) <= bound, "%s cosine rows type %d %zu x %zu", k->name,
              type, rows, n);
        for (int s = 0; s < 3; s++) {
            CHECK(fabs(sums[0][s][r] - sums[1][s][r]) <= bound, "%s cosine rows type %d %zu x %zu",
                  k->name, type, rows, n);
        }
    }
}

/* Rows of bfloat16 whose squares overflow or underflow a float, mixed with ordinary rows. */
static void check_wide_rows(const struct kernels *k)
{
    enum { COUNT = 9, LENGTH = 40 };
    uint16_t x[COUNT * LENGTH], y[COUNT * LENGTH];
    double sums[3][COUNT], *xy = sums[0], *xx = sums[1], out[COUNT];
    for (int i = 0; i < COUNT * LENGTH; i++) {
        const double scale = i / LENGTH % 3 == 0 ? 1e25 : i / LENGTH % 3 == 1 ? 1.0 : 1e-25;
        x[i] = bf16_from_double(scale * random_number());
        y[i] = bf16_from_double(scale * random_number());
    }
    k->sums->cosine_rows[DTYPE_BF16](
        &(struct sums_call){x, y, LENGTH * 2, LENGTH * 2, COUNT, LENGTH, xy, COUNT}, out, 0);
    for (size_t r = 0; r < COUNT; r++) {
        const long double squares = naive(DTYPE_BF16, x, x, r * LENGTH, 1, LENGTH);
        CHECK(within(xx[r], squares, 1e-6L * squares), "%s row %zu", k->name, r);
        CHECK(within(xy[r], naive(DTYPE_BF16, x, y, r * LENGTH, 1, LENGTH), 1e-5L * squares),
              "%s row %zu", k->name, r);
    }
}

static void check_cosine_sums(const struct kernels *k)
{
    enum { COUNT = 13 };
    double xy[COUNT], xx[COUNT], yy[COUNT], out[COUNT];
    for (int i = 0; i < COUNT; i++) {
        xy[i] = random_number() * 2;
        xx[i] = fabs(random_number()) + 0.5;
        yy[i] = fabs(random_number()) + 0.5;
    }
    for (size_t n = 0; n <= COUNT; n++) {
        CHECK(k->sums->cosine_sums(out, xy, xx, yy, n, 0.25), "%s floor", k->name);
        for (size_t i = 0; i < n; i++) {
            const double c = xy[i] / sqrt(xx[i] * yy[i]);
            CHECK(out[i] == (c > 1 ? 1 : c < -1 ? -1 : c), "%s cosine %zu of %zu", k->name, i, n);
        }
    }
    for (int i = 0; i < COUNT; i++) {
        const double kept = yy[i];
        yy[i] = i % 2 ? NAN : 0.2;
        CHECK(!k->sums->cosine_sums(out, xy, xx, yy, COUNT, 0.25), "%s below the floor", k->name);
        yy[i] = kept;
    }
}

/* Sums n columns over `steps` rows, in calls of at most COLUMN_STEPS rows, as the driver does. */
static void check_columns(const struct kernels *k, enum dtype type, size_t n, size_t steps)
{
    static double sums[6 * MAX_LENGTH];
    const ptrdiff_t step = (ptrdiff_t)(n * element_size[type]);
    for (int kind = 0; kind < SUMS_KINDS; kind++) {
        memset(sums, 0, sizeof sums);
        for (size_t done = 0, some; done < steps; done += some) {
            some = steps - done < COLUMN_STEPS ? steps - done : COLUMN_STEPS;
            const size_t at = done * (size_t)step;
            k->sums->columns[type][kind](&(struct sums_call){(const char *)x_array + at,
                                                             (const char *)y_array + at, step, step,
                                                             some, n, sums, n});
        }
        for (size_t j = 0; j < n; j++) {
            const double xy = sums[j] + sums[3 * n + j], xx = sums[n + j] + sums[4 * n + j],
                         yy = sums[2 * n + j] + sums[5 * n + j];
            CHECK(kind == SUMS_SQUARE ||
                      near(xy, naive(type, x_array, y_array, j, n, steps), steps),
                  "%s columns type %d", k->name, type);
            CHECK(kind == SUMS_DOT || near(xx, naive(type, x_array, x_array, j, n, steps), steps),
                  "%s columns type %d", k->name, type);
            CHECK(kind != SUMS_ALL || near(yy, naive(type, y_array, y_array, j, n, steps), steps),
                  "%s columns type %d", k->name, type);
        }
    }
}

/* Checks packing and tile over `depth` terms, in blocks of TILE_DEPTH. The right side has one
 * column fewer than the tile, so the last column is padding. */
static void check_tile(const struct kernels *k, bool f64, size_t depth)
{
    enum { MAX_ROWS = 16, MAX_COLUMNS = 64 };
    static double left[MAX_ROWS * MAX_DEPTH], right[MAX_COLUMNS * MAX_DEPTH],
        panel[MAX_COLUMNS * TILE_DEPTH];
    static double sums[MAX_ROWS * MAX_COLUMNS], errors[MAX_ROWS * MAX_COLUMNS];
    static double ahead_sums[MAX_ROWS * MAX_COLUMNS], ahead_errors[MAX_ROWS * MAX_COLUMNS];
    const size_t rows = k->tiles->rows, columns = k->tiles[f64].columns, size = f64 ? 8 : 4;
    const enum dtype type = f64 ? DTYPE_F64 : DTYPE_F32;
    const void *left_rows[MAX_ROWS];
    CHECK(rows <= MAX_ROWS && columns <= MAX_COLUMNS, "tile %zu x %zu", rows, columns);
    fill(type, left, rows * depth);
    fill(type, right, columns * depth);
    for (size_t r = 0; r < rows; r++) left_rows[r] = (const char *)left + r * depth * size;
    for (size_t done = 0, n; done < depth; done += n) {
        const void *right_rows[MAX_COLUMNS];
        n = depth - done < TILE_DEPTH ? depth - done : TILE_DEPTH;
        for (size_t c = 0; c < columns; c++)
            right_rows[c] = (const char *)right + (c * depth + done) * size;
        memset(panel, 0, sizeof panel);
        k->tiles[f64].transpose(panel, columns, right_rows, columns - 1, n);
        const unsigned flags = (done == 0 ? TILE_FIRST : 0) | (done + n == depth ? TILE_LAST : 0);
        k->tiles[f64].tile(sums, errors, left_rows, panel, done, n, flags, 0);
        k->tiles[f64].tile(ahead_sums, ahead_errors, left_rows, panel, done, n, flags,
                           rows * depth * size); /* prefetches beyond the rows */
    }
    CHECK(memcmp(sums, ahead_sums, rows * columns * sizeof *sums) == 0,
          "%s tile ahead f64=%d depth %zu", k->name, f64, depth);
    for (size_t r = 0; r < rows; r++) {
        for (size_t c = 0; c < columns; c++) {
            long double expected = 0, magnitude = 0;
            for (size_t i = 0; c < columns - 1 && i < depth; i++) {
                const long double product = (long double)element(type, left, r * depth + i) *
                                            element(type, right, c * depth + i);
                expected += product;
                magnitude += fabsl(product);
            }
            /* roundings: of a chain (32), of the sum of a block's chains (8), and of the total
             * (1) */
            const long double bound = (32 + 8 + 1) * (f64 ? 0x1p-53L : 0x1p-24L) * magnitude;
            CHECK(fabsl(sums[r * columns + c] - expected) <= bound,
                  "%s tile f64=%d depth %zu at %zu, %zu: %g", k->name, f64, depth, r, c,
                  (double)(sums[r * columns + c] - expected));
        }
    }
}

/* Checks rough cosines of 13 rows with a panel, and which rows come near the largest ones. The
 * norm of row 5 is out of range. */
static void check_rough(const struct kernels *k, size_t n, double eps)
{
    enum { COUNT = 13, SCORES = ROUGH_ROWS * ROUGH_COLUMNS };
    static float rows[ROUGH_ROWS * ROUGH_DEPTH], columns[ROUGH_COLUMNS * ROUGH_DEPTH];
    static int16_t codes[ROUGH_ROWS * ROUGH_DEPTH], panel[ROUGH_COLUMNS * ROUGH_DEPTH];
    static int32_t scores[SCORES];
    const size_t length = rough_length(n);
    fill(DTYPE_F32, rows, COUNT * n);
    fill(DTYPE_F32, columns, ROUGH_COLUMNS * n);
    for (size_t i = 5 * n; i < 6 * n; i++) {
        rows[i] *= 1e-20f;
    }
    for (size_t first = 0; first < ROUGH_COLUMNS; first += ROUGH_ROWS) {
        const ptrdiff_t step = (ptrdiff_t)(n * sizeof(float));
        CHECK(k->rough->codes(codes, columns + first * n, step, ROUGH_ROWS, n, eps) == 0, "range");
        for (size_t i = 0; i < ROUGH_ROWS * length; i++) {
            const size_t c = first + i / length, at = i % length;
            panel[(at / 2 * ROUGH_COLUMNS + c) * 2 + at % 2] = codes[i];
        }
    }
    memset(codes, 0, sizeof codes);
    const unsigned outside =
        k->rough->codes(codes, rows, (ptrdiff_t)(n * sizeof(float)), COUNT, n, eps);
    CHECK(outside == 1u << 5, "%s rough codes: outside %x", k->name, outside);
    k->rough->dots(scores, codes, panel, n, n % 2 == 0 ? (const char *)rows : NULL);
    for (size_t i = 0; i < COUNT * ROUGH_COLUMNS; i++) {
        double sums[3] = {0.0};
        for (size_t at = 0; at < n; at++) {
            const double a = rows[i / ROUGH_COLUMNS * n + at],
                         b = columns[i % ROUGH_COLUMNS * n + at];
            sums[0] += a * b;
            sums[1] += a * a;
            sums[2] += b * b;
        }
        const double cosine = sums[0] / fmax(sqrt(sums[1]), eps) / fmax(sqrt(sums[2]), eps),
                     found = scores[i] / ((double)ROUGH_UNIT * ROUGH_UNIT),
                     most = (sqrt((double)n) + 3.0) / ROUGH_UNIT;
        CHECK(i / ROUGH_COLUMNS == 5 || fabs(found - cosine) <= most, "%s rough cosines %zu: %g %g",
              k->name, n, found, cosine);
    }
    uint8_t near[COUNT] = {0};
    int32_t largest[ROUGH_COLUMNS];
    const int32_t margin = 1 << 24;
    for (size_t c = 0; c < ROUGH_COLUMNS; c++) {
        largest[c] = c % 3 == 0 ? INT32_MAX : ROUGH_NONE / 4 * 3;
        scores[5 * ROUGH_COLUMNS + c] = ROUGH_NONE;
    }
    k->rough->near(near, largest, scores, COUNT, margin);
    for (size_t r = 0; r < COUNT; r++) {
        bool expected = r == 5;
        for (size_t c = 0; c < ROUGH_COLUMNS; c++) {
            int32_t most = INT32_MIN;
            for (size_t i = 0; i < COUNT; i++) {
                const int32_t score = scores[i * ROUGH_COLUMNS + c];
                most = score > most ? score : most;
            }
            CHECK(largest[c] == (c % 3 == 0 ? INT32_MAX : most), "%s rough largest", k->name);
            expected |= c % 3 != 0 && scores[r * ROUGH_COLUMNS + c] >= most - margin;
        }
        CHECK(near[r] == expected, "%s rough near %zu row %zu", k->name, n, r);
    }
}

static void check_transpose(const struct kernels *k, bool f64, size_t count, size_t n)
{
    enum { STEP = 43 };
    static double from[40 * 40], to[40 * STEP];
    const void *rows[40];
    const enum dtype type = f64 ? DTYPE_F64 : DTYPE_F32;
    const size_t size = element_size[type];
    fill(type, from, 40 * 40);
    fill(type, to, 40 * STEP);
    for (size_t r = 0; r < count; r++) rows[r] = (const char *)from + r * n * size;
    const double past = element(type, to, n * STEP), next = element(type, to, count);
    k->tiles[f64].transpose(to, STEP, rows, count, n);
    for (size_t i = 0; i < n; i++) {
        for (size_t r = 0; r < count; r++) {
            CHECK(element(type, to, i * STEP + r) == element(type, from, r * n + i),
                  "%s transpose %zu x %zu", k->name, count, n);
        }
    }
    CHECK(element(type, to, n * STEP) == past && element(type, to, count) == next,
          "%s transpose wrote outside its tile", k->name);
}

static void check_cosines(const struct kernels *k)
{
    enum { LONG = 40, STEP = 48, TILE = 3 };
    double sums[TILE * STEP], columns[LONG + COSINE_PADDING], wide[TILE * LONG];
    const double rows[TILE] = {0.25, 0.5, 1.0};
    float narrow[TILE * LONG];
    uint32_t found[TILE * LONG / COSINE_STEP + 1];
    for (size_t i = 0; i < TILE * STEP; i++) {
        sums[i] = i % STEP == 5   ? NAN
                  : i % STEP == 6 ? 99.0
                  : i % STEP == 7 ? -99.0
                                  : random_number();
    }
    for (size_t i = 0; i < LONG + COSINE_PADDING; i++) {
        columns[i] = 0.5;
    }
    for (size_t n = 0; n <= LONG; n++) {
        narrow[n] = 7.0f;
        wide[n] = 7.0;
        struct cosine_tile tile = {sums, STEP, rows, columns, 1, n, 0.9};
        size_t counts[2] = {k->tiles[COMPUTE_F64].cosine(&tile, wide, 0, found)};
        counts[1] = k->tiles[COMPUTE_F32].cosine(&tile, narrow, 0, found);
        size_t beyond = 0;
        for (size_t f = 0; f < counts[1]; f++) {
            for (size_t i = 0; i < 8; i++) {
                const size_t c = (found[f] >> 8 & 0xff) + i;
                beyond += found[f] >> i & 1;
                CHECK((found[f] >> i & 1) == 0 ||
                          (found[f] >> 16 == 0 && c < n && (c == 6 || c == 7)),
                      "%s cosine_f32 %zu found %zu", k->name, n, c);
            }
        }
        CHECK(beyond == (size_t)(n > 7) + (n > 6) && (counts[0] >= 1 || n <= 6),
              "%s cosines %zu found %zu, %zu", k->name, n, counts[0], beyond);
        CHECK(n == LONG || (narrow[n] == 7.0f && wide[n] == 7.0), "%s cosines wrote past their end",
              k->name);
        tile.rows = TILE;
        k->tiles[COMPUTE_F32].cosine(&tile, narrow, LONG, found);
        k->tiles[COMPUTE_F64].cosine(&tile, wide, LONG, found);
        for (size_t i = 0; i < TILE * n; i++) {
            const size_t r = i / n, c = i % n, at = r * LONG + c;
            const double product = sums[r * STEP + c] * rows[r] * 0.5,
                         quotient = sums[r * STEP + c] / (rows[r] * 0.5);
            CHECK(c == 5 ? isnan(narrow[at]) && isnan(wide[at]) : narrow[at] == (float)product,
                  "%s cosine_f32 %zu", k->name, i);
            CHECK(c == 5 || wide[at] == quotient, "%s cosine_f64 %zu", k->name, i);
        }
    }
}

/* Checks that cosines written past the caches are those of the cosine kernel, and which lines are
 * found, for a row of whole numbers and for another row. */
static void check_stream_cosines(const struct kernels *k)
{
    enum { COLUMNS = 64 };
    _Alignas(64) double out[COLUMNS], scores[COLUMNS];
    double sums[COLUMNS], columns[COLUMNS];
    uint32_t found[COLUMNS / COSINE_STEP + 2];
    const double rows[] = {-5.0, 5.0};
    for (size_t c = 0; c < COLUMNS; c++) {
        columns[c] = c % 5 == 0 ? 5.0 : -5.0;
        sums[c] = c % 19 == 7 ? 25.0 : c % 3 == 0 ? 0.0 : 7.0;
    }
    for (int f64 = 0; f64 < 2; f64++) {
        const struct tile_kernels *tiles = &k->tiles[f64 ? COMPUTE_F64 : COMPUTE_F32];
        const size_t size = f64 ? sizeof(double) : sizeof(float), line = 64 / size;
        for (size_t r = f64 ? 0 : 1; r < 2; r++) {
            for (size_t n = 0; n <= COLUMNS; n += line) {
                const double bound = f64 ? 0.9 : 200.0;
                const size_t lines =
                    tiles->stream_cosines(out, sums, rows[r], columns, n, bound, found);
                size_t listed = 0;
                for (size_t c = 0; c < n; c += line) {
                    uint32_t beyond[COLUMNS / COSINE_STEP + 1];
                    const struct cosine_tile tile = {sums + c, 0,    rows + r, columns + c,
                                                     1,        line, bound};
                    const bool is_listed = tiles->cosine(&tile, scores, 0, beyond) > 0;
                    CHECK(memcmp((char *)out + c * size, scores, 64) == 0,
                          "%s stream_cosines, line at %zu of %zu", k->name, c, n);
                    CHECK(!is_listed || (listed < lines && found[listed] == c),
                          "%s stream_cosines did not find the line at %zu of %zu", k->name, c, n);
                    listed += is_listed;
                }
                CHECK(listed == lines, "%s stream_cosines found %zu lines, not %zu", k->name, lines,
                      listed);
            }
        }
    }
}

/*
 * Checks cosines of rows of whole numbers, which have negative norms, among other rows. The cosines
 * of rows of norm 5 are fractions such as 7 / 25 and -24 / 25. Cosines with a row of norm sqrt(2)
 * are compared with sums in long double.
 */
static void check_whole_cosines(const struct kernels *k)
{
    enum { COLUMNS = 21, SUMS = 24 };
    const double rows[] = {-5.0, 5.0, -sqrt(2.0)};
    double sums[3 * SUMS] = {0}, columns[COLUMNS + COSINE_PADDING] = {0}, out[3 * COLUMNS];
    uint32_t found[3 * COLUMNS / COSINE_STEP + 1];
    for (size_t c = 0; c < COLUMNS; c++) {
        columns[c] = c < 8 || c % 3 != 0 ? -5.0 : 5.0;
        sums[c] = sums[SUMS + c] = c % 2 == 0 ? 7 : c == 9 ? 25 : -24;
        sums[2 * SUMS + c] = c % 2 == 0 ? 1 : -7;
    }
    const struct cosine_tile tile = {sums, SUMS, rows, columns, 3, COLUMNS, 0.9};
    size_t beyond = 0, count = k->tiles[COMPUTE_F64].cosine(&tile, out, COLUMNS, found);
    for (size_t c = 0; c < COLUMNS; c++) {
        CHECK(out[c] == sums[c] / 25 && out[COLUMNS + c] == sums[c] / 25, "%s whole cosine %zu",
              k->name, c);
        const long double root = sqrtl(50.0L), sum = sums[2 * SUMS + c];
        if (columns[c] < 0.0 && long_double_is_longer()) {
            CHECK(out[2 * COLUMNS + c] == (double)(sum / root), "%s root of 2, column %zu", k->name,
                  c);
        }
        CHECK(fabs(out[2 * COLUMNS + c] - (double)(sum / root)) < 3e-16, "%s root of 2", k->name);
    }
    for (size_t f = 0; f < count; f++) {
        for (size_t i = 0; i < 8; i++) {
            const size_t r = found[f] >> 16, c = (found[f] >> 8 & 0xff) + i;
            const bool found_one = found[f] >> i & 1;
            beyond += found_one;
            CHECK(!found_one || !(rows[r] < 0.0 && columns[c] < 0.0),
                  "%s: a whole cosine would be recomputed: %zu, %zu", k->name, r, c);
        }
    }
    size_t expected = 0;
    for (size_t r = 0; r < 3; r++) {
        for (size_t c = 0; c < COLUMNS; c++) {
            expected += !(rows[r] < 0.0 && columns[c] < 0.0) && fabs(out[r * COLUMNS + c]) > 0.9;
        }
    }
    CHECK(beyond == expected, "%s: %zu cosines beyond the bound, not %zu", k->name, beyond,
          expected);
}

static void check_widening(const struct kernels *k)
{
    uint16_t halves[100] = {0};
    float out[101];
    for (size_t n = 0; n <= 100; n++) {
        for (size_t i = 0; i < n; i++) {
            halves[i] = f16_from_double(random_number());
        }
        out[n] = 7.0f;
        k->sums->to_floats[DTYPE_F16](out, halves, n, 1.0);
        for (size_t i = 0; i < n; i++) {
            CHECK(out[i] == f16_to_f32(halves[i]), "%s to_floats_f16", k->name);
        }
        k->sums->to_floats[DTYPE_BF16](out, halves, n, 1.0);
        for (size_t i = 0; i < n; i++) {
            CHECK(out[i] == bf16_to_f32(halves[i]), "%s to_floats_bf16", k->name);
        }
        CHECK(out[n] == 7.0f, "%s widening wrote past its end", k->name);
    }
}

static void check_narrowing(const struct kernels *k)
{
    float in[100];
    uint16_t out[101];
    for (size_t i = 0; i < 100; i++) {
        in[i] = i == 3   ? INFINITY
                : i == 4 ? 65520.0f
                : i == 5 ? 1e-7f
                : i == 6 ? -0.0f
                         : (float)(random_number() * pow(10.0, (double)(i % 60) - 30.0));
    }
    for (size_t n = 0; n <= 100; n++) {
        out[n] = 7;
        k->halves->narrow[DTYPE_F16](out, in, n);
        for (size_t i = 0; i < n; i++) {
            CHECK(out[i] == f16_from_double(in[i]), "%s narrow_f16 of %g", k->name, in[i]);
        }
        k->halves->narrow[DTYPE_BF16](out, in, n);
        for (size_t i = 0; i < n; i++) {
            CHECK(out[i] == bf16_from_double(in[i]), "%s narrow_bf16 of %g", k->name, in[i]);
        }
        CHECK(out[n] == 7, "%s narrowing wrote past its end", k->name);
    }
    in[0] = NAN;
    k->halves->narrow[DTYPE_F16](out, in, 1);
    k->halves->narrow[DTYPE_BF16](out + 1, in, 1);
    CHECK(isnan(f16_to_f32(out[0])) && isnan(bf16_to_f32(out[1])), "%s narrowing of NaN", k->name);
}

int main(void)
{
    size_t count;
    const struct kernels *const *tables = kernels_all(&count);
    CHECK(!kernels_select("no such thing") && kernels_select("generic"), "selection by name");
    CHECK(kernels_current() == tables[count - 1], "generic comes last");
    for (size_t t = 0; t < count; t++) {
        const struct kernels *k = tables[t];
        if (!kernels_supported(k)) {
            printf("skip kernels %s: this processor does not have it\n", k->name);
            CHECK(!kernels_select(k->name), "selected a table that cannot run");
            continue;
        }
        for (int type = 0; type < KERNEL_DTYPES; type++) {
            fill(type, x_array, ROWS * MAX_LENGTH);
            fill(type, y_array, ROWS * MAX_LENGTH);
            for (size_t n = 0; n <= 140; n++) {
                check_rows(k, type, n);
            }
            check_rows(k, type, 1000);
            for (size_t rows = 1; rows <= ROWS; rows++) {
                check_cosine_rows(k, type, rows, 1 + 10 * rows);
            }
            check_rows(k, type, MAX_LENGTH);
            for (size_t n = 1; n <= 40; n++) {
                check_columns(k, type, n, 1 + n % 17);
            }
            check_columns(k, type, 3, MAX_LENGTH);
        }
        static const size_t depths[] = {1,   2,   31,  32,  33,  64,   65,
                                        255, 256, 257, 511, 700, 2048, 2100};
        for (size_t i = 0; i < sizeof depths / sizeof *depths; i++) {
            check_tile(k, false, depths[i]);
            check_tile(k, true, depths[i]);
            if (k->rough != NULL && depths[i] <= ROUGH_DEPTH) {
                check_rough(k, depths[i], i % 3 == 0 ? 2.0 : 1e-8);
            }
        }
        for (size_t i = 0; i < 40 * 39; i++) {
            check_transpose(k, false, 1 + i % 40, i / 40);
            check_transpose(k, true, 1 + i % 40, i / 40);
        }
        check_wide_rows(k);
        check_cosine_sums(k);
        check_cosines(k);
        check_stream_cosines(k);
        check_whole_cosines(k);
        check_widening(k);
        check_narrowing(k);
    }
    return finish("kernels");
}
