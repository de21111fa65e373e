/* Operations that every instruction set derives from its others. The header of a set includes this
 * file at its end. generic.h describes them. */
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
#ifndef SIMD_SCALE
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
