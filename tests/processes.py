"""Processes for tests, forked from one that has imported the package, which takes seconds."""

from __future__ import annotations

import atexit
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping
from multiprocessing import forkserver
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
IMPORTED = [
    "snn_delays.cli.train", "snn_delays.training.run", "snn_delays.analysis.curves",
    "snn_delays.cli.benchmark",
]  # fmt: skip
COMMAND = "from snn_delays.cli import main; main()"
PATIENCE = 300  # seconds

CONTEXT = multiprocessing.get_context("forkserver")


def fork(target: Callable[..., Any], *arguments: Any) -> ForkServerProcess:
    """A process that calls ``target`` and has the package imported.

    If it still runs when this process ends, as after a test that failed, it is killed.
    """
    CONTEXT.set_forkserver_preload(IMPORTED)
    with pytest.MonkeyPatch.context() as patch:  # for the first call, which starts the server
        patch.setenv("PYTHONPATH", str(ROOT))
        forkserver.ensure_running()
    process = CONTEXT.Process(target=target, args=arguments)
    process.start()
    atexit.register(_kill, process)  # earlier than multiprocessing, which would wait for its end
    return process


def _kill(process: ForkServerProcess) -> None:
    if process.is_alive():
        process.kill()


def fork_joblibs_workers() -> None:
    """Let joblib fork the workers of this process, a forked one, as ``fork`` does."""
    from joblib.externals.loky.backend import context

    context.set_start_method("forkserver")
    forkserver._forkserver.ensure_running = lambda: None  # the one that this process comes from


class Command:
    """A process that runs ``snn-delays``, or other code, as ``subprocess.Popen`` would.

    Args:
        arguments: what follows the program's name on the command line.
        said: folder for what the process prints; a later process adds to it.
        code: Python code that the process runs.
        group: the process gets a group of its own, as a terminal's command does.
        environment: variables besides this process's own. Variables that libraries read when they
            are loaded have no effect, except OMP_NUM_THREADS.
    """

    def __init__(
        self,
        arguments: list[str],
        said: Path,
        *,
        code: str = COMMAND,
        group: bool = False,
        **environment: str,
    ) -> None:
        said.mkdir(exist_ok=True)
        self._printed, self._errors = said / "printed", said / "errors"
        for path in (self._printed, self._errors):
            path.touch()
        variables = {**os.environ, **environment}
        words = ["snn-delays", *map(str, arguments)]
        self._process = fork(run, code, words, said, group, variables)
        self.pid = self._process.pid

    @property
    def printed(self) -> str:
        """Standard output so far."""
        return self._printed.read_text("utf-8")

    @property
    def errors(self) -> str:
        """Standard error so far."""
        return self._errors.read_text("utf-8")

    def said(self) -> str:
        """Standard output so far, then standard error so far."""
        return self.printed + self.errors

    def poll(self) -> int | None:
        """Exit code, -N after signal N, or None while the process runs."""
        return self._process.exitcode

    def wait(self, seconds: float = PATIENCE) -> int:
        """Exit code, when the process has ended."""
        self._process.join(seconds)
        code = self._process.exitcode
        if code is None:
            self.kill()
            raise AssertionError(f"still running: {self.said()}")
        return code

    def wait_for(self, reached: Callable[[], bool]) -> None:
        """Wait until ``reached()`` is true; the process must be running until then."""
        end = time.monotonic() + PATIENCE
        while not reached():
            assert self.poll() is None, self.said()
            assert time.monotonic() < end, self.said()
            time.sleep(0.02)

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def kill(self) -> None:
        self._process.kill()


def run(
    code: str, arguments: list[str], said: Path, group: bool, environment: Mapping[str, str]
) -> None:
    """In the process: run the code as ``python -c`` does."""
    if group:
        os.setpgid(0, 0)
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job ignores it
    become(environment)
    for number, name in ((1, "printed"), (2, "errors")):
        os.dup2(os.open(said / name, os.O_WRONLY | os.O_APPEND), number)
    sys.argv = arguments
    try:
        exec(code, {"__name__": "__main__"})
    finally:  # as at the end of any Python process; multiprocessing would first wait for children
        threading._shutdown()
        atexit._run_exitfuncs()


def become(environment: Mapping[str, str]) -> None:
    """Take an environment, and the number of threads in it, which torch reads only when loaded."""
    import torch

    os.environ.clear()
    os.environ.update(environment)
    torch.set_num_threads(int(environment.get("OMP_NUM_THREADS", torch.get_num_threads())))
