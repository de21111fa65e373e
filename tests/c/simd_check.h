/*
 * Checks the vector abstraction of one instruction set against scalar arithmetic. Include it after
 * a header of csrc/simd (inside its target region, if it has one). It defines
 * check_vector_abstraction().
 */
static const double specials[] = {0.0,   -0.0,     1.0,       -1.5, 1e30,  -1e-30,
                                  1e-40, INFINITY, -INFINITY, NAN,  3.4e38};

static int same_double(double a, double b)
{
    return a == b || (isnan(a) && isnan(b));
}

/* An fma may round once or twice; both results are accepted. */
static int fma_fits(double got, double a, double b, double c, int narrow)
{
    double once = narrow ? (double)fmaf((float)a, (float)b, (float)c) : fma(a, b, c);
    double twice = narrow ? (double)((float)((float)a * (float)b) + (float)c) : a * b + c;
    return same_double(got, once) || same_double(got, twice);
}

static double max_propagating_nan(double a, double b)
{
    return isnan(a) || isnan(b) ? NAN : fmax(a, b);
}

static double pick(int i)
{
    return i % 3 == 0 ? specials[i / 3 % (int)(sizeof specials / sizeof *specials)]
                      : random_number() * pow(10.0, i % 11 - 5);
}

/* Stores a vector to out, and checks each lane i. a and b are the operands, for the message. */
#define CHECK_LANES(store, lanes, vector, condition) \
    do { \
        store(out, vector); \
        for (int i = 0; i < lanes; i++) \
            CHECK(condition, "lane %d: %g with %g: %g", i, (double)a[i], (double)b[i], \
                  (double)out[i]); \
    } while (0)

/* Stores a vector to out, and checks that each lane i is the expected number. */
#define CHECK_STORED(store, out, lanes, vector, expected) \
    do { \
        store(out, vector); \
        for (int i = 0; i < lanes; i++) \
            CHECK(same_double(out[i], expected), #vector " lane %d: %g, not %g", i, \
                  (double)out[i], (double)(expected)); \
    } while (0)

#define PASTE_TOKENS(a, b) a##b
#define PASTE(a, b) PASTE_TOKENS(a, b)
#include "simd/float32.h"
#include "simd_check_template.h"
#include "simd/end_float.h"
#include "simd/float64.h"
#include "simd_check_template.h"
#include "simd/end_float.h"

/* Checks the operations that only floats have. */
static void check_floats(void)
{
    float a[VF_LANES];
    uint16_t halves[VF_LANES];
    for (int round = 0; round < 500; round++) {
        for (int i = 0; i < VF_LANES; i++) a[i] = (float)pick(round + 3 * i);
        vf_store_f16(halves, vf_load(a));
        for (int i = 0; i < VF_LANES; i++)
            CHECK(isnan(a[i]) ? isnan(f16_to_f32(halves[i])) : halves[i] == f16_from_double(a[i]),
                  "f16 of %g", a[i]);
        vf_store_bf16(halves, vf_load(a));
        for (int i = 0; i < VF_LANES; i++)
            CHECK(isnan(a[i]) ? isnan(bf16_to_f32(halves[i])) : halves[i] == bf16_from_double(a[i]),
                  "bf16 of %g", a[i]);
    }
}

/* Checks the operations that only doubles have. */
static void check_doubles(void)
{
    double a[VD_LANES], b[VD_LANES], out[VD_LANES];
    float narrow[VD_LANES];
    for (int round = 0; round < 500; round++) {
        unsigned beyond = 0;
        int all = 1;
        for (int i = 0; i < VD_LANES; i++) {
            a[i] = pick(round + 3 * i);
            b[i] = pick(2 * round + 5 * i + 1);
            all &= a[i] >= b[i];
            beyond |= (unsigned)(fabs(a[i]) > 0.5) << i;
        }
        const vd va = vd_load(a), vb = vd_load(b);
        CHECK_LANES(vd_store, VD_LANES, vd_clip(va),
                    same_double(out[i], a[i] > 1    ? 1
                                        : a[i] < -1 ? -1
                                                    : a[i]));
        CHECK_STORED(vd_store, out, VD_LANES, vd_sqrt(va), sqrt(a[i]));
        CHECK((vd_all_at_least(va, vb) != 0) == all && vd_all_at_least(vd_set1(1.0), vd_set1(1.0)),
              "all at least");
        CHECK(vd_beyond(va, vd_set1(0.5)) == beyond, "beyond");
        CHECK_STORED(vd_store_f32, narrow, VD_LANES, va, (float)a[i]);
    }
}

/* Scales by powers of two over the whole range and beyond; subnormal results must be rounded once.
 */
static void check_scaling(void)
{
    float f[VF_LANES], fn[VF_LANES];
    double d[VD_LANES], dn[VD_LANES];
    for (int n = -2044; n <= 2044; n++) {
        for (int i = 0; i < VF_LANES; i++) {
            f[i] = (float)(random_number() < 0 ? -1 : 1) * (0.75f + 0.25f * (float)random_number());
            fn[i] = (float)((n + 31 * i) % 253);
        }
        for (int i = 0; i < VD_LANES; i++) {
            d[i] = (random_number() < 0 ? -1 : 1) * (1.25 + 0.75 * random_number());
            dn[i] = i == 0 ? n : (n + 257 * i) % 2045;
        }
        f[1] = n % 2 == 0 ? NAN : 0.0f;
        d[1] = n % 2 == 0 ? 0.0 : NAN;
        float fout[VF_LANES];
        double dout[VD_LANES];
        vf_store(fout, vf_scale(vf_load(f), vf_load(fn)));
        vd_store(dout, vd_scale(vd_load(d), vd_load(dn)));
        for (int i = 0; i < VF_LANES; i++)
            CHECK(same_double(fout[i], ldexpf(f[i], (int)fn[i])), "%a * 2^%g: %a", f[i], fn[i],
                  fout[i]);
        for (int i = 0; i < VD_LANES; i++)
            CHECK(same_double(dout[i], ldexp(d[i], (int)dn[i])), "%a * 2^%g: %a", d[i], dn[i],
                  dout[i]);
    }
}

/* Checks sums of lanes that hold integers: these sums are exact in any order. */
static void check_folds(void)
{
    double out[VD_LANES], numbers[VD_LANES][VD_LANES], total = 0;
    float floats[VF_LANES];
    vd rows[VD_LANES];
    for (int r = 0; r < VD_LANES; r++) {
        for (int i = 0; i < VD_LANES; i++) numbers[r][i] = (double)(1 << r) + 100 * i;
        rows[r] = vd_load(numbers[r]);
    }
    vd_store(out, vd_row_sums(rows));
    for (int r = 0; r < VD_LANES; r++)
        CHECK(out[r] == VD_LANES * (double)(1 << r) + 50 * VD_LANES * (VD_LANES - 1), "row %d: %g",
              r, out[r]);
    for (int i = 0; i < VF_LANES; i++) floats[i] = (float)(1 << i);
    vd_store(out, vd_fold_f32(vf_load(floats)));
    for (int i = 0; i < VD_LANES; i++) total += out[i];
    CHECK(total == (1 << VF_LANES) - 1, "fold: %g", total);
}

/* Checks sums of lanes whose result depends on the order. A row must have the same sum at every row
 * index. */
#define CHECK_ROW_SUMS(type, vector, op, lanes, roundoff) \
    for (int round = 0; round < 100; round++) { \
        type numbers[lanes][lanes], out[lanes], first[lanes]; \
        vector rows[lanes]; \
        for (int i = 0; i < lanes * lanes; i++) \
            numbers[i / lanes][i % lanes] = \
                (type)(random_number() * pow(10.0, (7 * i + round) % 11 - 5)); \
        for (int shift = 0; shift < lanes; shift++) { \
            for (int r = 0; r < lanes; r++) rows[(r + shift) % lanes] = op##_load(numbers[r]); \
            op##_store(out, op##_row_sums(rows)); \
            for (int r = 0; r < lanes; r++) { \
                const type got = out[(r + shift) % lanes]; \
                long double sum = 0, size = 0; \
                for (int i = 0; i < lanes; i++) { \
                    sum += (long double)numbers[r][i]; \
                    size += fabsl((long double)numbers[r][i]); \
                } \
                first[r] = shift == 0 ? got : first[r]; \
                CHECK(memcmp(&got, &first[r], sizeof got) == 0, "row %d at %d: %a, not %a", r, \
                      (r + shift) % lanes, got, first[r]); \
                CHECK(fabsl((long double)got - sum) <= lanes * roundoff * size, "row %d: %a", r, \
                      got); \
            } \
        } \
    }
static void check_row_sums(void)
{
    CHECK_ROW_SUMS(float, vf, vf, VF_LANES, 0x1p-24L)
    CHECK_ROW_SUMS(double, vd, vd, VD_LANES, 0x1p-53L)
}

/* Checks that a load of a pair of vectors gives each of the 2 * VF_LANES elements exactly once, in
 * both formats. It compares sums of squares. */
static void check_pairs(void)
{
    uint16_t halves[2 * VF_LANES];
    float low[VF_LANES], high[VF_LANES];
    for (int format = 0; format < 2; format++) {
        double sum = 0;
        for (int i = 0; i < 2 * VF_LANES; i++)
            halves[i] = format == 0 ? f16_from_double(i + 1) : bf16_from_double(i + 1);
        vf a, b;
        if (format == 0) {
            vf_load_pair_f16(halves, &a, &b);
        } else {
            vf_load_pair_bf16(halves, &a, &b);
        }
        vf_store(low, a);
        vf_store(high, b);
        for (int i = 0; i < VF_LANES; i++) sum += low[i] * low[i] + high[i] * high[i];
        const double n = 2 * VF_LANES;
        CHECK(sum == n * (n + 1) * (2 * n + 1) / 6, "pair of format %d: %g", format, sum);
    }
}

/* Checks the widening of 8-bit integers, and the sums of pairs of their products, over the whole
 * range. */
static void check_integers(void)
{
    int8_t x[2 * VF_LANES];
    uint8_t y[2 * VF_LANES];
    double out[VD_LANES];
    for (int round = 0; round < 256; round++) {
        double signed_sum = 0, unsigned_sum = 0, got[2] = {0, 0};
        for (int i = 0; i < 2 * VF_LANES; i++) {
            x[i] = (int8_t)(round + 37 * i);
            y[i] = (uint8_t)(round + 53 * i);
            signed_sum += x[i] * x[i];
            unsigned_sum += y[i] * y[i];
        }
        const vi sums[2] = {vi_dot(vi_zero(), vh_load_i8(x), vh_load_i8(x)),
                            vi_dot(vi_zero(), vh_load_u8(y), vh_load_u8(y))};
        for (int s = 0; s < 2; s++) {
            vd_store(out, vd_fold_i32(vi_dot(sums[s], vh_load_i8(x), vh_load_u8(y))));
            for (int i = 0; i < VD_LANES; i++) got[s] += out[i];
        }
        double mixed = 0;
        for (int i = 0; i < 2 * VF_LANES; i++) mixed += x[i] * y[i];
        CHECK(got[0] == signed_sum + mixed && got[1] == unsigned_sum + mixed, "integers %d", round);
        CHECK_STORED(vd_store, out, VD_LANES, vd_load_i8(x), x[i]);
        CHECK_STORED(vd_store, out, VD_LANES, vd_load_u8(y), y[i]);
    }
}

/* Checks SQ8 codes: stores, products up to the ends of the range, and sums of lanes. */
static void check_codes(void)
{
    vf numbers[4];
    float floats[4 * VF_LANES];
    uint8_t stored[4 * VF_LANES], codes[SQ8_LANES];
    int8_t query_codes[SQ8_LANES], repeated[SQ8_LANES];
    int32_t out[VF_LANES];
    vi rows[VF_LANES];
    memset(repeated, 1, sizeof repeated);
    for (int round = 0; round < 255; round++) {
        for (int i = 0; i < 4 * VF_LANES; i++) floats[i] = (float)((round + 11 * i) % 255 - 127);
        for (int i = 0; i < 4; i++) numbers[i] = vf_load(floats + i * VF_LANES);
        vf_store_codes(stored, numbers);
        for (int i = 0; i < 4 * VF_LANES; i++)
            CHECK(stored[i] == floats[i] + 128, "code %d of %g", stored[i], floats[i]);
        int32_t expected[2][VF_LANES] = {{0}};
        for (int i = 0; i < SQ8_LANES; i++) {
            codes[i] = (uint8_t)(255 - (round + 7 * i) % 256);
            query_codes[i] = (int8_t)(round % 3 == 0   ? QUERY_CODE_MAX
                                      : round % 3 == 1 ? -QUERY_CODE_MAX
                                                       : (round + 5 * i) % QUERY_CODE_MAX);
            expected[0][i / 4] += (codes[i] + U8_OFFSET) * query_codes[i];
            expected[1][i / 4] += ((int8_t)codes[i] + I8_OFFSET) * query_codes[i];
        }
        const vc loaded[2] = {vc_u8(vc_load(codes)), vc_i8(vc_load(codes))},
                 other = vc_load(query_codes);
        for (int t = 0; t < 2; t++) {
            vi_store(out,
                     vi_dot_codes(vi_dot_codes(vi_zero(), loaded[t], other), loaded[t], other));
            for (int r = 0; r < VF_LANES; r++)
                CHECK(out[r] == 2 * expected[t][r], "lane %d of round %d: %d", r, round, out[r]);
            for (int r = 0; r < VF_LANES; r++) rows[r] = vi_zero();
            rows[round % VF_LANES] = vi_load(expected[t]);
            vi_store(out, vi_row_sums(rows));
            vf_store(floats, vf_from_i32(vi_load(out)));
            int32_t total = 0;
            for (int r = 0; r < VF_LANES; r++) total += expected[t][r];
            for (int r = 0; r < VF_LANES; r++)
                CHECK(out[r] == (r == round % VF_LANES ? total : 0) && floats[r] == (float)out[r],
                      "row %d of round %d: %d", r, round, out[r]);
        }
        int32_t upper[VF_LANES];
        vi_store(out, vi_lower_halves(vi_load(expected[0]), vi_load(expected[1])));
        vi_store(upper, vi_upper_halves(vi_load(expected[0]), vi_load(expected[1])));
        for (int r = 0; r < VF_LANES; r++) {
            const int at = r % (VF_LANES / 2), t = r / (VF_LANES / 2);
            CHECK(out[r] == expected[t][at] && upper[r] == expected[t][at + VF_LANES / 2],
                  "half %d, lane %d of round %d: %d", t, at, round, out[r]);
        }
        for (int t = 0; t < 2; t++) { /* squares of unsigned and of signed bytes */
            int64_t expected_square = 0, square = 0;
            const vc bytes = vc_load(codes);
            for (int i = 0; i < SQ8_LANES; i++) {
                const int element = t == 0 ? codes[i] : (int8_t)codes[i];
                expected_square += 3 * element * element;
            }
            vi sums = vi_zero();
            for (int i = 0; i < 3; i++)
                sums = vi_add_squares(sums, t == 0 ? bytes : vc_magnitudes(bytes));
            vi_store(out, sums);
            for (int r = 0; r < VF_LANES; r++) square += out[r];
            CHECK(square == expected_square, "squares of round %d: %lld", round, (long long)square);
        }
        vi_store(out, vi_dot_codes(vi_zero(), vc_u8(vc_broadcast(codes)), vc_load(repeated)));
        for (int r = 0; r < VF_LANES; r++)
            CHECK(out[r] == codes[0] + codes[1] + codes[2] + codes[3] + 4 * U8_OFFSET,
                  "broadcast %d of round %d: %d", r, round, out[r]);
    }
}

/* Checks the counts of differing bits, up to the largest counts that bytes hold, and the sums of
 * counts. */
static void check_bits(void)
{
    uint8_t a[4 * VF_LANES], b[4 * VF_LANES], mask[4 * VF_LANES];
    int32_t out[VF_LANES];
    memset(mask, 0x55, sizeof mask);
    for (int round = 0; round < 256; round++) {
        int64_t expected = 5 * 31 * 8 * 4 * VF_LANES, sum = 0;
        vb counts[2] = {vb_zero(), vb_zero()};
        for (int i = 0; i < 4 * VF_LANES; i++) {
            a[i] = (uint8_t)(round + 37 * i);
            b[i] = (uint8_t)(round * i);
            for (int bit = 0; bit < 8; bit++) expected += ((a[i] & 0x55) ^ b[i]) >> bit & 1;
        }
        counts[0] = vb_count_differences(counts[0], vb_and(vb_load(a), vb_load(mask)), vb_load(b));
        for (int i = 0; i < 4 * VF_LANES; i++) b[i] = (uint8_t)~a[i];
        for (int i = 0; i < 31; i++)
            counts[1] = vb_count_differences(counts[1], vb_load(a), vb_load(b));
        vi sums = vi_add_counts(vi_zero(), counts[0]);
        for (int i = 0; i < 5; i++) sums = vi_add_counts(sums, counts[1]);
        vi_store(out, sums);
        for (int i = 0; i < VF_LANES; i++) sum += out[i];
        CHECK(sum == expected, "bits, round %d: %d, not %d", round, (int)sum, (int)expected);
    }
}

/* Loads 64-bit integers whose halves are near their limits, as floats. */
static void check_load_i64(void)
{
    enum { EXACT = 1 << 24 };
    static const int64_t highs[] = {0,         1,
                                    2,         -1,
                                    -2,        EXACT,
                                    EXACT + 1, -EXACT - 1,
                                    INT32_MAX, INT32_MAX - 1,
                                    INT32_MIN, INT32_MIN + 1};
    static const uint32_t lows[] = {0, 1, 5, INT32_MAX, 1u << 31, (1u << 31) + 1, UINT32_MAX};
    const size_t high_count = sizeof highs / sizeof *highs, low_count = sizeof lows / sizeof *lows;
    int64_t integers[VF_LANES];
    float floats[VF_LANES];
    for (size_t first = 0; first < high_count * low_count; first++) {
        for (size_t i = 0; i < VF_LANES; i++) {
            const size_t n = (first + i) % (high_count * low_count);
            integers[i] = highs[n / low_count] * ((int64_t)1 << 32) + lows[n % low_count];
        }
        vf_store(floats, vf_load_i64(integers));
        for (size_t i = 0; i < VF_LANES; i++) {
            const long double exact = (long double)integers[i];
            CHECK(fabsl(floats[i] - exact) <= fabsl(exact) * 0x1p-22L, "i64 %lld",
                  (long long)integers[i]);
        }
        int32_t words[VF_LANES];
        int16_t halves[VF_LANES];
        double doubles[VF_LANES];
        for (size_t i = 0; i < VF_LANES; i++) {
            words[i] = (int32_t)(integers[i] >> 16);
            halves[i] = (int16_t)integers[i];
            doubles[i] = (double)integers[i];
        }
        CHECK_STORED(vf_store, floats, VF_LANES, vf_load_i32(words), (float)words[i]);
        CHECK_STORED(vf_store, floats, VF_LANES, vf_load_i16(halves), (float)halves[i]);
        CHECK_STORED(vf_store, floats, VF_LANES, vf_load_f64(doubles), (float)doubles[i]);
    }
}

/* Loads all 65,536 bit patterns of both 16-bit formats in every lane, floats as doubles, and the
 * first elements of a vector. */
static void check_loads(void)
{
    uint16_t halves[VF_LANES];
    float floats[VF_LANES];
    double doubles[VD_LANES], numbers[VD_LANES];
    for (unsigned pattern = 0; pattern < 65536; pattern++) {
        for (int i = 0; i < VF_LANES; i++) halves[i] = (uint16_t)(pattern + 257u * (unsigned)i);
        CHECK_STORED(vf_store, floats, VF_LANES, vf_load_f16(halves), f16_to_f32(halves[i]));
        CHECK_STORED(vf_store, floats, VF_LANES, vf_load_bf16(halves), bf16_to_f32(halves[i]));
        CHECK_STORED(vd_store, doubles, VD_LANES, vd_load_f16(halves), f16_to_f32(halves[i]));
        CHECK_STORED(vd_store, doubles, VD_LANES, vd_load_bf16(halves), bf16_to_f32(halves[i]));
        CHECK_STORED(vd_store, doubles, VD_LANES, vd_load_f32(floats), floats[i]);
    }
    for (int i = 0; i < VD_LANES; i++) floats[i] = (float)(numbers[i] = 1.5 + i);
    for (int n = 1; n < VD_LANES; n++) { /* the elements are the last of the arrays */
        const double *p = numbers + VD_LANES - n;
        const float *f = floats + VD_LANES - n;
        CHECK_STORED(vd_store, doubles, VD_LANES, vd_load_first(p, n), i < n ? p[i] : 0.0);
        CHECK_STORED(vd_store, doubles, VD_LANES, vd_load_first_f32(f, n), i < n ? f[i] : 0.0);
    }
}

static void check_vector_abstraction(void)
{
    check_arithmetic_f32();
    check_arithmetic_f64();
    check_floats();
    check_doubles();
    check_scaling();
    check_loads();
    check_load_i64();
    check_folds();
    check_row_sums();
    check_pairs();
    check_integers();
    check_codes();
    check_bits();
}
