"""Ctrl-C ends the command line with exit code 130 and without a traceback, from the first import of cossim on.

This module is imported before all others. While modules are imported, and when a command is done, Ctrl-C ends the
process at once. While a command runs it raises KeyboardInterrupt, as it always does in other programs that import
cossim. While Python itself starts, Ctrl-C does what it does in all of Python: it may print a traceback.
"""

# The functions of the module signal, without its enums, whose import takes some milliseconds.
import _signal as signal  # type: ignore[import-not-found]
import os
import sys

EXIT_CODE = 130


def _is_program():
    """Is this the process of `cossim` or `python -m cossim`?"""
    first, *others = getattr(sys, "argv", None) or [""]
    if first == "-m":  # until the module has been found; its name is what precedes its arguments
        return sys.orig_argv[-len(others) - 1] in ("cossim", "-mcossim")
    program = sys._getframe()
    while program.f_back is not None:
        program = program.f_back
    return "cossim.__main__" in program.f_code.co_names  # the script `cossim` imports main from there


def _end(number, frame):
    os._exit(EXIT_CODE)


if _is_program() and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, _end)

from contextlib import contextmanager  # noqa: E402  (only now, as Ctrl-C can come while it is imported)


@contextmanager
def raised():
    """In the block, Ctrl-C raises KeyboardInterrupt in any case."""
    ends = signal.getsignal(signal.SIGINT) is _end
    if ends:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        if ends:
            signal.signal(signal.SIGINT, _end)
