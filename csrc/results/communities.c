/* Communities: rows around a centre, from the pairs that reach a threshold. */
#include "results/communities.h"

#include <stdbool.h>
#include <string.h>

#include "base/scratch.h"

enum { POLL_ROWS = 256 };

/*
 * Row r is i of the pairs [first[r], first[r + 1]), and j of the pairs lower[n] for n in
 * [first_lower[r], first_lower[r + 1]).
 */
struct pairs_of_rows {
    size_t *first, *first_lower; /* (rows + 1) */
    size_t *lower;               /* (pairs) */
    size_t *order;               /* (rows): candidates for centres, largest first */
    uint8_t *taken;              /* (rows) */
};

static size_t size_of(const struct neighbourhoods *n, const struct pairs_of_rows *p, size_t row)
{
    return (n->own[row] != 0) + p->first[row + 1] - p->first[row] + p->first_lower[row + 1] -
           p->first_lower[row];
}

/* Turns counts into positions: starts[r + 1] is the count of row r on entry, and the end of its
 * pairs on return. */
static void add_up(size_t *starts, size_t rows)
{
    for (size_t r = 0; r < rows; r++) {
        starts[r + 1] += starts[r];
    }
}

static void find_pairs(const struct neighbourhoods *n, const struct pairs_of_rows *p)
{
    memset(p->first, 0, (n->rows + 1) * sizeof *p->first);
    memset(p->first_lower, 0, (n->rows + 1) * sizeof *p->first_lower);
    for (size_t k = 0; k < n->pairs; k++) {
        p->first[n->i[k] + 1]++;
        p->first_lower[n->j[k] + 1]++;
    }
    add_up(p->first, n->rows);
    add_up(p->first_lower, n->rows);
    /* Backwards, so that each end moves to its start and pairs stay in order. */
    for (size_t k = n->pairs; k-- > 0;) {
        p->lower[--p->first_lower[n->j[k] + 1]] = k;
    }
    memmove(p->first_lower, p->first_lower + 1, n->rows * sizeof *p->first_lower);
    p->first_lower[n->rows] = n->pairs;
}

/* Sorts the rows whose neighbourhoods have at least min_size rows by falling size, equal sizes by
 * row. counts is (rows + 2). Returns how many there are. */
static size_t sort_candidates(const struct neighbourhoods *n, const struct pairs_of_rows *p,
                              size_t min_size, size_t *counts)
{
    /* counts[s] becomes the number of rows whose neighbourhoods are larger than s. */
    memset(counts, 0, (n->rows + 2) * sizeof *counts);
    for (size_t r = 0; r < n->rows; r++) {
        counts[size_of(n, p, r)]++;
    }
    size_t above = 0;
    for (size_t s = n->rows + 1; s-- > min_size;) {
        const size_t rows = counts[s];
        counts[s] = above;
        above += rows;
    }
    for (size_t r = 0; r < n->rows; r++) {
        const size_t size = size_of(n, p, r);
        if (size >= min_size) {
            p->order[counts[size]++] = r;
        }
    }
    return above;
}

/* Writes the free rows of a neighbourhood as members, from position `at` on, the centre first.
 * Returns the position after the last member. */
static size_t put_members(const struct neighbourhoods *n, const struct pairs_of_rows *p,
                          size_t centre, const struct community_arrays *to, size_t at)
{
    if (n->own[centre] != 0 && !p->taken[centre]) {
        to->members[at] = (int64_t)centre;
        to->pair[at++] = -1;
    }
    for (size_t k = p->first_lower[centre]; k < p->first_lower[centre + 1]; k++) {
        const int64_t member = n->i[p->lower[k]];
        if (!p->taken[member]) {
            to->members[at] = member;
            to->pair[at++] = (int64_t)p->lower[k];
        }
    }
    for (size_t k = p->first[centre]; k < p->first[centre + 1]; k++) {
        const int64_t member = n->j[k];
        if (!p->taken[member]) {
            to->members[at] = member;
            to->pair[at++] = (int64_t)k;
        }
    }
    return at;
}

ptrdiff_t communities_find(const struct neighbourhoods *n, size_t min_size,
                           const struct community_arrays *to, struct cancel_token *token)
{
    struct pairs_of_rows p = {.first = NULL};
    size_t *counts = NULL;
    struct arena arena = {.block = NULL};
    while (arena_pass(&arena)) {
        p.first = arena_take(&arena, size_sum_or_max(n->rows, 1), sizeof *p.first);
        p.first_lower = arena_take(&arena, size_sum_or_max(n->rows, 1), sizeof *p.first_lower);
        p.lower = arena_take(&arena, n->pairs, sizeof *p.lower);
        p.order = arena_take(&arena, n->rows, sizeof *p.order);
        p.taken = arena_take(&arena, n->rows, sizeof *p.taken);
        counts = arena_take(&arena, size_sum_or_max(n->rows, 2), sizeof *counts);
    }
    if (arena.block == NULL) {
        return -1;
    }
    find_pairs(n, &p);
    memset(p.taken, 0, n->rows);
    const size_t candidates = sort_candidates(n, &p, min_size, counts);
    size_t found = 0, at = 0;
    for (size_t c = 0; c < candidates; c++) {
        if (c % POLL_ROWS == 0 && cancel_poll(token, 0)) {
            break;
        }
        const size_t centre = p.order[c];
        const size_t end = put_members(n, &p, centre, to, at);
        if (end - at < min_size) {
            continue;
        }
        for (; at < end; at++) {
            p.taken[to->members[at]] = 1;
        }
        to->centres[found] = (int64_t)centre;
        to->ends[found++] = (int64_t)end;
    }
    scratch_free(arena.block);
    return (ptrdiff_t)found;
}
