/*
 * Sums along rows and down columns for one element type. Parameters, undefined again at the end:
 *   ELEMENT, ELEMENT_TYPE, ELEMENT_LOAD   name, C type, load of VD_LANES elements as doubles
 *   ELEMENT_KEEP_ERRORS                   defined: products do not fit a double exactly, so keep the rounding errors
 */
#define NAME(prefix) PASTE(PASTE(prefix, _), ELEMENT)

/* The products of x and y that `kind` asks for, added to sums[0..2] = xy, xx, yy by `add`. */
#define EACH_SUM(kind, x, y, add)  \
    do {                           \
        if ((kind) != SUMS_SQUARE) \
            add(0, x, y);          \
        if ((kind) != SUMS_DOT)    \
            add(1, x, x);          \
        if ((kind) == SUMS_ALL)    \
            add(2, y, y);          \
    } while (0)

/* The last elements of a row, padded with zeros, which change no sum. */
INLINE vd NAME(load_tail)(const ELEMENT_TYPE *p, size_t n)
{
    ELEMENT_TYPE padded[VD_LANES] = {0};
    memcpy(padded, p, n * sizeof *p);
    return ELEMENT_LOAD(padded);
}

#ifdef ELEMENT_KEEP_ERRORS

INLINE void NAME(row_sums)(double out[3], const ELEMENT_TYPE *x, const ELEMENT_TYPE *y, size_t n, enum sums kind)
{
    const vd zero = vd_set1(0.0);
    struct exact sums[3] = {{zero, zero}, {zero, zero}, {zero, zero}};
    size_t k = 0;
#define START(s, a, b) group[s] = vd_mul(a, b)
#define ADD(s, a, b) group[s] = vd_fma(a, b, group[s])
    while (k < n) {
        vd group[3] = {zero, zero, zero};
        for (int step = 0; step < 4 && k < n; step++, k += VD_LANES) {
            vd a = n - k >= VD_LANES ? ELEMENT_LOAD(x + k) : NAME(load_tail)(x + k, n - k);
            vd b = kind == SUMS_SQUARE ? a : n - k >= VD_LANES ? ELEMENT_LOAD(y + k) : NAME(load_tail)(y + k, n - k);
            if (step == 0) {
                EACH_SUM(kind, a, b, START);
            } else {
                EACH_SUM(kind, a, b, ADD);
            }
        }
        for (int s = 0; s < 3; s++) {
            exact_add(&sums[s], group[s]);
        }
    }
#undef START
#undef ADD
    for (int s = 0; s < 3; s++) {
        out[s] = exact_total(sums[s]);
    }
}

#else

INLINE void NAME(row_sums)(double out[3], const ELEMENT_TYPE *x, const ELEMENT_TYPE *y, size_t n, enum sums kind)
{
    vd sums[3][SUM_CHAINS];
    size_t k = 0;
    for (int s = 0; s < 3; s++) {
        for (int c = 0; c < SUM_CHAINS; c++) {
            sums[s][c] = vd_set1(0.0);
        }
    }
#define ADD(s, a, b) sums[s][c] = vd_fma(a, b, sums[s][c])
    for (; n - k >= SUM_CHAINS * VD_LANES; k += SUM_CHAINS * VD_LANES) {
        for (int c = 0; c < SUM_CHAINS; c++) {
            vd a = ELEMENT_LOAD(x + k + c * VD_LANES);
            vd b = kind == SUMS_SQUARE ? a : ELEMENT_LOAD(y + k + c * VD_LANES);
            EACH_SUM(kind, a, b, ADD);
        }
    }
    for (const int c = 0; k < n; k += VD_LANES) {
        vd a = n - k >= VD_LANES ? ELEMENT_LOAD(x + k) : NAME(load_tail)(x + k, n - k);
        vd b = kind == SUMS_SQUARE ? a : n - k >= VD_LANES ? ELEMENT_LOAD(y + k) : NAME(load_tail)(y + k, n - k);
        EACH_SUM(kind, a, b, ADD);
    }
#undef ADD
    for (int s = 0; s < 3; s++) {
        for (int width = SUM_CHAINS / 2; width > 0; width /= 2) {
            for (int c = 0; c < width; c++) {
                sums[s][c] = vd_add(sums[s][c], sums[s][c + width]);
            }
        }
        out[s] = plain_total(sums[s][0]);
    }
}

#endif

INLINE void NAME(rows)(double *xy, double *xx, double *yy, const void *x, const void *y, size_t rows, size_t n, ptrdiff_t x_step,
                       ptrdiff_t y_step, enum sums kind)
{
    for (size_t r = 0; r < rows; r++) {
        double sums[3];
        NAME(row_sums)(sums, x, y, n, kind);
        if (kind != SUMS_SQUARE) {
            xy[r] = sums[0];
        }
        if (kind != SUMS_DOT) {
            xx[r] = sums[1];
        }
        if (kind == SUMS_ALL) {
            yy[r] = sums[2];
        }
        x = (const char *)x + x_step;
        y = (const char *)y + y_step;
    }
}

/* `count` columns (at most VD_LANES) from j on, all steps. */
INLINE void NAME(column_sums)(double *sums, size_t n, size_t j, size_t count, const char *x, const char *y, size_t steps, ptrdiff_t x_step,
                              ptrdiff_t y_step, enum sums kind)
{
    const vd zero = vd_set1(0.0);
    struct exact total[3] = {{zero, zero}, {zero, zero}, {zero, zero}};
    const bool whole = count == VD_LANES;
    double lanes[VD_LANES] = {0};
    for (int s = 0; s < 3; s++) {
        double *from = sums + s * n + j;
        total[s].sum = whole ? vd_load(from) : (memcpy(lanes, from, count * sizeof *lanes), vd_load(lanes));
#ifdef ELEMENT_KEEP_ERRORS
        from += 3 * n;
        total[s].error = whole ? vd_load(from) : (memcpy(lanes, from, count * sizeof *lanes), vd_load(lanes));
#endif
    }
    x += j * sizeof(ELEMENT_TYPE);
    y += j * sizeof(ELEMENT_TYPE);
    for (size_t i = 0; i < steps;) {
#ifdef ELEMENT_KEEP_ERRORS
        vd group[3] = {zero, zero, zero};
        size_t end = steps - i < COLUMNS_GROUP ? steps : i + COLUMNS_GROUP;
#define ADD(s, a, b) group[s] = vd_fma(a, b, group[s])
#else
        size_t end = steps;
#define ADD(s, a, b) total[s].sum = vd_fma(a, b, total[s].sum)
#endif
        for (; i < end; i++, x += x_step, y += y_step) {
            vd a = whole ? ELEMENT_LOAD((const void *)x) : NAME(load_tail)((const void *)x, count);
            vd b = kind == SUMS_SQUARE ? a : whole ? ELEMENT_LOAD((const void *)y) : NAME(load_tail)((const void *)y, count);
            EACH_SUM(kind, a, b, ADD);
        }
#undef ADD
#ifdef ELEMENT_KEEP_ERRORS
        for (int s = 0; s < 3; s++) {
            exact_add(&total[s], group[s]);
        }
#endif
    }
    for (int s = 0; s < 3; s++) {
        double *to = sums + s * n + j;
        vd_store(lanes, total[s].sum);
        memcpy(to, lanes, count * sizeof *lanes);
#ifdef ELEMENT_KEEP_ERRORS
        vd_store(lanes, total[s].error);
        memcpy(to + 3 * n, lanes, count * sizeof *lanes);
#endif
    }
}

INLINE void NAME(columns)(double *sums, size_t n, const void *x, const void *y, size_t steps, ptrdiff_t x_step, ptrdiff_t y_step,
                          enum sums kind)
{
    size_t j = 0;
    for (; n - j >= VD_LANES; j += VD_LANES) {
        NAME(column_sums)(sums, n, j, VD_LANES, x, y, steps, x_step, y_step, kind);
    }
    if (j < n) {
        NAME(column_sums)(sums, n, j, n - j, x, y, steps, x_step, y_step, kind);
    }
}

#define KIND(word, kind)                                                                                                               \
    static void NAME(rows_##word)(double *xy, double *xx, double *yy, const void *x, const void *y, size_t rows, size_t n,             \
                                  ptrdiff_t x_step, ptrdiff_t y_step)                                                                  \
    {                                                                                                                                  \
        NAME(rows)(xy, xx, yy, x, y, rows, n, x_step, y_step, kind);                                                                   \
    }                                                                                                                                  \
    static void NAME(columns_##word)(double *sums, size_t n, const void *x, const void *y, size_t steps, ptrdiff_t x_step,             \
                                     ptrdiff_t y_step)                                                                                 \
    {                                                                                                                                  \
        NAME(columns)(sums, n, x, y, steps, x_step, y_step, kind);                                                                     \
    }
KIND(all, SUMS_ALL)
KIND(dot, SUMS_DOT)
KIND(square, SUMS_SQUARE)

#undef KIND
#undef EACH_SUM
#undef NAME
#undef ELEMENT
#undef ELEMENT_TYPE
#undef ELEMENT_LOAD
#undef ELEMENT_KEEP_ERRORS
