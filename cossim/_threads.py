from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, SupportsIndex

from cossim._core import begin_threads, end_threads

if TYPE_CHECKING:
    from collections.abc import Generator


@contextmanager
def threads(n: SupportsIndex) -> Generator[None]:
    """Limits each call within the block to n threads. Results do not depend on the number of threads.

    The limit applies to calls from the Python thread that enters the block. Other threads, also those that start within
    the block, use the limit of the whole process, which ``set_num_threads`` sets. In nested blocks, the limit of the
    innermost one applies. After the block the previous limit applies again. As a decorator, it wraps each call of a
    function in a block.

    Parameters
    ----------
    n : int
        At least 1. The maximum is 257; larger values count as 257.

    Raises
    ------
    TypeError
        n is not an integer.
    ValueError
        n is below 1.

    Examples
    --------
    >>> import cossim
    >>> with cossim.threads(1):
    ...     cossim.get_num_threads()
    1
    """
    block = begin_threads(n)
    try:
        yield
    finally:
        end_threads(block)
