"""simclr.augment follows its formula pixel by pixel, and agrees with torch's grid_sample."""

import math
import re
from fractions import Fraction

import numpy as np
import pytest
from oracle import F, torch
from public_inputs import LAYOUTS

import cossim
from cossim.simclr import augment

STILL = {"shift": 0, "rotate": 0, "shear": 0, "scale": (1, 1), "aspect": (1, 1), "noise": 0}
LIVELY = {"shift": 3, "rotate": 40, "shear": (-10, 30), "scale": (0.5, 1.5), "aspect": (0.7, 1.4)}
SHAPES = [(5, 1, 28, 28), (3, 9, 14), (4, 3, 7, 300), (2, 2, 1, 6), (2, 6, 1), (3, 1, 1, 1)]


# ---- the reference ----


def draw(seed, n, shift=2, rotate=15, shear=0, scale=(0.8, 1.2), aspect=(1, 1)):
    """(random parameters of each image as dicts, keys of their noise)."""
    bits = np.random.default_rng(seed).integers(0, 2**64, (n, 9), np.uint64)
    ranges = {
        "rotate": rotate if isinstance(rotate, tuple) else (-rotate, rotate),
        "shear": shear if isinstance(shear, tuple) else (-shear, shear),
        "scale": scale,
        "aspect": tuple(math.log(a) for a in aspect),
        "crop_x": (-1, 1),
        "crop_y": (-1, 1),
        "shift_x": (-shift, shift),
        "shift_y": (-shift, shift),
    }
    images = []
    for row in bits.tolist():
        uniform = [(b >> 11) / 2**53 for b in row]
        images.append({k: low + (high - low) * u for (k, (low, high)), u in zip(ranges.items(), uniform, strict=False)})
    return images, bits[:, 8].tolist()


def affine(numbers, height, width):
    """A and b of q = A p + b, for p = (x, y)."""
    rotation, shear = math.radians(numbers["rotate"]), math.radians(numbers["shear"])
    root = math.exp(numbers["aspect"]) ** 0.5
    sides = np.array([numbers["scale"] * root, numbers["scale"] / root])
    cos, sin = math.cos(rotation), math.sin(rotation)
    a = np.array([[cos, -sin], [sin, cos]]) @ np.array([[1, math.tan(shear)], [0, 1]]) @ np.diag(sides)
    centre = np.array([width - 1, height - 1]) / 2
    crop = np.array([numbers["crop_x"], numbers["crop_y"]]) * (1 - sides) * np.array([width, height]) / 2
    return a, centre + crop + np.array([numbers["shift_x"], numbers["shift_y"]]) - a @ centre


def at(plane, x, y):
    height, width = plane.shape

    def pixel(column, row):
        return plane[row, column] if 0 <= row < height and 0 <= column < width else 0.0

    left, top = math.floor(x), math.floor(y)
    right, down = x - left, y - top
    upper = (1 - right) * pixel(left, top) + right * pixel(left + 1, top)
    lower = (1 - right) * pixel(left, top + 1) + right * pixel(left + 1, top + 1)
    return (1 - down) * upper + down * lower


def warp_by_hand(image, a, b):
    """image (C, H, W) in float64."""
    view = np.empty(image.shape)
    for c, row, column in np.ndindex(image.shape):
        x, y = a @ (column, row) + b
        view[c, row, column] = at(image[c], x, y)
    return view


def noise_by_hand(key, n):
    """Each block of 32 numbers holds 16 Box-Muller pairs: first their cosines, then their sines."""
    numbers = []
    for first in range(0, -(-n // 32) * 16, 16):
        bits = [split_mix((key + first + i) % 2**64) for i in range(16)]
        radius = [math.sqrt(-2 * math.log(((b >> 33) + 0.5) / 2**31)) for b in bits]
        angle = [2 * math.pi * (b % 2**32) / 2**32 for b in bits]
        numbers += [r * math.cos(t) for r, t in zip(radius, angle, strict=True)]
        numbers += [r * math.sin(t) for r, t in zip(radius, angle, strict=True)]
    return np.array(numbers[:n])


def split_mix(counter):
    bits = counter * 0x9E3779B97F4A7C15 % 2**64
    bits = (bits ^ (bits >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
    bits = (bits ^ (bits >> 27)) * 0x94D049BB133111EB % 2**64
    return bits ^ (bits >> 31)


def augment_by_hand(images, seed, noise=0.05, clip=(0, 1), **ranges):
    stack = images.astype(np.float64).reshape(len(images), -1, *images.shape[-2:])
    numbers, keys = draw(seed, len(images), **ranges)
    views = []
    for image, chosen, key in zip(stack, numbers, keys, strict=True):
        view = warp_by_hand(image, *affine(chosen, *images.shape[-2:]))
        view += noise * noise_by_hand(key, view.size).reshape(view.shape)
        views.append(view if clip is None else view.clip(*clip))
    return np.array(views).reshape(images.shape)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize(
    "arguments", [{}, LIVELY, {**LIVELY, "noise": 0, "clip": None}], ids=["default", "all", "still"]
)
def test_views_follow_the_formula(rng, shape, dtype, arguments):
    images = rng.random(shape).astype(dtype)
    views = augment(images, 3, **arguments)
    assert (views.shape, views.dtype) == (shape, dtype)
    noise = arguments.get("noise", 0.05)
    tolerance = 1e-6 if dtype == np.float32 else 1e-12 * max(shape) + 1e-5 * noise  # noise is float32
    np.testing.assert_allclose(views, augment_by_hand(images, 3, **arguments), rtol=0, atol=tolerance)


@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float32, 1e-5), (np.float64, 1e-12)])
@pytest.mark.parametrize("shape", [(64, 1, 28, 28), (16, 3, 20, 37)], ids=str)
def test_torchs_grid_sample(rng, shape, dtype, tolerance):
    images = rng.random(shape).astype(dtype)
    height, width = shape[-2:]
    thetas = []
    for numbers in draw(5, len(images), **LIVELY)[0]:  # torch's coordinates go from -1 to 1 between the outer edges
        a, b = affine(numbers, height, width)
        size, centre = np.array([width, height]), np.array([width - 1, height - 1]) / 2
        thetas.append(np.column_stack((a * size[None] / size[:, None], (a @ centre + b - centre) * 2 / size)))
    grid = F.affine_grid(torch.from_numpy(np.array(thetas).astype(dtype)), list(shape), align_corners=False)
    expected = F.grid_sample(
        torch.from_numpy(images), grid, mode="bilinear", padding_mode="zeros", align_corners=False
    ).numpy()
    views = augment(images, 5, **LIVELY, noise=0)
    assert (views == 0).any()
    np.testing.assert_allclose(views, expected, rtol=0, atol=tolerance)


# ---- what each argument does ----


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_options_of_no_change_return_the_same_bits(rng, dtype):
    images = rng.standard_normal((4, 2, 5, 6)).astype(dtype)
    images.flat[:4] = np.nan, np.inf, -np.inf, -0.0
    views = augment(images, 0, **STILL, clip=None)
    assert views.tobytes() == images.tobytes()
    assert not np.shares_memory(views, images)
    inside = rng.random((4, 2, 5, 6)).astype(dtype)
    assert augment(inside, 0, **STILL).tobytes() == inside.tobytes()


@pytest.mark.parametrize("turns", [-4, -3, -2, -1, 1, 2, 3, 4])
def test_positive_rotations_are_counter_clockwise(rng, turns):
    images = rng.random((3, 2, 9, 9))
    views = augment(images, 0, **{**STILL, "rotate": (90 * turns, 90 * turns)})
    np.testing.assert_allclose(views, np.rot90(images, turns, axes=(2, 3)), rtol=0, atol=1e-12)


def test_positive_shears_move_the_upper_end_to_the_right():
    line = np.zeros((1, 5, 5))
    line[..., 2] = 1
    leaning = np.fliplr(np.eye(5))[None]
    np.testing.assert_allclose(augment(line, 0, **{**STILL, "shear": (45, 45)}), leaning, atol=1e-12)
    np.testing.assert_allclose(augment(line, 0, **{**STILL, "shear": (-45, -45)}), leaning[..., ::-1], atol=1e-12)


def test_channels_of_an_image_have_one_map(rng):
    grey = rng.random((6, 1, 12, 12))
    views = augment(np.concatenate((grey, grey / 2), axis=1), 0, **LIVELY, noise=0)
    np.testing.assert_array_equal(views[:, 1], views[:, 0] / 2)
    np.testing.assert_array_equal(views[:, :1], augment(grey, 0, **LIVELY, noise=0))


def test_clip(rng):
    images = rng.standard_normal((50, 8, 8))
    free = augment(images, 0, noise=0.3, clip=None)
    assert free.min() < -1 and free.max() > 1
    for clip in ((0, 1), (-0.25, 0.5), [0.1, 0.1], (-math.inf, 0), (0, math.inf)):
        np.testing.assert_array_equal(augment(images, 0, noise=0.3, clip=clip), free.clip(*clip))
    np.testing.assert_array_equal(augment(images, 0, noise=0.3), free.clip(0, 1))


# ---- NaN, nothing, far away ----


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_nan_spreads_to_the_pixels_that_touch_it_alone(rng, dtype):
    images = rng.random((200, 9, 9)).astype(dtype)
    spoilt = images.copy()
    spoilt[:100, 4, 4] = np.nan
    spoilt[100:, 0, 0] = np.nan  # views are 0 beyond the image
    arguments = {"rotate": 30, "shift": 4, "scale": (0.9, 1.1), "noise": 0.1}
    views, clean = augment(spoilt, 0, **arguments), augment(images, 0, **arguments)
    touched = np.isnan(views)
    np.testing.assert_array_equal(views[~touched], clean[~touched])
    assert not np.isnan(clean).any()
    numbers = draw(0, 200, shift=4, rotate=30, scale=(0.9, 1.1))[0]
    for i, chosen in enumerate(numbers):
        a, b = affine(chosen, 9, 9)
        place = 4 if i < 100 else 0
        x, y = np.einsum("ij,jrc->irc", a, np.indices((9, 9))[::-1]) + b[:, None, None]
        np.testing.assert_array_equal(touched[i], (np.abs(x - place) < 1) & (np.abs(y - place) < 1))


@pytest.mark.parametrize(
    "shape", [(0, 1, 28, 28), (0, 28, 28), (3, 0, 4, 4), (3, 1, 0, 4), (3, 4, 0), (0, 0, 0, 0)], ids=str
)
def test_images_without_pixels_stay_empty(shape):
    views = augment(np.zeros(shape, np.float32), 0)
    assert (views.shape, views.dtype) == (shape, np.float32)


def test_one_pixel():
    images = np.full((1000, 1, 1), 0.5)
    np.testing.assert_array_equal(augment(images, 0, **STILL), images)
    views = augment(images, 0, **{**STILL, "shift": 1})
    assert views.max() <= 0.5
    np.testing.assert_allclose(views.mean(), 0.125, rtol=0.1)  # (1 - |x|)(1 - |y|) is 1/4 on average


@pytest.mark.parametrize("shift", [1e9, 1e100, 1.7e308])
def test_huge_shifts_leave_zeros(rng, shift):
    images = rng.random((5, 28, 28))
    np.testing.assert_array_equal(augment(images, 0, shift=shift, noise=0), 0)


@pytest.mark.parametrize("arguments", [{"scale": (1e-300, 1e-300)}, {"aspect": (1e-300, 1e300)}, {"shear": 89.999999}])
def test_extreme_maps_of_ones_show_ones_and_zeros(arguments):
    views = augment(np.ones((50, 28, 28)), 0, noise=0, clip=None, **arguments)
    assert views.min() >= 0
    assert views.max() <= 1 + 1e-15
    assert views.any() or "aspect" in arguments  # with such an aspect, a view may show nothing


@pytest.mark.parametrize("scale", [1e200, 1.7e308])
def test_huge_scales_leave_almost_no_pixels(scale):
    views = augment(np.ones((50, 28, 28)), 0, noise=0, scale=(scale, scale), aspect=(0.5, 2))
    assert np.count_nonzero(views) <= 50


# ---- determinism ----


def test_the_seed_makes_the_views(rng):
    images = rng.random((20, 1, 28, 28), np.float32)
    views = augment(images, 7)
    assert views.tobytes() == augment(images, 7).tobytes() == augment(images, np.random.default_rng(7)).tobytes()
    assert (views != augment(images, 8)).reshape(20, -1).any(1).all()
    generator = np.random.default_rng(7)
    assert augment(images, generator).tobytes() == views.tobytes()
    assert (augment(images, generator) != views).reshape(20, -1).any(1).all()
    assert (augment(images) != augment(images)).any()


def test_threads_change_no_bit(rng):
    images = rng.random((300, 2, 20, 20), np.float32)
    with cossim.threads(1):
        alone = augment(images, 1)
    for threads in (2, 3, 8):
        with cossim.threads(threads):
            assert augment(images, 1).tobytes() == alone.tobytes()


def test_a_view_depends_on_its_own_image_and_arguments_alone(rng):
    images = rng.random((20, 12, 12))
    views = augment(images, 1)
    for n in range(20):
        np.testing.assert_array_equal(augment(images[:n], 1), views[:n])
    other = np.where(np.arange(20)[:, None, None] == 4, images, 0)
    np.testing.assert_array_equal(augment(other, 1)[4], views[4])
    # The rotation is always drawn, so that noise is the same with and without it.
    zeros = np.zeros((3, 12, 12))
    np.testing.assert_array_equal(augment(zeros, 1, rotate=0), augment(zeros, 1))


def test_both_dtypes_see_the_same_view(rng):
    images = rng.random((20, 3, 28, 28), np.float32)
    np.testing.assert_allclose(augment(images, 1), augment(images.astype(np.float64), 1), rtol=0, atol=1e-6)


# ---- arguments ----


def test_layouts(rng):
    images = rng.random((6, 2, 10, 11))
    expected = augment(images, 2)
    for form in (*LAYOUTS.values(), np.ndarray.tolist, torch.from_numpy):
        views = augment(form(images), 2)
        assert views.dtype == np.float64 and views.dtype.isnative and views.flags.c_contiguous and views.flags.writeable
        np.testing.assert_array_equal(views, expected)
    assert expected.shape == (6, 2, 10, 11)
    grey = images[:, :1]
    np.testing.assert_array_equal(augment(grey[:, 0], 2), augment(grey, 2)[:, 0])


@pytest.mark.parametrize("dtype", [np.int8, np.int64, bool, np.float16, np.longdouble, complex, object, "U3"])
def test_other_types_are_refused(dtype):
    scaled = rf"\b.*\b{np.dtype(dtype)}: convert\b" if np.dtype(dtype).kind in "uib" else ""
    with pytest.raises(TypeError, match=rf"augment\(\): images{scaled}"):
        augment(np.zeros((2, 4, 4), dtype))


@pytest.mark.parametrize("shape", [(), (4,), (28, 28), (2, 1, 1, 28, 28)], ids=str)
def test_images_of_another_rank_are_refused(shape):
    with pytest.raises(ValueError, match=r"\(N, C, H, W\).*\(N, H, W\).*" + re.escape(str(shape))):
        augment(np.zeros(shape))


IMAGES = np.zeros((2, 4, 4))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(
            (name, value)
            for name in ("shift", "rotate", "shear", "noise")
            for value in (-1, -1e-9, math.nan, math.inf, 10**400)
        ),
        *(("rotate", value) for value in (361, (10, -10), (0, 361), (-361, 0), (math.nan, 1), (0, math.inf))),
        *(("shear", value) for value in (90, (0, 90), (-90, 0), (1, 0), (0, math.nan))),
        *(
            (name, value)
            for name in ("scale", "aspect")
            for value in ((0, 1), (-1, 1), (1, 0.5), (math.nan, 1), (0.5, math.nan), (0.5, math.inf), (1, 10**400))
        ),
        *(("clip", value) for value in ((1, 0), (math.nan, 1), (0, math.nan))),
        ("rng", -1),
    ],
)
def test_numbers_out_of_range_are_refused(name, value):
    with pytest.raises(ValueError, match=rf"augment\(\): {name}\b"):
        augment(IMAGES, **{name: value})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(
            (name, value)
            for name in ("shift", "rotate", "shear", "noise")
            for value in (None, "1", 1j, True, [[1]], np.ones(1))
        ),
        *(
            (name, value)
            for name in ("scale", "aspect")
            for value in (1, None, "01", (1,), (0.5, 1, 2), (0.5, "1"), (None, 1))
        ),
        *((name, (1, 2)) for name in ("shift", "noise")),
        *(("clip", value) for value in (1, True, "01", (0, 1, 2), (None, 1))),
        *(("rotate", value) for value in ((1,), (1, 2, 3), (0, "1"))),
        ("rng", "seed"),
        ("rng", 1.5),
    ],
)
def test_arguments_of_a_wrong_type_are_refused(name, value):
    with pytest.raises(TypeError, match=rf"augment\(\): {name}\b"):
        augment(IMAGES, **{name: value})


def test_numbers_of_other_types():
    expected = augment(IMAGES, 0, shift=1, rotate=3, noise=0.25, scale=(0.5, 1))
    for one, three, quarter, half in (
        (np.float32(1), np.int8(3), np.float64(0.25), np.float16(0.5)),
        (np.uint64(1), Fraction(3), Fraction(1, 4), Fraction(1, 2)),
    ):
        np.testing.assert_array_equal(
            augment(IMAGES, 0, shift=one, rotate=three, noise=quarter, scale=[half, one]), expected
        )


def test_arguments_are_named():
    with pytest.raises(TypeError, match="positional"):
        augment(IMAGES, 0, 2.0)


# ---- flips, colours and blur ----

BRIGHTNESS = np.array([0.299, 0.587, 0.114])


def brightness_of(images):
    return np.tensordot(BRIGHTNESS, images, (0, 1))[:, None]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_each_colour_change_alone(rng, dtype):
    images = rng.random((6, 3, 9, 14)).astype(dtype)
    tolerance = 1e-6 if dtype == np.float32 else 1e-14
    grey, mean = brightness_of(images), brightness_of(images).mean((2, 3), keepdims=True)
    for options, expected in (
        ({"flip": 1}, images[..., ::-1]),
        ({"brightness": (0.5, 0.5)}, images * 0.5),
        ({"contrast": (0.3, 0.3)}, 0.3 * images + 0.7 * mean),
        ({"saturation": (2, 2)}, 2 * images - grey),
        ({"greyscale": 1, "saturation": 1}, np.repeat(grey, 3, 1)),
        ({"hue": (1 / 3, 1 / 3)}, images[:, [2, 0, 1]]),
        ({"hue": (-1 / 3, -1 / 3)}, images[:, [1, 2, 0]]),
        ({"brightness": (2, 2), "contrast": (0.5, 0.5), "saturation": (0, 0)}, np.repeat(grey + mean, 3, 1)),
    ):
        views = augment(images, 0, **{**STILL, **options}, clip=None)
        np.testing.assert_allclose(views, expected, rtol=0, atol=tolerance, err_msg=str(options))
        assert views.dtype == dtype
    np.testing.assert_array_equal(augment(images, 0, **{**STILL, "flip": 1}, clip=None), images[..., ::-1])


@pytest.mark.parametrize("shape", [(3, 3, 12, 17), (2, 1, 1, 5), (2, 6, 3)], ids=str)
def test_blur_is_a_gaussian(rng, shape):
    images = rng.random(shape)
    flat = images.reshape(-1, *shape[-2:])
    for deviation in (0.3, 1.5, 6):
        radius = int(np.ceil(3 * deviation))
        weights = np.exp(-0.5 * (np.arange(-radius, radius + 1) / deviation) ** 2)
        weights /= weights.sum()
        padded = np.pad(flat, ((0, 0), (radius, radius), (radius, radius)), "edge")
        rows = np.stack([[np.convolve(row, weights, "valid") for row in plane] for plane in padded])
        expected = np.stack([np.stack([np.convolve(c, weights, "valid") for c in plane.T], 1) for plane in rows])
        found = augment(images, 0, **STILL, blur=(deviation, deviation), clip=None)
        np.testing.assert_allclose(found, expected.reshape(shape), rtol=0, atol=1e-14)


COLOURS = {"brightness": 0.4, "contrast": 0.4, "saturation": 0.4, "hue": 0.1, "blur": 2, "flip": 0.5}


def test_colours_of_grey_images_are_those_of_equal_channels(rng):
    grey = rng.random((5, 1, 8, 8))
    options = {**COLOURS, "greyscale": 0.5}
    views, colour = augment(grey, 3, **options), augment(np.repeat(grey, 3, 1), 3, **options, noise=0)
    np.testing.assert_allclose(augment(grey, 3, **options, noise=0), colour[:, :1], rtol=0, atol=1e-12)
    assert (views != grey).any()


@pytest.mark.usefixtures("restore_threads")
def test_colour_changes_are_random_and_repeatable(rng):
    images = rng.random((40, 3, 16, 16), np.float32)
    options = {**COLOURS, "greyscale": 0.2}
    cossim.set_num_threads(1)
    views = augment(images, 5, **options)
    cossim.set_num_threads(3)
    np.testing.assert_array_equal(augment(images, 5, **options), views)
    np.testing.assert_array_equal(augment(images[:7], 5, **options), views[:7])
    assert views.min() >= 0 and views.max() <= 1
    still = {**STILL, "clip": None}
    flipped = (augment(images, 5, **still, flip=0.5) == images[..., ::-1]).all((1, 2, 3))
    assert 10 < flipped.sum() < 30
    grey = np.ptp(augment(images, 5, **still, greyscale=0.5), axis=1).max((1, 2)) < 1e-6
    assert 10 < grey.sum() < 30


def test_options_that_change_nothing_keep_the_views(rng):
    images = rng.random((6, 3, 8, 8), np.float32)
    same = augment(images, 5, flip=0, brightness=0, contrast=(1, 1), saturation=0.0, hue=(0, 0), greyscale=0, blur=0)
    np.testing.assert_array_equal(same, augment(images, 5))


def test_pixels_of_uint8_are_divided_by_255(rng):
    pixels = rng.integers(0, 256, (5, 3, 8, 8), np.uint8)
    views = augment(pixels, 2, saturation=0.5)
    assert views.dtype == np.float32
    np.testing.assert_array_equal(views, augment(np.divide(pixels, 255, dtype=np.float32), 2, saturation=0.5))


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"flip": 1.5}, ValueError),
        ({"flip": "yes"}, TypeError),
        ({"greyscale": -0.1}, ValueError),
        ({"brightness": -1}, ValueError),
        ({"contrast": (2, 1)}, ValueError),
        ({"saturation": (-1, 1)}, ValueError),
        ({"blur": (-1, 1)}, ValueError),
        ({"blur": None}, TypeError),
    ],
)
def test_refused_colours(options, error):
    (name,) = options
    with pytest.raises(error, match=name):
        augment(np.ones((2, 3, 4, 4)), **options)


def test_colours_need_one_or_three_channels():
    with pytest.raises(ValueError, match=r"\(2, 4, 4, 4\)"):
        augment(np.ones((2, 4, 4, 4)), brightness=0.5)
    assert augment(np.ones((2, 4, 4, 4)), flip=1).shape == (2, 4, 4, 4)
