/*
 * vf_exp and vd_exp compute e^x with an error below 1 unit in the last place, or 1.2 units where
 * fma rounds twice. The result is NaN for NaN, and infinity beyond the range of the type. It is 0
 * if e^x is less than half the smallest subnormal number.
 *
 * x = n ln 2 + r, where n is the integer nearest to x / ln 2. So |r| <= ln 2 / 2, and
 * e^x = 2^n e^r. A Taylor series gives e^r; its first omitted term is below 2^-27 for float and
 * 2^-57 for double. ln 2 is split into two constants. The larger one has so few bits that its
 * product with n is exact.
 */
INLINE vf vf_exp(vf x)
{
    x = vf_max(vf_set1(-104.0f), vf_min(vf_set1(89.0f), x));
    const vf n = vf_round(vf_mul(x, vf_set1(0x1.715476p+0f)));
    const vf r = vf_fma(n, vf_set1(-0x1.7f7d1cp-20f), vf_fma(n, vf_set1(-0x1.62e4p-1f), x));
    vf e = vf_set1(1.0f / 5040);
    e = vf_fma(e, r, vf_set1(1.0f / 720));
    e = vf_fma(e, r, vf_set1(1.0f / 120));
    e = vf_fma(e, r, vf_set1(1.0f / 24));
    e = vf_fma(e, r, vf_set1(1.0f / 6));
    e = vf_fma(e, r, vf_set1(0.5f));
    e = vf_fma(e, r, vf_set1(1.0f));
    e = vf_fma(e, r, vf_set1(1.0f));
    return vf_scale(e, n);
}

INLINE vd vd_exp(vd x)
{
    static const double factorials[] = {479001600.0, 39916800.0, 3628800.0, 362880.0, 40320.0,
                                        5040.0,      720.0,      120.0,     24.0,     6.0,
                                        2.0,         1.0,        1.0};
    x = vd_max(vd_set1(-746.0), vd_min(vd_set1(710.0), x));
    const vd n = vd_round(vd_mul(x, vd_set1(0x1.71547652b82fep+0)));
    const vd r =
        vd_fma(n, vd_set1(-0x1.cf79abc9e3b3ap-40), vd_fma(n, vd_set1(-0x1.62e42fefap-1), x));
    vd e = vd_set1(1.0 / 6227020800.0);
    _Pragma("GCC unroll 13") for (int i = 0; i < 13; i++)
    {
        e = vd_fma(e, r, vd_set1(1.0 / factorials[i]));
    }
    return vd_scale(e, n);
}
