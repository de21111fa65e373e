/*
 * hamming_kernel of kernels.h. VF_LANES rows are read side by side, because memory delivers several
 * streams faster than one. Differing bits are first counted in a vb, for up to COUNT_STEPS vectors.
 * These counts are then added to sums of 32 bits.
 */
enum {
    BIT_BYTES = 4 * VF_LANES, /* bytes of a vb */
    COUNT_STEPS = 31,
    HAMMING_PREFETCH = 2048 /* bytes; without it, one query takes a quarter longer */
};
_Static_assert(COUNT_STEPS * 8 <= UINT8_MAX, "a byte holds the counts");

/* A query: `whole` bytes that fill vectors, and the other `rest` bytes in one vector, padded with
 * zeros. */
struct bit_query {
    const uint8_t *bytes;
    size_t whole, rest;
    vb last, mask; /* mask has ones in the bytes of the query */
};

/* Returns the distances of VF_LANES rows. The last bytes of row i, which do not fill a vector,
 * start at last[i], where a whole vector can be read. */
INLINE vi hamming_group(const uint8_t *const *rows, const uint8_t *const *last,
                        const struct bit_query *query)
{
    const size_t whole = query->whole;
    vi sums[VF_LANES];
    _Pragma("GCC unroll 16") for (int i = 0; i < VF_LANES; i++)
    {
        sums[i] = vi_zero();
    }
    for (size_t k = 0; k < whole;) {
        const size_t left = whole - k, most = COUNT_STEPS * BIT_BYTES,
                     end = k + (left < most ? left : most);
        vb counts[VF_LANES]; /* the compiler keeps them in registers */
        _Pragma("GCC unroll 16") for (int i = 0; i < VF_LANES; i++)
        {
            counts[i] = vb_zero();
        }
        for (; k < end; k += BIT_BYTES) {
            const vb part = vb_load(query->bytes + k);
            _Pragma("GCC unroll 16") for (int i = 0; i < VF_LANES; i++)
            {
                __builtin_prefetch(rows[i] + k + HAMMING_PREFETCH);
                counts[i] = vb_count_differences(counts[i], vb_load(rows[i] + k), part);
            }
        }
        _Pragma("GCC unroll 16") for (int i = 0; i < VF_LANES; i++)
        {
            sums[i] = vi_add_counts(sums[i], counts[i]);
        }
    }
    if (query->rest > 0) {
        _Pragma("GCC unroll 16") for (int i = 0; i < VF_LANES; i++)
        {
            const vb part = vb_and(vb_load(last[i]), query->mask);
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

static void hamming(int32_t *distances, const void *x_void, ptrdiff_t x_step, size_t rows,
                    const void *query_void, size_t bytes)
{
    const uint8_t *x = x_void, *row[VF_LANES], *last[VF_LANES];
    const size_t rest = bytes % BIT_BYTES, whole = bytes - rest;
    const size_t readable =
        rest == 0 ? rows : hamming_readable(rows, x_step, bytes, BIT_BYTES - rest);
    uint8_t padded[BIT_BYTES] = {0}, mask[BIT_BYTES] = {0}, copies[VF_LANES][BIT_BYTES] = {{0}};
    memcpy(padded, (const uint8_t *)query_void + whole, rest);
    memset(mask, UINT8_MAX, rest);
    const struct bit_query query = {query_void, whole, rest, vb_load(padded), vb_load(mask)};
    size_t r = 0;
    for (; r + VF_LANES <= readable; r += VF_LANES) {
        _Pragma("GCC unroll 16") for (size_t i = 0; i < VF_LANES; i++)
        {
            row[i] = x + (ptrdiff_t)(r + i) * x_step;
            last[i] = row[i] + whole;
        }
        vi_store(distances + r, hamming_group(row, last, &query));
    }
    for (; r < rows; r += VF_LANES) { /* rows beyond the end repeat the last one */
        const size_t valid = rows - r < VF_LANES ? rows - r : VF_LANES;
        int32_t totals[VF_LANES];
        for (size_t i = 0; i < VF_LANES; i++) {
            row[i] = x + (ptrdiff_t)(r + (i < valid ? i : valid - 1)) * x_step;
            last[i] = memcpy(copies[i], row[i] + whole, rest);
        }
        vi_store(totals, hamming_group(row, last, &query));
        memcpy(distances + r, totals, valid * sizeof *distances);
    }
}

const struct bit_kernels PASTE(bit_kernels_, ISA_NAME) = {.hamming = hamming};
