from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, SupportsIndex

import numpy as np

from cossim import _errors
from cossim._arguments import length_argument
from cossim._core import as_array, pair_argument, run_layers
from cossim.nn import Conv2d, Flatten, Linear, MaxPool2d, ReLU
from cossim.nn.module import ArrayLayer
from cossim.nn.modules import NETWORK_LAYERS
from cossim.nn.sequential import call_layer, layers_vjp
from cossim.simclr.images import scaled_pixels

if TYPE_CHECKING:
    from numpy.typing import DTypeLike, NDArray

    from cossim._typing import Array, Pair, Pullback, Seed


_NAMES = ("conv1", "relu1", "pool1", "conv2", "relu2", "pool2", "flatten", "fc", "relu3")


def _pooled(size):
    """Height or width after a 5 x 5 convolution and 2 x 2 pooling."""
    return (size - 4) // 2


LEAST_SIZE = 16  # height and width of the smallest images: the layers make 12, 6, 2 and 1 of 16 pixels


class Encoder(ArrayLayer):
    """Encodes images as embeddings of 100 numbers.

    The network is two convolutions, each with ReLU and 2 x 2 max pooling, and a linear layer with ReLU. For N grey
    images of 28 x 28 pixels the shapes are: input (N, 1, 28, 28), 5 x 5 convolution (N, 10, 24, 24), pooling
    (N, 10, 12, 12), 5 x 5 convolution (N, 20, 8, 8), pooling (N, 20, 4, 4), flatten (N, 320), linear (N, 100).

    The parameters are called conv1.weight, conv1.bias, conv2.weight, conv2.bias, fc.weight and fc.bias, so that
    load_state_dict accepts the state_dict of the same network in torch.

    Parameters
    ----------
    in_channels : int
        Channels of the images: 1 for grey ones, 3 for colour.
    size : int or pair of int
        Height and width of the images, at least 16.
    dtype : float32 or float64
        The dtype of the parameters, which the images must share.
    rng : int or numpy.random.Generator, optional
        Seed or source of the initial values. They are uniform in torch's default ranges.

    Raises
    ------
    TypeError
        The images have neither the dtype of the parameters nor uint8.
    ValueError
        The images do not have shape ``(N, in_channels, *size)``, or an argument is out of range.

    Notes
    -----
    Grey images may have shape (N, H, W). Images of uint8 are taken as pixels from 0 to 255 and divided by 255.

    Examples
    --------
    >>> import numpy as np, cossim.simclr
    >>> encoder = cossim.simclr.Encoder(rng=0)
    >>> encoder(np.zeros((32, 1, 28, 28), np.float32)).shape
    (32, 100)
    """

    module_names = ("conv1", "conv2", "fc")

    def __init__(
        self, in_channels: SupportsIndex = 1, size: Pair = 28, *, dtype: DTypeLike = np.float32, rng: Seed | None = None
    ) -> None:
        self.in_channels = length_argument("Encoder", "in_channels", in_channels)
        self.size = height, width = pair_argument("Encoder", "size", size, LEAST_SIZE)
        rng = np.random.default_rng(rng)
        self.conv1 = Conv2d(self.in_channels, 10, 5, dtype=dtype, rng=rng)
        self.conv2 = Conv2d(10, 20, 5, dtype=dtype, rng=rng)
        self.fc = Linear(_pooled(_pooled(height)) * _pooled(_pooled(width)) * 20, 100, dtype=dtype, rng=rng)
        self._relu, self._pool, self._flatten = ReLU(), MaxPool2d(2), Flatten()

    def _layers(self):
        relu, pool = self._relu, self._pool
        return self.conv1, relu, pool, self.conv2, relu, pool, self._flatten, self.fc, relu

    def _check_images(self, x):
        channels, size = self.in_channels, self.size
        weight: Any = getattr(self.conv1, "weight", None)
        try:
            dtype = weight.dtype
        except AttributeError:
            names = {"name": "conv1.weight", "kind": type(weight).__name__}
            raise TypeError(_errors.NOT_A_PARAMETER.format(function="Encoder", **names)) from None
        # The fast path. Encoding one image takes 20 us, and the checks below would take 2 us of them.
        if type(x) is np.ndarray and x.dtype is dtype and x.shape[1:] == (channels, *size):
            return x
        if isinstance(x, (str, os.PathLike)):
            raise TypeError(_errors.IMAGES_PATH.format(function="Encoder"))
        x = as_array("Encoder", "images", x)
        shape = x.shape
        if channels == 1 and x.ndim == 3:
            x = x[:, None]
        if x.shape[1:] != (channels, *size):
            if x.ndim == 4 and x.shape[1:] == (*size, channels):
                raise ValueError(_errors.CHANNELS_LAST.format(function="Encoder", shape=shape))
            wanted = "(N, {}, {}, {})".format(channels, *size)
            remedy = f"reshape them, such as images.reshape(-1, {wanted[4:]}"
            if x.ndim == 4:
                remedy = "make an encoder for them, Encoder(in_channels={}, size=({}, {}))".format(*x.shape[1:])
            message = _errors.IMAGES_SHAPE.format(function="Encoder", wanted=wanted, shape=shape, remedy=remedy)
            raise ValueError(message)
        return scaled_pixels(x, dtype)

    def forward(self, x: Array) -> NDArray[Any]:
        """Encodes images x (N, in_channels, *size) as embeddings (N, 100): same as encoder(x)."""
        return run_layers(NETWORK_LAYERS, call_layer, _NAMES, self._layers(), self._check_images(x))

    def vjp(self, x: Array) -> tuple[NDArray[Any], Pullback]:
        return layers_vjp(_NAMES, self._layers(), self._check_images(x))
