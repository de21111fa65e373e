"""Runs programs and commands in processes of their own, for tests of output, signals, memory and instruction sets;
and functions in threads."""

import ast
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import turns
from conftest import EMULATED, SLOWNESS

import cossim
from cossim import _core

IMPORTED_FROM = os.path.dirname(os.path.dirname(cossim.__file__))
# stdout is buffered, as it is for users; only then can it fail at exit.
ENVIRONMENT = {**os.environ, "PYTHONPATH": IMPORTED_FROM, "PYTHONUNBUFFERED": ""}

# If a shell starts pytest in the background, its children ignore SIGINT; under nohup they ignore SIGHUP.
AS_IN_FRONT = """signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(getattr(signal, "SIGHUP", signal.SIGINT)) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
"""
reports_memory = pytest.mark.skipif(
    not Path("/proc/self/clear_refs").exists() or bool(os.environ.get("COSSIM_SANITIZE")),
    reason="needs Linux's peak of a process's memory, without that of a sanitizer",
)


def process(*arguments, prepare="", **options):
    """Starts a command; its process runs the code `prepare` first."""
    code = f"import signal, sys\n{AS_IN_FRONT}\n{prepare}\n"
    code += "from cossim.__main__ import main\nsys.exit(main(sys.argv[1:]))"
    return started("-W", "error", "-c", code, *arguments, **options)


def run(*arguments, **options):
    """Runs a command and returns (exit code, stdout, stderr)."""
    with process(*arguments, **options) as child:
        out, err = child.communicate(timeout=120 * SLOWNESS)
    return child.returncode, out, err


def started(*arguments, **options):
    """A new process of Python with these arguments, whose output can be read."""
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "env": ENVIRONMENT, **options}
    return subprocess.Popen([sys.executable, *map(str, arguments)], **options)


def finished(*arguments, cwd=None, seconds=600, **environment):
    """A process of Python with these arguments and additional environment variables, after its end."""
    options = {"capture_output": True, "text": True, "cwd": cwd, "timeout": seconds * SLOWNESS}
    return subprocess.run([sys.executable, *map(str, arguments)], env={**ENVIRONMENT, **environment}, **options)


def printed(*arguments, **options):
    """The output of a process of Python, which must exit with 0."""
    done = finished(*arguments, **options)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.rstrip()


def python(code, *arguments, **options):
    """The output of code in a fresh interpreter, which must exit with 0."""
    return printed("-c", code, *arguments, **options)


def python_in(code, environments, **options):
    """The line that code prints in each of these environments: a process that has imported NumPy forks for each."""
    program = f"""
import os, sys, numpy
for environment in {environments!r}:
    if os.fork() == 0:
        os.environ.update(environment)
        exec({code!r})
        sys.stdout.flush()
        os._exit(0)
    assert os.wait()[1] == 0, environment
"""
    if not hasattr(os, "fork"):
        pytest.skip("this system has no fork")
    return python(program, **options).splitlines()


def python_on(isa, *arguments, **options):
    """Runs Python on an instruction set, and requires that it exits with 0 and prints the name of the set last."""
    if isa not in _core.config()["available"]:
        pytest.skip(f"this machine cannot run {isa}")
    assert printed(*arguments, COSSIM_ISA=isa, **options).splitlines()[-1] == isa


# ---- threads ----


def together(*functions):
    """Runs each function in a thread, all together, and raises the first exception of any."""
    start, errors = threading.Barrier(len(functions)), []

    def run(function):
        try:
            start.wait(60)
            function()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(function,)) for function in functions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


# ---- memory and Ctrl-C ----

MEMORY = """
import os, signal, sys, threading, time
import numpy as np, cossim
from cossim import simclr
def status(key):
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) << 10 for line in file if line.startswith(key))
cossim.set_num_threads(int(sys.argv[1]))
"""


def extra_memories(prepare, calls, size="0"):
    """[(call, threads, bytes by which the call raises the peak of its process's memory, value of `size` after it)] of
    each call with one and with two threads. A process that has run `prepare` forks for each."""
    code = f"""{MEMORY}{prepare}
for call in {calls!r}:
    for threads in (1, 2):
        if os.fork() == 0:
            cossim.set_num_threads(threads)
            with open("/proc/self/clear_refs", "w") as file:
                file.write("5")
            before = status("VmRSS")
            result = eval(call)
            print((call, threads, status("VmHWM") - before, {size}), flush=True)
            os._exit(0)
        assert os.wait()[1] == 0, call
"""
    return [ast.literal_eval(line) for line in python(code, 1).splitlines()]


INTERRUPTED = """
signal.signal(signal.SIGINT, signal.default_int_handler)
delays, expected = [], small()
for round in range(7):
    sent = []
    def interrupt():
        time.sleep(0.05 + 0.02 * round)
        sent.append(time.perf_counter())
        os.kill(os.getpid(), signal.SIGINT)
    thread = threading.Thread(target=interrupt)
    thread.start()
    try:
        {call}
        raise SystemExit("it ran to its end")
    except KeyboardInterrupt:
        delays.append(time.perf_counter() - sent[0])
    thread.join()
    if round == 1:
        before = status("VmRSS")
    assert small() == expected
print(sorted(delays)[len(delays) // 2], status("VmRSS") - before)
"""


def check_interrupted(prepare, call, threads, seconds, growth):
    """Stops a long call with Ctrl-C, seven times. At least half of the calls must stop within these seconds, memory may
    grow by that many bytes, and the next call, `small()`, must give the same bytes."""
    with turns.alone():
        delay, grown = map(float, python(MEMORY + prepare + INTERRUPTED.format(call=call), threads).split())
    assert delay < seconds * SLOWNESS
    assert grown < growth or EMULATED
