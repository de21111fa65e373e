import numpy as np

from cossim._core import as_array
from cossim.nn import Conv2d, Flatten, Linear, MaxPool2d, Module, ReLU, Sequential


class Encoder(Module):
    """Images of 28 x 28 to embeddings of 100: two convolutions with relu and pooling, a linear layer with relu.

    Shapes on the way, for N images: (N, 1, 28, 28), convolution 5 x 5 to (N, 10, 24, 24), pooling to (N, 10, 12, 12),
    convolution 5 x 5 to (N, 20, 8, 8), pooling to (N, 20, 4, 4), flattened to (N, 320), linear to (N, 100).

    Its parameters are called conv1.weight, conv1.bias, conv2.weight, conv2.bias, fc.weight and fc.bias, so the
    state_dict of the same network in torch can be loaded with load_state_dict.

    Parameters
    ----------
    dtype : float32 or float64
        Of the parameters, and of the images it takes.
    rng : int or numpy.random.Generator, optional
        Seed or source of the initial values, in torch's default ranges.

    Raises
    ------
    TypeError
        Images of another dtype.
    ValueError
        Images of another shape than (N, 1, 28, 28).

    Examples
    --------
    >>> import numpy as np, cossim.simclr
    >>> encoder = cossim.simclr.Encoder(rng=0)
    >>> encoder(np.zeros((32, 1, 28, 28), np.float32)).shape
    (32, 100)
    """

    module_names = ("conv1", "conv2", "fc")

    def __init__(self, *, dtype=np.float32, rng=None):
        rng = np.random.default_rng(rng)
        self.conv1 = Conv2d(1, 10, 5, dtype=dtype, rng=rng)
        self.conv2 = Conv2d(10, 20, 5, dtype=dtype, rng=rng)
        self.fc = Linear(4 * 4 * 20, 100, dtype=dtype, rng=rng)
        self._relu, self._pool, self._flatten = ReLU(), MaxPool2d(2), Flatten()

    def _layers(self):
        relu, pool = self._relu, self._pool
        layers = {"conv1": self.conv1, "relu1": relu, "pool1": pool, "conv2": self.conv2, "relu2": relu, "pool2": pool}
        return Sequential(layers | {"flatten": self._flatten, "fc": self.fc, "relu3": relu})

    def _checked(self, x):
        x = as_array("Encoder", "images", x)
        if x.ndim != 4 or x.shape[1:] != (1, 28, 28):
            raise ValueError(f"Encoder(): images must have shape (N, 1, 28, 28), not {x.shape}")
        return x

    def forward(self, x):
        """The embeddings of images, shape (N, 1, 28, 28): (N, 100). What calling the encoder does."""
        return self._made_once(self._layers).forward(self._checked(x))

    def vjp(self, x):
        return self._made_once(self._layers).vjp(self._checked(x))
