/*
 * The micro-kernel of all blocked products, the packing of its panels and its finish, for one type. Parameters, undefined at the end:
 *   TILE, TILE_TYPE, TILE_VECTOR, TILE_LANES, TILE_OP(op)   name, C type, vector type, lanes, vector operation
 *   TILE_SQUARE, TILE_TURN                                  rows of the square that transpose_* of simd/ turns, and its call
 *   TILE_STORE                                              stores a vector of doubles as this type
 *   TILE_KEEP_ERRORS                                        defined: fold chains with their rounding errors
 *
 * Order of summation: chains of tile_chain(depth) steps in registers, the chains of a block of TILE_DEPTH in the same type,
 * and the blocks in double; doubles keep the rounding error of that last step.
 */
#define NAME(prefix) PASTE(PASTE(prefix, _), TILE)
#define WIDTH (TILE_VECTORS * TILE_LANES)

/*
 * block = the sums of k steps, in TILE_TYPE. A function of its own, so that its registers are the compiler's to give to one
 * loop: inlined, gcc 12 keeps the loop's own counters in memory.
 */
static __attribute__((noinline)) void NAME(tile_block)(TILE_TYPE *restrict block, const void *const *rows, size_t at, const TILE_TYPE *panel,
                                                       size_t k, size_t chain)
{
    const TILE_TYPE *row[TILE_ROWS];
    _Pragma("GCC unroll 16") for (int r = 0; r < TILE_ROWS; r++) {
        row[r] = (const TILE_TYPE *)rows[r] + at;
    }
    for (size_t i = 0, end; i < k;) {
        const bool first = i == 0;
        TILE_VECTOR sums[TILE_ROWS][TILE_VECTORS];
        _Pragma("GCC unroll 16") for (int r = 0; r < TILE_ROWS; r++) {
            _Pragma("GCC unroll 4") for (int v = 0; v < TILE_VECTORS; v++) {
                sums[r][v] = TILE_OP(set1)(0);
            }
        }
        end = k - i < chain ? k : i + chain;
        _Pragma("GCC unroll 2") for (; i < end; i++, panel += WIDTH) { /* the outer product of a column of the rows with a row of the panel */
            TILE_VECTOR right[TILE_VECTORS];
            _Pragma("GCC unroll 4") for (int v = 0; v < TILE_VECTORS; v++) {
                right[v] = TILE_OP(load)(panel + v * TILE_LANES);
            }
            _Pragma("GCC unroll 16") for (int r = 0; r < TILE_ROWS; r++) {
                TILE_VECTOR left = TILE_OP(set1)(row[r][i]);
                _Pragma("GCC unroll 4") for (int v = 0; v < TILE_VECTORS; v++) {
                    sums[r][v] = TILE_OP(fma)(left, right[v], sums[r][v]);
                }
            }
        }
        _Pragma("GCC unroll 16") for (int r = 0; r < TILE_ROWS; r++) {
            _Pragma("GCC unroll 4") for (int v = 0; v < TILE_VECTORS; v++) {
                TILE_TYPE *to = block + (r * TILE_VECTORS + v) * TILE_LANES;
                TILE_OP(store)(to, first ? sums[r][v] : TILE_OP(add)(TILE_OP(load)(to), sums[r][v]));
            }
        }
    }
}

static void NAME(tile)(double *sums, const void *const *rows, const void *panel, size_t at, size_t k, size_t chain, unsigned flags)
{
    TILE_TYPE block[TILE_ROWS * WIDTH];
    NAME(tile_block)(block, rows, at, panel, k, chain);
    for (int i = 0; (flags & TILE_FIRST) && i < TILE_ROWS * WIDTH; i++) {
        sums[i] = block[i];
    }
#ifdef TILE_KEEP_ERRORS
    double *errors = sums + TILE_ROWS * WIDTH;
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
    for (int i = 0; !(flags & TILE_FIRST) && i < TILE_ROWS * WIDTH; i++) {
        sums[i] += block[i];
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

INLINE vd NAME(cosine_of)(const double *sums, vd row, const double *columns)
{
#ifdef TILE_KEEP_ERRORS
    return vd_div(vd_load(sums), vd_mul(row, vd_load(columns)));
#else
    return vd_mul(vd_load(sums), vd_mul(row, vd_load(columns)));
#endif
}

static bool NAME(cosine)(TILE_TYPE *out, ptrdiff_t out_step, const double *sums, size_t sums_step, const double *row_weights, size_t rows,
                         const double *column_weights, size_t columns, double near)
{
    const vd limit = vd_set1(near);
    int any = 0;
    for (size_t r = 0; r < rows; r++, sums += sums_step, out += out_step) {
        const vd row = vd_set1(row_weights[r]);
        size_t j = 0;
        for (; columns - j >= VD_LANES; j += VD_LANES) {
            vd c = NAME(cosine_of)(sums + j, row, column_weights + j);
            any |= vd_any_beyond(c, limit);
            TILE_STORE(out + j, vd_clip(c));
        }
        if (j < columns) {
            TILE_TYPE results[VD_LANES];
            vd c = NAME(cosine_of)(sums + j, row, column_weights + j);
            any |= vd_any_beyond(c, limit);
            TILE_STORE(results, vd_clip(c));
            memcpy(out + j, results, (columns - j) * sizeof *out);
        }
    }
    return any != 0;
}

#undef NAME
#undef WIDTH
#undef TILE
#undef TILE_TYPE
#undef TILE_VECTOR
#undef TILE_OP
#undef TILE_LANES
#undef TILE_SQUARE
#undef TILE_TURN
#undef TILE_STORE
#undef TILE_KEEP_ERRORS
