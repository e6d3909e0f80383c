"""Compare the numbers of two results.jsonl bit by bit; times are ignored.

    python -m scripts.reproduce.same <results.jsonl> <results.jsonl>

Runs that only one of the files has are skipped. The exit code is 1 if any number differs.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from snn_delays.benchmark.results import read_results, reproducible_values


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    given = sys.argv[1:] if arguments is None else arguments
    if len(given) != 2:
        print(f"snn_delays: {__doc__}", file=sys.stderr)
        return 2
    first, second = (
        {
            (line["member"], line["seed"]): reproducible_values(line)
            for line in read_results(Path(path))
        }
        for path in given
    )
    shared = [run for run in first if run in second]
    differ = [
        f"{member}, seed {seed}"
        for member, seed in shared
        if first[member, seed] != second[member, seed]
    ]
    print(
        f"{len(shared)} runs in both, {len(differ)} of them different. {'; '.join(differ)}".strip()
    )
    return 1 if differ or not shared else 0


if __name__ == "__main__":
    sys.exit(main())
