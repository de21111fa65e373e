/* Top-k: the k best candidates of each query. */
#include <math.h>
#include <string.h>

#include "base/pool.h"
#include "base/scratch.h"
#include "search/topk.h"

/*
 * Queries share striped locks, because one lock for each query would take more memory for no gain.
 *
 * Up to MAX_SORTED entries are kept sorted, best first. Moving some of them takes half the time of
 * a heap, whose branches are unpredictable. More entries form a heap with the worst entry at its
 * root.
 */
enum { LOCKS = 256, MAX_SORTED = 256 };

/*
 * True if an entry comes before another one. Entries are in descending order of score, with NaN
 * after all numbers. Equal scores are in ascending order of index. Index -1, which means no entry,
 * comes last.
 */
static inline bool is_better(double score, int64_t index, double other, int64_t other_index)
{
    if (score > other) {
        return true;
    }
    if (score < other) {
        return false;
    }
    if (score == other || (isnan(score) && isnan(other))) {
        return (uint64_t)index < (uint64_t)other_index;
    }
    return isnan(other);
}

/*
 * A query's entries, sorted or as a heap. The functions that change them are inlined once for each
 * compute type, so that h->compute is a constant in them.
 */
struct heap {
    enum compute_type compute;
    size_t size;
    void *values;
    int64_t *indices;
};

static inline double value_at(const struct heap *h, size_t at)
{
    return compute_load(h->compute, h->values, at);
}

static inline void put(const struct heap *h, size_t at, double value, int64_t index)
{
    compute_store(h->compute, h->values, at, value);
    h->indices[at] = index;
}

/*
 * Replaces the root of the heap by an entry, and sifts it down until none of its children is worse.
 */
static inline __attribute__((always_inline)) void sift_down(const struct heap *h, double value,
                                                            int64_t index)
{
    size_t at = 0;
    for (size_t child; (child = 2 * at + 1) < h->size; at = child) {
        const size_t next = child + 1 < h->size ? child + 1 : child;
        if (is_better(value_at(h, child), h->indices[child], value_at(h, next), h->indices[next])) {
            child = next;
        }
        if (!is_better(value, index, value_at(h, child), h->indices[child])) {
            break;
        }
        put(h, at, value_at(h, child), h->indices[child]);
    }
    put(h, at, value, index);
}

/* Drops the last of the sorted entries and inserts a better one in order. */
static inline __attribute__((always_inline)) void insert(const struct heap *h, double value,
                                                         int64_t index)
{
    const size_t last = h->size - 1, size = compute_size(h->compute);
    size_t at = 0;
    if (h->compute == COMPUTE_F64) {
        for (size_t n = 0; n < last; n++) {
            at += ((const double *)h->values)[n] > value;
        }
    } else {
        const float narrow = (float)value;
        unsigned higher = 0; /* as wide as a float, so that the loop vectorizes */
        for (size_t n = 0; n < last; n++) {
            higher += ((const float *)h->values)[n] > narrow;
        }
        at = higher;
    }
    while (at < last && !is_better(value, index, value_at(h, at), h->indices[at])) {
        at++; /* skips equal scores of lower index; a NaN skips all numbers */
    }
    char *values = h->values;
    memmove(values + (at + 1) * size, values + at * size, (last - at) * size);
    memmove(h->indices + at + 1, h->indices + at, (last - at) * sizeof *h->indices);
    put(h, at, value, index);
}

/* Replaces the worst entry. */
static void replace_worst(const struct heap *h, double value, int64_t index)
{
    const struct heap f64 = {COMPUTE_F64, h->size, h->values, h->indices},
                      f32 = {COMPUTE_F32, h->size, h->values, h->indices};
    if (h->size <= MAX_SORTED && h->compute == COMPUTE_F64) {
        insert(&f64, value, index);
    } else if (h->size <= MAX_SORTED) {
        insert(&f32, value, index);
    } else if (h->compute == COMPUTE_F64) {
        sift_down(&f64, value, index);
    } else {
        sift_down(&f32, value, index);
    }
}

static size_t worst_position(const struct heap *h)
{
    return h->size <= MAX_SORTED ? h->size - 1 : 0;
}

static struct heap heap_at(enum compute_type compute, size_t k, void *values, int64_t *indices,
                           size_t query)
{
    return (struct heap){compute, k, (char *)values + query * k * compute_size(compute),
                         indices + query * k};
}

/* A query's threshold: the score that a new candidate must reach. */
static double threshold_of(const struct heap *h)
{
    const double worst = value_at(h, worst_position(h));
    return isnan(worst) ? -INFINITY : worst;
}

static void set_threshold(const struct result_handler *handler, size_t worker, size_t query,
                          double threshold)
{
    compute_store(handler->compute, handler->thresholds, worker * handler->thresholds_step + query,
                  threshold);
}

static void add_result(struct result_handler *handler, size_t worker, size_t query,
                       size_t candidate, double score)
{
    struct topk *t = (struct topk *)handler;
    const struct heap h = heap_at(handler->compute, t->k, t->values, t->indices, query);
    pthread_mutex_t *lock = t->shared ? t->locks + query % LOCKS : NULL;
    if (lock != NULL) {
        pthread_mutex_lock(lock);
    }
    const size_t worst = worst_position(&h);
    if (is_better(score, (int64_t)candidate, value_at(&h, worst), h.indices[worst])) {
        replace_worst(&h, score, (int64_t)candidate);
    }
    set_threshold(handler, worker, query, threshold_of(&h));
    if (lock != NULL) {
        pthread_mutex_unlock(lock);
    }
}

int topk_init(struct topk *t, enum compute_type compute, size_t queries, size_t k, void *values,
              int64_t *indices)
{
    const int threads = pool_get_threads();
    const size_t workers = (size_t)threads, step = size_sum_or_max(queries, SELECT_PADDING);
    *t = (struct topk){.result_handler = {compute, threads, NULL, step, SIZE_MAX, add_result},
                       .k = k,
                       .values = values,
                       .indices = indices,
                       .shared = workers > 1};
    t->result_handler.thresholds = scratch_alloc(
        size_product_or_max(size_product_or_max(workers, step), compute_size(compute)));
    t->locks = scratch_alloc(LOCKS * sizeof(pthread_mutex_t));
    if (t->result_handler.thresholds == NULL || t->locks == NULL) {
        topk_free(t);
        return -1;
    }
    for (size_t i = 0; i < LOCKS; i++) {
        pthread_mutex_init(t->locks + i, NULL);
    }
    for (size_t worker = 0; worker < workers; worker++) {
        for (size_t query = 0; query < step; query++) {
            const struct heap h = heap_at(compute, k, values, indices, query < queries ? query : 0);
            set_threshold(&t->result_handler, worker, query,
                          query < queries ? threshold_of(&h) : INFINITY);
        }
    }
    return 0;
}

void topk_free(struct topk *t)
{
    scratch_free(t->result_handler.thresholds);
    scratch_free(t->locks);
}

struct topk_sorting {
    enum compute_type compute;
    size_t k;
    void *values;
    int64_t *indices;
};

/*
 * Heap sort: swaps the root, which is the worst entry, with the last entry of the heap and shortens
 * the heap by one, until one entry is left.
 */
static void sort_query(void *context, size_t query, size_t worker)
{
    const struct topk_sorting *s = context;
    struct heap h = heap_at(s->compute, s->k, s->values, s->indices, query);
    (void)worker;
    while (h.size > 1) {
        const double worst = value_at(&h, 0), last = value_at(&h, h.size - 1);
        const int64_t worst_index = h.indices[0], last_index = h.indices[h.size - 1];
        h.size--;
        sift_down(&h, last, last_index);
        put(&h, h.size, worst, worst_index);
    }
}

void topk_sort(enum compute_type compute, size_t queries, size_t k, void *values, int64_t *indices,
               struct cancel_token *token)
{
    struct topk_sorting s = {compute, k, values, indices};
    if (k > MAX_SORTED) {
        pool_run(queries, thread_count_for(queries, k, GRAIN_SUMS), sort_query, &s, token);
    }
}
