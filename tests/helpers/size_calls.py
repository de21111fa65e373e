"""Calls functions with arrays of giant shapes that take no memory, and soon stops each call: size_calls.py FIRST END.

Call number n is the same in every process; negative numbers are fixed examples. The number of each call is printed
before the call begins. So if the process dies, the last number printed names the call that ended it.
"""

import faulthandler
import random
import resource
import signal
import sys

import ml_dtypes
import numpy as np
from numpy.lib.stride_tricks import as_strided

import cossim
from cossim import nn, simclr

MEMORY = 1 << 28  # bytes that the calls may allocate
MOST_SECONDS = 60  # time limit of one call, also on a busy or slow machine
DTYPES = [*map(np.dtype, "?bBhHiIlLefd"), np.dtype(ml_dtypes.bfloat16)]
FLOATS = [np.dtype(np.float32), np.dtype(np.float64)]
# Products of these with element sizes and block sizes wrap to 0 or to small numbers.
SIZES = [2**bits + more for bits in (31, 32, 33, 40, 47, 58, 59, 60, 61, 62, 63) for more in (-1, 0, 1)]
SMALL = [1, 1, 1, 2, 3, 7, 16, 64, 300, 4096, 4097, 100000]


class Stopped(Exception):
    """Raised by the signal handler and by progress=."""


def fits(shape, dtype):
    """Whether NumPy allows the shape. It limits the number of bytes, and counts sizes of 0 as 1."""
    product = dtype.itemsize
    for size in shape:
        product *= max(size, 1)
    return product < 2**63


class Draw(random.Random):
    """Random arguments."""

    def size(self):
        return self.choice(SIZES) if self.random() < 0.5 else self.choice(SMALL)

    def shape(self, ndim, dtype):
        """A shape that NumPy allows; sometimes empty."""
        while True:
            shape = tuple(self.size() for _ in range(ndim))
            if self.random() < 0.1:
                shape = self.with_size(shape, self.randrange(ndim), 0)
            if fits(shape, dtype):
                return shape

    def with_size(self, shape, axis, size):
        return (*shape[:axis], size, *shape[axis + 1 :])

    def dtype(self):
        return self.choice(DTYPES)

    def array(self, shape, dtype):
        """A giant array that repeats one element, or a row of a few elements."""
        base = [1] * len(shape)
        if shape and 0 < shape[-1] <= 4096 and self.random() < 0.5:
            base[-1] = shape[-1]
        some = np.array([0, 1, 1, 3], np.uint8)[np.arange(base[-1] if base else 1) % self.choice([1, 2, 4])]
        return np.broadcast_to(some.astype(dtype).reshape(base), shape)

    def rows(self, dtype=None, depth=None):
        dtype = self.dtype() if dtype is None else dtype
        while True:
            shape = self.shape(2, dtype) if self.random() < 0.7 else (self.choice([1, 2, 3]), 2 ** self.randint(58, 62))
            shape = shape if depth is None else (shape[0], depth)
            if fits(shape, dtype):
                return self.array(shape, dtype)

    def two_rows(self):
        """Two arrays with rows of the same length."""
        while True:
            x = self.rows()
            dtype = self.choice([x.dtype, self.dtype()])
            shape = self.size(), x.shape[1]
            if fits(shape, dtype):
                return x, self.array(shape, dtype)

    def two_arrays(self):
        """Two arrays that broadcast against each other."""
        while True:
            ndim = self.randint(1, 4)
            shape = [self.size() if self.random() < 0.6 else 1 for _ in range(ndim)]
            shapes = [tuple(1 if self.random() < 0.3 else size for size in shape) for _ in "xy"]
            dtypes = [self.dtype(), self.dtype()]
            if all(map(fits, shapes, dtypes)):
                return tuple(map(self.array, shapes, dtypes))

    def out(self, shape):
        """None, or an array for a result; all its elements share one address."""
        return nowhere(*shape) if self.random() < 0.6 and fits(shape, FLOATS[0]) else None

    def progress(self):
        return stop if self.random() < 0.2 else None

    def memory(self):
        return self.choice([None, None, 1, 1 << 20, 2**40, 2**64])

    def images(self, dtype, ndim=None):
        """Images, mostly empty: layers copy their images, and copies of other images would take too much memory."""
        shape = self.shape(self.choice([3, 4]) if ndim is None else ndim, dtype)
        if self.random() < 0.8:
            shape = self.with_size(shape, self.randrange(len(shape)), 0)
        return self.array(shape, dtype)

    def pair(self, *more):
        return self.choice([1, 1, 2, (1, 3), 2**31 - 1, (2**31 - 1, 1), (2**30, 2**30), *more])


def stop(done, total):
    assert 0 <= done <= total
    raise Stopped


# ---- calls: each takes a draw ----


def vectors(draw):
    name = draw.choice(["cosine_similarity", "cosine_distance", "vecdot"])
    x, y = draw.two_arrays()
    shape = tuple(max(a, b) for a, b in zip(x.shape, y.shape, strict=True))
    dim = draw.randrange(len(shape))
    out = draw.out(shape[:dim] + shape[dim + 1 :])
    getattr(cossim, name)(x, y, dim, out=out)


def norms(draw):
    dtype = draw.dtype()
    x = draw.array(draw.shape(draw.randint(1, 4), dtype), dtype)
    dims = draw.choice([None, draw.randrange(x.ndim), tuple(draw.sample(range(x.ndim), draw.randint(1, x.ndim)))])
    if draw.random() < 0.5:
        cossim.vector_norm(x, dims, draw.random() < 0.5)
    else:
        cossim.normalize(x, 0 if dims is None else dims, out=draw.out(x.shape))


def all_pairs(draw):
    x, y = draw.two_rows()
    y = draw.choice([None, y])
    out = draw.out((len(x), len(x if y is None else y)))
    cossim.pairwise(x, y, out=out, progress=draw.progress())


def topk(draw):
    x, y = draw.two_rows()
    cossim.topk(
        x, draw.choice([None, y, y]), draw.choice([1, 1, 3, 300]), memory=draw.memory(), progress=draw.progress()
    )


def pairs_above(draw):
    x, y = draw.two_rows()
    y = draw.choice([None, y])
    limits = {"max_pairs": draw.choice([None, 0, 5]), "memory": draw.memory()}
    cossim.pairs_above(x, draw.choice([0.5, 1]), y, progress=draw.progress(), **limits)


def duplicate_groups(draw):
    cossim.duplicate_groups(draw.rows(), 0.9, memory=draw.memory(), progress=draw.progress())


def index(draw):
    corpus = draw.rows()
    if draw.random() < 0.3:  # a shape that can be allocated
        corpus = draw.array((draw.choice([1, 3, 300]), draw.choice([1, 3, 4097, *SIZES[:20]])), np.dtype(np.uint8))
    made = cossim.Index(corpus, progress=draw.progress())
    queries = draw.rows(depth=corpus.shape[1]) if fits((2**31, corpus.shape[1], 8), DTYPES[0]) else corpus
    if draw.random() < 0.5:
        made.topk(queries, 1, memory=draw.memory(), progress=draw.progress())
    else:
        made.pairs_above(queries, 1, memory=draw.memory(), progress=draw.progress())


def vector_gradients(draw):
    if draw.random() < 0.5:
        y, pullback = cossim.cosine_similarity_vjp(*draw.two_arrays(), 0)
    else:
        y, pullback = cossim.pairwise_vjp(*draw.two_rows())
    pullback(np.broadcast_to(y.dtype.type(1), y.shape))


def explain(draw):
    x, y = draw.two_arrays()
    str(cossim.explain(x, y, 0))


def layer(function, gradient, *arguments, **options):
    if gradient:
        y, pullback = getattr(nn, function + "_vjp")(*arguments, **options)
        pullback(np.broadcast_to(y.dtype.type(1), y.shape))
    else:
        getattr(nn, function)(*arguments, **options)


def conv2d(draw):
    dtype, gradient = draw.choice(FLOATS), draw.random() < 0.5
    x = draw.images(dtype)
    groups = draw.choice([1, 1, 2, 2**31])
    filters = draw.choice([1, 8, draw.size()])
    weight = (filters, x.shape[-3] // groups, draw.choice([1, 3, draw.size()]), draw.choice([1, 3, draw.size()]))
    if fits(weight, dtype):
        options = {"stride": draw.pair(), "dilation": draw.pair(), "padding": draw.pair(0, 0, "valid")}
        if draw.random() < 0.3:
            options |= {"stride": 1, "padding": "same"}
        layer("conv2d", gradient, x, draw.array(weight, dtype), groups=groups, **options)


def max_pool2d(draw):
    x, kernel = draw.images(draw.choice(FLOATS)), draw.pair()
    padding = draw.choice([0, 0, 1, 2**30 - 1])
    options = {"stride": draw.choice([None, draw.pair()]), "dilation": draw.pair(), "padding": padding}
    layer("max_pool2d", draw.random() < 0.5, x, kernel, ceil_mode=draw.random() < 0.5, **options)


def linear(draw):
    dtype = draw.choice(FLOATS)
    x = draw.images(dtype, draw.choice([1, 2, 2, 3]))
    weight = draw.choice([0, 0, 1, draw.size()]), x.shape[-1]
    if fits(weight, dtype):
        layer("linear", draw.random() < 0.5, x, draw.array(weight, dtype))


def relu(draw):
    layer("relu", draw.random() < 0.5, draw.images(draw.choice(FLOATS), draw.randint(1, 4)))


def network(draw):
    dtype = np.dtype(np.float32)
    images = draw.images(dtype, 4)
    convolution = nn.Conv2d(2, 3, draw.choice([1, 3]), draw.pair(), draw.pair(0, 0), draw.pair(), rng=0)
    layers = nn.Sequential(convolution, nn.ReLU(), nn.MaxPool2d(draw.choice([1, 2])), nn.Flatten())
    layers(draw.choice([images, draw.array((images.shape[0], 2, *images.shape[2:]), dtype)]))


def views(draw):
    dtype = draw.choice(FLOATS)
    z = draw.images(dtype, 2)
    function = draw.choice([simclr.nt_xent, simclr.nt_xent_value_and_grad, simclr.similarity_matrix])
    if draw.random() < 0.3:
        z = draw.rows(dtype)
    function(z, z)


def augment(draw):
    simclr.augment(draw.images(draw.choice(FLOATS)), 0)


CALLS = [vectors, vectors, norms, all_pairs, topk, pairs_above, duplicate_groups, index, vector_gradients, explain]
CALLS += [conv2d, max_pool2d, linear, relu, network, views, augment]


# ---- examples: products that wrap to 0 ----


def repeated(dtype, *shape):
    return np.broadcast_to(dtype(1), shape)


LONG, SHORTS = repeated(np.uint8, 1, 2**62), repeated(np.int16, 1, 2**61)
EXAMPLES = {
    "pairwise": lambda: cossim.pairwise(LONG),
    "pairwise, progress": lambda: cossim.pairwise(LONG, progress=stop),
    "pairwise, int16": lambda: cossim.pairwise(SHORTS),
    "topk": lambda: cossim.topk(LONG, LONG, 1),
    "topk, progress": lambda: cossim.topk(SHORTS, SHORTS, 1, progress=stop),
    "pairs_above": lambda: cossim.pairs_above(LONG, 0.5, LONG),
    "duplicate_groups": lambda: cossim.duplicate_groups(repeated(np.uint8, 2, 2**61), 0.5),
    "Index.topk": lambda: cossim.Index(LONG).topk(LONG, 1),
    "Index.pairs_above": lambda: cossim.Index(SHORTS).pairs_above(SHORTS, 0.5),
    "progress of more pairs than fit": lambda: cossim.pairs_above(
        repeated(np.uint8, 2**40, 16), 0.5, repeated(np.uint8, 2**40, 16), progress=stop
    ),
    # These have 2**50 rows, which the core halves, batches or reads by columns. It must poll for signals there.
    "pairwise, many rows": lambda: cossim.pairwise(
        repeated(np.float32, 1, 4), repeated(np.float32, 2**50, 4), out=nowhere(1, 2**50)
    ),
    "pairwise, many rows without elements": lambda: cossim.pairwise(
        repeated(np.float32, 1, 0), repeated(np.float32, 2**50, 0), out=nowhere(1, 2**50)
    ),
    "cosine_similarity, many batches": lambda: cossim.cosine_similarity(
        np.broadcast_to(np.eye(4, dtype=np.float32)[:, None], (2**50, 4, 1, 4)),
        np.broadcast_to(np.eye(4, dtype=np.float32), (2**50, 1, 4, 4)),
        3,
        out=nowhere(2**50, 4, 4),
    ),
    # These have nothing to compute.
    "linear, nothing by nothing": lambda: nn.linear(repeated(float, 0, 2**40), repeated(float, 0, 2**40)),
    "linear, no features": lambda: nn.linear(repeated(float, 2**50, 0), repeated(float, 0, 0)),
    "max_pool2d_vjp, no images": lambda: layer("max_pool2d", True, repeated(float, 0, 1, 2**40, 1), 1),
}


def nowhere(*shape):
    """An array for a result; all its elements share one address."""
    return as_strided(np.zeros(1, np.float32), shape, [0] * len(shape))


def call(number):
    """Makes call `number` and returns how it ended: by itself, by being stopped, or with a Python error."""
    draw = Draw(number)
    try:
        with cossim.threads(draw.choice([1, 2, 8])):
            # Python loses an exception raised by a signal inside a destructor or callback, so several are sent.
            signal.setitimer(signal.ITIMER_REAL, draw.uniform(1e-4, 4e-3), 0.1)
            if number < 0:
                list(EXAMPLES.values())[number]()
            else:
                CALLS[number % len(CALLS)](draw)
            return "done"
    except (Stopped, ValueError, MemoryError) as error:
        return type(error).__name__


armed = False  # whether a signal may raise


def alarm(number, frame):
    if armed:
        raise Stopped


def main(first, end):
    global armed
    with open("/proc/self/statm") as file:
        limit = int(file.read().split()[0]) * resource.getpagesize() + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    signal.signal(signal.SIGALRM, alarm)
    for number in range(first, end):
        faulthandler.dump_traceback_later(MOST_SECONDS, exit=True)  # ends a call that does not stop
        print(number, end=" ", flush=True)
        armed = True
        try:
            ended = call(number)
            armed = False
        except Stopped:  # the signal came after the call, or a second signal came
            armed = False
            ended = "Stopped"
        signal.setitimer(signal.ITIMER_REAL, 0)
        print(ended, flush=True)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
