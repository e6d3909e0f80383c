"""The report of a run, and of runs beside one another: its numbers are the run's."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from snn_delays.analysis.activity import record
from snn_delays.analysis.causal import count_evaluations
from snn_delays.analysis.operations import count_operations
from snn_delays.analysis.page import Report, Section, Table, page, write_report
from snn_delays.analysis.report import comparison_report, run_report
from snn_delays.analysis.subject import open_run, test_samples
from snn_delays.errors import UserError
from snn_delays.evaluate import evaluate
from snn_delays.train.run import train

test_samples.__test__ = False  # type: ignore[attr-defined]


class Parts(HTMLParser):
    """Tags that open and close, and the images."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.images: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs) -> None:
        if tag == "img":
            self.images.append(dict(attrs)["src"])
        elif tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag) -> None:
        assert self.open.pop() == tag


@pytest.fixture
def trained(small_config):
    """A function that trains a small network and gives its subject and folder."""

    def make(name: str = "run", seed: int = 0, **model):
        config = small_config(protocol="last")
        config.out = str(Path(config.out).with_name(name))
        config.seed = seed
        for key, value in model.items():
            setattr(config.model, key, value)
        train(config)
        return open_run(config.out), config.out

    return make


def report_of(subject, folder, **options) -> Report:
    return run_report(subject, test_samples(subject, folder), step=lambda done: None, **options)


def part(report: Report, name: str):
    return next(p for s in report.sections for p in s.parts if p.name == name)


def test_a_report_is_whole_and_its_files_say_the_same(trained, tmp_path) -> None:
    subject, folder = trained()
    steps: list[str] = []
    samples = test_samples(subject, folder)
    report = run_report(subject, samples, repeats=2, step=steps.append)
    assert len(steps) == count_evaluations(subject.network, 2) + 1  # as the progress bar counts
    path = write_report(report, tmp_path / "report")
    text = path.read_text()
    parts = Parts(text)
    assert parts.open == []
    assert not re.search(r'(src|href)="(?!data:)', text)  # nothing is fetched
    figures = [p for s in report.sections for p in s.parts if not isinstance(p, Table)]
    assert len(parts.images) == len(figures) == 11
    for section in report.sections:
        for p in section.parts:
            read = pd.read_csv(path.with_name(f"{p.name}.csv"))
            assert len(read) == len(p.data), p.name
    for figure in figures:
        assert path.with_name(f"{figure.name}.png").read_bytes().startswith(b"\x89PNG")
        assert b"<svg" in path.with_name(f"{figure.name}.svg").read_bytes()
    assert f"{100 * subject.result['accuracy']:.1f}" in text


def test_its_numbers_are_the_runs(trained) -> None:
    subject, folder = trained()
    report = report_of(subject, folder, repeats=1)
    samples = test_samples(subject, folder)
    results = part(report, "results").data
    score = evaluate(subject.network, subject.loader(samples)).score()
    assert list(results.loc["test, all"]) == pytest.approx(
        [100 * score.accuracy, *(100 * v for v in score.interval), 30]
    )
    intact = part(report, "causal").data.loc["intact"]
    assert intact["accuracy"] == pytest.approx(100 * score.accuracy)
    x = next(iter(subject.loader(samples, 30).epoch())).x
    counted = count_operations(subject.network, record(subject.network, x))
    assert part(report, "operations").data["all"]["acs_per_sample"] == pytest.approx(counted.acs)
    rates = part(report, "rates").data
    fired = record(subject.network, x).spikes[0].numpy().mean((0, 1))
    assert np.allclose(rates["rate_hz"], 100 * fired)
    said = part(report, "provenance").data["value"]
    assert said["config_hash"] == subject.result["config_hash"]
    assert part(report, "config").data["value"]["model.taps"] == "5"


@pytest.mark.parametrize(
    "model", [{"delays": "none"}, {"delays": "dense"}, {"delays": "fixed"}, {"density": 0.5}]
)
def test_other_networks_have_reports(model, trained, tmp_path) -> None:
    subject, folder = trained(**model)
    report = report_of(subject, folder, repeats=1)
    names = {p.name for s in report.sections for p in s.parts}
    has_delays = model.get("delays") in (None, "fixed")
    assert ("movement" in names) == ("causal_layers" in names) == has_delays
    assert ("drift" in names) == (model.get("delays") is None)
    write_report(report, tmp_path / "report")


def test_test_selected_stands_beside_the_accuracy(small_config) -> None:
    config = small_config(protocol="paper")
    train(config)
    report = report_of(open_run(config.out), config.out, repeats=1)
    assert "Test-selected" in part(report, "results").note


def test_no_such_recording(trained) -> None:
    subject, folder = trained()
    with pytest.raises(UserError, match="sample=30 must be from 0 to 29"):
        report_of(subject, folder, sample=30)


def test_runs_beside_one_another(trained, tmp_path) -> None:
    subjects = [trained(f"r{seed}", seed)[0] for seed in range(3)]
    report = comparison_report([*subjects, trained("none", delays="none")[0]])
    table = part(report, "results").data
    assert list(table.index) == ["run 1", "run 2", "run 3", "run 4"]
    assert table["test"]["run 1"].startswith(f"{subjects[0].result['accuracy']:.1%} [")
    assert set(part(report, "delays").data["run"]) == {"run 1", "run 2", "run 3"}
    similar = part(report, "similarity").data
    assert len(similar) == 3 * 2  # three pairs, two layers
    assert len(Parts(write_report(report, tmp_path / "both").read_text()).images) == 2


def test_cells_are_read_easily_and_escaped() -> None:
    data = pd.DataFrame({"a": [1200, 0.12345, float("nan"), 12.345, "<b>"]})
    text = page(Report("a & b", ["<i>"], [Section("s", [Table("t", "t", "n", data)])]))
    for cell in ("1,200", "0.123", ">-<", "12.3", "&lt;b&gt;", "a &amp; b", "&lt;i&gt;"):
        assert cell in text
