/*
 * Top-k of sparse rows. Only the rows near the k best coarse scores are scored exactly.
 *
 * For small k and without filters, coarse scores come from an inverted index of short floats
 * (coarse_index.h). Queries with fewer than k clearly positive scores are searched again.
 *
 * Otherwise the exact sums of a query with the rows that share a column with it come from an
 * inverted index. They become coarse scores, products of floats, which take few instructions and no
 * branch.
 */
#include "sparse/sparse_topk.h"

#include <string.h>

#include "base/pool.h"
#include "results/entries.h"
#include "sparse/coarse_index.h"
#include "sparse/query_table.h"

enum {
    TASK_QUERIES = 16,
    CHUNK_ROWS = 1024, /* coarse scores that are compared at once; they stay in the L1 cache */
    GROUPS = 64,
    MAX_COARSE_K = 64, /* the largest k for the index of short floats */
    /* That index takes longer to build. It pays if a query has PRODUCTS_PER_PLACE products for each
     * place of its result, and if each entry is multiplied PRODUCTS_PER_ENTRY times. */
    PRODUCTS_PER_PLACE = 4,
    PRODUCTS_PER_ENTRY = 2,
    TILE_COLUMNS = 256, /* the select kernel numbers columns with 8 bits */
    TILE_ROWS = COARSE_BLOCK_ROWS / TILE_COLUMNS,
    LINE = 16,      /* column numbers in a cache line */
    LINES_AHEAD = 4 /* lines of columns of each row that are prefetched */
};

/*
 * Coarse scores are products of three floats: the sum and the inverses of both norms. Scores are at
 * most 1 in magnitude, so five roundings to float move a coarse score by less than 2^-21. Inverses
 * far from 1 could leave the range of float, so they are NaN. A coarse score of NaN rules out
 * nothing: such pairs are scored exactly.
 */
#define COARSE_ERROR 0x1p-21

static float coarse_inverse(const struct sparse_rows *rows, size_t row)
{
    const double inverse = sparse_inverse_norm(rows, row);
    return inverse > 0x1p-30 && inverse < 0x1p30 ? (float)inverse : NAN;
}

struct topk_worker {
    struct accumulator sums;
    /* The best entries so far, in no order. Once there are k, entries below `threshold`, the score
     * of the k-th, are not added. */
    struct entry *entries, *spare;
    size_t count, room;
    double threshold; /* NaN, and nothing is below it, while a score of NaN is among the k best */
    /* (CHUNK_ROWS) */
    uint32_t *rows; /* numbers within the block */
    uint32_t *left; /* positions of the rows that the coarse scores do not rule out */
    double *totals; /* sums */
    float *coarse, *selected;
};

/* The state of a worker that searches the index of short floats. */
struct coarse_worker {
    struct coarse_scores scores;
    struct query_table table;
    uint32_t *found;     /* words of the select kernel */
    uint32_t *survivors; /* (COARSE_BLOCK_ROWS + 1): rows whose coarse scores reach a level */
    float *selected;     /* (COARSE_BLOCK_ROWS + 1): their coarse scores */
    double *sums;        /* (COARSE_BLOCK_ROWS): of the survivors */
    float *level;        /* (TILE_COLUMNS): copies of one level */
    float *maxima;       /* (TILE_COLUMNS): of groups of scores */
    float expected; /* a little less than the k-th best scores of the queries so far; 0: none */
};

struct topk_job {
    const struct sparse_topk *call;
    struct postings postings;
    struct coarse_index index;
    struct topk_worker *workers;
    struct coarse_worker *coarse_workers;
    bool *is_done;   /* (queries): by the coarse index. NULL: none */
    float *inverses; /* inverse norms of the corpus rows; NaN if out of range */
};

/* ---- the best entries ---- */

static void reset_entries(struct topk_worker *w)
{
    w->count = 0;
    w->threshold = -INFINITY;
}

/* Keeps the k best entries. */
static void select_entries(struct topk_worker *w, size_t k)
{
    if (w->count >= k) {
        entries_select(w->entries, w->count, k);
        w->count = k;
        w->threshold = score_of_double_key(w->entries[k - 1].key);
    }
}

static void add_entry(struct topk_worker *w, size_t k, double score, size_t index)
{
    if (w->count == w->room) {
        select_entries(w, k);
    }
    w->entries[w->count++] =
        (struct entry){key_of_double(score), 2 * index + (score == 0.0 && signbit(score))};
}

static void store_entries(const struct sparse_topk *call, struct topk_worker *w, size_t query)
{
    select_entries(w, call->k);
    entries_sort(w->entries, w->spare, w->count);
    for (size_t n = 0; n < call->k; n++) {
        const bool is_filled = n < w->count;
        const struct entry entry = is_filled ? w->entries[n] : (struct entry){0, 0};
        const double score = is_filled ? score_of_double_key(entry.key) : NAN;
        compute_store(call->queries->compute, call->values, query * call->k + n,
                      entry.index & 1 ? -0.0 : score);
        call->indices[query * call->k + n] = is_filled ? (int64_t)(entry.index / 2) : -1;
    }
}

/* ---- thresholds of coarse scores ---- */

/* Returns the k-th largest of n numbers, 1 <= k <= n, and reorders them. None is NaN. */
static float kth_largest(float *numbers, size_t n, size_t k)
{
    size_t first = 0, end = n;
    while (end - first > 1) {
        const float a = numbers[first], b = numbers[first + (end - first) / 2],
                    c = numbers[end - 1], high = a > b ? a : b, low = a > b ? b : a,
                    pivot = c > high  ? high
                            : c < low ? low
                                      : c;
        size_t above = first, equal = 0;
        for (size_t i = first; i < end; i++) {
            const float number = numbers[i];
            numbers[i] = numbers[above];
            numbers[above] = number;
            above += number > pivot;
            equal += number == pivot;
        }
        if (k - 1 < above) {
            end = above;
        } else if (k - 1 < above + equal) {
            return pivot;
        } else {
            size_t below = above;
            for (size_t i = above; i < end; i++) {
                const float number = numbers[i];
                numbers[i] = numbers[below];
                numbers[below] = number;
                below += number == pivot;
            }
            first = below;
        }
    }
    return numbers[first];
}

/*
 * Returns a number that at least k of the coarse scores reach, or -infinity if fewer are numbers.
 * For small k that is the k-th largest of the maxima of 64 groups of scores. It is a little less
 * than the k-th largest score.
 */
static float reached_by(struct topk_worker *w, size_t n, size_t k)
{
    const float *coarse = w->coarse;
    float *selected = w->selected;
    size_t count = n < 4 * GROUPS || k > GROUPS / 4 ? n : GROUPS;
    if (k > n) {
        return -INFINITY;
    }
    for (size_t i = 0; i < count; i++) {
        selected[i] = coarse[i] >= -INFINITY ? coarse[i] : -INFINITY;
    }
    for (size_t i = count; i + count <= n; i += count) {
        for (size_t g = 0; g < GROUPS; g++) {
            selected[g] = coarse[i + g] > selected[g] ? coarse[i + g] : selected[g];
        }
    }
    return kth_largest(selected, count, k);
}

/* ---- scores ---- */

/* Lists the positions of the n coarse scores that are not below a threshold. Returns how many. */
__attribute__((noinline)) static size_t list_left(const float *coarse, size_t n, float least,
                                                  uint32_t *left)
{
    size_t count = 0;
    for (size_t i = 0; i < n; i++) {
        left[count] = (uint32_t)i;
        count += !(coarse[i] < least);
    }
    return count;
}

/* Scores a pair from its sum, and adds it unless it is below the k best. */
static void score_row(const struct topk_job *job, struct topk_worker *w,
                      const struct postings_block *block, size_t query, size_t row, double xy)
{
    const struct sparse_topk *call = job->call;
    const size_t candidate = block->first + row;
    if ((call->self && candidate == query) || !filter_passes(call->filter, query, candidate)) {
        return;
    }
    const double score = sparse_score(call->queries, query, call->corpus, candidate, xy);
    if (!(score < w->threshold)) {
        add_entry(w, call->k, score, candidate);
    }
}

/* Takes the sums of n rows of a block, and scores those that may be among the k best. */
static void score_chunk(const struct topk_job *job, struct topk_worker *w,
                        const struct postings_block *block, size_t query, const uint32_t *rows,
                        size_t n)
{
    const struct sparse_topk *call = job->call;
    const float inverse = coarse_inverse(call->queries, query), *const inverses =
                                                                    job->inverses + block->first;
    for (size_t i = 0; i < n; i++) {
        const double xy = accumulator_take(&w->sums, rows[i]);
        w->totals[i] = xy;
        w->coarse[i] = (float)xy * inverses[rows[i]] * inverse;
    }
    /* A filter may exclude the best rows of the chunk, so their scores give no bound. */
    const size_t wanted = call->k + call->self;
    const double reached =
        call->filter == NULL ? (double)reached_by(w, n, wanted) : (double)-INFINITY;
    const double bound = w->threshold > reached ? w->threshold : reached;
    const float lowest = (float)(bound - 3 * COARSE_ERROR);
    const size_t left = list_left(w->coarse, n, lowest, w->left);
    for (size_t i = 0; i < left; i++) {
        score_row(job, w, block, query, rows[w->left[i]], w->totals[w->left[i]]);
    }
    if (w->count / 2 >= call->k) {
        select_entries(w, call->k);
    }
}

/* Scores the rows of a block that a query touched, or all rows if these are not listed. */
static void score_rows(const struct topk_job *job, struct topk_worker *w,
                       const struct postings_block *block, size_t query)
{
    const bool listed = w->sums.listed;
    const size_t count = listed ? w->sums.count : block->rows;
    for (size_t first = 0; first < count; first += CHUNK_ROWS) {
        const size_t n = smaller(count - first, CHUNK_ROWS);
        for (size_t i = 0; i < n && !listed; i++) {
            w->rows[i] = (uint32_t)(first + i);
        }
        score_chunk(job, w, block, query, listed ? w->sums.touched + first : w->rows, n);
    }
}

/* Adds candidates that share no column with the query. They score 0, or NaN if a norm is NaN or 0.
 * Of those that score 0, only the k with the lowest indices can be among the k best. */
static void add_untouched(const struct topk_job *job, struct topk_worker *w,
                          const struct postings_block *block, size_t query)
{
    const struct sparse_topk *call = job->call;
    size_t zeros = 0;
    for (size_t row = 0; row < block->rows && zeros <= call->k; row++) {
        if (!w->sums.is_touched[row] && filter_passes(call->filter, query, block->first + row)) {
            score_row(job, w, block, query, row, 0.0);
            zeros +=
                !isnan(sparse_score(call->queries, query, call->corpus, block->first + row, 0.0));
        }
    }
}

static void search_block(const struct topk_job *job, struct topk_worker *w,
                         const struct postings_block *block, size_t query)
{
    struct accumulator *sums = &w->sums;
    accumulate(sums, block, job->call->queries, query, 0);
    score_rows(job, w, block, query);
    select_entries(w, job->call->k);
    if (sums->listed && !(w->threshold > 0.0)) {
        add_untouched(job, w, block, query);
    }
    accumulator_forget(sums);
}

/* Runs a task: up to TASK_QUERIES queries. */
static void search_queries(void *context, size_t task, size_t worker)
{
    const struct topk_job *job = context;
    struct topk_worker *w = &job->workers[worker];
    const size_t first = task * TASK_QUERIES,
                 end = smaller(first + TASK_QUERIES, job->call->queries->count);
    for (size_t query = first; query < end; query++) {
        if (job->is_done != NULL && job->is_done[query]) {
            continue;
        }
        reset_entries(w);
        for (size_t b = 0; b < job->postings.block_count && !cancel_poll_here(); b++) {
            search_block(job, w, &job->postings.blocks[b], query);
        }
        store_entries(job->call, w, query);
        progress_add(job->call->token, job->call->corpus->count);
    }
}

/* ---- the index of short floats ---- */

/* Lists the rows of a block whose coarse scores reach a level above 0. Returns how many. */
static size_t list_survivors(struct coarse_worker *c, size_t rows, float level)
{
    size_t count = 0;
    for (size_t i = 0; i < TILE_COLUMNS; i++) {
        c->level[i] = level;
    }
    const size_t words = kernels_current()->tiles[COMPUTE_F32].select_at_least(
        c->scores.scores, TILE_COLUMNS, size_parts(rows, TILE_COLUMNS), TILE_COLUMNS, NULL,
        c->level, c->found);
    for (size_t f = 0; f < words; f++) {
        const uint32_t row = (c->found[f] >> 16) * TILE_COLUMNS + (c->found[f] >> 8 & 0xff);
        for (uint32_t bits = c->found[f] & 0xff; bits != 0; bits &= bits - 1) {
            c->survivors[count] = row + (uint32_t)__builtin_ctz(bits);
            c->selected[count] = c->scores.scores[c->survivors[count]];
            count++;
        }
    }
    return count;
}

/* Lists the candidates whose coarse scores reach the level that they were listed for. Returns how
 * many. */
static size_t list_candidates(struct coarse_worker *c, float level)
{
    float *scores = c->scores.scores;
    size_t count = 0;
    for (size_t i = 0; i < c->scores.candidate_count; i++) {
        const uint32_t row = c->scores.candidates[i];
        const float score = scores[row];
        c->survivors[count] = row;
        c->selected[count] = score;
        count += score >= level;
        scores[row] = score >= level ? -2.0f : score; /* a repeated row is left out */
    }
    for (size_t i = 0; i < count; i++) {
        scores[c->survivors[i]] = c->selected[i];
    }
    return count;
}

/* Returns a number that at least k of the coarse scores of a block reach: the k-th largest of the
 * maxima of groups. */
static float reached_by_groups(struct coarse_worker *c, size_t rows, size_t k)
{
    const size_t groups = k > GROUPS / 4 ? TILE_COLUMNS : GROUPS;
    for (size_t i = 0; i < groups; i++) {
        c->maxima[i] = -INFINITY;
    }
    kernels_current()->tiles[COMPUTE_F32].maxima(c->maxima, c->scores.scores, groups,
                                                 size_parts(rows, groups), groups);
    return kth_largest(c->maxima, groups, k);
}

/*
 * Lists the rows of a block that can be among the k best. `error` bounds the errors of coarse
 * scores, and no score below `threshold` is among the k best. Returns how many, or SIZE_MAX if rows
 * that share no column with the query can be among them.
 *
 * If k coarse scores reach a number, k scores reach that number - error. So rows with coarse scores
 * below that number - 2 * error cannot be among the k best. The number is the k-th largest coarse
 * score. `start` is a level that most queries need: if k rows reach it, the number is found among
 * these few rows, which is fastest.
 */
static size_t find_survivors(struct coarse_worker *c, size_t rows, size_t k, float start,
                             double threshold, double error)
{
    float least = (float)(threshold - error), reached = -INFINITY;
    size_t count = 0;
    if (start > 0.0f && c->scores.keeps_products) {
        count = list_candidates(c, start);
    } else if (start > 0.0f) {
        count = list_survivors(c, rows, start);
    }
    if (count >= k) {
        reached = kth_largest(c->selected, count, k);
    } else if (!(least > 0.0f)) {
        reached = reached_by_groups(c, rows, k);
    }
    if (!(least > 0.0f)) {
        c->expected += (0.8f * reached - c->expected) / (c->expected > 0.0f ? 8.0f : 1.0f);
    }
    const float needed = (float)((double)reached - 2.0 * error);
    least = needed > least ? needed : least;
    if (!(least > 0.0f)) {
        return SIZE_MAX;
    }
    if (!(start > 0.0f) || least < start) {
        return list_survivors(c, rows, least);
    }
    size_t left = 0;
    for (size_t i = 0; i < count; i++) {
        const uint32_t row = c->survivors[i];
        c->survivors[left] = row;
        left += c->scores.scores[row] >= least;
    }
    return left;
}

/* Prefetches the columns of rows of a block. */
static void prefetch_rows(const struct sparse_rows *rows, size_t first, const uint32_t *numbers,
                          size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const uint32_t *columns = rows->column + rows->starts[first + numbers[i]];
        for (size_t line = 0; line < LINES_AHEAD; line++) {
            __builtin_prefetch(columns + line * LINE);
        }
    }
}

/* Computes the sums of a query and the n survivors of a block, and clears the coarse scores. */
static void sum_survivors(struct coarse_worker *c, const struct sparse_topk *call,
                          const struct coarse_block *block, size_t query, size_t n)
{
    if (c->scores.keeps_products) {
        coarse_exact_sums(&c->scores, block, call->queries, query, c->survivors, n, c->sums);
        return;
    }
    query_table_fill(&c->table, query);
    prefetch_rows(call->corpus, block->first, c->survivors, n);
    for (size_t i = 0; i < n; i += QUERY_BATCH) {
        query_table_dots(&c->table, call->corpus, block->first, c->survivors + i,
                         smaller(n - i, QUERY_BATCH), c->sums + i);
    }
    query_table_empty(&c->table);
    coarse_clear(&c->scores, block);
}

/* Searches a block for a query. Returns false if the coarse scores cannot tell. */
static bool search_coarse_block(const struct topk_job *job, struct coarse_worker *c,
                                struct topk_worker *w, const struct coarse_block *block,
                                size_t query)
{
    const struct sparse_topk *call = job->call;
    const double error = coarse_error_of(call->queries, query), least = w->threshold - error;
    const float start = c->expected > least ? c->expected : (float)least;
    const bool has_query = call->self && query - block->first < block->rows;
    float *own = has_query ? &c->scores.scores[query - block->first] : NULL;
    if (has_query) {
        *own = -4.0f; /* stays below 0 when 1 is added, so it is no candidate */
    }
    coarse_accumulate(&c->scores, block, call->queries, query, start > 0.0f ? start : INFINITY);
    if (has_query) {
        *own = -1.0f;
    }
    const size_t n = find_survivors(c, block->rows, call->k, start, w->threshold, error);
    if (n == SIZE_MAX) {
        coarse_clear(&c->scores, block);
        return false;
    }
    sum_survivors(c, call, block, query, n);
    for (size_t i = 0; i < n; i++) {
        const size_t candidate = block->first + c->survivors[i];
        const double score =
            sparse_score(call->queries, query, call->corpus, candidate, c->sums[i]);
        if (!(score < w->threshold)) {
            add_entry(w, call->k, score, candidate);
        }
    }
    select_entries(w, call->k);
    return true;
}

/* Runs a task: up to TASK_QUERIES queries. */
static void search_coarse_queries(void *context, size_t task, size_t worker)
{
    const struct topk_job *job = context;
    struct topk_worker *w = &job->workers[worker];
    struct coarse_worker *c = &job->coarse_workers[worker];
    const size_t first = task * TASK_QUERIES,
                 end = smaller(first + TASK_QUERIES, job->call->queries->count);
    size_t done = 0;
    for (size_t query = first; query < end; query++) {
        bool is_done = true;
        reset_entries(w);
        for (size_t b = 0; b < job->index.block_count && is_done && !cancel_poll_here(); b++) {
            is_done = search_coarse_block(job, c, w, &job->index.blocks[b], query);
        }
        job->is_done[query] = is_done;
        if (is_done) {
            store_entries(job->call, w, query);
            done++;
        }
    }
    progress_add(job->call->token, done * job->call->corpus->count); /* waits for all stores */
}

/* True if the index of short floats finds the results of most queries. */
static bool is_coarse(const struct sparse_topk *call)
{
    const size_t products = sparse_products(call->queries, call->corpus),
                 entries = call->corpus->starts[call->corpus->count];
    return call->filter == NULL && call->k <= MAX_COARSE_K && coarse_index_pays(call->corpus) &&
           products / larger(call->queries->count, 1) >= PRODUCTS_PER_PLACE * call->k &&
           products / PRODUCTS_PER_ENTRY >= entries;
}

static int topk_threads(const struct sparse_topk *call)
{
    const size_t products = sparse_products(call->queries, call->corpus);
    return thread_count_for(size_sum_or_max(products, call->queries->count), 1, GRAIN_SUMS);
}

/* Takes the entries of a worker. */
static struct topk_worker topk_worker(size_t k, struct arena *arena)
{
    struct topk_worker worker = {.room = size_sum_or_max(k, k + CHUNK_ROWS)};
    worker.entries = arena_take(arena, worker.room, sizeof *worker.entries);
    worker.spare = arena_take(arena, k, sizeof *worker.spare);
    return worker;
}

static int run_coarse(struct topk_job *job)
{
    const struct sparse_topk *call = job->call;
    const size_t queries = call->queries->count;
    const int threads = topk_threads(call);
    struct arena arena = {.block = NULL};
    while (arena_pass(&arena)) {
        job->workers = arena_take(&arena, (size_t)threads, sizeof *job->workers);
        job->coarse_workers = arena_take(&arena, (size_t)threads, sizeof *job->coarse_workers);
        for (size_t w = 0; w < (size_t)threads; w++) {
            struct topk_worker worker = topk_worker(call->k, &arena);
            struct coarse_worker coarse = {.expected = 0.0f};
            coarse_scores_allocate(&coarse.scores, &arena);
            query_table_allocate(&coarse.table, call->queries, &arena);
            coarse.found = arena_take(&arena, TILE_ROWS * TILE_COLUMNS / COSINE_STEP + 2,
                                      sizeof *coarse.found);
            coarse.survivors = arena_take(&arena, COARSE_BLOCK_ROWS + 1, sizeof *coarse.survivors);
            coarse.selected = arena_take(&arena, COARSE_BLOCK_ROWS + 1, sizeof *coarse.selected);
            coarse.sums = arena_take(&arena, COARSE_BLOCK_ROWS, sizeof *coarse.sums);
            coarse.level = arena_take(&arena, TILE_COLUMNS, sizeof *coarse.level);
            coarse.maxima = arena_take(&arena, TILE_COLUMNS, sizeof *coarse.maxima);
            if (arena.block != NULL) {
                query_table_clear(&coarse.table);
                memset(coarse.scores.scores, 0, COARSE_BLOCK_ROWS * sizeof *coarse.scores.scores);
                job->workers[w] = worker;
                job->coarse_workers[w] = coarse;
            }
        }
    }
    return pool_run_in_arena(&arena, size_parts(queries, TASK_QUERIES), threads,
                             search_coarse_queries, job, call->token);
}

/* Searches all queries with the index of short floats, and sets is_done. */
static int search_coarse(struct topk_job *job)
{
    const struct sparse_topk *call = job->call;
    job->is_done = scratch_alloc(call->queries->count);
    int status =
        job->is_done == NULL ? -1 : coarse_index_init(&job->index, call->corpus, call->token);
    if (status == 0 && !cancel_requested(call->token)) {
        status = run_coarse(job);
    }
    coarse_index_free(&job->index);
    return status;
}

static bool all_done(const struct topk_job *job)
{
    return job->is_done != NULL && memchr(job->is_done, false, job->call->queries->count) == NULL;
}

static int run(struct topk_job *job)
{
    const struct sparse_topk *call = job->call;
    const size_t queries = call->queries->count;
    const int threads = topk_threads(call);
    struct arena arena = {.block = NULL};
    while (arena_pass(&arena)) {
        job->workers = arena_take(&arena, (size_t)threads, sizeof *job->workers);
        job->inverses = arena_take(&arena, call->corpus->count, sizeof *job->inverses);
        for (size_t w = 0; w < (size_t)threads; w++) {
            struct topk_worker worker = topk_worker(call->k, &arena);
            accumulator_allocate(&worker.sums, &job->postings, true, &arena);
            worker.rows = arena_take(&arena, CHUNK_ROWS, sizeof *worker.rows);
            worker.left = arena_take(&arena, CHUNK_ROWS, sizeof *worker.left);
            worker.totals = arena_take(&arena, CHUNK_ROWS, sizeof *worker.totals);
            worker.coarse = arena_take(&arena, CHUNK_ROWS, sizeof *worker.coarse);
            worker.selected = arena_take(&arena, CHUNK_ROWS, sizeof *worker.selected);
            if (arena.block != NULL) {
                accumulator_clear(&worker.sums);
                job->workers[w] = worker;
            }
        }
        for (size_t row = 0; arena.block != NULL && row < call->corpus->count; row++) {
            job->inverses[row] = coarse_inverse(call->corpus, row);
        }
    }
    return pool_run_in_arena(&arena, size_parts(queries, TASK_QUERIES), threads, search_queries,
                             job, call->token);
}

/* Searches the queries that are not done, by exact sums. */
static int search_exact(struct topk_job *job)
{
    const struct sparse_topk *call = job->call;
    int status = postings_init(&job->postings, call->corpus,
                               call->filter == NULL ? NULL : call->filter->rows, call->token);
    if (status == 0 && !cancel_requested(call->token)) {
        status = run(job);
    }
    postings_free(&job->postings);
    return status;
}

int sparse_topk(const struct sparse_topk *call)
{
    struct topk_job job = {.call = call};
    if (call->k == 0) {
        return 0;
    }
    int status = is_coarse(call) ? search_coarse(&job) : 0;
    if (status == 0 && !cancel_requested(call->token) && !all_done(&job)) {
        status = search_exact(&job);
    }
    scratch_free(job.is_done);
    return status;
}
