"""cossim works with fork, in worker processes, at interpreter exit, and where no threads can be created."""

import multiprocessing
import os
import shutil
import subprocess
import sys
import textwrap

import pytest
from conftest import SLOWNESS
from processes import finished, printed, python_in

fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")

# All of these programs begin with two threads, a call that uses both, and its result.
START = """
import faulthandler, hashlib, os, signal, sys, threading, time
import numpy as np
import cossim

def tasks():
    return len(os.listdir("/proc/self/task")) if os.path.exists("/proc/self/task") else 0

alone = tasks()
cossim.set_num_threads(2)
x = np.random.default_rng(0).standard_normal((2500, 256)).astype(np.float32)
expected = cossim.pairwise(x[:500]), cossim.topk(x[:300], x, 5).indices

def right():
    "Whether pairwise and topk, which share the pool and scratch memory, still give the first results."
    return np.array_equal(cossim.pairwise(x[:500]), expected[0]) and np.array_equal(
        cossim.topk(x[:300], x, 5).indices, expected[1])

def ended_well(child):
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0

def calls_until(over, wrong):
    "Long calls, one after another: each wants the GIL back now and then."
    first = cossim.pairwise(x)
    while not over.is_set():
        if not np.array_equal(cossim.pairwise(x), first):
            wrong.append(1)
"""


def run(code, *arguments, seconds=60, watchdog=True, **environment):
    """Runs a program and returns its output; it must exit with 0 and an empty stderr. The watchdog, a thread of
    faulthandler, ends a program that hangs and prints where it hangs."""
    program = START + (f"faulthandler.dump_traceback_later({seconds * SLOWNESS}, exit=True)\n" if watchdog else "")
    command = ["-W", "error", "-c", program + textwrap.dedent(code), *arguments]
    done = finished(*command, seconds=2 * seconds, OPENBLAS_NUM_THREADS="1", **environment)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return done.stdout.strip()


def test_the_programs_use_the_pool():
    code = """
    assert tasks() - alone in (0, 1)
    print(right(), tasks() > alone or not tasks())
    """
    assert run(code, watchdog=False) == "True True"


# ---- fork ----


@fork
@pytest.mark.soak
def test_fork_in_the_middle_of_a_call(amount, figures):
    """The forking thread holds the GIL. The other thread's call waits for the GIL while it occupies the pool."""
    code = """
    over, wrong, ended = threading.Event(), [], 0
    thread = threading.Thread(target=calls_until, args=(over, wrong))
    thread.start()
    import warnings
    warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)  # by this test
    for i in range(int(sys.argv[1])):
        time.sleep(0.013 * (i % 7))
        child = os.fork()
        if child == 0:
            signal.alarm(60)  # a child has no thread of faulthandler
            os._exit(0 if right() and right() else 1)
        ended += ended_well(child)
    over.set()
    thread.join()
    print(ended if right() and not wrong else -1)
    """
    forks = amount(5, 1000)
    survived = int(run(code, forks, seconds=60 if forks < 10 else 3000))
    figures("os.fork while another thread is in a long call; the child calls too", forks, survived)


@fork
@pytest.mark.soak
def test_fork_from_within_a_call(amount, figures):
    """progress= may fork. Child and parent both finish the call with the same bits, or the child exits immediately."""
    code = """
    def forking(done, total):
        if len(children) < 2 and done < total:
            child = os.fork()
            if child:
                children.append(child)
            elif not children:
                os._exit(0 if right() else 1)  # as multiprocessing does
            else:
                children.append(None)

    rows = np.concatenate([x + i for i in range(4)])  # long enough for several reports
    first, ended = cossim.topk(rows, None, 5), 0
    for i in range(int(sys.argv[1])):
        children = []
        while len(children) < 2:
            same = all(map(np.array_equal, cossim.topk(rows, None, 5, progress=forking), first))
        if None in children:
            os._exit(0 if same and right() else 1)
        ended += same and right() and all([ended_well(child) for child in children])
    print(ended)
    """
    calls = amount(2, 200)
    survived = int(run(code, calls, seconds=60 if calls < 10 else 3000))
    figures("calls whose progress= forks two children, one of which also finishes the call", calls, survived)


@fork
def test_fork_with_a_warm_pool_warns_of_nothing():
    """Python 3.12 and newer warn if a process with other threads forks; the pool's threads have ended by then."""
    code = """
    for _ in range(10):
        assert right()
        child = os.fork()
        if child == 0:
            os._exit(0 if right() and os.fork() >= 0 else 1)
        assert ended_well(child)
    print(right())
    """
    assert run(code, watchdog=False) == "True"


# ---- clients ----

CLIENT = """
import importlib, multiprocessing, sys, threading
import numpy as np
import cossim

x = np.random.default_rng(0).standard_normal((2500, 256)).astype(np.float32)

def work(n):
    cossim.set_num_threads(2)
    return cossim.pairwise(x[n : n + 500])

def with_multiprocessing(method):
    "Workers start while another thread is in the middle of a long call."
    over = threading.Event()

    def calls():
        while not over.is_set():
            cossim.pairwise(x)

    thread = threading.Thread(target=calls)
    thread.start()
    with multiprocessing.get_context(method).Pool(2) as pool:
        found = pool.map(work, range(6), chunksize=1)
    over.set()
    thread.join()
    return found

def with_joblib(backend):
    import joblib
    return joblib.Parallel(n_jobs=2, backend=backend)(joblib.delayed(work)(n) for n in range(6))

class Similarities:
    def __len__(self):
        return 6

    def __getitem__(self, n):
        return work(n)

def with_torch(method):
    loaders = importlib.import_module("torch.utils.data")
    loader = loaders.DataLoader(Similarities(), batch_size=None, num_workers=1, multiprocessing_context=method)
    return [found.numpy() for found in loader]

if __name__ == "__main__":
    expected = [work(n) for n in range(6)]
    client = globals()["with_" + sys.argv[1]]
    print(all(map(np.array_equal, client(sys.argv[2]), expected)))
"""
WAYS = {
    "multiprocessing": ("fork", "spawn", "forkserver"),
    "joblib": ("loky", "threading", "multiprocessing"),
    "torch": ("fork", "spawn"),
}


@pytest.mark.parametrize(("client", "way"), [(client, way) for client, ways in WAYS.items() for way in ways])
def test_clients_with_workers(tmp_path, client, way):
    """multiprocessing, joblib and torch's DataLoader start their workers after the pool has been used."""
    pytest.importorskip(client)
    if client == "multiprocessing" and way not in multiprocessing.get_all_start_methods():
        pytest.skip(f"this system has no {way}")
    (tmp_path / "client.py").write_text(CLIENT)
    assert printed(tmp_path / "client.py", client, way, seconds=240) == "True"


# ---- the end of an interpreter ----

# Starts a long call in a daemon thread. CPython up to 3.13 frees the thread's stack while the pool works on the call.
DAEMON = """
def deep(n):
    return cossim.pairwise(many) if n == 0 else sorted([n], key=lambda m: deep(m - 1) is None)

many = np.concatenate([x] * 3)
threading.Thread(target=deep, args=(100,), daemon=True).start()
time.sleep(0.01 * (int(sys.argv[1]) % 10))
"""
# Makes a call when Python has almost ended, after the daemon thread.
LATE = """
class Late:
    def __del__(self, call={call}):
        call()

sys.modules["late"] = Late()
"""
ENDS = {
    "the main thread ends": DAEMON + LATE.format(call="lambda sleep=time.sleep: sleep(0.2)"),
    "a late call": DAEMON + LATE.format(call="lambda pairwise=cossim.pairwise, x=x[:500].copy(): pairwise(x)"),
    "sys.exit": DAEMON + "sys.exit(0)",
    "os._exit": DAEMON + "os._exit(0)",
    "atexit": DAEMON + "import atexit; atexit.register(lambda: right() or os._exit(1))",
    "atexit alone": "import atexit; atexit.register(lambda: right() or os._exit(1))",
    "sys.exit in progress=": "cossim.pairwise(x, progress=lambda done, total: sys.exit(0))",
    "a thread that is waited for": "threading.Thread(target=lambda: right() or os._exit(1)).start()",
}


@pytest.mark.soak
def test_the_end_of_an_interpreter(amount, figures):
    """Exit code 0, nothing on stderr."""
    times = amount(1, 100)
    for i in range(times):
        for end, code in ENDS.items():
            assert run(code, i) == "", end
    figures(
        "interpreters that end in the middle of a call, or call while they end", times * len(ENDS), times * len(ENDS)
    )


# ---- threads within threads ----


def test_calls_within_calls_and_pools():
    """Calls in progress callbacks and on Python's threads end, give the same bits, and share one worker of the pool."""
    code = """
    from concurrent.futures import ThreadPoolExecutor

    seen = []

    def nested(done, total):
        seen.append(right())

    first = cossim.pairwise(x)
    assert np.array_equal(cossim.pairwise(x, progress=nested), first)
    assert np.array_equal(cossim.topk(x, x, 5, progress=nested).indices, cossim.topk(x, x, 5).indices)
    assert seen and all(seen)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: right(), range(40)))
        more = tasks() - alone
    assert all(found)
    assert more <= 1 + 4 + 1, more  # faulthandler's, the executor's, the pool's
    print("done")
    """
    assert run(code) == "done"


def test_calls_within_dask():
    """Tasks run on Dask's threads; each of them may use two threads of the pool."""
    pytest.importorskip("dask.array")
    code = """
    import dask, dask.array as da
    lazy = cossim.pairwise(da.from_array(x[:500], (100, 256)))
    found = dask.compute(lazy, scheduler="threads", num_workers=4)[0]
    print(np.array_equal(found, expected[0]))
    """
    assert run(code) == "True"


# ---- failing thread creation, few processors ----

SHIM = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*run)(void *), void *argument)
{
    static _Atomic int created;
    int (*create)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *) = dlsym(RTLD_NEXT, "pthread_create");
    const char *most = getenv("SHIM_THREADS");
    return most != NULL && created++ >= atoi(most) ? EAGAIN : create(thread, attr, run, argument);
}

int sched_getaffinity(pid_t pid, size_t size, cpu_set_t *set)
{
    const char *cpus = getenv("SHIM_CPUS");
    int (*affinity)(pid_t, size_t, cpu_set_t *) = dlsym(RTLD_NEXT, "sched_getaffinity");
    if (cpus == NULL) {
        return affinity(pid, size, set);
    }
    memset(set, 0, size);
    for (int i = 0; i < atoi(cpus); i++) {
        CPU_SET_S(i, size, set);
    }
    return 0;
}

FILE *fopen(const char *path, const char *mode)
{
    char other[4096];
    FILE *(*open)(const char *, const char *) = dlsym(RTLD_NEXT, "fopen");
    const char *root = getenv("SHIM_ROOT");
    if (root != NULL && (strncmp(path, "/sys/fs/cgroup", 14) == 0 || strcmp(path, "/proc/self/cgroup") == 0)) {
        snprintf(other, sizeof other, "%s%s", root, path);
        path = other;
    }
    return open(path, mode);
}
"""


@pytest.fixture(scope="module")
def shim(tmp_path_factory):
    """A library to preload: it makes thread creation fail, and reports the CPUs and limits that a test sets."""
    if sys.platform != "linux" or shutil.which("cc") is None:
        pytest.skip("needs Linux and a C compiler called cc")
    if SLOWNESS != 1 or os.environ.get("LD_PRELOAD"):
        pytest.skip("the shim would also change the emulator or the sanitizer itself")
    folder = tmp_path_factory.mktemp("shim")
    (folder / "shim.c").write_text(SHIM)
    subprocess.run(["cc", "-shared", "-fPIC", "-o", folder / "shim.so", folder / "shim.c", "-ldl"], check=True)
    return str(folder / "shim.so")


@pytest.mark.parametrize("threads", [0, 1, 2])
def test_calls_run_where_threads_cannot_be_created(shim, threads):
    """Threads fail to start, as at RLIMIT_NPROC, pids.max or without memory for stacks; the caller runs all tasks."""
    code = """
    cossim.set_num_threads(5)
    bits = cossim.pairwise(x).tobytes(), cossim.topk(x, x, 5).indices.tobytes()
    print([hashlib.sha256(found).hexdigest() for found in bits], tasks() - alone)
    """
    expected, four = run(code, watchdog=False).rsplit(maxsplit=1)
    assert four == "4"
    assert run(code, watchdog=False, LD_PRELOAD=shim, SHIM_THREADS=str(threads)) == f"{expected} {threads}"


def quota(group, microseconds, period=100000):
    """The files by which version 1 of control groups limits a group to a CPU time in each period."""
    return {f"{group}/cpu.cfs_quota_us": f"{microseconds}\n", f"{group}/cpu.cfs_period_us": f"{period}\n"}


# Each limit: text of /proc/self/cgroup, files below /sys/fs/cgroup, and the number of threads on a machine of 8 CPUs.
LIMITS = {
    "none": ("0::/\n", {}, 8),
    "no limit": ("0::/a\n", {"a/cpu.max": "max 100000\n"}, 8),
    "two and a half": ("0::/a\n", {"a/cpu.max": "250000 100000\n"}, 3),
    "half of one": ("0::/a\n", {"a/cpu.max": "50000 100000\n"}, 1),
    "more than there are": ("0::/a\n", {"a/cpu.max": "2000000 100000\n"}, 8),
    "of the group around it": ("0::/a/b/c\n", {"a/cpu.max": "200000 100000\n", "a/b/c/cpu.max": "max 100000\n"}, 2),
    "the tightest": ("0::/a/b\n", {"a/cpu.max": "400000 100000\n", "a/b/cpu.max": "300000 100000\n"}, 3),
    "as a container sees it": ("0::/\n", {"cpu.max": "200000 100000\n"}, 2),
    "version 1": ("4:cpu:/\n", quota("cpu", 200000), 2),
    "version 1, no limit": ("4:cpu:/\n", quota("cpu", -1), 8),
    "version 1, of a group": ("4:cpu,cpuacct:/a/b\n", quota("cpu/a/b", 300000), 3),
    "version 1, of the group around it": (
        "5:cpuset:/\n4:cpuacct,cpu:/a/b\n0::/\n",
        quota("cpu/a/b", -1) | quota("cpu/a", 150000),
        2,
    ),
    "version 1, as a container sees it": ("4:cpu:/docker/0123\n", quota("cpu", 250000, 50000), 5),
    "both versions": ("4:cpu:/a\n0::/b\n", quota("cpu/a", 600000) | {"b/cpu.max": "350000 100000\n"}, 4),
    "a path that leaves the namespace": ("0::/../a\n", {"cpu.max": "200000 100000\n"}, 2),
    "another controller": ("4:cpuset:/a\n", quota("cpu/a", 100000), 8),
    "no group is named": ("", quota("cpu", 200000), 2),
    "the largest numbers": ("0::/\n", {"cpu.max": f"{2**63 - 1} {2**62}\n"}, 2),
    "nonsense": ("0::/a\nwhat is this", {"a/cpu.max": "many cpus\n", "cpu.max": "-5 0\n"}, 8),
}


def test_default_within_the_quota_of_a_container(shim, tmp_path):
    """The default is the number of CPUs by affinity, at most the quota (rounded up) and OMP_NUM_THREADS.

    COSSIM_NUM_THREADS overrides all of these.
    """
    environments, numbers = [], []
    for limit, (group, files, expected) in LIMITS.items():
        root = tmp_path / limit
        texts = {"proc/self/cgroup": group, **{f"sys/fs/cgroup/{name}": text for name, text in files.items()}}
        for name, text in texts.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(text)
        for given, openmp, threads in (("", "", expected), ("5", "1", 5), ("", "2", min(2, expected))):
            environments.append({"COSSIM_NUM_THREADS": given, "OMP_NUM_THREADS": openmp, "SHIM_ROOT": str(root)})
            numbers.append((limit, given, openmp, threads))
    code = "import cossim; print(cossim.get_num_threads())"
    found = python_in(code, environments, LD_PRELOAD=shim, SHIM_CPUS="8")
    assert [(*number[:3], int(one)) for number, one in zip(numbers, found, strict=True)] == numbers
