/*
 * The kernels of blocked matrix products (GEMM), for one type: the micro-kernel, the transposition
 * that packs its panels, and its epilogues (cosines and selection). Parameters, undefined at the
 * end:
 *
 *   TILE, TILE_TYPE                name of the type in identifiers; C type
 *   TILE_VECTOR, TILE_LANES        vector type; its number of lanes
 *   TILE_OP(op)                    operation `op` on TILE_VECTOR
 *   TILE_TRANSPOSE                 name of the function of simd/ that transposes a square block
 *   TILE_TRANSPOSE_SIZE            rows of that block
 *   TILE_FMA                       a * b + c of scalars, rounded the same way as TILE_OP(fma)
 *   TILE_STORE                     stores a vector of doubles as TILE_TYPE
 *   TILE_KEEP_ERRORS               if defined, blocks are added with their rounding errors
 *
 * Order of summation: CHAIN products form a chain, which is summed in a register. The chains of a
 * block of TILE_DEPTH products are added in TILE_TYPE. Blocks are added in double. The kernel for
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
#define NAME(prefix) PASTE(PASTE(prefix, _), TILE)
#define WIDTH (TILE_VECTORS * TILE_LANES)
#define CHAIN 32
#define STORE_ALIAS 4096              /* bytes */
#define LINE (64 / sizeof(TILE_TYPE)) /* elements of a cache line */

/*
 * Computes block (TILE_ROWS, WIDTH): dot products over k elements, in TILE_TYPE. Unless ahead is 0,
 * it also prefetches the cache lines `ahead` bytes after these elements. The line of row r is
 * requested when element r of a line is multiplied, so that few requests are open at a time.
 */
static inline __attribute__((always_inline)) void
NAME(multiply_block)(TILE_TYPE *restrict block, const void *const *rows, size_t at,
                     const TILE_TYPE *panel, size_t k, size_t ahead)
{
    const TILE_TYPE *row[TILE_ROWS];
    _Pragma("GCC unroll 16") for (int r = 0; r < TILE_ROWS; r++)
    {
        row[r] = (const TILE_TYPE *)rows[r] + at;
    }
    for (size_t i = 0, end; i < k;) {
        const bool first = i == 0;
        TILE_VECTOR sums[TILE_ROWS][TILE_VECTORS];
        _Pragma("GCC unroll 16") for (int r = 0; r < TILE_ROWS; r++)
        {
            _Pragma("GCC unroll 4") for (int v = 0; v < TILE_VECTORS; v++)
            {
                sums[r][v] = TILE_OP(set1)(0);
            }
        }
        end = k - i < CHAIN ? k : i + CHAIN;
        _Pragma("GCC unroll 2") for (; i < end; i++, panel += WIDTH)
        { /* adds the outer product of one column of the left rows and one row of the panel */
            for (size_t r = i % LINE; ahead != 0 && r < TILE_ROWS; r += LINE) {
                __builtin_prefetch((const char *)((uintptr_t)(row[r] + i) + ahead));
            }
            TILE_VECTOR right[TILE_VECTORS];
            _Pragma("GCC unroll 4") for (int v = 0; v < TILE_VECTORS; v++)
            {
                right[v] = TILE_OP(load)(panel + v * TILE_LANES);
            }
            _Pragma("GCC unroll 16") for (int r = 0; r < TILE_ROWS; r++)
            {
                TILE_VECTOR left = TILE_OP(set1)(row[r][i]);
                _Pragma("GCC unroll 4") for (int v = 0; v < TILE_VECTORS; v++)
                {
                    sums[r][v] = TILE_OP(fma)(left, right[v], sums[r][v]);
                }
            }
        }
        _Pragma("GCC unroll 16") for (int r = 0; r < TILE_ROWS; r++)
        {
            _Pragma("GCC unroll 4") for (int v = 0; v < TILE_VECTORS; v++)
            {
                TILE_TYPE *to = block + (r * TILE_VECTORS + v) * TILE_LANES;
                TILE_OP(store)(to,
                               first ? sums[r][v] : TILE_OP(add)(TILE_OP(load)(to), sums[r][v]));
            }
        }
    }
}

/* multiply_block without and with prefetching. They are not inlined, so that the loop gets all
 * registers. If they were inlined, gcc 12 would keep the loop counters in memory. */
static __attribute__((noinline)) void NAME(tile_block)(TILE_TYPE *restrict block,
                                                       const void *const *rows, size_t at,
                                                       const TILE_TYPE *panel, size_t k)
{
    NAME(multiply_block)(block, rows, at, panel, k, 0);
}

static __attribute__((noinline)) void NAME(tile_block_ahead)(TILE_TYPE *restrict block,
                                                             const void *const *rows, size_t at,
                                                             const TILE_TYPE *panel, size_t k,
                                                             size_t ahead)
{
    NAME(multiply_block)(block, rows, at, panel, k, ahead);
}

/*
 * tile_kernel of kernels.h, or tile_ahead_kernel unless ahead is 0. An Intel processor delays a
 * load if the low 12 bits of its address are those of a store that has not reached the cache yet.
 * The block is stored at the end of each chain, so it gets an address whose low bits come last in
 * the panel of the next chain.
 */
static inline __attribute__((always_inline)) void
NAME(add_tile)(double *sums, double *errors, const void *const *rows, const void *panel, size_t at,
               size_t k, unsigned flags, size_t ahead)
{
    _Alignas(64) TILE_TYPE memory[STORE_ALIAS / sizeof(TILE_TYPE) + TILE_ROWS * WIDTH];
    const uintptr_t distance =
        (uintptr_t)panel + (CHAIN - TILE_ROWS) * WIDTH * sizeof(TILE_TYPE) - (uintptr_t)memory;
    TILE_TYPE *const block = memory + distance % STORE_ALIAS / sizeof(TILE_TYPE);
    if (ahead == 0) {
        NAME(tile_block)(block, rows, at, panel, k);
    } else {
        NAME(tile_block_ahead)(block, rows, at, panel, k, ahead);
    }
    if (flags & TILE_FIRST) {
        for (int i = 0; i < TILE_ROWS * WIDTH; i++) {
            sums[i] = 0.0 + block[i];
        }
#ifdef TILE_KEEP_ERRORS
        memset(errors, 0, TILE_ROWS * WIDTH * sizeof *errors);
#endif
        return;
    }
#ifdef TILE_KEEP_ERRORS
    for (int i = 0; i < TILE_ROWS * WIDTH; i += TILE_LANES) {
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
                       size_t at, size_t k, unsigned flags)
{
    NAME(add_tile)(sums, errors, rows, panel, at, k, flags, 0);
}

static void NAME(tile_ahead)(double *sums, double *errors, const void *const *rows,
                             const void *panel, size_t at, size_t k, unsigned flags, size_t ahead)
{
    NAME(add_tile)(sums, errors, rows, panel, at, k, flags, ahead);
}

/*
 * tile_sum_kernel of kernels.h. Computes all chains of a block side by side. The chains are
 * independent of each other, so the result has the bits of a tile.
 */
static NO_SLP double NAME(tile_sum)(const void *x_void, const void *y_void, size_t n)
{
    const TILE_TYPE *x = x_void, *y = y_void;
    double sum = 0.0, error = 0.0;
    for (size_t at = 0, k; at < n; at += k) {
        TILE_TYPE chains[TILE_DEPTH / CHAIN] = {0}, block;
        k = n - at < TILE_DEPTH ? n - at : TILE_DEPTH;
        if (k == TILE_DEPTH) {
            for (size_t i = 0; i < CHAIN; i++) {
                _Pragma("GCC unroll 8") for (int c = 0; c < TILE_DEPTH / CHAIN; c++)
                {
                    chains[c] = TILE_FMA(x[at + c * CHAIN + i], y[at + c * CHAIN + i], chains[c]);
                }
            }
        } else {
            const size_t side_by_side = k / CHAIN / 4 * 4;
            for (size_t c = 0; c < side_by_side; c += 4) {
                for (size_t i = at + c * CHAIN; i < at + (c + 1) * CHAIN; i++) {
                    _Pragma("GCC unroll 4") for (int d = 0; d < 4; d++)
                    {
                        chains[c + d] = TILE_FMA(x[i + d * CHAIN], y[i + d * CHAIN], chains[c + d]);
                    }
                }
            }
            for (size_t i = side_by_side * CHAIN; i < k; i++) {
                chains[i / CHAIN] = TILE_FMA(x[at + i], y[at + i], chains[i / CHAIN]);
            }
        }
        block = chains[0];
        for (size_t c = 1; c * CHAIN < k; c++) {
            block += chains[c];
        }
#ifdef TILE_KEEP_ERRORS
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
    TILE_TYPE *to = to_void;
    if (count < TILE_TRANSPOSE_SIZE || n < TILE_TRANSPOSE_SIZE) {
        for (size_t i = 0; i < n; i++) {
            for (size_t r = 0; r < count; r++) {
                to[i * step + r] = ((const TILE_TYPE *)rows[r])[i];
            }
        }
        return;
    }
    for (size_t r = 0; r < count; r += TILE_TRANSPOSE_SIZE) {
        const size_t first = r + TILE_TRANSPOSE_SIZE <= count ? r : count - TILE_TRANSPOSE_SIZE;
        const TILE_TYPE *row[TILE_TRANSPOSE_SIZE]; /* local copies cannot alias `to` */
        for (int s = 0; s < TILE_TRANSPOSE_SIZE; s++) {
            row[s] = rows[first + s];
        }
        size_t i = 0;
        for (; i + TILE_TRANSPOSE_SIZE <= n; i += TILE_TRANSPOSE_SIZE) {
            TILE_TRANSPOSE(to + i * step + first, step, row, i);
        }
        if (i < n) {
            TILE_TRANSPOSE(to + (n - TILE_TRANSPOSE_SIZE) * step + first, step, row,
                           n - TILE_TRANSPOSE_SIZE);
        }
    }
}

#ifdef TILE_KEEP_ERRORS
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
    const double *sums = tile->sums;
    TILE_TYPE *out = out_void;
    size_t count = 0;
    for (size_t r = 0; r < tile->rows; r++, sums += tile->sums_step, out += out_step) {
        const vd row = vd_set1(tile->row_norms[r]);
        const bool row_is_whole = tile->row_norms[r] < 0.0;
        for (size_t j = 0; j < columns; j += VD_LANES) {
            unsigned whole;
            const vd c =
                NAME(cosine_of)(sums + j, row, tile->column_norms + j, row_is_whole, &whole);
            unsigned beyond = vd_beyond(c, bounds) & ~whole;
            if (columns - j >= VD_LANES) {
                TILE_STORE(out + j, c);
            } else {
                beyond &= (1u << (columns - j)) - 1;
                TILE_TYPE last[VD_LANES];
                TILE_STORE(last, c);
                memcpy(out + j, last, (columns - j) * sizeof *out);
            }
            /* the next word overwrites a word without matches */
            found[count] = pack_matches(r, j, beyond);
            count += beyond != 0;
        }
    }
    return count;
}

/*
 * select_kernel of kernels.h, TILE_LANES columns at a time. It selects the scores that are not
 * below their threshold, NaN included.
 */
static size_t NAME(select_at_least)(const void *scores_void, size_t step, size_t rows,
                                    size_t columns, const void *row_thresholds,
                                    const void *column_thresholds, uint32_t *found)
{
    const TILE_TYPE *scores = scores_void, *of_rows = row_thresholds;
    size_t count = 0;
    for (size_t r = 0; r < rows; r++, scores += step) {
        const TILE_VECTOR row = TILE_OP(set1)(of_rows == NULL ? (TILE_TYPE)INFINITY : of_rows[r]);
        for (size_t j = 0; j < columns; j += TILE_LANES) {
            const TILE_VECTOR threshold =
                TILE_OP(min)(row, TILE_OP(load)((const TILE_TYPE *)column_thresholds + j));
            const unsigned all =
                columns - j >= TILE_LANES ? (1u << TILE_LANES) - 1 : (1u << (columns - j)) - 1;
            const unsigned matches = ~TILE_OP(below)(TILE_OP(load)(scores + j), threshold) & all;
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
    TILE_TYPE *to = to_void;
    const TILE_TYPE *scores = scores_void;
    const TILE_VECTOR threshold = TILE_OP(set1)((TILE_TYPE)least);
    const unsigned all = (1u << TILE_LANES) - 1;
    size_t count = 0, i = 0;
    for (; i + TILE_LANES <= n; i += TILE_LANES) {
        const unsigned lanes = ~TILE_OP(below)(TILE_OP(load)(scores + i), threshold) & all;
        count += TILE_OP(compress)(to + count, to_numbers + count, scores + i, numbers + i, lanes);
    }
    if (i < n) {
        const unsigned rest = (1u << (n - i)) - 1;
        const unsigned lanes = ~TILE_OP(below)(TILE_OP(load)(scores + i), threshold) & rest;
        count += TILE_OP(compress)(to + count, to_numbers + count, scores + i, numbers + i, lanes);
    }
    return count;
}

/* count_kernel of kernels.h. */
static size_t NAME(count_at_least)(const void *scores_void, size_t n, double least)
{
    const TILE_TYPE *scores = scores_void;
    const TILE_VECTOR threshold = TILE_OP(set1)((TILE_TYPE)least);
    size_t below = 0, i = 0;
    for (; i + 4 * TILE_LANES <= n; i += 4 * TILE_LANES) {
        uint64_t lanes = 0; /* of four vectors */
        _Pragma("GCC unroll 4") for (unsigned v = 0; v < 4; v++)
        {
            const TILE_VECTOR score = TILE_OP(load)(scores + i + v * TILE_LANES);
            lanes |= (uint64_t)TILE_OP(below)(score, threshold) << v * TILE_LANES;
        }
        below += (size_t)__builtin_popcountll(lanes);
    }
    for (; i < n; i += TILE_LANES) {
        const unsigned rest = n - i < TILE_LANES ? (1u << (n - i)) - 1 : (1u << TILE_LANES) - 1;
        const unsigned lanes = TILE_OP(below)(TILE_OP(load)(scores + i), threshold) & rest;
        below += (size_t)__builtin_popcount(lanes);
    }
    return n - below;
}

/* maxima_kernel of kernels.h. */
static void NAME(maxima)(void *maxima_void, const void *scores_void, size_t step, size_t rows,
                         size_t columns)
{
    TILE_TYPE *maxima = maxima_void;
    const TILE_TYPE *scores = scores_void;
    for (size_t j = 0; j < columns; j += 2 * TILE_LANES) {
        const size_t second = columns - j > TILE_LANES ? j + TILE_LANES : j;
        TILE_VECTOR a = TILE_OP(load)(maxima + j), b = TILE_OP(load)(maxima + second);
        for (size_t r = 0; r < rows; r++) {
            a = TILE_OP(max_propagating_nan)(a, TILE_OP(load)(scores + r * step + j));
            b = TILE_OP(max_propagating_nan)(b, TILE_OP(load)(scores + r * step + second));
        }
        TILE_OP(store)(maxima + j, a);
        TILE_OP(store)(maxima + second, b);
    }
}

#undef NAME
#undef WIDTH
#undef CHAIN
#undef STORE_ALIAS
#undef LINE
#undef TILE
#undef TILE_TYPE
#undef TILE_VECTOR
#undef TILE_OP
#undef TILE_LANES
#undef TILE_TRANSPOSE_SIZE
#undef TILE_TRANSPOSE
#undef TILE_STORE
#undef TILE_FMA
#undef TILE_KEEP_ERRORS
