/* Connected components of the pairs that reach a threshold, by union-find. */
#include "results/components.h"

#include "base/scratch.h"

/*
 * Returns the root of a row's tree, which is the lowest row of the tree. Every other row on the
 * path gets its grandparent as its parent (path halving), which halves the path for later calls.
 */
static int64_t root_of(int64_t *parents, int64_t row)
{
    while (parents[row] != row) {
        parents[row] = parents[parents[row]];
        row = parents[row];
    }
    return row;
}

static void add_result(struct result_handler *handler, size_t worker, size_t query,
                       size_t candidate, double score)
{
    struct components *c = (struct components *)handler;
    (void)worker;
    if (!(score == score)) {
        return;
    }
    pthread_mutex_lock(&c->lock);
    const int64_t a = root_of(c->parents, (int64_t)query),
                  b = root_of(c->parents, (int64_t)candidate);
    c->parents[a > b ? a : b] = a < b ? a : b;
    pthread_mutex_unlock(&c->lock);
}

int components_init(struct components *c, enum compute_type compute, double threshold,
                    int64_t *parents)
{
    *c = (struct components){
        .result_handler = handler_of_threshold(compute, threshold, add_result),
        .parents = parents,
    };
    pthread_mutex_init(&c->lock, NULL);
    return c->result_handler.thresholds == NULL ? -1 : 0;
}

void components_free(struct components *c)
{
    scratch_free(c->result_handler.thresholds);
}

void components_label(size_t rows, int64_t *parents)
{
    for (size_t row = 0; row < rows; row++) {
        parents[row] = root_of(parents, (int64_t)row);
    }
}
