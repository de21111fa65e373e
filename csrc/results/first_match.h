#pragma once

#include <pthread.h>
#include <stdint.h>
#include "results/result_handler.h"

/* Finds, for each query, the lowest candidate whose score reaches the threshold. */
struct first_match {
    struct result_handler result_handler;
    int64_t *matches; /* [queries], -1 while none is found; an earlier search may have found some */
    pthread_mutex_t lock;
};

int first_match_init(struct first_match *first, enum compute_type compute, double threshold,
                     int64_t *matches);
void first_match_free(struct first_match *first);
