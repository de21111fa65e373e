/*
 * Sums along rows and down columns for one element type. The contracts are in kernels.h.
 * Parameters, undefined at the end:
 *
 *   ELEMENT, ELEMENT_TYPE   name of the type in identifiers; C type
 *   ELEMENT_LOAD            loads VD_LANES elements as doubles
 *
 * Defined for some types only:
 *
 *   ELEMENT_KEEP_ERRORS     products are not exact in double, so sums keep their rounding errors
 *   ELEMENT_LOAD_PAIR       16-bit floats: loads 2 * VF_LANES elements as two vectors of floats
 *   ELEMENT_LOAD_INTEGERS   8-bit integers: loads 2 * VF_LANES elements as a vh
 *   ELEMENT_RANGE_CHECKED   products of elements may leave the range of float
 */
#define NAME(prefix) PASTE(PASTE(prefix, _), ELEMENT)

/* Columns whose sums are in registers at a time. */
#define COLUMN_WIDTH (COLUMN_VECTORS * VD_LANES)
/* Rows of the array of sums: xy, xx, yy and, with ELEMENT_KEEP_ERRORS, their rounding errors. */
#ifdef ELEMENT_KEEP_ERRORS
#define SUM_ARRAYS 6
#else
#define SUM_ARRAYS 3
#endif

/*
 * Calls add(s, a, b) for each sum of `kind`, with the factors a and b of its products. Sum 0 is
 * x.y, sum 1 is x.x, and sum 2 is y.y.
 */
#define EACH_SUM(kind, x, y, add) \
    do { \
        if ((kind) != SUMS_SQUARE) add(0, x, y); \
        if ((kind) != SUMS_DOT) add(1, x, x); \
        if ((kind) == SUMS_ALL) add(2, y, y); \
    } while (0)

/*
 * The next functions compute the sums of one row. If `polls` is set, they poll the cancellation
 * token every POLL_ELEMENTS elements. Short rows are not polled, because a poll takes a few
 * nanoseconds.
 */

/*
 * Loads the last n < VD_LANES elements of a row and pads them with zeros. Zeros do not change a
 * sum.
 */
INLINE vd NAME(load_tail)(const ELEMENT_TYPE *p, size_t n)
{
    ELEMENT_TYPE padded[VD_LANES] = {0};
    memcpy(padded, p, n * sizeof *p);
    return ELEMENT_LOAD(padded);
}

#ifdef ELEMENT_KEEP_ERRORS

INLINE void NAME(row_sums)(double out[3], const ELEMENT_TYPE *x, const ELEMENT_TYPE *y, size_t n,
                           enum sums kind, bool polls)
{
    const vd zero = vd_set1(0.0);
    struct compensated_sum sums[3] = {{zero, zero}, {zero, zero}, {zero, zero}};
    size_t k = 0;
#define START(s, a, b) group[s] = vd_mul(a, b)
#define ADD(s, a, b) group[s] = vd_fma(a, b, group[s])
    while (k < n) {
        vd group[3] = {zero, zero, zero};
        for (int step = 0; step < 4 && k < n; step++, k += VD_LANES) {
            vd a = n - k >= VD_LANES ? ELEMENT_LOAD(x + k) : NAME(load_tail)(x + k, n - k);
            vd b = kind == SUMS_SQUARE ? a
                   : n - k >= VD_LANES ? ELEMENT_LOAD(y + k)
                                       : NAME(load_tail)(y + k, n - k);
            if (step == 0) {
                EACH_SUM(kind, a, b, START);
            } else {
                EACH_SUM(kind, a, b, ADD);
            }
        }
        for (int s = 0; s < 3; s++) {
            compensated_add(&sums[s], group[s]);
        }
        if (polls && k % POLL_ELEMENTS == 0 && cancel_poll_here()) {
            break;
        }
    }
#undef START
#undef ADD
    for (int s = 0; s < 3; s++) {
        out[s] = compensated_total(sums[s]);
    }
}

#else

#ifdef ELEMENT_LOAD_INTEGERS

/*
 * The exact sums of one row; each lane holds a partial sum. SHORT_CHAIN steps are summed in 32
 * bits, which cannot overflow. The sums of these chains are added in double.
 */
INLINE void NAME(row_lanes)(vd out[3], const ELEMENT_TYPE *x, const ELEMENT_TYPE *y, size_t n,
                            enum sums kind, bool polls)
{
    enum { STEP = 2 * VF_LANES, SHORT_CHAIN = 1 << 13 };
    out[0] = out[1] = out[2] = vd_set1(0.0);
#define ADD(s, a, b) sums[s] = vi_dot(sums[s], a, b)
    for (size_t k = 0; k < n && !(polls && k > 0 && cancel_poll_here());) {
        vi sums[3] = {vi_zero(), vi_zero(), vi_zero()};
        const size_t end = n - k < SHORT_CHAIN * STEP ? n : k + SHORT_CHAIN * STEP;
        for (; end - k >= STEP; k += STEP) {
            const vh a = ELEMENT_LOAD_INTEGERS(x + k),
                     b = kind == SUMS_SQUARE ? a : ELEMENT_LOAD_INTEGERS(y + k);
            EACH_SUM(kind, a, b, ADD);
        }
        if (k < end) {
            ELEMENT_TYPE tail[2][STEP] = {{0}};
            memcpy(tail[0], x + k, end - k);
            memcpy(tail[1], y + k, kind == SUMS_SQUARE ? 0 : end - k);
            const vh a = ELEMENT_LOAD_INTEGERS(tail[0]),
                     b = kind == SUMS_SQUARE ? a : ELEMENT_LOAD_INTEGERS(tail[1]);
            EACH_SUM(kind, a, b, ADD);
            k = end;
        }
        for (int s = 0; s < 3; s++) {
            out[s] = vd_add(out[s], vd_fold_i32(sums[s]));
        }
    }
#undef ADD
}

#else

/*
 * The sums of one row; each lane holds a partial sum. The caller adds up the lanes with
 * vd_row_sums.
 */
INLINE void NAME(row_lanes)(vd out[3], const ELEMENT_TYPE *x, const ELEMENT_TYPE *y, size_t n,
                            enum sums kind, bool polls)
{
    vd sums[SUM_CHAINS][3];
    size_t k = 0;
    for (int chain = 0; chain < SUM_CHAINS; chain++) {
        sums[chain][0] = sums[chain][1] = sums[chain][2] = vd_set1(0.0);
    }
#define ADD(s, a, b) sums[chain][s] = vd_fma(a, b, sums[chain][s])
    for (size_t end = polls && n > POLL_ELEMENTS ? POLL_ELEMENTS : n;;
         end = n - k < POLL_ELEMENTS ? n : k + POLL_ELEMENTS) {
        for (; end - k >= SUM_CHAINS * VD_LANES; k += SUM_CHAINS * VD_LANES) {
            for (size_t line = 0; line < SUM_CHAINS * VD_LANES * sizeof *x; line += 64) {
                __builtin_prefetch((const char *)(x + k) + ROWS_PREFETCH + line);
                if (kind != SUMS_SQUARE) {
                    __builtin_prefetch((const char *)(y + k) + ROWS_PREFETCH + line);
                }
            }
            _Pragma("GCC unroll 4") for (int chain = 0; chain < SUM_CHAINS; chain++)
            {
                const vd a = ELEMENT_LOAD(x + k + chain * VD_LANES),
                         b = kind == SUMS_SQUARE ? a : ELEMENT_LOAD(y + k + chain * VD_LANES);
                EACH_SUM(kind, a, b, ADD);
            }
        }
        if (!polls || end == n) {
            break;
        }
        n = cancel_poll_here() ? k : n;
    }
    for (int chain = 0; k < n; k += VD_LANES) {
        const vd a = n - k >= VD_LANES ? ELEMENT_LOAD(x + k) : NAME(load_tail)(x + k, n - k);
        const vd b = kind == SUMS_SQUARE ? a
                     : n - k >= VD_LANES ? ELEMENT_LOAD(y + k)
                                         : NAME(load_tail)(y + k, n - k);
        EACH_SUM(kind, a, b, ADD);
    }
#undef ADD
    for (int s = 0; s < 3; s++) {
        out[s] = vd_add(sums[0][s], sums[1][s]);
        for (int chain = 2; chain < SUM_CHAINS; chain += 2) {
            out[s] = vd_add(out[s], vd_add(sums[chain][s], sums[chain + 1][s]));
        }
    }
}

#endif

#ifdef ELEMENT_LOAD_PAIR
/*
 * One step of half_lanes: adds the products of 2 * VF_LANES elements of x and y to the three sums.
 * Each sum has two vectors, one in low and one in high.
 */
INLINE void NAME(half_step)(vf low[3], vf high[3], const ELEMENT_TYPE *x, const ELEMENT_TYPE *y)
{
    vf x_low, x_high, y_low, y_high;
    ELEMENT_LOAD_PAIR(x, &x_low, &x_high);
    ELEMENT_LOAD_PAIR(y, &y_low, &y_high);
    low[0] = vf_fma(x_low, y_low, low[0]);
    high[0] = vf_fma(x_high, y_high, high[0]);
    low[1] = vf_fma(x_low, x_low, low[1]);
    high[1] = vf_fma(x_high, x_high, high[1]);
    low[2] = vf_fma(y_low, y_low, low[2]);
    high[2] = vf_fma(y_high, y_high, high[2]);
}

/*
 * The three sums of one row of 16-bit floats; each lane holds a partial sum. A float holds each
 * product exactly. HALF_CHAIN products form a chain, which is summed in float. The chains are added
 * in double. This is accurate enough for results that are rounded to 16 bits.
 */
INLINE void NAME(half_lanes)(vd out[3], const ELEMENT_TYPE *x, const ELEMENT_TYPE *y, size_t n)
{
    enum { HALF_CHAIN = 8, PAIR = 2 * VF_LANES };
    const vf zero = vf_set1(0.0f);
    out[0] = out[1] = out[2] = vd_set1(0.0);
    for (size_t k = 0; k < n;) {
        const size_t whole = (n - k) / PAIR < HALF_CHAIN ? (n - k) / PAIR : HALF_CHAIN;
        vf low[3] = {zero, zero, zero}, high[3] = {zero, zero, zero};
        for (const size_t end = k + whole * PAIR; k < end; k += PAIR) {
            __builtin_prefetch((const char *)(x + k) + ROWS_PREFETCH);
            __builtin_prefetch((const char *)(y + k) + ROWS_PREFETCH);
            NAME(half_step)(low, high, x + k, y + k);
        }
        if (whole < HALF_CHAIN && k < n) {
            ELEMENT_TYPE tail[2][PAIR] = {{0}};
            memcpy(tail[0], x + k, (n - k) * sizeof *x);
            memcpy(tail[1], y + k, (n - k) * sizeof *y);
            NAME(half_step)(low, high, tail[0], tail[1]);
            k = n;
        }
        for (int s = 0; s < 3; s++) {
            out[s] = vd_add(out[s], vd_fold_f32(vf_add(low[s], high[s])));
        }
        if (k % POLL_ELEMENTS == 0 && cancel_poll_here()) {
            break;
        }
    }
}
#endif

#endif

/* The sums of one row of any length. Polls the cancellation token. */
INLINE void NAME(one_row)(double out[3], const ELEMENT_TYPE *x, const ELEMENT_TYPE *y, size_t n,
                          enum sums kind)
{
#ifdef ELEMENT_KEEP_ERRORS
    NAME(row_sums)(out, x, y, n, kind, true);
#else
    vd row[3], lanes[VD_LANES];
    double total[VD_LANES];
    NAME(row_lanes)(row, x, y, n, kind, true);
    for (int s = 0; s < 3; s++) {
        lanes[0] = row[s];
        for (int i = 1; i < VD_LANES; i++) {
            lanes[i] = vd_set1(0.0);
        }
        vd_store(total, vd_row_sums(lanes));
        out[s] = total[0];
    }
#endif
}

#ifdef ELEMENT_RANGE_CHECKED
/*
 * Recomputes the sums of row r in double if xx or yy lies outside [2^-60, 2^100]. The products of
 * such a row may overflow or underflow a float.
 */
static __attribute__((noinline)) void NAME(row_in_double)(double sums[3][VD_LANES], size_t r,
                                                          const ELEMENT_TYPE *x,
                                                          const ELEMENT_TYPE *y, size_t n)
{
    const double xx = sums[1][r], yy = sums[2][r];
    double row[3];
    if (xx >= 0x1p-60 && xx <= 0x1p100 && yy >= 0x1p-60 && yy <= 0x1p100) {
        return;
    }
    NAME(one_row)(row, x, y, n, SUMS_ALL);
    for (int s = 0; s < 3; s++) {
        sums[s][r] = row[s];
    }
}
#endif

/*
 * The sums of `rows` rows, at most VD_LANES. If `in_float` is set, 16-bit floats are summed in
 * float.
 */
INLINE void NAME(row_group)(double *xy, double *xx, double *yy, const char *x, const char *y,
                            size_t rows, size_t n, ptrdiff_t x_step, ptrdiff_t y_step,
                            enum sums kind, bool in_float)
{
    double sums[3][VD_LANES];
    (void)in_float;
#ifdef ELEMENT_KEEP_ERRORS
    for (size_t r = 0; r < rows; r++) {
        double row[3];
        NAME(row_sums)(row, (const void *)(x + (ptrdiff_t)r * x_step),
                       (const void *)(y + (ptrdiff_t)r * y_step), n, kind, false);
        for (int s = 0; s < 3; s++) {
            sums[s][r] = row[s];
        }
    }
#else
    vd lanes[3][VD_LANES];
    for (size_t r = 0; r < VD_LANES; r++) {
        vd row[3] = {vd_set1(0.0), vd_set1(0.0), vd_set1(0.0)};
        if (r < rows) {
            const ELEMENT_TYPE *from_x = (const void *)(x + (ptrdiff_t)r * x_step),
                               *from_y = (const void *)(y + (ptrdiff_t)r * y_step);
#ifdef ELEMENT_LOAD_PAIR
            if (in_float) {
                NAME(half_lanes)(row, from_x, from_y, n);
            } else
#endif
                NAME(row_lanes)(row, from_x, from_y, n, kind, false);
        }
        for (int s = 0; s < 3; s++) {
            lanes[s][r] = row[s];
        }
    }
    for (int s = 0; s < 3; s++) {
        vd_store(sums[s], vd_row_sums(lanes[s]));
    }
#ifdef ELEMENT_RANGE_CHECKED
    /* The products of these rows may overflow or underflow a float. */
    const vd range_min = vd_set1(0x1p-60), range_max = vd_set1(0x1p100);
    vd squares = vd_load(sums[1]), y_squares = vd_load(sums[2]);
    bool fits = vd_all_at_least(squares, range_min) && vd_all_at_least(y_squares, range_min) &&
                vd_all_at_least(range_max, squares) && vd_all_at_least(range_max, y_squares);
    for (size_t r = 0; in_float && !fits && r < rows; r++) {
        NAME(row_in_double)(sums, r, (const void *)(x + (ptrdiff_t)r * x_step),
                            (const void *)(y + (ptrdiff_t)r * y_step), n);
    }
#endif
#endif
    double *const to[3] = {kind == SUMS_SQUARE ? NULL : xy, kind == SUMS_DOT ? NULL : xx,
                           kind == SUMS_ALL ? yy : NULL};
    for (int s = 0; s < 3; s++) {
        if (to[s] != NULL) {
            memcpy(to[s], sums[s], rows * sizeof **to);
        }
    }
}

INLINE void NAME(rows)(double *xy, double *xx, double *yy, const char *x, const char *y,
                       size_t rows, size_t n, ptrdiff_t x_step, ptrdiff_t y_step, enum sums kind)
{
    size_t r = 0;
    if (kind == SUMS_SQUARE) { /* y and xy may be NULL and are not used */
        y = x;
        y_step = x_step;
        xy = xx;
    }
    /*
     * Arrays of sums that `kind` leaves out may be NULL. They are not written. Another array
     * replaces them, because adding an index to NULL is undefined.
     */
    xx = kind == SUMS_DOT ? xy : xx;
    yy = kind == SUMS_ALL ? yy : xx;
    for (; rows - r >= VD_LANES; r += VD_LANES) {
        const ptrdiff_t i = (ptrdiff_t)r;
        NAME(row_group)(xy + i, xx + i, yy + i, x + i * x_step, y + i * y_step, VD_LANES, n, x_step,
                        y_step, kind, false);
    }
    if (r < rows) {
        const ptrdiff_t i = (ptrdiff_t)r;
        NAME(row_group)(xy + i, xx + i, yy + i, x + i * x_step, y + i * y_step, rows - r, n, x_step,
                        y_step, kind, false);
    }
}

/*
 * The sums of rows longer than POLL_ELEMENTS. This is a separate function so that short rows do not
 * pay for polling.
 */
INLINE void NAME(long_rows)(double *xy, double *xx, double *yy, const char *x, const char *y,
                            size_t rows, size_t n, ptrdiff_t x_step, ptrdiff_t y_step,
                            enum sums kind)
{
    for (size_t r = 0; r < rows; r++) {
        const char *from_x = x + (ptrdiff_t)r * x_step,
                   *from_y = kind == SUMS_SQUARE ? from_x : y + (ptrdiff_t)r * y_step;
        double sums[3];
        NAME(one_row)(sums, (const void *)from_x, (const void *)from_y, n, kind);
        if (kind != SUMS_SQUARE) {
            xy[r] = sums[0];
        }
        if (kind != SUMS_DOT) {
            xx[r] = sums[1];
        }
        if (kind == SUMS_ALL) {
            yy[r] = sums[2];
        }
    }
}

/*
 * Computes the cosines of a group of rows one iteration after its sums. The divisions then overlap
 * with the sums of later rows.
 */
static bool NAME(cosine_rows)(double *out, double *xy, double *xx, double *yy, const void *x,
                              const void *y, size_t rows, size_t n, ptrdiff_t x_step,
                              ptrdiff_t y_step, double min_square)
{
    const vd min_squares = vd_set1(min_square);
    const char *from_x = x, *from_y = y;
    bool all = true;
    size_t r = 0, done = 0;
    for (; rows - r >= VD_LANES;
         r += VD_LANES, from_x += VD_LANES * x_step, from_y += VD_LANES * y_step) {
        NAME(row_group)(xy + r, xx + r, yy + r, from_x, from_y, VD_LANES, n, x_step, y_step,
                        SUMS_ALL, true);
        if (r > 0) {
            all &= cosine_vector(out + done, xy + done, xx + done, yy + done, min_squares);
            done = r;
        }
    }
    if (r < rows) {
        NAME(row_group)(xy + r, xx + r, yy + r, from_x, from_y, rows - r, n, x_step, y_step,
                        SUMS_ALL, true);
    }
    return cosine_sums(out + done, xy + done, xx + done, yy + done, rows - done, min_square) && all;
}

/*
 * Adds all steps of columns [j, j + count) to their sums. The columns fit in `vectors` vectors.
 *
 * Prefetches the rows of the next call, which lie `steps` rows further down. The hardware
 * prefetcher does not reach that far, because each row is a separate stream to it. Prefetching into
 * L2 makes the kernel a fifth faster. Prefetching into L1 makes it slower.
 */
INLINE void NAME(column_sums)(double *sums, size_t n, size_t j, size_t count, int vectors,
                              const char *x, const char *y, size_t steps, ptrdiff_t x_step,
                              ptrdiff_t y_step, enum sums kind)
{
    const bool whole = count == (size_t)vectors * VD_LANES;
    const ptrdiff_t x_ahead = (ptrdiff_t)steps * x_step, y_ahead = (ptrdiff_t)steps * y_step;
    const bool wanted[6] = {kind != SUMS_SQUARE, kind != SUMS_DOT, kind == SUMS_ALL,
                            kind != SUMS_SQUARE, kind != SUMS_DOT, kind == SUMS_ALL};
    double lanes[6][COLUMN_WIDTH] = {{0}}, *to[6];
    vd total[3][COLUMN_VECTORS];
    for (int s = 0; s < SUM_ARRAYS; s++) {
        to[s] = whole || !wanted[s] ? sums + s * n + j
                                    : memcpy(lanes[s], sums + s * n + j, count * sizeof **lanes);
    }
    for (int s = 0; s < 3; s++) {
        for (int v = 0; wanted[s] && v < vectors; v++) {
            total[s][v] = SUM_ARRAYS == 3 ? vd_load(to[s] + v * VD_LANES) : vd_set1(0.0);
        }
    }
    x += j * sizeof(ELEMENT_TYPE);
    y += j * sizeof(ELEMENT_TYPE);
#define ADD(s, a, b) total[s][v] = vd_fma(a, b, total[s][v])
    for (size_t i = 0; i < steps; i++, x += x_step, y += y_step) {
        ELEMENT_TYPE tail[2][COLUMN_WIDTH] = {{0}};
        const ELEMENT_TYPE *from_x = (const void *)x, *from_y = (const void *)y;
        if (whole) {
            __builtin_prefetch(x + x_ahead, 0, 2);
            __builtin_prefetch(y + y_ahead, 0, 2);
        } else {
            from_x = memcpy(tail[0], x, count * sizeof **tail);
            from_y = kind == SUMS_SQUARE ? from_x : memcpy(tail[1], y, count * sizeof **tail);
        }
        for (int v = 0; v < vectors; v++) {
            vd a = ELEMENT_LOAD(from_x + v * VD_LANES),
               b = kind == SUMS_SQUARE ? a : ELEMENT_LOAD(from_y + v * VD_LANES);
            EACH_SUM(kind, a, b, ADD);
        }
    }
#undef ADD
    for (int s = 0; s < 3; s++) {
        for (int v = 0; wanted[s] && v < vectors; v++) {
#ifdef ELEMENT_KEEP_ERRORS
            struct compensated_sum sum = {vd_load(to[s] + v * VD_LANES),
                                          vd_load(to[s + 3] + v * VD_LANES)};
            compensated_add(&sum, total[s][v]);
            vd_store(to[s] + v * VD_LANES, sum.sum);
            vd_store(to[s + 3] + v * VD_LANES, sum.error);
#else
            vd_store(to[s] + v * VD_LANES, total[s][v]);
#endif
        }
    }
    for (int s = 0; !whole && s < SUM_ARRAYS; s++) {
        memcpy(sums + s * n + j, lanes[s], wanted[s] ? count * sizeof **lanes : 0);
    }
}

INLINE void NAME(columns)(double *sums, size_t n, const void *x, const void *y, size_t steps,
                          ptrdiff_t x_step, ptrdiff_t y_step, enum sums kind)
{
    size_t j = 0;
    if (kind == SUMS_SQUARE) { /* y may be NULL */
        y = x;
        y_step = x_step;
    }
    for (; n - j >= COLUMN_WIDTH; j += COLUMN_WIDTH) {
        NAME(column_sums)(sums, n, j, COLUMN_WIDTH, COLUMN_VECTORS, x, y, steps, x_step, y_step,
                          kind);
    }
    for (; n - j >= VD_LANES; j += VD_LANES) {
        NAME(column_sums)(sums, n, j, VD_LANES, 1, x, y, steps, x_step, y_step, kind);
    }
    if (j < n) {
        NAME(column_sums)(sums, n, j, n - j, 1, x, y, steps, x_step, y_step, kind);
    }
}

#define KIND(word, kind) \
    static __attribute__((noinline)) void NAME(long_rows_##word)( \
        double *xy, double *xx, double *yy, const void *x, const void *y, size_t rows, size_t n, \
        ptrdiff_t x_step, ptrdiff_t y_step) \
    { \
        NAME(long_rows)(xy, xx, yy, x, y, rows, n, x_step, y_step, kind); \
    } \
    static void NAME(rows_##word)(double *xy, double *xx, double *yy, const void *x, \
                                  const void *y, size_t rows, size_t n, ptrdiff_t x_step, \
                                  ptrdiff_t y_step) \
    { \
        if (n > POLL_ELEMENTS) { \
            NAME(long_rows_##word)(xy, xx, yy, x, y, rows, n, x_step, y_step); \
        } else { \
            NAME(rows)(xy, xx, yy, x, y, rows, n, x_step, y_step, kind); \
        } \
    } \
    static void NAME(columns_##word)(double *sums, size_t n, const void *x, const void *y, \
                                     size_t steps, ptrdiff_t x_step, ptrdiff_t y_step) \
    { \
        NAME(columns)(sums, n, x, y, steps, x_step, y_step, kind); \
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
#undef ELEMENT_LOAD_PAIR
#undef ELEMENT_LOAD_INTEGERS
#undef ELEMENT_RANGE_CHECKED
#undef COLUMN_WIDTH
#undef SUM_ARRAYS
