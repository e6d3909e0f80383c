"""Several processes that train together give what one gives, and stop, fail and go on as one."""

from __future__ import annotations

import datetime
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from snn_delays import cli
from snn_delays.config import Config
from snn_delays.config.schema import QuantiseConfig
from snn_delays.data.loaders import Loader, Samples
from snn_delays.errors import UserError
from snn_delays.runtime import numba_jit
from snn_delays.runtime.distributed import ProcessInfo, process_info
from snn_delays.training import distributed as train_distributed
from snn_delays.training.checkpoint import Position, read_checkpoint, read_last
from snn_delays.training.run import _note_session, train
from tests.conftest import open_spikes
from tests.processes import ROOT, Command
from tests.training.team import Team, places
from tests.training.test_resume import assert_same_run, metrics

NEAR = 1e-9


@pytest.fixture(scope="module")
def team() -> Iterator[Team]:
    made = Team(3)
    yield made
    made.close()


@pytest.fixture
def double(small_config, tmp_path):
    """A configuration in float64: 36 training samples, 11 to a batch, the last batch of 3."""

    def make(name="run", data=None, model=None, **train) -> Config:
        config = small_config(epochs=2, batch_size=11)
        config.precision, config.backend = "float64", "dense"
        config.out = str(tmp_path / name)
        config.model.hidden, config.model.dropout = [8, 7], 0.0
        config.model.v_threshold = 0.3  # or scores of silent networks tie, and rounding decides
        for group, values in ((config.train, train), (config.model, model or {})):
            for key, value in values.items():
                setattr(group, key, value)
        for key, value in (data or {}).items():
            setattr(config.data.augment, key, value)
        return config

    return make


@pytest.fixture
def alone(monkeypatch):
    """Train in this process, with the threads of the others."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield train
    torch.set_num_threads(before)


def assert_near(left, right) -> None:
    """Two runs that differ by rounding."""
    for which in ("last", "best"):
        a, b = (read_checkpoint(Path(out), which) for out in (left, right))
        for name, value in a["model"].items():
            gap = value.double() - b["model"][name].double()  # of a mask, too
            assert gap.abs().max() <= NEAR, (which, name)
        if which == "last":
            assert torch.equal(a["rng"], b["rng"])
            assert a["position"]["best_epoch"] == b["position"]["best_epoch"]
    for mine, other in zip(metrics(left), metrics(right), strict=True):
        assert mine.keys() == other.keys()
        for key, value in mine.items():
            if key != "delays":
                assert value == (pytest.approx(other[key], abs=NEAR)), key
    a, b = (json.loads(Path(out, "result.json").read_text("utf-8")) for out in (left, right))
    for key in ("accuracy", "epoch", "per_class"):
        assert a[key] == b[key], key
    assert a["loss"] == pytest.approx(b["loss"], abs=NEAR)


def assert_one(answers) -> dict:
    """All processes ended with the same bits; the first alone said something."""
    for other in answers[1:]:
        assert other["digests"] == answers[0]["digests"]
        assert other["result"] == answers[0]["result"]
        assert other["printed"] == ""
    assert "training" in answers[0]["printed"]
    return answers[0]["result"]


CASES = {
    "dense": {},
    "dropout": {"model": {"dropout": 0.4}},
    "plif": {"model": {"neuron": "plif", "filter_tau_ms": 20.0, "dropout": 0.2}},
    "no_norm": {"model": {"batch_norm": False, "bias": True}},
    "mixed_samples": {
        "data": {"cutmix": 0.5, "blend": 0.3, "time_shift": 2},
        "model": {"dropout": 0.2},
    },
    "own_lengths": {"protocol": "paper", "model": {"dropout": 0.2}},
    "refit": {"protocol": "refit"},
    "recurrent": {"model": {"recurrent": "learned", "recurrent_dropout": 0.3}},
    "rounded": {"model": {"quantise": QuantiseConfig("4", 3)}},
    "axonal": {"model": {"delay_type": "axonal"}, "round_epochs": 0.5},
    "penalties": {
        "model": {"recurrent": "learned", "dropout": 0.2},
        "running_loss": 0.5,
        "rate_penalty": 9.0,
        "delay_penalty": 0.1,
        "delay_noise": 0.5,
    },
    "frozen": {"freeze": "delays", "delay_noise": 0.5},
    "pruned": {"round_epochs": 0.5, "buffer_budget": 40, "delay_noise": 0.5},
    "own_parts": {
        "loss": "tests.own:short_delays",
        "model": {
            "neuron": "tests.own:Adaptive",
            "readout": "tests.own:Attention",
            "delay_kernel": "tests.own:laplace",
        },
    },
}


@pytest.mark.parametrize("case", CASES)
def test_two_processes_give_what_one_gives(case, team, double, alone) -> None:
    one, two = double("one", **CASES[case]), double("two", **CASES[case])
    alone(one)
    result = assert_one(team.train(two, 2))
    assert_near(one.out, two.out)
    assert [session["processes"] for session in result["sessions"]] == [2]


def test_two_processes_answer_every_step_as_one(team, step_config, tmp_path, alone) -> None:
    one, two = step_config(epochs=2, batch_size=11), step_config(epochs=2, batch_size=11)
    for config, name in ((one, "one"), (two, "two")):
        config.out, config.precision, config.backend = str(tmp_path / name), "float64", "dense"
    result, other = alone(one), assert_one(team.train(two, 2))
    for mine, theirs in zip(metrics(one.out), metrics(two.out), strict=True):
        for key in ("train_loss", "train_nrmse", "valid_loss", "valid_nrmse"):
            assert mine[key] == pytest.approx(theirs[key], abs=NEAR)
    assert result["nrmse"] == pytest.approx(other["nrmse"], abs=NEAR)


@pytest.mark.skipif(not numba_jit.available(), reason="numba is not installed")
@pytest.mark.parametrize("dropout", [0.0, 0.4])
def test_two_processes_give_what_one_gives_fused(dropout, team, double, alone) -> None:
    one, two = (double(name, model={"dropout": dropout}) for name in ("one", "two"))
    one.backend = two.backend = "numba"
    alone(one)
    answers = team.train(two, 2)
    assert_one(answers)
    assert "numba (blocks fused)" in answers[0]["printed"]
    assert_near(one.out, two.out)


@pytest.mark.parametrize("backend", ["dense", "numba"])
def test_a_batch_of_fewer_samples_than_processes(backend, team, double, alone) -> None:
    if backend == "numba" and not numba_jit.available():
        pytest.skip("numba is not installed")
    one, three = (double(n, batch_size=17, model={"dropout": 0.2}) for n in ("one", "three"))
    one.backend = three.backend = backend
    alone(one)  # 36 samples: 17, 17 and 2
    assert_one(team.train(three, 3))
    assert_near(one.out, three.out)


@pytest.mark.parametrize("part", [(0, 1), (0, 2), (1, 2), (2, 3)])
@pytest.mark.parametrize("augmented", [False, True])
def test_parts_of_batches(part, augmented, spike_files, small_config) -> None:
    config = small_config()
    config.data.augment.cutmix = 0.5
    samples = Samples.of(open_spikes(spike_files["train"], config))
    chosen = samples.where(np.arange(len(samples)) < 37)  # four batches of 9, one of 1

    def loader(part):
        return Loader(
            chosen, 9, None, torch.float64, torch.device("cpu"), 3,
            config.data if augmented else None, part,
        )  # fmt: skip

    for whole, mine in zip(loader((0, 1)).epoch(1), loader(part).epoch(1), strict=True):
        rows = mine.own_rows or slice(0, len(whole.y))
        for name, dim in (("x", 1), ("y", 0), ("target", 0)):
            expected = getattr(whole, name)
            expected = expected[:, rows] if dim else expected[rows]
            assert torch.equal(getattr(mine, name), expected)
        assert np.array_equal(mine.indices, whole.indices)
        assert mine.x.is_contiguous()
        assert mine.loss_weight == (
            1 / part[1] if len(whole.y) < part[1] else len(mine.y) / len(whole.y)
        )


# ---- stop and go on ----------------------------------------------------------------------------


@pytest.mark.parametrize("numbers", [(1, 2), (2, 1), (2, 2), (3, 2)])
def test_another_number_of_processes_goes_on(numbers, team, double, alone) -> None:
    first, second = numbers
    whole, config = (double(n, model={"dropout": 0.3}) for n in ("whole", "stopped"))
    config.resume = "auto"
    stopped = team.train(config, first, rank=first - 1, signal_at=6)  # 4 batches an epoch
    assert {a["error"] for a in stopped} == {"Interrupted"}
    position = read_last(Path(config.out))["position"]
    assert (position["epoch"], position["batch"]) == (1, 2)
    result = assert_one(team.train(config, second)) if second > 1 else alone(config)
    assert [session["processes"] for session in result["sessions"]] == list(numbers)
    if first == second:
        team.train(whole, second)
        assert_same_run(whole.out, config.out)
    else:
        alone(whole)
        assert_near(whole.out, config.out)


def test_a_run_notes_how_many_processes_it_had(caplog) -> None:
    old = Position(sessions=[{"backend": "dense", "device": "cpu", "threads": 1, "torch": "2"}])
    config = Config(backend="dense")
    old.sessions[0] |= {"threads": torch.get_num_threads(), "torch": torch.__version__}
    _note_session(old, config, torch.device("cpu"), 1, [], [])
    assert not caplog.text
    old.sessions[-1]["processes"] = 4
    _note_session(old, config, torch.device("cpu"), 1, [], [])
    assert "is resumed with another number of processes than before" in caplog.text


# ---- what goes wrong ---------------------------------------------------------------------------


def test_an_error_of_the_first_process_ends_all(team, double) -> None:
    config = double()
    first, other = team.train(config, 2, rank=0, data=True)
    assert (first["error"], first["words"]) == ("UserError", "the data is not here")
    assert other["error"] == "OtherRankFailed"
    assert not Path(config.out).exists()


def test_an_error_of_another_process_says_where(team, double) -> None:
    config = double()
    first, other = team.train(config, 2, rank=1, data=True)
    assert first["error"] == "OtherRankFailed"
    assert (other["error"], other["words"]) == (
        "UserError", "process 2 of 2: the data is not here",
    )  # fmt: skip
    assert not Path(config.out).exists()


def test_processes_with_other_options_are_refused(team, double) -> None:
    config = double()
    first, other = team.train(config, 2, rank=1, seed=7)
    assert "The processes differ in their options" in first["words"]
    assert other["error"] == "OtherRankFailed"
    assert not Path(config.out).exists()


@pytest.mark.parametrize("rank", [0, 1])
def test_a_bug_in_one_process_ends_all(rank, team, double) -> None:
    config = double()
    config.resume = "auto"
    answers = team.train(config, 2, rank=rank, error_at=3)
    assert answers[rank]["words"] == "a bug of ours"
    assert answers[rank]["notes"] == [f"This was process {rank + 1} of 2."]
    if rank == 0:
        assert answers[1]["error"] == "OtherRankFailed"
    else:
        assert "Another process of this training ended" in answers[0]["words"]
    assert_one(team.train(config, 2))  # nothing is locked any more


def test_a_nan_in_one_process_stops_all(team, double) -> None:
    config = double()
    first, other = team.train(config, 2, rank=1, nan_at=2)
    assert re.search(r"became .* in epoch 1, batch 3 \(.*nonfinite", first["words"])
    assert other["error"] == "OtherRankFailed"
    noted = json.loads(Path(config.out, "nonfinite.json").read_text("utf-8"))
    assert len(noted["samples"]) == 11


def test_a_nan_in_one_process_is_skipped_by_all(team, double) -> None:
    one, two = (double(name, nonfinite="skip") for name in ("one", "two"))
    team.train(one, 1, rank=0, nan_at=1)
    assert metrics(one.out)[0]["skipped_batches"] == 1
    assert_one(team.train(two, 2, rank=1, nan_at=1))
    assert_near(one.out, two.out)


# ---- the command -------------------------------------------------------------------------------


@pytest.fixture
def command(spike_files, tmp_path) -> list[str]:
    return [
        "train", "data=spikes", f"data.train_file={spike_files['train']}",
        f"data.test_file={spike_files['test']}", "data.units_per_channel=50",
        f"data.cache={tmp_path / 'cache'}", "model.hidden=[8]", "model.taps=5",
        "train.batch_size=8", "device=cpu", "backend=dense",
    ]  # fmt: skip


def torchrun(arguments: list[str]) -> subprocess.Popen[str]:
    """Two processes of the module, which say where they were if they crash."""
    more = {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "PYTHONFAULTHANDLER": "1"}
    two = ["torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    return subprocess.Popen(
        [sys.executable, "-m", *two, "-m", f"snn_delays.cli.{arguments[0]}", *arguments[1:]],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **more},
    )


@pytest.mark.slow
def test_torchrun_trains(command, tmp_path) -> None:
    out = tmp_path / "run"
    process = torchrun([*command, "train.epochs=2", f"out={out}"])
    printed, error = process.communicate(timeout=120)
    assert process.returncode == 0, f"{printed}\n{error}"
    assert len(re.findall(r"^train +\d/2 ", printed, re.MULTILINE)) == 2
    assert printed.count("test accuracy of epoch") == 1
    assert json.loads((out / "result.json").read_text("utf-8"))["sessions"][0]["processes"] == 2
    assert len(metrics(out)) == 2


@pytest.mark.slow
def test_sigterm_to_torchrun_saves(command, tmp_path) -> None:
    out = tmp_path / "run"
    process = torchrun([*command, "train.epochs=10000", f"out={out}"])
    while not (out / "metrics.jsonl").is_file() or not metrics(out):
        time.sleep(0.05)
        assert process.poll() is None, process.communicate()
    process.send_signal(signal.SIGTERM)
    _, error = process.communicate(timeout=60)
    assert error.count("SIGTERM: stopping at the next batch") == 1
    assert error.count(f"all is saved in {out}: resume by resume=auto") == 1
    assert read_last(out)["position"]["epoch"] >= 1


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ("model.taps=4", "model.taps=4 must be odd"),
        ("model.tap=4", "There is no option model.tap"),
        ("data.train_file=/nowhere.h5", "There is no file /nowhere.h5"),
    ],
)
def test_a_mistake_is_told_once(wrong, words, command, tmp_path) -> None:
    out = tmp_path / "run"
    processes = [
        Command([*command, wrong, f"out={out}"], tmp_path / here["RANK"], **here)
        for here in places(2)
    ]
    assert [process.wait() for process in processes] == [2, 2]
    errors = [process.errors for process in processes]
    assert words in errors[0]
    assert errors[0].count("\n") == 1
    assert errors[1] == ""
    assert not out.exists()


def test_only_training_takes_several_processes(monkeypatch, capsys) -> None:
    for here, words in zip(places(2), ("snn-delays train", ""), strict=True):
        for name, value in here.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(sys, "argv", ["snn-delays", "benchmark", "suite=shd"])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        assert ended.value.code == 2
        error = capsys.readouterr().err
        assert words in error
        assert bool(error) == bool(words)


def test_process_info(monkeypatch) -> None:
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    assert process_info() == ProcessInfo()
    monkeypatch.setenv("WORLD_SIZE", "4")
    assert process_info() == ProcessInfo()
    monkeypatch.setenv("RANK", "3")
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert process_info() == ProcessInfo(3, 4, 1)
    assert str(process_info()) == "process 4 of 4"


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"RANK": "", "WORLD_SIZE": "2"}, "RANK='' must be a whole number"),
        ({"RANK": "0", "WORLD_SIZE": "two"}, "WORLD_SIZE='two' must be a whole number"),
        ({"RANK": "-1", "WORLD_SIZE": "2"}, "RANK='-1' must be a whole number"),
        ({"RANK": "2", "WORLD_SIZE": "2"}, "RANK=2 must be less than WORLD_SIZE=2"),
        ({"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": ""}, "LOCAL_RANK='' must be"),
        ({"RANK": "0", "WORLD_SIZE": "2"}, "RANK and WORLD_SIZE are set, but MASTER_ADDR is not"),
        ({"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "here"}, "but MASTER_PORT is not"),
        (
            {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "here", "MASTER_PORT": "65536"},
            "MASTER_PORT=65536 is no port",
        ),
    ],
)
def test_a_launchers_variables_that_are_wrong(variables, words, monkeypatch, capsys) -> None:
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "argv", ["snn-delays", "train", "device=cpu"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 2
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1


def test_the_wait_for_others_is_said_and_ends(monkeypatch, capsys) -> None:
    here = places(2)[0]
    for name, value in here.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(train_distributed, "RENDEZVOUS_LIMIT", datetime.timedelta(seconds=1))
    monkeypatch.setattr(train_distributed, "WAIT_NOTICE", 0.1)
    where = f"127.0.0.1:{here['MASTER_PORT']}"
    with (
        pytest.raises(UserError, match=f"Process 1 of 2 has not met the others at {where}"),
        train_distributed.process_group(torch.device("cpu"), ""),
    ):
        pass
    assert f"Process 1 of 2 waits at {where} for the others" in capsys.readouterr().err


def test_a_wait_for_others_heeds_signals(tmp_path) -> None:
    process = Command(["train", "device=cpu"], tmp_path, **places(2)[0])
    process.wait_for(lambda: "waits at" in process.errors)
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == -signal.SIGTERM


def test_a_taken_port_is_said(monkeypatch) -> None:
    here = places(2)[0]
    for name, value in here.items():
        monkeypatch.setenv(name, value)
    with socket.socket() as taken:
        taken.bind(("", int(here["MASTER_PORT"])))
        taken.listen()
        with (
            pytest.raises(UserError, match="and a free MASTER_PORT"),
            train_distributed.process_group(torch.device("cpu"), ""),
        ):
            pass
