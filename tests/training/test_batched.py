"""Seeds that train at once end as those alone do; each stops, fails and goes on by itself."""

from __future__ import annotations

import contextlib
import gc
import io
import json
import os
import signal
import weakref
from pathlib import Path

import numpy as np
import pytest
import torch

from snn_delays.config import Config
from snn_delays.config.schema import QuantiseConfig
from snn_delays.data.loaders import Batch, Loader
from snn_delays.errors import Interrupted, UserError
from snn_delays.nn import build_network
from snn_delays.runtime import triton_jit
from snn_delays.training import batched, loop
from snn_delays.training.batched import StackedBatch, compute_batched_gradients, train_batched
from snn_delays.training.checkpoint import checkpoint_path, read_checkpoint, read_last
from snn_delays.training.optim import build_optimizers
from snn_delays.training.run import train
from snn_delays.training.step import PendingStep, apply, take_step
from tests.training.test_resume import assert_same_run, metrics, train_for

NEAR = {"rtol": 1e-9, "atol": 1e-9}


@pytest.fixture(autouse=True)
def _one_thread():
    """Threads that wait for one another take minutes where other work keeps the cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def seed(small_config, tmp_path):
    """A configuration in float64: 36 training samples, 11 to a batch, the last batch of 3."""

    def make(number: int, out: str, *, model=None, **settings) -> Config:
        config = small_config(epochs=3, batch_size=11, **settings)
        config.seed, config.out, config.resume = number, str(tmp_path / out / f"s{number}"), "auto"
        config.precision, config.backend = "float64", "matmul"
        config.model.hidden, config.model.dropout = [8, 7], 0.3
        config.model.v_threshold = 0.3  # or scores of silent networks tie, and rounding decides
        config.data.augment.spike_drop = 0.2
        for key, value in (model or {}).items():
            setattr(config.model, key, value)
        return config

    return make


def seeds(make, out: str, count: int = 3, **settings) -> list[Config]:
    return [make(number, out, **settings) for number in range(count)]


def assert_near_runs(left: Config, right: Config) -> None:
    """Parameters, statistics, optimisers and metrics up to rounding; random states exactly."""
    for which in ("last", "best"):
        a, b = (read_checkpoint(Path(str(c.out)), which) for c in (left, right))
        torch.testing.assert_close(a["model"], b["model"], **NEAR)
        if which == "last":
            assert torch.equal(a["rng"], b["rng"])
            a, b = (saved["optimizers"]["optimizers"] for saved in (a, b))
            torch.testing.assert_close(a, b, **NEAR)
    for a, b in zip(metrics(left.out), metrics(right.out), strict=True):
        assert a.keys() == b.keys()
        for key, value in a.items():
            near = pytest.approx(b[key], rel=1e-9) if isinstance(value, float) else b[key]
            assert value == near, key
    results = [
        json.loads(Path(str(c.out), "result.json").read_text("utf-8")) for c in (left, right)
    ]
    for key in ("accuracy", "epoch", "seed", "config_hash", "parameters"):
        assert results[0][key] == results[1][key]


def positions(configs: list[Config]) -> list[tuple[int, int]]:
    found = [read_last(Path(str(config.out)))["position"] for config in configs]
    return [(position["epoch"], position["batch"]) for position in found]


@pytest.mark.parametrize(
    ("model", "settings"),
    [
        ({"kernel_count": 2}, {}),
        ({"extra_steps": 3}, {"protocol": "refit"}),
        ({"delays": "fixed", "density": 0.6}, {"protocol": "last"}),
        ({"delays": "none", "dropout": 0.0}, {}),
        ({"quantise": QuantiseConfig("4", 3)}, {"protocol": "last"}),
        ({"neuron": "se_adlif", "tau_scope": "layer"}, {"protocol": "last"}),
        ({"delay_type": "axonal", "kernel_count": 2}, {"round_epochs": 0.34}),
        ({"density": 0.8}, {"round_epochs": 0.34, "buffer_budget": 90}),
        ({}, {"freeze": "weights"}),
        ({"delay_type": "dendritic"}, {"delay_gradient": "straight_through"}),
    ],
)
def test_seeds_at_once_end_as_those_alone(model, settings, seed) -> None:
    lone, joint = (seeds(seed, out, model=model, **settings) for out in ("alone", "at_once"))
    if "delay_type" in model:
        for config in (*lone, *joint):
            config.backend = "depthwise"
    for config in lone:
        train(config)
    results = train_batched(joint)
    for a, b, result in zip(lone, joint, results, strict=True):
        assert_near_runs(a, b)
        assert result["out"] == b.out
        assert [session["batched"] for session in result["sessions"]] == [3]
        files = [sorted(p.relative_to(c.out) for p in Path(c.out).rglob("*")) for c in (a, b)]
        assert files[0] == files[1]


@pytest.mark.parametrize("neuron", ["lif", "silif"])
def test_a_joint_step_on_a_gpu_is_that_of_each(neuron, monkeypatch) -> None:
    """In Triton's interpreter."""
    if triton_jit.why_not(torch.ones(1)) is not None:
        pytest.skip(f"Triton's interpreter: {triton_jit.why_not(torch.ones(1))}")
    monkeypatch.setattr(triton_jit, "serves", lambda x: triton_jit.why_not(x) is None)
    config = Config()
    config.model.hidden, config.model.taps, config.backend = [5, 6], 5, "matmul"
    config.data.units, config.data.units_per_channel, config.model.bias = 4, 1, True
    config.model.neuron = neuron

    def turns(count: int = 2) -> list[PendingStep]:
        made = []
        for number in range(count):
            torch.manual_seed(number)
            network = build_network(config, 3).double().train()
            y = torch.arange(4) % 3
            batch = Batch((torch.rand(7, 4, 4) < 0.4).double(), y, y, np.arange(4))
            made.append(
                PendingStep(network, build_optimizers(network, config.train), batch, (0, 0))
            )
        return made

    lone, joint = turns(), turns()
    results, masks = [], []
    for number, (a, b) in enumerate(zip(lone, joint, strict=True)):
        torch.manual_seed(number)
        results.append(take_step(a.network, a.optimizers, a.batch, "float64"))
        torch.manual_seed(number)
        masks.append(batched.batched.draw_masks(b.network, 4))
    x = torch.stack([turn.batch.x for turn in joint], 2)
    y = torch.stack([turn.batch.y for turn in joint], 1)
    batch = StackedBatch(x, y, y, torch.stack(masks, 1))
    networks = [turn.network for turn in joint]
    found = compute_batched_gradients(networks, batch, "float64")
    assert all(network.readout.neuron.v_seq is None for network in networks)  # holds no pass
    for turn, result in zip(joint, found, strict=True):
        apply(turn.network, turn.optimizers, result)
    for a, b, one, other in zip(lone, joint, results, found, strict=True):
        torch.testing.assert_close(a.network.state_dict(), b.network.state_dict(), **NEAR)
        torch.testing.assert_close(vars(one), vars(other), **NEAR)


@pytest.mark.gpu
def test_seeds_at_once_on_a_gpu(seed) -> None:
    lone, joint = seeds(seed, "alone"), seeds(seed, "at_once")
    for config in (*lone, *joint):
        config.device = "cuda"
    for config in lone:
        train(config)
    train_batched(joint)
    for a, b in zip(lone, joint, strict=True):
        assert_near_runs(a, b)


# ---- stops -------------------------------------------------------------------------------------


def test_a_signal_stops_all_at_one_place_and_they_go_on(seed, monkeypatch) -> None:
    whole, stopped = seeds(seed, "whole"), seeds(seed, "stopped")
    train_batched(whole)
    calls = 0

    def find(*arguments, real=compute_batched_gradients, **settings):
        nonlocal calls
        calls += 1
        if calls == 6:
            os.kill(os.getpid(), signal.SIGTERM)
        return real(*arguments, **settings)

    with monkeypatch.context() as patch:
        patch.setattr(batched, "compute_batched_gradients", find)
        ends = train_batched(stopped)
    assert [(type(end), end.signal) for end in ends] == [(Interrupted, signal.SIGTERM)] * 3
    assert len(set(positions(stopped))) == 1
    assert positions(stopped)[0] in [(1, 2), (1, 3)]
    train_batched(stopped)
    for a, b in zip(whole, stopped, strict=True):
        assert_same_run(a.out, b.out)


def test_who_is_behind_catches_up_and_who_is_done_is_left_out(seed, monkeypatch) -> None:
    lone, joint = (seeds(seed, out, 4) for out in ("alone", "at_once"))
    for config in lone:
        train(config)
    done = train(joint[0])
    joint[1].train.checkpoint_minutes = 1e-9  # after every batch
    train_for(6, joint[1], monkeypatch)
    assert positions(joint[1:2]) == [(1, 2)]
    sizes = []

    def take(steps, runs, real=batched._BatchedSteps.take):
        sizes.append((runs[0].pending.epoch_and_batch, len(runs)))
        return real(steps, runs)

    monkeypatch.setattr(batched._BatchedSteps, "take", take)
    results = train_batched(joint)
    behind = [((0, n), 2) for n in range(4)] + [((1, 0), 2), ((1, 1), 2)]
    assert sizes == behind + [((1, 2), 3), ((1, 3), 3)] + [((2, n), 3) for n in range(4)]
    assert results[0] == done
    for a, b in zip(lone, joint, strict=True):
        assert_near_runs(a, b)


# ---- failures ----------------------------------------------------------------------------------


@pytest.fixture
def spoilt(monkeypatch):
    """The second batch of the second epoch of seed 1 is not finite."""

    def batch(loader, epoch, place, numbers, real=Loader._batch):
        made = real(loader, epoch, place, numbers)
        if (epoch, place, loader.shuffle_seed) == (1, 1, 1):
            made.x[0, 0, 0] = float("nan")
        return made

    monkeypatch.setattr(Loader, "_batch", batch)


def test_a_seed_that_fails_does_not_end_the_others(seed, spoilt) -> None:
    lone, joint = seeds(seed, "alone"), seeds(seed, "at_once")
    for config in (lone[0], lone[2]):
        train(config)
    ends = train_batched(joint)
    assert isinstance(ends[1], UserError)
    assert "in epoch 2, batch 2 (" in str(ends[1])
    assert Path(joint[1].out, "nonfinite.json").is_file()
    assert not Path(joint[1].out, "result.json").is_file()
    for number in (0, 2):
        assert_near_runs(lone[number], joint[number])


def test_a_seed_leaves_out_a_batch_by_itself(seed, spoilt) -> None:
    lone, joint = (seeds(seed, out, nonfinite="skip") for out in ("alone", "at_once"))
    for config in lone:
        train(config)
    train_batched(joint)
    for a, b in zip(lone, joint, strict=True):
        assert_near_runs(a, b)
    assert [metrics(c.out)[1].get("skipped_batches") for c in joint] == [None, 1, None]


@pytest.mark.parametrize("failing", [0, 2])
def test_nothing_is_held_for_a_seed_that_fails(failing, seed, monkeypatch) -> None:
    joint, drawn = seeds(seed, "at_once"), []

    def draw(config, classes, real=loop.draw_network):
        network = real(config, classes)
        drawn.append(weakref.ref(network))
        if config.seed == joint[failing].seed:
            network.readout.linear.weight.data.fill_(torch.nan)
        return network

    monkeypatch.setattr(loop, "draw_network", draw)
    ends = train_batched(joint)
    assert [isinstance(end, UserError) for end in ends] == [n == failing for n in range(3)]
    gc.collect()
    assert [network() for network in drawn] == [None] * 3


def test_a_bug_in_the_joint_step_leaves_every_folder_free(seed, monkeypatch) -> None:
    joint = seeds(seed, "at_once")

    def find(*arguments, **settings):
        raise RuntimeError("out of memory")

    with monkeypatch.context() as patch:
        patch.setattr(batched, "compute_batched_gradients", find)
        with pytest.raises(UserError, match="Memory ran out"):
            train_batched(joint)
    train_batched(joint)
    assert all(checkpoint_path(Path(config.out), "best").is_file() for config in joint)


def test_each_works_in_a_context_of_its_own(seed) -> None:
    joint = seeds(seed, "at_once", 2)
    files = [io.StringIO() for _ in joint]
    train_batched(joint, [lambda file=file: contextlib.redirect_stdout(file) for file in files])
    for config, file in zip(joint, files, strict=True):
        assert "trained with 1 others, by batched matrix products" in file.getvalue()
        assert f"writing {config.out}/" in file.getvalue()
        assert file.getvalue().count("train   3/3") == 1


@pytest.mark.parametrize(
    ("group", "change", "words"),
    [
        ("train", {"protocol": "paper"}, "pads every batch to a length of its own"),
        ("model", {"batch_norm": False}, "it has no BatchNorm"),
        ("model", {"recurrent": "learned"}, "it is recurrent"),
        ("model", {"filter_tau_ms": 40.0}, "it has a synaptic filter"),
        (None, {"backend": "dense"}, "backend=dense is not matmul"),
        ("model", {"delay_type": "axonal"}, "backend=matmul is not depthwise"),
        ("tracking", {"name": "wandb"}, "follows one run at a time"),
    ],
)
def test_what_cannot_be_trained_at_once_is_a_sentence(group, change, words, seed, tmp_path) -> None:
    configs = seeds(seed, "at_once", 2)
    for config in configs:
        for key, value in change.items():
            setattr(getattr(config, group) if group else config, key, value)
    with pytest.raises(UserError, match=words):
        train_batched(configs)
    assert not (tmp_path / "at_once").exists()
