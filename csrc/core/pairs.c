/* All pairs that reach a limit: collected in blocks by each worker, sorted at the end. */
#include "base/pool.h"
#include "base/scratch.h"
#include "core/search.h"

enum { BLOCK_PAIRS = 4096 };

struct pair {
    int64_t i, j;
    double value;
};

struct block {
    struct block *next;
    size_t count;
    struct pair pairs[BLOCK_PAIRS];
};

/* A line of cache for each worker. */
struct pair_list {
    _Alignas(SCRATCH_ALIGN) struct block *blocks; /* the newest first */
};

static void offer(struct finder *finder, size_t worker, size_t query, size_t candidate, double score)
{
    struct pairs *p = (struct pairs *)finder;
    if (!(score == score) || atomic_load_explicit(&p->no_memory, memory_order_relaxed) ||
        atomic_fetch_add_explicit(&p->count, 1, memory_order_relaxed) >= p->most) {
        return; /* NaN reaches nothing */
    }
    struct block *block = p->lists[worker].blocks;
    if (block == NULL || block->count == BLOCK_PAIRS) {
        struct block *fresh = scratch_alloc(sizeof *fresh);
        if (fresh == NULL) {
            atomic_store(&p->no_memory, true);
            return;
        }
        fresh->next = block;
        fresh->count = 0;
        block = p->lists[worker].blocks = fresh;
    }
    const int64_t i = (int64_t)(p->turned ? candidate : query), j = (int64_t)(p->turned ? query : candidate);
    block->pairs[block->count++] = (struct pair){i, j, score};
}

/* The same limit for every query, of all workers: nobody changes it. */
static void *constant_limits(enum work work, double limit)
{
    void *limits = scratch_alloc(ONE_LIMIT * work_size(work));
    for (size_t i = 0; limits != NULL && i < ONE_LIMIT; i++) {
        if (work == WORK_F64) {
            ((double *)limits)[i] = limit;
        } else {
            ((float *)limits)[i] = (float)limit;
        }
    }
    return limits;
}

int pairs_init(struct pairs *p, enum work work, double limit, size_t most)
{
    const int threads = pool_get_threads();
    *p = (struct pairs){.finder = {work, threads, constant_limits(work, limit), 0, 0, offer},
                        .most = most,
                        .workers = (size_t)threads};
    p->lists = scratch_alloc(p->workers * sizeof *p->lists);
    for (size_t i = 0; p->lists != NULL && i < p->workers; i++) {
        p->lists[i].blocks = NULL;
    }
    if (p->finder.limits == NULL || p->lists == NULL) {
        pairs_free(p);
        return -1;
    }
    return 0;
}

void pairs_free(struct pairs *p)
{
    for (size_t i = 0; p->lists != NULL && i < p->workers; i++) {
        for (struct block *block = p->lists[i].blocks, *next; block != NULL; block = next) {
            next = block->next;
            scratch_free(block);
        }
    }
    scratch_free(p->lists);
    scratch_free(p->finder.limits);
}

/* Where each of the numbers below `size` starts in a sorted list, from how often it comes: counts[n + 1] of n. */
static void starts_of(size_t *counts, size_t size)
{
    for (size_t n = 1; n <= size; n++) {
        counts[n] += counts[n - 1];
    }
}

/* By counting: first by j, then, keeping that order, by i. */
int pairs_store(const struct pairs *p, size_t rows, size_t columns, int64_t *i, int64_t *j, void *values, struct watch *watch)
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
        for (const struct block *block = p->lists[w].blocks; block != NULL && !watch_step(watch, 0); block = block->next) {
            for (size_t n = 0; n < block->count; n++) {
                of_i[block->pairs[n].i + 1]++;
                of_j[block->pairs[n].j + 1]++;
            }
        }
    }
    starts_of(of_i, rows);
    starts_of(of_j, columns);
    for (size_t w = 0; w < p->workers; w++) {
        for (const struct block *block = p->lists[w].blocks; block != NULL && !watch_step(watch, 0); block = block->next) {
            for (size_t n = 0; n < block->count; n++) {
                by_j[of_j[block->pairs[n].j]++] = block->pairs[n];
            }
        }
    }
    for (size_t n = 0; n < count && !(n % BLOCK_PAIRS == 0 && watch_step(watch, 0)); n++) {
        const size_t at = of_i[by_j[n].i]++;
        i[at] = by_j[n].i;
        j[at] = by_j[n].j;
        if (p->finder.work == WORK_F64) {
            ((double *)values)[at] = by_j[n].value;
        } else {
            ((float *)values)[at] = (float)by_j[n].value;
        }
    }
    scratch_free(of_i);
    scratch_free(by_j);
    return 0;
}

/* ---- connected components ---- */

/* The root of a row's tree, which is its lowest row; the path to it gets shorter on the way. */
static int64_t root_of(int64_t *parents, int64_t row)
{
    while (parents[row] != row) {
        parents[row] = parents[parents[row]];
        row = parents[row];
    }
    return row;
}

static void join(struct finder *finder, size_t worker, size_t query, size_t candidate, double score)
{
    struct groups *g = (struct groups *)finder;
    (void)worker;
    if (!(score == score)) {
        return;
    }
    pthread_mutex_lock(&g->turn);
    const int64_t a = root_of(g->parents, (int64_t)query), b = root_of(g->parents, (int64_t)candidate);
    g->parents[a > b ? a : b] = a < b ? a : b;
    pthread_mutex_unlock(&g->turn);
}

int groups_init(struct groups *g, enum work work, double limit, int64_t *parents)
{
    *g = (struct groups){
        .finder = {work, pool_get_threads(), constant_limits(work, limit), 0, 0, join},
        .parents = parents};
    pthread_mutex_init(&g->turn, NULL);
    return g->finder.limits == NULL ? -1 : 0;
}

void groups_free(struct groups *g)
{
    scratch_free(g->finder.limits);
}

void groups_label(size_t rows, int64_t *parents)
{
    for (size_t row = 0; row < rows; row++) {
        parents[row] = root_of(parents, (int64_t)row);
    }
}
