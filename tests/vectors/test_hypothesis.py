"""Random calls that Hypothesis draws agree with torch."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from oracle import F, torch

import cossim

TOLERANCE = {np.float32: 4e-7, np.float64: 1e-14}


@st.composite
def operands(draw):
    """Draws two arrays whose shapes broadcast, as views with many kinds of strides, and a dim."""
    dtype = draw(st.sampled_from([np.float32, np.float64]))
    shapes = draw(hnp.mutually_broadcastable_shapes(num_shapes=2, min_dims=1, max_dims=4, min_side=0, max_side=9))
    ndim = len(shapes.result_shape)
    dim = draw(st.integers(-ndim, ndim - 1))
    # values for which torch neither overflows nor underflows
    elements = st.floats(-1e6, 1e6, width=np.dtype(dtype).itemsize * 8).map(lambda v: v if abs(v) > 1e-6 else 0.0)
    arrays = []
    for shape in shapes.input_shapes:
        x = draw(hnp.arrays(dtype, shape, elements=elements))
        if draw(st.booleans()):
            x = np.asfortranarray(x)
        if draw(st.booleans()):
            steps = [draw(st.sampled_from([1, -1, 2, -3])) for _ in shape]
            big = np.zeros([abs(step) * n for step, n in zip(steps, shape, strict=True)], dtype)
            view = big[tuple(slice(None, None, step) for step in steps)]
            view[...] = x
            x = view
        arrays.append(x)
    if arrays[0].shape == arrays[1].shape and draw(st.booleans()):
        arrays[1] = arrays[0]
    return dtype, arrays[0], arrays[1], dim


def tensors(*arrays):
    return [torch.from_numpy(x.copy(order="C")) for x in arrays]


@settings(max_examples=400)
@given(operands(), st.sampled_from([1e-8, 1e-6, 0.1, 10.0]))
def test_cosine_similarity_agrees_with_torch(case, eps):
    dtype, x1, x2, dim = case
    dim %= max(x1.ndim, x2.ndim)
    before = x1.copy(), x2.copy()
    ours = cossim.cosine_similarity(x1, x2, dim, eps)
    theirs = F.cosine_similarity(*tensors(x1, x2), dim, eps).numpy()
    assert ours.dtype == theirs.dtype
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=TOLERANCE[dtype])
    assert (np.abs(ours) <= 1).all()
    np.testing.assert_array_equal(before[0], x1)
    np.testing.assert_array_equal(before[1], x2)
    np.testing.assert_array_equal(cossim.cosine_similarity(x2, x1, dim, eps), ours)


@settings(max_examples=150)
@given(operands())
def test_vecdot_agrees_with_torch(case):
    dtype, x1, x2, dim = case
    dim %= max(x1.ndim, x2.ndim)
    t1, t2 = torch.broadcast_tensors(*tensors(x1, x2))  # torch.linalg.vecdot fails for some empty broadcasts
    theirs = torch.linalg.vecdot(t1, t2, dim=dim).numpy()
    scale = torch.linalg.vecdot(t1.abs(), t2.abs(), dim=dim).numpy()
    np.testing.assert_array_less(np.abs(cossim.vecdot(x1, x2, dim) - theirs), 1e-30 + 4 * TOLERANCE[dtype] * scale)


@settings(max_examples=200)
@given(operands(), st.sampled_from([1e-12, 0.5]), st.data())
def test_norms_agree_with_torch(case, eps, data):
    dtype, x, _, _ = case
    tensor = tensors(x)[0]
    dim = data.draw(st.integers(-x.ndim, x.ndim - 1))
    np.testing.assert_allclose(
        cossim.normalize(x, dim, eps), F.normalize(tensor, dim=dim, eps=eps).numpy(), rtol=0, atol=TOLERANCE[dtype]
    )
    dims = tuple(data.draw(st.lists(st.integers(0, x.ndim - 1), unique=True, max_size=x.ndim)))
    keep = data.draw(st.booleans())
    ours, theirs = cossim.vector_norm(x, dims, keep), torch.linalg.vector_norm(tensor, 2, dims, keep).numpy()
    assert ours.shape == theirs.shape
    np.testing.assert_allclose(ours, theirs, rtol=10 * TOLERANCE[dtype])
