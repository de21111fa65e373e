/* The kernels of rough cosines: see rough_kernels.h. */
#include "kernels/rough_kernels.h"

_Static_assert(ROUGH_ROWS % VF_LANES == 0 && ROUGH_COLUMNS % (2 * VF_LANES) == 0,
               "vectors hold one number of each row, and pairs of them one of each column");

/* rough_length is a multiple of ROUGH_PIECE. */
enum { ROUGH_PIECE = 32, ROUGH_VECTORS = ROUGH_PIECE / VF_LANES };

/* Adds the squares of ROUGH_PIECE elements to the sums. */
INLINE void rough_squares(vf sums[ROUGH_VECTORS], const float *x)
{
    _Pragma("GCC unroll 4") for (int v = 0; v < ROUGH_VECTORS; v++)
    {
        const vf a = vf_load(x + v * VF_LANES);
        sums[v] = vf_fma(a, a, sums[v]);
    }
}

/* Writes the codes of ROUGH_PIECE elements. */
INLINE void rough_encode(int16_t *codes, const float *x, vf factor)
{
    _Pragma("GCC unroll 4") for (int v = 0; v < ROUGH_PIECE; v += 2 * VF_LANES)
    {
        vf_store_i16(codes + v, vf_mul(vf_load(x + v), factor),
                     vf_mul(vf_load(x + v + VF_LANES), factor));
    }
}

static unsigned rough_codes(int16_t *codes, const void *x, ptrdiff_t step, size_t rows, size_t n,
                            double eps)
{
    vf sums[ROUGH_ROWS];
    float factors[ROUGH_ROWS], last[ROUGH_PIECE] = {0};
    const float least = (float)(eps < 0x1p100 ? eps : 0x1p100);
    const size_t whole = n / ROUGH_PIECE * ROUGH_PIECE, length = rough_length(n);
    for (size_t r = 0; r < ROUGH_ROWS; r++) {
        const float *row = (const float *)((const char *)x + (ptrdiff_t)(r < rows ? r : 0) * step);
        vf squares[ROUGH_VECTORS];
        for (int v = 0; v < ROUGH_VECTORS; v++) {
            squares[v] = vf_set1(0.0f);
        }
        for (size_t k = 0; k < whole; k += ROUGH_PIECE) {
            rough_squares(squares, row + k);
        }
        if (whole < n) {
            memcpy(last, row + whole, (n - whole) * sizeof *last);
            rough_squares(squares, last);
        }
        for (int v = 2; v < ROUGH_VECTORS; v++) {
            squares[v % 2] = vf_add(squares[v % 2], squares[v]);
        }
        sums[r] = vf_add(squares[0], squares[1]);
    }
    unsigned inside = 0;
    for (size_t r = 0; r < ROUGH_ROWS; r += VF_LANES) {
        const vf squares = vf_row_sums(sums + r);
        inside |= (vf_below(vf_set1(0x1p-79f), squares) & vf_below(squares, vf_set1(0x1p79f))) << r;
        vf_store(factors + r, squares);
    }
    for (size_t r = 0; r < ROUGH_ROWS; r++) {
        const float norm = sqrtf(factors[r]);
        factors[r] = ROUGH_UNIT / (norm > least ? norm : least);
    }
    for (size_t r = 0; r < rows; r++, codes += length) {
        const float *row = (const float *)((const char *)x + (ptrdiff_t)r * step);
        const vf factor = vf_set1(factors[r]);
        for (size_t k = 0; k < whole; k += ROUGH_PIECE) {
            rough_encode(codes + k, row + k, factor);
        }
        if (whole < n) {
            memcpy(last, row + whole, (n - whole) * sizeof *last);
            rough_encode(codes + whole, last, factor);
        }
    }
    return ~inside & ((1u << rows) - 1);
}

/* Bytes from the next rows to those that are prefetched into the L2 cache. Every second cache line
 * is enough: the processor's own prefetcher fetches the others. */
enum { ROUGH_AHEAD = 64 << 10 };

static void rough_dots(int32_t *scores, const int16_t *codes, const int16_t *panel, size_t n,
                       const char *next)
{
    /* A tile has ROWS rows and two vectors of columns. Its share of the rows to prefetch is two
     * cache lines for each STEP elements. */
    enum {
        ROWS = VF_LANES / 2,
        COLUMNS = 2 * VF_LANES,
        STEP = 32 / ROWS * (ROUGH_COLUMNS / COLUMNS)
    };
    const size_t length = rough_length(n);
    for (size_t tile = 0; tile < ROUGH_ROWS / ROWS * (ROUGH_COLUMNS / COLUMNS); tile++) {
        const size_t row = tile / (ROUGH_COLUMNS / COLUMNS) * ROWS,
                     first = tile % (ROUGH_COLUMNS / COLUMNS) * COLUMNS;
        const int16_t *code = codes + row * length, *column = panel + 2 * first;
        vi sums[ROWS][2];
        _Pragma("GCC unroll 8") for (int r = 0; r < ROWS; r++)
        {
            sums[r][0] = sums[r][1] = vi_zero();
        }
        for (size_t k = 0; k < length; k += STEP) {
            if (next != NULL) { /* two cache lines to the L1 cache, one to L2 */
                __builtin_prefetch(next);
                __builtin_prefetch(next + 64);
                __builtin_prefetch(next + ROUGH_AHEAD, 0, 2);
                next += 128;
            }
            _Pragma("GCC unroll 2") for (size_t i = 0; i < STEP;
                                         i += 2, column += 2 * ROUGH_COLUMNS)
            {
                const vc low = vc_load(column), high = vc_load(column + COLUMNS);
                _Pragma("GCC unroll 8") for (int r = 0; r < ROWS; r++)
                {
                    const vc both = vc_broadcast(code + (size_t)r * length + k + i);
                    sums[r][0] = vi_dot_i16(sums[r][0], both, low);
                    sums[r][1] = vi_dot_i16(sums[r][1], both, high);
                }
            }
        }
        int32_t *to = scores + row * ROUGH_COLUMNS + first;
        _Pragma("GCC unroll 8") for (int r = 0; r < ROWS; r++, to += ROUGH_COLUMNS)
        {
            vi_store(to, sums[r][0]);
            vi_store(to + VF_LANES, sums[r][1]);
        }
    }
}

static void rough_near(uint8_t *near, int32_t *largest, const int32_t *scores, size_t rows,
                       int32_t margin)
{
    enum { VECTORS = ROUGH_COLUMNS / VF_LANES };
    vi bounds[VECTORS];
    for (int v = 0; v < VECTORS; v++) {
        int32_t *const at = largest + v * VF_LANES;
        bounds[v] = vi_load(at);
        for (size_t r = 0; r < rows; r++) {
            bounds[v] = vi_max(bounds[v], vi_load(scores + r * ROUGH_COLUMNS + v * VF_LANES));
        }
        vi_store(at, bounds[v]);
        int32_t lowest[VF_LANES];
        for (int i = 0; i < VF_LANES; i++) {
            lowest[i] = at[i] - margin;
        }
        bounds[v] = vi_load(lowest);
    }
    for (size_t r = 0; r < rows; r++, scores += ROUGH_COLUMNS) {
        unsigned found = scores[0] == ROUGH_NONE;
        for (int v = 0; v < VECTORS; v++) {
            found |= vi_at_least(vi_load(scores + v * VF_LANES), bounds[v]);
        }
        near[r] |= found != 0;
    }
}
