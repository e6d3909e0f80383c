"""The recorded step: its bookkeeping with a stand-in for CUDA's graphs; the real thing on a GPU."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch

from snn_delays.config import Config
from snn_delays.data.loaders import Batch
from snn_delays.nn import build_network
from snn_delays.train.graph import RecordedStep
from snn_delays.train.optim import build_optimizers
from snn_delays.train.run import train
from snn_delays.train.step import Outcome, build_step, take_step
from snn_delays.train.tally import Sums, Tally
from snn_delays.train.together import JointBatch


def made(device="cpu"):
    """A network, its optimisers, and batches, the last of them smaller."""
    config = Config()
    config.model.hidden, config.model.taps = [9], 5
    config.data.units, config.data.units_per_channel = 12, 1
    config.model.tau_ms = 20.0
    torch.manual_seed(0)
    network = build_network(config, 4).to(device).train()
    g = torch.Generator().manual_seed(1)
    batches = []
    for size in (6, 6, 6, 6, 4):
        x = (torch.rand(11, size, 12, generator=g) < 0.3).float().to(device)
        y = torch.randint(4, (size,), generator=g).to(device)
        batches.append(Batch(x, y, y, np.arange(size)))
    return network, build_optimizers(network, config.train), batches


class Graph:
    """Stands in for a CUDA graph: recording computes nothing, playing does what was recorded."""

    recording: Graph | None = None
    played = 0

    def replay(self) -> None:
        Graph.played += 1
        for name, value in vars(self.work()).items():
            getattr(self.outcome, name).copy_(value)


@pytest.fixture
def graphs(monkeypatch):
    """Let steps be recorded without a GPU."""

    @contextlib.contextmanager
    def record(graph, pool, capture_error_mode):
        Graph.recording = graph
        yield
        Graph.recording = None

    class Stream:
        def __init__(self, device: int = 0) -> None:
            pass

        def wait_stream(self, other) -> None:
            pass

    monkeypatch.setattr(Graph, "played", 0)
    monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
    monkeypatch.setattr(torch.cuda, "graph", record)
    monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: None)
    monkeypatch.setattr(torch.cuda, "Stream", Stream)
    monkeypatch.setattr(torch.cuda, "current_stream", Stream)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: contextlib.nullcontext())


def test_a_recorded_training_is_the_plain_one(graphs) -> None:
    network, optimizers, batches = made()

    def step(batch: Batch) -> Outcome:
        graph = Graph.recording
        if graph is None:
            return take_step(network, optimizers, batch, "float32")
        assert all(group["capturable"] for group in optimizers._groups())
        graph.work = lambda: take_step(network, optimizers, batch, "float32")
        graph.outcome = Outcome(torch.zeros(()), torch.zeros((), dtype=int), torch.tensor(False))
        return graph.outcome

    recorded = RecordedStep(step, optimizers)
    version = network.blocks[0].linear.weight._version
    ours = [tuple(float(v) for v in vars(recorded(batch)).values()) for batch in batches]
    assert Graph.played == 3  # not the first of either shape
    assert network.blocks[0].linear.weight._version >= version + len(batches)
    assert not any(group["capturable"] for group in optimizers._groups())
    other, optimizers, batches = made()
    theirs = [
        tuple(float(v) for v in vars(take_step(other, optimizers, batch, "float32")).values())
        for batch in batches
    ]
    assert ours == theirs
    for one, two in zip(network.state_dict().values(), other.state_dict().values(), strict=True):
        assert torch.equal(one, two)


def test_probabilities_are_copied_too(graphs) -> None:
    _, optimizers, batches = made()
    seen = []

    def step(batch: Batch) -> Outcome:
        value = Outcome(batch.target.sum(), batch.y.sum(), torch.tensor(True))
        if Graph.recording is not None:
            Graph.recording.work = lambda: step(batch)
            Graph.recording.outcome = value
        return value

    recorded = RecordedStep(step, optimizers)
    for number, batch in enumerate(batches[:4]):
        target = torch.full((6, 4), float(number))
        seen.append(float(recorded(replace(batch, target=target)).loss))
    assert seen == [0, 24, 48, 72]


def test_all_of_a_joint_batch_is_copied(graphs) -> None:
    _, optimizers, _ = made()

    def step(batch: JointBatch) -> Outcome:
        value = Outcome(batch.masks.sum(), batch.y.sum(), batch.x.sum() == batch.target.sum())
        if Graph.recording is not None:
            Graph.recording.work = lambda: step(batch)
            Graph.recording.outcome = value
        return value

    recorded = RecordedStep(step, optimizers)
    for number in range(4):
        value = torch.full((2, 3), number)
        outcome = recorded(JointBatch(value, value, value.clone(), value.float()))
        assert [float(v) for v in vars(outcome).values()] == [6 * number, 6 * number, 1]


@pytest.mark.parametrize("bad", [1, 4])
def test_a_tally_knows_the_first_bad_batch(bad) -> None:
    tally = Tally(Sums(loss=2.0, right=1, seen=4), torch.device("cpu"))
    for number in range(6):
        fine = torch.tensor(number not in (bad, 5))
        loss = torch.tensor(0.5 if fine else float("inf"))
        tally.add(number, 8, Outcome(loss, torch.tensor(3), fine))
    found = tally.read()
    assert (found.loss, found.right, found.seen, found.skipped) == (2 + 4 * 4, 13, 36, 2)
    assert tally.first_bad() == (bad, float("inf"))
    assert Tally(found, torch.device("cpu")).first_bad() is None


@pytest.mark.parametrize("what", ["loss", "gradient"])
def test_a_step_that_is_not_finite_changes_nothing(what) -> None:
    network, optimizers, batches = made()
    take_step(network, optimizers, batches[0], "float32")
    before = {name: value.clone() for name, value in network.state_dict().items()}
    moments = [p.clone() for o in optimizers.optimizers.values() for s in o.state.values()
               for p in s.values()]  # fmt: skip
    if what == "loss":
        bad = replace(batches[1], x=batches[1].x.fill_(float("nan")))
    else:
        bad = batches[1]
        network.readout.linear.weight.register_hook(lambda g: g * float("inf"))
    outcome = take_step(network, optimizers, bad, "float32")
    assert not outcome.finite
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name]), name
    after = [p for o in optimizers.optimizers.values() for s in o.state.values()
             for p in s.values()]  # fmt: skip
    assert all(torch.equal(a, b) for a, b in zip(after, moments, strict=True))


# ---- on a GPU ----------------------------------------------------------------------------------

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no GPU here")


@pytest.mark.gpu
@needs_gpu
def test_cuda_graphs_train_as_single_launches_do() -> None:
    trained = []
    for recorded in (True, False):
        network, optimizers, batches = made("cuda")
        torch.cuda.manual_seed(0)
        step = build_step(network, optimizers, "float32", torch.device("cuda"))
        assert isinstance(step, RecordedStep)
        if not recorded:
            step = partial(take_step, network, optimizers, precision="float32")
        losses = [float(step(batch).loss) for batch in batches * 3]
        trained.append([torch.tensor(losses), *network.state_dict().values()])
    for one, other in zip(*trained, strict=True):
        assert torch.equal(one, other)


@pytest.mark.gpu
@needs_gpu
@pytest.mark.parametrize("precision", ["float32", "tf32", "mixed"])
def test_runs_on_a_gpu_repeat(precision, small_config, tmp_path) -> None:
    config = small_config()
    config.device, config.precision, config.backend = "cuda", precision, "matmul"
    losses = []
    for name in ("one", "two"):
        config.out = str(tmp_path / name)
        result = train(config)
        losses.append(result["loss"])
    assert result["parts"][0]["device"] == "cuda"
    assert losses[0] == losses[1]
