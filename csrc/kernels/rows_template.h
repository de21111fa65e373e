/*
 * Sums along rows and down columns for one element type. The contracts are in kernels.h.
 * Parameters, undefined at the end of floats_template.h:
 *
 *   ELEMENT, ELEMENT_TYPE   name of the type in identifiers; C type
 *   ELEMENT_LOAD            loads VD_LANES elements as doubles
 *
 * Defined for some types only:
 *
 *   ELEMENT_KEEP_ERRORS     products are not exact in double, so sums keep their rounding errors
 *   ELEMENT_LOAD_FIRST      loads the first n elements, 0 < n < VD_LANES, and zeros
 *   ELEMENT_LOAD_PAIR       16-bit floats: loads 2 * VF_LANES elements as two vectors of floats
 *   ELEMENT_LOAD_INTEGERS   8-bit integers: loads 2 * VF_LANES elements as a vh
 *   ELEMENT_RANGE_CHECKED   products of elements can exceed the range of float
 */
#define NAME(prefix) PASTE(PASTE(prefix, _), ELEMENT)

/* Number of columns whose sums are held in registers at a time. */
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

/* If a row of bfloat16 is summed in float, its sum of squares must be in this range. */
#define SQUARE_MIN 0x1p-60
#define SQUARE_MAX 0x1p100

/* The sums of `kind` are those numbered [FIRST_SUM, END_SUM). */
#define FIRST_SUM(kind) ((kind) == SUMS_SQUARE)
#define END_SUM(kind) ((kind) == SUMS_ALL ? 3 : FIRST_SUM(kind) + 1)

/*
 * The next functions compute the sums of one row. If `polls` is set, they poll the cancellation
 * token every POLL_ELEMENTS elements, or after each chain of 8-bit integers. Short rows do not
 * poll, because a poll takes a few nanoseconds.
 */

/* Loads the next VD_LANES elements of a row. If only n < VD_LANES are left, pads them with zeros,
 * which do not change a sum. */
INLINE vd NAME(load)(const ELEMENT_TYPE *p, size_t n)
{
    if (n >= VD_LANES) {
        return ELEMENT_LOAD(p);
    }
#ifdef ELEMENT_LOAD_FIRST
    return ELEMENT_LOAD_FIRST(p, n);
#else
    ELEMENT_TYPE padded[VD_LANES] = {0};
    memcpy(padded, p, n * sizeof *p);
    return ELEMENT_LOAD(padded);
#endif
}

#ifdef ELEMENT_KEEP_ERRORS

/*
 * compensated_total of VD_LANES sums. The lanes of their vectors are transposed, so that one
 * addition serves all sums. Not inlined, because many kernels call it once for VD_LANES rows.
 */
static __attribute__((noinline)) void compensated_totals(double totals[VD_LANES],
                                                         const struct compensated_sum s[VD_LANES])
{
    enum { SQUARE = TRANSPOSE_SIZE_F64 };
    double lanes[2][VD_LANES][VD_LANES], columns[2][VD_LANES][VD_LANES], plain[VD_LANES];
    for (int i = 0; i < VD_LANES; i++) {
        vd_store(lanes[0][i], s[i].sum);
        vd_store(lanes[1][i], s[i].error);
    }
    for (int part = 0; part < 2; part++) {
        for (int i = 0; i < VD_LANES; i += SQUARE) {
            const double *rows[SQUARE];
            for (int r = 0; r < SQUARE; r++) {
                rows[r] = lanes[part][i + r];
            }
            for (int j = 0; j < VD_LANES; j += SQUARE) {
                transpose_f64(&columns[part][j][i], VD_LANES, rows, (size_t)j);
            }
        }
    }
    struct compensated_sum total = {vd_load(columns[0][0]), vd_set1(0.0)};
    for (int i = 1; i < VD_LANES; i++) {
        compensated_add(&total, vd_load(columns[0][i]));
    }
    for (int i = 0; i < VD_LANES; i++) {
        total.error = vd_add(total.error, vd_load(columns[1][i]));
    }
    vd_store(plain, total.sum);
    vd_store(totals, vd_add(total.sum, total.error));
    for (int i = 0; i < VD_LANES; i++) {
        totals[i] = totals[i] == totals[i] ? totals[i] : plain[i];
    }
}

/* Computes the sums of one row; each lane holds a partial sum. */
INLINE void NAME(row_lanes)(struct compensated_sum sums[3], const ELEMENT_TYPE *x,
                            const ELEMENT_TYPE *y, size_t n, enum sums kind, bool polls)
{
    const vd zero = vd_set1(0.0);
    size_t k = 0;
    for (int s = 0; s < 3; s++) {
        sums[s] = (struct compensated_sum){zero, zero};
    }
#define ADD(s, a, b) group[s] = vd_fma(a, b, group[s])
    while (k < n) {
        vd group[3] = {zero, zero, zero};
        const size_t end = n - k > 4 * VD_LANES ? k + 4 * VD_LANES : n;
        for (; end - k >= VD_LANES; k += VD_LANES) {
            const vd a = ELEMENT_LOAD(x + k), b = kind == SUMS_SQUARE ? a : ELEMENT_LOAD(y + k);
            EACH_SUM(kind, a, b, ADD);
        }
        if (k < end) {
            const vd a = NAME(load)(x + k, n - k),
                     b = kind == SUMS_SQUARE ? a : NAME(load)(y + k, n - k);
            EACH_SUM(kind, a, b, ADD);
            k = n;
        }
        for (int s = 0; s < 3; s++) {
            compensated_add(&sums[s], group[s]);
        }
        if (polls && k % POLL_ELEMENTS == 0 && cancel_poll_here()) {
            break;
        }
    }
#undef ADD
}

#else

#ifdef ELEMENT_LOAD_INTEGERS

/* Computes the exact sums of one row; each lane holds a partial sum. SHORT_CHAIN steps form a
 * chain, which is summed in 32 bits without overflow. The sums of the chains are added in
 * double. */
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

/* Computes the sums of one row; each lane holds a partial sum. The caller adds up the lanes with
 * vd_row_sums. */
INLINE void NAME(row_lanes)(vd out[3], const ELEMENT_TYPE *x, const ELEMENT_TYPE *y, size_t n,
                            enum sums kind, bool polls)
{
    vd sums[SUM_CHAINS][3];
    size_t k = 0;
    for (int chain = 0; chain < SUM_CHAINS; chain++) {
        sums[chain][0] = sums[chain][1] = sums[chain][2] = vd_set1(0.0);
    }
#define ADD(s, a, b) sums[chain][s] = vd_fma(a, b, sums[chain][s])
    while (n - k >= SUM_CHAINS * VD_LANES) {
        const size_t end = polls && n - k > POLL_ELEMENTS ? k + POLL_ELEMENTS : n;
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
        if (end < n && cancel_poll_here()) {
            n = k;
        }
    }
    for (int chain = 0; k < n; k += VD_LANES) {
        const vd a = NAME(load)(x + k, n - k),
                 b = kind == SUMS_SQUARE ? a : NAME(load)(y + k, n - k);
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
 * Computes the three sums of one row of 16-bit floats; each lane holds a partial sum. A float holds
 * each product exactly. HALF_CHAIN products form a chain, which is summed in float. Two chains are
 * added in float, and these sums in double. This is accurate enough for results that are rounded to
 * 16 bits.
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

#ifdef ELEMENT_RANGE_CHECKED
static void NAME(sum_in_double)(struct sums_call c, size_t first, size_t rows);
#endif

/* Computes the sums of rows [first, first + rows), which are at most VD_LANES rows. If `in_float`
 * is set, 16-bit floats are summed in float. */
INLINE void NAME(row_group)(struct sums_call c, size_t first, size_t rows, enum sums kind,
                            bool in_float, bool polls)
{
    const char *x = (const char *)c.x + (ptrdiff_t)first * c.x_step,
               *y = (const char *)c.y + (ptrdiff_t)first * c.y_step;
    double sums[3][VD_LANES];
    (void)in_float;
#ifdef ELEMENT_KEEP_ERRORS
    struct compensated_sum lanes[3][VD_LANES];
    for (size_t r = 0; r < rows; r++, x += c.x_step, y += c.y_step) {
        struct compensated_sum row[3];
        NAME(row_lanes)(row, (const void *)x, (const void *)y, c.n, kind, polls);
        for (int s = FIRST_SUM(kind); s < END_SUM(kind); s++) {
            lanes[s][r] = row[s];
            if (rows < VD_LANES) {
                sums[s][r] = compensated_total(row[s]);
            }
        }
    }
    for (int s = FIRST_SUM(kind); s < END_SUM(kind) && rows == VD_LANES; s++) {
        compensated_totals(sums[s], lanes[s]);
    }
#else
    vd lanes[3][VD_LANES];
    for (size_t r = 0; r < VD_LANES; r++) {
        vd row[3] = {vd_set1(0.0), vd_set1(0.0), vd_set1(0.0)};
        if (r < rows) {
            const ELEMENT_TYPE *from_x = (const void *)(x + (ptrdiff_t)r * c.x_step),
                               *from_y = (const void *)(y + (ptrdiff_t)r * c.y_step);
#ifdef ELEMENT_LOAD_PAIR
            if (in_float) {
                NAME(half_lanes)(row, from_x, from_y, c.n);
            } else
#endif
                NAME(row_lanes)(row, from_x, from_y, c.n, kind, polls);
        }
        for (int s = 0; s < 3; s++) {
            lanes[s][r] = row[s];
        }
    }
    for (int s = 0; s < 3; s++) {
        vd_store(sums[s], vd_row_sums(lanes[s]));
    }
#endif
    for (int s = FIRST_SUM(kind); s < END_SUM(kind); s++) {
        memcpy(c.sums + (size_t)s * c.sums_step + first, sums[s], rows * sizeof **sums);
    }
#ifdef ELEMENT_RANGE_CHECKED
    const vd range_min = vd_set1(SQUARE_MIN), range_max = vd_set1(SQUARE_MAX);
    const vd xx = vd_load(sums[1]), yy = vd_load(sums[2]);
    if (in_float && !(vd_all_at_least(xx, range_min) && vd_all_at_least(yy, range_min) &&
                      vd_all_at_least(range_max, xx) && vd_all_at_least(range_max, yy))) {
        NAME(sum_in_double)(c, first, rows);
    }
#endif
}

#ifdef ELEMENT_RANGE_CHECKED
/* Recomputes the sums of a group's rows in double if their xx or yy is out of range. The products
 * of such a row may overflow or underflow a float. */
static __attribute__((noinline)) void NAME(sum_in_double)(struct sums_call c, size_t first,
                                                          size_t rows)
{
    for (size_t r = first; r < first + rows; r++) {
        const double xx = c.sums[c.sums_step + r], yy = c.sums[2 * c.sums_step + r];
        if (!(xx >= SQUARE_MIN && xx <= SQUARE_MAX && yy >= SQUARE_MIN && yy <= SQUARE_MAX)) {
            NAME(row_group)(c, r, 1, SUMS_ALL, false, true);
        }
    }
}
#endif

INLINE void NAME(rows)(struct sums_call c, enum sums kind, bool polls)
{
    if (kind == SUMS_SQUARE) { /* y may be NULL */
        c.y = c.x;
        c.y_step = c.x_step;
    }
    size_t r = 0;
    for (; c.rows - r >= VD_LANES; r += VD_LANES) {
        NAME(row_group)(c, r, VD_LANES, kind, false, polls);
    }
    if (r < c.rows) {
        NAME(row_group)(c, r, c.rows - r, kind, false, polls);
    }
}

/*
 * Computes the cosines of a group of rows one iteration after its sums. The divisions then overlap
 * with the sums of later rows.
 */
static bool NAME(cosine_rows)(const struct sums_call *call, double *out, double min_square)
{
    const struct sums_call c = *call;
    const vd min_squares = vd_set1(min_square);
    const double *xy = c.sums, *xx = xy + c.sums_step, *yy = xx + c.sums_step;
    bool all = true;
    size_t r = 0, done = 0;
    for (; c.rows - r >= VD_LANES; r += VD_LANES) {
        NAME(row_group)(c, r, VD_LANES, SUMS_ALL, true, false);
        if (r > 0) {
            all &= cosine_vector(out + done, xy + done, xx + done, yy + done, min_squares);
            done = r;
        }
    }
    if (r < c.rows) {
        NAME(row_group)(c, r, c.rows - r, SUMS_ALL, true, false);
    }
    return cosine_sums(out + done, xy + done, xx + done, yy + done, c.rows - done, min_square) &&
           all;
}

/*
 * Adds all rows of columns [j, j + count) to their sums. The columns fit in `vectors` vectors.
 *
 * Prefetches the rows of the next call, which lie c.rows rows further down. The hardware
 * prefetcher does not reach that far, because each row is a separate stream to it. Prefetching into
 * L2 makes the kernel a fifth faster. Prefetching into L1 makes it slower.
 */
INLINE void NAME(column_sums)(struct sums_call c, size_t j, size_t count, int vectors,
                              enum sums kind)
{
    const bool whole = count == (size_t)vectors * VD_LANES;
    const ptrdiff_t x_ahead = (ptrdiff_t)c.rows * c.x_step, y_ahead = (ptrdiff_t)c.rows * c.y_step;
    const char *x = (const char *)c.x + j * sizeof(ELEMENT_TYPE),
               *y = (const char *)c.y + j * sizeof(ELEMENT_TYPE);
    double lanes[6][COLUMN_WIDTH] = {{0}}, *to[6];
    vd total[3][COLUMN_VECTORS];
    for (int s = 0; s < SUM_ARRAYS; s++) {
        to[s] = c.sums + (size_t)s * c.sums_step + j;
        if (!whole) {
            to[s] = memcpy(lanes[s], to[s], count * sizeof **lanes);
        }
    }
    for (int s = FIRST_SUM(kind); s < END_SUM(kind); s++) {
        for (int v = 0; v < vectors; v++) {
            total[s][v] = SUM_ARRAYS == 3 ? vd_load(to[s] + v * VD_LANES) : vd_set1(0.0);
        }
    }
#define ADD(s, a, b) total[s][v] = vd_fma(a, b, total[s][v])
    for (size_t i = 0; i < c.rows; i++, x += c.x_step, y += c.y_step) {
        ELEMENT_TYPE tail[2][COLUMN_WIDTH] = {{0}};
        const ELEMENT_TYPE *from_x = (const void *)x, *from_y = (const void *)y;
        if (whole) {
            __builtin_prefetch(x + x_ahead, 0, 2);
            __builtin_prefetch(y + y_ahead, 0, 2);
        } else {
            from_x = memcpy(tail[0], x, count * sizeof **tail);
            from_y = memcpy(tail[1], y, count * sizeof **tail);
        }
        for (int v = 0; v < vectors; v++) {
            vd a = ELEMENT_LOAD(from_x + v * VD_LANES),
               b = kind == SUMS_SQUARE ? a : ELEMENT_LOAD(from_y + v * VD_LANES);
            EACH_SUM(kind, a, b, ADD);
        }
    }
#undef ADD
    for (int s = FIRST_SUM(kind); s < END_SUM(kind); s++) {
        for (int v = 0; v < vectors; v++) {
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
    if (!whole) {
        for (int s = 0; s < SUM_ARRAYS; s++) {
            memcpy(c.sums + (size_t)s * c.sums_step + j, lanes[s], count * sizeof **lanes);
        }
    }
}

INLINE void NAME(columns)(struct sums_call c, enum sums kind)
{
    size_t j = 0;
    if (kind == SUMS_SQUARE) { /* y may be NULL */
        c.y = c.x;
        c.y_step = c.x_step;
    }
    for (; c.n - j >= COLUMN_WIDTH; j += COLUMN_WIDTH) {
        NAME(column_sums)(c, j, COLUMN_WIDTH, COLUMN_VECTORS, kind);
    }
    for (; c.n - j >= VD_LANES; j += VD_LANES) {
        NAME(column_sums)(c, j, VD_LANES, 1, kind);
    }
    if (j < c.n) {
        NAME(column_sums)(c, j, c.n - j, 1, kind);
    }
}

/* Long rows, which poll, have their own function, so that polling does not slow down short rows. */
#define KIND(word, kind) \
    static __attribute__((noinline)) void NAME(long_rows_##word)(const struct sums_call *call) \
    { \
        NAME(rows)(*call, kind, true); \
    } \
    static void NAME(rows_##word)(const struct sums_call *call) \
    { \
        if (call->n > POLL_ELEMENTS) { \
            NAME(long_rows_##word)(call); \
        } else { \
            NAME(rows)(*call, kind, false); \
        } \
    } \
    static void NAME(columns_##word)(const struct sums_call *call) \
    { \
        NAME(columns)(*call, kind); \
    }
KIND(all, SUMS_ALL)
KIND(dot, SUMS_DOT)
KIND(square, SUMS_SQUARE)

#undef KIND
#undef EACH_SUM
#undef FIRST_SUM
#undef END_SUM
#undef SQUARE_MIN
#undef SQUARE_MAX
#undef NAME
#undef COLUMN_WIDTH
#undef SUM_ARRAYS
