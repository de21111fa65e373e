/*
 * The micro-kernels of network layers, forward and backward, for one type (simd/float32.h).
 * The contracts are in kernels.h.
 *
 * `outer` and `dots` read vectors in place, so their operands need no packing. Order of summation:
 * `outer` adds the steps one by one in each lane. `dots` adds the vectors one by one in each lane,
 * then the lanes, then the tail of the row.
 */

/* DOTS_SUMS rounded up to a multiple of FLOAT_LANES */
#define DOTS_TOTALS (FLOAT_LANES > DOTS_SUMS ? FLOAT_LANES : DOTS_SUMS)

INLINE void NAME(outer_tile)(const struct outer *o, size_t first, const int rows, const int vectors)
{
    const FLOAT_TYPE *left = o->left, *right[WIDE_VECTORS];
    FLOAT_VECTOR sums[OUTER_MOST_ROWS][WIDE_VECTORS];
    _Pragma("GCC unroll 4") for (int v = 0; v < vectors; v++)
    {
        right[v] = (const FLOAT_TYPE *)o->right + o->vector_offsets[first + (size_t)v];
        _Pragma("GCC unroll 16") for (int r = 0; r < rows; r++)
        {
            sums[r][v] = FLOAT_OP(set1)(0);
        }
    }
    for (size_t i = 0; i < o->depth; i++, left += o->left_depth_step) {
        const ptrdiff_t at = o->depth_offsets[i];
        FLOAT_VECTOR x[WIDE_VECTORS];
        _Pragma("GCC unroll 4") for (int v = 0; v < vectors; v++)
        {
            x[v] = FLOAT_OP(load)(right[v] + at);
        }
        _Pragma("GCC unroll 16") for (int r = 0; r < rows; r++)
        {
            const FLOAT_VECTOR factor = FLOAT_OP(set1)(left[r * o->left_row_step]);
            _Pragma("GCC unroll 4") for (int v = 0; v < vectors; v++)
            {
                sums[r][v] = FLOAT_OP(fma)(factor, x[v], sums[r][v]);
            }
        }
    }
    if (o->partial_sums != NULL) {
        _Pragma("GCC unroll 16") for (int r = 0; r < rows; r++)
        {
            _Pragma("GCC unroll 4") for (int v = 0; v < vectors; v++)
            {
                const FLOAT_TYPE *partial = (const FLOAT_TYPE *)o->partial_sums +
                                            (size_t)r * o->partial_sums_step +
                                            (first + (size_t)v) * FLOAT_LANES;
                sums[r][v] = FLOAT_OP(add)(FLOAT_OP(load)(partial), sums[r][v]);
            }
        }
    }
    if (o->bias != NULL) {
        _Pragma("GCC unroll 16") for (int r = 0; r < rows; r++)
        {
            const FLOAT_VECTOR bias = FLOAT_OP(set1)(((const FLOAT_TYPE *)o->bias)[r]);
            _Pragma("GCC unroll 4") for (int v = 0; v < vectors; v++)
            {
                sums[r][v] = FLOAT_OP(add)(sums[r][v], bias);
            }
        }
    }
    if (o->relu) {
        _Pragma("GCC unroll 16") for (int r = 0; r < rows; r++)
        {
            _Pragma("GCC unroll 4") for (int v = 0; v < vectors; v++)
            {
                sums[r][v] = FLOAT_OP(relu)(sums[r][v]);
            }
        }
    }
    FLOAT_TYPE *out = o->out;
    if (o->pool && vectors == 2) {
        out += o->out_offsets[first / 2];
        _Pragma("GCC unroll 16") for (int r = 0; r < rows; r++, out += o->out_step)
        {
            FLOAT_OP(store_pair_maxima)(out, FLOAT_OP(max_propagating_nan)(sums[r][0], sums[r][1]));
        }
        return;
    }
    _Pragma("GCC unroll 16") for (int r = 0; r < rows; r++, out += o->out_step)
    {
        _Pragma("GCC unroll 4") for (int v = 0; v < vectors; v++)
        {
            FLOAT_OP(store)(out + o->out_offsets[first + (size_t)v], sums[r][v]);
        }
    }
}

_Static_assert(TILE_VECTORS == 2, "a pooling window needs the vectors of two rows");

/* outer_kernel for a fixed number of rows. Each number has its own function, so that the compiler
 * allocates registers for each separately. */
#define OUTER_ROWS(rows) \
    static __attribute__((noinline)) void NAME(outer_##rows)(const struct outer *call) \
    { \
        const struct outer o = *call; /* a local copy cannot alias o.out */ \
        size_t v = 0; \
        for (; rows == OUTER_WIDE_ROWS && !o.pool && v + WIDE_VECTORS <= o.vectors; \
             v += WIDE_VECTORS) { \
            NAME(outer_tile)(&o, v, rows, WIDE_VECTORS); \
        } \
        for (; v + TILE_VECTORS <= o.vectors; v += TILE_VECTORS) { \
            NAME(outer_tile)(&o, v, rows, TILE_VECTORS); \
        } \
        for (; v < o.vectors; v++) { \
            NAME(outer_tile)(&o, v, rows, 1); \
        } \
    }
OUTER_ROWS(1)
OUTER_ROWS(2)
OUTER_ROWS(3)
OUTER_ROWS(4)
#if TILE_ROWS > 4
OUTER_ROWS(5)
OUTER_ROWS(6)
#endif
#if TILE_ROWS > 6
OUTER_ROWS(7)
OUTER_ROWS(8)
OUTER_ROWS(9)
OUTER_ROWS(10)
#endif
#undef OUTER_ROWS

static void NAME(outer)(const struct outer *o, size_t rows)
{
    static void (*const by_rows[])(const struct outer *) = {
        NAME(outer_1), NAME(outer_2), NAME(outer_3), NAME(outer_4),
#if TILE_ROWS > 4
        NAME(outer_5), NAME(outer_6),
#endif
#if TILE_ROWS > 6
        NAME(outer_7), NAME(outer_8), NAME(outer_9), NAME(outer_10),
#endif
    };
    _Static_assert(sizeof by_rows / sizeof *by_rows == OUTER_MOST_ROWS,
                   "one function for each number of rows");
    by_rows[rows - 1](o);
}

/* Adds the products of the last d->tail elements of left and right rows to the totals. */
static __attribute__((noinline)) void NAME(dots_tails)(const struct dots *d,
                                                       const FLOAT_TYPE *const *left,
                                                       const FLOAT_TYPE *const *right, size_t rows,
                                                       size_t columns, FLOAT_TYPE *totals)
{
    for (size_t c = 0; c < columns; c++) {
        const FLOAT_TYPE *y = right[c] + d->tail_offset;
        for (size_t r = 0; r < rows; r++) {
            const FLOAT_TYPE *x = left[r] + d->tail_offset;
            FLOAT_TYPE total = totals[c * rows + r];
            for (size_t i = 0; i < d->tail; i++) {
                total += x[i] * y[i];
            }
            totals[c * rows + r] = total;
        }
    }
}

/*
 * Computes rows * columns dot products. Stores only those of the first wanted_rows rows and
 * wanted_columns columns. left has `rows` pointers, right has `columns`, and d->bias has
 * `rows` elements.
 */
INLINE void NAME(dots_tile)(const struct dots *d, const FLOAT_TYPE *const *left,
                            const FLOAT_TYPE *const *right, const int rows, const int columns,
                            size_t wanted_rows, size_t wanted_columns, FLOAT_TYPE *out)
{
    FLOAT_VECTOR sums[DOTS_TOTALS];
    FLOAT_TYPE totals[DOTS_TOTALS];
    _Pragma("GCC unroll 16") for (int i = 0; i < DOTS_TOTALS; i++)
    {
        sums[i] = FLOAT_OP(set1)(0);
    }
    for (size_t i = 0; i < d->vectors; i++) {
        const ptrdiff_t left_offset = d->left_offsets[i], right_offset = d->right_offsets[i];
        FLOAT_VECTOR x[DOTS_SUMS];
        _Pragma("GCC unroll 16") for (int r = 0; r < rows; r++)
        {
            x[r] = FLOAT_OP(load)(left[r] + left_offset);
        }
        _Pragma("GCC unroll 4") for (int c = 0; c < columns; c++)
        {
            const FLOAT_VECTOR y = FLOAT_OP(load)(right[c] + right_offset);
            _Pragma("GCC unroll 16") for (int r = 0; r < rows; r++)
            {
                sums[c * rows + r] = FLOAT_OP(fma)(x[r], y, sums[c * rows + r]);
            }
        }
    }
    _Pragma("GCC unroll 16") for (int i = 0; i < rows * columns; i += FLOAT_LANES)
    {
        FLOAT_OP(store)(totals + i, FLOAT_OP(row_sums)(sums + i));
    }
    if (d->tail > 0) {
        NAME(dots_tails)(d, left, right, (size_t)rows, (size_t)columns, totals);
    }
    for (int c = 0; d->add && c < (int)wanted_columns; c++) {
        for (size_t r = 0; r < wanted_rows; r++) {
            totals[c * rows + (int)r] += out[r * d->out_row_step + (size_t)c * d->out_column_step];
        }
    }
    for (int i = 0; d->bias != NULL && i < rows * columns; i++) {
        totals[i] += ((const FLOAT_TYPE *)d->bias)[i % rows];
    }
    for (int i = 0; d->relu && i < rows * columns; i++) {
        totals[i] = 0 > totals[i] ? 0 : totals[i];
    }
    for (int c = 0; c < (int)wanted_columns; c++, out += d->out_column_step) {
        if (wanted_rows == (size_t)rows && d->out_row_step == 1) {
            memcpy(out, totals + c * rows, (size_t)rows * sizeof *out);
            continue;
        }
        for (size_t r = 0; r < wanted_rows; r++) {
            out[r * d->out_row_step] = totals[c * rows + (int)r];
        }
    }
}

/* Copies n left rows from row r on, and their biases. Repeats the last one if there are fewer.
 * Returns how many there are. */
INLINE size_t NAME(dots_rows)(const struct dots *d, const void *const *left, size_t r, size_t rows,
                              size_t n, const FLOAT_TYPE **x, FLOAT_TYPE *bias)
{
    const size_t wanted = rows - r < n ? rows - r : n;
    for (size_t i = 0; i < n; i++) {
        const size_t at = r + (i < wanted ? i : wanted - 1);
        x[i] = left[at];
        bias[i] = d->bias == NULL ? 0 : ((const FLOAT_TYPE *)d->bias)[at];
    }
    return wanted;
}

/* dots_kernel for one column: its row stays in the L1 cache. */
static void NAME(dots_of_one)(const struct dots *d, const void *const *left, size_t rows,
                              const void *right, FLOAT_TYPE *out)
{
    const FLOAT_TYPE *x[DOTS_SUMS], *y = right;
    FLOAT_TYPE bias[DOTS_SUMS];
    struct dots of_rows = *d;
    of_rows.bias = d->bias == NULL ? NULL : bias;
    for (size_t r = 0, n; r < rows; r += n, out += n * d->out_row_step) {
        n = rows - r > 2 * DOTS_ROWS ? DOTS_SUMS : 2 * DOTS_ROWS;
        const size_t wanted = NAME(dots_rows)(d, left, r, rows, n, x, bias);
        if (n == DOTS_SUMS) {
            NAME(dots_tile)(&of_rows, x, &y, DOTS_SUMS, 1, wanted, 1, out);
        } else {
            NAME(dots_tile)(&of_rows, x, &y, 2 * DOTS_ROWS, 1, wanted, 1, out);
        }
    }
}

static void NAME(dots)(const struct dots *d, const void *const *left, size_t rows,
                       const void *const *right, size_t columns, void *out)
{
    const FLOAT_TYPE *x[DOTS_ROWS], *y[DOTS_COLUMNS];
    FLOAT_TYPE bias[DOTS_ROWS];
    struct dots of_rows = *d;
    of_rows.bias = d->bias == NULL ? NULL : bias;
    if (columns == 1) {
        NAME(dots_of_one)(d, left, rows, right[0], out);
        return;
    }
    /* DOTS_ROWS left rows stay in the L1 cache while all right rows are read. */
    for (size_t r = 0; r < rows; r += DOTS_ROWS) {
        const size_t wanted = NAME(dots_rows)(d, left, r, rows, DOTS_ROWS, x, bias);
        for (size_t c = 0, count; c < columns; c += count) {
            count = columns - c < DOTS_COLUMNS ? columns - c : DOTS_COLUMNS;
            for (size_t i = 0; i < DOTS_COLUMNS; i++) {
                y[i] = right[c + (i < count ? i : count - 1)];
            }
            FLOAT_TYPE *to = (FLOAT_TYPE *)out + r * d->out_row_step + c * d->out_column_step;
            if (count > 2) {
                NAME(dots_tile)(&of_rows, x, y, DOTS_ROWS, DOTS_COLUMNS, wanted, count, to);
            } else {
                NAME(dots_tile)(&of_rows, x, y, DOTS_ROWS, 2, wanted, count, to);
            }
        }
    }
}

/* patches_kernel for a compile-time constant `rows`. */
INLINE void NAME(patch_rows)(FLOAT_TYPE *sums, const FLOAT_TYPE *x, size_t row_step,
                             const ptrdiff_t *offsets, const FLOAT_TYPE *factors, size_t n,
                             const int rows)
{
    FLOAT_VECTOR even[PATCH_ROWS], odd[PATCH_ROWS];
    _Pragma("GCC unroll 6") for (int r = 0; r < rows; r++)
    {
        even[r] = odd[r] = FLOAT_OP(set1)(0);
    }
    size_t i = 0;
    for (; i + 2 <= n; i += 2) {
        const FLOAT_TYPE *first = x + offsets[i], *second = x + offsets[i + 1];
        const FLOAT_VECTOR f = FLOAT_OP(set1)(factors[i]), g = FLOAT_OP(set1)(factors[i + 1]);
        _Pragma("GCC unroll 6") for (int r = 0; r < rows; r++)
        {
            even[r] = FLOAT_OP(fma)(f, FLOAT_OP(load)(first + (size_t)r * row_step), even[r]);
            odd[r] = FLOAT_OP(fma)(g, FLOAT_OP(load)(second + (size_t)r * row_step), odd[r]);
        }
    }
    for (; i < n; i++) {
        _Pragma("GCC unroll 6") for (int r = 0; r < rows; r++)
        {
            even[r] = FLOAT_OP(fma)(FLOAT_OP(set1)(factors[i]),
                                    FLOAT_OP(load)(x + offsets[i] + (size_t)r * row_step), even[r]);
        }
    }
    _Pragma("GCC unroll 6") for (int r = 0; r < rows; r++)
    {
        FLOAT_OP(store)(sums + r * FLOAT_LANES, FLOAT_OP(add)(even[r], odd[r]));
    }
}

static void NAME(patches)(void *sums, const void *x, size_t row_step, const ptrdiff_t *offsets,
                          const void *factors, size_t n, size_t rows)
{
    switch (rows) {
    case 1:
        NAME(patch_rows)(sums, x, row_step, offsets, factors, n, 1);
        break;
    case 2:
        NAME(patch_rows)(sums, x, row_step, offsets, factors, n, 2);
        break;
    case 3:
        NAME(patch_rows)(sums, x, row_step, offsets, factors, n, 3);
        break;
    case 4:
        NAME(patch_rows)(sums, x, row_step, offsets, factors, n, 4);
        break;
    case 5:
        NAME(patch_rows)(sums, x, row_step, offsets, factors, n, 5);
        break;
    default:
        NAME(patch_rows)(sums, x, row_step, offsets, factors, n, 6);
        break;
    }
}

static void NAME(add_rows)(void *to_void, size_t to_row_step, size_t to_column_step,
                           const void *from_void, size_t from_step, size_t rows, size_t n)
{
    FLOAT_TYPE *to = to_void;
    const FLOAT_TYPE *from = from_void;
    const size_t in_vectors = to_column_step == 1 ? n / FLOAT_LANES * FLOAT_LANES : 0;
    for (size_t r = 0; r < rows; r++, to += to_row_step, from += from_step) {
        size_t i = 0;
        for (; i < in_vectors; i += FLOAT_LANES) {
            FLOAT_OP(store)(to + i,
                            FLOAT_OP(add)(FLOAT_OP(load)(to + i), FLOAT_OP(load)(from + i)));
        }
        for (; i < n; i++) {
            to[i * to_column_step] += from[i];
        }
    }
}

/*
 * maxima[i] is the larger of in[2 i] and in[2 i + 1]: the first of two equal elements, the NaN if
 * one is NaN, the second of two NaNs. second[i] is 1 if the second element was taken, else 0.
 * Compilers vectorize the loops of this function and of max_pool2x2.
 */
INLINE void NAME(pair_maxima)(FLOAT_TYPE *restrict maxima, FLOAT_INTEGER *restrict second,
                              const FLOAT_TYPE *restrict in, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const FLOAT_TYPE left = in[2 * i], right = in[2 * i + 1];
        const FLOAT_INTEGER take = (FLOAT_INTEGER)(right > left) | (FLOAT_INTEGER)(right != right);
        maxima[i] = take ? right : left;
        second[i] = take;
    }
}

/* The maxima of FLOAT_LANES windows of 2 x 2 whose rows lie `width` elements apart. */
INLINE FLOAT_VECTOR NAME(square_maxima)(const FLOAT_TYPE *in, size_t width)
{
    FLOAT_VECTOR maxima, even, odd;
    FLOAT_OP(load_alternating)(in, &maxima, &odd);
    maxima = FLOAT_OP(max_propagating_nan)(odd, maxima);
    FLOAT_OP(load_alternating)(in + width, &even, &odd);
    maxima = FLOAT_OP(max_propagating_nan)(even, maxima);
    return FLOAT_OP(max_propagating_nan)(odd, maxima);
}

/* max_pool2x2 without indices, for at least FLOAT_LANES output columns. */
static void NAME(max_pool2x2_values)(FLOAT_TYPE *out, const FLOAT_TYPE *in, size_t width,
                                     size_t out_rows, size_t out_columns)
{
    for (size_t y = 0; y < out_rows; y++, in += 2 * width, out += out_columns) {
        size_t i = 0;
        for (; i + FLOAT_LANES <= out_columns; i += FLOAT_LANES) {
            FLOAT_OP(store)(out + i, NAME(square_maxima)(in + 2 * i, width));
        }
        if (i < out_columns) { /* the last vector overlaps the one before it */
            i = out_columns - FLOAT_LANES;
            FLOAT_OP(store)(out + i, NAME(square_maxima)(in + 2 * i, width));
        }
    }
}

static void NAME(max_pool2x2)(void *out_void, int64_t *indices, const void *in_void, size_t width,
                              size_t out_rows, size_t out_columns)
{
    if (indices == NULL && out_columns >= FLOAT_LANES) {
        NAME(max_pool2x2_values)(out_void, in_void, width, out_rows, out_columns);
        return;
    }
    enum { BLOCK = 256 };
    FLOAT_TYPE maxima[2 * BLOCK], *restrict out = out_void;
    FLOAT_INTEGER second[2 * BLOCK];
    const FLOAT_TYPE *in = in_void;
    /* Windows of an output row that are pooled at a time. */
    const size_t n = out_columns < BLOCK ? out_columns : BLOCK;
    /* Dense rows follow one another in memory, so several rows are pooled together. */
    const bool dense = n > 0 && width == 2 * out_columns && n == out_columns;
    const size_t max_rows = dense ? BLOCK / n : 1;
    for (size_t row = 0, rows; row < out_rows; row += rows) {
        rows = out_rows - row < max_rows ? out_rows - row : max_rows;
        for (size_t column = 0, count; column < out_columns; column += count) {
            count = out_columns - column < n ? out_columns - column : n;
            const FLOAT_TYPE *from = in + 2 * row * width + 2 * column;
            if (dense) {
                NAME(pair_maxima)(maxima, second, from, 2 * rows * count);
            } else {
                NAME(pair_maxima)(maxima, second, from, count);
                NAME(pair_maxima)(maxima + count, second + count, from + width, count);
            }
            for (size_t r = 0; r < rows; r++) {
                const FLOAT_TYPE *restrict above = maxima + 2 * r * count;
                const FLOAT_TYPE *restrict below = above + count;
                const FLOAT_INTEGER *restrict second_above = second + 2 * r * count;
                const FLOAT_INTEGER *restrict second_below = second_above + count;
                const size_t to = (row + r) * out_columns + column;
                const int64_t first = (int64_t)(2 * ((row + r) * width + column));
                for (size_t i = 0; i < count; i++) {
                    const FLOAT_INTEGER take = (FLOAT_INTEGER)(below[i] > above[i]) |
                                               (FLOAT_INTEGER)(below[i] != below[i]);
                    out[to + i] = take ? below[i] : above[i];
                    if (indices != NULL) {
                        indices[to + i] =
                            first + (int64_t)(2 * i) +
                            (take ? second_below[i] + (FLOAT_INTEGER)width : second_above[i]);
                    }
                }
            }
        }
    }
}

/* Compilers vectorize both loops. */
static void NAME(max_pairs)(void *to_void, void *position_to_void, const void *a_void,
                            const void *position_a_void, const void *b_void,
                            const void *position_b_void, size_t n)
{
    FLOAT_TYPE *restrict to = to_void;
    FLOAT_INTEGER *restrict position_to = position_to_void;
    const FLOAT_TYPE *a = a_void, *b = b_void;
    const FLOAT_INTEGER *position_a = position_a_void, *position_b = position_b_void;
    if (position_to == NULL) {
        for (size_t i = 0; i < n; i++) {
            const FLOAT_TYPE first = a[i], second = b[i];
            to[i] = ((second > first) | (second != second)) ? second : first;
        }
        return;
    }
    for (size_t i = 0; i < n; i++) {
        const FLOAT_TYPE first = a[i], second = b[i];
        const FLOAT_INTEGER take =
            -((FLOAT_INTEGER)(second > first) | (FLOAT_INTEGER)(second != second));
        to[i] = take ? second : first;
        position_to[i] = (position_b[i] & take) | (position_a[i] & ~take);
    }
}

#undef DOTS_TOTALS
