"""Sequential, a chain of layers. The C core runs adjacent layers that it supports in one call."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Any, SupportsIndex, overload

import numpy as np

from cossim import _core, _errors
from cossim._arguments import integer_argument
from cossim.nn import functional, gradients
from cossim.nn.module import Module
from cossim.nn.modules import Conv2d, Flatten, Linear, MaxPool2d, ReLU

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from cossim._typing import Array, Pullback


def _flattened(layers, prefix=""):
    """Yields (name, layer), and replaces each nested Sequential by its own layers."""
    for name, layer in layers.items():
        if type(layer) is Sequential and "forward" not in vars(layer):
            yield from _flattened(layer._layers, f"{prefix}{name}.")
        else:
            yield prefix + name, layer


def _network_step(layer):
    """Returns the tuple that describes the layer to _core.Network, or None.

    None means that the layer runs on its own. It then raises its own errors.
    """
    if not isinstance(layer, Module) or "forward" in vars(layer):
        return None
    # A list can change without an attribute being set, so the cached network would be out of date.
    if any(isinstance(value, list) for value in vars(layer).values()):
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


def _run_group(network: _core.Network | None, layers: list[tuple[str, Any]], x: Any) -> NDArray[Any]:
    """Runs a group of layers on an x that the network did not accept as it is.

    Converts x to a contiguous native array and runs the network. If the network refuses that too, runs the layers one
    by one; a layer that cannot take its input raises an error that names the problem.
    """
    if network is not None:
        try:
            converted = functional._arrays("Sequential", x=x)["x"]
        except (TypeError, ValueError):
            converted = x
        y = network.run(converted)
        if y is not None:
            return y
    for name, layer in layers:
        x = _call_layer(name, layer, x)
    return x


def _call_layer(name: str, layer: Callable[[Any], Any], x: Any) -> Any:
    """Returns layer(x). Adds the layer's name to the message of an error."""
    try:
        return layer(x)
    except (TypeError, ValueError) as error:
        if not isinstance(layer, Module) or type(error) not in (TypeError, ValueError):
            raise
        raise type(error)(_errors.IN_LAYER.format(name=name, error=error)) from error


def _is_exact(layer, kind):
    """Whether type(layer) is exactly kind and no attribute of the layer replaces forward or vjp."""
    return type(layer) is kind and not {"forward", "vjp"} & vars(layer).keys()


def _fused_vjp(layers, x):
    """Runs the first layer, fused with the ReLU and pooling that follow it where possible.

    Returns the number of layers it ran, their result and its pullback. The gradient of ReLU depends only on where
    its argument is above 0. Its result shows that, and so does the pooled result, so no copy of the argument is kept.
    """
    name, layer = layers[0]
    own = vars(layer) if isinstance(layer, Module) else {}
    if getattr(type(layer), "vjp", Module.vjp) is Module.vjp or ("forward" in own and "vjp" not in own):
        message = _errors.NO_VJP.format(layer=type(layer).__name__)
        raise TypeError(_errors.IN_LAYER.format(name=name, error=message))
    following = [layer for _, layer in layers[1:3]]
    if not (_is_exact(layer, Conv2d) or _is_exact(layer, Linear)) or not following or not _is_exact(following[0], ReLU):
        return 1, *layer.vjp(x)
    if type(layer) is Linear:
        return 2, *layer._vjp(x, relu=True)
    if len(following) == 1 or not _is_exact(following[1], MaxPool2d):
        return 2, *layer._vjp(x, lambda call: gradients._conv2d_vjp(call, relu=True))
    return 3, *layer._vjp(x, lambda call: _conv2d_relu_pool_vjp(call, following[1]))


def _conv2d_relu_pool_vjp(call, pool):
    """Result and pullback of a convolution, ReLU and max pooling."""
    pairs = functional._pool_pairs(pool.kernel_size, pool.stride, pool.padding, pool.dilation)
    squares = pairs == ((2, 2), (2, 2), (0, 0), (1, 1)) and not pool.ceil_mode and not pool.return_indices
    if squares and min(call.size) >= 2:
        return gradients._conv2d_pooled_vjp(call)
    y, pullback = gradients._conv2d_vjp(call, relu=True)
    pooled, unpool = pool.vjp(y)
    return pooled, lambda dy, input_gradient=True: pullback(unpool(dy)[0], input_gradient)


class Sequential(Module):
    """A chain of layers, as in torch.nn.Sequential.

    Parameters
    ----------
    *layers : Module or callable
        The layers in order, named "0", "1", ..., or a single OrderedDict or dict of layers by name.

    Raises
    ------
    TypeError
        A layer is not callable.

    Examples
    --------
    >>> import numpy as np, cossim.nn as nn
    >>> net = nn.Sequential(nn.Flatten(), nn.Linear(16, 2, rng=0), nn.ReLU())
    >>> net(np.zeros((3, 1, 4, 4), np.float32)).shape
    (3, 2)
    >>> list(net.state_dict())
    ['1.weight', '1.bias']
    """

    if TYPE_CHECKING:

        def __call__(self, x: Array) -> NDArray[Any]: ...

    @overload
    def __init__(self, layers: dict[str, Any], /) -> None: ...
    @overload
    def __init__(self, *layers: Callable[[Any], Any]) -> None: ...
    def __init__(self, *layers: Any) -> None:
        if len(layers) == 1 and isinstance(layers[0], dict):
            self._layers = OrderedDict(layers[0])
        else:
            self._layers = OrderedDict((str(i), layer) for i, layer in enumerate(layers))
        for name, layer in self._layers.items():
            if not callable(layer):
                raise TypeError(_errors.NOT_CALLABLE.format(name=name, kind=type(layer).__name__))

    def named_modules(self) -> list[tuple[str, Module]]:
        return [(name, layer) for name, layer in self._layers.items() if isinstance(layer, Module)]

    def _children_repr(self) -> list[tuple[str, str]]:
        return [(name, repr(layer)) for name, layer in self._layers.items()]

    def forward(self, x: Array) -> NDArray[Any]:
        """Passes x through the layers in order: same as network(x)."""
        for network, layers in self._cached_until_changed(self._networks):
            y = None if network is None else network.run(x)
            x = _run_group(network, layers, x) if y is None else y
        return x

    def _networks(self):
        """Splits the layers into groups and returns a list of (network, [(name, layer), ...]).

        network is the _core.Network that runs the whole group, or None if the layers have to run one by one.
        """
        groups = []
        for name, layer in _flattened(self._layers):
            step = _network_step(layer)
            if step is None or not groups or groups[-1][0] is None:
                groups.append(([step] if step else None, [(name, layer)]))
            else:
                groups[-1][0].append(step)
                groups[-1][1].append((name, layer))
        return [(_network(steps), layers) for steps, layers in groups]

    def vjp(self, x: Array) -> tuple[NDArray[Any], Pullback]:
        pullbacks, layers = [], list(self._layers.items())
        while layers:
            count, x, pullback = _fused_vjp(layers, x)
            pullbacks.append((layers[0][0], pullback))
            del layers[:count]
        y = np.asarray(x)

        def pullback(dy, input_gradient=True):
            input_gradient = bool(input_gradient)  # evaluated once, not once a layer
            dy, parameter_gradients = gradients._gradient("Sequential.vjp", dy, y), {}
            for i, (name, layer_pullback) in reversed(list(enumerate(pullbacks))):
                dy, layer_gradients = layer_pullback(dy, input_gradient or i > 0)
                layer_gradients = {f"{name}.{key}": value for key, value in layer_gradients.items()}
                parameter_gradients = layer_gradients | parameter_gradients
            return dy if input_gradient else None, parameter_gradients

        return y, pullback

    def __len__(self) -> int:
        return len(self._layers)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._layers.values())

    @overload
    def __getitem__(self, index: SupportsIndex) -> Any: ...
    @overload
    def __getitem__(self, index: slice) -> Sequential: ...
    def __getitem__(self, index: SupportsIndex | slice) -> Any:
        if isinstance(index, slice):
            return Sequential(OrderedDict(list(self._layers.items())[index]))
        return list(self._layers.values())[index]
