"""A picture of what learned delays add over fixed random ones at equal parameters, in every suite.

    python -m scripts.reproduce.when_delays_pay.figure <file.png>

Reads the committed results.jsonl of each suite.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from snn_delays.benchmark.results import read_results
from snn_delays.benchmark.statistics import Comparison, compare

HERE = Path(__file__).parent
# What the network is asked, and the results, from this folder.
SUITES = {
    "words that differ in timing alone, 14 channels": "demo",
    "words that differ in timing alone, 140 channels": "channels_demo",
    "the side of a sound, 2 ears": "../timing/localisation",
    "spoken digits, 14 channels": "channels_14",
    "spoken digits, 35 channels": "channels_35",
    "spoken digits, 140 channels": "../fsdd",
    "spoken digits, 140 channels, 30 % of the synapses": "density_30",
    "spoken digits, 140 channels, 10 % of the synapses": "density_10",
    "spoken digits, 140 channels, 3 % of the synapses": "density_3",
}


def difference(folder: Path) -> Comparison:
    """Learned minus fixed delays at equal parameters, in points, paired by seed."""
    lines = read_results(folder / "results.jsonl")
    scores = {
        member: {line["seed"]: 100 * line["accuracy"] for line in lines if line["member"] == member}
        for member in ("learned", "fixed")
    }
    seeds = sorted(scores["learned"].keys() & scores["fixed"].keys())
    learned, fixed = ([scores[member][seed] for seed in seeds] for member in scores)
    return compare(learned, fixed)


def picture(found: dict[str, Comparison]) -> Figure:
    """A row for each suite: the mean difference and its 95 % interval."""
    figure = Figure(figsize=(8, 1 + 0.45 * len(found)), layout="constrained")
    axes = figure.subplots()
    for row, compared in enumerate(found.values()):
        d = compared.difference
        colour = "tab:gray" if d.low < 0 < d.high else "tab:blue"
        axes.plot([d.low, d.high], [row, row], color=colour, linewidth=2)
        axes.plot(d.mean, row, "o", color=colour)
        text = f"{d.mean:+.1f} [{d.low:+.1f}, {d.high:+.1f}]"
        axes.annotate(text, (1, row), xycoords=("axes fraction", "data"), va="center", fontsize=9)
    axes.axvline(0, color="black", linewidth=0.8)
    axes.set_yticks(range(len(found)), list(found))
    axes.invert_yaxis()
    axes.margins(x=0.05, y=0.12)
    figure.supxlabel(
        "accuracy of learned minus fixed random delays, equal parameters, points", fontsize=10
    )
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    parser = argparse.ArgumentParser(description="Draw what learned delays add in every suite.")
    parser.add_argument("file", help="picture to write, .png")
    path = parser.parse_args(arguments).file
    folders = {label: HERE / folder for label, folder in SUITES.items()}
    found = {
        label: difference(f) for label, f in folders.items() if (f / "results.jsonl").is_file()
    }
    picture(found).savefig(path, dpi=150)
    for label, compared in found.items():
        d = compared.difference
        print(f"{label}: {d.mean:+.1f} [{d.low:+.1f}, {d.high:+.1f}], n = {d.n}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
