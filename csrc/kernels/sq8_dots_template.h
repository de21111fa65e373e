/*
 * sq8_dots_kernel of kernels.h. Parameters:
 *   SQ8_DOTS  suffix of the name
 *   SQ8_LOAD  loads SQ8_LANES codes
 */

/*
 * Computes the dot products of row_count rows and `count` queries. lanes[q * row_count + r] gets
 * the partial sums of query q and row r.
 */
INLINE void PASTE(sq8_dot_block_, SQ8_DOTS)(vi *lanes, const uint8_t *const *rows,
                                            const int row_count, const query_code *const *queries,
                                            const int count, size_t n)
{
    vi sums[16]; /* in registers; `lanes` would be loaded and stored in each step */
    size_t k = 0;
    _Pragma("GCC unroll 16") for (int i = 0; i < row_count * count; i++)
    {
        sums[i] = vi_zero();
    }
    for (; n - k >= SQ8_LANES; k += SQ8_LANES) {
        vc query[SQ8_QUERIES];
        _Pragma("GCC unroll 4") for (int q = 0; q < count; q++)
        {
            query[q] = vc_load_query_codes(queries[q] + k);
        }
        _Pragma("GCC unroll 16") for (int r = 0; r < row_count; r++)
        {
            const vc codes = SQ8_LOAD(rows[r] + k);
            if (count == 1) { /* with more queries, the codes are mostly in the cache */
                __builtin_prefetch(rows[r] + k + SQ8_PREFETCH);
            }
            _Pragma("GCC unroll 4") for (int q = 0; q < count; q++)
            {
                sums[q * row_count + r] = vi_dot_codes(sums[q * row_count + r], codes, query[q]);
            }
        }
    }
    if (k < n) {
        uint8_t last[SQ8_LANES] = {0};
        _Pragma("GCC unroll 16") for (int r = 0; r < row_count; r++)
        {
            memcpy(last, rows[r] + k, n - k);
            const vc codes = SQ8_LOAD(last);
            _Pragma("GCC unroll 4") for (int q = 0; q < count; q++)
            {
                sums[q * row_count + r] = vi_dot_codes(sums[q * row_count + r], codes,
                                                       vc_load_query_codes(queries[q] + k));
            }
        }
    }
    _Pragma("GCC unroll 16") for (int i = 0; i < row_count * count; i++)
    {
        lanes[i] = sums[i];
    }
}

/*
 * sq8_dots_kernel for a compile-time constant `count`. A single query reads VF_LANES rows one after
 * another, because sequential reads from memory are fastest. With several queries, SQ8_ROWS rows
 * are read side by side, and each vector of codes is used for all queries.
 */
INLINE void PASTE(sq8_dot_rows_, SQ8_DOTS)(int32_t *dots, size_t step, const uint8_t *codes,
                                           ptrdiff_t code_step, size_t rows,
                                           const query_code *const *queries, const int count,
                                           size_t n)
{
    const size_t block_rows = count == 1 ? VF_LANES : SQ8_ROWS;
    for (size_t r = 0, valid; r < rows; r += block_rows) {
        const uint8_t *row[16];
        vi lanes[16];
        int32_t totals[16];
        valid = rows - r < block_rows ? rows - r : block_rows;
        for (size_t i = 0; i < block_rows; i++) { /* rows beyond the end repeat the last one */
            row[i] = codes + (ptrdiff_t)(r + (i < valid ? i : valid - 1)) * code_step;
        }
        if (count == 1) {
            for (size_t i = 0; i < block_rows; i++) {
                PASTE(sq8_dot_block_, SQ8_DOTS)(lanes + i, row + i, 1, queries, 1, n);
            }
        } else {
            PASTE(sq8_dot_block_, SQ8_DOTS)(lanes, row, SQ8_ROWS, queries, count, n);
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

static void PASTE(sq8_dots_, SQ8_DOTS)(int32_t *dots, size_t step, const uint8_t *codes,
                                       ptrdiff_t code_step, size_t rows,
                                       const void *const *queries_void, size_t count, size_t n)
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
        PASTE(sq8_dot_rows_, SQ8_DOTS)(dots, step, codes, code_step, rows, queries, 1, n);
    } else {
        PASTE(sq8_dot_rows_, SQ8_DOTS)(dots, step, codes, code_step, rows, queries, SQ8_QUERIES, n);
    }
}

#undef SQ8_DOTS
#undef SQ8_LOAD
