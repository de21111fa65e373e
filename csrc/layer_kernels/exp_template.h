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

/* The parts of vf_exp and vd_exp: n, r, and the series for e^r up to r^degree. */
INLINE vf vf_exp_exponent(vf x)
{
    return vf_round(vf_mul(x, vf_set1(0x1.715476p+0f)));
}

INLINE vf vf_exp_rest(vf x, vf n)
{
    return vf_fma(n, vf_set1(-0x1.7f7d1cp-20f), vf_fma(n, vf_set1(-0x1.62e4p-1f), x));
}

INLINE vf vf_exp_series(vf r, const int degree)
{
    static const float factorials[] = {1, 1, 2, 6, 24, 120, 720, 5040};
    vf e = vf_set1(1.0f / factorials[degree]);
    _Pragma("GCC unroll 7") for (int i = degree; i-- > 0;)
    {
        e = vf_fma(e, r, vf_set1(1.0f / factorials[i]));
    }
    return e;
}

INLINE vf vf_exp(vf x)
{
    x = vf_max(vf_set1(-104.0f), vf_min(vf_set1(89.0f), x));
    const vf n = vf_exp_exponent(x);
    return vf_scale(vf_exp_series(vf_exp_rest(x, n), 7), n);
}

INLINE vd vd_exp_exponent(vd x)
{
    return vd_round(vd_mul(x, vd_set1(0x1.71547652b82fep+0)));
}

INLINE vd vd_exp_rest(vd x, vd n)
{
    return vd_fma(n, vd_set1(-0x1.cf79abc9e3b3ap-40), vd_fma(n, vd_set1(-0x1.62e42fefap-1), x));
}

INLINE vd vd_exp_series(vd r, const int degree)
{
    static const double factorials[] = {1.0,       1.0,        2.0,         6.0,         24.0,
                                        120.0,     720.0,      5040.0,      40320.0,     362880.0,
                                        3628800.0, 39916800.0, 479001600.0, 6227020800.0};
    vd e = vd_set1(1.0 / factorials[degree]);
    _Pragma("GCC unroll 13") for (int i = degree; i-- > 0;)
    {
        e = vd_fma(e, r, vd_set1(1.0 / factorials[i]));
    }
    return e;
}

INLINE vd vd_exp(vd x)
{
    x = vd_max(vd_set1(-746.0), vd_min(vd_set1(710.0), x));
    const vd n = vd_exp_exponent(x);
    return vd_scale(vd_exp_series(vd_exp_rest(x, n), 13), n);
}
