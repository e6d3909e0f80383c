"""`snn-delays runs` as a person meets it: the runs of a folder made by hand."""

from __future__ import annotations

import csv
import io
import json
import os
from dataclasses import asdict
from pathlib import Path

import pytest
import yaml

from snn_delays.cli.compose import compose
from snn_delays.files import is_locked, locked
from snn_delays.training.run_files import FAILED_SUFFIX, LOCK_FILE, NONFINITE_FILE
from snn_delays.training.run_folder import resolved
from tests.cli.test_cli import run

TESTED = {"accuracy": 0.925, "interval": [0.901, 0.944], "n": 600}
VALIDATED = {"valid": {"accuracy": 0.5, "interval": [0.4, 0.6], "n": 100}}


def make(folder: str, *options: str, result: dict | None = None, epochs: int = 0) -> Path:
    """The folder of a run, whose files are written one minute after those of the run before."""
    config = compose("train", [*options, f"out={folder}"])
    out = Path(folder)
    out.mkdir(parents=True)
    text = yaml.safe_dump(asdict(resolved(config, out, "cpu")), sort_keys=False)
    (out / "config.yaml").write_text(text, encoding="utf-8")
    (out / "metrics.jsonl").write_text("{}\n" * epochs, encoding="utf-8")
    if result is not None:
        (out / "result.json").write_text(json.dumps(result), encoding="utf-8")
    return out


def at(minute: int, folder: Path) -> None:
    for path in folder.iterdir():
        os.utime(path, (60 * minute, 60 * minute))


@pytest.fixture
def folders(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    few = ["train.epochs=4", "model.taps=13", "model.hidden=[8,9]"]
    made = [
        make("runs/a/z", "experiment=demo/learned", "seed=3", *few, result=TESTED),
        make("runs/b", "train.protocol=paper", "data.cache=/x", result=TESTED),
        make("runs/c", "train.test=false", "train.nonfinite=skip", result=VALIDATED),
        make("runs/stopped", "data=spikes", "data.train_file=/f/words.h5", epochs=7),
        make("runs/refit", "train.protocol=refit", "train.epochs=2", epochs=3),
        make("runs/diverged", epochs=1),
        make("runs/suite/s0"),
    ]
    (made[5] / NONFINITE_FILE).touch()
    made[6].with_suffix(FAILED_SUFFIX).touch()
    for minute, folder in enumerate(made):
        at(minute, folder)
    Path("runs/.hydra").mkdir()
    Path("runs/.hydra/config.yaml").touch()


TABLE = """\
run            seed  accuracy [95 % interval], or state
runs/a/z          3  92.5 % [90.1, 94.4] test
    demo_learned, synthetic, validation: model.hidden=[8,9] model.taps=13
    train.epochs=4
runs/b            0  92.5 % [90.1, 94.4] test-selected
    run, synthetic, paper
runs/c            0  50.0 % [40.0, 60.0] validation
    run, synthetic, validation: train.test=false train.nonfinite=skip
runs/stopped      0  stopped at epoch 7 of 15
    run, spikes (words.h5), validation
runs/refit        0  stopped in the refit of 2
    run, synthetic, refit: train.epochs=2
runs/diverged     0  failed at epoch 1 of 15
    run, synthetic, validation
runs/suite/s0     0  failed at epoch 0 of 15
    run, synthetic, validation
7 runs in runs: 3 finished, 2 stopped, 2 failed
"""


def test_the_list_says_what_each_run_is(folders, capsys, monkeypatch) -> None:
    code, printed, error = run(capsys, monkeypatch, "runs")
    assert (code, error) == (0, "")
    assert printed == TABLE


def test_a_run_that_another_process_writes_is_running(folders, capsys, monkeypatch) -> None:
    lock = Path("runs/stopped", LOCK_FILE)
    with locked(lock, wait=False):
        before = lock.read_bytes()
        _, printed, _ = run(capsys, monkeypatch, "runs")
        assert is_locked(lock)
        assert lock.read_bytes() == before
    assert "running at epoch 7 of 15" in printed
    assert not is_locked(lock)
    assert not is_locked(Path("runs/c", LOCK_FILE))
    assert not Path("runs/c", LOCK_FILE).exists()


def test_the_list_for_other_programs(folders, capsys, monkeypatch) -> None:
    _, printed, _ = run(capsys, monkeypatch, "runs", "format=json", "sort=accuracy")
    rows = json.loads(printed)
    assert [row["run"] for row in rows[-3:]] == ["runs/c", "runs/a/z", "runs/b"]
    assert rows[-2] == {
        "run": "runs/a/z", "name": "demo_learned", "seed": 3, "data": "synthetic",
        "protocol": "validation", "state": "finished", "epochs": 4, "of_epochs": 4,
        "accuracy": 0.925, "low": 0.901, "high": 0.944, "nrmse": None, "n": 600,
        "accuracy_of": "test",
        "changed": {"model.hidden": [8, 9], "model.taps": 13, "train.epochs": 4},
    }  # fmt: skip
    _, printed, _ = run(capsys, monkeypatch, "runs", "in=runs/a", "format=csv", "sort=name")
    (row,) = csv.DictReader(io.StringIO(printed))
    assert row["changed"] == "model.hidden=[8,9] model.taps=13 train.epochs=4"
    assert float(row["accuracy"]) == 0.925


DAMAGED = {
    "config.yaml": ["{", "data: {name: 3}", "[]", "x: 1\ndata: {}"],
    "result.json": ["{", "[]", '{"accuracy": 1, "interval": [null, 1]}', '{"valid": {}}'],
}


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_run_is_named_and_the_others_are_listed(
    name, folders, capsys, monkeypatch
) -> None:
    for content in DAMAGED[name]:
        Path("runs/b", name).write_text(content, encoding="utf-8")
        code, printed, error = run(capsys, monkeypatch, "runs")
        assert code == 0
        assert error.startswith("left out: runs/b"), content
        assert error.count("\n") == 1
        assert printed.splitlines()[1:4] == TABLE.splitlines()[1:4]
        assert "runs/b" not in printed


def test_nonsense_is_one_sentence(folders, capsys, monkeypatch) -> None:
    for options, words in (
        (["in=none"], "There is no folder none; name the folder of the runs by in=<folder>."),
        (["sort=speed"], "sort=speed is not one of time, accuracy, name."),
        (["runs"], "runs cannot be read. Write in=runs."),
        (["srt=time"], "There is no option srt. Did you mean 'sort'?"),
    ):
        code, printed, error = run(capsys, monkeypatch, "runs", *options)
        assert (code, printed) == (2, "")
        assert error == f"snn-delays: {words}\n"
    Path("empty").mkdir()
    code, printed, _ = run(capsys, monkeypatch, "runs", "in=empty")
    assert (code, printed) == (0, "There is no run in empty.\n")
    for form, expected in (("json", "[]\n"), ("csv", "run\n")):
        _, printed, _ = run(capsys, monkeypatch, "runs", "in=empty", f"format={form}")
        assert printed == expected
