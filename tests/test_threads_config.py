"""Thread controls, their sight from threadpoolctl, and show_config()."""

import os
import subprocess
import sys
import threading

import numpy as np
import pytest

import cossim


@pytest.fixture(autouse=True)
def restore_threads():
    before = cossim.get_num_threads()
    yield
    cossim.set_num_threads(before)


def python(code, **environment):
    """The output of code in a fresh interpreter."""
    environment = {**os.environ, **environment}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


# ---- threads ----


def test_set_and_get():
    cossim.set_num_threads(3)
    assert cossim.get_num_threads() == 3


def test_block_sets_and_restores():
    cossim.set_num_threads(2)
    with cossim.threads(5):
        assert cossim.get_num_threads() == 5
        with cossim.threads(1):
            assert cossim.get_num_threads() == 1
        assert cossim.get_num_threads() == 5
    assert cossim.get_num_threads() == 2


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
    with pytest.raises(error, match=r"\bn must be"):
        cossim.set_num_threads(n)
    with pytest.raises(error, match=r"\bn must be"), cossim.threads(n):
        pytest.fail("the block must not run")
    assert cossim.get_num_threads() == before


def test_numpy_integers_count():
    with cossim.threads(np.int64(3)):
        assert cossim.get_num_threads() == 3


def test_result_does_not_depend_on_threads(rng):
    z = rng.standard_normal((300, 65)).astype(np.float32)
    with cossim.threads(1):
        one = cossim.cosine_similarity(z[None], z[:, None], dim=2)
    with cossim.threads(4):
        four = cossim.cosine_similarity(z[None], z[:, None], dim=2)
    np.testing.assert_array_equal(one, four)


def test_count_holds_for_all_python_threads():
    seen = []
    with cossim.threads(7):
        thread = threading.Thread(target=lambda: seen.append(cossim.get_num_threads()))
        thread.start()
        thread.join()
    assert seen == [7]


def test_environment_sets_the_count():
    assert python("import cossim; print(cossim.get_num_threads())", COSSIM_NUM_THREADS="3") == "3"


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system has no CPU affinity")
def test_default_is_the_cpus_this_process_may_use():
    allowed = sorted(os.sched_getaffinity(0))
    code = "import os; os.sched_setaffinity(0, {}); import cossim; print(cossim.get_num_threads())"
    for cpus in (allowed[:1], allowed):
        assert python(code.format(set(cpus)), COSSIM_NUM_THREADS="") == str(len(cpus))


@pytest.mark.parametrize("value", ["0", "-2", "many", "1.5", "99999999999999999999"])
def test_bad_environment_is_an_error_at_import(value):
    environment = {**os.environ, "COSSIM_NUM_THREADS": value}
    done = subprocess.run([sys.executable, "-c", "import cossim"], capture_output=True, text=True, env=environment)
    assert done.returncode == 1
    assert f"ImportError: COSSIM_NUM_THREADS={value} must be" in done.stderr


# ---- threadpoolctl ----

CHECK = """
with threadpoolctl.threadpool_limits(1):
    print(cossim.get_num_threads(), end=" ")
with threadpoolctl.threadpool_limits(2, user_api="cossim"):
    print(cossim.get_num_threads(), end=" ")
with threadpoolctl.threadpool_limits(1, user_api="blas"):
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
    assert python(ORDERS[order] + CHECK, COSSIM_NUM_THREADS="4") == "1 2 4 4 1 6 True"


def test_threadpoolctl_on_the_command_line():
    pytest.importorskip("threadpoolctl")
    command = [sys.executable, "-m", "threadpoolctl", "-i", "cossim"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert '"internal_api": "cossim"' in done.stdout


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


def test_old_or_broken_threadpoolctl_fares_as_without_cossim(tmp_path):
    code = "import cossim\ntry:\n    import threadpoolctl; print('imported')\nexcept ImportError as e:\n    print(e)"
    (tmp_path / "threadpoolctl.py").write_text("class LibController:\n    pass\n")
    assert python(code, PYTHONPATH=os.pathsep.join([str(tmp_path), *sys.path])) == "imported"
    (tmp_path / "threadpoolctl.py").write_text("raise ImportError('broken')\n")
    assert python(code, PYTHONPATH=os.pathsep.join([str(tmp_path), *sys.path])) == "broken"


# ---- show_config ----


def test_config_as_dicts():
    with cossim.threads(3):
        config = cossim.show_config(mode="dicts")
    assert config["version"] == cossim.__version__
    assert config["threads"]["in use"] == 3
    assert config["instruction set"]["in use"] in config["instruction set"]["available"]
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
    for isa in cossim.show_config(mode="dicts")["instruction set"]["available"]:
        assert python(code, COSSIM_ISA=isa) == f"{isa} {isa}"


def test_config_of_another_mode():
    with pytest.raises(ValueError, match="mode must be 'stdout' or 'dicts', not 'json'"):
        cossim.show_config(mode="json")
