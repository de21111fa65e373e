"""What all layers share. The layers themselves stand in modules.py."""

import numpy as np

from cossim.nn.weights import read_weights


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
        """(name, layer) of each layer directly inside this one.

        Examples
        --------
        >>> import cossim.nn as nn
        >>> nn.Sequential(nn.ReLU(), nn.Flatten()).named_modules()
        [('0', ReLU()), ('1', Flatten(start_dim=1, end_dim=-1))]
        """
        return [(name, getattr(self, name)) for name in self.module_names]

    def state_dict(self):
        """Names and arrays of all parameters, those of inner layers as "layer.parameter".

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
            Keys or shapes that do not fit, arrays of the layer that are read-only, or a file that is no weights file of
            real numbers, with all that is wrong in one message.
        TypeError
            A dict with values that are no real numbers.

        Examples
        --------
        >>> import numpy as np, cossim.nn
        >>> layer = cossim.nn.Linear(3, 1)
        >>> layer.load_state_dict({"weight": [[1.0, 2.0, 3.0]], "bias": [4.0]})
        >>> layer(np.ones(3, np.float32))
        array([10.], dtype=float32)
        """
        given, source = read_weights(state_dict)
        own = self.state_dict()
        problems = []
        if strict:
            problems += [f"{key} is missing" for key in own if key not in given]
            problems += [f"{key} is not expected" for key in given if key not in own]
        for key in own:
            if key in given and given[key].shape != np.shape(own[key]):
                problems.append(f"{key} must have shape {np.shape(own[key])}, not {given[key].shape}")
            if key in given and not isinstance(own[key], np.ndarray):
                problems.append(f"{key} of the layer is no NumPy array, but a {type(own[key]).__name__}")
            elif key in given and not own[key].flags.writeable:
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
