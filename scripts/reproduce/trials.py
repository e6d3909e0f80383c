"""The trials of a search as a Markdown table: the varied options and the validation accuracy.

python -m scripts.reproduce.trials <folder of the multirun>
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from snn_delays.config.options import options
from snn_delays.training.checkpoint import read_config
from snn_delays.training.run_files import RESULT_FILE

NOT_SHOWN = ("out", "name")


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    given = sys.argv[1:] if arguments is None else arguments
    if len(given) != 1:
        print(f"snn_delays: {__doc__}", file=sys.stderr)
        return 2
    runs = sorted(Path(given[0]).glob(f"*/{RESULT_FILE}"), key=lambda path: path.parent.name)
    if not runs:
        print(f"{given[0]} holds no finished run.", file=sys.stderr)
        return 2
    unselected = [path for path in runs if "valid" not in json.loads(path.read_text("utf-8"))]
    if unselected:
        print(f"{unselected[0]} has no validation accuracy to rank by.", file=sys.stderr)
        return 2
    print(table([path.parent for path in runs]))
    return 0


def table(runs: list[Path]) -> str:
    """Markdown, the best first."""
    results = [json.loads((run / RESULT_FILE).read_text("utf-8")) for run in runs]
    values = [{name: value for name, value, _ in options(read_config(run))} for run in runs]
    names = [
        name
        for name in values[0]
        if name not in NOT_SHOWN and len({str(value[name]) for value in values}) > 1
    ]
    rows = sorted(
        zip(runs, results, values, strict=True), key=lambda row: -row[1]["valid"]["accuracy"]
    )
    lines = [["trial", *names, "validation accuracy", "epoch"]]
    lines += [["---"] * len(lines[0])]
    for run, result, value in rows:
        accuracy = f"{result['valid']['accuracy']:.1%} (n = {result['valid']['n']})"
        shown = [_short(value[name]) for name in names]
        lines.append([run.name, *shown, accuracy, str(result["epoch"])])
    text = "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
    first = results[0]
    return (
        f"{text}\n\nCommit {first['commit']}, data {first['data_hash']}, {first['machine']['cpu']}."
    )


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    sys.exit(main())
