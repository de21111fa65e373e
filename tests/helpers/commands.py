"""Calls the command line in this process."""

from cossim.__main__ import main


def run(command):
    """The exit code of a command given in parts: text, which is split at blanks, and whole paths."""
    return main([word for part in command for word in (part.split() if isinstance(part, str) else [str(part)])])


def shown(capsys, *command):
    """What a command prints. It must succeed."""
    assert run(command) == 0
    return capsys.readouterr().out


def refused(capsys, *command):
    """The message of a command, which must fail and print no result."""
    assert run(command) == 1
    found = capsys.readouterr()
    assert found.out == ""
    return found.err
