/* Connected components of the pairs that reach a threshold, by union-find. */
#include "search/components.h"

#include "base/pool.h"
#include "base/scratch.h"

/* The root of a row's tree, which is its lowest row; the path to it gets shorter on the way. */
static int64_t root_of(int64_t *parents, int64_t row)
{
    while (parents[row] != row) {
        parents[row] = parents[parents[row]];
        row = parents[row];
    }
    return row;
}

static void join(struct result_handler *result_handler, size_t worker, size_t query,
                 size_t candidate, double score)
{
    struct components *g = (struct components *)result_handler;
    (void)worker;
    if (!(score == score)) {
        return;
    }
    pthread_mutex_lock(&g->lock);
    const int64_t a = root_of(g->parents, (int64_t)query),
                  b = root_of(g->parents, (int64_t)candidate);
    g->parents[a > b ? a : b] = a < b ? a : b;
    pthread_mutex_unlock(&g->lock);
}

int components_init(struct components *g, enum compute_type compute, double limit, int64_t *parents)
{
    *g = (struct components){.result_handler = {compute, pool_get_threads(),
                                                constant_thresholds(compute, limit), 0, 0, join},
                             .parents = parents};
    pthread_mutex_init(&g->lock, NULL);
    return g->result_handler.thresholds == NULL ? -1 : 0;
}

void components_free(struct components *g)
{
    scratch_free(g->result_handler.thresholds);
}

void components_label(size_t rows, int64_t *parents)
{
    for (size_t row = 0; row < rows; row++) {
        parents[row] = root_of(parents, (int64_t)row);
    }
}
