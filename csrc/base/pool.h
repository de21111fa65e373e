#ifndef COSSIM_BASE_POOL_H
#define COSSIM_BASE_POOL_H

#include <stddef.h>

#include "base/cancel.h"

/*
 * A small thread pool. Workers start at the first call that wants them, sleep while there is
 * nothing to do, end before fork, from within a job if need be, and start again on demand in parent
 * and child. The calling thread works too. A call that finds the pool busy (or comes from inside a
 * task) runs all its tasks itself: there is no queue to wait in, and no nesting.
 */

/* task: 0 .. tasks-1, handed out in ascending order; worker: 0 .. workers-1, no two tasks run at
 * once on one worker. */
typedef void (*pool_task)(void *context, size_t task, size_t worker);

/*
 * Runs task(context, 0 .. tasks-1, .) on at most `workers` threads (the caller is one of them) and
 * returns when all are done, or when those that were begun are done and the watch (which may be
 * NULL) is stopped. Long tasks look at it themselves: cancel_poll_here.
 */
void pool_run(size_t tasks, int workers, pool_task task, void *context, struct cancel_token *token);

/*
 * The number of threads that pool_run may use when asked for more: from 1 to 257, for which the
 * pool has room. A setting outside of these bounds counts as the nearer one. The number holds for
 * the process; within a block of the calling thread (below) both functions mean the block's own
 * number. Default: COSSIM_NUM_THREADS; else the CPUs available, or OMP_NUM_THREADS where that is
 * less.
 */
void pool_set_threads(int n);
int pool_get_threads(void);

/*
 * A number of threads for the calls of one thread: the one that begins the block. The innermost of
 * its blocks counts. Blocks may end in any order and on any thread, as those of Python's generators
 * do: a block that ends is skipped at once, and unlinked by the thread that began it. A thread that
 * ends before its blocks do leaves their memory behind.
 */
struct pool_block {
    struct pool_block *outer; /* only the thread that began the block follows it */
    _Atomic int threads;      /* 0: ended */
    _Atomic int holders;      /* the thread's list, and the caller; the last one frees the block */
};

struct pool_block *pool_block_begin(int n);     /* NULL when there is no memory */
void pool_block_end(struct pool_block *block);  /* may be called again */
void pool_block_free(struct pool_block *block); /* ends it, too */

/* Ends and joins the workers, once they are done with the tasks they are at; they start again when
 * needed. */
void pool_stop(void);

/*
 * How many threads a call of outputs * depth multiplications pays for: each is to have work for
 * longer than waking it takes (some 10 us, 50 where the machine is busy).
 */
enum grain_size {
    GRAIN_SUMS = 1 << 18,
    GRAIN_GEMM = 1 << 20
}; /* multiplications in some 50 us, 20 us */
int thread_count_for(size_t outputs, size_t depth, enum grain_size least);

#endif
