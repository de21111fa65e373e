#pragma once

#include "search/coded_queries.h"
#include "search/float_rows.h"

/*
 * The rotated head of rows and queries: their coordinates along a few orthonormal directions, as
 * SQ8 codes. The directions hold most of the energy of the corpus. Of the rest of a row, only the
 * norm is kept.
 *
 * Let R (H, D) be the directions, and d (rotation.error) an upper bound of |R R^T - I|, the largest
 * singular value. Let x be a row divided by max(|row|, eps), q a query scaled to norm 1. Split both
 * into a part in the span of the directions and a part orthogonal to it: x = x_r + x_t. With
 * P = R^T R,
 *
 *     x.q = x^T P q + x^T (I - P) q = (R x).(R q) + x_r^T (I - P) q_r + x_t.q_t
 *
 * because P maps the span to itself and all else to 0. The eigenvalues of P in the span are those
 * of R R^T, within d of 1. So
 *
 *     x.q <= (R x).(R q) + d |x_r| |q_r| + |x_t| |q_t|      (Cauchy-Schwarz)
 *     |x_t|^2 = |x|^2 - |x_r|^2 <= |x|^2 - |R x|^2 / (1 + d)
 *
 * The product of the heads is bounded like the product of other codes (quantize.h): residual is the
 * distance of R x from its codes, and tail is an upper bound of |x_t|. R x is computed as H dot
 * products of floats, each with an error of at most s |r_i| |x|, where s is panel_error(D) for rows
 * and that of coarse_error_function for queries. So its error is at most head_error(s) |x|, where
 * head_error(s) = s sqrt(H (1 + d)). Both residuals include it. d
 * |x_r| |q_r| <= 1.1 d (|x'| + residual) is in the residual of the query, and 2^-17 in its residual
 * and its tail cover the rounding of the bound and of the exact score, which are in proportion to
 * |x_r| and |x_t|.
 */

/* The largest error of a rotation that the bounds allow for. */
#define MAX_ROTATION_ERROR 0.1

/* The number of directions is a multiple of this. */
enum { HEAD_STEP = COARSE_QUERIES };

struct head_scale {
    float scale, residual, tail;
};

/* The rows whose heads are quantized, and their directions. panels are the directions as
 * make_head_panels() writes them: head_panels_size(D, H) bytes. */
struct head_source {
    const struct float_rows *rows;
    const struct rotation *rotation;
    const float *panels;
    double eps;
};

/* Quantizes the heads of rows [first, first + count). codes is (count, H), scales (count,). buffer
 * has room for head_buffer_size(D, H) bytes. */
void quantize_heads(const struct head_source *source, size_t first, size_t count, uint8_t *codes,
                    struct head_scale *scales, void *buffer);
void make_head_panels(const struct rotation *rotation, size_t depth, float *panels);
size_t head_panels_size(size_t depth, size_t size);
size_t head_buffer_size(size_t depth, size_t size);

/* Calculates the bounds of `count` rows from the scales of their heads. A head has `size` elements.
 * Row r has scales[numbers[r]], or scales[r] if numbers is NULL.
 */
void bounds_of_heads(const struct head_scale *scales, const size_t *numbers, size_t count,
                     size_t size, const struct row_bounds *bounds);

/* Quantizes the head of a query of norm 1. With finite = false, no row is ruled out for the query.
 * `vector` has room for H floats. */
void head_of_query(const struct rotation *rotation, size_t depth, struct coded_queries *heads,
                   size_t query, const float *unit_query, bool finite, float *vector);
