"""The suites and tables of scripts/reproduce/when_delays_pay."""

from __future__ import annotations

import json

import numpy as np
import pytest

from scripts.reproduce.when_delays_pay import figure, settling, speakers
from snn_delays.benchmark.suite import load_suite, overrides, suites
from snn_delays.cli.compose import compose
from snn_delays.cli.groups import SUITES, config_folder
from snn_delays.cli.suite_runs import suite_rows
from snn_delays.data.formats.spike_file import SpikeFile
from snn_delays.nn import build_network, count_parameters
from tests.conftest import write_spikes

FOLDER = config_folder() / SUITES
OURS = [name for name in suites(FOLDER) if name.startswith("when_")]


@pytest.fixture(scope="module")
def members() -> dict:
    """The options of every member of every suite, by their names."""
    found = {name: load_suite(FOLDER, name) for name in OURS}
    return {
        name: {k: compose("train", [*s.options, *m.options]) for k, m in s.members.items()}
        for name, s in found.items()
    }


def test_every_row_tests_the_last_epoch(members) -> None:
    assert len(members) == 11
    for configs in members.values():
        assert {config.train.protocol for config in configs.values()} == {"last"}


def test_rows_of_equal_parameters_have_them(members) -> None:
    """Masks are drawn, so that sparse networks have equal parameters on average alone."""
    for name, configs in members.items():
        if "fixed" not in configs or name.startswith("when_size"):
            continue
        classes = 16 if name.endswith("demo") else 10
        expected = {key: expected_parameters(c, classes) for key, c in configs.items()}
        assert abs(expected["fixed"] / expected["learned"] - 1) < 0.01, name
        assert expected["fixed_small"] < 0.7 * expected["learned"], name


def expected_parameters(config, classes) -> float:
    density, config.model.density = config.model.density, 1.0
    every = count_parameters(build_network(config, classes))
    config.model.density = density
    norms = 2 * sum(config.model.hidden)
    return norms + density * (every - norms)


def test_rows_differ_in_what_their_suite_asks_alone(members) -> None:
    for name, same in (("when_transplant", "model"), ("when_rounding", "model")):
        assert len({str(getattr(c, same)) for c in members[name].values()}) == 1
    sizes = members["when_size_40"], members["when_size_150"]
    for configs in sizes:
        for config in configs.values():
            assert config.model.hidden == [256, 256]
            assert config.train.sigma_epochs == pytest.approx(0.7 * config.train.epochs)


def test_one_file_of_both_has_the_speakers_by_name(tmp_path) -> None:
    times, units = [[0.1, 0.25], [2.1], [0.3]], [[0, 3], [699], [5]]
    for name, who, part in (("train", [4, 0], slice(2)), ("test", [3], slice(2, 3))):
        path = tmp_path / f"fsdd_{name}.h5"
        write_spikes(
            path, times[part], units[part], [1, 0, 1][part], keys=["zero", "one"], speakers=who
        )
    out = tmp_path / "all.h5"
    assert speakers.main(["join", str(tmp_path), str(out)]) == 0
    joined = SpikeFile(out)
    assert joined.speakers.tolist() == ["4", "0", "3"]
    assert joined.labels.tolist() == [1, 0, 1]
    for (got, fired), wanted, channels in zip(joined.spikes(), times, units, strict=True):
        assert got.tolist() == np.array(wanted, np.float16).tolist()
        assert fired.tolist() == channels


def test_files_that_cannot_be_joined_are_refused(tmp_path, capsys) -> None:
    for name, keys in (("train", ["a", "b"]), ("test", ["a", "c"])):
        write_spikes(tmp_path / f"fsdd_{name}.h5", [[0.1]], [[1]], [0], keys=keys, speakers=[0])
    out = tmp_path / "all.h5"
    assert speakers.main(["join", str(tmp_path), str(out)]) == 2
    assert "name other classes" in capsys.readouterr().err
    assert not out.exists()
    out.touch()
    assert speakers.main(["join", str(tmp_path), str(out)]) == 2
    assert "is there already" in capsys.readouterr().err


def test_speakers_are_paired_over_the_seeds_that_all_rows_have(tmp_path, capsys) -> None:
    for number, gain in enumerate((0.02, 0.04, 0.03)):
        runs = [
            {"member": member, "seed": seed, "accuracy": 0.5 + gain * (member == "learned")}
            for member in ("learned", "fixed_small", "fixed")
            for seed in (0, 1)
        ]
        runs[-1] = {**runs[-3], "seed": 2}  # seed 1 lacks a row
        (tmp_path / str(number)).mkdir()
        text = "".join(json.dumps(line) + "\n" for line in runs)
        (tmp_path / str(number) / "results.jsonl").write_text(text, encoding="utf-8")
    assert speakers.main(["table", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    assert "| 1 | 1 | 54.0 % | 50.0 % | 50.0 % |" in shown
    assert "fixed random delays, equal parameters: +3.0 [+0.5, +5.5], p = 0.035, paired" in shown
    assert speakers.main(["table", str(tmp_path / "0")]) == 2


def test_a_short_training_is_measured_before_and_after_rounding(small_config, tmp_path) -> None:
    config = small_config(epochs=4, sigma_end=0.5, sigma_schedule="constant", test=False)
    config.out = str(tmp_path / "run")
    names = list(settling.SETTINGS["words"])
    line = {"setting": names[0], "seed": 0, **settling.measure(config)}
    other = {**line, "setting": names[1], "rounded": line["rounded"] - 0.125}
    assert 0 <= line["between"] <= 1
    assert line["moved"] > 0
    assert json.loads(json.dumps(line))["trained"] <= 1
    assert "| -12.5 |" in settling.table("words", [line, other])


def test_settings_differ_in_their_options_and_compose() -> None:
    for task, settings in settling.SETTINGS.items():
        assert len({str(own) for own in settings.values()}) == len(settings)
        for own in settings.values():
            config = compose("train", overrides(settling.COMMON[task], settling.ALL, own))
            assert (config.train.protocol, config.train.test) == ("validation", False)
            assert config.train.epochs >= 15


def test_a_task_that_is_unknown_is_refused(capsys) -> None:
    assert settling.main([]) == settling.main(["digits", "folder"]) == 2
    assert "settling words <folder>" in capsys.readouterr().err


def test_every_row_has_as_many_trials() -> None:
    found = {name: load_suite(FOLDER, name) for name in OURS}
    searched = {name: suite for name, suite in found.items() if suite.search is not None}
    assert len(searched) == 7
    for suite in searched.values():
        rows = suite_rows(suite, 1, [])
        assert rows.keys() == suite.members.keys()
        assert len({str(trial.options) for row in rows.values() for trial in row.trials}) == 1
        assert all(len(row.trials) == 1 for row in rows.values())


def test_the_picture_has_a_row_for_each_suite_with_results(tmp_path, capsys) -> None:
    assert figure.main([str(tmp_path / "ahead.png")]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert (tmp_path / "ahead.png").read_bytes().startswith(b"\x89PNG")
    there = [f for f in figure.SUITES.values() if (figure.HERE / f / "results.jsonl").is_file()]
    assert len(printed) == len(there) >= 5
    assert printed[0].endswith("+32.2 [+23.8, +40.5], n = 5")


def test_the_picture_pairs_networks_by_seed(tmp_path) -> None:
    lines = [
        {"member": member, "seed": seed, "accuracy": accuracy}
        for member, seed, accuracy in (
            ("learned", 0, 0.5), ("learned", 1, 0.7), ("learned", 2, 0.9),
            ("fixed", 1, 0.6), ("fixed", 0, 0.2), ("none", 0, 0.1),
        )
    ]  # fmt: skip
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (tmp_path / "results.jsonl").write_text(text, encoding="utf-8")
    compared = figure.difference(tmp_path).difference
    assert (compared.n, round(compared.mean, 6)) == (2, 20)
