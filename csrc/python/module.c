/* The extension module cossim._core: threads, configuration, and initialization. */
#define COSSIM_IMPORT_ARRAY
#include "arguments/numpy.h"
#include "arguments/messages.h"

#include <limits.h>
#include <stdlib.h>

#include "base/eps.h"
#include "base/fp_mode.h"
#include "base/pool.h"
#include "base/scratch.h"
#include "kernels/kernels.h"
#include "arguments/args.h"
#include "python/methods.h"
#include "arguments/protocols.h"
#include "arguments/result_memory.h"

/* threadpoolctl finds these two functions by name in the loaded library. */
__attribute__((visibility("default"))) int cossim_get_num_threads(void)
{
    return pool_get_threads();
}

__attribute__((visibility("default"))) void cossim_set_num_threads(int n)
{
    pool_set_threads(n);
}

static PyObject *get_num_threads(PyObject *Py_UNUSED(self), PyObject *Py_UNUSED(unused))
{
    return PyLong_FromLong(pool_get_threads());
}

/* Reads a number of threads, from 1 to INT_MAX. Returns 0 with TypeError or ValueError set. */
static int thread_count(const char *function, PyObject *n)
{
    Py_ssize_t value;
    if (integer_argument(function, "n", n, &value) < 0) {
        return 0;
    }
    if (value < 1 || value > INT_MAX) {
        char number[32] = "";
        if (!may_be_clipped(value)) {
            PyOS_snprintf(number, sizeof number, ", not %zd", value);
        }
        PyErr_Format(PyExc_ValueError, THREADS, function, number);
        return 0;
    }
    return (int)value;
}

static PyObject *set_num_threads(PyObject *Py_UNUSED(self), PyObject *n)
{
    const int count = thread_count("set_num_threads", n);
    if (count == 0) {
        return NULL;
    }
    pool_set_threads(count);
    Py_RETURN_NONE;
}

#define THREADS_BLOCK "cossim.threads"

static void free_threads_block(PyObject *capsule)
{
    pool_block_free(PyCapsule_GetPointer(capsule, THREADS_BLOCK));
}

static PyObject *begin_threads(PyObject *Py_UNUSED(self), PyObject *n)
{
    const int count = thread_count("threads", n);
    struct pool_block *block = count == 0 ? NULL : pool_block_begin(count);
    if (block == NULL) {
        return count == 0 ? NULL : PyErr_NoMemory();
    }
    PyObject *capsule = PyCapsule_New(block, THREADS_BLOCK, free_threads_block);
    if (capsule == NULL) {
        pool_block_free(block);
    }
    return capsule;
}

static PyObject *end_threads(PyObject *Py_UNUSED(self), PyObject *capsule)
{
    struct pool_block *block = PyCapsule_GetPointer(capsule, THREADS_BLOCK);
    if (block == NULL) {
        return NULL;
    }
    pool_block_end(block);
    Py_RETURN_NONE;
}

/* Returns a list of the instruction sets that this machine can run, best first. */
static PyObject *available_names(void)
{
    size_t count;
    const struct kernels *const *tables = kernels_all(&count);
    PyObject *names = PyList_New(0);
    for (size_t i = 0; names != NULL && i < count; i++) {
        OWNED PyObject *name = PyUnicode_FromString(tables[i]->name);
        if (name == NULL || (kernels_supported(tables[i]) && PyList_Append(names, name) < 0)) {
            Py_CLEAR(names);
        }
    }
    return names;
}

static PyObject *config(PyObject *Py_UNUSED(self), PyObject *Py_UNUSED(unused))
{
    const struct kernels *kernels = kernels_current();
    return Py_BuildValue("{s:s,s:s,s:N,s:n,s:i}", "isa", kernels->name, "description",
                         kernels->description, "available", available_names(), "vector_bits",
                         (Py_ssize_t)kernels->layers[COMPUTE_F32].lanes * 32, "threads",
                         pool_get_threads());
}

static PyObject *enter_fp_mode(PyObject *Py_UNUSED(self), PyObject *Py_UNUSED(unused))
{
    const fp_mode caller = fp_mode_enter();
    PyObject *mode = PyBytes_FromStringAndSize((const char *)&caller, sizeof caller);
    if (mode == NULL) {
        fp_mode_leave(caller);
    }
    return mode;
}

static PyObject *leave_fp_mode(PyObject *Py_UNUSED(self), PyObject *mode)
{
    fp_mode caller;
    if (!PyBytes_Check(mode) || PyBytes_GET_SIZE(mode) != sizeof caller) {
        PyErr_SetString(PyExc_TypeError, FP_MODE);
        return NULL;
    }
    memcpy(&caller, PyBytes_AS_STRING(mode), sizeof caller);
    fp_mode_leave(caller);
    Py_RETURN_NONE;
}

static PyObject *live_blocks(PyObject *Py_UNUSED(self), PyObject *Py_UNUSED(unused))
{
    return PyLong_FromSize_t(scratch_live());
}

static PyObject *fail_allocation(PyObject *Py_UNUSED(self), PyObject *n)
{
    const long value = PyLong_AsLong(n);
    return value == -1 && PyErr_Occurred() ? NULL : PyLong_FromLong(scratch_fail_after(value));
}

static PyMethodDef module_methods[] = {
    {"get_num_threads", get_num_threads, METH_NOARGS,
     "get_num_threads($module)\n--\n\n"
     "The number of threads that one call may use.\n\n"
     "At import it is COSSIM_NUM_THREADS. Without that variable it is the number of CPUs in the\n"
     "affinity mask of this process, limited by the CPU quota of its container (cgroup, rounded\n"
     "up) and by OMP_NUM_THREADS, which joblib, among others, sets in its workers.\n\n"
     "Returns\n-------\nint\n    From 1 to 257, the maximum.\n\n"
     "Examples\n--------\n>>> import cossim\n>>> cossim.get_num_threads() >= 1\nTrue\n"},
    {"set_num_threads", set_num_threads, METH_O,
     "set_num_threads($module, n, /)\n--\n\n"
     "Sets the number of threads that one call may use, for the whole process.\n\n"
     "Results do not depend on it. threads() sets the number for one Python thread until the end\n"
     "of a block; inside such a block this function changes the number of the block.\n\n"
     "Parameters\n----------\nn : int\n    At least 1; 1 means the caller's thread alone.\n"
     "    More than 257 counts as 257.\n\n"
     "Raises\n------\nTypeError\n    n is not an integer.\nValueError\n    n is below 1.\n\n"
     "Examples\n--------\n>>> import cossim\n>>> before = cossim.get_num_threads()\n"
     ">>> cossim.set_num_threads(1)\n"
     ">>> cossim.get_num_threads()\n1\n>>> cossim.set_num_threads(before)\n"},
    {"begin_threads", begin_threads, METH_O,
     "begin_threads($module, n, /)\n--\n\n"
     "Begins a block of cossim.threads(n) and returns an object for end_threads."},
    {"end_threads", end_threads, METH_O,
     "end_threads($module, block, /)\n--\n\n"
     "Ends a block, from any thread. A second call does nothing."},
    {"config", config, METH_NOARGS,
     "config($module)\n--\n\n"
     "The part of cossim.show_config() that describes the extension module, as a dict."},
    {"enter_fp_mode", enter_fp_mode, METH_NOARGS,
     "enter_fp_mode($module)\n--\n\n"
     "Sets the fixed floating-point mode for this thread.\n"
     "Returns the caller's mode, for leave_fp_mode()."},
    {"leave_fp_mode", leave_fp_mode, METH_O,
     "leave_fp_mode($module, mode, /)\n--\n\nSets the mode that enter_fp_mode() returned."},
    {"_live_blocks", live_blocks, METH_NOARGS,
     "_live_blocks($module)\n--\n\nThe number of memory blocks that the core uses now. For tests."},
    {"_fail_allocation", fail_allocation, METH_O,
     "_fail_allocation($module, n, /)\n--\n\n"
     "Makes the n-th allocation of the core from now on fail; 0 makes none fail. Returns the n of\n"
     "the previous call minus the allocations since, or 0 if its allocation failed. For tests."},
    {0},
};

/* Reads COSSIM_VECTOR_BITS, the width of the vectors of layers on AVX-512. If that variable is
 * empty or unset, the processor decides. Returns 0, or -1 with ImportError set. */
static int choose_vector_bits(void)
{
    const char *wanted = getenv("COSSIM_VECTOR_BITS");
    if (wanted == NULL || *wanted == '\0') {
        return 0;
    }
    const bool wide = strcmp(wanted, "512") == 0;
    if (!wide && strcmp(wanted, "256") != 0) {
        return raise_format(PyExc_ImportError, VECTOR_BITS_VARIABLE, wanted);
    }
    kernels_use_wide_layers(wide);
    return 0;
}

/* Selects the instruction set that COSSIM_ISA names. If that variable is empty or unset, the best
 * supported one is used. Returns 0, or -1 with ImportError set. */
static int choose_isa(void)
{
    const char *wanted = getenv("COSSIM_ISA");
    if (wanted == NULL || *wanted == '\0' || kernels_select(wanted)) {
        return 0;
    }
    OWNED PyObject *names = available_names();
    return names == NULL ? -1 : raise_format(PyExc_ImportError, ISA_VARIABLE, wanted, names);
}

/* Checks COSSIM_NUM_THREADS, which base/pool.c reads. Returns 0, or -1 with ImportError set. */
static int check_thread_variable(void)
{
    const char *wanted = getenv("COSSIM_NUM_THREADS");
    if (wanted == NULL || *wanted == '\0') {
        return 0;
    }
    char *end;
    long n = strtol(wanted, &end, 10);
    if (*end != '\0' || n < 1 || n > INT_MAX) {
        return raise_format(PyExc_ImportError, THREADS_VARIABLE, wanted);
    }
    return 0;
}

/* Adds a constant to the module. Returns 0, or -1 with an error set. */
static int add_float(PyObject *module, const char *name, double value)
{
    OWNED PyObject *object = PyFloat_FromDouble(value);
    return PyModule_AddObjectRef(module, name, object);
}

static int module_exec(PyObject *module)
{
    if (PyArray_ImportNumPyAPI() < 0 || result_memory_init() < 0 || protocols_init() < 0 ||
        choose_vector_bits() < 0 || choose_isa() < 0 || check_thread_variable() < 0) {
        return -1;
    }
    PyMethodDef *const methods[] = {array_methods,  similarity_methods, search_methods,
                                    nn_methods,     conv2d_methods,     augment_methods,
                                    simclr_methods, network_methods,    sparse_methods};
    for (size_t i = 0; i < sizeof methods / sizeof *methods; i++) {
        if (PyModule_AddFunctions(module, methods[i]) < 0) {
            return -1;
        }
    }
    if (add_float(module, "DEFAULT_EPS", DEFAULT_EPS) < 0 ||
        add_float(module, "NORMALIZE_EPS", NORMALIZE_EPS) < 0) {
        return -1;
    }
    return network_init();
}

static PyModuleDef_Slot slots[] = {
    {Py_mod_exec, module_exec},
#ifdef Py_mod_multiple_interpreters
    {Py_mod_multiple_interpreters, Py_MOD_MULTIPLE_INTERPRETERS_NOT_SUPPORTED},
#endif
#ifdef Py_mod_gil
    {Py_mod_gil, Py_MOD_GIL_NOT_USED},
#endif
    {0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,       .m_name = "cossim._core", .m_doc = "The C core of cossim.",
    .m_methods = module_methods, .m_slots = slots,
};

PyMODINIT_FUNC PyInit__core(void)
{
    return PyModuleDef_Init(&definition);
}
