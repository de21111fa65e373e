/*
 * The micro-kernels of layers whose vectors lie across images, for one type (simd/float32.h). A
 * vector holds one pixel of as many images as it has lanes. The contracts are in lanes_kernels.h.
 *
 * No kernel moves data between lanes, except those that transpose. So an image's results do not
 * depend on its lane or on its neighbours.
 */

/* The numbers of sums that fit the registers together with the operands of a step: filters by
 * pixels, and filters by entries of a filter. Instruction sets with a TILE_ROWS of 8 have 32
 * registers, others 16. */
#ifndef LANES_ROWS
#if TILE_ROWS >= 8
#define LANES_ROWS 6
#define LANES_SUM_ROWS 5
#define LANES_SUM_COLUMNS 5
#else
#define LANES_ROWS 3
#define LANES_SUM_ROWS 3
#define LANES_SUM_COLUMNS 4
#endif
#define LANES_PIXELS 4
#endif

#define EACH_ROW _Pragma("GCC unroll 6") for (int r = 0; r < rows; r++)
#define EACH_ENTRY _Pragma("GCC unroll 5") for (int e = 0; e < LANES_SUM_COLUMNS; e++)
#define EACH_PIXEL _Pragma("GCC unroll 4") for (int v = 0; v < pixels; v++)

/* Vector types of gcc and clang: comparisons of them give masks. Loops over the lanes are no
 * alternative, because compilers unroll them for short vectors and then branch for each lane. */
typedef FLOAT_TYPE NAME(lanes_numbers)
    __attribute__((vector_size(FLOAT_LANES * sizeof(FLOAT_TYPE))));
typedef FLOAT_INTEGER NAME(lanes_integers)
    __attribute__((vector_size(FLOAT_LANES * sizeof(FLOAT_TYPE))));

/* Makes a later pixel of a window, of value `value`, the best one in each lane where it is NaN or
 * larger than the best one so far. So the first of equal maxima counts, and the last NaN. */
INLINE void NAME(lanes_take)(NAME(lanes_numbers) * best, NAME(lanes_integers) * choice,
                             NAME(lanes_numbers) value, NAME(lanes_integers) number)
{
    const NAME(lanes_integers) take = (NAME(lanes_integers))((value > *best) | (value != value)),
                               bits = (NAME(lanes_integers)) * best;
    *best = (NAME(lanes_numbers))(((NAME(lanes_integers))value & take) | (bits & ~take));
    *choice = (take & number) | (*choice & ~take);
}

/* Returns the maximum of a 2 x 2 window. Stores the number of the pixel that is the maximum. */
INLINE FLOAT_VECTOR NAME(lanes_choose)(FLOAT_INTEGER *choices, const FLOAT_VECTOR window[4])
{
    typedef NAME(lanes_numbers) numbers;
    NAME(lanes_integers) choice = {0}, other = choice + 2;
    numbers best = (numbers)window[0], rest = (numbers)window[2];
    NAME(lanes_take)(&best, &choice, (numbers)window[1], choice + 1);
    NAME(lanes_take)(&rest, &other, (numbers)window[3], other + 1);
    NAME(lanes_take)(&best, &choice, rest, other);
    memcpy(choices, &choice, sizeof choice);
    return (FLOAT_VECTOR)best;
}

/* Sums one chain, steps [first, end), for `rows` filters and `pixels` pixels. */
INLINE void NAME(lanes_chain)(FLOAT_VECTOR sums[LANES_ROWS][LANES_PIXELS],
                              const struct lanes_conv *c, const FLOAT_TYPE *weight,
                              const FLOAT_TYPE *const *input, size_t first, size_t end,
                              const int rows, const int pixels)
{
    const size_t step = c->filter_step, depth_step = c->depth_step;
    const ptrdiff_t *taps = c->tap_offsets;
    weight += first * depth_step;
    EACH_ROW EACH_PIXEL
    {
        sums[r][v] = FLOAT_OP(set1)(0);
    }
    for (size_t i = first; i < end; i++, weight += depth_step) {
        const ptrdiff_t tap = taps[i];
        FLOAT_VECTOR factors[LANES_ROWS];
        /* One address for all filters; with more, gcc kept operands in memory. */
        __asm__("" : "+r"(weight));
        EACH_ROW
        {
            factors[r] = FLOAT_OP(set1)(weight[(size_t)r * step]);
        }
        EACH_PIXEL
        {
            const FLOAT_VECTOR x = FLOAT_OP(load)(input[v] + tap);
            EACH_ROW
            {
                sums[r][v] = FLOAT_OP(fma)(factors[r], x, sums[r][v]);
            }
        }
    }
}

/* Computes the sums of `rows` filters and `pixels` pixels, from `filter` and `pixel` on. */
INLINE void NAME(lanes_tile)(const struct lanes_conv *c, size_t filter, size_t pixel,
                             const int rows, const int pixels)
{
    const FLOAT_TYPE *weight = (const FLOAT_TYPE *)c->weight + filter * c->filter_step;
    const FLOAT_TYPE *input[LANES_PIXELS];
    const size_t depth = c->depth, chain = c->chain;
    FLOAT_VECTOR sums[LANES_ROWS][LANES_PIXELS];
    FLOAT_TYPE totals[LANES_ROWS][LANES_PIXELS][FLOAT_LANES];
    EACH_PIXEL
    {
        input[v] = (const FLOAT_TYPE *)c->input + c->pixel_offsets[pixel + (size_t)v];
    }
    size_t end = depth > chain ? chain : depth;
    NAME(lanes_chain)(sums, c, weight, input, 0, end, rows, pixels);
    while (end < depth) {
        const size_t first = end;
        end = depth - end > chain ? end + chain : depth;
        EACH_ROW EACH_PIXEL
        {
            FLOAT_OP(store)(totals[r][v], sums[r][v]);
        }
        NAME(lanes_chain)(sums, c, weight, input, first, end, rows, pixels);
        EACH_ROW EACH_PIXEL
        {
            sums[r][v] = FLOAT_OP(add)(FLOAT_OP(load)(totals[r][v]), sums[r][v]);
        }
    }
    /* Read before results are stored, which could change them as far as the compiler knows. */
    const size_t map_step = c->map_step;
    FLOAT_TYPE *out = (FLOAT_TYPE *)c->output + filter * map_step;
    ptrdiff_t outputs[LANES_PIXELS];
    EACH_PIXEL
    {
        outputs[v] = c->pool ? 0 : c->output_offsets[pixel + (size_t)v];
    }
    if (c->add) {
        EACH_ROW EACH_PIXEL
        {
            const FLOAT_TYPE *at = out + (size_t)r * map_step + outputs[v];
            sums[r][v] = FLOAT_OP(add)(FLOAT_OP(load)(at), sums[r][v]);
        }
    }
    if (c->bias != NULL) {
        EACH_ROW
        {
            const FLOAT_VECTOR bias =
                FLOAT_OP(set1)(((const FLOAT_TYPE *)c->bias)[filter + (size_t)r]);
            EACH_PIXEL
            {
                sums[r][v] = FLOAT_OP(add)(sums[r][v], bias);
            }
        }
    }
    if (c->pool && pixels == LANES_PIXELS) {
        const ptrdiff_t at = c->output_offsets[pixel / LANES_PIXELS];
        EACH_ROW
        {
            FLOAT_TYPE *to = out + (size_t)r * map_step + at;
            FLOAT_VECTOR largest;
            if (c->choices != NULL) {
                largest = NAME(lanes_choose)((FLOAT_INTEGER *)c->choices +
                                                 (filter + (size_t)r) * c->choice_step +
                                                 c->choice_offsets[pixel / LANES_PIXELS],
                                             sums[r]);
            } else {
                largest = FLOAT_OP(max_propagating_nan)(
                    FLOAT_OP(max_propagating_nan)(sums[r][0], sums[r][1]),
                    FLOAT_OP(max_propagating_nan)(sums[r][2], sums[r][3]));
            }
            FLOAT_OP(store)(to, c->relu ? FLOAT_OP(relu)(largest) : largest);
        }
        return;
    }
    if (c->relu) {
        EACH_ROW EACH_PIXEL
        {
            sums[r][v] = FLOAT_OP(relu)(sums[r][v]);
        }
    }
    EACH_PIXEL
    {
        FLOAT_TYPE *to = out + outputs[v];
        EACH_ROW
        {
            FLOAT_OP(store)(to + (size_t)r * map_step, sums[r][v]);
        }
    }
}

/* Each size of a tile has its own function, so that the compiler allocates registers for each
 * separately. */
#define LANES_TILE(rows, pixels) \
    static __attribute__((noinline)) void NAME(lanes_tile_##rows##x##pixels)( \
        const struct lanes_conv *c, size_t filter, size_t pixel) \
    { \
        NAME(lanes_tile)(c, filter, pixel, rows, pixels); \
    }
#define LANES_TILES(rows) LANES_TILE(rows, 1) LANES_TILE(rows, 2) LANES_TILE(rows, 4)
#define LANES_TILES_ROW(rows) \
    {NAME(lanes_tile_##rows##x1), NAME(lanes_tile_##rows##x2), NAME(lanes_tile_##rows##x4)},
LANES_TILES(1)
LANES_TILES(2)
LANES_TILES(3)
#if LANES_ROWS > 3
LANES_TILES(4)
LANES_TILES(5)
LANES_TILES(6)
#endif

/* Returns the first row of part `part`, if n rows are divided into `parts` nearly equal parts. */
INLINE size_t NAME(lanes_part)(size_t n, size_t parts, size_t part)
{
    return n / parts * part + (part < n % parts ? part : n % parts);
}

/* The inner loop runs over tiles of filters, so all of them except the first read their input from
 * the L1 cache. */
static void NAME(lanes_conv)(const struct lanes_conv *call, size_t filters, size_t pixels)
{
    static void (*const tiles[LANES_ROWS][3])(const struct lanes_conv *, size_t, size_t) = {
        LANES_TILES_ROW(1) LANES_TILES_ROW(2) LANES_TILES_ROW(3)
#if LANES_ROWS > 3
            LANES_TILES_ROW(4) LANES_TILES_ROW(5) LANES_TILES_ROW(6)
#endif
    };
    const struct lanes_conv c = *call; /* a local copy cannot alias the output */
    const size_t parts = (filters + LANES_ROWS - 1) / LANES_ROWS;
    for (size_t p = 0, n; p < pixels; p += n) {
        n = pixels - p >= 4 ? 4 : pixels - p >= 2 ? 2 : 1;
        for (size_t part = 0; part < parts; part++) {
            const size_t first = NAME(lanes_part)(filters, parts, part),
                         end = NAME(lanes_part)(filters, parts, part + 1);
            tiles[end - first - 1][n / 2](&c, first, p);
        }
    }
}
#undef LANES_TILE
#undef LANES_TILES
#undef LANES_TILES_ROW

static void NAME(lanes_gather)(void *out_void, const void *in_void, size_t image_step,
                               size_t images, size_t n)
{
    FLOAT_TYPE *out = out_void;
    const FLOAT_TYPE *in = in_void;
    size_t first = 0;
    for (; first + FLOAT_TRANSPOSE_SIZE <= images; first += FLOAT_TRANSPOSE_SIZE) {
        const FLOAT_TYPE *rows[FLOAT_TRANSPOSE_SIZE];
        for (size_t r = 0; r < FLOAT_TRANSPOSE_SIZE; r++) {
            rows[r] = in + (first + r) * image_step;
        }
        size_t i = 0;
        for (; i + FLOAT_TRANSPOSE_SIZE <= n; i += FLOAT_TRANSPOSE_SIZE) {
            FLOAT_TRANSPOSE(out + i * FLOAT_LANES + first, FLOAT_LANES, rows, i);
        }
        for (; i < n; i++) {
            for (size_t r = 0; r < FLOAT_TRANSPOSE_SIZE; r++) {
                out[i * FLOAT_LANES + first + r] = rows[r][i];
            }
        }
    }
    for (size_t i = 0; i < n && first < FLOAT_LANES; i++) {
        for (size_t r = first; r < FLOAT_LANES; r++) {
            out[i * FLOAT_LANES + r] = r < images ? in[r * image_step + i] : 0;
        }
    }
}

static __attribute__((noinline)) void
NAME(lanes_scatter)(void *out_void, size_t image_step, const void *in_void, size_t images, size_t n)
{
    FLOAT_TYPE *out = out_void;
    const FLOAT_TYPE *in = in_void;
    size_t first = 0;
    for (; first + FLOAT_TRANSPOSE_SIZE <= images; first += FLOAT_TRANSPOSE_SIZE) {
        size_t i = 0;
        for (; i + FLOAT_TRANSPOSE_SIZE <= n; i += FLOAT_TRANSPOSE_SIZE) {
            const FLOAT_TYPE *rows[FLOAT_TRANSPOSE_SIZE];
            for (size_t r = 0; r < FLOAT_TRANSPOSE_SIZE; r++) {
                rows[r] = in + (i + r) * FLOAT_LANES;
            }
            FLOAT_TRANSPOSE(out + first * image_step + i, image_step, rows, first);
        }
        for (; i < n; i++) {
            for (size_t r = first; r < first + FLOAT_TRANSPOSE_SIZE; r++) {
                out[r * image_step + i] = in[i * FLOAT_LANES + r];
            }
        }
    }
    for (size_t r = first; r < images; r++) {
        for (size_t i = 0; i < n; i++) {
            out[r * image_step + i] = in[i * FLOAT_LANES + r];
        }
    }
}

static void NAME(lanes_relu)(void *out_void, const void *in_void, size_t n)
{
    FLOAT_TYPE *out = out_void;
    const FLOAT_TYPE *in = in_void;
    for (size_t i = 0; i < n; i++) {
        FLOAT_OP(store)
        (out + i * FLOAT_LANES, FLOAT_OP(relu)(FLOAT_OP(load)(in + i * FLOAT_LANES)));
    }
}

static void NAME(lanes_max_pool)(void *out, void *choices_void, const void *in_void,
                                 const struct lanes_window *w)
{
    NAME(lanes_numbers) best = (NAME(lanes_numbers)){0} - (FLOAT_TYPE)INFINITY;
    NAME(lanes_integers) choice = {0};
    FLOAT_INTEGER number = 0;
    for (size_t y = 0; y < w->rows; y++) {
        const FLOAT_TYPE *in = (const FLOAT_TYPE *)in_void + y * w->row_step;
        for (size_t x = 0; x < w->columns; x++, in += w->column_step, number++) {
            NAME(lanes_numbers) value;
            memcpy(&value, in, sizeof value);
            NAME(lanes_take)(&best, &choice, value, (NAME(lanes_integers)){0} + number);
        }
    }
    memcpy(out, &best, sizeof best);
    if (choices_void != NULL) {
        memcpy(choices_void, &choice, sizeof choice);
    }
}

/* Computes the sums of `rows` filters and LANES_SUM_COLUMNS entries, from `filter` and `entry` on.
 * Stores the sums of the first `wanted` entries. */
INLINE void NAME(lanes_products_tile)(const struct lanes_products *p, size_t filter, size_t entry,
                                      size_t wanted, const int rows)
{
    const FLOAT_TYPE *gradient = (const FLOAT_TYPE *)p->gradient + filter * p->map_step;
    const FLOAT_TYPE *input[LANES_SUM_COLUMNS];
    const ptrdiff_t *input_offsets = p->input_offsets, *gradient_offsets = p->gradient_offsets;
    const size_t step = p->map_step;
    FLOAT_VECTOR sums[LANES_SUM_ROWS][LANES_SUM_COLUMNS];
    EACH_ENTRY
    {
        const size_t at = entry + ((size_t)e < wanted ? (size_t)e : wanted - 1);
        input[e] = (const FLOAT_TYPE *)p->input + p->entry_offsets[at];
        EACH_ROW
        {
            sums[r][e] = FLOAT_OP(set1)(0);
        }
    }
    for (size_t i = 0; i < p->pixels; i++) {
        const ptrdiff_t at = input_offsets[i];
        const FLOAT_TYPE *from = gradient + gradient_offsets[i];
        FLOAT_VECTOR y[LANES_SUM_ROWS];
        EACH_ROW
        {
            y[r] = FLOAT_OP(load)(from + (size_t)r * step);
        }
        EACH_ENTRY
        {
            const FLOAT_VECTOR x = FLOAT_OP(load)(input[e] + at);
            EACH_ROW
            {
                sums[r][e] = FLOAT_OP(fma)(y[r], x, sums[r][e]);
            }
        }
    }
    FLOAT_TYPE *out = (FLOAT_TYPE *)p->sums + (filter * p->entries + entry) * FLOAT_LANES;
    EACH_ROW EACH_ENTRY
    {
        if ((size_t)e < wanted) {
            FLOAT_TYPE *to = out + ((size_t)r * p->entries + (size_t)e) * FLOAT_LANES;
            FLOAT_OP(store)
            (to, p->add ? FLOAT_OP(add)(FLOAT_OP(load)(to), sums[r][e]) : sums[r][e]);
        }
    }
}

#define PRODUCTS_TILE(rows) \
    static __attribute__((noinline)) void NAME(lanes_products_##rows)( \
        const struct lanes_products *p, size_t filter, size_t entry, size_t wanted) \
    { \
        NAME(lanes_products_tile)(p, filter, entry, wanted, rows); \
    }
PRODUCTS_TILE(1)
PRODUCTS_TILE(2)
PRODUCTS_TILE(3)
#if LANES_SUM_ROWS > 3
PRODUCTS_TILE(4)
PRODUCTS_TILE(5)
#endif
#undef PRODUCTS_TILE

/* The inner loop runs over entries, so the gradients of a tile's filters stay in the L1 cache. */
static void NAME(lanes_products)(const struct lanes_products *call)
{
    static void (*const tiles[LANES_SUM_ROWS])(const struct lanes_products *, size_t, size_t,
                                               size_t) = {
        NAME(lanes_products_1), NAME(lanes_products_2), NAME(lanes_products_3),
#if LANES_SUM_ROWS > 3
        NAME(lanes_products_4), NAME(lanes_products_5),
#endif
    };
    const struct lanes_products p = *call;
    const size_t parts = (p.filters + LANES_SUM_ROWS - 1) / LANES_SUM_ROWS;
    for (size_t part = 0; part < parts; part++) {
        const size_t first = NAME(lanes_part)(p.filters, parts, part),
                     end = NAME(lanes_part)(p.filters, parts, part + 1);
        for (size_t e = 0; e < p.entries; e += LANES_SUM_COLUMNS) {
            const size_t wanted = p.entries - e;
            tiles[end - first - 1](&p, first, e,
                                   wanted < LANES_SUM_COLUMNS ? wanted : LANES_SUM_COLUMNS);
        }
    }
}

static void NAME(lanes_add_sum)(void *sum, const void *x_void, size_t n)
{
    const FLOAT_TYPE *x = x_void;
    FLOAT_VECTOR s[4] = {FLOAT_OP(set1)(0), FLOAT_OP(set1)(0), FLOAT_OP(set1)(0),
                         FLOAT_OP(set1)(0)};
    size_t i = 0;
    for (; i + 4 <= n; i += 4, x += 4 * FLOAT_LANES) {
        for (int j = 0; j < 4; j++) {
            s[j] = FLOAT_OP(add)(s[j], FLOAT_OP(load)(x + j * FLOAT_LANES));
        }
    }
    for (; i < n; i++, x += FLOAT_LANES) {
        s[0] = FLOAT_OP(add)(s[0], FLOAT_OP(load)(x));
    }
    s[0] = FLOAT_OP(add)(FLOAT_OP(add)(s[0], s[1]), FLOAT_OP(add)(s[2], s[3]));
    FLOAT_OP(store)(sum, FLOAT_OP(add)(FLOAT_OP(load)(sum), s[0]));
}

static void NAME(lanes_reduce)(void *out_void, const void *x_void, size_t images, size_t n)
{
    FLOAT_TYPE *out = out_void, block[FLOAT_LANES][FLOAT_LANES], totals[FLOAT_LANES];
    const FLOAT_TYPE *x = x_void;
    for (size_t i = 0; i < n; i += FLOAT_LANES) {
        const size_t rows = n - i < FLOAT_LANES ? n - i : FLOAT_LANES;
        FLOAT_VECTOR vectors[FLOAT_LANES];
        if (rows == FLOAT_LANES && images == FLOAT_LANES) {
            for (size_t r = 0; r < FLOAT_LANES; r++) {
                vectors[r] = FLOAT_OP(load)(x + (i + r) * FLOAT_LANES);
            }
            FLOAT_OP(store)(out + i, FLOAT_OP(row_sums)(vectors));
            continue;
        }
        for (size_t r = 0; r < FLOAT_LANES; r++) {
            for (size_t lane = 0; lane < FLOAT_LANES; lane++) {
                block[r][lane] = r < rows && lane < images ? x[(i + r) * FLOAT_LANES + lane] : 0;
            }
            vectors[r] = FLOAT_OP(load)(block[r]);
        }
        FLOAT_OP(store)(totals, FLOAT_OP(row_sums)(vectors));
        memcpy(out + i, totals, rows * sizeof *out);
    }
}

static void NAME(lanes_relu_gradient)(void *out_void, const void *y_void, const void *gradient_void,
                                      size_t n)
{
    FLOAT_TYPE *out = out_void;
    const FLOAT_TYPE *y = y_void, *gradient = gradient_void;
    for (size_t i = 0; i < n; i++, out += FLOAT_LANES, y += FLOAT_LANES, gradient += FLOAT_LANES) {
        NAME(lanes_numbers) kept, result;
        memcpy(&kept, gradient, sizeof kept);
        memcpy(&result, y, sizeof result);
        kept = (NAME(lanes_numbers))((NAME(lanes_integers))kept &
                                     ~(NAME(lanes_integers))(result <= 0));
        memcpy(out, &kept, sizeof kept);
    }
}

/* out[lane] = gradient[lane] where choices[lane] is `choice`, else 0. */
INLINE void NAME(lanes_chosen)(FLOAT_TYPE *restrict out, const FLOAT_INTEGER *restrict choices,
                               const FLOAT_TYPE *restrict gradient, FLOAT_INTEGER choice)
{
    for (size_t lane = 0; lane < FLOAT_LANES; lane++) {
        const FLOAT_TYPE g = gradient[lane];
        out[lane] = choices[lane] == choice ? g : 0;
    }
}

static void NAME(lanes_unpool)(void *out_void, size_t row_step, const void *choices_void,
                               const void *gradient_void, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        FLOAT_TYPE *out = (FLOAT_TYPE *)out_void + 2 * i * FLOAT_LANES;
        const FLOAT_INTEGER *choices = (const FLOAT_INTEGER *)choices_void + i * FLOAT_LANES;
        const FLOAT_TYPE *gradient = (const FLOAT_TYPE *)gradient_void + i * FLOAT_LANES;
        NAME(lanes_chosen)(out, choices, gradient, 0);
        NAME(lanes_chosen)(out + FLOAT_LANES, choices, gradient, 1);
        NAME(lanes_chosen)(out + row_step, choices, gradient, 2);
        NAME(lanes_chosen)(out + row_step + FLOAT_LANES, choices, gradient, 3);
    }
}

static void NAME(lanes_max_unpool)(void *out_void, const void *choices, const void *gradient,
                                   const struct lanes_window *w)
{
    FLOAT_TYPE chosen[FLOAT_LANES];
    FLOAT_INTEGER number = 0;
    for (size_t y = 0; y < w->rows; y++) {
        FLOAT_TYPE *out = (FLOAT_TYPE *)out_void + y * w->row_step;
        for (size_t x = 0; x < w->columns; x++, out += w->column_step, number++) {
            NAME(lanes_chosen)(chosen, choices, gradient, number);
            FLOAT_OP(store)(out, FLOAT_OP(add)(FLOAT_OP(load)(out), FLOAT_OP(load)(chosen)));
        }
    }
}

#include "layer_kernels/lanes_patches_template.h"
#include "layer_kernels/lanes_winograd_template.h"

#undef EACH_ENTRY
#undef EACH_ROW
#undef EACH_PIXEL
