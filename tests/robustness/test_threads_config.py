"""Thread controls work, threadpoolctl sees them, and show_config() reports them."""

import itertools
import os
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from processes import ENVIRONMENT, printed, python, python_in

import cossim
from cossim import _core

pytestmark = pytest.mark.usefixtures("restore_threads")
NUMBER = "import cossim; print(cossim.get_num_threads())"


# ---- threads ----


def test_block_restores_after_an_exception():
    cossim.set_num_threads(2)
    with pytest.raises(KeyError), cossim.threads(4):
        raise KeyError
    assert cossim.get_num_threads() == 2


def test_block_as_a_decorator():
    cossim.set_num_threads(2)

    @cossim.threads(4)
    def inside():
        return cossim.get_num_threads()

    assert (inside(), inside(), cossim.get_num_threads()) == (4, 4, 2)


BAD_COUNTS = [(n, ValueError) for n in (0, -1, 2**40)] + [(n, TypeError) for n in (1.0, "2", None, True)]


@pytest.mark.parametrize(("n", "error"), BAD_COUNTS)
def test_bad_counts_change_nothing(n, error):
    before = cossim.get_num_threads()
    with pytest.raises(error, match=r"set_num_threads\(\): n\b"):
        cossim.set_num_threads(n)
    with pytest.raises(error, match=r"^threads\(\): n\b"), cossim.threads(n):
        pytest.fail("the block must not run")
    assert cossim.get_num_threads() == before


def test_numpy_integers_are_accepted():
    with cossim.threads(np.int64(3)):
        assert cossim.get_num_threads() == 3


def in_thread(function):
    """The result of a function in a new Python thread."""
    with ThreadPoolExecutor(1) as executor:
        return executor.submit(function).result()


def test_set_count_holds_for_all_python_threads():
    cossim.set_num_threads(7)
    assert in_thread(cossim.get_num_threads) == 7


def test_block_is_the_calling_threads_own():
    cossim.set_num_threads(7)
    with cossim.threads(3):
        assert in_thread(cossim.get_num_threads) == 7
        in_thread(lambda: cossim.set_num_threads(5))
        assert cossim.get_num_threads() == 3
    assert cossim.get_num_threads() == 5


def test_set_count_within_a_block_is_that_of_the_block():
    cossim.set_num_threads(7)
    with cossim.threads(3):
        with cossim.threads(2):
            cossim.set_num_threads(4)
            assert cossim.get_num_threads() == 4
            assert in_thread(cossim.get_num_threads) == 7
        assert cossim.get_num_threads() == 3
    assert cossim.get_num_threads() == 7


def test_blocks_of_many_threads_at_once():
    """Each thread sees its own number, and no block remains."""
    cossim.set_num_threads(2)
    start, wrong = threading.Barrier(8, timeout=60), []

    def work(n):
        start.wait()
        for _ in range(200):
            with cossim.threads(n):
                start.wait()  # all within their blocks
                wrong.extend({cossim.get_num_threads()} - {n})
        return cossim.get_num_threads()

    with ThreadPoolExecutor(8) as executor:
        assert list(executor.map(work, range(3, 11))) == [2] * 8
    assert wrong == []
    assert cossim.get_num_threads() == 2


def within(n):
    """A generator that pauses within a block."""
    with cossim.threads(n):
        yield cossim.get_num_threads()


def test_blocks_of_generators_end_in_any_order():
    cossim.set_num_threads(2)
    for order in itertools.permutations(range(3)):
        generators = [within(n) for n in (3, 4, 5)]
        assert [next(generator) for generator in generators] == [3, 4, 5]
        open_blocks = [3, 4, 5]
        for i in order:
            generators[i].close()
            open_blocks.remove(i + 3)
            assert cossim.get_num_threads() == max([2, *open_blocks])


def test_overlapping_blocks_leave_nothing_behind():
    """One block is always open, as in a pipeline of generators; ended blocks are freed nevertheless."""
    cossim.set_num_threads(2)
    live, last = _core._live_blocks(), within(3)
    next(last)
    for n in range(100):
        generator = within(3 + n % 5)
        next(generator)
        last.close()
        last = generator
    assert _core._live_blocks() == live + 1
    last.close()
    assert _core._live_blocks() == live
    assert cossim.get_num_threads() == 2


def test_a_block_that_ends_in_another_thread():
    cossim.set_num_threads(2)
    live, generator = _core._live_blocks(), within(5)
    assert next(generator) == 5
    in_thread(generator.close)
    assert cossim.get_num_threads() == 2
    with cossim.threads(3):
        assert cossim.get_num_threads() == 3
    assert cossim.get_num_threads() == 2
    assert _core._live_blocks() == live


def test_a_block_whose_thread_is_gone():
    """A block may end after the thread that began it has ended."""
    cossim.set_num_threads(2)
    for _ in range(2):
        generator = within(5)
        assert in_thread(lambda generator=generator: next(generator)) == 5
        assert cossim.get_num_threads() == 2
        del generator
    assert cossim.get_num_threads() == 2


def test_a_block_ends_once():
    cossim.set_num_threads(2)
    block = _core.begin_threads(5)
    for _ in range(2):
        _core.end_threads(block)
        assert cossim.get_num_threads() == 2
    with pytest.raises(ValueError, match="Capsule"):
        _core.end_threads(1)
    assert isinstance(_core.begin_threads(5), object)  # this block is freed without end_threads()
    assert cossim.get_num_threads() == 2


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_block_holds_in_a_forked_child():
    code = """
import cossim, os, sys
cossim.set_num_threads(2)
with cossim.threads(5):
    child = os.fork()
    ok = cossim.get_num_threads() == 5
ok &= cossim.get_num_threads() == 2
if not child:
    os._exit(not ok)
print(ok, os.waitpid(child, 0)[1])
"""
    assert python(code) == "True 0"


@pytest.mark.skipif(not os.path.isdir("/proc/self/task"), reason="threads are counted in /proc")
@pytest.mark.parametrize("setting", ["with cossim.threads(4):", "cossim.set_num_threads(4)\nif True:"])
def test_a_call_uses_the_set_number_of_threads(setting):
    code = f"""
import os, threading, numpy as np, cossim
first = threading.Thread(target=int)  # the thread sanitizer starts its own thread with it
first.start()
first.join()
while str(first.native_id) in os.listdir("/proc/self/task"):
    pass
x, before = np.ones((1000, 500), np.float32), len(os.listdir("/proc/self/task"))
{setting}
    cossim.pairwise(x)
print(len(os.listdir("/proc/self/task")) - before)
"""
    assert python(code, COSSIM_NUM_THREADS="1") == "3"


# ---- the environment ----


MOST = 257  # 256 threads of the pool, and the calling thread


def test_numbers_above_the_maximum_count_as_the_maximum():
    numbers = MOST, MOST + 1, 10**6, 2**31 - 1
    assert python_in(NUMBER, [{"COSSIM_NUM_THREADS": str(n)} for n in numbers]) == [str(MOST)] * len(numbers)
    for n in numbers:
        cossim.set_num_threads(n)
        assert cossim.get_num_threads() == MOST
        cossim.set_num_threads(2)
        with cossim.threads(n):
            assert cossim.get_num_threads() == MOST
            assert cossim.show_config("dicts")["threads"]["in use"] == MOST


def test_openmps_variable_lowers_the_default():
    """OMP_NUM_THREADS, which other libraries read too, never raises the default. (test_processes.py: eight CPUs.)"""
    values = {"1": 1, "2": 2, " 1 ": 1, "1,2": 1, "1 , 4,3": 1, "1000000": 10**6, "9" * 30: 10**30}
    values |= dict.fromkeys(("", "0", "-1", "one", "1.5", "1x", ",1"), 10**30)
    found = python_in(
        NUMBER, [{"COSSIM_NUM_THREADS": given, "OMP_NUM_THREADS": value} for value in values for given in ("", "5")]
    )
    default = int(found[2 * list(values).index("")])
    expected = [str(n) for number in values.values() for n in (min(number, default), 5)]
    assert dict(zip(values, found[::2], strict=True)) == dict(zip(values, expected[::2], strict=True))
    assert found[1::2] == expected[1::2]


@pytest.mark.parametrize("given", [1, 2])
def test_workers_of_joblib_use_the_threads_they_were_given(given, monkeypatch):
    pytest.importorskip("joblib")
    code = f"""
import cossim, joblib
with joblib.parallel_config("loky", n_jobs=2, inner_max_num_threads={given}):
    print(joblib.Parallel()(joblib.delayed(cossim.get_num_threads)() for _ in range(4)))
"""
    for name in [name for name in ENVIRONMENT if name.endswith("_NUM_THREADS")]:
        monkeypatch.delitem(ENVIRONMENT, name)
    default = int(python(NUMBER))
    assert python(code) == str([min(given, default)] * 4)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system has no CPU affinity")
def test_default_is_the_cpus_this_process_may_use():
    allowed = sorted(os.sched_getaffinity(0))
    code = "import os; os.sched_setaffinity(0, {}); import cossim; print(cossim.get_num_threads())"
    for cpus in (allowed[:1], allowed):
        assert python(code.format(set(cpus)), COSSIM_NUM_THREADS="", OMP_NUM_THREADS="") == str(len(cpus))


def test_bad_environment_is_an_error_at_import():
    values = "0", "-2", "many", "1.5", "9" * 20
    code = "try:\n    import cossim\nexcept ImportError as error:\n    print(error)"
    for value, found in zip(values, python_in(code, [{"COSSIM_NUM_THREADS": v} for v in values]), strict=True):
        assert found.startswith(f"COSSIM_NUM_THREADS={value} ")


# ---- threadpoolctl ----

CHECK = """
with threadpoolctl.threadpool_limits(1):
    print(cossim.get_num_threads(), end=" ")
with threadpoolctl.threadpool_limits(2, user_api="cossim"):
    print(cossim.get_num_threads(), end=" ")
with threadpoolctl.threadpool_limits(1, user_api="blas"):
    print(cossim.get_num_threads(), end=" ")
with cossim.threads(3):
    with threadpoolctl.threadpool_limits(1):
        print(cossim.get_num_threads(), end=" ")
    print(cossim.get_num_threads(), end=" ")
with cossim.threads(6):
    found = [pool for pool in threadpoolctl.threadpool_info() if pool["user_api"] == "cossim"]
print(cossim.get_num_threads(), len(found), found[0]["num_threads"], found[0]["version"] == cossim.__version__)
"""

ORDERS = {
    "cossim first": "import cossim; import threadpoolctl",
    "threadpoolctl first": "import threadpoolctl; import cossim",
    "threadpoolctl first and used": "import threadpoolctl; threadpoolctl.threadpool_info(); import cossim",
    "looked for before it is imported": """
import cossim, importlib.util
importlib.util.find_spec("threadpoolctl")
import threadpoolctl""",
    "imported by another package": "import cossim; import sklearn.utils.parallel; import threadpoolctl",
}


@pytest.mark.parametrize("order", ORDERS)
def test_threadpoolctl_sees_and_limits(order):
    pytest.importorskip("threadpoolctl")
    if "sklearn" in ORDERS[order]:
        pytest.importorskip("sklearn")
    assert python(ORDERS[order] + CHECK, COSSIM_NUM_THREADS="4") == "1 2 4 1 3 4 1 6 True"


def test_threadpoolctl_on_the_command_line():
    pytest.importorskip("threadpoolctl")
    assert '"internal_api": "cossim"' in printed("-m", "threadpoolctl", "-i", "cossim")


def test_threadpoolctl_stays_an_ordinary_module():
    pytest.importorskip("threadpoolctl")
    code = """
import cossim, inspect, sys, threadpoolctl
print(len(inspect.getsource(threadpoolctl)) > 1000, [f for f in sys.meta_path if "cossim" in type(f).__module__])
"""
    assert python(code) == "True []"


def test_import_brings_no_extras():
    extras = "threadpoolctl", "torch", "sklearn", "matplotlib", "scipy", "ml_dtypes", "safetensors", "dask", "tqdm"
    assert python(f"import sys, cossim; print([name for name in {extras} if name in sys.modules])") == "[]"


def test_an_old_or_broken_threadpoolctl_is_imported_as_without_cossim(tmp_path):
    code = "import cossim\ntry:\n    import threadpoolctl; print('imported')\nexcept ImportError as e:\n    print(e)"
    (tmp_path / "threadpoolctl.py").write_text("class LibController:\n    pass\n")
    assert python(code, PYTHONPATH=os.pathsep.join([str(tmp_path), *sys.path])) == "imported"
    (tmp_path / "threadpoolctl.py").write_text("raise ImportError('broken')\n")
    assert python(code, PYTHONPATH=os.pathsep.join([str(tmp_path), *sys.path])) == "broken"


# ---- show_config ----


def test_show_config_returns_dicts():
    with cossim.threads(3):
        config = cossim.show_config(mode="dicts")
    assert config["version"] == cossim.__version__
    assert config["threads"]["in use"] == 3
    assert config["instruction set"]["available"].count(config["instruction set"]["in use"]) == 1
    assert config["instruction set"]["available"][-1] == "generic"


def test_config_is_printed(capsys):
    assert cossim.show_config() is None
    text = capsys.readouterr().out
    config = cossim.show_config(mode="dicts")
    assert capsys.readouterr().out == ""
    in_use = config["instruction set"]["in use"]
    for value in (cossim.__version__, np.__version__, in_use, "COSSIM_ISA", "COSSIM_NUM_THREADS"):
        assert value in text


def test_config_of_each_instruction_set():
    code = "import cossim; c = cossim.show_config('dicts')['instruction set']; print(c['in use'], c['COSSIM_ISA'])"
    available = cossim.show_config(mode="dicts")["instruction set"]["available"]
    assert python_in(code, [{"COSSIM_ISA": isa} for isa in available]) == [f"{isa} {isa}" for isa in available]
