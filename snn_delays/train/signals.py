"""Signals that ask a training to stop: the first at the next batch, the second at once."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType, TracebackType
from typing import Any, Self

# Ctrl-C, kill, a lost terminal, and what SLURM or submitit send before a job's time is up
SIGNALS = tuple(
    getattr(signal, name)
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2")
    if hasattr(signal, name)
)


_in_use: list[StopSignal] = []


@contextlib.contextmanager
def default_signals() -> Iterator[None]:
    """Within it SIGINT and SIGTERM end the process, also while it waits in code that is not Python.

    Python's own handlers would be called after the wait. Nothing changes where a ``StopSignal`` is
    in use, or in another thread than the main one.
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
    """As if a signal had come, from another thread; nothing where no ``StopSignal`` is in use."""
    if _in_use and _in_use[-1].received is None:
        _in_use[-1].received = number


class StopSignal:
    """While in use, notes the first of ``SIGNALS``; the second does what it did before.

    Args:
        then: what to do with the first one's number, at once.
        heard: say that it came.

    Attributes:
        received: its number, or None. Noted in the main thread alone, where signals arrive.
    """

    def __init__(self, then: Callable[[int], object] | None = None, *, heard: bool = True) -> None:
        self.received: int | None = None
        self._heard = heard
        self._then = then
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            heard = [n for n in SIGNALS if signal.getsignal(n) is not signal.SIG_IGN]  # nohup
            self._before = {number: signal.signal(number, self._note) for number in heard}
            _in_use.append(self)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._give_back()
        if self in _in_use:
            _in_use.remove(self)

    def _note(self, number: int, frame: FrameType | None) -> None:
        line = f"\n{signal.Signals(number).name}: stopping at the next batch; again: at once.\n"
        with contextlib.suppress(OSError):  # not print: it may be what was interrupted
            os.write(2, line.encode() if self._heard else b"")
        for stop in reversed(_in_use):  # those around it hear it, too: the next is the second
            stop._give_back()
            stop.received = number
            if stop._then is not None:
                stop._then(number)

    def _give_back(self) -> None:
        while self._before:
            number, handler = self._before.popitem()
            signal.signal(number, handler)
