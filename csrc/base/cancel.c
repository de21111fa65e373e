#include "base/cancel.h"

#include <time.h>

/* The pool polls before every task, and a task can be as short as 0.1 us. The coarse clock takes
 * only a few nanoseconds to read. Its precision of a few milliseconds is enough for POLL_INTERVAL.
 */
#ifdef CLOCK_MONOTONIC_COARSE
#define POLL_CLOCK CLOCK_MONOTONIC_COARSE
#else
#define POLL_CLOCK CLOCK_MONOTONIC
#endif

/* The token and the worker number of the tasks that this thread runs. */
static _Thread_local struct cancel_scope scope;

static uint64_t now(void)
{
    struct timespec t;
    clock_gettime(POLL_CLOCK, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

void cancel_start(struct cancel_token *token)
{
    token->last_poll = now();
}

bool cancel_poll(struct cancel_token *token, size_t worker)
{
    if (token == NULL) {
        return false;
    }
    if (cancel_requested(token)) {
        return true;
    }
    const uint64_t time = worker == 0 ? now() : 0;
    if (worker == 0 && time - token->last_poll >= POLL_INTERVAL) {
        const struct cancel_scope before = scope;
        scope.token = NULL; /* on_poll may run Python code that calls the library again */
        if (!token->on_poll(token)) {
            atomic_store_explicit(&token->stopped, true, memory_order_relaxed);
        }
        scope = before;
        token->last_poll = now();
    }
    return cancel_requested(token);
}

bool cancel_poll_here(void)
{
    return cancel_poll(scope.token, scope.worker);
}

struct cancel_scope cancel_enter(struct cancel_token *token, size_t worker)
{
    const struct cancel_scope before = scope;
    if (token != NULL) {
        scope = (struct cancel_scope){token, worker};
    }
    return before;
}

void cancel_leave(struct cancel_scope before)
{
    scope = before;
}
