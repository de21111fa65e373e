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
from cossim._arguments import check_temperature, size_argument, temperature_argument
from cossim._arithmetic import contiguous
from cossim._io import ENDING_SIGNALS
from cossim._progress import reporting
from cossim.nn import SGD, Adam, Module, load_weights, save_weights
from cossim.nn.weights import check_weights_path
from cossim.simclr.augment import augment as augment_images
from cossim.simclr.augment import images_argument
from cossim.simclr.encoder import Encoder
from cossim.simclr.loss import nt_xent_value_and_grad

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from cossim._typing import Array, Number, Optimizer, Path, Progress

VERSION = 1  # version of the checkpoint format
CHUNK = 1024  # number of images that are checked and hashed at a time


class Training(NamedTuple):
    """The result of train.

    Attributes
    ----------
    encoder : Module
        The trained encoder.
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
    batch_size: SupportsIndex = 256,
    temperature: Number = 0.1,
    seed: SupportsIndex = 0,
    *,
    lr: Number = 2e-3,
    optimizer: Literal["adam", "sgd"] | Callable[[Any], Optimizer] = "adam",
    encoder: Module | None = None,
    augment: dict[str, Any] | Callable[[NDArray[Any], np.random.Generator], NDArray[Any]] | None = None,
    progress: Progress | None = None,
    checkpoint: Path | None = None,
) -> Training:
    """Trains an encoder on images without labels, as SimCLR does.

    A step takes batch_size images, makes two random views of each image, and encodes the views. The loss, nt_xent, is
    small if the two views of an image have similar embeddings and views of different images do not. The optimizer
    updates the encoder's parameters with the gradient of the loss. Each epoch shuffles the images. Images left over at
    the end of an epoch, too few for a batch, are not used in it. (Chen, Kornblith, Norouzi and Hinton, "A Simple
    Framework for Contrastive Learning of Visual Representations", 2020.)

    Parameters
    ----------
    images : array_like, shape (N, C, H, W) or (N, H, W)
        float32 or float64, with N at least 2. A numpy.memmap is read batch by batch.
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
        "adam" is Adam(encoder, lr) and "sgd" is SGD(encoder, lr, momentum=0.9). A callable receives the encoder and
        returns an optimizer like these; lr is then ignored.
    encoder : Module, optional
        The encoder to start from. train copies it and does not change it.
        Default: ``Encoder(dtype=images.dtype, rng=seed)``.
    augment : dict or callable, optional
        A dict replaces default keyword arguments of simclr.augment. A callable receives images (N, C, H, W) and a
        numpy.random.Generator, and returns N views of the same shape and dtype. Each step calls it twice, once for each
        view.
    progress : None, bool or callable
        True shows a progress bar with the loss and needs tqdm. A callable is called as ``progress(done, total)``, both
        counted in steps.
    checkpoint : str or os.PathLike, optional
        A .npz or .safetensors file. train writes it atomically after each epoch and when the training is interrupted.
        If the file exists, train resumes from it and gives the same bits as an uninterrupted training.

    Returns
    -------
    Training
        (encoder, losses). They have the same bits for any number of threads.

    Raises
    ------
    KeyboardInterrupt
        The user pressed Ctrl-C. The checkpoint, if there is one, then holds the last complete step.
    ValueError
        The images have another shape, there are fewer than two, or they hold NaN or infinity. A number is out of range.
        The loss of a step is not finite; the message names the epoch and the step (torch would continue and leave NaN
        in the encoder). The checkpoint has other images or settings, has more epochs, is damaged, or is of another
        version; it is left unchanged. A checkpoint identifies a callable by its name.
    TypeError
        The images are not float32 or float64, or an argument has another type.
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
        batch_size = size_argument("train", "batch_size", batch_size, 2)
        seed = size_argument("train", "seed", seed, 0)
        temperature = temperature_argument("train", temperature)
        images, digest = _check_images(images)
        check_temperature("train", temperature, images.dtype)
        encoder = _initial(encoder, images.dtype.newbyteorder("="), seed)
        size = min(batch_size, len(images))
        run = _Run(encoder, _optimizer(optimizer, encoder, lr), epochs * (len(images) // size))
        make_views, augment_text = _views(augment)
        if checkpoint is None:
            save = None
        else:
            settings = {
                "version": VERSION,
                "images": digest,
                "encoder": _digest(encoder.state_dict(), repr(encoder)),
                "optimizer": repr(run.optimizer),
                "batch_size": size,
                "temperature": temperature,
                "seed": seed,
                "augment": augment_text,
            }
            save = _resume(run, checkpoint, settings)
        _run_steps(run, images, size, temperature, seed, make_views, report, progress is True, save)
    return Training(run.encoder, run.losses)


class _Run:
    """State of a training run.

    total is the number of steps in all epochs, done the number of complete steps, and saved the value of done in the
    checkpoint. consistent is False while a step updates the other members.
    """

    def __init__(self, encoder, optimizer, total):
        self.encoder = encoder
        self.optimizer = optimizer
        self.losses = np.empty(total)
        self.done = self.saved = 0
        self.consistent = True


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


def _initial(encoder, dtype, seed):
    if encoder is None:
        return Encoder(dtype=dtype, rng=seed)
    if not isinstance(encoder, Module):
        raise TypeError(_errors.NOT_AN_ENCODER.format(kind=type(encoder).__name__))
    return copy.deepcopy(encoder)


def _optimizer(optimizer, encoder, lr):
    if callable(optimizer):
        return optimizer(encoder)
    if optimizer == "adam":
        return Adam(encoder, lr)
    if optimizer == "sgd":
        return SGD(encoder, lr, momentum=0.9)
    raise ValueError(_errors.OPTIMIZER.format(optimizer=optimizer))


def _views(augment):
    """Returns a function of (images, rng) that makes views, and the text that identifies it in a checkpoint."""
    if callable(augment):
        kind = augment if hasattr(augment, "__qualname__") else type(augment)
        return augment, f"{kind.__module__}.{kind.__qualname__}"
    if augment is None:
        augment = {}
    if not isinstance(augment, dict):
        raise TypeError(_errors.AUGMENT.format(kind=type(augment).__name__))
    options = {**(augment_images.__kwdefaults__ or {}), **augment}
    return lambda images, rng: augment_images(images, rng, **options), repr(sorted(options.items()))


# ---- steps ----


def _rng(seed, *key):
    """Random generator of key, (epoch,) or (epoch, step). Each key has an independent stream."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=key))


def _run_steps(run, images, size, temperature, seed, make_views, report, show_loss, save):
    per_epoch, total = len(images) // size, len(run.losses)
    order, batch = None, np.empty((2 * size, *images.shape[1:]), images.dtype.newbyteorder("="))
    try:
        if report is not None and run.done < total:
            report(run.done, total)
        for number in range(run.done, total):
            epoch, step = divmod(number, per_epoch)
            if order is None or step == 0:
                order = _rng(seed, epoch).permutation(len(images))
            _two_views(images[order[step * size : (step + 1) * size]], _rng(seed, epoch, step), make_views, batch)
            z, pullback = run.encoder.vjp(batch)
            loss, gradients = nt_xent_value_and_grad(z[:size], z[size:], temperature)
            if not math.isfinite(loss):
                place = {"step": step + 1, "steps": per_epoch, "epoch": epoch + 1}
                raise ValueError(_errors.LOSS.format(**place, loss=loss))
            _, gradients = pullback(np.concatenate(gradients), input_gradient=False)
            with _undivided():
                run.consistent = False
                run.optimizer.step(gradients)
                run.losses[number] = loss
                run.done = number + 1
                run.consistent = True
            if save is not None and step == per_epoch - 1:
                save()
            if report is not None:
                report(run.done, total, *([f"loss {loss:.4f}"] if show_loss else []))
    except (KeyboardInterrupt, SystemExit):
        if save is not None and run.consistent and run.saved < run.done:
            save()
        raise


def _two_views(images, rng, make_views, batch):
    """Fills batch (2 N, C, H, W): the first views of all N images, then the second views."""
    images = np.ascontiguousarray(images, batch.dtype)
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
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, *ENDING_SIGNALS)}
    handlers = {number: handler for number, handler in handlers.items() if callable(handler)}
    pending = []
    try:
        for number in handlers:
            signal.signal(number, lambda *signal_and_frame: pending.append(signal_and_frame))
        yield
    finally:
        for number, handler in reversed(handlers.items()):  # SIGINT last: if it comes now, the others are restored
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
        arrays |= {f"encoder.{key}": array for key, array in run.encoder.state_dict().items()}
        arrays |= {f"optimizer.{key}": array for key, array in run.optimizer.state_dict().items()}
        arrays["sha256"] = np.frombuffer(bytes.fromhex(_digest(arrays)), np.uint8)
        save_weights(path, arrays)
        run.saved = run.done

    return save


def _bytes_of(array):
    """Returns the bytes of a 1-d uint8 array. Raises TypeError for all others: bytes(n) of an integer makes n zeros."""
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
    messages = {"images": _errors.OTHER_IMAGES, "encoder": _errors.OTHER_ENCODER}
    problems = [
        messages.get(name, _errors.OTHER_SETTING).format(name=name, saved=saved.get(name), value=value)
        for name, value in settings.items()
        if saved.get(name) != value
    ]
    if len(losses) > len(run.losses):
        problems.append(_errors.MORE_STEPS.format(saved=len(losses), steps=len(run.losses)))
    if problems:
        raise ValueError(_errors.OTHER_TRAINING.format(path=path, problems="; ".join(problems)))
    for name in ("encoder", "optimizer"):
        state = {key.removeprefix(f"{name}."): a for key, a in arrays.items() if key.startswith(f"{name}.")}
        try:
            getattr(run, name).load_state_dict(state)
        except (TypeError, ValueError) as error:
            raise ValueError(_errors.UNREADABLE_CHECKPOINT.format(path=path, error=error)) from None
    run.losses[: len(losses)] = losses
    run.done = len(losses)
