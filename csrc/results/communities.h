#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/cancel.h"

/* The neighbourhoods of rows: all pairs i < j that reach a threshold, sorted by i. own[r] is not 0
 * where row r is in its own neighbourhood. */
struct neighbourhoods {
    size_t rows, pairs;
    const int64_t *i, *j;
    const uint8_t *own;
};

/*
 * Communities: the members of community n are elements [ends[n - 1], ends[n]) of `members`, and
 * ends[-1] counts as 0. Element m of `pair` is the position of the pair of members[m] with the
 * centre, or -1 for the centre itself. Each array has room for `rows` elements.
 */
struct community_arrays {
    int64_t *members, *pair, *centres, *ends;
};

/*
 * Takes the neighbourhoods of at least min_size rows (1 or more), the largest first; equal sizes by
 * row. Rows that an earlier community has are left out. If min_size rows are left, they are a
 * community. Returns the number of communities, or -1 when memory runs out.
 */
ptrdiff_t communities_find(const struct neighbourhoods *n, size_t min_size,
                           const struct community_arrays *to, struct cancel_token *token);
