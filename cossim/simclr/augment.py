"""Random views of images. This module draws an affine map for each image; the C core calculates the pixels."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, TypeAlias, TypedDict, overload

import numpy as np

from cossim import _core, _errors
from cossim._arithmetic import contiguous, fixed_arithmetic
from cossim.nn.arguments import probability_argument, real_argument
from cossim.simclr.images import images_argument, scaled_pixels

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from typing_extensions import Unpack

    from cossim._typing import Array, Float, Number, Seed

    _Range: TypeAlias = tuple[Number, Number] | list[float]

    class _Options(TypedDict, total=False):
        """The keyword arguments of augment, for its overloads."""

        shift: Number
        rotate: Number | _Range
        shear: Number | _Range
        scale: _Range
        aspect: _Range
        flip: Number
        brightness: Number | _Range
        contrast: Number | _Range
        saturation: Number | _Range
        hue: Number | _Range
        greyscale: Number
        blur: Number | _Range
        noise: Number
        clip: _Range | None


MOVE_RANGES = ((-1, 1),) * 4  # crop_x, crop_y, shift_x and shift_y, as fractions of the largest move


@overload
def augment(images: NDArray[Float], rng: Seed | None = None, **options: Unpack[_Options]) -> NDArray[Float]: ...
@overload
def augment(images: Array, rng: Seed | None = None, **options: Unpack[_Options]) -> NDArray[Any]: ...
def augment(
    images: Array,
    rng: Seed | None = None,
    *,
    shift: Number = 2.0,
    rotate: Number | _Range = 15.0,
    shear: Number | _Range = 0.0,
    scale: _Range = (0.8, 1.2),
    aspect: _Range = (1.0, 1.0),
    flip: Number = 0.0,
    brightness: Number | _Range = 0.0,
    contrast: Number | _Range = 0.0,
    saturation: Number | _Range = 0.0,
    hue: Number | _Range = 0.0,
    greyscale: Number = 0.0,
    blur: Number | _Range = 0.0,
    noise: Number = 0.05,
    clip: _Range | None = (0.0, 1.0),
) -> NDArray[Any]:
    """A random view of each image: moved, turned, cropped and resized, in other colours, blurred, with noise.

    Parameters
    ----------
    images : array_like, shape (N, C, H, W) or (N, H, W)
        float32 or float64, usually in [0, 1], or pixels of uint8 from 0 to 255, which are divided by 255 and give
        float32. All channels of an image get the same map. Never modified.
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
    flip : float
        Probability with which an image is mirrored, left to right.
    brightness, contrast, saturation : float or pair of float
        Range of the factor by which each changes. A number v stands for (max(0, 1 - v), 1 + v). Changes of colour need
        images with 1 or 3 channels; a single one counts as red, green and blue.
    hue : float or pair of float
        Largest change of hue in either direction, or a range (low, high), in turns: 0.5 reaches the complementary
        colours. At most 0.5.
    greyscale : float
        Probability with which an image loses its colours: the factor of its saturation is then 0.
    blur : float or pair of float
        Largest standard deviation of a Gaussian blur, or a range (low, high), in pixels. At most 20. The Gaussian is
        cut off at three standard deviations. Beyond the edge of a view, the nearest pixel counts.
    noise : float
        Standard deviation of the Gaussian noise added to each pixel.
    clip : pair of float, or None
        Range to which the final values are clipped. None disables clipping.

    Returns
    -------
    numpy.ndarray, the shape and dtype of images (float32 for uint8)
        A new array. An identity map keeps the image's exact values; noise and clipping still apply.

    Raises
    ------
    TypeError
        The images are not float32, float64 or uint8, or an argument is not a number.
    ValueError
        The images have another rank, an argument is out of range, or colours change and there are not 1 or 3 channels.

    Notes
    -----
    All numbers are drawn uniformly, `aspect` on a logarithmic scale, and combined into one affine map. Let c be the
    centre of the image, ((width - 1) / 2, (height - 1) / 2). Pixel p = (x, y) of a view is the image's value at ::

        q = c + crop + shift + R K S (p - c)
        R = [[cos, -sin], [sin, cos]] of rotate    K = [[1, tan(shear)], [0, 1]]
        S = diag(scale * sqrt(aspect), scale / sqrt(aspect))    |crop| <= |1 - S| * (width, height) / 2

    The value is interpolated bilinearly between the four pixels around q, and pixels outside the image are 0, as in
    torch's grid_sample with align_corners=False. A pixel of the view is NaN if one of its four pixels is NaN.

    A flip negates the x of p - c. The colours (red, green, blue) of a pixel of the view then become ::

        H = hue: a rotation of (red, green, blue) about the axis (1, 1, 1)
        Y = 0.299 red + 0.587 green + 0.114 blue of a pixel, and Y mean its mean over the view
        b (c (s (H colours) + (1 - s) Y(H colours)) + (1 - c) Y mean)    b, c, s: brightness, contrast, saturation

    which is blurred. Noise and clipping come last.

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
    shears = _symmetric("shear", shear, np.nextafter(90.0, 0.0), _errors.ANGLE)
    rotations = _symmetric("rotate", rotate, 360.0, _errors.ANGLE)
    sides, (narrow, wide) = _ratios("scale", scale), _ratios("aspect", aspect)
    shift, noise = _not_negative("shift", shift), _not_negative("noise", noise)
    low, high = (-math.inf, math.inf) if clip is None else _pair("clip", clip)
    changes = _colour_ranges(flip, brightness, contrast, saturation, hue, greyscale, blur)
    rng = _generator(rng)
    images = contiguous(scaled_pixels(images_argument("augment", images), np.dtype(np.float32)))
    with fixed_arithmetic():
        ranges = (rotations, shears, sides, (math.log(narrow), math.log(wide)), *MOVE_RANGES)
    # One row of numbers for each image, always of the same length, so that a view depends only on rng and the index of
    # its image. Calls that change neither flips nor colours draw only the numbers of the map and of the noise.
    columns = len(ranges) + 1 + (0 if changes is None else len(changes))
    draws = rng.integers(2**64 - 1, size=(len(images), columns), dtype=np.uint64, endpoint=True)
    stack = images if images.ndim == 4 else images[:, None]
    with fixed_arithmetic(over="ignore", invalid="ignore"):
        maps = _affine_maps(_uniform(draws[:, : len(ranges)], ranges), shift, *stack.shape[-2:])
        colours = None
        if changes is not None:
            drawn = _uniform(draws[:, len(ranges) + 1 :], changes)
            _flip(maps, drawn[0] < flip, stack.shape[-1])
            colours = _colours(drawn, greyscale)
    if colours is not None and not (colours != NO_CHANGE).any():
        colours = None
    if colours is not None and stack.shape[1] not in (1, 3):
        raise ValueError(_errors.COLOUR_CHANNELS.format(shape=images.shape))
    views = np.empty(stack.shape, stack.dtype)
    keys = np.ascontiguousarray(draws[:, len(ranges)])
    _core.augment(stack, maps, keys, views, colours=colours, noise=noise, low=low, high=high)
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


def _flip(maps, flipped, width):
    """Mirrors the views whose flag is set: pixel (x, y) becomes what (width - 1 - x, y) was."""
    maps[flipped, :, 2] += maps[flipped, :, 0] * (width - 1)
    maps[flipped, :, 0] *= -1


# These numbers leave a view as it is: the identity matrix of colours, no mean brightness mixed in, no blur.
NO_CHANGE = np.array([1.0, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0])
BRIGHTNESS_OF = np.array([0.299, 0.587, 0.114])  # shares of red, green and blue: ITU-R BT.601
# the matrix of the cross product with (1, 1, 1)
CROSS = np.array([[0.0, -1, 1], [1, 0, -1], [-1, 1, 0]])


def _colours(drawn, greyscale):
    """Rows (N, 11) of struct colour of the C core: a matrix (3, 3), the pivot and the blur.

    drawn is (7, N): a number for the flip, brightness, contrast, saturation, hue, a number for greyscale, blur.
    """
    _, brightness, contrast, saturation, hue, grey, blur = drawn
    angle = (2 * math.pi * hue)[:, None, None]
    cos, sin = np.cos(angle), np.sin(angle)
    rotation = cos * np.eye(3) + (1 - cos) / 3 + sin / math.sqrt(3) * CROSS
    saturation = np.where(grey < greyscale, 0.0, saturation)[:, None, None]
    # The brightness of the rotated colour, the same in all three channels. Its three terms are added in a fixed order.
    level = sum(BRIGHTNESS_OF[k] * rotation[:, k : k + 1] for k in range(3))
    matrix = saturation * rotation + (1 - saturation) * level
    matrix *= (brightness * contrast)[:, None, None]
    pivot = brightness * (1 - contrast)
    return np.ascontiguousarray(np.column_stack((matrix.reshape(-1, 9), pivot, blur)))


# ---- arguments ----


def _colour_ranges(flip, brightness, contrast, saturation, hue, greyscale, blur):
    """Ranges of the numbers to draw for flips and colours, or None if these arguments change nothing."""
    probability_argument("augment", "flip", flip)
    probability_argument("augment", "greyscale", greyscale)
    changed = {"brightness": brightness, "contrast": contrast, "saturation": saturation}
    factors = [_factors(name, value) for name, value in changed.items()]
    hues = _symmetric("hue", hue, 0.5, _errors.HUE)
    blurs = _pair("blur", blur) if isinstance(blur, (tuple, list)) else (0.0, _not_negative("blur", blur))
    if blurs[0] < 0 or blurs[1] > BLUR_MAX:
        raise ValueError(_errors.BLUR.format(most=BLUR_MAX, value=blur))
    if flip == greyscale == 0 and factors == [(1.0, 1.0)] * 3 and hues == blurs == (0.0, 0.0):
        return None
    return ((0.0, 1.0), *factors, hues, (0.0, 1.0), blurs)


BLUR_MAX = 20  # as in the C core


def _factors(name, value):
    if not isinstance(value, (tuple, list)):
        number = _not_negative(name, value)
        with fixed_arithmetic():
            return max(0.0, 1 - number), 1 + number
    low, high = _pair(name, value)
    if not 0 <= low <= high < math.inf:
        raise ValueError(_errors.RANGE_OF_FACTORS.format(name=name, value=value))
    return low, high


def _generator(rng: Seed | None) -> np.random.Generator:
    try:
        return np.random.default_rng(rng)
    except (TypeError, ValueError) as error:
        raise type(error)(_errors.RNG.format(rng=rng, error=error)) from None


def _not_negative(name: str, value: object) -> float:
    number = real_argument("augment", name, value)
    if not 0 <= number < math.inf:
        raise ValueError(_errors.NOT_NEGATIVE.format(name=name, value=value))
    return number


def _pair(name: str, value: object) -> tuple[float, float]:
    """Returns (low, high) with low <= high. Refuses NaN."""
    if not isinstance(value, (tuple, list)) or len(value) != 2:
        raise TypeError(_errors.RANGE_TYPE.format(name=name, value=value))
    low, high = (real_argument("augment", name, number) for number in value)
    if not low <= high:
        raise ValueError(_errors.RANGE_ORDER.format(name=name, value=value))
    return low, high


def _ratios(name: str, value: object) -> tuple[float, float]:
    low, high = _pair(name, value)
    if not 0 < low <= high < math.inf:
        raise ValueError(_errors.RANGE_OF_RATIOS.format(name=name, value=value))
    return low, high


def _symmetric(name, value, limit, message):
    """Returns a range (low, high) within [-limit, limit]. A single number x means (-x, x)."""
    if isinstance(value, (tuple, list)):
        low, high = _pair(name, value)
    else:
        high = _not_negative(name, value)
        low = -high
    if max(-low, high) > limit:
        raise ValueError(message.format(name=name, limit=limit, value=value))
    return low, high
