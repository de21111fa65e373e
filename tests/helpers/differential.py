"""Compares random calls of our functions with the same calls in torch, and requires an explanation of each difference.

Our result must match the exact one within the bounds of docs/semantics.md, even where torch's does not. Where torch
differs from us by more than the documented tolerance, an explanation must hold: a named predicate that stands for one
row of that page.

To repeat one call by its numbers: PYTHONPATH=. python tests/helpers/differential.py FAMILY SEED NUMBER.
To run many: PYTHONPATH=. python tests/helpers/differential.py all SEED CALLS.
"""

import functools
import importlib
import json
import sys
import warnings
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import ml_dtypes
import numpy as np
from oracle import torch
from reference import wide

FAMILIES = {  # modules with random_call(rng) and judge(call), and their share of the calls
    "vectors": ("differential_vectors", 0.7),
    "gradients": ("differential_gradients", 0.17),
    "layers": ("differential_layers", 0.13),
}
REFUSALS = (RuntimeError, ValueError, TypeError, IndexError, OverflowError)


@dataclass
class Call:
    function: str
    arrays: tuple
    options: dict
    out: Any = None
    faults: set = field(default_factory=set)  # arguments made wrong on purpose: "dim", "shape", "dtype", "eps"

    def __str__(self):
        from differential_arrays import described

        arrays = ",\n    ".join(described(x) for x in self.arrays)
        out = "" if self.out is None else f"\n    out: {self.out.dtype.name}, strides {self.out.strides}"
        return f"{self.function}(\n    {arrays},\n    {self.options}){out}"


class Unexplained(AssertionError):
    pass


@dataclass(frozen=True)
class Explanation:
    name: str
    row: str  # first cell of the row in docs/semantics.md
    holds: Any  # maps a situation to a mask over the elements of the result, or to a bool


EXPLANATIONS = {}


def explains(row, name, to):
    """Registers a predicate under its name, in the list `to` of its family."""

    def register(predicate):
        EXPLANATIONS[name] = explanation = Explanation(name, row, predicate)
        to.append(explanation)
        return predicate

    return register


def tensor(x, gradient=False):
    """A copy of the array as a torch tensor."""
    x = np.array(x, x.dtype.newbyteorder("="), order="C")
    t = (
        torch.from_numpy(x.view(np.int16)).view(torch.bfloat16)
        if x.dtype == ml_dtypes.bfloat16
        else torch.from_numpy(x)
    )
    return t.requires_grad_() if gradient else t


def from_tensor(t):
    t = t.detach()
    return t.view(torch.int16).numpy().view(ml_dtypes.bfloat16) if t.dtype == torch.bfloat16 else t.numpy()


def attempt(function, *arguments, **options):
    """The result of a call, or the exception that it raises."""
    try:
        return function(*arguments, **options)
    except REFUSALS as error:
        return error


def require(condition, call, *words):
    if not condition:
        raise Unexplained(f"{' '.join(map(str, words))}\n  {call}")


def judge_refusals(call, ours, theirs, reasons):
    """Explains a call that we, torch or both refuse: returns a list with the name of the reason."""
    require(not isinstance(ours, OverflowError), call, "ours:", ours)
    if isinstance(ours, Exception) and isinstance(theirs, Exception):
        if call.faults == {"dim"}:
            require(isinstance(ours, np.exceptions.AxisError), call, "dim out of range, but", type(ours))
        require(len(str(ours)) > 20, call, "an error that says little:", ours)
        return [reason.name for reason in reasons if reason.holds(call, ours, theirs)][:1] or ["both refuse"]
    names = [reason.name for reason in reasons if reason.holds(call, ours, theirs)]
    if not names:
        require(False, call, f"ours: {short(ours)}, theirs: {short(theirs)}")
    return names[:1]


def refuses(x):
    return isinstance(x, Exception)


def short(result):
    return repr(result) if isinstance(result, Exception) else f"a result {result!r:.200}"


@functools.cache
def limits(dtype):
    """finfo of a dtype; integers have the finfo of float64."""
    return ml_dtypes.finfo(np.float64 if dtype.kind in "iub" else dtype.newbyteorder("="))


def out_of_range(norms, dtype, depth):
    """Mask of norms whose squares leave the range of the type in which torch computes them (float32 for halves)."""
    half = dtype.itemsize == 2
    info = limits(np.dtype(np.float32) if half else dtype)
    with np.errstate(invalid="ignore"):
        odd = (norms * norms > 0.999 * wide(info.max)) | (
            (norms > 0) & (norms * norms < 8 * max(depth, 1) * wide(info.tiny))
        )
        if half:
            odd |= (norms > wide(limits(dtype).max)) | ((norms > 0) & (norms < 8 * wide(limits(dtype).tiny)))
    return odd


def ulp(x, dtype):
    """The distance between neighbouring numbers of a type at x, in longdouble."""
    info = limits(dtype)
    _, exponent = np.frexp(np.where(np.isfinite(x), x, 0))
    return np.ldexp(np.longdouble(1), np.maximum(exponent - 1, info.minexp) - info.nmant)


def same(a, b):
    """Mask of elements that are equal, infinite with the same sign, or both NaN."""
    return (a == b) | (np.isnan(a) & np.isnan(b))


def near(a, b, tolerance):
    with np.errstate(invalid="ignore"):
        return same(a, b) | (np.abs(a - b) <= tolerance)


def rounds_to(got, exact, tolerance, dtype):
    """Mask of elements within the tolerance, or infinite where the exact value is out of the type's range."""
    largest = wide(limits(dtype).max)
    with np.errstate(invalid="ignore"):
        beyond = np.isinf(got) & (np.sign(got) * exact + tolerance > largest)
    return near(got, exact, tolerance) | beyond


def explain(situation, explanations, left, call):
    """Applies the explanations to the differing elements and counts them; no element may remain unexplained."""
    found = Counter()
    for explanation in explanations:
        if not left.any():
            break
        held = left & explanation.holds(situation)
        if held.any():
            found[explanation.name] += 1
            left = left & ~held
    if left.any():
        at = tuple(np.argwhere(left)[0])
        s = situation
        raise Unexplained(f"at {at}: ours {s.ours[at]}, theirs {s.theirs[at]}, exact {s.exact[at]}\n  {call}")
    return found


def require_right(right, situation, call, what):
    """Fails at the first element that is not right."""
    if not right.all():
        at, s = tuple(np.argwhere(~right)[0]), situation
        theirs = None if s.theirs is None else s.theirs[at]
        raise Unexplained(
            f"{what} is wrong at {at}: {s.ours[at]!r}, exact {s.exact[at]!r}, theirs {theirs!r}\n  {call}"
        )


class Situation:
    """Results of one call: ours, torch's (theirs) and the exact ones. Families add what their explanations need."""

    def better(self):
        """Mask of elements where ours is nearer to the exact value than torch's; NaN is far from any number."""
        with np.errstate(invalid="ignore"):
            nearer = np.abs(self.ours - self.exact) < np.abs(self.theirs - self.exact)
        nearer |= np.isnan(self.theirs) & ~np.isnan(self.exact)
        return nearer | (same(self.ours, self.exact) & (self.theirs != self.exact))

    def rounded(self):
        """Mask of elements where roundings to the narrowest type, one for each term and eight more, can explain torch's
        error."""
        steps = (self.depth + 8) * max(wide(limits(t).eps) for t in (*self.types, self.theirs_type))
        return near(self.theirs, self.exact, steps * self.magnitude()) & self.better()


def family(name):
    return importlib.import_module(FAMILIES[name][0])


def one(name, seed, number):
    """Makes the call with this number and judges it."""
    rng = np.random.default_rng([seed, number])
    module = family(name)
    call = module.random_call(rng)
    before = [x.copy() if isinstance(x, np.ndarray) else x for x in call.arrays]
    try:
        found = module.judge(call)
        for x, old in zip(call.arrays, before, strict=True):
            kept = not isinstance(x, np.ndarray) or np.asarray(x).tobytes() == np.asarray(old).tobytes()
            require(kept, call, "an operand was modified")
    except Unexplained as error:
        again = f"PYTHONPATH=. python tests/helpers/differential.py {name} {seed} {number}"
        raise Unexplained(f"{again}\n{smaller(module, call, error)}") from None
    return found


def smaller(module, call, error):
    """The failure of the smallest call that still fails, found by halving axes in all arrays that share them."""
    shrink = getattr(module, "shrunk", None)
    progress = shrink is not None
    while progress:
        progress = False
        for candidate in shrink(call):
            try:
                module.judge(candidate)
            except Unexplained as found:
                call, error, progress = candidate, found, True
                break
    return error


def run(seed, calls):
    """({"calls": number, explanation: number of differences that it explains}, messages of the unexplained ones)."""
    found, unexplained = Counter(), []
    for name, (_, share) in FAMILIES.items():
        for number in range(round(calls * share)):
            found["calls"] += 1
            try:
                found.update(set(one(name, seed, number)))
            except Unexplained as error:
                unexplained.append(str(error))
            except Exception as error:  # a warning or an unexpected error
                unexplained.append(f"{name} {seed} {number}: {error!r}")
    return found, unexplained


if __name__ == "__main__":
    torch.set_num_threads(1)
    warnings.simplefilter("error")
    sys.modules["differential"] = sys.modules["__main__"]
    which, seed, number = sys.argv[1], *map(int, sys.argv[2:])
    print(json.dumps(run(seed, number) if which == "all" else list(one(which, seed, number))))
