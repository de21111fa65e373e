/*
 * Top-k of sparse rows. Only the rows near the k best coarse scores are scored exactly.
 *
 * For small k and without filters, coarse_topk.c finds the results of most queries. Otherwise the
 * exact sums of a query with the rows that share a column with it come from an inverted index. They
 * become coarse scores, products of floats, which take few instructions and no branch.
 */
#include "sparse/sparse_topk.h"

#include <string.h>

#include "base/pool.h"
#include "sparse/coarse_topk.h"

enum {
    TASK_QUERIES = 16,
    CHUNK_ROWS = 1024, /* coarse scores that are compared at once; they stay in the L1 cache */
    GROUPS = 64
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
    _Alignas(SCRATCH_ALIGN) struct best_entries best;
    struct accumulator sums;
    uint32_t rows[CHUNK_ROWS]; /* numbers within the block */
    uint32_t left[CHUNK_ROWS]; /* positions of the rows that the coarse scores do not rule out */
    double totals[CHUNK_ROWS]; /* sums */
    float coarse[CHUNK_ROWS], selected[CHUNK_ROWS];
};

struct topk_job {
    const struct sparse_topk *call;
    struct postings postings;
    struct topk_worker *workers;
    size_t progress; /* counted for each query that is not done */
    bool *is_done;   /* (queries): by the coarse index */
    float *inverses; /* inverse norms of the corpus rows; NaN if out of range */
};

/* ---- thresholds of coarse scores ---- */

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
    if (!(score < w->best.threshold)) {
        best_entries_add(&w->best, score, candidate);
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
    const double bound = w->best.threshold > reached ? w->best.threshold : reached;
    const float lowest = (float)(bound - 3 * COARSE_ERROR);
    const size_t left = list_left(w->coarse, n, lowest, w->left);
    for (size_t i = 0; i < left; i++) {
        score_row(job, w, block, query, rows[w->left[i]], w->totals[w->left[i]]);
    }
    if (w->best.count / 2 >= call->k) {
        best_entries_select(&w->best);
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
    best_entries_select(&w->best);
    if (sums->listed && !(w->best.threshold > 0.0)) {
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
        if (job->is_done[query]) {
            continue;
        }
        best_entries_reset(&w->best);
        for (size_t b = 0; b < job->postings.block_count && !cancel_poll_here(); b++) {
            search_block(job, w, &job->postings.blocks[b], query);
        }
        best_entries_store(job->call, &w->best, query);
        progress_add(job->call->token, job->progress);
    }
}

static int topk_threads(const struct sparse_topk *call)
{
    const size_t products = sparse_products(call->queries, call->corpus);
    return thread_count_for(size_sum_or_max(products, call->queries->count), 1, GRAIN_SUMS);
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
            const struct best_entries best = best_entries_allocate(call->k, CHUNK_ROWS, &arena);
            struct accumulator sums;
            accumulator_allocate(&sums, &job->postings, true, &arena);
            if (arena.block != NULL) {
                accumulator_clear(&sums);
                job->workers[w].best = best;
                job->workers[w].sums = sums;
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
    struct topk_job job = {.call = call, .progress = call->corpus->count};
    const size_t queries = call->queries->count;
    if (call->k == 0) {
        return 0;
    }
    job.is_done = scratch_alloc(queries);
    if (job.is_done == NULL) {
        return -1;
    }
    memset(job.is_done, false, queries);
    int status = coarse_topk_pays(call)
                     ? coarse_topk(call, topk_threads(call), job.is_done, &job.progress)
                     : 0;
    const bool all_done = memchr(job.is_done, false, queries) == NULL;
    if (status == 0 && !cancel_requested(call->token) && !all_done) {
        status = search_exact(&job);
    }
    scratch_free(job.is_done);
    return status;
}
