/*
 * Range search of sparse rows by the prefix filter: pairs that share no rare column are never
 * touched. The bounds are those of L2AP (Anastasiu and Karypis, ICDE 2014).
 *
 * Columns are ranked by their number of entries, most entries first. The weights of a row are its
 * values divided by max(norm, eps), so the norm of the weights is at most 1. The prefix of a row is
 * the longest run of its entries, in the order of ranks, whose norm is below the threshold t. The
 * other entries form its tail. Let x, y be the weights of two rows, and x<f the weights whose ranks
 * are below f.
 *
 * 1. A pair without a column in both tails scores below t. Say that the prefix of x reaches to the
 *    higher rank. Each common column is in the prefix of x or in that of y, so it is in the prefix
 *    of x, and by Cauchy-Schwarz the score is at most |prefix of x| |y| < t.
 * 2. In other pairs, let f be the lowest rank of a column in both tails. Each higher rank is in
 *    both tails too, so the sum over all ranks from f on is known. The score is at most this sum
 *    plus |x<f| |y<f|.
 *
 * Pairs whose bound reaches t are scored exactly.
 *
 * Rounding: weights and norms are floats. A sum of n products of weights is off by less than
 * (n + 3) 2^-24, because the magnitudes of the products add up to at most 1. The product of two
 * norms, each rounded up, is off by less than 2^-22, and the score itself by 4e-7 < 2^-21. The
 * margins (n + 32) 2^-23 and 2^-20 cover these errors.
 */
#include "sparse/prefix_filter.h"

#include <string.h>

#include "base/pool.h"
#include "sparse/sort.h"

enum { TASK_QUERIES = 64, POLL_ENTRIES = 1 << 18 };

#define MARGIN 0x1p-20

/* An entry of a tail, in a list by column or by row. */
struct tail_entry {
    uint32_t at; /* the row in a column's list, the column in a row's list */
    float weight;
    float lower_norm; /* norm of the row's weights of lower ranks, rounded up */
};

/* The tails of all rows, by column or by row. */
struct tails {
    size_t *starts, *ends;
    struct tail_entry *entries;
    void *memory;
};

/* The state of one pair: the worker's current query and a row of the corpus. */
struct candidate {
    float sum; /* over the columns in both tails */
    /* bound |x<f| |y<f| of the other columns; negative: no column is in both tails */
    float rest_bound;
};

struct filter_worker {
    struct candidate *candidates; /* one for each row of the corpus */
    uint32_t *touched;            /* rows that have a column in both tails */
};

struct filter_job {
    const struct sparse_search *search;
    double threshold;
    uint32_t *ranked;     /* columns, by rank */
    struct tails queries; /* by row */
    struct tails corpus;  /* by column */
    struct filter_worker *workers;
};

/* ---- tails ---- */

static void count_columns(const struct sparse_rows *rows, size_t *counts)
{
    for (size_t e = 0; e < rows->starts[rows->count]; e++) {
        counts[rows->column[e]]++;
    }
}

/* Ranks the columns. Returns false when memory runs out. */
static bool rank_columns(struct filter_job *job)
{
    const struct sparse_search *s = job->search;
    const size_t columns = s->corpus->columns;
    size_t *counts = NULL;
    uint64_t *keys = NULL;
    struct arena arena = {.block = NULL};
    while (arena_pass(&arena)) {
        counts = arena_take(&arena, columns, sizeof *counts);
        keys = arena_take(&arena, columns, 2 * sizeof *keys);
    }
    job->ranked = scratch_alloc(size_product_or_max(columns, sizeof *job->ranked));
    const bool has_memory = arena.block != NULL && job->ranked != NULL;
    if (has_memory) {
        memset(counts, 0, columns * sizeof *counts);
        count_columns(s->corpus, counts);
        count_columns(s->queries, counts);
        for (size_t c = 0; c < columns; c++) {
            const uint64_t count = smaller(counts[c], UINT32_MAX);
            keys[c] = (UINT32_MAX - count) << 32 | c;
        }
        sort_numbers(keys, keys + columns, columns);
        for (size_t c = 0; c < columns; c++) {
            job->ranked[c] = (uint32_t)keys[c];
        }
    }
    scratch_free(arena.block);
    return has_memory;
}

static bool tails_allocate(struct tails *tails, size_t lists, size_t entries)
{
    struct arena arena = {.block = NULL};
    while (arena_pass(&arena)) {
        tails->starts = arena_take(&arena, size_sum_or_max(lists, 2), sizeof *tails->starts);
        tails->ends = arena_take(&arena, lists, sizeof *tails->ends);
        tails->entries = arena_take(&arena, entries, sizeof *tails->entries);
    }
    tails->memory = arena.block;
    if (arena.block == NULL) {
        return false;
    }
    memset(tails->starts, 0, (lists + 2) * sizeof *tails->starts);
    return true;
}

/* Turns starts[n + 2] from the length of list n into the start of list n + 1. While lists are
 * filled, starts[n + 1] moves from the start of list n to its end. */
static void lengths_to_starts(struct tails *tails, size_t lists)
{
    for (size_t n = 2; n < lists + 2; n++) {
        tails->starts[n] += tails->starts[n - 1];
    }
}

/* Fills the lists by column with all entries of the rows that a bitmap marks. */
static void list_by_column(struct tails *tails, const struct sparse_rows *rows,
                           const uint64_t *kept)
{
    for (size_t row = 0; row < rows->count; row++) {
        const size_t end = bitmap_has(kept, row) ? rows->starts[row + 1] : 0;
        for (size_t e = rows->starts[row]; e < end; e++) {
            tails->starts[rows->column[e] + 2]++;
        }
    }
    lengths_to_starts(tails, rows->columns);
    for (size_t row = 0; row < rows->count && !cancel_poll_here(); row++) {
        if (!bitmap_has(kept, row)) {
            continue;
        }
        const double inverse = sparse_inverse_norm(rows, row);
        for (size_t e = rows->starts[row]; e < rows->starts[row + 1]; e++) {
            tails->entries[tails->starts[rows->column[e] + 1]++] =
                (struct tail_entry){(uint32_t)row, (float)(rows->values[e] * inverse), 0.0F};
        }
    }
}

/* Removes the entries of prefixes from the lists by column, so that tails are left. squares,
 * (rows), holds zeros on entry. */
static void keep_tails(struct tails *tails, const struct filter_job *job, size_t columns,
                       double *squares)
{
    const double max_norm = job->threshold - MARGIN, square = max_norm * max_norm;
    for (size_t rank = 0; rank < columns && !cancel_poll_here(); rank++) {
        const uint32_t column = job->ranked[rank];
        size_t kept = tails->starts[column];
        for (size_t e = tails->starts[column]; e < tails->starts[column + 1]; e++) {
            struct tail_entry entry = tails->entries[e];
            const double before = squares[entry.at],
                         after = before + (double)entry.weight * entry.weight;
            squares[entry.at] = after;
            entry.lower_norm = (float)(sqrt(before) * (1.0 + 0x1p-22));
            tails->entries[kept] = entry;
            kept += after >= square;
        }
        tails->ends[column] = kept;
    }
}

/* Makes the tails of all rows, by column. They are incomplete if the call is stopped. Returns false
 * when memory runs out. */
static bool tails_by_column(struct tails *tails, const struct filter_job *job,
                            const struct sparse_rows *rows, const uint64_t *kept)
{
    double *squares = scratch_alloc(size_product_or_max(rows->count, sizeof *squares));
    const bool has_memory =
        squares != NULL && tails_allocate(tails, rows->columns, rows->starts[rows->count]);
    if (has_memory) {
        memset(squares, 0, rows->count * sizeof *squares);
        list_by_column(tails, rows, kept);
        if (!cancel_requested(job->search->token)) { /* a stopped call has not set all entries */
            keep_tails(tails, job, rows->columns, squares);
        }
    }
    scratch_free(squares);
    return has_memory;
}

/* Makes the tails by row from those by column. Returns false when memory runs out. */
static bool tails_by_row(struct tails *tails, const struct tails *columns,
                         const struct sparse_rows *rows)
{
    size_t entries = 0;
    for (size_t c = 0; c < rows->columns; c++) {
        entries += columns->ends[c] - columns->starts[c];
    }
    if (!tails_allocate(tails, rows->count, entries)) {
        return false;
    }
    for (size_t c = 0; c < rows->columns; c++) {
        for (size_t e = columns->starts[c]; e < columns->ends[c]; e++) {
            tails->starts[columns->entries[e].at + 2]++;
        }
    }
    lengths_to_starts(tails, rows->count);
    for (size_t c = 0; c < rows->columns; c++) {
        for (size_t e = columns->starts[c]; e < columns->ends[c]; e++) {
            const struct tail_entry entry = columns->entries[e];
            tails->entries[tails->starts[entry.at + 1]++] =
                (struct tail_entry){(uint32_t)c, entry.weight, entry.lower_norm};
        }
    }
    return true;
}

static bool make_tails(struct filter_job *job)
{
    const struct sparse_search *s = job->search;
    struct tails columns = {.memory = NULL};
    const bool same = s->queries == s->corpus;
    bool has_memory = rank_columns(job) &&
                      tails_by_column(&job->corpus, job, s->corpus, sparse_candidates(s)) &&
                      (same || tails_by_column(&columns, job, s->queries, NULL));
    if (has_memory && !cancel_requested(s->token)) {
        has_memory = tails_by_row(&job->queries, same ? &job->corpus : &columns, s->queries);
    }
    scratch_free(columns.memory);
    return has_memory;
}

/* ---- search ---- */

/* Adds the products of a query's tail with the tails of all rows. In a search within one matrix,
 * only rows after the query take part. Returns the number of rows touched. */
static size_t touch_rows(const struct filter_job *job, struct filter_worker *w, size_t query)
{
    const struct tails *tails = &job->queries, *lists = &job->corpus;
    const size_t after = job->search->self ? query + 1 : 0;
    size_t count = 0, unpolled = 0;
    for (size_t e = tails->starts[query]; e < tails->starts[query + 1]; e++) {
        const struct tail_entry query_entry = tails->entries[e];
        const size_t begin = lists->starts[query_entry.at], end = lists->ends[query_entry.at];
        for (size_t at = end; at > begin && lists->entries[at - 1].at >= after; at--) {
            const struct tail_entry row_entry = lists->entries[at - 1];
            struct candidate *c = &w->candidates[row_entry.at];
            const float bound = query_entry.lower_norm * row_entry.lower_norm;
            const bool is_new = c->rest_bound < 0.0F;
            w->touched[count] = row_entry.at;
            count += is_new;
            c->sum += query_entry.weight * row_entry.weight;
            c->rest_bound = is_new || bound < c->rest_bound ? bound : c->rest_bound;
        }
        unpolled += end - begin;
        if (unpolled >= POLL_ENTRIES) {
            unpolled = 0;
            if (cancel_poll_here()) {
                break;
            }
        }
    }
    return count;
}

static void search_query(const struct filter_job *job, size_t worker, size_t query)
{
    const struct sparse_search *s = job->search;
    struct filter_worker *w = &job->workers[worker];
    const size_t entries = job->queries.starts[query + 1] - job->queries.starts[query],
                 count = touch_rows(job, w, query);
    const float threshold = (float)(job->threshold - (double)(entries + 32) * 0x1p-23);
    for (size_t n = 0; n < count; n++) {
        const size_t candidate = w->touched[n];
        struct candidate *c = &w->candidates[candidate];
        if (c->sum + c->rest_bound >= threshold) {
            sparse_add_score(s, worker, query, candidate,
                             sparse_dot(s->queries, query, s->corpus, candidate));
        }
        *c = (struct candidate){0.0F, -1.0F};
    }
}

/* Runs a task: up to TASK_QUERIES queries. */
static void search_queries(void *context, size_t task, size_t worker)
{
    const struct filter_job *job = context;
    const struct sparse_search *s = job->search;
    const size_t first = task * TASK_QUERIES,
                 end = smaller(first + TASK_QUERIES, s->queries->count);
    for (size_t query = first; query < end && !cancel_poll_here(); query++) {
        search_query(job, worker, query);
        progress_add(s->token, s->corpus->count - (s->self ? query : 0));
    }
}

static int run(struct filter_job *job)
{
    const struct sparse_search *s = job->search;
    const int threads = thread_count_for(sparse_products(s->queries, s->corpus), 1, GRAIN_SUMS);
    struct arena arena = {.block = NULL};
    while (arena_pass(&arena)) {
        job->workers = arena_take(&arena, (size_t)threads, sizeof *job->workers);
        for (size_t n = 0; n < (size_t)threads; n++) {
            struct filter_worker w;
            w.candidates = arena_take(&arena, s->corpus->count, sizeof *w.candidates);
            w.touched = arena_take(&arena, size_sum_or_max(s->corpus->count, 1), sizeof *w.touched);
            for (size_t row = 0; arena.block != NULL && row < s->corpus->count; row++) {
                w.candidates[row] = (struct candidate){0.0F, -1.0F};
            }
            if (arena.block != NULL) {
                job->workers[n] = w;
            }
        }
    }
    return pool_run_in_arena(&arena, size_parts(s->queries->count, TASK_QUERIES), threads,
                             search_queries, job, s->token);
}

int prefix_filter(const struct sparse_search *search)
{
    struct filter_job job = {.search = search,
                             .threshold = threshold_at(search->result_handler, 0, 0)};
    int status = make_tails(&job) ? 0 : -1;
    if (status == 0 && !cancel_requested(search->token)) {
        status = run(&job);
    }
    scratch_free(job.ranked);
    scratch_free(job.queries.memory);
    scratch_free(job.corpus.memory);
    return status;
}
