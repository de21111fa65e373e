#ifndef COSSIM_SEARCH_QUANTIZE_H
#define COSSIM_SEARCH_QUANTIZE_H

#include "search/float_rows.h"

/*
 * Quantizes rows [first, first + count). codes is (count, D), scales is (count). buffer has room
 * for float_row_size(D) bytes.
 */
void quantize_rows(const struct float_rows *rows, size_t first, size_t count, double eps,
                   uint8_t *codes, struct code_scale *scales, void *buffer);

/*
 * Quantizes a query of norm 1. codes has room for `bytes` bytes, padding included. If the query
 * holds NaN or infinity, pass finite = false: its residual_norm is then infinity.
 */
struct code_query quantize_query(const float *unit_query, bool finite, size_t depth, void *codes,
                                 size_t bytes);

/*
 * Quantizes all corpus rows of a search. A row has at most SQ8_MAX_DEPTH elements. Returns -1 when
 * memory runs out.
 */
int search_quantize(const struct search *search, uint8_t *codes, struct code_scale *scales);

#endif
