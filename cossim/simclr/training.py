"""SimCLR training. The encoder learns to tell the two views of an image from the views of all other images."""

from __future__ import annotations

import copy
import hashlib
import json
import math
import os
import signal
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, SupportsIndex

import numpy as np

from cossim import _errors
from cossim._arguments import check_temperature, integer_text, size_argument, temperature_argument
from cossim._arithmetic import contiguous, fixed_arithmetic
from cossim._io import ending_signals
from cossim._progress import reporting
from cossim.nn import (
    SGD,
    Adam,
    CosineAnnealingLR,
    Dropout,
    Linear,
    LinearLR,
    Module,
    ReLU,
    Sequential,
    SequentialLR,
    load_weights,
    save_weights,
)
from cossim.nn.weights import check_weights_path
from cossim.simclr.augment import augment as augment_images
from cossim.simclr.encoder import LEAST_SIZE, Encoder
from cossim.simclr.images import images_argument, scaled_pixels
from cossim.simclr.loss import nt_xent_value_and_grad

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from cossim._typing import Array, Number, Optimizer, Path, Progress, Schedule

VERSION = 2  # version of the checkpoint format
CHUNK = 1024  # number of images that are checked and hashed at a time

# The views of train, where they differ from the defaults of augment. shift is a fraction of the smaller side.
VIEWS = {"rotate": 20.0, "shear": 10.0}
SHIFT = 3 / 28
WARM_UP = 20  # schedule="cosine" warms up for one step in 20


class Training(NamedTuple):
    """The result of train.

    Attributes
    ----------
    encoder : Module
        The trained encoder, in evaluation mode, without the projection head.
    losses : numpy.ndarray of float64
        The loss of each step, calculated before its update. The steps of a resumed checkpoint are included.

    Examples
    --------
    >>> import numpy as np, cossim.simclr
    >>> images = np.random.default_rng(0).random((16, 1, 28, 28), dtype=np.float32)
    >>> training = cossim.simclr.train(images, epochs=3, batch_size=8)
    >>> training.losses.shape  # two steps an epoch
    (6,)
    >>> training.encoder(images).shape
    (16, 100)
    """

    encoder: Module
    losses: NDArray[np.float64]


def train(
    images: Array,
    epochs: SupportsIndex = 60,
    batch_size: SupportsIndex = 128,
    temperature: Number = 0.2,
    seed: SupportsIndex = 0,
    *,
    lr: Number = 2e-3,
    optimizer: Literal["adam", "sgd"] | Callable[[Any], Optimizer] = "adam",
    encoder: Module | None = None,
    head: Literal["mlp"] | Module | None = "mlp",
    schedule: Literal["cosine"] | Callable[[Any, int], Schedule] | None = None,
    augment: dict[str, Any] | Callable[[NDArray[Any], np.random.Generator], NDArray[Any]] | None = None,
    callback: Callable[[int, int, float], object] | None = None,
    progress: Progress | None = None,
    checkpoint: Path | None = None,
) -> Training:
    """Trains an encoder on images without labels, as SimCLR does.

    A step takes batch_size images, makes two random views of each image, encodes the views and projects the embeddings
    with the head. The loss, nt_xent, is small if projections of two views of one image are similar, and projections of
    different images are not. The optimizer updates the parameters with the gradient of the loss. After the training
    the head is dropped, because the embeddings before it say more about the images. Each epoch shuffles the images.
    Images left over at the end of an epoch, too few for a batch, are not used in it. (Chen, Kornblith, Norouzi and
    Hinton, "A Simple Framework for Contrastive Learning of Visual Representations", 2020.)

    Parameters
    ----------
    images : array_like, shape (N, C, H, W) or (N, H, W)
        float32 or float64, or pixels of uint8 from 0 to 255, which are divided by 255 and give a float32 training. N is
        at least 2. A numpy.memmap is read batch by batch.
    epochs : int
        Number of passes over the images. 0 returns the initial encoder.
    batch_size : int
        Number of images in a step, at least 2. If there are fewer images, a step takes all of them.
    temperature : float
        Temperature of nt_xent.
    seed : int
        Seed of the initial parameters, the order of the images and the views. The images and views of a step depend
        only on the seed and the number of the step.
    lr : float
        Learning rate of the optimizer.
    optimizer : {"adam", "sgd"} or callable
        Let net be the encoder followed by the head. "adam" is Adam(net, lr), and "sgd" is SGD(net, lr, momentum=0.9).
        A callable receives net and returns an optimizer like these; lr is then ignored.
    encoder : Module, optional
        The encoder to start from, which returns embeddings (N, D). train copies it and does not change it.
        Default: ``Encoder(C, (H, W), dtype=images.dtype, rng=seed)``, for images of at least 16 x 16 pixels.
    head : "mlp", Module or None
        The projection between the embeddings and the loss. "mlp" is a linear layer, ReLU and a linear layer, each with
        as many outputs as the embeddings have numbers. A Module is copied. With None the loss takes the embeddings
        themselves.
    schedule : None, "cosine" or callable
        None keeps the learning rate lr. With "cosine" it rises from 1 % of lr during the first twentieth of the steps,
        and then falls to 0 along a cosine. A callable receives the optimizer and the number of all steps, and returns a
        schedule such as nn.CosineAnnealingLR. train calls its step() after each step.
    augment : dict or callable, optional
        A dict replaces default keyword arguments of simclr.augment. The defaults here are ``rotate=20, shear=10``, a
        shift of 3/28 of the smaller side, and otherwise the defaults of simclr.augment. A callable receives images
        (N, C, H, W) and a numpy.random.Generator, and returns N views of the same shape and dtype. Each step calls it
        twice, once for each view.
    callback : callable, optional
        ``callback(epoch, step, loss)`` is called after each step. epoch counts from 1, step from 1 in each epoch, and
        loss is a float. If it returns True, the training ends: train saves the checkpoint and returns the result so
        far. If it returns False or None, the training continues.
    progress : None, bool or callable
        True shows a progress bar with the loss and needs tqdm. A callable is called as ``progress(done, total)``, both
        counted in steps.
    checkpoint : str or os.PathLike, optional
        A .npz or .safetensors file. train writes it atomically after each epoch and when the training is interrupted.
        If the file exists, train resumes from it and gives the same bits as an uninterrupted training.

    Returns
    -------
    Training
        (encoder, losses). They have the same bits for any number of threads. The encoder is in evaluation mode.

    Raises
    ------
    KeyboardInterrupt
        The user pressed Ctrl-C. The checkpoint, if there is one, then holds the last complete step.
    ValueError
        The images have another shape, there are fewer than two, or they hold NaN or infinity. A number is out of range.
        The loss of a step is not finite; the message names the epoch and the step (torch would continue and leave NaN
        in the encoder). The images are too small for the default encoder. The checkpoint has other images or settings,
        has more epochs, is damaged, or is of another version; it is left unchanged. A checkpoint identifies a callable
        by its name. With a schedule, the number of all steps is a setting.
    TypeError
        The images are not float32, float64 or uint8, or an argument has another type.
    OSError
        The checkpoint cannot be read or written. An existing checkpoint stays complete.

    Examples
    --------
    >>> import numpy as np, cossim.simclr
    >>> images = np.random.default_rng(0).random((16, 1, 28, 28), dtype=np.float32)
    >>> encoder, losses = cossim.simclr.train(images, epochs=5, batch_size=16, seed=1)
    >>> bool(losses[-1] < losses[0])
    True
    """
    with reporting(progress, "train", "steps") as report:
        epochs = size_argument("train", "epochs", epochs, 0)
        if epochs >= 2**31:
            names = {"function": "train", "name": "epochs", "limit": "2**31", "value": integer_text(epochs)}
            raise ValueError(_errors.TOO_LARGE.format(**names))
        batch_size = size_argument("train", "batch_size", batch_size, 2)
        seed = size_argument("train", "seed", seed, 0)
        temperature = temperature_argument("train", temperature)
        if callback is not None and not callable(callback):
            raise TypeError(_errors.CALLBACK.format(kind=type(callback).__name__))
        images, digest = _check_images(images)
        dtype = np.dtype(np.float32) if images.dtype == np.uint8 else images.dtype.newbyteorder("=")
        check_temperature("train", temperature, dtype)
        encoder = _initial(encoder, images.shape, dtype, seed)
        projection = _initial_head(head, encoder, scaled_pixels(images[:2], dtype), seed)
        net = encoder if projection is None else Sequential({"encoder": encoder, "head": projection})
        size = min(batch_size, len(images))
        run = _Run(encoder, projection, net, _optimizer(optimizer, net, lr), epochs * (len(images) // size))
        optimizer_text = repr(run.optimizer)
        run.schedule, schedule_text = _schedule(schedule, run.optimizer, len(run.losses))
        make_views, augment_text = _views(augment, images.shape)
        if checkpoint is None:
            save = None
        else:
            settings = {
                "version": VERSION,
                "images": digest,
                "encoder": _digest(encoder.state_dict(), repr(encoder)),
                "head": None if projection is None else _digest(projection.state_dict(), repr(projection)),
                "optimizer": optimizer_text,
                "schedule": schedule_text,
                "batch_size": size,
                "temperature": temperature,
                "seed": seed,
                "augment": augment_text,
            }
            save = _resume(run, checkpoint, settings)
        net.train()
        try:
            _run_steps(
                run, images, dtype, size, temperature, seed, make_views, callback, report, progress is True, save
            )
        finally:
            net.eval()
    return Training(run.encoder, run.losses[: run.done])


class _Run:
    """State of a training run.

    net is the encoder, followed by the head if there is one. total is the number of steps in all epochs, done the
    number of complete steps, and saved the value of done in the checkpoint. consistent is False while a step updates
    the other members.
    """

    def __init__(self, encoder, head, net, optimizer, total):
        self.encoder = encoder
        self.head = head
        self.net = net
        self.dropouts = [module for module in _all_modules(net) if isinstance(module, Dropout)]
        self.optimizer = optimizer
        self.schedule = None
        self.losses = np.empty(total)
        self.done = self.saved = 0
        self.consistent = True


def _all_modules(module):
    return [module, *(inner for _, child in module.named_modules() for inner in _all_modules(child))]


# ---- arguments ----


def _check_images(images: Array) -> tuple[NDArray[Any], str]:
    """Returns the images as (N, C, H, W), and their SHA-256 digest."""
    images = images_argument("train", images, 1)
    if len(images) < 2:
        raise ValueError(_errors.TWO_IMAGES.format(count=len(images)))
    if images.ndim == 3:
        images = images[:, None]
    digest, unusable = hashlib.sha256(f"{images.shape} {images.dtype.name}".encode()), 0
    for start in range(0, len(images), CHUNK):
        chunk = contiguous(images[start : start + CHUNK])
        unusable += chunk.size - np.count_nonzero(np.isfinite(chunk))
        digest.update(chunk)
    if unusable:
        raise ValueError(_errors.UNUSABLE_IMAGES.format(count=unusable, shape=images.shape))
    return images, digest.hexdigest()


def _initial(encoder, shape, dtype, seed):
    if encoder is None and shape[3] in (1, 3, 4) and shape[1] >= LEAST_SIZE:
        raise ValueError(_errors.CHANNELS_LAST.format(function="train", shape=shape))
    if encoder is None and min(shape[2:]) < LEAST_SIZE:
        raise ValueError(_errors.SMALL_IMAGES.format(shape=shape, least=LEAST_SIZE))
    if encoder is None:
        return Encoder(shape[1], shape[2:], dtype=dtype, rng=seed)
    if not isinstance(encoder, Module):
        raise TypeError(_errors.NOT_AN_ENCODER.format(kind=type(encoder).__name__))
    return copy.deepcopy(encoder)


def _initial_head(head, encoder, two_images, seed):
    if head is None:
        return None
    if isinstance(head, Module):
        return copy.deepcopy(head)
    if not isinstance(head, str) or head != "mlp":
        raise ValueError(_errors.HEAD.format(head=head))
    with _evaluating(encoder):
        z = encoder(two_images)
    if not isinstance(z, np.ndarray) or z.ndim != 2:
        kind = f"an array of shape {z.shape}" if isinstance(z, np.ndarray) else type(z).__name__
        raise ValueError(_errors.ENCODER_RESULT.format(kind=kind))
    size, rng = z.shape[1], _rng(seed, 0, 0, 0)
    return Sequential(Linear(size, size, dtype=z.dtype, rng=rng), ReLU(), Linear(size, size, dtype=z.dtype, rng=rng))


@contextmanager
def _evaluating(module):
    """Puts a module and all modules in it into evaluation mode for the block."""
    modes = [(inner, inner.training) for inner in _all_modules(module)]
    module.eval()
    try:
        yield
    finally:
        for inner, mode in modes:
            inner.training = mode


def _optimizer(optimizer, net, lr):
    if callable(optimizer):
        return optimizer(net)
    if optimizer == "adam":
        return Adam(net, lr)
    if optimizer == "sgd":
        return SGD(net, lr, momentum=0.9)
    raise ValueError(_errors.OPTIMIZER.format(optimizer=optimizer))


def _schedule(schedule, optimizer, steps):
    """Returns a schedule of the optimizer or None, and the text that identifies it in a checkpoint."""
    if schedule is None:
        return None, None
    if callable(schedule):
        return schedule(optimizer, steps), f"{_qualified_name(schedule)}, {steps} steps"
    if schedule != "cosine":
        raise ValueError(_errors.SCHEDULE.format(schedule=schedule))
    warm_up = max(steps // WARM_UP, 1)
    parts = [LinearLR(optimizer, 0.01, total_iters=warm_up), CosineAnnealingLR(optimizer, max(steps - warm_up, 1))]
    return SequentialLR(optimizer, parts, [warm_up]), f"cosine, {steps} steps"


def _qualified_name(function):
    kind = function if hasattr(function, "__qualname__") else type(function)
    return f"{kind.__module__}.{kind.__qualname__}"


def _views(augment, shape):
    """Returns a function of (images, rng) that makes views, and the text that identifies it in a checkpoint."""
    if callable(augment):
        return augment, _qualified_name(augment)
    if augment is None:
        augment = {}
    if not isinstance(augment, dict):
        raise TypeError(_errors.AUGMENT.format(kind=type(augment).__name__))
    with fixed_arithmetic():
        shift = min(shape[2:]) * SHIFT
    defaults = augment_images.__kwdefaults__ or {}
    if wrong := [name for name in augment if name not in defaults]:
        raise TypeError(_errors.VIEW_NAME.format(name=wrong[0], names=", ".join(defaults)))
    options = {**defaults, **VIEWS, "shift": shift, **augment}
    return lambda images, rng: augment_images(images, rng, **options), repr(sorted(options.items()))


# ---- steps ----


def _rng(seed, *key):
    """Returns the random generator of a key: (epoch,) or (epoch, step). Each key has an independent stream."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=key))


def _run_steps(run, images, dtype, size, temperature, seed, make_views, callback, report, show_loss, save):
    per_epoch, total = len(images) // size, len(run.losses)
    order, batch = None, np.empty((2 * size, *images.shape[1:]), dtype)
    try:
        if report is not None and run.done < total:
            report(run.done, total)
        for number in range(run.done, total):
            epoch, step = divmod(number, per_epoch)
            if order is None or step == 0:
                order = _rng(seed, epoch).permutation(len(images))
            _two_views(images[order[step * size : (step + 1) * size]], _rng(seed, epoch, step), make_views, batch)
            for index, dropout in enumerate(run.dropouts, 1):
                dropout.rng = _rng(seed, epoch, step, index)
            z, pullback = run.net.vjp(batch)
            loss, gradients = nt_xent_value_and_grad(z[:size], z[size:], temperature)
            if not math.isfinite(loss):
                place = {"step": step + 1, "steps": per_epoch, "epoch": epoch + 1}
                raise ValueError(_errors.LOSS.format(**place, loss=loss))
            _, gradients = pullback(np.concatenate(gradients), input_gradient=False)
            with _undivided():
                run.consistent = False
                run.optimizer.step(gradients)
                if run.schedule is not None:
                    run.schedule.step()
                run.losses[number] = loss
                run.done = number + 1
                run.consistent = True
            stopped = callback is not None and bool(callback(epoch + 1, step + 1, loss))
            if save is not None and (stopped or step == per_epoch - 1):
                save()
            if report is not None:
                report(run.done, total, *([f"loss {loss:.4f}"] if show_loss else []))
            if stopped:
                return
    except (KeyboardInterrupt, SystemExit):
        if save is not None and run.consistent and run.saved < run.done:
            save()
        raise


def _two_views(images, rng, make_views, batch):
    """Fills batch (2 N, C, H, W): the first views of all N images, then the second views."""
    images = np.ascontiguousarray(scaled_pixels(images, batch.dtype), batch.dtype)
    for half in (batch[: len(images)], batch[len(images) :]):
        views = make_views(images, rng)
        if not isinstance(views, np.ndarray) or views.shape != images.shape or views.dtype != images.dtype:
            kind = f"{views.dtype} of shape {views.shape}" if isinstance(views, np.ndarray) else type(views).__name__
            raise ValueError(_errors.WRONG_VIEWS.format(dtype=images.dtype, shape=images.shape, kind=kind))
        half[...] = views


@contextmanager
def _undivided():
    """Defers signals with Python handlers, such as SIGINT of Ctrl-C, to the end of the block."""
    if threading.current_thread() is not threading.main_thread():  # signal handlers only run in the main thread
        yield
        return
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, *ending_signals())}
    handlers = {number: handler for number, handler in handlers.items() if callable(handler)}
    pending = []
    try:
        for number in handlers:
            signal.signal(number, lambda *signal_and_frame: pending.append(signal_and_frame))
        yield
    finally:
        for number, handler in reversed(handlers.items()):  # SIGINT last: if it comes now, all others are restored
            signal.signal(number, handler)
        for number, frame in pending:
            handlers[number](number, frame)


# ---- checkpoints ----


def _digest(arrays, text=""):
    digest = hashlib.sha256(text.encode())
    for name in sorted(arrays):
        array = np.asarray(arrays[name], order="C")
        digest.update(f"{name} {array.dtype.name} {array.shape}\n".encode())
        digest.update(array)
    return digest.hexdigest()


def _resume(run, path, settings):
    """Loads the checkpoint at path into run, if there is one. Returns a function that saves run to path."""
    path = os.fspath(path)
    check_weights_path(path)
    if os.path.exists(path):
        _load(run, path, settings)
        run.saved = run.done

    def save():
        arrays = {"settings": np.frombuffer(json.dumps(settings).encode(), np.uint8), "losses": run.losses[: run.done]}
        for name, part in _saved_parts(run):
            arrays |= {f"{name}.{key}": array for key, array in part.state_dict().items()}
        arrays["sha256"] = np.frombuffer(bytes.fromhex(_digest(arrays)), np.uint8)
        save_weights(path, arrays)
        run.saved = run.done

    return save


def _saved_parts(run):
    parts = ("encoder", run.encoder), ("head", run.head), ("optimizer", run.optimizer)
    return [(name, part) for name, part in parts if part is not None]


def _bytes_of(array):
    """Returns the bytes of a 1-d uint8 array. Raises TypeError otherwise: bytes(n) of an integer would make n zeros."""
    if (array.ndim, array.dtype) != (1, np.uint8):
        raise TypeError
    return bytes(array)


def _load(run, path, settings):
    arrays = load_weights(path)
    try:
        saved = json.loads(_bytes_of(arrays["settings"]))
        version, losses, digest = saved["version"], arrays["losses"], _bytes_of(arrays.pop("sha256"))
        if (losses.ndim, losses.dtype) != (1, run.losses.dtype) or not isinstance(saved, dict):
            raise TypeError
    except (KeyError, TypeError, ValueError, RecursionError):
        raise ValueError(_errors.NOT_A_CHECKPOINT.format(path=path)) from None
    if version != VERSION:
        raise ValueError(_errors.CHECKPOINT_VERSION.format(path=path, version=version, known=VERSION))
    if digest.hex() != _digest(arrays):
        raise ValueError(_errors.DAMAGED_CHECKPOINT.format(path=path))
    messages = {"images": _errors.OTHER_IMAGES, "encoder": _errors.OTHER_ENCODER, "head": _errors.OTHER_HEAD}
    problems = [
        messages.get(name, _errors.OTHER_SETTING).format(name=name, saved=saved.get(name), value=value)
        for name, value in settings.items()
        if saved.get(name) != value
    ]
    if len(losses) > len(run.losses):
        problems.append(_errors.MORE_STEPS.format(saved=len(losses), steps=len(run.losses)))
    if problems:
        raise ValueError(_errors.OTHER_TRAINING.format(path=path, problems="; ".join(problems)))
    for name, part in _saved_parts(run):
        state = {key.removeprefix(f"{name}."): a for key, a in arrays.items() if key.startswith(f"{name}.")}
        try:
            part.load_state_dict(state)
        except (TypeError, ValueError) as error:
            raise ValueError(_errors.UNREADABLE_CHECKPOINT.format(path=path, error=error)) from None
    run.losses[: len(losses)] = losses
    run.done = len(losses)
    if run.schedule is not None:
        for _ in range(run.done):
            run.schedule.step()
