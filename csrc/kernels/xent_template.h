/*
 * Kernels of the NT-Xent loss on tiles, for one type: exponentials of sums, their column sums, and
 * their weighting for the gradient. struct xent_kernels has the contracts. Parameters, undefined at
 * the end:
 *
 *   XENT, XENT_TYPE           name of the type in identifiers; C type
 *   XENT_VECTOR, XENT_LANES   vector type; its number of lanes
 *   XENT_OP(op)               operation `op` on XENT_VECTOR
 *   XENT_LOAD, XENT_STORE     load and store XENT_TYPE elements as a vector of doubles
 *
 * A block is (rows, WIDTH) and contiguous. The sums of a tile and a packed panel have this layout.
 */
#define NAME(prefix) PASTE(PASTE(prefix, _), XENT)
#define WIDTH (TILE_VECTORS * XENT_LANES)

/* Number of rows that are summed in XENT_TYPE. These sums are then added in double. */
enum { NAME(XENT_CHAIN) = 8 };

static void NAME(xent_scale)(void *out_void, const void *x_void, double factor, size_t n)
{
    const XENT_TYPE *x = x_void;
    XENT_TYPE *out = out_void;
    size_t i = 0;
    for (; n - i >= VD_LANES; i += VD_LANES) {
        XENT_STORE(out + i, vd_mul(XENT_LOAD(x + i), vd_set1(factor)));
    }
    for (; i < n; i++) {
        out[i] = (XENT_TYPE)(x[i] * factor);
    }
}

/*
 * There are two loops, because a load of a whole vector stalls right after the stores of its two
 * halves: the processor cannot forward two stores to one load.
 */
static void NAME(xent_exponents)(void *out_void, const double *sums, size_t n, double factor,
                                 double shift, bool exponential)
{
    XENT_TYPE *out = out_void;
    for (size_t i = 0; i < n; i += VD_LANES) {
        XENT_STORE(out + i, vd_fma(vd_load(sums + i), vd_set1(factor), vd_set1(shift)));
    }
    if (!exponential) {
        return;
    }
    for (size_t i = 0; i < n; i += XENT_LANES) {
        XENT_OP(store)(out + i, XENT_OP(exp)(XENT_OP(load)(out + i)));
    }
}

/* Adds term c to sums[c], for WIDTH columns. */
INLINE void NAME(xent_add)(double *sums, const XENT_VECTOR terms[TILE_VECTORS])
{
    XENT_TYPE term[WIDTH];
    for (int v = 0; v < TILE_VECTORS; v++) {
        XENT_OP(store)(term + v * XENT_LANES, terms[v]);
    }
    for (int c = 0; c < WIDTH; c += VD_LANES) {
        vd_store(sums + c, vd_add(vd_load(sums + c), XENT_LOAD(term + c)));
    }
}

static void NAME(xent_sums)(double *sums, const void *block_void, size_t rows)
{
    const XENT_TYPE *block = block_void;
    for (size_t j = 0, end; j < rows;) {
        XENT_VECTOR chain[TILE_VECTORS];
        for (int v = 0; v < TILE_VECTORS; v++) {
            chain[v] = XENT_OP(load)(block + j * WIDTH + v * XENT_LANES);
        }
        end = rows - j < NAME(XENT_CHAIN) ? rows : j + NAME(XENT_CHAIN);
        for (j++; j < end; j++) {
            for (int v = 0; v < TILE_VECTORS; v++) {
                chain[v] =
                    XENT_OP(add)(chain[v], XENT_OP(load)(block + j * WIDTH + v * XENT_LANES));
            }
        }
        NAME(xent_add)(sums, chain);
    }
}

static void NAME(xent_log_sums)(double *sums, void *maxima_void, const void *block_void,
                                size_t rows)
{
    const XENT_TYPE *block = block_void;
    XENT_TYPE *maxima = maxima_void, change[WIDTH];
    XENT_VECTOR minus[TILE_VECTORS];
    for (int v = 0; v < TILE_VECTORS; v++) {
        const XENT_VECTOR old = XENT_OP(load)(maxima + v * XENT_LANES);
        XENT_VECTOR maximum = old;
        for (size_t j = 0; j < rows; j++) {
            maximum = XENT_OP(max)(maximum, XENT_OP(load)(block + j * WIDTH + v * XENT_LANES));
        }
        minus[v] = XENT_OP(mul)(maximum, XENT_OP(set1)(-1));
        XENT_OP(store)(maxima + v * XENT_LANES, maximum);
        XENT_OP(store)(change + v * XENT_LANES, XENT_OP(exp)(XENT_OP(add)(old, minus[v])));
    }
    for (int c = 0; c < WIDTH; c += VD_LANES) {
        vd_store(sums + c, vd_mul(vd_load(sums + c), XENT_LOAD(change + c)));
    }
    for (size_t j = 0; j < rows; j++) {
        XENT_VECTOR terms[TILE_VECTORS];
        for (int v = 0; v < TILE_VECTORS; v++) {
            terms[v] = XENT_OP(exp)(
                XENT_OP(add)(XENT_OP(load)(block + j * WIDTH + v * XENT_LANES), minus[v]));
        }
        NAME(xent_add)(sums, terms);
    }
}

static void NAME(xent_weigh)(void *out_void, const void *block_void, const void *row_weights,
                             const void *column_weights, size_t rows)
{
    const XENT_TYPE *block = block_void, *row = row_weights, *column = column_weights;
    XENT_TYPE *out = out_void;
    for (size_t j = 0; j < rows; j++) {
        for (int c = 0; c < WIDTH; c += XENT_LANES) {
            const XENT_VECTOR weight =
                XENT_OP(add)(XENT_OP(set1)(row[j]), XENT_OP(load)(column + c));
            XENT_OP(store)(out + j * WIDTH + c,
                           XENT_OP(mul)(XENT_OP(load)(block + j * WIDTH + c), weight));
        }
    }
}

static void NAME(xent_weigh_logs)(void *out_void, const void *block_void, const void *row_weights,
                                  const void *column_weights, size_t rows)
{
    const XENT_TYPE *block = block_void, *row = row_weights, *column = column_weights;
    XENT_TYPE *out = out_void;
    for (size_t j = 0; j < rows; j++) {
        for (int c = 0; c < WIDTH; c += XENT_LANES) {
            const XENT_VECTOR exponent = XENT_OP(load)(block + j * WIDTH + c);
            const XENT_VECTOR of_row = XENT_OP(exp)(XENT_OP(add)(exponent, XENT_OP(set1)(row[j])));
            const XENT_VECTOR of_column =
                XENT_OP(exp)(XENT_OP(add)(exponent, XENT_OP(load)(column + c)));
            XENT_OP(store)(out + j * WIDTH + c, XENT_OP(add)(of_row, of_column));
        }
    }
}

static void NAME(xent_project)(void *out_void, const double *sums, const void *panel_void,
                               const double *factors, const double *projected, size_t depth)
{
    const XENT_TYPE *panel = panel_void;
    XENT_TYPE *out = out_void;
    for (int c = 0; c < WIDTH; c += VD_LANES) {
        vd along = vd_set1(0.0);
        for (size_t d = 0; d < depth; d++) {
            along = vd_fma(vd_load(sums + d * WIDTH + c), XENT_LOAD(panel + d * WIDTH + c), along);
        }
        along = vd_mul(along, vd_sub(vd_set1(0.0), vd_load(projected + c)));
        const vd factor = vd_load(factors + c);
        for (size_t d = 0; d < depth; d++) {
            const vd across =
                vd_fma(along, XENT_LOAD(panel + d * WIDTH + c), vd_load(sums + d * WIDTH + c));
            XENT_STORE(out + d * WIDTH + c, vd_mul(across, factor));
        }
    }
}

#undef NAME
#undef WIDTH
#undef XENT
#undef XENT_TYPE
#undef XENT_VECTOR
#undef XENT_LANES
#undef XENT_OP
#undef XENT_LOAD
#undef XENT_STORE
