/* The vector abstraction of generic.h in AArch64 Advanced SIMD. Every AArch64 processor has it, so
 * no target region is needed. */
#pragma once

#include <arm_neon.h>
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/half.h"

#define ISA_NAME neon
#define VF_LANES 4
#define FMA_ROUNDINGS 1
#define VD_LANES 2
#define TILE_ROWS 8
#define TILE_VECTORS 2
#define PIXEL_VECTORS 4
#define PIXEL_SUMS 24
#define SUM_CHAINS 4
#define COLUMN_VECTORS 4
#define SQ8_ROWS 2
#define SQ8_PANEL_ROWS 4
#define SQ8_PANEL_VECTORS 4

typedef float32x4_t vf;
typedef float64x2_t vd;
typedef int16x8_t vh;
typedef int32x4_t vi;

static inline vf vf_set1(float s) { return vdupq_n_f32(s); }
static inline vf vf_fma(vf a, vf b, vf c) { return vfmaq_f32(c, a, b); }
static inline float fma_f32(float a, float b, float c) { return __builtin_fmaf(a, b, c); }
static inline double fma_f64(double a, double b, double c) { return __builtin_fma(a, b, c); }
static inline vf vf_product_error(vf a, vf b, vf c) { return vnegq_f32(vfmsq_f32(c, a, b)); }
static inline vf vf_max(vf a, vf b) { return vmaxq_f32(a, b); }
/* max and min of NEON return NaN if either operand is NaN. */
static inline vf vf_max_propagating_nan(vf a, vf b) { return vmaxq_f32(a, b); }
static inline void vf_load_alternating(const float *p, vf *even, vf *odd)
{
    const float32x4x2_t both = vld2q_f32(p);
    *even = both.val[0];
    *odd = both.val[1];
}
static inline void vf_store_pair_maxima(float *p, vf a)
{
    vst1_f32(p, vpmax_f32(vget_low_f32(a), vget_high_f32(a)));
}
static inline vf vf_row_sums(const vf rows[VF_LANES])
{
    return vpaddq_f32(vpaddq_f32(rows[0], rows[1]), vpaddq_f32(rows[2], rows[3]));
}
static inline vf vf_round(vf a) { return vrndnq_f32(a); }
static inline void vf_store_codes(uint8_t *p, const vf a[4])
{
    int16x8_t low =
        vcombine_s16(vqmovn_s32(vcvtnq_s32_f32(a[0])), vqmovn_s32(vcvtnq_s32_f32(a[1])));
    int16x8_t high =
        vcombine_s16(vqmovn_s32(vcvtnq_s32_f32(a[2])), vqmovn_s32(vcvtnq_s32_f32(a[3])));
    int8x16_t bytes = vcombine_s8(vqmovn_s16(low), vqmovn_s16(high));
    vst1q_u8(p, veorq_u8(vreinterpretq_u8_s8(bytes), vdupq_n_u8(0x80)));
}
static inline vf vf_min(vf a, vf b) { return vminq_f32(a, b); }
static inline unsigned vf_below(vf a, vf b)
{
    const uint32x4_t bits = {1, 2, 4, 8};
    return vaddvq_u32(vandq_u32(vcltq_f32(a, b), bits));
}
static inline vf vf_load_f16(const uint16_t *p)
{
    return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p)));
}
static inline vf vf_load_bf16(const uint16_t *p)
{
    return vreinterpretq_f32_u32(vshll_n_u16(vld1_u16(p), 16));
}
static inline vf vf_load_i64(const int64_t *p)
{
    const float64x2_t low = vcvtq_f64_s64(vld1q_s64(p)), high = vcvtq_f64_s64(vld1q_s64(p + 2));
    return vcombine_f32(vcvt_f32_f64(low), vcvt_f32_f64(high));
}
static inline vf vf_load_i16(const int16_t *p) { return vcvtq_f32_s32(vmovl_s16(vld1_s16(p))); }
/* low gets the elements of even index, high those of odd index. */
static inline void vf_load_pair_bf16(const uint16_t *p, vf *low, vf *high)
{
    uint32x4_t both = vreinterpretq_u32_u16(vld1q_u16(p));
    *low = vreinterpretq_f32_u32(vshlq_n_u32(both, 16));
    *high = vreinterpretq_f32_u32(vandq_u32(both, vdupq_n_u32(0xffff0000)));
}
static inline void vf_store_f16(uint16_t *p, vf a)
{
    vst1_u16(p, vreinterpret_u16_f16(vcvt_f16_f32(a)));
}
static inline void vf_store_bf16(uint16_t *p, vf a)
{
    uint32x4_t bits = vreinterpretq_u32_f32(a),
               even = vandq_u32(vshrq_n_u32(bits, 16), vdupq_n_u32(1));
    uint32x4_t rounded = vaddq_u32(bits, vaddq_u32(even, vdupq_n_u32(0x7fff))),
               quiet = vorrq_u32(bits, vdupq_n_u32(0x400000));
    vst1_u16(p, vshrn_n_u32(vbslq_u32(vceqq_f32(a, a), rounded, quiet), 16));
}

static inline vh vh_load_i8(const int8_t *p) { return vmovl_s8(vld1_s8(p)); }
static inline vh vh_load_u8(const uint8_t *p)
{
    return vreinterpretq_s16_u16(vmovl_u8(vld1_u8(p)));
}
static inline vi vi_dot(vi sums, vh a, vh b)
{
    return vaddq_s32(sums,
                     vpaddq_s32(vmull_s16(vget_low_s16(a), vget_low_s16(b)), vmull_high_s16(a, b)));
}

static inline vf vf_from_i32(vi a) { return vcvtq_f32_s32(a); }

typedef uint8x16_t vb;
static inline vb vb_count_differences(vb counts, vb a, vb b)
{
    return vaddq_u8(counts, vcntq_u8(veorq_u8(a, b)));
}
static inline vi vi_add_counts(vi sums, vb counts)
{
    return vaddq_s32(sums, vreinterpretq_s32_u32(vpaddlq_u16(vpaddlq_u8(counts))));
}
static inline vi vi_lower_halves(vi a, vi b)
{
    return vcombine_s32(vget_low_s32(a), vget_low_s32(b));
}
static inline vi vi_upper_halves(vi a, vi b)
{
    return vcombine_s32(vget_high_s32(a), vget_high_s32(b));
}
static inline vi vi_row_sums(const vi rows[VF_LANES])
{
    return vpaddq_s32(vpaddq_s32(rows[0], rows[1]), vpaddq_s32(rows[2], rows[3]));
}

static inline vd vd_set1(double s) { return vdupq_n_f64(s); }
static inline vd vd_fma(vd a, vd b, vd c) { return vfmaq_f64(c, a, b); }
static inline vd vd_product_error(vd a, vd b, vd c) { return vnegq_f64(vfmsq_f64(c, a, b)); }

static inline vd vd_max_propagating_nan(vd a, vd b) { return vmaxq_f64(a, b); }
static inline void vd_unzip(vd a, vd b, vd *even, vd *odd)
{
    *even = vuzp1q_f64(a, b);
    *odd = vuzp2q_f64(a, b);
}
static inline void vd_store_pair_maxima(double *p, vd a) { *p = vpmaxqd_f64(a); }
static inline vd vd_max(vd a, vd b) { return vmaxq_f64(a, b); }
static inline vd vd_min(vd a, vd b) { return vminq_f64(a, b); }
static inline vd vd_round(vd a) { return vrndnq_f64(a); }
static inline unsigned vd_below(vd a, vd b)
{
    const uint64x2_t bits = {1, 2};
    return (unsigned)vaddvq_u64(vandq_u64(vcltq_f64(a, b), bits));
}
#include "simd/compress.h"

static inline vd vd_load_first(const double *p, size_t n)
{
    (void)n; /* 1 */
    return vcombine_f64(vld1_f64(p), vdup_n_f64(0.0));
}
static inline vd vd_load_first_f32(const float *p, size_t n)
{
    (void)n;
    return vcvt_f64_f32(vset_lane_f32(*p, vdup_n_f32(0.0f), 0));
}

static inline vd vd_load_f32(const float *p) { return vcvt_f64_f32(vld1_f32(p)); }

/* Loads two 16-bit elements through a general register, because the smallest vector load reads
 * four. */
static inline uint16x4_t load_two(const uint16_t *p)
{
    uint32_t both;
    memcpy(&both, p, sizeof both);
    return vreinterpret_u16_u32(vdup_n_u32(both));
}

static inline vd vd_load_f16(const uint16_t *p)
{
    return vcvt_f64_f32(vget_low_f32(vcvt_f32_f16(vreinterpret_f16_u16(load_two(p)))));
}
static inline vd vd_load_bf16(const uint16_t *p)
{
    return vcvt_f64_f32(vget_low_f32(vreinterpretq_f32_u32(vshll_n_u16(load_two(p), 16))));
}

static inline vd vd_load_i8(const int8_t *p) { return (vd){p[0], p[1]}; }
static inline vd vd_load_u8(const uint8_t *p) { return (vd){p[0], p[1]}; }

static inline vd vd_fold_i32(vi a)
{
    return vaddq_f64(vcvtq_f64_s64(vmovl_s32(vget_low_s32(a))), vcvtq_f64_s64(vmovl_high_s32(a)));
}
static inline vd vd_fold_f32(vf a)
{
    return vaddq_f64(vcvt_f64_f32(vget_low_f32(a)), vcvt_high_f64_f32(a));
}
static inline vd vd_row_sums(const vd rows[VD_LANES]) { return vpaddq_f64(rows[0], rows[1]); }

static inline vd vd_sqrt(vd a) { return vsqrtq_f64(a); }

static inline int vd_all_at_least(vd a, vd b)
{
    uint64x2_t at_least = vcgeq_f64(a, b);
    return (vgetq_lane_u64(at_least, 0) & vgetq_lane_u64(at_least, 1)) != 0;
}

/* U8_OFFSET makes codes signed: the sum of two products with query codes then fits 16 bits. */
#define SQ8_LANES 16
#define PANEL_STEPS 1
#define QUERY_CODE_MAX 127
#define U8_OFFSET (-128)
#define I8_OFFSET 0
typedef int8x16_t vc;

static inline vc vc_u8(vc bytes) { return veorq_s8(bytes, vdupq_n_s8(-128)); }
static inline vc vc_i8(vc bytes) { return bytes; }
static inline vc vc_low_halves(vc bytes) { return vandq_s8(bytes, vdupq_n_s8(15)); }
static inline vc vc_high_halves(vc bytes)
{
    return vreinterpretq_s8_u8(vshrq_n_u8(vreinterpretq_u8_s8(bytes), 4));
}
static inline vc vc_join_low_halves(vc upper, vc lower) { return vsliq_n_s8(lower, upper, 4); }
static inline vc vc_join_high_halves(vc upper, vc lower)
{
    return vreinterpretq_s8_u8(
        vsriq_n_u8(vreinterpretq_u8_s8(upper), vreinterpretq_u8_s8(lower), 4));
}
static inline vc vc_magnitudes(vc bytes) { return vabsq_s8(bytes); }
static inline vi vi_add_squares(vi sums, vc bytes)
{
    const uint8x16_t b = vreinterpretq_u8_s8(bytes);
    const uint16x8_t low = vmull_u8(vget_low_u8(b), vget_low_u8(b)), high = vmull_high_u8(b, b);
    return vreinterpretq_s32_u32(vpadalq_u16(vpadalq_u16(vreinterpretq_u32_s32(sums), low), high));
}
static inline vi vi_dot_codes(vi sums, vc codes, vc factors)
{
    int16x8_t low = vmull_s8(vget_low_s8(codes), vget_low_s8(factors)),
              high = vmull_high_s8(codes, factors);
    return vpadalq_s16(sums, vpaddq_s16(low, high));
}

#include "simd/derived.h"

#define TRANSPOSE_SIZE_F32 4
#define TRANSPOSE_SIZE_F64 2
static inline void transpose_f32(float *to, size_t step, const float *const *rows, size_t at)
{
    float32x4x2_t ab = vtrnq_f32(vld1q_f32(rows[0] + at), vld1q_f32(rows[1] + at));
    float32x4x2_t cd = vtrnq_f32(vld1q_f32(rows[2] + at), vld1q_f32(rows[3] + at));
    vst1q_f32(to, vcombine_f32(vget_low_f32(ab.val[0]), vget_low_f32(cd.val[0])));
    vst1q_f32(to + step, vcombine_f32(vget_low_f32(ab.val[1]), vget_low_f32(cd.val[1])));
    vst1q_f32(to + 2 * step, vcombine_f32(vget_high_f32(ab.val[0]), vget_high_f32(cd.val[0])));
    vst1q_f32(to + 3 * step, vcombine_f32(vget_high_f32(ab.val[1]), vget_high_f32(cd.val[1])));
}

static inline void transpose_f64(double *to, size_t step, const double *const *rows, size_t at)
{
    float64x2_t x = vld1q_f64(rows[0] + at), y = vld1q_f64(rows[1] + at);
    vst1q_f64(to, vzip1q_f64(x, y));
    vst1q_f64(to + step, vzip2q_f64(x, y));
}
