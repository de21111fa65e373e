"""What progress= means, for every function that has it and for the command line."""

from contextlib import contextmanager


@contextmanager
def reporting(progress, name, unit="scores"):
    """Turns an argument progress of the function called name into what its work reports to.

    Parameters
    ----------
    progress : None, bool or callable
        None and False: nothing is reported. True: a bar on stderr, or a widget in a notebook, which needs tqdm. A
        callable is called as ``progress(done, total)``.
    name : str
        Of the function, for the bar and for messages.
    unit : str
        What is counted, for the bar.

    Yields
    ------
    callable or None
        What to call with (done, total). The bar appears with the first call, is filled where the block ends without an
        error, and left as it is where it does not. It also takes a third argument, a text to show behind it.

    Raises
    ------
    TypeError
        progress is something else.
    ModuleNotFoundError
        progress is True, and tqdm is not installed.

    Examples
    --------
    >>> from cossim._progress import reporting
    >>> with reporting(lambda done, total: print(f"{done} of {total}"), "topk") as report:
    ...     report(5, 10)
    5 of 10
    """
    if progress is None or progress is False:
        yield None
    elif progress is True:
        with _bar(name, unit) as report:
            yield report
    elif callable(progress):
        yield progress
    else:
        kind = type(progress).__name__
        raise TypeError(f"{name}(): progress must be None, a bool or a callable of (done, total), not {kind}")


@contextmanager
def _bar(name, unit):
    try:
        from tqdm.auto import tqdm  # which takes a while
    except ModuleNotFoundError as error:
        if error.name is not None and error.name.split(".")[0] != "tqdm":
            raise
        message = f"{name}(): progress=True draws a bar with tqdm: pip install 'cossim-c[progress]'"
        raise ModuleNotFoundError(message, name="tqdm") from None

    bar = None

    def report(done, total, note=""):
        nonlocal bar
        if bar is None:
            # initial: what was done before the clock began to run does not count for the speed.
            # miniters=1: tqdm's own guess of how many calls to skip lets a bar stand still where the work slows down.
            short = total > 999  # 4.00k and not 4000
            bar = tqdm(desc=name, total=total, initial=done, unit=f" {unit}", unit_scale=short, miniters=1)
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
