#pragma once

#include "arguments/numpy.h"

#include "base/fp_mode.h"
#include "base/cancel.h"

/*
 * Runs a long call without the GIL. Every POLL_INTERVAL the calling thread takes the GIL back, runs
 * signal handlers and reports progress, so Ctrl-C stops the call. The call runs in the fixed
 * floating-point mode (base/fp_mode.h). Python code that runs inside the call has the caller's
 * mode.
 *
 *     struct without_gil released;
 *     call.token = without_gil_begin(&released, report, total);
 *     if (without_gil_finish(&released, run(&call)) < 0) {
 *         ... an exception is set and the results are incomplete ...
 *     }
 */
struct without_gil {
    struct cancel_token token; /* first, so that on_poll can cast it to struct without_gil */
    PyThreadState *state;      /* NULL: the call keeps the GIL */
    fp_mode mode;              /* the caller's */
    PyObject *report;          /* a function called with progress and total; or None or NULL */
    size_t total;              /* SIZE_MAX on overflow */
};

/* Calls with fewer multiplications keep the GIL, because releasing it would cost more than the
 * call. */
enum { GIL_RELEASE_MIN = 1 << 14 };

/* Returns the token of the call. report may be NULL or None. */
struct cancel_token *without_gil_begin(struct without_gil *released, PyObject *report,
                                       size_t total);

/* without_gil_begin for a call that can be small enough to keep the GIL. Returns NULL in that case,
 * and the call neither polls nor reports. */
struct cancel_token *without_gil_begin_sized(struct without_gil *released, size_t multiplications,
                                             PyObject *report, size_t total);

/* Takes the GIL back and reports the last progress. Returns 0, or -1 with an exception set. */
int without_gil_end(struct without_gil *released);

/* Ends a call like without_gil_end. A status of -1 means that memory ran out: sets MemoryError. */
int without_gil_finish(struct without_gil *released, int status);

/* Opens the display that cossim._progress makes for the argument progress of a public function.
 * Sets *report for without_gil_begin and *context for progress_close. Both are NULL if there is no
 * progress to show. Returns 0, or -1 with an error set. */
int progress_open(const char *function, PyObject *progress, PyObject **report, PyObject **context);

/* Closes the display. An error that is set stays set. Returns 0, or -1 with an error set: the one
 * that was set, or that of the display, which can be Ctrl-C. */
int progress_close(PyObject *report, PyObject *context);
