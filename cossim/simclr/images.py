"""Images as arguments: their shapes and dtypes, and pixels of uint8."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np

from cossim import _core, _errors
from cossim._arithmetic import fixed_arithmetic

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cossim._typing import Array


def images_argument(function: str, images: Array, least: int = 0) -> NDArray[Any]:
    """Returns images of float32, float64 or uint8, (N, C, H, W) or (N, H, W). C, H and W must be at least `least`."""
    if isinstance(images, (str, os.PathLike)):
        raise TypeError(_errors.IMAGES_PATH.format(function=function))
    images = _core.as_array(function, "images", images)
    if images.dtype != np.uint8 and images.dtype.newbyteorder("=") not in (np.float32, np.float64):
        message = _errors.PIXELS if images.dtype.kind in "iub" else _errors.NOT_FLOAT32_OR_64
        raise TypeError(message.format(function=function, name="images", dtype=images.dtype))
    if images.ndim not in (3, 4) or min(images.shape[1:]) < least:
        message = _errors.IMAGES_SHAPE.format(
            function=function, wanted=_errors.IMAGES_OR_CHANNELS, shape=images.shape, remedy="reshape them"
        )
        raise ValueError(message)
    return images


def scaled_pixels(images: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Returns images of uint8 divided by 255, in this dtype. Other images stay as they are."""
    if images.dtype != np.uint8:
        return images
    with fixed_arithmetic():
        return np.divide(images, 255, dtype=dtype)
