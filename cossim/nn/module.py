"""Module, the base class of all layers. The layers are in modules.py."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from cossim import _errors
from cossim.nn.weights import copy_into, misfits, read_weights

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray
    from typing_extensions import Self

    from cossim._typing import Array, Pullback, Weights


def with_names(names, pullback):
    """Returns the pullback of a layer, given that of its function: gradients of parameters are a dict, without None."""

    def named(dy, input_gradient=True):
        dx, *values = pullback(dy, input_gradient)
        return dx, {name: value for name, value in zip(names, values, strict=True) if value is not None}

    return named


def without_parameters(pullback):
    """Returns the pullback of a layer without parameters, given a function dy -> dx."""
    return lambda dy, input_gradient=True: (pullback(dy) if input_gradient else None, {})


class Module:
    """Base class of all layers: parameters and inner layers by name, state_dict() and load_state_dict().

    A subclass lists names in three attributes: ``parameter_names``, ``buffer_names`` (arrays that are not parameters,
    such as running statistics) and ``module_names`` (inner layers). It defines ``forward(x)``.
    The attribute ``training`` says whether the layer is in training mode, which changes BatchNorm2d and Dropout.

    Examples
    --------
    >>> import numpy as np, cossim.nn
    >>> layer = cossim.nn.Linear(3, 2, rng=0)
    >>> {name: array.shape for name, array in layer.state_dict().items()}
    {'weight': (2, 3), 'bias': (2,)}
    """

    parameter_names: ClassVar[tuple[str, ...]] = ()
    buffer_names: ClassVar[tuple[str, ...]] = ()
    module_names: ClassVar[tuple[str, ...]] = ()
    training: bool = True
    _options: ClassVar[tuple[str, ...]] = ()  # names of the attributes that repr shows

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "forward" in cls.__dict__ and "vjp" not in cls.__dict__:
            cls.vjp = Module.vjp  # an inherited vjp would not match the new forward

    if not TYPE_CHECKING:  # type checkers would allow any attribute

        def __setattr__(self, name, value):
            if name in self.module_names and not callable(value):
                names = {"name": name, "layer": type(self).__name__, "kind": type(value).__name__}
                raise TypeError(_errors.NOT_A_LAYER.format(**names))
            super().__setattr__(name, value)

    def __call__(self, x: Any) -> NDArray[Any]:
        return self.forward(x)

    def vjp(self, x: Any) -> tuple[NDArray[Any], Pullback]:
        """The layer's result and its pullback (vector-Jacobian product).

        Parameters
        ----------
        x : array_like
            The input of the layer. Do not change it or the parameters before the last call of the pullback.

        Returns
        -------
        y : numpy.ndarray
            The layer's result for x.
        pullback : callable
            ``pullback(dy, input_gradient=True)`` takes the gradient of y, which has the shape and dtype of y, and
            returns ``(dx, gradients)``. dx is the gradient of x; with input_gradient=False it is not calculated and is
            None. gradients is a dict with the keys of state_dict() and the gradient of each parameter.

        Raises
        ------
        TypeError, ValueError
            As in a call of the layer. The pullback raises them where dy does not have the dtype or shape of y.

        Examples
        --------
        >>> import numpy as np, cossim.nn
        >>> layer = cossim.nn.Linear(3, 2, rng=0)
        >>> y, pullback = layer.vjp(np.ones((5, 3), np.float32))
        >>> dx, gradients = pullback(np.ones_like(y))
        >>> gradients["bias"]
        array([5., 5.], dtype=float32)
        """
        raise TypeError(_errors.NO_VJP.format(layer=type(self).__name__))

    def named_modules(self) -> list[tuple[str, Module]]:
        """A list of (name, layer), one for each layer directly inside this one.

        Examples
        --------
        >>> import cossim.nn as nn
        >>> nn.Sequential(nn.ReLU(), nn.Flatten()).named_modules()
        [('0', ReLU()), ('1', Flatten(start_dim=1, end_dim=-1))]
        """
        layers = [(name, getattr(self, name)) for name in self.module_names]
        return [(name, layer) for name, layer in layers if isinstance(layer, Module)]  # others are callables

    def named_parameters(self) -> list[tuple[str, NDArray[Any]]]:
        """A list of (name, array): the arrays of state_dict() that an optimizer updates.

        Running statistics are left out. The optimizers take these arrays.

        Examples
        --------
        >>> import cossim.nn as nn
        >>> [name for name, array in nn.BatchNorm2d(3).named_parameters()]
        ['weight', 'bias']
        """
        found = [(name, getattr(self, name)) for name in self.parameter_names if getattr(self, name) is not None]
        for name, module in self.named_modules():
            found += [(f"{name}.{inner}", array) for inner, array in module.named_parameters()]
        return found

    def train(self, mode: bool = True) -> Self:
        """Sets the layer and all inner layers to training mode, or with mode=False to evaluation. Returns the layer.

        In training mode, BatchNorm2d takes the statistics of its input and Dropout drops elements. Other layers do the
        same in both modes. A new layer is in training mode, as in torch.

        Examples
        --------
        >>> import numpy as np, cossim.nn as nn
        >>> net = nn.Sequential(nn.Dropout(0.5, rng=0), nn.ReLU())
        >>> net.train(False)(np.ones(4))
        array([1., 1., 1., 1.])
        """
        self.training = bool(mode)
        for _, module in self.named_modules():
            module.train(mode)
        return self

    def eval(self) -> Self:
        """Sets the layer and all inner layers to evaluation: train(False). Returns the layer.

        Examples
        --------
        >>> import cossim.nn as nn
        >>> nn.BatchNorm2d(3).eval().training
        False
        """
        return self.train(False)

    def state_dict(self) -> dict[str, NDArray[Any]]:
        """All parameters and buffers by name. The name in an inner layer is "layer.name".

        Returns
        -------
        dict of str to numpy.ndarray
            The arrays themselves, not copies.

        Examples
        --------
        >>> import cossim.nn as nn
        >>> {name: a.shape for name, a in nn.Sequential(nn.Linear(3, 2), nn.ReLU()).state_dict().items()}
        {'0.weight': (2, 3), '0.bias': (2,)}
        """
        names = (*self.parameter_names, *self.buffer_names)
        state = {name: getattr(self, name) for name in names if getattr(self, name) is not None}
        for name, module in self.named_modules():
            state.update({f"{name}.{inner}": array for inner, array in module.state_dict().items()})
        return state

    def load_state_dict(self, state_dict: Weights, strict: bool = True) -> None:
        """Loads parameters from a dict of arrays or torch tensors, or from a .npz or .safetensors file.

        Copies them into the layer's arrays, in the dtype of the layer. Changes nothing unless all of them fit.

        Parameters
        ----------
        state_dict : mapping of str to array_like, or path
            The keys of state_dict().
        strict : bool
            Whether missing and unexpected keys are errors.

        Raises
        ------
        ValueError
            Keys or shapes do not fit, arrays of the layer are read-only, or the file is not a weights file of real
            numbers. The message lists all problems.
        TypeError
            A value of the dict is not an array of real numbers.

        Examples
        --------
        >>> import numpy as np, cossim.nn
        >>> layer = cossim.nn.Linear(3, 1)
        >>> layer.load_state_dict({"weight": [[1.0, 2.0, 3.0]], "bias": [4.0]})
        >>> layer(np.ones(3, np.float32))
        array([10.], dtype=float32)
        """
        arrays, source = read_weights(state_dict)
        own = self.state_dict()
        problems = misfits(own, arrays, strict)
        for key in own:
            if key in arrays and not isinstance(own[key], np.ndarray):
                problems.append(_errors.REPLACED.format(name=key, kind=type(own[key]).__name__))
            elif key in arrays and not own[key].flags.writeable:
                problems.append(_errors.READ_ONLY.format(name=key))
        copy_into(own, arrays, problems, source, type(self).__name__)

    def _children_repr(self) -> list[tuple[str, str]]:
        return [(name, repr(getattr(self, name))) for name in self.module_names]

    def _arguments_repr(self) -> str:
        return ", ".join(f"{name}={getattr(self, name)}" for name in self._options)

    def __repr__(self) -> str:
        children = [f"({name}): " + text.replace("\n", "\n  ") for name, text in self._children_repr()]
        if not children:
            return f"{type(self).__name__}({self._arguments_repr()})"
        return f"{type(self).__name__}(\n  " + "\n  ".join(children) + "\n)"


class ArrayLayer(Module):
    """Base class of the layers that take an array, or an object that can be converted to one."""

    if TYPE_CHECKING:

        def __call__(self, x: Array) -> NDArray[Any]: ...


class FunctionLayer(ArrayLayer):
    """Base class of the layers that are a function of x and of stored arguments, without parameters."""

    _functions: ClassVar[tuple[Callable[..., Any], Callable[..., Any]]]  # the function, and its vjp

    def _arguments(self) -> tuple[Any, ...]:
        """The arguments of the function after x."""
        return tuple(getattr(self, name) for name in self._options)

    def forward(self, x: Array) -> NDArray[Any]:
        """Applies the function to x with the stored arguments: same as layer(x)."""
        function, _ = self._functions
        return function(x, *self._arguments())

    def vjp(self, x: Array) -> tuple[NDArray[Any], Pullback]:
        _, function_vjp = self._functions
        y, pullback = function_vjp(x, *self._arguments())
        return y, without_parameters(pullback)
