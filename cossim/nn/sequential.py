"""Sequential, a chain of layers. The C core runs adjacent layers that it supports in one call."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, SupportsIndex, overload

import numpy as np

from cossim import _core, _errors
from cossim.nn import gradients
from cossim.nn.module import ArrayLayer, Module
from cossim.nn.modules import NETWORK_LAYERS, Conv2d, Linear, MaxPool2d, ReLU

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from cossim._typing import Array, Pullback


_FUSED = {ReLU: "relu", MaxPool2d: "pool"}  # the argument of _vjp that fuses a following layer of this class


def call_layer(name: str, layer: Callable[[Any], Any], x: Any) -> Any:
    """Returns layer(x). Adds the layer's name to the message of an error."""
    try:
        return layer(x)
    except (TypeError, ValueError) as error:
        if not isinstance(layer, Module) or type(error) not in (TypeError, ValueError):
            raise
        raise type(error)(_errors.IN_LAYER.format(name=name, error=error)) from error


def _pullback_of_tape(tape, y, names, layers):
    """Pullback of the layers of a tape. Its gradients have the names of layers and parameters."""
    pairs = zip(names, layers, strict=False)
    keys = [(name, layer.parameter_names) for name, layer in pairs if isinstance(layer, (Conv2d, Linear))]

    def pullback(dy, input_gradient=True):
        dx, gradients_of_layers = _core.backward_layers(
            tape, gradients._gradient("Sequential.vjp", dy, y), input_gradient
        )
        named = {}
        for (name, parameters), values in zip(keys, gradients_of_layers, strict=True):
            named |= {f"{name}.{key}": v for key, v in zip(parameters, values, strict=True) if v is not None}
        return dx, named

    return pullback


def layers_vjp(names: tuple[str, ...], layers: tuple[Any, ...], x: Any) -> tuple[NDArray[Any], Pullback]:
    """Result and pullback of the layers in order. Fuses the same layers as forward.

    Where forward runs several layers in one call, with an image in each lane, their gradients are one call too.
    """
    image_by_image = 0  # number of the next layers that forward runs in one call, image by image
    pullbacks: list[tuple[str | None, Any]] = []  # None: the keys of the gradients already have the layers' names
    while layers:
        name, layer = names[-len(layers)], layers[0]
        own = vars(layer) if isinstance(layer, Module) else {}
        if getattr(type(layer), "vjp", Module.vjp) is Module.vjp or ("forward" in own and "vjp" not in own):
            message = _errors.NO_VJP.format(layer=type(layer).__name__)
            raise TypeError(_errors.IN_LAYER.format(name=name, error=message))
        if image_by_image == 0:
            y, count, tape = _core.forward_layers(NETWORK_LAYERS, layers, x)
            if tape is not None:
                x = y
                pullbacks.append((None, _pullback_of_tape(tape, x, names[-len(layers) :][:count], layers)))
                layers = layers[count:]
                continue
            image_by_image = count
        count = _core.fused_layers(NETWORK_LAYERS, layers[:image_by_image])
        fused = {_FUSED[type(following)]: True for following in layers[1:count]}
        x, pullback_of_layer = layer._vjp(x, **fused) if fused else layer.vjp(x)
        pullbacks.append((name, pullback_of_layer))
        layers, image_by_image = layers[count:], image_by_image - count
    y = np.asarray(x)

    def pullback(dy, input_gradient=True):
        input_gradient = bool(input_gradient)  # evaluated once, not once a layer
        dy, parameter_gradients = gradients._gradient("Sequential.vjp", dy, y), {}
        for i, (name, layer_pullback) in reversed(list(enumerate(pullbacks))):
            dy, layer_gradients = layer_pullback(dy, input_gradient or i > 0)
            if name is not None:
                layer_gradients = {f"{name}.{key}": value for key, value in layer_gradients.items()}
            parameter_gradients = layer_gradients | parameter_gradients
        return dy if input_gradient else None, parameter_gradients

    return y, pullback


class Sequential(ArrayLayer):
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

    @overload
    def __init__(self, layers: dict[str, Any], /) -> None: ...
    @overload
    def __init__(self, *layers: Callable[[Any], Any]) -> None: ...
    def __init__(self, *layers: Any) -> None:
        if len(layers) == 1 and isinstance(layers[0], dict):
            self._layers = dict(layers[0])
        else:
            self._layers = {str(i): layer for i, layer in enumerate(layers)}
        # All layers and their names. A nested Sequential is replaced by its layers.
        self._names: tuple[str, ...] = ()
        self._flat: tuple[Any, ...] = ()
        self._nested: tuple[Sequential, ...] = ()
        for name, layer in self._layers.items():
            if not callable(layer):
                raise TypeError(_errors.NOT_CALLABLE.format(name=name, kind=type(layer).__name__))
            if type(layer) is Sequential:
                self._names += tuple(f"{name}.{inner}" for inner in layer._names)
                self._flat += layer._flat
                self._nested += (layer, *layer._nested)
            else:
                self._names += (name,)
                self._flat += (layer,)

    def named_modules(self) -> list[tuple[str, Module]]:
        return [(name, layer) for name, layer in self._layers.items() if isinstance(layer, Module)]

    def _children_repr(self) -> list[tuple[str, str]]:
        return [(name, repr(layer)) for name, layer in self._layers.items()]

    def forward(self, x: Array) -> NDArray[Any]:
        """Passes x through the layers in order: same as network(x)."""
        for nested in self._nested:
            if "forward" in nested.__dict__:
                return _core.run_layers(NETWORK_LAYERS, call_layer, tuple(self._layers), tuple(self), x)
        return _core.run_layers(NETWORK_LAYERS, call_layer, self._names, self._flat, x)

    def vjp(self, x: Array) -> tuple[NDArray[Any], Pullback]:
        for nested in self._nested:
            if "forward" in nested.__dict__ or "vjp" in nested.__dict__:
                return layers_vjp(tuple(self._layers), tuple(self), x)
        return layers_vjp(self._names, self._flat, x)

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
            return Sequential(dict(list(self._layers.items())[index]))
        return list(self._layers.values())[index]
