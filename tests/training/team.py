"""Processes that train together, for tests: they wait for work, so they are started only once."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import io
import os
import signal
import socket
import threading
from multiprocessing.connection import Connection
from typing import Any

from tests.processes import CONTEXT, become, fork

PATIENCE = 120  # seconds for a run


def free_port() -> int:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        return held.getsockname()[1]


def places(number: int) -> list[dict[str, str]]:
    """The environment of each of some processes, as torchrun would make it."""
    port = str(free_port())
    shared = {"WORLD_SIZE": str(number), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    return [{**shared, "RANK": str(k), "LOCAL_RANK": str(k)} for k in range(number)]


class Team:
    """Up to ``most`` processes, one thread each."""

    def __init__(self, most: int) -> None:
        self._workers = [Worker() for _ in range(most)]

    def train(self, config: Any, number: int, **faults: Any) -> list[dict[str, Any]]:
        """What ``number`` processes give that train together: see ``answer`` and ``Faults``."""
        work = {"config": dataclasses.asdict(config), "faults": faults}
        for worker, environment in zip(self._workers, places(number), strict=False):
            worker.pipe.send({**work, "environment": environment})
        with self._patience():
            return [worker.pipe.recv() for worker in self._workers[:number]]

    @contextlib.contextmanager
    def _patience(self):
        timer = threading.Timer(PATIENCE, self.close)
        timer.start()
        try:
            yield
        finally:
            timer.cancel()

    def close(self) -> None:
        for worker in self._workers:
            worker.process.kill()
            worker.process.join()


class Worker:
    """One of the processes, and the pipe to it."""

    def __init__(self) -> None:
        self.pipe, theirs = CONTEXT.Pipe()
        self.process = fork(serve, theirs, {**os.environ, "OMP_NUM_THREADS": "1"})
        theirs.close()


# ---- in each of the processes ------------------------------------------------------------------


@dataclasses.dataclass
class Faults:
    """What is to go wrong, in process ``rank`` alone.

    Attributes:
        rank: which.
        signal_at: training batch, counted from 1, in which it gets SIGTERM.
        error_at: training batch in which it raises.
        data: it cannot load its data.
        nan_at: batch of every epoch, from 0, whose first number is NaN there.
        seed: it is asked for another one.
    """

    rank: int = 0
    signal_at: int = 0
    error_at: int = 0
    data: bool = False
    nan_at: int | None = None
    seed: int | None = None


def break_things(faults: Faults, patch: Any) -> None:
    from snn_delays.data.loaders import Loader
    from snn_delays.errors import UserError
    from snn_delays.training import run
    from snn_delays.training import step as training_step

    real_step, real_batch = training_step.take_step, Loader._batch
    batches = 0

    def step(*arguments):
        nonlocal batches
        batches += 1
        if batches == faults.signal_at:
            os.kill(os.getpid(), signal.SIGTERM)
        if batches == faults.error_at:
            raise RuntimeError("a bug of ours")
        return real_step(*arguments)

    def batch(loader, epoch, place, numbers):
        made = real_batch(loader, epoch, place, numbers)
        if place == faults.nan_at and loader.shuffle_seed is not None:
            made.x[0, 0, 0] = float("nan")
        return made

    def no_data(config):
        raise UserError("the data is not here")

    patch.setattr(training_step, "take_step", step)
    patch.setattr(Loader, "_batch", batch)
    if faults.data:
        patch.setattr(run, "load_data", no_data)


def watch(patch: Any) -> list[str]:
    """Digests of the parameters and statistics of every network when its training ends."""
    from snn_delays.training import loop

    real, digests = loop.Training.run, []

    def run(training):
        real(training)
        state = training.network.state_dict().values()
        content = b"".join(t.numpy().tobytes() for t in state)
        digests.append(hashlib.sha256(content).hexdigest())

    patch.setattr(loop.Training, "run", run)
    return digests


def answer(work: dict[str, Any]) -> dict[str, Any]:
    """The result and the digests, or the error."""
    import pytest

    from snn_delays.config import Config
    from snn_delays.config.options import from_dict
    from snn_delays.training.run import train

    os.environ.update(work["environment"])
    config, faults = from_dict(Config, work["config"]), Faults(**work["faults"])
    with pytest.MonkeyPatch.context() as patch:
        digests = watch(patch)
        if os.environ["RANK"] == str(faults.rank):
            break_things(faults, patch)
            config.seed = config.seed if faults.seed is None else faults.seed
        try:
            return {"result": train(config), "digests": digests}
        except Exception as error:
            notes = getattr(error, "__notes__", [])
            return {"error": type(error).__name__, "words": str(error), "notes": notes}


def serve(pipe: Connection, environment: dict[str, str]) -> None:
    become(environment)
    for work in iter(pipe.recv, None):
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            answered = answer(work)
        pipe.send({**answered, "printed": printed.getvalue()})
