"""Metrics for others to watch: the one place that imports wandb. It never stops training."""

from __future__ import annotations

import logging
import netrc
import os
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from snn_delays.config import Config

log = logging.getLogger(__name__)


class Tracker:
    """Takes metrics and forgets them; also what a failing tracker becomes."""

    def log(self, metrics: dict[str, Any]) -> None:
        """Report the metrics of an epoch."""

    def finish(self, result: dict[str, Any]) -> None:
        """Report the result and close."""


class WandbTracker(Tracker):
    """Weights & Biases, offline where there is no key; after its first failure it keeps silent."""

    def __init__(self, config: Config, out: Path) -> None:
        self._run: Any = None
        self._try(lambda: self._start(config, out))

    def _start(self, config: Config, out: Path) -> None:
        import wandb

        mode: Any = os.environ.get("WANDB_MODE", "online" if _has_key() else "offline")
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
            log.warning("wandb is out of reach (%s); tracking goes on offline.", error)
            self._run = wandb.init(mode="offline", settings=wandb.Settings(silent=True), **settings)

    def _try(self, action: Callable[[], None]) -> None:
        try:
            action()
        except Exception as error:  # whatever a tracker does, the run goes on
            log.warning("Tracking stopped (%s); metrics.jsonl stays complete.", error)
            self._run = None

    def log(self, metrics: dict[str, Any]) -> None:
        """Report the metrics of an epoch."""
        if self._run is not None:
            self._try(lambda: self._run.log(metrics))

    def finish(self, result: dict[str, Any]) -> None:
        """Report the result's numbers as the run's summary and close."""
        if self._run is not None:
            plain = {k: v for k, v in result.items() if isinstance(v, int | float | str)}
            self._try(lambda: self._run.summary.update(plain))
            self._try(lambda: self._run.finish())


def _has_key() -> bool:
    if os.environ.get("WANDB_API_KEY"):
        return True
    try:
        return netrc.netrc().authenticators("api.wandb.ai") is not None
    except (OSError, netrc.NetrcParseError):
        return False


def open_tracker(config: Config, out: Path) -> Tracker:
    """The tracker that ``tracking`` names."""
    return WandbTracker(config, out) if config.tracking.name == "wandb" else Tracker()
