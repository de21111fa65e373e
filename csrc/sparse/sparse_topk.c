/* Top-k of sparse rows: each query's sums with all blocks of the corpus pass through one heap. */
#include "sparse/sparse_topk.h"

#include "base/pool.h"
#include "results/ranking.h"

enum { TASK_QUERIES = 16 };

struct entry {
    double score;
    int64_t index;
};

/* The best entries so far, as a heap with the worst one at its root. */
struct best {
    size_t count, k;
    struct entry *entries;
};

static inline struct entry heap_item(const struct best *best, size_t at)
{
    return best->entries[at];
}

static inline void heap_put(const struct best *best, size_t at, struct entry entry)
{
    best->entries[at] = entry;
}

static inline bool heap_precedes(struct entry a, struct entry b)
{
    return is_better(a.score, a.index, b.score, b.index);
}

#define HEAP struct best
#define HEAP_ITEM struct entry
#include "results/heap_template.h"

/* Adds an entry to a heap that is not full: moves it up past its better parents. */
static void sift_up(struct best *best, struct entry entry)
{
    size_t at = best->count++;
    while (at > 0 && heap_precedes(best->entries[(at - 1) / 2], entry)) {
        best->entries[at] = best->entries[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    best->entries[at] = entry;
}

/* Takes the entries out of the heap, worst first, and stores them in the result. */
static void store_best(const struct sparse_topk *call, struct best *best, size_t query)
{
    for (size_t n = best->count; n < call->k; n++) {
        compute_store(call->queries->compute, call->values, query * call->k + n, NAN);
        call->indices[query * call->k + n] = -1;
    }
    while (best->count > 0) {
        const struct entry worst = best->entries[0];
        const size_t at = query * call->k + --best->count;
        heap_sift_down(best, 0, best->count, best->entries[best->count]);
        compute_store(call->queries->compute, call->values, at, worst.score);
        call->indices[at] = worst.index;
    }
}

/*
 * Coarse scores are products of floats: the sum and the inverses of both norms, each rounded. They
 * are within 2^-21 of the exact scores, whose magnitude is at most 1. Inverses far from 1 could
 * leave the range of float, so they are replaced by NaN. A NaN is never below a threshold, so pairs
 * of such rows are always scored exactly.
 */
#define COARSE_ERROR 0x1p-20

static float coarse_inverse(const struct sparse_rows *rows, size_t row)
{
    const double norm = fabs(rows->norms[row]),
                 inverse = rows->compute == COMPUTE_F32 ? norm : 1.0 / norm;
    return inverse > 0x1p-30 && inverse < 0x1p30 ? (float)inverse : NAN;
}

struct topk_worker {
    struct accumulator sums;
    struct best best;
    /* Scores below `threshold` are not among the k best, nor are coarse scores below
     * `coarse_threshold`. Both are NaN while a NaN score is among the k best: no score is below
     * NaN. */
    double threshold;
    float coarse_threshold;
};

struct topk_job {
    const struct sparse_topk *call;
    struct postings postings;
    struct topk_worker *workers;
    float *inverses; /* inverse norms of the corpus rows; NaN if out of range */
};

static void add_entry(struct topk_worker *w, double score, size_t index)
{
    struct best *best = &w->best;
    const struct entry entry = {score, (int64_t)index};
    if (best->count < best->k) {
        sift_up(best, entry);
    } else if (heap_precedes(entry, best->entries[0])) {
        heap_sift_down(best, 0, best->count, entry);
    }
    w->threshold = best->count < best->k ? -INFINITY : best->entries[0].score;
    w->coarse_threshold = (float)(w->threshold - COARSE_ERROR);
}

static inline void score_row(const struct topk_job *job, struct topk_worker *w,
                             const struct postings_block *block, size_t query, size_t row,
                             double xy)
{
    const struct sparse_topk *call = job->call;
    const size_t candidate = block->first + row;
    const double score = sparse_score(call->queries, query, call->corpus, candidate, xy);
    if (!(score < w->threshold) && (!call->self || candidate != query) &&
        filter_passes(call->filter, query, candidate)) {
        add_entry(w, score, candidate);
    }
}

/* Scores the rows of a block that a query touched, or all rows if these are not listed. */
static void score_rows(const struct topk_job *job, struct topk_worker *w,
                       const struct postings_block *block, size_t query)
{
    const float inverse = coarse_inverse(job->call->queries, query), *const inverses =
                                                                         job->inverses +
                                                                         block->first;
    const size_t count = w->sums.listed ? w->sums.count : block->rows;
    for (size_t n = 0; n < count; n++) {
        const size_t row = w->sums.listed ? w->sums.touched[n] : n;
        const double xy = accumulator_take(&w->sums, row);
        if (!((float)xy * inverses[row] * inverse < w->coarse_threshold)) {
            score_row(job, w, block, query, row, xy);
        }
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
        w->threshold = w->coarse_threshold = -INFINITY;
        for (size_t b = 0; b < job->postings.block_count && !cancel_poll_here(); b++) {
            search_block(job, w, &job->postings.blocks[b], query);
        }
        store_best(job->call, &w->best, query);
        progress_add(job->call->token, job->call->corpus->count);
    }
}

static int run(struct topk_job *job)
{
    const struct sparse_topk *call = job->call;
    const size_t queries = call->queries->count,
                 products = sparse_products(call->queries, call->corpus);
    const int threads = thread_count_for(size_sum_or_max(products, queries), 1, GRAIN_SUMS);
    struct arena arena = {.block = NULL};
    while (arena_pass(&arena)) {
        job->workers = arena_take(&arena, (size_t)threads, sizeof *job->workers);
        job->inverses = arena_take(&arena, call->corpus->count, sizeof *job->inverses);
        for (size_t w = 0; w < (size_t)threads; w++) {
            struct topk_worker worker = {.best.k = call->k};
            accumulator_allocate(&worker.sums, &job->postings, true, &arena);
            worker.best.entries =
                arena_take(&arena, size_sum_or_max(call->k, 1), sizeof *worker.best.entries);
            if (arena.block != NULL) {
                accumulator_clear(&worker.sums);
                job->workers[w] = worker;
            }
        }
    }
    if (arena.block == NULL) {
        return -1;
    }
    for (size_t row = 0; row < call->corpus->count; row++) {
        job->inverses[row] = coarse_inverse(call->corpus, row);
    }
    pool_run(size_parts(queries, TASK_QUERIES), threads, search_queries, job, call->token);
    scratch_free(arena.block);
    return 0;
}

int sparse_topk(const struct sparse_topk *call)
{
    struct topk_job job = {.call = call};
    int status = postings_init(&job.postings, call->corpus,
                               call->filter == NULL ? NULL : call->filter->rows, call->token);
    if (status == 0 && !cancel_requested(call->token)) {
        status = run(&job);
    }
    postings_free(&job.postings);
    return status;
}
