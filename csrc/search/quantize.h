#pragma once

#include "search/float_rows.h"

/*
 * Quantizes rows [first, first + count). codes is (count, D), scales is (count). buffer has room
 * for float_row_size(D) bytes.
 */
void quantize_rows(const struct float_rows *rows, size_t first, size_t count, double eps,
                   uint8_t *codes, struct code_scale *scales, void *buffer);

/* The same with codes in halves: upper and lower are (count, HALF_BYTES(D)). */
void quantize_halves(const struct float_rows *rows, size_t first, size_t count, double eps,
                     uint8_t *upper, uint8_t *lower, struct code_scale *scales, void *buffer);

/* True if rows are their own codes: 8-bit integers that the kernels read in place. */
static inline bool rows_are_codes(const struct float_rows *rows)
{
    const enum dtype dtype = rows->operand->dtype;
    return rows->in_place && (dtype == DTYPE_I8 || dtype == DTYPE_U8) &&
           rows->depth <= SQ8_MAX_DEPTH;
}

/* Sets the scales of rows [first, first + count) that are their own codes: their inverse norms. */
void scale_rows(const struct float_rows *rows, size_t first, size_t count, double eps,
                struct code_scale *scales);

/* Sets the bounds of rows that are their own codes, from the sums of squares of their elements. The
 * arguments are those of bounds_of_rows(). */
void bounds_of_squares(const int32_t *squares, size_t count, double eps, float longest,
                       const struct row_bounds *bounds);

/*
 * Row r has scales[numbers[r]], or scales[r] if numbers is NULL.
 *
 * Sets the bounds of rows with SQ8 codes, but not their tails, which are 0. `longest` is an upper
 * bound of the norm of a row of codes before it is scaled.
 *
 * Let x be a row divided by max(|row|, eps), q a query scaled to norm 1, and x' and q' their
 * quantized values. Then
 *
 *     x.q = x'.q' + (x - x').q + x'.(q - q') <= x'.q' + |x - x'| |q| + |x'| |q - q'|
 *
 * by Cauchy-Schwarz: a row's residual is |x - x'|, its norm an upper bound of |x'|; a query's norm
 * is |q| = 1, its residual |q - q'|. |x'| is at most the norm of a row of the largest codes, and at
 * most |x| + |x - x'| <= 1 + |x - x'|. coded_queries_set() adds 2^-17 to the residual of a query:
 * that covers the rounding of the bound (six operations of 2^-24 on terms of at most |x'| + |x|)
 * and the error of the exact score (exact_score_error of prefilter.c).
 */
void bounds_of_rows(const struct code_scale *scales, const size_t *numbers, size_t count,
                    float longest, const struct row_bounds *bounds);

/*
 * Quantizes all corpus rows of a search, with codes in halves. A row has at most SQ8_MAX_DEPTH
 * elements. For rows that are their own codes, upper and lower may be NULL. Returns -1 when memory
 * runs out.
 */
int search_quantize(const struct search *search, uint8_t *upper, uint8_t *lower,
                    struct code_scale *scales);

/* Quantizes the heads of all corpus rows of a search, but not the rows themselves. */
struct head_scale;
int search_quantize_heads(const struct search *search, const struct rotation *rotation,
                          uint8_t *heads, struct head_scale *scales);
