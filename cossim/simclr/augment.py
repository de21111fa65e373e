"""Random views of images. This module draws an affine map for each image; the C core calculates the pixels."""

from __future__ import annotations

import math
from numbers import Real
from typing import TYPE_CHECKING, Any, TypeAlias, overload

import numpy as np

from cossim import _core, _errors
from cossim._arguments import number_argument
from cossim._arithmetic import contiguous, fixed_arithmetic

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cossim._typing import Array, Float, Number, Seed

    _Range: TypeAlias = tuple[Number, Number] | list[float]

MOVE_RANGES = ((-1, 1),) * 4  # crop_x, crop_y, shift_x and shift_y, as fractions of the largest move


@overload
def augment(
    images: NDArray[Float],
    rng: Seed | None = None,
    *,
    shift: Number = 2.0,
    rotate: Number | _Range = 15.0,
    shear: Number | _Range = 0.0,
    scale: _Range = (0.8, 1.2),
    aspect: _Range = (1.0, 1.0),
    noise: Number = 0.05,
    clip: _Range | None = (0.0, 1.0),
) -> NDArray[Float]: ...
@overload
def augment(
    images: Array,
    rng: Seed | None = None,
    *,
    shift: Number = 2.0,
    rotate: Number | _Range = 15.0,
    shear: Number | _Range = 0.0,
    scale: _Range = (0.8, 1.2),
    aspect: _Range = (1.0, 1.0),
    noise: Number = 0.05,
    clip: _Range | None = (0.0, 1.0),
) -> NDArray[Any]: ...
def augment(
    images: Array,
    rng: Seed | None = None,
    *,
    shift: Number = 2.0,
    rotate: Number | _Range = 15.0,
    shear: Number | _Range = 0.0,
    scale: _Range = (0.8, 1.2),
    aspect: _Range = (1.0, 1.0),
    noise: Number = 0.05,
    clip: _Range | None = (0.0, 1.0),
) -> NDArray[Any]:
    """A random view of each image: shifted, rotated, sheared, cropped and resized, with noise.

    Parameters
    ----------
    images : array_like, shape (N, C, H, W) or (N, H, W)
        float32 or float64, usually in [0, 1]. All channels of an image get the same map. Never modified.
    rng : int or numpy.random.Generator, optional
        Seed or source of the random numbers. The same seed gives the same bits for any number of threads. A view
        depends on the index of its image, not on the number of images.
    shift : float
        Largest move of an image along x and along y, in pixels.
    rotate : float or pair of float
        Largest rotation about the centre in either direction, or a range (low, high), in degrees. Positive angles
        rotate counter-clockwise. At most 360.
    shear : float or pair of float
        Largest angle by which vertical lines tilt in either direction, or a range (low, high), in degrees. Positive
        angles move the upper ends to the right. Below 90.
    scale : pair of float
        Range of the side of the crop as a fraction of the image's side, 0 < low <= high. The crop lies at a random
        position in the image and is resized to the whole view. If the fraction is above 1, the image lies at a random
        position in the view, surrounded by zeros.
    aspect : pair of float
        Range of the aspect ratio, width / height, of the crop as a multiple of the image's, 0 < low <= high. It does
        not change the area of the crop.
    noise : float
        Standard deviation of the Gaussian noise added to each pixel.
    clip : pair of float, or None
        Range to which the final values are clipped. None disables clipping.

    Returns
    -------
    numpy.ndarray, the shape and dtype of images
        A new array. An identity map keeps the image's exact values; noise and clipping still apply.

    Raises
    ------
    TypeError
        The images are not float32 or float64 (scale integers to [0, 1] first), or an argument is not a number.
    ValueError
        The images have another rank, or an argument is out of range.

    Notes
    -----
    All numbers are drawn uniformly, `aspect` on a logarithmic scale, and combined into one affine map. Let c be the
    centre of the image, ((width - 1) / 2, (height - 1) / 2). Pixel p = (x, y) of a view is the image's value at ::

        q = c + crop + shift + R K S (p - c)
        R = [[cos, -sin], [sin, cos]] of rotate    K = [[1, tan(shear)], [0, 1]]
        S = diag(scale * sqrt(aspect), scale / sqrt(aspect))    |crop| <= |1 - S| * (width, height) / 2

    The value is interpolated bilinearly between the four pixels around q, and pixels outside the image are 0, as in
    torch's grid_sample with align_corners=False. A pixel of the view is NaN if one of its four pixels is NaN.

    Each image has its own stream of noise, seeded from rng, so that threads can share the work. rng's own normal
    distribution is not used. The noise has the precision of float32.

    Examples
    --------
    >>> import numpy as np, cossim.simclr
    >>> images = np.random.default_rng(0).random((256, 1, 28, 28), np.float32)
    >>> rng = np.random.default_rng(1)
    >>> one, other = cossim.simclr.augment(images, rng), cossim.simclr.augment(images, rng, scale=(0.5, 1))
    >>> one.shape, one.dtype, bool((one != other).any(axis=(1, 2, 3)).all())
    ((256, 1, 28, 28), dtype('float32'), True)
    >>> tile = np.array([[[0.1, 0.2], [0.3, 0.4]]])
    >>> cossim.simclr.augment(tile, rotate=(90, 90), shift=0, scale=(1, 1), noise=0)
    array([[[0.2, 0.4],
            [0.1, 0.3]]])
    """
    shears, rotations = _degrees("shear", shear, np.nextafter(90.0, 0.0)), _degrees("rotate", rotate, 360.0)
    sides, (narrow, wide) = _ratios("scale", scale), _ratios("aspect", aspect)
    shift, noise = _not_negative("shift", shift), _not_negative("noise", noise)
    low, high = (-math.inf, math.inf) if clip is None else _pair("clip", clip)
    rng = _generator(rng)
    images = contiguous(images_argument("augment", images))
    with fixed_arithmetic():
        ranges = (rotations, shears, sides, (math.log(narrow), math.log(wide)), *MOVE_RANGES)
    # Always draws the same count of numbers for an image, one row: its view depends only on rng and its index.
    draws = rng.integers(2**64 - 1, size=(len(images), len(ranges) + 1), dtype=np.uint64, endpoint=True)
    stack = images if images.ndim == 4 else images[:, None]
    with fixed_arithmetic(over="ignore", invalid="ignore"):
        maps = _affine_maps(_uniform(draws[:, :-1], ranges), shift, *stack.shape[-2:])
    views = np.empty(stack.shape, stack.dtype)
    keys = np.ascontiguousarray(draws[:, -1])
    _core.augment(stack, maps, keys, views, noise=noise, low=low, high=high)
    return views.reshape(images.shape)


def _uniform(draws, ranges):
    """Maps draws (N, R) of 64 random bits to uniform numbers (R, N), one row for each range (low, high).

    Uses the upper 53 bits. A range with low == high gives exactly low.
    """
    low, high = np.array(ranges).T[:, :, None]
    # Contiguous: NumPy's sine may differ in the last bit between contiguous and strided arrays.
    return low + (high - low) * (np.ascontiguousarray(draws.T >> np.uint64(11)) * 2.0**-53)


def _affine_maps(numbers, shift, height, width):
    """Affine maps (N, 2, 3) from a pixel (x, y, 1) of the view to a position in the image.

    numbers is (8, N): rotation, shear, side, log aspect, crop x and y, shift x and y.
    """
    rotation, shear, side, log_aspect, crop_x, crop_y, shift_x, shift_y = numbers
    rotation, shear = np.deg2rad(rotation), np.deg2rad(shear)
    cos, sin, tan, root = np.cos(rotation), np.sin(rotation), np.tan(shear), np.exp(log_aspect / 2)
    centre_x, centre_y = (width - 1) / 2, (height - 1) / 2
    # A side beyond the range of float64 gives positions that are infinite or NaN. They count as outside the image.
    side_x, side_y = side * root, side / root
    xx, xy = side_x * cos, side_y * (cos * tan - sin)
    yx, yy = side_x * sin, side_y * (sin * tan + cos)
    x = centre_x - (xx * centre_x + xy * centre_y) + crop_x * (1 - side_x) * (width / 2) + shift_x * shift
    y = centre_y - (yx * centre_x + yy * centre_y) + crop_y * (1 - side_y) * (height / 2) + shift_y * shift
    return np.stack((xx, xy, x, yx, yy, y), axis=-1).reshape(-1, 2, 3)


# ---- arguments ----


def images_argument(function: str, images: Array, least: int = 0) -> NDArray[Any]:
    """Returns images of float32 or float64, (N, C, H, W) or (N, H, W). C, H and W must be at least `least`."""
    images = _core.as_array(function, "images", images)
    if images.dtype.newbyteorder("=") not in (np.float32, np.float64):
        message = _errors.PIXELS if images.dtype.kind in "iub" else _errors.NOT_FLOAT32_OR_64
        raise TypeError(message.format(function=function, name="images", dtype=images.dtype))
    if images.ndim not in (3, 4) or min(images.shape[1:]) < least:
        message = _errors.IMAGES_SHAPE.format(function=function, wanted=_errors.IMAGES_OR_CHANNELS, shape=images.shape)
        raise ValueError(message)
    return images


def _generator(rng: Seed | None) -> np.random.Generator:
    try:
        return np.random.default_rng(rng)
    except (TypeError, ValueError) as error:
        raise type(error)(_errors.RNG.format(rng=rng, error=error)) from None


def _number(name: str, value: object) -> float:
    if not isinstance(value, Real) or isinstance(value, bool):
        raise TypeError(_errors.NOT_A_NUMBER.format(function="augment", name=name, kind=type(value).__name__))
    return number_argument("augment", name, value)


def _not_negative(name: str, value: object) -> float:
    number = _number(name, value)
    if not 0 <= number < math.inf:
        raise ValueError(_errors.NOT_NEGATIVE.format(name=name, value=value))
    return number


def _pair(name: str, value: object) -> tuple[float, float]:
    """Returns (low, high) with low <= high. Refuses NaN."""
    if not isinstance(value, (tuple, list)) or len(value) != 2:
        raise TypeError(_errors.RANGE_TYPE.format(name=name, value=value))
    low, high = (_number(name, number) for number in value)
    if not low <= high:
        raise ValueError(_errors.RANGE_ORDER.format(name=name, value=value))
    return low, high


def _ratios(name: str, value: object) -> tuple[float, float]:
    low, high = _pair(name, value)
    if not 0 < low <= high < math.inf:
        raise ValueError(_errors.RANGE_OF_RATIOS.format(name=name, value=value))
    return low, high


def _degrees(name, value, limit):
    """Returns a range (low, high) of angles. A single number x means (-x, x)."""
    if isinstance(value, (tuple, list)):
        low, high = _pair(name, value)
    else:
        high = _not_negative(name, value)
        low = -high
    if max(-low, high) > limit:
        raise ValueError(_errors.ANGLE.format(name=name, limit=limit, value=value))
    return low, high
