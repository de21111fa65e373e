#pragma once

#include <pthread.h>
#include <stdint.h>
#include "results/result_handler.h"

/*
 * Connected components as a forest of trees, for union-find. parents[i] is the parent of row i: a
 * lower row of the same component. The parent of a root is the root itself.
 */
struct components {
    struct result_handler result_handler;
    int64_t *parents;
    pthread_mutex_t lock;
};

int components_init(struct components *components, enum compute_type compute, double threshold,
                    int64_t *parents);
void components_free(struct components *components);
/* Replaces the parent of each row by the row's label: the lowest row of its component. */
void components_label(size_t rows, int64_t *parents);
