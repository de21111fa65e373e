#ifndef COSSIM_SEARCH_COMPONENTS_H
#define COSSIM_SEARCH_COMPONENTS_H

#include <pthread.h>
#include <stdint.h>
#include "search/result_handler.h"

/* Connected components: parents[i] is a row of i's group, itself for the lowest. */
struct components {
    struct result_handler result_handler;
    int64_t *parents;
    pthread_mutex_t lock;
};

int components_init(struct components *groups, enum compute_type compute, double limit,
                    int64_t *parents);
void components_free(struct components *groups);
/* Each row's label: the lowest row of its group. */
void components_label(size_t rows, int64_t *parents);

#endif
