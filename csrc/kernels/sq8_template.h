/*
 * The SQ8 kernels of the prefilter. They quantize rows, compute dot products of codes, and select
 * the rows that can reach a threshold. kernels.h has their contracts.
 */

/* Elements that are quantized at a time. */
enum { QUANTIZE_STEP = 4 * VF_LANES };

/* Loads QUANTIZE_STEP elements of a row, from element k on. The row has n elements; 0 follows them.
 */
INLINE void quantize_load(vf a[4], const float *x, size_t k, size_t n)
{
    float last[QUANTIZE_STEP];
    if (n - k < QUANTIZE_STEP) {
        memset(last, 0, sizeof last);
        memcpy(last, x + k, (n - k) * sizeof *x);
        x = last;
        k = 0;
    }
    for (int i = 0; i < 4; i++) {
        a[i] = vf_load(x + k + i * VF_LANES);
    }
}

/* Computes the largest magnitude and the sum of squares of n elements. */
INLINE void quantize_range(float *largest, float *square, const float *x, size_t n)
{
    vf highest[4], lowest[4], squares[4], a[4];
    float lanes[3][VF_LANES];
    for (int i = 0; i < 4; i++) {
        highest[i] = lowest[i] = squares[i] = vf_set1(0.0f);
    }
    for (size_t k = 0; k < n; k += QUANTIZE_STEP) {
        quantize_load(a, x, k, n);
        for (size_t line = 0; line < QUANTIZE_STEP * sizeof *x; line += 64) {
            __builtin_prefetch((const char *)(x + k) + QUANTIZE_PREFETCH + line);
        }
        for (int i = 0; i < 4; i++) {
            highest[i] = vf_max(highest[i], a[i]);
            lowest[i] = vf_min(lowest[i], a[i]);
            squares[i] = vf_fma(a[i], a[i], squares[i]);
        }
    }
    vf_store(lanes[0], vf_max(vf_max(highest[0], highest[1]), vf_max(highest[2], highest[3])));
    vf_store(lanes[1], vf_min(vf_min(lowest[0], lowest[1]), vf_min(lowest[2], lowest[3])));
    vf_store(lanes[2], vf_add(vf_add(squares[0], squares[1]), vf_add(squares[2], squares[3])));
    *largest = 0.0f;
    for (int i = 0; i < VF_LANES; i++) {
        *largest = lanes[0][i] > *largest ? lanes[0][i] : *largest;
        *largest = -lanes[1][i] > *largest ? -lanes[1][i] : *largest;
    }
    *square = horizontal_sum(lanes[2]);
}

static float quantize(uint8_t *codes, struct code_scale *scale, const float *x, size_t n)
{
    float largest, square, lanes[VF_LANES], total;
    quantize_range(&largest, &square, x, n);
    const float norm = sqrtf(square), inverse_norm = square > 0.0f ? 1.0f / norm : 0.0f,
                step = largest * inverse_norm / (CODE_ZERO - 1);
    const vf to_code = vf_set1(largest > 0.0f ? (CODE_ZERO - 1) / largest : 0.0f),
             to_unit = vf_set1(inverse_norm), minus_step = vf_set1(-step);
    vf squares[4], a[4];
    for (int i = 0; i < 4; i++) {
        squares[i] = vf_set1(0.0f);
    }
    for (size_t k = 0; k < n; k += QUANTIZE_STEP) {
        quantize_load(a, x, k, n);
        for (int i = 0; i < 4; i++) {
            const vf code = vf_round(vf_mul(a[i], to_code)),
                     residual = vf_fma(minus_step, code, vf_mul(a[i], to_unit));
            squares[i] = vf_fma(residual, residual, squares[i]);
            a[i] = code;
        }
        if (n - k >= QUANTIZE_STEP) {
            vf_store_codes(codes + k, a);
        } else {
            uint8_t last[QUANTIZE_STEP];
            vf_store_codes(last, a);
            memcpy(codes + k, last, n - k);
        }
    }
    vf_store(lanes, vf_add(vf_add(squares[0], squares[1]), vf_add(squares[2], squares[3])));
    total = horizontal_sum(lanes);
    /*
     * COARSE_DOT_ERROR covers the rounding of the sums and of inverse_norm. 2^-20 covers the
     * rounding of each term. If the row holds NaN or infinity, the bound is infinity.
     */
    const float error = (float)COARSE_DOT_ERROR(n) + 0x1p-20f,
                residual_norm = sqrtf(total) * (1.0f + error) + norm * inverse_norm * error;
    *scale = residual_norm < 2.0f && step < 2.0f ? (struct code_scale){step, residual_norm}
                                                 : (struct code_scale){0.0f, INFINITY};
    return square;
}

#define SQ8_TYPE u8
#define SQ8_BYTES vc_u8
#define SQ8_MAGNITUDES(bytes) (bytes)
#include "kernels/sq8_dots_template.h"

#define SQ8_TYPE i8
#define SQ8_BYTES vc_i8
#define SQ8_MAGNITUDES vc_magnitudes
#include "kernels/sq8_dots_template.h"

static void sq8_row_dots_u8(int32_t *dots, const uint8_t *codes, const int8_t *const *queries,
                            size_t count, size_t n)
{
    for (size_t q = 0; q < count; q++) {
        int32_t lanes[VF_LANES], total = 0;
        vi sums;
        sq8_dot_block_u8(&sums, &codes, 1, queries + q, 1, false, n, SQ8_PREFETCH);
        vi_store(lanes, sums);
        for (int i = 0; i < VF_LANES; i++) {
            total += lanes[i];
        }
        dots[q] = total;
    }
}

static bool sq8_select(uint8_t *keep, const int32_t *dots, const struct row_bounds *bounds,
                       size_t rows, const struct query_bound *query, float threshold)
{
    const struct row_bounds b = *bounds;
    const struct query_bound q = *query;
    unsigned any = 0;
    for (size_t r = 0; r < rows; r++) {
        const float errors = b.residual[r] * q.norm + b.norm[r] * q.residual + b.tail[r] * q.tail,
                    bound = (float)(dots[r] + q.offset) * (b.scale[r] * q.scale) + errors;
        const uint8_t kept = !(bound < threshold);
        keep[r] = kept;
        any |= kept;
    }
    return any != 0;
}

const struct sq8_kernels PASTE(sq8_kernels_, ISA_NAME) = {
    .query_code_max = QUERY_CODE_MAX,
    .u8_offset = U8_OFFSET,
    .i8_offset = I8_OFFSET,
    .panel_lanes = VF_LANES,
    .panel_queries = SQ8_PANEL_VECTORS * VF_LANES,
    .quantize = quantize,
    .dots_u8 = sq8_dots_u8,
    .dots_i8 = sq8_dots_i8,
    .row_dots_u8 = sq8_row_dots_u8,
    .panel_u8 = sq8_panel_u8,
    .panel_i8 = sq8_panel_i8,
    .select = sq8_select,
};

#undef SQ8_LANES
#undef QUERY_CODE_MAX
#undef U8_OFFSET
#undef I8_OFFSET
