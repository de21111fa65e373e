"""Layers one after another: run as one where that is possible."""

from collections import OrderedDict

import numpy as np

from cossim import _core
from cossim._arguments import integer_argument
from cossim.nn import functional, gradients
from cossim.nn.module import Module
from cossim.nn.modules import Conv2d, Flatten, Linear, MaxPool2d, ReLU


def _flat(layers, prefix=""):
    """(name, layer) of the layers, and in place of a Sequential among them of its own."""
    for name, layer in layers.items():
        if type(layer) is Sequential and "forward" not in vars(layer):
            yield from _flat(layer._layers, f"{prefix}{name}.")
        else:
            yield prefix + name, layer


def _network_step(layer):
    """What _core.Network takes for a layer, or None: then it runs by itself, and says what is wrong with it."""
    if not isinstance(layer, Module) or "forward" in vars(layer):
        return None
    if any(isinstance(value, list) for value in vars(layer).values()):  # they may change without being set
        return None
    try:
        return _checked_step(layer)
    except (TypeError, ValueError):
        return None


def _checked_step(layer):
    if type(layer) is Conv2d and layer.padding_mode == "zeros":
        stride = functional._pair("conv2d", "stride", layer.stride, 1)
        dilation = functional._pair("conv2d", "dilation", layer.dilation, 1)
        before, after = functional._conv_padding(layer.padding, np.shape(layer.weight)[2:], stride, dilation)
        groups = integer_argument("conv2d", "groups", layer.groups)
        return "conv2d", layer.weight, layer.bias, stride, before, after, dilation, groups
    if type(layer) is Linear:
        return "linear", layer.weight, layer.bias
    if type(layer) is MaxPool2d and not layer.return_indices:
        pairs = functional._pool_pairs(layer.kernel_size, layer.stride, layer.padding, layer.dilation)
        return "max_pool2d", *pairs, bool(layer.ceil_mode)
    if type(layer) is ReLU:
        return ("relu",)
    if type(layer) is Flatten and layer._dims() == (1, -1):
        return ("flatten",)
    return None


def _network(steps):
    try:
        return None if steps is None else _core.Network(tuple(steps))
    except ValueError:
        return None


def _one_by_one(network, layers, x):
    """Arrays of another layout or kind as the network takes them; else the layers, which say what is wrong."""
    if network is not None:
        try:
            plain = functional._arrays("Sequential", x=x)["x"]
        except (TypeError, ValueError):
            plain = x
        y = network.run(plain)
        if y is not None:
            return y
    for name, layer in layers:
        x = _called(name, layer, x)
    return x


def _called(name, layer, x):
    """What a layer makes of x; where it refuses, the message names it."""
    try:
        return layer(x)
    except (TypeError, ValueError) as error:
        if not isinstance(layer, Module) or type(error) not in (TypeError, ValueError):
            raise
        raise type(error)(f"layer {name!r}: {error}") from error


def _is_plain(layer, kind):
    return type(layer) is kind and not {"forward", "vjp"} & vars(layer).keys()


def _vjp_of_first(layers, x):
    """How many of the first layers are taken in one, their result, and its pullback.

    relu is calculated with the layer before it. Where its argument was above 0, its result tells as well, and behind a
    pool the pool's.
    """
    name, layer = layers[0]
    own = vars(layer) if isinstance(layer, Module) else {}
    if getattr(type(layer), "vjp", Module.vjp) is Module.vjp or ("forward" in own and "vjp" not in own):
        raise TypeError(f"Sequential.vjp(): layer {name!r} has no vjp: {type(layer).__name__}")
    following = [layer for _, layer in layers[1:3]]
    if not (_is_plain(layer, Conv2d) or _is_plain(layer, Linear)) or not following or not _is_plain(following[0], ReLU):
        return 1, *layer.vjp(x)
    if type(layer) is Linear:
        return 2, *layer._vjp(x, relu=True)
    if len(following) == 1 or not _is_plain(following[1], MaxPool2d):
        return 2, *layer._vjp(x, lambda call: gradients._conv2d_vjp(call, relu=True))
    return 3, *layer._vjp(x, lambda call: _pooled_vjp(call, following[1]))


def _pooled_vjp(call, pool):
    """Of a convolution, relu and a pool."""
    pairs = functional._pool_pairs(pool.kernel_size, pool.stride, pool.padding, pool.dilation)
    squares = pairs == ((2, 2), (2, 2), (0, 0), (1, 1)) and not pool.ceil_mode and not pool.return_indices
    if squares and min(call.size) >= 2:
        return gradients._conv2d_pooled_vjp(call)
    y, pullback = gradients._conv2d_vjp(call, relu=True)
    pooled, unpool = pool.vjp(y)
    return pooled, lambda dy, input_gradient=True: pullback(unpool(dy)[0], input_gradient)


class Sequential(Module):
    """Layers one after another: the twin of torch.nn.Sequential.

    Parameters
    ----------
    *layers : Module or callable
        Or a single OrderedDict (or dict) of them by name; without names they are called "0", "1", ...

    Raises
    ------
    TypeError
        A layer that cannot be called.

    Examples
    --------
    >>> import numpy as np, cossim.nn as nn
    >>> net = nn.Sequential(nn.Flatten(), nn.Linear(16, 2, rng=0), nn.ReLU())
    >>> net(np.zeros((3, 1, 4, 4), np.float32)).shape
    (3, 2)
    >>> list(net.state_dict())
    ['1.weight', '1.bias']
    """

    def __init__(self, *layers):
        if len(layers) == 1 and isinstance(layers[0], dict):
            self._layers = OrderedDict(layers[0])
        else:
            self._layers = OrderedDict((str(i), layer) for i, layer in enumerate(layers))
        for name, layer in self._layers.items():
            if not callable(layer):
                raise TypeError(f"Sequential(): layer {name!r} cannot be called: {type(layer).__name__}")

    def named_modules(self):
        return [(name, layer) for name, layer in self._layers.items() if isinstance(layer, Module)]

    def _children_repr(self):
        return [(name, repr(layer)) for name, layer in self._layers.items()]

    def forward(self, x):
        """x through one layer after another: what calling the network does."""
        for network, layers in self._made_once(self._networks):
            y = None if network is None else network.run(x)
            x = _one_by_one(network, layers, x) if y is None else y
        return x

    def _networks(self):
        """The layers in groups, each with what runs it as one, or None where there is no such thing."""
        groups = []
        for name, layer in _flat(self._layers):
            step = _network_step(layer)
            if step is None or not groups or groups[-1][0] is None:
                groups.append(([step] if step else None, [(name, layer)]))
            else:
                groups[-1][0].append(step)
                groups[-1][1].append((name, layer))
        return [(_network(steps), layers) for steps, layers in groups]

    def vjp(self, x):
        steps, layers = [], list(self._layers.items())
        while layers:
            taken, x, pullback = _vjp_of_first(layers, x)
            steps.append((layers[0][0], pullback))
            del layers[:taken]
        y = np.asarray(x)

        def pullback(dy, input_gradient=True):
            input_gradient = bool(input_gradient)  # once for all layers
            dy, found = gradients._gradient("Sequential.vjp", dy, y), {}
            for i, (name, step) in reversed(list(enumerate(steps))):
                dy, of_layer = step(dy, input_gradient or i > 0)
                found = {f"{name}.{key}": value for key, value in of_layer.items()} | found
            return dy if input_gradient else None, found

        return y, pullback

    def __len__(self):
        return len(self._layers)

    def __iter__(self):
        return iter(self._layers.values())

    def __getitem__(self, index):
        if isinstance(index, slice):
            return Sequential(OrderedDict(list(self._layers.items())[index]))
        return list(self._layers.values())[index]
