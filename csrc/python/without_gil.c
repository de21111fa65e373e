#include "python/without_gil.h"

#include <pthread.h>
#include <unistd.h>

#include "arguments/messages.h"
#include "arguments/protocols.h"
#include "base/scratch.h"

static int call_report(struct without_gil *w)
{
    if (w->report == NULL || w->report == Py_None) {
        return 0;
    }
    const size_t most = PY_SSIZE_T_MAX, done = smaller(atomic_load(&w->token.done), most),
                 total = smaller(w->total, most);
    OWNED PyObject *result =
        PyObject_CallFunction(w->report, "nn", (Py_ssize_t)done, (Py_ssize_t)total);
    return result == NULL ? -1 : 0;
}

/*
 * Before CPython 3.14, pthread_exit ends a thread that requests the GIL while the interpreter shuts
 * down. The pool's workers would then run tasks of a call whose stack is gone. So the thread runs
 * this function instead: it waits for the end of the process, as in 3.14.
 */
static void wait_for_exit(void *unused)
{
    (void)unused;
    for (;;) {
        sleep(60);
    }
}

/* The token's on_poll: runs signal handlers and reports progress. Returns false if either raises.
 */
static bool poll_python(struct cancel_token *token)
{
    struct without_gil *w = (struct without_gil *)token;
    bool go_on;
    pthread_cleanup_push(wait_for_exit, NULL);
    fp_mode_leave(w->mode);
    PyEval_RestoreThread(w->state);
    go_on = PyErr_CheckSignals() == 0 && call_report(w) == 0;
    w->state = PyEval_SaveThread();
    w->mode = fp_mode_enter(); /* the Python code may have changed the caller's mode */
    pthread_cleanup_pop(0);
    return go_on;
}

struct cancel_token *without_gil_begin(struct without_gil *w, PyObject *report, size_t total)
{
    *w = (struct without_gil){.token = {.on_poll = poll_python}, .report = report, .total = total};
    cancel_start(&w->token);
    w->state = PyEval_SaveThread();
    w->mode = fp_mode_enter();
    return &w->token;
}

struct cancel_token *without_gil_begin_sized(struct without_gil *w, size_t multiplications,
                                             PyObject *report, size_t total)
{
    if (multiplications >= GIL_RELEASE_MIN) {
        return without_gil_begin(w, report, total);
    }
    w->state = NULL;
    w->mode = fp_mode_enter();
    return NULL;
}

int without_gil_end(struct without_gil *w)
{
    fp_mode_leave(w->mode);
    if (w->state == NULL) {
        return 0;
    }
    PyEval_RestoreThread(w->state);
    if (cancel_requested(&w->token)) {
        return -1;
    }
    return call_report(w);
}

int without_gil_finish(struct without_gil *w, int status)
{
    if (without_gil_end(w) < 0) {
        return -1;
    }
    if (status < 0) {
        PyErr_SetString(PyExc_MemoryError, NO_MEMORY_FOR_CALL);
    }
    return status;
}

int progress_open(const char *function, PyObject *progress, PyObject **report, PyObject **context)
{
    *report = *context = NULL;
    if (progress == NULL || progress == Py_None) {
        return 0;
    }
    OWNED PyObject *module = PyImport_ImportModule("cossim._progress");
    *context =
        module == NULL ? NULL : PyObject_CallMethod(module, "reporting", "Os", progress, function);
    *report = *context == NULL ? NULL : PyObject_CallMethod(*context, "__enter__", NULL);
    if (*report == NULL) {
        Py_CLEAR(*context);
        return -1;
    }
    return 0;
}

int progress_close(PyObject *report, PyObject *context)
{
    PyObject *type, *value, *traceback;
    if (context == NULL) {
        return PyErr_Occurred() ? -1 : 0;
    }
    PyErr_Fetch(&type, &value, &traceback);
    PyErr_NormalizeException(&type, &value, &traceback);
    PyObject *result = PyObject_CallMethod(
        context, "__exit__", "OOO", type == NULL ? Py_None : type, value == NULL ? Py_None : value,
        traceback == NULL ? Py_None : traceback);
    const int status = result == NULL || type != NULL ? -1 : 0;
    if (type != NULL) { /* the error of the call takes precedence */
        PyErr_Restore(type, value, traceback);
    }
    release(result);
    release(report);
    release(context);
    return status;
}
