/*
 * Top-k of sparse rows by an index of short floats.
 *
 * Rows with themselves need each score for two results. A level that most of their k-th best scores
 * reach is found first. Then each pair of rows that reaches it is scored once. Rows with at least k
 * such pairs are done. The other rows are searched one by one, as all queries are elsewhere.
 */
#include "sparse/coarse_topk.h"

#include <stdatomic.h>
#include <string.h>

#include "base/kept.h"
#include "base/pool.h"
#include "kernels/kernels.h"
#include "sparse/coarse_index.h"
#include "sparse/query_table.h"

enum {
    TASK_QUERIES = 16,
    GROUPS = 64,
    MAX_GROUPS = 256,
    MORE_ENTRIES = 1024,
    MAX_K = 64, /* the largest k for the index of short floats */
    /* That index takes longer to build. It pays if a query has PRODUCTS_PER_PLACE products for each
     * place of its result, and if each entry is multiplied PRODUCTS_PER_ENTRY times. */
    PRODUCTS_PER_PLACE = 4,
    PRODUCTS_PER_ENTRY = 2,
    TILE_COLUMNS = 256, /* the select kernel numbers columns with 8 bits */
    TILE_ROWS = COARSE_BLOCK_ROWS / TILE_COLUMNS,
    LINE = 16,       /* column numbers in a cache line */
    LINES_AHEAD = 4, /* lines of columns of each row that are prefetched */
    /* Pairs are listed for at least MIN_ROWS rows and at most MAX_PAIRS pairs, with room for
     * 2 k + MORE_PAIRS pairs for each row. A worker collects PAIR_BUFFER of them at a time. */
    MIN_ROWS = 2048,
    MORE_PAIRS = 8,
    MAX_PAIRS = 1 << 20,
    PAIR_BUFFER = 1024,
    /* The level is one of the lowest k-th best scores of SAMPLES rows: LOW_SAMPLE are lower. */
    SAMPLES = 32,
    LOW_SAMPLE = 1
};

/* Two rows whose score reaches the level. */
struct scored_pair {
    uint64_t key; /* key_of_double of the score */
    uint32_t rows[2];
};

struct pair_list {
    double level;
    size_t room;
    _Atomic size_t count; /* above `room` if there are more pairs than that */
    struct scored_pair *pairs;
    /* The pairs by row: row i has entries [starts[i], starts[i + 1]). */
    size_t *starts;        /* (rows + 2) */
    struct entry *entries; /* (2, room) */
};

struct coarse_worker {
    _Alignas(SCRATCH_ALIGN) struct best_entries best;
    struct coarse_scores scores;
    struct query_table table;
    size_t pair_count;
    float expected; /* a little less than the k-th best scores of the queries so far; 0: none */
    uint32_t found[TILE_ROWS * TILE_COLUMNS / COSINE_STEP + 2]; /* words of the select kernel */
    uint32_t survivors[COARSE_BLOCK_ROWS + 1]; /* rows whose coarse scores reach a level */
    float selected[COARSE_BLOCK_ROWS + 1];     /* their coarse scores */
    double sums[COARSE_BLOCK_ROWS];            /* of the survivors */
    float level[TILE_COLUMNS];                 /* copies of one level */
    float maxima[MAX_GROUPS];                  /* of groups of scores */
    struct scored_pair pairs[PAIR_BUFFER];
};

struct coarse_job {
    const struct sparse_topk *call;
    struct coarse_index index;
    struct coarse_worker *workers;
    struct pair_list list;
    double samples[SAMPLES]; /* k-th best scores of some queries */
    _Atomic size_t compared; /* pairs of rows that are counted as progress */
    size_t progress;         /* counted for each query that is not done */
    bool *is_done;           /* (queries) */
};

/* ---- survivors ---- */

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

/* list_survivors for the level passed to coarse_accumulate. Only the candidates that it listed can
 * reach that level. */
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

/* list_survivors for the level passed to coarse_accumulate. */
static size_t list_reaching(struct coarse_worker *c, size_t rows, float level)
{
    return c->scores.keeps_products ? list_candidates(c, level) : list_survivors(c, rows, level);
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

/* ---- one query ---- */

/* Returns a number that at least k of the coarse scores of a block reach: the k-th largest of the
 * maxima of groups. */
static float reached_by_groups(struct coarse_worker *c, size_t rows, size_t k)
{
    const size_t groups = k > GROUPS / 4 ? MAX_GROUPS : GROUPS;
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
    if (start > 0.0f) {
        count = list_reaching(c, rows, start);
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

/* Searches a block for a query. Returns false if the coarse scores do not decide its results. */
static bool search_block(const struct sparse_topk *call, struct coarse_worker *c,
                         const struct coarse_block *block, size_t query)
{
    struct best_entries *best = &c->best;
    const double error = coarse_error_of(call->queries, query), least = best->threshold - error;
    const float start = c->expected > least ? c->expected : (float)least;
    const bool has_query = call->self && query - block->first < block->rows;
    float *own = has_query ? &c->scores.scores[query - block->first] : NULL;
    if (has_query) {
        *own = -4.0f; /* stays below 0 when 1 is added, so it is no candidate */
    }
    coarse_accumulate(&c->scores, block, ALL_ROWS, call->queries, query,
                      start > 0.0f ? start : INFINITY);
    if (has_query) {
        *own = -1.0f;
    }
    const size_t n = find_survivors(c, block->rows, call->k, start, best->threshold, error);
    if (n == SIZE_MAX) {
        coarse_clear(&c->scores, block);
        return false;
    }
    sum_survivors(c, call, block, query, n);
    for (size_t i = 0; i < n; i++) {
        const size_t candidate = block->first + c->survivors[i];
        const double score =
            sparse_score(call->queries, query, call->corpus, candidate, c->sums[i]);
        if (!(score < best->threshold)) {
            best_entries_add(best, score, candidate);
        }
    }
    best_entries_select(best);
    return true;
}

/* Searches a query. Returns false if the coarse scores do not decide its results. */
static bool search_query(const struct coarse_job *job, size_t query, size_t worker)
{
    struct coarse_worker *c = &job->workers[worker];
    bool is_done = true;
    best_entries_reset(&c->best);
    for (size_t b = 0; b < job->index.block_count && is_done && !cancel_poll_here(); b++) {
        is_done = search_block(job->call, c, &job->index.blocks[b], query);
    }
    return is_done;
}

/* Runs a task: up to TASK_QUERIES queries that are not done. */
static void search_queries(void *context, size_t task, size_t worker)
{
    const struct coarse_job *job = context;
    const size_t first = task * TASK_QUERIES,
                 end = smaller(first + TASK_QUERIES, job->call->queries->count);
    size_t done = 0;
    for (size_t query = first; query < end; query++) {
        if (!job->is_done[query] && search_query(job, query, worker)) {
            best_entries_store(job->call, &job->workers[worker].best, query);
            job->is_done[query] = true;
            done++;
        }
    }
    progress_add(job->call->token, done * job->progress); /* waits for all stores */
}

/* ---- rows with themselves ---- */

/* Returns the coarse score that pairs with a query reach if their score reaches the level. If it is
 * not above 0, the level is too low for this query. */
static float coarse_level(const struct coarse_job *job, size_t query)
{
    return (float)(job->list.level - coarse_error_of(job->call->queries, query));
}

static size_t sampled_row(const struct coarse_job *job, size_t sample)
{
    return sample * job->call->queries->count / SAMPLES;
}

static void sample_score(void *context, size_t sample, size_t worker)
{
    struct coarse_job *job = context;
    const bool is_done = search_query(job, sampled_row(job, sample), worker);
    job->samples[sample] = is_done ? job->workers[worker].best.threshold : -INFINITY;
}

/* Counts the rows whose scores with a sampled row can reach the level. */
static void count_sample(void *context, size_t sample, size_t worker)
{
    struct coarse_job *job = context;
    struct coarse_worker *c = &job->workers[worker];
    const size_t query = sampled_row(job, sample);
    const float level = coarse_level(job, query);
    for (size_t b = 0; level > 0.0f && b < job->index.block_count && !cancel_poll_here(); b++) {
        const struct coarse_block *block = &job->index.blocks[b];
        coarse_accumulate(&c->scores, block, ALL_ROWS, job->call->queries, query, level);
        atomic_fetch_add(&job->list.count, list_reaching(c, block->rows, level));
        coarse_clear(&c->scores, block);
    }
}

/*
 * Finds a level that the k-th best scores of most rows reach. Returns false unless the list has
 * room for twice the pairs that are expected to reach it: k-th best scores can differ too much.
 */
static bool find_level(struct coarse_job *job, int threads)
{
    struct pair_list *list = &job->list;
    double *samples = job->samples;
    pool_run(SAMPLES, threads, sample_score, job, job->call->token);
    for (size_t i = 0; i <= LOW_SAMPLE; i++) {
        for (size_t j = i + 1; j < SAMPLES; j++) {
            const double low = fmin(samples[i], samples[j]), high = fmax(samples[i], samples[j]);
            samples[i] = low;
            samples[j] = high;
        }
    }
    list->level = samples[LOW_SAMPLE];
    if (!(list->level > 0.0) || cancel_requested(job->call->token)) {
        return false;
    }
    pool_run(SAMPLES, threads, count_sample, job, job->call->token);
    /* Samples count rows before and after them. The list has each pair once, which is half. */
    const size_t expected =
        atomic_exchange(&list->count, 0) * job->call->queries->count / SAMPLES / 2;
    return expected <= list->room / 2;
}

/* Moves the pairs of a worker to the list, if they fit. */
static void flush_pairs(struct pair_list *list, struct coarse_worker *c)
{
    const size_t n = c->pair_count, at = atomic_fetch_add(&list->count, n);
    if (at <= list->room && n <= list->room - at) {
        memcpy(list->pairs + at, c->pairs, n * sizeof *c->pairs);
    }
    c->pair_count = 0;
}

/* Lists the pairs of a query with rows of a block. */
static void list_block(struct coarse_job *job, struct coarse_worker *c,
                       const struct coarse_block *block, size_t query, float level)
{
    const struct sparse_rows *rows = job->call->queries;
    const enum coarse_part part = query >= block->first ? LATER_ROWS : ALL_ROWS;
    coarse_accumulate(&c->scores, block, part, rows, query, level);
    const size_t n = list_reaching(c, block->rows, level);
    sum_survivors(c, job->call, block, query, n);
    for (size_t i = 0; i < n; i++) {
        const size_t row = block->first + c->survivors[i];
        const double score = sparse_score(rows, query, rows, row, c->sums[i]);
        if (c->pair_count == PAIR_BUFFER) {
            flush_pairs(&job->list, c);
        }
        c->pairs[c->pair_count] =
            (struct scored_pair){key_of_double(score), {(uint32_t)query, (uint32_t)row}};
        c->pair_count += score >= job->list.level;
    }
}

/* Runs a task: lists the pairs of up to TASK_QUERIES queries with all later rows, unless the list
 * is full. */
static void list_pairs(void *context, size_t task, size_t worker)
{
    struct coarse_job *job = context;
    struct coarse_worker *c = &job->workers[worker];
    struct pair_list *list = &job->list;
    const size_t rows = job->call->queries->count, first = task * TASK_QUERIES,
                 end = smaller(first + TASK_QUERIES, rows);
    size_t compared = 0;
    for (size_t query = first; query < end && atomic_load(&list->count) <= list->room; query++) {
        const float level = coarse_level(job, query);
        if (!(level > 0.0f)) {
            atomic_fetch_add(&list->count, list->room + 1);
            break;
        }
        for (size_t b = query / COARSE_BLOCK_ROWS;
             b < job->index.block_count && !cancel_poll_here(); b++) {
            list_block(job, c, &job->index.blocks[b], query, level);
        }
        compared += rows - 1 - query;
    }
    flush_pairs(list, c);
    atomic_fetch_add(&job->compared, compared);
    progress_add(job->call->token, compared);
}

/* Fills the starts and the entries of a list. */
static void sort_pairs(struct pair_list *list, size_t rows)
{
    const size_t count = atomic_load(&list->count);
    size_t *starts = list->starts;
    memset(starts, 0, (rows + 2) * sizeof *starts);
    for (size_t p = 0; p < count; p++) {
        starts[list->pairs[p].rows[0] + 2]++;
        starts[list->pairs[p].rows[1] + 2]++;
    }
    for (size_t i = 2; i < rows + 2; i++) {
        starts[i] += starts[i - 1];
    }
    for (size_t p = 0; p < count; p++) {
        const struct scored_pair pair = list->pairs[p];
        const size_t i = pair.rows[0], j = pair.rows[1];
        list->entries[starts[i + 1]++] = (struct entry){pair.key, 2 * j};
        list->entries[starts[j + 1]++] = (struct entry){pair.key, 2 * i};
    }
}

/* Runs a task: stores the results of those rows that have at least k pairs. */
static void store_rows(void *context, size_t task, size_t worker)
{
    struct coarse_job *job = context;
    const struct sparse_topk *call = job->call;
    const size_t *starts = job->list.starts, first = task * TASK_QUERIES,
                 end = smaller(first + TASK_QUERIES, call->queries->count);
    for (size_t row = first; row < end; row++) {
        const size_t count = starts[row + 1] - starts[row];
        struct entry *entries = job->list.entries + starts[row];
        job->is_done[row] = count >= call->k;
        if (count >= call->k) {
            entries_select(entries, count, call->k);
            entries_store(call, entries, job->workers[worker].best.spare, call->k, row);
        }
    }
}

/* Counts the progress of the rows that are done. The others share the rest. */
static void count_done(struct coarse_job *job)
{
    const size_t rows = job->call->queries->count, rest = rows * rows - job->compared;
    size_t left = 0;
    for (size_t row = 0; row < rows; row++) {
        left += !job->is_done[row];
    }
    job->progress = smaller(rest / larger(left, 1), rows);
    progress_add(job->call->token, rest - left * job->progress);
}

/* Searches rows with themselves by pairs. */
static void search_pairs(struct coarse_job *job, int threads)
{
    const struct sparse_topk *call = job->call;
    const size_t rows = call->queries->count, tasks = size_parts(rows, TASK_QUERIES);
    struct pair_list *list = &job->list;
    struct arena arena = {.block = NULL};
    list->room = size_product_or_max(rows, 2 * call->k + MORE_PAIRS);
    if (!call->self || rows < MIN_ROWS || list->room > MAX_PAIRS) {
        return;
    }
    while (kept_arena_pass(KEPT_PAIRS, &arena)) {
        list->pairs = arena_take(&arena, list->room, sizeof *list->pairs);
        list->starts = arena_take(&arena, rows + 2, sizeof *list->starts);
        list->entries = arena_take(&arena, 2 * list->room, sizeof *list->entries);
    }
    if (arena.block != NULL && find_level(job, threads)) {
        pool_run(tasks, threads, list_pairs, job, call->token);
        if (atomic_load(&list->count) <= list->room && !cancel_requested(call->token)) {
            sort_pairs(list, rows);
            pool_run(tasks, threads, store_rows, job, call->token);
        }
        count_done(job);
    }
    kept_free(KEPT_PAIRS, arena.block);
}

/* ---- a call ---- */

bool coarse_topk_pays(const struct sparse_topk *call)
{
    const size_t products = sparse_products(call->queries, call->corpus),
                 entries = call->corpus->starts[call->corpus->count];
    return call->filter == NULL && call->k <= MAX_K && coarse_index_pays(call->corpus) &&
           products / larger(call->queries->count, 1) >= PRODUCTS_PER_PLACE * call->k &&
           products / PRODUCTS_PER_ENTRY >= entries;
}

static int run(struct coarse_job *job, int threads)
{
    const struct sparse_topk *call = job->call;
    struct arena arena = {.block = NULL};
    while (arena_pass(&arena)) {
        job->workers = arena_take(&arena, (size_t)threads, sizeof *job->workers);
        for (size_t w = 0; w < (size_t)threads; w++) {
            const struct best_entries best = best_entries_allocate(call->k, MORE_ENTRIES, &arena);
            struct coarse_scores scores = {.keeps_products = false};
            struct query_table table;
            coarse_scores_allocate(&scores, &arena);
            query_table_allocate(&table, call->queries, &arena);
            if (arena.block != NULL) {
                struct coarse_worker *c = &job->workers[w];
                query_table_clear(&table);
                memset(scores.scores, 0, COARSE_BLOCK_ROWS * sizeof *scores.scores);
                c->best = best;
                c->scores = scores;
                c->table = table;
                c->pair_count = 0;
                c->expected = 0.0f;
            }
        }
    }
    if (arena.block != NULL) {
        search_pairs(job, threads);
    }
    return pool_run_in_arena(&arena, size_parts(call->queries->count, TASK_QUERIES), threads,
                             search_queries, job, call->token);
}

int coarse_topk(const struct sparse_topk *call, int threads, bool *is_done, size_t *progress)
{
    struct coarse_job job = {.call = call, .progress = *progress, .is_done = is_done};
    int status = coarse_index_init(&job.index, call->corpus, call->self, call->token);
    if (status == 0 && !cancel_requested(call->token)) {
        status = run(&job, threads);
    }
    coarse_index_free(&job.index);
    *progress = job.progress;
    return status;
}
