"""Fixtures of the tests of commands."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def _no_learning_curves(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trainings draw no curves, which takes longer than the trainings; test_analyse has a test."""
    monkeypatch.setattr("snn_delays.analysis.curves.write_learning_curve", lambda folder: None)


@pytest.fixture(autouse=True)
def _loggers_stay_enabled() -> Iterator[None]:
    """Hydra disables all loggers at its start, and enables them when its first job starts."""
    yield
    for logger in [*logging.root.manager.loggerDict.values()]:
        if isinstance(logger, logging.Logger):
            logger.disabled = False
