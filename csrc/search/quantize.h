#ifndef COSSIM_SEARCH_QUANTIZE_H
#define COSSIM_SEARCH_QUANTIZE_H

#include "search/block.h"

/*
 * Quantizes rows [first, first + rows), of any layout and dtype. codes is (rows, D), scales is
 * (rows). buffer has room for one row of doubles and one row of floats.
 */
void quantize_rows(const struct pair_scores *scores, size_t first, size_t rows, uint8_t *codes,
                   struct code_scale *scales, void *buffer);

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
