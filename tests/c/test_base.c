/* Checks csrc/base: memory, processor features, floating-point mode, the rule of eps, and the
 * thread pool: nested, concurrent, cancelled, stopped and forked. */
#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

#if !defined(_WIN32)
#include <sys/wait.h>
#endif

#include "base/cpu.h"
#include "base/eps.h"
#include "base/fp_mode.h"
#include "base/pool.h"
#include "base/kept.h"
#include "base/scratch.h"
#include "check.h"

enum { MOST = 1000 };

struct job {
    _Atomic int runs[MOST];
    _Atomic int on_worker[8];
    _Atomic int clashes;
    size_t nested;
};

static void count(void *context, size_t task, size_t worker)
{
    struct job *job = context;
    if (worker >= 8 || atomic_fetch_add(&job->on_worker[worker], 1) != 0) {
        atomic_fetch_add(&job->clashes, 1); /* two tasks run on one worker at the same time */
    }
    atomic_fetch_add(&job->runs[task], 1);
    if (job->nested > 0) {
        struct job inner = {.nested = 0};
        pool_run(job->nested, 4, count, &inner, NULL);
        for (size_t i = 0; i < job->nested; i++) {
            if (atomic_load(&inner.runs[i]) != 1) {
                atomic_fetch_add(&job->clashes, 1);
            }
        }
    }
    atomic_fetch_sub(&job->on_worker[worker], 1);
}

static int every_task_once(size_t tasks, int workers, size_t nested)
{
    struct job job = {.nested = nested};
    pool_run(tasks, workers, count, &job, NULL);
    for (size_t i = 0; i < MOST; i++) {
        if (atomic_load(&job.runs[i]) != (i < tasks)) {
            return 0;
        }
    }
    return atomic_load(&job.clashes) == 0;
}

static void check_pool(void)
{
    static const size_t tasks[] = {0, 1, 2, 3, 7, 100, MOST};
    for (int threads = 1; threads <= 8; threads++) {
        pool_set_threads(threads);
        CHECK(pool_get_threads() == threads, "%d", threads);
        for (size_t i = 0; i < sizeof tasks / sizeof *tasks; i++) {
            for (int workers = 0; workers <= 9; workers++) {
                CHECK(every_task_once(tasks[i], workers, 0), "%zu tasks, %d workers, %d threads",
                      tasks[i], workers, threads);
            }
        }
    }
    CHECK(every_task_once(20, 4, 30), "nested");
    pool_set_threads(0);
    CHECK(pool_get_threads() == 1, "at least one");
    pool_set_threads(4);
    pool_stop();
    CHECK(every_task_once(100, 4, 0), "after a stop");
}

static void *end_block(void *block)
{
    pool_block_end(block);
    return (void *)(intptr_t)pool_get_threads();
}

/* Ends a block in another thread. Returns the number of threads that then applies in that thread.
 */
static int ended_elsewhere(struct pool_block *block)
{
    pthread_t thread;
    void *seen = NULL;
    pthread_create(&thread, NULL, end_block, block);
    pthread_join(thread, &seen);
    return (int)(intptr_t)seen;
}

static void check_blocks(void)
{
    const size_t live = scratch_live();
    pool_set_threads(2);
    struct pool_block *a = pool_block_begin(3), *b = pool_block_begin(4),
                      *c = pool_block_begin(100000);
    CHECK(pool_get_threads() == 257, "%d: as many as there is room for", pool_get_threads());
    CHECK(ended_elsewhere(c) == 2 && pool_get_threads() == 4, "ended by another thread");
    pool_block_end(a);
    pool_block_end(a);
    CHECK(pool_get_threads() == 4, "the outer block ended first");
    pool_set_threads(5);
    CHECK(pool_get_threads() == 5 && every_task_once(100, 5, 0), "the number of a block changes");
    pool_block_free(b);
    CHECK(pool_get_threads() == 2, "%d: the process's number is as it was", pool_get_threads());
    pool_block_free(c);
    pool_block_free(a);
    CHECK(scratch_live() == live, "blocks are freed");
    pool_set_threads(4);
}

static bool keep_running(struct cancel_token *token)
{
    (void)token;
    return true;
}

static bool request_stop(struct cancel_token *token)
{
    (void)token;
    return false;
}

static void wait_a_little(void *context, size_t task, size_t worker)
{
    (void)task;
    (void)worker;
    usleep(1000);
    atomic_fetch_add((_Atomic int *)context, 1);
}

enum { MOST_POLLS = 5000 };

/* A long task. Its context counts the polls. */
static void poll_for_long(void *context, size_t task, size_t worker)
{
    (void)task;
    (void)worker;
    for (int i = 0; i < MOST_POLLS && !cancel_poll_here(); i++) {
        usleep(1000);
        atomic_fetch_add((_Atomic int *)context, 1);
    }
}

static void poll_in_inner_call(void *context, size_t task, size_t worker)
{
    (void)task;
    (void)worker;
    pool_run(2, 1, poll_for_long, context, NULL); /* the inner call passes no token */
}

/* A task can poll while it runs: on the calling thread, on workers, and from an inner call. */
static void check_polls(void)
{
    for (int workers = 1; workers <= 4; workers += 3) {
        for (int inside = 0; inside < 2; inside++) {
            struct cancel_token strict = {.on_poll = request_stop};
            _Atomic int polls = 0;
            cancel_start(&strict);
            pool_run(4, workers, inside ? poll_in_inner_call : poll_for_long, &polls, &strict);
            CHECK(cancel_requested(&strict) && atomic_load(&polls) > 0 &&
                      atomic_load(&polls) < MOST_POLLS,
                  "%d polls", atomic_load(&polls));
            CHECK(!cancel_poll_here(), "there is no token after a call");
        }
    }
}

/* A call that is not cancelled runs all tasks. A cancelled call skips the tasks that have not
 * begun, on every worker. */
static void check_cancellation(void)
{
    enum { MANY = 500 };
    CHECK(!cancel_poll(NULL, 0) && !cancel_requested(NULL), "no token");
    progress_add(NULL, 1);
    for (int workers = 1; workers <= 4; workers += 3) {
        struct cancel_token patient = {.on_poll = keep_running}, strict = {.on_poll = request_stop};
        _Atomic int done = 0;
        cancel_start(&patient);
        pool_run(MANY / 5, workers, wait_a_little, &done, &patient);
        CHECK(atomic_load(&done) == MANY / 5 && !cancel_requested(&patient), "%d tasks",
              atomic_load(&done));
        atomic_store(&done, 0);
        cancel_start(&strict);
        pool_run(MANY, workers, wait_a_little, &done, &strict);
        CHECK(atomic_load(&done) > 0 && atomic_load(&done) < MANY && cancel_requested(&strict),
              "%d of %d tasks", atomic_load(&done), MANY);
        CHECK(cancel_poll(&strict, 1), "stopped for everyone");
        progress_add(&patient, 5);
        CHECK(atomic_load(&patient.done) == 5, "done");
    }
    CHECK(every_task_once(100, 4, 0), "after one that was stopped");
}

static void *hammer(void *failures)
{
    for (int i = 0; i < 200; i++) {
        if (!every_task_once(50, 4, 0)) {
            atomic_fetch_add((_Atomic int *)failures, 1);
        }
    }
    return NULL;
}

static void check_concurrent_callers(void)
{
    pthread_t threads[6];
    _Atomic int failures = 0;
    for (int i = 0; i < 6; i++) {
        CHECK(pthread_create(&threads[i], NULL, hammer, &failures) == 0, "no thread");
    }
    for (int i = 0; i < 6; i++) {
        pthread_join(threads[i], NULL);
    }
    CHECK(atomic_load(&failures) == 0, "%d failures", atomic_load(&failures));
}

static void *stop_pool_often(void *over)
{
    while (!atomic_load((_Atomic int *)over)) {
        pool_stop();
    }
    return NULL;
}

/* pool_stop() ends the workers in the middle of jobs; the callers finish these jobs. */
static void check_stops(void)
{
    pthread_t thread;
    _Atomic int over = 0, failures = 0;
    CHECK(pthread_create(&thread, NULL, stop_pool_often, &over) == 0, "no thread");
    hammer(&failures);
    atomic_store(&over, 1);
    pthread_join(thread, NULL);
    CHECK(atomic_load(&failures) == 0, "%d failures", atomic_load(&failures));
}

/* The thread sanitizer's runtime and the emulators of qemu-user do not support forks of processes
 * with threads; Windows has no fork. */
#if !defined(__SANITIZE_THREAD__) && !defined(EMULATED) && !defined(_WIN32)
/* Forks while other threads use the pool. The child has none of those threads, and its pool must
 * work. */
static void check_forks(void)
{
    pthread_t threads[2];
    _Atomic int failures = 0;
    for (int i = 0; i < 2; i++) {
        CHECK(pthread_create(&threads[i], NULL, hammer, &failures) == 0, "no thread");
    }
    for (int i = 0; i < 20; i++) {
        pid_t child = fork();
        if (child == 0) {
            alarm(20);
            _exit(every_task_once(100, 4, 0) && every_task_once(100, 2, 3) ? 0 : 1);
        }
        int status = -1;
        CHECK(child > 0 && waitpid(child, &status, 0) == child && status == 0,
              "child ended with %d", status);
        CHECK(every_task_once(100, 4, 0), "parent after fork");
    }
    for (int i = 0; i < 2; i++) {
        pthread_join(threads[i], NULL);
    }
    CHECK(atomic_load(&failures) == 0, "%d failures", atomic_load(&failures));
}

static pthread_mutex_t held = PTHREAD_MUTEX_INITIALIZER;

static bool wait_for_held(struct cancel_token *token)
{
    (void)token;
    pthread_mutex_lock(&held);
    pthread_mutex_unlock(&held);
    return true;
}

static void *call_that_polls(void *done)
{
    struct cancel_token token = {.on_poll = wait_for_held};
    cancel_start(&token);
    pool_run(200, 4, wait_a_little, done, &token);
    return NULL;
}

/* Forks while holding a lock that a call in another thread waits for, as happens with the GIL. */
static void check_fork_does_not_wait_for_a_call(void)
{
    pthread_t thread;
    _Atomic int done = 0;
    int status = -1;
    pthread_mutex_lock(&held);
    CHECK(pthread_create(&thread, NULL, call_that_polls, &done) == 0, "no thread");
    usleep(3 * POLL_INTERVAL / 1000); /* time for the call to poll, and so to wait for the lock */
    alarm(60);
    pid_t child = fork();
    if (child == 0) {
        alarm(20);
        _exit(every_task_once(100, 4, 0) ? 0 : 1);
    }
    CHECK(child > 0 && waitpid(child, &status, 0) == child && status == 0, "child ended with %d",
          status);
    pthread_mutex_unlock(&held);
    pthread_join(thread, NULL);
    alarm(0);
    CHECK(atomic_load(&done) == 200, "%d tasks", atomic_load(&done));
}

struct forking {
    struct cancel_token token;
    pid_t child;
    _Atomic int done;
};

static bool fork_once(struct cancel_token *token)
{
    struct forking *forking = (struct forking *)token;
    if (forking->child < 0) {
        forking->child = fork();
    }
    return true;
}

/* Forks in the middle of a call, on the calling thread. Parent and child both finish the call, and
 * run each task once. */
static void check_fork_from_a_call(void)
{
    struct forking forking = {{.on_poll = fork_once}, -1, 0};
    int status = -1;
    alarm(60);
    cancel_start(&forking.token);
    pool_run(300, 4, wait_a_little, &forking.done, &forking.token);
    if (forking.child == 0) {
        _exit(atomic_load(&forking.done) == 300 && every_task_once(100, 4, 0) ? 0 : 1);
    }
    CHECK(forking.child > 0 && waitpid(forking.child, &status, 0) == forking.child && status == 0,
          "child ended with %d", status);
    CHECK(atomic_load(&forking.done) == 300, "%d tasks", atomic_load(&forking.done));
    alarm(0);
    CHECK(every_task_once(100, 4, 0), "parent after fork");
}
#endif

/* A norm equal to eps is not clamped, and neither is NaN. No norm whose square reaches
 * eps_unclamped_square(eps, error) may be clamped, even if the square is off by that error. */
static void check_eps(void)
{
    CHECK(eps_clamp(1.0, 2.0) == 2.0 && eps_clamp(2.0, 2.0) == 2.0 && eps_clamp(3.0, 2.0) == 3.0,
          "the larger of norm and eps");
    CHECK(eps_clamps(1.0, 2.0) && !eps_clamps(2.0, 2.0), "a norm of eps stays");
    CHECK(isnan(eps_clamp(NAN, 2.0)) && !eps_clamps(NAN, 2.0), "NaN stays");
    CHECK(eps_scaled(3.0, 0) == 3.0 && eps_scaled(3.0, 2) == 0.75, "scaled with the row");
    CHECK(!(0.0 >= eps_unclamped_square(0.0, EPS_ERROR_OF_DOUBLES)), "a zero row may be clamped");
    for (int i = 0; i < 10000; i++) {
        const double eps = ldexp(1.5 + random_number() / 2, i % 400 - 200);
        const double bound = eps_unclamped_square(eps, 0.001);
        CHECK(!eps_clamps(sqrt(bound / 1.0005), eps), "eps %g", eps);
        CHECK(!eps_clamps(sqrt(eps_unclamped_square(eps, EPS_ERROR_OF_DOUBLES)), eps), "%g", eps);
    }
}

static void check_kept_blocks(void)
{
    const enum kept_slot slot = KEPT_TAPE;
    char *block = kept_alloc(slot, 1000);
    CHECK(block != NULL && (uintptr_t)block % SCRATCH_ALIGN == 0 && scratch_live() == 1, "kept");
    memset(block, 1, 1000);
    kept_free(slot, block);
    CHECK(scratch_live() == 0, "a kept block is not in use");
    CHECK(kept_alloc(slot, 501) == block && scratch_live() == 1, "it fits");
    char *other = kept_alloc(slot, 100);
    CHECK(other != NULL && other != block && scratch_live() == 2, "a slot has one block");
    kept_free(slot, block);
    kept_free(slot, other); /* replaces it */
    block = kept_alloc(slot, 101);
    CHECK(block != NULL, "too small");
    memset(block, 1, 101);
    kept_free(slot, block);
    scratch_fail_after(1);
    CHECK(kept_alloc(slot, 101) == NULL && scratch_live() == 0, "it fails on request");
    CHECK(kept_alloc(slot, SIZE_MAX) == NULL && scratch_live() == 0, "absurd size");
    block = kept_alloc(slot, KEPT_BYTES + 1);
    kept_free(slot, block);
    kept_free(slot, NULL);
    block = kept_alloc(slot, 1 << 20);
    CHECK(block != NULL && kept_size(block) == 1 << 20, "its size");
    scratch_use_huge_pages(block, 1 << 20);
    memset(block, 1, 1 << 20);
    scratch_let_go(block, 1 << 20);
    CHECK(block[1 << 19] == 0 || block[1 << 19] == 1, "let go, a page has its bytes or zeros");
    kept_free(slot, block);
    CHECK(kept_alloc(slot, 1 << 19) == block && kept_size(block) == 1 << 20, "it is larger");
    memset(block, 7, 1 << 20);
    kept_free(slot, block);
    CHECK(kept_take(slot) == block && block[0] == 7 && scratch_live() == 1, "with its contents");
    CHECK(kept_take(slot) == NULL, "taken once");
    kept_drop(block);
    kept_drop(NULL);
    CHECK(scratch_live() == 0, "%zu blocks left", scratch_live());
}

static void check_scratch(void)
{
    static const size_t sizes[] = {0, 1, 63, 64, 65, 100000};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        char *block = scratch_alloc(sizes[i]);
        CHECK(block != NULL && (uintptr_t)block % SCRATCH_ALIGN == 0, "%zu bytes", sizes[i]);
        memset(block, 1, sizes[i]);
        scratch_free(block);
    }
    CHECK(scratch_alloc(SIZE_MAX) == NULL && scratch_alloc(SIZE_MAX / 2) == NULL, "absurd sizes");
    CHECK(scratch_round(1) == 64 && scratch_round(64) == 64 && scratch_round(0) == 0, "rounding");
    size_t product;
    CHECK(size_mul(3, 5, &product) && product == 15 && !size_mul(SIZE_MAX, 2, &product), "product");
    scratch_free(NULL);
    CHECK(scratch_live() == 0, "%zu blocks left", scratch_live());
    void *blocks[3];
    CHECK(scratch_fail_after(2) == 0, "no failure was set");
    for (int i = 0; i < 3; i++) {
        blocks[i] = scratch_alloc(100);
    }
    CHECK(blocks[0] != NULL && blocks[1] == NULL && blocks[2] != NULL && scratch_live() == 2,
          "the second of three fails");
    CHECK(scratch_fail_after(5) == 0, "it failed");
    scratch_free(blocks[0]);
    scratch_free(blocks[1]);
    scratch_free(scratch_alloc(1));
    scratch_free(blocks[2]);
    CHECK(scratch_fail_after(0) == 4 && scratch_live() == 0, "four of five are left");
}

#if defined(FP_MODE_FIXED)

/* Values of the control register. Together they change every bit that a caller may have changed. */
#if defined(__x86_64__)
static const fp_mode modes[] = {0x1f80, 0x9f80, 0x1fc0, 0x9fc0, 0x3f80,
                                0x5f80, 0x7f80, 0x0000, 0xe040, 0x0980};
#else
static const fp_mode modes[] = {0, 1u << 24, 1u << 22, 2u << 22, 3u << 22, 7u << 22, 1u << 25};
#endif

struct seen {
    _Atomic int wrong;
};

static void check_worker_mode(void *context, size_t task, size_t worker)
{
    struct seen *seen = context;
    (void)task;
    usleep(1000);
    if (worker > 0 && !fp_mode_is_fixed()) {
        atomic_fetch_add(&seen->wrong, 1);
    }
}

/* True if arithmetic runs in the fixed mode. Rounding 1 + 2^-30 to float shows the rounding
 * direction. Half of the smallest normal float and a subnormal factor show flushing to zero. */
static bool calculates_as_fixed(void)
{
    volatile double above = 1.0 + 0x1p-30, below = -1.0 - 0x1p-30;
    volatile float least = 0x1p-126f, subnormal = 0x1p-130f;
    return (float)above == 1.0f && (float)below == -1.0f && least * 0.5f > 0.0f &&
           subnormal * 0x1p10f == 0x1p-120f;
}

static void check_mode(void)
{
    CHECK(fp_mode_is_fixed() && calculates_as_fixed(), "a process begins in the fixed mode");
    for (size_t i = 0; i < sizeof modes / sizeof *modes; i++) {
        struct seen seen = {0};
        fp_mode_write(modes[i]);
        const fp_mode before = fp_mode_read(), caller = fp_mode_enter();
        const bool inside = fp_mode_is_fixed() && calculates_as_fixed();
        fp_mode_leave(caller);
        const fp_mode after = fp_mode_read();
        pool_stop(); /* new workers start in this mode */
        pool_run(20, 4, check_worker_mode, &seen, NULL);
        const fp_mode last = fp_mode_read();
        fp_mode_write(modes[0]);
        CHECK(inside, "mode %zu: not the fixed one", i);
        CHECK(((after ^ before) & FP_MODE_CONTROL) == 0 && ((last ^ before) & FP_MODE_CONTROL) == 0,
              "mode %zu: 0x%llx, 0x%llx, 0x%llx", i, (unsigned long long)before,
              (unsigned long long)after, (unsigned long long)last);
        CHECK(atomic_load(&seen.wrong) == 0, "mode %zu: workers in another one", i);
    }
    pool_stop();
}

#endif

int main(void)
{
#if !defined(_WIN32)
    alarm(120); /* turns a deadlock into a failure */
    CHECK(cpu_count_available() <= sysconf(_SC_NPROCESSORS_CONF), "%d CPUs", cpu_count_available());
#endif
    CHECK(cpu_count_available() >= 1, "%d CPUs", cpu_count_available());
    CHECK(cpu_features() == cpu_features(), "features");
    check_eps();
    check_scratch();
    check_kept_blocks();
    check_pool();
#if defined(FP_MODE_FIXED)
    check_mode();
#endif
    check_blocks();
    check_cancellation();
    check_polls();
    check_concurrent_callers();
    check_stops();
#if !defined(__SANITIZE_THREAD__) && !defined(EMULATED) && !defined(_WIN32)
    check_forks();
    check_fork_does_not_wait_for_a_call();
    check_fork_from_a_call();
#endif
    return finish("base");
}
