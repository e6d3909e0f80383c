"""What the time of the paper's SHD run is spent on, and an epoch beside the authors' assembly.

Writes random recordings of SHD's number and length. `snn-delays train experiment=paper/shd` trains
on them in a new process, with the paper's protocol (the test set is evaluated after every epoch)
and the usual checkpoints. The kernels are compiled before, the frames are prepared in the run.

Then epochs with loading and evaluation alternate, each network in a process of its own: ours, that
of dcls + SpikingJelly + Adam on the same recordings, ours. --reference-epochs 0 leaves them out.
"""

from __future__ import annotations

import argparse
import functools
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from scripts.benchmarks.agreement import check_training
from scripts.benchmarks.common import (
    Columns,
    Report,
    Row,
    make_parser,
    positive,
    ratios,
    run,
    say,
    spread_of,
    summary,
)
from scripts.benchmarks.epoch import write_recordings
from scripts.benchmarks.epochs import Seconds, our_epochs, process_of, reference_epochs
from scripts.benchmarks.networks import SHD, SIZES, Problem, add_sizes
from scripts.benchmarks.timed_run import PARTS, Call
from snn_delays.errors import UserError

SHARES = {  # of a run's time; those between start and rest are parts of timed_run.py
    "start": "start",
    "steps": "steps",
    "waiting": "waiting for data",
    "evaluation": "evaluation",
    "checkpoints": "checkpoints",
    "end_of_epoch": "activity and metrics",
    "rest": "rest",
}
COLUMNS: Columns = {
    "network": lambda row: row["network"],
    "minutes": functools.partial(spread_of, key="minutes"),
    "epoch, s": functools.partial(spread_of, key="epoch_seconds"),
    "training, s": functools.partial(spread_of, key="training_seconds"),
    "evaluation, s": functools.partial(spread_of, key="evaluation_seconds"),
    "reference / ours": functools.partial(spread_of, key="ratio"),
    **{
        f"{title}, %": functools.partial(spread_of, key=f"{part}_percent")
        for part, title in SHARES.items()
    },
    "imports, s": functools.partial(spread_of, key="imports_seconds"),
    "preparing the frames, s": functools.partial(spread_of, key="frames_seconds"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    parser = make_parser("whole_run", __doc__, rounds=1)
    add = parser.add_argument
    add("--samples", type=positive, default=8156, help="recordings to train on (8156)")
    add("--tested", type=positive, default=2264, help="recordings to test on (2264)")
    add("--epochs", type=positive, default=150, help="of a run (150)")
    add("--reference-epochs", type=_count, default=1, metavar="N", help="of the reference (1)")
    add_sizes(parser, *SIZES)
    return run(parser, measure, arguments)


def _count(text: str) -> int:
    return 0 if text == "0" else positive(text)


def measure(options: argparse.Namespace) -> Report:
    """Check the network's numbers, then time runs, then epochs."""
    problem = SHD.as_asked(options)
    say("comparing the numbers")
    check_training("network", problem)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        say("writing the recordings")
        settings = _settings(folder, problem, options)
        say("a run of one epoch, which compiles the kernels")
        _whole_run(folder / "first", [*settings, "train.epochs=1"])
        rows = [_whole_runs(folder, settings, options)]
        if options.reference_epochs:
            rows += _by_turns(folder / "turns", problem, settings, options)
    return Report(_title(options), COLUMNS, rows)


def _settings(folder: Path, problem: Problem, options: argparse.Namespace) -> list[str]:
    """Write the recordings; returns the command's options, without folders and epochs."""
    train = write_recordings(folder / "train.h5", options.samples, problem)
    other = replace(problem, seed=problem.seed + 1)
    test = write_recordings(folder / "test.h5", options.tested, other)
    return [
        *("experiment=paper/shd", "data=spikes", "train.protocol=paper", "device=cpu"),
        *(f"data.train_file={train}", f"data.test_file={test}"),
        *(f"backend={problem.backend}", f"seed={problem.seed}"),
        f"model.hidden=[{','.join(map(str, problem.hidden))}]",
        *(f"model.taps={problem.taps}", f"train.batch_size={problem.batch}"),
    ]


def _folders(folder: Path) -> list[str]:
    """The options of a run that writes to this folder alone."""
    return [f"out={folder}/run", f"data.cache={folder}/cache"]


# ---- whole runs --------------------------------------------------------------------------------


def _whole_runs(folder: Path, settings: list[str], options: argparse.Namespace) -> Row:
    found = []
    for number in range(options.rounds):
        say(f"run {number + 1} of {options.rounds}")
        epochs = f"train.epochs={options.epochs}"
        found.append(_whole_run(folder / f"run{number}", [*settings, epochs]))
    return {
        "network": f"ours, a run of {options.epochs} epochs",
        **{name: summary([x for one in found for x in one[name]]) for name in found[0]},
    }


def _whole_run(folder: Path, settings: list[str]) -> dict[str, list[float]]:
    folder.mkdir()
    notes, started = folder / "notes.json", time.monotonic()
    code = _run([str(notes), *settings, *_folders(folder)])
    ended = time.monotonic()
    if code:
        raise UserError(f"The run ended with exit code {code}; its message stands above.")
    return account(json.loads(notes.read_text("utf-8")), started, ended)


def _run(arguments: list[str]) -> int:
    """Run timed_run.py in a new process, which prints to stderr; returns its exit code."""
    command = [sys.executable, "-m", "scripts.benchmarks.timed_run", *arguments]
    return subprocess.run(command, stdout=2).returncode


def account(notes: dict[str, Any], started: float, ended: float) -> dict[str, list[float]]:
    """What the time of a run was spent on.

    Args:
        notes: what timed_run.py wrote.
        started: when its process was started, by ``time.monotonic``.
        ended: when its process had ended.

    Returns:
        Minutes, percent of each of ``SHARES``, seconds of imports and of preparing the frames, one
        number each; and the seconds of every epoch, with its evaluation, checkpoints and metrics.
    """
    calls = [Call(*call) for call in notes["calls"]]
    (training,) = (call for call in calls if call.part == "training")
    seconds = {"start": training.began - started}
    for part in PARTS.keys() & SHARES.keys():
        seconds[part] = sum(call.seconds for call in calls if call.part == part)
    seconds["rest"] = ended - started - sum(seconds.values())
    ends = [call.ended for call in calls if call.part == "end_of_epoch"]
    return {
        "minutes": [(ended - started) / 60],
        "epoch_seconds": np.diff([training.began, *ends]).tolist(),
        **{f"{part}_percent": [100 * s / (ended - started)] for part, s in seconds.items()},
        "imports_seconds": [notes["imported"] - started],
        "frames_seconds": [sum(call.seconds for call in calls if call.part == "frames")],
    }


# ---- epochs by turns ---------------------------------------------------------------------------


def _by_turns(
    folder: Path, problem: Problem, settings: list[str], options: argparse.Namespace
) -> list[Row]:
    count = options.reference_epochs
    of_both = [*settings, f"train.epochs={max(options.epochs, count + 2)}", *_folders(folder)]
    with (
        process_of(our_epochs, of_both) as ours,
        process_of(reference_epochs, problem, of_both) as reference,
    ):
        say("an epoch of ours that is not counted")
        ours()
        found = {"ours": [ours()], "reference": []}
        for number in range(count):
            say(f"epoch {number + 1} of {count} of the reference")
            found["reference"].append(reference())
            found["ours"].append(ours())
    around = [(sum(before) + sum(after)) / 2 for before, after in pairwise(found["ours"])]
    return [
        _turns_row("ours, by turns", found["ours"]),
        _turns_row("dcls + SpikingJelly + Adam", found["reference"])
        | {"ratio": ratios([sum(epoch) for epoch in found["reference"]], around)},
    ]


def _turns_row(network: str, epochs: list[Seconds]) -> Row:
    training, after = zip(*epochs, strict=True)
    return {
        "network": network,
        "epoch_seconds": summary([sum(epoch) for epoch in epochs]),
        "training_seconds": summary(training),
        "evaluation_seconds": summary(after),
    }


def _title(options: argparse.Namespace) -> str:
    turns = (
        " An epoch contains loading and evaluation; ours contains checkpoints and metrics, too,"
        " under evaluation. The reference's frames lie in memory. Its epoch is compared with the"
        " mean of ours before and after it."
    )
    return (
        f"The paper's SHD run on {options.samples} random recordings, backend {options.backend},"
        f" float32; after every epoch it evaluates {options.tested} others. Percentages are of the"
        " run's time, from the start of its process to its end; start: up to the first epoch."
        f"{turns if options.reference_epochs else ''}"
    )


if __name__ == "__main__":
    sys.exit(main())
