"""Lets one test have the machine to itself while pytest-xdist runs tests in several processes.

Every test holds a lock that others share. alone() waits until no other test runs, and others wait until it ends. Locks
are on files that all processes open. Without pytest-xdist there are none.
"""

import os
from contextlib import contextmanager

_LOCKS = []  # two file locks: "gate", held while a process waits for the second one; "running", held by running tests


def start(folder):
    """Opens the locks, in a folder that is the same for all processes."""
    if "PYTEST_XDIST_WORKER" in os.environ and not _LOCKS:
        _LOCKS.extend(os.open(folder / f"{name}.lock", os.O_RDWR | os.O_CREAT) for name in ("gate", "running"))


def _begin(exclusive):
    """Takes the lock of running tests. Holds the gate while it waits, so that no other test begins meanwhile."""
    import fcntl

    gate, running = _LOCKS
    fcntl.flock(gate, fcntl.LOCK_EX)
    fcntl.flock(running, fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH)
    fcntl.flock(gate, fcntl.LOCK_UN)


def _end():
    import fcntl

    fcntl.flock(_LOCKS[1], fcntl.LOCK_UN)


@contextmanager
def together():
    """Surrounds a test that may run at the same time as others."""
    if not _LOCKS:
        yield
        return
    _begin(exclusive=False)
    try:
        yield
    finally:
        _end()


@contextmanager
def alone():
    """Surrounds a measurement of time within a test."""
    if not _LOCKS:
        yield
        return
    _end()
    _begin(exclusive=True)
    try:
        yield
    finally:
        _end()
        _begin(exclusive=False)


@contextmanager
def locked(folder):
    """Surrounds code that one process at a time may run in this folder."""
    if not _LOCKS:
        yield
        return
    import fcntl

    with open(folder / "folder.lock", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
