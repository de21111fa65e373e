"""An index file is written whole or not at all, and writing it takes only a few MB of memory."""

import errno
import os
import re
import shutil
import signal
import stat
import subprocess
import tempfile
import textwrap
import threading

import numpy as np
import pytest
from index_files import files_in, refused
from processes import python, started, together

from cossim import _io
from cossim.search import index_file
from cossim.search.index_file import read, write


@pytest.fixture
def old(tmp_path):
    path = tmp_path / "index"
    write(path, {"old": "yes"}, {"x": np.arange(100)})
    return path


def assert_old(path, old_bytes):
    assert path.read_bytes() == old_bytes
    assert files_in(path.parent) == [path.name]
    assert read(path)[0] == {"old": "yes"}


NEW = {"a": np.arange(3001), "b": np.zeros((0, 3)), "c": np.ones(5, bool)}


class Fails(_io._OwnFile):
    """A file that raises at a certain call of write(), possibly after writing some bytes."""

    left, error, most = 0, None, None

    def write(self, data):
        if Fails.left == 0 and Fails.error:
            super().write(memoryview(data)[: len(data) // 2])
            raise Fails.error
        Fails.left -= 1
        return super().write(memoryview(data)[: Fails.most])


FULL = OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("error", [FULL, KeyboardInterrupt(), MemoryError()], ids=repr)
def test_an_error_of_any_write_leaves_the_old_file(old, monkeypatch, error):
    before, calls = old.read_bytes(), 0
    monkeypatch.setattr(index_file, "_PIECE", 4096)
    monkeypatch.setattr(_io, "_OwnFile", Fails)
    monkeypatch.setattr(Fails, "error", error)
    while True:
        monkeypatch.setattr(Fails, "left", calls)
        try:
            write(old, {}, NEW)
        except type(error):
            assert_old(old, before)
        else:
            break
        calls += 1
    assert calls >= 5
    assert error is not FULL or str(FULL) == f"[Errno 28] No space left on device: {str(old)!r}"
    monkeypatch.undo()
    assert read(old)[1]["a"].tolist() == list(range(3001))


def test_short_writes_are_continued(old, monkeypatch):
    write(old, {}, NEW)
    expected = old.read_bytes()
    monkeypatch.setattr(_io, "_OwnFile", Fails)
    monkeypatch.setattr(Fails, "most", 7)
    write(old, {}, NEW)
    assert old.read_bytes() == expected


@pytest.mark.parametrize("name", ["os.fsync", "os.replace", "os.open", "zlib.crc32", "np.array", "json.dumps"])
@pytest.mark.parametrize("kind", [OSError, KeyboardInterrupt])
def test_an_error_of_any_step_leaves_the_old_file(old, monkeypatch, name, kind):
    before, error = old.read_bytes(), kind(errno.EIO, "Input/output error", "temporary", None, "target")

    def fail(*args, **kwargs):
        raise error

    module, function = name.split(".")
    monkeypatch.setattr(getattr(index_file, module), function, fail)
    with pytest.raises(kind) as caught:
        write(old, {}, NEW)
    monkeypatch.undo()
    if name in ("os.fsync", "os.replace") and kind is OSError:
        assert str(caught.value) == f"[Errno {errno.EIO}] Input/output error: {str(old)!r}"
    assert_old(old, before)


def test_an_error_of_progress_leaves_the_old_file(old):
    before = old.read_bytes()

    def interrupt(done, total):
        raise KeyboardInterrupt

    def fail(done, total):
        raise BrokenPipeError(errno.EPIPE, "Broken pipe")

    with pytest.raises(KeyboardInterrupt):
        write(old, {}, NEW, progress=interrupt)
    with pytest.raises(BrokenPipeError) as caught:
        write(old, {}, NEW, progress=fail)
    assert caught.value.filename is None  # the error is not about the index file
    assert_old(old, before)
    with pytest.raises(BrokenPipeError):
        write(old.parent / "new", {}, NEW, progress=fail)
    assert_old(old, before)


def test_the_folder_may_be_one_that_cannot_be_synced(old, monkeypatch):
    fsync = os.fsync

    def only_files(handle):
        if stat.S_ISDIR(os.fstat(handle).st_mode):
            raise OSError(errno.EINVAL, "Invalid argument")
        fsync(handle)

    monkeypatch.setattr(os, "fsync", only_files)
    write(old, {}, NEW)
    assert list(read(old)[1]) == list(NEW)


def test_file_and_folder_are_synced_and_in_this_order(old, monkeypatch):
    steps, fsync, replace = [], os.fsync, os.replace
    monkeypatch.setattr(
        os, "fsync", lambda fd: (steps.append(stat.S_IFMT(os.fstat(fd).st_mode) == stat.S_IFDIR), fsync(fd))
    )
    monkeypatch.setattr(os, "replace", lambda *args: (steps.append("replace"), replace(*args)))
    write(old, {}, NEW)
    assert steps == [False, "replace", True]


def test_saving_over_the_file_the_arrays_are_mapped_from(old):
    for _ in range(3):
        header, arrays = read(old)
        more = {**arrays, f"y{len(arrays)}": arrays["x"][::-1]}
        write(old, header, more)
        assert arrays["x"].tolist() == list(range(100))
    assert [array[0] for array in read(old)[1].values()] == [0, 99, 99, 99]


def test_readers_during_saves_see_whole_files(old):
    stop = threading.Event()

    def reader():
        while not stop.is_set():
            header, arrays = read(old)
            assert int(header.get("n", 99)) == arrays["x"][0] or header == {"old": "yes"}

    def writer():
        try:
            for n in range(30):
                write(old, {"n": str(n)}, {"x": np.full(1000, n)})
        finally:
            stop.set()

    together(reader, writer)
    assert files_in(old.parent) == ["index"]


def test_permissions(old):
    mask = os.umask(0o027)
    try:
        write(old.parent / "new", {}, {})
        assert stat.S_IMODE((old.parent / "new").stat().st_mode) == 0o640
        for mode in (0o600, 0o666, 0o640):
            old.chmod(mode)
            write(old, {}, {})
            assert stat.S_IMODE(old.stat().st_mode) == mode
    finally:
        os.umask(mask)


def test_symbolic_links_stay(old):
    link, lost = old.parent / "link", old.parent / "lost"
    link.symlink_to("index")
    lost.symlink_to("target")
    write(link, {"new": "1"}, {})
    write(lost, {"new": "2"}, {})
    assert link.is_symlink() and lost.is_symlink()
    assert [read(old.parent / name)[0]["new"] for name in ("index", "link", "target", "lost")] == ["1", "1", "2", "2"]
    assert files_in(old.parent) == ["index", "link", "lost", "target"]


# ---- other processes ----


PREPARE = "import os, resource, sys\nimport numpy as np\nfrom cossim.search.index_file import read, write\n"
WRITES = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)  # also where the tests run in the background
def progress(done, total):
    print(done, flush=True)
    if done >= float(sys.argv[2]):
        sys.stdin.readline()
write(sys.argv[1], {"other": "1"}, {"x": np.ones(10**6)}, progress=progress)
"""


def writing(path, least=0):
    """A process that writes an index of 8 MB, and waits for a line after each piece, from `least` bytes on."""
    return started("-c", PREPARE + WRITES, path, least, stdin=subprocess.PIPE)


def run(code, *args):
    return python(PREPARE + textwrap.dedent(code), *args)


def test_a_killed_writer_leaves_the_old_file(old):
    before = old.read_bytes()
    with writing(old, 3e6) as child:
        while int(child.stdout.readline()) < 3e6:
            pass
        child.kill()
    assert child.returncode == -signal.SIGKILL
    assert old.read_bytes() == before
    (part,) = [name for name in files_in(old.parent) if name != "index"]
    assert re.fullmatch(r"\.cossim-[0-9a-f]{16}\.tmp", part)
    assert refused(old.parent / part).startswith("not an index file of cossim")
    write(old, {"new": "1"}, NEW)
    assert read(old)[0] == {"new": "1"}
    assert files_in(old.parent) == ["index"]  # the leftover file is gone


def test_a_file_that_another_process_writes_stays(old):
    """The file stays even if it has another name too, or if cossim did not create it."""
    others = [".cossim-.tmp", ".cossim-0123456789abcdef.tmp.gz", "cossim-0123456789abcdef.tmp", ".cossim-012345.tmp"]
    for name in others:
        (old.parent / name).write_text("something")
    link, folder, new, pipe = (old.parent / f".cossim-{digit * 16}.tmp" for digit in "0123")
    link.symlink_to(old.parent / ".cossim-.tmp")
    folder.mkdir()
    new.touch()  # its writer is about to lock it
    os.mkfifo(pipe)
    before = files_in(old.parent)
    with writing(old) as child:
        child.stdout.readline()
        during = files_in(old.parent)
        assert len(during) == len(before) + 1
        write(old, {"new": "1"}, NEW)
        assert files_in(old.parent) == during
        child.communicate("go on\n")
    assert child.returncode == 0
    assert read(old)[0] == {"other": "1"}
    assert files_in(old.parent) == before
    os.utime(new, (0, 0))
    write(old, {"new": "2"}, NEW)
    assert files_in(old.parent) == [name for name in before if name != new.name]


@pytest.mark.skipif(os.getuid() != 0, reason="needs to be root to become somebody else")
def test_without_permission(old):
    before = old.read_bytes()
    code = """
        import mmap  # now, as the new user may not see where Python lies
        os.setgroups([]), os.setgid(65534), os.setuid(65534)
        if not os.access(os.path.dirname(sys.argv[1]), os.X_OK):
            sys.exit(print("unreachable"))
        for function in (lambda: write(sys.argv[1], {}, {}), lambda: read(sys.argv[1])):
            try:
                function()
            except PermissionError as error:
                print(error.filename)
    """
    with tempfile.TemporaryDirectory() as folder:  # pytest's own folders are private
        path = os.path.join(folder, "index")
        shutil.copyfile(old, path)
        for mode_of_folder, mode, refusals in [(0o777, 0o444, 1), (0o777, 0, 2), (0o755, 0o666, 1)]:
            os.chmod(folder, mode_of_folder)
            os.chmod(path, mode)
            output = run(code, path)
            if output == "unreachable":
                pytest.skip("others have no access to folders for temporary files")
            assert output.splitlines() == [path] * refusals
            with open(path, "rb") as file:
                assert file.read() == before
            assert os.listdir(folder) == ["index"]
