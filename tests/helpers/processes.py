"""Runs commands in processes of their own, for tests of their output, of signals and of resource limits."""

import os
import subprocess
import sys

from conftest import SLOWNESS

import cossim

IMPORTED_FROM = os.path.dirname(os.path.dirname(cossim.__file__))
# stdout is buffered, as it is for users; only then can it fail at exit.
ENVIRONMENT = {**os.environ, "PYTHONPATH": IMPORTED_FROM, "PYTHONUNBUFFERED": ""}

# If a shell starts pytest in the background, its children ignore SIGINT; under nohup they ignore SIGHUP.
AS_IN_FRONT = """signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(getattr(signal, "SIGHUP", signal.SIGINT)) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
"""


def process(*arguments, prepare="", **options):
    """Starts a command; its process runs the code `prepare` first."""
    code = f"import signal, sys\n{AS_IN_FRONT}\n{prepare}\n"
    code += "from cossim.__main__ import main\nsys.exit(main(sys.argv[1:]))"
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, **options}
    return subprocess.Popen([sys.executable, "-W", "error", "-c", code, *arguments], env=ENVIRONMENT, **options)


def run(*arguments, **options):
    """Runs a command and returns (exit code, stdout, stderr)."""
    with process(*arguments, **options) as child:
        out, err = child.communicate(timeout=120 * SLOWNESS)
    return child.returncode, out, err
