"""Checks the results in every floating-point mode of the caller, and prints each one that is wrong.

test_fp_modes.py runs this file in a separate process for each instruction set.
"""

import ctypes
import platform
import sys

import ml_dtypes
import numpy as np
from reference import bits

import cossim
from cossim import _core, nn, simclr

# Offset of the control register in the C library's fenv_t, and its values by mode.
LAYOUT, MODES = {
    "x86_64": (
        28,
        {
            "as it was": 0x1F80,
            "flush to zero": 0x9F80,
            "denormals are zero": 0x1FC0,
            "both": 0x9FC0,
            "downward": 0x3F80,
            "upward": 0x5F80,
            "toward zero": 0x7F80,
            "traps": 0x0000,
            "all": 0xE040,
        },
    ),
    "aarch64": (
        0,
        {
            "as it was": 0,
            "both": 1 << 24,  # flushes operands and results to zero
            "upward": 1 << 22,
            "downward": 2 << 22,
            "toward zero": 3 << 22,
            "all": 7 << 22,
        },
    ),
}[platform.machine()]
CONTROL = 0xFFC0 if platform.machine() == "x86_64" else 0xFFFFFFFF

libm = ctypes.CDLL(None if hasattr(ctypes.CDLL(None), "fesetenv") else "libm.so.6")
environment = ctypes.create_string_buffer(64)
register = ctypes.c_uint32.from_buffer(environment, LAYOUT)


def mode():
    libm.fegetenv(environment)
    return register.value & CONTROL


def set_mode(value):
    libm.fegetenv(environment)
    register.value = value
    libm.fesetenv(environment)


def within(value, function):
    """Calls a function in a floating-point mode of the caller. Returns its result or exception, and the mode after it.

    Nothing else runs in that mode, because arithmetic of Python and NumPy would depend on it or trap.
    """
    set_mode(value)
    try:
        result = function()
    except Exception as error:
        result = error
    after = mode()
    set_mode(MODES["as it was"])
    return result, after


SCALES = {"float32": 1e-40, "float64": 1e-310, "float16": 3e-7, "bfloat16": 1e-39}


def rows(rng, n, depth, dtype):
    """Rows of subnormal numbers, of tiny numbers, of zeros of both signs, and of these mixed with numbers near 1."""
    name = np.dtype(dtype).name
    x = rng.standard_normal((n, depth)) * SCALES[name]
    x[1::5] *= 100
    x[2::5] = rng.choice([0.0, -0.0, 30 * SCALES[name], -30 * SCALES[name]], x[2::5].shape)
    x[3::5, ::3] = rng.standard_normal(x[3::5, ::3].shape)
    x[n // 2] = -0.0
    return x.astype(dtype)


def calls(rng):
    """Yields the name of each call, and a function without arguments that makes it."""
    for dtype in (np.float32, np.float64, np.float16, ml_dtypes.bfloat16):
        name, eps = np.dtype(dtype).name, 0.0
        x, y = rows(rng, 200, 40, dtype), rows(rng, 133, 40, dtype)
        q, few = x[:3].copy(), x[:16].copy()
        fortran = np.asfortranarray(x)
        yield f"pairwise {name}", lambda x=x: cossim.pairwise(x, eps=eps)
        yield f"pairwise of two {name}", lambda x=x, y=y: cossim.pairwise(x, y, eps=eps)
        yield f"topk {name}", lambda x=x: cossim.topk(x, None, 5, eps=eps)
        yield f"topk of few {name}", lambda q=q, x=x: cossim.topk(q, x, 150, eps=eps)
        yield f"pairs_above {name}", lambda x=x: cossim.pairs_above(x, 0.1, eps=eps)
        yield f"pairs_above a zero {name}", lambda x=x: cossim.pairs_above(x, -0.0, x[:50], eps=1e-8)
        yield f"duplicate_groups {name}", lambda x=x: cossim.duplicate_groups(x, 0.3, eps=eps)
        yield f"top_pairs {name}", lambda x=x: cossim.top_pairs(x, 50, eps=eps)
        yield f"deduplicate {name}", lambda x=x: cossim.deduplicate(x, 0.3, eps=eps)
        yield f"communities {name}", lambda x=x: cossim.communities(x, 0.3, 2, eps=eps)
        yield f"diverse {name}", lambda q=q, x=x: cossim.diverse(q, x, 5, eps=eps)
        yield f"maxsim {name}", lambda q=q, x=x: cossim.maxsim(q, x, [0, 50, 200], k=1, eps=eps)
        yield f"Index {name}", lambda q=q, x=x: cossim.Index(x, eps=eps).topk(q, 5)
        yield f"Index.pairs_above {name}", lambda x=x, y=y: cossim.Index(x, eps=eps).pairs_above(y, 0.2)
        for function in (cossim.cosine_similarity, cossim.cosine_distance, cossim.vecdot):
            kwargs = {} if function is cossim.vecdot else {"eps": eps}
            what = f"{function.__name__} {name}"
            yield what, lambda f=function, x=x, k=kwargs: f(x, x[::-1], 1, **k)
            yield f"{what} of a pair", lambda f=function, q=q, k=kwargs: f(q[0], q[1], 0, **k)
            yield f"{what} of few", lambda f=function, a=few, k=kwargs: f(a, a[::-1].copy(), 1, **k)
            yield f"{what} of columns", lambda f=function, a=fortran, k=kwargs: f(a, a[::-1], 1, **k)
            yield f"{what} of all pairs", lambda f=function, x=x, y=y, k=kwargs: f(x[:, None], y[None], 2, **k)
        yield f"vector_norm {name}", lambda x=x: cossim.vector_norm(x, 1)
        yield f"normalize {name}", lambda x=x: cossim.normalize(x, 1, eps)
        if name not in ("float32", "float64"):
            continue
        both, two = rows(rng, 200, 40, dtype), rows(rng, 8, 40, dtype)
        images, filters, bias = (
            rows(rng, 40, 196, dtype).reshape(40, 1, 14, 14),
            rows(rng, 8, 25, dtype),
            x[3, :8].copy(),
        )
        filters = filters.reshape(8, 1, 5, 5)
        yield f"nt_xent {name}", lambda z=both: simclr.nt_xent_value_and_grad(z)
        yield f"nt_xent of few {name}", lambda z=two: simclr.nt_xent_value_and_grad(z)
        yield f"conv2d {name}", lambda a=images, w=filters, b=bias: nn.conv2d(a, w, b)
        yield f"max_pool2d {name}", lambda a=images: nn.max_pool2d(a, 3, padding=1)
        yield f"linear {name}", lambda x=x, y=y: nn.linear(x, y)
        yield f"relu {name}", lambda x=x: nn.relu(x)
        layers = (nn.Conv2d(1, 8, 5, rng=0, dtype=dtype), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten())
        network = nn.Sequential(*layers, nn.Linear(200, 7, rng=0, dtype=dtype))
        yield f"network on a batch {name}", lambda n=network, a=images: n(a)
        yield f"network's gradients {name}", lambda n=network, a=images: [*n.vjp(a)[1](n(a))[1].values()]
        yield f"Sequential {name}", lambda n=network, a=images[:1]: n(a)
        yield f"layers one by one {name}", lambda n=network, a=images[:1]: one_by_one(n, a)
        maps = np.tile(np.array([[0.9, 0.1, 0.3], [-0.1, 1.1, 0.2]]), (len(images), 1, 1))
        keys, out = np.arange(len(images), dtype=np.uint64), np.empty_like(images)
        arguments = (images, maps, keys, out)
        yield (
            f"augment {name}",
            lambda a=arguments: (_core.augment(*a, colours=None, noise=1e-3, low=-1.0, high=1.0), a[3])[1],
        )
        other = np.float64 if dtype == np.float32 else np.float32
        wide = both.astype(other)
        yield f"similarity_matrix, mixed {name}", lambda a=both, b=wide: simclr.similarity_matrix(a, b)
        yield f"nt_xent, mixed {name}", lambda a=both, b=wide: simclr.nt_xent(a, b)
        yield f"simclr.augment {name}", lambda a=images: simclr.augment(a, 3, shear=5, aspect=(0.5, 2))
        gradient = y[: len(x)] if len(y) >= len(x) else np.resize(y, x.shape)
        yield f"cosine_similarity_vjp {name}", lambda x=x, g=gradient: pulled(cossim.cosine_similarity_vjp, x, g)
        yield f"pairwise_vjp {name}", lambda x=x, y=y: pulled(cossim.pairwise_vjp, x, y)
        bordered = nn.Conv2d(1, 3, 3, padding=2, padding_mode="reflect", rng=0, dtype=dtype)
        yield f"Conv2d.vjp with a border {name}", lambda n=bordered, a=images: pulled(n.vjp, a)[1][0]
        yield f"linear_vjp {name}", lambda x=x, y=y: pulled(nn.linear_vjp, x, y, x.dtype.type(1))
        yield f"Adam {name}", lambda x=x, g=gradient: stepped(nn.Adam, x, g)
        yield f"nt_xent with labels {name}", lambda z=both: simclr.nt_xent_value_and_grad(z, labels=np.arange(100) % 7)
        planes = np.concatenate((images, images[::-1], images), axis=1)
        colours = dict(flip=0.5, brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1, blur=2, greyscale=0.3)
        yield f"simclr.augment in colours {name}", lambda a=planes, c=colours: simclr.augment(a, 3, noise=0, **c)
        yield f"AvgPool2d {name}", lambda a=images: pulled(nn.AvgPool2d(3, 2, 1).vjp, a)[1][0]
        yield f"AdaptiveAvgPool2d {name}", lambda a=images: pulled(nn.AdaptiveAvgPool2d(5).vjp, a)[1][0]
        yield f"GELU {name}", lambda x=x: (pulled(nn.gelu_vjp, x), pulled(nn.gelu_vjp, x, "tanh"))
        yield f"leaky_relu {name}", lambda x=x: pulled(nn.leaky_relu_vjp, x, 0.3)
        yield f"dropout {name}", lambda x=x: nn.dropout(x, 0.3, rng=4)
        yield f"batch_norm {name}", lambda a=planes, d=dtype: normalized(a, nn.BatchNorm2d(3, momentum=None, dtype=d))
        yield f"AdamW and a schedule {name}", lambda x=x, g=gradient: scheduled(x, g)
        # The kernels of gradients.
        given = (images, filters, None, 1, 0, 1, 1), rows(rng, 40, 800, dtype).reshape(40, 8, 10, 10)
        yield f"conv2d_input {name}", lambda a=given: _core.conv2d_grad_input(*a)
        yield f"conv2d_weights {name}", lambda a=given: _core.conv2d_grad_weight(*a, None)[0]
        yield f"product {name}", lambda x=x, y=y: _core.matmul(x, np.ascontiguousarray(y.T))
        yield f"relu_gradient {name}", lambda x=x: _core.relu_gradient(x, np.ascontiguousarray(x[::-1]))
        given = (np.zeros((200, 5, 8), np.int64), x.reshape(200, 5, 8), (3, 3))
        yield f"max_pool2d_scatter {name}", lambda a=given: _core.max_pool2d_scatter(*a)
        yield f"all_finite {name}", lambda x=x: _core.all_finite(x)


def pulled(vjp, *arguments):
    y, pullback = vjp(*arguments)
    return y, pullback(y)


def stepped(optimizer, parameter, gradient):
    parameters = {"p": parameter.copy()}
    optimizer(parameters, 1e-3).step({"p": gradient})
    return parameters["p"]


def normalized(x, layer):
    results = []
    for mode in (True, True, False):
        y, pullback = layer.train(mode).vjp(x)
        results.append((y, pullback(y)[0], *pullback(y)[1].values()))
    return *results, *layer.state_dict().values()


def scheduled(parameter, gradient):
    parameters = {"p": parameter.copy()}
    optimizer = nn.AdamW(parameters, 1e-3, weight_decay=0.1)
    parts = [nn.LinearLR(optimizer, 0.1, total_iters=3), nn.CosineAnnealingLR(optimizer, 7)]
    schedule = nn.SequentialLR(optimizer, parts, [3])
    for _ in range(8):
        optimizer.step({"p": gradient})
        schedule.step()
    return parameters["p"], optimizer.lr


def one_by_one(network, x):
    for layer in network:
        x = layer(x)
    return x


def refused():
    """Calls that raise."""
    x = np.ones((400, 64), np.float32)
    complex_x = x.astype(complex)

    def fails(done, total):
        raise RuntimeError("from a callable")

    def without_memory(call):
        _core._fail_allocation(1)
        try:
            return call()
        finally:
            _core._fail_allocation(0)

    yield "another length", lambda: cossim.pairwise(x, x[:, :3])
    yield "a complex array", lambda: cossim.cosine_similarity(x, complex_x)
    yield "NaN for eps", lambda: cossim.cosine_similarity(x, x, 1, np.nan)
    yield "k", lambda: cossim.topk(x, None, 0)
    yield "no memory in pairwise", lambda: without_memory(lambda: cossim.pairwise(x))
    yield "no memory in topk", lambda: without_memory(lambda: cossim.topk(x, x, 3))
    yield "no memory in pairs_above", lambda: without_memory(lambda: cossim.pairs_above(x, 0.5))
    yield "no memory in duplicate_groups", lambda: without_memory(lambda: cossim.duplicate_groups(x, 0.5))
    yield "no memory in nt_xent", lambda: without_memory(lambda: simclr.nt_xent(x))
    yield "an error in progress=", lambda: cossim.pairwise(x, progress=fails)
    yield "filters", lambda: nn.conv2d(x[None, None], x[None])


def check_calls(wrong):
    cossim.set_num_threads(1)
    expected = {name: bits(call()) for name, call in calls(np.random.default_rng(1))}
    # All sets enter and leave the mode by the same code, so sets other than the best one take a few modes.
    best = _core.config()["isa"] == _core.config()["available"][0]
    for threads, some in ((1, ["both", "upward"]), (8, MODES), (3, ["all"])) if best else ((8, ["downward", "all"]),):
        cossim.set_num_threads(threads)
        for title in some:
            for name, call in calls(np.random.default_rng(1)):
                result, after = within(MODES[title], call)
                if bits(result) != expected[name]:
                    wrong.append(f"{name}: other bits in mode {title!r} on {threads} threads")
                if after != MODES[title] & CONTROL:
                    wrong.append(f"{name}: mode {title!r} is {after:#x} behind the call")
    for name in expected:
        if expected[name] != expected[name.replace("Sequential", "layers one by one")]:
            wrong.append(f"{name}: other bits than its layers")


def check_errors(wrong):
    for title, value in MODES.items():
        for name, call in refused():
            result, after = within(value, call)
            if not isinstance(result, Exception):
                wrong.append(f"{name}: no error in mode {title!r}")
            if after != value & CONTROL:
                wrong.append(f"{name}: mode {title!r} is {after:#x} behind the error")


def check_callables(wrong):
    """progress= runs in the caller's mode. If it sets a mode, that mode holds in its later calls and after the call."""
    x, seen = np.random.default_rng(2).standard_normal((3000, 256), dtype=np.float32), []
    cossim.set_num_threads(2)
    toward_zero, upward = MODES["toward zero"], MODES["upward"]

    def progress(done, total):
        seen.append(mode())
        set_mode(toward_zero)

    while len(seen) < 2:  # repeats with more rows until the call reports more than once
        seen.clear()
        x = np.concatenate((x, x))
        result, after = within(upward, lambda x=x: cossim.pairwise(x, eps=0.0, progress=progress))
    expected = bits(cossim.pairwise(x, eps=0.0))
    if [value for value in seen if value not in (upward & CONTROL, toward_zero & CONTROL)]:
        wrong.append(f"modes {[hex(value) for value in seen]} in progress=")
    if seen[0] != upward & CONTROL or set(seen[1:]) != {toward_zero & CONTROL} or after != toward_zero & CONTROL:
        wrong.append(f"modes {[hex(value) for value in seen]} in progress=, {after:#x} behind the call")
    if bits(result) != expected:
        wrong.append("other bits where progress= changes the mode")


def check_values(wrong):
    """The scores of subnormal rows are right, so a mode that flushed them to zero would change a result."""
    x = rows(np.random.default_rng(3), 20, 64, np.float32)
    scores = cossim.pairwise(x[1::5], eps=0.0)
    exact = x[1::5].astype(np.float64) * 1e40
    exact = exact @ exact.T / np.sqrt(np.outer(*[(exact**2).sum(1)] * 2))
    if not np.abs(scores - exact).max() < 1e-6:
        wrong.append("rows of subnormal numbers have no scores")


if __name__ == "__main__":
    found = []
    cossim.set_num_threads(8)
    within(MODES["all"], lambda: cossim.pairwise(np.ones((400, 64))))  # the pool's threads start in this mode
    check_values(found)
    check_calls(found)
    check_errors(found)
    check_callables(found)
    print(_core.config()["isa"], *found, sep="\n")
    sys.exit(bool(found))
