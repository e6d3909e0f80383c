"""The end of a multirun: a table of its runs, or the best trial of a search."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from snn_delays.benchmark.suite import Member, Suite, named
from snn_delays.cli.overrides import unquoted
from snn_delays.config import result_options

LEFT_OUT = ("out", "train.test")  # options of a trial that a training with its options changes


def runs_table(options: Sequence[Sequence[str]], results: Sequence[dict[str, Any]]) -> str:
    """The table of a suite for the runs of a multirun; "" if no run has an accuracy or NRMSE.

    Args:
        options: of each run, the options in which it differs from others; runs that differ in
            their seed alone share a row.
        results: of each run, the result of ``train``.
    """
    from snn_delays.benchmark.results import table

    scores = {"accuracy", "nrmse"}
    split = "test" if all(scores & {*result} for result in results) else "validation"
    lines = []
    for own, result in zip(options, results, strict=True):
        score = result if split == "test" else {**result.get("valid", {}), "per_speaker_group": {}}
        score = {"per_speaker_group": {}, **score}
        if scores & {*score}:
            row = " ".join(o for o in own if named(o) != "seed") or result["name"]
            lines.append({**result, **score, "member": row, "config": _options_of(result)})
    if not lines:
        return ""
    members = {line["member"]: Member(line["member"], []) for line in lines}
    suite = Suite("", f"{len(lines)} runs", members, len({line["seed"] for line in lines}))
    return table(suite, lines, {}, split=split)


def _options_of(result: dict[str, Any]) -> dict[str, Any]:
    from snn_delays.training.checkpoint import read_config

    return result_options(read_config(Path(result["out"])))


def best_trial(trials: Sequence[tuple[Sequence[str], float | None]]) -> str:
    """The best trial of a search, in words, with a command that trains with its options.

    Args:
        trials: in their order, the overrides of each and its validation accuracy; None: it failed.
    """
    failed = sum(accuracy is None for _, accuracy in trials)
    counts = f"{len(trials)} trials, {failed} failed"
    done = [(accuracy, -n) for n, (_, accuracy) in enumerate(trials) if accuracy is not None]
    if not done:
        return f"{counts}."
    accuracy, negative = max(done)
    options = [o for o in trials[-negative][0] if named(o) not in LEFT_OUT]
    words = [shlex.quote(unquoted(option)) for option in [*options, "train.test=true"]]
    return (
        f"{counts}; the best is run {-negative}, validation accuracy {accuracy:.1%}. To train and"
        f" test with its options:\n  snn-delays train {' '.join(words)}"
    )
