"""`snn-delays benchmark` as a person meets it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from snn_delays.benchmark.results import numbers, read_results
from snn_delays.benchmark.suite import load_suite, suites
from snn_delays.cli import benchmark
from snn_delays.cli.groups import SUITES, config_folder
from tests.cli.test_cli import run

SIZES = [
    "data=spikes", "data.units_per_channel=50", "model.hidden=[8]", "model.taps=5",
    "train.epochs=3", "train.batch_size=16", "device=cpu",
]  # fmt: skip


@pytest.fixture
def words(spike_files, tmp_path, monkeypatch) -> list[str]:
    """A suite of two networks that train in a second, and the options that run it."""
    monkeypatch.chdir(tmp_path)
    members = {
        "learned": {"label": "learned delays", "options": ["model.delays=learned"]},
        "none": {"label": "no delays", "options": ["model.delays=none", "model.tau_ms=30"]},
    }
    suite = {"title": "Two networks", "seeds": 2, "options": SIZES, "baseline": "learned"}
    Path("suites").mkdir()
    Path("suites/words.yaml").write_text(yaml.safe_dump({**suite, "members": members}))
    monkeypatch.setattr(benchmark, "_folder", lambda: Path("suites"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    files = [f"data.{name}_file={path}" for name, path in spike_files.items()]
    return ["benchmark", "suite=words", *files, "data.cache=cache", "jobs=1"]


def test_a_suite_is_run_tabulated_and_skipped_when_done(words, capsys, monkeypatch) -> None:
    code, printed, _ = run(capsys, monkeypatch, *words)
    assert code == 0
    assert "2 networks x 2 seeds: 4 runs, 0 done; 1 at a time, 1 threads each" in printed
    assert "[4/4] none, seed 1: done" in printed
    out = Path("runs/benchmark/words")
    lines = read_results(out / "results.jsonl")
    names = [(line["member"], line["seed"]) for line in lines]
    assert names == [("learned", 0), ("none", 0), ("learned", 1), ("none", 1)]
    assert all(len(line["epochs"]) == 3 for line in lines)
    assert {"config_hash", "data_hash", "commit", "versions", "machine", "config"} <= lines[
        0
    ].keys()
    assert lines[1]["config"]["model"]["delays"] == "none"
    table = (out / "table.md").read_text()
    assert table in printed
    for line in lines:
        result = json.loads((out / line["member"] / f"s{line['seed']}/result.json").read_text())
        assert line["accuracy"] == result["accuracy"]
    assert "train   3/3" in (out / "none/s1.log").read_text()
    # again: nothing is trained; with a seed more: that one
    before = (out / "results.jsonl").read_bytes()
    code, printed, _ = run(capsys, monkeypatch, *words)
    assert "4 runs, 4 done" in printed
    assert (out / "results.jsonl").read_bytes() == before
    code, printed, _ = run(capsys, monkeypatch, *words, "seeds=3")
    assert "6 runs, 4 done" in printed
    assert len(read_results(out / "results.jsonl")) == 6


def test_it_repeats_bit_by_bit_whatever_runs_beside(words, capsys, monkeypatch) -> None:
    found = {}
    for jobs in (1, 2):
        options = ["seeds=1", f"jobs={jobs}", f"out=jobs{jobs}"]
        code, _, _ = run(capsys, monkeypatch, *words[:-1], *options)
        assert code == 0
        found[jobs] = [numbers(line) for line in read_results(Path(f"jobs{jobs}/results.jsonl"))]
    assert found[1] == found[2]


def test_a_failed_member_is_reported_and_the_rest_goes_on(words, capsys, monkeypatch) -> None:
    suite = yaml.safe_load(Path("suites/words.yaml").read_text())
    suite["members"]["learned"]["options"].append("train.lr_weight=1e38")
    Path("suites/words.yaml").write_text(yaml.safe_dump(suite))
    code, printed, errors = run(capsys, monkeypatch, *words, "seeds=1")
    assert code == 1
    assert "learned, seed 0: FAILED: " in printed
    assert "**Failed**: learned, seed 0: " in Path("runs/benchmark/words/table.md").read_text()
    assert "| no delays |" in printed
    assert errors.endswith("1 of 2 runs failed.\n")
    code, printed, errors = run(capsys, monkeypatch, *words, "seeds=1", "train.lr_weight=1e-3")
    assert code == 1  # with other options it is another run, and says so
    assert "holds a run of other options" in printed


def test_a_bug_of_ours_is_reported_too(words, capsys, monkeypatch) -> None:
    def broken(*arguments):
        raise ZeroDivisionError("oh")

    monkeypatch.setattr("snn_delays.benchmark.jobs.train", broken)
    code, printed, _ = run(capsys, monkeypatch, *words, "seeds=1")
    assert code == 1
    assert "FAILED: ZeroDivisionError: oh" in printed
    assert "Traceback" in Path("runs/benchmark/words/none/s0.log").read_text()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_suite_that_was_killed_goes_on(number, words, capsys, monkeypatch, tmp_path) -> None:
    script = (
        "import sys; from pathlib import Path; from snn_delays.cli import benchmark, main;"
        "benchmark._folder = lambda: Path('suites'); sys.argv[0] = 'snn-delays'; main()"
    )
    options = [*words[:-1], "jobs=2", "seeds=1", "train.epochs=400"]
    root = str(Path(__file__).parents[2])
    with Path("printed").open("w") as file:
        process = subprocess.Popen(
            [sys.executable, "-c", script, *options],
            env={**os.environ, "PYTHONPATH": root},
            stdout=file,
            stderr=file,
            start_new_session=True,
        )
    metrics = [Path(f"runs/benchmark/words/{m}/s0/metrics.jsonl") for m in ("learned", "none")]
    deadline = time.monotonic() + 120
    while not all(m.is_file() and m.read_bytes().count(b"\n") > 2 for m in metrics):
        assert time.monotonic() < deadline, Path("printed").read_text()
        time.sleep(0.1)
    process.send_signal(number)
    process.wait(60)
    assert not Path("runs/benchmark/words/learned/s0/result.json").is_file()
    code, printed, _ = run(capsys, monkeypatch, *options)
    assert code == 0, printed
    for member in ("learned", "none"):
        assert "going on after" in Path(f"runs/benchmark/words/{member}/s0.log").read_text()


@pytest.mark.parametrize(
    ("options", "words_said"),
    [
        (["suite=wrods"], "suite=wrods is not one of words. Did you mean 'words'?"),
        ([], "suite=... is missing"),
        (["suite=words", "seed=3"], "seed=... is the suite's to give"),
        (["suite=words", "seeds=0"], "seeds=0 must be at least 1"),
        (["suite=words", "model.tapps=3"], "There is no option model.tapps"),
        (["suite=words", "quick"], "quick cannot be read. Write option=value."),
        (["suite=words", "hydra/launcher=sbatch"], "launcher"),
    ],
)
def test_nonsense_is_one_sentence(options, words_said, words, capsys, monkeypatch) -> None:
    code, _, errors = run(capsys, monkeypatch, "benchmark", *options, *words[2:-1])
    assert code == 2
    assert words_said in errors
    assert errors.count("\n") == 1
    assert not Path("runs").exists()


def test_help_names_the_suites(capsys, monkeypatch) -> None:
    code, printed, _ = run(capsys, monkeypatch, "benchmark", "--help")
    assert code == 0
    assert all(f"  {name}" in printed for name in suites(config_folder() / SUITES))
    assert "seeds=" in printed


@pytest.mark.parametrize("name", suites(config_folder() / SUITES))
def test_every_committed_suite_composes(name) -> None:
    suite = load_suite(config_folder() / SUITES, name)
    configs = benchmark._configs(suite, 2, Path("x"), [])
    assert len(configs) == 2 * len(suite.members)
    selected = {config.selection for key, config in configs if key != "paper"}
    assert "test-selected" not in selected


# ---- searches ----------------------------------------------------------------------------------


def search(words: list[str], *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "snn_delays.cli.train", "-m", "hydra/sweeper=optuna"]
    settings = [
        "hydra.sweeper.n_trials=3",
        "hydra.sweeper.n_jobs=1",
        "hydra.sweeper.sampler.seed=0",
    ]
    space = ["hydra.sweeper.direction=maximize", "model.tau_ms=interval(11,60)"]
    return subprocess.run(
        [*command, *settings, *space, *SIZES, *words[2:-1], *options],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_search_sees_validation_data_alone(words) -> None:
    done = search(words, "train.test=false", "out=found")
    assert done.returncode == 0, done.stderr
    assert "test accuracy" not in done.stdout
    best = yaml.safe_load(Path("found/optimization_results.yaml").read_text())
    results = [json.loads(Path(f"found/{n}/result.json").read_text()) for n in range(3)]
    assert all("accuracy" not in result for result in results)
    assert best["best_value"] == max(result["valid"]["accuracy"] for result in results)
    refused = search(words, "train.protocol=last", "out=refused")
    assert refused.returncode == 2
    assert "A search chooses on validation data" in refused.stderr
