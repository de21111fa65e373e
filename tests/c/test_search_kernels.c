/* Checks the search kernels of every instruction set that this machine supports against naive
 * references. */
#include <math.h>
#include <string.h>

#include "check.h"
#include "guarded.h"
#include "kernels/kernels.h"

enum { MAX_DEPTH = 4096, ROWS = 37 };

static float floats[(ROWS + 1) * MAX_DEPTH];
static double doubles[2 * MAX_DEPTH];

/* tile_sum gives the same bits as the same sum in a tile. */
static void check_tile_sum(const struct tile_kernels *k, const char *name, bool f64, size_t depth)
{
    enum { MAX_ROWS = 16, MAX_COLUMNS = 64 };
    static double panel[MAX_COLUMNS * TILE_DEPTH], sums[MAX_ROWS * MAX_COLUMNS],
        errors[MAX_ROWS * MAX_COLUMNS];
    const size_t columns = k[f64].columns, size = f64 ? 8 : 4;
    const char *x = f64 ? (const char *)doubles : (const char *)floats, *y = x + depth * size;
    const void *left_rows[MAX_ROWS];
    for (size_t r = 0; r < k->rows; r++) left_rows[r] = x;
    for (size_t done = 0, n; done < depth; done += n) {
        const void *right = y + done * size;
        n = depth - done < TILE_DEPTH ? depth - done : TILE_DEPTH;
        memset(panel, 0, sizeof panel);
        k[f64].transpose(panel, columns, &right, 1, n);
        k[f64].tile(sums, errors, left_rows, panel, done, n,
                    (done == 0 ? TILE_FIRST : 0) | (done + n == depth ? TILE_LAST : 0), 0);
    }
    const double alone = k[f64].tile_sum(x, y, depth);
    CHECK(memcmp(&alone, sums, sizeof alone) == 0, "%s tile_sum f64=%d depth %zu: %.17g, %.17g",
          name, f64, depth, alone, sums[0]);
    CHECK(alone != 0.0 || !signbit(alone), "%s tile_sum f64=%d depth %zu: -0", name, f64, depth);
}

/* Checks rows whose products all underflow, most of them to -0. */
static void check_underflow(const struct tile_kernels *k, const char *name, size_t depth)
{
    for (size_t i = 0; i < 2 * depth; i++) {
        const double sign = i >= depth && i % 7 != 3 ? -1.0 : 1.0;
        floats[i] = (float)(sign * (i % 3 == 0 ? 0.0 : 1e-30));
        doubles[i] = sign * (i % 3 == 0 ? 0.0 : 1e-200);
    }
    check_tile_sum(k, name, false, depth);
    check_tile_sum(k, name, true, depth);
}

/* Returns n random floats of which every `nan`-th is NaN, and padding that kernels may read. */
static void *scores_with_nan(bool f64, size_t n, size_t nan)
{
    void *scores = numbers(f64, n + SELECT_PADDING, 0);
    for (size_t i = 0; i < n + SELECT_PADDING; i++) {
        put(f64, scores, i, i % nan == 5 ? NAN : (double)(float)get(f64, scores, i));
    }
    return scores;
}

static void check_select_at_least(const struct tile_kernels *k, const char *name, bool f64,
                                  size_t rows, size_t columns)
{
    enum { STEP = 32, MAX = 64 };
    void *scores = scores_with_nan(f64, MAX * STEP, 13), *row_thresholds = numbers(f64, MAX, 0),
         *column_thresholds = numbers(f64, STEP + SELECT_PADDING, 0);
    uint32_t found[MAX * STEP / COSINE_STEP + 2];
    for (size_t i = 0; i < MAX; i++) put(f64, row_thresholds, i, 0.75);
    for (size_t i = 0; i < STEP + SELECT_PADDING; i++) {
        const double score = get(f64, scores, i);
        put(f64, column_thresholds, i, i % 2 == 0 || isnan(score) ? 0.5 : score);
    }
    for (int with_rows = 0; with_rows < 2; with_rows++) {
        bool got[MAX * STEP] = {false};
        const size_t count =
            k[f64].select_at_least(scores, STEP, rows, columns, with_rows ? row_thresholds : NULL,
                                   column_thresholds, found);
        for (size_t n = 0; n < count; n++) {
            for (size_t i = 0; i < 8; i++) {
                if (found[n] >> i & 1) {
                    const size_t r = found[n] >> 16, c = (found[n] >> 8 & 0xff) + i;
                    CHECK(
                        r < rows && c < columns && !got[r * STEP + c],
                        "%s select_at_least f64=%d with_rows=%d %zu x %zu at %zu, %zu (%zu of %zu)",
                        name, f64, with_rows, rows, columns, r, c, n, count);
                    got[r * STEP + c] = true;
                }
            }
        }
        for (size_t r = 0; r < rows; r++) {
            for (size_t c = 0; c < columns; c++) {
                const double of_column = get(f64, column_thresholds, c),
                             threshold = with_rows ? fmin(0.75, of_column) : of_column;
                const bool expected = !(get(f64, scores, r * STEP + c) < threshold);
                CHECK(got[r * STEP + c] == expected, "%s select_at_least f64=%d %zu, %zu", name,
                      f64, r, c);
            }
        }
    }
    guarded_release("select_at_least");
}

/* keep_at_least and count_at_least, into other arrays and in place. */
static void check_keep(const struct tile_kernels *k, const char *name, bool f64, size_t n)
{
    enum { MAX = 300 };
    const size_t size = (MAX + SELECT_PADDING) * size_of(f64);
    int64_t numbers_in[MAX + SELECT_PADDING], numbers_kept[MAX + SELECT_PADDING];
    void *scores = scores_with_nan(f64, MAX, 13), *kept = guarded_alloc(size);
    for (size_t i = 0; i < MAX + SELECT_PADDING; i++) numbers_in[i] = (int64_t)i << 31;
    for (int level = -1; level < 3; level++) {
        const double least = level < 0    ? -INFINITY
                             : level == 2 ? INFINITY
                                          : get(f64, scores, (size_t)level);
        for (int in_place = 0; in_place < 2; in_place++) {
            memcpy(kept, scores, size);
            memcpy(numbers_kept, numbers_in, sizeof numbers_in);
            const size_t count =
                k[f64].keep_at_least(kept, numbers_kept, in_place ? kept : scores,
                                     in_place ? numbers_kept : numbers_in, n, least);
            size_t expected = 0;
            for (size_t i = 0; i < n; i++) {
                if (get(f64, scores, i) < least) continue;
                CHECK(same(get(f64, kept, expected), get(f64, scores, i)) &&
                          numbers_kept[expected] == numbers_in[i],
                      "%s keep_at_least f64=%d %zu of %zu", name, f64, i, n);
                expected++;
            }
            CHECK(count == expected && k[f64].count_at_least(scores, n, least) == expected,
                  "%s keep_at_least f64=%d %zu: %zu, %zu", name, f64, n, count, expected);
        }
    }
    guarded_release("keep_at_least");
}

static void check_maxima(const struct tile_kernels *k, const char *name, bool f64, size_t rows,
                         size_t columns)
{
    enum { STEP = 32, MAX = 64 };
    double expected[STEP + SELECT_PADDING];
    void *scores = scores_with_nan(f64, MAX * STEP, 97),
         *maxima = guarded_alloc((STEP + SELECT_PADDING) * size_of(f64));
    for (size_t c = 0; c < STEP + SELECT_PADDING; c++) {
        expected[c] = c % 3 == 0 ? 0.5 : c % 11 == 1 ? NAN : -INFINITY;
        put(f64, maxima, c, expected[c]);
    }
    k[f64].maxima(maxima, scores, STEP, rows, columns);
    for (size_t c = 0; c < columns; c++) {
        for (size_t r = 0; r < rows; r++) {
            const double score = get(f64, scores, r * STEP + c);
            expected[c] = isnan(score) || score > expected[c] ? score : expected[c];
            if (isnan(score)) break;
        }
        CHECK(same(get(f64, maxima, c), expected[c]), "%s maxima f64=%d %zu x %zu at %zu", name,
              f64, rows, columns, c);
    }
    guarded_release("maxima");
}

static long double product(const float *x, const float *y, size_t n, long double *norm)
{
    long double sum = 0, xx = 0, yy = 0;
    for (size_t i = 0; i < n; i++) {
        sum += (long double)x[i] * y[i];
        xx += (long double)x[i] * x[i];
        yy += (long double)y[i] * y[i];
    }
    *norm = sqrtl(xx * yy);
    return sum;
}

/* Checks the kernel of each type against the rows that to_floats converts. */
static void check_coarse_dots(const struct kernels *k, size_t n)
{
    static const struct {
        enum dtype element;
        size_t size;
    } types[] = {{DTYPE_F32, 4}, {DTYPE_F16, 2}, {DTYPE_BF16, 2}, {DTYPE_F64, 8},
                 {DTYPE_I16, 2}, {DTYPE_I32, 4}, {DTYPE_I64, 8}};
    static uint16_t halves[ROWS * MAX_DEPTH];
    static int64_t integers[ROWS * MAX_DEPTH];
    static double wide_doubles[ROWS * MAX_DEPTH];
    static float wide[ROWS * MAX_DEPTH];
    const size_t rows = (int)COARSE_STEP < (int)ROWS ? COARSE_STEP : ROWS, step = n + 1;
    const float *vectors[COARSE_QUERIES];
    float dots[COARSE_QUERIES * COARSE_STEP], squares[COARSE_STEP];
    for (size_t q = 0; q < COARSE_QUERIES; q++) vectors[q] = floats + q * n + 3;
    for (size_t i = 0; i < rows * step; i++) {
        halves[i] = (uint16_t)(0x2c00 + (i * 37) % 0x1400);
        wide_doubles[i] = floats[i];
        integers[i] = (int64_t)(0x1p50 * doubles[i % MAX_DEPTH]);
    }
    for (size_t t = 0; t < sizeof types / sizeof *types; t++) {
        const enum dtype element = types[t].element;
        const size_t size = types[t].size;
        const void *x = element == DTYPE_F32   ? (const void *)floats
                        : element == DTYPE_F64 ? (const void *)wide_doubles
                        : element >= DTYPE_I8  ? (const void *)integers
                                               : halves;
        k->sums->to_floats[element](wide, x, rows * step, 1.0);
        for (size_t count = 1; count <= COARSE_QUERIES; count++) {
            long double norm;
            k->sums->coarse_dots[element](dots, squares, x, (ptrdiff_t)(step * size), rows, vectors,
                                          count, n);
            for (size_t i = 0; i < rows * count; i++) {
                const size_t q = i / rows, r = i % rows;
                const long double expected = product(wide + r * step, vectors[q], n, &norm);
                const float got = dots[q * COARSE_STEP + r];
                CHECK(fabsl(got - expected) <= (k->sums->coarse_error(n) + 0x1p-21) * norm,
                      "%s coarse_dots[%d] %zu: %g", k->name, element, n, (double)(got - expected));
            }
            for (size_t r = 0; r < rows; r++) {
                const long double expected = product(wide + r * step, wide + r * step, n, &norm);
                CHECK(fabsl(squares[r] - expected) <=
                          (k->sums->coarse_error(n) + 0x1p-20) * expected,
                      "%s squares[%d] %zu", k->name, element, n);
            }
        }
    }
}

/* Checks every type, with and without scaling: the relative error is at most 2^-22. */
static void check_to_floats(const struct kernels *k, size_t n)
{
    static const double scales[] = {1.0, 0x1p-60, 0x1p40};
    static float got[MAX_DEPTH];
#define CHECK_TYPE(element, type, value) \
    for (size_t s = 0; s < 3; s++) { \
        static type from[MAX_DEPTH]; \
        for (size_t i = 0; i < n; i++) from[i] = (type)(value); \
        k->sums->to_floats[element](got, from, n, scales[s]); \
        for (size_t i = 0; i < n; i++) { \
            const double expected = (double)from[i] * scales[s]; \
            CHECK(fabs(got[i] - expected) <= fabs(expected) * 0x1p-22, \
                  "%s to_floats[%d] %zu: %g, %g", k->name, element, i, (double)got[i], expected); \
        } \
    }
    CHECK_TYPE(DTYPE_F64, double, doubles[i] * 1e3)
    CHECK_TYPE(DTYPE_F32, float, floats[i] * 1e3f)
    CHECK_TYPE(DTYPE_I8, int8_t, 127 * doubles[i])
    CHECK_TYPE(DTYPE_U8, uint8_t, 255 * fabs(doubles[i]))
    CHECK_TYPE(DTYPE_I16, int16_t, 32767 * doubles[i])
    CHECK_TYPE(DTYPE_U16, uint16_t, 65535 * fabs(doubles[i]))
    CHECK_TYPE(DTYPE_I32, int32_t, 2147483647.0 * doubles[i])
    CHECK_TYPE(DTYPE_U32, uint32_t, 4294967295.0 * fabs(doubles[i]))
    CHECK_TYPE(DTYPE_I64, int64_t, 9e18 * doubles[i])
    CHECK_TYPE(DTYPE_U64, uint64_t, 1.8e19 * fabs(doubles[i]))
#undef CHECK_TYPE
}

/* Checks that the distance of a row from its SQ8 codes is at most scale.residual_norm. */
static void check_quantize(const struct kernels *k, const float *x, size_t n)
{
    static uint8_t codes[MAX_DEPTH + 1];
    struct code_scale scale, alone;
    float half;
    long double square = 0, residual = 0, half_square = 0;
    bool finite = true;
    for (size_t i = 0; i < n; i++) {
        square += (long double)x[i] * x[i];
        finite = finite && isfinite(x[i]);
    }
    codes[n] = 77;
    k->sq8->quantize(codes, &alone, NULL, x, n);
    const float got = k->sq8->quantize(codes, &scale, &half, x, n);
    CHECK(codes[n] == 77, "%s quantize wrote past its end", k->name);
    CHECK(memcmp(&scale, &alone, sizeof scale) == 0, "%s quantize depends on half_residual",
          k->name);
    if (!finite) {
        CHECK(scale.residual_norm == INFINITY, "%s quantize of a row that is not finite", k->name);
        return;
    }
    CHECK(fabsl(got - square) <= COARSE_DOT_ERROR(n) * square, "%s square %g", k->name, got);
    const long double norm = square > 0 ? sqrtl(square) : 1;
    for (size_t i = 0; i < n; i++) {
        const long double left = x[i] / norm - (long double)scale.scale * (codes[i] - CODE_ZERO);
        const long double rest =
            x[i] / norm - (long double)scale.scale * (codes[i] / 16 * 16 + 8 - CODE_ZERO);
        residual += left * left;
        half_square += rest * rest;
    }
    CHECK(scale.residual_norm == INFINITY ||
              (sqrtl(half_square) <= half &&
               half <= 1.01 * sqrtl(half_square) + 2 * COARSE_DOT_ERROR(n) + 1e-5),
          "%s half_residual %zu: %g, %g", k->name, n, (double)sqrtl(half_square), half);
    CHECK(sqrtl(residual) <= scale.residual_norm, "%s residual_norm %zu: %g, %g", k->name, n,
          (double)sqrtl(residual), scale.residual_norm);
    CHECK(n > 1024 || scale.residual_norm < 0.02 + COARSE_DOT_ERROR(n),
          "%s residual_norm %zu is too large: %g", k->name, n, scale.residual_norm);
}

/* Fills codes with random bytes, many of which are 255. */
static void random_codes(uint8_t *codes, size_t n)
{
    for (size_t i = 0; i < n; i++)
        codes[i] = (uint8_t)(i % 5 == 0 ? 255 : (int)(128 + 127 * random_number()));
}

static int element_of(const struct kernels *k, uint8_t byte, bool is_signed)
{
    return is_signed ? (int8_t)byte + k->sq8->i8_offset : byte + k->sq8->u8_offset;
}

/* Returns row numbers in descending order: row r is row rows - 1 - r in memory. */
static const size_t *numbers_backwards(size_t rows)
{
    static size_t backwards[ROWS];
    for (size_t r = 0; r < rows; r++) backwards[r] = rows - 1 - r;
    return backwards;
}

/* Writes row numbers in ascending order: of each 3 * run rows the last `run`. Returns their count.
 */
static size_t numbers_with_gaps(size_t rows, size_t run, size_t *numbers)
{
    size_t count = 0;
    for (size_t r = 0; r < rows; r++) {
        if (r / run % 3 == 2) numbers[count++] = r;
    }
    return count;
}

static void check_codes(const struct kernels *k, size_t n, size_t rows, bool is_signed,
                        bool numbered)
{
    static uint8_t codes[ROWS * MAX_DEPTH];
    static int8_t query_codes[SQ8_QUERIES][MAX_DEPTH + SQ8_PADDING];
    static int32_t sums[SQ8_QUERIES * ROWS], squares[ROWS];
    const int8_t *queries[SQ8_QUERIES];
    const int code_max = k->sq8->query_code_max;
    random_codes(codes, rows * n);
    for (size_t q = 0; q < SQ8_QUERIES; q++) {
        memset(query_codes[q], 0, sizeof query_codes[q]);
        for (size_t i = 0; i < n; i++) {
            const double part = q < 2 || i % 7 == 0 ? 1.0 : 0.3;
            query_codes[q][i] = (int8_t)(code_max * part * (q % 2 == 0 ? 1 : -1));
        }
        queries[q] = query_codes[q];
    }
    for (size_t count = 1; count <= SQ8_QUERIES; count++) {
        memset(sums, 0, sizeof sums);
        const struct sq8_rows x = {.codes = codes,
                                   .step = (ptrdiff_t)n,
                                   .count = rows,
                                   .n = n,
                                   .numbers = numbered ? numbers_backwards(rows) : NULL};
        sq8_dots_kernel *kernel = is_signed ? k->sq8->dots_i8 : k->sq8->dots_u8;
        kernel(sums, ROWS, squares, &x, queries, count);
        for (size_t r = 0; r < rows; r++) {
            int64_t expected = 0;
            for (size_t i = 0; i < n; i++) {
                const uint8_t byte = codes[(numbered ? rows - 1 - r : r) * n + i];
                const int64_t element = is_signed ? (int64_t)(int8_t)byte : byte;
                expected += element * element;
            }
            CHECK(squares[r] == expected, "%s squares %zu x %zu, row %zu: %d", k->name, rows, n, r,
                  squares[r]);
        }
        memset(sums, 0, sizeof sums);
        kernel(sums, ROWS, NULL, &x, queries, count);
        for (size_t q = 0; q < count; q++) {
            for (size_t r = 0; r < rows; r++) {
                int64_t expected = 0;
                const size_t row = numbered ? rows - 1 - r : r;
                for (size_t i = 0; i < n; i++)
                    expected += element_of(k, codes[row * n + i], is_signed) * query_codes[q][i];
                if (!is_signed) {
                    int32_t alone[SQ8_QUERIES];
                    k->sq8->row_dots_u8(alone, codes + row * n, queries, count, n);
                    CHECK(alone[q] == expected, "%s row_dots %zu: %d", k->name, n, alone[q]);
                }
                CHECK(sums[q * ROWS + r] == expected,
                      "%s codes %zu x %zu, query %zu of %zu, row %zu: %d", k->name, rows, n, q,
                      count, r, sums[q * ROWS + r]);
            }
        }
    }
}

/* Checks that halves are joined to the codes that they were made from, and checks products and
 * bounds of halves. */
static void check_halves(const struct kernels *k, size_t n, size_t rows, bool numbered)
{
    static uint8_t codes[ROWS * MAX_DEPTH], joined[MAX_DEPTH + 1];
    static uint8_t halves[2][ROWS * HALF_BYTES(MAX_DEPTH)];
    static int8_t query_codes[SQ8_QUERIES][MAX_DEPTH + 2 * SQ8_PADDING];
    static int32_t sums[SQ8_QUERIES * ROWS];
    const size_t bytes = HALF_BYTES(n);
    const int8_t *queries[SQ8_QUERIES];
    int32_t query_sums[SQ8_QUERIES] = {0};
    random_codes(codes, rows * n);
    for (size_t q = 0; q < SQ8_QUERIES; q++) {
        memset(query_codes[q], 0, sizeof query_codes[q]);
        for (size_t i = 0; i < n; i++) {
            query_codes[q][i] =
                (int8_t)(k->sq8->query_code_max * (q % 2 == 0 ? 1 : -1) / (int)(1 + i % 3 * q));
            query_sums[q] += query_codes[q][i];
        }
        queries[q] = query_codes[q];
    }
    for (size_t r = 0; r < rows; r++) {
        k->sq8->split_halves(halves[0] + r * bytes, halves[1] + r * bytes, codes + r * n, n);
        joined[n] = 77;
        k->sq8->join_halves(joined, halves[0] + r * bytes, halves[1] + r * bytes, n);
        CHECK(memcmp(joined, codes + r * n, n) == 0 && joined[n] == 77, "%s join_halves %zu",
              k->name, n);
    }
    for (size_t count = 1; count <= SQ8_QUERIES; count++) {
        for (int half = 0; half < 2; half++) {
            const struct sq8_rows x = {.codes = halves[half],
                                       .step = (ptrdiff_t)bytes,
                                       .count = rows,
                                       .n = n,
                                       .numbers = numbered ? numbers_backwards(rows) : NULL};
            k->sq8->half_dots(sums, ROWS, &x, queries, count);
            for (size_t run = 1; numbered && run < 4; run += 2) {
                size_t numbers[ROWS];
                struct sq8_rows some = x;
                some.count = numbers_with_gaps(rows, run, numbers);
                some.numbers = numbers;
                int32_t of_some[SQ8_QUERIES * ROWS];
                k->sq8->half_dots(of_some, ROWS, &some, queries, count);
                for (size_t i = 0; i < some.count; i++) {
                    CHECK(of_some[i] == sums[rows - 1 - numbers[i]],
                          "%s half %d, row %zu of %zu with gaps", k->name, half, numbers[i], rows);
                }
            }
            for (size_t q = 0; q < count; q++) {
                for (size_t r = 0; r < rows; r++) {
                    const uint8_t *row = codes + (numbered ? rows - 1 - r : r) * n;
                    int32_t expected = 0;
                    for (size_t i = 0; i < n; i++)
                        expected += (half == 0 ? row[i] / 16 : row[i] % 16) * query_codes[q][i];
                    CHECK(sums[q * ROWS + r] == expected,
                          "%s half %d of %zu x %zu, query %zu of %zu, row %zu: %d", k->name, half,
                          rows, n, q, count, r, sums[q * ROWS + r]);
                }
            }
        }
    }
    for (size_t i = 0; i < rows; i++) { /* the bound is that of codes 16 * upper + 8 */
        const uint32_t residual = i % 5 == 3 ? 0x7f800000 : 0x3c000000 + 0x3e00 + (uint32_t)i;
        struct code_scale scale = {0.0003f * (float)(i % 7), 0.0f};
        memcpy(&scale.residual_norm, &residual, sizeof residual);
        const struct query_bound query = {k->sq8->u8_offset == 0 ? -128 * query_sums[0] : 0, 1e-3f,
                                          1.0f, 0.01f, 0.0f};
        uint8_t keep = 7;
        const int32_t dot = (int32_t)i * 1000 - 3000;
        const bool got =
            k->sq8->select_halves(&keep, &dot, &scale, 1, &query, query_sums[0], 90.0f, 0.2f);
        const double half = i % 5 == 3 ? INFINITY : half_residual(&scale),
                     norm = fmin(1.0, 90.0 * scale.scale) + half,
                     bound = (16.0 * dot - 120.0 * query_sums[0]) * scale.scale * 1e-3 + half +
                             norm * 0.01;
        CHECK(half_residual(&scale) >= scale.residual_norm, "half_residual");
        CHECK(keep == got && (fabs(bound - 0.2) < 1e-4 || got == !(bound < 0.2)),
              "%s select_halves %zu: bound %g, %d", k->name, i, bound, got);
    }
}

/* Returns bounds of ROWS rows. Row 3 has an infinite residual, so it must never be ruled out. */
static struct row_bounds random_bounds(void)
{
    static float values[4][ROWS];
    for (size_t r = 0; r < ROWS; r++) {
        values[0][r] = 0.001f * (float)(r % 3);
        values[1][r] = 1.0f - 0.01f * (float)r;
        values[2][r] = r == 3 ? INFINITY : 0.002f * (float)r;
        values[3][r] = 0.3f * (float)(r % 4);
    }
    return (struct row_bounds){values[0], values[1], values[2], values[3]};
}

static double bound_of(const struct row_bounds *b, size_t r, const struct query_bound *q,
                       int64_t dot)
{
    return (double)(dot + q->offset) * b->scale[r] * q->scale + b->residual[r] * q->norm +
           b->norm[r] * q->residual + b->tail[r] * q->tail;
}

static void check_bounds_select(const struct kernels *k)
{
    int32_t sums[ROWS];
    uint8_t keep[ROWS];
    const struct row_bounds bounds = random_bounds();
    const struct query_bound query = {-1000, 0.001f, 0.9f, 0.01f, 0.2f};
    for (size_t rows = 1; rows <= ROWS; rows++) {
        bool any = false;
        for (size_t r = 0; r < rows; r++) sums[r] = 1000 + (int32_t)(r * 12000);
        const bool got = k->sq8->select(keep, sums, &bounds, rows, &query, 0.4f);
        for (size_t r = 0; r < rows; r++) {
            const double bound = bound_of(&bounds, r, &query, sums[r]);
            CHECK(fabs(bound - 0.4) < 1e-5 || keep[r] == (bound >= 0.4), "%s select of row %zu",
                  k->name, r);
            any |= keep[r] != 0;
        }
        CHECK(got == any, "%s select of any of %zu", k->name, rows);
    }
}

/* Checks that half_panel keeps the same pairs of rows and a narrow panel as panel_u8. */
static void check_half_panel(const struct kernels *k, const struct sq8_rows *rows,
                             const struct sq8_panel *panel, const float *thresholds,
                             const uint32_t *keep)
{
    static uint8_t halves[2][ROWS * MAX_DEPTH];
    static int8_t codes[(MAX_DEPTH + 256) * SQ8_PANEL];
    const size_t n = rows->n, bytes = HALF_BYTES(n), width = panel->width, step = 4 * width;
    struct sq8_rows x = *rows;
    struct sq8_panel of_halves = *panel;
    uint32_t got[ROWS];
    for (size_t r = 0; r < rows->count; r++)
        k->sq8->split_halves(halves[0] + r * bytes, halves[1] + r * bytes, rows->codes + r * n, n);
    memset(codes, 0, sizeof codes);
    for (size_t i = 0; i < n; i++) {
        const size_t high = i >= bytes, at = high ? i - bytes : i;
        for (size_t q = 0; q < width; q++)
            codes[((at / step * 2 + high) * width + q) * step + at % step] =
                panel->codes[(i / 4 * width + q) * 4 + i % 4];
    }
    of_halves.codes = codes;
    x.codes = x.halves[0] = halves[0];
    x.halves[1] = halves[1];
    x.step = (ptrdiff_t)bytes;
    k->sq8->half_panel(got, &x, &of_halves, thresholds);
    CHECK(memcmp(got, keep, rows->count * sizeof *got) == 0, "%s half_panel %zu x %zu, width %zu",
          k->name, rows->count, n, width);
}

/* Checks a panel of this width with `queries` queries. */
static void check_panel(const struct kernels *k, size_t n, size_t rows, size_t width,
                        size_t queries, bool is_signed, bool numbered)
{
    static uint8_t codes[ROWS * MAX_DEPTH];
    static int8_t panel_codes[(MAX_DEPTH + 3) * SQ8_PANEL];
    static int64_t dots[ROWS];
    struct sq8_panel panel = {.codes = panel_codes, .width = width, .queries = queries};
    uint32_t keep[ROWS];
    float thresholds[SQ8_PANEL] = {0}, row_thresholds[ROWS];
    const struct sq8_rows x = {.codes = codes,
                               .step = (ptrdiff_t)n,
                               .count = rows,
                               .n = n,
                               .bounds = random_bounds(),
                               .numbers = numbered ? numbers_backwards(rows) : NULL,
                               .thresholds = row_thresholds};
    const int code_max = k->sq8->panel_steps == 1 ? k->sq8->query_code_max : PANEL_SUM_MAX / 4;
    bool any = false;
    random_codes(codes, rows * n);
    memset(codes, is_signed ? INT8_MAX : UINT8_MAX, n); /* the largest sums of 16 bits */
    for (size_t r = 0; r < rows; r++)
        row_thresholds[r] = r % 2 == 0 ? INFINITY : 0.03f * (float)(r % 5);
    memset(panel_codes, 0, sizeof panel_codes);
    for (size_t q = 0; q < queries; q++) {
        panel.offset[q] = 100 * (int32_t)q;
        panel.scale[q] = 0.5f / (float)(n * (size_t)code_max);
        panel.norm[q] = 0.9f;
        panel.residual[q] = q == 5 ? NAN : 0.01f;
        panel.tail[q] = 0.02f * (float)q;
        thresholds[q] = q == 2 ? INFINITY : 0.05f * (float)(q % 4);
        for (size_t i = 0; i < n; i++)
            panel_codes[(i / 4 * width + q) * 4 + i % 4] =
                (int8_t)(q == 0 ? code_max : code_max * random_number());
    }
    const bool got =
        (is_signed ? k->sq8->panel_i8 : k->sq8->panel_u8)(keep, &x, &panel, thresholds);
    for (size_t q = 0; q < queries; q++) {
        const struct query_bound query = {panel.offset[q], panel.scale[q], panel.norm[q],
                                          panel.residual[q], panel.tail[q]};
        for (size_t r = 0; r < rows; r++) {
            dots[r] = 0;
            for (size_t i = 0; i < n; i++)
                dots[r] += element_of(k, codes[(numbered ? rows - 1 - r : r) * n + i], is_signed) *
                           panel_codes[(i / 4 * width + q) * 4 + i % 4];
            const double bound = bound_of(&x.bounds, r, &query, dots[r]);
            const bool kept = keep[r] >> q & 1;
            const float threshold = fminf(thresholds[q], row_thresholds[r]);
            CHECK(fabs(bound - threshold) < 1e-5 || kept == !(bound < threshold),
                  "%s panel %zu x %zu, width %zu, query %zu, row %zu: %g", k->name, rows, n, width,
                  q, r, bound);
        }
    }
    for (size_t r = 0; r < rows; r++) {
        any |= keep[r] != 0;
        CHECK(queries == 32 || keep[r] >> queries == 0, "%s panel: missing queries", k->name);
    }
    CHECK(got == any, "%s panel of any", k->name);
    if (width == k->sq8->panel_lanes && !is_signed)
        check_half_panel(k, &x, &panel, thresholds, keep);
}

static void check_all_codes(const struct kernels *k, size_t n, size_t rows, bool numbered)
{
    for (int kind = 0; kind < 4; kind++) check_codes(k, n, rows, kind / 2 != 0, kind % 2 != 0);
    check_halves(k, n, rows, numbered);
    for (size_t queries = 1; queries <= k->sq8->panel_queries; queries += 3) {
        const size_t lanes = k->sq8->panel_lanes,
                     width = queries <= lanes ? lanes : k->sq8->panel_queries;
        for (int kind = 0; kind < 4; kind++)
            check_panel(k, n, rows, width, queries, kind / 2 != 0, kind % 2 != 0);
    }
}

int main(void)
{
    static const size_t depths[] = {1,   2,   15,  16,  17,  31,  32,  33,  64,   65,
                                    100, 127, 255, 256, 257, 384, 511, 700, 1000, 2048};
    const size_t count = sizeof depths / sizeof *depths;
    size_t tables_count;
    const struct kernels *const *tables = kernels_all(&tables_count);
    for (size_t t = 0; t < tables_count; t++) {
        const struct kernels *k = tables[t];
        if (!kernels_supported(k)) {
            printf("skip search_kernels %s: this processor does not have it\n", k->name);
            continue;
        }
        for (size_t i = 0; i < sizeof floats / sizeof *floats; i++)
            floats[i] = (float)random_number();
        for (size_t i = 0; i < sizeof doubles / sizeof *doubles; i++) doubles[i] = random_number();
        for (size_t i = 0; i < count; i++) {
            check_tile_sum(k->tiles, k->name, false, depths[i]);
            check_tile_sum(k->tiles, k->name, true, depths[i]);
            check_coarse_dots(k, depths[i]);
            check_to_floats(k, depths[i]);
            check_quantize(k, floats + i, depths[i]);
            check_all_codes(k, depths[i], 1 + i, i % 2 == 0);
        }
        check_all_codes(k, MAX_DEPTH, 3, false);
        check_quantize(k, floats, MAX_DEPTH);
        for (size_t rows = 1; rows <= 64; rows += 9) {
            for (size_t columns = 1; columns <= 32; columns++) {
                for (int f64 = 0; f64 < 2; f64++) {
                    check_select_at_least(k->tiles, k->name, f64, rows, columns);
                    check_maxima(k->tiles, k->name, f64, rows, columns);
                    check_keep(k->tiles, k->name, f64, rows * columns % 300);
                }
            }
        }
        static const float odd[][3] = {{NAN, 1, 2}, {1, INFINITY, 0}, {0, 0, 0},
                                       {1, 0, 0},   {-1e15f, 1, 1},   {1e-15f, -1e-15f, 0}};
        for (size_t i = 0; i < sizeof odd / sizeof *odd; i++) {
            check_quantize(k, odd[i], 3);
        }
        check_bounds_select(k);
        for (size_t i = 0; i < count; i++) {
            check_underflow(k->tiles, k->name, depths[i]);
        }
    }
    return finish("search_kernels");
}
