"""Standard output and standard error whose failures do not end a training.

The disk may be full, the reader of a pipe may have ended, the encoding may lack letters, and the
name of a class may be an escape sequence that clears the terminal. The streams here show what they
can, and drop or escape the rest.
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

# C0 and C1 controls, Unicode's line ends and direction marks, and the surrogates by which Python
# writes bytes of a file's name that are no text
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def one_line(text: str) -> str:
    r"""``text`` with control characters, such as a line break, as escapes: ``\n``."""
    return _CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def printable(text: str) -> str:
    """``text`` with the escapes of ``one_line``, except for line breaks and tabs.

    A carriage return at the start stays, since progress bars begin with it.
    """
    start = "\r" * text.startswith("\r")
    return start + re.sub("[^\t\n]+", lambda found: one_line(found[0]), text[len(start) :])


class Guarded:
    """A stream that escapes control characters, and raises no errors unless it is ``needed``.

    Args:
        stream: the stream to write to; None, as Python sets it if the shell closed it: none.
        name: name of the stream in messages about a failure; "": no message.

    Attributes:
        needed: whether a failure is an error, since the command makes nothing but this output.
    """

    def __init__(self, stream: TextIO | None, name: str) -> None:
        self.needed = False
        self._is_closed = stream is None
        self._stream: TextIO = stream or io.StringIO()
        self._name = name

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write ``text``, with letters that the encoding lacks as escapes."""
        if self._is_closed and self.needed:
            raise UserError(f"{self._name} is closed, and this command only writes to it.")
        if self._is_closed:
            return len(text)
        encoding = self._stream.encoding or "utf-8"
        shown = printable(text).encode(encoding, "backslashreplace").decode(encoding)
        self._attempt(lambda: self._stream.write(shown))
        return len(text)

    def flush(self) -> None:
        """Flush the stream's buffer."""
        self._attempt(self._stream.flush)

    def release(self) -> None:
        """Empty the stream's buffer, into os.devnull if it fails: Python flushes again at exit.

        Handlers of ``logging`` may still write here afterwards; their failures are ignored.
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
                print(f"{name} cannot be written ({reason}); the work continues.", file=sys.stderr)
        elif isinstance(error, BrokenPipeError):  # the reader, such as head, has ended
            sys.exit(1)
        else:
            raise UserError(f"{self._name} cannot be written: {reason}.") from error


@contextlib.contextmanager
def guarded() -> Iterator[None]:
    """A context in which ``sys.stdout`` and ``sys.stderr`` are ``Guarded``."""
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
    """A context, inside ``guarded``, in which a failure of standard output is an error.

    Raises:
        UserError: standard output cannot be written.
        SystemExit: the reader of standard output has ended; code 1.
    """
    stream: Any = sys.stdout
    stream.needed = True
    try:
        yield
        stream.flush()
    finally:
        stream.needed = False


def own_descriptors() -> None:
    """Make sure that descriptors 0, 1 and 2 are open and blocking, at the start of a process.

    If the shell closed one, the next opened file would get its number, and prints would write into
    that file. A descriptor that does not block, as some parents leave it, would lose output.
    """
    while (number := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(number)
    for number in (1, 2):
        with contextlib.suppress(OSError):
            os.set_blocking(number, True)
