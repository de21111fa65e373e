from contextlib import contextmanager

from cossim._core import get_num_threads, set_num_threads


@contextmanager
def threads(n):
    """Within the block, one call uses at most n threads; afterwards as many as before. Results do not depend on it.

    The number holds for the whole process, as in torch.set_num_threads.

    Parameters
    ----------
    n : int
        At least 1.

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
    before = get_num_threads()
    set_num_threads(n)
    try:
        yield
    finally:
        set_num_threads(before)
