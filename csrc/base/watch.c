#include "base/watch.h"

#include <time.h>

/* A clock of some milliseconds will do, and costs a few nanoseconds: tasks can be as short as a tenth of a microsecond. */
#ifdef CLOCK_MONOTONIC_COARSE
#define WATCH_CLOCK CLOCK_MONOTONIC_COARSE
#else
#define WATCH_CLOCK CLOCK_MONOTONIC
#endif

static _Thread_local struct watch_place here;

static uint64_t now(void)
{
    struct timespec t;
    clock_gettime(WATCH_CLOCK, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

void watch_start(struct watch *watch)
{
    watch->asked = now();
}

bool watch_step(struct watch *watch, size_t worker)
{
    if (watch == NULL || watch_stopped(watch)) {
        return watch != NULL;
    }
    const uint64_t time = worker == 0 ? now() : 0;
    if (worker == 0 && time - watch->asked >= WATCH_INTERVAL) {
        const struct watch_place before = here;
        here.watch = NULL; /* what is asked may make calls of its own */
        if (!watch->ask(watch)) {
            atomic_store_explicit(&watch->stopped, true, memory_order_relaxed);
        }
        here = before;
        watch->asked = now();
    }
    return watch_stopped(watch);
}

bool watch_look(void)
{
    return watch_step(here.watch, here.worker);
}

struct watch_place watch_enter(struct watch *watch, size_t worker)
{
    const struct watch_place before = here;
    if (watch != NULL) {
        here = (struct watch_place){watch, worker};
    }
    return before;
}

void watch_leave(struct watch_place before)
{
    here = before;
}
