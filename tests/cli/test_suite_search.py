"""The search of a suite: equal budgets, on validation data alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from snn_delays.benchmark.results import read_results
from snn_delays.benchmark.rows import Row, Trial, points
from snn_delays.benchmark.search import chosen, trial_jobs
from snn_delays.benchmark.suite import Member, Search, Suite
from snn_delays.cli.groups import SUITES, config_folder
from snn_delays.cli.search import option_at
from snn_delays.cli.suite_runs import suite_rows
from snn_delays.config import Config
from snn_delays.data.frame_cache import FrameStore
from snn_delays.errors import UserError
from snn_delays.evaluate import Score
from snn_delays.training.checkpoint import read_config
from tests.cli.test_benchmark import SIZES, words  # noqa: F401
from tests.cli.test_cli import run

OUT = Path("runs/benchmark/words")
SPACE = {"train.lr_weight": "tag(log, interval(1e-3, 1e-1))"}


@pytest.fixture
def searched(words) -> list[str]:  # noqa: F811
    """The suite of two networks with a search of three trials, and the options that run it."""
    path = Path("suites/words.yaml")
    suite = yaml.safe_load(path.read_text("utf-8"))
    suite["search"] = {"trials": 3, "space": SPACE}
    suite["members"]["none"]["search"] = {"model.dropout": [0, 0.4]}
    path.write_text(yaml.safe_dump(suite), encoding="utf-8")
    return [*words, "seeds=1", "train.epochs=1"]


def results(pattern: str) -> dict[str, Any]:
    return {
        path.parent.name: json.loads(path.read_text("utf-8")) for path in sorted(OUT.glob(pattern))
    }


def test_a_search_chooses_on_validation_data_and_leaves_the_test_set(
    searched, capsys, monkeypatch
) -> None:
    read, opened = FrameStore.frames, []

    def frames(store: FrameStore, number: int) -> Any:
        if store.source.name == "test.h5":
            opened.append(len(results("*/search/t*/result.json")))
        return read(store, number)

    monkeypatch.setattr(FrameStore, "frames", frames)
    code, printed, _ = run(capsys, monkeypatch, *searched)
    assert code == 0
    assert "6 trials, 0 done; 1 at a time, 1 threads each\n" in printed
    assert "none, trial 2: done" in printed
    assert "Launching jobs" not in printed  # Hydra's words, at its second start
    assert set(opened) == {3}  # names of trials are equal: all six had ended
    for line in read_results(OUT / "results.jsonl"):
        trials = results(f"{line['member']}/search/*/result.json")
        assert [*trials] == ["t0", "t1", "t2"]
        assert not any("accuracy" in trial for trial in trials.values())
        assert {trial["seed"] for trial in trials.values()} == {1000}
        scores = [trial["valid"]["accuracy"] for trial in trials.values()]
        assert line["search"]["accuracies"] == scores
        best = OUT / line["member"] / f"search/t{scores.index(max(scores))}/config.yaml"
        tried = yaml.safe_load(best.read_text("utf-8"))
        assert line["config"]["train"]["lr_weight"] == tried["train"]["lr_weight"]
        assert line["config"]["model"]["dropout"] == tried["model"]["dropout"]
    table = (OUT / "table.md").read_text("utf-8")
    assert "the best of 3 trials by accuracy on validation data (n = " in table
    assert "| no delays | train.lr_weight=" in table
    # again: nothing is trained
    code, printed, _ = run(capsys, monkeypatch, *searched)
    assert "6 trials, 6 done" in printed
    assert "2 runs, 2 done" in printed


def test_trials_are_the_first_of_more_trials() -> None:
    assert points(3, 2).tolist() == points(8, 3)[:3, :2].tolist()
    assert points(64, 1).min() < 0.05
    assert points(64, 1).max() > 0.95


@pytest.mark.parametrize(
    ("values", "found"),
    [
        ([15, 25, 35], ["15", "25", "35"]),
        ([[8, 8], [16]], ["[8,8]", "[16]", "[16]"]),
        (["learned", None], ["learned", "null", "null"]),
        ("range(1, 4)", ["1", "2", "3"]),
        ("interval(0, 0.4)", ["0", "0.2", "0.396"]),
        ("tag(log, interval(0.01, 1.0))", ["0.01", "0.1", "0.955"]),
        ("interval(10, 20)", ["10", "15", "19.9"]),
    ],
)
def test_a_place_in_values(values, found) -> None:
    options = [option_at("x", values, place) for place in (0.0, 0.5, 0.99)]
    assert [o.replace('"', "").replace(", ", ",") for o in options] == [f"x={v}" for v in found]


@pytest.mark.parametrize(
    ("values", "words_said"),
    [
        ("0.1", r"x=0.1 holds no values to search: write a list"),
        ("interval(", r"The searched values x=interval\( cannot be read"),
        ("tag(log, interval(0, 1))", "a logarithm needs values above 0"),
    ],
)
def test_values_that_cannot_be_searched(values, words_said) -> None:
    with pytest.raises(UserError, match=words_said):
        option_at("x", values, 0.5)


def test_given_options_are_not_searched() -> None:
    members = {
        "a": Member("a", ["model.tau_ms=20"], search={"model.dropout": [0.1, 0.2]}),
        "b": Member("b", []),
    }
    space = {"train.lr_weight": [0.1], "model.tau_ms": [20, 30]}
    suite = Suite("own", "Own", members, 1, search=Search(2, space))
    rows = suite_rows(suite, None, ["train.lr_weight=0.3"])
    found = {key: row.trials for key, row in rows.items()}
    names = {key: {o.partition("=")[0] for t in ts for o in t.options} for key, ts in found.items()}
    assert names == {"a": {"model.dropout"}, "b": {"model.tau_ms"}}
    assert {t.config.train.lr_weight for trials in found.values() for t in trials} == {0.3}
    assert not any(row.trials for row in suite_rows(suite, 0, []).values())
    assert len(suite_rows(suite, 5, [])["b"].trials) == 5
    with pytest.raises(UserError, match="suite=own searches no options; leave trials=3 out"):
        suite_rows(Suite("own", "Own", members, 1), 3, [])


def test_a_trial_that_is_not_valid_is_one_sentence() -> None:
    space = {"model.tau_ms": [20, 30]}
    members = {"b": Member("no delays", [])}
    suite = Suite("own", "Own", members, 1, ["model.tau_ms=40"], search=Search(2, space))
    words_said = (
        r"The search of no delays would try model.tau_ms=20: model.tau_ms=20 must be longer"
    )
    with pytest.raises(UserError, match=words_said):
        suite_rows(suite, None, ["data.step_ms=25"])


def test_a_trial_that_failed_is_not_chosen(tmp_path) -> None:
    trials = [Trial([f"x={n}"], Config(name=f"n{n}")) for n in range(3)]
    row = Row(Config(), trials, {"equal": 1})
    jobs = trial_jobs("a", row, tmp_path)
    for job, correct in zip(jobs[1:], (5, 6), strict=True):
        job.out.mkdir(parents=True)
        result = {"selection": "", "epoch": 1, "parameters": 1, "seconds": 1.0}
        result["valid"] = Score(correct, 10).as_dict()
        (job.out / "result.json").write_text(json.dumps(result), "utf-8")
    jobs[0].fail("its loss was infinite")
    found = chosen(row, jobs)
    assert found.config.name == "n2"
    assert found.account["search"]["accuracies"] == [None, 0.5, 0.6]
    assert found.account["equal"] == 1
    with pytest.raises(UserError, match=r"Every trial .* its loss was infinite"):
        chosen(row, jobs[:1])


def test_a_member_without_a_trial_that_ended_is_a_failure(searched, capsys, monkeypatch) -> None:
    path = Path("suites/words.yaml")
    suite = yaml.safe_load(path.read_text("utf-8"))
    suite["members"]["learned"]["options"].append("train.lr_weight=1e38")
    suite["members"]["learned"]["search"] = {"model.dropout": [0, 0.4]}
    path.write_text(yaml.safe_dump(suite), encoding="utf-8")
    code, printed, errors = run(capsys, monkeypatch, *searched, "trials=1")
    assert code == 1
    assert "**Failed**: learned, search: Every trial of its search failed" in printed
    assert "| no delays |" in printed
    assert errors == "The search of learned failed.\n"


def test_delays_pay_or_not_on_own_data(words, capsys, monkeypatch) -> None:  # noqa: F811
    suite = yaml.safe_load((config_folder() / SUITES / "delays.yaml").read_text("utf-8"))
    kept = ("learned", "fixed", "none_buffer")
    suite["members"] = {key: suite["members"][key] for key in kept}
    suite["verdicts"] = [pair for pair in suite["verdicts"] if pair[1] in kept]
    Path("suites/delays.yaml").write_text(yaml.safe_dump(suite, sort_keys=False), "utf-8")
    own = [option for option in words if option.startswith(("data.train", "data.cache", "jobs"))]
    options = [*SIZES, *own, "trials=1", "seeds=1", "train.epochs=1", "model.tau_ms=20"]
    code, printed, _ = run(capsys, monkeypatch, "benchmark", "suite=delays", *options)
    assert code == 0, printed
    out = Path("runs/benchmark/delays")
    lines = {line["member"]: line for line in read_results(out / "results.jsonl")}
    assert [*lines] == [*kept]
    assert lines["fixed"]["parameters"] <= lines["learned"]["parameters"]
    assert lines["fixed"]["equal"]["aim"] == lines["learned"]["parameters"]
    assert lines["fixed"]["config"]["model"]["hidden"] > [8]
    tried = read_config(out / "fixed/search/t0").model.hidden
    assert tried == lines["fixed"]["config"]["model"]["hidden"]
    assert [len(line["search"]["options"]) for line in lines.values()] == [2, 1, 1]  # tau is given
    assert printed.count("- Nothing can be said yet of learned delays against ") == 2
    assert (out / "accuracy.png").is_file()
