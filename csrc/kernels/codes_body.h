/* Search by 8-bit codes: coding rows, sums of codes, and which of them reach a limit. */

/* Plain loops: the region's instructions vectorise them. */
static void encode(uint8_t *restrict codes, struct code_scale *scale, const float *restrict x, float weight, size_t n)
{
    enum { LANES = 16 }; /* maxima and sums side by side, for otherwise their order would be one long chain */
    float largest[LANES] = {0}, squares[LANES] = {0}, most = 0.0f, square = 0.0f;
    size_t k = 0;
    for (; n - k >= LANES; k += LANES) {
        for (int i = 0; i < LANES; i++) {
            const float a = fabsf(x[k + i]);
            largest[i] = a > largest[i] ? a : largest[i];
        }
    }
    for (; k < n; k++) {
        const float a = fabsf(x[k]);
        most = a > most ? a : most;
    }
    for (int i = 0; i < LANES; i++) {
        most = largest[i] > most ? largest[i] : most;
    }
    most *= weight;
    const float step = most / (CODE_ZERO - 1), inverse = most >= 0x1p-60f && most <= 0x1p60f ? weight / step : 0.0f;
    for (k = 0; n - k >= LANES; k += LANES) {
        for (int i = 0; i < LANES; i++) {
            /* adding 1.5 * 2^23 rounds to a whole number, which then lies in the lowest bits */
            const float shifted = x[k + i] * inverse + 0x1.8p23f, rest = x[k + i] * weight - step * (shifted - 0x1.8p23f);
            uint32_t bits;
            memcpy(&bits, &shifted, sizeof bits);
            codes[k + i] = (uint8_t)(bits + CODE_ZERO);
            squares[i] += rest * rest;
        }
    }
    for (; k < n; k++) {
        const float shifted = x[k] * inverse + 0x1.8p23f, rest = x[k] * weight - step * (shifted - 0x1.8p23f);
        uint32_t bits;
        memcpy(&bits, &shifted, sizeof bits);
        codes[k] = (uint8_t)(bits + CODE_ZERO);
        square += rest * rest;
    }
    for (int i = 0; i < LANES; i++) {
        square += squares[i];
    }
    /* rounding of the sum, of weight and of each term; NaN and infinity make the rest infinite */
    const float rest = sqrtf(square) * (float)(1.0 + SCREEN_ERROR(n)) + 0x1p-20f;
    const bool known = rest < 2.0f && step < 2.0f;
    *scale = known ? (struct code_scale){step, rest} : (struct code_scale){0.0f, INFINITY};
}

/* CODES_ROWS rows with CODES_QUERIES queries; lanes[r * CODES_QUERIES + q] are the sums of one pair. */
INLINE void codes_block(vi lanes[CODES_ROWS * CODES_QUERIES], const uint8_t *const *rows, const CODE_FACTOR *const *queries, size_t n)
{
    size_t k = 0;
    _Pragma("GCC unroll 16") for (int i = 0; i < CODES_ROWS * CODES_QUERIES; i++) {
        lanes[i] = vi_zero();
    }
    for (; n - k >= CODES_LANES; k += CODES_LANES) {
        vc codes[CODES_ROWS];
        _Pragma("GCC unroll 4") for (int r = 0; r < CODES_ROWS; r++) {
            codes[r] = vc_load_codes(rows[r] + k);
        }
        _Pragma("GCC unroll 4") for (int q = 0; q < CODES_QUERIES; q++) {
            const vc factors = vc_load_factors(queries[q] + k);
            _Pragma("GCC unroll 4") for (int r = 0; r < CODES_ROWS; r++) {
                lanes[r * CODES_QUERIES + q] = vi_dot_codes(lanes[r * CODES_QUERIES + q], codes[r], factors);
            }
        }
    }
    if (k < n) {
        uint8_t last[CODES_LANES] = {0};
        for (int r = 0; r < CODES_ROWS; r++) {
            memcpy(last, rows[r] + k, n - k);
            const vc codes = vc_load_codes(last);
            for (int q = 0; q < CODES_QUERIES; q++) {
                lanes[r * CODES_QUERIES + q] = vi_dot_codes(lanes[r * CODES_QUERIES + q], codes, vc_load_factors(queries[q] + k));
            }
        }
    }
}

static void codes_sums(int32_t *sums, size_t step, const uint8_t *codes, size_t code_step, size_t rows, const void *const *queries_void, size_t n)
{
    _Static_assert(CODES_ROWS * CODES_QUERIES % VD_LANES == 0 && CODES_PADDING % CODES_LANES == 0 &&
                       (int64_t)FACTOR_MOST * UINT8_MAX * CODES_DEPTH <= INT32_MAX,
                   "what codes_sums counts on");
    const CODE_FACTOR *queries[CODES_QUERIES];
    for (int q = 0; q < CODES_QUERIES; q++) {
        queries[q] = queries_void[q];
    }
    for (size_t r = 0; r < rows; r += CODES_ROWS) {
        const uint8_t *row[CODES_ROWS];
        vi lanes[CODES_ROWS * CODES_QUERIES];
        double totals[CODES_ROWS * CODES_QUERIES];
        for (size_t i = 0; i < CODES_ROWS; i++) { /* the last row again where there is none */
            row[i] = codes + (r + i < rows ? r + i : rows - 1) * code_step;
            for (size_t line = 0; line < n; line += 64) {
                __builtin_prefetch(row[i] + CODES_AHEAD + line);
            }
        }
        codes_block(lanes, row, queries, n);
        for (int i = 0; i < CODES_ROWS * CODES_QUERIES; i += VD_LANES) {
            vd folded[VD_LANES];
            for (int j = 0; j < VD_LANES; j++) {
                folded[j] = vd_fold_i32(lanes[i + j]);
            }
            vd_store(totals + i, vd_row_sums(folded));
        }
        for (size_t i = 0; i < CODES_ROWS && r + i < rows; i++) {
            for (int q = 0; q < CODES_QUERIES; q++) {
                sums[(size_t)q * step + r + i] = (int32_t)totals[i * CODES_QUERIES + (size_t)q];
            }
        }
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

#undef CODES_LANES
#undef CODE_FACTOR
#undef FACTOR_MOST
