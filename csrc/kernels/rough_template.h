/* The kernels of rough cosines: see rough_kernels.h. */
#include "kernels/rough_kernels.h"

_Static_assert(VF_LANES == ROUGH_ROWS && 2 * VF_LANES == ROUGH_COLUMNS,
               "a vector holds one number of each row, and two vectors one of each column");

enum { ROUGH_STEP = 2 * VF_LANES };

/* Adds the squares of ROUGH_STEP elements to the two sums. */
INLINE void rough_squares(vf sums[2], const float *x)
{
    const vf a = vf_load(x), b = vf_load(x + VF_LANES);
    sums[0] = vf_fma(a, a, sums[0]);
    sums[1] = vf_fma(b, b, sums[1]);
}

/* Writes the codes of ROUGH_STEP elements. */
INLINE void rough_encode(int16_t *codes, const float *x, vf factor)
{
    vf_store_i16(codes, vf_mul(vf_load(x), factor), vf_mul(vf_load(x + VF_LANES), factor));
}

static unsigned rough_codes(int16_t *codes, const void *x, ptrdiff_t step, size_t rows, size_t n,
                            double eps)
{
    vf sums[ROUGH_ROWS];
    float factors[ROUGH_ROWS], last[ROUGH_STEP] = {0};
    const float least = (float)(eps < 0x1p100 ? eps : 0x1p100);
    const size_t whole = n / ROUGH_STEP * ROUGH_STEP, length = rough_length(n);
    for (size_t r = 0; r < ROUGH_ROWS; r++) {
        const float *row = (const float *)((const char *)x + (ptrdiff_t)(r < rows ? r : 0) * step);
        vf squares[2] = {vf_set1(0.0f), vf_set1(0.0f)};
        for (size_t k = 0; k < whole; k += ROUGH_STEP) {
            rough_squares(squares, row + k);
        }
        if (whole < n) {
            memcpy(last, row + whole, (n - whole) * sizeof *last);
            rough_squares(squares, last);
        }
        sums[r] = vf_add(squares[0], squares[1]);
    }
    const vf squares = vf_row_sums(sums);
    const unsigned inside =
        vf_below(vf_set1(0x1p-79f), squares) & vf_below(squares, vf_set1(0x1p79f));
    vf_store(factors, squares);
    for (size_t r = 0; r < ROUGH_ROWS; r++) {
        const float norm = sqrtf(factors[r]);
        factors[r] = ROUGH_UNIT / (norm > least ? norm : least);
    }
    for (size_t r = 0; r < rows; r++, codes += length) {
        const float *row = (const float *)((const char *)x + (ptrdiff_t)r * step);
        const vf factor = vf_set1(factors[r]);
        for (size_t k = 0; k < whole; k += ROUGH_STEP) {
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
    enum { ROWS = ROUGH_ROWS / 2 };
    const size_t length = rough_length(n);
    for (size_t first = 0; first < ROUGH_ROWS; first += ROWS, codes += ROWS * length) {
        const int16_t *column = panel;
        vi sums[ROWS][2];
        _Pragma("GCC unroll 8") for (int r = 0; r < ROWS; r++)
        {
            sums[r][0] = sums[r][1] = vi_zero();
        }
        for (size_t k = 0; k < length; k += 4) {
            if (next != NULL) { /* ROWS * 4 floats: two cache lines to the L1 cache, one to L2 */
                __builtin_prefetch(next);
                __builtin_prefetch(next + 64);
                __builtin_prefetch(next + ROUGH_AHEAD, 0, 2);
                next += ROWS * 4 * sizeof(float);
            }
            _Pragma("GCC unroll 2") for (size_t i = 0; i < 4; i += 2, column += 2 * ROUGH_COLUMNS)
            {
                const vc low = vc_load(column), high = vc_load(column + ROUGH_COLUMNS);
                _Pragma("GCC unroll 8") for (int r = 0; r < ROWS; r++)
                {
                    const vc code = vc_broadcast(codes + (size_t)r * length + k + i);
                    sums[r][0] = vi_dot_i16(sums[r][0], code, low);
                    sums[r][1] = vi_dot_i16(sums[r][1], code, high);
                }
            }
        }
        _Pragma("GCC unroll 8") for (int r = 0; r < ROWS; r++, scores += ROUGH_COLUMNS)
        {
            vi_store(scores, sums[r][0]);
            vi_store(scores + VF_LANES, sums[r][1]);
        }
    }
}

static void rough_near(uint8_t *near, int32_t *largest, const int32_t *scores, size_t rows,
                       int32_t margin)
{
    vi low = vi_load(largest), high = vi_load(largest + VF_LANES);
    for (size_t r = 0; r < rows; r++) {
        low = vi_max(low, vi_load(scores + r * ROUGH_COLUMNS));
        high = vi_max(high, vi_load(scores + r * ROUGH_COLUMNS + VF_LANES));
    }
    vi_store(largest, low);
    vi_store(largest + VF_LANES, high);
    int32_t bounds[ROUGH_COLUMNS];
    for (size_t c = 0; c < ROUGH_COLUMNS; c++) {
        bounds[c] = largest[c] - margin;
    }
    low = vi_load(bounds);
    high = vi_load(bounds + VF_LANES);
    for (size_t r = 0; r < rows; r++, scores += ROUGH_COLUMNS) {
        const unsigned found =
            vi_at_least(vi_load(scores), low) | vi_at_least(vi_load(scores + VF_LANES), high);
        near[r] |= (found != 0) | (scores[0] == ROUGH_NONE);
    }
}
