/* Searches of rows with themselves: groups of similar rows, and pairs that wait for their exact
 * scores. */
#include "search/within.h"

#include <string.h>

#include "base/pool.h"
#include "search/float_rows.h"

enum {
    ROWS_AHEAD = 3, /* rows that are prefetched before they are scored */
    /* Waiting pairs take at most this much memory, or a quarter of that of the rows. */
    WAITING_BYTES = 64 << 20,
    ROWS_PER_WAITING = 4,
    MEASURED_ROWS = 1024, /* norms that are measured between two polls of the token */
    /* One row in this many is a center. There are at most MAX_CENTERS centers. There are at least
     * half as many as a search of other kinds has warm-up rows. */
    ROWS_PER_CENTER = 64,
    MAX_CENTERS = 1024,
    MAX_GROUP = 256 /* rows of a group; small, so that few pairs are within groups */
};

/* ---- pairs that wait ---- */

void *waiting_init(struct waiting *w, const struct search *s, size_t k, size_t workers)
{
    const size_t rows = s->corpus_rows.size;
    const struct search_block all = {.search = s, .rows = rows, .queries = rows};
    struct arena arena = {.block = NULL};
    *w = (struct waiting){.search = s, .k = k, .room = size_parts(k + WAITING, 16) * 16};
    w->step = scratch_round(sizeof(struct waiting_query) + k * sizeof(float)) +
              w->room * sizeof(struct waiting_pair);
    w->buffer_size = float_row_size(s->depth.size);
    const size_t row_bytes = s->depth.size * dtype_size(s->corpus.dtype);
    if (rows > larger(WAITING_BYTES, rows * (row_bytes / ROWS_PER_WAITING)) / w->step) {
        return NULL;
    }
    while (arena_pass(&arena)) {
        w->queries = arena_take(&arena, rows, w->step);
        w->buffers = arena_take(&arena, 2 * workers, w->buffer_size);
        w->norms.value = arena_take(&arena, rows + COSINE_PADDING, sizeof *w->norms.value);
        w->norms.exponent = arena_take(&arena, rows + COSINE_PADDING, sizeof *w->norms.exponent);
    }
    if (arena.block == NULL) {
        return NULL;
    }
    block_scores_init(&w->scores, &all);
    memset(w->norms.value + rows, 0, COSINE_PADDING * sizeof *w->norms.value);
    memset(w->norms.exponent + rows, 0, COSINE_PADDING * sizeof *w->norms.exponent);
    for (size_t row = 0; row < rows && !cancel_poll(s->token, 0); row += MEASURED_ROWS) {
        const struct norms norms = {w->norms.value + row, w->norms.exponent + row};
        pair_scores_measure(&w->scores.scores, SIDE_X, 0, row, smaller(MEASURED_ROWS, rows - row),
                            &norms);
    }
    for (size_t row = 0; row < rows; row++) {
        struct waiting_query *q = waiting_query_at(w, row);
        q->count = 0;
        q->is_exact = false;
        for (size_t i = 0; i < k; i++) {
            q->low[i] = -INFINITY;
        }
    }
    return arena.block;
}

void waiting_add_low(const struct waiting *w, size_t row, float bound)
{
    float *low = waiting_query_at(w, row)->low;
    unsigned at = 0; /* as wide as a float, so that the loop vectorizes */
    for (size_t i = 0; i < w->k; i++) {
        at += low[i] >= bound;
    }
    if (at < w->k) {
        memmove(low + at + 1, low + at, (w->k - 1 - at) * sizeof *low);
        low[at] = bound;
    }
}

void waiting_drop(const struct waiting *w, size_t row, double threshold)
{
    struct waiting_query *q = waiting_query_at(w, row);
    struct waiting_pair *pairs = waiting_pairs_at(w, row);
    uint16_t kept = 0;
    for (size_t i = 0; i < q->count; i++) {
        pairs[kept] = pairs[i];
        kept += !(pairs[kept].high < threshold);
    }
    q->count = kept;
}

/* Prefetches a row. */
static void prefetch_row(const struct search *s, size_t row)
{
    prefetch_lines(s->corpus.data + (ptrdiff_t)row * s->corpus_rows.x,
                   s->depth.size * dtype_size(s->corpus.dtype));
}

void waiting_score(const struct waiting *w, size_t row, const struct waiting_pair *pairs,
                   size_t count, size_t worker)
{
    const struct search *s = w->search;
    const size_t query = s->first_query + row;
    char *buffer = w->buffers + 2 * worker * w->buffer_size;
    const struct norms right = {w->norms.value + row, w->norms.exponent + row};
    const struct scored_row y = {row, &right, buffer + w->buffer_size};
    for (size_t i = 0; i < count && i < ROWS_AHEAD; i++) {
        prefetch_row(s, pairs[i].row);
    }
    for (size_t i = 0; i < count; i++) {
        const size_t candidate = pairs[i].row;
        const struct norms left = {w->norms.value + candidate, w->norms.exponent + candidate};
        if (i + ROWS_AHEAD < count) {
            prefetch_row(s, pairs[i + ROWS_AHEAD].row);
        }
        if (pairs[i].high < threshold_at(s->result_handler, worker, query)) {
            continue;
        }
        const struct scored_row x = {candidate, &left, buffer};
        add_score(s, worker, query, s->first_candidate + candidate,
                  pair_scores_one(&w->scores.scores, &x, &y));
    }
}

/* ---- groups of similar rows ---- */

size_t first_centers(size_t centers)
{
    return centers - centers / 4;
}

size_t center_count(const struct search *s)
{
    return larger(s->warm_up_rows / 2, smaller(s->corpus_rows.size / ROWS_PER_CENTER, MAX_CENTERS));
}

size_t pairs_with_groups(size_t rows, size_t centers)
{
    return size_sum_or_max(
        pairs_of_rows(rows - first_centers(centers)),
        size_sum_or_max(size_product_or_max(rows - centers, centers), pairs_of_rows(centers)));
}

/* Scores pairs of a search's rows, as worker `owner` or with all workers: pairs of `rows` with
 * `queries`, or of `rows` with one another if both are the same list. */
static int score_numbered(const struct search *search, const size_t *rows, size_t row_count,
                          const size_t *queries, size_t query_count, size_t owner)
{
    struct search s = *search;
    s.row_numbers = rows;
    s.query_numbers = queries;
    s.corpus_rows.size = row_count;
    s.query_rows.size = query_count;
    struct search_block block = {
        .search = &s, .rows = row_count, .queries = query_count, .owner = owner};
    return row_count == 0 || query_count == 0
               ? 0
               : score_block(&block, owner == ANY_WORKER ? s.token : NULL);
}

/* Runs a task: scores all pairs of a group. */
static void score_group(void *context, size_t group, size_t worker)
{
    struct groups *g = context;
    const size_t first = g->starts[group], count = g->starts[group + 1] - first;
    const size_t *numbers = g->numbers + first;
    if (score_numbered(g->search, numbers, count, numbers, count, worker) < 0) {
        atomic_store(&g->status, -1);
    }
}

/* Returns the last center that is not after a row. */
static size_t center_before(const struct groups *g, size_t row)
{
    return row < g->first ? row : smaller(g->first + (row - g->first) / g->step, g->centers - 1);
}

static bool is_center(const struct groups *g, size_t row)
{
    const size_t distance = row - g->first;
    return row < g->first ||
           (distance % g->step == 0 && distance / g->step < g->centers - g->first);
}

/* Sorts the rows that are no centers by their nearest centers, and cuts the rows of a center into
 * groups. Numbers groups from 1 on. */
static void cut_groups(struct groups *g, const int64_t *nearest, size_t step)
{
    size_t *ends = g->ends;
    uint32_t *of_row = g->of_row;
    const size_t rows = g->search->corpus_rows.size, others = rows - g->centers;
    memset(ends, 0, g->centers * sizeof *ends);
    for (size_t n = 0; n < others; n++) {
        const size_t row = g->numbers[g->centers + n];
        /* If an earlier search has found better rows, any center will do. */
        of_row[row] =
            (uint32_t)center_before(g, (size_t)nearest[row * step] - g->search->first_candidate);
        ends[of_row[row]]++;
    }
    for (size_t center = 0, end = g->centers; center < g->centers; center++) {
        const size_t first = end;
        end += ends[center];
        ends[center] = first;
        for (size_t at = first; at < end; at += MAX_GROUP) {
            g->starts[g->count++] = at;
        }
    }
    g->starts[g->count] = rows;
    for (size_t row = 0; row < rows; row++) {
        if (is_center(g, row)) {
            of_row[row] = 0;
        } else {
            g->numbers[ends[of_row[row]]++] = row;
        }
    }
    for (size_t group = 0; group < g->count; group++) {
        for (size_t at = g->starts[group]; at < g->starts[group + 1]; at++) {
            of_row[g->numbers[at]] = (uint32_t)group + 1;
        }
    }
}

int groups_init(struct groups *g, const struct search *s)
{
    const size_t rows = s->corpus_rows.size, centers = center_count(s);
    size_t center = 0, other = centers;
    struct arena arena = {.block = NULL};
    *g = (struct groups){.search = s, .centers = centers, .first = first_centers(centers)};
    g->step = (rows - g->first) / (centers - g->first);
    while (arena_pass(&arena)) {
        g->of_row = arena_take(&arena, rows, sizeof *g->of_row);
        g->ends = arena_take(&arena, centers, sizeof *g->ends);
        g->numbers = arena_take(&arena, rows, sizeof *g->numbers);
        g->starts = arena_take(&arena, centers + rows / MAX_GROUP + 1, sizeof *g->starts);
    }
    g->memory = arena.block;
    for (size_t row = 0; g->memory != NULL && row < rows; row++) {
        g->numbers[is_center(g, row) ? center++ : other++] = row;
    }
    return g->memory == NULL ? -1 : 0;
}

int score_centers(const struct groups *g, size_t from, size_t to)
{
    const size_t *numbers = g->numbers + from, all = ANY_WORKER,
                 rest = g->search->corpus_rows.size - to;
    return score_numbered(g->search, numbers, to - from, numbers, to - from, all) |
           score_numbered(g->search, numbers, to - from, g->numbers + to, rest, all);
}

int score_groups(struct groups *g, const int64_t *nearest, size_t step)
{
    const struct search *s = g->search;
    const size_t rows = s->corpus_rows.size;
    cut_groups(g, nearest, step);
    pool_run(g->count, thread_count_for(rows, rows / g->centers * s->depth.size, GRAIN_SUMS),
             score_group, g, s->token);
    return atomic_load(&g->status);
}
