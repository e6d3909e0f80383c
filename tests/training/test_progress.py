"""The time left of a training."""

from __future__ import annotations

import fcntl
import io
import os
import struct
import termios

import pytest

from snn_delays.training import progress
from snn_delays.training.epoch_metrics import Sums
from snn_delays.training.progress import Progress

METRICS = {"train_loss": 1.0, "train_accuracy": 0.5, "samples_per_second": 9.0, "selection": ""}


@pytest.fixture
def clock(monkeypatch) -> list[float]:
    """Seconds, at [0]."""
    now = [100.0]
    monkeypatch.setattr(progress.time, "perf_counter", lambda: now[0])
    monkeypatch.setattr("tqdm.std.time", lambda: now[0])
    return now


def train(
    clock: list[float], bar: Progress, epoch: int, first: float, batches: int, evaluation: float = 0
) -> None:
    """Batches of a second each, of which the first takes ``first``; then an evaluation."""
    for n in range(batches):
        clock[0] += 1.0 if n else first
        bar.batch(epoch, lambda: Sums(loss=1.0, correct=1, seen=2, seconds=1.0))
    clock[0] += evaluation
    bar.epoch({**METRICS, "epoch": epoch})


def test_the_first_batch_which_compiles_does_not_count(clock, capsys) -> None:
    bar = Progress(3, 5, "train")
    train(clock, bar, 1, 60.0, 5)
    train(clock, bar, 2, 1.0, 5)
    first, second = capsys.readouterr().out.splitlines()
    assert first.endswith("  0:10 left")
    assert second.endswith("  0:05 left")


def test_the_first_evaluation_which_compiles_does_not_count(clock, capsys) -> None:
    bar = Progress(3, 5, "train")
    train(clock, bar, 1, 60.0, 5, evaluation=90.0)
    train(clock, bar, 2, 1.0, 5, evaluation=2.0)
    first, second = capsys.readouterr().out.splitlines()
    assert first.endswith("  0:10 left")
    assert second.endswith("  0:07 left")  # 5 s of batches, 2 s of evaluation


def test_after_a_resume_the_batches_of_this_process_count(clock, capsys) -> None:
    bar = Progress(2, 6, "train", done=2)
    train(clock, bar, 1, 60.0, 4)
    assert capsys.readouterr().out.endswith("  0:06 left\n")


def test_nothing_is_said_where_no_batch_was_timed(clock, capsys) -> None:
    bar = Progress(3, 5, "train", done=4)
    train(clock, bar, 1, 60.0, 1, evaluation=90.0)
    assert capsys.readouterr().out.endswith("9 samples/s\n")


def test_epochs_of_one_batch_count_from_the_start(clock, capsys) -> None:
    train(clock, Progress(3, 1, "train"), 1, 4.0, 1)
    assert capsys.readouterr().out.endswith("  0:08 left\n")


def test_the_bar_counts_every_batch_and_times_those_after_the_first(clock, monkeypatch) -> None:
    terminal = io.StringIO()
    monkeypatch.setattr(terminal, "isatty", lambda: True, raising=False)
    monkeypatch.setattr("sys.stderr", terminal)
    bar = Progress(2, 5, "train")
    train(clock, bar, 1, 60.0, 3)
    assert "3/10 batches, 00:07 left" in str(bar._bar)
    bar.close()


def on_screen(written: str, columns: int) -> list[str]:
    """The rows of a terminal of this width after ``written``."""
    rows, column = [""], 0
    for letter in written:
        if letter == "\r":
            column = 0
        elif letter == "\n" or column == columns:
            rows, column = [*rows, ""], 0
        if letter not in "\r\n":
            rows[-1] = f"{rows[-1][:column]:{column}}{letter}{rows[-1][column + 1 :]}"
            column += 1
    return [row.rstrip() for row in rows]


def read_all(terminal, screen) -> str:
    """What was written to the terminal since the last call; it may arrive in pieces."""
    end, written = b"\x04", b""
    print(end.decode(), end="", file=terminal, flush=True)
    while not written.endswith(end):
        written += screen.read(4096)
    return written[:-1].decode()


@pytest.mark.parametrize("columns", [40, 60, 120])
def test_the_bar_leaves_nothing_on_the_screen(columns, clock, monkeypatch) -> None:
    reader, writer = os.openpty()
    fcntl.ioctl(writer, termios.TIOCSWINSZ, struct.pack("4H", 24, columns, 0, 0))
    with open(writer, "w", encoding="utf-8") as terminal, open(reader, "rb", 0) as screen:
        monkeypatch.setattr("sys.stderr", terminal)
        monkeypatch.setattr("sys.stdout", terminal)
        bar = Progress(2, 3, "train")
        train(clock, bar, 1, 60.0, 3)
        train(clock, bar, 2, 1.0, 3)
        written = read_all(terminal, screen)
        assert on_screen(written, columns)[-1].startswith("train 2/2 |")
        bar.close()
        print("done", file=terminal)
        written += read_all(terminal, screen)
    line = "train   1/2  loss 1.0000  accuracy  50.0%  9 samples/s"
    rows = [text[n : n + columns].rstrip() for text in (line, line.replace("1/2", "2/2"))
            for n in range(0, len(text), columns)]  # fmt: skip
    assert on_screen(written, columns) == [*rows, "done", ""]


def test_the_bar_leaves_out_the_first_evaluation(clock, monkeypatch) -> None:
    terminal = io.StringIO()
    monkeypatch.setattr(terminal, "isatty", lambda: True, raising=False)
    monkeypatch.setattr("sys.stderr", terminal)
    monkeypatch.setattr("sys.stdout", io.StringIO())
    bar = Progress(3, 5, "train")
    train(clock, bar, 1, 60.0, 5, evaluation=90.0)
    clock[0] += 1.0
    bar.batch(2, lambda: Sums(loss=1.0, correct=1, seen=2, seconds=1.0))
    assert "6/15 batches, 00:09 left" in str(bar._bar)
    bar.close()
