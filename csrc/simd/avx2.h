/* The vector abstraction of generic.h in AVX2, FMA and F16C. This header opens the target region
 * that simd/end.h closes. */
#pragma once

#include <immintrin.h>
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/half.h"

#define SIMD_REGION
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma,f16c,bmi,bmi2"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2,fma,f16c,bmi,bmi2")
#endif

#define ISA_NAME avx2
#define VF_LANES 8
#define FMA_ROUNDINGS 1
#define VD_LANES 4
#define TILE_ROWS 6
#define TILE_VECTORS 2
#define PIXEL_VECTORS 3
#define PIXEL_SUMS 12
#define SUM_CHAINS 4
#define COLUMN_VECTORS 4
#define SQ8_ROWS 2
#define SQ8_PANEL_ROWS 3
#define SQ8_PANEL_VECTORS 2
#define PANEL_STEPS 2

typedef __m256 vf;
typedef __m256d vd;
typedef __m256i vh, vi;

#define X86(op) _mm256_##op
#define X86_BITS(op) _mm256_##op##_si256
#define X86_FLOATS _mm256_castsi256_ps
#define X86_LOAD_HALF(p) _mm_loadu_si128((const __m128i *)(p))
#define X86_STORE_HALF(p, bits) _mm_storeu_si128((__m128i *)(p), bits)
#define X86_REPEAT _mm256_broadcastsi128_si256
#include "simd/x86_vectors.h"

static inline vf vf_max_propagating_nan(vf a, vf b)
{
    return _mm256_blendv_ps(_mm256_max_ps(a, b), a, _mm256_cmp_ps(a, a, _CMP_UNORD_Q));
}
static inline void vf_load_alternating(const float *p, vf *even, vf *odd)
{
    const __m256 a = _mm256_loadu_ps(p), b = _mm256_loadu_ps(p + VF_LANES);
    const __m256i order = _mm256_setr_epi32(0, 1, 4, 5, 2, 3, 6, 7);
    *even = _mm256_permutevar8x32_ps(_mm256_shuffle_ps(a, b, 0x88), order);
    *odd = _mm256_permutevar8x32_ps(_mm256_shuffle_ps(a, b, 0xdd), order);
}
static inline void vf_store_pair_maxima(float *p, vf a)
{
    __m256 maxima = vf_max_propagating_nan(a, _mm256_permute_ps(a, 0xb1));
    _mm_storeu_ps(p, _mm256_castps256_ps128(_mm256_permutevar8x32_ps(
                         maxima, _mm256_setr_epi32(0, 2, 4, 6, 0, 2, 4, 6))));
}
static inline vf vf_row_sums(const vf rows[VF_LANES])
{
    __m256 low = _mm256_hadd_ps(_mm256_hadd_ps(rows[0], rows[1]), _mm256_hadd_ps(rows[2], rows[3]));
    __m256 high =
        _mm256_hadd_ps(_mm256_hadd_ps(rows[4], rows[5]), _mm256_hadd_ps(rows[6], rows[7]));
    return _mm256_add_ps(_mm256_permute2f128_ps(low, high, 0x20),
                         _mm256_permute2f128_ps(low, high, 0x31));
}
static inline vf vf_round(vf a)
{
    return _mm256_round_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
static inline void vf_store_codes(uint8_t *p, const vf a[4])
{
    __m256i low = _mm256_packs_epi32(_mm256_cvtps_epi32(a[0]), _mm256_cvtps_epi32(a[1]));
    __m256i high = _mm256_packs_epi32(_mm256_cvtps_epi32(a[2]), _mm256_cvtps_epi32(a[3]));
    __m256i bytes = _mm256_permutevar8x32_epi32(_mm256_packs_epi16(low, high),
                                                _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
    _mm256_storeu_si256((__m256i *)p, _mm256_xor_si256(bytes, _mm256_set1_epi8(-128)));
}
static inline unsigned vf_below(vf a, vf b)
{
    return (unsigned)_mm256_movemask_ps(_mm256_cmp_ps(a, b, _CMP_LT_OQ));
}
static inline vf vf_load_i64(const int64_t *p)
{
    const __m256 a = _mm256_loadu_ps((const float *)p), b = _mm256_loadu_ps((const float *)(p + 4));
    const __m256i low = _mm256_castps_si256(_mm256_shuffle_ps(a, b, 0x88)),
                  high = _mm256_castps_si256(_mm256_shuffle_ps(a, b, 0xdd));
    /* The low half is converted as a signed integer. If it is negative, it is 2^32 too small, so 1
     * is carried to the high half. A high half of INT32_MAX gets no carry, because it would
     * overflow. The integer is then near 2^63, where 2^32 is far below the rounding error of a
     * float (2^38). */
    const __m256i carry = _mm256_andnot_si256(
        _mm256_cmpeq_epi32(high, _mm256_set1_epi32(INT32_MAX)), _mm256_srli_epi32(low, 31));
    const __m256 sum = _mm256_fmadd_ps(_mm256_cvtepi32_ps(_mm256_add_epi32(high, carry)),
                                       _mm256_set1_ps(0x1p32f), _mm256_cvtepi32_ps(low));
    return _mm256_castpd_ps(_mm256_permute4x64_pd(_mm256_castps_pd(sum), 0xd8));
}
static inline void vf_store_bf16(uint16_t *p, vf a)
{
    __m256i bits = _mm256_castps_si256(a),
            even = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
    __m256i rounded = _mm256_add_epi32(bits, _mm256_add_epi32(even, _mm256_set1_epi32(0x7fff)));
    __m256i quiet = _mm256_or_si256(bits, _mm256_set1_epi32(0x400000)),
            nan = _mm256_castps_si256(_mm256_cmp_ps(a, a, _CMP_UNORD_Q));
    __m256i high = _mm256_srli_epi32(_mm256_blendv_epi8(rounded, quiet, nan), 16);
    _mm_storeu_si128((__m128i *)p, _mm_packus_epi32(_mm256_castsi256_si128(high),
                                                    _mm256_extracti128_si256(high, 1)));
}

static inline vi vi_lower_halves(vi a, vi b) { return _mm256_permute2x128_si256(a, b, 0x20); }
static inline vi vi_upper_halves(vi a, vi b) { return _mm256_permute2x128_si256(a, b, 0x31); }
static inline vi vi_row_sums(const vi rows[VF_LANES])
{
    __m256i low =
        _mm256_hadd_epi32(_mm256_hadd_epi32(rows[0], rows[1]), _mm256_hadd_epi32(rows[2], rows[3]));
    __m256i high =
        _mm256_hadd_epi32(_mm256_hadd_epi32(rows[4], rows[5]), _mm256_hadd_epi32(rows[6], rows[7]));
    return _mm256_add_epi32(vi_lower_halves(low, high), vi_upper_halves(low, high));
}

#define ROUGH_PAYS
static inline unsigned vi_at_least(vi a, vi b)
{
    return ~(unsigned)_mm256_movemask_ps(_mm256_castsi256_ps(_mm256_cmpgt_epi32(b, a))) & 0xff;
}

static inline vd vd_max_propagating_nan(vd a, vd b)
{
    return _mm256_blendv_pd(_mm256_max_pd(a, b), a, _mm256_cmp_pd(a, a, _CMP_UNORD_Q));
}
static inline void vd_unzip(vd a, vd b, vd *even, vd *odd)
{
    *even = _mm256_permute4x64_pd(_mm256_unpacklo_pd(a, b), 0xd8);
    *odd = _mm256_permute4x64_pd(_mm256_unpackhi_pd(a, b), 0xd8);
}
static inline void vd_store_pair_maxima(double *p, vd a)
{
    __m256d maxima = vd_max_propagating_nan(a, _mm256_permute_pd(a, 0x5));
    _mm_storeu_pd(p, _mm256_castpd256_pd128(_mm256_permute4x64_pd(maxima, 0x8)));
}
static inline vd vd_round(vd a)
{
    return _mm256_round_pd(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
static inline unsigned vd_below(vd a, vd b)
{
    return (unsigned)_mm256_movemask_pd(_mm256_cmp_pd(a, b, _CMP_LT_OQ));
}

/* Row `lanes` lists the positions of the bits that are set in `lanes`, ascending, then zeros. */
static const int32_t set_bits[16][4] = {
    {0, 0, 0, 0}, {0, 0, 0, 0}, {1, 0, 0, 0}, {0, 1, 0, 0}, {2, 0, 0, 0}, {0, 2, 0, 0},
    {1, 2, 0, 0}, {0, 1, 2, 0}, {3, 0, 0, 0}, {0, 3, 0, 0}, {1, 3, 0, 0}, {0, 1, 3, 0},
    {2, 3, 0, 0}, {0, 2, 3, 0}, {1, 2, 3, 0}, {0, 1, 2, 3},
};
/* The same for elements of 64 bits: position p is listed as its two halves, 2 p and 2 p + 1. */
static const int32_t set_bits_64[16][8] = {
    {0, 1, 0, 1, 0, 1, 0, 1}, {0, 1, 0, 1, 0, 1, 0, 1}, {2, 3, 0, 1, 0, 1, 0, 1},
    {0, 1, 2, 3, 0, 1, 0, 1}, {4, 5, 0, 1, 0, 1, 0, 1}, {0, 1, 4, 5, 0, 1, 0, 1},
    {2, 3, 4, 5, 0, 1, 0, 1}, {0, 1, 2, 3, 4, 5, 0, 1}, {6, 7, 0, 1, 0, 1, 0, 1},
    {0, 1, 6, 7, 0, 1, 0, 1}, {2, 3, 6, 7, 0, 1, 0, 1}, {0, 1, 2, 3, 6, 7, 0, 1},
    {4, 5, 6, 7, 0, 1, 0, 1}, {0, 1, 4, 5, 6, 7, 0, 1}, {2, 3, 4, 5, 6, 7, 0, 1},
    {0, 1, 2, 3, 4, 5, 6, 7},
};
static inline __m256i compress_64(const void *from, unsigned lanes)
{
    return _mm256_permutevar8x32_epi32(
        _mm256_loadu_si256((const __m256i *)from),
        _mm256_loadu_si256((const __m256i *)(const void *)set_bits_64[lanes]));
}
static inline size_t vf_compress(float *to, int64_t *to_numbers, const float *from,
                                 const int64_t *numbers, unsigned lanes)
{
    const unsigned low = lanes & 15, high = lanes >> 4;
    const size_t count = (size_t)__builtin_popcount(low);
    const __m128i *bits = (const __m128i *)(const void *)set_bits;
    const __m128 scores[2] = {
        _mm_permutevar_ps(_mm_loadu_ps(from), _mm_loadu_si128(bits + low)),
        _mm_permutevar_ps(_mm_loadu_ps(from + 4), _mm_loadu_si128(bits + high))};
    const __m256i kept[2] = {compress_64(numbers, low), compress_64(numbers + 4, high)};
    _mm_storeu_ps(to, scores[0]);
    _mm_storeu_ps(to + count, scores[1]);
    _mm256_storeu_si256((__m256i *)to_numbers, kept[0]);
    _mm256_storeu_si256((__m256i *)(to_numbers + count), kept[1]);
    return count + (size_t)__builtin_popcount(high);
}
static inline size_t vd_compress(double *to, int64_t *to_numbers, const double *from,
                                 const int64_t *numbers, unsigned lanes)
{
    const __m256i scores = compress_64(from, lanes), kept = compress_64(numbers, lanes);
    _mm256_storeu_pd(to, _mm256_castsi256_pd(scores));
    _mm256_storeu_si256((__m256i *)to_numbers, kept);
    return (size_t)__builtin_popcount(lanes);
}

static inline vd vd_load_first(const double *p, size_t n)
{
    const __m256i count = _mm256_set1_epi64x((long long)n);
    return _mm256_maskload_pd(p, _mm256_cmpgt_epi64(count, _mm256_setr_epi64x(0, 1, 2, 3)));
}
static inline vd vd_load_first_f32(const float *p, size_t n)
{
    const __m128i lanes = _mm_cmpgt_epi32(_mm_set1_epi32((int)n), _mm_setr_epi32(0, 1, 2, 3));
    return _mm256_cvtps_pd(_mm_maskload_ps(p, lanes));
}

static inline vd vd_load_f32(const float *p) { return _mm256_cvtps_pd(_mm_loadu_ps(p)); }
static inline vd vd_load_f16(const uint16_t *p)
{
    return _mm256_cvtps_pd(_mm_cvtph_ps(_mm_loadl_epi64((const __m128i *)p)));
}
static inline vd vd_load_bf16(const uint16_t *p)
{
    __m128i wide = _mm_cvtepu16_epi32(_mm_loadl_epi64((const __m128i *)p));
    return _mm256_cvtps_pd(_mm_castsi128_ps(_mm_slli_epi32(wide, 16)));
}

static inline __m128i load_four(const void *p)
{
    int four;
    memcpy(&four, p, sizeof four);
    return _mm_cvtsi32_si128(four);
}
static inline vd vd_load_i8(const int8_t *p)
{
    return _mm256_cvtepi32_pd(_mm_cvtepi8_epi32(load_four(p)));
}
static inline vd vd_load_u8(const uint8_t *p)
{
    return _mm256_cvtepi32_pd(_mm_cvtepu8_epi32(load_four(p)));
}

static inline vd vd_fold_i32(vi a)
{
    return _mm256_add_pd(_mm256_cvtepi32_pd(_mm256_castsi256_si128(a)),
                         _mm256_cvtepi32_pd(_mm256_extracti128_si256(a, 1)));
}
static inline vd vd_fold_f32(vf a)
{
    return _mm256_add_pd(_mm256_cvtps_pd(_mm256_castps256_ps128(a)),
                         _mm256_cvtps_pd(_mm256_extractf128_ps(a, 1)));
}
static inline vd vd_row_sums(const vd rows[VD_LANES])
{
    __m256d ab =
        _mm256_add_pd(_mm256_unpacklo_pd(rows[0], rows[1]), _mm256_unpackhi_pd(rows[0], rows[1]));
    __m256d cd =
        _mm256_add_pd(_mm256_unpacklo_pd(rows[2], rows[3]), _mm256_unpackhi_pd(rows[2], rows[3]));
    return _mm256_add_pd(_mm256_permute2f128_pd(ab, cd, 0x20),
                         _mm256_permute2f128_pd(ab, cd, 0x31));
}

static inline int vd_all_at_least(vd a, vd b)
{
    return _mm256_movemask_pd(_mm256_cmp_pd(a, b, _CMP_GE_OQ)) == 0xf;
}

#include "simd/derived.h"
#include "simd/groups_int16.h"
#include "simd/x86_transpose.h"
