"""Signals that stop a training: the first at the next batch, the second immediately."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType, TracebackType
from typing import Any, Self

# Ctrl-C, kill, a closed terminal, and the signals of SLURM and submitit before a job's time is up
SIGNALS = tuple(
    getattr(signal, name)
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2")
    if hasattr(signal, name)
)


_in_use: list[StopSignal] = []


@contextlib.contextmanager
def default_signals() -> Iterator[None]:
    """A context in which SIGINT and SIGTERM end the process, even while compiled code waits.

    Python's own handlers would be called only after the wait. Nothing changes while a
    ``StopSignal`` is in use, or outside the main thread.
    """
    on = not _in_use and threading.current_thread() is threading.main_thread()
    numbers = (signal.SIGINT, signal.SIGTERM) if on else ()
    heard = [n for n in numbers if signal.getsignal(n) not in (None, signal.SIG_IGN)]
    before = {n: signal.signal(n, signal.SIG_DFL) for n in heard}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def request_stop(number: int) -> None:
    """Act as if a signal had come, from any thread; does nothing if no ``StopSignal`` is in use."""
    if _in_use and _in_use[-1].received is None:
        _in_use[-1].received = number


class StopSignal:
    """A context that notes the first of ``SIGNALS``; a second signal has its earlier effect.

    Args:
        then: called with the first signal's number, immediately.
        announce: print that the signal came.

    Attributes:
        received: the first signal's number, or None. Signals arrive in the main thread alone.
    """

    def __init__(
        self, then: Callable[[int], object] | None = None, *, announce: bool = True
    ) -> None:
        self.received: int | None = None
        self._announce = announce
        self._then = then
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            used = [n for n in SIGNALS if signal.getsignal(n) is not signal.SIG_IGN]  # nohup
            self._before = {number: signal.signal(number, self._note) for number in used}
            _in_use.append(self)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._restore()
        if self in _in_use:
            _in_use.remove(self)

    def _note(self, number: int, frame: FrameType | None) -> None:
        name = signal.Signals(number).name
        line = f"\n{name}: stopping at the next batch; a second signal stops immediately.\n"
        with contextlib.suppress(OSError):  # not print, which the signal may have interrupted
            os.write(2, line.encode() if self._announce else b"")
        # enclosing contexts are told as well, so the next signal stops the process immediately
        for stop in reversed(_in_use):
            stop._restore()
            stop.received = number
            if stop._then is not None:
                stop._then(number)

    def _restore(self) -> None:
        """Restore the handlers from before this context."""
        while self._before:
            number, handler = self._before.popitem()
            signal.signal(number, handler)
