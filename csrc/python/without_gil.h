#ifndef COSSIM_PYTHON_WITHOUT_GIL_H
#define COSSIM_PYTHON_WITHOUT_GIL_H

#include "python/numpy.h"

#include "base/fp_mode.h"
#include "base/cancel.h"

/*
 * Runs a long call without the GIL. Takes the GIL back every POLL_INTERVAL, to run signal handlers,
 * so that Ctrl-C stops the call, and to report progress. The call runs in the
 * fixed floating-point mode (base/fp_mode.h), and the Python code that it calls in the caller's.
 *
 *     struct without_gil released;
 *     without_gil_begin(&released, report, total);
 *     ... the call, with &released.token ...
 *     if (without_gil_end(&released) < 0) {
 *         ... an exception is set and the results are incomplete ...
 *     }
 */
struct without_gil {
    struct cancel_token token; /* first, so that on_poll can cast it to struct without_gil */
    PyThreadState *state;
    fp_mode mode;     /* the caller's */
    PyObject *report; /* called with the progress and the total; or NULL or None */
    size_t total;     /* SIZE_MAX on overflow */
};

/* report may be NULL or None. */
void without_gil_begin(struct without_gil *released, PyObject *report, size_t total);

/* Takes the GIL back and reports the last progress. 0, or -1 with an exception set. */
int without_gil_end(struct without_gil *released);

/* The number of pairs i <= j among `rows` rows, or SIZE_MAX on overflow. */
size_t pairs_of_rows(size_t rows);

/* Opens the progress display that the argument progress=... of a public function selects, by
 * cossim._progress. Sets *report for without_gil_begin and *context for progress_close; both are
 * NULL without progress. 0, or -1 with an error set. */
int progress_open(const char *function, PyObject *progress, PyObject **report, PyObject **context);

/* Closes the display. Keeps the error that is set, if any. */
void progress_close(PyObject *report, PyObject *context);

#endif
