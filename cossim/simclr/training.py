"""SimCLR's training: an encoder learns to tell the two views of an image from the views of all others."""

import copy
import hashlib
import json
import math
import os
import signal
import threading
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np

from cossim._arguments import check_temperature, size_argument, temperature_argument
from cossim._core import as_array
from cossim._io import ENDING_SIGNALS
from cossim._progress import reporting
from cossim.nn import SGD, Adam, Module, load_weights, save_weights
from cossim.nn.weights import check_weights_path
from cossim.simclr.augment import augment as augment_images
from cossim.simclr.encoder import Encoder
from cossim.simclr.loss import nt_xent_value_and_grad

VERSION = 1  # of checkpoints
CHUNK = 1024  # images that are looked through at a time


class Training(NamedTuple):
    """What train returns.

    Attributes
    ----------
    encoder : Module
        The trained one.
    losses : numpy.ndarray of float64
        The loss of each step, before the step; those of steps before a checkpoint too.

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
    losses: np.ndarray


def train(
    images,
    epochs=60,
    batch_size=256,
    temperature=0.1,
    seed=0,
    *,
    lr=2e-3,
    optimizer="adam",
    encoder=None,
    augment=None,
    progress=None,
    checkpoint=None,
):
    """Trains an encoder on images without labels, as SimCLR does.

    A step takes batch_size images, makes two random views of each, and encodes them. The loss, nt_xent, is small where
    the two views of an image have similar embeddings and those of different images have not; the optimizer changes the
    encoder's parameters by its gradient. An epoch takes the images in a new order; those left over at its end, too few
    for a batch, are not used in it. (Chen, Kornblith, Norouzi and Hinton, "A Simple Framework for Contrastive Learning
    of Visual Representations", 2020.)

    Parameters
    ----------
    images : array_like, shape (N, C, H, W) or (N, H, W)
        float32 or float64, two at the least. A numpy.memmap is read batch by batch.
    epochs : int
        How many times to go through the images; 0 returns the encoder as it is at the start.
    batch_size : int
        How many images a step takes, two at the least. All of them where there are fewer.
    temperature : float
        That of nt_xent.
    seed : int
        Of the initial parameters, of the order of images and of the views. Those of a step depend on the seed and its
        number alone.
    lr : float
        That of the optimizer.
    optimizer : {"adam", "sgd"} or callable
        Adam(encoder, lr) or SGD(encoder, lr, momentum=0.9). A callable is called with the encoder and returns an
        optimizer such as those; lr is not used then.
    encoder : Module, optional
        Where to begin. It is copied, and stays as it is. Default: ``Encoder(dtype=images.dtype, rng=seed)``.
    augment : dict or callable, optional
        The keywords of simclr.augment that shall differ from their defaults. A callable is called with images
        (N, C, H, W) and a numpy.random.Generator, once for each of the two views, and returns N views of the same shape
        and dtype.
    progress : None, bool or callable
        True: a bar with the loss, which needs tqdm. A callable is called as ``progress(done, total)``, in steps.
    checkpoint : str or os.PathLike, optional
        A .npz or .safetensors file. It is written after each epoch and when the training is stopped, whole or not at
        all. Where it is there already, the training goes on from it, and gives the same bits as one without a break.

    Returns
    -------
    Training
        (encoder, losses). The same bits for any number of threads.

    Raises
    ------
    KeyboardInterrupt
        Ctrl-C. The last whole step has been saved to the checkpoint, if there is one.
    ValueError
        Images of other shapes, fewer than two, or with NaN or infinity. Numbers out of range. A loss that is not
        finite, with its epoch and step (torch would go on, with an encoder of NaN). A checkpoint of other images or
        settings, of more epochs, damaged, or of another version: it stays as it is. A callable's name stands for it in
        a checkpoint.
    TypeError
        Images of another dtype; arguments of other types.
    OSError
        The checkpoint cannot be read or written. One that was there is still there, as a whole.

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
        images, digest = _checked(images)
        check_temperature("train", temperature, images.dtype)
        encoder = _initial(encoder, images.dtype.newbyteorder("="), seed)
        size = min(batch_size, len(images))
        run = _Run(encoder, _optimizer(optimizer, encoder, lr), epochs * (len(images) // size))
        views, named = _views(augment)
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
                "augment": named,
            }
            save = _resume(run, checkpoint, settings)
        _steps(run, images, size, temperature, seed, views, report, progress is True, save)
    return Training(run.encoder, run.losses)


class _Run:
    """What steps change. Whole: not amid one of them."""

    def __init__(self, encoder, optimizer, total):
        self.encoder = encoder
        self.optimizer = optimizer
        self.losses = np.empty(total)
        self.done = self.saved = 0
        self.whole = True


# ---- arguments ----


def _checked(images):
    """The images as (N, C, H, W), and a digest of them."""
    images = as_array("train", "images", images)
    native = images.dtype.newbyteorder("=")
    if native not in (np.float32, np.float64):
        hint = ": pixels from 0 to 255 are to be divided by 255" if images.dtype.kind in "iu" else ""
        raise TypeError(f"train(): images must be float32 or float64, not {images.dtype}{hint}")
    if images.ndim not in (3, 4) or 0 in images.shape[1:]:
        raise ValueError(f"train(): images must have shape (N, C, H, W) or (N, H, W), not {images.shape}")
    if len(images) < 2:
        raise ValueError(f"train(): two images are the least, to tell one from the other, not {len(images)}")
    if images.ndim == 3:
        images = images[:, None]
    digest, unusable = hashlib.sha256(f"{images.shape} {images.dtype.name}".encode()), 0
    for start in range(0, len(images), CHUNK):
        chunk = np.ascontiguousarray(images[start : start + CHUNK], native)
        unusable += chunk.size - np.count_nonzero(np.isfinite(chunk))
        digest.update(chunk)
    if unusable:
        raise ValueError(f"train(): {unusable} numbers in images of shape {images.shape} are NaN or infinite")
    return images, digest.hexdigest()


def _initial(encoder, dtype, seed):
    if encoder is None:
        return Encoder(dtype=dtype, rng=seed)
    if not isinstance(encoder, Module):
        raise TypeError(f"train(): encoder must be a Module, not {type(encoder).__name__}")
    return copy.deepcopy(encoder)


def _optimizer(optimizer, encoder, lr):
    if callable(optimizer):
        return optimizer(encoder)
    if optimizer == "adam":
        return Adam(encoder, lr)
    if optimizer == "sgd":
        return SGD(encoder, lr, momentum=0.9)
    raise ValueError(f"train(): optimizer must be 'adam', 'sgd' or a callable, not {optimizer!r}")


def _views(augment):
    """A function of (images, rng), and what stands for it in a checkpoint."""
    if callable(augment):
        kind = augment if hasattr(augment, "__qualname__") else type(augment)
        return augment, f"{kind.__module__}.{kind.__qualname__}"
    if augment is None:
        augment = {}
    if not isinstance(augment, dict):
        kind = type(augment).__name__
        raise TypeError(f"train(): augment must be a dict of augment's keywords or a callable, not {kind}")
    options = {**(augment_images.__kwdefaults__ or {}), **augment}
    return lambda images, rng: augment_images(images, rng, **options), repr(sorted(options.items()))


# ---- steps ----


def _rng(seed, *place):
    """Random numbers of an epoch or of a step in it; different places have different ones."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=place))


def _steps(run, images, size, temperature, seed, views, report, notes, save):
    per_epoch, total = len(images) // size, len(run.losses)
    order, batch = None, np.empty((2 * size, *images.shape[1:]), images.dtype.newbyteorder("="))
    try:
        if report is not None and run.done < total:
            report(run.done, total)
        for number in range(run.done, total):
            epoch, step = divmod(number, per_epoch)
            if order is None or step == 0:
                order = _rng(seed, epoch).permutation(len(images))
            _two_views(images[order[step * size : (step + 1) * size]], _rng(seed, epoch, step), views, batch)
            z, pullback = run.encoder.vjp(batch)
            loss, gradients = nt_xent_value_and_grad(z[:size], z[size:], temperature)
            if not math.isfinite(loss):
                place = f"step {step + 1} of {per_epoch} in epoch {epoch + 1}"
                raise ValueError(f"train(): the loss of {place} is {loss}: try a smaller lr or a larger temperature")
            _, gradients = pullback(np.concatenate(gradients), input_gradient=False)
            with _undivided():
                run.whole = False
                run.optimizer.step(gradients)
                run.losses[number] = loss
                run.done = number + 1
                run.whole = True
            if save is not None and step == per_epoch - 1:
                save()
            if report is not None:
                report(run.done, total, *([f"loss {loss:.4f}"] if notes else []))
    except (KeyboardInterrupt, SystemExit):
        if save is not None and run.whole and run.saved < run.done:
            save()
        raise


def _two_views(images, rng, views, batch):
    """Fills the batch: the first views of all images, then the second ones."""
    images = np.ascontiguousarray(images, batch.dtype)
    for half in (batch[: len(images)], batch[len(images) :]):
        found = views(images, rng)
        if not isinstance(found, np.ndarray) or found.shape != images.shape or found.dtype != images.dtype:
            kind = f"{found.dtype} of shape {found.shape}" if isinstance(found, np.ndarray) else type(found).__name__
            raise ValueError(f"train(): views must be {images.dtype} of shape {images.shape}, not {kind}")
        half[...] = found


@contextmanager
def _undivided():
    """Signals whose handlers are Python's, such as that of Ctrl-C, wait until the block has ended."""
    if threading.current_thread() is not threading.main_thread():  # where no handler is run
        yield
        return
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, *ENDING_SIGNALS)}
    handlers = {number: handler for number, handler in handlers.items() if callable(handler)}
    came = []
    try:
        for number in handlers:
            signal.signal(number, lambda *signal_and_frame: came.append(signal_and_frame))
        yield
    finally:
        for number, handler in reversed(handlers.items()):  # SIGINT last: nothing is left over if it comes now
            signal.signal(number, handler)
        for number, frame in came:
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
    """Puts the run where the checkpoint at path left off, if there is one. Returns the function that saves it."""
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
    """The bytes of an array of bytes; TypeError for all others: bytes() of an integer n makes n of them."""
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
        raise ValueError(f"{path}: not a checkpoint of cossim.simclr.train") from None
    if version != VERSION:
        raise ValueError(f"{path}: a checkpoint of version {version}, and this cossim reads version {VERSION}")
    if digest.hex() != _digest(arrays):
        raise ValueError(f"{path}: damaged: the arrays do not match their checksum")
    words = {"images": "the images are others", "encoder": "the encoder begins with other parameters"}
    problems = [
        words.get(name, f"{name} was {saved.get(name)}, and is {value}")
        for name, value in settings.items()
        if saved.get(name) != value
    ]
    if len(losses) > len(run.losses):
        problems.append(f"it has {len(losses)} steps, and all epochs have {len(run.losses)}")
    if problems:
        raise ValueError(f"{path}: a checkpoint of another training: " + "; ".join(problems))
    for name in ("encoder", "optimizer"):
        state = {key.removeprefix(f"{name}."): a for key, a in arrays.items() if key.startswith(f"{name}.")}
        try:
            getattr(run, name).load_state_dict(state)
        except (TypeError, ValueError) as error:
            raise ValueError(f"{path}: not a checkpoint of cossim.simclr.train: {error}") from None
    run.losses[: len(losses)] = losses
    run.done = len(losses)
