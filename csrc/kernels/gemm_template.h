/*
 * The micro-kernel of all blocked products, the packing of its panels and its finish, for one type.
 * Parameters, undefined at the end: TILE, TILE_TYPE, TILE_VECTOR, TILE_LANES, TILE_OP(op)   name, C
 * type, vector type, lanes, vector operation TILE_SQUARE, TILE_TURN rows of the square that
 * transpose_* of simd/ turns, and its call TILE_FMA a * b + c of scalars, rounded as TILE_OP(fma)
 * rounds TILE_STORE                                              stores a vector of doubles as this
 * type TILE_KEEP_ERRORS                                        defined: fold chains with their
 * rounding errors
 *
 * Order of summation: chains of CHAIN steps in registers, the chains of a block of TILE_DEPTH in
 * the same type, and the blocks in double; doubles keep the rounding error of that last step. Short
 * chains keep float32 accurate: rounding errors grow with the square root of a chain's length on
 * random terms, and with the length itself on equal ones, where chains of 64 leave errors of 1e-6
 * (32: 6e-7; 16: 5e-7). Chains of 64 would be 3 % faster.
 *
 * The sum in double begins with +0, so that a sum of products that all underflow is +0, as it is
 * where each product is rounded by itself: a chain of fused multiplications and additions would end
 * with the sign of its last product.
 */
#define NAME(prefix) PASTE(PASTE(prefix, _), TILE)
#define WIDTH (TILE_VECTORS * TILE_LANES)
#define CHAIN 32

/*
 * block = the sums of k steps, in TILE_TYPE. A function of its own, so that its registers are the
 * compiler's to give to one loop: inlined, gcc 12 keeps the loop's own counters in memory.
 */
static __attribute__((noinline)) void NAME(tile_block)(TILE_TYPE *restrict block,
                                                       const void *const *rows, size_t at,
                                                       const TILE_TYPE *panel, size_t k)
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
        { /* the outer product of a column of the rows with a row of the panel */
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

static void NAME(tile)(double *sums, double *errors, const void *const *rows, const void *panel,
                       size_t at, size_t k, unsigned flags)
{
    TILE_TYPE block[TILE_ROWS * WIDTH];
    NAME(tile_block)(block, rows, at, panel, k);
    for (int i = 0; (flags & TILE_FIRST) && i < TILE_ROWS * WIDTH; i++) {
        sums[i] = 0.0 + block[i];
    }
#ifdef TILE_KEEP_ERRORS
    if (flags & TILE_FIRST) {
        memset(errors, 0, TILE_ROWS * WIDTH * sizeof *errors);
        return;
    }
    for (int i = 0; i < TILE_ROWS * WIDTH; i += TILE_LANES) {
        struct exact s = {vd_load(sums + i), vd_load(errors + i)};
        exact_add(&s, vd_load(block + i));
        vd_store(sums + i, s.sum);
        vd_store(errors + i, s.error);
    }
    for (int i = 0; (flags & TILE_LAST) && i < TILE_ROWS * WIDTH; i++) {
        double total = sums[i] + errors[i];
        sums[i] = total == total ? total : sums[i]; /* an overflowed sum has NaN for its error */
    }
#else
    (void)errors;
    for (int i = 0; !(flags & TILE_FIRST) && i < TILE_ROWS * WIDTH; i++) {
        sums[i] += block[i];
    }
#endif
}

/* Chains side by side in one pass over a whole block: their order among each other does not matter.
 */
static SCALARS double NAME(tile_sum)(const void *x_void, const void *y_void, size_t n)
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
            for (size_t i = 0; i < k; i++) {
                chains[i / CHAIN] = TILE_FMA(x[at + i], y[at + i], chains[i / CHAIN]);
            }
        }
        block = chains[0];
        for (size_t c = 1; c * CHAIN < k; c++) {
            block += chains[c];
        }
#ifdef TILE_KEEP_ERRORS
        const double total = sum + block, part = total - sum;
        error += (sum - (total - part)) + (block - part);
        sum = total;
#else
        sum += block;
#endif
    }
    const double total = sum + error;
    return total == total ? total : sum; /* as in a tile */
}

/* Squares, the last of each direction overlapping the one before; element by element where not one
 * fits. */
static void NAME(transpose_rows)(void *to_void, size_t step, const void *const *rows, size_t count,
                                 size_t n)
{
    TILE_TYPE *to = to_void;
    if (count < TILE_SQUARE || n < TILE_SQUARE) {
        for (size_t i = 0; i < n; i++) {
            for (size_t r = 0; r < count; r++) {
                to[i * step + r] = ((const TILE_TYPE *)rows[r])[i];
            }
        }
        return;
    }
    for (size_t r = 0; r < count; r += TILE_SQUARE) {
        const size_t first = r + TILE_SQUARE <= count ? r : count - TILE_SQUARE;
        const TILE_TYPE *row[TILE_SQUARE]; /* copies, which stores to `to` cannot change */
        for (int s = 0; s < TILE_SQUARE; s++) {
            row[s] = rows[first + s];
        }
        size_t i = 0;
        for (; i + TILE_SQUARE <= n; i += TILE_SQUARE) {
            TILE_TURN(to + i * step + first, step, row, i);
        }
        if (i < n) {
            TILE_TURN(to + (n - TILE_SQUARE) * step + first, step, row, n - TILE_SQUARE);
        }
    }
}

INLINE vd NAME(cosine_of)(const double *sums, vd row, const double *columns)
{
#ifdef TILE_KEEP_ERRORS
    return vd_div(vd_load(sums), vd_mul(row, vd_load(columns)));
#else
    return vd_mul(vd_load(sums), vd_mul(row, vd_load(columns)));
#endif
}

static size_t NAME(cosine)(TILE_TYPE *out, ptrdiff_t out_step, const double *sums, size_t sums_step,
                           const double *row_weights, size_t rows, const double *column_weights,
                           size_t columns, double near, uint32_t *found)
{
    const vd limit = vd_set1(near);
    size_t count = 0;
    for (size_t r = 0; r < rows; r++, sums += sums_step, out += out_step) {
        const vd row = vd_set1(row_weights[r]);
        for (size_t j = 0; j < columns; j += VD_LANES) {
            const vd c = NAME(cosine_of)(sums + j, row, column_weights + j);
            unsigned beyond = vd_beyond(c, limit);
            if (columns - j >= VD_LANES) {
                TILE_STORE(out + j, c);
            } else {
                beyond &= (1u << (columns - j)) - 1;
                TILE_TYPE last[VD_LANES];
                TILE_STORE(last, c);
                memcpy(out + j, last, (columns - j) * sizeof *out);
            }
            found[count] = places_of(r, j, beyond); /* stays if it counts */
            count += beyond != 0;
        }
    }
    return count;
}

/* A row of scores that reach the lower of two limits, or are NaN: at most TILE_LANES columns at a
 * time. */
static size_t NAME(select_at_least)(const void *scores_void, size_t step, size_t rows,
                                    size_t columns, const void *row_limits,
                                    const void *column_limits, uint32_t *found)
{
    const TILE_TYPE *scores = scores_void, *low = row_limits;
    size_t count = 0;
    for (size_t r = 0; r < rows; r++, scores += step) {
        const TILE_VECTOR row = TILE_OP(set1)(low == NULL ? (TILE_TYPE)INFINITY : low[r]);
        for (size_t j = 0; j < columns; j += TILE_LANES) {
            const TILE_VECTOR limit =
                TILE_OP(min)(row, TILE_OP(load)((const TILE_TYPE *)column_limits + j));
            const unsigned all =
                columns - j >= TILE_LANES ? (1u << TILE_LANES) - 1 : (1u << (columns - j)) - 1;
            const unsigned reached = ~TILE_OP(below)(TILE_OP(load)(scores + j), limit) & all;
            if (reached != 0) { /* in words of eight columns */
                found[count] = places_of(r, j, reached & 0xff);
                count += (reached & 0xff) != 0;
                found[count] = places_of(r, j + 8, reached >> 8);
                count += reached >> 8 != 0;
            }
        }
    }
    return count;
}

#undef NAME
#undef WIDTH
#undef CHAIN
#undef TILE
#undef TILE_TYPE
#undef TILE_VECTOR
#undef TILE_OP
#undef TILE_LANES
#undef TILE_SQUARE
#undef TILE_TURN
#undef TILE_STORE
#undef TILE_FMA
#undef TILE_KEEP_ERRORS
