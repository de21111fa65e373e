#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kernels/elementwise_kernels.h"
#include "kernels/lanes_kernels.h"
#include "kernels/winograd_kernels.h"

/*
 * The kernels: inner loops over contiguous memory. A *_template.h defines each kernel once, with
 * the vector abstraction of simd/. It is compiled for every instruction set, and each instruction
 * set has one table of function pointers. tests/c/test_*kernels.c has a naive reference of each
 * kernel.
 *
 * The distance from one row to the next is named *_step. x_step and y_step count bytes; all others
 * count elements.
 */

/* Element types of operands. Kernels read the first KERNEL_DTYPES of them in place. */
enum dtype {
    DTYPE_F64,
    DTYPE_F32,
    DTYPE_F16,
    DTYPE_BF16,
    DTYPE_I8,
    DTYPE_U8, /* and bool */
    KERNEL_DTYPES,
    /* For these types there are conversion kernels only. */
    DTYPE_I16 = KERNEL_DTYPES,
    DTYPE_U16,
    DTYPE_I32,
    DTYPE_U32,
    DTYPE_I64,
    DTYPE_U64,
    DTYPES
};

/* The type in which a driver computes. Loading an operand converts it to this type exactly. */
enum compute_type {
    COMPUTE_F32,
    COMPUTE_F64,
    COMPUTE_TYPES,
    /* Only for the rows of a matrix product: sums of two rows of the same type are exact. */
    COMPUTE_I8 = COMPUTE_TYPES,
    COMPUTE_U8,
    PRODUCT_TYPES
};

/* The sums that a kernel writes: x.y, x.x and y.y, or only x.y, or only x.x. */
enum sums { SUMS_ALL, SUMS_DOT, SUMS_SQUARE, SUMS_KINDS };

/*
 * The arrays of a call. x and y are (rows, n), and each row is contiguous. Row r of x starts
 * r * x_step bytes after x. With SUMS_SQUARE, y is not used.
 *
 * sums has one row each for xy, xx and yy. These rows are sums_step elements apart. Rows that the
 * kernel does not compute keep their values. If the kernel computes only one row, sums_step may be
 * 0.
 */
struct sums_call {
    const void *x, *y;
    ptrdiff_t x_step, y_step;
    size_t rows, n;
    double *sums;
    size_t sums_step;
};

/*
 * Sums along rows. sums is (3, rows). xy[r] is the dot product of row r of x and row r of y; xx[r]
 * and yy[r] are the squared norms of these two rows.
 *
 * float32 and 16-bit floats are widened to double and summed in double. Doubles are summed in
 * groups of four. The group sums are added together with their rounding errors, which bounds the
 * error of the total by 2.5 units roundoff of sum |x y|, for any n. Sums of 8-bit integers are
 * exact.
 */
typedef void rows_kernel(const struct sums_call *call);

/*
 * Sums down columns. sums is (6, n). Adds the products of each column to its running sums xy, xx
 * and yy. For doubles only, the last three rows of sums hold the rounding errors of the first
 * three. Callers pass COLUMN_STEPS rows in every call except the last one of an axis, so the order
 * of summation does not depend on how tasks divide the array.
 */
typedef void columns_kernel(const struct sums_call *call);

/* 4 steps are fastest. With 2 steps, the kernel loads and stores the sums too often. 8 steps read
 * more streams than the hardware prefetcher follows. */
enum { COLUMN_STEPS = 4 };

/*
 * out[i] = xy[i] / sqrt(xx[i] * yy[i]), clamped to [-1, 1], for i < n. Returns true if every xx[i]
 * and yy[i] is at least min_square. Otherwise eps may clamp a norm, and the caller checks each
 * cosine with vectors/formula.h. A NaN counts as smaller than min_square.
 */
typedef bool cosine_sums_kernel(double *out, const double *xy, const double *xx, const double *yy,
                                size_t n, double min_square);

/*
 * Computes the three sums of each row as rows_kernel does, and their cosines as cosine_sums_kernel
 * does. The divisions of one group of rows overlap with the loads of the next.
 *
 * Sums of 16-bit floats are less accurate than those of rows_kernel, but accurate enough for
 * results that are rounded to 16 bits. A float holds the product of two elements exactly. Eight
 * products form a chain, which is summed in float. Two chains are added in float, and these sums in
 * double.
 */
typedef bool cosine_rows_kernel(const struct sums_call *call, double *out, double min_square);

/*
 * The micro-kernel of a blocked matrix product (GEMM): adds one block to one tile of the result.
 * sums and errors are (tile rows, tile columns); panel is packed, (k, tile columns). The kernel
 * multiplies elements [at, at + k) of each left row by the panel and adds the products to sums.
 * Left rows can lie anywhere in memory.
 *
 * errors holds the rounding errors of sums; only the kernel for doubles uses it. TILE_FIRST marks
 * the first block of a tile: sums and errors are initialized. TILE_LAST marks the last one: errors
 * are added to sums. k is TILE_DEPTH in every block except the last.
 *
 * For rows of floats that are read from memory, `ahead` is not 0: while the kernel multiplies
 * elements of the left rows, it prefetches those `ahead` bytes after them.
 */
typedef void tile_kernel(double *sums, double *errors, const void *const *rows, const void *panel,
                         size_t at, size_t k, unsigned flags, size_t ahead);

enum { TILE_FIRST = 1, TILE_LAST = 2, TILE_DEPTH = 256 };
_Static_assert(TILE_DEPTH * 255 * 255 <= 1 << 24,
               "a float holds a block's sum of 8-bit products exactly");

/* Returns the dot product of two contiguous rows of n elements, to the same bits as tile_kernel. */
typedef double tile_sum_kernel(const void *x, const void *y, size_t n);

/* Transposes rows into columns: to[i * step + r] = rows[r][i] for r < count, i < n. Callers use it
 * to pack panels and to mirror symmetric results. */
typedef void transpose_kernel(void *to, size_t step, const void *const *rows, size_t count,
                              size_t n);

/*
 * Matrix products of 8-bit integers. Their tile_kernel takes blocks of BYTE_DEPTH elements, not
 * TILE_DEPTH. Its left rows come from widen_bytes_kernel, its panels from pack_bytes_kernel. Sums
 * are exact.
 *
 * widen_bytes_kernel copies n elements of a row as elements of element_size bytes. It adds zeros up
 * to the next multiple of BYTE_PADDING bytes.
 *
 * pack_bytes_kernel packs n elements of `count` rows into a panel of as many rows as a tile has
 * columns. The panel has room for n elements of each row, with n rounded up to a multiple of
 * BYTE_GROUP. Elements of rows from `count` on are unspecified.
 */
typedef void widen_bytes_kernel(void *to, const void *from, size_t n);
typedef void pack_bytes_kernel(void *panel, const void *const *rows, size_t count, size_t n);

enum { BYTE_DEPTH = 1024, BYTE_GROUP = 4, BYTE_PADDING = 64 };

/* Packs the matches in eight columns of one row into a word. The lowest byte is `bits`: bit i is
 * set if column `column` + i matches. */
static inline uint32_t pack_matches(size_t row, size_t column, unsigned bits)
{
    return (uint32_t)row << 16 | (uint32_t)column << 8 | bits;
}

/*
 * Converts a tile of sums to cosines. out, of the kernel's type, and sums are (rows, columns).
 * row_norms (rows,) and column_norms (columns,) hold norms clamped by eps, as vectors/formula.h
 * defines them: their inverses for float32 output, the norms themselves for float64 output. sums
 * and column_norms are read up to the next multiple of COSINE_PADDING columns.
 *
 * For float64 output, the norm of a row of whole numbers may be stored as -|x|. Its square must be
 * exact and between 1 and COSINE_MAX_WHOLE. The cosine of two such rows is correctly rounded if
 * their sum is exact.
 *
 * Also finds the cosines whose magnitude is above `bound`, so that the caller can recompute them.
 * Cosines of two rows of whole numbers are never among them. Writes them to `found` as words of
 * pack_matches and returns the number of words. found has room for
 * rows * ceil(columns / COSINE_STEP) + 1 words.
 */
struct cosine_tile {
    const double *sums;
    size_t sums_step;
    const double *row_norms, *column_norms;
    size_t rows, columns;
    double bound;
};
typedef size_t cosine_kernel(const struct cosine_tile *tile, void *out, ptrdiff_t out_step,
                             uint32_t *found);

/*
 * Writes the cosines of `count` sums past the caches (base/stream.h). out begins on a cache line,
 * and count is a multiple of the scores of a line. Norms are those of cosine_tile. Lists the lines
 * with a cosine to recompute in `found`, by their first column, and returns their number. found has
 * room for count / COSINE_STEP + 2 words.
 */
typedef size_t stream_cosines_kernel(void *out, const double *sums, double row_norm,
                                     const double *column_norms, size_t count, double bound,
                                     uint32_t *found);

/* The largest and the smallest VD_LANES of any instruction set. */
enum { COSINE_PADDING = 8, COSINE_STEP = 2 };

#define COSINE_MAX_WHOLE 0x1p50

/*
 * Finds the scores that reach their threshold. scores is (rows, columns). The threshold of a score
 * is the smaller of row_thresholds[r] and column_thresholds[c]; row_thresholds may be NULL. NaN
 * scores always match. scores and column_thresholds are read up to the next multiple of
 * SELECT_PADDING columns.
 *
 * Writes the matches to `found` as words of pack_matches and returns the number of words. found has
 * room for rows * ceil(columns / COSINE_STEP) + 2 words.
 */
typedef size_t select_kernel(const void *scores, size_t step, size_t rows, size_t columns,
                             const void *row_thresholds, const void *column_thresholds,
                             uint32_t *found);

/* The largest VF_LANES of any instruction set. */
enum { SELECT_PADDING = 16 };

/*
 * Copies the scores that are not below `least`, NaN included, and their numbers, in order. Returns
 * how many it copied. The targets have room for n + SELECT_PADDING elements. They may be the
 * sources. Scores and numbers are read up to the next multiple of SELECT_PADDING.
 */
typedef size_t keep_kernel(void *to, int64_t *to_numbers, const void *scores,
                           const int64_t *numbers, size_t n, double least);

/* Returns how many of n scores are not below `least`, NaN included. Scores are read up to the next
 * multiple of SELECT_PADDING. */
typedef size_t count_kernel(const void *scores, size_t n, double least);

/*
 * Raises maxima[c] to the largest score of column c. scores is (rows, columns). A maximum is NaN if
 * it or a score of its column is NaN. Scores and maxima are read, and maxima written, up to the
 * next multiple of SELECT_PADDING columns.
 */
typedef void maxima_kernel(void *maxima, const void *scores, size_t step, size_t rows,
                           size_t columns);

/*
 * Converts n elements to float32, times a power of two: to[i] = from[i] * scale. The relative error
 * of an element is at most 2^-22, unless the result is infinite or below the smallest normal float.
 * A float is rounded once. With a scale of 1, 16-bit floats are converted exactly. to may be from.
 */
typedef void to_floats_kernel(float *to, const void *from, size_t n, double scale);

/*
 * Approximate dot products for the prefilter, in float. x is (rows, n), its rows are x_step bytes
 * apart, and its elements have the kernel's type. They are rounded to float32. vectors points to
 * `count` vectors of n elements. dots[q * COARSE_STEP + r] gets the dot product of vector q and row
 * r, squares[r] the squared norm of the row. The error of a dot product is at most
 * COARSE_DOT_ERROR(n) * |x| * |vector|; coarse_error_function gives a tighter bound. The bits
 * differ from those of the exact score.
 */
typedef void coarse_dots_kernel(float *dots, float *squares, const void *x, ptrdiff_t x_step,
                                size_t rows, const float *const *vectors, size_t count, size_t n);

/* Returns an upper bound of |error| / (|x| |vector|) for the dot products of n elements that the
 * coarse_dots_kernels of the same instruction set compute. */
typedef double coarse_error_function(size_t n);

/* The largest `count` of a call, and the largest number of rows. */
enum { COARSE_QUERIES = 4, COARSE_STEP = 32 };

/* The bound for all instruction sets. A dot product is computed as at least eight running sums: two
 * chains of four lanes. Each running sum takes n / 8 additions with a relative error of 2^-24. The
 * bound is twice as large as necessary. */
#define COARSE_DOT_ERROR(n) (((double)(n) / 8 + 16) * 0x1p-23)

/*
 * Quantizes a row x of n floats to SQ8 codes: x / |x| = scale * (code - CODE_ZERO) + residual.
 * residual_norm is an upper bound of the norm of the residual, rounding errors included. It is
 * infinity if x holds NaN or infinity.
 *
 * half_residual may be NULL. It gets such a bound for the center of the upper halves of the codes,
 * x / |x| = scale * (code / 16 * 16 + 8 - CODE_ZERO) + residual, if residual_norm is finite.
 *
 * Returns the squared norm of x. The caller discards the codes if this norm is tiny or huge;
 * search/quantize.c has the limits.
 */
struct code_scale {
    float scale, residual_norm;
};

/*
 * A bound of the residual of the upper halves, for codes in halves (HALF_BYTES below). Their
 * residual_norm packs two bounds, each the upper 16 bits of a float, rounded up. Its upper half
 * bounds the residual of the codes, and so does residual_norm itself. Its lower half bounds the
 * residual of the upper halves, and is 0 if the first bound is infinity.
 */
static inline float half_residual(const struct code_scale *scale)
{
    union {
        float number;
        uint32_t bits;
    } residual = {scale->residual_norm}, half;
    half.bits = residual.bits << 16;
    return half.number > residual.number ? half.number : residual.number;
}

typedef float quantize_kernel(uint8_t *codes, struct code_scale *scale, float *half_residual,
                              const float *x, size_t n);

/*
 * Dot products of 8-bit rows with the codes of `count` queries, as exact integers.
 * dots[q * step + r] is the dot product of query q and row r. Does not read rows->bounds. count is
 * at most SQ8_QUERIES, but `queries` always holds SQ8_QUERIES valid pointers. If count is above 1,
 * dots gets the dot products of all SQ8_QUERIES queries.
 *
 * A query code has a magnitude of at most query_code_max. If panel_steps is 2, take codes 0, 1, 4
 * and 5 of each 8, or codes 2, 3, 6 and 7: the magnitudes of those of one sign add up to at most
 * PANEL_SUM_MAX. Query codes are padded with zeros to a multiple of SQ8_PADDING; the codes of rows
 * are not padded.
 *
 * squares[r] gets the sum of squares of row r, without the offset of its elements. squares may be
 * NULL.
 */
struct sq8_rows;
typedef void sq8_dots_kernel(int32_t *dots, size_t step, int32_t *squares,
                             const struct sq8_rows *rows, const int8_t *const *queries,
                             size_t count);

/* Dot products of one row with at most SQ8_QUERIES queries: dots[q] is the one with query q. */
typedef void sq8_row_dots_kernel(int32_t *dots, const uint8_t *codes, const int8_t *const *queries,
                                 size_t count, size_t n);

/*
 * Codes in halves: the upper four bits of a row's codes and the lower four, in two arrays of
 * HALF_BYTES(n) bytes. Byte i holds the bits of element i and, in its upper half, those of element
 * HALF_BYTES(n) + i, or 0 if there is none.
 *
 * half_dots computes the dot products of such halves, as numbers from 0 to 15, with `count` queries
 * as sq8_dots_kernel does. rows->n is the number of elements. The codes of queries are padded with
 * SQ8_PADDING more zeros. For one query and row numbers that are close together, it also reads the
 * rows between them; row numbers ascend or descend.
 */
#define HALF_BYTES(n) (((n) + 1) / 2)
typedef void split_halves_kernel(uint8_t *upper, uint8_t *lower, const uint8_t *codes, size_t n);
typedef void join_halves_kernel(uint8_t *codes, const uint8_t *upper, const uint8_t *lower,
                                size_t n);
typedef void half_dots_kernel(int32_t *dots, size_t step, const struct sq8_rows *rows,
                              const int8_t *const *queries, size_t count);

/*
 * sq8_select_kernel for rows of which only the upper halves are compared, as codes
 * 16 * upper + 8. dots are products with the upper halves, sum is the sum of the query's codes, and
 * `longest` is the argument of bounds_of_rows() of search/quantize.h.
 */
struct query_bound;
typedef bool select_halves_kernel(uint8_t *keep, const int32_t *dots, const struct code_scale *rows,
                                  size_t count, const struct query_bound *query, int32_t sum,
                                  float longest, float threshold);

enum { CODE_ZERO = 128, SQ8_QUERIES = 4, SQ8_MAX_DEPTH = 4096, SQ8_PADDING = 64 };

/*
 * The bound of a score, from the quantized row x' = scale * (code - zero) of a row x, and the
 * quantized query of a query q. All norms are upper bounds.
 *
 *     bound(r, q) = (dot + offset_q) * (scale_r * scale_q)
 *                 + (residual_r * norm_q + norm_r * residual_q + tail_r * tail_q)
 *
 * search/quantize.h defines the numbers and proves that no score exceeds its bound. Elements [r] of
 * the arrays belong to row r.
 */
struct row_bounds {
    float *scale, *norm, *residual, *tail;
};
struct query_bound {
    int32_t offset;
    float scale, norm, residual, tail;
};

/*
 * Sets keep[r] to 0 if the bound of row r is below the threshold, else to 1 (also if it is NaN).
 * dots is (rows,), the dot products of one query. Returns true if any keep[r] is 1.
 */
typedef bool sq8_select_kernel(uint8_t *keep, const int32_t *dots, const struct row_bounds *bounds,
                               size_t rows, const struct query_bound *query, float threshold);

/*
 * A panel of at most SQ8_PANEL queries, whose codes lie side by side. codes has the shape
 * (ceil(n / 4), width, 4): four codes of each query in turn. Codes from n on are 0, and so are the
 * codes of missing queries. width is panel_lanes or panel_queries of the table.
 *
 * half_panel reads both halves of each row. Its width is panel_lanes, and for L = 4 * width codes
 * has the shape (ceil(HALF_BYTES(n) / L), 2, width, L): L codes of each query, then the codes that
 * lie HALF_BYTES(n) elements after these.
 */
enum { SQ8_PANEL = 32, PANEL_SUM_MAX = INT16_MAX / UINT8_MAX };
struct sq8_panel {
    const int8_t *codes;
    size_t width, queries;
    int32_t offset[SQ8_PANEL];
    float scale[SQ8_PANEL], norm[SQ8_PANEL], residual[SQ8_PANEL], tail[SQ8_PANEL];
};

/* 8-bit rows (count, n) and their bounds. n is at most SQ8_MAX_DEPTH. */
struct sq8_rows {
    const uint8_t *codes;
    ptrdiff_t step; /* bytes from one row to the next */
    size_t count, n;
    struct row_bounds bounds;
    const size_t *numbers; /* row r begins at codes + numbers[r] * step; NULL: codes + r * step */
    size_t more_numbers;   /* numbers after those of these rows; their rows may be prefetched */
    /* NULL if `codes` is valid. Else both halves of the codes, (count, HALF_BYTES(n)); numbers is
     * then NULL. panel_u8 first joins them in `codes`; for half_panel, `codes` is halves[0]. */
    const uint8_t *halves[2];
    /* Row r is also kept for bounds that reach thresholds[r]. */
    const float *thresholds;
};

/*
 * Compares rows with a panel. Sets bit q of keep[r] to 0 if the bound of row r and query q is below
 * thresholds[q] and below the threshold of the row, else to 1. Returns true if any bit is 1.
 * thresholds has SQ8_PANEL elements.
 */
typedef bool sq8_panel_kernel(uint32_t *keep, const struct sq8_rows *rows,
                              const struct sq8_panel *panel, const float *thresholds);

/*
 * Hamming distances of packed bits: distances[r] is the number of bits in which row r of x differs
 * from the query. x is (rows, bytes), and its rows are x_step bytes apart; query has `bytes` bytes.
 * A row has at most HAMMING_MAX_BYTES. The kernel may also read the bytes between the rows.
 */
typedef void hamming_kernel(int32_t *distances, const void *x, ptrdiff_t x_step, size_t rows,
                            const void *query, size_t bytes);

enum { HAMMING_MAX_BYTES = INT32_MAX / 8 };

/* Rounds n floats to 16 bits, to nearest, ties to even. */
typedef void narrow_kernel(void *out, const float *in, size_t n);

/* Converts n doubles to floats with f32_rounded_to_odd of base/half.h. Rounding a float to 16 bits
 * then gives the same result as rounding its double. This does not hold for nonzero values below
 * the normal range of float. Returns true if there is such a value. */
typedef bool round_to_odd_kernel(float *out, const double *in, size_t n);

/*
 * One tile of a matrix product whose right operand is read in place, as in a convolution. For each
 * row r < rows of the left operand and each vector v < vectors of the right operand:
 *
 *     out[r * out_step + out_offsets[v] + lane] = sum over i < depth of
 *         left[r * left_row_step + i * left_depth_step] *
 *         right[vector_offsets[v] + depth_offsets[i] + lane]
 *
 * Steps and offsets count elements. Vectors are loaded and stored whole. rows is 1 to `rows` of the
 * table. The kernel then applies the following operations, if they are set, in this order:
 *
 *   partial_sums   adds partial_sums[r * partial_sums_step + v * lanes + lane]
 *   bias           adds bias[r]
 *   relu           replaces negative results by 0; NaN stays
 *   pool           vectors 2 w and 2 w + 1 hold two rows of the output; stores the maxima of their
 *                  2 x 2 windows at out_offsets[w] instead. A window with a NaN gives NaN.
 */
struct outer {
    const void *left;
    size_t left_row_step, left_depth_step;
    const void *right;
    const ptrdiff_t *vector_offsets, *depth_offsets;
    size_t vectors, depth;
    const void *partial_sums; /* or NULL */
    size_t partial_sums_step;
    const void *bias; /* or NULL */
    bool relu, pool;
    void *out;
    size_t out_step;
    const ptrdiff_t *out_offsets;
};
typedef void outer_kernel(const struct outer *o, size_t rows);
enum { OUTER_WIDE_ROWS = 8 }; /* the fastest number of rows for three vectors or more */

/*
 * Products of pixels with a block of filters, whose weights lie side by side in the lanes:
 *
 *     sums[p * sums_step + lane] = sum over i < depth of
 *         input[pixel_offsets[p] + depth_offsets[i]] * filters[i * width + lane]
 *
 * for p < pixels and lane < width, where width is vectors * lanes. vectors is at most `vectors`
 * of the table. Steps and offsets count elements. A sum has the same bits as in outer_kernel. With
 * `add`, the sum is added to the value in sums. Then bias[lane] and pixel_bias[p] are added, unless
 * they are NULL, and relu acts as in struct outer.
 *
 * The roles can be swapped: `input` holds weights and `filters` a panel of pixels.
 */
struct pixels {
    const void *input;
    const ptrdiff_t *pixel_offsets, *depth_offsets;
    size_t pixels, depth;
    const void *filters; /* (depth, width) */
    size_t vectors;
    bool add, relu;
    const void *bias, *pixel_bias;
    void *sums;
    size_t sums_step;
    /* Memory that the caller will write soon and the kernel prefetches: prefetch_rows rows (or 0)
     * of prefetch_bytes bytes. Results that do not fit the cache would otherwise wait for it. */
    const void *prefetch;
    size_t prefetch_rows, prefetch_step, prefetch_bytes;
};
typedef void pixels_kernel(const struct pixels *p);

/*
 * Dot products of left rows with right rows. The elements of a row are `vectors` vectors at any
 * offsets, then `tail` single elements that start at tail_offset. For each left row r < rows and
 * each right row c < columns:
 *
 *     out[r * out_row_step + c * out_column_step] =
 *         sum over i < vectors and all lanes of
 *             left[r][left_offsets[i] + lane] * right[c][right_offsets[i] + lane]
 *         + sum over i < tail of left[r][tail_offset + i] * right[c][tail_offset + i]
 *
 * With `add`, the sum is added to the value in out. bias (may be NULL) and relu then act as in
 * struct outer.
 */
struct dots {
    const ptrdiff_t *left_offsets, *right_offsets;
    size_t vectors, tail;
    ptrdiff_t tail_offset;
    bool add, relu;
    const void *bias;
    size_t out_row_step, out_column_step;
};
typedef void dots_kernel(const struct dots *d, const void *const *left, size_t rows,
                         const void *const *right, size_t columns, void *out);

/*
 * Weighted sums of n patches of an image. A patch is (rows, lanes), and patch i starts at
 * x + offsets[i]:
 *
 *     sums[r * lanes + lane] = sum over i < n of
 *         factors[i] * x[offsets[i] + r * row_step + lane]
 *
 * Patches of even and of odd i are summed separately, and the two sums are added. rows is 1 to
 * PATCH_ROWS.
 */
typedef void patches_kernel(void *sums, const void *x, size_t row_step, const ptrdiff_t *offsets,
                            const void *factors, size_t n, size_t rows);

enum { PATCH_ROWS = 6 };

/* to[r * to_row_step + i * to_column_step] += from[r * from_step + i] for r < rows and i < n. */
typedef void add_rows_kernel(void *to, size_t to_row_step, size_t to_column_step, const void *from,
                             size_t from_step, size_t rows, size_t n);

/* Sums along rows and down columns. */
struct sums_kernels {
    rows_kernel *rows[KERNEL_DTYPES][SUMS_KINDS];
    columns_kernel *columns[KERNEL_DTYPES][SUMS_KINDS];
    cosine_rows_kernel *cosine_rows[KERNEL_DTYPES];
    cosine_sums_kernel *cosine_sums;
    to_floats_kernel *to_floats[DTYPES];
    coarse_dots_kernel *coarse_dots[DTYPES]; /* NULL for 8-bit and unsigned integers */
    coarse_error_function *coarse_error;
};

/* The prefilter by SQ8 codes. *_u8 take rows of codes or of unsigned integers, *_i8 of signed. */
struct sq8_kernels {
    int query_code_max, panel_steps; /* see sq8_dots_kernel */
    /* The kernels add this offset to every element of a row before they compute dot products. */
    int u8_offset, i8_offset;
    size_t panel_lanes, panel_queries; /* widths of a narrow and of a full panel */
    quantize_kernel *quantize;
    sq8_dots_kernel *dots_u8, *dots_i8;
    sq8_row_dots_kernel *row_dots_u8;
    split_halves_kernel *split_halves;
    join_halves_kernel *join_halves;
    half_dots_kernel *half_dots;
    select_halves_kernel *select_halves;
    sq8_panel_kernel *panel_u8, *panel_i8, *half_panel;
    sq8_select_kernel *select;
};

/* Packed bits. */
struct bit_kernels {
    hamming_kernel *hamming;
};

/* Matrix products of one compute type: packing, tiles, cosines, selection and NT-Xent. */
struct tile_kernels {
    size_t rows, columns; /* of a tile */
    tile_kernel *tile;
    tile_sum_kernel *tile_sum;
    transpose_kernel *transpose;
    cosine_kernel *cosine;
    stream_cosines_kernel *stream_cosines;
    select_kernel *select_at_least;
    keep_kernel *keep_at_least;
    count_kernel *count_at_least;
    maxima_kernel *maxima;
    struct xent_kernels xent;
};

/* Matrix products of 8-bit integers of one type. */
struct byte_kernels {
    size_t rows, columns; /* of a tile */
    size_t element_size;  /* bytes of an element in a widened left row and in a panel */
    tile_kernel *tile;
    widen_bytes_kernel *widen;
    pack_bytes_kernel *pack;
};

/* Rounding to 16-bit floats. narrow has entries for f16 and bf16; others are NULL. */
struct half_kernels {
    narrow_kernel *narrow[KERNEL_DTYPES];
    round_to_odd_kernel *round_to_odd;
};

/* Layers of a network, for one compute type. */
struct layer_kernels {
    size_t rows;    /* largest number of rows in a call of outer_kernel */
    size_t lanes;   /* elements of a vector */
    size_t vectors; /* largest number of vectors in a call of pixels_kernel */
    outer_kernel *outer;
    pixels_kernel *pixels;
    dots_kernel *dots;
    patches_kernel *patches;
    add_rows_kernel *add_rows;
    max_pool2x2_kernel *max_pool2x2;
    max_pairs_kernel *max_pairs;
};

/* The table of one instruction set. It may share a group of kernels with another instruction set.
 * tiles, layers, lanes and elementwise have one entry for each compute type. */
struct kernels {
    const char *name; /* the value of COSSIM_ISA that selects it */
    const char *description;
    unsigned needs; /* enum cpu_feature bits */
    const struct sums_kernels *sums;
    const struct tile_kernels *tiles;
    /* for COMPUTE_I8 and COMPUTE_U8; NULL: products of floats are as fast */
    const struct byte_kernels *bytes;
    const struct half_kernels *halves;
    const struct sq8_kernels *sq8;
    const struct rough_kernels *rough; /* of kernels/rough_kernels.h; NULL: floats are as fast */
    const struct bit_kernels *bits;
    const struct layer_kernels *layers;
    const struct lanes_kernels *lanes;
    const struct winograd_kernels *winograd;
    const struct elementwise_kernels *elementwise;
    /* The same table with layers of half the vector width, for rows shorter than a wide vector; or
     * NULL. */
    const struct kernels *narrow;
    /* The same table for processors on which a wide vector takes as long as two narrow ones, or
     * NULL. Wide vectors are still faster there, because they need half the instructions, but not
     * where part of them is unused. */
    const struct kernels *split;
    bool is_split;
};

/* Returns all tables of this build, best first, and their number in *count. */
const struct kernels *const *kernels_all(size_t *count);

/* Returns whether this machine can run the table. */
bool kernels_supported(const struct kernels *table);

/* Returns the table in use: the one that kernels_select chose, else the best supported one. */
const struct kernels *kernels_current(void);

/* Chooses the vector width of layers in tables that have two widths: the full width if `wide` is
 * true, even for processors that split wide vectors, else half of it. The default is the full
 * width, in the table that fits the processor. Takes effect with the next kernels_select. */
void kernels_use_wide_layers(bool wide);

/* Selects a table by name. Returns false if there is no such table or this machine cannot run it.
 */
bool kernels_select(const char *name);
