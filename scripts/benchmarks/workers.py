"""Time several computations in alternation, each in a process of its own.

The processes share the machine's drift, but neither memory nor thread pools. They are forked from a
server that has only imported torch, so that each peak memory is that of one computation.
"""

from __future__ import annotations

import contextlib
import math
import multiprocessing
import resource
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from typing import Any, NoReturn

import torch

from scripts.benchmarks.common import say
from snn_delays.cli.app import quiet_libraries
from snn_delays.errors import UserError
from snn_delays.runtime.buffers import is_out_of_memory

MEASURE = 1.0  # seconds that a measurement lasts at least, by repeated calls
WARM = 1.0  # seconds of untimed calls before it: other processes have emptied the caches
PAUSE = 0.2  # seconds between measurements, in which idle threads of the last one stop spinning
MEMORY_CALLS = 3
RSS_UNIT = 1 if sys.platform == "darwin" else 1024  # bytes

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["scripts.benchmarks.networks"])

Make = Callable[..., Callable[[], object]]


class OutOfMemory(UserError):
    """A measuring process was killed, or could not allocate memory."""


class Worker:
    """A process that calls ``make(*arguments)()`` on request.

    Args:
        make: importable; builds the function to time, in the process, at the first request.
        arguments: of ``make``.
    """

    def __init__(self, make: Make, *arguments: Any) -> None:
        self._pipe, theirs = CONTEXT.Pipe()
        served = (theirs, WARM, make, arguments)
        self._process = CONTEXT.Process(target=_serve, args=served, daemon=True)
        self._process.start()
        theirs.close()

    def run(self, calls: int = 1) -> float:
        """Seconds per call.

        Raises:
            OutOfMemory: the process was killed, or could not allocate memory.
            RuntimeError: the called function failed; the message holds its traceback.
        """
        return self._request(calls)[0]

    def warm_up(self) -> int:
        """Call until all is compiled; returns the number of calls in a measurement."""
        first = self.run()  # compiles and allocates
        return 1 if first > MEASURE else max(1, math.ceil(MEASURE / self.run()))

    def peak_memory(self) -> int:
        """Peak memory of the process in bytes: the GPU's if it uses one, else the host's."""
        return self._request(0)[1]

    def close(self) -> None:
        """End the process."""
        with contextlib.suppress(OSError):  # it may be dead
            self._pipe.send(None)
        self._process.join()
        self._pipe.close()

    def _request(self, calls: int) -> tuple[float, int]:
        try:
            self._pipe.send(calls)
            reply = self._pipe.recv()
        except (EOFError, OSError) as error:
            raise OutOfMemory(
                "A measuring process was killed, most likely for lack of memory; choose smaller"
                " sizes."
            ) from error
        if isinstance(reply, str):
            _raise(RuntimeError(reply))
        return reply


def _raise(error: RuntimeError) -> NoReturn:
    """Raise the error of a process."""
    if is_out_of_memory(error):
        sentence = "A measuring process ran out of memory; choose smaller sizes."
        raise OutOfMemory(sentence) from error
    raise error


@contextlib.contextmanager
def started(makes: dict[str, tuple[Any, ...]]) -> Iterator[dict[str, Worker]]:
    """Workers by name, each made by ``Worker(make, *arguments)``; closed with the context."""
    workers = {name: Worker(*make) for name, make in makes.items()}
    try:
        yield workers
    finally:
        for worker in workers.values():
            worker.close()


def alternate(
    workers: dict[str, Worker], rounds: int, seconds_at_most: float = math.inf
) -> dict[str, list[float]]:
    """Seconds per call of each worker, [rounds] each, measured in alternation.

    No round begins later than ``seconds_at_most`` after the first one.
    """
    calls = {name: worker.warm_up() for name, worker in workers.items()}
    seconds: dict[str, list[float]] = {name: [] for name in workers}
    end = time.monotonic() + seconds_at_most
    for number in range(rounds):
        if number and time.monotonic() > end:
            break
        say(f"  round {number + 1} of {rounds}")
        for name, worker in workers.items():
            time.sleep(PAUSE)
            seconds[name].append(worker.run(calls[name]))
    return seconds


def peak_memory(make: Make, *arguments: Any) -> int:
    """Peak memory of a fresh process over a few calls, bytes."""
    with started({"": (make, *arguments)}) as workers:
        workers[""].run(MEMORY_CALLS)
        return workers[""].peak_memory()


def imported_memory() -> int:
    """Memory of a process that has imported everything and computed nothing, bytes."""
    with started({"": (list,)}) as workers:
        return workers[""].peak_memory()


def _serve(pipe: Connection, warm: float, make: Make, arguments: tuple[Any, ...]) -> None:
    quiet_libraries()
    step = None
    with contextlib.suppress(EOFError):  # the parent is gone
        for calls in iter(pipe.recv, None):
            try:
                step = step or make(*arguments)
                pipe.send((_seconds(step, calls, warm), peak()))
            except Exception:
                pipe.send(traceback.format_exc())


def _seconds(step: Callable[[], object], calls: int, warm: float) -> float:
    """Seconds per call, after ``warm`` seconds of untimed calls."""
    if calls == 0:
        return 0.0
    started = time.perf_counter()
    step()
    while time.perf_counter() - started < warm:
        step()
    started = time.perf_counter()
    for _ in range(calls):
        step()
    return (time.perf_counter() - started) / calls


def peak() -> int:
    """Peak memory of this process in bytes: the GPU's if it uses one, else the host's."""
    if torch.cuda.is_initialized():
        return torch.cuda.max_memory_reserved()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * RSS_UNIT
