"""Ctrl-C ends the command line with exit code 130 and without a traceback, at any moment.

This module is imported before NumPy. While modules are imported, and when a command is done, Ctrl-C ends the process at
once. While a command runs it raises KeyboardInterrupt, as it always does in other programs that import cossim.
"""

import os
import sys
from contextlib import contextmanager

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


if _is_program():
    import signal

    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _end)


@contextmanager
def raised():
    """In the block, Ctrl-C raises KeyboardInterrupt in any case."""
    import signal

    ends = signal.getsignal(signal.SIGINT) is _end
    if ends:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        if ends:
            signal.signal(signal.SIGINT, _end)
