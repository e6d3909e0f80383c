"""``snn-delays runs``: the runs in a folder, with their options and results."""

from __future__ import annotations

import copy
import csv
import functools
import json
import math
import shutil
import sys
import textwrap
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from snn_delays.cli.app import run_without_hydra
from snn_delays.cli.compose import compose
from snn_delays.cli.groups import groups
from snn_delays.config import DERIVED, Config, RunsConfig, shapes_result, with_derived
from snn_delays.config.datasets import kind_of
from snn_delays.config.options import options, shown
from snn_delays.errors import UserError
from snn_delays.training.run_files import RunSummary, find_runs, summarise_run

OWN_PLACE = ("seed", "data.name", "train.protocol")  # options that stand beside the changed ones
WIDEST_FOLDER = 40  # letters of the table's first column
DETAIL_LINES = 2  # of one run
INDENT = 4 * " "


def main() -> None:
    """Entry point."""
    run_without_hydra("runs", _runs)


def _runs(given: RunsConfig) -> None:
    folder = Path(given.source)
    if not folder.is_dir():
        raise UserError(f"There is no folder {folder}; name the folder of the runs by in=<folder>.")
    runs = []
    for place in find_runs(folder):
        try:
            runs.append(summarise_run(place))
        except UserError as error:
            print(f"left out: {error}", file=sys.stderr)
    runs.sort(key=lambda run: (_order(run, given.sort), run.modified))
    if given.format == "json":
        print(json.dumps([_values(run) for run in runs], indent=2))
    elif given.format == "csv":
        _write_csv(runs)
    else:
        print(_table(runs, folder))


def _order(run: RunSummary, sort: str) -> Any:
    if sort == "name":
        return str(run.folder)
    if sort == "time":
        return run.modified
    score = run.score or {"nrmse": math.inf}
    return score["accuracy"] if "accuracy" in score else -score["nrmse"]


# ---- the values of a run -----------------------------------------------------------------------


def _values(run: RunSummary) -> dict[str, Any]:
    config, score = run.config, run.score or {}
    low, high = score.get("interval", (None, None))
    return {
        "run": str(run.folder),
        "name": config.name,
        "seed": config.seed,
        "data": config.data.name,
        "protocol": config.train.protocol,
        "state": run.state,
        "epochs": run.epochs,
        "of_epochs": config.train.epochs,
        "accuracy": score.get("accuracy"),
        "low": low,
        "high": high,
        "nrmse": score.get("nrmse"),
        "n": score.get("n"),
        "accuracy_of": _split(run),
        "changed": _changed(config),
    }


def _split(run: RunSummary) -> str | None:
    """The recordings of the accuracy: "test", "test-selected" or "validation"."""
    if run.score is None:
        return None
    if run.score is not run.result:
        return "validation"
    return "test-selected" if run.config.selection == "test-selected" else "test"


def _changed(config: Config) -> dict[str, Any]:
    """The options that shape the result and differ from the experiment of this name.

    Without such an experiment, from the defaults with the same data set.
    """
    base = _usual(config.name, config.data.name)
    usual = {name: value for name, value, _ in options(base)}
    usual |= {name: value for name, value, _ in options(_derived(config, base)) if name in DERIVED}
    return {
        name: value
        for name, value, _ in options(config)
        if value != usual[name] and shapes_result(name) and name not in OWN_PLACE
    }


def _derived(config: Config, base: Config) -> Config:
    """``config``, in which ``base`` says anew whether and how an option follows from others."""
    made = copy.deepcopy(config)
    for name in DERIVED:
        group, _, key = name.partition(".")
        setattr(getattr(made, group), key, getattr(getattr(base, group), key))
    return with_derived(made)


@functools.cache
def _usual(name: str, data: str) -> Config:
    """The options of the experiment called ``name``, or the defaults with this data set."""
    experiments = {e.replace("/", "_"): e for e in groups("train")["experiment"]}
    if name in experiments:
        overrides = [f"experiment={experiments[name]}"]
    elif data in groups("train")["data"]:
        needed = kind_of(data).needs
        overrides = [f"data={data}", *(f"data.{option}=x" for option in needed)]
    else:
        overrides = []
    made: Config = compose("train", overrides)
    return made


# ---- the list ----------------------------------------------------------------------------------


def _write_csv(runs: Sequence[RunSummary]) -> None:
    rows = [{**values, "changed": _as_options(values["changed"])} for values in map(_values, runs)]
    names = list(rows[0]) if rows else ["run"]
    writer = csv.DictWriter(sys.stdout, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)


def _as_options(changed: dict[str, Any]) -> str:
    """Options as a command line has them."""
    return " ".join(f"{name}={shown(value)}" for name, value in changed.items())


def _table(runs: Sequence[RunSummary], folder: Path) -> str:
    if not runs:
        return f"There is no run in {folder}."
    width = min(max(len(str(run.folder)) for run in runs), WIDEST_FOLDER)
    lines = [f"{'run':{width}}  seed  accuracy [95 % interval], or state"]
    for run in runs:
        lines.append(f"{run.folder!s:{width}}  {run.config.seed:4}  {_result(run)}")
        lines += _details(run)
    counts = Counter(run.state for run in runs)
    states = ", ".join(f"{count} {state}" for state, count in counts.items())
    return "\n".join([*lines, f"{len(runs)} run{'s' * (len(runs) > 1)} in {folder}: {states}"])


def _result(run: RunSummary) -> str:
    if run.score is not None and "nrmse" in run.score:
        return f"NRMSE {run.score['nrmse']:.4f} {_split(run)}"
    if run.score is not None:
        low, high = run.score["interval"]
        interval = f"[{100 * low:.1f}, {100 * high:.1f}]"
        return f"{100 * run.score['accuracy']:.1f} % {interval} {_split(run)}"
    if run.state == "finished":
        return "finished, not tested"
    reached = "in the refit" if run.epochs > run.config.train.epochs else f"at epoch {run.epochs}"
    return f"{run.state} {reached} of {run.config.train.epochs}"


def _details(run: RunSummary) -> list[str]:
    config = run.config
    source = config.data.train_file or config.data.folder
    data = f"{config.data.name} ({Path(source).name})" if source else config.data.name
    told = f"{config.name}, {data}, {config.train.protocol}: {_as_options(_changed(config))}"
    return textwrap.wrap(
        told.rstrip(": "),
        shutil.get_terminal_size().columns,
        initial_indent=INDENT,
        subsequent_indent=INDENT,
        max_lines=DETAIL_LINES,
        placeholder=" ...",
        break_long_words=False,
        break_on_hyphens=False,
    )


if __name__ == "__main__":
    main()
