#ifndef COSSIM_SEARCH_QUANTIZE_H
#define COSSIM_SEARCH_QUANTIZE_H

#include "search/block.h"

/*
 * Quantizes rows [first, first + rows) of any layout and dtype into codes (rows, D) and scales
 * (rows). buffer has room for one row of doubles and one of floats.
 */
void quantize_rows(const struct pair_scores *scores, size_t first, size_t rows, uint8_t *codes,
                   struct code_scale *scales, void *buffer);

/*
 * Quantizes a query of norm 1. Pass finite = false if it holds NaN or infinity: its bound is then
 * infinite. codes has room for `bytes` bytes, padding included.
 */
struct code_query quantize_query(const float *direction, bool finite, size_t depth, void *codes,
                                 size_t bytes);

/*
 * Quantizes all rows of a corpus of at most SQ8_MAX_DEPTH elements a row. Returns -1 when memory
 * runs out.
 */
int search_quantize(const struct search *search, uint8_t *codes, struct code_scale *scales);

#endif
