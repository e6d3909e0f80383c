"""Searches of `snn-delays train -m hydra/sweeper=optuna` as a person meets them."""

from __future__ import annotations

import json
import re
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from snn_delays.cli.compose import compose, composed
from snn_delays.cli.groups import groups
from snn_delays.cli.search import distribution, new_study
from snn_delays.errors import UserError
from tests.cli.test_benchmark import SIZES, words  # noqa: F401
from tests.cli.test_cli import run

ROOT = Path(__file__).parents[2]
SEARCH = [
    "train", "-m", "hydra/sweeper=optuna", "hydra.sweeper.n_trials=3",
    "model.tau_ms=interval(11,60)", *SIZES,
]  # fmt: skip


def test_a_search_sees_validation_data_alone(words, capsys, monkeypatch) -> None:  # noqa: F811
    command = [*SEARCH, *words[2:-1]]
    code, printed, errors = run(capsys, monkeypatch, *command, "train.test=false", "out=found")
    assert code == 0, errors
    assert "test accuracy" not in printed
    best = yaml.safe_load(Path("found/optimization_results.yaml").read_text("utf-8"))
    results = [json.loads(Path(f"found/{n}/result.json").read_text("utf-8")) for n in range(3)]
    assert all("accuracy" not in result for result in results)
    accuracies = [result["valid"]["accuracy"] for result in results]
    assert best["best_value"] == max(accuracies)
    assert len(re.findall(r"\nrun \d, seed 0: model.tau_ms=[\d.]+\n", printed)) == 3
    first = accuracies.index(max(accuracies))
    assert f"3 trials, 0 failed; the best is run {first}, validation accuracy" in printed
    words = shlex.split(printed.splitlines()[-1])
    assert words[:2] == ["snn-delays", "train"]
    assert f"model.tau_ms={best['best_params']['model.tau_ms']}" in words
    again = compose("train", [*words[2:], "out=again"])
    assert again.train.test
    assert not any(word.startswith("out=") for word in words)
    there = yaml.safe_load(Path(f"found/{first}/config.yaml").read_text("utf-8"))
    assert again.model.tau_ms == there["model"]["tau_ms"]
    for options, said in (
        (["train.test=false", "train.protocol=last"], "A search chooses on validation data"),
        ([], "A search must not read the test set"),
    ):
        code, _, errors = run(capsys, monkeypatch, *command, *options, "out=refused")
        assert code == 2
        assert said in errors
        assert not list(Path("refused").rglob("metrics.jsonl"))


@pytest.fixture
def taken(monkeypatch, tmp_path) -> list[Any]:
    """The configurations of the runs that a search starts; none of the runs trains."""
    monkeypatch.chdir(tmp_path)
    configs: list[Any] = []

    def train(config):
        configs.append(config)
        return {"valid": {"accuracy": 1 / len(configs)}, "out": config.out}

    monkeypatch.setattr("snn_delays.training.run.train", train)
    monkeypatch.setattr("snn_delays.cli.train.describe", lambda result: "")
    return configs


@pytest.mark.parametrize(
    ("rate", "failing", "trials", "best"),
    [(1.0, [1], 3, 2), (0.4, [1], 3, 2), (0.0, [1], 2, 0), (1.0, [0, 1, 2], 3, None)],
)
def test_failed_trials_of_a_search_are_counted(
    rate, failing, trials, best, taken, capsys, monkeypatch
) -> None:
    def train(config):
        taken.append(config.model.tau_ms)
        if len(taken) - 1 in failing:
            raise UserError("it diverged.")
        return {"valid": {"accuracy": 0.1 * len(taken)}, "out": config.out}

    monkeypatch.setattr("snn_delays.training.run.train", train)
    more = ["train.test=false", "out=found", f"hydra.sweeper.max_failure_rate={rate}"]
    more.append("data.train_file='a b'")
    code, printed, errors = run(capsys, monkeypatch, *SEARCH, *more)
    assert code == (0 if trials == 3 and best else 2)
    assert "snn-delays: run 1 failed: it diverged." in errors
    assert f"{trials} trials, {len(failing)} failed" in printed
    if code:
        why = f"The search has ended after {trials} of 3 trials, of which {len(failing)} failed"
        assert why in errors
    if best is not None:
        assert f"{trials} trials, 1 failed; the best is run {best}, validation accuracy" in printed
        again = shlex.split(printed.splitlines()[-1])
        assert {f"model.tau_ms={taken[best]}", "data.train_file=a b", "train.test=true"} <= {*again}


DRAWN = {
    "interval(1,12)": FloatDistribution(1.0, 12.0),
    "tag(log,interval(0.002,0.04))": FloatDistribution(0.002, 0.04, log=True),
    "int(interval(2,4))": IntDistribution(2, 4),
    "tag(log,int(interval(1,100)))": IntDistribution(1, 100, log=True),
    "range(5,36)": IntDistribution(5, 35),
    "range(9,2,-3)": IntDistribution(3, 9, step=3),
    "range(0,1,0.25)": FloatDistribution(0.0, 0.75, step=0.25),
    "8,16": CategoricalDistribution(["8", "16"]),
    "choice([8],[8,8])": CategoricalDistribution(["[8]", "[8,8]"]),
}


@pytest.mark.parametrize("values", DRAWN)
def test_hydras_grammar_says_what_optuna_draws(values) -> None:
    (override,) = OverridesParser.create().parse_overrides([f"option={values}"])
    assert distribution(override) == DRAWN[values]


@pytest.mark.parametrize(
    "experiment", [name for name in groups("train")["experiment"] if name.startswith("search/")]
)
def test_the_committed_searches_begin_again_alike(experiment) -> None:
    """The first ten trials are drawn at random, whatever the accuracies."""
    options = composed("train", [f"experiment={experiment}"], with_hydra=True).hydra.sweeper
    overrides = OverridesParser.create().parse_overrides(
        [f"{name}={values}" for name, values in options.params.items()]
    )
    space = {o.get_key_element(): distribution(o) for o in overrides}
    page = ROOT / f"scripts/reproduce/fsdd/{experiment.replace('fsdd_', '')}.md"
    names, *rows = (
        [cell.strip() for cell in line.split("|")[1:-1]]
        for line in page.read_text("utf-8").splitlines()
        if re.match(r"\| (trial|\d+) ", line)
    )
    assert len(rows) == options.n_trials
    committed = {int(row[0]): dict(zip(names, row, strict=True)) for row in rows}
    study = new_study(options.seed)
    for n in range(min(10, options.n_trials)):
        drawn = study.ask(space).params
        assert {name: f"{value:.4g}" for name, value in drawn.items()} == {
            name: committed[n][name] for name in space
        }


def test_a_search_repeats_by_its_seed_however_many_runs_start_at_a_time(
    taken, capsys, monkeypatch
) -> None:
    joblib = ["hydra/launcher=joblib", "hydra.launcher.n_jobs=1", "hydra.sweeper.n_jobs=2"]
    drawn = []
    for more in (["hydra.sweeper.seed=0"], joblib, ["hydra.sweeper.seed=1"]):
        options = [*SEARCH[:5], "train.test=false", "model.delays=learned,fixed", "out=found"]
        code, printed, errors = run(capsys, monkeypatch, *options, *more)
        assert code == 0, errors
        assert "3 trials, 0 failed; the best is run 0" in printed
        assert [config.out for config in taken] == ["found/0", "found/1", "found/2"]
        drawn.append([(config.model.tau_ms, config.model.delays) for config in taken])
        taken.clear()
    assert drawn[0] == drawn[1]
    assert not {*drawn[0]} & {*drawn[2]}
    assert {delays for _, delays in drawn[0]} == {"learned", "fixed"}


REFUSED = {
    "seed=1": "A search needs an option to search: model.tau_ms=interval(11,60).",
    "model.dropout=tag(log,interval(0,0.4))": "model.dropout=tag(log,interval(0,0.4)) cannot be",
    "model.taps=range(5,5)": "model.taps=range(5,5) holds no value.",
    "model.tau_ms=interval(5,60)": "No run was started. With model.tau_ms=5.0: model.tau_ms=5 must",
    "model.taps=5,7,8": "No run was started. With model.taps=8: model.taps=8 must be odd",
    "hydra.sweeper.n_trials=0": "n_trials=0 must be at least 1.",
    "hydra.sweeper.n_trials=few": "hydra.sweeper.n_trials: 'few' is not a whole number.",
    "hydra.sweeper.direction=maximize": "There is no option hydra.sweeper.direction.",
}


@pytest.mark.parametrize("option", REFUSED)
def test_what_cannot_be_searched_is_one_sentence(option, taken, capsys, monkeypatch) -> None:
    command = [*SEARCH[:3], "train.test=false", "out=found", option]
    code, printed, errors = run(capsys, monkeypatch, *command)
    assert (code, printed, len(errors.splitlines())) == (2, "", 1), errors
    assert REFUSED[option] in errors
    assert not taken
    assert not Path("found").exists()


def test_a_search_says_what_it_needs(taken, capsys, monkeypatch) -> None:
    command = [*SEARCH[:5], "train.test=false"]
    with monkeypatch.context() as patch:
        patch.setenv("WORLD_SIZE", "2")
        patch.setenv("RANK", "0")
        code, _, errors = run(capsys, monkeypatch, *command)
        assert (code, "A search takes one process" in errors) == (2, True)
    with monkeypatch.context() as patch:
        patch.delattr("optuna.distributions.FloatDistribution")
        code, _, errors = run(capsys, monkeypatch, *command)
        assert (code, "A search needs a newer optuna than" in errors) == (2, True)
    monkeypatch.setitem(sys.modules, "optuna", None)
    code, printed, errors = run(capsys, monkeypatch, *command)
    needed = "snn-delays: A search needs optuna: pip install 'snn-delays[search]'.\n"
    assert (code, printed, errors, taken) == (2, "", needed, [])
