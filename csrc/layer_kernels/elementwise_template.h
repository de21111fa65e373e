/*
 * Kernels over contiguous elements, for one type (simd/float32.h). The contracts are in
 * elementwise_kernels.h. Further parameters, undefined at the end:
 *
 *   EXP_DEGREE                  degree of the series of e^x in gelu_tanh
 *   TAIL_DEGREE                 the same in gelu
 *   TAIL_LIMIT, TAIL_CENTRE     T and k of the normal distribution's tail, see below
 *   TAIL_TERMS, TAIL_FACTORS    number of its coefficients, and their list, highest power first
 *
 * The tail. With t = |x| and Phi the normal distribution function, Phi(-t) = e^(-t^2 / 2) R(t). R
 * falls from 1/2 like 0.4 / t, so R(t) (t + k) changes little, and is a polynomial in
 * q = (t - k) / (t + k), which lies between -1 and 1. The coefficients interpolate it at the
 * Chebyshev nodes for t in [0, T]. Their relative error is 2^-29 (float: k = 3, T = 15) and 2^-58
 * (double: k = 7, T = 39). Beyond T the tail is less than half the smallest subnormal number.
 * GELU is max(x, 0) - t Phi(-t), which loses no digits for negative x, where 1 + erf cancels. It is
 * computed in the type itself, gelu_tanh in double.
 *
 * Errors, in units in the last place of normal results: gelu 6 (float) and 10 (double); gelu_tanh
 * 0.52 (float) and 6 + 8 |u| (double), because e^(-2 u) multiplies the rounding error of u.
 * Derivatives have the same errors, but relative to the larger of their two terms, which cancel
 * near x = -0.75.
 */

/*
 * t Phi(-t), or, with `derivative`, Phi(-t) - t phi(t), where phi is the density. t is |x|.
 *
 * Rounding t^2 would change e^(-t^2 / 2) by hundreds of units, so t^2 is the sum of the rounded
 * square and of its rounding error.
 */
INLINE FLOAT_VECTOR NAME(normal_tail)(FLOAT_VECTOR t, const bool derivative)
{
    static const FLOAT_TYPE factors[TAIL_TERMS] = TAIL_FACTORS;
    const FLOAT_VECTOR half = FLOAT_OP(set1)(-0.5f), one = FLOAT_OP(set1)(1),
                       centre = FLOAT_OP(set1)(TAIL_CENTRE);
    t = FLOAT_OP(min)(FLOAT_OP(set1)(TAIL_LIMIT), t);
    const FLOAT_VECTOR square = FLOAT_OP(mul)(t, t), rest = FLOAT_OP(product_error)(t, t, square),
                       high = FLOAT_OP(mul)(half, square), n = FLOAT_OP(exp_exponent)(high),
                       r = FLOAT_OP(fma)(half, rest, FLOAT_OP(exp_rest)(high, n)),
                       e = FLOAT_OP(exp_series)(r, TAIL_DEGREE),
                       w = FLOAT_OP(div)(one, FLOAT_OP(add)(t, centre)),
                       q = FLOAT_OP(mul)(FLOAT_OP(sub)(t, centre), w); /* exactly -1 for 0 */
    FLOAT_VECTOR ratio = FLOAT_OP(set1)(factors[0]);
    _Pragma("GCC unroll 32") for (int i = 1; i < TAIL_TERMS; i++)
    {
        ratio = FLOAT_OP(fma)(ratio, q, FLOAT_OP(set1)(factors[i]));
    }
    const FLOAT_VECTOR slope =
        FLOAT_OP(set1)((FLOAT_TYPE)-0x1.9884533d43651p-2); /* -1 / sqrt(2 pi) */
    const FLOAT_VECTOR tail = derivative ? FLOAT_OP(fma)(slope, t, FLOAT_OP(mul)(w, ratio))
                                         : FLOAT_OP(mul)(FLOAT_OP(mul)(t, w), ratio);
    return FLOAT_OP(scale)(FLOAT_OP(mul)(e, tail), n);
}

/* torch's result is NaN for -infinity. Adding 0 times x, which is NaN there, gives the same. */
INLINE FLOAT_VECTOR NAME(gelu_of)(FLOAT_VECTOR x)
{
    const FLOAT_VECTOR tail = NAME(normal_tail)(FLOAT_OP(abs)(x), false), zero = FLOAT_OP(set1)(0);
    return FLOAT_OP(fma)(zero, FLOAT_OP(min)(zero, x), FLOAT_OP(sub)(FLOAT_OP(relu)(x), tail));
}

/* Let t = |x| and v = Phi(-t) - t phi(t). The derivative is v where x < 0, else 1 - v. `above` is 0
 * where x < 0, else 1. Only where |x| is below 2^-100 is it between 0 and 1; there v is 1/2, so the
 * result is 1/2 for any `above`. */
INLINE FLOAT_VECTOR NAME(gelu_derivative)(FLOAT_VECTOR x)
{
    const FLOAT_VECTOR tail = NAME(normal_tail)(FLOAT_OP(abs)(x), true), one = FLOAT_OP(set1)(1),
                       above = FLOAT_OP(min)(
                           one, FLOAT_OP(relu)(FLOAT_OP(fma)(x, FLOAT_OP(set1)(0x1p100f),
                                                             FLOAT_OP(set1)(0.5f)))),
                       sign = FLOAT_OP(fma)(FLOAT_OP(set1)(2), above, FLOAT_OP(set1)(-1)),
                       result = FLOAT_OP(sub)(above, FLOAT_OP(mul)(sign, tail));
    return FLOAT_OP(fma)(FLOAT_OP(set1)(0), x, result);
}

/* e^x, which is 0 or infinity beyond the range of double */
INLINE vd NAME(exp)(vd x)
{
    x = vd_max(vd_set1(-746.0), vd_min(vd_set1(710.0), x));
    const vd n = vd_exp_exponent(x);
    return vd_scale(vd_exp_series(vd_exp_rest(x, n), EXP_DEGREE), n);
}

/* -2 u = -2 sqrt(2 / pi) (x + 0.044715 x^3) */
INLINE vd NAME(tanh_exponent)(vd x)
{
    const vd slope = vd_set1(-1.5957691216057308), cubic = vd_set1(-0.07135481627260025);
    return vd_mul(x, vd_fma(cubic, vd_mul(x, x), slope));
}

/* x (1 + tanh(u)) / 2 = x / (1 + e^(-2 u)) */
INLINE vd NAME(gelu_tanh_of)(vd x)
{
    return vd_div(x, vd_add(vd_set1(1.0), NAME(exp)(NAME(tanh_exponent)(x))));
}

/* Let e = exp(-2 |u|), and s = 1 / (1 + e), or e / (1 + e) where x < 0. The derivative is s + 2 u'
 * x e / (1 + e)^2. From |x| = 30 on, e is 0. */
INLINE vd NAME(gelu_tanh_derivative)(vd x)
{
    const vd one = vd_set1(1.0), limit = vd_set1(30.0), t = vd_min(limit, vd_abs(x)),
             e = NAME(exp)(NAME(tanh_exponent)(t)), q = vd_div(one, vd_add(one, e)),
             step = vd_min(one, vd_relu(vd_fma(x, vd_set1(0x1p100), vd_set1(0.5)))),
             sign = vd_fma(vd_set1(2.0), step, vd_set1(-1.0)),
             logistic = vd_mul(vd_fma(vd_sub(one, step), e, step), q),
             slope =
                 vd_fma(vd_set1(0.21406444881780073), vd_mul(t, t), vd_set1(1.5957691216057308)),
             rest = vd_mul(vd_mul(vd_mul(sign, t), slope), vd_mul(vd_mul(e, q), q));
    return vd_fma(vd_set1(0.0), x, vd_add(logistic, rest));
}

/* Applies a function to n elements, in vectors of `lanes`. The last ones are calculated in a
 * vector, too. */
#define ACTIVATION(name, lanes, load, store, mul) \
    INLINE void NAME(name##_vector)(const FLOAT_TYPE *x, const FLOAT_TYPE *dy, FLOAT_TYPE *out) \
    { \
        store(out, dy == NULL ? NAME(name##_of)(load(x)) \
                              : mul(load(dy), NAME(name##_derivative)(load(x)))); \
    } \
    static void NAME(name)(size_t n, double slope, const void *input, const void *gradient, \
                           void *output) \
    { \
        const FLOAT_TYPE *x = input, *dy = gradient; \
        FLOAT_TYPE *out = output, last[lanes] = {0}, last_dy[lanes] = {0}; \
        size_t i = 0; \
        (void)slope; \
        if (dy == NULL) { \
            for (; i + lanes <= n; i += lanes) { \
                NAME(name##_vector)(x + i, NULL, out + i); \
            } \
        } else { \
            for (; i + lanes <= n; i += lanes) { \
                NAME(name##_vector)(x + i, dy + i, out + i); \
            } \
        } \
        if (i < n) { \
            const size_t bytes = (n - i) * sizeof *x; \
            memcpy(last, x + i, bytes); \
            if (dy != NULL) { \
                memcpy(last_dy, dy + i, bytes); \
            } \
            NAME(name##_vector)(last, dy == NULL ? NULL : last_dy, last); \
            memcpy(out + i, last, bytes); \
        } \
    }
ACTIVATION(gelu, FLOAT_LANES, FLOAT_OP(load), FLOAT_OP(store), FLOAT_OP(mul))
ACTIVATION(gelu_tanh, VD_LANES, FLOAT_LOAD, FLOAT_STORE, vd_mul)
#undef ACTIVATION

static void NAME(leaky_relu)(size_t n, double slope_double, const void *input, const void *gradient,
                             void *output)
{
    const FLOAT_TYPE *x = input, *dy = gradient == NULL ? input : gradient,
                     slope = (FLOAT_TYPE)slope_double;
    FLOAT_TYPE *out = output;
    for (size_t i = 0; i < n; i++) { /* a factor, not a branch, so that compilers vectorize it */
        const FLOAT_TYPE factor = x[i] > 0 ? 1 : slope;
        out[i] = dy[i] * factor;
    }
}

static void NAME(channel_sums)(size_t n, const void *x_void, const void *y_void, double centre,
                               double (*sums)[CHANNEL_SUMS])
{
    enum { VECTORS = CHANNEL_SUMS / VD_LANES };
    const FLOAT_TYPE *x = x_void, *y = y_void;
    const vd middle = vd_set1(centre);
    vd ys[VECTORS], products[VECTORS];
    size_t i = 0;
    for (int k = 0; k < VECTORS; k++) {
        ys[k] = vd_load(sums[0] + k * VD_LANES);
        products[k] = vd_load(sums[1] + k * VD_LANES);
    }
    for (; i + CHANNEL_SUMS <= n; i += CHANNEL_SUMS) {
        _Pragma("GCC unroll 8") for (int k = 0; k < VECTORS; k++)
        {
            const size_t at = i + (size_t)(k * VD_LANES);
            const vd v = vd_sub(FLOAT_LOAD(x + at), middle), w = y == NULL ? v : FLOAT_LOAD(y + at);
            ys[k] = vd_add(ys[k], w);
            products[k] = vd_fma(v, w, products[k]);
        }
    }
    for (int k = 0; k < VECTORS; k++) {
        vd_store(sums[0] + k * VD_LANES, ys[k]);
        vd_store(sums[1] + k * VD_LANES, products[k]);
    }
    for (size_t k = 0; i < n; i++, k++) {
        const double v = (double)x[i] - centre, w = y == NULL ? v : (double)y[i];
        sums[0][k] += w;
        sums[1][k] = fma_f64(v, w, sums[1][k]);
    }
}

/* Compilers vectorize both loops. */
static void NAME(channel_affine)(size_t n, const void *x_void, const void *y_void, double centre,
                                 const double *factors, void *output_void)
{
    const FLOAT_TYPE *restrict x = x_void, *restrict y = y_void;
    FLOAT_TYPE *restrict output = output_void;
    const double a = factors[0], b = factors[1], c = factors[2];
    if (y == NULL) {
        for (size_t i = 0; i < n; i++) {
            output[i] = (FLOAT_TYPE)(((double)x[i] - centre) * a + c);
        }
        return;
    }
    for (size_t i = 0; i < n; i++) {
        output[i] = (FLOAT_TYPE)(((double)x[i] - centre) * a + (double)y[i] * b + c);
    }
}

/* The lanes add up to the sum of the first n / VD_LANES vectors of a plane. */
INLINE vd NAME(plane_lanes)(const FLOAT_TYPE *x, size_t n)
{
    vd sums[4] = {vd_set1(0.0), vd_set1(0.0), vd_set1(0.0), vd_set1(0.0)};
    size_t i = 0;
    for (; i + 4 * VD_LANES <= n; i += 4 * VD_LANES) {
        _Pragma("GCC unroll 4") for (int k = 0; k < 4; k++)
        {
            sums[k] = vd_add(sums[k], FLOAT_LOAD(x + i + (size_t)(k * VD_LANES)));
        }
    }
    for (; i + VD_LANES <= n; i += VD_LANES) {
        sums[0] = vd_add(sums[0], FLOAT_LOAD(x + i));
    }
    return vd_add(vd_add(sums[0], sums[1]), vd_add(sums[2], sums[3]));
}

static void NAME(plane_sums)(size_t planes, size_t n, const void *x_void, double *sums)
{
    const FLOAT_TYPE *x = x_void;
    for (size_t first = 0; first < planes; first += VD_LANES) {
        const size_t left = planes - first, count = left < VD_LANES ? left : VD_LANES;
        vd lanes[VD_LANES];
        double totals[VD_LANES];
        for (size_t k = 0; k < VD_LANES; k++) {
            lanes[k] = k < count ? NAME(plane_lanes)(x + (first + k) * n, n) : vd_set1(0.0);
        }
        vd_store(totals, vd_row_sums(lanes));
        for (size_t k = 0; k < count; k++) {
            for (size_t i = n / VD_LANES * VD_LANES; i < n; i++) {
                totals[k] += (double)x[(first + k) * n + i];
            }
            sums[first + k] = totals[k];
        }
    }
}

/* True if one of n elements equals the value. Compilers vectorize the loop, for a constant n. */
INLINE bool NAME(has_element)(const FLOAT_TYPE *elements, const size_t n, FLOAT_TYPE value)
{
    int found = 0;
    for (size_t k = 0; k < n; k++) {
        found |= elements[k] == value;
    }
    return found != 0;
}

static size_t NAME(first_maximum)(size_t n, const void *elements_void, bool find, void *to)
{
    enum { STEP = 4 * FLOAT_LANES, BLOCK = 64 };
    const FLOAT_TYPE *elements = elements_void;
    FLOAT_TYPE maximum = elements[0], lanes[FLOAT_LANES];
    size_t i = 0;
    if (n >= FLOAT_LANES) {
        FLOAT_VECTOR maxima[4];
        for (int k = 0; k < 4; k++) { /* the last vector may overlap others */
            maxima[k] = FLOAT_OP(load)(elements + n - FLOAT_LANES);
        }
        for (; i + STEP <= n; i += STEP) {
            _Pragma("GCC unroll 4") for (int k = 0; k < 4; k++)
            {
                const FLOAT_VECTOR v = FLOAT_OP(load)(elements + i + (size_t)(k * FLOAT_LANES));
                maxima[k] = FLOAT_OP(max_propagating_nan)(maxima[k], v);
            }
        }
        for (; i + FLOAT_LANES <= n; i += FLOAT_LANES) {
            maxima[0] = FLOAT_OP(max_propagating_nan)(maxima[0], FLOAT_OP(load)(elements + i));
        }
        maxima[0] = FLOAT_OP(max_propagating_nan)(maxima[0], maxima[1]);
        maxima[2] = FLOAT_OP(max_propagating_nan)(maxima[2], maxima[3]);
        FLOAT_OP(store)(lanes, FLOAT_OP(max_propagating_nan)(maxima[0], maxima[2]));
        for (size_t half = FLOAT_LANES / 2; half > 0; half /= 2) {
            for (size_t k = 0; k < half; k++) {
                const FLOAT_TYPE a = lanes[k], b = lanes[k + half];
                lanes[k] = ((b > a) | (b != b)) ? b : a;
            }
        }
        maximum = lanes[0];
        i = n;
    }
    for (; i < n; i++) {
        maximum = elements[i] > maximum || elements[i] != elements[i] ? elements[i] : maximum;
    }
    memcpy(to, &maximum, sizeof maximum);
    if (maximum != maximum) {
        for (i = n; elements[i - 1] == elements[i - 1]; i--) {
        }
        memcpy(to, elements + i - 1, sizeof *elements);
        return i - 1;
    }
    if (!find && maximum != 0) { /* 0 and -0 are equal */
        return 0;
    }
    for (i = 0; i + BLOCK <= n && !NAME(has_element)(elements + i, BLOCK, maximum); i += BLOCK) {
    }
    for (; i + 16 <= n && !NAME(has_element)(elements + i, 16, maximum); i += 16) {
    }
    while (elements[i] != maximum) {
        i++;
    }
    memcpy(to, elements + i, sizeof *elements);
    return i;
}

/* If one element is NaN, it is the maximum; if both are, the later one is. Of two equal elements,
 * the earlier one is the maximum. */
INLINE FLOAT_VECTOR NAME(later_maxima)(FLOAT_VECTOR maxima, FLOAT_VECTOR later)
{
    return FLOAT_OP(max_propagating_nan)(later, maxima);
}

INLINE FLOAT_VECTOR NAME(alternate_maxima)(const FLOAT_TYPE *in, const size_t width)
{
    FLOAT_VECTOR maxima, even, odd;
    FLOAT_OP(load_alternating)(in, &maxima, &odd);
    if (width > 1) {
        maxima = NAME(later_maxima)(maxima, odd);
    }
    for (size_t i = 2; i < width; i += 2) {
        FLOAT_OP(load_alternating)(in + i, &even, &odd);
        maxima = NAME(later_maxima)(maxima, even);
        if (i + 1 < width) {
            maxima = NAME(later_maxima)(maxima, odd);
        }
    }
    return maxima;
}

/* max_alternate_kernel for a compile-time constant `width`, or for any. */
INLINE void NAME(max_alternate_of)(size_t n, const size_t width, const FLOAT_TYPE *in,
                                   FLOAT_TYPE *out)
{
    size_t i = 0;
    for (; i + FLOAT_LANES <= n; i += FLOAT_LANES) {
        FLOAT_OP(store)(out + i, NAME(alternate_maxima)(in + 2 * i, width));
    }
    if (i < n) { /* the last vector may overlap the one before it */
        i = n < FLOAT_LANES ? 0 : n - FLOAT_LANES;
        FLOAT_OP(store)(out + i, NAME(alternate_maxima)(in + 2 * i, width));
    }
}

static void NAME(max_alternate)(size_t n, size_t width, const void *in, void *out)
{
    switch (width) {
    case 2:
        NAME(max_alternate_of)(n, 2, in, out);
        break;
    case 3:
        NAME(max_alternate_of)(n, 3, in, out);
        break;
    default:
        NAME(max_alternate_of)(n, width, in, out);
    }
}

INLINE FLOAT_VECTOR NAME(maxima_of_rows)(size_t rows, const FLOAT_TYPE *in, size_t step)
{
    FLOAT_VECTOR maxima = FLOAT_OP(load)(in);
    for (size_t r = 1; r < rows; r++) {
        maxima = NAME(later_maxima)(maxima, FLOAT_OP(load)(in + r * step));
    }
    return maxima;
}

static void NAME(column_maxima)(size_t n, size_t rows, const void *in_void, size_t step,
                                void *out_void)
{
    const FLOAT_TYPE *in = in_void;
    FLOAT_TYPE *out = out_void;
    if (n < FLOAT_LANES) {
        FLOAT_TYPE lanes[FLOAT_LANES];
        FLOAT_OP(store)(lanes, NAME(maxima_of_rows)(rows, in, step));
        memcpy(out, lanes, n * sizeof *out);
        return;
    }
    for (size_t i = 0; i < n; i += FLOAT_LANES) {
        const size_t at = n - i < FLOAT_LANES ? n - FLOAT_LANES : i;
        FLOAT_OP(store)(out + at, NAME(maxima_of_rows)(rows, in + at, step));
    }
}

INLINE vd NAME(sums_of_rows)(size_t rows, const FLOAT_TYPE *in, size_t step)
{
    vd sums = vd_set1(0.0);
    for (size_t r = 0; r < rows; r++) {
        sums = vd_add(sums, FLOAT_LOAD(in + r * step));
    }
    return sums;
}

static void NAME(column_totals)(size_t n, size_t rows, const void *in_void, size_t step,
                                double *sums)
{
    const FLOAT_TYPE *in = in_void;
    if (n < VD_LANES) {
        for (size_t i = 0; i < n; i++) {
            sums[i] = 0.0;
            for (size_t r = 0; r < rows; r++) {
                sums[i] += (double)in[r * step + i];
            }
        }
        return;
    }
    size_t i = 0;
    for (; i + VD_LANES <= n; i += VD_LANES) {
        vd_store(sums + i, NAME(sums_of_rows)(rows, in + i, step));
    }
    if (i < n) { /* the last vector overlaps the one before it */
        i = n - VD_LANES;
        vd_store(sums + i, NAME(sums_of_rows)(rows, in + i, step));
    }
}

INLINE vd NAME(alternate_sums)(const double *sums, size_t width)
{
    vd total = vd_set1(0.0), even, odd;
    for (size_t i = 0; i < width; i += 2) {
        vd_load_alternating(sums + i, &even, &odd);
        total = vd_add(total, even);
        if (i + 1 < width) {
            total = vd_add(total, odd);
        }
    }
    return total;
}

INLINE vd NAME(alternate_means)(const double *sums, size_t width, vd size)
{
    return vd_div(NAME(alternate_sums)(sums, width), size);
}

static void NAME(mean_alternate)(size_t n, size_t width, const double *sums, double size_double,
                                 void *out_void)
{
    FLOAT_TYPE *out = out_void;
    const vd size = vd_set1(size_double);
    size_t i = 0;
    for (; i + VD_LANES <= n; i += VD_LANES) {
        FLOAT_STORE(out + i, NAME(alternate_means)(sums + 2 * i, width, size));
    }
    if (i < n && n >= VD_LANES) { /* the last vector overlaps the one before it */
        i = n - VD_LANES;
        FLOAT_STORE(out + i, NAME(alternate_means)(sums + 2 * i, width, size));
    } else if (i < n) {
        FLOAT_TYPE lanes[VD_LANES];
        FLOAT_STORE(lanes, NAME(alternate_means)(sums, width, size));
        memcpy(out, lanes, n * sizeof *out);
    }
}

/* The means of VD_LANES windows of 2 x 2 whose rows lie `width` elements apart. As in column_totals
 * and mean_alternate, columns are summed first, and a sum of negative zeros is 0. */
INLINE vd NAME(square_means)(const FLOAT_TYPE *in, size_t width)
{
    vd even, odd;
    vd_unzip(vd_add(FLOAT_LOAD(in), FLOAT_LOAD(in + width)),
             vd_add(FLOAT_LOAD(in + VD_LANES), FLOAT_LOAD(in + width + VD_LANES)), &even, &odd);
    return vd_mul(vd_set1(0.25), vd_add(vd_set1(0.0), vd_add(even, odd)));
}

static void NAME(mean_pool2x2)(void *out_void, const void *in_void, size_t width, size_t out_rows,
                               size_t out_columns)
{
    const FLOAT_TYPE *in = in_void;
    FLOAT_TYPE *out = out_void;
    for (size_t y = 0; y < out_rows; y++, in += 2 * width, out += out_columns) {
        size_t i = 0;
        for (; i + VD_LANES <= out_columns; i += VD_LANES) {
            FLOAT_STORE(out + i, NAME(square_means)(in + 2 * i, width));
        }
        if (i < out_columns) { /* the last vector overlaps the one before it */
            i = out_columns - VD_LANES;
            FLOAT_STORE(out + i, NAME(square_means)(in + 2 * i, width));
        }
    }
}

/*
 * x / d for floats x and 2^-300 <= d <= 2^300, with r = 1 / d rounded. It has the bits of a
 * division in double, and takes less time.
 *
 * q = x r is wrong by at most 2 units in the last place. Each step subtracts q d - x, which is
 * calculated with one rounding, times r. After the first step q is wrong by at most one unit. So
 * q d - x is exact in the second step, whose result is correctly rounded (P. Markstein, Computation
 * of elementary functions on the IBM RISC System/6000 processor, 1990). Nothing overflows or
 * underflows in this range. -x, not x, is added, because then the quotient of -0 stays -0.
 */
INLINE vd NAME(quotient)(vd x, vd d, vd r, vd minus_r)
{
    const vd minus_x = vd_sub(vd_set1(0.0), x);
    const vd q = vd_mul(x, r), closer = vd_fma(vd_fma(q, d, minus_x), minus_r, q);
    return vd_fma(vd_fma(closer, d, minus_x), minus_r, closer);
}

static void NAME(divide)(size_t n, const void *x_void, const double *divisors, size_t step,
                         void *output)
{
    const FLOAT_TYPE *x = x_void;
    FLOAT_TYPE *out = output;
    const vd d = vd_set1(divisors[0]), r = vd_set1(1.0 / divisors[0]),
             minus_r = vd_set1(-1.0 / divisors[0]);
    size_t i = 0;
    if (FMA_ROUNDINGS == 1 && sizeof *x == sizeof(float) && step == 0 && divisors[0] >= 0x1p-300 &&
        divisors[0] <= 0x1p300) {
        for (; n - i >= VD_LANES; i += VD_LANES) {
            FLOAT_STORE(out + i, NAME(quotient)(FLOAT_LOAD(x + i), d, r, minus_r));
        }
    }
    for (; n - i >= VD_LANES; i += VD_LANES) {
        FLOAT_STORE(out + i, vd_div(FLOAT_LOAD(x + i), step == 0 ? d : vd_load(divisors + i)));
    }
    for (; i < n; i++) {
        out[i] = (FLOAT_TYPE)(x[i] / divisors[i * step]);
    }
}

#undef EXP_DEGREE
#undef TAIL_DEGREE
#undef TAIL_LIMIT
#undef TAIL_CENTRE
#undef TAIL_TERMS
#undef TAIL_FACTORS
