"""Fixtures of the tests of commands."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def _no_learning_curves(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trainings draw no curves, which takes longer than the trainings; test_analyse has a test."""
    monkeypatch.setattr("snn_delays.analysis.curves.write_learning_curve", lambda folder: None)
