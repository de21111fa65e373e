"""Ctrl-C at any moment of a long call stops it without a leak, and the next call gives the same bits."""

import contextlib
import ctypes
import gc
import os
import random
import signal
import sys
import time

import numpy as np
import pytest
from fault_cases import Case, gradients, index_parts, numbers

import cossim
from cossim import _core, nn, simclr


def repeated(x, *shape):
    """x broadcast to many copies, which take no memory."""
    return np.broadcast_to(x, shape)


def similarity_calls():
    """Calls of all functions over vectors, with rows, columns or a few long rows, read in place or converted."""
    x, y = numbers(np.float32, 2, 256), numbers(np.float32, 300, 256, seed=1)
    rows, others, doubles = repeated(x[0], 1000000, 256), repeated(x[1], 1000000, 256), numbers(float, 2, 40, 20000)
    columns, more_columns = repeated(y[:150], 400, 150, 256), repeated(y[150:], 400, 150, 256)
    row, other = (repeated(x[0, i], 1 << 25) for i in (0, 1))
    long_rows = repeated(numbers(float, 1 << 21), 25, 1 << 21)
    few = repeated(x[:, :1], 2, 1 << 22)
    yield "cosine_similarity, rows", Case(lambda: cossim.cosine_similarity(rows, others), x)
    yield "cosine_similarity, columns", Case(lambda: cossim.cosine_similarity(columns, more_columns), y)
    yield "cosine_similarity, long row", Case(lambda: cossim.cosine_similarity(row, other, 0), x)
    yield "cosine_similarity, empty rows", Case(lambda: cossim.cosine_similarity(rows[:, :0], others[:, :0]), x)
    yield "cosine_distance", Case(lambda: cossim.cosine_distance(rows[:300000], others[:300000]), x)
    yield "vecdot", Case(lambda: cossim.vecdot(rows, others), x)
    yield "vecdot, long row", Case(lambda: cossim.vecdot(row, other), x)
    yield "vector_norm", Case(lambda: cossim.vector_norm(repeated(rows, 3, *rows.shape), 2), x)
    yield "vector_norm, long row", Case(lambda: cossim.vector_norm(row), x)
    yield "vector_norm, long rows read in place", Case(lambda: cossim.vector_norm(long_rows, 1), long_rows[0])
    yield "normalize", Case(lambda: cossim.normalize(rows[:40000]), x)
    yield "normalize, long row", Case(lambda: cossim.normalize(row[: 1 << 22], 0), x)
    yield "pairwise, long rows", Case(lambda: cossim.pairwise(few), x)
    yield "explain", Case(lambda: str(cossim.explain(*doubles, 1)), doubles)


def layer_and_file_calls(folder):
    """Calls of single layers and their gradients, and of weights files."""
    maps, rows = numbers(np.float32, 40, 16, 48, 48), numbers(np.float32, 500, 1000)
    weight = {"weight": numbers(np.float32, 3000, 1000)}
    path = os.path.join(folder, "weights.npz")
    nn.save_weights(path, weight)
    yield "linear", Case(lambda: nn.linear(rows, weight["weight"]), rows, weight)
    yield "linear_vjp", Case(lambda: gradients(nn.linear_vjp(rows, weight["weight"][:1000])), rows, weight)
    yield "max_pool2d", Case(lambda: nn.max_pool2d(maps[:15], 5, 1, 2), maps)
    yield "max_pool2d_vjp", Case(lambda: gradients(nn.max_pool2d_vjp(maps, 3, 2, 1)), maps)
    yield "relu_vjp", Case(lambda: gradients(nn.relu_vjp(maps)), maps)
    yield "save_weights", Case(lambda: weights_saved(os.path.join(folder, "again.npz"), weight), weight)
    yield "load_weights", Case(lambda: nn.load_weights(path), weight)


def weights_saved(path, weights):
    nn.save_weights(path, weights)
    return nn.load_weights(path)


def long_calls(folder):
    """Calls of some tens of milliseconds or more, by name."""
    yield from similarity_calls()
    yield from layer_and_file_calls(folder)
    x, y = numbers(np.float32, 1500, 256), numbers(np.float32, 1200, 256, seed=1)
    many, queries = numbers(np.float32, 40000, 64), numbers(np.float32, 150, 64, seed=1)
    images, small = numbers(np.float32, 1500, 1, 28, 28), np.abs(numbers(np.float32, 64, 1, 28, 28, seed=1)) % 1
    maps, filters = numbers(np.float32, 12, 24, 48, 48), numbers(np.float32, 24, 24, 3, 3, seed=1)
    index, encoder, z = cossim.Index(many), simclr.Encoder(rng=0), numbers(np.float32, 2, 800, 100)
    on_disk, checkpoint = os.path.join(folder, "corpus.npy"), os.path.join(folder, "checkpoint.npz")
    np.save(on_disk, many)
    yield "pairwise", Case(lambda: cossim.pairwise(x), x)
    yield "pairwise of two, float64", Case(lambda: cossim.pairwise(x.astype(float), y), x, y)
    yield "cosine_similarity", Case(lambda: cossim.cosine_similarity(x[:, None], y[None], 2), x, y)
    yield "topk", Case(lambda: cossim.topk(queries, many, 20), many, queries)
    yield "topk of itself", Case(lambda: cossim.topk(x, None, 30), x)
    yield "topk, file", Case(lambda: cossim.topk(queries, on_disk, 20, memory=1 << 20), queries)
    yield "pairs_above", Case(lambda: cossim.pairs_above(x, 0.05), x)
    yield "duplicate_groups", Case(lambda: cossim.duplicate_groups(many[:4000], 0.5), many)
    yield "Index", Case(lambda: index_parts(cossim.Index(many)), many)
    yield "Index.topk", Case(lambda: index.topk(queries, 20), many, queries)
    yield "Index.pairs_above", Case(lambda: index.pairs_above(queries, 0.25), many, queries)
    yield "Index.save", Case(lambda: saved(index, os.path.join(folder, "index")), many)
    yield "cosine_similarity_vjp", Case(lambda: gradients(cossim.cosine_similarity_vjp(many, many[::-1])), many)
    yield "pairwise_vjp", Case(lambda: gradients(cossim.pairwise_vjp(x, y)), x, y)
    yield "similarity_matrix", Case(lambda: simclr.similarity_matrix(x[:750], x[750:]), x)
    yield "nt_xent", Case(lambda: simclr.nt_xent_value_and_grad(*z), z)
    yield "conv2d", Case(lambda: nn.conv2d(maps, filters, padding=1), maps, filters)
    yield "conv2d_vjp", Case(lambda: gradients(nn.conv2d_vjp(maps[:4], filters, padding=1)), maps, filters)
    yield "Encoder", Case(lambda: encoder(images), images)
    yield "Encoder.vjp", Case(lambda: gradients(encoder.vjp(images[:300])), images)
    yield "augment", Case(lambda: simclr.augment(images, 0, noise=0.1), images)
    yield "train", Case(lambda: trained(simclr.train(small, 3, 16)), small)
    yield "train, checkpoint", Case(lambda: trained_to_the_end(small, checkpoint), small)


def saved(index, path):
    index.save(path)
    return index_parts(cossim.Index.load(path, mmap=False))


def trained(training):
    return training.encoder.state_dict(), training.losses


def trained_to_the_end(images, checkpoint):
    """Continues a training from the checkpoint of an interrupted call."""
    found = trained(simclr.train(images, 3, 16, checkpoint=checkpoint))
    os.unlink(checkpoint)
    return found


class Interrupter:
    """Sends the process SIGINT after some time."""

    def __init__(self):
        self.sent = False
        signal.signal(signal.SIGALRM, self._send)

    def _send(self, number, frame):
        self.sent = True
        os.kill(os.getpid(), signal.SIGINT)

    def after(self, seconds):
        self.sent = False
        signal.setitimer(signal.ITIMER_REAL, max(seconds, 1e-6))


@pytest.fixture
def interrupter(monkeypatch):
    """Sends Ctrl-C. An unraisable exception fails the test, except for two effects of Python itself.

    Python loses a Ctrl-C inside a destructor, and closes a file late if Ctrl-C comes while the file is opened.
    """
    wrong = []

    def unraisable(found):
        if not issubclass(found.exc_type, (KeyboardInterrupt, ResourceWarning)):
            wrong.append(f"{found.err_msg or 'Exception ignored in'} {found.object!r}: {found.exc_value!r}")

    monkeypatch.setattr(sys, "unraisablehook", unraisable)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGALRM, signal.SIGINT, signal.SIGPROF)}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    yield Interrupter()
    signal.setitimer(signal.ITIMER_REAL, 0)
    for number, handler in handlers.items():
        signal.signal(number, handler)
    gc.collect()
    assert wrong == []


def interrupted(case, interrupter, seconds, pause):
    """The result of the call, or None if it was stopped. The signal comes before, during or after it."""
    found = None
    try:
        interrupter.after(seconds)
        time.sleep(pause)
        found = case()
        while not interrupter.sent:
            time.sleep(1e-3)
    except KeyboardInterrupt:
        pass
    return found


def left_over(folder):
    """Everything that a stopped call could leave behind: memory blocks, open files, temporary files in the folder."""
    gc.collect()
    found = {f"{_core._live_blocks()} blocks"}
    for number in os.listdir("/proc/self/fd") if os.path.exists("/proc/self/fd") else []:
        with contextlib.suppress(FileNotFoundError):  # the list of files was itself an open file
            found.add(f"file {number}: {os.readlink(f'/proc/self/fd/{number}')}")
    return found | {name for name in os.listdir(folder) if name.endswith((".tmp", ".part"))}


def resident():
    """Resident bytes after malloc returned its free memory; 0 if the system does not report them."""
    if not os.path.exists("/proc/self/statm"):
        return 0
    gc.collect()
    if hasattr(ctypes.CDLL(None), "malloc_trim"):  # glibc
        ctypes.CDLL(None).malloc_trim(0)
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.soak
@pytest.mark.parametrize("threads", [1, 2])
def test_interrupted_at_any_moment(tmp_path, interrupter, amount, figures, threads):
    draw, stopped, tried, lost = random.Random(threads), 0, 0, []
    calls = dict(long_calls(tmp_path))
    with cossim.threads(threads):
        for name in draw.sample(list(calls), amount(5, len(calls))):
            case = calls[name]
            start = time.perf_counter()
            expected = case()
            lasts = time.perf_counter() - start
            before, memory = left_over(tmp_path), None
            for number in range(amount(1, 100)):
                found = interrupted(case, interrupter, draw.uniform(0, 1.2) * lasts, 0.1 * lasts)
                tried, stopped = tried + 1, stopped + (found is None)
                left = left_over(tmp_path) - before  # files of other tests may be closed meanwhile
                checks = {
                    "another result": found in (None, expected),
                    f"left over: {left}": not left,
                    "inputs changed": case.inputs_are_as_they_were(),
                    "the next call": case() == expected,
                }
                wrong = [what for what, holds in checks.items() if not holds]
                lost += [f"{name}: {wrong}"] * bool(wrong)
                del found
                if number == 10:  # some calls have been stopped by then
                    memory = resident()
            if memory is not None:
                assert resident() - memory < 8 << 20, name
    assert lost == []
    assert stopped > tried // 4 or tried < 50  # of a few calls, all may end before the signal
    figures(f"Ctrl-C at any moment of a long call, {threads} thread{'s'[: threads - 1]}", tried, tried)


# Calls of some tenths of a second that run as a single task of the core. A shorter call can end before it sees the
# signal: the core polls every 30 ms, and the timer of CPU time is late by up to 8 ms.
ROW, EQUAL = repeated(np.float32(1.5), 3 << 27), np.ones((4000, 32), np.float32)
SINGLE_TASKS = {
    "vector_norm": lambda: cossim.vector_norm(repeated(np.float32(1.5), 1 << 29)),
    "vecdot": lambda: cossim.vecdot(ROW, ROW),
    "cosine_similarity": lambda: cossim.cosine_similarity(ROW, ROW, 0),
    "vector_norm of columns": lambda: cossim.vector_norm(repeated(EQUAL, 4000, *EQUAL.shape), (0, 1)),
    "cosine_similarity of empty rows": lambda: cossim.cosine_similarity(*repeated(EQUAL[0, :0], 2, 1 << 25, 0)),
    "pairwise": lambda: cossim.pairwise(repeated(np.float32(1.5), 8, 1 << 22)),
    "pairs_above": lambda: cossim.pairs_above(EQUAL[:3000], 0.5),
    "duplicate_groups": lambda: cossim.duplicate_groups(EQUAL, 0.5),
    "max_pool2d": lambda: nn.max_pool2d(np.ones((1, 1, 4000, 8000), np.float32), 41, 1, 20, return_indices=True),
    "max_pool2d, dilated": lambda: nn.max_pool2d(np.ones((1, 1, 300, 800), np.float32), 41, 1, 20, 2),
    "max_pool2d, one row": lambda: nn.max_pool2d(np.ones((1, 1, 400, 2800), np.float32), (400, 600), 1, 0, (1, 2)),
}


@pytest.fixture(scope="module")
def layer_calls():
    """Calls of some tenths of a second that spend their time in one function of the core."""
    maps, filters = numbers(np.float32, 30, 32, 64, 64), numbers(np.float32, 64, 32, 7, 7)
    rows, encoder = np.ones((2000, 8000), np.float32), simclr.Encoder(rng=0)
    images = np.ones((20000, 1, 28, 28), np.float32)
    y, pullback = nn.conv2d_vjp(maps[:20], filters, padding=3)
    return {
        "conv2d": lambda: nn.conv2d(maps, filters, padding=3),
        "conv2d pullback": lambda: pullback(y, input_gradient=False),
        "max_pool2d": lambda: nn.max_pool2d(maps[:20], 9, 1, 4, 2),
        "linear": lambda: nn.linear(rows[:400], rows),
        "Encoder": lambda: encoder(images),
        "augment": lambda: simclr.augment(images, 0, noise=0.1),
    }


def cpu_time(call):
    start = time.process_time()
    call()
    return time.process_time() - start


def interrupted_within(call, *parts):
    """(CPU time of a call on one thread, CPU times if it is interrupted after these parts of that)."""
    times = []
    signal.signal(signal.SIGPROF, signal.default_int_handler)
    with cossim.threads(1):
        whole = min(cpu_time(call), cpu_time(call))  # the first call also gets its memory from the system
        for part in parts:
            start = time.process_time()
            signal.setitimer(signal.ITIMER_PROF, whole * part)
            with pytest.raises(KeyboardInterrupt):
                call()
            times.append(time.process_time() - start)
    return whole, times


@pytest.mark.parametrize("name", ["conv2d", "conv2d pullback", "max_pool2d", "linear", "Encoder", "augment"])
def test_layers_do_not_wait_for_their_end(layer_calls, interrupter, name):
    layer_calls[name]()  # the first call takes memory that the process has not used before
    whole, (taken,) = interrupted_within(layer_calls[name], 0.1)
    assert whole > 0.03
    assert taken < whole * 2 / 3


@pytest.mark.parametrize("name", SINGLE_TASKS)
def test_one_task_does_not_wait_for_its_end(interrupter, name):
    whole, (early, late) = interrupted_within(SINGLE_TASKS[name], 0.1, 0.5)
    assert whole > 0.03
    assert early < whole * 0.5
    assert late < whole * 0.9


def test_scores_of_sparse_rows_do_not_wait_for_the_memory_of_their_result(interrupter):
    """The first rows are copied to a part of every later row, so the system clears all pages of a new result."""
    x = pytest.importorskip("scipy.sparse").random(4300, 400, 0.1, "csr", random_state=0)
    whole, times = interrupted_within(lambda: cossim.pairwise(x), 0.04, 0.06, 0.08)
    assert whole > 0.03
    assert max(times) < whole * 0.4
