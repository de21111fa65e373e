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

/* Returns the sum of all lanes of four vectors. */
INLINE float sum_of_four(const vf a[4])
{
    float lanes[VF_LANES];
    vf_store(lanes, vf_add(vf_add(a[0], a[1]), vf_add(a[2], a[3])));
    return horizontal_sum(lanes);
}

/* Computes the largest magnitude and the sum of squares of n elements. */
INLINE void quantize_range(float *largest, float *square, const float *x, size_t n)
{
    vf highest[4], lowest[4], squares[4], a[4];
    float lanes[2][VF_LANES];
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
    *largest = 0.0f;
    for (int i = 0; i < VF_LANES; i++) {
        *largest = lanes[0][i] > *largest ? lanes[0][i] : *largest;
        *largest = -lanes[1][i] > *largest ? -lanes[1][i] : *largest;
    }
    *square = sum_of_four(squares);
}

/* quantize_kernel. with_halves is a compile-time constant: true if half_residual is not NULL. */
INLINE float quantize_row(uint8_t *codes, struct code_scale *scale, float *half_residual,
                          const float *x, size_t n, const bool with_halves)
{
    float largest, square;
    quantize_range(&largest, &square, x, n);
    const float norm = sqrtf(square), inverse_norm = square > 0.0f ? 1.0f / norm : 0.0f,
                step = largest * inverse_norm / (CODE_ZERO - 1);
    const vf to_code = vf_set1(largest > 0.0f ? (CODE_ZERO - 1) / largest : 0.0f),
             to_unit = vf_set1(inverse_norm), minus_step = vf_set1(-step);
    vf squares[4], half_squares[4], a[4], rest[4];
    for (int i = 0; i < 4; i++) {
        squares[i] = half_squares[i] = vf_set1(0.0f);
    }
    for (size_t k = 0; k < n; k += QUANTIZE_STEP) {
        quantize_load(a, x, k, n);
        for (int i = 0; i < 4; i++) {
            const vf unit = vf_mul(a[i], to_unit), code = vf_round(vf_mul(a[i], to_code)),
                     residual = vf_fma(minus_step, code, unit);
            squares[i] = vf_fma(residual, residual, squares[i]);
            if (with_halves) { /* the largest multiple of 16 that is not above the code, plus 8 */
                const vf upper = vf_round(vf_fma(code, vf_set1(1.0f / 16), vf_set1(-7.5f / 16)));
                rest[i] = vf_fma(minus_step, vf_fma(upper, vf_set1(16.0f), vf_set1(8.0f)), unit);
            }
            a[i] = code;
        }
        if (with_halves && n - k < QUANTIZE_STEP) { /* elements from n on have no residual */
            float rests[QUANTIZE_STEP];
            for (int i = 0; i < 4; i++) {
                vf_store(rests + i * VF_LANES, rest[i]);
            }
            memset(rests + (n - k), 0, (QUANTIZE_STEP - (n - k)) * sizeof *rests);
            for (int i = 0; i < 4; i++) {
                rest[i] = vf_load(rests + i * VF_LANES);
            }
        }
        for (int i = 0; i < 4 && with_halves; i++) {
            half_squares[i] = vf_fma(rest[i], rest[i], half_squares[i]);
        }
        if (n - k >= QUANTIZE_STEP) {
            vf_store_codes(codes + k, a);
        } else {
            uint8_t last[QUANTIZE_STEP];
            vf_store_codes(last, a);
            memcpy(codes + k, last, n - k);
        }
    }
    /*
     * COARSE_DOT_ERROR covers the rounding of the sums and of inverse_norm. 2^-20 covers the
     * rounding of each term. If the row holds NaN or infinity, the bound is infinity.
     */
    const float error = (float)COARSE_DOT_ERROR(n) + 0x1p-20f,
                rounding = norm * inverse_norm * error,
                residual_norm = sqrtf(sum_of_four(squares)) * (1.0f + error) + rounding;
    *scale = residual_norm < 2.0f && step < 2.0f ? (struct code_scale){step, residual_norm}
                                                 : (struct code_scale){0.0f, INFINITY};
    if (with_halves) {
        *half_residual = sqrtf(sum_of_four(half_squares)) * (1.0f + error) + rounding;
    }
    return square;
}

static float quantize(uint8_t *codes, struct code_scale *scale, float *half_residual,
                      const float *x, size_t n)
{
    return half_residual == NULL ? quantize_row(codes, scale, NULL, x, n, false)
                                 : quantize_row(codes, scale, half_residual, x, n, true);
}

/* Compilers vectorize the loops of both functions. */
static void split_halves(uint8_t *restrict upper, uint8_t *restrict lower,
                         const uint8_t *restrict codes, size_t n)
{
    const size_t bytes = HALF_BYTES(n);
    for (size_t i = 0; i < n - bytes; i++) {
        const uint8_t a = codes[i], b = codes[bytes + i];
        upper[i] = (uint8_t)(a >> 4 | (b & 0xf0));
        lower[i] = (uint8_t)((a & 0x0f) | b << 4);
    }
    if (n % 2 != 0) {
        upper[bytes - 1] = codes[bytes - 1] >> 4;
        lower[bytes - 1] = codes[bytes - 1] & 0x0f;
    }
}

static void join_halves(uint8_t *restrict codes, const uint8_t *restrict upper,
                        const uint8_t *restrict lower, size_t n)
{
    const size_t bytes = HALF_BYTES(n);
    uint8_t *restrict second = codes + bytes;
    for (size_t i = 0; i < n - bytes; i++) {
        codes[i] = (uint8_t)(upper[i] << 4 | (lower[i] & 0x0f));
        second[i] = (uint8_t)((upper[i] & 0xf0) | lower[i] >> 4);
    }
    if (n % 2 != 0) {
        codes[bytes - 1] = (uint8_t)(upper[bytes - 1] << 4 | lower[bytes - 1]);
    }
}

/* Compares the bounds of row r and the queries of a panel, whose sums of products are in `vectors`
 * vectors. Bit q of the result is 1 if the bound of query q is below both thresholds. */
INLINE uint32_t panel_below(const vi *sums, const struct sq8_rows *rows, size_t r,
                            const struct sq8_panel *panel, const float *thresholds,
                            const int vectors)
{
    const struct row_bounds *b = &rows->bounds;
    const vf scale = vf_set1(b->scale[r]), norm = vf_set1(b->norm[r]),
             residual = vf_set1(b->residual[r]), tail = vf_set1(b->tail[r]),
             threshold = vf_set1(rows->thresholds[r]);
    uint32_t below = 0;
    _Pragma("GCC unroll 4") for (int v = 0; v < vectors; v++)
    {
        const int q = v * VF_LANES;
        const vf errors = vf_fma(
            residual, vf_load(panel->norm + q),
            vf_fma(norm, vf_load(panel->residual + q), vf_mul(tail, vf_load(panel->tail + q))));
        const vf bound =
            vf_fma(vf_from_i32(sums[v]), vf_mul(scale, vf_load(panel->scale + q)), errors);
        below |= vf_below(bound, vf_min(threshold, vf_load(thresholds + q))) << q;
    }
    return below;
}

/* Returns row r. */
INLINE const uint8_t *sq8_row(const struct sq8_rows *rows, size_t r)
{
    const size_t number = rows->numbers == NULL ? r : rows->numbers[r];
    return rows->codes + (ptrdiff_t)number * rows->step;
}

/* Returns the row to prefetch while the row `distance` rows before is read, for rows that do not
 * follow one another in memory. */
INLINE const uint8_t *sq8_row_ahead(const struct sq8_rows *rows, size_t r, size_t distance)
{
    const size_t ahead = r + distance, end = rows->count + rows->more_numbers;
    return sq8_row(rows, ahead < end ? ahead : end - 1);
}

#define SQ8_TYPE u8
#define SQ8_BYTES vc_u8
#define SQ8_MAGNITUDES(bytes) (bytes)
#include "kernels/sq8_dots_template.h"

#define SQ8_TYPE i8
#define SQ8_BYTES vc_i8
#define SQ8_MAGNITUDES vc_magnitudes
#include "kernels/sq8_dots_template.h"

#define SQ8_TYPE halves
#define SQ8_BYTES vc_low_halves
#define SQ8_UPPER vc_high_halves
#define SQ8_MAGNITUDES(bytes) (bytes)
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

/*
 * Computes the dot products of one query with ascending rows that have gaps: on average, less than
 * HALF_DENSE rows of memory for each. All are read: memory in order is faster than single rows.
 */
static void half_dots_of_dense(int32_t *dots, const struct sq8_rows *rows,
                               const int8_t *const *query)
{
    enum { PIECE = 64 };
    const size_t *numbers = rows->numbers, end = numbers[rows->count - 1] + 1;
    int32_t products[PIECE];
    struct sq8_rows piece = *rows;
    piece.numbers = NULL;
    for (size_t first = numbers[0], r = 0; first < end; first += PIECE) {
        piece.codes = rows->codes + (ptrdiff_t)first * rows->step;
        piece.count = end - first < PIECE ? end - first : PIECE;
        sq8_dot_rows_halves(products, PIECE, NULL, &piece, query, 1, false);
        for (; r < rows->count && numbers[r] < first + PIECE; r++) {
            dots[r] = products[numbers[r] - first];
        }
    }
}

static bool is_dense(const struct sq8_rows *rows)
{
    return rows->numbers[rows->count - 1] - rows->numbers[0] < HALF_DENSE * rows->count;
}

static void half_dots(int32_t *dots, size_t step, const struct sq8_rows *rows,
                      const int8_t *const *queries, size_t count)
{
    if (count == 1 && rows->numbers != NULL && rows->count > 0 && is_dense(rows)) {
        half_dots_of_dense(dots, rows, queries);
    } else if (count == 1) {
        sq8_dot_rows_halves(dots, step, NULL, rows, queries, 1, false);
    } else {
        sq8_dot_rows_halves(dots, step, NULL, rows, queries, SQ8_QUERIES, false);
    }
}

/*
 * half_panel multiplies HALF_ROWS rows side by side with HALF_QUERIES queries at a time, whose sums
 * fill VF_LANES vectors. With two rows, each vector of factors is loaded once for both. That is
 * faster where a dot product is one instruction, because then loads take the most time.
 */
#ifdef SIMD_VNNI
enum { HALF_ROWS = 2 };
#else
enum { HALF_ROWS = 1 };
#endif
enum { HALF_QUERIES = VF_LANES / HALF_ROWS };

/*
 * Joins SQ8_LANES bytes of the halves of HALF_ROWS rows and adds the products of the codes with
 * those of HALF_QUERIES queries, which are at `factors`: row r and query q to
 * sums[r * HALF_QUERIES + q]. The upper halves of row r are at upper[r] + k, the lower ones at
 * upper[r] + to_lower + k.
 */
INLINE void half_panel_products(vi sums[VF_LANES], const uint8_t *const *upper, ptrdiff_t to_lower,
                                size_t k, const int8_t *factors)
{
    vc low[HALF_ROWS], high[HALF_ROWS];
    for (int r = 0; r < HALF_ROWS; r++) {
        const vc a = vc_load(upper[r] + k), b = vc_load(upper[r] + to_lower + k);
        low[r] = vc_u8(vc_join_low_halves(a, b));
        high[r] = vc_u8(vc_join_high_halves(a, b));
    }
    _Pragma("GCC unroll 16") for (int q = 0; q < HALF_QUERIES; q++)
    {
        const vc a = vc_load(factors + q * SQ8_LANES),
                 b = vc_load(factors + (VF_LANES + q) * SQ8_LANES);
        for (int r = 0; r < HALF_ROWS; r++) {
            vi *sum = sums + r * HALF_QUERIES + q;
            *sum = vi_dot_codes(vi_dot_codes(*sum, low[r], a), high[r], b);
        }
    }
}

/* Computes the products of HALF_ROWS rows from row r on with the queries of a panel, one vector for
 * each row. The sums of query q begin with those at offsets + q * VF_LANES. */
INLINE void half_panel_dots(vi dots[HALF_ROWS], const int32_t *offsets, const struct sq8_rows *rows,
                            size_t r, const struct sq8_panel *panel)
{
    const size_t bytes = HALF_BYTES(rows->n);
    const ptrdiff_t to_lower = rows->halves[1] - rows->halves[0];
    const uint8_t *upper[HALF_ROWS];
    ptrdiff_t ahead[HALF_ROWS];
    vi groups[HALF_ROWS];                    /* sums of all rows with HALF_QUERIES queries each */
    for (size_t i = 0; i < HALF_ROWS; i++) { /* a row beyond the end repeats the last one */
        const size_t number = r + i < rows->count ? r + i : r;
        upper[i] = sq8_row(rows, number);
        ahead[i] = rows->numbers == NULL ? HALF_PANEL_PREFETCH
                                         : sq8_row_ahead(rows, number, HALF_ROWS_AHEAD) - upper[i];
        groups[i] = vi_zero();
    }
    for (size_t q = 0; q < VF_LANES && q < panel->queries; q += HALF_QUERIES) {
        const int8_t *factors = panel->codes + q * SQ8_LANES;
        vi sums[VF_LANES];
        size_t k = 0;
        _Pragma("GCC unroll 16") for (size_t i = 0; i < VF_LANES; i++)
        {
            sums[i] = vi_load(offsets + (q + i % HALF_QUERIES) * VF_LANES);
        }
        for (; bytes - k >= SQ8_LANES; k += SQ8_LANES, factors += 2 * VF_LANES * SQ8_LANES) {
            for (int i = 0; i < HALF_ROWS; i++) {
                __builtin_prefetch(upper[i] + ahead[i] + k);
                __builtin_prefetch(upper[i] + ahead[i] + to_lower + k);
            }
            half_panel_products(sums, upper, to_lower, k, factors);
        }
        if (k < bytes) {
            uint8_t last[2 * HALF_ROWS][SQ8_LANES] = {{0}};
            const uint8_t *of_last[HALF_ROWS];
            for (int i = 0; i < HALF_ROWS; i++) {
                of_last[i] = memcpy(last[i], upper[i] + k, bytes - k);
                memcpy(last[HALF_ROWS + i], upper[i] + to_lower + k, bytes - k);
            }
            half_panel_products(sums, of_last, HALF_ROWS * SQ8_LANES, 0, factors);
        }
        groups[q / HALF_QUERIES] = vi_row_sums(sums);
    }
    dots[0] = groups[0];
    if (HALF_ROWS > 1) {
        dots[0] = vi_lower_halves(groups[0], groups[HALF_ROWS - 1]);
        dots[HALF_ROWS - 1] = vi_upper_halves(groups[0], groups[HALF_ROWS - 1]);
    }
}

static bool half_panel(uint32_t *keep, const struct sq8_rows *rows, const struct sq8_panel *panel,
                       const float *thresholds)
{
    const uint32_t valid = (1u << panel->queries) - 1;
    int32_t offsets[VF_LANES * VF_LANES] = {0};
    uint32_t any = 0;
    for (int q = 0; q < VF_LANES; q++) { /* one lane of a query's sums begins with its offset */
        offsets[q * VF_LANES] = panel->offset[q];
    }
    for (size_t r = 0; r < rows->count; r += HALF_ROWS) {
        vi dots[HALF_ROWS];
        half_panel_dots(dots, offsets, rows, r, panel);
        for (size_t i = 0; i < HALF_ROWS && r + i < rows->count; i++) {
            keep[r + i] = ~panel_below(dots + i, rows, r + i, panel, thresholds, 1) & valid;
            any |= keep[r + i];
        }
    }
    return any != 0;
}

static bool select_halves(uint8_t *keep, const int32_t *dots, const struct code_scale *rows,
                          size_t count, const struct query_bound *query, int32_t sum, float longest,
                          float threshold)
{
    const struct query_bound q = *query;
    const int32_t offset = q.offset + (8 + U8_OFFSET) * sum;
    unsigned any = 0;
    for (size_t r = 0; r < count; r++) {
        const float longest_norm = rows[r].scale * longest, residual = half_residual(rows + r),
                    norm = (longest_norm < 1.0f ? longest_norm : 1.0f) + residual,
                    bound = (float)(16 * dots[r] + offset) * (rows[r].scale * q.scale) +
                            (residual * q.norm + norm * q.residual);
        const uint8_t kept = !(bound < threshold);
        keep[r] = kept;
        any |= kept;
    }
    return any != 0;
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
    .panel_steps = PANEL_STEPS,
    .quantize = quantize,
    .dots_u8 = sq8_dots_u8,
    .dots_i8 = sq8_dots_i8,
    .row_dots_u8 = sq8_row_dots_u8,
    .split_halves = split_halves,
    .join_halves = join_halves,
    .half_dots = half_dots,
    .select_halves = select_halves,
    .panel_u8 = sq8_panel_u8,
    .panel_i8 = sq8_panel_i8,
    .half_panel = half_panel,
    .select = sq8_select,
};

#undef SQ8_LANES
#undef QUERY_CODE_MAX
#undef PANEL_STEPS
#undef U8_OFFSET
#undef I8_OFFSET
