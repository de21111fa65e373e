#include "base/pool.h"

#include <limits.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#if !defined(_WIN32)
#include <signal.h>
#endif

#include "base/cpu.h"
#include "base/fp_mode.h"
#include "base/scratch.h"

enum {
    MAX_WORKERS = 256,
    STACK_BYTES =
        1 << 20 /* tasks hold some 200 KB of blocks; musl's default of 128 KB would not do */
};

/*
 * One job at a time. `owner` is the thread whose call uses the pool, for as long as it does; a call
 * that finds another there runs serially. Workers come and go with `roster` held; `lock` guards
 * what follows it. A worker joins a job while `open` places are left, so a job for two threads
 * wakes one worker whatever the pool holds; the caller closes the job when tasks have run out, and
 * waits for those that joined.
 *
 * Before fork the workers are sent away: they end behind the task they are at, also in the middle
 * of a job, whose caller goes on alone and calls them back. So fork waits for single tasks and
 * never for a call, which may itself be waiting for what the forking thread holds (the GIL) or be
 * the one that forks (in a callback).
 */
static struct {
    _Atomic(const char *) owner; /* its `here`, or NULL */
    pthread_mutex_t roster;
    pthread_t threads[MAX_WORKERS];
    int started; /* workers that run, beside the callers */
    pthread_mutex_t lock;
    pthread_cond_t wake, done;
    _Atomic bool stopping;
    _Atomic bool sent_away; /* since the job began */
    int open;               /* workers that may still join the job */
    int joined;             /* workers that did, and thereby their worker numbers */
    int working;            /* of those, the ones not done yet */
    pool_task task;         /* from here on set by the owner while nobody is working */
    void *context;
    struct cancel_token *token;
    int helpers; /* how many the job wants */
    size_t tasks;
    _Atomic size_t next;
} pool = {.roster = PTHREAD_MUTEX_INITIALIZER,
          .lock = PTHREAD_MUTEX_INITIALIZER,
          .wake = PTHREAD_COND_INITIALIZER,
          .done = PTHREAD_COND_INITIALIZER};

static _Thread_local char
    here; /* its address tells threads apart, and is the same in a forked child */

/* ---- how many threads ---- */

static _Atomic int limit; /* of the process; 0: not read from the environment yet */

/* The blocks of the calling thread that it has not unlinked yet, the innermost first. */
static _Thread_local struct pool_block *blocks;

static int within_bounds(int n)
{
    return n < 1 ? 1 : n > MAX_WORKERS + 1 ? MAX_WORKERS + 1 : n; /* the caller is one */
}

/* The number that a variable of the environment begins with, as OpenMP writes one: "4", " 4 ", or
   "4,2" for nested levels. 0 where there is none. */
static int number_of(const char *variable)
{
    const char *text = getenv(variable);
    char *end = NULL;
    const long n = text == NULL ? 0 : strtol(text, &end, 10);
    if (n < 1) {
        return 0;
    }
    end += strspn(end, " \t");
    return *end != '\0' && *end != ',' ? 0 : n < INT_MAX ? (int)n : INT_MAX;
}

/* OMP_NUM_THREADS is not set for cossim alone, so it only lowers the number of CPUs. */
static int default_limit(void)
{
    const int own = number_of("COSSIM_NUM_THREADS");
    if (own > 0) {
        return within_bounds(own);
    }
    const int openmp = number_of("OMP_NUM_THREADS"), cpus = cpu_count_available();
    return within_bounds(openmp > 0 && openmp < cpus ? openmp : cpus);
}

static int process_limit(void)
{
    int n = atomic_load(&limit);
    if (n == 0) {
        int unset = 0;
        n = default_limit();
        if (!atomic_compare_exchange_strong(&limit, &unset, n)) {
            n = unset; /* another thread set it meanwhile */
        }
    }
    return n;
}

/* The innermost block that has not ended, or NULL. */
static struct pool_block *current_block(void)
{
    struct pool_block *block = blocks;
    while (block != NULL && atomic_load(&block->threads) == 0) {
        block = block->outer;
    }
    return block;
}

static void release_block(struct pool_block *block)
{
    if (atomic_fetch_sub(&block->holders, 1) == 1) {
        scratch_free(block);
    }
}

/* Unlinks the blocks of the calling thread that have ended. */
static void unlink_ended_blocks(void)
{
    for (struct pool_block **link = &blocks; *link != NULL;) {
        struct pool_block *block = *link;
        if (atomic_load(&block->threads) == 0) {
            *link = block->outer;
            release_block(block);
        } else {
            link = &block->outer;
        }
    }
}

struct pool_block *pool_block_begin(int n)
{
    unlink_ended_blocks();
    struct pool_block *block = scratch_alloc(sizeof *block);
    if (block != NULL) {
        block->outer = blocks;
        atomic_init(&block->threads, within_bounds(n));
        atomic_init(&block->holders, 2); /* the list of this thread, and the caller */
        blocks = block;
    }
    return block;
}

void pool_block_end(struct pool_block *block)
{
    atomic_store(&block->threads, 0);
    unlink_ended_blocks();
}

void pool_block_free(struct pool_block *block)
{
    pool_block_end(block);
    release_block(block);
}

int pool_get_threads(void)
{
    struct pool_block *block = current_block();
    const int n = block == NULL ? 0 : atomic_load(&block->threads);
    return n > 0 ? n : process_limit(); /* 0 if another thread has just ended the block */
}

void pool_set_threads(int n)
{
    struct pool_block *block = current_block();
    int before = block == NULL ? 0 : atomic_load(&block->threads);
    const int after = within_bounds(n);
    while (before > 0 && !atomic_compare_exchange_weak(&block->threads, &before, after)) {
    }
    if (before == 0) {
        atomic_store(&limit, after);
    }
}

/* ---- jobs ---- */

static void call_workers(void);

static void run_tasks(size_t worker)
{
    const bool caller = worker == 0;
    const struct cancel_scope before = cancel_enter(pool.token, worker);
    for (size_t task;
         !cancel_poll(pool.token, worker) &&
         (caller || !atomic_load_explicit(&pool.stopping, memory_order_relaxed)) &&
         (task = atomic_fetch_add_explicit(&pool.next, 1, memory_order_relaxed)) < pool.tasks;) {
        pool.task(pool.context, task, worker);
        if (caller && atomic_load_explicit(&pool.sent_away, memory_order_relaxed)) {
            call_workers();
        }
    }
    cancel_leave(before);
}

static void *worker_main(void *unused)
{
    (void)unused;
    fp_mode_enter(); /* for good: a thread begins in the mode of the one that started it */
    pthread_mutex_lock(&pool.lock);
    for (;;) {
        while (pool.open == 0 && !pool.stopping) {
            pthread_cond_wait(&pool.wake, &pool.lock);
        }
        if (pool.stopping) {
            break;
        }
        pool.open--;
        pool.working++;
        const size_t worker = (size_t)++pool.joined; /* 0 is the caller */
        pthread_mutex_unlock(&pool.lock);
        run_tasks(worker);
        pthread_mutex_lock(&pool.lock);
        if (--pool.working == 0) {
            pthread_cond_signal(&pool.done);
        }
    }
    pthread_mutex_unlock(&pool.lock);
    return NULL;
}

/* With `roster` held: ends and joins all workers. */
static void stop_workers(void)
{
    pthread_mutex_lock(&pool.lock);
    atomic_store(&pool.stopping, true);
    atomic_store(&pool.sent_away, true);
    pool.open = 0;
    pthread_cond_broadcast(&pool.wake);
    pthread_mutex_unlock(&pool.lock);
    for (int i = 0; i < pool.started; i++) {
        pthread_join(pool.threads[i], NULL);
    }
    pool.started = 0;
    atomic_store(&pool.stopping, false);
}

static void start_threads(int wanted)
{
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, STACK_BYTES);
    while (pool.started < wanted &&
           pthread_create(&pool.threads[pool.started], &attributes, worker_main, NULL) == 0) {
        pool.started++;
    }
    pthread_attr_destroy(&attributes);
}

#if defined(_WIN32) /* neither fork nor signals that a thread could take */

static void prepare_for_forks(void)
{
}

static void start_apart(int wanted)
{
    start_threads(wanted);
}

#else

/* Parent and child both go on with a pool that has no threads. Nobody keeps `lock` for long, so
 * that it can be had. */
static void before_fork(void)
{
    pthread_mutex_lock(&pool.roster);
    stop_workers();
    pthread_mutex_lock(&pool.lock);
}

static void after_fork(void)
{
    pthread_mutex_unlock(&pool.lock);
    pthread_mutex_unlock(&pool.roster);
}

/* The only thread here is the one that forked: calls of others are no more, nor do they wait for
 * anything. */
static void after_fork_in_child(void)
{
    if (atomic_load(&pool.owner) != &here) {
        atomic_store(&pool.owner, NULL);
    }
    pthread_cond_init(&pool.wake, NULL);
    pthread_cond_init(&pool.done, NULL);
    after_fork();
}

/* Nothing is registered for exit: sleeping workers hold nothing, and the process takes them with
 * it. */
static void register_fork_handlers(void)
{
    pthread_atfork(before_fork, after_fork, after_fork_in_child);
}

static void prepare_for_forks(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, register_fork_handlers);
}

/* Signals are the program's own threads', so workers inherit a mask of them all. */
static void start_apart(int wanted)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    start_threads(wanted);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}

#endif

/* With `roster` held: sees to `wanted` workers, as far as the system gives them; returns how many
 * there are. */
static int start_workers(int wanted)
{
    if (wanted > MAX_WORKERS) {
        wanted = MAX_WORKERS;
    }
    if (pool.started < wanted) {
        start_apart(wanted);
    }
    return pool.started < wanted ? pool.started : wanted;
}

/* By the owner: starts workers and lets them join the job. */
static void call_workers(void)
{
    prepare_for_forks();
    pthread_mutex_lock(&pool.roster);
    const int helpers = start_workers(pool.helpers);
    pthread_mutex_lock(&pool.lock);
    atomic_store(&pool.sent_away, false);
    pool.joined = 0;
    pool.open = helpers;
    for (int i = 0; i < helpers; i++) {
        pthread_cond_signal(&pool.wake);
    }
    pthread_mutex_unlock(&pool.lock);
    pthread_mutex_unlock(&pool.roster);
}

static void run_serially(size_t tasks, pool_task task, void *context, struct cancel_token *token)
{
    const struct cancel_scope before = cancel_enter(token, 0);
    for (size_t i = 0; i < tasks && !cancel_poll(token, 0); i++) {
        task(context, i, 0);
    }
    cancel_leave(before);
}

/* With `lock` held: until the workers are done, or for so long that the watch should be asked
 * again. */
static void wait_for_workers(struct cancel_token *token)
{
    struct timespec until;
    if (token == NULL || cancel_requested(token)) {
        pthread_cond_wait(&pool.done, &pool.lock);
        return;
    }
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_nsec += POLL_INTERVAL;
    until.tv_sec += until.tv_nsec / 1000000000;
    until.tv_nsec %= 1000000000;
    pthread_cond_timedwait(&pool.done, &pool.lock, &until);
    pthread_mutex_unlock(&pool.lock); /* what is asked may take its time */
    cancel_poll(token, 0);
    pthread_mutex_lock(&pool.lock);
}

void pool_run(size_t tasks, int workers, pool_task task, void *context, struct cancel_token *token)
{
    const int most = pool_get_threads();
    workers = workers < most ? workers : most;
    workers = (size_t)workers < tasks ? workers : (int)tasks;
    const char *nobody = NULL;
    if (workers <= 1 ||
        !atomic_compare_exchange_strong(
            &pool.owner, &nobody,
            &here)) { /* busy: with another thread's call, or with the one we are a task of */
        run_serially(tasks, task, context, token);
        return;
    }
    pool.task = task;
    pool.context = context;
    pool.token = token;
    pool.helpers = workers - 1;
    pool.tasks = tasks;
    atomic_store(&pool.next, 0);
    call_workers();

    run_tasks(0);

    pthread_mutex_lock(&pool.lock);
    pool.open = 0; /* a worker that has not woken yet has nothing left to do */
    while (pool.working > 0) {
        wait_for_workers(token);
    }
    pthread_mutex_unlock(&pool.lock);
    atomic_store(&pool.owner, NULL);
}

void pool_stop(void)
{
    pthread_mutex_lock(&pool.roster);
    stop_workers();
    pthread_mutex_unlock(&pool.roster);
}

int thread_count_for(size_t outputs, size_t depth, enum grain_size least)
{
    const size_t most = (size_t)pool_get_threads(),
                 worth = size_product_or_max(outputs, depth) / (size_t)least;
    return worth <= 1 ? 1 : (int)(worth < most ? worth : most);
}
