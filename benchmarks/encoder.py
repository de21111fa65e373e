"""The comparisons of networks. Each case first checks that all of its calls give the same result.

Where a rival has a faster form than the usual one, both run. The faster forms are channels_last, addmm for the product
with its scale and mask, and buffers bound beforehand. One goal is a ratio to the usual form; another is that no faster
form beats cossim. The goals of conv2d are lower.

With large tensors, page faults can take more than half of torch's time: see `kept_memory`.
"""

import ctypes
from contextlib import contextmanager
from itertools import chain

import numpy as np

import cossim
from benchmarks.harness import Case, on

TEMPERATURE, LEARNING_RATE = 0.5, 1e-3
# Floating-point operations for one image: forward; backward, for all weights and all inputs except the image.
CONV1, CONV2, FC = 2 * 24 * 24 * 10 * 25, 2 * 8 * 8 * 20 * 250, 2 * 320 * 100
FORWARD, BACKWARD = CONV1 + CONV2 + FC, CONV1 + 2 * CONV2 + 2 * FC


def _random(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)


def _images(n, size=28):
    return np.random.default_rng(0).random((n, 1, size, size), dtype=np.float32)


def _inference(torch, call):
    """Returns the call without torch's bookkeeping for gradients."""

    def inference():
        with torch.inference_mode():
            return call()

    return inference


def _arrays(result):
    """Converts the result of a call to a list of arrays."""
    parts = result if isinstance(result, (list, tuple)) else [result]
    return [part.detach().numpy() if hasattr(part, "detach") else np.asarray(part) for part in parts]


def _check(candidates, rtol=1e-4):
    """Checks that all candidates give the result of the first, within the error of float32."""
    expected = None
    for name, call in candidates.items():
        result = _arrays(call())
        expected = expected or result
        for got, wanted in zip(result, expected, strict=True):
            atol = 1e-5 * np.abs(wanted).max()
            if got.shape != wanted.shape or not np.allclose(got, wanted, rtol=rtol, atol=atol):
                raise SystemExit(f"{name} does not give what {next(iter(candidates))} gives")


# ---- rivals ----


def _onnx_session(nodes, weights, x_shape, y_shape):
    """A network in ONNX Runtime with one thread. Fixed sizes save it 2 us a call.

    Its other options are fastest at their defaults: all optimisations of the graph (the blocked layout is worth a
    quarter), and the arena (without it, batches of 1024 take twice as long). With one thread, no thread spins.
    """
    import onnxruntime
    from onnx import TensorProto, helper, numpy_helper

    graph = helper.make_graph(
        [helper.make_node(kind, inputs, [output], **options) for kind, inputs, output, options in nodes],
        "network",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, x_shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, y_shape)],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def _bound(session, x, y):
    """The session's cheapest call: it reads x and writes y, and both are bound once."""
    binding = session.io_binding()
    binding.bind_cpu_input("x", x)
    binding.bind_output("y", "cpu", 0, y.dtype.type, y.shape, y.ctypes.data)

    def run():
        session.run_with_iobinding(binding)
        return y

    return run


def _onnx_encoder(net, n):
    halves = {"kernel_shape": [2, 2], "strides": [2, 2]}
    nodes = [
        ("Conv", ["x", "0.weight", "0.bias"], "a", {}),
        ("Relu", ["a"], "b", {}),
        ("MaxPool", ["b"], "c", halves),
        ("Conv", ["c", "3.weight", "3.bias"], "d", {}),
        ("Relu", ["d"], "e", {}),
        ("MaxPool", ["e"], "f", halves),
        ("Flatten", ["f"], "g", {}),
        ("Gemm", ["g", "7.weight", "7.bias"], "h", {"transB": 1}),
        ("Relu", ["h"], "y", {}),
    ]
    weights = {name: value.numpy() for name, value in net.state_dict().items()}
    return _onnx_session(nodes, weights, [n, 1, 28, 28], [n, 100])


def _torch_encoder(torch):
    nn = torch.nn
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 10, 5),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(10, 20, 5),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(320, 100),
        nn.ReLU(),
    )


def _cossim_encoder(net):
    """cossim's encoder with the weights of torch's."""
    encoder = cossim.simclr.Encoder()
    names = {"0": "conv1", "3": "conv2", "7": "fc"}
    split = [(name.split("."), value) for name, value in net.state_dict().items()]
    encoder.load_state_dict({f"{names[layer]}.{kind}": value for (layer, kind), value in split})
    return encoder


def _torch_loss(torch, n, fast=False):
    """NT-Xent of 2 n embeddings in the usual form, or faster, with scale and mask inside the matrix product."""
    functional = torch.nn.functional
    target = (torch.arange(2 * n) + n) % (2 * n)
    mask = torch.zeros(2 * n, 2 * n).fill_diagonal_(-torch.inf)

    def loss(z):
        z = functional.normalize(z)
        if fast:
            return functional.cross_entropy(torch.addmm(mask, z, z.T, alpha=1 / TEMPERATURE), target)
        return functional.cross_entropy((z @ z.T / TEMPERATURE).fill_diagonal_(-torch.inf), target)

    return loss


# ---- inference ----


def encoder(batches=(1, 32, 1024)):
    """The encoder of small grey images."""
    import torch

    net = _torch_encoder(torch)
    last = _torch_encoder(torch).to(memory_format=torch.channels_last)
    ours = _cossim_encoder(net)
    for n in batches:
        x, y = _images(n), np.empty((n, 100), np.float32)
        tx = torch.from_numpy(x)
        tx_last = tx.to(memory_format=torch.channels_last)
        session = _onnx_encoder(net, n)

        def without_onednn():
            with torch.backends.mkldnn.flags(enabled=False):
                return net(tx)

        candidates = {
            "cossim": lambda: ours(x),
            "ONNX Runtime": lambda: session.run(["y"], {"x": x}),
            "ONNX Runtime, bound": _bound(session, x, y),
            "torch": _inference(torch, lambda: net(tx)),
            "torch channels_last": _inference(torch, lambda: last(tx_last)),
        }
        best = ["torch channels_last"]
        if n == 1:  # oneDNN's overhead of a call exceeds the time of a single image
            candidates["torch without oneDNN"] = _inference(torch, without_onednn)
            best.append("torch without oneDNN")
        _check(candidates)
        yield Case(
            f"encoder, batch {n}, float32",
            candidates,
            goals=[
                (["ONNX Runtime"], 2),
                (["torch"], 2.5 if n == 32 else 5),
                (["ONNX Runtime, bound"], 1),
                (best, 1),
            ],
            flops=n * FORWARD,
            table="networks",
        )


def encoder_threads():
    """Two threads of cossim against one."""
    ours, x = cossim.simclr.Encoder(rng=0), _images(1024)
    call = lambda: ours(x)  # noqa: E731
    yield Case(
        "encoder, batch 1024, float32, 2 threads, nothing else running",
        {"cossim": on(2, call), "cossim, 1 thread": on(1, call)},
        goals=[(["cossim, 1 thread"], 1.7)],
        flops=1024 * FORWARD,
        threads=2,
        table="",
    )


def conv2d():
    """Convolutions of sizes found in larger networks."""
    import torch

    for (n, channels, size), kernel, stride, padding in (((8, 64, 56), 3, 1, 1), ((32, 3, 224), 7, 2, 3)):
        x = _random(n, channels, size, size)
        weight, bias = 0.05 * _random(64, channels, kernel, kernel, seed=1), _random(64, seed=2)
        tx, tw, tb = (torch.from_numpy(a) for a in (x, weight, bias))
        tx_last, tw_last = (t.to(memory_format=torch.channels_last) for t in (tx, tw))
        functional = torch.nn.functional
        out = (size + 2 * padding - kernel) // stride + 1
        session = _onnx_session(
            [("Conv", ["x", "weight", "bias"], "y", {"strides": [stride] * 2, "pads": [padding] * 4})],
            {"weight": weight, "bias": bias},
            x.shape,
            (n, 64, out, out),
        )
        candidates = {
            "cossim": lambda: cossim.nn.conv2d(x, weight, bias, stride, padding),
            "torch": _inference(torch, lambda: functional.conv2d(tx, tw, tb, stride, padding)),
            # channels_last takes and returns another layout; converted from and to NCHW, it is slower than plain torch
            "torch channels_last": _inference(torch, lambda: functional.conv2d(tx_last, tw_last, tb, stride, padding)),
            "ONNX Runtime": lambda: session.run(["y"], {"x": x}),
        }
        _check(candidates)
        yield Case(
            f"conv2d {x.shape}, 64 filters {kernel} x {kernel}, stride {stride}, padding {padding}",
            candidates,
            goals=[(["torch"], 0.9), (["torch channels_last"], 0.9)],
            flops=2 * n * 64 * out * out * weight[0].size,
            table="networks",
        )


# ---- training ----


def _with_gradient(torch, loss, *leaves):
    """Returns a call for the loss of the leaves and its gradients. Unlike backward(), it adds nothing to .grad."""

    def call():
        value = loss(torch.cat(leaves))
        return value, *torch.autograd.grad(value, leaves)

    return call


def nt_xent(sizes=(64, 512, 4096)):
    """Value and gradient of NT-Xent."""
    import torch

    for size, least in ((64, 3), (512, 2), (4096, 1.5)):
        if size not in sizes:
            continue
        n, d = size // 2, 100
        z0, z1 = _random(n, d), _random(n, d, seed=1)
        leaves = [torch.from_numpy(z).requires_grad_() for z in (z0, z1)]

        def ours():
            loss, gradients = cossim.simclr.nt_xent_value_and_grad(z0, z1, TEMPERATURE)
            return loss, *gradients

        candidates = {
            "cossim": ours,
            "torch": _with_gradient(torch, _torch_loss(torch, n), *leaves),
            "torch addmm": _with_gradient(torch, _torch_loss(torch, n, fast=True), *leaves),
        }
        _check(candidates)
        yield Case(
            f"nt_xent and gradient, 2 N = {size}, D = {d}",
            candidates,
            goals=[(["torch"], least), (["torch addmm"], 1)],
            flops=3 * size * size * d,  # half of a symmetric matrix, and its product with the embeddings
            table="networks",
        )


def nt_xent_broadcast():
    """NT-Xent with torch's broadcast cosine, which makes arrays of 512 x 512 x 100 forward and backward."""
    import torch

    n, d = 256, 100
    z0, z1 = _random(n, d), _random(n, d, seed=1)
    leaves = [torch.from_numpy(z).requires_grad_() for z in (z0, z1)]
    functional, target = torch.nn.functional, (torch.arange(2 * n) + n) % (2 * n)

    def ours():
        loss, gradients = cossim.simclr.nt_xent_value_and_grad(z0, z1, TEMPERATURE)
        return loss, *gradients

    def broadcast(z):
        similarity = functional.cosine_similarity(z[None], z[:, None], 2)
        return functional.cross_entropy((similarity / TEMPERATURE).fill_diagonal_(-torch.inf), target)

    candidates = {"cossim": ours, "torch, broadcast": _with_gradient(torch, broadcast, *leaves)}
    _check(candidates)
    yield Case(
        f"nt_xent and gradient, 2 N = {2 * n}, D = {d}, broadcast form",
        candidates,
        goals=[(["torch, broadcast"], 300)],
        flops=3 * 4 * n * n * d,
        table="networks",
    )


def _torch_step(torch, x, channels_last=False, fast=False):
    """Returns (training step, the new network that it trains). The step returns the loss before the update."""
    layout = torch.channels_last if channels_last else torch.contiguous_format
    net, x = _torch_encoder(torch).to(memory_format=layout), torch.from_numpy(x).to(memory_format=layout)
    loss_of = _torch_loss(torch, len(x) // 2, fast)
    optimizer = torch.optim.SGD(net.parameters(), LEARNING_RATE)

    def step():
        optimizer.zero_grad()
        loss = loss_of(net(x))
        loss.backward()
        optimizer.step()
        return loss

    return step, net


def _cossim_step(encoder, x):
    n, optimizer = len(x) // 2, cossim.nn.SGD(encoder, LEARNING_RATE)

    def step():
        z, pullback = encoder.vjp(x)
        loss, gradients = cossim.simclr.nt_xent_value_and_grad(z[:n], z[n:], TEMPERATURE)
        optimizer.step(pullback(np.concatenate(gradients), input_gradient=False)[1])
        return loss

    return step


def training_step(sizes=(64, 512)):
    """A training step of the encoder: forward, loss, gradients, update, with both views of all images in one batch."""
    import torch

    for size, least in ((64, 3), (512, 2)):
        if size not in sizes:
            continue
        x = _images(size)
        encoder = _cossim_encoder(_torch_encoder(torch))
        rivals = {
            "torch": _torch_step(torch, x),
            "torch channels_last, addmm": _torch_step(torch, x, channels_last=True, fast=True),
        }
        candidates = {"cossim": _cossim_step(encoder, x)} | {name: step for name, (step, _) in rivals.items()}
        for _ in range(3):  # later losses depend on the earlier steps
            _check(candidates)
        ours = lambda: list(encoder.state_dict().values())  # noqa: E731
        _check({"cossim": ours} | {name: lambda net=net: list(net.parameters()) for name, (_, net) in rivals.items()})
        yield Case(
            f"training step of the encoder, 2 N = {size}",
            candidates,
            goals=[(["torch"], least), (["torch channels_last, addmm"], 1)],
            flops=size * (FORWARD + BACKWARD) + 3 * size * size * 100,
            table="networks",
        )


def training_threads(sizes=(512, 1024)):
    """A training step by two threads of cossim against one."""
    for size in sizes:
        step = _cossim_step(cossim.simclr.Encoder(rng=0), _images(size))
        yield Case(
            f"training step of the encoder, 2 N = {size}, 2 threads, nothing else running",
            {"cossim": on(2, step), "cossim, 1 thread": on(1, step)},
            goals=[(["cossim, 1 thread"], 1.7)],
            flops=size * (FORWARD + BACKWARD) + 3 * size * size * 100,
            threads=2,
            table="",
        )


def _torch_views(torch, x):
    """Returns a call for one view of each image, with the default ranges of cossim.simclr.augment."""
    functional, n, size = torch.nn.functional, len(x), x.shape[-1]

    def uniform(*shape, within=1.0):
        return torch.empty(shape).uniform_(-within, within)

    def views():
        angle, scale = torch.deg2rad(uniform(n, within=15)), 1 + uniform(n, within=0.2)
        cosine, sine = scale * angle.cos(), scale * angle.sin()
        # in units of half the image's side
        offset = uniform(n, 2, within=2 * 2 / size) + uniform(n, 2) * (1 - scale).abs()[:, None]
        maps = torch.stack((cosine, -sine, offset[:, 0], sine, cosine, offset[:, 1]), 1).view(n, 2, 3)
        grid = functional.affine_grid(maps, x.shape, align_corners=False)
        return functional.grid_sample(x, grid, align_corners=False).add_(torch.randn(x.shape), alpha=0.05).clamp_(0, 1)

    return views


def views(n=1024):
    """Random views of images."""
    import torch

    x, rng = _images(n), np.random.default_rng(0)
    candidates = {
        "cossim": lambda: cossim.simclr.augment(x, rng),
        "torch": _inference(torch, _torch_views(torch, torch.from_numpy(x))),
    }
    # Each candidate draws its own random numbers, so only averages over many images agree.
    _check(
        {name: lambda call=call: [_arrays(call())[0].mean(axis=0)[:, ::4, ::4]] for name, call in candidates.items()},
        rtol=0.1,
    )
    yield Case(f"views of {x.shape}", candidates, table="networks")


# ---- the same without page faults ----

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _MMAP_MAX = -1, -3, -4  # of glibc's malloc.h


@contextmanager
def _freed_memory_kept():
    """Makes glibc keep freed memory. Afterwards sets limits like those that glibc has after a large free()."""
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "mallopt"):
        raise SystemExit("kept_memory needs glibc")
    libc.mallopt(_MMAP_MAX, 0)
    libc.mallopt(_TRIM_THRESHOLD, (1 << 31) - 1)
    try:
        yield
    finally:
        libc.mallopt(_MMAP_MAX, 1 << 16)
        libc.mallopt(_MMAP_THRESHOLD, 32 << 20)
        libc.mallopt(_TRIM_THRESHOLD, 64 << 20)
        libc.malloc_trim(0)


def kept_memory():
    """Runs the larger cases in a process that keeps freed memory, so that tensors of many MB cause no page faults."""
    with _freed_memory_kept():
        # The loop yields one case at a time: the calls of a case are valid only until its bench yields the next one.
        for case in chain(encoder((1024,)), conv2d(), nt_xent((512, 4096)), training_step()):
            case.title += ", freed memory kept"
            yield case


BENCHES = {
    bench.__name__: bench
    for bench in (
        encoder,
        encoder_threads,
        conv2d,
        nt_xent,
        nt_xent_broadcast,
        training_step,
        training_threads,
        views,
        kept_memory,
    )
}
