"""Layers as objects that hold their parameters, with torch's constructor arguments, reprs and state_dict keys."""

import math

import numpy as np

from cossim import _core
from cossim._arguments import integer_argument, size_argument
from cossim.nn import functional, gradients
from cossim.nn.weights import read_weights


def _dtype(dtype):
    dtype = np.dtype(dtype)
    if dtype not in (np.float32, np.float64):
        raise TypeError(f"dtype must be float32 or float64, not {dtype}")
    return dtype


def _uniform(rng, shape, fan_in, dtype):
    """torch's default for weights and biases: uniform within 1 / sqrt(fan_in) of 0."""
    bound = 1 / math.sqrt(fan_in) if fan_in > 0 else 0.0
    return rng.uniform(-bound, bound, shape).astype(dtype)


class _changes:
    """Another object since an attribute of any layer was last set: what was made of layers before may not be theirs."""

    last = object()


class Module:
    """What all layers share: parameters and inner layers by name, and the two ways to carry them around.

    A subclass lists the names of its parameters in ``parameter_names`` and those of its inner layers in
    ``module_names``, and has a method ``forward``.

    Examples
    --------
    >>> import numpy as np, cossim.nn
    >>> layer = cossim.nn.Linear(3, 2, rng=0)
    >>> {name: array.shape for name, array in layer.state_dict().items()}
    {'weight': (2, 3), 'bias': (2,)}
    """

    parameter_names = ()
    module_names = ()

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        if "forward" in cls.__dict__ and "vjp" not in cls.__dict__:
            cls.vjp = Module.vjp  # an inherited one would be that of another function

    def __setattr__(self, name, value):
        object.__setattr__(self, name, value)
        if not name.startswith("_"):
            _changes.last = object()

    def __delattr__(self, name):
        object.__delattr__(self, name)
        _changes.last = object()

    def __getstate__(self):
        return {name: value for name, value in self.__dict__.items() if name != "_made"}

    def _made_once(self, make):
        """What make() made, until an attribute of any layer has been set since."""
        made, last = self.__dict__.get("_made"), _changes.last
        if made is None or made[0] is not last:
            made = self.__dict__["_made"] = last, make()
        return made[1]

    def __call__(self, x):
        return self.forward(x)

    def vjp(self, x):
        """The layer's result and its pullback, which leads from the gradient of the result to the others.

        Parameters
        ----------
        x : array_like
            As the layer takes it. It and the parameters must not be changed before the last call of the pullback.

        Returns
        -------
        y : numpy.ndarray
            What the layer makes of x.
        pullback : callable
            ``pullback(dy, input_gradient=True)`` takes the gradient of y, of its shape and dtype, and returns
            ``(dx, gradients)``: that of x, or None with input_gradient=False, which saves its calculation; and those
            of the parameters, by the keys of state_dict().

        Raises
        ------
        TypeError, ValueError
            As the layer itself; by the pullback where dy has another dtype or shape than y.

        Examples
        --------
        >>> import numpy as np, cossim.nn
        >>> layer = cossim.nn.Linear(3, 2, rng=0)
        >>> y, pullback = layer.vjp(np.ones((5, 3), np.float32))
        >>> dx, gradients = pullback(np.ones_like(y))
        >>> gradients["bias"]
        array([5., 5.], dtype=float32)
        """
        raise TypeError(f"{type(self).__name__} has no vjp")

    def named_modules(self):
        """(name, layer) of each layer directly inside this one."""
        return [(name, getattr(self, name)) for name in self.module_names]

    def state_dict(self):
        """Names and arrays of all parameters, those of inner layers as "layer.parameter". The arrays are not copied."""
        state = {name: getattr(self, name) for name in self.parameter_names if getattr(self, name) is not None}
        for name, module in self.named_modules():
            state.update({f"{name}.{inner}": array for inner, array in module.state_dict().items()})
        return state

    def load_state_dict(self, state_dict, strict=True):
        """Takes parameters from a dict of arrays (torch's tensors too), or from a .npz or .safetensors file.

        They are copied in the dtype of the layer. Nothing is changed unless all of them fit.

        Parameters
        ----------
        state_dict : mapping of str to array_like, or path
            The keys of state_dict().
        strict : bool
            Whether missing and unexpected keys are errors.

        Raises
        ------
        ValueError
            Keys or shapes that do not fit, or a file that is no weights file, with all that is wrong in one message.
        TypeError
            Parameters that are no real numbers.
        """
        given, source = read_weights(state_dict)
        own = self.state_dict()
        problems = []
        if strict:
            problems += [f"{key} is missing" for key in own if key not in given]
            problems += [f"{key} is not expected" for key in given if key not in own]
        for key in own:
            if key in given and given[key].shape != own[key].shape:
                problems.append(f"{key} must have shape {own[key].shape}, not {given[key].shape}")
            if key in given and isinstance(own[key], np.ndarray) and not own[key].flags.writeable:
                problems.append(f"{key} is read-only in the layer")
        if problems:
            raise ValueError(f"load_state_dict(): {source} does not fit {type(self).__name__}: " + "; ".join(problems))
        with np.errstate(all="ignore"):  # what the layer's dtype cannot hold is infinite, as in torch
            for key, array in own.items():
                if key in given:
                    array[...] = given[key]

    def _children_repr(self):
        return [(name, repr(module)) for name, module in self.named_modules()]

    def _arguments_repr(self):
        return ""

    def __repr__(self):
        children = [f"({name}): " + text.replace("\n", "\n  ") for name, text in self._children_repr()]
        if not children:
            return f"{type(self).__name__}({self._arguments_repr()})"
        return f"{type(self).__name__}(\n  " + "\n  ".join(children) + "\n)"


class Conv2d(Module):
    """conv2d with its own weight and bias: the twin of torch.nn.Conv2d.

    Parameters
    ----------
    in_channels, out_channels : int
    kernel_size, stride, padding, dilation, groups
        As in cossim.nn.conv2d.
    bias : bool
        Whether there is one.
    padding_mode : {"zeros", "reflect", "replicate", "circular"}
        What stands outside the image.
    dtype : float32 or float64
        Of the parameters, and of the images it takes.
    rng : int or numpy.random.Generator, optional
        Seed or source of the initial values: uniform within 1 / sqrt(in_channels / groups * KH * KW) of 0, torch's
        default.

    Raises
    ------
    TypeError, ValueError
        By torch's conditions: groups that do not divide the channels, numbers out of range, unknown names.

    Examples
    --------
    >>> import numpy as np, cossim.nn
    >>> cossim.nn.Conv2d(1, 10, 5)(np.zeros((2, 1, 28, 28), np.float32)).shape
    (2, 10, 24, 24)
    """

    parameter_names = ("weight", "bias")

    def __init__(
        self,
        in_channels,
        out_channels,
        kernel_size,
        stride=1,
        padding=0,
        dilation=1,
        groups=1,
        bias=True,
        padding_mode="zeros",
        *,
        dtype=np.float32,
        rng=None,
    ):
        in_channels = size_argument("Conv2d", "in_channels", in_channels, 1)
        out_channels = size_argument("Conv2d", "out_channels", out_channels, 1)
        groups = size_argument("Conv2d", "groups", groups, 1)
        if in_channels % groups or out_channels % groups:
            raise ValueError(
                f"Conv2d(): groups={groups} must divide in_channels={in_channels} and out_channels={out_channels}"
            )
        _check_padding_mode(padding_mode)
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.kernel_size = functional._pair("Conv2d", "kernel_size", kernel_size, 1)
        self.stride = functional._pair("Conv2d", "stride", stride, 1)
        self.dilation = functional._pair("Conv2d", "dilation", dilation, 1)
        functional._conv_padding(padding, self.kernel_size, self.stride, self.dilation)
        self.padding = padding if isinstance(padding, str) else functional._pair("Conv2d", "padding", padding, 0)
        self.groups = groups
        self.padding_mode = padding_mode
        rng = np.random.default_rng(rng)
        fan_in = in_channels // groups * math.prod(self.kernel_size)
        shape = (out_channels, in_channels // groups, *self.kernel_size)
        self.weight = _uniform(rng, shape, fan_in, _dtype(dtype))
        self.bias = _uniform(rng, out_channels, fan_in, _dtype(dtype)) if bias else None

    def _padded(self, x):
        """What is convolved without a border of zeros, and the padding that is left."""
        _check_padding_mode(self.padding_mode)  # which may have been set since
        if self.padding_mode == "zeros":
            return x, self.padding
        before, after = functional._conv_padding(self.padding, self.kernel_size, self.stride, self.dilation)
        x = _core.as_array("Conv2d", "x", x)
        return _pad(x, [(0, 0)] * (x.ndim - 2) + list(zip(before, after, strict=True)), self.padding_mode), 0

    def forward(self, x):
        x, padding = self._padded(x)
        return functional.conv2d(x, self.weight, self.bias, self.stride, padding, self.dilation, self.groups)

    def vjp(self, x):
        return self._vjp(x, gradients._conv2d_vjp)

    def _vjp(self, x, make):
        """make(call) gives a result, and the pullback from it to what is convolved."""
        padded, padding = self._padded(x)
        call = functional._check_conv2d(
            padded, self.weight, self.bias, self.stride, padding, self.dilation, self.groups
        )
        y, pullback_padded = make(call)

        def pullback(dy, input_gradient=True):
            dx, *of_parameters = pullback_padded(dy, input_gradient)
            if dx is not None and self.padding_mode != "zeros":
                dx = self._fold_border(np.shape(x), dx)
            return dx, _named(self.parameter_names, of_parameters)

        return y, pullback

    def _fold_border(self, shape, dx):
        """The gradients of a border that repeats pixels, added to those of these pixels."""
        pixels = np.arange(math.prod(shape[-2:])).reshape(shape[-2:])
        places = self._padded(pixels)[0].reshape(-1)
        folded = np.zeros((math.prod(shape[:-2]), pixels.size), dx.dtype)
        np.add.at(folded, (slice(None), places), dx.reshape(len(folded), places.size))
        return folded.reshape(shape)

    def _arguments_repr(self):
        text = f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}"
        if self.padding != (0, 0):
            text += f", padding={self.padding}"
        if self.dilation != (1, 1):
            text += f", dilation={self.dilation}"
        if self.groups != 1:
            text += f", groups={self.groups}"
        if self.bias is None:
            text += ", bias=False"
        if self.padding_mode != "zeros":
            text += f", padding_mode={self.padding_mode}"
        return text


def _named(names, values):
    return {name: value for name, value in zip(names, values, strict=True) if value is not None}


# torch's names of padding modes, and NumPy's
_PAD_MODES = {"zeros": "constant", "reflect": "reflect", "replicate": "edge", "circular": "wrap"}


def _check_padding_mode(mode):
    if not isinstance(mode, str) or mode not in _PAD_MODES:
        raise ValueError(f"Conv2d(): padding_mode must be one of {', '.join(_PAD_MODES)}, not {mode!r}")


def _pad(x, widths, mode):
    """np.pad, but where the image is too small for the mode: an error as in torch, not a second reflection."""
    most = {"reflect": 1, "circular": 0}.get(mode)
    for size, width in zip(x.shape, widths, strict=True):
        if max(width) > 0 and (size == 0 or (most is not None and max(width) > size - most)):
            raise ValueError(
                f"Conv2d(): padding {width} is too large for padding_mode={mode!r} and x of shape {x.shape}"
            )
    return np.pad(x, widths, _PAD_MODES[mode])


def _without_parameters(pullback):
    return lambda dy, input_gradient=True: (pullback(dy) if input_gradient else None, {})


class MaxPool2d(Module):
    """max_pool2d with its arguments kept: the twin of torch.nn.MaxPool2d.

    Parameters
    ----------
    kernel_size, stride, padding, dilation, return_indices, ceil_mode
        As in cossim.nn.max_pool2d, whose errors come with the first call.

    Examples
    --------
    >>> import numpy as np, cossim.nn
    >>> cossim.nn.MaxPool2d(2)(np.zeros((1, 1, 4, 4))).shape
    (1, 1, 2, 2)
    """

    def __init__(self, kernel_size, stride=None, padding=0, dilation=1, return_indices=False, ceil_mode=False):
        self.kernel_size = kernel_size
        self.stride = kernel_size if stride is None else stride
        self.padding = padding
        self.dilation = dilation
        self.return_indices = return_indices
        self.ceil_mode = ceil_mode

    def forward(self, x):
        return functional.max_pool2d(
            x, self.kernel_size, self.stride, self.padding, self.dilation, self.ceil_mode, self.return_indices
        )

    def vjp(self, x):
        if self.return_indices:
            raise TypeError("MaxPool2d(return_indices=True) has no vjp: indices have no gradient")
        y, pullback = gradients.max_pool2d_vjp(
            x, self.kernel_size, self.stride, self.padding, self.dilation, self.ceil_mode
        )
        return y, _without_parameters(pullback)

    def _arguments_repr(self):
        return (
            f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}, "
            f"dilation={self.dilation}, ceil_mode={self.ceil_mode}"
        )


class ReLU(Module):
    """The larger of x and 0: the twin of torch.nn.ReLU, without its in-place form.

    Examples
    --------
    >>> import numpy as np, cossim.nn
    >>> cossim.nn.ReLU()(np.array([-1.0, 2.0]))
    array([0., 2.])
    """

    def forward(self, x):
        return functional.relu(x)

    def vjp(self, x):
        y, pullback = gradients.relu_vjp(x)
        return y, _without_parameters(pullback)


class Flatten(Module):
    """Dimensions start_dim to end_dim made one: the twin of torch.nn.Flatten.

    Parameters
    ----------
    start_dim, end_dim : int
        The first and the last of them; negative ones count from the end.

    Raises
    ------
    numpy.exceptions.AxisError
        A dimension out of range.
    ValueError
        end_dim before start_dim.

    Examples
    --------
    >>> import numpy as np, cossim.nn
    >>> cossim.nn.Flatten()(np.zeros((2, 20, 4, 4))).shape
    (2, 320)
    """

    def __init__(self, start_dim=1, end_dim=-1):
        self.start_dim = start_dim
        self.end_dim = end_dim

    def _dims(self):
        return tuple(integer_argument("Flatten", name, getattr(self, name)) for name in ("start_dim", "end_dim"))

    def forward(self, x):
        dims = self._dims()
        x = _core.as_array("Flatten", "x", x)
        range_ = max(x.ndim, 1)
        for dim in dims:
            if not -range_ <= dim < range_:
                raise np.exceptions.AxisError(f"Flatten(): dim {dim} is out of range for x of shape {x.shape}")
        start, end = (dim % range_ for dim in dims)
        if end < start:
            raise ValueError(f"Flatten(): end_dim {dims[1]} is before start_dim {dims[0]} in x of shape {x.shape}")
        middle = x.shape[start : end + 1]
        return x.reshape(*x.shape[:start], math.prod(middle), *x.shape[end + 1 :])

    def vjp(self, x):
        shape, y = np.shape(x), self.forward(x)
        return y, _without_parameters(lambda dy: gradients._gradient("Flatten.vjp", dy, y).reshape(shape))

    def _arguments_repr(self):
        return f"start_dim={self.start_dim}, end_dim={self.end_dim}"


class Linear(Module):
    """linear with its own weight and bias: the twin of torch.nn.Linear.

    Parameters
    ----------
    in_features, out_features : int
    bias : bool
        Whether there is one.
    dtype : float32 or float64
        Of the parameters, and of the arrays it takes.
    rng : int or numpy.random.Generator, optional
        Seed or source of the initial values: uniform within 1 / sqrt(in_features) of 0, torch's default.

    Raises
    ------
    TypeError, ValueError
        Sizes that are no integers of at least 0.

    Examples
    --------
    >>> import numpy as np, cossim.nn
    >>> cossim.nn.Linear(320, 100)(np.zeros((2, 320), np.float32)).shape
    (2, 100)
    """

    parameter_names = ("weight", "bias")

    def __init__(self, in_features, out_features, bias=True, *, dtype=np.float32, rng=None):
        self.in_features = in_features = size_argument("Linear", "in_features", in_features, 0)
        self.out_features = out_features = size_argument("Linear", "out_features", out_features, 0)
        rng = np.random.default_rng(rng)
        self.weight = _uniform(rng, (out_features, in_features), in_features, _dtype(dtype))
        self.bias = _uniform(rng, out_features, in_features, _dtype(dtype)) if bias else None

    def forward(self, x):
        return functional.linear(x, self.weight, self.bias)

    def vjp(self, x):
        return self._vjp(x)

    def _vjp(self, x, relu=False):
        """With relu, of relu of the result."""
        y, pullback_all = gradients._linear_vjp(x, self.weight, self.bias, relu)

        def pullback(dy, input_gradient=True):
            dx, *of_parameters = pullback_all(dy, input_gradient)
            return dx, _named(self.parameter_names, of_parameters)

        return y, pullback

    def _arguments_repr(self):
        return f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}"
