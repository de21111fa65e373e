"""Calls from many Python threads give the bits of calls made one by one, even while other threads change settings."""

import random
import threading

import numpy as np
import pytest
from processes import together
from public_calls import CASES, floats, small_network
from public_inputs import called, split
from reference import bits

import cossim
import cossim.nn as nn
import cossim.simclr as simclr

THREADS = 8
# Not called, because a separate thread changes the number of threads all the time.
SETTINGS = ("get_num_threads", "set_num_threads", "threads", "show_config")
pytestmark = pytest.mark.usefixtures("restore_threads")


# Calls that are large enough for the pool: one thread gets it, the others find it busy.
LARGE = {
    "rows": lambda rng: (cossim.cosine_similarity, floats(rng, 20000, 64), floats(rng, 20000, 64)),
    "columns": lambda rng: (cossim.cosine_distance, floats(rng, 8, 64, 2000), floats(rng, 8, 64, 2000)),
    "half": lambda rng: (cossim.normalize, floats(rng, 20000, 64, dtype=np.float16)),
    "pairwise": lambda rng: (cossim.pairwise, floats(rng, 500, 200)),
    "pairwise, float64": lambda rng: (cossim.pairwise, floats(rng, 300, 100, dtype=float), floats(rng, 200, 100)),
    "topk": lambda rng: (cossim.topk, floats(rng, 100, 64), floats(rng, 5000, 64), 10),
    "pairs_above": lambda rng: (cossim.pairs_above, floats(rng, 1000, 32), 0.5),
    "duplicate_groups": lambda rng: (cossim.duplicate_groups, floats(rng, 1000, 16), 0.9),
    "index": lambda rng: (cossim.Index(floats(rng, 5000, 64)).topk, floats(rng, 30, 64), 10),
    "conv2d": lambda rng: (nn.conv2d, floats(rng, 8, 8, 28, 28), floats(rng, 16, 8, 5, 5)),
    "max_pool2d": lambda rng: (nn.max_pool2d, floats(rng, 64, 8, 28, 28), 3, 2),
    "linear": lambda rng: (nn.linear, floats(rng, 500, 300), floats(rng, 100, 300)),
    "encoder": lambda rng: (simclr.Encoder(rng=rng), floats(rng, 64, 1, 28, 28)),
    "nt_xent": lambda rng: (simclr.nt_xent_value_and_grad, floats(rng, 200, 100), floats(rng, 200, 100)),
    "augment": lambda rng: (simclr.augment, floats(rng, 200, 1, 28, 28), 3),
}


class Call:
    """A call, and the result that it gives while no other call runs."""

    def __init__(self, name, make):
        self.name, self.make = name, make
        self.expected = self.run()

    def run(self):
        function, *arguments = self.make()
        return bits(called(function, arguments))


def public_calls(name, case, size):
    """Public calls with all kinds of arguments; each call gets new copies of those that it changes."""
    make = lambda: (case.call, *case.make(np.random.default_rng(size), size))  # noqa: E731
    makes = [make, *(lambda other=other: (case.call, *other(case.call, make()[1:])) for other in case.more)]
    for i, make_this in enumerate(makes):
        made = make_this()
        changes = case.changes or {"out", "new_checkpoint"} & split(made)[1].keys()
        yield Call(f"{name}, size {size}, input {i}", make_this if changes else lambda made=made: made)


def all_calls(rng):
    calls = [
        call
        for name, case in CASES.items()
        for size in (1, 6, 30)
        if name not in SETTINGS and not name.endswith("__iter__")
        for call in public_calls(name, case if size == 6 else case._replace(more=()), size)
    ]
    each = len(calls) // 5 // len(LARGE)  # large calls are a sixth of all calls
    for name, make in LARGE.items():
        made = make(rng)
        calls += [Call(name, lambda made=made: made)] * each
    return calls


@pytest.mark.soak
def test_all_functions_at_once(rng, amount, figures):
    """Runs while the number of threads changes all the time."""
    each, wrong = amount(400, 25_000), []
    with cossim.threads(1):
        calls = all_calls(rng)
    over = threading.Event()

    def hammer(seed):
        choose = random.Random(seed)
        for _ in range(each):
            call = choose.choice(calls)
            if call.run() != call.expected:
                wrong.append(call.name)

    def set_threads():
        choose = random.Random(0)
        while not over.is_set():
            cossim.set_num_threads(choose.randint(1, 5))
            with cossim.threads(choose.randint(1, 5)):
                over.wait(0.001)

    setting = threading.Thread(target=set_threads)
    setting.start()
    try:
        together(*(lambda seed=seed: hammer(seed) for seed in range(THREADS)))
    finally:
        over.set()
        setting.join()
    assert not wrong
    figures(
        f"calls of all public functions by {THREADS} threads at once, while a ninth calls `set_num_threads`",
        THREADS * each,
        THREADS * each - len(wrong),
    )


@pytest.mark.soak
def test_one_network_for_all(rng, amount, figures):
    """All threads use one network, while its weights are replaced by equal ones."""
    network, times, wrong = small_network(rng), amount(100, 20_000), []
    images = [floats(rng, n, 1, 8, 8) for n in range(1, THREADS)]
    expected = [bits(network(x)) for x in images]

    def call(x, y):
        wrong.extend(1 for _ in range(times) if bits(network(x)) != y)

    def replace():
        for _ in range(times):
            network[0].weight = network[0].weight.copy()
            network[4].bias = network[4].bias.copy()

    together(replace, *(lambda x=x, y=y: call(x, y) for x, y in zip(images, expected, strict=True)))
    tried = times * len(images)
    figures("calls of one network by 7 threads, while an eighth replaces its weights", tried, tried - len(wrong))


@pytest.mark.soak
def test_lists_that_change(rng, amount, figures):
    """Another thread changes the list during the call. The result must fit one of the contents that the list had."""
    x, times, wrong = floats(rng, 3, 4, 5), amount(300, 100_000), []
    dims = [0]
    possible = [cossim.vector_norm(x, dim).tobytes() for dim in ([0], [0, 1], [0, 1, 2])]

    def change():
        for _ in range(times):
            dims.append(1)
            dims.append(2)
            dims.pop()
            dims.pop()

    def norm():
        wrong.extend(1 for _ in range(times) if cossim.vector_norm(x, dims).tobytes() not in possible)

    together(change, norm, norm)
    figures("calls with a list that another thread changes", 2 * times, 2 * times - len(wrong))


def test_first_errors_in_several_threads_are_equal(rng):
    """Several threads may be the first to need an object that is imported lazily."""
    x = floats(rng, 2, 3)
    caught = []

    def fail():
        for _ in range(20):
            with pytest.raises(np.exceptions.AxisError) as error:
                cossim.cosine_similarity(x, x, 5)
            caught.append(str(error.value))

    together(*[fail] * THREADS)
    assert len(set(caught)) == 1
    assert len(caught) == 20 * THREADS


def test_an_error_in_a_thread_is_seen_here():
    with pytest.raises(ZeroDivisionError):
        together(lambda: None, lambda: 1 / 0)
