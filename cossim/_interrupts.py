"""Ctrl-C ends the command line with exit code 130 and without a traceback.

This module is imported before all others, and acts only in the process of the command line. There, Ctrl-C ends the
process at once while modules are imported and after the command has finished. While a command runs, Ctrl-C raises
KeyboardInterrupt. In other programs that import cossim, Ctrl-C keeps its usual effect. Before the first import of
cossim, while Python itself starts, Ctrl-C may still print a traceback.
"""

# _signal has the functions of the module signal without its enums, which take some milliseconds to import.
import _signal as signal  # type: ignore[import-not-found]
import os
import sys

EXIT_CODE = 130


def _is_program():
    """Returns whether this is the process of `cossim` or of `python -m cossim`."""
    first, *others = getattr(sys, "argv", None) or [""]
    if first == "-m":  # python -m has not found the module yet; its name is in orig_argv
        return sys.orig_argv[-len(others) - 1] in ("cossim", "-mcossim")
    program = sys._getframe()
    while program.f_back is not None:
        program = program.f_back
    return "cossim.__main__" in program.f_code.co_names  # the script `cossim` imports main from there


def _end_process(number, frame):
    os._exit(EXIT_CODE)


IS_PROGRAM = _is_program()
if IS_PROGRAM and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, _end_process)

from contextlib import contextmanager  # noqa: E402  (after the handler is set: Ctrl-C may arrive during this import)


@contextmanager
def raising_keyboard_interrupt():
    """Within the block, Ctrl-C raises KeyboardInterrupt, also in the process of the command line."""
    ends_process = signal.getsignal(signal.SIGINT) is _end_process
    if ends_process:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        if ends_process:
            signal.signal(signal.SIGINT, _end_process)
