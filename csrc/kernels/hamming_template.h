/*
 * hamming_kernel of kernels.h. HAMMING_ROWS rows are compared at a time, one group after another:
 * memory is read in order. Differing bits are first counted in a vb, for up to COUNT_STEPS vectors.
 * These counts are then added to sums of 32 bits.
 */
enum {
    BIT_BYTES = 4 * VF_LANES, /* bytes of a vb */
    COUNT_STEPS = 31,
    HAMMING_ROWS = 4
};
_Static_assert(COUNT_STEPS * 8 <= UINT8_MAX && VF_LANES % HAMMING_ROWS == 0,
               "a byte holds the counts, and whole groups fill a vector");

/* A query: `whole` bytes that fill vectors, and the other `rest` bytes in one vector, padded with
 * zeros. */
struct bit_query {
    const uint8_t *bytes;
    size_t whole, rest;
    vb last, mask; /* mask has ones in the bytes of the query */
};

/* Counts the bits in which the whole vectors of HAMMING_ROWS rows differ from the query. */
INLINE void hamming_counts(vi *sums, const uint8_t *const rows[HAMMING_ROWS],
                           const struct bit_query *query)
{
    const size_t whole = query->whole;
    _Pragma("GCC unroll 4") for (int i = 0; i < HAMMING_ROWS; i++)
    {
        sums[i] = vi_zero();
    }
    for (size_t k = 0; k < whole;) {
        const size_t left = whole - k, most = COUNT_STEPS * BIT_BYTES,
                     end = k + (left < most ? left : most);
        vb counts[HAMMING_ROWS]; /* the compiler keeps them in registers */
        _Pragma("GCC unroll 4") for (int i = 0; i < HAMMING_ROWS; i++)
        {
            counts[i] = vb_zero();
        }
        for (; k < end; k += BIT_BYTES) {
            const vb part = vb_load(query->bytes + k);
            _Pragma("GCC unroll 4") for (int i = 0; i < HAMMING_ROWS; i++)
            {
                counts[i] = vb_count_differences(counts[i], vb_load(rows[i] + k), part);
            }
        }
        _Pragma("GCC unroll 4") for (int i = 0; i < HAMMING_ROWS; i++)
        {
            sums[i] = vi_add_counts(sums[i], counts[i]);
        }
    }
}

/* Returns the distances of `valid` rows, the first one at x. Lanes beyond them read the last row
 * again, and their values have no meaning. The last bytes of row i, which do not fill a vector,
 * start at last + i * last_step, where a whole vector can be read. */
INLINE vi hamming_group(const uint8_t *x, ptrdiff_t x_step, ptrdiff_t valid, const uint8_t *last,
                        ptrdiff_t last_step, const struct bit_query *query)
{
    vi sums[VF_LANES];
    _Pragma("GCC unroll 16") for (ptrdiff_t i = 0; i < VF_LANES; i += HAMMING_ROWS)
    {
        const uint8_t *rows[HAMMING_ROWS];
        _Pragma("GCC unroll 4") for (ptrdiff_t j = 0; j < HAMMING_ROWS; j++)
        {
            rows[j] = x + (i + j < valid ? i + j : valid - 1) * x_step;
        }
        hamming_counts(sums + i, rows, query);
    }
    if (query->rest > 0) {
        _Pragma("GCC unroll 16") for (ptrdiff_t i = 0; i < VF_LANES; i++)
        {
            const vb part = vb_and(vb_load(last + i * last_step), query->mask);
            sums[i] = vi_add_counts(sums[i], vb_count_differences(vb_zero(), part, query->last));
        }
    }
    return vi_row_sums(sums);
}

/* Returns the number of leading rows whose last bytes can be read as a whole vector. That vector
 * reaches `missing` bytes beyond the row, and later rows must hold these bytes. */
INLINE size_t hamming_readable(size_t rows, ptrdiff_t x_step, size_t bytes, size_t missing)
{
    const size_t later = x_step >= (ptrdiff_t)bytes ? (missing - 1) / (size_t)x_step + 1 : rows;
    return rows > later ? rows - later : 0;
}

/* The distances of rows whose last bytes cannot be read as a whole vector, or that fill no vector
 * of distances. Not inlined, because the copies would be cleared in every call of hamming. */
static __attribute__((noinline)) void hamming_tail(int32_t *distances, const uint8_t *x,
                                                   ptrdiff_t x_step, size_t rows,
                                                   const struct bit_query *query)
{
    uint8_t copies[VF_LANES][BIT_BYTES] = {{0}};
    for (size_t r = 0; r < rows; r += VF_LANES) {
        const size_t valid = rows - r < VF_LANES ? rows - r : VF_LANES;
        const uint8_t *first = x + (ptrdiff_t)r * x_step;
        int32_t totals[VF_LANES];
        for (size_t i = 0; i < valid; i++) {
            memcpy(copies[i], first + (ptrdiff_t)i * x_step + query->whole, query->rest);
        }
        vi_store(totals,
                 hamming_group(first, x_step, (ptrdiff_t)valid, copies[0], BIT_BYTES, query));
        memcpy(distances + r, totals, valid * sizeof *distances);
    }
}

static void hamming(int32_t *distances, const void *x_void, ptrdiff_t x_step, size_t rows,
                    const void *query_void, size_t bytes)
{
    const uint8_t *x = x_void;
    const size_t rest = bytes % BIT_BYTES, whole = bytes - rest;
    const size_t readable =
        rest == 0 ? rows : hamming_readable(rows, x_step, bytes, BIT_BYTES - rest);
    struct bit_query query = {query_void, whole, rest, vb_zero(), vb_zero()};
    if (rest > 0) {
        uint8_t padded[BIT_BYTES] = {0}, mask[BIT_BYTES] = {0};
        memcpy(padded, (const uint8_t *)query_void + whole, rest);
        memset(mask, UINT8_MAX, rest);
        query.last = vb_load(padded);
        query.mask = vb_load(mask);
    }
    size_t r = 0;
    for (; r + VF_LANES <= readable; r += VF_LANES) {
        const uint8_t *first = x + (ptrdiff_t)r * x_step;
        vi_store(distances + r,
                 hamming_group(first, x_step, VF_LANES, first + whole, x_step, &query));
    }
    if (r < rows) {
        hamming_tail(distances + r, x + (ptrdiff_t)r * x_step, x_step, rows - r, &query);
    }
}

const struct bit_kernels PASTE(bit_kernels_, ISA_NAME) = {.hamming = hamming};
