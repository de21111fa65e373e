/*
 * Winograd convolution along the columns of images, for kernels of five rows with stride 1, with
 * lanes across images, for one type. It is F(4, 5), a Toom-Cook algorithm with the points 0, 1/2,
 * -1/2, 1, -1, 2, -2 and infinity: four output rows take 8 products instead of 20.
 * lanes_template.h includes this file; the contracts are in lanes_kernels.h.
 *
 * For one column, y = A' (G g * B' d), where d has eight elements, g five and y four. A, B and 45 G
 * are exact in binary, and the division by 45 is the last operation. So small integers give exact
 * results, and pooling meets the same ties as by the definition. The gradient of d is
 * B (G g * A y'), where y' is the gradient of y.
 *
 * Two dimensions would take 36 products for four pixels instead of 40, and each transformed vector
 * would meet each filter only once. In one dimension it also meets all columns of a kernel, so that
 * the products need few loads.
 */
#ifndef WINOGRAD_SQUARES
/* The squares of the points, and numbers computed from two or three of them. */
#define WINOGRAD_POINTS {0.5, 1.0, 2.0}
#define WINOGRAD_SQUARES {0.25, 1.0, 4.0}
#define WINOGRAD_SUMS {5.0, 4.25, 1.25}    /* [i]: of the squares other than i */
#define WINOGRAD_PRODUCTS {4.0, 1.0, 0.25} /* [i]: of the squares other than i */
#define WINOGRAD_S1 5.25
#define WINOGRAD_S2 5.25
#define WINOGRAD_S3 1.0
/* G is stored times this number, which makes it exact in binary. */
#define WINOGRAD_SCALE 45.0
/* The factors of the rows of G: WINOGRAD_SCALE divided by the product of the distances to all other
 * points. */
#define WINOGRAD_FACTORS {32.0, -10.0, 0.5}
#endif

#define SET(x) FLOAT_OP(set1)((FLOAT_TYPE)(x))
#define FMA FLOAT_OP(fma)
#define ADD FLOAT_OP(add)
#define MUL FLOAT_OP(mul)
#define EACH(i, n) _Pragma("GCC unroll 8") for (size_t i = 0; i < (n); i++)

/* G g */
INLINE void NAME(winograd_g)(FLOAT_VECTOR to[8], const FLOAT_VECTOR g[5])
{
    static const double points[] = WINOGRAD_POINTS, squares[] = WINOGRAD_SQUARES,
                        factors[] = WINOGRAD_FACTORS;
    to[0] = MUL(SET(-WINOGRAD_SCALE / WINOGRAD_S3), g[0]);
    EACH(i, 3)
    {
        const FLOAT_VECTOR square = SET(squares[i]),
                           even = FMA(square, FMA(square, g[4], g[2]), g[0]),
                           odd = MUL(SET(points[i]), FMA(square, g[3], g[1]));
        to[1 + 2 * i] = MUL(SET(factors[i]), ADD(even, odd));
        to[2 + 2 * i] = MUL(SET(factors[i]), FMA(SET(-1), odd, even));
    }
    to[7] = MUL(SET(WINOGRAD_SCALE), g[4]);
}

/* B' d */
INLINE void NAME(winograd_b)(FLOAT_VECTOR to[8], const FLOAT_VECTOR d[8])
{
    static const double points[] = WINOGRAD_POINTS, sums[] = WINOGRAD_SUMS,
                        products[] = WINOGRAD_PRODUCTS;
    EACH(i, 2)
    {
        to[7 * i] =
            FMA(SET(-WINOGRAD_S3), d[i],
                FMA(SET(WINOGRAD_S2), d[2 + i], FMA(SET(-WINOGRAD_S1), d[4 + i], d[6 + i])));
    }
    EACH(i, 3)
    {
        const FLOAT_VECTOR product = SET(products[i]), sum = SET(-sums[i]),
                           even = FMA(product, d[2], FMA(sum, d[4], d[6])),
                           odd = FMA(product, d[1], FMA(sum, d[3], d[5]));
        to[1 + 2 * i] = FMA(SET(points[i]), odd, even);
        to[2 + 2 * i] = FMA(SET(-points[i]), odd, even);
    }
}

/* B m */
INLINE void NAME(winograd_b_transposed)(FLOAT_VECTOR to[8], const FLOAT_VECTOR m[8])
{
    static const double points[] = WINOGRAD_POINTS, sums[] = WINOGRAD_SUMS,
                        products[] = WINOGRAD_PRODUCTS;
    to[0] = MUL(SET(-WINOGRAD_S3), m[0]);
    to[1] = MUL(SET(-WINOGRAD_S3), m[7]);
    to[2] = MUL(SET(WINOGRAD_S2), m[0]);
    to[3] = MUL(SET(WINOGRAD_S2), m[7]);
    to[4] = MUL(SET(-WINOGRAD_S1), m[0]);
    to[5] = MUL(SET(-WINOGRAD_S1), m[7]);
    to[6] = m[0];
    to[7] = m[7];
    EACH(i, 3)
    {
        const FLOAT_VECTOR a = m[1 + 2 * i], b = m[2 + 2 * i], even = ADD(a, b),
                           odd = MUL(SET(points[i]), FMA(SET(-1), b, a));
        to[2] = FMA(SET(products[i]), even, to[2]);
        to[4] = FMA(SET(-sums[i]), even, to[4]);
        to[6] = ADD(to[6], even);
        to[1] = FMA(SET(products[i]), odd, to[1]);
        to[3] = FMA(SET(-sums[i]), odd, to[3]);
        to[5] = ADD(to[5], odd);
    }
}

/* A' m */
INLINE void NAME(winograd_a)(FLOAT_VECTOR to[4], const FLOAT_VECTOR m[8])
{
    static const double points[] = WINOGRAD_POINTS, squares[] = WINOGRAD_SQUARES;
    to[0] = m[0];
    to[1] = to[2] = SET(0);
    to[3] = m[7];
    EACH(i, 3)
    {
        const FLOAT_VECTOR a = m[1 + 2 * i], b = m[2 + 2 * i], even = ADD(a, b),
                           odd = MUL(SET(points[i]), FMA(SET(-1), b, a));
        to[0] = ADD(to[0], even);
        to[1] = ADD(to[1], odd);
        to[2] = FMA(SET(squares[i]), even, to[2]);
        to[3] = FMA(SET(squares[i]), odd, to[3]);
    }
}

/* Divides by 45. Dividing the remainder again corrects the quotient, so integer quotients are
 * exact. */
INLINE FLOAT_VECTOR NAME(winograd_divide)(FLOAT_VECTOR a)
{
    const FLOAT_VECTOR inverse = SET(1 / WINOGRAD_SCALE), first = MUL(a, inverse);
    return FMA(FMA(SET(-WINOGRAD_SCALE), first, a), inverse, first);
}

/* A y */
INLINE void NAME(winograd_a_transposed)(FLOAT_VECTOR to[8], const FLOAT_VECTOR y[4])
{
    static const double points[] = WINOGRAD_POINTS, squares[] = WINOGRAD_SQUARES;
    to[0] = y[0];
    EACH(i, 3)
    {
        const FLOAT_VECTOR square = SET(squares[i]), even = FMA(square, y[2], y[0]),
                           odd = MUL(SET(points[i]), FMA(square, y[3], y[1]));
        to[1 + 2 * i] = ADD(even, odd);
        to[2 + 2 * i] = FMA(SET(-1), odd, even);
    }
    to[7] = y[3];
}

static void NAME(winograd_filters)(void *out_void, const void *weight, size_t filters,
                                   size_t channels, size_t width, bool transposed)
{
    FLOAT_TYPE g[5 * LANES_WINOGRAD_WIDTH * FLOAT_LANES],
        sums[8][LANES_WINOGRAD_WIDTH * FLOAT_LANES], row[FLOAT_LANES][LANES_WINOGRAD_WIDTH];
    const size_t count = filters * channels;
    for (size_t k = 0; k < count; k += FLOAT_LANES) {
        const size_t n = count - k < FLOAT_LANES ? count - k : FLOAT_LANES;
        NAME(lanes_gather)(g, (const FLOAT_TYPE *)weight + k * 5 * width, 5 * width, n, 5 * width);
        for (size_t x = 0; x < width; x++) {
            FLOAT_VECTOR from[5], to[8];
            EACH(y, 5)
            {
                from[y] = FLOAT_OP(load)(g + (y * width + x) * FLOAT_LANES);
            }
            NAME(winograd_g)(to, from);
            EACH(f, 8)
            {
                FLOAT_OP(store)
                (sums[f] + x * FLOAT_LANES, transposed ? NAME(winograd_divide)(to[f]) : to[f]);
            }
        }
        for (size_t f = 0; f < 8; f++) {
            FLOAT_TYPE *out = (FLOAT_TYPE *)out_void + f * count * width;
            NAME(lanes_scatter)(row, LANES_WINOGRAD_WIDTH, sums[f], n, width);
            for (size_t i = 0; i < n; i++) {
                const size_t filter = (k + i) / channels, channel = (k + i) % channels,
                             step = transposed ? filters : 1;
                FLOAT_TYPE *to =
                    out + (transposed ? channel * width * filters + filter : (k + i) * width);
                for (size_t x = 0; x < width; x++) {
                    to[x * step] = row[i][x];
                }
            }
        }
    }
}

/* Transforms columns of `rows` rows, a compile-time constant: B' d of 8 rows, A y of 4. */
INLINE void NAME(winograd_columns)(FLOAT_TYPE *out, size_t sum_step, const FLOAT_TYPE *in,
                                   size_t row_step, size_t n, const size_t rows)
{
    for (size_t i = 0; i < n; i++, in += FLOAT_LANES, out += FLOAT_LANES) {
        FLOAT_VECTOR from[8], to[8];
        EACH(y, rows)
        {
            from[y] = FLOAT_OP(load)(in + y * row_step);
        }
        if (rows == 8) {
            NAME(winograd_b)(to, from);
        } else {
            NAME(winograd_a_transposed)(to, from);
        }
        EACH(f, 8)
        {
            FLOAT_OP(store)(out + f * sum_step, to[f]);
        }
    }
}

static void NAME(winograd_input)(void *sums, size_t sum_step, const void *in, size_t row_step,
                                 size_t n)
{
    NAME(winograd_columns)(sums, sum_step, in, row_step, n, 8);
}

static void NAME(winograd_output_gradient)(void *sums, size_t sum_step, const void *in,
                                           size_t row_step, size_t n)
{
    NAME(winograd_columns)(sums, sum_step, in, row_step, n, 4);
}

static void NAME(winograd_input_gradient)(void *out_void, size_t row_step, size_t first, size_t end,
                                          const void *sums, size_t sum_step, size_t n,
                                          void *check_void)
{
    FLOAT_TYPE *out = out_void;
    const FLOAT_TYPE *in = sums;
    const FLOAT_VECTOR zero = SET(0);
    FLOAT_VECTOR check = FLOAT_OP(load)(check_void);
    for (size_t i = 0; i < n; i++, in += FLOAT_LANES, out += FLOAT_LANES) {
        FLOAT_VECTOR m[8], x[8];
        EACH(f, 8)
        {
            m[f] = FLOAT_OP(load)(in + f * sum_step);
        }
        NAME(winograd_b_transposed)(x, m);
        EACH(y, 8)
        {
            if (y >= first && y < end) {
                FLOAT_TYPE *at = out + (y - first) * row_step;
                check = FMA(zero, x[y], check);
                FLOAT_OP(store)(at, ADD(FLOAT_OP(load)(at), x[y]));
            }
        }
    }
    FLOAT_OP(store)(check_void, check);
}

/* Stores the maximum of a 2 x 2 window of results to `out`, after relu. choices may be NULL. */
INLINE void NAME(winograd_pool)(const struct lanes_winograd_output *o, FLOAT_TYPE *out,
                                FLOAT_INTEGER *choices, const FLOAT_VECTOR window[4])
{
    FLOAT_VECTOR largest;
    if (choices != NULL) {
        largest = NAME(lanes_choose)(choices, window);
    } else {
        largest =
            FLOAT_OP(max_propagating_nan)(FLOAT_OP(max_propagating_nan)(window[0], window[1]),
                                          FLOAT_OP(max_propagating_nan)(window[2], window[3]));
    }
    FLOAT_OP(store)(out, o->relu ? FLOAT_OP(relu)(largest) : largest);
}

static void NAME(winograd_output)(const struct lanes_winograd_output *call)
{
    const struct lanes_winograd_output o = *call;
    const FLOAT_VECTOR zero = SET(0), bias = SET(o.bias == NULL ? 0 : *(const FLOAT_TYPE *)o.bias);
    const size_t columns = o.pool ? 2 : 1;
    FLOAT_VECTOR check = FLOAT_OP(load)(o.check);
    for (size_t i = 0; i < o.n; i += columns) {
        FLOAT_VECTOR y[2][4];
        for (size_t x = 0; x < columns; x++) {
            const FLOAT_TYPE *in = (const FLOAT_TYPE *)o.sums + (i + x) * FLOAT_LANES;
            FLOAT_VECTOR m[8];
            EACH(f, 8)
            {
                m[f] = FLOAT_OP(load)(in + f * o.sum_step);
            }
            NAME(winograd_a)(y[x], m);
            EACH(r, 4)
            {
                y[x][r] = NAME(winograd_divide)(y[x][r]);
                if (r < o.rows) {
                    check = FMA(zero, y[x][r], check);
                }
                y[x][r] = ADD(y[x][r], bias);
            }
        }
        FLOAT_TYPE *out = (FLOAT_TYPE *)o.output + i / columns * FLOAT_LANES;
        FLOAT_INTEGER *choices =
            o.choices == NULL ? NULL : (FLOAT_INTEGER *)o.choices + i / columns * FLOAT_LANES;
        for (size_t r = 0; r < o.rows; r += columns, out += o.row_step) {
            if (!o.pool) {
                FLOAT_OP(store)(out, o.relu ? FLOAT_OP(relu)(y[0][r]) : y[0][r]);
                continue;
            }
            const FLOAT_VECTOR window[4] = {y[0][r], y[1][r], y[0][r + 1], y[1][r + 1]};
            NAME(winograd_pool)(&o, out, choices, window);
            choices = choices == NULL ? NULL : choices + o.choice_row_step;
        }
    }
    FLOAT_OP(store)(o.check, check);
}
#undef SET
#undef FMA
#undef ADD
#undef MUL
#undef EACH
