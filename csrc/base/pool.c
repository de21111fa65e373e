#include "base/pool.h"

#include <limits.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
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
    /* Tasks keep up to about 200 KB on the stack; musl's default stack has 128 KB. */
    STACK_BYTES = 1 << 20,
    /* Nanoseconds that a thread spins before it sleeps. Waking a thread takes 5 to 50 us. */
    SPIN_TIME = 50 * 1000
};

/*
 * The pool runs one job at a time. `owner` identifies the thread whose call uses the pool; a call
 * that finds another owner runs serially. Workers start and stop with `threads_lock` held.
 * `job_lock` guards the members from `wake` to `working`. A worker joins a job while `vacancies` is
 * above 0, so a job for two threads wakes one worker, however many the pool has. When no task is
 * left, the caller sets `vacancies` to 0 and waits for the workers that joined.
 *
 * Waiting threads spin for a moment before they sleep, if each thread has a CPU. A worker spins
 * only if its last job followed the one before within SPIN_TIME. So the passes of one call and the
 * layers of a network find it awake, and a program that pauses longer between calls loses no CPU
 * time.
 *
 * Workers stop before a fork. Each ends after its current task, even in the middle of a job. The
 * caller of that job continues alone and starts the workers again. So a fork waits for single
 * tasks, never for a whole call. Waiting for a call could deadlock: the call may need a lock that
 * the forking thread holds (the GIL), or the fork may come from a callback of that call.
 */
static struct {
    _Atomic(const char *) owner; /* address of the owner's thread_tag, or NULL */
    pthread_mutex_t threads_lock;
    pthread_t threads[MAX_WORKERS];
    int started; /* number of running workers */
    pthread_mutex_t job_lock;
    pthread_cond_t wake, done;
    _Atomic bool stopping;
    _Atomic bool interrupted; /* the workers were stopped since the job began */
    _Atomic int vacancies;    /* number of workers that may still join the job */
    int joined;          /* number of workers that joined; also the worker number of the last one */
    _Atomic int working; /* number of joined workers that are not done yet */
    bool spins;          /* each of the started workers and the caller has a CPU */
    /* The owner sets the members below while no worker is working. */
    pool_task task;
    void *context;
    struct cancel_token *token;
    int helpers; /* number of workers that the job needs, without the caller */
    size_t tasks;
    _Atomic size_t next; /* the next task to run */
} pool = {.threads_lock = PTHREAD_MUTEX_INITIALIZER,
          .job_lock = PTHREAD_MUTEX_INITIALIZER,
          .wake = PTHREAD_COND_INITIALIZER,
          .done = PTHREAD_COND_INITIALIZER};

/* The address of this variable identifies a thread, and stays the same in a forked child. */
static _Thread_local char thread_tag;

/* ---- number of threads ---- */

/* The process-wide number of threads for a call. 0: not yet read from the environment. */
static _Atomic int process_threads;

/* The blocks that the calling thread began and has not unlinked yet, innermost first. */
static _Thread_local struct pool_block *blocks;

/* Clamps n to 1 .. MAX_WORKERS + 1; the caller is one of the threads. */
static int within_bounds(int n)
{
    if (n < 1) {
        return 1;
    }
    return n > MAX_WORKERS + 1 ? MAX_WORKERS + 1 : n;
}

/* Returns the number at the start of an environment variable in OpenMP's syntax: "4", " 4 ", or
 * "4,2" for nested levels. Returns 0 if there is no such number or it is below 1. */
static int env_number(const char *variable)
{
    const char *text = getenv(variable);
    char *end = NULL;
    const long n = text == NULL ? 0 : strtol(text, &end, 10);
    if (n < 1) {
        return 0;
    }
    end += strspn(end, " \t");
    if (*end != '\0' && *end != ',') {
        return 0;
    }
    return n < INT_MAX ? (int)n : INT_MAX;
}

/* The default is the number of CPUs. OMP_NUM_THREADS can only lower it, because that variable is
 * meant for all libraries. COSSIM_NUM_THREADS replaces it. */
static int default_thread_count(void)
{
    const int cossim = env_number("COSSIM_NUM_THREADS");
    if (cossim > 0) {
        return within_bounds(cossim);
    }
    const int openmp = env_number("OMP_NUM_THREADS"), cpus = cpu_count_available();
    return within_bounds(openmp > 0 && openmp < cpus ? openmp : cpus);
}

static int process_thread_count(void)
{
    int n = atomic_load(&process_threads);
    if (n == 0) {
        int unset = 0;
        n = default_thread_count();
        if (!atomic_compare_exchange_strong(&process_threads, &unset, n)) {
            n = unset; /* another thread has set it in the meantime */
        }
    }
    return n;
}

/* The innermost block of this thread that has not ended, or NULL. */
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
    if (atomic_fetch_sub(&block->references, 1) == 1) {
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
        atomic_init(&block->references, 2); /* this thread's list and the caller */
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
    return n > 0 ? n : process_thread_count(); /* another thread may just have ended the block */
}

void pool_set_threads(int n)
{
    struct pool_block *block = current_block();
    int before = block == NULL ? 0 : atomic_load(&block->threads);
    const int after = within_bounds(n);
    while (before > 0 && !atomic_compare_exchange_weak(&block->threads, &before, after)) {
    }
    if (before == 0) {
        atomic_store(&process_threads, after);
    }
}

/* ---- spinning ---- */

static uint64_t nanoseconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static inline void pause_cpu(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

static bool has_no_job(void)
{
    return pool.vacancies == 0 && !pool.stopping;
}

static bool has_workers(void)
{
    return pool.working > 0;
}

/* No thread holds job_lock for more than a few instructions, which is too short to sleep. */
static void lock_job(void)
{
    for (int i = 0; i < 100; i++) {
        if (pthread_mutex_trylock(&pool.job_lock) == 0) {
            return;
        }
        pause_cpu();
    }
    pthread_mutex_lock(&pool.job_lock);
}

/* Spins while waits() holds, for at most SPIN_TIME, with job_lock released. */
static void spin_while(bool (*waits)(void))
{
    pthread_mutex_unlock(&pool.job_lock);
    for (const uint64_t start = nanoseconds(); waits() && nanoseconds() - start < SPIN_TIME;) {
        pause_cpu();
    }
    lock_job();
}

/* ---- jobs ---- */

static void recruit_workers(void);

static void run_tasks(size_t worker)
{
    const bool caller = worker == 0;
    const struct cancel_scope before = cancel_enter(pool.token, worker);
    for (size_t task;
         !cancel_poll(pool.token, worker) &&
         (caller || !atomic_load_explicit(&pool.stopping, memory_order_relaxed)) &&
         (task = atomic_fetch_add_explicit(&pool.next, 1, memory_order_relaxed)) < pool.tasks;) {
        pool.task(pool.context, task, worker);
        if (caller && atomic_load_explicit(&pool.interrupted, memory_order_relaxed)) {
            recruit_workers();
        }
    }
    cancel_leave(before);
}

static void *worker_main(void *unused)
{
    (void)unused;
    fp_mode_enter(); /* the thread may have inherited another mode from its creator */
    pthread_mutex_lock(&pool.job_lock);
    for (bool soon = false;;) {
        const uint64_t start = nanoseconds();
        if (soon) {
            spin_while(has_no_job);
        }
        while (has_no_job()) {
            pthread_cond_wait(&pool.wake, &pool.job_lock);
        }
        if (pool.stopping) {
            break;
        }
        soon = pool.spins && nanoseconds() - start < SPIN_TIME;
        pool.vacancies--;
        pool.working++;
        const size_t worker = (size_t)++pool.joined; /* 0 is the caller */
        pthread_mutex_unlock(&pool.job_lock);
        run_tasks(worker);
        lock_job();
        if (--pool.working == 0) {
            pthread_cond_signal(&pool.done);
        }
    }
    pthread_mutex_unlock(&pool.job_lock);
    return NULL;
}

/* Ends and joins all workers. threads_lock must be held. */
static void stop_workers(void)
{
    pthread_mutex_lock(&pool.job_lock);
    atomic_store(&pool.stopping, true);
    atomic_store(&pool.interrupted, true);
    pool.vacancies = 0;
    pthread_cond_broadcast(&pool.wake);
    pthread_mutex_unlock(&pool.job_lock);
    for (int i = 0; i < pool.started; i++) {
        pthread_join(pool.threads[i], NULL);
    }
    pool.started = 0;
    atomic_store(&pool.stopping, false);
}

/* Starts workers until `wanted` are running, or until the system refuses more. All signals are
 * blocked in them, so that the program's own threads receive them. threads_lock must be held. */
static void start_workers(int wanted)
{
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, STACK_BYTES);
#if !defined(_WIN32)
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
#endif
    while (pool.started < wanted &&
           pthread_create(&pool.threads[pool.started], &attributes, worker_main, NULL) == 0) {
        pool.started++;
    }
#if !defined(_WIN32)
    pthread_sigmask(SIG_SETMASK, &before, NULL);
#endif
    pthread_attr_destroy(&attributes);
}

#if !defined(_WIN32)

/* Parent and child both continue with a pool without threads. Both locks are held across the fork;
 * waiting for job_lock is safe, because no thread holds it for long. */
static void before_fork(void)
{
    pthread_mutex_lock(&pool.threads_lock);
    stop_workers();
    pthread_mutex_lock(&pool.job_lock);
}

static void after_fork(void)
{
    pthread_mutex_unlock(&pool.job_lock);
    pthread_mutex_unlock(&pool.threads_lock);
}

/* The forking thread is the only thread in the child. If another thread owned the pool, its call no
 * longer exists here, and the pool becomes free. The condition variables start anew: no thread of
 * the child waits on them. */
static void after_fork_in_child(void)
{
    if (atomic_load(&pool.owner) != &thread_tag) {
        atomic_store(&pool.owner, NULL);
    }
    pthread_cond_init(&pool.wake, NULL);
    pthread_cond_init(&pool.done, NULL);
    after_fork();
}

/* No exit handler is needed: sleeping workers hold no resources and end with the process. */
static void register_fork_handlers(void)
{
    pthread_atfork(before_fork, after_fork, after_fork_in_child);
}

#endif

/* Starts workers and lets them join the job. Only the owner calls it. */
static void recruit_workers(void)
{
#if !defined(_WIN32)
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, register_fork_handlers);
#endif
    pthread_mutex_lock(&pool.threads_lock);
    if (pool.started < pool.helpers) {
        start_workers(pool.helpers);
        pool.spins = pool.started < cpu_count_available();
    }
    const int helpers = pool.started < pool.helpers ? pool.started : pool.helpers;
    lock_job();
    atomic_store(&pool.interrupted, false);
    pool.joined = 0;
    pool.vacancies = helpers;
    for (int i = 0; i < helpers; i++) {
        pthread_cond_signal(&pool.wake);
    }
    pthread_mutex_unlock(&pool.job_lock);
    pthread_mutex_unlock(&pool.threads_lock);
}

static void run_serially(size_t tasks, pool_task task, void *context, struct cancel_token *token)
{
    const struct cancel_scope before = cancel_enter(token, 0);
    for (size_t i = 0; i < tasks && !cancel_poll(token, 0); i++) {
        task(context, i, 0);
    }
    cancel_leave(before);
}

/* Waits until the workers are done. With a token that is not stopped yet, waits for at most
 * POLL_INTERVAL and then polls the token. job_lock must be held. */
static void wait_for_workers(struct cancel_token *token)
{
    struct timespec until;
    if (token == NULL || cancel_requested(token)) {
        pthread_cond_wait(&pool.done, &pool.job_lock);
        return;
    }
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_nsec += POLL_INTERVAL;
    until.tv_sec += until.tv_nsec / 1000000000;
    until.tv_nsec %= 1000000000;
    pthread_cond_timedwait(&pool.done, &pool.job_lock, &until);
    pthread_mutex_unlock(&pool.job_lock); /* on_poll may take long */
    cancel_poll(token, 0);
    pthread_mutex_lock(&pool.job_lock);
}

void pool_run(size_t tasks, int workers, pool_task task, void *context, struct cancel_token *token)
{
    const int max_threads = pool_get_threads();
    workers = workers < max_threads ? workers : max_threads;
    workers = (size_t)workers < tasks ? workers : (int)tasks;
    const char *no_owner = NULL;
    /* The pool is busy if another thread owns it, or if this call comes from one of its tasks. */
    if (workers <= 1 || !atomic_compare_exchange_strong(&pool.owner, &no_owner, &thread_tag)) {
        run_serially(tasks, task, context, token);
        return;
    }
    pool.task = task;
    pool.context = context;
    pool.token = token;
    pool.helpers = workers - 1;
    pool.tasks = tasks;
    atomic_store(&pool.next, 0);
    recruit_workers();

    run_tasks(0);

    lock_job();
    pool.vacancies = 0; /* no task is left for workers that have not woken yet */
    if (pool.spins && has_workers()) {
        spin_while(has_workers);
    }
    while (pool.working > 0) {
        wait_for_workers(token);
    }
    pthread_mutex_unlock(&pool.job_lock);
    atomic_store(&pool.owner, NULL);
}

int pool_run_in_arena(struct arena *arena, size_t tasks, int workers, pool_task task, void *context,
                      struct cancel_token *token)
{
    if (arena->block == NULL) {
        return -1;
    }
    pool_run(tasks, workers, task, context, token);
    scratch_free(arena->block);
    return 0;
}

void pool_stop(void)
{
    pthread_mutex_lock(&pool.threads_lock);
    stop_workers();
    pthread_mutex_unlock(&pool.threads_lock);
}

int thread_count_for(size_t outputs, size_t depth, enum grain_size grain)
{
    const size_t max_threads = (size_t)pool_get_threads(),
                 grains = size_product_or_max(outputs, depth) / (size_t)grain;
    return (int)larger(smaller(grains, max_threads), 1);
}
