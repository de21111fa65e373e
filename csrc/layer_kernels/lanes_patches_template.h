/*
 * The gradients of filters of a convolution before a pool, from patches of single images, and the
 * copies of the images that they read. For one type. lanes_template.h includes this file; the
 * contracts are in lanes_kernels.h.
 */

/* The largest number of rows of a patch that are summed at a time, so that their sums fit the
 * registers: for one or two columns, for five and for seven. */
#ifndef LANES_PATCH_ROWS
#define LANES_PATCH_ROWS 5
#define LANES_PATCH_ROWS_5 (TILE_ROWS >= 8 ? 5 : 2)
#define LANES_PATCH_ROWS_7 2
#endif

#define EACH_COLUMN _Pragma("GCC unroll 7") for (int x = 0; x < width; x++)

static void NAME(lanes_channels)(void *out_void, size_t image_step, const void *in_void,
                                 size_t map_step, size_t channels, size_t step, size_t n,
                                 void *check_void)
{
    static const FLOAT_TYPE zeros[FLOAT_LANES];
    FLOAT_TYPE *out = out_void;
    const FLOAT_TYPE *in = in_void;
    const FLOAT_VECTOR zero = FLOAT_OP(set1)(0);
    FLOAT_VECTOR check = FLOAT_OP(load)(check_void);
    for (size_t c = 0; c < channels; c++) {
        for (size_t i = 0; i < n; i++) {
            check = FLOAT_OP(fma)(zero, FLOAT_OP(load)(in + c * map_step + i * FLOAT_LANES), check);
        }
    }
    FLOAT_OP(store)(check_void, check);
    if (step == 1) {
        NAME(lanes_scatter)(out, image_step, in, FLOAT_LANES, n);
        return;
    }
    /* Elements written beyond a pixel's channels are overwritten by the next pixel. */
    for (size_t i = 0; i < n; i++, in += FLOAT_LANES, out += step) {
        for (size_t c = 0; c < step; c += FLOAT_TRANSPOSE_SIZE) {
            const FLOAT_TYPE *rows[FLOAT_TRANSPOSE_SIZE];
            for (size_t r = 0; r < FLOAT_TRANSPOSE_SIZE; r++) {
                rows[r] = c + r < channels ? in + (c + r) * map_step : zeros;
            }
            for (size_t lane = 0; lane < FLOAT_LANES; lane += FLOAT_TRANSPOSE_SIZE) {
                FLOAT_TRANSPOSE(out + lane * image_step + c, image_step, rows, lane);
            }
        }
    }
}

/* The gradients of a filter, and where their patches begin. */
struct NAME(patch_list) {
    size_t n;
    int64_t at[LANES_PATCH_WINDOWS];
    FLOAT_TYPE gradients[LANES_PATCH_WINDOWS];
};

/* Adds the sums of `rows` rows of `width` vectors, from (row, column) on. Leaves out those outside
 * the patch. All sizes share this function: a copy of it would be most of the code of each size. */
static __attribute__((noinline)) void NAME(lanes_patch_add)(const struct lanes_patches *p,
                                                            size_t row, size_t column,
                                                            const FLOAT_TYPE *sums, size_t rows,
                                                            size_t width)
{
    const size_t wanted = p->columns - column < width ? p->columns - column : width;
    FLOAT_TYPE *out = (FLOAT_TYPE *)p->sums + (row * p->columns + column) * FLOAT_LANES;
    for (size_t r = 0; r < rows;
         r++, out += p->columns * FLOAT_LANES, sums += width * FLOAT_LANES) {
        for (size_t i = 0; i < wanted * FLOAT_LANES; i += FLOAT_LANES) {
            FLOAT_OP(store)
            (out + i, FLOAT_OP(add)(FLOAT_OP(load)(out + i), FLOAT_OP(load)(sums + i)));
        }
    }
}

/* Sums `rows` rows of `width` vectors, from (row, column) on. */
INLINE void NAME(lanes_patch)(const struct lanes_patches *p, const struct NAME(patch_list) * list,
                              size_t row, size_t column, const int rows, const int width)
{
    const FLOAT_TYPE *input =
        (const FLOAT_TYPE *)p->input + row * p->row_step + column * FLOAT_LANES;
    const size_t step = p->row_step, n = list->n;
    FLOAT_VECTOR sums[5][7];
    FLOAT_TYPE totals[5 * 7 * FLOAT_LANES];
    EACH_ROW EACH_COLUMN
    {
        sums[r][x] = FLOAT_OP(set1)(0);
    }
    for (size_t i = 0; i < n; i++) {
        const FLOAT_TYPE *from = input + list->at[i];
        const FLOAT_VECTOR gradient = FLOAT_OP(set1)(list->gradients[i]);
        EACH_ROW
        {
            EACH_COLUMN
            {
                const FLOAT_VECTOR value = FLOAT_OP(load)(from + x * FLOAT_LANES);
                sums[r][x] = FLOAT_OP(fma)(gradient, value, sums[r][x]);
            }
            from += step;
            /* Keeps one address in a register; gcc would load one for each vector. */
            __asm__("" : "+r"(from));
        }
    }
    EACH_ROW EACH_COLUMN
    {
        FLOAT_OP(store)(totals + (r * width + x) * FLOAT_LANES, sums[r][x]);
    }
    size_t height = (size_t)rows, columns = (size_t)width;
    __asm__("" : "+r"(height), "+r"(columns)); /* gcc would copy the function for each size */
    NAME(lanes_patch_add)(p, row, column, totals, height, columns);
}

#define PATCH(rows, width) \
    static __attribute__((noinline)) void NAME(lanes_patch_##rows##x##width)( \
        const struct lanes_patches *p, const struct NAME(patch_list) * list, size_t row, \
        size_t column) \
    { \
        NAME(lanes_patch)(p, list, row, column, rows, width); \
    }
#define PATCHES(rows) PATCH(rows, 1) PATCH(rows, 2)
PATCHES(1)
PATCHES(3)
PATCHES(5)
PATCH(1, 5)
PATCH(2, 5)
PATCH(1, 7)
PATCH(2, 7)
#if TILE_ROWS >= 8
PATCH(3, 5)
PATCH(4, 5)
PATCH(5, 5)
#endif
#undef PATCHES
#undef PATCH

/* Lists those of windows [first, first + FLOAT_LANES) of a filter whose gradients are not 0, or all
 * of them if p->zeros is set. */
INLINE void NAME(lanes_list_vector)(const struct lanes_patches *p, struct NAME(patch_list) * list,
                                    size_t first)
{
    const FLOAT_TYPE *gradients = (const FLOAT_TYPE *)p->gradients + first;
    NAME(lanes_numbers) values;
    NAME(lanes_integers) choices, offsets = {0};
    FLOAT_INTEGER chosen[FLOAT_LANES];
    FLOAT_TYPE kept[FLOAT_LANES];
    int64_t at[FLOAT_LANES];
    memcpy(&values, gradients, sizeof values);
    memcpy(&choices, (const FLOAT_INTEGER *)p->choices + first, sizeof choices);
    for (FLOAT_INTEGER i = 0; i < 4; i++) {
        offsets |= (NAME(lanes_integers))(choices == i) & (FLOAT_INTEGER)p->choice_offsets[i];
    }
    /* 1 where the gradient is not 0, or NaN */
    values = (NAME(lanes_numbers))((NAME(lanes_integers))(values != 0) &
                                   (NAME(lanes_integers))((NAME(lanes_numbers)){0} + 1));
    memcpy(kept, &values, sizeof kept);
    memcpy(chosen, &offsets, sizeof chosen);
    for (size_t i = 0; i < FLOAT_LANES; i++) {
        at[i] = p->window_offsets[first + i] + chosen[i];
    }
    const unsigned all = (1u << FLOAT_LANES) - 1,
                   lanes = FLOAT_OP(below)(FLOAT_OP(set1)(0), FLOAT_OP(load)(kept));
    list->n += FLOAT_OP(compress)(list->gradients + list->n, list->at + list->n, gradients, at,
                                  p->zeros ? all : lanes);
}

/* Lists the windows of a filter. */
static void NAME(lanes_list)(const struct lanes_patches *p, struct NAME(patch_list) * list)
{
    const FLOAT_TYPE *gradients = p->gradients;
    const FLOAT_INTEGER *choices = p->choices;
    size_t w = 0;
    list->n = 0;
    for (; w + FLOAT_LANES <= p->windows; w += FLOAT_LANES) {
        NAME(lanes_list_vector)(p, list, w);
    }
    for (; w < p->windows; w++) {
        if (p->zeros || gradients[w] != 0) {
            list->at[list->n] = p->window_offsets[w] + p->choice_offsets[choices[w]];
            list->gradients[list->n++] = gradients[w];
        }
    }
}

static void NAME(lanes_patches)(const struct lanes_patches *call)
{
    typedef void patch(const struct lanes_patches *, const struct NAME(patch_list) *, size_t,
                       size_t);
    static patch *const narrow[2][5] = {
        {NAME(lanes_patch_1x1), NULL, NAME(lanes_patch_3x1), NULL, NAME(lanes_patch_5x1)},
        {NAME(lanes_patch_1x2), NULL, NAME(lanes_patch_3x2), NULL, NAME(lanes_patch_5x2)},
    };
    static patch *const of_5[] = {
        NAME(lanes_patch_1x5), NAME(lanes_patch_2x5),
#if TILE_ROWS >= 8
        NAME(lanes_patch_3x5), NAME(lanes_patch_4x5), NAME(lanes_patch_5x5),
#endif
    };
    static patch *const of_7[] = {NAME(lanes_patch_1x7), NAME(lanes_patch_2x7)};
    struct lanes_patches p = *call;
    const size_t width = lanes_patch_width(p.columns), most = width == 7   ? LANES_PATCH_ROWS_7
                                                              : width == 5 ? LANES_PATCH_ROWS_5
                                                                           : LANES_PATCH_ROWS;
    patch *const *patches = width == 7 ? of_7 : width == 5 ? of_5 : narrow[width - 1];
    struct NAME(patch_list) list;
    for (size_t f = 0; f < p.filters; f++) {
        NAME(lanes_list)(&p, &list);
        for (size_t row = 0, rows; row < p.rows && list.n > 0; row += rows) {
            rows = p.rows - row < most ? p.rows - row : most;
            rows = patches[rows - 1] == NULL ? rows - 1 : rows;
            for (size_t column = 0; column < p.columns; column += width) {
                patches[rows - 1](&p, &list, row, column);
            }
        }
        p.gradients = (const FLOAT_TYPE *)p.gradients + p.filter_step;
        p.choices = (const FLOAT_INTEGER *)p.choices + p.filter_step;
        p.sums = (FLOAT_TYPE *)p.sums + p.rows * p.columns * FLOAT_LANES;
    }
}
#undef EACH_COLUMN
