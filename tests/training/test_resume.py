"""A training that was stopped anywhere ends as if it had not been, bit by bit."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import shutil
import signal
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from snn_delays.errors import Interrupted, UserError
from snn_delays.nn import Network
from snn_delays.training import checkpoint, loop, run_folder
from snn_delays.training import step as training_step
from snn_delays.training.checkpoint import checkpoint_path, read_checkpoint, read_last
from snn_delays.training.run import train
from tests.processes import COMMAND, Command

TIMES = ("seconds", "samples_per_second")


def metrics(out) -> list[dict]:
    """The lines of metrics.jsonl, but for what a clock says."""
    lines = [
        json.loads(line) for line in Path(out, "metrics.jsonl").read_text("utf-8").splitlines()
    ]
    return [{k: v for k, v in line.items() if k not in TIMES} for line in lines]


def equal(a, b) -> bool:
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(equal(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(equal, a, b))
    return a == b


def assert_same_run(left, right) -> None:
    """Parameters, optimisers, random states, metrics, selected epoch, result."""
    assert metrics(left) == metrics(right)
    for which in ("last", "best"):
        a, b = (read_checkpoint(Path(out), which) for out in (left, right))
        assert a.keys() == b.keys()
        for key in a.keys() - {"config", "position"}:
            assert equal(a[key], b[key]), (which, key)
        positions = [without_times(s.get("position", {})) for s in (a, b)]
        assert positions[0] == positions[1]
    a, b = (json.loads(Path(out, "result.json").read_text("utf-8")) for out in (left, right))
    assert without_times(a) == without_times(b)


def without_times(values):
    """But for what a clock says, checksums of that included, and for how many processes it took."""
    if isinstance(values, dict):
        left = values.keys() - {*TIMES, "sessions", "checksums"}
        return {k: without_times(v) for k, v in values.items() if k in left}
    return [without_times(v) for v in values] if isinstance(values, list) else values


class Enough(Exception):
    """A training was let run for as long as asked."""


def train_for(batches: int, config, monkeypatch) -> None:
    """Let a training run for a number of batches, or to its end."""
    left = [batches]

    def step(*arguments, real=training_step.take_step):
        if left[0] == 0:
            raise Enough
        left[0] -= 1
        return real(*arguments)

    with monkeypatch.context() as patch, contextlib.suppress(Enough):
        patch.setattr(training_step, "take_step", step)
        train(config)


@pytest.fixture
def reference(small_config, tmp_path):
    """Options of a run with augmentation and dropout, and its uninterrupted result, by protocol."""

    def make(protocol="validation", name="reference", **data):
        config = small_config(protocol=protocol, epochs=4, batch_size=8)
        config.train.checkpoint_minutes = 1e-9  # after every batch
        config.data.augment.spike_drop = 0.2
        config.data.augment.cutmix = 0.5
        config.out = str(tmp_path / name)
        return config

    return make


@pytest.mark.parametrize("protocol", ["validation", "refit", "last", "paper"])
def test_a_run_stopped_at_any_batch_ends_the_same(protocol, reference, monkeypatch) -> None:
    whole = reference(protocol)
    train(whole)
    config = reference(protocol, "stopped")
    config.resume = "auto"
    for batches in (0, 1, 3, 7, 2, 6):
        train_for(batches, config, monkeypatch)
    train(config)
    assert_same_run(whole.out, config.out)


def test_a_run_goes_on_from_the_names_of_format_3(reference, monkeypatch) -> None:
    whole, config = reference(), reference(name="stopped")
    train(whole)
    config.resume = "auto"
    train_for(3, config, monkeypatch)  # within an epoch
    saved = read_checkpoint(Path(config.out), "last")
    position = saved["position"]
    position["sums"]["right"] = position["sums"].pop("correct")
    position["parts"] = position.pop("sessions")
    for session in position["parts"]:
        session["together"], session["resident"] = session.pop("batched"), {"train": False}
        del session["data_on_gpu"]
    saved["format"] = 3
    saved["digest"] = checkpoint._digest(saved)
    torch.save(saved, checkpoint_path(Path(config.out), "last"))
    read = read_checkpoint(Path(config.out), "last")
    assert read["position"]["sums"]["correct"] > 0
    assert read["position"]["sessions"][0]["data_on_gpu"] == {"train": False}
    train(config)
    assert_same_run(whole.out, config.out)


@pytest.mark.parametrize("backend", ["dense", "numba"])
def test_every_way_to_compute_goes_on_exactly(backend, reference, monkeypatch) -> None:
    from snn_delays.runtime import numba_jit

    if backend == "numba" and not numba_jit.available():
        pytest.skip("numba is not installed")
    whole = reference()
    whole.backend = backend
    train(whole)
    config = reference(name="stopped")
    config.backend, config.resume = backend, "auto"
    train_for(6, config, monkeypatch)
    train(config)
    assert_same_run(whole.out, config.out)


def test_a_recurrent_run_goes_on_exactly(reference, monkeypatch) -> None:
    whole, config = reference(), reference(name="stopped")
    for each in (whole, config):
        each.resume, each.model.recurrent, each.model.recurrent_dropout = "auto", "learned", 0.2
        each.model.recurrent_width_scope = "neuron"
    train(whole)
    for batches in (1, 7):
        train_for(batches, config, monkeypatch)
    train(config)
    assert_same_run(whole.out, config.out)
    widths = [line["recurrent_sigma"] for line in metrics(config.out)]
    assert widths == [10 * 0.95 ** (25 * epoch) for epoch in range(4)]


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_a_device_goes_on_exactly(device, reference, monkeypatch) -> None:
    whole, config = reference(), reference(name="stopped")
    for each in (whole, config):
        each.device, each.resume = device, "auto"
    train(whole)
    if device == "cuda":  # what was timed for one run is to hold for the other
        backends = json.loads(Path(whole.out, "result.json").read_text("utf-8"))["sessions"][0][
            "backends"
        ]
        monkeypatch.setattr(Network, "fastest_backends", lambda network, x: backends)
    real, left = training_step.apply, [7]  # in the second epoch

    def apply(*arguments):
        left[0] -= 1
        if left[0] < 0:
            raise Enough
        return real(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(training_step, "apply", apply)
        with pytest.raises(Enough):
            train(config)
    train(config)
    assert_same_run(whole.out, config.out)


def test_checkpoints_within_an_epoch_come_by_the_clock(reference, monkeypatch) -> None:
    saved = []
    real = loop.Training.save

    def save(training):
        saved.append((training.position.epoch, training.position.batch))
        real(training)

    monkeypatch.setattr(loop.Training, "save", save)
    config = reference()
    config.train.checkpoint_minutes = 1000.0
    train(config)
    assert saved == [(1, 0), (2, 0), (3, 0), (4, 0)]
    saved.clear()
    train(reference(name="other"))
    assert saved[:6] == [(0, 1), (0, 2), (0, 3), (0, 4), (1, 0), (1, 1)]


def test_a_finished_run_gives_its_result(reference, capsys) -> None:
    config = reference()
    result = train(config)
    config.resume = "auto"
    stamp = checkpoint_path(Path(config.out), "last").stat().st_mtime_ns
    assert train(config) == result
    assert "holds a finished run" in capsys.readouterr().out
    assert checkpoint_path(Path(config.out), "last").stat().st_mtime_ns == stamp


def test_other_options_are_refused(reference) -> None:
    config = reference()
    train(config)
    config.resume = "auto"
    config.model.dropout, config.train.epochs = 0.1, 9
    words = r"model\.dropout=0\.1 \(0\.4 there\), train\.epochs=9 \(4 there\)"
    with pytest.raises(UserError, match=words):
        train(config)
    other = reference()
    with pytest.raises(UserError, match=r"is not an empty folder.*resume=auto"):
        train(other)


def test_other_data_is_refused(reference, spike_files, monkeypatch) -> None:
    from tests.conftest import random_spikes

    config = reference()
    config.resume = "auto"
    train_for(3, config, monkeypatch)
    random_spikes(spike_files["train"], 48, 7)
    with pytest.raises(UserError, match=r"The data of the run in .* has changed since it started"):
        train(config)


def test_the_newest_unfinished_run_of_these_options_is_resumed(
    reference, monkeypatch, tmp_path, capsys
) -> None:
    whole = reference()
    train(whole)
    monkeypatch.chdir(tmp_path)
    config, other = reference(), reference()
    config.out = other.out = None
    other.seed = 1
    for minute, each in enumerate((config, config, other)):
        train_for(3, each, monkeypatch)
        for path in Path("runs").rglob("*"):
            if path.is_file() and path.stat().st_mtime > 1e6:
                os.utime(path, (minute, minute))
    Path("runs/damaged/checkpoints").mkdir(parents=True)
    Path("runs/damaged/checkpoints/last.pt").touch()
    config.resume = "last"
    newest = sorted(Path("runs/run").glob("*-s0*"), key=lambda p: p.stat().st_mtime)[-1]
    assert train(config)["out"] == str(newest)
    assert f"resuming after 0 epochs and 3 batches, writing {newest}/" in capsys.readouterr().out
    assert_same_run(whole.out, newest)
    assert train(config)["out"] != str(newest)  # the one before it
    words = r"no unfinished run with these options in runs/.* the newest, runs/.* options: seed=0"
    with pytest.raises(UserError, match=words):
        train(config)
    config.out = "somewhere"
    with pytest.raises(UserError, match="resume=last finds the folder of the run itself"):
        train(config)


def test_a_finished_run_is_trained_on_by_another(small_config) -> None:
    config = small_config(epochs=1)
    train(config)
    config.resume, config.train.epochs = "auto", 2
    with pytest.raises(UserError, match="and start from this run by train") as e:
        train(config)
    assert "train.epochs=2 (1 there)" in str(e.value)
    Path(config.out, "result.json").unlink()
    with pytest.raises(UserError) as e:
        train(config)
    assert str(e.value).endswith("or choose another out.")


def test_resume_without_a_run_starts_one(reference) -> None:
    config = reference()
    config.resume = "auto"
    assert train(config)["n"] == 30
    config.out = None
    with pytest.raises(UserError, match="resume=auto needs out="):
        train(config)


# ---- signals -----------------------------------------------------------------------------------


def test_a_signal_saves_and_stops(reference, monkeypatch, request) -> None:
    before = signal.getsignal(signal.SIGTERM)
    ignored = signal.signal(signal.SIGINT, signal.default_int_handler)  # as in a background job
    request.addfinalizer(lambda: signal.signal(signal.SIGINT, ignored))
    whole = reference()
    train(whole)
    config = reference(name="stopped")
    config.resume, config.train.checkpoint_minutes = "auto", 1000.0
    real = training_step.take_step
    for number, batches in ((signal.SIGTERM, 2), (signal.SIGINT, 3), (signal.SIGUSR1, 1)):
        left = [batches]

        def step(*arguments, left=left, number=number):
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), number)
            return real(*arguments)

        with monkeypatch.context() as patch:
            patch.setattr(training_step, "take_step", step)
            with pytest.raises(Interrupted) as stopped:
                train(config)
        assert stopped.value.signal == number
    position = read_last(Path(config.out))["position"]
    assert (position["epoch"], position["batch"]) == (1, 1)  # five batches an epoch
    train(config)
    assert_same_run(whole.out, config.out)
    assert signal.getsignal(signal.SIGTERM) == before


# ---- the command, killed -----------------------------------------------------------------------

# Kills itself at the given call of the functions that write, counted over the process; where the
# call writes, half of it is written.
FAULTS = """
import os, signal
from snn_delays import files
def die(before=lambda: None):
    global left
    left -= 1
    if left == 0:
        before()
        os.kill(os.getpid(), signal.SIGKILL)
def count(function):
    def wrapped(*arguments, **options):
        die()
        return function(*arguments, **options)
    return wrapped
class Halves:
    def __init__(self, *arguments):
        self.file = open(*arguments)
    def __enter__(self):
        return self
    def __exit__(self, *error):
        self.file.close()
    def __getattr__(self, name):
        return getattr(self.file, name)
    def write(self, content):
        die(lambda: (self.file.write(content[:len(content) // 2]), self.file.flush()))
        return self.file.write(content)
files.open = lambda path, mode: (Halves if mode == "xb" else open)(path, mode)
os.replace, os.fsync = count(os.replace), count(os.fsync)
"""


@pytest.fixture
def command(spike_files, tmp_path):
    """Arguments of a run that writes all the time."""
    return [
        "train", "data=spikes", f"data.train_file={spike_files['train']}",
        f"data.test_file={spike_files['test']}", "data.units_per_channel=50",
        f"data.cache={tmp_path / 'cache'}", "model.hidden=[12]", "model.taps=5",
        "train.epochs=16", "train.batch_size=8", "device=cpu", "train.checkpoint_minutes=1e-9",
        "backend=dense", "resume=auto", "data.augment.spike_drop=0.1",
    ]  # fmt: skip


def start(command, out, faults: int | None = None) -> Command:
    code = f"left = {faults}{FAULTS}{COMMAND}" if faults else COMMAND
    return Command([*command, f"out={out}"], Path(out).with_name("said"), code=code)


def finish(command, out) -> None:
    process = start(command, out)
    assert process.wait() == 0, process.said()


def epochs(out) -> int:
    """How many epochs the run has noted."""
    metrics = Path(out) / "metrics.jsonl"
    return metrics.read_bytes().count(b"\n") if metrics.exists() else 0


def wait_for_epochs(process, out, count: int) -> None:
    while process.poll() is None and epochs(out) < count:
        time.sleep(0.01)


def kill_and_go_on(command, out, kills: int, tmp_path) -> None:
    whole = tmp_path / "whole"
    finish(command, whole)
    rng = np.random.default_rng(0)
    killed, tries = 0, 0
    while killed < kills and tries < 3 * kills:
        tries += 1
        if killed % 2:  # at a moment
            more = int(rng.integers(1, 4))
            process = start(command, out)
            wait_for_epochs(process, out, epochs(out) + more)
            time.sleep(rng.uniform(0, 0.05))
            process.kill()
        else:  # within the writing of a file
            process = start(command, out, faults=int(rng.integers(8, 200)))
        if process.wait() == 0:  # it ended before its kill: another, from the start
            shutil.rmtree(out)
            continue
        assert process.poll() == -signal.SIGKILL
        killed += 1
    assert killed == kills
    finish(command, out)
    assert_same_run(whole, out)
    assert not list(Path(out).rglob("*.part"))


def test_a_run_killed_at_its_very_start_goes_on(reference, monkeypatch) -> None:
    """After every single step of the writing that comes before the first batch."""
    whole, config = reference(), reference(name="killed")
    for one in (whole, config):
        one.train.epochs, one.train.checkpoint_minutes = 1, 1000.0
    train(whole)
    config.resume = "auto"
    for calls in range(1, 10):
        left = [calls]

        def counted(*arguments, left=left, real=None):
            left[0] -= 1
            if left[0] == 0:
                raise Enough
            return real(*arguments)

        with monkeypatch.context() as patch, contextlib.suppress(Enough):
            for name in ("replace", "fsync"):
                real = getattr(os, name)
                patch.setattr(os, name, functools.partial(counted, real=real))
            patch.setattr(Path, "unlink", lambda *a, **o: None)  # a killed process cleans nothing
            train(config)
        shutil.copytree(config.out, f"{config.out}-{calls}")
    for calls in range(1, 10):
        config.out = str(Path(whole.out).with_name(f"killed-{calls}"))
        train(config)
        assert_same_run(whole.out, config.out)
        assert not list(Path(config.out).rglob("*.part"))


def test_a_killed_command_goes_on(command, tmp_path) -> None:
    kill_and_go_on(command, tmp_path / "killed", 3, tmp_path)


@pytest.mark.slow
def test_a_command_killed_twenty_times_goes_on(command, tmp_path) -> None:
    command = [a.replace("train.epochs=16", "train.epochs=60") for a in command]
    kill_and_go_on(command, tmp_path / "killed", 20, tmp_path)


def test_the_command_stops_on_sigterm_with_a_code_of_its_own(command, tmp_path) -> None:
    out = tmp_path / "stopped"
    process = Command([*command, "train.epochs=10000", f"out={out}"], tmp_path)
    process.wait_for(lambda: epochs(out) > 0)
    process.send_signal(signal.SIGTERM)
    assert process.wait() == 128 + signal.SIGTERM, process.said()
    assert "SIGTERM: stopping at the next batch" in process.errors
    assert f"all is saved in {out}: resume by resume=auto" in process.errors
    assert read_last(out)["position"]["epoch"] >= 1


HOLDS = """
import sys, time
from pathlib import Path
from snn_delays.files import locked
with locked(Path(sys.argv[1]), wait=False):
    print("held", flush=True)
    time.sleep(600)
"""


def test_two_runs_cannot_write_one_folder(reference, tmp_path) -> None:
    config = reference()
    lock = Path(config.out, run_folder.LOCK_FILE)
    holder = Command([lock], tmp_path, code=HOLDS)
    try:
        holder.wait_for(lambda: holder.printed == "held\n")
        words = rf"Another run \(process {holder.pid}\) is writing to {config.out}"
        with pytest.raises(UserError, match=words):
            train(config)
        assert [p.name for p in Path(config.out).iterdir()] == [run_folder.LOCK_FILE]
    finally:
        holder.kill()
        holder.wait()
    train(config)  # the lock of a dead process holds nothing
