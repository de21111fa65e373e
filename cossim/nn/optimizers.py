"""Optimizers with torch's update rules. They update the arrays of a layer or of a dict in place."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from cossim import _errors
from cossim._arithmetic import fixed_arithmetic
from cossim.nn.arguments import real_argument
from cossim.nn.module import Module
from cossim.nn.weights import copy_into, misfits, named_arrays, read_weights

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from cossim._typing import Number, Weights


def _number(optimizer: str, name: str, value: Any, *, minimum: float = 0.0, below: float = math.inf) -> float:
    number = real_argument(optimizer, name, value)
    if not minimum <= number < below or not math.isfinite(number):
        bound = f" from {minimum:g}" if minimum > -math.inf else ""
        bound += f" to below {below:g}" if below < math.inf else ""
        raise ValueError(_errors.NOT_FINITE.format(function=optimizer, name=name, bound=bound, value=value))
    return number


def _parameters(optimizer: str, parameters: Module | Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Returns the arrays by name. Raises an error unless all of them can be updated in place."""
    if isinstance(parameters, Module):
        parameters = dict(parameters.named_parameters())
    if not isinstance(parameters, Mapping):
        raise TypeError(_errors.NOT_PARAMETERS.format(function=optimizer, kind=type(parameters).__name__))
    seen: dict[int, str] = {}
    for key, array in parameters.items():
        if not isinstance(key, str):
            raise TypeError(_errors.NOT_A_NAME.format(function=optimizer, name=key))
        if not isinstance(array, np.ndarray) or isinstance(array, np.ma.MaskedArray):
            kind = type(array).__name__
            raise TypeError(_errors.NOT_A_PARAMETER.format(function=optimizer, name=key, kind=kind))
        if array.dtype not in (np.float32, np.float64):
            raise TypeError(_errors.NOT_FLOAT32_OR_64.format(function=optimizer, name=key, dtype=array.dtype))
        if not array.flags.writeable:
            problem = _errors.READ_ONLY.format(name=key)
            raise ValueError(_errors.PROBLEMS.format(function=optimizer, problems=problem))
        if id(array) in seen:
            names = {"name": seen[id(array)], "other": key}
            raise ValueError(_errors.SHARED_PARAMETER.format(function=optimizer, **names))
        seen[id(array)] = key
    if not seen:
        raise ValueError(_errors.NO_PARAMETERS.format(function=optimizer))
    return dict(parameters)


class _Optimizer:
    """Base class of SGD and Adam: the parameters, the checks of gradients, and the state as a flat dict.

    A subclass sets `_options`, the names of the attributes that its repr shows, and `_buffers`, a dict from each kind
    of buffer to a dict of arrays with the keys of the parameters. A step calls `_begin(number)` once, with numbers from
    1, then `_update(parameter, gradient, *buffers)` for each parameter. These arrays have at least one dimension.
    """

    _options: ClassVar[tuple[str, ...]] = ()
    _parameters: dict[str, NDArray[Any]]
    _buffers: dict[str, dict[str, NDArray[Any]]]

    def __init__(self, parameters: Module | Mapping[str, NDArray[Any]]) -> None:
        self._parameters = _parameters(type(self).__name__, parameters)
        self._steps = 0
        self._buffers = {}

    def _zeros(self) -> dict[str, NDArray[Any]]:
        return {key: np.zeros_like(array) for key, array in self._parameters.items()}

    def _read_only(self) -> list[str]:
        """Lists the arrays that have become read-only. The caller holds the same arrays and can change their flags."""
        kinds = self._parameters, *self._buffers.values()
        if all(array.flags.writeable for arrays in kinds for array in arrays.values()):
            return []
        state = self._parameters | self.state_dict()
        return [_errors.READ_ONLY.format(name=key) for key, array in state.items() if not array.flags.writeable]

    def _check_gradients(self, gradients: Mapping[str, ArrayLike]) -> dict[str, NDArray[Any]]:
        """Returns a gradient for each parameter, in the order of the parameters. Raises an error if one does not fit.

        Changes nothing, so a failed step leaves all parameters as they were.
        """
        function = f"{type(self).__name__}.step"
        if not isinstance(gradients, Mapping):
            raise TypeError(_errors.NOT_GRADIENTS.format(function=function, kind=type(gradients).__name__))
        problems = [_errors.MISSING.format(name=key) for key in self._parameters if key not in gradients]
        problems += [_errors.UNEXPECTED.format(name=key) for key in gradients if key not in self._parameters]
        problems += self._read_only()
        arrays = named_arrays(function, {key: gradients[key] for key in self._parameters if key in gradients})
        for key, gradient in arrays.items():
            parameter = self._parameters[key]
            if gradient.dtype != parameter.dtype:  # it may be of another byte order
                arrays[key] = gradient = gradient.astype(gradient.dtype.newbyteorder("="), copy=False)
            if gradient.dtype != parameter.dtype:
                dtypes = {"wanted": parameter.dtype, "dtype": gradient.dtype}
                raise TypeError(_errors.GRADIENT_DTYPE.format(function=function, name=key, **dtypes))
            if gradient.shape != parameter.shape:
                shapes = {"wanted": parameter.shape, "shape": gradient.shape}
                problems.append(_errors.WRONG_SHAPE.format(name=key, **shapes))
        if problems:
            raise ValueError(_errors.PROBLEMS.format(function=function, problems="; ".join(problems)))
        return arrays

    def step(self, gradients: Mapping[str, ArrayLike]) -> None:
        """Updates the parameters in place from their gradients.

        Parameters
        ----------
        gradients : dict of str to array_like
            One gradient for each parameter, of its shape and dtype, such as a pullback returns. Never modified.

        Raises
        ------
        TypeError, ValueError
            Keys, shapes or dtypes differ from those of the parameters, or arrays have become read-only. The parameters
            are then unchanged.

        Examples
        --------
        >>> import numpy as np, cossim.nn
        >>> parameters = {"w": np.array([1.0, 2.0])}
        >>> cossim.nn.SGD(parameters, lr=0.5).step({"w": np.array([2.0, -2.0])})
        >>> parameters["w"]
        array([0., 3.])
        """
        gradients = self._check_gradients(gradients)
        with fixed_arithmetic():  # NaN and infinity propagate without warnings
            self._begin(self._steps + 1)
            for key, parameter in self._parameters.items():
                arrays = parameter, gradients[key], *(arrays[key] for arrays in self._buffers.values())
                if parameter.ndim == 0:  # updates views of shape (1,): arithmetic on 0-d arrays returns scalars
                    arrays = tuple(map(np.atleast_1d, arrays))
                self._update(*arrays)
        self._steps += 1

    def state_dict(self) -> dict[str, NDArray[Any]]:
        """The state that the steps so far have built up, as arrays that save_weights can write.

        "step" is the number of steps. The name of a buffer is its kind and its parameter, such as
        "exp_avg.conv1.weight". Settings such as lr are not included.

        Returns
        -------
        dict of str to numpy.ndarray
            The buffers themselves, not copies.

        Examples
        --------
        >>> import numpy as np, cossim.nn
        >>> list(cossim.nn.Adam({"w": np.ones(2)}).state_dict())
        ['step', 'exp_avg.w', 'exp_avg_sq.w']
        """
        state = {"step": np.array(self._steps)}
        for kind, arrays in self._buffers.items():
            state.update({f"{kind}.{key}": array for key, array in arrays.items()})
        return state

    def load_state_dict(self, state_dict: Weights) -> None:
        """Loads the state of an optimizer of the same class from a dict of arrays or a .npz or .safetensors file.

        Copies the arrays. With the same parameters and settings, the next steps give the same bits as they would have
        given in the other optimizer.

        Parameters
        ----------
        state_dict : mapping of str to array_like, or path
            The keys of state_dict().

        Raises
        ------
        ValueError
            Keys or shapes do not fit, step is not an integer of at least 0, arrays of the optimizer have become
            read-only, or the file is not a weights file of real numbers. The optimizer is then unchanged.
        TypeError
            A value of the dict is not an array of real numbers.

        Examples
        --------
        >>> import numpy as np, cossim.nn
        >>> optimizer, again = (cossim.nn.SGD({"w": np.ones(2)}, 0.1, momentum=0.9) for _ in range(2))
        >>> optimizer.step({"w": np.array([1.0, 2.0])})
        >>> again.load_state_dict(optimizer.state_dict())
        >>> again.state_dict()["momentum_buffer.w"]
        array([1., 2.])
        """
        arrays, source = read_weights(state_dict)
        own = self.state_dict()
        problems = misfits(own, arrays) + self._read_only()
        if not problems and (not 0 <= arrays["step"] < 2**62 or not float(arrays["step"]).is_integer()):
            problems.append(_errors.WRONG_STEP.format(step=arrays["step"]))
        copy_into(own, arrays, problems, source, type(self).__name__)
        self._steps = int(arrays["step"])

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={getattr(self, name)!r}' for name in self._options)})"


class SGD(_Optimizer):
    """Stochastic gradient descent with momentum, as in torch.optim.SGD.

    Let p be a parameter and g its gradient plus weight_decay * p. Each step is

        b = momentum * b + (1 - dampening) * g      (b = g in the first step)
        p = p - lr * b

    With nesterov, the second line is p = p - lr * (g + momentum * b). Without momentum, it is p = p - lr * g.

    Parameters
    ----------
    parameters : Module or dict of str to numpy.ndarray
        float32 or float64. step(gradients) updates them in place.
    lr : float
        Learning rate, an attribute that may be set between steps.
    momentum, dampening, weight_decay : float
        The factors in the formula above. momentum and weight_decay are at least 0.
    nesterov : bool
        Requires momentum above 0 and dampening 0.

    Raises
    ------
    TypeError
        An array is not float32 or float64, or an argument is not a number.
    ValueError
        As in torch: lr, momentum or weight_decay is below 0. Unlike in torch: a number is not finite, an array is
        read-only or appears twice, or there are no arrays.

    Examples
    --------
    >>> import numpy as np, cossim.nn
    >>> parameters = {"w": np.array([1.0, 2.0])}
    >>> optimizer = cossim.nn.SGD(parameters, lr=0.5, momentum=0.9)
    >>> for _ in range(2):
    ...     optimizer.step({"w": np.array([1.0, 0.0])})
    >>> parameters["w"]
    array([-0.45,  2.  ])
    """

    _options = ("lr", "momentum", "dampening", "weight_decay", "nesterov")

    def __init__(
        self,
        parameters: Module | Mapping[str, NDArray[Any]],
        lr: Number,
        momentum: Number = 0.0,
        dampening: Number = 0.0,
        weight_decay: Number = 0.0,
        nesterov: bool = False,
    ) -> None:
        super().__init__(parameters)
        self.lr = _number("SGD", "lr", lr)
        self.momentum = _number("SGD", "momentum", momentum)
        self.dampening = _number("SGD", "dampening", dampening, minimum=-math.inf)
        self.weight_decay = _number("SGD", "weight_decay", weight_decay)
        self.nesterov = bool(nesterov)
        if nesterov and (momentum <= 0 or dampening != 0):
            raise ValueError(_errors.NESTEROV.format(momentum=momentum, dampening=dampening))
        if momentum:
            self._buffers = {"momentum_buffer": self._zeros()}

    def _begin(self, step):
        self._first = step == 1

    def _update(self, parameter, gradient, buffer=None):
        if self.weight_decay:
            gradient = gradient + parameter * self.weight_decay
        if buffer is not None:
            if self._first:
                buffer[...] = gradient
            else:
                buffer *= self.momentum
                buffer += gradient if self.dampening == 0 else gradient * (1 - self.dampening)
            gradient = gradient + buffer * self.momentum if self.nesterov else buffer
        parameter -= gradient * self.lr


class Adam(_Optimizer):
    """Adam, which scales steps by running means of the gradients and their squares, as in torch.optim.Adam.

    Let p be a parameter and g its gradient plus weight_decay * p. Step t, counted from 1, is

        m = betas[0] * m + (1 - betas[0]) * g
        v = betas[1] * v + (1 - betas[1]) * g**2
        p = p - lr / (1 - betas[0]**t) * m / (sqrt(v / (1 - betas[1]**t)) + eps)

    where m and v start at 0 (Kingma and Ba, "Adam: A Method for Stochastic Optimization", 2015).

    Parameters
    ----------
    parameters : Module or dict of str to numpy.ndarray
        float32 or float64. step(gradients) updates them in place.
    lr : float
        Learning rate, an attribute that may be set between steps.
    betas : pair of float
        Decay rates of the running means m and v, each from 0 to below 1.
    eps, weight_decay : float
        At least 0: the term added to the divisor, and the factor of the weight decay.

    Raises
    ------
    TypeError
        An array is not float32 or float64, or an argument is not a number.
    ValueError
        As in torch: lr, eps or weight_decay is below 0, or betas is outside [0, 1). Unlike in torch: a number is not
        finite, an array is read-only or appears twice, or there are no arrays.

    Examples
    --------
    >>> import numpy as np, cossim.nn
    >>> parameters = {"w": np.array([1.0, 2.0, 3.0])}
    >>> optimizer = cossim.nn.Adam(parameters, lr=0.01)
    >>> optimizer.step({"w": np.array([5.0, -0.1, 0.0])})
    >>> parameters["w"]
    array([0.99, 2.01, 3.  ])
    """

    betas: tuple[float, float]
    _options = ("lr", "betas", "eps", "weight_decay")
    _decoupled = False  # whether weight_decay shrinks the parameters apart from the gradient

    def __init__(
        self,
        parameters: Module | Mapping[str, NDArray[Any]],
        lr: Number = 1e-3,
        betas: tuple[Number, Number] | list[float] = (0.9, 0.999),
        eps: Number = 1e-8,
        weight_decay: Number = 0.0,
    ) -> None:
        super().__init__(parameters)
        name = type(self).__name__
        self.lr = _number(name, "lr", lr)
        if not isinstance(betas, (tuple, list)) or len(betas) != 2:
            raise TypeError(_errors.BETAS.format(function=name, betas=betas))
        self.betas = tuple(_number(name, f"betas[{i}]", beta, below=1.0) for i, beta in enumerate(betas))
        self.eps = _number(name, "eps", eps)
        self.weight_decay = _number(name, "weight_decay", weight_decay)
        self._buffers = {"exp_avg": self._zeros(), "exp_avg_sq": self._zeros()}

    def _begin(self, step):
        first, second = self.betas
        self._step_size = self.lr / (1 - first**step)
        self._correction = math.sqrt(1 - second**step)

    def _update(self, parameter, gradient, mean, square):
        if self.weight_decay and self._decoupled:
            parameter *= 1 - self.lr * self.weight_decay
        elif self.weight_decay:
            gradient = gradient + parameter * self.weight_decay
        first, second = self.betas
        if 1 - first < 0.5:  # as in torch.lerp, which starts from the nearer end
            mean += (gradient - mean) * (1 - first)
        else:
            mean[...] = gradient - (gradient - mean) * first
        square *= second
        change = gradient * (1 - second)
        change *= gradient
        square += change
        root = np.sqrt(square, out=change)
        root /= self._correction
        root += self.eps
        parameter -= mean * self._step_size / root


class AdamW(Adam):
    """Adam with decoupled weight decay, as in torch.optim.AdamW.

    Each step first multiplies the parameters by 1 - lr * weight_decay. The rest is the step of Adam without weight
    decay (Loshchilov and Hutter, "Decoupled Weight Decay Regularization", 2019).

    Parameters
    ----------
    parameters : Module or dict of str to numpy.ndarray
        float32 or float64. step(gradients) updates them in place.
    lr : float
        Learning rate, an attribute that may be set between steps.
    betas : pair of float
        Decay rates of the running means m and v, each from 0 to below 1.
    eps, weight_decay : float
        At least 0: the term added to the divisor, and the factor of the weight decay.

    Raises
    ------
    TypeError, ValueError
        As in Adam.

    Examples
    --------
    >>> import numpy as np, cossim.nn
    >>> parameters = {"w": np.array([1.0, 2.0])}
    >>> cossim.nn.AdamW(parameters, lr=0.1, weight_decay=0.5).step({"w": np.zeros(2)})
    >>> parameters["w"]
    array([0.95, 1.9 ])
    """

    _decoupled = True

    def __init__(
        self,
        parameters: Module | Mapping[str, NDArray[Any]],
        lr: Number = 1e-3,
        betas: tuple[Number, Number] | list[float] = (0.9, 0.999),
        eps: Number = 1e-8,
        weight_decay: Number = 1e-2,
    ) -> None:
        super().__init__(parameters, lr, betas, eps, weight_decay)
