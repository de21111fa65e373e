/*
 * Products of pixels with a block of filters, for one type (simd/float32.h): pixels_kernel of
 * kernels.h.
 *
 * A tile has up to PIXEL_SUMS / vectors pixels. Each pixel is broadcast once and multiplied with
 * all vectors of the block. More vectors mean fewer loads: for 24 multiply-adds, 6 pixels by 4
 * vectors take 10 loads (88 % of the peak on Ice Lake), and 12 pixels by 2 vectors take 14 loads
 * (65 %).
 */

INLINE void NAME(pixels_tile)(const struct pixels *c, size_t first, const int pixels,
                              const int vectors)
{
    const FLOAT_TYPE *filters = c->filters, *x[PIXEL_SUMS];
    const ptrdiff_t *at = c->depth_offsets, *end = at + c->depth;
    const size_t width = (size_t)vectors * FLOAT_LANES;
    FLOAT_VECTOR sums[PIXEL_SUMS][PIXEL_VECTORS];
    _Pragma("GCC unroll 24") for (int p = 0; p < pixels; p++)
    {
        x[p] = (const FLOAT_TYPE *)c->input + c->pixel_offsets[first + (size_t)p];
        _Pragma("GCC unroll 4") for (int v = 0; v < vectors; v++)
        {
            sums[p][v] = FLOAT_OP(set1)(0);
        }
    }
    for (; at < end; at++, filters += width) {
        FLOAT_VECTOR f[PIXEL_VECTORS];
        _Pragma("GCC unroll 4") for (int v = 0; v < vectors; v++)
        {
            f[v] = FLOAT_OP(load)(filters + v * FLOAT_LANES);
        }
        _Pragma("GCC unroll 24") for (int p = 0; p < pixels; p++)
        {
            const FLOAT_VECTOR pixel = FLOAT_OP(set1)(x[p][*at]);
            _Pragma("GCC unroll 4") for (int v = 0; v < vectors; v++)
            {
                sums[p][v] = FLOAT_OP(fma)(pixel, f[v], sums[p][v]);
            }
        }
    }
    FLOAT_TYPE *out = (FLOAT_TYPE *)c->sums + first * c->sums_step;
    if (c->add) {
        _Pragma("GCC unroll 24") for (int p = 0; p < pixels; p++)
        {
            _Pragma("GCC unroll 4") for (int v = 0; v < vectors; v++)
            {
                const FLOAT_TYPE *sum = out + (size_t)p * c->sums_step + v * FLOAT_LANES;
                sums[p][v] = FLOAT_OP(add)(FLOAT_OP(load)(sum), sums[p][v]);
            }
        }
    }
    if (c->bias != NULL) {
        _Pragma("GCC unroll 4") for (int v = 0; v < vectors; v++)
        {
            const FLOAT_VECTOR bias = FLOAT_OP(load)((const FLOAT_TYPE *)c->bias + v * FLOAT_LANES);
            _Pragma("GCC unroll 24") for (int p = 0; p < pixels; p++)
            {
                sums[p][v] = FLOAT_OP(add)(sums[p][v], bias);
            }
        }
    }
    if (c->pixel_bias != NULL) {
        _Pragma("GCC unroll 24") for (int p = 0; p < pixels; p++)
        {
            const FLOAT_VECTOR bias =
                FLOAT_OP(set1)(((const FLOAT_TYPE *)c->pixel_bias)[first + (size_t)p]);
            _Pragma("GCC unroll 4") for (int v = 0; v < vectors; v++)
            {
                sums[p][v] = FLOAT_OP(add)(sums[p][v], bias);
            }
        }
    }
    if (c->relu) {
        _Pragma("GCC unroll 24") for (int p = 0; p < pixels; p++)
        {
            _Pragma("GCC unroll 4") for (int v = 0; v < vectors; v++)
            {
                sums[p][v] = FLOAT_OP(relu)(sums[p][v]);
            }
        }
    }
    _Pragma("GCC unroll 24") for (int p = 0; p < pixels; p++)
    {
        _Pragma("GCC unroll 4") for (int v = 0; v < vectors; v++)
        {
            FLOAT_OP(store)(out + (size_t)p * c->sums_step + v * FLOAT_LANES, sums[p][v]);
        }
    }
}

/* Each size of a tile has its own function, so that the compiler allocates registers for each
 * separately. The tables have no entry for a size that is never used. */
#define PIXELS_FITS(p, v) ((v) <= PIXEL_VECTORS && (p) * (v) <= PIXEL_SUMS)
#define PIXELS_TILE(p, v) \
    static __attribute__((noinline)) void NAME(pixels_##p##_##v)(const struct pixels *call, \
                                                                 size_t first) \
    { \
        const struct pixels c = *call; /* a local copy cannot alias c.sums */ \
        NAME(pixels_tile)(&c, first, PIXELS_FITS(p, v) ? p : 1, PIXELS_FITS(p, v) ? v : 1); \
    }
#define PIXELS_EACH_SIZE(row) \
    row(1, 1) row(2, 1) row(3, 1) row(4, 1) row(5, 1) row(6, 1) row(7, 1) row(8, 1) row(9, 1) \
        row(10, 1) row(11, 1) row(12, 1) row(1, 2) row(2, 2) row(3, 2) row(4, 2) row(5, 2) \
            row(6, 2) row(7, 2) row(8, 2) row(9, 2) row(10, 2) row(11, 2) row(12, 2) row(1, 3) \
                row(2, 3) row(3, 3) row(4, 3) row(5, 3) row(6, 3) row(7, 3) row(8, 3) row(1, 4) \
                    row(2, 4) row(3, 4) row(4, 4) row(5, 4) row(6, 4)
PIXELS_EACH_SIZE(PIXELS_TILE)

enum { NAME(MOST_PIXELS) = 12 };

/* Prefetches rows [first, end) of c->prefetch. */
INLINE void NAME(prefetch_rows)(const struct pixels *c, size_t first, size_t end)
{
    enum { LINE = 64 };
    for (size_t r = first; r < end; r++) {
        const char *row = (const char *)c->prefetch + r * c->prefetch_step * sizeof(FLOAT_TYPE);
        for (size_t at = 0; at < c->prefetch_bytes; at += LINE) {
            __builtin_prefetch(row + at, 1, 2); /* to L2: L1 holds the weights */
        }
    }
}

static void NAME(pixels)(const struct pixels *c)
{
#define PIXELS_ENTRY(p, v) [v - 1][p - 1] = NAME(pixels_##p##_##v),
    static void (*const by_size[4][NAME(MOST_PIXELS)])(const struct pixels *,
                                                       size_t) = {PIXELS_EACH_SIZE(PIXELS_ENTRY)};
    const size_t fit = PIXEL_SUMS / c->vectors,
                 most = fit < NAME(MOST_PIXELS) ? fit : NAME(MOST_PIXELS),
                 tiles = (c->pixels + most - 1) / most;
    /* Tiles are as even as possible: 7 pixels are divided into 4 and 3, not 6 and 1. */
    for (size_t i = 0; i < tiles; i++) {
        const size_t first = i * c->pixels / tiles, end = (i + 1) * c->pixels / tiles;
        NAME(prefetch_rows)(c, i * c->prefetch_rows / tiles, (i + 1) * c->prefetch_rows / tiles);
        by_size[c->vectors - 1][end - first - 1](c, first);
    }
}

#undef PIXELS_ENTRY
#undef PIXELS_EACH_SIZE
#undef PIXELS_TILE
#undef PIXELS_FITS
