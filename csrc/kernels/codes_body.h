/* Search by 8-bit codes: coding rows, sums of codes, and which of them reach a limit. */

/* Plain loops, which the region's instructions vectorise; maxima and sums side by side, for otherwise their order would be one long chain. */
enum { ENCODE_LANES = 4 * VF_LANES };

/* The largest magnitude and the sum of squares. */
INLINE void encode_range(float *most, float *square, const float *restrict x, size_t n)
{
    float largest[ENCODE_LANES] = {0}, squares[ENCODE_LANES] = {0};
    size_t k = 0;
    for (; n - k >= ENCODE_LANES; k += ENCODE_LANES) {
        for (int i = 0; i < ENCODE_LANES; i++) {
            const float a = fabsf(x[k + i]);
            largest[i] = a > largest[i] ? a : largest[i];
            squares[i] += x[k + i] * x[k + i];
        }
    }
    for (int i = 0; k < n; k++, i++) {
        const float a = fabsf(x[k]);
        largest[i] = a > largest[i] ? a : largest[i];
        squares[i] += x[k] * x[k];
    }
    *most = *square = 0.0f;
    for (int i = 0; i < ENCODE_LANES; i++) {
        *most = largest[i] > *most ? largest[i] : *most;
        *square += squares[i];
    }
}

/* Adding 1.5 * 2^23 rounds to a whole number, which then lies in the lowest bits. */
#define ENCODE_ONE(i)                                                                                      \
    do {                                                                                                   \
        const float a = x[k + (i)], shifted = a * inverse + 0x1.8p23f, rest = a * weight - step * (shifted - 0x1.8p23f); \
        uint32_t bits;                                                                                     \
        memcpy(&bits, &shifted, sizeof bits);                                                              \
        codes[k + (i)] = (uint8_t)(bits + CODE_ZERO);                                                      \
        left[i] += rest * rest;                                                                            \
    } while (0)

static float encode(uint8_t *restrict codes, struct code_scale *scale, const float *restrict x, float eps, size_t n)
{
    float most, square, left[ENCODE_LANES] = {0}, total = 0.0f;
    encode_range(&most, &square, x, n);
    const float norm = sqrtf(square) < eps ? eps : sqrtf(square), weight = 1.0f / norm;
    const float step = most * weight / (CODE_ZERO - 1), inverse = most > 0.0f ? (CODE_ZERO - 1) / most : 0.0f;
    size_t k = 0;
    for (size_t some; k < n; k += some) {
        some = n - k < ENCODE_LANES ? n - k : ENCODE_LANES;
        if (some == ENCODE_LANES) {
            for (int i = 0; i < ENCODE_LANES; i++) {
                ENCODE_ONE(i);
            }
        } else {
            for (size_t i = 0; i < some; i++) {
                ENCODE_ONE(i);
            }
        }
    }
    for (int i = 0; i < ENCODE_LANES; i++) {
        total += left[i];
    }
    /* the rounding of the sums and of weight, then of each term; NaN and infinity make the rest infinite */
    const float rest = sqrtf(total) * (float)(1.0 + SCREEN_ERROR(n)) + (float)SCREEN_ERROR(n) + 0x1p-20f;
    *scale = rest < 2.0f && step < 2.0f ? (struct code_scale){step, rest} : (struct code_scale){0.0f, INFINITY};
    return square;
}

/* Some rows with some queries; lanes[r * count + q] are the sums of one pair. */
INLINE void codes_block(vi *lanes, const uint8_t *const *rows, const int row_count, const CODE_FACTOR *const *queries, const int count, size_t n)
{
    size_t k = 0;
    _Pragma("GCC unroll 16") for (int i = 0; i < row_count * count; i++) {
        lanes[i] = vi_zero();
    }
    for (; n - k >= CODES_LANES; k += CODES_LANES) {
        vc codes[VD_LANES];
        _Pragma("GCC unroll 8") for (int r = 0; r < row_count; r++) {
            codes[r] = vc_load_codes(rows[r] + k);
        }
        _Pragma("GCC unroll 4") for (int q = 0; q < count; q++) {
            const vc factors = vc_load_factors(queries[q] + k);
            _Pragma("GCC unroll 8") for (int r = 0; r < row_count; r++) {
                lanes[r * count + q] = vi_dot_codes(lanes[r * count + q], codes[r], factors);
            }
        }
    }
    if (k < n) {
        uint8_t last[CODES_LANES] = {0};
        _Pragma("GCC unroll 8") for (int r = 0; r < row_count; r++) {
            memcpy(last, rows[r] + k, n - k);
            const vc codes = vc_load_codes(last);
            _Pragma("GCC unroll 4") for (int q = 0; q < count; q++) {
                lanes[r * count + q] = vi_dot_codes(lanes[r * count + q], codes, vc_load_factors(queries[q] + k));
            }
        }
    }
}

/* row_count * count is a multiple of VD_LANES, at most 16. */
INLINE void codes_sums_of(int32_t *sums, size_t step, const uint8_t *codes, size_t code_step, size_t rows, const int row_count,
                          const CODE_FACTOR *const *queries, const int count, size_t n)
{
    for (size_t r = 0; r < rows; r += (size_t)row_count) {
        const uint8_t *row[VD_LANES];
        vi lanes[16];
        double totals[16];
        for (size_t i = 0; i < (size_t)row_count; i++) { /* the last row again where there is none */
            row[i] = codes + (r + i < rows ? r + i : rows - 1) * code_step;
            for (size_t line = 0; line < n; line += 64) {
                __builtin_prefetch(row[i] + CODES_AHEAD + line);
            }
        }
        codes_block(lanes, row, row_count, queries, count, n);
        _Pragma("GCC unroll 16") for (int i = 0; i < row_count * count; i += VD_LANES) {
            vd folded[VD_LANES];
            _Pragma("GCC unroll 8") for (int j = 0; j < VD_LANES; j++) {
                folded[j] = vd_fold_i32(lanes[i + j]);
            }
            vd_store(totals + i, vd_row_sums(folded));
        }
        for (size_t i = 0; i < (size_t)row_count && r + i < rows; i++) {
            for (int q = 0; q < count; q++) {
                sums[(size_t)q * step + r + i] = (int32_t)totals[i * (size_t)count + (size_t)q];
            }
        }
    }
}

static void codes_sums(int32_t *sums, size_t step, const uint8_t *codes, size_t code_step, size_t rows, const void *const *queries_void,
                       size_t count, size_t n)
{
    _Static_assert(CODES_ROWS * CODES_QUERIES % VD_LANES == 0 && CODES_ROWS * CODES_QUERIES <= 16 && CODES_ROWS <= VD_LANES &&
                       CODES_PADDING % CODES_LANES == 0 && (int64_t)FACTOR_MOST * UINT8_MAX * CODES_DEPTH <= INT32_MAX,
                   "what codes_sums counts on");
    const CODE_FACTOR *queries[CODES_QUERIES];
    for (int q = 0; q < CODES_QUERIES; q++) {
        queries[q] = queries_void[q];
    }
    if (count == 1) {
        codes_sums_of(sums, step, codes, code_step, rows, VD_LANES, queries, 1, n);
    } else {
        codes_sums_of(sums, step, codes, code_step, rows, CODES_ROWS, queries, CODES_QUERIES, n);
    }
}

/*
 * What a row's cosine can be at the most: that of the codes, and what the two rests can add to it,
 * |x.q - x'.q'| <= |x - x'| |q| + |x'| |q - q'|, and the roundings of this and of the score itself.
 */
static bool codes_reach(uint8_t *keep, const int32_t *sums, const struct code_scale *scales, size_t rows, const struct code_query *query)
{
    const float scale = query->scale, rest = query->rest, limit = query->limit - 0x1p-17f;
    const int32_t zero = query->zero;
    unsigned any = 0;
    for (size_t r = 0; r < rows; r++) {
        const float most = (float)(sums[r] - zero) * (scales[r].scale * scale) + (scales[r].rest + (1.0f + scales[r].rest) * rest);
        const uint8_t kept = !(most < limit);
        keep[r] = kept;
        any |= kept;
    }
    return any != 0;
}

const struct codes_kernels PASTE(codes_kernels_, ISA_NAME) = {
    .factor_size = sizeof(CODE_FACTOR),
    .factor_most = FACTOR_MOST,
    .encode = encode,
    .sums = codes_sums,
    .reach = codes_reach,
};

#undef ENCODE_ONE
#undef CODES_LANES
#undef CODE_FACTOR
#undef FACTOR_MOST
