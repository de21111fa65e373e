"""progress= accepts the documented values, and the command line shows a correct bar."""

import fcntl
import os
import re
import struct
import sys
import termios
import types

import numpy as np
import pytest
from processes import process, run

from cossim._progress import reporting


@pytest.mark.parametrize("progress", [None, False])
def test_nothing_is_reported(progress):
    with reporting(progress, "topk") as report:
        assert report is None


def test_a_callable_receives_done_and_total():
    calls = []
    with reporting(lambda *done: calls.append(done), "topk") as report:
        report(1, 4)
    assert calls == [(1, 4)]


@pytest.mark.parametrize("progress", [1, 0, "yes", np.True_, []])
def test_progress_of_another_type_is_refused(progress):
    message = rf"^pairs_above\(\): progress\b.*\b{type(progress).__name__}$"
    with pytest.raises(TypeError, match=message), reporting(progress, "pairs_above"):
        pytest.fail("the block was run")


def test_a_tqdm_whose_import_fails(monkeypatch, tmp_path):
    """The error names the missing module, not tqdm."""
    (tmp_path / "auto.py").write_text("import no_such_module")
    package = types.ModuleType("tqdm")
    package.__path__ = [str(tmp_path)]
    monkeypatch.setitem(sys.modules, "tqdm", package)
    monkeypatch.delitem(sys.modules, "tqdm.auto", raising=False)
    with pytest.raises(ModuleNotFoundError, match="no_such_module"), reporting(True, "topk"):
        pytest.fail("the block was run")


def test_bar(capsys):
    pytest.importorskip("tqdm")
    with reporting(True, "topk") as report:
        assert capsys.readouterr() == ("", "")
        for done in (0, 1000, 2500):
            report(done, 4000)
    out, err = capsys.readouterr()
    assert out == ""
    last = err.rstrip("\n").split("\r")[-1]
    assert err.endswith("\n")
    assert last.startswith("topk: 100%")
    assert "4.00k/4.00k" in last
    assert re.search(r"\[00:\d\d, 00:00 left, .* scores/s\]", last), last


def test_bar_of_a_stopped_call(capsys):
    pytest.importorskip("tqdm")

    def report_and_fail():
        with reporting(True, "topk") as report:
            report(1000, 4000)
            raise KeyError

    with pytest.raises(KeyError):
        report_and_fail()
    err = capsys.readouterr().err
    assert err.rstrip("\n").split("\r")[-1].startswith("topk:  25%")
    assert err.endswith("\n")


def test_bar_of_a_resumed_call(capsys):
    """The first 30 steps were done before, so the bar's speed leaves them out. The bar ends with the note."""
    pytest.importorskip("tqdm")
    with reporting(True, "train", "steps") as report:
        report(30, 40)
        start = capsys.readouterr().err
        report(39, 40, "loss 0.25")
    last = capsys.readouterr().err.rstrip("\n").split("\r")[-1]
    assert "30/40 [" in start and "? steps/s" in start
    assert "40/40 [" in last and "steps/s, loss 0.25" in last


def test_no_bar_without_a_report(capsys):
    pytest.importorskip("tqdm")
    with reporting(True, "topk"):
        pass
    assert capsys.readouterr() == ("", "")


# ---- the command line ----


@pytest.fixture
def folder(tmp_path, rng, monkeypatch):
    np.save(tmp_path / "x.npy", rng.standard_normal((2000, 64)).astype(np.float32))
    monkeypatch.chdir(tmp_path)
    return tmp_path


COMMANDS = {"topk": ["topk", "x.npy", "-k", "1"], "pairs": ["pairs", "x.npy", "--threshold", "0.9"]}


def on_a_terminal(*arguments, **options):
    """(exit code, stdout, output of the terminal that stderr is connected to)."""
    master, terminal = os.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("4H", 24, 100, 0, 0))  # a bar is as wide as its terminal
    with process(*arguments, stderr=terminal, **options) as child:
        os.close(terminal)
        out, shown = child.stdout.read(), b""
        while more := read(master):
            shown += more
    os.close(master)
    return child.returncode, out, shown.decode()


def read(master):
    try:
        return os.read(master, 4096)
    except OSError:  # Linux raises this after the other end was closed
        return b""


@pytest.mark.parametrize("name", COMMANDS)
def test_a_terminal_shows_a_bar(folder, name):
    pytest.importorskip("tqdm")
    code, out, err = run(*COMMANDS[name])
    assert (code, err) == (0, "")
    code, same, shown = on_a_terminal(*COMMANDS[name])
    assert (code, same) == (0, out)
    assert f"{name}: 100%" in shown
    assert shown.endswith("\r\n")


@pytest.mark.parametrize(
    ("arguments", "prepare"), [(["--quiet"], ""), ([], "sys.modules['tqdm'] = None")], ids=["--quiet", "without tqdm"]
)
@pytest.mark.parametrize("name", COMMANDS)
def test_no_bar_on_a_terminal(folder, name, arguments, prepare):
    code, out, shown = on_a_terminal(*COMMANDS[name], *arguments, prepare=prepare)
    assert (code, shown) == (0, "")
    assert out.count("\n") > (1 if name == "topk" else 0)
