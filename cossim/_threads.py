from contextlib import contextmanager

from cossim._core import begin_threads, end_threads


@contextmanager
def threads(n):
    """Within the block, one call uses at most n threads; afterwards as many as before. Results do not depend on it.

    The number holds for calls from the Python thread that enters the block, and for no other thread: there, and in
    threads that start within the block, ``set_num_threads`` counts, which sets the number of the whole process. The
    innermost block counts. As a decorator it wraps each call of a function in a block.

    Parameters
    ----------
    n : int
        At least 1. More than 257, the largest number there is, counts as 257.

    Raises
    ------
    TypeError
        n is no integer.
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
