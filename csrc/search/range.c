/* All pairs that reach a limit: collected in blocks by each worker, sorted at the end. */
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

/* A line of cache for each worker. */
struct pair_list {
    _Alignas(SCRATCH_ALIGN) struct pair_block *blocks; /* the newest first */
};

static void add_result(struct result_handler *result_handler, size_t worker, size_t query,
                       size_t candidate, double score)
{
    struct range_result *p = (struct range_result *)result_handler;
    if (!(score == score) || atomic_load_explicit(&p->no_memory, memory_order_relaxed) ||
        atomic_fetch_add_explicit(&p->count, 1, memory_order_relaxed) >= p->most) {
        return; /* NaN reaches nothing */
    }
    struct pair_block *block = p->lists[worker].blocks;
    if (block == NULL || block->count == BLOCK_PAIRS) {
        struct pair_block *fresh = scratch_alloc(sizeof *fresh);
        if (fresh == NULL) {
            atomic_store(&p->no_memory, true);
            return;
        }
        fresh->next = block;
        fresh->count = 0;
        block = p->lists[worker].blocks = fresh;
    }
    const int64_t i = (int64_t)(p->swapped_sides ? candidate : query),
                  j = (int64_t)(p->swapped_sides ? query : candidate);
    block->pairs[block->count++] = (struct pair){i, j, score};
}

int range_init(struct range_result *p, enum compute_type compute, double limit, size_t most)
{
    const int threads = pool_get_threads();
    *p = (struct range_result){
        .result_handler = {compute, threads, constant_thresholds(compute, limit), 0, 0, add_result},
        .most = most,
        .workers = (size_t)threads};
    p->lists = scratch_alloc(p->workers * sizeof *p->lists);
    for (size_t i = 0; p->lists != NULL && i < p->workers; i++) {
        p->lists[i].blocks = NULL;
    }
    if (p->result_handler.thresholds == NULL || p->lists == NULL) {
        range_free(p);
        return -1;
    }
    return 0;
}

void range_free(struct range_result *p)
{
    for (size_t i = 0; p->lists != NULL && i < p->workers; i++) {
        for (struct pair_block *block = p->lists[i].blocks, *next; block != NULL; block = next) {
            next = block->next;
            scratch_free(block);
        }
    }
    scratch_free(p->lists);
    scratch_free(p->result_handler.thresholds);
}

/* Where each of the numbers below `size` starts in a sorted list, from how often it comes: counts[n
 * + 1] of n. */
static void starts_of(size_t *counts, size_t size)
{
    for (size_t n = 1; n <= size; n++) {
        counts[n] += counts[n - 1];
    }
}

/* By counting: first by j, then, keeping that order, by i. */
int range_store(const struct range_result *p, size_t rows, size_t columns, int64_t *i, int64_t *j,
                void *values, struct cancel_token *token)
{
    const size_t count = atomic_load(&p->count),
                 places = size_sum_or_max(size_sum_or_max(rows, columns), 2);
    size_t *of_i = scratch_alloc(size_product_or_max(places, sizeof *of_i)),
           *of_j = of_i == NULL ? NULL : of_i + rows + 1;
    struct pair *by_j = scratch_alloc(size_product_or_max(count, sizeof *by_j));
    if (of_i == NULL || by_j == NULL) {
        scratch_free(of_i);
        scratch_free(by_j);
        return -1;
    }
    for (size_t n = 0; n < places; n++) {
        of_i[n] = 0;
    }
    for (size_t w = 0; w < p->workers; w++) {
        for (const struct pair_block *block = p->lists[w].blocks;
             block != NULL && !cancel_poll(token, 0); block = block->next) {
            for (size_t n = 0; n < block->count; n++) {
                of_i[block->pairs[n].i + 1]++;
                of_j[block->pairs[n].j + 1]++;
            }
        }
    }
    starts_of(of_i, rows);
    starts_of(of_j, columns);
    for (size_t w = 0; w < p->workers; w++) {
        for (const struct pair_block *block = p->lists[w].blocks;
             block != NULL && !cancel_poll(token, 0); block = block->next) {
            for (size_t n = 0; n < block->count; n++) {
                by_j[of_j[block->pairs[n].j]++] = block->pairs[n];
            }
        }
    }
    for (size_t n = 0; n < count && !(n % BLOCK_PAIRS == 0 && cancel_poll(token, 0)); n++) {
        const size_t at = of_i[by_j[n].i]++;
        i[at] = by_j[n].i;
        j[at] = by_j[n].j;
        if (p->result_handler.compute == COMPUTE_F64) {
            ((double *)values)[at] = by_j[n].value;
        } else {
            ((float *)values)[at] = (float)by_j[n].value;
        }
    }
    scratch_free(of_i);
    scratch_free(by_j);
    return 0;
}
