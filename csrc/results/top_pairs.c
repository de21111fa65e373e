/* The best pairs of a whole search, in a heap that all workers share. */
#include "results/top_pairs.h"

#include <math.h>

#include "base/pool.h"
#include "base/scratch.h"
#include "results/ranking.h"

struct scored_pair {
    double score;
    int64_t i, j;
};

static struct scored_pair heap_item(const struct top_pairs *p, size_t at)
{
    const double score = compute_load(p->result_handler.compute, p->values, at);
    return (struct scored_pair){score, p->i[at], p->j[at]};
}

static void heap_put(const struct top_pairs *p, size_t at, struct scored_pair pair)
{
    compute_store(p->result_handler.compute, p->values, at, pair.score);
    p->i[at] = pair.i;
    p->j[at] = pair.j;
}

static bool heap_precedes(struct scored_pair a, struct scored_pair b)
{
    return is_better(a.score, a.i, b.score, b.i) || (a.score == b.score && a.i == b.i && a.j < b.j);
}

/* Replaces the worst pair, at the root of the heap, and moves worse pairs than `pair` up. */
static void replace_worst(const struct top_pairs *p, struct scored_pair pair)
{
    size_t at = 0;
    for (size_t child; (child = 2 * at + 1) < p->size; at = child) {
        child += child + 1 < p->size && heap_precedes(heap_item(p, child), heap_item(p, child + 1));
        if (!heap_precedes(pair, heap_item(p, child))) {
            break;
        }
        heap_put(p, at, heap_item(p, child));
    }
    heap_put(p, at, pair);
}

/* Each worker has its own thresholds, so none reads a threshold that another worker writes. */
static void set_threshold(struct top_pairs *p, size_t worker)
{
    struct result_handler *handler = &p->result_handler;
    const double worst = heap_item(p, 0).score;
    for (size_t i = 0; i < SHARED_THRESHOLDS; i++) {
        compute_store(handler->compute, handler->thresholds, worker * SHARED_THRESHOLDS + i,
                      isnan(worst) ? p->least : worst);
    }
}

static void add_result(struct result_handler *handler, size_t worker, size_t query,
                       size_t candidate, double score)
{
    struct top_pairs *p = (struct top_pairs *)handler;
    const bool reversed = p->self ? candidate < query : p->swapped_sides;
    const struct scored_pair pair = {score, (int64_t)(reversed ? candidate : query),
                                     (int64_t)(reversed ? query : candidate)};
    if (isnan(score)) {
        return;
    }
    pthread_mutex_lock(&p->lock);
    if (heap_precedes(pair, heap_item(p, 0))) {
        replace_worst(p, pair);
    }
    set_threshold(p, worker);
    pthread_mutex_unlock(&p->lock);
}

int top_pairs_init(struct top_pairs *p, enum compute_type compute, size_t size, double least,
                   void *values, int64_t *i, int64_t *j)
{
    const size_t workers = (size_t)pool_get_threads();
    *p = (struct top_pairs){.result_handler = {.compute = compute,
                                               .workers = (int)workers,
                                               .thresholds_step = SHARED_THRESHOLDS,
                                               .add_result = add_result},
                            .size = size,
                            .least = least,
                            .values = values,
                            .i = i,
                            .j = j};
    p->result_handler.thresholds =
        scratch_alloc(workers * SHARED_THRESHOLDS * compute_size(compute));
    if (p->result_handler.thresholds == NULL) {
        return -1;
    }
    pthread_mutex_init(&p->lock, NULL);
    for (size_t worker = 0; worker < workers; worker++) {
        set_threshold(p, worker);
    }
    return 0;
}

void top_pairs_free(struct top_pairs *p)
{
    scratch_free(p->result_handler.thresholds);
    pthread_mutex_destroy(&p->lock);
}
