/*
 * Range search. Each worker collects, in blocks of its own, the pairs that reach the threshold.
 * range_store sorts all pairs.
 */
#include "base/pool.h"
#include "base/scratch.h"
#include "search/range.h"

enum { BLOCK_PAIRS = 4096 };

struct pair {
    int64_t i, j;
    double value;
};

struct pair_block {
    struct pair_block *next;
    size_t count;
    struct pair pairs[BLOCK_PAIRS];
};

/* Each worker's list has a cache line of its own. */
struct pair_list {
    _Alignas(SCRATCH_ALIGN) struct pair_block *blocks; /* newest first */
};

static void add_result(struct result_handler *handler, size_t worker, size_t query,
                       size_t candidate, double score)
{
    struct range_result *r = (struct range_result *)handler;
    if (!(score == score) || atomic_load_explicit(&r->no_memory, memory_order_relaxed) ||
        atomic_fetch_add_explicit(&r->count, 1, memory_order_relaxed) >= r->max_pairs) {
        return; /* NaN counts as below every threshold */
    }
    struct pair_block *block = r->lists[worker].blocks;
    if (block == NULL || block->count == BLOCK_PAIRS) {
        struct pair_block *fresh = scratch_alloc(sizeof *fresh);
        if (fresh == NULL) {
            atomic_store(&r->no_memory, true);
            return;
        }
        fresh->next = block;
        fresh->count = 0;
        block = r->lists[worker].blocks = fresh;
    }
    const int64_t i = (int64_t)(r->swapped_sides ? candidate : query),
                  j = (int64_t)(r->swapped_sides ? query : candidate);
    block->pairs[block->count++] = (struct pair){i, j, score};
}

int range_init(struct range_result *r, enum compute_type compute, double threshold,
               size_t max_pairs)
{
    const int threads = pool_get_threads();
    *r = (struct range_result){.result_handler = {compute, threads,
                                                  constant_thresholds(compute, threshold), 0, 0,
                                                  add_result},
                               .max_pairs = max_pairs,
                               .workers = (size_t)threads};
    r->lists = scratch_alloc(r->workers * sizeof *r->lists);
    for (size_t i = 0; r->lists != NULL && i < r->workers; i++) {
        r->lists[i].blocks = NULL;
    }
    if (r->result_handler.thresholds == NULL || r->lists == NULL) {
        range_free(r);
        return -1;
    }
    return 0;
}

void range_free(struct range_result *r)
{
    for (size_t i = 0; r->lists != NULL && i < r->workers; i++) {
        for (struct pair_block *block = r->lists[i].blocks, *next; block != NULL; block = next) {
            next = block->next;
            scratch_free(block);
        }
    }
    scratch_free(r->lists);
    scratch_free(r->result_handler.thresholds);
}

/*
 * Turns counts into start positions, for a sorted list of numbers below `size`. On entry,
 * counts[n + 1] tells how often the number n occurs. On return, counts[n] is the position of the
 * first n.
 */
static void counts_to_starts(size_t *counts, size_t size)
{
    for (size_t n = 1; n <= size; n++) {
        counts[n] += counts[n - 1];
    }
}

/* A counting sort by j, followed by a stable counting sort by i. */
int range_store(const struct range_result *r, size_t rows, size_t columns, int64_t *i, int64_t *j,
                void *values, struct cancel_token *token)
{
    const size_t count = atomic_load(&r->count),
                 counters = size_sum_or_max(size_sum_or_max(rows, columns), 2);
    size_t *i_starts = scratch_alloc(size_product_or_max(counters, sizeof *i_starts)),
           *j_starts = i_starts == NULL ? NULL : i_starts + rows + 1;
    struct pair *by_j = scratch_alloc(size_product_or_max(count, sizeof *by_j));
    if (i_starts == NULL || by_j == NULL) {
        scratch_free(i_starts);
        scratch_free(by_j);
        return -1;
    }
    for (size_t n = 0; n < counters; n++) {
        i_starts[n] = 0;
    }
    for (size_t w = 0; w < r->workers; w++) {
        for (const struct pair_block *block = r->lists[w].blocks;
             block != NULL && !cancel_poll(token, 0); block = block->next) {
            for (size_t n = 0; n < block->count; n++) {
                i_starts[block->pairs[n].i + 1]++;
                j_starts[block->pairs[n].j + 1]++;
            }
        }
    }
    counts_to_starts(i_starts, rows);
    counts_to_starts(j_starts, columns);
    for (size_t w = 0; w < r->workers; w++) {
        for (const struct pair_block *block = r->lists[w].blocks;
             block != NULL && !cancel_poll(token, 0); block = block->next) {
            for (size_t n = 0; n < block->count; n++) {
                by_j[j_starts[block->pairs[n].j]++] = block->pairs[n];
            }
        }
    }
    for (size_t n = 0; n < count && !(n % BLOCK_PAIRS == 0 && cancel_poll(token, 0)); n++) {
        const size_t at = i_starts[by_j[n].i]++;
        i[at] = by_j[n].i;
        j[at] = by_j[n].j;
        compute_store(r->result_handler.compute, values, at, by_j[n].value);
    }
    scratch_free(i_starts);
    scratch_free(by_j);
    return 0;
}
