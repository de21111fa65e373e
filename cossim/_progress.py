"""The argument progress= of the public functions, and the progress bar of the command line."""

from __future__ import annotations

from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from contextlib import AbstractContextManager

    from cossim._typing import Progress

from cossim import _errors

# "topk:  25%|###       | 1.00G/4.00G [00:04, 00:12 left, 250M scores/s]"
BAR_FORMAT = "{l_bar}{bar}| {n_fmt}/{total_fmt} [{elapsed}, {remaining} left, {rate_fmt}{postfix}]"
_NO_REPORT = nullcontext()


def reporting(
    progress: Progress | None, name: str, unit: str = "scores"
) -> AbstractContextManager[Callable[..., object] | None]:
    """Returns a context that converts the argument progress= of a function into a callable.

    Parameters
    ----------
    progress : None, bool or callable
        With None or False nothing is reported. True shows a bar on stderr, or a widget in a notebook, with the rate and
        the time left; this needs tqdm. A callable is called as ``progress(done, total)``.
    name : str
        The name of the function, shown in the bar and in error messages.
    unit : str
        The unit that done and total count, shown in the bar.

    Returns
    -------
    context manager
        It gives None if nothing is reported, else a callable of (done, total). The first call draws the bar. The bar is
        filled when the block ends without an error, and keeps its state after an error. The callable that draws the bar
        also takes a third argument: text to show after the bar.

    Raises
    ------
    TypeError
        progress is neither None, a bool nor a callable.
    ModuleNotFoundError
        progress is True and tqdm is not installed.

    Examples
    --------
    >>> from cossim._progress import reporting
    >>> with reporting(lambda done, total: print(f"{done} of {total}"), "topk") as report:
    ...     report(5, 10)
    5 of 10
    """
    if progress is True:
        return _bar(name, unit)
    if progress is None or progress is False:
        return _NO_REPORT
    if callable(progress):
        return nullcontext(progress)
    raise TypeError(_errors.NOT_A_PROGRESS.format(function=name, kind=type(progress).__name__))


@contextmanager
def _bar(name: str, unit: str) -> Generator[Callable[..., object]]:
    try:
        from tqdm.auto import tqdm  # on first use, because its import is slow
    except ModuleNotFoundError as error:
        if error.name is not None and error.name.split(".")[0] != "tqdm":
            raise
        raise ModuleNotFoundError(_errors.NEEDS_TQDM.format(function=name), name="tqdm") from None

    bar = None

    def report(done, total, note=""):
        nonlocal bar
        if bar is None:
            # initial=done: work done before the clock starts does not count towards the speed.
            # miniters=1: otherwise tqdm guesses how many calls to skip, and the bar freezes when the work slows down.
            short = total > 999  # show 4.00k, not 4000
            units = {"unit": f" {unit}", "unit_scale": short, "bar_format": BAR_FORMAT}
            bar = tqdm(desc=name, total=total, initial=done, miniters=1, **units)
        bar.total = total
        if note:
            bar.set_postfix_str(note, refresh=False)
        bar.update(done - bar.n)

    try:
        yield report
        if bar is not None:
            bar.update(bar.total - bar.n)
    finally:
        if bar is not None:
            bar.close()
