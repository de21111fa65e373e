#ifndef COSSIM_KERNELS_KERNELS_H
#define COSSIM_KERNELS_KERNELS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * The contiguous inner loops, one table of pointers per instruction set. Every body is written once
 * (*_body.h) over the vocabulary of simd/, and has a naive twin in tests/c/test_*kernels.c.
 */

/* The element types that the kernels read in place. core/dtype.h goes on from here with those that
 * are converted first. */
enum element {
    ELEMENT_F64,
    ELEMENT_F32,
    ELEMENT_F16,
    ELEMENT_BF16,
    ELEMENT_I8,
    ELEMENT_U8,
    ELEMENTS
};

/* Which of x.y, x.x and y.y a kernel sums. Sums that are not wanted are neither calculated nor
 * written. */
enum sums { SUMS_ALL, SUMS_DOT, SUMS_SQUARE, SUMS_KINDS };

/*
 * Sums over contiguous rows of n elements: xy[r], xx[r], yy[r] for r < rows; row r starts at x + r
 * * x_step bytes. Narrow floats are widened and summed in double. Doubles are summed in groups of
 * four whose totals are added with their rounding errors kept, which bounds the error of a sum
 * by 2.5 units roundoff of sum |x y|, whatever n is. Sums of 8-bit integers are exact. SUMS_SQUARE
 * reads x and writes xx alone.
 */
typedef void rows_kernel(double *xy, double *xx, double *yy, const void *x, const void *y,
                         size_t rows, size_t n, ptrdiff_t x_step, ptrdiff_t y_step);

/*
 * Sums down columns: adds `steps` rows of n elements, x_step bytes apart, to n running sums each.
 * sums holds six arrays of n doubles: xy, xx, yy and then, for doubles, their accumulated rounding
 * errors. steps is COLUMN_STEPS but for the last call (of an axis), so the order of summation does
 * not depend on how the work was cut.
 */
typedef void columns_kernel(double *sums, size_t n, const void *x, const void *y, size_t steps,
                            ptrdiff_t x_step, ptrdiff_t y_step);

enum {
    COLUMN_STEPS = 4
}; /* measured: 2 read and write the sums too often, 8 are more streams than hardware follows */

/*
 * The cosines xy / sqrt(xx * yy) of n sums, kept in [-1, 1]. True if every xx and yy is at least
 * `floor`; where one is not, or is NaN, the caller may have to do better than that formula.
 */
typedef bool cosine_sums_kernel(double *out, const double *xy, const double *xx, const double *yy,
                                size_t n, double floor);

/*
 * The three sums of rows and their cosines in one go: the divisions go on while the next rows are
 * read. 16-bit floats are summed in chains of eight products in float, which holds each product
 * exactly, and the chains in double: for results that are rounded to 16 bits.
 */
typedef bool cosine_rows_kernel(double *out, double *xy, double *xx, double *yy, const void *x,
                                const void *y, size_t rows, size_t n, ptrdiff_t x_step,
                                ptrdiff_t y_step, double floor);

/*
 * One tile of sums: tile_rows x tile_columns products of rows with a packed panel over k steps. The
 * elements at .. at+k-1 of each row are taken, wherever the rows lie; panel holds tile_columns
 * elements a step. sums points to tile_rows * tile_columns doubles, errors to as many, which only
 * doubles use. TILE_FIRST starts them, TILE_LAST folds the errors in. k is TILE_DEPTH but for the
 * last block. Blocks of 8-bit integers are exact in float.
 */
typedef void tile_kernel(double *sums, double *errors, const void *const *rows, const void *panel,
                         size_t at, size_t k, unsigned flags);

enum { TILE_FIRST = 1, TILE_LAST = 2, TILE_DEPTH = 256 };
_Static_assert(TILE_DEPTH * 255 * 255 <= 1 << 24,
               "a float holds a block's sum of 8-bit products exactly");

/* One sum of a tile on its own, with its bits: n elements of two contiguous rows. */
typedef double tile_sum_kernel(const void *x, const void *y, size_t n);

/* Rows into columns: to[i * step + r] = rows[r][i] for r < count, i < n. Packs panels, and mirrors
 * symmetric results. */
typedef void transpose_kernel(void *to, size_t step, const void *const *rows, size_t count,
                              size_t n);

/* Some columns of a row of a tile, in one word that is written at once: bit i of the lowest byte
 * stands for column + i. */
static inline uint32_t places_of(size_t row, size_t column, unsigned bits)
{
    return (uint32_t)row << 16 | (uint32_t)column << 8 | bits;
}

/*
 * The cosines of a tile of sums; out_step and sums_step are the elements from row to row. The
 * weights are what core/formula.h made of the norms: reciprocals for float32 output, the norms
 * themselves for float64. Sums and column weights are read up to the next multiple of
 * COSINE_PADDING. Says where a |cosine| exceeds `near` (where it is to be calculated again):
 * returns how many places it found; found has room for each COSINE_STEP columns of every row, and
 * one more.
 */
typedef size_t cosine_f32_kernel(float *out, ptrdiff_t out_step, const double *sums,
                                 size_t sums_step, const double *row_weights, size_t rows,
                                 const double *column_weights, size_t columns, double near,
                                 uint32_t *found);
typedef size_t cosine_f64_kernel(double *out, ptrdiff_t out_step, const double *sums,
                                 size_t sums_step, const double *row_weights, size_t rows,
                                 const double *column_weights, size_t columns, double near,
                                 uint32_t *found);

enum { COSINE_PADDING = 8, COSINE_STEP = 2 }; /* the most and the fewest lanes of a vd */

/*
 * Where a block of scores reaches the lower of its row's and its column's limit, or is NaN;
 * row_limits may be NULL. Scores and column limits are read up to the next multiple of
 * SELECT_PADDING. Returns the number of places; found has room for each COSINE_STEP columns of
 * every row, and two more.
 */
typedef size_t select_kernel(const void *scores, size_t step, size_t rows, size_t columns,
                             const void *row_limits, const void *column_limits, uint32_t *found);

enum { SELECT_PADDING = 16 }; /* the most lanes of a vf */

/*
 * The products of `rows` rows, x_step bytes apart, with some vectors, and their squares: dots[q *
 * rows + r] and squares[r], as floats. For a first look: their error is within COARSE_DOT_ERROR(n)
 * of |x| |vector|, in an order of summation of their own.
 */
typedef void coarse_dots_kernel(float *dots, float *squares, const float *x, ptrdiff_t x_step,
                                size_t rows, const float *const *vectors, size_t count, size_t n);

enum { COARSE_QUERIES = 4 }; /* the most vectors at a time */

/* Four running sums of each lane, at least four lanes, twice over: half of these units roundoff
 * would do. */
#define COARSE_DOT_ERROR(n) (((double)(n) / 8 + 16) * 0x1p-23)

/*
 * 8-bit codes of a row: x / max(|x|, eps) = scale * (code - CODE_ZERO) + what is left, of which
 * `rest` bounds the norm from above, roundings included: infinity where x holds NaN or infinity.
 * Returns |x|^2; codes are of use if that is neither tiny nor huge.
 */
struct code_scale {
    float scale, rest;
};
typedef float quantize_kernel(uint8_t *codes, struct code_scale *scale, const float *x, float eps,
                              size_t n);

/*
 * The sums of codes times queries, exactly: sums[q * step + r] for `rows` rows of n <= CODES_DEPTH
 * codes, code_step bytes apart, and `count` <= CODES_QUERIES queries of elements of
 * `query_code_size` bytes, whose values are at most `query_code_max`. There are CODES_QUERIES
 * pointers in any case. A query's elements are padded with zeros to the next multiple of
 * CODES_PADDING, codes are not.
 */
typedef void sq8_kernel(int32_t *sums, size_t step, const uint8_t *codes, size_t code_step,
                        size_t rows, const void *const *queries, size_t count, size_t n);

enum { CODE_ZERO = 128, CODES_QUERIES = 4, CODES_DEPTH = 4096, CODES_PADDING = 64 };

/* Which rows' cosines may reach a limit: keep[r] is 1 or 0. Never 0 for one that does. Returns
 * whether there is any. */
struct code_query {
    float scale, rest; /* of the query's own elements, as of a row's codes */
    int32_t zero;      /* CODE_ZERO times the sum of its elements */
    float limit;
};
typedef bool sq8_select_kernel(uint8_t *keep, const int32_t *sums, const struct code_scale *scales,
                               size_t rows, const struct code_query *query);

/*
 * What NT-Xent (core/nt_xent.c) makes of tiles. A block is `rows` rows of as many elements of the
 * type as a tile has columns. Similarities become exponentials, or exponents where exponentials
 * would leave the range of the type.
 */
struct xent_kernels {
    /* out[i] = x[i] * factor */
    void (*scale)(void *out, const void *x, double factor, size_t n);

    /* out[i] = e^(sums[i] * factor + shift), or that exponent itself. n is a multiple of a tile's
     * columns. */
    void (*exponents)(void *out, const double *sums, size_t n, double factor, double shift,
                      bool exponential);

    /* sums[c] += the elements of column c. */
    void (*sums)(double *sums, const void *block, size_t rows);

    /* The same of exponents: sums[c] e^maxima[c] += e^exponent of each element of column c, with
     * maxima kept the largest ones so far (at first, finite). */
    void (*log_sums)(double *sums, void *maxima, const void *block, size_t rows);

    /* out = element * (row weight + column weight); of exponents e^(element + row weight) +
     * e^(element + column weight). */
    void (*weigh)(void *out, const void *block, const void *row_weights, const void *column_weights,
                  size_t rows);
    void (*weigh_logs)(void *out, const void *block, const void *row_weights,
                       const void *column_weights, size_t rows);

    /* Columns of sums less kept[c] times their projection on those of panel, times factors[c];
     * depth rows of each. */
    void (*project)(void *out, const double *sums, const void *panel, const double *factors,
                    const double *kept, size_t depth);
};

/* n 16-bit floats widened to float32, and floats rounded to 16 bits: to nearest, ties to even. */
typedef void widen_kernel(float *out, const void *in, size_t n);
typedef void narrow_kernel(void *out, const float *in, size_t n);

/* Doubles as floats that round to the same 16 bits (base/half.h). True if some were too small for
 * that. */
typedef bool round_to_odd_kernel(float *out, const double *in, size_t n);

/*
 * A tile of an outer product: for the rows r of a left side and some vectors v of a right side,
 *     out[r * out_step + out_at[v] + lane] = sum over i < steps of left[r * left_step + i *
 * left_next] * right[right_at[v] + offsets[i] + lane] in elements of one type. To the sum are
 * added, in that order, before[r * before_step + v * lanes + lane] and bias[r], where those are not
 * NULL; with relu, what is below 0 becomes 0 (NaN stays). Vectors are read and written whole. rows:
 * 1 to outer_rows.
 */
struct outer {
    const void *left;
    size_t left_step, left_next;
    const void *right;
    const ptrdiff_t *right_at, *offsets;
    size_t vectors, steps;
    const void *before;
    size_t before_step;
    const void *bias;
    bool relu, pool;
    void *out;
    size_t out_step;
    const ptrdiff_t *out_at;
};
typedef void outer_kernel(const struct outer *o, size_t rows);

/*
 * Products of rows with rows: out[r * left_step + c * right_step] = sum over all i and lanes of
 * left[r][left_at[i] + lane] * right[c][right_at[i] + lane], and over the `rest` elements from
 * rest_at on of both. `add` adds it to what is there; bias[r] (NULL: none) and relu as above.
 */
struct dots {
    const ptrdiff_t *left_at, *right_at;
    size_t vectors, rest;
    ptrdiff_t rest_at;
    bool add, relu;
    const void *bias;
    size_t left_step, right_step;
};
typedef void dots_kernel(const struct dots *d, const void *const *left, size_t rows,
                         const void *const *right, size_t columns, void *out);

enum {
    DOTS_AT_ONCE = 8
}; /* sums at a time: of 4 rows with 2, or of 8 with one; independent enough to hide the latency of
      an addition */

/*
 * Sums of vectors at many places, `rows` below each other at each: sums[r * lanes + lane] = sum
 * over i < n of factors[i] * x[at[i] + r * row_step + lane]. Even and odd i are summed by
 * themselves, and their sums added. rows: 1 to PATCH_ROWS.
 */
typedef void patches_kernel(void *sums, const void *x, size_t row_step, const ptrdiff_t *at,
                            const void *factors, size_t n, size_t rows);

enum { PATCH_ROWS = 6 };

/* to[r * to_step + i] += from[r * from_step + i] for r < rows and i < n. */
typedef void add_rows_kernel(void *to, size_t to_step, const void *from, size_t from_step,
                             size_t rows, size_t n);

/*
 * Largest of squares of 2 x 2, `squares` side by side in `lines` lines of two rows, each of `width`
 * elements: the first of equals, the last NaN if there is one. indices (or NULL) get where it lies,
 * as row * width + column.
 */
typedef void pool_squares_kernel(void *out, int64_t *indices, const void *rows, size_t width,
                                 size_t lines, size_t squares);

/* Convolutions whose kernels have five rows, two rows of the output at a time: see five_body.h. */
struct winograd_output_transform {
    const float *sums;
    size_t sum_step, row_step, rows, vectors;
    const float *bias;
    bool relu, pool;
    float *out;
    size_t out_step;
    const ptrdiff_t *out_at;
};
typedef void winograd_input_transform_kernel(float *out, size_t sum_step, const float *in,
                                             size_t row_step, size_t pairs, size_t n);
typedef void winograd_filter_transform_kernel(float *out, size_t sum_step, const float *weight,
                                              size_t count, size_t n);
typedef bool winograd_output_transform_kernel(const struct winograd_output_transform *j);

enum {
    WINOGRAD_PRODUCTS = 6,
    WINOGRAD_PADDING = 16
}; /* sums of a pair of rows; the most lanes of a vf */

/* Sums of rows and columns. */
struct sums_kernels {
    rows_kernel *rows[ELEMENTS][SUMS_KINDS];
    columns_kernel *columns[ELEMENTS][SUMS_KINDS];
    cosine_rows_kernel *cosine_rows[ELEMENTS];
    cosine_sums_kernel *cosine_sums;
    coarse_dots_kernel *coarse_dots;
};

/* Search by 8-bit codes. */
struct sq8_kernels {
    size_t query_code_size; /* bytes of an element of a query: 1 (int8_t) or 2 (int16_t) */
    int query_code_max;     /* and its largest magnitude */
    quantize_kernel *quantize;
    sq8_kernel *sums;
    sq8_select_kernel *select;
};

/* Blocked products, what is packed for them and made of them; and conversions. */
struct tile_kernels {
    size_t rows, columns_f32, columns_f64;
    tile_kernel *tile_f32, *tile_f64;
    tile_sum_kernel *tile_sum_f32, *tile_sum_f64;
    transpose_kernel *transpose_f32, *transpose_f64;
    cosine_f32_kernel *cosine_f32;
    cosine_f64_kernel *cosine_f64;
    select_kernel *select_at_least_f32, *select_at_least_f64;
    widen_kernel *widen_f16, *widen_bf16;
    narrow_kernel *narrow_f16, *narrow_bf16;
    round_to_odd_kernel *round_to_odd;
    struct xent_kernels xent_f32, xent_f64;
};

/* Layers of a network. */
struct layer_kernels {
    size_t outer_rows, lanes_f32, lanes_f64;
    outer_kernel *outer_f32, *outer_f64;
    dots_kernel *dots_f32, *dots_f64;
    patches_kernel *patches_f32, *patches_f64;
    add_rows_kernel *add_rows_f32, *add_rows_f64;
    pool_squares_kernel *pool_squares_f32, *pool_squares_f64;
    winograd_input_transform_kernel *winograd_input_transform;
    winograd_filter_transform_kernel *winograd_filter_transform;
    winograd_output_transform_kernel *winograd_output_transform;
};

/* One instruction set. A group may be another set's, where that is as good. */
struct kernels {
    const char *name; /* the value of COSSIM_ISA that asks for it */
    const char *description;
    unsigned needs; /* enum cpu_feature bits */
    const struct sums_kernels *sums;
    const struct tile_kernels *tiles;
    const struct sq8_kernels *codes;
    const struct layer_kernels *layers;
};

/* Every table that was compiled in, best first; *count of them. */
const struct kernels *const *kernels_all(size_t *count);

/* Does this machine run it? */
bool kernels_supported(const struct kernels *table);

/* The table in use. Best supported one until kernels_select chose another. */
const struct kernels *kernels_current(void);

/* By name; false when the name is unknown or this machine cannot run it. */
bool kernels_select(const char *name);

#endif
