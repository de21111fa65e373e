"""cossim topk and cossim pairs report and clean up after a signal, a full disk or too little memory."""

import argparse
import os
import re
import signal
import time

import numpy as np
import pytest
from commands import refused
from conftest import SLOWNESS, not_emulated
from processes import IMPORTED_FROM, finished, printed, process, run

from cossim.__main__ import main
from cossim.search import functions

# Replaces all writers by one that pauses after half of the file.
HALF = """
import time
from cossim.cli import result_files
def half(file, result):
    file.write(b"half"), file.flush(), print("writing", flush=True), time.sleep(60)
result_files.FORMATS.update(dict.fromkeys(result_files.FORMATS, half))
"""
ANNOUNCED = """
from cossim.search import functions
def announced(search):
    def call(*arguments, **options):
        print("searching", flush=True)
        return search(*arguments, **options)
    return call
functions.topk, functions.pairs_above = announced(functions.topk), announced(functions.pairs_above)
"""


@pytest.fixture
def folder(tmp_path, rng, monkeypatch):
    """A folder with x.npy and old results, in which the test runs."""
    np.save(tmp_path / "x.npy", rng.standard_normal((500, 8)).astype(np.float32))
    for name in ("hits.npz", "hits.csv", "hits.parquet"):
        (tmp_path / name).write_text("old")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def raising(error):
    def call(*_, **__):
        raise error

    return call


def nothing_has_changed(folder, left=0):
    names = sorted(path.name for path in folder.iterdir() if not path.name.startswith(".cossim-"))
    assert names == ["hits.csv", "hits.npz", "hits.parquet", "x.npy"]
    assert {path.read_text() for path in folder.glob("hits.*")} == {"old"}
    assert len(list(folder.iterdir())) - len(names) == left


# ---- while a result is written ----


@pytest.mark.parametrize(
    ("number", "code", "left"),
    [(signal.SIGINT, 130, 0), (signal.SIGTERM, 143, 0), (signal.SIGHUP, 129, 0), (signal.SIGKILL, -signal.SIGKILL, 1)],
    ids=lambda value: getattr(value, "name", None),
)
def test_signals_while_a_result_is_written(folder, number, code, left):
    with process("topk", "x.npy", "-k", "3", "-o", "hits.npz", prepare=HALF) as child:
        assert child.stdout.readline() == "writing\n"
        assert len(list(folder.glob(".cossim-*.tmp"))) == 1
        child.send_signal(number)
        out, err = child.communicate(timeout=60 * SLOWNESS)
    assert (child.returncode, out, err) == (code, "", "")
    nothing_has_changed(folder, left)


def test_ignored_signals_stay_ignored(folder):
    """Under nohup, SIGHUP stays ignored."""
    ignoring = HALF.replace("60", ".5") + "signal.signal(signal.SIGHUP, signal.SIG_IGN)"
    with process("topk", "x.npy", "-k", "3", "-o", "hits.npz", prepare=ignoring) as child:
        assert child.stdout.readline() == "writing\n"
        child.send_signal(signal.SIGHUP)
        assert child.communicate(timeout=60 * SLOWNESS) == ("", "")
    assert child.returncode == 0
    assert (folder / "hits.npz").read_bytes() == b"half"


def test_signal_handlers_are_restored(folder):
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGHUP)
    assert main(["topk", "x.npy", "-k", "1", "-o", "hits.csv"]) == 0
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGHUP)) == before


@pytest.mark.parametrize("suffix", [".npz", ".csv", ".parquet"])
def test_a_full_disk_leaves_the_old_file(folder, suffix):
    """A file size limit stands in for a full disk."""
    if suffix == ".parquet":
        pytest.importorskip("pyarrow", reason="pyarrow is not among what the tests install")
    limit = "import resource\nresource.setrlimit(resource.RLIMIT_FSIZE, (8192, 8192))"
    code, out, err = run("topk", "x.npy", "-k", "20", "-o", "hits" + suffix, prepare=limit)
    assert (code, out) == (1, "")
    assert re.fullmatch(rf"cossim: hits\{suffix}: .*: File too large; then: cossim .*\n", err), err
    nothing_has_changed(folder)


def test_a_full_disk_under_stdout(folder):
    if not os.path.exists("/dev/full"):
        pytest.skip("no /dev/full")
    for k in ("1", "20"):  # smaller and larger than the buffer of stdout
        with open("/dev/full", "w") as full:
            code, _, err = run("topk", "x.npy", "-k", k, stdout=full)
        assert code == 1 and err.startswith("cossim: standard output: No space left on device; then: cossim ")


def test_a_closed_stdout_is_an_error_unless_o_names_a_file(folder):
    """With >&-, sys.stdout is None."""
    closed = "sys.stdout = None"
    code, out, err = run("topk", "x.npy", "-k", "1", prepare=closed)
    assert (code, out) == (1, "") and re.fullmatch(r"cossim: standard output: .*\bclosed\b.*\n", err), err
    assert run("topk", "x.npy", "-k", "1", "-o", "hits.csv", prepare=closed) == (0, "", "")
    assert (folder / "hits.csv").read_text().startswith("query,rank,index,value\n0,1,")


def test_reader_that_leaves_early(folder):
    """`cossim topk x.npy -k 400 | head -1` prints no traceback."""
    with process("topk", "x.npy", "-k", "400") as child:
        assert child.stdout.readline() == "query,rank,index,value\n"
        child.stdout.close()
        assert child.stderr.read() == ""
    assert child.returncode == 1


# ---- while it searches ----


@pytest.mark.parametrize("command", ["topk big.npy -k 2", "pairs big.npy --threshold 0.5"])
def test_ctrl_c_during_the_search(folder, rng, command):
    """A search that would take seconds ends immediately, without a message."""
    np.save("big.npy", rng.standard_normal((60000, 256), dtype=np.float32))
    with process(*command.split(), "--threads", "1", "-o", "hits.npz", prepare=ANNOUNCED) as child:
        assert child.stdout.readline() == "searching\n"
        time.sleep(0.3)
        assert child.poll() is None
        child.send_signal(signal.SIGINT)
        out, err = child.communicate(timeout=60 * SLOWNESS)
    assert (child.returncode, out, err) == (130, "", "")
    os.unlink("big.npy")
    nothing_has_changed(folder)


@not_emulated
def test_too_little_memory_is_an_error_of_one_line(folder):
    """4.5 million pairs of equal rows, at 20 bytes or more each, do not fit into 64 MB of additional memory."""
    np.save("big.npy", np.ones((3000, 2), np.float32))
    limit = """
import resource, cossim.__main__
with open("/proc/self/statm") as statm:
    size = int(statm.read().split()[0]) * resource.getpagesize() + (64 << 20)
resource.setrlimit(resource.RLIMIT_AS, (size, size))
"""
    if not os.path.exists("/proc/self/statm"):
        pytest.skip("no /proc")
    arguments = ["pairs", "big.npy", "--threshold", "0", "--threads", "1", "-o", "hits.npz"]
    code, out, err = run(*arguments, prepare=limit)
    os.unlink("big.npy")
    assert (code, out) == (1, "")
    assert err.startswith("cossim: ")
    assert err.count("\n") == 1
    assert "memory" in err or "allocate" in err
    nothing_has_changed(folder)


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (MemoryError(), "out of memory"),
        (MemoryError("Unable to allocate 3 TiB"), "Unable to allocate 3 TiB"),
        (ValueError("two\nlines"), "two lines"),
        (OSError(5, "Input/output error", "x.npy"), "[Errno 5] Input/output error: 'x.npy'"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else None,
)
def test_errors_are_one_line(folder, error, message, monkeypatch, capsys):
    monkeypatch.setattr(functions, "topk", raising(error))
    error = refused(capsys, "topk x.npy -k 1 -o hits.csv")
    assert re.fullmatch(re.escape(f"cossim: {message}; ") + "(try|then): cossim topk x.npy .*\n", error)
    nothing_has_changed(folder)


def test_interrupted_before_the_result(folder, monkeypatch, capsys):
    monkeypatch.setattr(functions, "pairs_above", raising(KeyboardInterrupt))
    assert main(["pairs", "x.npy", "--threshold", "0.5", "-o", "hits.csv"]) == 130
    assert capsys.readouterr() == ("", "")
    nothing_has_changed(folder)


# ---- before it searches ----

# The script that pip installs as the command `cossim`.
SCRIPT = """import sys
from cossim.__main__ import main
if __name__ == "__main__":
    sys.exit(main())
"""
INTERRUPTS = "import os, signal\nos.kill(os.getpid(), signal.SIGINT)\nfor _ in range(1000): pass\n"


@pytest.mark.parametrize("start", [["-m", "cossim"], ["-mcossim"], ["-W", "error", "-m", "cossim"], ["cossim"]])
@pytest.mark.parametrize("module", ["numpy", "argparse"])
def test_ctrl_c_while_modules_are_imported(tmp_path, start, module):
    """Ctrl-C while NumPy is imported, in the middle of `import cossim`, and while the commands import their modules."""
    (tmp_path / "cossim").write_text(SCRIPT)
    (tmp_path / f"{module}.py").write_text(INTERRUPTS)
    path = f"{tmp_path}{os.pathsep}{IMPORTED_FROM}"
    child = finished(*start, "topk", "x.npy", "-k", "1", cwd=tmp_path, PYTHONPATH=path)
    assert (child.returncode, child.stdout, child.stderr) == (130, "", "")


def test_nothing_is_imported_before_ctrl_c_is_handled(tmp_path):
    """Only os is imported earlier, and no other module of the standard library. -S leaves out the imports of site."""
    finder = """
import _signal, os, sys
late = []
class Finder:
    def find_spec(name, *_):
        if name.partition(".")[0] != "cossim" and _signal.getsignal(_signal.SIGINT) is _signal.default_int_handler:
            late.append(name)
sys.meta_path.insert(0, Finder)
try:
    from cossim.__main__ import main
finally:
    print(late, "cossim._interrupts" in sys.modules)
"""
    (tmp_path / "cossim").write_text(finder)
    path = f"{IMPORTED_FROM}{os.pathsep}{os.path.dirname(os.path.dirname(np.__file__))}"
    assert printed("-S", tmp_path / "cossim", PYTHONPATH=path) == "[] True"


def test_ctrl_c_while_arguments_are_parsed(monkeypatch, capsys):
    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", raising(KeyboardInterrupt))
    assert main(["topk", "x.npy", "-k", "1"]) == 130
    assert capsys.readouterr() == ("", "")


def test_programs_that_import_cossim_keep_their_handler_of_ctrl_c(tmp_path):
    code = "import cossim, signal\nprint(signal.getsignal(signal.SIGINT))"
    (tmp_path / "program.py").write_text(code)
    for arguments in (["-c", code], ["-m", "program"], ["program.py"]):
        assert "default_int_handler" in printed(*arguments, cwd=tmp_path)
