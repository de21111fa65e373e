/* Range search of sparse rows: by the prefix filter, or for low thresholds by all sums. */
#include "sparse/range_search.h"

#include "base/pool.h"
#include "sparse/postings.h"
#include "sparse/prefix_filter.h"

enum { TASK_QUERIES = 16 };

struct sums_job {
    const struct sparse_search *search;
    struct postings postings;
    struct accumulator *sums; /* one for each worker */
};

static void search_block(const struct sums_job *job, size_t worker,
                         const struct postings_block *block, size_t query)
{
    const struct sparse_search *s = job->search;
    struct accumulator *sums = &job->sums[worker];
    const size_t from = s->self && query + 1 > block->first ? query + 1 - block->first : 0;
    if (from >= block->rows) {
        return;
    }
    accumulate(sums, block, s->queries, query, from);
    /* rows without a common column score 0, which a positive threshold rules out */
    if (sums->listed && threshold_at(s->result_handler, worker, query) > 0.0) {
        for (size_t n = 0; n < sums->count; n++) {
            const size_t row = sums->touched[n];
            sparse_add_score(s, worker, query, block->first + row, sums->sums[row]);
        }
    } else {
        for (size_t row = from; row < block->rows; row++) {
            sparse_add_score(s, worker, query, block->first + row, sums->sums[row]);
        }
    }
    accumulator_reset(sums, block);
    progress_add(s->token, block->rows - from);
}

/* Runs a task: up to TASK_QUERIES queries. */
static void search_queries(void *context, size_t task, size_t worker)
{
    const struct sums_job *job = context;
    const size_t first = task * TASK_QUERIES,
                 end = smaller(first + TASK_QUERIES, job->search->queries->count);
    for (size_t query = first; query < end; query++) {
        for (size_t b = 0; b < job->postings.block_count && !cancel_poll_here(); b++) {
            search_block(job, worker, &job->postings.blocks[b], query);
        }
    }
}

static int run(struct sums_job *job)
{
    const struct sparse_search *s = job->search;
    const size_t pairs = size_product_or_max(s->queries->count, s->corpus->count),
                 products = size_sum_or_max(sparse_products(s->queries, s->corpus), pairs);
    const int threads = thread_count_for(products, 1, GRAIN_SUMS);
    struct arena arena = {.block = NULL};
    while (arena_pass(&arena)) {
        job->sums = arena_take(&arena, (size_t)threads, sizeof *job->sums);
        for (size_t w = 0; w < (size_t)threads; w++) {
            struct accumulator sums;
            accumulator_allocate(&sums, &job->postings, true, &arena);
            if (arena.block != NULL) {
                accumulator_clear(&sums);
                job->sums[w] = sums;
            }
        }
    }
    return pool_run_in_arena(&arena, size_parts(s->queries->count, TASK_QUERIES), threads,
                             search_queries, job, s->token);
}

int sparse_range_search(const struct sparse_search *search)
{
    const bool filtered = threshold_at(search->result_handler, 0, 0) >= PREFIX_MIN_THRESHOLD;
    if (filtered && search->queries->count <= UINT32_MAX && search->corpus->count <= UINT32_MAX) {
        return prefix_filter(search);
    }
    struct sums_job job = {.search = search};
    int status =
        postings_init(&job.postings, search->corpus, sparse_candidates(search), search->token);
    if (status == 0 && !cancel_requested(search->token)) {
        status = run(&job);
    }
    postings_free(&job.postings);
    return status;
}
