"""The results of a suite: a line of JSON per run, and a table made from the lines."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from snn_delays.benchmark.jobs import Job
from snn_delays.benchmark.statistics import (
    MIN_SEEDS,
    PERCENT,
    Comparison,
    Summary,
    compare,
    holm,
    summarise,
)
from snn_delays.benchmark.suite import Suite
from snn_delays.config import result_options
from snn_delays.documents import read_json_lines
from snn_delays.errors import UserError
from snn_delays.files import replace_file
from snn_delays.training.checkpoint import read_config
from snn_delays.training.run_files import METRICS_FILE, RESULT_FILE
from snn_delays.training.run_folder import read_metrics, read_result

RESULTS_FILE = "results.jsonl"
TABLE_FILE = "table.md"
DIVISION = (
    "split", "fold", "split_seed", "valid_speakers", "valid_count", "valid_share", "test_speakers",
    "test_fold", "test_share",
)  # fmt: skip
TIMES = ("seconds", "samples_per_second")  # values that differ when a run is repeated
Line = dict[str, Any]


def read_line(job: Job) -> Line | None:
    """The result, options and epochs of a finished run; None if it has not finished.

    Raises:
        UserError: a file of the run is missing or damaged.
    """
    result = read_result(job.out)
    if result is None:
        return None
    path = job.out / METRICS_FILE
    try:
        epochs = read_metrics(job.out, result)
        for key in ("accuracy", "n", "per_speaker_group", "seconds", "commit", "data_hash"):
            result[key]
        result["machine"]["cpu"], result["machine"]["threads"], result["versions"].items()
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{path} or {RESULT_FILE} beside it, of a finished run, is missing or damaged; remove"
            f" {job.out}, and the same command trains the run again."
        ) from error
    for epoch in epochs:
        epoch.pop("delays", None)  # these statistics stay in the run's folder
    made = {"member": job.member, "seed": job.config.seed}
    return {
        **made,
        **job.account,
        **result,
        "config": result_options(read_config(job.out)),
        "epochs": epochs,
    }


def write_results(out: Path, lines: list[Line]) -> None:
    """Write the lines to ``<out>/results.jsonl``."""
    text = "".join(json.dumps(line) + "\n" for line in lines)
    replace_file(out / RESULTS_FILE, text.encode())


def read_results(path: Path) -> list[Line]:
    """The lines of a results.jsonl."""
    return read_json_lines(path)


def reproducible_values(line: Line) -> Line:
    """The values of a line that a repetition on the same machine must give bit by bit."""
    kept = ("member", "seed", "accuracy", "loss", "per_class", "per_speaker_group", "epoch")
    epochs = [{k: v for k, v in e.items() if k not in TIMES} for e in line["epochs"]]
    return {**{key: line[key] for key in kept if key in line}, "epochs": epochs}


# ---- the table ---------------------------------------------------------------------------------


def table(
    suite: Suite,
    lines: list[Line],
    failures: dict[str, str],
    given: Sequence[str] = (),
    split: str = "test",
) -> str:
    """The table in Markdown: a row per member, the paired comparisons, and the provenance.

    Args:
        suite: its members, in order.
        lines: lines of the finished runs.
        failures: the reasons of failed runs, by the run's title.
        given: options from the command line that affect the results.
        split: "test" or "validation", the recordings of the accuracies.
    """
    rows = {key: [ln for ln in lines if ln["member"] == key] for key in suite.members}
    present = {key: found for key, found in rows.items() if found}
    sections = [f"# {suite.title}"]
    if present:
        groups = _groups(lines)
        published = not given and any(m.published for m in suite.members.values())
        sections += [
            "\n".join(_rows(suite, present, groups, published)),
            _legend(lines, groups, split),
            _searches(suite, present),
        ]
        if len({line["data_hash"] for line in lines}) == 1:
            sections += [_pairs(suite, present, group) for group in groups]
        else:
            sections.append("Rows are not compared, since their data differ.")
        sections.append(_made(lines, given))
    missing = [suite.members[key].label for key, found in rows.items() if not found]
    if missing:
        sections.append(f"Without a result so far: {', '.join(missing)}.")
    sections += [f"**Failed**: {title}: {why}" for title, why in failures.items()]
    return "\n\n".join(section for section in sections if section) + "\n"


def _groups(lines: list[Line]) -> list[str]:
    """ "all", and the groups of speakers whose samples are the same in every run."""
    shared = set.intersection(*(set(line["per_speaker_group"]) for line in lines))
    divided = {json.dumps(_division(line), sort_keys=True) for line in lines}
    alike = [g for g in shared if len({_size(line, g) for line in lines}) == len(divided) == 1]
    return ["all", *sorted(alike)]


def _division(line: Line) -> Line:
    """The data's hash, and the options that choose the held-out speakers."""
    data = line["config"]["data"]
    return {"hash": line["data_hash"], **{key: data.get(key) for key in DIVISION}}


def _accuracy(line: Line, group: str) -> float:
    score = line if group == "all" else line["per_speaker_group"][group]
    return 100 * float(score["accuracy"])


def _size(line: Line, group: str) -> int:
    return int((line if group == "all" else line["per_speaker_group"][group])["n"])


def _rows(
    suite: Suite, rows: dict[str, list[Line]], groups: list[str], published: bool
) -> Iterable[str]:
    every = [line for lines in rows.values() for line in lines]
    sizes = [_several(f"{_size(line, group):,}" for line in every) for group in groups]
    heads = [f"{group} (n = {size})" for group, size in zip(groups, sizes, strict=True)]
    buffers = _know_buffers(every)
    latency = _know_latency(every)
    columns = ["network", "parameters", "seeds", *heads]
    columns += ["at the last input", "latency, ms"] if latency else []
    columns += ["delay buffer, bytes"] if buffers else []
    columns += ["minutes a run"]
    columns += ["published"] if published else []
    yield f"| {' | '.join(columns)} |"
    yield f"|{'---|' * len(columns)}"
    for key, lines in rows.items():
        member = suite.members[key]
        note = " (test-selected)" if _is_test_selected(lines) else ""
        counts = sorted({ln["parameters"] for ln in lines})
        shown = " to ".join(f"{n:,}" for n in dict.fromkeys([counts[0], counts[-1]]))
        cells = [member.label, shown, str(len(lines))]
        for group in groups:
            cells.append(
                _percent(summarise([_accuracy(ln, group) for ln in lines], PERCENT)) + note
            )
        if latency:
            asked = [100 * ln["latency"]["at_last_input"]["accuracy"] for ln in lines]
            times = summarise([ln["latency"]["ms"] for ln in lines])
            spread = f" ± {times.std:.0f}" if times.n > 1 else ""
            cells += [_percent(summarise(asked, PERCENT)) + note, f"{times.mean:.0f}{spread}{note}"]
        if buffers:
            cells.append(f"{summarise([ln['delay_buffer_bytes'] for ln in lines]).mean:,.0f}")
        minutes = summarise([ln["seconds"] / 60 for ln in lines]).mean
        cells += [f"{minutes:.1f}", *([member.published] if published else [])]
        yield f"| {' | '.join(map(_cell, cells))} |"


def _know_latency(lines: list[Line]) -> bool:
    return all("latency" in line for line in lines)  # earlier versions did not measure it


def _know_buffers(lines: list[Line]) -> bool:
    return all("delay_buffer_bytes" in line for line in lines)  # earlier versions noted none


def _cell(text: str) -> str:
    """Text for a cell of a table: on one line, with | escaped."""
    return " ".join(text.split()).replace("|", r"\|")


def _is_test_selected(lines: list[Line]) -> bool:
    return any(line["selection"] == "test-selected" for line in lines)


def _percent(summary: Summary) -> str:
    if summary.n < 2:
        return f"{summary.mean:.1f} %"
    interval = f"[{summary.low:.1f}, {summary.high:.1f}]"
    return f"{summary.mean:.1f} ± {summary.std:.1f} % {interval}"


def _legend(lines: list[Line], groups: list[str], split: str) -> str:
    chosen = _several(line["selection"] for line in lines)
    others = sorted({g for line in lines for g in line["per_speaker_group"]} - set(groups))
    buffer = (
        " Delay buffer: the memory, mean over seeds, in which a deployed network keeps each layer's"
        " inputs and the spikes of recurrent neurons, each for 1 + its longest delay in steps, a"
        " byte a step."
    )
    latency = (
        " At the last input: accuracy of the running decisions at each recording's last frame."
        " Latency: the time after it from which on this accuracy stays at most a point below the"
        " final one, mean ± standard deviation over seeds."
    )
    left = f" Not shown, since their recordings differ between rows: {', '.join(others)}."
    return (
        f"{split.capitalize()} accuracy of the deployed networks (rounded delays): mean ± standard"
        " deviation over seeds [95 % interval of the mean, Student's t, cut at 0 and 100 %]. The"
        " interval is over seeds, on the same recordings."
        f" Epochs: {chosen}.{latency if _know_latency(lines) else ''}"
        f"{buffer if _know_buffers(lines) else ''}{left if others else ''}"
    )


def _searches(suite: Suite, rows: dict[str, list[Line]]) -> str:
    """How the options of networks were searched; "" if none were."""
    searched = {key: lines[0]["search"] for key, lines in rows.items() if "search" in lines[0]}
    if not searched:
        return ""
    counts = _several(str(len(search["accuracies"])) for search in searched.values())
    sizes = _several(f"{search['n']:,}" for search in searched.values())
    lines = [
        f"Options of each network, the best of {counts} trials by accuracy on validation data"
        f" (n = {sizes}), which are part of the training data; no trial read the test set:",
        "",
        "| network | options | validation accuracy | of all trials |",
        "|---|---|---|---|",
    ]
    for key, search in searched.items():
        known = [100 * score for score in search["accuracies"] if score is not None]
        failed = len(search["accuracies"]) - len(known)
        cells = [suite.members[key].label, " ".join(search["options"]), f"{max(known):.1f} %"]
        cells.append(
            f"{min(known):.1f} to {max(known):.1f} %" + f", {failed} failed" * (failed > 0)
        )
        lines.append(f"| {' | '.join(map(_cell, cells))} |")
    return "\n".join(lines)


def _pairs(suite: Suite, rows: dict[str, list[Line]], group: str) -> str:
    """The baseline compared with every other member, on the seeds that both have."""
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
            compared[key] = compare(a, b, PERCENT)
    if not compared:
        return ""
    measured = {key: c.p for key, c in compared.items() if not math.isnan(c.p)}
    corrected = dict(zip(measured, holm(list(measured.values())), strict=True))
    lines = [
        f"**{suite.members[base].label}** minus each other network, {group}, paired by seed:",
        "",
        "| minus | seeds | points [95 % interval] | effect (d_z) | p | p (Holm) |",
        "|---|---|---|---|---|---|",
    ]
    for key, c in compared.items():
        selected = _is_test_selected([*rows[base], *rows[key]])
        note = " (test-selected)" if selected else ""
        lines.append(_pair(suite.members[key].label, c, corrected.get(key, math.nan), note))
    if any(c.difference.n < MIN_SEEDS for c in compared.values()):
        lines += ["", f"Effect and p need {MIN_SEEDS} seeds or more."]
    return "\n".join(lines)


def _pair(label: str, compared: Comparison, corrected: float, note: str) -> str:
    d = compared.difference
    interval = f"{d.mean:+.1f} [{d.low:+.1f}, {d.high:+.1f}]{note}"
    effect = "-" if math.isnan(compared.effect) else f"{compared.effect:.1f}"
    return (
        f"| {_cell(label)} | {d.n} | {interval} | {effect} | {_p(compared.p)} | {_p(corrected)} |"
    )


def _p(value: float) -> str:
    if math.isnan(value):
        return "-"
    return f"{value:.4f}" if value >= 0.0001 else "< 0.0001"


def _made(lines: list[Line], given: Sequence[str]) -> str:
    """The provenance of the numbers: commit, data, machine, versions."""
    versions = {
        name: _several(ln["versions"][name] for ln in lines) for name in lines[0]["versions"]
    }
    shown = ", ".join(f"{name} {version}" for name, version in versions.items())
    other = f" Options that differ from the suite's: {', '.join(given)}." if given else ""
    return (
        f"Made by {_several(_code(ln['commit']) for ln in lines)}; data"
        f" {_several(ln['data_hash'] for ln in lines)};"
        f" {_several(ln['machine']['cpu'] for ln in lines)},"
        f" {_several(str(ln['machine']['threads']) for ln in lines)} threads a run,"
        f" {_several(_device(ln) for ln in lines)}; {shown}.{other}"
    )


def _code(commit: str | None) -> str:
    """The code in words: a commit, or a release such as v0.1.0, which has no commit."""
    if commit is None:
        return "a version that is not known"
    return f"release {commit}" if commit.startswith("v") else f"commit {commit}"


def _device(line: Line) -> str:
    machine = line["machine"]
    return str(machine.get("gpu") or machine["device"])


def _several(values: Iterable[str]) -> str:
    return ", ".join(dict.fromkeys(values))
