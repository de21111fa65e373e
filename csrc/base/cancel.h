#ifndef COSSIM_BASE_CANCEL_H
#define COSSIM_BASE_CANCEL_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * Watches over a long call: learns how far it is, and may stop it. Whoever calls sets `ask` and
 * `total`, and hands the watch to what it calls; NULL stands for a call that nobody watches. Once
 * stopped, the rest of the work is skipped and results are incomplete: the caller, who knows why,
 * throws them away.
 */
struct cancel_token {
    bool (*on_poll)(struct cancel_token *token); /* from the calling thread alone, every
                                                    POLL_INTERVAL; false stops the call */
    _Atomic size_t done;                         /* of total, in whatever the caller counts */
    _Atomic bool stopped;
    uint64_t last_poll; /* when, on the monotonic clock */
};

enum {
    POLL_INTERVAL = 30 * 1000 * 1000
}; /* nanoseconds: Ctrl-C is to act within a tenth of a second */

/* From now on: the first question comes an interval later. */
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

/* Between two steps of the work, each of a few milliseconds at the most: asks, if it is time to;
 * true when the call is to end. Worker 0 is the calling thread. */
bool cancel_poll(struct cancel_token *token, size_t worker);

/*
 * The same amid a task, however deep, for a task may be one long sum: a step for the watch of the
 * task that this thread is at, if it has one. When it is true, what is calculated does not matter
 * any more, so a loop may end wherever it is.
 */
bool cancel_poll_here(void);

/* By the pool, around the tasks that a thread runs: what it looks at from now on, unless watch is
 * NULL, and what it looked at before. */
struct cancel_scope {
    struct cancel_token *token;
    size_t worker;
};
struct cancel_scope cancel_enter(struct cancel_token *token, size_t worker);
void cancel_leave(struct cancel_scope before);

#endif
