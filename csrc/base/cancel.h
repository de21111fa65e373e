#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * Cancels a long call and counts its progress. The caller sets `on_poll` and passes the token down
 * to every function that computes. A NULL token means a call that cannot be stopped. Once the
 * token is stopped, the remaining work is skipped and the results are incomplete; the caller
 * discards them.
 */
struct cancel_token {
    /* Runs on the calling thread only, once every POLL_INTERVAL. Returning false stops the call. */
    bool (*on_poll)(struct cancel_token *token);
    _Atomic size_t done; /* progress, in a unit that the caller chooses */
    _Atomic bool stopped;
    uint64_t last_poll; /* time of the last on_poll: nanoseconds of the monotonic clock */
};

/* The shortest time between two calls of on_poll, in nanoseconds. Ctrl-C must take effect within
 * 0.1 s. */
enum { POLL_INTERVAL = 30 * 1000 * 1000 };

/* Starts the interval: on_poll first runs one POLL_INTERVAL from now. */
void cancel_start(struct cancel_token *token);

static inline bool cancel_requested(struct cancel_token *token)
{
    return token != NULL && atomic_load_explicit(&token->stopped, memory_order_relaxed);
}

static inline void progress_add(struct cancel_token *token, size_t done)
{
    if (token != NULL) {
        atomic_fetch_add_explicit(&token->done, done, memory_order_relaxed);
    }
}

/* Polls the token: runs on_poll if POLL_INTERVAL has passed and this is worker 0, the calling
 * thread. Returns true when the call must end. Call it between steps of at most a few
 * milliseconds. */
bool cancel_poll(struct cancel_token *token, size_t worker);

/*
 * Polls the token of the task that this thread runs, from any depth inside the task. A single task
 * can be one long sum, so long loops poll too. Returns false if the task has no token. Returns true
 * when the call must end: the results are then discarded, so a loop may stop anywhere.
 */
bool cancel_poll_here(void);

/*
 * The token that cancel_poll_here polls on this thread, and the thread's worker number. The pool
 * calls cancel_enter before it runs tasks and cancel_leave after them. cancel_enter returns the
 * previous scope, for cancel_leave. A NULL token leaves the scope unchanged.
 */
struct cancel_scope {
    struct cancel_token *token;
    size_t worker;
};
struct cancel_scope cancel_enter(struct cancel_token *token, size_t worker);
void cancel_leave(struct cancel_scope before);
