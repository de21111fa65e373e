/*
 * The operations whose intrinsics in AVX2 and AVX-512 differ in the width alone. avx2.h and
 * avx512.h include this file inside their target regions, after they define the types of vectors
 * and these macros. X86(op) is the intrinsic of this name, and X86_BITS(op) the one for the bits of
 * whole registers. X86_FLOATS takes such bits as floats, and X86_REPEAT repeats 128 bits in a
 * register. X86_LOAD_HALF and X86_STORE_HALF load and store the bits of half a register, at any
 * address.
 */
static inline vf vf_set1(float s) { return X86(set1_ps)(s); }
static inline vf vf_product_error(vf a, vf b, vf c) { return X86(fmsub_ps)(a, b, c); }
static inline vf vf_fma(vf a, vf b, vf c) { return X86(fmadd_ps)(a, b, c); }
static inline vf vf_max(vf a, vf b) { return X86(max_ps)(a, b); }
/* If either operand is NaN, min and max return the second one. */
static inline vf vf_min(vf a, vf b) { return X86(min_ps)(a, b); }
static inline float fma_f32(float a, float b, float c) { return __builtin_fmaf(a, b, c); }
static inline double fma_f64(double a, double b, double c) { return __builtin_fma(a, b, c); }

static inline vd vd_set1(double s) { return X86(set1_pd)(s); }
static inline vd vd_fma(vd a, vd b, vd c) { return X86(fmadd_pd)(a, b, c); }
static inline vd vd_product_error(vd a, vd b, vd c) { return X86(fmsub_pd)(a, b, c); }
static inline vd vd_sqrt(vd a) { return X86(sqrt_pd)(a); }
static inline vd vd_max(vd a, vd b) { return X86(max_pd)(a, b); }
static inline vd vd_min(vd a, vd b) { return X86(min_pd)(a, b); }

static inline vi vi_dot(vi sums, vh a, vh b) { return X86(add_epi32)(sums, X86(madd_epi16)(a, b)); }
static inline vf vf_from_i32(vi a) { return X86(cvtepi32_ps)(a); }
static inline vh vh_load_i8(const int8_t *p) { return X86(cvtepi8_epi16)(X86_LOAD_HALF(p)); }
static inline vh vh_load_u8(const uint8_t *p) { return X86(cvtepu8_epi16)(X86_LOAD_HALF(p)); }

static inline vf vf_load_i16(const int16_t *p)
{
    return vf_from_i32(X86(cvtepi16_epi32)(X86_LOAD_HALF(p)));
}
static inline vf vf_load_f16(const uint16_t *p) { return X86(cvtph_ps)(X86_LOAD_HALF(p)); }
static inline vf vf_load_bf16(const uint16_t *p)
{
    return X86_FLOATS(X86(slli_epi32)(X86(cvtepu16_epi32)(X86_LOAD_HALF(p)), 16));
}
/* low gets the elements of even index, high those of odd index. */
static inline void vf_load_pair_bf16(const uint16_t *p, vf *low, vf *high)
{
    const vi both = X86_BITS(loadu)((const void *)p);
    *low = X86_FLOATS(X86(slli_epi32)(both, 16));
    *high = X86_FLOATS(X86_BITS (and)(both, X86(set1_epi32)((int)0xffff0000)));
}
static inline void vf_store_f16(uint16_t *p, vf a)
{
    X86_STORE_HALF(p, X86(cvtps_ph)(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}

typedef vi vb;
#ifndef SIMD_VPOPCNTDQ
/* The shuffles look up how many bits are set in each half of a byte. */
static inline vb vb_count_differences(vb counts, vb a, vb b)
{
    const vb table = X86_REPEAT(_mm_setr_epi8(0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4)),
             half = X86(set1_epi8)(0x0f), bits = X86_BITS(xor)(a, b);
    const vb low = X86(shuffle_epi8)(table, X86_BITS (and)(bits, half)),
             high = X86(shuffle_epi8)(table, X86_BITS (and)(X86(srli_epi16)(bits, 4), half));
    return X86(add_epi8)(counts, X86(add_epi8)(low, high));
}
static inline vi vi_add_counts(vi sums, vb counts)
{
    return X86(add_epi32)(sums, X86(sad_epu8)(counts, X86_BITS(setzero)()));
}
#endif

#define SQ8_LANES (4 * VF_LANES)
#define U8_OFFSET 0
#define I8_OFFSET 128
typedef vi vc;

static inline vc vc_u8(vc bytes) { return bytes; }
static inline vc vc_i8(vc bytes) { return X86_BITS(xor)(bytes, X86(set1_epi8)(-128)); }
static inline vc vc_low_halves(vc bytes) { return X86_BITS (and)(bytes, X86(set1_epi8)(15)); }
static inline vc vc_high_halves(vc bytes) { return vc_low_halves(X86(srli_epi16)(bytes, 4)); }
static inline vc vc_upper_and_lower(vc a, vc b)
{
    return X86_BITS(xor)(a, vc_low_halves(X86_BITS(xor)(a, b)));
}
static inline vc vc_join_low_halves(vc upper, vc lower)
{
    return vc_upper_and_lower(X86(slli_epi16)(upper, 4), lower);
}
static inline vc vc_join_high_halves(vc upper, vc lower)
{
    return vc_upper_and_lower(upper, X86(srli_epi16)(lower, 4));
}
static inline vc vc_magnitudes(vc bytes) { return X86(abs_epi8)(bytes); }
static inline vi vi_add_squares(vi sums, vc bytes)
{
    const vi low = X86(unpacklo_epi8)(bytes, X86_BITS(setzero)()),
             high = X86(unpackhi_epi8)(bytes, X86_BITS(setzero)());
    return X86(add_epi32)(sums,
                          X86(add_epi32)(X86(madd_epi16)(low, low), X86(madd_epi16)(high, high)));
}
#ifndef SIMD_VNNI
#define QUERY_CODE_MAX 63 /* two products with codes up to 255 fit the 16 bits of vpmaddubsw */
/* The addition is inline assembly, because gcc 12 would use two registers for each sum and then
 * spill registers to the stack. */
static inline vi vi_dot_codes(vi sums, vc codes, vc factors)
{
    const vi products = X86(madd_epi16)(X86(maddubs_epi16)(codes, factors), X86(set1_epi16)(1));
    __asm__("vpaddd %1, %0, %0" : "+v"(sums) : "v"(products));
    return sums;
}
static inline vi vi_dot_i16(vi sums, vc a, vc b) { return vi_dot(sums, a, b); }
static inline vi vi_products(vc codes, vc factors) { return X86(maddubs_epi16)(codes, factors); }
static inline vi vi_more_products(vi products, vc codes, vc factors)
{
    const vi more = X86(maddubs_epi16)(codes, factors);
    __asm__("vpaddw %1, %0, %0" : "+v"(products) : "v"(more));
    return products;
}
static inline vi vi_add_products(vi sums, vi products)
{
    const vi pairs = X86(madd_epi16)(products, X86(set1_epi16)(1));
    __asm__("vpaddd %1, %0, %0" : "+v"(sums) : "v"(pairs));
    return sums;
}
#endif

/* The operations of kernels/rough_template.h. vi_dot_i16 adds two products of 16-bit integers to
 * each sum. vf_store_i16 rounds 2 * VF_LANES numbers, and stores them in an order of its own. Bit i
 * of vi_at_least, which each set defines, is set if lane i of a is at least lane i of b. */
static inline void vf_store_i16(int16_t *p, vf a, vf b)
{
    X86_BITS(storeu)((void *)p, X86(packs_epi32)(X86(cvtps_epi32)(a), X86(cvtps_epi32)(b)));
}
static inline vi vi_max(vi a, vi b) { return X86(max_epi32)(a, b); }
