#ifndef COSSIM_SEARCH_QUANTIZE_H
#define COSSIM_SEARCH_QUANTIZE_H

#include "search/float_rows.h"

/*
 * Quantizes rows [first, first + count). codes is (count, D), scales is (count). buffer has room
 * for float_row_size(D) bytes.
 */
void quantize_rows(const struct float_rows *rows, size_t first, size_t count, double eps,
                   uint8_t *codes, struct code_scale *scales, void *buffer);

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

/*
 * Quantizes a query of norm 1. codes has room for `bytes` bytes, padding included. If the query
 * holds NaN or infinity, pass finite = false: its residual_norm is then infinity.
 */
struct code_query quantize_query(const float *unit_query, bool finite, size_t depth, void *codes,
                                 size_t bytes);

/*
 * Quantizes all corpus rows of a search. A row has at most SQ8_MAX_DEPTH elements. For rows that
 * are their own codes, `codes` may be NULL. Returns -1 when memory runs out.
 */
int search_quantize(const struct search *search, uint8_t *codes, struct code_scale *scales);

#endif
