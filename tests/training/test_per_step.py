"""Targets per step: the loss, the NRMSE, whole runs, resumed, of two processes; refusals."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from snn_delays import cli
from snn_delays.benchmark.jobs import Job
from snn_delays.benchmark.results import read_line, table
from snn_delays.benchmark.suite import Member, Suite
from snn_delays.cli.runs import _result
from snn_delays.cli.train import describe
from snn_delays.config import validate
from snn_delays.data.dataset import load_data
from snn_delays.data.gpu_loader import GpuLoader
from snn_delays.deploy import from_run
from snn_delays.errors import UserError
from snn_delays.nn import draw_network
from snn_delays.nn.loss import mse, squared_errors
from snn_delays.regression import StepError, evaluate_steps
from snn_delays.training.batched import why_not_batched
from snn_delays.training.checkpoint import load_run
from snn_delays.training.loop import build_loader
from snn_delays.training.run import train
from snn_delays.training.run_files import summarise_run
from snn_delays.training.run_folder import read_result
from tests.conftest import open_spikes
from tests.training.test_resume import assert_same_run, metrics, train_for


def shifted(outputs, target):
    """A user's own loss."""
    return (outputs[: len(target)] - target.nan_to_num()).abs().mean()


def example(extra: int = 3, seed: int = 0):
    """Outputs and targets of 4 samples of 1 to 7 steps and 2 outputs, float64."""
    g = torch.Generator().manual_seed(seed)
    target = torch.randn(7, 4, 2, generator=g, dtype=torch.float64)
    for b, steps in enumerate((7, 1, 4, 6)):
        target[steps:, b] = math.nan
    target[0, 0], target[2, 3, 1] = math.nan, math.nan  # no target here
    outputs = torch.randn(7 + extra, 4, 2, generator=g, dtype=torch.float64)
    return outputs.requires_grad_(), target


def loop_errors(outputs, target) -> list[float]:
    """Each sample's mean squared error, number by number."""
    means = []
    for b in range(target.shape[1]):
        own = [
            (float(outputs[t, b, k]) - float(target[t, b, k])) ** 2
            for t in range(len(target))
            for k in range(target.shape[2])
            if not math.isnan(target[t, b, k])
        ]
        means.append(sum(own) / len(own))
    return means


# ---- the loss ----------------------------------------------------------------------------------


def test_the_loss_is_that_of_a_loop() -> None:
    outputs, target = example()
    found = squared_errors(outputs, target).tolist()
    assert found == pytest.approx(loop_errors(outputs.detach(), target), abs=1e-12)
    assert mse(outputs, target).item() == pytest.approx(sum(found) / 4, abs=1e-12)


def test_gradients_are_those_of_the_plain_formula() -> None:
    outputs, target = example()
    mse(outputs, target).backward()
    plain = outputs.detach().clone().requires_grad_()
    each = []
    for b in range(4):
        exists = ~target[:, b].isnan()
        each.append((plain[:7, b][exists] - target[:, b][exists]).pow(2).mean())
    (sum(each) / 4).backward()
    torch.testing.assert_close(outputs.grad, plain.grad, rtol=0, atol=1e-12)


@pytest.mark.parametrize("value", [1e30, math.inf, math.nan])
def test_outputs_without_a_target_change_no_bit(value) -> None:
    outputs, target = example()
    mse(outputs, target).backward()
    other = outputs.detach().clone()
    other[7:], other[:7][target.isnan()] = value, value
    other.requires_grad_()
    loss = mse(other, target)
    loss.backward()
    assert loss.item() == mse(outputs, target).item()
    assert torch.equal(other.grad, outputs.grad)
    assert not outputs.grad[7:].any()


# ---- the data ----------------------------------------------------------------------------------


def test_targets_pass_from_the_file_to_the_batches(step_config, spike_files) -> None:
    config = step_config()
    data = load_data(config)
    assert data.classes == ["output 0", "output 1"]
    with h5py.File(spike_files["test"]) as file:
        stored = [values.reshape(-1, 2) for values in file["targets"]]
        first = np.array([times.min() for times in file["spikes/times"]], np.float64)
    loader = build_loader(config, data.test, 50, torch.device("cpu"))
    assert loader.batch_size == 16
    for batch in loader.epoch():
        assert batch.per_step
        assert batch.target.shape == (len(batch.x), len(batch.y), 2)
        for b, number in enumerate(batch.indices):
            steps = len(stored[number])
            assert data.test.steps[number] == steps
            np.testing.assert_array_equal(batch.target[:steps, b], stored[number])
            assert batch.target[steps:, b].isnan().all()
            begins = int(batch.x[:, b].any(1).nonzero()[0])
            assert begins == int(first[number] * 1000 // 10)  # times are not moved


@pytest.mark.parametrize("augmented", [False, True])
def test_a_gpus_loader_gives_the_same_targets(augmented, step_config) -> None:
    config = step_config()
    config.data.augment.channel_shift = 2 * augmented
    data = load_data(config)
    loader = build_loader(config, data.train, 60, torch.device("cpu"), training=True)
    for mine, theirs in zip(loader.epoch(1), GpuLoader.of(loader).epoch(1), strict=True):
        assert torch.equal(mine.x, theirs.x)
        torch.testing.assert_close(mine.target, theirs.target, rtol=0, atol=0, equal_nan=True)


def test_outputs_at_the_targets_means_have_an_nrmse_of_one(step_config) -> None:
    samples = load_data(step_config()).train
    every = [samples.targets(n).astype(np.float64) for n in range(len(samples))]
    weights = [np.isfinite(y) / np.isfinite(y).sum() for y in every]
    total = sum(w.sum(0) for w in weights)
    mean = sum(np.nansum(w * y, 0) for w, y in zip(weights, every, strict=True)) / total
    squared = np.mean([np.nanmean((y - mean) ** 2) for y in every])
    assert samples.target_variance == pytest.approx(squared, abs=1e-12)
    assert StepError.of(squared, samples.target_variance, 1).nrmse == pytest.approx(1)


def change(path: Path, name: str, number: int, values) -> None:
    with h5py.File(path, "a") as file:
        file[name][number] = np.asarray(values, np.float32)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ([1.0], "sample 3 has 1 targets, no multiple of 2"),
        ([math.nan, math.nan], "sample 3 has no target; remove it"),
        ([math.inf, 1.0], "sample 3 has an infinite target"),
        ([1.0, 2.0], r"sample 3 has targets for 1 steps of 10 ms, but a spike at .* data.step_ms"),
    ],
)
def test_wrong_targets_are_refused(values, words, step_config, spike_files) -> None:
    change(spike_files["train"], "targets", 3, values)
    with pytest.raises(UserError, match=words):
        load_data(step_config())


def test_a_file_without_targets_is_refused(step_config, spike_files) -> None:
    with h5py.File(spike_files["train"], "a") as file:
        del file["targets"]
    with pytest.raises(UserError, match="there is no targets"):
        load_data(step_config())


def test_constant_targets_are_refused(step_config, spike_files) -> None:
    with h5py.File(spike_files["test"], "a") as file:
        for number, values in enumerate(file["targets"]):
            file["targets"][number] = np.ones_like(values)
    with pytest.raises(UserError, match="all targets are the same number"):
        load_data(step_config())


def test_labels_may_be_missing_and_frames_of_classes_stay(step_config, spike_files) -> None:
    config = step_config()
    store = open_spikes(spike_files["train"], config)
    assert not store.labels.any()
    config.data.target = "class"
    other = open_spikes(spike_files["train"], config)
    assert other.labels.any()
    assert other.file.path != store.file.path
    with h5py.File(spike_files["train"], "a") as file:
        del file["labels"]
    config.data.target = "per_step"
    assert len(open_spikes(spike_files["train"], config)) == 48


# ---- runs --------------------------------------------------------------------------------------


@pytest.fixture
def trained(step_config):
    config = step_config(epochs=3)
    return config, train(config)


def test_a_run_is_measured_by_its_nrmse(trained, capsys) -> None:
    config, result = trained
    assert "accuracy" not in result
    assert {"nrmse", "mse", "n", "loss", "valid", "delay_buffer_bytes"} <= result.keys()
    lines = metrics(config.out)
    assert {"train_nrmse", "valid_nrmse", "valid_loss"} <= lines[0].keys()
    errors = [line["valid_nrmse"] for line in lines]
    assert result["epoch"] == errors.index(min(errors)) + 1
    data, run = load_data(config), load_run(config.out)
    network, test = run.network.eval(), data.test
    errors = []
    with torch.no_grad():
        for number in range(len(test)):
            x = torch.tensor(test.frames(number)).float()[:, None]
            padded = torch.cat([x, x.new_zeros(data.train.longest - len(x), 1, x.shape[2])])
            outputs = network(padded, running=True).double()
            target = torch.tensor(test.targets(number)).double()[:, None]
            errors += loop_errors(outputs, target)
    assert result["mse"] == pytest.approx(np.mean(errors), rel=1e-5)
    assert result["nrmse"] == pytest.approx(math.sqrt(np.mean(errors) / test.target_variance))
    assert read_result(Path(config.out)) == {k: v for k, v in result.items() if k != "out"}
    said = describe(result)
    assert f"NRMSE {result['nrmse']:.4f}  n = 30" in said
    assert "accuracy" not in said
    assert _result(summarise_run(Path(config.out))) == f"NRMSE {result['nrmse']:.4f} test"


def test_the_loss_of_training_is_the_error_of_its_batches(step_config, capsys) -> None:
    config = step_config(epochs=1, batch_size=1000, protocol="last")
    config.model.dropout = 0.0
    train(config)
    (line,) = metrics(config.out)
    data = load_data(config)
    assert line["train_nrmse"] == pytest.approx(
        math.sqrt(line["train_loss"] / data.train.target_variance)
    )
    assert f"NRMSE {line['train_nrmse']:.4f}" in capsys.readouterr().out


def test_one_output_answers_the_inputs_before_it(step_config) -> None:
    config = step_config()
    config.precision = "float64"
    network = draw_network(config, 2).double().eval()
    x = (torch.rand(20, 3, 14, generator=torch.Generator().manual_seed(0)) < 0.5).double()
    changed = x.clone()
    changed[12:] = 0
    with torch.no_grad():
        one, other = network(4 * x, running=True), network(4 * changed, running=True)
    torch.testing.assert_close(one[:12], other[:12], rtol=0, atol=1e-12)
    assert not torch.equal(one[12], other[12])


@pytest.mark.parametrize("protocol", ["validation", "refit"])
def test_a_stopped_run_ends_the_same(protocol, step_config, tmp_path, monkeypatch) -> None:
    configs = [step_config(protocol=protocol, checkpoint_minutes=1e-9) for _ in range(2)]
    for config, name in zip(configs, ("whole", "stopped"), strict=True):
        config.out = str(tmp_path / name)
    train(configs[0])
    configs[1].resume = "auto"
    for batches in (1, 3, 2):
        train_for(batches, configs[1], monkeypatch)
    train(configs[1])
    assert_same_run(configs[0].out, configs[1].out)


def test_a_suites_table_shows_the_nrmse(trained, tmp_path) -> None:
    config, result = trained
    jobs = [Job(key, config) for key in ("a", "b")]
    lines = [{**read_line(job), "seed": seed} for job in jobs for seed in (0, 1)]
    suite = Suite("s", "T", {k: Member(k, []) for k in "ab"}, 2, baseline="a")
    text = table(suite, lines, {})
    value = f"{result['nrmse']:.4f}"
    assert f"| {value} ± 0.0000 [{value}, {value}] |" in text
    assert "Test NRMSE (lower is better" in text
    assert "| minus | seeds | NRMSE [95 % interval]" in text
    assert "+0.0000 [+0.0000, +0.0000]" in text
    assert "accuracy" not in text
    assert " % [" not in text


def command(monkeypatch, *words: str) -> int:
    monkeypatch.setattr(sys, "argv", ["snn-delays", *words])
    try:
        cli.main()
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


def test_commands_show_the_error_or_refuse(trained, spike_files, monkeypatch, capsys) -> None:
    config, result = trained
    run = f"run={config.out}"
    capsys.readouterr()
    files = [f"data.{split}_file={path}" for split, path in spike_files.items()]
    per_step = ["data.target=per_step", "train.loss=mse", "model.readout=last"]
    assert command(monkeypatch, "data", "info", "data=spikes", *files, *per_step) == 0
    assert "outputs   2: output 0, output 1" in capsys.readouterr().out
    assert command(monkeypatch, "evaluate", run) == 0
    said = capsys.readouterr().out
    assert f"NRMSE {result['nrmse']:.4f}  n = 30" in said
    assert f"loss {result['loss']:.4f}" in said
    for words in (
        ["evaluate", run, "weights=8"],
        ["evaluate", run, "target=loihi1"],
        ["predict", run, f"in={spike_files['test']}"],
        ["export", run, "target=c", f"out={config.out}/c"],
        ["analyse", run],
    ):
        assert command(monkeypatch, *words) == 2, words
        said = capsys.readouterr().err
        assert "data.target=per_step" in said, (words, said)
        assert said.count("\n") <= 3, said
    files = [word for word in files if "valid" not in word]
    words = ["suite=delays", "data=spikes", *files, *per_step, f"out={config.out}/suite"]
    assert command(monkeypatch, "benchmark", *words) == 2
    assert "accuracy, which data.target=per_step lacks" in capsys.readouterr().err
    with pytest.raises(UserError, match=r"data\.target=per_step"):
        from_run(config.out)
    assert command(monkeypatch, "runs", f"in={Path(config.out).parent}", "format=json") == 0
    (listed,) = json.loads(capsys.readouterr().out)
    assert listed["nrmse"] == result["nrmse"]
    assert listed["accuracy"] is None


def test_an_own_loss_takes_the_targets(step_config) -> None:
    config = step_config(epochs=1, loss="tests.training.test_per_step:shifted")
    result = train(config)
    run, data = load_run(config.out), load_data(config)
    loader = build_loader(config, data.test, run.meta.steps, torch.device("cpu"))
    found = evaluate_steps(run.network, loader, shifted)
    assert found.loss == result["loss"]
    assert found.error.nrmse == result["nrmse"]
    assert found.loss != found.error.mse


# ---- options that do not fit -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("group", "option", "value", "needed"),
    [
        ("model", "readout", "sum", "model.readout=last"),
        ("train", "loss", "cross_entropy", "train.loss=mse"),
        ("train", "running_loss", 0.5, "train.running_loss=0"),
        ("train", "protocol", "paper", "train.protocol=validation, refit or last"),
        ("augment", "cutmix", 0.5, "data.augment.cutmix=0"),
        ("augment", "time_shift", 1, "data.augment.time_shift=0"),
        ("augment", "blend", 0.5, "data.augment.blend=0"),
        ("quantise", "weights", "8", "model.quantise.weights=float32"),
    ],
)
def test_what_does_not_fit_is_refused(group, option, value, needed, step_config) -> None:
    config = step_config()
    groups = {"augment": config.data.augment, "quantise": config.model.quantise}
    setattr(groups.get(group) or getattr(config, group), option, value)
    with pytest.raises(UserError, match=f"data.target=per_step needs {needed}."):
        validate(config)


def test_the_loss_and_the_data_must_have_such_targets(step_config) -> None:
    config = step_config()
    config.data.target = "class"
    with pytest.raises(UserError, match=r"train\.loss=mse needs data\.target=per_step"):
        validate(config)
    config = step_config()
    config.data.name, config.data.train_file, config.data.test_file = "synthetic", None, None
    with pytest.raises(UserError, match=r"data=synthetic needs data\.target=class"):
        validate(config)
    assert why_not_batched(step_config()) == "train.loss=mse is not cross_entropy"
