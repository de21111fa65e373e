#ifndef COSSIM_BASE_POOL_H
#define COSSIM_BASE_POOL_H

#include <stddef.h>

#include "base/watch.h"

/*
 * A small thread pool. Workers start at the first call that wants them, sleep while there is nothing to do, end before
 * fork, from within a job if need be, and start again on demand in parent and child. The calling thread works too. A call that finds the pool busy (or
 * comes from inside a task) runs all its tasks itself: there is no queue to wait in, and no nesting.
 */

/* task: 0 .. tasks-1, handed out in ascending order; worker: 0 .. workers-1, no two tasks run at once on one worker. */
typedef void (*pool_task)(void *context, size_t task, size_t worker);

/*
 * Runs task(context, 0 .. tasks-1, .) on at most `workers` threads (the caller is one of them) and returns when all are done,
 * or when those that were begun are done and the watch (which may be NULL) is stopped. Long tasks look at it themselves: watch_look.
 */
void pool_run(size_t tasks, int workers, pool_task task, void *context, struct watch *watch);

/* The number of threads that pool_run may use when asked for more. n < 1 means 1. Default: COSSIM_NUM_THREADS, else the CPUs available. */
void pool_set_threads(int n);
int pool_get_threads(void);

/* The same, but no more than a pool has room for. */
int pool_most_workers(void);

/* Ends and joins the workers, once they are done with the tasks they are at; they start again when needed. */
void pool_stop(void);

#endif
