/*
 * The SQ8 kernels of the prefilter. They quantize rows, compute dot products of codes, and select
 * the rows that can reach a threshold. kernels.h has their contracts.
 */

/* Elements that are quantized at a time. */
enum { QUANTIZE_STEP = 4 * VF_LANES };

/* Loads QUANTIZE_STEP elements of a row, from element k on. Elements from n on count as 0. */
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

static float quantize(uint8_t *codes, struct code_scale *scale, const float *x, float eps, size_t n)
{
    float largest, square, lanes[VF_LANES], total;
    quantize_range(&largest, &square, x, n);
    const float norm = (float)eps_clamp(sqrtf(square), eps), inverse_norm = 1.0f / norm,
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
    const float residual_norm =
        sqrtf(total) * (float)(1.0 + COARSE_DOT_ERROR(n)) + (float)COARSE_DOT_ERROR(n) + 0x1p-20f;
    *scale = residual_norm < 2.0f && step < 2.0f ? (struct code_scale){step, residual_norm}
                                                 : (struct code_scale){0.0f, INFINITY};
    return square;
}

/*
 * Computes the dot products of row_count rows and `count` queries. lanes[q * row_count + r] gets
 * the partial sums of query q and row r.
 */
INLINE void sq8_dot_block(vi *lanes, const uint8_t *const *rows, const int row_count,
                          const query_code *const *queries, const int count, size_t n)
{
    size_t k = 0;
    _Pragma("GCC unroll 16") for (int i = 0; i < row_count * count; i++)
    {
        lanes[i] = vi_zero();
    }
    for (; n - k >= SQ8_LANES; k += SQ8_LANES) {
        vc query[SQ8_QUERIES];
        _Pragma("GCC unroll 4") for (int q = 0; q < count; q++)
        {
            query[q] = vc_load_query_codes(queries[q] + k);
        }
        _Pragma("GCC unroll 16") for (int r = 0; r < row_count; r++)
        {
            const vc codes = vc_load_codes(rows[r] + k);
            if (count == 1) { /* with more queries, the codes are mostly in the cache */
                __builtin_prefetch(rows[r] + k + SQ8_PREFETCH);
            }
            _Pragma("GCC unroll 4") for (int q = 0; q < count; q++)
            {
                lanes[q * row_count + r] = vi_dot_codes(lanes[q * row_count + r], codes, query[q]);
            }
        }
    }
    if (k < n) {
        uint8_t last[SQ8_LANES] = {0};
        _Pragma("GCC unroll 16") for (int r = 0; r < row_count; r++)
        {
            memcpy(last, rows[r] + k, n - k);
            const vc codes = vc_load_codes(last);
            _Pragma("GCC unroll 4") for (int q = 0; q < count; q++)
            {
                lanes[q * row_count + r] = vi_dot_codes(lanes[q * row_count + r], codes,
                                                        vc_load_query_codes(queries[q] + k));
            }
        }
    }
}

/*
 * sq8_dots_kernel for a compile-time constant `count`. A single query reads VF_LANES rows one after
 * another, because sequential reads from memory are fastest. With several queries, SQ8_ROWS rows
 * are read side by side, and each vector of codes is used for all queries.
 */
INLINE void sq8_dot_rows(int32_t *dots, size_t step, const uint8_t *codes, size_t code_step,
                         size_t rows, const query_code *const *queries, const int count, size_t n)
{
    const size_t block_rows = count == 1 ? VF_LANES : SQ8_ROWS;
    for (size_t r = 0, valid; r < rows; r += block_rows) {
        const uint8_t *row[16];
        vi lanes[16];
        int32_t totals[16];
        valid = rows - r < block_rows ? rows - r : block_rows;
        for (size_t i = 0; i < block_rows; i++) { /* rows beyond the end repeat the last one */
            row[i] = codes + (r + (i < valid ? i : valid - 1)) * code_step;
        }
        if (count == 1) {
            for (size_t i = 0; i < block_rows; i++) {
                sq8_dot_block(lanes + i, row + i, 1, queries, 1, n);
            }
        } else {
            sq8_dot_block(lanes, row, SQ8_ROWS, queries, count, n);
        }
        for (size_t i = 0; i < block_rows * (size_t)count; i += VF_LANES) {
            vi_store(totals + i, vi_row_sums(lanes + i));
        }
        if (valid == block_rows) {
            _Pragma("GCC unroll 4") for (size_t q = 0; q < (size_t)count; q++)
            {
                memcpy(dots + q * step + r, totals + q * block_rows, block_rows * sizeof *dots);
            }
        } else {
            for (size_t q = 0; q < (size_t)count; q++) {
                memcpy(dots + q * step + r, totals + q * block_rows, valid * sizeof *dots);
            }
        }
    }
}

static void sq8_dots(int32_t *dots, size_t step, const uint8_t *codes, size_t code_step,
                     size_t rows, const void *const *queries_void, size_t count, size_t n)
{
    _Static_assert(SQ8_ROWS * SQ8_QUERIES % VF_LANES == 0 && SQ8_ROWS * SQ8_QUERIES <= 16 &&
                       VF_LANES <= 16 && SQ8_PADDING % SQ8_LANES == 0 &&
                       (int64_t)QUERY_CODE_MAX * UINT8_MAX * SQ8_MAX_DEPTH <= INT32_MAX,
                   "sq8_dots relies on these bounds");
    const query_code *queries[SQ8_QUERIES];
    for (int q = 0; q < SQ8_QUERIES; q++) {
        queries[q] = queries_void[q];
    }
    if (count == 1) {
        sq8_dot_rows(dots, step, codes, code_step, rows, queries, 1, n);
    } else {
        sq8_dot_rows(dots, step, codes, code_step, rows, queries, SQ8_QUERIES, n);
    }
}

/*
 * sq8_select_kernel of kernels.h. It compares an upper bound of each cosine with the threshold.
 *
 * Let x and q be the row and the query scaled to norm 1, and x' and q' their quantized values. The
 * cosine x.q is at most x'.q' + |x - x'| |q| + |x'| |q - q'|, which is the bound. Lowering the
 * threshold by 2^-17 covers the rounding errors of the bound and of the exact score.
 */
static bool sq8_select(uint8_t *keep, const int32_t *dots, const struct code_scale *scales,
                       size_t rows, const struct code_query *query)
{
    const float scale = query->scale, residual_norm = query->residual_norm,
                threshold = query->threshold - 0x1p-17f;
    const int32_t offset = query->offset;
    unsigned any = 0;
    for (size_t r = 0; r < rows; r++) {
        const float bound =
            (float)(dots[r] - offset) * (scales[r].scale * scale) +
            (scales[r].residual_norm + (1.0f + scales[r].residual_norm) * residual_norm);
        const uint8_t kept = !(bound < threshold); /* keeps a row whose bound is NaN */
        keep[r] = kept;
        any |= kept;
    }
    return any != 0;
}

const struct sq8_kernels PASTE(sq8_kernels_, ISA_NAME) = {
    .query_code_size = sizeof(query_code),
    .query_code_max = QUERY_CODE_MAX,
    .quantize = quantize,
    .dots = sq8_dots,
    .select = sq8_select,
};

#undef SQ8_LANES
#undef QUERY_CODE_MAX
