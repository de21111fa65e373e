/*
 * sq8_dots_kernel, sq8_panel_kernel and half_dots_kernel of kernels.h. Parameters:
 *   SQ8_TYPE        suffix of the names
 *   SQ8_BYTES       makes the left operand of vi_dot_codes from bytes of this type
 *   SQ8_MAGNITUDES  makes the bytes that vi_add_squares takes
 *   SQ8_UPPER       defined for half_dots_kernel alone, whose bytes hold two codes: makes the left
 *                   operand of the second half of the codes
 */
#ifdef SQ8_UPPER
#define SQ8_OPERANDS(bytes) {SQ8_BYTES(bytes), SQ8_UPPER(bytes)}
enum {
    PASTE(SQ8_PARTS_, SQ8_TYPE) = 2,
    PASTE(SQ8_BYTES_AHEAD_, SQ8_TYPE) = HALF_PREFETCH,
    PASTE(SQ8_ROWS_AHEAD_, SQ8_TYPE) = HALF_ROWS_AHEAD
};
#else
#define SQ8_OPERANDS(bytes) {SQ8_BYTES(bytes)}
enum {
    PASTE(SQ8_PARTS_, SQ8_TYPE) = 1,
    PASTE(SQ8_BYTES_AHEAD_, SQ8_TYPE) = SQ8_PREFETCH,
    PASTE(SQ8_ROWS_AHEAD_, SQ8_TYPE) = SQ8_ROWS_AHEAD
};
#endif

/* Loads the codes of `count` queries that meet SQ8_LANES bytes of a row from byte k on. Those of a
 * second half lie n codes later. */
INLINE void PASTE(sq8_load_, SQ8_TYPE)(vc *query, const int8_t *const *queries, const int count,
                                       size_t k, size_t n)
{
    _Pragma("GCC unroll 8") for (int i = 0; i < PASTE(SQ8_PARTS_, SQ8_TYPE) * count; i++)
    {
        query[i] = vc_load(queries[i % count] + (size_t)(i / count) * n + k);
    }
}

/* Adds the products of SQ8_LANES bytes of row r with the codes of `count` queries to sums, which
 * are those of sq8_dot_block. */
INLINE void PASTE(sq8_dot_step_, SQ8_TYPE)(vi *sums, vc bytes, const int r, const int row_count,
                                           const vc *query, const int count,
                                           const bool with_squares)
{
    const vc codes[] = SQ8_OPERANDS(bytes);
    if (with_squares) {
        vi *to = sums + count * row_count + r;
        *to = vi_add_squares(*to, SQ8_MAGNITUDES(bytes));
    }
    _Pragma("GCC unroll 8") for (int i = 0; i < PASTE(SQ8_PARTS_, SQ8_TYPE) * count; i++)
    {
        vi *to = sums + i % count * row_count + r;
        *to = vi_dot_codes(*to, codes[i / count], query[i]);
    }
}

/*
 * Computes the dot products of row_count rows and `count` queries. lanes[q * row_count + r] gets
 * the partial sums of query q and row r. If with_squares, lanes[count * row_count + r] gets the
 * partial sums of the squares of row r. Prefetches the bytes that lie `ahead` bytes after those of
 * each row, spread over the products, so that they load while the products are computed.
 */
INLINE void PASTE(sq8_dot_block_, SQ8_TYPE)(vi *lanes, const uint8_t *const *rows,
                                            const int row_count, const int8_t *const *queries,
                                            const int count, const bool with_squares, size_t n,
                                            ptrdiff_t ahead)
{
    vi sums[20]; /* in registers; `lanes` would be loaded and stored in each step */
    const int sum_count = row_count * (count + with_squares);
    vc query[2 * SQ8_QUERIES];
    size_t k = 0;
    _Pragma("GCC unroll 20") for (int i = 0; i < sum_count; i++)
    {
        sums[i] = vi_zero();
    }
    for (; n - k >= SQ8_LANES; k += SQ8_LANES) {
        PASTE(sq8_load_, SQ8_TYPE)(query, queries, count, k, n);
        _Pragma("GCC unroll 16") for (int r = 0; r < row_count; r++)
        {
            const vc bytes = vc_load(rows[r] + k);
            /* To L2: lines that come from memory would block the few line buffers of L1. */
            __builtin_prefetch(rows[r] + ahead + k, 0, 2);
            PASTE(sq8_dot_step_, SQ8_TYPE)(sums, bytes, r, row_count, query, count, with_squares);
        }
    }
    if (k < n) {
        uint8_t last[SQ8_LANES] = {0};
        PASTE(sq8_load_, SQ8_TYPE)(query, queries, count, k, n);
        _Pragma("GCC unroll 16") for (int r = 0; r < row_count; r++)
        {
            memcpy(last, rows[r] + k, n - k);
            PASTE(sq8_dot_step_, SQ8_TYPE)
            (sums, vc_load(last), r, row_count, query, count, with_squares);
        }
    }
    _Pragma("GCC unroll 20") for (int i = 0; i < sum_count; i++)
    {
        lanes[i] = sums[i];
    }
}

/*
 * sq8_dots_kernel for a compile-time constant `count`. A single query reads VF_LANES rows one after
 * another, because sequential reads from memory are fastest. With several queries, SQ8_ROWS rows
 * are read side by side, and each vector of codes is used for all queries.
 */
INLINE void PASTE(sq8_dot_rows_, SQ8_TYPE)(int32_t *dots, size_t step, int32_t *squares,
                                           const struct sq8_rows *x, const int8_t *const *queries,
                                           const int count, const bool with_squares)
{
    const bool halves = PASTE(SQ8_PARTS_, SQ8_TYPE) == 2;
    const size_t rows = x->count, n = halves ? HALF_BYTES(x->n) : x->n,
                 rows_ahead = PASTE(SQ8_ROWS_AHEAD_, SQ8_TYPE);
    const ptrdiff_t bytes_ahead = PASTE(SQ8_BYTES_AHEAD_, SQ8_TYPE);
    const size_t block_rows = count == 1 ? VF_LANES : SQ8_ROWS;
    const size_t kinds = (size_t)count + with_squares;
    vi lanes[32]; /* VF_LANES of them are added at a time, so some that are not set may be added */
    for (size_t i = 0; with_squares && i < 32; i++) {
        lanes[i] = vi_zero();
    }
    for (size_t r = 0, valid; r < rows; r += block_rows) {
        const uint8_t *row[16];
        int32_t totals[32];
        valid = rows - r < block_rows ? rows - r : block_rows;
        for (size_t i = 0; i < block_rows; i++) { /* rows beyond the end repeat the last one */
            row[i] = sq8_row(x, r + (i < valid ? i : valid - 1));
        }
        if (count == 1) {
            for (size_t i = 0; i < block_rows; i++) {
                const ptrdiff_t ahead =
                    x->numbers == NULL ? bytes_ahead : sq8_row_ahead(x, r + i, rows_ahead) - row[i];
                vi pair[2];
                PASTE(sq8_dot_block_, SQ8_TYPE)
                (pair, row + i, 1, queries, 1, with_squares, n, ahead);
                lanes[i] = pair[0];
                if (with_squares) {
                    lanes[block_rows + i] = pair[1];
                }
            }
        } else {
            for (size_t i = 0; x->numbers != NULL && i < block_rows; i++) {
                const uint8_t *next = sq8_row_ahead(x, r + i, rows_ahead);
                for (size_t k = 0; k < n; k += 64) {
                    __builtin_prefetch(next + k, 0, 2);
                }
            }
            PASTE(sq8_dot_block_, SQ8_TYPE)
            (lanes, row, SQ8_ROWS, queries, count, with_squares, n,
             x->numbers != NULL ? 0
             : halves           ? bytes_ahead
                                : SQ8_BLOCKS_AHEAD * SQ8_ROWS * x->step);
        }
        for (size_t i = 0; i < block_rows * kinds; i += VF_LANES) {
            vi_store(totals + i, vi_row_sums(lanes + i));
        }
        if (with_squares) {
            memcpy(squares + r, totals + (size_t)count * block_rows, valid * sizeof *squares);
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

#ifndef SQ8_UPPER
static void PASTE(sq8_dots_, SQ8_TYPE)(int32_t *dots, size_t step, int32_t *squares,
                                       const struct sq8_rows *rows, const int8_t *const *queries,
                                       size_t count)
{
    _Static_assert(SQ8_ROWS * SQ8_QUERIES % VF_LANES == 0 && SQ8_ROWS * SQ8_QUERIES <= 16 &&
                       SQ8_ROWS <= VF_LANES && VF_LANES <= 16 && SQ8_PADDING % SQ8_LANES == 0 &&
                       (int64_t)QUERY_CODE_MAX * UINT8_MAX * SQ8_MAX_DEPTH <= INT32_MAX &&
                       (int64_t)UINT8_MAX * UINT8_MAX * SQ8_MAX_DEPTH <= INT32_MAX,
                   "sq8_dots relies on these bounds");
    if (count == 1 && squares == NULL) {
        PASTE(sq8_dot_rows_, SQ8_TYPE)(dots, step, NULL, rows, queries, 1, false);
    } else if (count == 1) {
        PASTE(sq8_dot_rows_, SQ8_TYPE)(dots, step, squares, rows, queries, 1, true);
    } else if (squares == NULL) {
        PASTE(sq8_dot_rows_, SQ8_TYPE)(dots, step, NULL, rows, queries, SQ8_QUERIES, false);
    } else {
        PASTE(sq8_dot_rows_, SQ8_TYPE)(dots, step, squares, rows, queries, SQ8_QUERIES, true);
    }
}

#if PANEL_STEPS == 2
/* Adds the products of eight codes of SQ8_PANEL_ROWS rows, from code k on, with those of `vectors`
 * vectors of queries. */
INLINE void PASTE(sq8_panel_two_steps_, SQ8_TYPE)(vi *sums, const uint8_t *const *row, size_t k,
                                                  const int8_t *factors, const int vectors)
{
    vi products[SQ8_PANEL_ROWS * SQ8_PANEL_VECTORS];
    _Pragma("GCC unroll 2") for (size_t step = 0; step < 2; step++)
    {
        _Pragma("GCC unroll 16") for (int r = 0; r < SQ8_PANEL_ROWS; r++)
        {
            const vc codes = SQ8_BYTES(vc_broadcast(row[r] + k + 4 * step));
            _Pragma("GCC unroll 4") for (int v = 0; v < vectors; v++)
            {
                vi *to = products + r * vectors + v;
                const vc query =
                    vc_load(factors + (step * (size_t)vectors + (size_t)v) * SQ8_LANES);
                *to = step == 0 ? vi_products(codes, query) : vi_more_products(*to, codes, query);
            }
        }
    }
    _Pragma("GCC unroll 16") for (int i = 0; i < SQ8_PANEL_ROWS * vectors; i++)
    {
        sums[i] = vi_add_products(sums[i], products[i]);
    }
}
#endif

/*
 * Compares SQ8_PANEL_ROWS rows with `vectors` vectors of queries; `vectors` is a compile-time
 * constant. Each lane belongs to one query, so nothing is added across lanes. Sets keep[i] for row
 * at[i]. If `prefetches`, another constant, prefetches as many bytes as the rows have: half of them
 * from ahead[0] on, the others from ahead[1] on.
 */
INLINE void PASTE(sq8_panel_block_, SQ8_TYPE)(uint32_t *keep, const struct sq8_rows *rows,
                                              const size_t *at, const struct sq8_panel *panel,
                                              const float *thresholds, const int vectors,
                                              const bool prefetches, const uint8_t *const *ahead)
{
    vi sums[SQ8_PANEL_ROWS * SQ8_PANEL_VECTORS];
    const uint8_t *row[SQ8_PANEL_ROWS];
    const int8_t *factors = panel->codes;
    const size_t width = (size_t)vectors * VF_LANES, whole = rows->n / 4 * 4;
    _Pragma("GCC unroll 16") for (int r = 0; r < SQ8_PANEL_ROWS; r++)
    {
        row[r] = sq8_row(rows, at[r]);
        _Pragma("GCC unroll 4") for (int v = 0; v < vectors; v++)
        {
            sums[r * vectors + v] = vi_load(panel->offset + v * VF_LANES);
        }
    }
    if (whole < rows->n) { /* the elements that the loop below leaves out */
        for (int r = 0; r < SQ8_PANEL_ROWS; r++) {
            uint8_t last[4] = {0};
            memcpy(last, row[r] + whole, rows->n - whole);
            const vc codes = SQ8_BYTES(vc_broadcast(last));
            for (int v = 0; v < vectors; v++) {
                sums[r * vectors + v] =
                    vi_dot_codes(sums[r * vectors + v], codes,
                                 vc_load(factors + (whole * width + v * SQ8_LANES)));
            }
        }
    }
    for (size_t k = 0; k < whole;) {
        if (prefetches && k % 16 == 0) { /* four steps read at most 128 bytes, two cache lines */
            __builtin_prefetch(ahead[0] + k * SQ8_PANEL_ROWS / 2);
            __builtin_prefetch(ahead[1] + k * SQ8_PANEL_ROWS / 2);
        }
#if PANEL_STEPS == 2
        if (whole - k >= 8) {
            PASTE(sq8_panel_two_steps_, SQ8_TYPE)(sums, row, k, factors, vectors);
            k += 8;
            factors += 8 * width;
            continue;
        }
#endif
        vc query[SQ8_PANEL_VECTORS];
        _Pragma("GCC unroll 4") for (int v = 0; v < vectors; v++)
        {
            query[v] = vc_load(factors + v * SQ8_LANES);
        }
        _Pragma("GCC unroll 16") for (int r = 0; r < SQ8_PANEL_ROWS; r++)
        {
            const vc codes = SQ8_BYTES(vc_broadcast(row[r] + k));
            _Pragma("GCC unroll 4") for (int v = 0; v < vectors; v++)
            {
                sums[r * vectors + v] = vi_dot_codes(sums[r * vectors + v], codes, query[v]);
            }
        }
        k += 4;
        factors += 4 * width;
    }
    _Pragma("GCC unroll 16") for (int r = 0; r < SQ8_PANEL_ROWS; r++)
    {
        keep[r] = ~panel_below(sums + r * vectors, rows, at[r], panel, thresholds, vectors);
    }
}

/* sq8_panel_kernel for compile-time constants `vectors` and `prefetches`. */
INLINE bool PASTE(sq8_panel_of_, SQ8_TYPE)(uint32_t *keep, const struct sq8_rows *rows,
                                           const struct sq8_panel *panel, const float *thresholds,
                                           const int vectors, const bool prefetches)
{
    const uint32_t valid = panel->queries < 32 ? (1u << panel->queries) - 1 : UINT32_MAX;
    /* Two blocks of long rows would not stay in L1. */
    const size_t distance = (rows->n <= 1024 ? SQ8_BLOCKS_AHEAD : 1) * SQ8_PANEL_ROWS * rows->n;
    const bool joins = rows->halves[0] != NULL;
    uint32_t any = 0;
    for (size_t r = 0; r < rows->count; r += SQ8_PANEL_ROWS) {
        const size_t half = HALF_BYTES(rows->n);
        const uint8_t *ahead[2] = {NULL};
        size_t at[SQ8_PANEL_ROWS];
        uint32_t kept[SQ8_PANEL_ROWS];
        for (size_t i = 0; i < 2 && prefetches; i++) {
            ahead[i] = joins ? rows->halves[i] + r * half + distance
                             : sq8_row(rows, r) + distance + i * SQ8_PANEL_ROWS * half;
        }
        for (size_t i = 0; i < SQ8_PANEL_ROWS; i++) { /* rows beyond the end repeat the last one */
            at[i] = r + i < rows->count ? r + i : rows->count - 1;
            if (joins && r + i < rows->count) {
                join_halves((uint8_t *)rows->codes + at[i] * rows->n,
                            rows->halves[0] + at[i] * half, rows->halves[1] + at[i] * half,
                            rows->n);
            }
        }
        PASTE(sq8_panel_block_, SQ8_TYPE)
        (kept, rows, at, panel, thresholds, vectors, prefetches, ahead);
        for (size_t i = 0; i < SQ8_PANEL_ROWS; i++) {
            keep[at[i]] = kept[i] & valid;
            any |= kept[i] & valid;
        }
    }
    return any != 0;
}

static bool PASTE(sq8_panel_, SQ8_TYPE)(uint32_t *keep, const struct sq8_rows *rows,
                                        const struct sq8_panel *panel, const float *thresholds)
{
    _Static_assert(SQ8_PANEL_VECTORS * VF_LANES <= SQ8_PANEL && SQ8_LANES == 4 * VF_LANES,
                   "sq8_panel relies on these bounds");
    const bool narrow = panel->width == VF_LANES;
    if (rows->numbers == NULL) { /* rows follow one another */
        return narrow ? PASTE(sq8_panel_of_, SQ8_TYPE)(keep, rows, panel, thresholds, 1, true)
                      : PASTE(sq8_panel_of_, SQ8_TYPE)(keep, rows, panel, thresholds,
                                                       SQ8_PANEL_VECTORS, true);
    }
    return narrow ? PASTE(sq8_panel_of_, SQ8_TYPE)(keep, rows, panel, thresholds, 1, false)
                  : PASTE(sq8_panel_of_, SQ8_TYPE)(keep, rows, panel, thresholds, SQ8_PANEL_VECTORS,
                                                   false);
}

#endif /* SQ8_UPPER */

#undef SQ8_TYPE
#undef SQ8_BYTES
#undef SQ8_UPPER
#undef SQ8_OPERANDS
#undef SQ8_MAGNITUDES
