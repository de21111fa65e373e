"""Schedules of the learning rate, by torch's names. A schedule sets the attribute lr of its optimizer.

Each rate is calculated from the number of steps, by the formula that torch documents. torch multiplies the rate from
step to step, which agrees up to rounding errors.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, ClassVar

from cossim import _errors
from cossim._arguments import size_argument
from cossim._arithmetic import fixed_arithmetic
from cossim.nn.arguments import real_argument

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import SupportsIndex

    from cossim._typing import HasRate, Number


class _Schedule:
    """Base class: counts the steps in last_epoch, as torch calls it, and sets the optimizer's rate.

    A subclass defines _rate(steps). The rate before all schedules is kept as the optimizer's attribute initial_lr, so
    that several schedules of one optimizer begin with the same rate.
    """

    _options: ClassVar[tuple[str, ...]] = ()
    base_lr: float

    def __init__(self, optimizer: HasRate) -> None:
        if not hasattr(optimizer, "lr"):
            raise TypeError(_errors.NO_LR.format(function=type(self).__name__, kind=type(optimizer).__name__))
        target: Any = optimizer
        if not hasattr(target, "initial_lr"):
            target.initial_lr = target.lr
        self.optimizer, self.base_lr = optimizer, target.initial_lr
        self.last_epoch = 0
        optimizer.lr = self.get_last_lr()[0]

    def _rate(self, steps: int) -> float:
        raise NotImplementedError

    def step(self) -> None:
        """Counts one step, and sets the optimizer's lr for the next one.

        Examples
        --------
        >>> import numpy as np, cossim.nn as nn
        >>> optimizer = nn.SGD({"w": np.ones(2)}, lr=1.0)
        >>> schedule = nn.LinearLR(optimizer, start_factor=0.25, total_iters=3)
        >>> schedule.step()
        >>> optimizer.lr
        0.5
        """
        self.last_epoch += 1
        self.optimizer.lr = self.get_last_lr()[0]

    def get_last_lr(self) -> list[float]:
        """The rate that the schedule has set, in a list as in torch.

        Examples
        --------
        >>> import numpy as np, cossim.nn as nn
        >>> nn.CosineAnnealingLR(nn.SGD({"w": np.ones(2)}, lr=0.5), T_max=10).get_last_lr()
        [0.5]
        """
        with fixed_arithmetic():
            return [self._rate(self.last_epoch)]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={getattr(self, name)!r}' for name in self._options)})"


class LinearLR(_Schedule):
    """Multiplies the rate by a factor that goes linearly from start_factor to end_factor: a warm-up.

    As in torch.optim.lr_scheduler.LinearLR.

    Parameters
    ----------
    optimizer : SGD, Adam, AdamW, or any object with an attribute lr
    start_factor : float
        The factor of the first step, above 0 and at most 1.
    end_factor : float
        The factor after total_iters steps, from 0 to 1.
    total_iters : int
        Number of steps, at least 1.

    Raises
    ------
    TypeError, ValueError
        The optimizer has no lr, or a number is out of range.

    Examples
    --------
    >>> import numpy as np, cossim.nn as nn
    >>> optimizer = nn.SGD({"w": np.ones(2)}, lr=1.0)
    >>> schedule = nn.LinearLR(optimizer, start_factor=0.5, total_iters=2)
    >>> rates = []
    >>> for _ in range(4):
    ...     rates.append(optimizer.lr)
    ...     schedule.step()
    >>> rates
    [0.5, 0.75, 1.0, 1.0]
    """

    _options = ("start_factor", "end_factor", "total_iters")

    def __init__(
        self,
        optimizer: HasRate,
        start_factor: Number = 1 / 3,
        end_factor: Number = 1.0,
        total_iters: SupportsIndex = 5,
    ) -> None:
        self.start_factor = real_argument("LinearLR", "start_factor", start_factor)
        self.end_factor = real_argument("LinearLR", "end_factor", end_factor)
        if not 0 < self.start_factor <= 1:
            raise ValueError(
                _errors.LR_FACTOR.format(function="LinearLR", name="start_factor", bound="above 0", value=start_factor)
            )
        if not 0 <= self.end_factor <= 1:
            raise ValueError(
                _errors.LR_FACTOR.format(function="LinearLR", name="end_factor", bound="0", value=end_factor)
            )
        self.total_iters = size_argument("LinearLR", "total_iters", total_iters, 1)
        super().__init__(optimizer)

    def _rate(self, steps: int) -> float:
        share = min(steps, self.total_iters) / self.total_iters
        return self.base_lr * (self.start_factor + (self.end_factor - self.start_factor) * share)


class CosineAnnealingLR(_Schedule):
    """Lets the rate fall from its initial value to eta_min along half a cosine.

        eta_min + (initial - eta_min) * (1 + cos(pi * steps / T_max)) / 2

    As in torch.optim.lr_scheduler.CosineAnnealingLR. After T_max steps the rate rises again. (Loshchilov and Hutter,
    "SGDR: Stochastic Gradient Descent with Warm Restarts", 2017.)

    Parameters
    ----------
    optimizer : SGD, Adam, AdamW, or any object with an attribute lr
    T_max : int
        Number of steps, at least 1.
    eta_min : float
        The rate after T_max steps.

    Raises
    ------
    TypeError, ValueError
        The optimizer has no lr, or a number is out of range.

    Examples
    --------
    >>> import numpy as np, cossim.nn as nn
    >>> optimizer = nn.SGD({"w": np.ones(2)}, lr=1.0)
    >>> schedule = nn.CosineAnnealingLR(optimizer, T_max=4)
    >>> rates = []
    >>> for _ in range(5):
    ...     rates.append(round(optimizer.lr, 4))
    ...     schedule.step()
    >>> rates
    [1.0, 0.8536, 0.5, 0.1464, 0.0]
    """

    _options = ("T_max", "eta_min")

    def __init__(self, optimizer: HasRate, T_max: SupportsIndex, eta_min: Number = 0.0) -> None:  # noqa: N803
        self.T_max = size_argument("CosineAnnealingLR", "T_max", T_max, 1)
        self.eta_min = real_argument("CosineAnnealingLR", "eta_min", eta_min)
        super().__init__(optimizer)

    def _rate(self, steps: int) -> float:
        return self.eta_min + (self.base_lr - self.eta_min) * (1 + math.cos(math.pi * steps / self.T_max)) / 2


class SequentialLR(_Schedule):
    """Several schedules, one after another, such as a warm-up and a cosine.

    As in torch.optim.lr_scheduler.SequentialLR. Each schedule counts its own steps from 0.

    Parameters
    ----------
    optimizer : SGD, Adam, AdamW, or any object with an attribute lr
    schedulers : list of schedules of this optimizer
    milestones : list of int
        The numbers of the steps at which the second and the later schedules begin.

    Raises
    ------
    TypeError, ValueError
        The optimizer has no lr, a schedule belongs to another optimizer, or the milestones do not fit.

    Examples
    --------
    >>> import numpy as np, cossim.nn as nn
    >>> optimizer = nn.SGD({"w": np.ones(2)}, lr=1.0)
    >>> parts = [nn.LinearLR(optimizer, 0.5, total_iters=2), nn.CosineAnnealingLR(optimizer, T_max=2)]
    >>> schedule = nn.SequentialLR(optimizer, parts, milestones=[2])
    >>> rates = []
    >>> for _ in range(5):
    ...     rates.append(round(optimizer.lr, 4))
    ...     schedule.step()
    >>> rates
    [0.5, 0.75, 1.0, 0.5, 0.0]
    """

    _options = ("schedulers", "milestones")
    schedulers: list[Any]
    milestones: list[int]

    def __init__(
        self, optimizer: HasRate, schedulers: Sequence[_Schedule], milestones: Sequence[SupportsIndex]
    ) -> None:
        self.schedulers = list(schedulers) if isinstance(schedulers, (list, tuple)) else []
        if not self.schedulers or not all(
            isinstance(one, _Schedule) and one.optimizer is optimizer for one in self.schedulers
        ):
            raise ValueError(_errors.SCHEDULERS.format(schedulers=schedulers))
        given = list(milestones) if isinstance(milestones, (list, tuple)) else [milestones]
        self.milestones = [size_argument("SequentialLR", "milestones", one, 0) for one in given]
        rising = all(a < b for a, b in zip([-1, *self.milestones], self.milestones, strict=False))
        if len(self.milestones) != len(self.schedulers) - 1 or not rising:
            raise ValueError(_errors.MILESTONES.format(count=len(self.schedulers) - 1, value=milestones))
        super().__init__(optimizer)

    def _rate(self, steps: int) -> float:
        begun = [(0, self.schedulers[0]), *zip(self.milestones, self.schedulers[1:], strict=True)]
        first, schedule = [one for one in begun if one[0] <= steps][-1]
        return schedule._rate(steps - first)
