/*
 * The kernels of blocked matrix products (GEMM), for one type (simd/float32.h): the micro-kernel,
 * the transposition that packs its panels, and its epilogues (cosines and selection).
 *
 * Order of summation: CHAIN products form a chain, which is summed in a register. The chains of a
 * block of TILE_DEPTH products are added in FLOAT_TYPE. Blocks are added in double. The kernel for
 * doubles also keeps the rounding errors of the additions of blocks.
 *
 * Short chains keep float32 accurate. Rounding errors grow with the square root of the chain length
 * for random terms, and linearly for equal terms. For equal terms, chains of 64 leave errors of
 * 1e-6, chains of 32 leave 6e-7, and chains of 16 leave 5e-7. Chains of 64 would be 3 % faster.
 *
 * The sum in double starts from +0, so it is +0 if all products underflow. Products that are
 * rounded one by one also add up to +0. A chain of fused multiply-adds alone would end with the
 * sign of its last product.
 */
#define WIDTH (TILE_VECTORS * FLOAT_LANES)
#define CHAIN 32
#define STORE_ALIAS 4096               /* bytes */
#define LINE (64 / sizeof(FLOAT_TYPE)) /* elements of a cache line */

/* Adds the outer product of column i of the left rows and one row of the panel to sums. */
INLINE void NAME(add_column)(FLOAT_VECTOR sums[TILE_ROWS][TILE_VECTORS],
                             const FLOAT_TYPE *const row[TILE_ROWS], size_t i,
                             const FLOAT_TYPE *panel)
{
    FLOAT_VECTOR right[TILE_VECTORS];
    _Pragma("GCC unroll 4") for (int v = 0; v < TILE_VECTORS; v++)
    {
        right[v] = FLOAT_OP(load)(panel + v * FLOAT_LANES);
    }
    _Pragma("GCC unroll 16") for (int r = 0; r < TILE_ROWS; r++)
    {
        const FLOAT_VECTOR left = FLOAT_OP(set1)(row[r][i]);
        _Pragma("GCC unroll 4") for (int v = 0; v < TILE_VECTORS; v++)
        {
            sums[r][v] = FLOAT_OP(fma)(left, right[v], sums[r][v]);
        }
    }
    /* Otherwise gcc 12 would load elements of later columns first and spill sums to the stack. */
    __asm__ volatile("" ::: "memory");
}

/*
 * Prefetches the pairs of cache lines that end in elements [from, to) of `rows`. It requests only
 * the first line of a pair. The processor then fetches the other one and those that follow, which
 * keeps more of them under way than a core can request.
 */
INLINE void NAME(prefetch_pairs)(uintptr_t rows, size_t from, size_t to)
{
    for (size_t pair = from / (2 * LINE); pair < to / (2 * LINE); pair++) {
        __builtin_prefetch((const FLOAT_TYPE *)rows + pair * 2 * LINE, 0, 2);
    }
}

/*
 * Computes block (TILE_ROWS, WIDTH): dot products over k elements, in FLOAT_TYPE. Unless ahead is
 * 0, it also prefetches those elements of a tile of contiguous rows that lie `ahead` bytes later.
 */
INLINE void NAME(multiply_block)(FLOAT_TYPE *restrict block, const void *const *rows, size_t at,
                                 const FLOAT_TYPE *panel, size_t k, size_t ahead)
{
    const FLOAT_TYPE *row[TILE_ROWS];
    _Pragma("GCC unroll 16") for (int r = 0; r < TILE_ROWS; r++)
    {
        row[r] = (const FLOAT_TYPE *)rows[r] + at;
    }
    const uintptr_t next = (uintptr_t)rows[0] + at * TILE_ROWS * sizeof(FLOAT_TYPE) + ahead;
    for (size_t i = 0; i < k;) {
        const bool first = i == 0;
        FLOAT_VECTOR sums[TILE_ROWS][TILE_VECTORS];
        _Pragma("GCC unroll 16") for (int r = 0; r < TILE_ROWS; r++)
        {
            _Pragma("GCC unroll 4") for (int v = 0; v < TILE_VECTORS; v++)
            {
                sums[r][v] = FLOAT_OP(set1)(0);
            }
        }
        _Static_assert(CHAIN % 4 == 0, "a chain is whole groups of four columns");
        if (k - i >= CHAIN) { /* gcc unrolls only loops of constant length without a remainder */
            for (int steps = 0; steps < CHAIN; steps += 4) {
                if (ahead != 0) {
                    NAME(prefetch_pairs)(next, i * TILE_ROWS, (i + 4) * TILE_ROWS);
                }
                _Pragma("GCC unroll 4") for (int u = 0; u < 4; u++, i++, panel += WIDTH)
                {
                    NAME(add_column)(sums, row, i, panel);
                }
            }
        } else {
            if (ahead != 0) {
                NAME(prefetch_pairs)(next, i * TILE_ROWS, k * TILE_ROWS);
            }
            for (; i < k; i++, panel += WIDTH) {
                NAME(add_column)(sums, row, i, panel);
            }
        }
        _Pragma("GCC unroll 16") for (int r = 0; r < TILE_ROWS; r++)
        {
            _Pragma("GCC unroll 4") for (int v = 0; v < TILE_VECTORS; v++)
            {
                FLOAT_TYPE *to = block + (r * TILE_VECTORS + v) * FLOAT_LANES;
                FLOAT_OP(store)(to,
                                first ? sums[r][v] : FLOAT_OP(add)(FLOAT_OP(load)(to), sums[r][v]));
            }
        }
    }
}

/*
 * tile_kernel of kernels.h, for an `ahead` that is a constant 0 or not 0. An Intel processor delays
 * a load if the low 12 bits of its address are those of a store that has not reached the cache yet.
 * The block is stored at the end of each chain, so it gets an address whose low bits come last in
 * the panel of the next chain.
 */
INLINE void NAME(add_tile)(double *sums, double *errors, const void *const *rows, const void *panel,
                           size_t at, size_t k, unsigned flags, size_t ahead)
{
    _Alignas(64) FLOAT_TYPE memory[STORE_ALIAS / sizeof(FLOAT_TYPE) + TILE_ROWS * WIDTH];
    const uintptr_t distance =
        (uintptr_t)panel + (CHAIN - TILE_ROWS) * WIDTH * sizeof(FLOAT_TYPE) - (uintptr_t)memory;
    FLOAT_TYPE *const block = memory + distance % STORE_ALIAS / sizeof(FLOAT_TYPE);
    NAME(multiply_block)(block, rows, at, panel, k, ahead);
    if (flags & TILE_FIRST) {
        for (int i = 0; i < TILE_ROWS * WIDTH; i++) {
            sums[i] = 0.0 + block[i];
        }
#ifdef FLOAT_KEEP_ERRORS
        memset(errors, 0, TILE_ROWS * WIDTH * sizeof *errors);
#endif
        return;
    }
#ifdef FLOAT_KEEP_ERRORS
    for (int i = 0; i < TILE_ROWS * WIDTH; i += FLOAT_LANES) {
        struct compensated_sum s = {vd_load(sums + i), vd_load(errors + i)};
        compensated_add(&s, vd_load(block + i));
        vd_store(sums + i, s.sum);
        vd_store(errors + i, s.error);
    }
    const int finished = flags & TILE_LAST ? TILE_ROWS * WIDTH : 0;
    for (int i = 0; i < finished; i++) {
        double total = sums[i] + errors[i];
        sums[i] = total == total ? total : sums[i]; /* the error of an overflowed sum is NaN */
    }
#else
    (void)errors;
    for (int i = 0; i < TILE_ROWS * WIDTH; i++) {
        sums[i] += block[i];
    }
#endif
}

static void NAME(tile)(double *sums, double *errors, const void *const *rows, const void *panel,
                       size_t at, size_t k, unsigned flags, size_t ahead)
{
    if (ahead == 0) {
        NAME(add_tile)(sums, errors, rows, panel, at, k, flags, 0);
    } else {
        NAME(add_tile)(sums, errors, rows, panel, at, k, flags, ahead);
    }
}

/*
 * tile_sum_kernel of kernels.h. Computes all chains of a block side by side. The chains are
 * independent of each other, so the result has the bits of a tile.
 */
static NO_SLP double NAME(tile_sum)(const void *x_void, const void *y_void, size_t n)
{
    const FLOAT_TYPE *x = x_void, *y = y_void;
    double sum = 0.0, error = 0.0;
    for (size_t at = 0, k; at < n; at += k) {
        FLOAT_TYPE chains[TILE_DEPTH / CHAIN] = {0}, block;
        k = n - at < TILE_DEPTH ? n - at : TILE_DEPTH;
        if (k == TILE_DEPTH) {
            for (size_t i = 0; i < CHAIN; i++) {
                _Pragma("GCC unroll 8") for (int c = 0; c < TILE_DEPTH / CHAIN; c++)
                {
                    chains[c] = FLOAT_FMA(x[at + c * CHAIN + i], y[at + c * CHAIN + i], chains[c]);
                }
            }
        } else {
            const size_t side_by_side = k / CHAIN / 4 * 4;
            for (size_t c = 0; c < side_by_side; c += 4) {
                for (size_t i = at + c * CHAIN; i < at + (c + 1) * CHAIN; i++) {
                    _Pragma("GCC unroll 4") for (int d = 0; d < 4; d++)
                    {
                        chains[c + d] =
                            FLOAT_FMA(x[i + d * CHAIN], y[i + d * CHAIN], chains[c + d]);
                    }
                }
            }
            for (size_t i = side_by_side * CHAIN; i < k; i++) {
                chains[i / CHAIN] = FLOAT_FMA(x[at + i], y[at + i], chains[i / CHAIN]);
            }
        }
        block = chains[0];
        for (size_t c = 1; c * CHAIN < k; c++) {
            block += chains[c];
        }
#ifdef FLOAT_KEEP_ERRORS
        const double total = sum + block, added = total - sum;
        error += (sum - (total - added)) + (block - added);
        sum = total;
#else
        sum += block;
#endif
    }
    const double total = sum + error;
    return total == total ? total : sum; /* the error of an overflowed sum is NaN */
}

/* Transposes square blocks. The last block of each direction can overlap the one before it. Arrays
 * smaller than one block are transposed element by element. */
static void NAME(transpose_rows)(void *to_void, size_t step, const void *const *rows, size_t count,
                                 size_t n)
{
    FLOAT_TYPE *to = to_void;
    if (count < FLOAT_TRANSPOSE_SIZE || n < FLOAT_TRANSPOSE_SIZE) {
        for (size_t i = 0; i < n; i++) {
            for (size_t r = 0; r < count; r++) {
                to[i * step + r] = ((const FLOAT_TYPE *)rows[r])[i];
            }
        }
        return;
    }
    for (size_t r = 0; r < count; r += FLOAT_TRANSPOSE_SIZE) {
        const size_t first = r + FLOAT_TRANSPOSE_SIZE <= count ? r : count - FLOAT_TRANSPOSE_SIZE;
        const FLOAT_TYPE *row[FLOAT_TRANSPOSE_SIZE]; /* local copies cannot alias `to` */
        for (int s = 0; s < FLOAT_TRANSPOSE_SIZE; s++) {
            row[s] = rows[first + s];
        }
        size_t i = 0;
        for (; i + FLOAT_TRANSPOSE_SIZE <= n; i += FLOAT_TRANSPOSE_SIZE) {
            FLOAT_TRANSPOSE(to + i * step + first, step, row, i);
        }
        if (i < n) {
            FLOAT_TRANSPOSE(to + (n - FLOAT_TRANSPOSE_SIZE) * step + first, step, row,
                            n - FLOAT_TRANSPOSE_SIZE);
        }
    }
}

#ifdef FLOAT_KEEP_ERRORS
/*
 * Returns VD_LANES cosines of rows of whole numbers, correctly rounded. The arguments are x.y, |x|
 * and |y|.
 *
 * The squared norms are whole numbers up to COSINE_MAX_WHOLE, and the relative difference of |x|^2
 * and x.x is at most 3 2^-53. So rounding |x|^2 to a whole number gives x.x exactly. The product
 * x.x y.y is held in two doubles. It corrects root = |x| |y| to sqrt(x.x y.y) = root + root_error,
 * and the remainder of the division by root + root_error corrects the quotient. Each correction is
 * at most 2^-51 of the result and is rounded once. Before its last rounding the cosine has a
 * relative error below 2^-100.
 *
 * If a cosine is a fraction, its denominator is sqrt(x.x y.y). The relative distance of a fraction
 * with denominator S from every number halfway between two doubles is at least 2^-54 / S. So the
 * fraction is rounded correctly if S is at most 2^46. Equal cosines that are not fractions get
 * equal results, unless they are within 2^-100 of such a halfway number.
 */
INLINE vd NAME(whole_cosine)(vd xy, vd x_norm, vd y_norm)
{
    const vd xx = vd_round(vd_mul(x_norm, x_norm)), yy = vd_round(vd_mul(y_norm, y_norm)),
             square = vd_mul(xx, yy), root = vd_mul(x_norm, y_norm),
             inverse = vd_div(vd_set1(1.0), root);
    const vd missing =
        vd_sub(vd_product_error(xx, yy, square), vd_product_error(root, root, square));
    const vd root_error = vd_mul(missing, vd_mul(vd_set1(0.5), inverse));
    const vd quotient = vd_mul(xy, inverse);
    const vd excess = vd_add(vd_product_error(quotient, root, xy), vd_mul(quotient, root_error));
    return vd_sub(quotient, vd_mul(excess, inverse));
}

/*
 * Returns VD_LANES float64 cosines: divides by norms. The norms of rows of whole numbers are
 * negative. Sets the bits of *whole for pairs in which both norms are negative. If row_is_whole is
 * false, there are no such pairs.
 */
INLINE vd NAME(cosine_of)(const double *sums, vd row, const double *columns, bool row_is_whole,
                          unsigned *whole)
{
    const vd xy = vd_load(sums), column = vd_load(columns);
    const unsigned all = (1u << VD_LANES) - 1;
    *whole = row_is_whole ? vd_below(column, vd_set1(0.0)) : 0;
    const vd cosine = *whole == all ? column : vd_div(xy, vd_abs(vd_mul(row, column)));
    if (*whole == 0) {
        return cosine;
    }
    const vd exact = NAME(whole_cosine)(xy, vd_abs(row), vd_abs(column));
    if (*whole == all) {
        return exact;
    }
    double lanes[2][VD_LANES];
    vd_store(lanes[0], cosine);
    vd_store(lanes[1], exact);
    for (int i = 0; i < VD_LANES; i++) {
        lanes[0][i] = lanes[*whole >> i & 1][i];
    }
    return vd_load(lanes[0]);
}
#else
/* Returns VD_LANES float32 cosines: multiplies by inverse norms. */
INLINE vd NAME(cosine_of)(const double *sums, vd row, const double *columns, bool row_is_whole,
                          unsigned *whole)
{
    (void)row_is_whole;
    *whole = 0;
    return vd_mul(vd_load(sums), vd_mul(row, vd_load(columns)));
}
#endif

static size_t NAME(cosine)(const struct cosine_tile *tile, void *out_void, ptrdiff_t out_step,
                           uint32_t *found)
{
    const vd bounds = vd_set1(tile->bound);
    const size_t columns = tile->columns;
    const double *sums = tile->sums, *const norms = tile->column_norms;
    FLOAT_TYPE *out = out_void;
    size_t count = 0;
    for (size_t r = 0; r < tile->rows; r++, sums += tile->sums_step, out += out_step) {
        const vd row = vd_set1(tile->row_norms[r]);
        const bool row_is_whole = tile->row_norms[r] < 0.0;
        for (size_t j = 0; j < columns; j += COSINE_PADDING) {
            const bool is_last = columns - j < COSINE_PADDING;
            FLOAT_TYPE last[COSINE_PADDING], *to = is_last ? last : out + j;
            unsigned beyond = 0;
            _Pragma("GCC unroll 4") for (size_t v = 0; v < COSINE_PADDING; v += VD_LANES)
            {
                unsigned whole;
                const vd c =
                    NAME(cosine_of)(sums + j + v, row, norms + j + v, row_is_whole, &whole);
                FLOAT_STORE(to + v, c);
                beyond |= (vd_beyond(c, bounds) & ~whole) << v;
            }
            if (is_last) {
                beyond &= (1u << (columns - j)) - 1;
                memcpy(out + j, last, (columns - j) * sizeof *out);
            }
            /* the next word overwrites a word without matches */
            found[count] = pack_matches(r, j, beyond);
            count += beyond != 0;
        }
    }
    return count;
}

static size_t NAME(stream_cosines)(void *out_void, const double *sums, double row_norm,
                                   const double *column_norms, size_t count, double bound,
                                   uint32_t *found)
{
    const vd bounds = vd_set1(bound), row = vd_set1(row_norm);
    FLOAT_TYPE *out = out_void;
    size_t lines = 0;
    for (size_t j = 0; j < count; j += LINE) {
        _Alignas(64) FLOAT_TYPE line[LINE];
        unsigned beyond = 0;
        if (row_norm < 0.0) { /* of whole numbers */
            const struct cosine_tile tile = {sums + j, 0,    &row_norm, column_norms + j,
                                             1,        LINE, bound};
            beyond = NAME(cosine)(&tile, line, 0, found + lines) != 0;
        } else {
            _Pragma("GCC unroll 8") for (size_t v = 0; v < LINE; v += VD_LANES)
            {
                unsigned whole;
                const vd c =
                    NAME(cosine_of)(sums + j + v, row, column_norms + j + v, false, &whole);
                FLOAT_STORE(line + v, c);
                beyond |= vd_beyond(c, bounds);
            }
        }
        stream_line(out + j, line);
        found[lines] = (uint32_t)j;
        lines += beyond != 0;
    }
    return lines;
}

/*
 * select_kernel of kernels.h, FLOAT_LANES columns at a time. It selects the scores that are not
 * below their threshold, NaN included.
 */
static size_t NAME(select_at_least)(const void *scores_void, size_t step, size_t rows,
                                    size_t columns, const void *row_thresholds,
                                    const void *column_thresholds, uint32_t *found)
{
    const FLOAT_TYPE *scores = scores_void, *of_rows = row_thresholds;
    size_t count = 0;
    for (size_t r = 0; r < rows; r++, scores += step) {
        const FLOAT_VECTOR row =
            FLOAT_OP(set1)(of_rows == NULL ? (FLOAT_TYPE)INFINITY : of_rows[r]);
        for (size_t j = 0; j < columns; j += FLOAT_LANES) {
            const FLOAT_VECTOR threshold =
                FLOAT_OP(min)(row, FLOAT_OP(load)((const FLOAT_TYPE *)column_thresholds + j));
            const unsigned all =
                columns - j >= FLOAT_LANES ? (1u << FLOAT_LANES) - 1 : (1u << (columns - j)) - 1;
            const unsigned matches = ~FLOAT_OP(below)(FLOAT_OP(load)(scores + j), threshold) & all;
            if (matches != 0) { /* a word holds eight columns */
                found[count] = pack_matches(r, j, matches & 0xff);
                count += (matches & 0xff) != 0;
                found[count] = pack_matches(r, j + 8, matches >> 8);
                count += matches >> 8 != 0;
            }
        }
    }
    return count;
}

/* keep_kernel of kernels.h. */
static size_t NAME(keep_at_least)(void *to_void, int64_t *to_numbers, const void *scores_void,
                                  const int64_t *numbers, size_t n, double least)
{
    FLOAT_TYPE *to = to_void;
    const FLOAT_TYPE *scores = scores_void;
    const FLOAT_VECTOR threshold = FLOAT_OP(set1)((FLOAT_TYPE)least);
    const unsigned all = (1u << FLOAT_LANES) - 1;
    size_t count = 0, i = 0;
    for (; i + FLOAT_LANES <= n; i += FLOAT_LANES) {
        const unsigned lanes = ~FLOAT_OP(below)(FLOAT_OP(load)(scores + i), threshold) & all;
        count += FLOAT_OP(compress)(to + count, to_numbers + count, scores + i, numbers + i, lanes);
    }
    if (i < n) {
        const unsigned rest = (1u << (n - i)) - 1;
        const unsigned lanes = ~FLOAT_OP(below)(FLOAT_OP(load)(scores + i), threshold) & rest;
        count += FLOAT_OP(compress)(to + count, to_numbers + count, scores + i, numbers + i, lanes);
    }
    return count;
}

/* count_kernel of kernels.h. */
static size_t NAME(count_at_least)(const void *scores_void, size_t n, double least)
{
    const FLOAT_TYPE *scores = scores_void;
    const FLOAT_VECTOR threshold = FLOAT_OP(set1)((FLOAT_TYPE)least);
    size_t below = 0, i = 0;
    for (; i + 4 * FLOAT_LANES <= n; i += 4 * FLOAT_LANES) {
        uint64_t lanes = 0; /* of four vectors */
        _Pragma("GCC unroll 4") for (unsigned v = 0; v < 4; v++)
        {
            const FLOAT_VECTOR score = FLOAT_OP(load)(scores + i + v * FLOAT_LANES);
            lanes |= (uint64_t)FLOAT_OP(below)(score, threshold) << v * FLOAT_LANES;
        }
        below += (size_t)__builtin_popcountll(lanes);
    }
    for (; i < n; i += FLOAT_LANES) {
        const unsigned rest = n - i < FLOAT_LANES ? (1u << (n - i)) - 1 : (1u << FLOAT_LANES) - 1;
        const unsigned lanes = FLOAT_OP(below)(FLOAT_OP(load)(scores + i), threshold) & rest;
        below += (size_t)__builtin_popcount(lanes);
    }
    return n - below;
}

/* maxima_kernel of kernels.h. */
static void NAME(maxima)(void *maxima_void, const void *scores_void, size_t step, size_t rows,
                         size_t columns)
{
    FLOAT_TYPE *maxima = maxima_void;
    const FLOAT_TYPE *scores = scores_void;
    for (size_t j = 0; j < columns; j += 2 * FLOAT_LANES) {
        const size_t second = columns - j > FLOAT_LANES ? j + FLOAT_LANES : j;
        FLOAT_VECTOR a = FLOAT_OP(load)(maxima + j), b = FLOAT_OP(load)(maxima + second);
        for (size_t r = 0; r < rows; r++) {
            a = FLOAT_OP(max_propagating_nan)(a, FLOAT_OP(load)(scores + r * step + j));
            b = FLOAT_OP(max_propagating_nan)(b, FLOAT_OP(load)(scores + r * step + second));
        }
        FLOAT_OP(store)(maxima + j, a);
        FLOAT_OP(store)(maxima + second, b);
    }
}

#undef WIDTH
#undef CHAIN
#undef STORE_ALIAS
#undef LINE
