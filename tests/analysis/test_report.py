"""The report of a run, and of runs beside one another: its numbers are the run's."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from itertools import combinations
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest

from snn_delays.analysis.activity import record
from snn_delays.analysis.causal import count_evaluations
from snn_delays.analysis.comparison import comparison_report
from snn_delays.analysis.operations import count_operations
from snn_delays.analysis.page import Report, Section, Table, page, write_report
from snn_delays.analysis.report import run_report
from snn_delays.analysis.report_figure import (
    ReportFigure,
    as_label,
    legend_above,
    new_figure,
    save_figure,
)
from snn_delays.analysis.trained_run import held_out_samples, open_run
from snn_delays.benchmark.statistics import holm, mcnemar
from snn_delays.errors import UserError
from snn_delays.evaluate import evaluate
from snn_delays.training.run import train


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
    return run_report(subject, held_out_samples(subject, folder), step=lambda done: None, **options)


def part(report: Report, name: str):
    return next(p for s in report.sections for p in s.parts if p.name == name)


def test_a_report_is_whole_and_its_files_say_the_same(trained, tmp_path) -> None:
    subject, folder = trained()
    steps: list[str] = []
    samples = held_out_samples(subject, folder)
    report = run_report(subject, samples, repeats=2, step=steps.append)
    assert len(steps) == count_evaluations(subject.network, 2) + 1  # as the progress bar counts
    path = write_report(report, tmp_path / "report")
    text = path.read_text("utf-8")
    parts = Parts(text)
    assert parts.open == []
    assert not re.search(r'(src|href)="(?!data:)', text)  # nothing is fetched
    figures = [p for s in report.sections for p in s.parts if not isinstance(p, Table)]
    assert len(parts.images) == len(figures) == 13
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
    samples = held_out_samples(subject, folder)
    results = part(report, "results").data
    score = evaluate(subject.network, subject.loader(samples)).score()
    assert list(results.loc["test, all"]) == pytest.approx(
        [100 * score.accuracy, *(100 * v for v in score.interval), 30]
    )
    latency = part(report, "latency").data
    asked = subject.result["latency"]["at_last_input"]
    shown = latency.loc[0, ["after_ms", "accuracy", "low", "high"]]
    assert shown.tolist() == pytest.approx(
        [0, *(100 * np.r_[asked["accuracy"], asked["interval"]])]
    )
    assert latency["accuracy"].iloc[-1] == pytest.approx(100 * score.accuracy)
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
def test_other_networks_have_reports(model, trained) -> None:
    subject, folder = trained(**model)
    report = report_of(subject, folder, repeats=1)
    names = {p.name for s in report.sections for p in s.parts}
    has_delays = model.get("delays") in (None, "fixed")
    assert ("causal_layers" in names) == has_delays
    learned = model.get("delays") is None
    assert ("movement" in names) == ("drift" in names) == learned
    text = page(report)
    assert ("width of the delays" in text) == ("clamped" in text) == learned
    assert ("moved at random" in text) == ("rounded to q" in text) == has_delays
    assert ("what the delays learned" in text) == learned


def test_test_selected_stands_beside_the_accuracy(small_config) -> None:
    config = small_config(protocol="paper")
    train(config)
    report = report_of(open_run(config.out), config.out, repeats=1)
    assert "Test-selected" in part(report, "results").note
    for name in ("causal_layers", "causal_amounts"):
        assert part(report, name).caption.startswith("Test accuracy (test-selected) ")
        axis = part(report, name).figure.axes[0]
        assert axis.get_ylabel() == "test accuracy (%)\n(test-selected)"
    assert part(report, "causal").note.startswith("Test accuracy (test-selected) in percent")


def test_a_search_s_run_is_looked_at_on_validation_data(small_config) -> None:
    config = small_config()
    config.train.test = False
    train(config)
    report = report_of(open_run(config.out), config.out, repeats=1)
    text = page(report).lower()
    assert "test accuracy" not in text
    assert "test recording" not in text
    assert "validation recording 0" in text
    assert "leaves its test set unread" in text
    intact = part(report, "causal").data.loc["intact"]
    (valid,) = part(report, "results").data["accuracy, %"]
    assert intact["accuracy"] == pytest.approx(valid)


def test_of_a_refit_the_second_training_is_shown(small_config) -> None:
    config = small_config(protocol="refit")
    train(config)
    subject = open_run(config.out)
    report = report_of(subject, config.out, repeats=1)
    assert "validation, first training" in part(report, "results").data.index
    last = part(report, "drift").data.groupby("layer", sort=False)["moved_ms"].last()
    moved = part(report, "layers").data.loc["moved_ms"]
    assert last.tolist() == pytest.approx(moved.tolist(), abs=1e-3)


def test_a_run_that_has_not_ended_or_says_little(trained) -> None:
    subject, folder = trained()
    little = {key: subject.result[key] for key in ("selection", "epoch", "parameters")}
    said = part(report_of(replace(subject, result=little), folder, repeats=1), "provenance")
    assert said.data["value"]["commit"] == "not known"
    report = report_of(replace(subject, result=None), folder, repeats=1)
    names = {p.name for s in report.sections for p in s.parts}
    assert {"results", "provenance"}.isdisjoint(names)
    assert report.lead[-1].startswith("The run has not ended")


def test_what_does_not_fit_into_memory_is_not_looked_at(trained, monkeypatch) -> None:
    subject, folder = trained()
    caption = part(report_of(subject, folder, repeats=1), "rates").caption
    assert "over 30 recordings" in caption
    monkeypatch.setattr("snn_delays.analysis.report.MOST_BYTES", 1)
    caption = part(report_of(subject, folder, repeats=1), "rates").caption
    assert "over 1 recordings" in caption


def test_files_of_an_older_report_are_removed(tmp_path) -> None:
    one, two = (Table(name, name, "", pd.DataFrame({"a": [1]})) for name in ("one", "two"))
    (tmp_path / "mine.csv").write_text("stays", encoding="utf-8")
    write_report(Report("", [], [Section("s", [one])]), tmp_path)
    write_report(Report("", [], [Section("s", [two])]), tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["mine.csv", "report.html", "two.csv"]


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
    assert report.lead[0].startswith("The runs differ in seed, model.delays")
    differing = part(report, "differences").data
    assert differing.loc["seed"].tolist() == ["0", "1", "2", "0"]
    assert differing.loc["model.delays"].tolist() == [*["learned"] * 3, "none"]
    seeds = part(report, "seeds").data
    mean = np.mean([100 * subject.result["accuracy"] for subject in subjects])
    assert list(seeds.index) == ["1, 2, 3", "4"]
    assert seeds["accuracy"].iloc[0] == pytest.approx(mean)
    assert len(Parts(write_report(report, tmp_path / "both").read_text("utf-8")).images) == 2


def test_runs_are_tested_in_pairs_on_the_same_recordings(trained) -> None:
    runs = [trained("a"), trained("b", seed=1), trained("c", delays="none")]
    subjects, samples = zip(*((s, held_out_samples(s, f)) for s, f in runs), strict=True)
    pairs = part(comparison_report(subjects, samples), "pairs").data
    right = [e.predictions == e.labels for e in map(evaluate_run, subjects, samples)]
    places = [("run 1", "run 2"), ("run 1", "run 3"), ("run 2", "run 3")]
    assert list(pairs.index) == places
    p = []
    for (a, b), row in zip(combinations(right, 2), pairs.to_dict("records"), strict=True):
        alone = int((a & ~b).sum()), int((b & ~a).sum())
        assert (row["first_alone"], row["second_alone"], row["n"]) == (*alone, 30)
        assert row["difference"] == pytest.approx(100 * (a.mean() - b.mean()))
        p.append(mcnemar(*alone))
        assert float(row["p"]) == pytest.approx(p[-1], rel=0.05)
    assert pairs["p_holm"].astype(float).tolist() == pytest.approx(holm(p), rel=0.05)
    few = samples[1].where(np.arange(30) < 29)  # other recordings; and none that can be read
    report = comparison_report(subjects, [samples[0], few, None])
    assert "pairs" not in {p.name for s in report.sections for p in s.parts}


def evaluate_run(subject, samples):
    return evaluate(subject.network, subject.loader(samples))


def test_a_page_speaks_in_words_and_its_file_keeps_names(tmp_path) -> None:
    data = pd.DataFrame({"low": [1.0]}, index=pd.Index(["zero"], name="kind"))
    words = {"low": "from (%)", "zero": "all at zero", "kind": "change"}
    table = Table("t", "t", "n", data, words=words)
    path = write_report(Report("", [], [Section("s", [table])]), tmp_path)
    cells = re.findall(r"<t[hd](?: [^>]*)?>(.*?)</t[hd]>", path.read_text("utf-8"))
    assert cells == ["change", "from (%)", "all at zero", "1"]
    assert (tmp_path / "t.csv").read_text("utf-8") == "kind,low\nzero,1\n"


def test_runs_of_all_kinds_beside_one_another(trained) -> None:
    """No metrics, no result, another depth, more runs than colours."""
    shallow, deep = trained("shallow")[0], trained("deep", hidden=[8, 8])[0]
    subjects = [shallow, deep, replace(shallow, metrics=[]), replace(shallow, result=None)]
    report = comparison_report([*subjects, *[shallow] * 6])
    assert set(part(report, "training").data["run"]) == {f"run {n}" for n in range(1, 11)} - {
        "run 3"
    }
    delays = part(report, "delays")
    titles = [axis.get_title("left") for axis in delays.figure.axes]
    assert titles == ["hidden layer 1", "hidden layer 2", "readout"]
    assert "likeness is not measured" in delays.caption
    lines = delays.figure.axes[0].lines
    assert len({(one.get_color(), one.get_linestyle()) for one in lines}) == 10
    styles = {}  # a run looks alike in both figures, also after one that is in the other alone
    for figure in (delays.figure, part(report, "training").figure):
        (legend,) = figure.legends
        for entry, text in zip(legend.get_lines(), legend.get_texts(), strict=True):
            look = (entry.get_color(), entry.get_linestyle())
            assert styles.setdefault(text.get_text().split(",")[0], look) == look
    (legend,) = part(report, "training").figure.legends
    assert legend.get_texts()[0].get_text() == "run 1 (hidden=[12]), training"
    assert (part(report, "results").data.loc["run 4", "test"]) == "-"


def test_cells_are_read_easily_and_escaped() -> None:
    data = pd.DataFrame({"a": [81, 0.12345, float("nan"), 75.06], "b": [1, 1200, 2, 0]})
    data["c"] = ["<b>", 0.12345, 0.5, True]
    text = page(Report("a & b", ["<i>"], [Section("s", [Table("t", "t", "n", data)])]))
    cells = re.findall(r"<td>(.*?)</td>", text)
    assert cells[0::3] == ["81.0", "0.1", "-", "75.1"]
    assert cells[1::3] == ["1", "1,200", "2", "0"]
    assert cells[2::3] == ["&lt;b&gt;", "0.123", "0.500", "True"]
    assert "a &amp; b" in text
    assert "&lt;i&gt;" in text
    by_row = Table("t", "t", "n", data[["a", "b"]].T, by_row=True)
    turned = re.findall(r"<td>(.*?)</td>", page(Report("", [], [Section("s", [by_row])])))
    assert turned == [*cells[0::3], *cells[1::3]]


def test_names_that_are_no_text_are_written_out(tmp_path) -> None:
    table = Table("t", "t", "n", pd.DataFrame({"out": ["run\udcff"]}))
    path = write_report(Report("run\udcff", [], [Section("s", [table])]), tmp_path)
    assert r"run\udcff" in path.read_text("utf-8")
    assert r"run\udcff" in (tmp_path / "t.csv").read_text("utf-8")


# ---- names that mean something elsewhere -------------------------------------------------------

SVG = "{http://www.w3.org/2000/svg}"
NAMES = ["<script>alert(1)</script>", '=cmd|" /C calc"!A0', "$\\frac{a$ b", "_silence_", "a\x0bb"]


def test_labels_are_drawn_letter_by_letter(tmp_path) -> None:
    figure = new_figure(1)
    axis = figure.subplots()
    for name in NAMES:
        axis.plot([0, 1], [0, 1], label=as_label(name))
    legend_above(axis)
    save_figure(figure, tmp_path / "a.svg")
    texts = [node.text for node in ElementTree.parse(tmp_path / "a.svg").iter(f"{SVG}text")]
    drawn = [str(text).strip() for text in texts][-len(NAMES) :]
    assert drawn == [*NAMES[:-1], "a\ufffdb"]


def test_names_are_text_on_the_page_and_in_spreadsheets(tmp_path) -> None:
    data = pd.DataFrame(
        {"name": NAMES, "n": [-1, 2, 3, 4, 5]}, index=["+1+1", "-5", "-", "@x", "="]
    )
    table = Table("words", NAMES[0], NAMES[0], data)
    path = write_report(Report(NAMES[0], [NAMES[0]], [Section(NAMES[0], [table])]), tmp_path)
    html = path.read_text(encoding="utf-8")
    assert html.count("<script>") == 1  # ours
    assert html.count("&lt;script&gt;alert(1)") >= 5
    written = pd.read_csv(tmp_path / "words.csv", index_col=0)
    assert written["name"].tolist() == [NAMES[0], f"'{NAMES[1]}", *NAMES[2:]]
    assert written["n"].tolist() == [-1, 2, 3, 4, 5]
    assert written.index.tolist() == ["'+1+1", "-5", "-", "'@x", "'="]


def test_a_report_is_written_through_no_link(tmp_path) -> None:
    precious, out = tmp_path / "precious", tmp_path / "out"
    precious.write_text("a letter", "utf-8")
    out.mkdir()
    figure = new_figure(1)
    exhibit = ReportFigure("a", "A", "a", pd.DataFrame({"n": [1]}), figure)
    for suffix in ("csv", "png", "svg"):
        (out / f"a.{suffix}").symlink_to(precious)
    write_report(Report("A", [], [Section("A", [exhibit])]), out)
    assert precious.read_text("utf-8") == "a letter"
    assert not any(path.is_symlink() for path in out.iterdir())
