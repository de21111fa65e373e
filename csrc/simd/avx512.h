/* The vector abstraction of generic.h in AVX-512 F, BW, DQ and VL. This header opens the target
 * region that simd/end.h closes. */
#pragma once

#include <immintrin.h>
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/half.h"

/*
 * Defines the instruction set avx512, or avx512_vnni if SIMD_VNNI is defined, or avx512_vpopcntdq
 * if SIMD_VPOPCNTDQ is. VNNI instructions compute dot products of SQ8 codes and of 8-bit
 * integers. VPOPCNTDQ instructions count bits.
 */
#if defined(SIMD_VNNI)
#define ISA_NAME avx512_vnni
#define SIMD_MORE "avx512vnni"
#elif defined(SIMD_VPOPCNTDQ)
#define ISA_NAME avx512_vpopcntdq
#define SIMD_MORE "avx512vpopcntdq"
#else
#define ISA_NAME avx512
#define SIMD_MORE "avx2"
#endif
#define SIMD_REGION
#if defined(__clang__)
#pragma clang attribute push( \
    __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,fma,f16c,bmi,bmi2," SIMD_MORE))), \
    apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,fma,f16c,bmi,bmi2")
#ifdef SIMD_VNNI
#pragma GCC target("avx512vnni")
#elif defined(SIMD_VPOPCNTDQ)
#pragma GCC target("avx512vpopcntdq")
#endif
#endif
#define VF_LANES 16
#define FMA_ROUNDINGS 1
#define VD_LANES 8
#define TILE_ROWS 8
#define TILE_VECTORS 2
#define PIXEL_VECTORS 4
#define PIXEL_SUMS 24
#define SUM_CHAINS 4
#define COLUMN_VECTORS 4
#define SQ8_ROWS 4
#define SQ8_PANEL_ROWS 8
#define SQ8_PANEL_VECTORS 2
#define PANEL_STEPS 1

typedef __m512 vf;
typedef __m512d vd;
typedef __m512i vh, vi;

#define X86(op) _mm512_##op
#define X86_BITS(op) _mm512_##op##_si512
#define X86_FLOATS _mm512_castsi512_ps
#define X86_LOAD_HALF(p) _mm256_loadu_si256((const __m256i *)(p))
#define X86_STORE_HALF(p, bits) _mm256_storeu_si256((__m256i *)(p), bits)
#define X86_REPEAT _mm512_broadcast_i32x4
#include "simd/x86_vectors.h"

static inline vf vf_max_propagating_nan(vf a, vf b)
{
    return _mm512_mask_mov_ps(_mm512_max_ps(a, b), _mm512_cmp_ps_mask(a, a, _CMP_UNORD_Q), a);
}
/* Compresses in a register first, because a store that compresses is slow on Zen 4. */
static inline void vf_store_pair_maxima(float *p, vf a)
{
    const __m512 maxima = vf_max_propagating_nan(a, _mm512_permute_ps(a, 0xb1));
    _mm256_storeu_ps(p, _mm512_castps512_ps256(_mm512_maskz_compress_ps(0x5555, maxima)));
}
static inline void vf_load_alternating(const float *p, vf *even, vf *odd)
{
    const __m512i at = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
    const __m512 a = _mm512_loadu_ps(p), b = _mm512_loadu_ps(p + VF_LANES);
    *even = _mm512_permutex2var_ps(a, at, b);
    *odd = _mm512_permutex2var_ps(a, _mm512_add_epi32(at, _mm512_set1_epi32(1)), b);
}
static inline vf vf_row_sums(const vf rows[VF_LANES])
{
    /*
     * A quarter is 128 bits of a vector. Each quarter of pair[i] holds two partial sums of each of
     * two rows. Each quarter of four[i] holds one partial sum of each of four rows.
     */
    __m512 pair[8], four[4];
    for (int i = 0; i < 8; i++) {
        pair[i] = _mm512_add_ps(_mm512_unpacklo_ps(rows[2 * i], rows[2 * i + 1]),
                                _mm512_unpackhi_ps(rows[2 * i], rows[2 * i + 1]));
    }
    for (int i = 0; i < 4; i++) {
        four[i] = _mm512_add_ps(_mm512_shuffle_ps(pair[2 * i], pair[2 * i + 1], 0x44),
                                _mm512_shuffle_ps(pair[2 * i], pair[2 * i + 1], 0xee));
    }
    __m512 low = _mm512_add_ps(_mm512_shuffle_f32x4(four[0], four[1], 0x88),
                               _mm512_shuffle_f32x4(four[0], four[1], 0xdd));
    __m512 high = _mm512_add_ps(_mm512_shuffle_f32x4(four[2], four[3], 0x88),
                                _mm512_shuffle_f32x4(four[2], four[3], 0xdd));
    return _mm512_add_ps(_mm512_shuffle_f32x4(low, high, 0x88),
                         _mm512_shuffle_f32x4(low, high, 0xdd));
}
static inline vf vf_round(vf a)
{
    return _mm512_roundscale_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
#define SIMD_SCALE
static inline vf vf_scale(vf a, vf n) { return _mm512_scalef_ps(a, n); }
static inline void vf_store_codes(uint8_t *p, const vf a[4])
{
    for (int i = 0; i < 4; i++) {
        __m128i bytes = _mm512_cvtsepi32_epi8(_mm512_cvtps_epi32(a[i]));
        _mm_storeu_si128((__m128i *)(p + i * VF_LANES), _mm_xor_si128(bytes, _mm_set1_epi8(-128)));
    }
}
static inline unsigned vf_below(vf a, vf b) { return _mm512_cmp_ps_mask(a, b, _CMP_LT_OQ); }
static inline vf vf_load_i64(const int64_t *p)
{
    const __m256 low = _mm512_cvtepi64_ps(_mm512_loadu_si512(p)),
                 high = _mm512_cvtepi64_ps(_mm512_loadu_si512(p + 8));
    return _mm512_insertf32x8(_mm512_castps256_ps512(low), high, 1);
}
static inline void vf_store_bf16(uint16_t *p, vf a)
{
    __m512i bits = _mm512_castps_si512(a),
            even = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
    __m512i rounded = _mm512_add_epi32(bits, _mm512_add_epi32(even, _mm512_set1_epi32(0x7fff)));
    rounded = _mm512_mask_or_epi32(rounded, _mm512_cmp_ps_mask(a, a, _CMP_UNORD_Q), bits,
                                   _mm512_set1_epi32(0x400000));
    _mm256_storeu_si256((__m256i *)p, _mm512_cvtepi32_epi16(_mm512_srli_epi32(rounded, 16)));
}

#ifdef SIMD_VPOPCNTDQ
/* Each count has 64 bits. vi_add_counts adds its lower 32 bits to one sum and its upper 32 bits,
 * which are 0, to the next. */
static inline vb vb_count_differences(vb counts, vb a, vb b)
{
    return _mm512_add_epi64(counts, _mm512_popcnt_epi64(_mm512_xor_si512(a, b)));
}
static inline vi vi_add_counts(vi sums, vb counts) { return _mm512_add_epi32(sums, counts); }
#endif
static inline vi vi_row_sums(const vi rows[VF_LANES])
{
    __m512i pair[8], four[4]; /* partial sums, arranged as in vf_row_sums */
    for (int i = 0; i < 8; i++) {
        pair[i] = _mm512_add_epi32(_mm512_unpacklo_epi32(rows[2 * i], rows[2 * i + 1]),
                                   _mm512_unpackhi_epi32(rows[2 * i], rows[2 * i + 1]));
    }
    for (int i = 0; i < 4; i++) {
        four[i] = _mm512_add_epi32(_mm512_unpacklo_epi64(pair[2 * i], pair[2 * i + 1]),
                                   _mm512_unpackhi_epi64(pair[2 * i], pair[2 * i + 1]));
    }
    __m512i low = _mm512_add_epi32(_mm512_shuffle_i32x4(four[0], four[1], 0x88),
                                   _mm512_shuffle_i32x4(four[0], four[1], 0xdd));
    __m512i high = _mm512_add_epi32(_mm512_shuffle_i32x4(four[2], four[3], 0x88),
                                    _mm512_shuffle_i32x4(four[2], four[3], 0xdd));
    return _mm512_add_epi32(_mm512_shuffle_i32x4(low, high, 0x88),
                            _mm512_shuffle_i32x4(low, high, 0xdd));
}

static inline vi vi_lower_halves(vi a, vi b) { return _mm512_shuffle_i64x2(a, b, 0x44); }
static inline vi vi_upper_halves(vi a, vi b) { return _mm512_shuffle_i64x2(a, b, 0xee); }

static inline vd vd_max_propagating_nan(vd a, vd b)
{
    return _mm512_mask_mov_pd(_mm512_max_pd(a, b), _mm512_cmp_pd_mask(a, a, _CMP_UNORD_Q), a);
}
static inline void vd_unzip(vd a, vd b, vd *even, vd *odd)
{
    *even = _mm512_permutex2var_pd(a, _mm512_setr_epi64(0, 2, 4, 6, 8, 10, 12, 14), b);
    *odd = _mm512_permutex2var_pd(a, _mm512_setr_epi64(1, 3, 5, 7, 9, 11, 13, 15), b);
}
static inline void vd_store_pair_maxima(double *p, vd a)
{
    const __m512d maxima = vd_max_propagating_nan(a, _mm512_permute_pd(a, 0x55));
    _mm256_storeu_pd(p, _mm512_castpd512_pd256(_mm512_maskz_compress_pd(0x55, maxima)));
}
static inline vd vd_round(vd a)
{
    return _mm512_roundscale_pd(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
static inline vd vd_scale(vd a, vd n) { return _mm512_scalef_pd(a, n); }
static inline unsigned vd_below(vd a, vd b) { return _mm512_cmp_pd_mask(a, b, _CMP_LT_OQ); }
static inline size_t vf_compress(float *to, int64_t *to_numbers, const float *from,
                                 const int64_t *numbers, unsigned lanes)
{
    const __m512 scores = _mm512_maskz_compress_ps((__mmask16)lanes, _mm512_loadu_ps(from));
    const __m512i low = _mm512_maskz_compress_epi64((__mmask8)lanes, _mm512_loadu_si512(numbers));
    const __m512i high =
        _mm512_maskz_compress_epi64((__mmask8)(lanes >> 8), _mm512_loadu_si512(numbers + 8));
    _mm512_storeu_ps(to, scores);
    _mm512_storeu_si512(to_numbers, low);
    _mm512_storeu_si512(to_numbers + __builtin_popcount(lanes & 0xff), high);
    return (size_t)__builtin_popcount(lanes);
}
static inline size_t vd_compress(double *to, int64_t *to_numbers, const double *from,
                                 const int64_t *numbers, unsigned lanes)
{
    const __m512d scores = _mm512_maskz_compress_pd((__mmask8)lanes, _mm512_loadu_pd(from));
    const __m512i kept = _mm512_maskz_compress_epi64((__mmask8)lanes, _mm512_loadu_si512(numbers));
    _mm512_storeu_pd(to, scores);
    _mm512_storeu_si512(to_numbers, kept);
    return (size_t)__builtin_popcount(lanes);
}

static inline vd vd_load_first(const double *p, size_t n)
{
    return _mm512_maskz_loadu_pd((__mmask8)((1u << n) - 1), p);
}
static inline vd vd_load_first_f32(const float *p, size_t n)
{
    return _mm512_cvtps_pd(_mm256_maskz_loadu_ps((__mmask8)((1u << n) - 1), p));
}

static inline vd vd_load_f32(const float *p) { return _mm512_cvtps_pd(_mm256_loadu_ps(p)); }
static inline vd vd_load_f16(const uint16_t *p)
{
    return _mm512_cvtps_pd(_mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)p)));
}
static inline vd vd_load_bf16(const uint16_t *p)
{
    __m256i wide = _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)p));
    return _mm512_cvtps_pd(_mm256_castsi256_ps(_mm256_slli_epi32(wide, 16)));
}

static inline vd vd_load_i8(const int8_t *p)
{
    return _mm512_cvtepi32_pd(_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)p)));
}
static inline vd vd_load_u8(const uint8_t *p)
{
    return _mm512_cvtepi32_pd(_mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)p)));
}

static inline vd vd_fold_i32(vi a)
{
    return _mm512_add_pd(_mm512_cvtepi32_pd(_mm512_castsi512_si256(a)),
                         _mm512_cvtepi32_pd(_mm512_extracti64x4_epi64(a, 1)));
}
static inline vd vd_fold_f32(vf a)
{
    return _mm512_add_pd(_mm512_cvtps_pd(_mm512_castps512_ps256(a)),
                         _mm512_cvtps_pd(_mm512_extractf32x8_ps(a, 1)));
}
static inline vd vd_row_sums(const vd rows[VD_LANES])
{
    /* Even lanes of pair[i] hold partial sums of row 2 i, odd lanes those of row 2 i + 1. */
    __m512d pair[4];
    for (int i = 0; i < 4; i++) {
        pair[i] = _mm512_add_pd(_mm512_unpacklo_pd(rows[2 * i], rows[2 * i + 1]),
                                _mm512_unpackhi_pd(rows[2 * i], rows[2 * i + 1]));
    }
    /* Add 128-bit quarter 0 to quarter 1 and quarter 2 to quarter 3, then add these two sums. */
    __m512d ab = _mm512_add_pd(_mm512_shuffle_f64x2(pair[0], pair[1], 0x88),
                               _mm512_shuffle_f64x2(pair[0], pair[1], 0xdd));
    __m512d cd = _mm512_add_pd(_mm512_shuffle_f64x2(pair[2], pair[3], 0x88),
                               _mm512_shuffle_f64x2(pair[2], pair[3], 0xdd));
    return _mm512_add_pd(_mm512_shuffle_f64x2(ab, cd, 0x88), _mm512_shuffle_f64x2(ab, cd, 0xdd));
}

static inline int vd_all_at_least(vd a, vd b)
{
    return _mm512_cmp_pd_mask(a, b, _CMP_GE_OQ) == 0xff;
}

#ifdef SIMD_VNNI
#define QUERY_CODE_MAX 127
/* Inline assembly, because gcc 12 copies the sums between registers around _mm512_dpbusd_epi32.
 * These copies would take a fifth of the time. */
static inline vi vi_dot_codes(vi sums, vc codes, vc factors)
{
    __asm__("vpdpbusd %2, %1, %0" : "+v"(sums) : "v"(codes), "v"(factors));
    return sums;
}
#include "simd/groups_int8.h"

static inline vi vi_dot_i16(vi sums, vc a, vc b)
{
    __asm__("vpdpwssd %2, %1, %0" : "+v"(sums) : "v"(a), "v"(b));
    return sums;
}
#define ROUGH_PAYS
static inline unsigned vi_at_least(vi a, vi b) { return _mm512_cmpge_epi32_mask(a, b); }
#else
#include "simd/groups_int16.h"
#endif

#include "simd/derived.h"
#include "simd/x86_transpose.h"
