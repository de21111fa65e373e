#include "base/pool.h"

#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <time.h>

#include "base/cpu.h"

enum {
    MAX_WORKERS = 256,
    STACK_BYTES = 1 << 20 /* tasks hold some 200 KB of blocks; musl's default of 128 KB would not do */
};

/*
 * One job at a time. `owner` is held by the call that uses the pool, for as long as it does; a call that cannot have it
 * runs serially. `lock` guards what follows it. A worker joins a job while `open` places are left, so a job for two
 * threads wakes one worker whatever the pool holds; the caller closes the job when tasks have run out, and waits for
 * those that joined.
 */
static struct {
    pthread_mutex_t owner;
    pthread_mutex_t lock;
    pthread_cond_t wake, done;
    pthread_t threads[MAX_WORKERS];
    int started; /* workers that run, beside the callers */
    bool stopping;
    int open;    /* workers that may still join the job */
    int joined;  /* workers that did, and thereby their worker numbers */
    int working; /* of those, the ones not done yet */
    pool_task task;
    void *context;
    struct watch *watch;
    size_t tasks;
    _Atomic size_t next;
} pool = {.owner = PTHREAD_MUTEX_INITIALIZER, .lock = PTHREAD_MUTEX_INITIALIZER, .wake = PTHREAD_COND_INITIALIZER, .done = PTHREAD_COND_INITIALIZER};

static _Atomic int limit; /* 0: not asked yet */
static pthread_once_t fork_handlers = PTHREAD_ONCE_INIT;

static int default_limit(void)
{
    const char *text = getenv("COSSIM_NUM_THREADS");
    long n = text == NULL ? 0 : strtol(text, NULL, 10);
    return n >= 1 && n <= INT_MAX ? (int)n : cpu_count_available();
}

int pool_get_threads(void)
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

int pool_most_workers(void)
{
    const int n = pool_get_threads();
    return n < MAX_WORKERS + 1 ? n : MAX_WORKERS + 1; /* the caller is one */
}

void pool_set_threads(int n)
{
    atomic_store(&limit, n < 1 ? 1 : n);
}

static void run_tasks(size_t worker)
{
    for (size_t task; !watch_step(pool.watch, worker) && (task = atomic_fetch_add_explicit(&pool.next, 1, memory_order_relaxed)) < pool.tasks;) {
        pool.task(pool.context, task, worker);
    }
}

static void *work(void *unused)
{
    (void)unused;
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

/* With `owner` held: ends and joins all workers. */
static void stop_workers(void)
{
    pthread_mutex_lock(&pool.lock);
    pool.stopping = true;
    pthread_cond_broadcast(&pool.wake);
    pthread_mutex_unlock(&pool.lock);
    for (int i = 0; i < pool.started; i++) {
        pthread_join(pool.threads[i], NULL);
    }
    pool.started = 0;
    pool.stopping = false;
}

/* Before fork the pool is emptied and held, so that parent and child both go on with one that has no threads. */
static void before_fork(void)
{
    pthread_mutex_lock(&pool.owner);
    stop_workers();
}

static void after_fork(void)
{
    pthread_mutex_unlock(&pool.owner);
}

/* Nothing is registered for exit: sleeping workers hold nothing, and the process takes them with it. */
static void register_fork_handlers(void)
{
    pthread_atfork(before_fork, after_fork, after_fork);
}

/* With `owner` held: sees to `wanted` workers, as far as the system gives them; returns how many there are. */
static int start_workers(int wanted)
{
    if (wanted > MAX_WORKERS) {
        wanted = MAX_WORKERS;
    }
    if (pool.started >= wanted) {
        return wanted;
    }
    pthread_once(&fork_handlers, register_fork_handlers);
    pthread_attr_t attributes;
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before); /* workers inherit the mask: signals are the program's own threads' */
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, STACK_BYTES);
    while (pool.started < wanted && pthread_create(&pool.threads[pool.started], &attributes, work, NULL) == 0) {
        pool.started++;
    }
    pthread_attr_destroy(&attributes);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return pool.started < wanted ? pool.started : wanted;
}

static void run_serially(size_t tasks, pool_task task, void *context, struct watch *watch)
{
    for (size_t i = 0; i < tasks && !watch_step(watch, 0); i++) {
        task(context, i, 0);
    }
}

/* With `lock` held: until the workers are done, or for so long that the watch should be asked again. */
static void wait_for_workers(struct watch *watch)
{
    struct timespec until;
    if (watch == NULL || watch_stopped(watch)) {
        pthread_cond_wait(&pool.done, &pool.lock);
        return;
    }
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_nsec += WATCH_INTERVAL;
    until.tv_sec += until.tv_nsec / 1000000000;
    until.tv_nsec %= 1000000000;
    pthread_cond_timedwait(&pool.done, &pool.lock, &until);
    pthread_mutex_unlock(&pool.lock); /* what is asked may take its time */
    watch_step(watch, 0);
    pthread_mutex_lock(&pool.lock);
}

void pool_run(size_t tasks, int workers, pool_task task, void *context, struct watch *watch)
{
    const int most = pool_get_threads();
    workers = workers < most ? workers : most;
    workers = (size_t)workers < tasks ? workers : (int)tasks;
    if (workers <= 1 || pthread_mutex_trylock(&pool.owner) != 0) { /* busy: with another thread's call, or with the one we are a task of */
        run_serially(tasks, task, context, watch);
        return;
    }
    const int helpers = start_workers(workers - 1);
    pthread_mutex_lock(&pool.lock);
    pool.task = task;
    pool.context = context;
    pool.watch = watch;
    pool.tasks = tasks;
    pool.joined = 0;
    pool.open = helpers;
    atomic_store(&pool.next, 0);
    for (int i = 0; i < helpers; i++) {
        pthread_cond_signal(&pool.wake);
    }
    pthread_mutex_unlock(&pool.lock);

    run_tasks(0);

    pthread_mutex_lock(&pool.lock);
    pool.open = 0; /* a worker that has not woken yet has nothing left to do */
    while (pool.working > 0) {
        wait_for_workers(watch);
    }
    pthread_mutex_unlock(&pool.lock);
    pthread_mutex_unlock(&pool.owner);
}

void pool_stop(void)
{
    pthread_mutex_lock(&pool.owner);
    stop_workers();
    pthread_mutex_unlock(&pool.owner);
}
