"""The recorded step: its bookkeeping with a stand-in for CUDA's graphs; the real thing on a GPU."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from snn_delays.config import Config
from snn_delays.data.loaders import Batch
from snn_delays.nn import build_network
from snn_delays.runtime import cuda_graph, numba_jit, tracing, triton_jit
from snn_delays.runtime.cuda_graph import CapturedStep
from snn_delays.runtime.device import tensor_cores
from snn_delays.training.batched import StackedBatch
from snn_delays.training.epoch_metrics import EpochMeter, Sums
from snn_delays.training.optim import build_optimizers
from snn_delays.training.run import train
from snn_delays.training.step import StepResult, build_step, take_step


def made(device="cpu", backend="auto"):
    """A network, its optimisers, and batches, the last of them smaller."""
    config = Config()
    config.model.hidden, config.model.taps = [9], 5
    config.data.units, config.data.units_per_channel = 12, 1
    config.model.tau_ms, config.backend = 20.0, backend
    torch.manual_seed(0)
    network = build_network(config, 4).to(device).train()
    g = torch.Generator().manual_seed(1)
    batches = []
    for size in (6, 6, 6, 6, 4):
        x = (torch.rand(11, size, 12, generator=g) < 0.3).float().to(device)
        y = torch.randint(4, (size,), generator=g).to(device)
        batches.append(Batch(x, y, y, np.arange(size)))
    return network, build_optimizers(network, config.train), batches


class Graph(TorchDispatchMode):
    """Stands in for a CUDA graph: notes torch's operations, to do them later on the same memory.

    What was a number then is that number again; results go where they went. That they are done
    while they are noted, other than by CUDA, is undone. Waiting for results is refused, too.
    """

    WAITS = ("_local_scalar_dense", "nonzero", "masked_select", "_unique2")
    replays = 0

    def __init__(self) -> None:
        super().__init__()
        self.calls: list = []
        self.overwritten: list = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        assert func.__name__.split(".")[0] not in self.WAITS, f"{func} waits for the GPU"
        for argument, value in zip(func._schema.arguments, args, strict=False):
            # the schema of native_batch_norm does not say that it writes these two
            if argument.is_write or argument.name in ("running_mean", "running_var"):
                self.overwritten += [(t, t.clone()) for t in tree_leaves(value)]
        out = func(*args, **(kwargs or {}))
        self.calls.append((func, args, kwargs or {}, out))
        return out

    def __enter__(self):
        self.random = torch.get_rng_state()
        return super().__enter__()

    def __exit__(self, *error) -> None:
        super().__exit__(*error)
        torch.set_rng_state(self.random)
        for tensor, value in reversed(self.overwritten):
            tensor.detach().copy_(value)

    def replay(self) -> None:
        Graph.replays += 1
        with torch.no_grad():
            for func, args, kwargs, out in self.calls:
                if func.is_view:
                    continue  # of memory that is written to as before
                again = tree_leaves(func(*args, **kwargs))
                for old, new in zip(tree_leaves(out), again, strict=True):
                    if isinstance(old, torch.Tensor) and old.data_ptr() != new.data_ptr():
                        old.detach().copy_(new)


@pytest.fixture
def graphs(monkeypatch):
    """Record on the CPU what torch computes there, which is all where kernels are not compiled."""

    @contextlib.contextmanager
    def record(graph, pool, capture_error_mode):
        with graph:
            yield

    class Stream:
        def __init__(self, device: int = 0) -> None:
            pass

        def wait_stream(self, other) -> None:
            pass

    monkeypatch.setattr(Graph, "replays", 0)
    monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
    monkeypatch.setattr(torch.cuda, "graph", record)
    monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: None)
    monkeypatch.setattr(torch.cuda, "Stream", Stream)
    monkeypatch.setattr(torch.cuda, "current_stream", Stream)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: contextlib.nullcontext())
    monkeypatch.setattr(numba_jit, "available", lambda: False)
    monkeypatch.setattr(numba_jit, "why_not", lambda: "switched off")
    monkeypatch.setattr(triton_jit, "serves", lambda x: False)
    monkeypatch.setattr(tracing, "_get_current_dispatch_mode", lambda: None)  # it is no watcher


def trained(batches, step, network, optimizers):
    """What comes of batches over epochs, with all that changes between them."""
    seen = []
    for epoch, sigma in enumerate((2.0, 1.1, 0.5)):
        network.set_sigma(sigma)
        torch.manual_seed(epoch)
        seen += [step(batch).values.clone() for batch in batches]
        optimizers.end_epoch()
    return seen


@pytest.mark.parametrize("backend", ["matmul", "dense", "fft"])
def test_a_recorded_training_is_the_plain_one(graphs, backend) -> None:
    ours, optimizers, batches = made(backend=backend)
    batches[2] = replace(batches[2], x=batches[2].x * float("inf"))
    step = build_step(ours, optimizers, "float32", torch.device("cuda"))
    found = trained(batches, step, ours, optimizers)
    assert Graph.replays == 3 * len(batches) - 2  # not the first of either shape
    theirs, optimizers, _ = made(backend=backend)
    step = build_step(theirs, optimizers, "float32", torch.device("cpu"))
    expected = trained(batches, step, theirs, optimizers)
    assert [bool(numbers[2]) for numbers in found] == 3 * [True, True, False, True, True]
    for one, two in zip(found, expected, strict=True):
        assert torch.equal(one[1:], two[1:])
        assert torch.equal(one[0], two[0]) or not two[2]
    for one, two in zip(ours.state_dict().values(), theirs.state_dict().values(), strict=True):
        assert torch.equal(one, two)


def test_shapes_beyond_the_most_are_not_recorded(graphs, monkeypatch) -> None:
    monkeypatch.setattr(cuda_graph, "MAX_CAPTURES", 1)
    network, optimizers, batches = made()
    step = build_step(network, optimizers, "float32", torch.device("cuda"))
    for batch in [*batches, *batches[-2:]]:
        step(batch)
    assert Graph.replays == 4  # of six samples; never of four


def test_all_of_a_joint_batch_is_copied(graphs) -> None:
    def find(batch: StackedBatch) -> StepResult:
        sums = [getattr(batch, name).sum() for name in ("masks", "y", "x", "target")]
        return StepResult(torch.stack(sums))

    recorded = CapturedStep(find, [])
    for number in range(4):
        value = torch.full((2, 3), float(number))
        given = [factor * value for factor in (1, 2, 3, 4)]
        result = recorded(StackedBatch(*given))
        assert result.values.tolist() == [24 * number, 12 * number, 6 * number, 18 * number]


@pytest.mark.parametrize("bad", [1, 4])
def test_a_meter_knows_the_first_bad_batch(bad) -> None:
    meter = EpochMeter(Sums(loss=2.0, correct=1, seen=4), 8, torch.device("cpu"))
    for number in range(6):
        fine = torch.tensor(number not in (bad, 5))
        loss = torch.tensor(0.5 if fine else float("inf"))
        meter.add(number, 8, StepResult.of(loss, torch.tensor(3), fine))
    found = meter.totals()
    assert (found.loss, found.correct, found.seen, found.skipped) == (2 + 4 * 4, 13, 36, 2)
    assert meter.first_nonfinite() == (bad, float("inf"))
    assert EpochMeter(found, 8, torch.device("cpu")).first_nonfinite() is None


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
    result = take_step(network, optimizers, bad, "float32")
    assert not result.finite
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name]), name
    after = [p for o in optimizers.optimizers.values() for s in o.state.values()
             for p in s.values()]  # fmt: skip
    assert all(torch.equal(a, b) for a, b in zip(after, moments, strict=True))


# ---- on a GPU ----------------------------------------------------------------------------------


@pytest.mark.gpu
@pytest.mark.parametrize("backend", ["matmul", "dense", "fft"])
@pytest.mark.parametrize("precision", ["float32", "tf32", "mixed"])
def test_cuda_graphs_train_as_single_launches_do(backend, precision, monkeypatch) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", True)
    states = []
    for plain in (False, True):
        network, optimizers, batches = made("cuda", backend)
        batches[2] = replace(batches[2], x=batches[2].x * float("inf"))
        step = build_step(network, optimizers, precision, torch.device("cuda"))
        if plain:
            step = partial(take_step, network, optimizers, precision=precision)
        with tensor_cores(precision):
            found = [
                numbers.nan_to_num() for numbers in trained(batches, step, network, optimizers)
            ]
        states.append([*found, *network.state_dict().values()])
    for one, other in zip(*states, strict=True):
        assert torch.equal(one, other)


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["float32", "tf32", "mixed"])
def test_runs_on_a_gpu_repeat(precision, small_config, tmp_path) -> None:
    config = small_config()
    config.device, config.precision, config.backend = "cuda", precision, "matmul"
    losses = []
    for name in ("one", "two"):
        config.out = str(tmp_path / name)
        result = train(config)
        losses.append(result["loss"])
    assert result["sessions"][0]["device"] == "cuda"
    assert losses[0] == losses[1]
