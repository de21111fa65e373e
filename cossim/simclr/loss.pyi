from typing import Any, Literal, overload

from numpy.typing import NDArray

from cossim._typing import Array, Float, Real

PAIRS: tuple[str, ...]

def nt_xent(
    z0: Array, z1: Array | None = None, temperature: Real = 0.5, *, pairs: Literal["halves", "interleaved"] = "halves"
) -> float: ...
@overload
def nt_xent_value_and_grad(
    z0: NDArray[Float],
    z1: None = None,
    temperature: Real = 0.5,
    *,
    pairs: Literal["halves", "interleaved"] = "halves",
) -> tuple[float, NDArray[Float]]: ...
@overload
def nt_xent_value_and_grad(
    z0: NDArray[Float], z1: NDArray[Float], temperature: Real = 0.5, *, pairs: Literal["halves"] = "halves"
) -> tuple[float, tuple[NDArray[Float], NDArray[Float]]]: ...
@overload
def nt_xent_value_and_grad(
    z0: Array, z1: None = None, temperature: Real = 0.5, *, pairs: Literal["halves", "interleaved"] = "halves"
) -> tuple[float, NDArray[Any]]: ...
@overload
def nt_xent_value_and_grad(
    z0: Array, z1: Array, temperature: Real = 0.5, *, pairs: Literal["halves"] = "halves"
) -> tuple[float, tuple[NDArray[Any], NDArray[Any]]]: ...
