"""Prints the result of a command on standard output."""

import contextlib
import errno
import os
import sys

import click

from tornado_bridge.errors import BridgeError


def require() -> None:
    """Raise BridgeError if standard output is closed, so that a command without a reader does nothing."""
    if sys.stdout is None:
        raise _failure(os.strerror(errno.EBADF))


def write(text: str, *, newline: bool = True) -> None:
    """Print a result at once. Raises BridgeError if standard output does not take it."""
    require()
    try:
        click.echo(text, nl=newline)
    except OSError as error:
        discard()
        raise _failure(error.strerror) from None


def discard() -> None:
    """Drop the text that standard output has not taken, which the interpreter would try to write again at exit."""
    if sys.stdout is None:
        return
    # An OSError means a stream without a descriptor, such as StringIO: the interpreter does not write that one.
    with contextlib.suppress(OSError), open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), sys.stdout.fileno())


def _failure(reason: str | None) -> BridgeError:
    return BridgeError(f"cannot write to standard output: {reason}")
