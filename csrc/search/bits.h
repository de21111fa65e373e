#ifndef COSSIM_SEARCH_BITS_H
#define COSSIM_SEARCH_BITS_H

#include "search/search_call.h"

/*
 * A search whose rows are packed bits. Distances are as cheap as any prefilter, so all are
 * computed. A threshold becomes the largest distance that reaches it, and only distances up to that
 * become scores. Returns 0, or -1 when memory runs out.
 */
int search_bits(const struct search *search);

#endif
