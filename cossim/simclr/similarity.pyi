from typing import Any, overload

from numpy.typing import NDArray

from cossim._typing import Array, Float

@overload
def similarity_matrix(z0: NDArray[Float], z1: NDArray[Float]) -> NDArray[Float]: ...
@overload
def similarity_matrix(z0: Array, z1: Array) -> NDArray[Any]: ...
