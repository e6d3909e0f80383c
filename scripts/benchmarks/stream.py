"""A deployed network on a stream: are its spikes those of evaluation, and how long takes a step?

Every recording goes through the stream, step by step, and through the network in torch, in float32
and in float64, and every spike is compared. With --run the recordings are those that the run was
tested on, and its predictions are also compared with those of `snn-delays evaluate` (backend=auto,
batches as in training). Without, the network is SHD's with random weights and 10 % spikes,
BatchNorm calibrated on them.

A step is timed from Python, call by call; user time is that of the process.
"""

from __future__ import annotations

import argparse
import resource
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from scripts.benchmarks.common import (
    Columns,
    Disagreement,
    Report,
    Row,
    make_parser,
    positive,
    run,
    say,
    spread,
    summary,
)
from scripts.benchmarks.deployed import calibrated
from scripts.benchmarks.networks import SHD, SIZES, add_sizes, configure, random_batch
from snn_delays.analysis.trained_run import held_out_samples, open_run
from snn_delays.deploy import Deployed, Stream, from_network
from snn_delays.evaluate import evaluate
from snn_delays.nn import Network

SAMPLES = 20  # of a network with random weights, and of the recordings that are timed
TIE = 1e-4  # difference of the two greatest scores below which rounding may decide
COLUMNS: Columns = {
    "arithmetic": lambda row: row["arithmetic"],
    "recordings": lambda row: f"{row['recordings']:,}",
    "neuron steps": lambda row: f"{row['neuron_steps']:,}",
    "spikes": lambda row: f"{row['spikes']:,}",
    "spikes that differ": lambda row: str(row["spikes_differ"]),
    "predictions that differ": lambda row: str(row["predictions_differ"]),
    "ties": lambda row: str(row["ties"]),
    "step, median, us": lambda row: spread(row["median_us"]),
    "step, 99th percentile, us": lambda row: spread(row["p99_us"]),
    "step, user time, us": lambda row: spread(row["user_us"]),
}


@dataclass(frozen=True)
class Subject:
    """What is compared and timed.

    Attributes:
        network: in torch, in evaluation mode.
        deployed: the same network.
        frames: of every recording, [T, I].
        predictions: of ``snn-delays evaluate``, [N]; None: there is no run.
    """

    network: Network
    deployed: Deployed
    frames: list[NDArray[Any]]
    predictions: NDArray[np.int64] | None


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    parser = make_parser("stream", __doc__, rounds=5, default="event")
    parser.add_argument("--run", type=Path, metavar="FOLDER", help="run to take the network from")
    parser.add_argument("--samples", type=positive, help="recordings at most (all of a run)")
    add_sizes(parser, *SIZES)
    return run(parser, measure, arguments)


def measure(options: argparse.Namespace) -> Report:
    """Compare every spike, then time a step."""
    torch.set_num_threads(1)
    rows = []
    for dtype in (torch.float32, torch.float64):
        subject = (_random if options.run is None else _of_run)(options, dtype)
        say(f"{subject.deployed.arithmetic}: comparing {len(subject.frames):,} recordings")
        subject.network.set_backend(options.backend)
        row = _compared(subject)
        say(f"{subject.deployed.arithmetic}: timing")
        rows.append({**row, **_timed(subject, options.rounds)})
    sizes = "-".join(str(layer.outputs) for layer in subject.deployed.layers)
    name = "random weights" if options.run is None else options.run.name
    title = f"A deployed network ({name}; {sizes} neurons) on a stream, one thread."
    return Report(title, COLUMNS, rows)


def _of_run(options: argparse.Namespace, dtype: torch.dtype) -> Subject:
    opened = open_run(options.run)
    samples = held_out_samples(opened, options.run)
    if options.samples is not None:
        samples = samples.where(np.arange(len(samples)) < options.samples)
    network = opened.network.to(dtype)
    loader = opened.loader(samples)
    predictions = evaluate(network, type(loader)(**{**vars(loader), "dtype": dtype})).predictions
    deployed = from_network(network, opened.config, opened.classes, opened.steps)
    return Subject(network, deployed, [*map(samples.frames, range(len(samples)))], predictions)


def _random(options: argparse.Namespace, dtype: torch.dtype) -> Subject:
    problem = SHD.as_asked(options).resized(batch=options.samples or SAMPLES)
    network = calibrated(problem).to(dtype)
    classes = [str(k) for k in range(problem.classes)]
    deployed = from_network(network, configure(problem), classes, problem.steps)
    x_TBI, _ = random_batch(problem)
    return Subject(network, deployed, [*x_TBI.transpose(0, 1).numpy()], None)


def _compared(subject: Subject) -> Row:
    spikes = differ = wrong = ties = steps = 0
    stream = Stream(subject.deployed)
    for number, frames in enumerate(subject.frames):
        mine, decision = _streamed(stream, frames)
        scores, theirs = _evaluated(subject, frames)
        spikes += sum(int(s.sum()) for s in theirs)
        steps += sum(s.size for s in theirs)
        differ += sum(
            int((m[: len(t)] != t).sum() + (m[len(t) :] != 0).sum())
            for m, t in zip(mine, theirs, strict=False)
        )
        second, first = np.sort(scores)[-2:]
        ties += int(first - second < TIE)
        answers = [scores.argmax()]
        if subject.predictions is not None:
            answers.append(subject.predictions[number])
        wrong += sum(decision.number != answer for answer in answers)
    if differ or wrong:
        raise Disagreement(
            f"{subject.deployed.arithmetic}: {differ} of {spikes} spikes and {wrong} predictions"
            " differ from evaluation."
        )
    return {
        "arithmetic": subject.deployed.arithmetic,
        "recordings": len(subject.frames),
        "neuron_steps": steps,
        "spikes": spikes,
        "spikes_differ": differ,
        "predictions_differ": int(wrong),
        "ties": ties,
    }


def _streamed(stream: Stream, frames: NDArray[Any]) -> tuple[list[NDArray[Any]], Any]:
    """Every layer's output in every step, and the decision."""
    stream.reset()
    parts = []
    for frame in frames:
        stream.step(frame)
        parts.append([output.copy() for output in stream.outputs])
    decision = stream.finish()
    parts.append(stream.outputs)
    return [np.concatenate(layer) for layer in zip(*parts, strict=True)], decision


def _evaluated(subject: Subject, frames: NDArray[Any]) -> tuple[Any, list[NDArray[Any]]]:
    """Scores, and the hidden layers' spikes."""
    spikes: list[NDArray[Any]] = []
    hooks = [
        block.register_forward_hook(lambda m, i, o: spikes.append(o[:, 0].numpy()))
        for block in subject.network.blocks
    ]
    steps = max(len(frames), subject.deployed.steps or 0)
    x = np.zeros((steps, 1, frames.shape[1]), subject.deployed.dtype)
    x[: len(frames), 0] = frames
    with torch.no_grad():
        scores = subject.network(torch.from_numpy(x))[0].numpy()
    for hook in hooks:
        hook.remove()
    return scores, spikes


def _timed(subject: Subject, rounds: int) -> Row:
    stream = Stream(subject.deployed)
    frames = [f.astype(subject.deployed.dtype) for f in subject.frames[:SAMPLES]]
    of_rounds = [_round(stream, frames) for _ in range(rounds)]
    median, p99, user = zip(*of_rounds, strict=True)
    return {"median_us": summary(median), "p99_us": summary(p99), "user_us": summary(user)}


def _round(stream: Stream, frames: list[NDArray[Any]]) -> tuple[float, float, float]:
    """Median and 99th percentile of a step, and its user time, us."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_utime
    nanoseconds = [ns for recording in frames for ns in _steps(stream, recording)]
    user = (resource.getrusage(resource.RUSAGE_SELF).ru_utime - before) / len(nanoseconds)
    return (
        float(np.median(nanoseconds)) / 1e3,
        float(np.percentile(nanoseconds, 99)) / 1e3,
        user * 1e6,
    )


def _steps(stream: Stream, frames: NDArray[Any]) -> Iterator[int]:
    stream.reset()
    for frame in frames:
        start = time.perf_counter_ns()
        stream.step(frame)
        yield time.perf_counter_ns() - start


if __name__ == "__main__":
    sys.exit(main())
