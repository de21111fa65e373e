#ifndef COSSIM_SEARCH_SEARCH_H
#define COSSIM_SEARCH_SEARCH_H

#include "search/search_call.h"

/* 0, or -1 when there is no memory. */
int search(const struct search *search);

#endif
