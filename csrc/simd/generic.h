/*
 * The vector abstraction in plain C, with the vector types of gcc and clang. This header is the
 * contract that the header of every instruction set fulfils. derived.h adds the operations that are
 * the same in all sets.
 *
 * vf holds VF_LANES floats; vd holds VD_LANES = VF_LANES / 2 doubles; vh, vi and vc hold integers
 * and are described below. Kernels use only the names of this file, so a new instruction set needs
 * only one header like it. Loads and stores need the alignment of one element. *_fma(a, b, c)
 * returns a * b + c. It rounds FMA_ROUNDINGS times: once on hardware with fused multiply-add, twice
 * in this file.
 *
 * Kernels hold blocks of sums in registers. The number of registers of the instruction set limits
 * these block sizes:
 *   TILE_ROWS, TILE_VECTORS  A tile kernel needs TILE_ROWS x TILE_VECTORS registers for sums, and
 *                            TILE_VECTORS + 1 more.
 *   PIXEL_VECTORS,           A kernel of pixels needs PIXEL_SUMS registers for sums, and up to
 *   PIXEL_SUMS               PIXEL_VECTORS + 1 more. It is fastest with PIXEL_VECTORS vectors.
 *   SQ8_ROWS                 An SQ8 kernel needs SQ8_ROWS x 4 registers for sums, and SQ8_ROWS + 1
 *                            more. SQ8_ROWS x 4 is a multiple of VF_LANES.
 *   SQ8_PANEL_ROWS,          An SQ8 panel needs SQ8_PANEL_ROWS x SQ8_PANEL_VECTORS registers for
 *   SQ8_PANEL_VECTORS        sums, and SQ8_PANEL_VECTORS + 3 more. If PANEL_STEPS is 2, it needs as
 *                            many for products as for sums, and 4 more.
 *   COLUMN_VECTORS           A column kernel needs COLUMN_VECTORS x 3 registers for sums, and two
 *                            more.
 *   SUM_CHAINS               Even number of independent chains of a row kernel. They hide the
 *                            latency of an addition.
 *
 * A set that multiplies 16-bit integers faster than floats defines ROUGH_PAYS and the operations of
 * kernels/rough_template.h, which are described in simd/x86_vectors.h.
 */
#pragma once

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/half.h"

#define ISA_NAME generic
#define VF_LANES 4
#define FMA_ROUNDINGS 2
#define VD_LANES 2
#define TILE_ROWS 4
#define TILE_VECTORS 2
#define PIXEL_VECTORS 2
#define PIXEL_SUMS 8
#define SUM_CHAINS 2
#define COLUMN_VECTORS 2
#define SQ8_ROWS 2
#define SQ8_PANEL_ROWS 2
#define SQ8_PANEL_VECTORS 2

/* Vector types of gcc and clang, for any processor. With structs of lanes instead, gcc takes 1.6
 * times as long and makes larger code. */
typedef float vf __attribute__((vector_size(16)));
typedef double vd __attribute__((vector_size(16)));
typedef int16_t vh __attribute__((vector_size(16)));
typedef int32_t vi __attribute__((vector_size(16)));

/* Bodies of functions. EACH_LANE evaluates an expression for each lane i and returns the vector of
 * the values. EACH_BIT returns a mask whose bit i is set if the condition holds for lane i.
 * STORE_EACH stores the value of an expression for each lane. */
#define EACH_LANE(vector, lanes, expression) \
    vector r = {0}; \
    for (int i = 0; i < lanes; i++) r[i] = (expression); \
    return r
#define EACH_F(expression) EACH_LANE(vf, VF_LANES, expression)
#define EACH_D(expression) EACH_LANE(vd, VD_LANES, expression)
#define EACH_BIT(lanes, condition) \
    unsigned bits = 0; \
    for (int i = 0; i < lanes; i++) bits |= (unsigned)(condition) << i; \
    return bits
#define STORE_EACH(lanes, expression) \
    for (int i = 0; i < lanes; i++) p[i] = (expression)

static inline vf vf_set1(float s) { return (vf){s, s, s, s}; }
static inline vf vf_fma(vf a, vf b, vf c) { return a * b + c; }
/* a * b + c of scalars. It is rounded the same way as each lane of vf_fma and vd_fma. */
static inline float fma_f32(float a, float b, float c) { return a * b + c; }
static inline double fma_f64(double a, double b, double c) { return a * b + c; }

/* a * b - c, rounded once if c is the rounded product. The product of two floats is exact in
 * double. */
static inline vf vf_product_error(vf a, vf b, vf c)
{
    EACH_F((float)((double)a[i] * (double)b[i] - (double)c[i]));
}
/* *_max and *_min return NaN where b is NaN. Where only a is NaN, they may return a or b. */
static inline vf vf_max(vf a, vf b) { EACH_F(a[i] > b[i] ? a[i] : b[i]); }
static inline vf vf_min(vf a, vf b) { EACH_F(a[i] < b[i] ? a[i] : b[i]); }

/* Lane r is the sum of the lanes of rows[r], added in the same order for every r. */
static inline vf vf_row_sums(const vf rows[VF_LANES])
{
    EACH_F((rows[i][0] + rows[i][1]) + (rows[i][2] + rows[i][3]));
}

/* The larger of a and b; NaN if either is NaN. */
static inline vf vf_max_propagating_nan(vf a, vf b)
{
    EACH_F(a[i] > b[i] || a[i] != a[i] ? a[i] : b[i]);
}

/* Loads 2 * VF_LANES elements: those of even index into `even`, those of odd index into `odd`. */
static inline void vf_load_alternating(const float *p, vf *even, vf *odd)
{
    *even = (vf){p[0], p[2], p[4], p[6]};
    *odd = (vf){p[1], p[3], p[5], p[7]};
}
/*
 * Stores VF_LANES / 2 elements. p[i] is the larger of lanes 2 i and 2 i + 1, or NaN if either is
 * NaN.
 */
static inline void vf_store_pair_maxima(float *p, vf a)
{
    for (int i = 0; i < VF_LANES; i += 2) {
        p[i / 2] = a[i] > a[i + 1] || a[i] != a[i] ? a[i] : a[i + 1];
    }
}

/* Rounds to the nearest integer, ties to even. */
static inline vf vf_round(vf a) { EACH_F(rintf(a[i])); }

/* Adds 128 to each of 4 * VF_LANES integers of magnitude up to 127. Stores the sums as bytes. */
static inline void vf_store_codes(uint8_t *p, const vf a[4])
{
    for (int i = 0; i < 4 * VF_LANES; i++) {
        const float number = a[i / VF_LANES][i % VF_LANES];
        p[i] = (uint8_t)((number >= -127.0f && number <= 127.0f ? (int)number : 0) + 128);
    }
}

/*
 * Returns a bit mask. Bit i is set if lane i of a is below lane i of b. It is clear if either lane
 * is NaN.
 */
static inline unsigned vf_below(vf a, vf b) { EACH_BIT(VF_LANES, a[i] < b[i]); }

static inline vf vf_load_f16(const uint16_t *p) { EACH_F(f16_to_f32(p[i])); }
static inline vf vf_load_bf16(const uint16_t *p) { EACH_F(bf16_to_f32(p[i])); }
/* Loads 64-bit integers as floats. The relative error is at most 2^-22. */
static inline vf vf_load_i64(const int64_t *p) { EACH_F((float)p[i]); }
/* Loads 16-bit integers as floats. derived.h has vf_load_i32 and vf_load_f64. */
static inline vf vf_load_i16(const int16_t *p) { EACH_F((float)p[i]); }

/*
 * vf_load_pair_f16 (derived.h) and vf_load_pair_bf16 load 2 * VF_LANES elements as two vectors.
 * Each instruction set has its own order of the elements in the lanes, which is the same in every
 * call.
 */
static inline void vf_load_pair_bf16(const uint16_t *p, vf *low, vf *high)
{
    *low = vf_load_bf16(p);
    *high = vf_load_bf16(p + VF_LANES);
}

/*
 * Exact dot products of 8-bit integers. vh holds 2 * VF_LANES integers, widened to 16 bits. vi
 * holds VF_LANES sums of 32 bits. vi_dot adds two products to each sum. This file multiplies as
 * floats, because processors before SSE4.1 cannot multiply vectors of int32_t. Floats hold products
 * of bytes, and sums of a few of them, exactly.
 */
typedef int8_t int8_at __attribute__((vector_size(8), aligned(1)));
typedef uint8_t uint8_at __attribute__((vector_size(8), aligned(1)));
static inline vh vh_load_i8(const int8_t *p)
{
    return __builtin_convertvector(*(const int8_at *)p, vh);
}
static inline vh vh_load_u8(const uint8_t *p)
{
    return __builtin_convertvector(*(const uint8_at *)p, vh);
}
static inline vf vf_from_i32(vi a) { return __builtin_convertvector(a, vf); }
static inline vi vi_from_f32(vf a) { return __builtin_convertvector(a, vi); }
static inline vi vi_dot(vi sums, vh a, vh b)
{
    const vi a_even = (vi)a << 16 >> 16, a_odd = (vi)a >> 16;
    const vi b_even = (vi)b << 16 >> 16, b_odd = (vi)b >> 16;
    return sums + vi_from_f32(vf_from_i32(a_even) * vf_from_i32(b_even) +
                              vf_from_i32(a_odd) * vf_from_i32(b_odd));
}

/* Rounds each lane to 16 bits (to nearest, ties to even) and stores it. NaN stays NaN. */
static inline void vf_store_f16(uint16_t *p, vf a) { STORE_EACH(VF_LANES, f16_from_double(a[i])); }
static inline void vf_store_bf16(uint16_t *p, vf a)
{
    STORE_EACH(VF_LANES, bf16_from_double(a[i]));
}

/*
 * Hamming distances. vb holds 4 * VF_LANES bytes. vb_count_differences(counts, a, b) counts the
 * bits in which a and b differ, separately for each part of a vector, and adds the numbers to the
 * counts of these parts. In this file a part is one byte, and so is its count: at most 31 additions
 * fit. vi_add_counts adds every count to one of the 32-bit sums; to which one depends on the
 * instruction set.
 */
typedef uint64_t vb __attribute__((vector_size(16)));
static inline vb vb_count_differences(vb counts, vb a, vb b)
{
    /* The bits that differ; then their number in every 2 bits, in every 4 bits, in every byte. */
    vb bits = a ^ b;
    bits -= bits >> 1 & 0x5555555555555555u;
    bits = (bits & 0x3333333333333333u) + (bits >> 2 & 0x3333333333333333u);
    return counts + ((bits + (bits >> 4)) & 0x0f0f0f0f0f0f0f0fu);
}
static inline vi vi_add_counts(vi sums, vb counts)
{
    for (int i = 0; i < VF_LANES / 2; i++) {
        const uint64_t pairs =
            (counts[i] & 0x00ff00ff00ff00ffu) + (counts[i] >> 8 & 0x00ff00ff00ff00ffu);
        sums[i] += (int32_t)(pairs * 0x0001000100010001u >> 48);
    }
    return sums;
}

/* Join the lower halves of a and b, or their upper halves, in one vector. */
static inline vi vi_lower_halves(vi a, vi b)
{
    memcpy((char *)&a + sizeof a / 2, &b, sizeof b / 2);
    return a;
}
static inline vi vi_upper_halves(vi a, vi b)
{
    memcpy(&b, (char *)&a + sizeof a / 2, sizeof a / 2);
    return b;
}
/* Lane r is the sum of the lanes of rows[r]. */
static inline vi vi_row_sums(const vi rows[VF_LANES])
{
    vi r = {0};
    for (int i = 0; i < VF_LANES * VF_LANES; i++) {
        r[i / VF_LANES] += rows[i / VF_LANES][i % VF_LANES];
    }
    return r;
}

static inline vd vd_set1(double s) { return (vd){s, s}; }
static inline vd vd_fma(vd a, vd b, vd c) { return a * b + c; }

/*
 * a * b - c, rounded once, where c is a * b up to a few units in its last place. Dekker's product
 * splits each factor into two halves, whose products are exact. Magnitudes are below 2^900, and
 * the lowest bit of a product must not underflow.
 */
static inline double half_of_bits(double a)
{
    const double scaled = 134217729.0 * a; /* 2^27 + 1 */
    return scaled - (scaled - a);
}
static inline double product_error(double a, double b, double c)
{
    const double a_high = half_of_bits(a), a_low = a - a_high;
    const double b_high = half_of_bits(b), b_low = b - b_high;
    return ((a_high * b_high - c) + a_high * b_low + a_low * b_high) + a_low * b_low;
}
static inline vd vd_product_error(vd a, vd b, vd c) { EACH_D(product_error(a[i], b[i], c[i])); }

static inline vd vd_max_propagating_nan(vd a, vd b)
{
    EACH_D(a[i] > b[i] || a[i] != a[i] ? a[i] : b[i]);
}
/* even gets the elements of even index of a, then of b; odd gets those of odd index. */
static inline void vd_unzip(vd a, vd b, vd *even, vd *odd)
{
    *even = (vd){a[0], b[0]};
    *odd = (vd){a[1], b[1]};
}
static inline void vd_store_pair_maxima(double *p, vd a)
{
    *p = a[0] > a[1] || a[0] != a[0] ? a[0] : a[1];
}
static inline vd vd_max(vd a, vd b) { EACH_D(a[i] > b[i] ? a[i] : b[i]); }
static inline vd vd_min(vd a, vd b) { EACH_D(a[i] < b[i] ? a[i] : b[i]); }
static inline vd vd_round(vd a) { EACH_D(rint(a[i])); }
static inline unsigned vd_below(vd a, vd b) { EACH_BIT(VD_LANES, a[i] < b[i]); }

/*
 * *_compress(to, to_numbers, from, numbers, lanes) copies the elements of `from` and of `numbers`
 * whose bits are set in `lanes`, in order. It returns how many it copied. It reads a whole vector,
 * and writes at most a whole vector. The targets may be the sources, or begin before them.
 */
#include "simd/compress.h"

/* Load n elements, 0 < n < VD_LANES, as doubles, and read no others. The other lanes are 0. */
static inline vd vd_load_first(const double *p, size_t n) { EACH_D((size_t)i < n ? p[i] : 0.0); }
static inline vd vd_load_first_f32(const float *p, size_t n)
{
    EACH_D((size_t)i < n ? (double)p[i] : 0.0);
}

/* Loads VD_LANES elements of a narrower type and widens them to double, exactly. */
static inline vd vd_load_f32(const float *p) { EACH_D((double)p[i]); }
static inline vd vd_load_f16(const uint16_t *p) { EACH_D((double)f16_to_f32(p[i])); }
static inline vd vd_load_bf16(const uint16_t *p) { EACH_D((double)bf16_to_f32(p[i])); }

static inline vd vd_load_i8(const int8_t *p) { EACH_D(p[i]); }
static inline vd vd_load_u8(const uint8_t *p) { EACH_D(p[i]); }

/* Each lane of the result is the sum of two lanes of a, in double. */
static inline vd vd_fold_i32(vi a) { EACH_D((double)a[i] + (double)a[i + VD_LANES]); }
static inline vd vd_fold_f32(vf a) { EACH_D((double)a[i] + (double)a[i + VD_LANES]); }

/* Lane r is the sum of the lanes of rows[r], added in the same order for every r. */
static inline vd vd_row_sums(const vd rows[VD_LANES]) { EACH_D(rows[i][0] + rows[i][1]); }

static inline vd vd_sqrt(vd a) { EACH_D(sqrt(a[i])); }

/* Returns 1 if a >= b in every lane, else 0. A lane with NaN counts as less. */
static inline int vd_all_at_least(vd a, vd b)
{
    int all = 1;
    for (int i = 0; i < VD_LANES; i++) {
        all &= a[i] >= b[i];
    }
    return all;
}

/*
 * Transposes a square block: to[i * step + r] = rows[r][at + i]. i and r are below
 * TRANSPOSE_SIZE_F32 for floats, and below TRANSPOSE_SIZE_F64 for doubles.
 */
#define TRANSPOSE_SIZE_F32 4
#define TRANSPOSE_SIZE_F64 2
static inline void transpose_f32(float *to, size_t step, const float *const *rows, size_t at)
{
    for (int i = 0; i < TRANSPOSE_SIZE_F32; i++) {
        for (int r = 0; r < TRANSPOSE_SIZE_F32; r++) {
            to[(size_t)i * step + (size_t)r] = rows[r][at + (size_t)i];
        }
    }
}

static inline void transpose_f64(double *to, size_t step, const double *const *rows, size_t at)
{
    for (int i = 0; i < TRANSPOSE_SIZE_F64; i++) {
        for (int r = 0; r < TRANSPOSE_SIZE_F64; r++) {
            to[(size_t)i * step + (size_t)r] = rows[r][at + (size_t)i];
        }
    }
}

/*
 * Dot products of SQ8 codes with query codes. vc holds SQ8_LANES = 4 * VF_LANES bytes. vc_broadcast
 * repeats four bytes VF_LANES times. vi_dot_codes(sums, codes, factors) adds the four products of
 * bytes 4 i to 4 i + 3 to sum i, exactly. `codes` is a result of vc_u8, which adds U8_OFFSET to
 * uint8_t elements, or of vc_i8, which adds I8_OFFSET to int8_t elements. `factors` are query
 * codes: int8_t of magnitude up to QUERY_CODE_MAX.
 *
 * If PANEL_STEPS is 2, panels add the products of two steps in 16 bits. vi_products(codes, factors)
 * adds the products of bytes 2 i and 2 i + 1, which gives sum i of 16 bits. vi_more_products adds
 * the products of the second step to these sums. vi_add_products(sums, products) then adds sums 2 i
 * and 2 i + 1 of 16 bits to sum i of 32 bits.
 */
#define SQ8_LANES (4 * VF_LANES)
#define PANEL_STEPS 1
#define QUERY_CODE_MAX 127
#define U8_OFFSET 0
#define I8_OFFSET 128
typedef uint8_t vc __attribute__((vector_size(16)));

static inline vc vc_u8(vc bytes) { return bytes; }
static inline vc vc_i8(vc bytes) { return bytes ^ 128; }

/* The lower, or the upper, four bits of each byte, as codes for vi_dot_codes. */
static inline vc vc_low_halves(vc bytes) { return bytes & 15; }
static inline vc vc_high_halves(vc bytes) { return bytes >> 4; }
/* Join the lower four bits of each byte of `upper` and of `lower` to one code, or the upper four
 * bits of both. Those of `upper` become the upper four bits of the code. */
static inline vc vc_join_low_halves(vc upper, vc lower) { return upper << 4 | (lower & 15); }
static inline vc vc_join_high_halves(vc upper, vc lower) { return (upper & 0xf0) | lower >> 4; }
/* Byte `at` of each group of four as a float, read as uint8_t or as int8_t. */
static inline vf vc_floats(vc bytes, int at) { return vf_from_i32((vi)bytes >> 8 * at & 255); }
static inline vf vc_signed_floats(vc bytes, int at)
{
    return vf_from_i32((vi)bytes << (24 - 8 * at) >> 24);
}
static inline vi vi_dot_codes(vi sums, vc codes, vc factors)
{
    return sums + vi_from_f32(vc_floats(codes, 0) * vc_signed_floats(factors, 0) +
                              vc_floats(codes, 1) * vc_signed_floats(factors, 1) +
                              vc_floats(codes, 2) * vc_signed_floats(factors, 2) +
                              vc_floats(codes, 3) * vc_signed_floats(factors, 3));
}

/* Adds the squares of unsigned bytes to sums, each to one lane. vc_magnitudes makes such bytes from
 * signed ones. */
static inline vc vc_magnitudes(vc bytes)
{
    const vc negative = -(bytes >> 7);
    return (bytes ^ negative) - negative;
}
static inline vi vi_add_squares(vi sums, vc bytes)
{
    return sums + vi_from_f32(vc_floats(bytes, 0) * vc_floats(bytes, 0) +
                              vc_floats(bytes, 1) * vc_floats(bytes, 1) +
                              vc_floats(bytes, 2) * vc_floats(bytes, 2) +
                              vc_floats(bytes, 3) * vc_floats(bytes, 3));
}

/*
 * Dot products of rows of 8-bit integers in a matrix product. A vc holds VF_LANES groups. A group
 * is GROUP_SIZE group_elements, four bytes in all. vi_dot_groups_*(sums, left, right) adds the dot
 * product of left group i and right group i to sum i. The elements are int8_t (_i8) or uint8_t
 * (_u8). A left element x is stored as x, a right element y as y + RIGHT_BIAS_*. A set with
 * ISA_BYTES_AS_FLOATS needs no groups.
 */
#include "simd/groups_int8.h"
#include "simd/derived.h"

#undef EACH_LANE
#undef EACH_F
#undef EACH_D
#undef EACH_BIT
#undef STORE_EACH
