/*
 * The micro-kernel of all blocked products, the packing of its panels and its finish, for one type. Parameters, undefined at the end:
 *   TILE, TILE_TYPE, TILE_VECTOR, TILE_LANES, TILE_OP(op)   name, C type, vector type, lanes, vector operation
 *   TILE_SQUARE, TILE_TURN                                  rows of the square that transpose_* of simd/ turns, and its call
 *   TILE_STORE                                              stores a vector of doubles as this type
 *   TILE_KEEP_ERRORS                                        defined: fold chains with their rounding errors
 *
 * Order of summation: chains of TILE_CHAIN steps in registers; float32 adds the chains of a block of TILE_DEPTH in
 * float32 and the blocks in double, float64 adds every chain with its rounding error kept. Short chains are what
 * keeps float32 accurate: rounding errors grow with the square root of a chain's length on random data, and with the
 * length itself on equal terms.
 */
#define NAME(prefix) PASTE(PASTE(prefix, _), TILE)
#define WIDTH (TILE_VECTORS * TILE_LANES)
#ifdef TILE_KEEP_ERRORS
#define CHAIN 64
#else
#define CHAIN 32
#endif

/* One chain: n steps of the outer product of a column of a with a row of b. */
INLINE void NAME(tile_chain)(TILE_VECTOR sums[TILE_ROWS][TILE_VECTORS], const TILE_TYPE *a, const TILE_TYPE *b, size_t n)
{
    _Pragma("GCC unroll 16") for (int r = 0; r < TILE_ROWS; r++) {
        _Pragma("GCC unroll 4") for (int v = 0; v < TILE_VECTORS; v++) {
            sums[r][v] = TILE_OP(set1)(0);
        }
    }
    for (; n > 0; n--, a += TILE_ROWS, b += WIDTH) {
        TILE_VECTOR right[TILE_VECTORS];
        _Pragma("GCC unroll 4") for (int v = 0; v < TILE_VECTORS; v++) {
            right[v] = TILE_OP(load)(b + v * TILE_LANES);
        }
        _Pragma("GCC unroll 16") for (int r = 0; r < TILE_ROWS; r++) {
            TILE_VECTOR left = TILE_OP(set1)(a[r]);
            _Pragma("GCC unroll 4") for (int v = 0; v < TILE_VECTORS; v++) {
                sums[r][v] = TILE_OP(fma)(left, right[v], sums[r][v]);
            }
        }
    }
}

static void NAME(tile)(double *sums, const void *a_panel, const void *b_panel, size_t k, unsigned flags)
{
    const TILE_TYPE *a = a_panel, *b = b_panel;
    TILE_VECTOR chain[TILE_ROWS][TILE_VECTORS];
#ifdef TILE_KEEP_ERRORS
    double *errors = sums + TILE_ROWS * WIDTH;
    if (flags & TILE_FIRST) {
        memset(sums, 0, 2 * TILE_ROWS * WIDTH * sizeof *sums);
    }
    for (size_t n; k > 0; k -= n, a += n * TILE_ROWS, b += n * WIDTH) {
        n = k < CHAIN ? k : CHAIN;
        NAME(tile_chain)(chain, a, b, n);
        for (int i = 0; i < TILE_ROWS * TILE_VECTORS; i++) {
            struct exact s = {vd_load(sums + i * TILE_LANES), vd_load(errors + i * TILE_LANES)};
            exact_add(&s, chain[i / TILE_VECTORS][i % TILE_VECTORS]);
            vd_store(sums + i * TILE_LANES, s.sum);
            vd_store(errors + i * TILE_LANES, s.error);
        }
    }
    for (int i = 0; (flags & TILE_LAST) && i < TILE_ROWS * WIDTH; i++) {
        double total = sums[i] + errors[i];
        sums[i] = total == total ? total : sums[i]; /* an overflowed sum has NaN for its error */
    }
#else
    TILE_TYPE block[TILE_ROWS * WIDTH];
    for (size_t n, done = 0; k > 0; k -= n, done += n, a += n * TILE_ROWS, b += n * WIDTH) {
        n = k < CHAIN ? k : CHAIN;
        NAME(tile_chain)(chain, a, b, n);
        for (int r = 0; r < TILE_ROWS; r++) {
            for (int v = 0; v < TILE_VECTORS; v++) {
                TILE_TYPE *to = block + (r * TILE_VECTORS + v) * TILE_LANES;
                TILE_OP(store)(to, done == 0 ? chain[r][v] : TILE_OP(add)(TILE_OP(load)(to), chain[r][v]));
            }
        }
    }
    if (flags & TILE_FIRST) {
        for (int i = 0; i < TILE_ROWS * WIDTH; i++) {
            sums[i] = block[i];
        }
    } else {
        for (int i = 0; i < TILE_ROWS * WIDTH; i++) {
            sums[i] += block[i];
        }
    }
#endif
}

static void NAME(transpose_rows)(void *to_void, size_t step, const void *const *rows, size_t count, size_t n)
{
    TILE_TYPE *to = to_void;
    const size_t squares = count < TILE_SQUARE ? 0 : n / TILE_SQUARE * TILE_SQUARE;
    for (size_t r = 0; squares > 0 && r < count; r += TILE_SQUARE) {
        const size_t first = r + TILE_SQUARE <= count ? r : count - TILE_SQUARE; /* the last square may overlap the one before */
        const TILE_TYPE *row[TILE_SQUARE]; /* copies, which stores to `to` cannot change */
        for (int s = 0; s < TILE_SQUARE; s++) {
            row[s] = rows[first + s];
        }
        for (size_t i = 0; i < squares; i += TILE_SQUARE) {
            TILE_TURN(to + i * step + first, step, row, i);
        }
    }
    for (size_t i = squares; i < n; i++) {
        for (size_t r = 0; r < count; r++) {
            to[i * step + r] = ((const TILE_TYPE *)rows[r])[i];
        }
    }
}

INLINE vd NAME(cosines)(const double *sums, double row, const double *partners)
{
#ifdef TILE_KEEP_ERRORS
    return vd_div(vd_load(sums), vd_mul(vd_set1(row), vd_load(partners)));
#else
    return vd_mul(vd_load(sums), vd_mul(vd_set1(row), vd_load(partners)));
#endif
}

static bool NAME(cosine)(TILE_TYPE *out, const double *sums, double row, const double *partners, size_t n, double near)
{
    const vd limit = vd_set1(near);
    int any = 0;
    size_t j = 0;
    for (; n - j >= VD_LANES; j += VD_LANES) {
        vd c = NAME(cosines)(sums + j, row, partners + j);
        any |= vd_any_beyond(c, limit);
        TILE_STORE(out + j, vd_clip(c));
    }
    if (j < n) {
        double padded_sums[VD_LANES] = {0}, padded_partners[VD_LANES];
        TILE_TYPE results[VD_LANES];
        for (size_t i = 0; i < VD_LANES; i++) {
            padded_sums[i] = i < n - j ? sums[j + i] : 0.0;
            padded_partners[i] = i < n - j ? partners[j + i] : 1.0;
        }
        vd c = NAME(cosines)(padded_sums, row, padded_partners);
        any |= vd_any_beyond(c, limit);
        TILE_STORE(results, vd_clip(c));
        memcpy(out + j, results, (n - j) * sizeof *out);
    }
    return any != 0;
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
#undef TILE_KEEP_ERRORS
