#pragma once

#include <stddef.h>

#include "base/cancel.h"
#include "base/scratch.h"

/*
 * A small thread pool. Workers start on the first call that needs them. Between jobs they spin for
 * a moment, if jobs follow each other closely, and then sleep. They end before a fork, even in the
 * middle of a job, and start again on demand in parent and child. The calling thread runs tasks
 * too. A call that finds the pool busy, or that comes from inside a task, runs all its tasks on its
 * own thread: there is no queue and no nesting.
 */

/* One task of a job. Tasks 0 .. tasks-1 are handed out in ascending order. worker is
 * 0 .. workers-1, and one worker runs one task at a time. */
typedef void (*pool_task)(void *context, size_t task, size_t worker);

/*
 * Runs task(context, 0 .. tasks-1, .) on at most `workers` threads, including the caller. Returns
 * when all tasks are done. If the token (may be NULL) is stopped, it returns once the tasks that
 * have begun are done. Long tasks poll the token themselves with cancel_poll_here.
 */
void pool_run(size_t tasks, int workers, pool_task task, void *context, struct cancel_token *token);

/* Runs tasks that use the memory of an arena, then frees the arena's block. Call it after the
 * arena's passes (base/scratch.h). Returns 0, or -1 if there is no block because memory ran out. */
int pool_run_in_arena(struct arena *arena, size_t tasks, int workers, pool_task task, void *context,
                      struct cancel_token *token);

/*
 * The largest number of threads that pool_run uses, from 1 to 257 (256 workers and the caller). A
 * setting outside these bounds is clamped. The number applies to the whole process. Inside a block
 * of the calling thread (below), these functions set and return the number of the block. The
 * default is COSSIM_NUM_THREADS; if that is not set, the number of available CPUs, or
 * OMP_NUM_THREADS if that is smaller.
 */
void pool_set_threads(int n);
int pool_get_threads(void);

/*
 * A block sets the number of threads for all calls from the thread that begins it. If blocks are
 * nested, the innermost one applies. Blocks may end in any order and on any thread, as `with`
 * blocks inside Python generators do. A block that has ended is ignored from then on, and the
 * thread that began it unlinks it later. A thread that exits before its blocks end leaks their
 * memory.
 */
struct pool_block {
    struct pool_block *outer; /* read only by the thread that began the block */
    _Atomic int threads;      /* 0: the block has ended */
    _Atomic int references;   /* the thread's list and the caller; the last one frees the block */
};

struct pool_block *pool_block_begin(int n);     /* NULL when memory runs out */
void pool_block_end(struct pool_block *block);  /* ending a block twice is allowed */
void pool_block_free(struct pool_block *block); /* ends the block if it has not ended */

/* Ends and joins the workers after their current tasks. They start again on demand. */
void pool_stop(void);

/*
 * The number of threads for a call of outputs * depth multiplications, from 1 to
 * pool_get_threads(). Each thread gets at least one grain of multiplications, so that it works for
 * longer than waking it takes (about 10 us, or 50 us on a busy machine).
 */
enum grain_size {
    GRAIN_SUMS = 1 << 18, /* sums of rows and columns: about 50 us */
    GRAIN_GEMM = 1 << 20  /* blocked products: about 20 us */
};
int thread_count_for(size_t outputs, size_t depth, enum grain_size grain);
