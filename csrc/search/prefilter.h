#ifndef COSSIM_SEARCH_PREFILTER_H
#define COSSIM_SEARCH_PREFILTER_H

#include "search/block.h"

/* All rows of a part from `first` on, with a first look by codes or else by rows of floats. 0, or
 * -1 when there is no memory. */
int prefilter(const struct search *search, const struct search_block *part, size_t first,
              bool by_codes);

#endif
