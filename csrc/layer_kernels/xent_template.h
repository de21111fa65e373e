/*
 * Kernels of the NT-Xent loss on tiles, for one type (simd/float32.h): exponentials of sums, their
 * column sums, and their weighting for the gradient. struct xent_kernels has the contracts.
 *
 * A block is (rows, WIDTH) and contiguous. The sums of a tile and a packed panel have this layout.
 */
#define WIDTH (TILE_VECTORS * FLOAT_LANES)

/* Number of rows that are summed in FLOAT_TYPE. These sums are then added in double. */
enum { NAME(XENT_CHAIN) = 8 };

static void NAME(xent_scale)(void *out_void, const void *x_void, double factor, size_t n)
{
    const FLOAT_TYPE *x = x_void;
    FLOAT_TYPE *out = out_void;
    size_t i = 0;
    for (; n - i >= VD_LANES; i += VD_LANES) {
        FLOAT_STORE(out + i, vd_mul(FLOAT_LOAD(x + i), vd_set1(factor)));
    }
    for (; i < n; i++) {
        out[i] = (FLOAT_TYPE)(x[i] * factor);
    }
}

/*
 * There are two loops, because a load of a whole vector stalls right after the stores of its two
 * halves: the processor cannot forward two stores to one load.
 */
static void NAME(xent_exponents)(void *out_void, const double *sums, size_t n, double factor,
                                 double shift, bool exponential)
{
    FLOAT_TYPE *out = out_void;
    for (size_t i = 0; i < n; i += VD_LANES) {
        FLOAT_STORE(out + i, vd_fma(vd_load(sums + i), vd_set1(factor), vd_set1(shift)));
    }
    if (!exponential) {
        return;
    }
    for (size_t i = 0; i < n; i += FLOAT_LANES) {
        FLOAT_OP(store)(out + i, FLOAT_OP(exp)(FLOAT_OP(load)(out + i)));
    }
}

/* Adds term c to sums[c], for WIDTH columns. */
INLINE void NAME(xent_add)(double *sums, const FLOAT_VECTOR terms[TILE_VECTORS])
{
    FLOAT_TYPE term[WIDTH];
    for (int v = 0; v < TILE_VECTORS; v++) {
        FLOAT_OP(store)(term + v * FLOAT_LANES, terms[v]);
    }
    for (int c = 0; c < WIDTH; c += VD_LANES) {
        vd_store(sums + c, vd_add(vd_load(sums + c), FLOAT_LOAD(term + c)));
    }
}

static void NAME(xent_sums)(double *sums, const void *block_void, size_t rows)
{
    const FLOAT_TYPE *block = block_void;
    for (size_t j = 0, end; j < rows;) {
        FLOAT_VECTOR chain[TILE_VECTORS];
        for (int v = 0; v < TILE_VECTORS; v++) {
            chain[v] = FLOAT_OP(load)(block + j * WIDTH + v * FLOAT_LANES);
        }
        end = rows - j < NAME(XENT_CHAIN) ? rows : j + NAME(XENT_CHAIN);
        for (j++; j < end; j++) {
            for (int v = 0; v < TILE_VECTORS; v++) {
                chain[v] =
                    FLOAT_OP(add)(chain[v], FLOAT_OP(load)(block + j * WIDTH + v * FLOAT_LANES));
            }
        }
        NAME(xent_add)(sums, chain);
    }
}

static void NAME(xent_log_sums)(double *sums, void *maxima_void, const void *block_void,
                                size_t rows)
{
    const FLOAT_TYPE *block = block_void;
    FLOAT_TYPE *maxima = maxima_void, change[WIDTH];
    FLOAT_VECTOR minus[TILE_VECTORS];
    for (int v = 0; v < TILE_VECTORS; v++) {
        const FLOAT_VECTOR old = FLOAT_OP(load)(maxima + v * FLOAT_LANES);
        FLOAT_VECTOR maximum = old;
        for (size_t j = 0; j < rows; j++) {
            maximum = FLOAT_OP(max)(maximum, FLOAT_OP(load)(block + j * WIDTH + v * FLOAT_LANES));
        }
        minus[v] = FLOAT_OP(mul)(maximum, FLOAT_OP(set1)(-1));
        FLOAT_OP(store)(maxima + v * FLOAT_LANES, maximum);
        FLOAT_OP(store)(change + v * FLOAT_LANES, FLOAT_OP(exp)(FLOAT_OP(add)(old, minus[v])));
    }
    for (int c = 0; c < WIDTH; c += VD_LANES) {
        vd_store(sums + c, vd_mul(vd_load(sums + c), FLOAT_LOAD(change + c)));
    }
    for (size_t j = 0; j < rows; j++) {
        FLOAT_VECTOR terms[TILE_VECTORS];
        for (int v = 0; v < TILE_VECTORS; v++) {
            terms[v] = FLOAT_OP(exp)(
                FLOAT_OP(add)(FLOAT_OP(load)(block + j * WIDTH + v * FLOAT_LANES), minus[v]));
        }
        NAME(xent_add)(sums, terms);
    }
}

static void NAME(xent_weigh)(void *out_void, const void *block_void, const void *row_weights,
                             const void *column_weights, size_t rows)
{
    const FLOAT_TYPE *block = block_void, *row = row_weights, *column = column_weights;
    FLOAT_TYPE *out = out_void;
    for (size_t j = 0; j < rows; j++) {
        for (int c = 0; c < WIDTH; c += FLOAT_LANES) {
            const FLOAT_VECTOR weight =
                FLOAT_OP(add)(FLOAT_OP(set1)(row[j]), FLOAT_OP(load)(column + c));
            FLOAT_OP(store)(out + j * WIDTH + c,
                            FLOAT_OP(mul)(FLOAT_OP(load)(block + j * WIDTH + c), weight));
        }
    }
}

static void NAME(xent_weigh_logs)(void *out_void, const void *block_void, const void *row_weights,
                                  const void *column_weights, size_t rows)
{
    const FLOAT_TYPE *block = block_void, *row = row_weights, *column = column_weights;
    FLOAT_TYPE *out = out_void;
    for (size_t j = 0; j < rows; j++) {
        for (int c = 0; c < WIDTH; c += FLOAT_LANES) {
            const FLOAT_VECTOR exponent = FLOAT_OP(load)(block + j * WIDTH + c);
            const FLOAT_VECTOR of_row =
                FLOAT_OP(exp)(FLOAT_OP(add)(exponent, FLOAT_OP(set1)(row[j])));
            const FLOAT_VECTOR of_column =
                FLOAT_OP(exp)(FLOAT_OP(add)(exponent, FLOAT_OP(load)(column + c)));
            FLOAT_OP(store)(out + j * WIDTH + c, FLOAT_OP(add)(of_row, of_column));
        }
    }
}

static void NAME(xent_project)(void *out_void, const double *sums, const void *panel_void,
                               const double *factors, const double *projected, size_t depth)
{
    const FLOAT_TYPE *panel = panel_void;
    FLOAT_TYPE *out = out_void;
    for (int c = 0; c < WIDTH; c += VD_LANES) {
        vd along = vd_set1(0.0);
        for (size_t d = 0; d < depth; d++) {
            along = vd_fma(vd_load(sums + d * WIDTH + c), FLOAT_LOAD(panel + d * WIDTH + c), along);
        }
        along = vd_mul(along, vd_sub(vd_set1(0.0), vd_load(projected + c)));
        const vd factor = vd_load(factors + c);
        for (size_t d = 0; d < depth; d++) {
            const vd across =
                vd_fma(along, FLOAT_LOAD(panel + d * WIDTH + c), vd_load(sums + d * WIDTH + c));
            FLOAT_STORE(out + d * WIDTH + c, vd_mul(across, factor));
        }
    }
}

#undef WIDTH
