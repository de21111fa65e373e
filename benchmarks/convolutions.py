"""Times every convolution algorithm on a grid of shapes, and reports where the choice is not the fastest.

    python -m benchmarks.convolutions          every shape; ends with 1 if a choice is more than 10 % off the best
    python -m benchmarks.convolutions 3x3 1x1  shapes with these kernels

Each shape runs all algorithms that fit it in turn with the one that cossim chooses, on one thread. Times are the least
CPU time of several rounds, because other processes disturb medians. A shape whose choice seems slow is measured again,
up to twice: an algorithm that does not fit runs the choice, so noise alone can make it the fastest.
"""

import sys
import time

import numpy as np

import cossim
from cossim import _core, nn

ALGORITHMS = ("direct", "filter_lanes", "pointwise", "winograd", "winograd3")
SLACK, SECONDS, REPEATS = 1.1, 0.3, 2

# (images, channels, height, width), (filters, channels of a group, kernel height, kernel width), options
SHAPES = [
    ((n, c, size, size), (filters, c, 3, 3), {"padding": 1})
    for n in (1, 8)
    for c, filters, size in (
        (1, 16, 28), (3, 32, 64), (16, 16, 32), (32, 64, 28), (64, 64, 56), (64, 64, 14), (128, 128, 28),
        (128, 128, 7), (256, 256, 14), (256, 256, 7), (256, 256, 2), (512, 512, 7),
    )
]  # fmt: skip
SHAPES += [
    ((n, c, size, size), (filters, c, 1, 1), options)
    for n in (1, 8)
    for c, filters, size, options in (
        (64, 256, 56, {}), (256, 64, 56, {}), (512, 128, 7, {}), (16, 8, 28, {}), (256, 512, 56, {"stride": 2}),
    )
]  # fmt: skip
SHAPES += [
    ((8, 3, 224, 224), (64, 3, 7, 7), {"stride": 2, "padding": 3}),
    ((8, 64, 56, 56), (128, 64, 3, 3), {"stride": 2, "padding": 1}),
    ((8, 3, 224, 224), (768, 3, 16, 16), {"stride": 16}),
    ((8, 3, 224, 224), (96, 3, 4, 4), {"stride": 4}),
    ((8, 96, 56, 56), (192, 96, 2, 2), {"stride": 2}),
    ((8, 96, 56, 56), (96, 1, 3, 3), {"padding": 1, "groups": 96}),
    ((8, 64, 56, 56), (64, 8, 3, 3), {"padding": 1, "groups": 8}),
    ((4, 64, 4096, 1), (64, 64, 3, 3), {"padding": 1}),
    ((4, 64, 4096, 1), (64, 64, 9, 1), {"padding": (4, 0)}),
    ((64, 256, 7, 7), (256, 256, 3, 3), {"padding": 1}),
    ((16, 64, 7, 7), (64, 64, 3, 3), {"padding": 1}),
    ((32, 128, 4, 4), (128, 128, 3, 3), {"padding": 1}),
    ((64, 16, 28, 28), (100, 16, 28, 28), {}),
    ((32, 64, 8, 8), (128, 64, 8, 8), {}),
    ((32, 1, 28, 28), (10, 1, 5, 5), {}),
    ((32, 10, 12, 12), (20, 10, 5, 5), {}),
    ((8, 32, 40, 40), (64, 32, 5, 5), {"padding": 2}),
    ((8, 4, 200, 200), (4, 4, 3, 3), {}),
]


def _fastest(calls):
    """Returns the least CPU seconds of each call; the calls run in turn."""
    least = dict.fromkeys(calls, float("inf"))
    end = time.perf_counter() + SECONDS * len(calls)
    while time.perf_counter() < end or float("inf") in least.values():
        for name, call in calls.items():
            start = time.thread_time()
            call()
            least[name] = min(least[name], time.thread_time() - start)
    return least


def _forced(name, call):
    def forced():
        _core._conv2d_force(name)
        try:
            return call()
        finally:
            _core._conv2d_force(None)

    return forced


def measure(x_shape, weight_shape, options):
    """Returns ({algorithm: seconds}, seconds of the choice). An algorithm that does not fit gives the choice's time."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal(x_shape, dtype=np.float32)
    weight = rng.standard_normal(weight_shape, dtype=np.float32)

    def call():
        return nn.conv2d(x, weight, **options)

    calls = {"": call, **{name: _forced(name, call) for name in ALGORITHMS}}
    times = _fastest(calls)
    for _ in range(REPEATS):
        if times[""] > SLACK * min(times.values()):
            again = _fastest(calls)
            times = {name: min(t, again[name]) for name, t in times.items()}
    return times, times.pop("")


def main(kernels):
    cossim.set_num_threads(1)
    off = 0
    for x_shape, weight_shape, options in SHAPES:
        if kernels and f"{weight_shape[2]}x{weight_shape[3]}" not in kernels:
            continue
        times, chosen = measure(x_shape, weight_shape, options)
        best = min(times, key=times.get)
        is_off = chosen > SLACK * times[best]
        off += is_off
        print(f"{x_shape} {weight_shape} {options}: {chosen * 1e3:.3f} ms", end="")
        print("".join(f", {name} {t * 1e3:.3f}" for name, t in times.items()), end="")
        print(f"  <- {chosen / times[best] - 1:.0%} off {best}" if is_off else "", flush=True)
    print(f"{off} choices are more than {SLACK - 1:.0%} off the best")
    return off > 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
