"""The comparisons of single layers. Each case first checks that all of its calls give the same result."""

import numpy as np

import cossim
from benchmarks.encoder import _check, _inference, _onnx_session, _random
from benchmarks.harness import Case

# (title, shape of the input, shape of the filters, stride, padding): layers of common networks, then narrow images, and
# kernels as large as a patch or the image
CONVOLUTIONS = (
    ("3 x 3", (8, 64, 56, 56), (64, 64, 3, 3), 1, 1),
    ("3 x 3", (16, 128, 28, 28), (128, 128, 3, 3), 1, 1),
    ("3 x 3", (64, 256, 7, 7), (256, 256, 3, 3), 1, 1),
    ("3 x 3, stride 2", (8, 64, 56, 56), (128, 64, 3, 3), 2, 1),
    ("1 x 1", (8, 64, 56, 56), (256, 64, 1, 1), 1, 0),
    ("7 x 7, stride 2", (32, 3, 224, 224), (64, 3, 7, 7), 2, 3),
    ("3 x 3", (4, 64, 4096, 1), (64, 64, 3, 3), 1, 1),
    ("9 x 1", (4, 64, 4096, 1), (64, 64, 9, 1), 1, (4, 0)),
    ("16 x 16, stride 16", (8, 3, 224, 224), (768, 3, 16, 16), 16, 0),
    ("28 x 28, as the image", (64, 16, 28, 28), (100, 16, 28, 28), 1, 0),
)
POOLED = (32, 64, 56, 56)
WINDOWS = ((2, 2), (3, 2), (5, 1), (9, 1), (13, 1), (56, 56))  # (window, stride): usual ones, pyramids, the whole image
FEATURES = (32, 64, 28, 28)


def _floats(shape, divisor=1):
    """Random float32 numbers, divided by divisor."""
    return _random(*shape) / np.float32(divisor)


def convolutions():
    """conv2d against torch, in both of its layouts, and ONNX Runtime."""
    import torch

    functional = torch.nn.functional
    for title, shape, filters, stride, padding in CONVOLUTIONS:
        x, weight, bias = _floats(shape), _floats(filters, np.sqrt(np.prod(filters[1:]))), _floats(filters[:1])
        tx, tw, tb = (torch.from_numpy(a) for a in (x, weight, bias))
        tx_last, tw_last = (t.to(memory_format=torch.channels_last) for t in (tx, tw))
        y = functional.conv2d(tx, tw, tb, stride, padding).shape
        pads = [*(padding if isinstance(padding, tuple) else (padding, padding))] * 2
        session = _onnx_session(
            [("Conv", ["x", "weight", "bias"], "y", {"strides": [stride] * 2, "pads": pads})],
            {"weight": weight, "bias": bias},
            shape,
            y,
        )
        candidates = {
            "cossim": lambda: cossim.nn.conv2d(x, weight, bias, stride, padding),
            "torch": _inference(torch, lambda: functional.conv2d(tx, tw, tb, stride, padding)),
            "torch channels_last": _inference(torch, lambda: functional.conv2d(tx_last, tw_last, tb, stride, padding)),
            "ONNX Runtime": lambda: session.run(["y"], {"x": x}),
        }
        _check(candidates, rtol=1e-3)
        yield Case(
            f"conv2d {title}: {shape}, {filters[0]} filters",
            candidates,
            goals=[(["torch", "torch channels_last", "ONNX Runtime"], 1)],
            flops=2 * int(np.prod(y)) * weight[0].size,
        )


def pooling():
    """Pooling against torch, in both of its layouts."""
    import torch

    functional, nn = torch.nn.functional, cossim.nn
    calls = {
        f"max_pool2d of {POOLED}, window {size}, stride {stride}": (
            lambda x, size=size, stride=stride: nn.max_pool2d(x, size, stride),
            lambda x, size=size, stride=stride: functional.max_pool2d(x, size, stride),
        )
        for size, stride in WINDOWS
    }
    calls[f"avg_pool2d of {POOLED}, window 2"] = lambda x: nn.avg_pool2d(x, 2), lambda x: functional.avg_pool2d(x, 2)
    calls[f"adaptive_avg_pool2d of {POOLED} to 1"] = (
        lambda x: nn.adaptive_avg_pool2d(x, 1),
        lambda x: functional.adaptive_avg_pool2d(x, 1),
    )
    yield from _against_torch(torch, calls, _floats(POOLED), 1)


def pointwise():
    """Activations and batch normalisation, forward, against torch."""
    import torch

    functional, nn = torch.nn.functional, cossim.nn
    means = [_floats(FEATURES[1:2]), np.abs(_floats(FEATURES[1:2])) + 1]
    torch_means = [torch.from_numpy(mean) for mean in means]
    calls = {
        f"relu of {FEATURES}": (nn.relu, functional.relu),
        f"leaky_relu of {FEATURES}": (nn.leaky_relu, functional.leaky_relu),
        f"gelu of {FEATURES}": (nn.gelu, functional.gelu),
        f"batch_norm of {FEATURES}": (
            lambda x: nn.batch_norm(x, *means),
            lambda x: functional.batch_norm(x, *torch_means),
        ),
        f"batch_norm of {FEATURES}, training": (
            lambda x: nn.batch_norm(x, None, None, training=True),
            lambda x: functional.batch_norm(x, None, None, training=True),
        ),
    }
    yield from _against_torch(torch, calls, _floats(FEATURES), 2)


def _against_torch(torch, calls, x, passes):
    """Yields a case for each title -> (function of cossim, function of torch).

    passes: how many arrays of the size of x are read and written.
    """
    tx = torch.from_numpy(x)
    last = tx.to(memory_format=torch.channels_last)
    for title, (ours, theirs) in calls.items():
        candidates = {
            "cossim": lambda: ours(x),
            "torch": _inference(torch, lambda: theirs(tx)),
            "torch channels_last": _inference(torch, lambda: theirs(last)),
        }
        _check(candidates)
        goals = [(["torch", "torch channels_last"], 0.8)]
        yield Case(title, candidates, goals=goals, bytes_read=passes * x.nbytes)


BENCHES = {bench.__name__: bench for bench in (convolutions, pooling, pointwise)}
