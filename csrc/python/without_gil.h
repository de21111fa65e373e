#ifndef COSSIM_PYTHON_WITHOUT_GIL_H
#define COSSIM_PYTHON_WITHOUT_GIL_H

#include "python/numpy.h"

#include "base/fp_mode.h"
#include "base/cancel.h"

/*
 * A long call without the GIL, which is taken back now and then: for signals, so that Ctrl-C stops
 * it, and to say how far it is. It runs in the fixed floating-point mode (base/fp_mode.h); the
 * Python code that it calls runs in the caller's.
 *
 *     struct watched watched;
 *     without_gil_begin(&watched, report, total);
 *     ... the call, with &watched.watch ...
 *     if (without_gil_end(&watched) < 0) ... an exception is set, what the call left is incomplete
 * ...
 */
struct without_gil {
    struct cancel_token token; /* first, so that a watch is one */
    PyThreadState *state;
    fp_mode mode;     /* the caller's */
    PyObject *report; /* called with how much is done and the total; or NULL, None */
    size_t total;     /* or SIZE_MAX, where it is more */
};

void without_gil_begin(struct without_gil *released, PyObject *report, size_t total);
int without_gil_end(struct without_gil *released);

/* The number of pairs i <= j of so many rows, or SIZE_MAX: a total. */
size_t pairs_of_rows(size_t rows);

/* What progress=... of a public function means, by cossim._progress: *report to hand on, *context
 * to close. -1 with an error set. */
int progress_open(const char *function, PyObject *progress, PyObject **report, PyObject **context);
/* Keeps the error that is set, if one is. */
void progress_close(PyObject *report, PyObject *context);

#endif
