"""The encoder and the similarity of two views agree with the same network in torch."""

import numpy as np
import pytest
from nn_cases import TorchEncoder
from oracle import torch

import cossim
from cossim import simclr
from cossim.cli import image_files


@pytest.fixture
def theirs():
    torch.manual_seed(0)
    return TorchEncoder()


def test_keys_and_files(tmp_path, theirs):
    pytest.importorskip("safetensors")
    keys = ["conv1.weight", "conv1.bias", "conv2.weight", "conv2.bias", "fc.weight", "fc.bias"]
    ours = simclr.Encoder(rng=3)
    assert list(ours.state_dict()) == keys == list(theirs.state_dict())
    cossim.nn.save_weights(tmp_path / "e.safetensors", ours.state_dict())
    theirs.load_state_dict(
        {k: torch.from_numpy(v) for k, v in cossim.nn.load_weights(tmp_path / "e.safetensors").items()}
    )
    x = np.random.default_rng(0).random((3, 1, 28, 28), dtype=np.float32)
    np.testing.assert_allclose(ours(x), theirs(torch.from_numpy(x)).detach().numpy(), atol=1e-5)


def test_real_images_through_to_the_matrix(theirs, mnist_images_path, rng):
    """Repeats the notebook's second half: two views, their embeddings z, and all pairs by unsqueeze and dim=2."""
    images = image_files.read_images(mnist_images_path)[:32]
    views = np.clip(images + rng.normal(0, 0.1, images.shape).astype(np.float32), 0, 1)
    ours = simclr.Encoder()
    ours.load_state_dict(theirs.state_dict())
    z0, z1 = ours(images), ours(views)
    t = torch.cat((theirs(torch.from_numpy(images)), theirs(torch.from_numpy(views)))).detach()
    expected = torch.nn.CosineSimilarity(dim=2)(t.unsqueeze(0), t.unsqueeze(1)).numpy()
    matrix = simclr.similarity_matrix(z0, z1)
    assert matrix.shape == (64, 64)
    assert (np.diag(matrix) == 1).all()
    np.testing.assert_allclose(matrix, expected, atol=1e-6)
    z = np.concatenate((z0, z1))
    np.testing.assert_array_equal(matrix, cossim.cosine_similarity(z[None], z[:, None], dim=2))


def test_similarity_matrix(rng):
    z0, z1 = rng.standard_normal((2, 5, 8))
    matrix = simclr.similarity_matrix(z0, z1)
    np.testing.assert_allclose(matrix[:5, 5:], cossim.pairwise(z0, z1), atol=1e-15)
    np.testing.assert_array_equal(matrix, matrix.T)
    for bad in ((z0, z1[:4]), (z0[0], z1[0]), (z0, z1[:, :3])):
        with pytest.raises(ValueError, match="similarity_matrix.*z0.*z1"):
            simclr.similarity_matrix(*bad)
    with pytest.raises(TypeError, match="z1"):
        simclr.similarity_matrix(z0, z1 * 1j)


@pytest.mark.parametrize("method", ["__call__", "vjp"])
def test_other_images_are_refused(method):
    call = getattr(simclr.Encoder(), method)
    for shape in ((1, 28, 27), (2, 3, 28, 28), (2, 1, 28, 27), (28,), ()):
        with pytest.raises(ValueError, match=r"\(N, 1, 28, 28\)") as caught:
            call(np.zeros(shape, np.float32))
        assert str(shape) in str(caught.value)
    for dtype in (np.float64, np.int8):
        with pytest.raises(TypeError, match=f"(?=.*float32).*{np.dtype(dtype).name}"):
            call(np.zeros((1, 1, 28, 28), dtype))


def test_the_seed_makes_the_weights():
    a, b, c = simclr.Encoder(rng=1), simclr.Encoder(rng=1), simclr.Encoder(rng=2)
    np.testing.assert_array_equal(a.fc.weight, b.fc.weight)
    assert (a.fc.weight != c.fc.weight).any()


def test_replaced_parts_are_refused_by_name():
    encoder, x = simclr.Encoder(), np.zeros((2, 28, 28), np.float32)
    for name in ("conv1", "conv2", "fc"):
        with pytest.raises(TypeError, match=f"^{name} of Encoder .*NoneType"):
            setattr(encoder, name, None)
    for value in (None, [[1.0]]):
        encoder.conv1.weight = value
        for call in (encoder, encoder.vjp):
            with pytest.raises(TypeError, match=rf"^Encoder\(\): conv1\.weight .*{type(value).__name__}"):
                call(x)


def test_an_encoder_with_a_callable_has_the_arrays_of_its_layers():
    encoder, x = simclr.Encoder(rng=0), np.zeros((4, 28, 28), np.float32)
    encoder.fc = lambda features: features
    assert list(encoder.state_dict()) == ["conv1.weight", "conv1.bias", "conv2.weight", "conv2.bias"]
    assert encoder.eval()(x).shape == (4, 320)
    assert "(fc): <function" in repr(encoder)
    with pytest.raises(TypeError, match="'fc'.*has no vjp"):
        simclr.train(x, encoder=encoder, epochs=1)
