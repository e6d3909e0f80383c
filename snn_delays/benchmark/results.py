"""What the runs of a suite gave: a line of JSON for each, and the table made from the lines."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from snn_delays.benchmark.jobs import Job
from snn_delays.benchmark.statistics import Comparison, Summary, compare, holm, summarise
from snn_delays.benchmark.suite import Suite
from snn_delays.config import shaping
from snn_delays.files import replace_file
from snn_delays.train.folder import read_result
from snn_delays.train.loop import METRICS_FILE

RESULTS_FILE = "results.jsonl"
TABLE_FILE = "table.md"
TIMES = ("seconds", "samples_per_second")  # what differs from one run to its repetition
Line = dict[str, Any]


def read_line(job: Job) -> Line | None:
    """All that is known of a finished run, or None: its result, options and every epoch."""
    result = read_result(job.out)
    if result is None:
        return None
    epochs = [json.loads(line) for line in (job.out / METRICS_FILE).read_text().splitlines()]
    for epoch in epochs:
        epoch.pop("delays", None)  # the trace stays in the run's folder
    made = {"member": job.member, "seed": job.config.seed}
    return {**made, **result, "config": shaping(job.config), "epochs": epochs}


def write_results(out: Path, lines: list[Line]) -> None:
    """Make ``<out>/results.jsonl`` these lines."""
    text = "".join(json.dumps(line) + "\n" for line in lines)
    replace_file(out / RESULTS_FILE, text.encode())


def read_results(path: Path) -> list[Line]:
    """The lines of a results.jsonl."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def numbers(line: Line) -> Line:
    """What a repetition on the same machine must give again, bit by bit."""
    kept = ("member", "seed", "accuracy", "loss", "per_class", "per_speaker_group", "epoch")
    epochs = [{k: v for k, v in e.items() if k not in TIMES} for e in line["epochs"]]
    return {**{key: line[key] for key in kept if key in line}, "epochs": epochs}


# ---- the table ---------------------------------------------------------------------------------


def table(suite: Suite, lines: list[Line], failures: dict[str, str]) -> str:
    """Markdown: a row a member, the pairs, and how it was made.

    Args:
        suite: its members, in order.
        lines: of the finished runs.
        failures: why runs failed, by title.
    """
    rows = {key: [ln for ln in lines if ln["member"] == key] for key in suite.members}
    present = {key: found for key, found in rows.items() if found}
    parts = [f"# {suite.title}"]
    if present:
        groups = _groups(lines)
        parts += ["\n".join(_rows(suite, present, groups)), _legend(lines)]
        parts += [_pairs(suite, present, group) for group in groups]
        parts.append(_made(lines))
    missing = [suite.members[key].label for key, found in rows.items() if not found]
    if missing:
        parts.append(f"Without a result so far: {', '.join(missing)}.")
    parts += [f"**Failed**: {title}: {why}" for title, why in failures.items()]
    return "\n\n".join(part for part in parts if part) + "\n"


def _groups(lines: list[Line]) -> list[str]:
    """The groups of samples that every run has a score of; "all" first."""
    shared = [set(line["per_speaker_group"]) for line in lines]
    return ["all", *sorted(set.intersection(*shared))]


def _accuracy(line: Line, group: str) -> float:
    score = line if group == "all" else line["per_speaker_group"][group]
    return 100 * float(score["accuracy"])


def _size(line: Line, group: str) -> int:
    return int((line if group == "all" else line["per_speaker_group"][group])["n"])


def _rows(suite: Suite, rows: dict[str, list[Line]], groups: list[str]) -> Iterable[str]:
    published = any(member.published for member in suite.members.values())
    samples = next(iter(rows.values()))[0]
    heads = [f"{group} (n = {_size(samples, group):,})" for group in groups]
    columns = ["network", "parameters", "seeds", *heads, "minutes a run"]
    columns += ["published"] if published else []
    yield f"| {' | '.join(columns)} |"
    yield f"|{'---|' * len(columns)}"
    for key, lines in rows.items():
        member = suite.members[key]
        note = " (test-selected)" if _is_test_selected(lines) else ""
        cells = [member.label, _several(f"{ln['parameters']:,}" for ln in lines), str(len(lines))]
        for group in groups:
            cells.append(_percent(summarise([_accuracy(ln, group) for ln in lines])) + note)
        minutes = summarise([ln["seconds"] / 60 for ln in lines]).mean
        cells += [f"{minutes:.1f}", *([member.published] if published else [])]
        yield f"| {' | '.join(cells)} |"


def _is_test_selected(lines: list[Line]) -> bool:
    return any(line["selection"] == "test-selected" for line in lines)


def _percent(summary: Summary) -> str:
    if summary.n < 2:
        return f"{summary.mean:.1f} %"
    interval = f"[{summary.low:.1f}, {summary.high:.1f}]"
    return f"{summary.mean:.1f} ± {summary.std:.1f} % {interval}"


def _legend(lines: list[Line]) -> str:
    chosen = _several(line["selection"] for line in lines)
    return (
        "Test accuracy of the deployed networks (rounded delays): mean ± standard deviation over"
        " seeds [95 % interval of the mean, Student's t]. The interval is over seeds: all see the"
        f" same recordings. Epochs: {chosen}."
    )


def _pairs(suite: Suite, rows: dict[str, list[Line]], group: str) -> str:
    """The baseline against every other on the seeds that both have."""
    base = suite.baseline
    others = [key for key in rows if key != base]
    if base not in rows or not others:
        return ""
    compared = {}
    for key in others:
        seeds = sorted({ln["seed"] for ln in rows[base]} & {ln["seed"] for ln in rows[key]})
        if len(seeds) > 1:
            a, b = (
                [_accuracy(ln, group) for s in seeds for ln in rows[k] if ln["seed"] == s]
                for k in (base, key)
            )
            compared[key] = compare(a, b)
    if not compared:
        return ""
    corrected = holm([c.p for c in compared.values()])
    lines = [
        f"**{suite.members[base].label}** less each other, {group}, by pairs of one seed:",
        "",
        "| less | seeds | points [95 % interval] | effect (d_z) | p | p (Holm) |",
        "|---|---|---|---|---|---|",
    ]
    for (key, c), p in zip(compared.items(), corrected, strict=True):
        selected = _is_test_selected([*rows[base], *rows[key]])
        lines.append(_pair(suite.members[key].label, c, p, " (test-selected)" if selected else ""))
    return "\n".join(lines)


def _pair(label: str, compared: Comparison, corrected: float, note: str) -> str:
    d = compared.difference
    interval = f"{d.mean:+.1f} [{d.low:+.1f}, {d.high:+.1f}]{note}"
    effect = "∞" if math.isinf(compared.effect) else f"{compared.effect:.1f}"
    return f"| {label} | {d.n} | {interval} | {effect} | {_p(compared.p)} | {_p(corrected)} |"


def _p(value: float) -> str:
    return f"{value:.4f}" if value >= 0.0001 else "< 0.0001"


def _made(lines: list[Line]) -> str:
    """How the numbers came about."""
    first = lines[0]
    versions = ", ".join(f"{name} {version}" for name, version in first["versions"].items())
    return (
        f"Made by commit {_several(str(ln['commit']) for ln in lines)}; data"
        f" {_several(ln['data_hash'] for ln in lines)};"
        f" {_several(ln['machine']['cpu'] for ln in lines)},"
        f" {_several(str(ln['machine']['threads']) for ln in lines)} threads a run; {versions}."
    )


def _several(values: Iterable[str]) -> str:
    return ", ".join(dict.fromkeys(values))
