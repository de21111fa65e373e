"""Views of images. Random numbers are drawn and made into maps here; the pixels are C's."""

import math
from numbers import Real

import numpy as np

from cossim import _core
from cossim._arguments import number_argument

MOVES = ((-1, 1),) * 4  # of the crop and the shift, both along x and y


def augment(
    images,
    rng=None,
    *,
    shift=2.0,
    rotate=15.0,
    shear=0.0,
    scale=(0.8, 1.2),
    aspect=(1.0, 1.0),
    noise=0.05,
    clip=(0.0, 1.0),
):
    """A random view of each image: shifted, turned, cropped and resized, with noise.

    Parameters
    ----------
    images : array_like, shape (N, C, H, W) or (N, H, W)
        float32 or float64, usually in [0, 1]. The channels of an image change together. Never modified.
    rng : int or numpy.random.Generator, optional
        Seed or source of the random numbers. The same seed gives the same bits, whatever the number of threads. A view
        depends on its place among the images, not on how many there are.
    shift : float
        Pixels, up to which an image moves in each of both directions.
    rotate : float or pair of float
        Degrees, up to which an image turns either way about its centre, or a range of them. Positive ones turn it
        counter-clockwise. At most 360.
    shear : float or pair of float
        Degrees, up to which vertical lines of the image lean either way, or a range of them: positive ones move the
        upper ends to the right. Below 90.
    scale : pair of float
        Range of the side of the part that is resized to the whole view, over the image's, 0 < low <= high. The part
        lies anywhere in the image; above 1 the image lies anywhere in the view, with zeros about it.
    aspect : pair of float
        Range of that part's width over its height, as multiples of the image's, 0 < low <= high. Its area stays.
    noise : float
        Standard deviation of Gaussian noise, which is added to each pixel.
    clip : pair of float, or None
        The range that values are kept in at last. None keeps them as they are.

    Returns
    -------
    numpy.ndarray, the shape and dtype of images
        A new array. Where a map changes nothing, the image's own values before noise.

    Raises
    ------
    TypeError
        Images of another dtype: scale integers to [0, 1] first. Arguments that are no numbers.
    ValueError
        Images of another rank, arguments out of range.

    Notes
    -----
    All numbers are drawn uniformly, `aspect` on a logarithmic scale, and make one affine map. With c the centre of the
    image, (width - 1) / 2 and (height - 1) / 2, pixel p = (x, y) of a view is the image's value at ::

        q = c + crop + shift + R K S (p - c)
        R = [[cos, -sin], [sin, cos]] of rotate    K = [[1, tan(shear)], [0, 1]]
        S = diag(scale * sqrt(aspect), scale / sqrt(aspect))    |crop| <= |1 - S| * (width, height) / 2

    bilinear between the four pixels around q, where all outside the image are 0: what torch's grid_sample makes of it
    with align_corners=False. NaN spreads to each pixel of the view that has it among its four.

    Noise comes from a stream for each image, not from rng's own normal distribution, so that threads can share it; its
    numbers have the precision of float32.

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
    lean, turn = _degrees("shear", shear, np.nextafter(90.0, 0.0)), _degrees("rotate", rotate, 360.0)
    side, (narrow, wide) = _ratios("scale", scale), _ratios("aspect", aspect)
    shift, noise = _not_negative("shift", shift), _not_negative("noise", noise)
    low, high = (-math.inf, math.inf) if clip is None else _pair("clip", clip)
    rng = _generator(rng)
    images = _as_images(images)
    ranges = (turn, lean, side, (math.log(narrow), math.log(wide)), *MOVES)
    # All that an image takes is drawn together and in any case, so that its view depends on nothing else.
    draws = rng.integers(2**64 - 1, size=(len(images), len(ranges) + 1), dtype=np.uint64, endpoint=True)
    stack = images if images.ndim == 4 else images[:, None]
    maps = _maps(_uniform(draws[:, :-1], ranges), shift, *stack.shape[-2:])
    views = np.empty(stack.shape, stack.dtype)
    _core.augment(stack, maps, np.ascontiguousarray(draws[:, -1]), views, noise, low, high)
    return views.reshape(images.shape)


def _uniform(draws, ranges):
    """A row of numbers in each range, of 64 random bits each; exactly the one number where a range holds no other."""
    low, high = np.array(ranges).T[:, :, None]
    # Contiguous, as NumPy's sine of one number may differ in its last bit from that of a strided one.
    return low + (high - low) * (np.ascontiguousarray(draws.T >> np.uint64(11)) * 2.0**-53)


def _maps(numbers, shift, height, width):
    """For each image, the matrix (2, 3) that takes a pixel (x, y, 1) of its view to a place in it."""
    turn, lean, side, log_aspect, crop_x, crop_y, move_x, move_y = numbers
    turn, lean = np.deg2rad(turn), np.deg2rad(lean)
    cos, sin, tan, root = np.cos(turn), np.sin(turn), np.tan(lean), np.exp(log_aspect / 2)
    centre_x, centre_y = (width - 1) / 2, (height - 1) / 2
    # Sides beyond the range of doubles give places that are infinite or NaN, which lie outside.
    with np.errstate(over="ignore", invalid="ignore"):
        side_x, side_y = side * root, side / root
        xx, xy = side_x * cos, side_y * (cos * tan - sin)
        yx, yy = side_x * sin, side_y * (sin * tan + cos)
        x = centre_x - (xx * centre_x + xy * centre_y) + crop_x * (1 - side_x) * (width / 2) + move_x * shift
        y = centre_y - (yx * centre_x + yy * centre_y) + crop_y * (1 - side_y) * (height / 2) + move_y * shift
    return np.stack((xx, xy, x, yx, yy, y), axis=-1).reshape(-1, 2, 3)


# ---- arguments ----


def _as_images(images):
    images = _core.as_array("augment", "images", images)
    described = f"(images: shape {images.shape}, dtype {images.dtype})"
    if images.dtype.kind in "iub":
        raise TypeError(f"augment(): images must be float32 or float64; scale integers to [0, 1] first {described}")
    if images.dtype.kind != "f" or images.dtype.itemsize not in (4, 8):
        raise TypeError(f"augment(): images must be float32 or float64 {described}")
    if images.ndim not in (3, 4):
        raise ValueError(f"augment(): images must have shape (N, C, H, W) or (N, H, W) {described}")
    return np.require(images, images.dtype.newbyteorder("="), ["C", "A"])


def _generator(rng):
    try:
        return np.random.default_rng(rng)
    except (TypeError, ValueError) as error:
        raise type(error)(f"augment(): rng must be a seed or a numpy.random.Generator, not {rng!r}: {error}") from None


def _number(name, value):
    if not isinstance(value, Real) or isinstance(value, bool):
        raise TypeError(f"augment(): {name} must be a number, not {value!r}")
    return number_argument("augment", name, value)


def _not_negative(name, value):
    number = _number(name, value)
    if not 0 <= number < math.inf:
        raise ValueError(f"augment(): {name} must be at least 0 and finite, not {value!r}")
    return number


def _pair(name, value):
    """(low, high), low <= high; NaN is neither."""
    if not isinstance(value, (tuple, list)) or len(value) != 2:
        raise TypeError(f"augment(): {name} must be a pair of numbers, (low, high), not {value!r}")
    low, high = (_number(name, number) for number in value)
    if not low <= high:
        raise ValueError(f"augment(): {name} must be (low, high) with low <= high, not {value!r}")
    return low, high


def _ratios(name, value):
    low, high = _pair(name, value)
    if not 0 < low <= high < math.inf:
        raise ValueError(f"augment(): {name} must be (low, high) with 0 < low <= high, both finite, not {value!r}")
    return low, high


def _degrees(name, value, most):
    """A range of angles; one number is a range about 0."""
    if isinstance(value, (tuple, list)):
        low, high = _pair(name, value)
    else:
        high = _not_negative(name, value)
        low = -high
    if max(-low, high) > most:
        raise ValueError(f"augment(): {name} must be between -{most:.0f} and {most:.0f} degrees, not {value!r}")
    return low, high
