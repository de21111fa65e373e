/*
 * The kernels of matrix products of 8-bit integers: byte_kernels of kernels.h. Sums are exact.
 * Parameters, undefined at the end:
 *
 *   TILE, TILE_TYPE    name of the type in identifiers; C type
 *   TILE_DOT           vi_dot_groups_i8 or vi_dot_groups_u8
 *   TILE_BIAS          right elements are stored with this number added
 *
 * A group holds GROUP_SIZE consecutive elements of a row. A panel holds the first group of each of
 * its rows, then the second group of each row, and so on. The kernel multiplies a vector of the
 * panel by one group of a left row: each lane adds the dot product of two groups to a sum.
 */
#define NAME(prefix) PASTE(PASTE(prefix, _), TILE)
#define WIDTH (TILE_VECTORS * VF_LANES)

_Static_assert(BYTE_GROUP % GROUP_SIZE == 0 && BYTE_PADDING % sizeof(vc) == 0 &&
                   BYTE_DEPTH * sizeof(group_element) % BYTE_PADDING == 0,
               "byte_kernels relies on these bounds");
_Static_assert((int64_t)BYTE_DEPTH * 255 * 255 <= INT32_MAX, "the sum of a block fits 32 bits");

/* Computes block (TILE_ROWS, WIDTH): dot products over k elements, where k is a multiple of
 * GROUP_SIZE. Not inlined, for the same reason as tile_block of gemm_template.h. */
static __attribute__((noinline)) void NAME(tile_block)(int32_t *restrict block,
                                                       const void *const *rows, size_t at,
                                                       const group_element *panel, size_t k)
{
    const group_element *row[TILE_ROWS];
    vi sums[TILE_ROWS][TILE_VECTORS];
    _Pragma("GCC unroll 16") for (int r = 0; r < TILE_ROWS; r++)
    {
        row[r] = (const group_element *)rows[r] + at;
        _Pragma("GCC unroll 4") for (int v = 0; v < TILE_VECTORS; v++)
        {
            sums[r][v] = vi_zero();
        }
    }
    for (size_t i = 0; i < k; i += GROUP_SIZE, panel += WIDTH * GROUP_SIZE) {
        vc right[TILE_VECTORS];
        _Pragma("GCC unroll 4") for (int v = 0; v < TILE_VECTORS; v++)
        {
            right[v] = vc_load(panel + v * VF_LANES * GROUP_SIZE);
        }
        _Pragma("GCC unroll 16") for (int r = 0; r < TILE_ROWS; r++)
        {
            const vc left = vc_broadcast(row[r] + i);
            _Pragma("GCC unroll 4") for (int v = 0; v < TILE_VECTORS; v++)
            {
                sums[r][v] = TILE_DOT(sums[r][v], left, right[v]);
            }
        }
    }
    _Pragma("GCC unroll 16") for (int r = 0; r < TILE_ROWS; r++)
    {
        _Pragma("GCC unroll 4") for (int v = 0; v < TILE_VECTORS; v++)
        {
            vi_store(block + (r * TILE_VECTORS + v) * VF_LANES, sums[r][v]);
        }
    }
}

/* Returns the sum of k elements of a left row, which is padded with zeros to whole vectors. */
INLINE int32_t NAME(left_sum)(const group_element *row, size_t k)
{
    enum { STEP = VF_LANES * GROUP_SIZE };
    group_element one[STEP];
    int32_t lanes[VF_LANES], sum = 0;
    vi sums = vi_zero();
    for (int i = 0; i < STEP; i++) {
        one[i] = 1;
    }
    for (size_t i = 0; i < k; i += STEP) {
        sums = TILE_DOT(sums, vc_load(row + i), vc_load(one));
    }
    vi_store(lanes, sums);
    for (int i = 0; i < VF_LANES; i++) {
        sum += lanes[i];
    }
    return sum;
}

static void NAME(tile)(double *sums, double *errors, const void *const *rows, const void *panel,
                       size_t at, size_t k, unsigned flags, size_t ahead)
{
    int32_t block[TILE_ROWS * WIDTH];
    (void)errors;
    (void)ahead;
    NAME(tile_block)(block, rows, at, panel, (k + BYTE_GROUP - 1) / BYTE_GROUP * BYTE_GROUP);
    for (int r = 0; r < TILE_ROWS; r++) {
        const int32_t *from = block + r * WIDTH;
        double *to = sums + r * WIDTH;
        /* sum of x (y + bias) = x.y + bias * sum of x */
        const int32_t excess =
            TILE_BIAS == 0 ? 0 : TILE_BIAS * NAME(left_sum)((const group_element *)rows[r] + at, k);
        if (flags & TILE_FIRST) {
            for (int c = 0; c < WIDTH; c++) {
                to[c] = (double)(from[c] - excess);
            }
        } else {
            for (int c = 0; c < WIDTH; c++) {
                to[c] += (double)(from[c] - excess);
            }
        }
    }
}

/* pack_bytes_kernel of kernels.h */
static void NAME(pack)(void *panel_void, const void *const *rows, size_t count, size_t n)
{
    group_element *panel = panel_void;
    const size_t whole = n / GROUP_SIZE * GROUP_SIZE;
    if (count < WIDTH || whole < n) {
        memset(panel, 0, (n + BYTE_GROUP - 1) / BYTE_GROUP * BYTE_GROUP * WIDTH * sizeof *panel);
    }
    for (size_t r = 0; r < count; r++) {
        const TILE_TYPE *row = rows[r];
        group_element *to = panel + r * GROUP_SIZE;
        for (size_t i = 0; i < whole; i += GROUP_SIZE, to += WIDTH * GROUP_SIZE) {
            for (size_t e = 0; e < GROUP_SIZE; e++) {
                to[e] = (group_element)(row[i + e] + TILE_BIAS);
            }
        }
        for (size_t i = whole; i < n; i++) {
            to[i - whole] = (group_element)(row[i] + TILE_BIAS);
        }
    }
}

/* widen_bytes_kernel of kernels.h */
static void NAME(widen)(void *to_void, const void *from_void, size_t n)
{
    group_element *to = to_void;
    const TILE_TYPE *from = from_void;
    for (size_t i = 0; i < n; i++) {
        to[i] = (group_element)from[i];
    }
    const size_t bytes = n * sizeof *to;
    memset(to + n, 0, (bytes + BYTE_PADDING - 1) / BYTE_PADDING * BYTE_PADDING - bytes);
}

#undef NAME
#undef WIDTH
#undef TILE
#undef TILE_TYPE
#undef TILE_DOT
#undef TILE_BIAS
