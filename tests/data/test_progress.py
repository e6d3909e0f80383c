"""How far work is, where there is no terminal."""

from __future__ import annotations

import io
import sys

from snn_delays.data import progress


def test_without_a_terminal_lines_say_how_far_work_is(monkeypatch, capsys) -> None:
    clock = iter(range(0, 1000, 6))  # seconds
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    assert list(progress.progress(range(9), "frames of words", 9, "samples")) == list(range(9))
    assert capsys.readouterr().err.splitlines() == [
        "frames of words: 2 of 9 samples, 63 s left",
        "frames of words: 5 of 9 samples, 29 s left",
        "frames of words: 8 of 9 samples, 7 s left",
    ]


def test_no_time_is_foretold_of_the_first_item(monkeypatch, capsys) -> None:
    clock = iter([0, 1, 90, 91])  # the first item starts processes
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    assert list(progress.progress(range(3), "encoding", 3, "files")) == list(range(3))
    assert capsys.readouterr().err.splitlines() == ["encoding: 2 of 3 files, 46 s left"]


def test_short_work_says_nothing(capsys) -> None:
    assert list(progress.progress(range(9), "frames", 9, "samples")) == list(range(9))
    assert not capsys.readouterr().err


def test_a_closed_standard_error_stops_no_work(monkeypatch) -> None:
    monkeypatch.setattr(progress, "INTERVAL", -1.0)
    closed = io.StringIO()
    bar = progress.progress(range(9), "frames", 9, "samples")
    monkeypatch.setattr(sys, "stderr", closed)
    closed.close()
    assert list(bar) == list(range(9))


def test_on_a_terminal_there_is_a_bar(monkeypatch) -> None:
    terminal = io.StringIO()
    monkeypatch.setattr(terminal, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(sys, "stderr", terminal)
    assert list(progress.progress(range(9), "frames", 9, "samples")) == list(range(9))
    assert "frames:   0%" in terminal.getvalue()
