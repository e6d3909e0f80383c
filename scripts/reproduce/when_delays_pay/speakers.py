"""One speaker left out in turn: one file of all recordings, and a table over the speakers.

    python -m scripts.reproduce.when_delays_pay.speakers join <folder of fsdd> <file to write>
    python -m scripts.reproduce.when_delays_pay.speakers table <folder of the suites>

``join`` writes the recordings of fsdd_train.h5 and fsdd_test.h5 into one file. ``table`` reads
<folder>/<n>/results.jsonl of ``suite=when_speakers`` with ``data.test_fold=<n>``, and compares the
networks by the accuracies of each speaker, means over the seeds.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from snn_delays.benchmark.results import Line, read_results
from snn_delays.benchmark.statistics import PERCENT, Summary, compare, summarise
from snn_delays.benchmark.suite import Suite, load_suite
from snn_delays.cli.groups import SUITES, config_folder
from snn_delays.data.formats.spike_file import SpikeFile, write_spikes
from snn_delays.data.splits import sort_names
from snn_delays.errors import UserError

FILES = ("fsdd_train.h5", "fsdd_test.h5")


def join(folder: Path, path: Path) -> None:
    """Write the recordings of both files into one, with the names of their speakers.

    Raises:
        UserError: a file is missing or damaged, has other classes than the first, or no speakers;
            or ``path`` exists.
    """
    if path.exists():
        raise UserError(f"{path} is there already.")
    files = [SpikeFile(folder / name) for name in FILES]
    for file in files:
        if file.classes != files[0].classes:
            raise UserError(f"{file.path} and {files[0].path} name other classes.")
        if file.speakers is None:
            raise UserError(f"{file.path} has no speakers (extra/speaker).")
    speakers = np.concatenate([file.speakers for file in files])
    names = sort_names(np.unique(speakers))
    write_spikes(
        path,
        itertools.chain.from_iterable(file.spikes() for file in files),
        np.concatenate([file.labels for file in files]),
        files[0].classes,
        np.array([names.index(speaker) for speaker in speakers]),
        names,
        times=np.float32,
    )


def table(suite: Suite, folder: Path) -> str:
    """Markdown: a row for each speaker, and the baseline minus the others over the speakers.

    Raises:
        UserError: no speaker has a seed that every network was trained with.
    """
    rows: list[list[str]] = []
    accuracies: dict[str, list[float]] = {key: [] for key in suite.members}
    for path in sorted(folder.glob("[0-9]*/results.jsonl"), key=lambda p: int(p.parent.name)):
        scores = _shared_scores(suite, read_results(path))
        if scores:
            means = [float(np.mean([score[key] for score in scores])) for key in suite.members]
            for values, mean in zip(accuracies.values(), means, strict=True):
                values.append(mean)
            rows.append([path.parent.name, str(len(scores)), *(f"{m:.1f} %" for m in means)])
    if not rows:
        raise UserError(f"{folder}/<n>/results.jsonl: no seed was trained with every network.")
    heads = ["speaker left out", "seeds", *(member.label for member in suite.members.values())]
    overall = ["mean", "", *(_shown(summarise(v, PERCENT), "") for v in accuracies.values())]
    lines = [f"| {' | '.join(cells)} |" for cells in (heads, ["---"] * len(heads), *rows, overall)]
    base = accuracies.pop(str(suite.baseline))
    lines += ["", f"**{suite.members[str(suite.baseline)].label}** minus each other network:", ""]
    for key, values in accuracies.items():
        c = compare(base, values, PERCENT)
        label, shown = suite.members[key].label, _shown(c.difference, "+")
        lines.append(f"- {label}: {shown}, p = {c.p:.3f}, paired over {len(base)} speakers")
    return "\n".join(lines)


def _shared_scores(suite: Suite, lines: list[Line]) -> list[dict[str, float]]:
    """The accuracy of each network, for every seed that all networks have."""
    by_seed: dict[int, dict[str, float]] = {}
    for line in lines:
        by_seed.setdefault(line["seed"], {})[line["member"]] = 100 * line["accuracy"]
    return [scores for scores in by_seed.values() if scores.keys() >= suite.members.keys()]


def _shown(summary: Summary, sign: str) -> str:
    f = f"{sign}.1f"
    return f"{summary.mean:{f}} [{summary.low:{f}}, {summary.high:{f}}]"


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        match given:
            case ["join", folder, path]:
                join(Path(folder), Path(path))
            case ["table", folder]:
                print(table(load_suite(config_folder() / SUITES, "when_speakers"), Path(folder)))
            case _:
                raise UserError(str(__doc__))
    except UserError as error:
        print(f"snn_delays: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
