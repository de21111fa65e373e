#pragma once

#include "search/block.h"

/*
 * Searches the corpus rows of a block from `first` on. The prefilter compares SQ8 codes if
 * use_codes is set, else float32 rows. Returns 0, or -1 when memory runs out.
 */
int prefilter(const struct search *search, const struct search_block *block, size_t first);
