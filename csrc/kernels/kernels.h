#ifndef COSSIM_KERNELS_KERNELS_H
#define COSSIM_KERNELS_KERNELS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * The inner loops over contiguous memory. Each instruction set has one table of function pointers.
 * Every kernel is written once, in a *_template.h, over the vector abstraction of simd/. Every
 * kernel has a naive reference implementation in tests/c/test_*kernels.c.
 */

/* The element types that the kernels read in place. vectors/dtype.h adds the types that are
 * converted first. */
enum element {
    ELEMENT_F64,
    ELEMENT_F32,
    ELEMENT_F16,
    ELEMENT_BF16,
    ELEMENT_I8,
    ELEMENT_U8,
    ELEMENTS
};

/* Which of the sums x.y, x.x and y.y a kernel computes: all, only x.y, or only x.x. It neither
 * computes nor writes the others. */
enum sums { SUMS_ALL, SUMS_DOT, SUMS_SQUARE, SUMS_KINDS };

/*
 * Sums along rows: xy, xx and yy are (rows,). xy[r] is the dot product of row r of x and row r of
 * y; xx[r] and yy[r] are their squared norms. A row is n contiguous elements. Row r of x starts at
 * x + r * x_step bytes. SUMS_SQUARE reads only x and writes only xx.
 *
 * Narrow floats are widened to double and summed in double. Doubles are summed in groups of four,
 * and the group totals are added with their rounding errors kept. This bounds the error of a sum by
 * 2.5 units roundoff of sum |x y|, for any n. Sums of 8-bit integers are exact.
 */
typedef void rows_kernel(double *xy, double *xx, double *yy, const void *x, const void *y,
                         size_t rows, size_t n, ptrdiff_t x_step, ptrdiff_t y_step);

/*
 * Sums down columns: adds the products of `steps` rows of n elements to the running sums of each
 * column. Rows of x are x_step bytes apart. sums is (6, n): xy, xx, yy and, for doubles only, their
 * accumulated rounding errors. steps is COLUMN_STEPS in every call but the last of an axis, so the
 * order of summation does not depend on how the work is divided.
 */
typedef void columns_kernel(double *sums, size_t n, const void *x, const void *y, size_t steps,
                            ptrdiff_t x_step, ptrdiff_t y_step);

/* Measured: 2 rows load and store the sums too often; 8 rows are more streams than the hardware
 * prefetcher follows. */
enum { COLUMN_STEPS = 4 };

/*
 * out[i] = xy[i] / sqrt(xx[i] * yy[i]), clamped to [-1, 1], for i < n. Returns true if every xx[i]
 * and yy[i] is at least min_square. If one is smaller or NaN, the caller checks whether that cosine
 * needs the full formula of vectors/formula.h.
 */
typedef bool cosine_sums_kernel(double *out, const double *xy, const double *xx, const double *yy,
                                size_t n, double min_square);

/*
 * The three sums of each row, as in rows_kernel, and their cosines, as in cosine_sums_kernel. The
 * divisions overlap with reading the next rows. 16-bit floats are summed in chains of eight
 * products in float, which holds each product exactly, and the chains are added in double. That is
 * accurate enough for results that are rounded to 16 bits.
 */
typedef bool cosine_rows_kernel(double *out, double *xy, double *xx, double *yy, const void *x,
                                const void *y, size_t rows, size_t n, ptrdiff_t x_step,
                                ptrdiff_t y_step, double min_square);

/*
 * One tile of a blocked product (GEMM): adds the products of tile_rows rows with a packed panel,
 * over k steps, to sums (tile_rows, tile_columns). It reads elements at .. at+k-1 of each row; the
 * rows can lie anywhere. panel is (k, tile_columns). errors has the shape of sums and holds
 * rounding errors; only the kernel for doubles uses it. TILE_FIRST initializes both, TILE_LAST adds
 * the errors to the sums. k is TILE_DEPTH in every block but the last. Blocks of 8-bit integers are
 * exact in float.
 */
typedef void tile_kernel(double *sums, double *errors, const void *const *rows, const void *panel,
                         size_t at, size_t k, unsigned flags);

enum { TILE_FIRST = 1, TILE_LAST = 2, TILE_DEPTH = 256 };
_Static_assert(TILE_DEPTH * 255 * 255 <= 1 << 24,
               "a float holds a block's sum of 8-bit products exactly");

/* The dot product of two contiguous rows of n elements, bit for bit equal to the sum in a tile. */
typedef double tile_sum_kernel(const void *x, const void *y, size_t n);

/* Transposes rows into columns: to[i * step + r] = rows[r][i] for r < count, i < n. It packs panels
 * and mirrors symmetric results. */
typedef void transpose_kernel(void *to, size_t step, const void *const *rows, size_t count,
                              size_t n);

/* Packs the matching columns of a row of a tile into one word. Bit i of its lowest byte marks
 * column `column` + i. */
static inline uint32_t pack_matches(size_t row, size_t column, unsigned bits)
{
    return (uint32_t)row << 16 | (uint32_t)column << 8 | bits;
}

/*
 * Converts a tile of sums to cosines: out and sums are (rows, columns), with out_step and sums_step
 * elements from row to row. For float32 output, row_norms and column_norms hold the inverse clamped
 * norms of vectors/formula.h; for float64 output they hold the clamped norms themselves. sums and
 * column_norms are read up to the next multiple of COSINE_PADDING columns.
 *
 * Also finds the cosines above `bound` in magnitude, which the caller recomputes. They are written
 * to `found` as words of pack_matches; returns the number of words. found has room for
 * rows * ceil(columns / COSINE_STEP) + 1 words.
 */
typedef size_t cosine_f32_kernel(float *out, ptrdiff_t out_step, const double *sums,
                                 size_t sums_step, const double *row_norms, size_t rows,
                                 const double *column_norms, size_t columns, double bound,
                                 uint32_t *found);
typedef size_t cosine_f64_kernel(double *out, ptrdiff_t out_step, const double *sums,
                                 size_t sums_step, const double *row_norms, size_t rows,
                                 const double *column_norms, size_t columns, double bound,
                                 uint32_t *found);

/* The largest and the smallest VD_LANES of any instruction set. */
enum { COSINE_PADDING = 8, COSINE_STEP = 2 };

/*
 * Finds the scores of a block (rows, columns) that are at least the smaller of the thresholds of
 * their row and column. NaN always counts as found. row_thresholds may be NULL. scores and
 * column_thresholds are read up to the next multiple of SELECT_PADDING columns. The matches are
 * written to `found` as words of pack_matches; returns the number of words. found has room for
 * rows * ceil(columns / COSINE_STEP) + 2 words.
 */
typedef size_t select_kernel(const void *scores, size_t step, size_t rows, size_t columns,
                             const void *row_thresholds, const void *column_thresholds,
                             uint32_t *found);

/* The largest VF_LANES of any instruction set. */
enum { SELECT_PADDING = 16 };

/*
 * Approximate dot products for the prefilter: dots (count, rows) of `count` vectors with `rows`
 * rows of x, and the squared norms of the rows, squares (rows,), all as floats. A row has n
 * elements; rows are x_step bytes apart. Relative to |x| |vector|, the error of a dot product is at
 * most COARSE_DOT_ERROR(n). The order of summation differs from that of the other kernels.
 */
typedef void coarse_dots_kernel(float *dots, float *squares, const float *x, ptrdiff_t x_step,
                                size_t rows, const float *const *vectors, size_t count, size_t n);

/* The largest `count` of a call. */
enum { COARSE_QUERIES = 4 };

/* A dot product is split into at least eight running sums (two chains of four lanes). Each takes
 * n / 8 additions with a relative error of 2^-24. The bound is twice as large as necessary. */
#define COARSE_DOT_ERROR(n) (((double)(n) / 8 + 16) * 0x1p-23)

/*
 * Quantizes a row of n floats to SQ8 codes: x / max(|x|, eps) = scale * (code - CODE_ZERO) +
 * residual. `rest` is an upper bound of the norm of the residual, including rounding errors. It is
 * infinity if x holds NaN or infinity. Returns |x|^2. The codes are valid only if that is neither
 * tiny nor huge; search/quantize.c sets the range.
 */
struct code_scale {
    float scale, rest;
};
typedef float quantize_kernel(uint8_t *codes, struct code_scale *scale, const float *x, float eps,
                              size_t n);

/*
 * Exact dot products of SQ8 codes with query codes: sums[q * step + r] for r < rows, q < count. A
 * row has n <= CODES_DEPTH codes; rows are code_step bytes apart. count is at most CODES_QUERIES,
 * but `queries` always holds CODES_QUERIES valid pointers. A query code has query_code_size bytes
 * and a magnitude of at most query_code_max. Query codes are padded with zeros to the next multiple
 * of CODES_PADDING; the codes of rows are not padded.
 */
typedef void sq8_kernel(int32_t *sums, size_t step, const uint8_t *codes, size_t code_step,
                        size_t rows, const void *const *queries, size_t count, size_t n);

enum { CODE_ZERO = 128, CODES_QUERIES = 4, CODES_DEPTH = 4096, CODES_PADDING = 64 };

/* Sets keep[r] to 1 if the cosine of row r can reach the threshold, else to 0. It is never 0 for a
 * cosine that does reach it. Returns whether any keep[r] is 1. */
struct code_query {
    float scale, rest; /* scale and residual bound of the query, as in struct code_scale */
    int32_t zero;      /* CODE_ZERO times the sum of the query codes */
    float limit;       /* the threshold */
};
typedef bool sq8_select_kernel(uint8_t *keep, const int32_t *sums, const struct code_scale *scales,
                               size_t rows, const struct code_query *query);

/*
 * Kernels of the NT-Xent loss (simclr/nt_xent.c). A block is (rows, tile columns). It holds
 * exponentials of similarities, or the exponents themselves where exponentials would leave the
 * range of the type.
 */
struct xent_kernels {
    /* out[i] = x[i] * factor */
    void (*scale)(void *out, const void *x, double factor, size_t n);

    /* out[i] = e^(sums[i] * factor + shift) if `exponential`, else the exponent itself. n is a
     * multiple of the number of tile columns. */
    void (*exponents)(void *out, const double *sums, size_t n, double factor, double shift,
                      bool exponential);

    /* sums[c] += the sum of column c of the block. */
    void (*sums)(double *sums, const void *block, size_t rows);

    /* The same for a block of exponents: adds e^element for each element of column c to the running
     * sum, which is stored as sums[c] * e^maxima[c]. maxima[c] is raised to the largest element so
     * far; its initial value must be finite. */
    void (*log_sums)(double *sums, void *maxima, const void *block, size_t rows);

    /* weigh: out = element * (row weight + column weight). weigh_logs does it for exponents, with
     * logarithms of weights: out = e^(element + row weight) + e^(element + column weight). */
    void (*weigh)(void *out, const void *block, const void *row_weights, const void *column_weights,
                  size_t rows);
    void (*weigh_logs)(void *out, const void *block, const void *row_weights,
                       const void *column_weights, size_t rows);

    /* For each column c of sums and panel, both (depth, tile columns):
     * out = factors[c] * (sums - kept[c] * (sums . panel) * panel). */
    void (*project)(void *out, const double *sums, const void *panel, const double *factors,
                    const double *kept, size_t depth);
};

/* Widens n 16-bit floats to float32; rounds n floats to 16 bits, to nearest, ties to even. */
typedef void widen_kernel(float *out, const void *in, size_t n);
typedef void narrow_kernel(void *out, const float *in, size_t n);

/* Converts n doubles to floats that round to the same 16 bits (f32_rounded_to_odd of base/half.h).
 * Returns true if any value is nonzero and below the normal range of float, where this fails. */
typedef bool round_to_odd_kernel(float *out, const double *in, size_t n);

/*
 * A tile of a matrix product whose right side is read in place, as in a convolution. For each row
 * r < rows of the left side and each vector v < vectors of the right side:
 *
 *     out[r * out_step + out_at[v] + lane] = sum over i < steps of
 *         left[r * left_step + i * left_next] * right[right_at[v] + offsets[i] + lane]
 *
 * All steps and offsets count elements of one type. Then before[r * before_step + v * lanes + lane]
 * is added, then bias[r]; each may be NULL. With relu, negative results become 0, and NaN stays.
 * With pool, vectors 2 w and 2 w + 1 hold two rows of the output: the maxima of their 2 x 2 windows
 * go to out_at[w], NaN if a window holds NaN. Vectors are read and written whole. rows is 1 to
 * outer_rows.
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
 * Dot products of rows with rows:
 *
 *     out[r * left_step + c * right_step] = sum over i < vectors, over all lanes, of
 *         left[r][left_at[i] + lane] * right[c][right_at[i] + lane]
 *
 * The products of the `rest` elements from rest_at on are added. With `add`, the sum is added to
 * the value in out. bias[r] (may be NULL) and relu work as in struct outer.
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

/* Number of sums in registers: 4 rows by 2 columns, or 8 rows by 1. Eight independent sums hide the
 * latency of an addition. */
enum { DOTS_AT_ONCE = 8 };

/*
 * Weighted sums of patches of an image. A patch is `rows` vectors below each other, and patch i
 * starts at at[i]:
 *
 *     sums[r * lanes + lane] = sum over i < n of factors[i] * x[at[i] + r * row_step + lane]
 *
 * Even and odd i are summed separately, and the two sums are added. rows is 1 to PATCH_ROWS.
 */
typedef void patches_kernel(void *sums, const void *x, size_t row_step, const ptrdiff_t *at,
                            const void *factors, size_t n, size_t rows);

enum { PATCH_ROWS = 6 };

/* to[r * to_step + i] += from[r * from_step + i] for r < rows and i < n. */
typedef void add_rows_kernel(void *to, size_t to_step, const void *from, size_t from_step,
                             size_t rows, size_t n);

/*
 * Max pooling over 2 x 2 windows. The input is (2 * lines, width), and each pair of input rows has
 * `squares` windows side by side. out and indices are (lines, squares); indices may be NULL. out is
 * the largest element of the window: the first one among equals, or the last NaN if there is one.
 * indices gets its position, as row * width + column.
 */
typedef void pool_squares_kernel(void *out, int64_t *indices, const void *rows, size_t width,
                                 size_t lines, size_t squares);

/* Winograd convolution with kernels of five rows, for two rows of the output at a time. See
 * winograd_template.h. */
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
typedef bool winograd_output_transform_kernel(const struct winograd_output_transform *call);

enum {
    WINOGRAD_PRODUCTS = 6, /* products that give a pair of output rows */
    WINOGRAD_PADDING = 16  /* the largest VF_LANES of any instruction set */
};

/* Sums along rows and down columns. */
struct sums_kernels {
    rows_kernel *rows[ELEMENTS][SUMS_KINDS];
    columns_kernel *columns[ELEMENTS][SUMS_KINDS];
    cosine_rows_kernel *cosine_rows[ELEMENTS];
    cosine_sums_kernel *cosine_sums;
    coarse_dots_kernel *coarse_dots;
};

/* The prefilter by SQ8 codes. */
struct sq8_kernels {
    size_t query_code_size; /* bytes of a query code: 1 (int8_t) or 2 (int16_t) */
    int query_code_max;     /* largest magnitude of a query code */
    quantize_kernel *quantize;
    sq8_kernel *sums;
    sq8_select_kernel *select;
};

/* Blocked products: packing, tiles, cosines, selection and NT-Xent. Also conversions of 16-bit
 * floats. */
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

/* The table of one instruction set. A group may belong to another set if that one is as fast. */
struct kernels {
    const char *name; /* the value of COSSIM_ISA that selects it */
    const char *description;
    unsigned needs; /* enum cpu_feature bits */
    const struct sums_kernels *sums;
    const struct tile_kernels *tiles;
    const struct sq8_kernels *codes;
    const struct layer_kernels *layers;
};

/* All compiled-in tables, best first. Sets *count to their number. */
const struct kernels *const *kernels_all(size_t *count);

/* Returns whether this machine can run the table. */
bool kernels_supported(const struct kernels *table);

/* The table in use: the best supported one, unless kernels_select has chosen another. */
const struct kernels *kernels_current(void);

/* Selects a table by name. Returns false if the name is unknown or this machine cannot run it. */
bool kernels_select(const char *name);

#endif
