#ifndef COSSIM_SEARCH_QUANTIZE_H
#define COSSIM_SEARCH_QUANTIZE_H

#include "search/block.h"

/* Codes of rows first .. first+rows-1, wherever and whatever they are. buffer: room for a row of
 * doubles and one of floats. */
void quantize_rows(const struct pair_scores *scores, size_t first, size_t rows, uint8_t *codes,
                   struct code_scale *scales, void *buffer);

/* The same of a query that is a vector of norm 1, or not finite. factors: `bytes` of them, padding
 * included. */
struct code_query quantize_query(const float *direction, bool finite, size_t depth, void *factors,
                                 size_t bytes);

/* Codes of all rows of a corpus: -1 when there is no memory. Only for rows of up to CODES_DEPTH
 * elements. */
int search_quantize(const struct search *search, uint8_t *codes, struct code_scale *scales);

#endif
