/*
 * Operations that are the same in every instruction set, because they are operators of gcc and
 * clang or derive from others. The header of a set includes this file at its end.
 */

/* Vectors at any address, and the bits of floats as integers. */
typedef vf vf_at __attribute__((aligned(1), may_alias));
typedef vd vd_at __attribute__((aligned(1), may_alias));
typedef vi vi_at __attribute__((aligned(1), may_alias));
typedef vb vb_at __attribute__((aligned(1), may_alias));
typedef vc vc_at __attribute__((aligned(1), may_alias));
typedef float half_vf_at __attribute__((vector_size(sizeof(vf) / 2), aligned(1), may_alias));
typedef double two_vd_at __attribute__((vector_size(2 * sizeof(vd)), aligned(1), may_alias));
typedef uint32_t v32 __attribute__((vector_size(sizeof(vf))));
typedef uint64_t v64 __attribute__((vector_size(sizeof(vd))));

static inline vf vf_load(const float *p) { return *(const vf_at *)(const void *)p; }
static inline void vf_store(float *p, vf a) { *(vf_at *)(void *)p = a; }
static inline vd vd_load(const double *p) { return *(const vd_at *)(const void *)p; }
static inline void vd_store(double *p, vd a) { *(vd_at *)(void *)p = a; }
static inline vi vi_load(const int32_t *p) { return *(const vi_at *)(const void *)p; }
static inline void vi_store(int32_t *p, vi a) { *(vi_at *)(void *)p = a; }
static inline vb vb_load(const uint8_t *p) { return *(const vb_at *)(const void *)p; }
static inline vc vc_load(const void *p) { return *(const vc_at *)(const void *)p; }

static inline vf vf_add(vf a, vf b) { return a + b; }
static inline vf vf_sub(vf a, vf b) { return a - b; }
static inline vf vf_mul(vf a, vf b) { return a * b; }
static inline vf vf_div(vf a, vf b) { return a / b; }
static inline vd vd_add(vd a, vd b) { return a + b; }
static inline vd vd_sub(vd a, vd b) { return a - b; }
static inline vd vd_mul(vd a, vd b) { return a * b; }
static inline vd vd_div(vd a, vd b) { return a / b; }
static inline vi vi_zero(void) { return (vi){0}; }
static inline vb vb_zero(void) { return (vb){0}; }
static inline vc vc_broadcast(const void *p)
{
    uint32_t four;
    memcpy(&four, p, sizeof four);
    return (vc)((v32){0} + four);
}
static inline vb vb_and(vb a, vb b) { return a & b; }

static inline vf vf_abs(vf a) { return (vf)((v32)a & 0x7fffffffu); }
static inline vd vd_abs(vd a) { return (vd)((v64)a & 0x7fffffffffffffffu); }

/* The larger of a and 0. NaN stays NaN. */
static inline vf vf_relu(vf a) { return vf_max(vf_set1(0.0f), a); }
static inline vd vd_relu(vd a) { return vd_max(vd_set1(0.0), a); }
/* Clamps each lane to [-1, 1]. NaN stays NaN. */
static inline vd vd_clip(vd a) { return vd_max(vd_set1(-1.0), vd_min(vd_set1(1.0), a)); }

/* Returns a bit mask. Bit i is set if |a| is above the bound in lane i. It is clear if a is NaN
 * there. The bound is not negative. */
static inline unsigned vd_beyond(vd a, vd bound) { return vd_below(bound, vd_abs(a)); }

/* Loads doubles as floats. Each is rounded once. */
static inline vf vf_load_f64(const double *p)
{
    return __builtin_convertvector(*(const two_vd_at *)(const void *)p, vf);
}
/* Rounds each lane to float and stores it. */
static inline void vd_store_f32(float *p, vd a)
{
    *(half_vf_at *)(void *)p = __builtin_convertvector(a, half_vf_at);
}
static inline vf vf_load_i32(const int32_t *p) { return vf_from_i32(vi_load(p)); }
static inline void vf_load_pair_f16(const uint16_t *p, vf *low, vf *high)
{
    *low = vf_load_f16(p);
    *high = vf_load_f16(p + VF_LANES);
}
static inline void vd_load_alternating(const double *p, vd *even, vd *odd)
{
    vd_unzip(vd_load(p), vd_load(p + VD_LANES), even, odd);
}

/*
 * vf_scale and vd_scale compute a * 2^n, rounded once, and NaN where a is NaN. n is an integer of
 * magnitude up to 252, or 2044 in vd_scale. The magnitude of a is at most 16. It is at least 0.125
 * unless a is 0 or n is -1, 0 or 1. A set that defines SIMD_SCALE has its own.
 *
 * 2^n itself can leave the range of the type, so a is multiplied by two factors of about 2^(n/2).
 * *_power makes such a factor without converting n to an integer. It adds a constant so large that
 * the lowest bits of the sum are the biased exponent, and shifts these bits into the exponent
 * field. The constants are 1.5 * 2^23 or 1.5 * 2^52, plus the bias.
 */
#ifndef SIMD_SCALE
static inline vf vf_power(vf n) { return (vf)((v32)(n + (12582912.0f + 127.0f)) << 23); }
static inline vd vd_power(vd n) { return (vd)((v64)(n + (6755399441055744.0 + 1023.0)) << 52); }
static inline vf vf_scale(vf a, vf n)
{
    const vf half = vf_round(vf_mul(n, vf_set1(0.5f)));
    return vf_mul(vf_mul(a, vf_power(half)), vf_power(vf_sub(n, half)));
}
static inline vd vd_scale(vd a, vd n)
{
    const vd half = vd_round(vd_mul(n, vd_set1(0.5)));
    return vd_mul(vd_mul(a, vd_power(half)), vd_power(vd_sub(n, half)));
}
#endif
