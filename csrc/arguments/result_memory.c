/*
 * Memory of large results. The C library maps blocks of 32 MB or more anew each time, and the
 * system clears each new page: a fifth of the time of a product of 8-bit integers. So the memory of
 * the last large result that was freed is kept for the next one. The system may take its pages when
 * it needs memory.
 */
#include "arguments/result_memory.h"

#include <string.h>

#include "base/kept.h"
#include "base/scratch.h"

/* Results of at least this many bytes are large. glibc itself reuses the memory of smaller ones. */
enum { LARGE_BYTES = 32 << 20 };

/* The functions of a PyDataMem_Handler. An array keeps its handler, and calls it when it is freed
 * or resized. */

static void *result_malloc(void *Py_UNUSED(context), size_t bytes)
{
    void *block = kept_alloc(KEPT_RESULT, bytes);
    if (block != NULL) {
        scratch_use_huge_pages(block, bytes);
    }
    return block;
}

static void *result_calloc(void *context, size_t count, size_t size)
{
    const size_t bytes = size_product_or_max(count, size);
    void *block = result_malloc(context, bytes);
    return block == NULL ? NULL : memset(block, 0, bytes);
}

static void result_free(void *Py_UNUSED(context), void *block, size_t Py_UNUSED(bytes))
{
    if (block != NULL && kept_size(block) <= KEPT_RESULT_BYTES) {
        scratch_let_go(block, kept_size(block));
    }
    kept_free(KEPT_RESULT, block);
}

static void *result_realloc(void *context, void *block, size_t bytes)
{
    void *larger_block = result_malloc(context, bytes);
    if (larger_block != NULL && block != NULL) {
        memcpy(larger_block, block, smaller(bytes, kept_size(block)));
        result_free(context, block, 0);
    }
    return larger_block;
}

static PyObject *handler_capsule;

int result_memory_init(void)
{
    static PyDataMem_Handler handler = {
        "cossim_results",
        1,
        {NULL, result_malloc, result_calloc, result_realloc, result_free},
    };
    if (handler_capsule == NULL) {
        handler_capsule = PyCapsule_New(&handler, "mem_handler", NULL);
    }
    return handler_capsule == NULL ? -1 : 0;
}

/* True if NumPy's own functions allocate this thread's arrays. A user may have set other functions,
 * for example to count or to pin memory. Those then allocate all results. */
static bool has_default_handler(void)
{
    PyObject *handler = PyDataMem_GetHandler();
    const bool is_default = handler == PyDataMem_DefaultHandler;
    PyErr_Clear();
    Py_XDECREF(handler);
    return is_default;
}

PyArrayObject *new_result(PyArray_Descr *descr, int ndim, const npy_intp *shape)
{
    size_t bytes = descr == NULL ? 0 : (size_t)PyDataType_ELSIZE(descr);
    for (int i = 0; i < ndim; i++) {
        bytes = size_product_or_max(bytes, (size_t)shape[i]);
    }
    PyObject *before = NULL;
    if (descr == NULL) {
        return NULL;
    }
    if (bytes >= LARGE_BYTES && has_default_handler()) {
        before = PyDataMem_SetHandler(handler_capsule);
        if (before == NULL) {
            Py_DECREF(descr);
            return NULL;
        }
    }
    PyObject *array = PyArray_NewFromDescr(&PyArray_Type, descr, ndim, shape, NULL, NULL, 0, NULL);
    if (before != NULL) {
        PyObject *type, *value, *traceback; /* of NumPy's MemoryError */
        PyErr_Fetch(&type, &value, &traceback);
        PyObject *ours = PyDataMem_SetHandler(before);
        Py_DECREF(before);
        Py_XDECREF(ours);
        PyErr_Restore(type, value, traceback);
    }
    return (PyArrayObject *)array;
}
