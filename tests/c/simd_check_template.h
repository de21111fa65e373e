/*
 * Checks the operations that both float types have. Include it between simd/float32.h or float64.h
 * and end_float.h.
 */
#define CHECK_EACH(vector, condition) \
    CHECK_LANES(FLOAT_OP(store), FLOAT_LANES, FLOAT_OP(vector), condition)

static void NAME(check_arithmetic)(void)
{
    FLOAT_TYPE a[FLOAT_LANES], b[FLOAT_LANES], c[FLOAT_LANES], out[FLOAT_LANES];
    FLOAT_TYPE products[FLOAT_LANES], both[2 * FLOAT_LANES];
    const int narrow = sizeof *a == sizeof(float);
    const FLOAT_VECTOR nan = FLOAT_OP(set1)(NAN);
    for (int round = 0; round < 500; round++) {
        for (int i = 0; i < FLOAT_LANES; i++) { /* products that neither overflow nor underflow */
            a[i] = (FLOAT_TYPE)(random_number() *
                                pow(10.0, narrow ? round % 20 - 10 : round % 60 - 30));
            b[i] = (FLOAT_TYPE)random_number();
            products[i] = a[i] * b[i];
            products[i] += narrow ? 0 : (FLOAT_TYPE)((round % 5 - 2) * 0x1p-52) * products[i];
        }
        FLOAT_VECTOR va = FLOAT_OP(load)(a), vb = FLOAT_OP(load)(b), vc = FLOAT_OP(load)(products);
        CHECK_EACH(product_error(va, vb, vc), (double)out[i] == fma(a[i], b[i], -products[i]));
        for (int i = 0; i < FLOAT_LANES; i++) {
            both[i] = a[i] = (FLOAT_TYPE)pick(round + 3 * i);
            both[FLOAT_LANES + i] = b[i] = (FLOAT_TYPE)pick(2 * round + 5 * i + 1);
            c[i] = (FLOAT_TYPE)pick(round + 7 * i + 2);
        }
        va = FLOAT_OP(load)(a);
        vb = FLOAT_OP(load)(b);
        vc = FLOAT_OP(load)(c);
        CHECK_EACH(set1(a[0]), same_double(out[i], a[0]));
        CHECK_EACH(add(va, vb), same_double(out[i], a[i] + b[i]));
        CHECK_EACH(sub(va, vb), same_double(out[i], a[i] - b[i]));
        CHECK_EACH(mul(va, vb), same_double(out[i], a[i] * b[i]));
        CHECK_EACH(div(va, vb), same_double(out[i], a[i] / b[i]));
        CHECK_EACH(fma(va, vb, vc), fma_fits(out[i], a[i], b[i], c[i], narrow));
        CHECK(fma_fits(FLOAT_FMA(a[0], b[0], c[0]), a[0], b[0], c[0], narrow), "round %d", round);
        CHECK_EACH(abs(va), same_double(out[i], fabs(a[i])) && (isnan(a[i]) || !signbit(out[i])));
        CHECK_EACH(min(va, vb), isnan(a[i]) || isnan(b[i]) || out[i] == fmin(a[i], b[i]));
        CHECK_EACH(max(va, vb), isnan(a[i]) || isnan(b[i]) || out[i] == fmax(a[i], b[i]));
        CHECK_EACH(min(va, nan), isnan(out[i]));
        CHECK_EACH(max(va, nan), isnan(out[i]));
        CHECK_EACH(relu(va), same_double(out[i], a[i] < 0 ? 0 : a[i]));
        CHECK_EACH(max_propagating_nan(va, vb),
                   same_double(out[i], max_propagating_nan(a[i], b[i])));
        CHECK_EACH(max_propagating_nan(va, nan), isnan(out[i]));
        CHECK_EACH(max_propagating_nan(nan, va), isnan(out[i]));
        CHECK_EACH(round(va), same_double(out[i], rint(a[i])));
        FLOAT_OP(store)(out, FLOAT_OP(set1)(7));
        FLOAT_OP(store_pair_maxima)(out, va);
        for (int i = 0; i < FLOAT_LANES; i++) {
            const double expected =
                i < FLOAT_LANES / 2 ? max_propagating_nan(a[2 * i], a[2 * i + 1]) : 7;
            CHECK(same_double(out[i], expected), "pair %d: %g", i, (double)out[i]);
        }
        FLOAT_OP(load_alternating)(both, &va, &vb);
        CHECK_LANES(FLOAT_OP(store), FLOAT_LANES, va, same_double(out[i], both[2 * i]));
        CHECK_LANES(FLOAT_OP(store), FLOAT_LANES, vb, same_double(out[i], both[2 * i + 1]));
        unsigned below = 0;
        for (int i = 0; i < FLOAT_LANES; i++) below |= (unsigned)(a[i] < b[i]) << i;
        CHECK(FLOAT_OP(below)(FLOAT_OP(load)(a), FLOAT_OP(load)(b)) == below, "round %d", round);
    }
}

#undef CHECK_EACH
