"""Trackers of metrics; only this module imports wandb and TensorBoard.

A tracker cannot disturb a training: it runs in a thread of its own, and metrics.jsonl is complete
even if the tracker raises an error, hangs, or loses its network.
"""

from __future__ import annotations

import logging
import netrc
import os
import queue
import shlex
import threading
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

from snn_delays.config import Config

log = logging.getLogger(__name__)

PATIENCE = 60.0  # seconds to wait for a tracker to close


class Tracker(Protocol):
    """Receives a run's metrics."""

    def log(self, metrics: dict[str, Any]) -> None:
        """Report the metrics of an epoch."""

    def finish(self, result: dict[str, Any]) -> str:
        """Report the result, if any, and close; returns the command that shows the metrics."""


class NoTracker:
    """Ignores all metrics."""

    def log(self, metrics: dict[str, Any]) -> None:
        """Do nothing."""

    def finish(self, result: dict[str, Any]) -> str:
        """Do nothing."""
        return ""


class BackgroundTracker:
    """A tracker in a thread of its own; only ``finish`` waits for it, at most ``patience``.

    Args:
        start: makes the tracker, in the thread.
        patience: seconds that ``finish`` waits.
    """

    def __init__(self, start: Callable[[], Tracker], patience: float = PATIENCE) -> None:
        self._patience = patience
        self._actions: queue.SimpleQueue[Callable[[Tracker], None] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, args=(start,), daemon=True)
        self._thread.start()

    def log(self, metrics: dict[str, Any]) -> None:
        """Report the metrics of an epoch."""
        self._actions.put(lambda tracker: tracker.log(metrics))

    def finish(self, result: dict[str, Any]) -> str:
        """Report the result and close; print and return the command that shows the metrics."""
        commands: list[str] = []
        self._actions.put(lambda tracker: commands.append(tracker.finish(result)))
        self._actions.put(None)
        self._thread.join(self._patience)
        if self._thread.is_alive():
            log.warning(
                "The tracker has not answered for %g s and is ignored; metrics.jsonl is complete.",
                self._patience,
            )
        command = "".join(commands)
        if command:
            print(f"see the metrics: {command}", flush=True)
        return command

    def _work(self, start: Callable[[], Tracker]) -> None:
        try:
            tracker = start()
            while (action := self._actions.get()) is not None:
                action(tracker)
        except Exception as error:  # no error of a tracker ends the run
            log.warning("Tracking stopped (%s); metrics.jsonl stays complete.", error)


class WandbTracker:
    """Weights & Biases; offline without a key or a network."""

    def __init__(self, config: Config, out: Path) -> None:
        import wandb

        mode: Any = os.environ.get("WANDB_MODE") or _mode()
        settings: dict[str, Any] = {
            "project": config.tracking.project,
            "entity": config.tracking.entity,
            "name": out.name,
            "dir": str(out),
            "config": asdict(config),
        }
        try:
            self._run = wandb.init(
                mode=mode, settings=wandb.Settings(init_timeout=30, silent=True), **settings
            )
        except wandb.Error as error:
            if mode != "online":
                raise
            log.warning("wandb cannot be reached (%s); tracking continues offline.", error)
            mode = "offline"
            self._run = wandb.init(mode=mode, settings=wandb.Settings(silent=True), **settings)
        self._is_offline = mode == "offline"

    def log(self, metrics: dict[str, Any]) -> None:
        """Report the numbers of an epoch."""
        self._run.log({k: v for k, v in metrics.items() if isinstance(v, int | float | str)})

    def finish(self, result: dict[str, Any]) -> str:
        """Report the result's numbers as the run's summary and close."""
        plain = {k: v for k, v in result.items() if isinstance(v, int | float | str)}
        self._run.summary.update(plain)
        self._run.finish()
        folder = Path(self._run.dir).parent  # the run's dir is <folder>/files
        return f"wandb sync {shlex.quote(str(folder))}" if self._is_offline else ""


class TensorBoardTracker:
    """Event files in the run's folder."""

    def __init__(self, out: Path) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._folder = str(out / "tensorboard")
        self._writer: Any = SummaryWriter(self._folder)

    def log(self, metrics: dict[str, Any]) -> None:
        """Report the numbers of an epoch."""
        for name, value in metrics.items():
            if isinstance(value, int | float):
                self._writer.add_scalar(f"{metrics['phase']}/{name}", value, metrics["epoch"])

    def finish(self, result: dict[str, Any]) -> str:
        """Report the test accuracy or NRMSE and close."""
        for name in {"accuracy", "nrmse"} & {*result}:
            self._writer.add_scalar(f"test/{name}", result[name], result["epoch"])
        self._writer.close()
        return f"tensorboard --logdir {shlex.quote(self._folder)}"


def _mode() -> str:
    """The mode of wandb if WANDB_MODE is not set."""
    if _has_key():
        return "online"
    log.warning("wandb has no key (wandb login, or WANDB_API_KEY); it tracks offline.")
    return "offline"


def _has_key() -> bool:
    if os.environ.get("WANDB_API_KEY"):
        return True
    try:
        return netrc.netrc().authenticators("api.wandb.ai") is not None
    except (OSError, netrc.NetrcParseError):
        return False


TRACKERS: dict[str, Callable[[Config, Path], Tracker]] = {
    "wandb": WandbTracker,
    "tensorboard": lambda config, out: TensorBoardTracker(out),
}


def open_tracker(config: Config, out: Path) -> Tracker:
    """The tracker that the option ``tracking`` names."""
    if config.tracking.name == "none":
        return NoTracker()
    start = TRACKERS[config.tracking.name]
    return BackgroundTracker(lambda: start(config, out))
