"""Standard output and standard error as people read them, which end nobody's training.

The disk may be full, the reader of a pipe gone, the encoding narrow, and the name of a class an
escape sequence that clears the terminal. What can be shown is shown; the rest is left out.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import sys
from collections.abc import Callable, Iterator
from typing import Any, TextIO

from snn_delays.errors import UserError

# C0 and C1, what ends a line in Unicode, what turns the direction of letters around, and what
# stands for the bytes of a file's name that are no text
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def one_line(text: str) -> str:
    r"""``text`` with what is no letter, such as a line break, as its escape: ``\n``."""
    return _CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def printable(text: str) -> str:
    """``text`` with the escapes of ``one_line``, except for line breaks and tabs.

    A carriage return stays at the very start: progress bars write it there.
    """
    start = "\r" * text.startswith("\r")
    return start + re.sub("[^\t\n]+", lambda found: one_line(found[0]), text[len(start) :])


class Guarded:
    """A stream that writes what a terminal can show, and raises nothing unless it is ``needed``.

    Args:
        stream: where to write; None, as Python has it where the shell closed it: nowhere.
        name: what to call it when it fails; "": nobody is told.

    Attributes:
        needed: a failure is an error, since the command makes nothing but this output.
    """

    def __init__(self, stream: TextIO | None, name: str) -> None:
        self.needed = False
        self._is_closed = stream is None
        self._stream: TextIO = stream or io.StringIO()
        self._name = name

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write ``text``, as far as the stream takes it."""
        if self._is_closed and self.needed:
            raise UserError(f"{self._name} is closed, and this command makes nothing else.")
        if self._is_closed:
            return len(text)
        encoding = self._stream.encoding or "utf-8"
        shown = printable(text).encode(encoding, "backslashreplace").decode(encoding)
        self._attempt(lambda: self._stream.write(shown))
        return len(text)

    def flush(self) -> None:
        """Pass on what the stream has in its buffer."""
        self._attempt(self._stream.flush)

    def release(self) -> None:
        """Empty the stream's buffer, if need be into nothing: Python flushes it again at exit.

        Handlers of ``logging`` may still write here afterwards, and are told nothing.
        """
        self._name = ""
        try:
            self._stream.flush()
        except (OSError, ValueError):
            with contextlib.suppress(OSError, ValueError), open(os.devnull, "wb") as nothing:
                os.dup2(nothing.fileno(), self._stream.fileno())
                self._stream.flush()

    def _attempt(self, action: Callable[[], object]) -> None:
        try:
            action()
        except (OSError, ValueError) as error:
            self._lose(error)

    def _lose(self, error: Exception) -> None:
        reason = getattr(error, "strerror", None) or str(error)
        if not self.needed:
            name, self._name = self._name, ""
            if name:
                print(f"{name} cannot be written ({reason}); the work goes on.", file=sys.stderr)
        elif isinstance(error, BrokenPipeError):  # the reader, such as head, has seen enough
            sys.exit(1)
        else:
            raise UserError(f"{self._name} cannot be written: {reason}.") from error


@contextlib.contextmanager
def guarded() -> Iterator[None]:
    """Within it, ``sys.stdout`` and ``sys.stderr`` are ``Guarded``."""
    with contextlib.ExitStack() as afterwards:
        for attribute, name in (("stdout", "Standard output"), ("stderr", "")):
            before = getattr(sys, attribute)
            if not isinstance(before, Guarded):
                stream = Guarded(before, name)
                afterwards.callback(stream.release)
                afterwards.callback(setattr, sys, attribute, before)
                setattr(sys, attribute, stream)
        yield


@contextlib.contextmanager
def needed_output() -> Iterator[None]:
    """Within it, and within ``guarded``, standard output that is lost is an error.

    Raises:
        UserError: it cannot be written.
        SystemExit: nobody reads it any more; code 1.
    """
    stream: Any = sys.stdout
    stream.needed = True
    try:
        yield
        stream.flush()
    finally:
        stream.needed = False


def own_descriptors() -> None:
    """Make sure of the descriptors 0, 1 and 2, as a process starts.

    Where the shell closed one, the next file to be opened would take its number, and be written to
    by whatever prints. One that does not block, as some parents leave it, loses what it cannot
    take at once.
    """
    while (number := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(number)
    for number in (1, 2):
        with contextlib.suppress(OSError):
            os.set_blocking(number, True)
