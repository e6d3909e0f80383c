"""Times on a GPU: training steps beside the reference, a whole run, batched seeds, kernels.

Steps are those of the package's loop (captured as a CUDA graph) at the sizes of the paper's SHD and
SSC networks, on random spikes. The reference is dcls, SpikingJelly (with its own GPU neuron) and
torch's Adam, in the same precision, once without cuDNN as in its authors' code and once with cuDNN.
Ours and the reference alternate on the same GPU. The whole run is the paper's, on random recordings
of SHD's number and length, through `train` as users call it, with frames prepared beforehand. Its
seeds are trained batched, as by `snn-delays benchmark ... batched=true`, and one after another.

Each part ends within --minutes (nine by default): a row or round that is not likely to finish in
time is left out, and the table says so. The first row always runs.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from scripts.benchmarks.agreement import check_training, relative, require
from scripts.benchmarks.common import (
    Columns,
    Report,
    Row,
    make_parser,
    milliseconds,
    positive,
    ratios,
    run,
    say,
    short,
    spread_of,
)
from scripts.benchmarks.epoch import data_config, open_recordings, write_recordings
from scripts.benchmarks.networks import (
    SHD,
    SIZES,
    SSC,
    Problem,
    add_sizes,
    configure,
    our_network,
    random_batch,
    reference_step,
)
from scripts.benchmarks.workers import alternate, peak_memory, started
from scripts.reference.network import lif as their_neuron
from snn_delays.config import Config
from snn_delays.data.loaders import Batch
from snn_delays.errors import UserError
from snn_delays.ops import norm_neuron, taps
from snn_delays.ops.neurons import LIF, Cell
from snn_delays.ops.scan import scan
from snn_delays.runtime.device import autocast, check_precision, tensor_cores
from snn_delays.training.batched import train_batched
from snn_delays.training.optim import build_optimizers
from snn_delays.training.run import train
from snn_delays.training.step import build_step

CASES = {"shd": SHD, "ssc": SSC}
PRECISIONS = ("float32", "tf32", "mixed")
PARTS = ("steps", "run", "seeds", "kernels")
STEPS = 10  # steps per call: the GPU is synchronised once per call
TITLE = (
    "On one GPU, both in the precision that is named, kernels in float32; ratio = reference / ours,"
    " round by round."
)
LARGER = 16  # batch of the kernels, or their launches would take longer than they do
SIGMA = 3.0  # width of the Gaussian of the kernels' taps
LIMIT = 1e-5  # deviation of a kernel from float64 that is always allowed
Piece = TypeVar("Piece")

COLUMNS: Columns = {
    "what": lambda row: row["what"],
    "delays by": lambda row: ", ".join(dict.fromkeys(row.get("backends", []))),
    "ours, ms": lambda row: spread_of(row, "ours_ms"),
    "reference, ms": lambda row: spread_of(row, "reference_ms"),
    "ratio": lambda row: spread_of(row, "ratio"),
    "with cuDNN, ms": lambda row: spread_of(row, "with_cudnn_ms"),
    "peak memory, MB": lambda row: _number(row, "ours_mb"),
    "reference, MB": lambda row: _number(row, "reference_mb"),
    "error": lambda row: _error(row, ""),
    "reference's, in float32": lambda row: _error(row, "plain_"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    parser = make_parser("gpu", __doc__, rounds=3)
    add = parser.add_argument
    add("--part", choices=(*PARTS, "all"), default="all", help="what to measure (all)")
    add("--case", choices=(*CASES, "all"), default="all", help="network and batch of steps (all)")
    add("--precision", choices=(*PRECISIONS, "all"), default="all", help="of the steps (all)")
    add("--minutes", type=positive, default=9, help="that a part may take (9)")
    add("--samples", type=positive, default=8156, help="recordings of the whole run (8156)")
    add("--epochs", type=positive, default=150, help="of the whole run (150)")
    add("--seeds", type=positive, default=10, help="networks that are trained at once (10)")
    add("--seed-epochs", type=positive, default=10, help="of each of these (10)")
    add_sizes(parser, *SIZES)
    return run(parser, measure, arguments)


def measure(options: argparse.Namespace) -> Report:
    """Check the numbers of each part, then time it."""
    device = _device()
    parts = {"steps": _steps, "run": _whole_run, "seeds": _seeds, "kernels": _kernels}
    chosen = PARTS if options.part == "all" else (options.part,)
    rows = [row for part in chosen for row in parts[part](options, device, _end(options))]
    return Report(TITLE, COLUMNS, rows)


def _device() -> str:
    if not torch.cuda.is_available():
        raise UserError("This needs an NVIDIA GPU, and torch sees none here.")
    return "cuda"


def _chosen(options: argparse.Namespace, device: str) -> tuple[dict[str, Problem], Sequence[str]]:
    cases = CASES if options.case == "all" else {options.case: CASES[options.case]}
    precisions = PRECISIONS if options.precision == "all" else (options.precision,)
    for precision in precisions:
        check_precision(precision, torch.device(device))
    return {name: case.as_asked(options) for name, case in cases.items()}, precisions


def _end(options: argparse.Namespace) -> float:
    """The time by which a part that starts now must end."""
    return time.monotonic() + 60 * options.minutes


def _in_time(pieces: Iterable[Piece], end: float) -> Iterator[tuple[Piece, bool]]:
    """Each item, and whether it would end in time if it took as long as the longest one so far."""
    longest = 0.0
    for piece in pieces:
        began = time.monotonic()
        yield piece, began + longest <= end
        longest = max(longest, time.monotonic() - began)


def _left_out(what: str, options: argparse.Namespace) -> Row:
    return {"what": f"{what}: left out, since {options.minutes} minutes are too few"}


# ---- training steps ----------------------------------------------------------------------------


def _steps(options: argparse.Namespace, device: str, end: float) -> list[Row]:
    cases, precisions = _chosen(options, device)
    steps = {
        f"{name}, training step, {precision}": (replace(problem, device=device), precision)
        for name, problem in cases.items()
        for precision in precisions
    }
    return [
        _step_row(what, *steps[what], options.rounds) if fits else _left_out(what, options)
        for what, fits in _in_time(steps, end)
    ]


def _step_row(what: str, problem: Problem, precision: str, rounds: int) -> Row:
    say(f"{what}: comparing the numbers")
    errors = check_training(what, problem, precision)
    say(f"{what}: timing")
    backends = _backends(problem, precision)
    makes: dict[str, tuple[Any, ...]] = {
        "ours": (our_steps, problem, precision, backends),
        "reference": (their_steps, problem, precision, False),
        "with_cudnn": (their_steps, problem, precision, True),
    }
    with started(makes) as workers:
        seconds = {k: [s / STEPS for s in v] for k, v in alternate(workers, rounds).items()}
    say(f"{what}: peak memory")
    memory = {f"{who}_mb": peak_memory(*makes[who]) / 1e6 for who in ("ours", "reference")}
    return {
        "what": what,
        **asdict(problem),
        "backends": backends,
        **{f"{who}_ms": milliseconds(s) for who, s in seconds.items()},
        "ratio": ratios(seconds["reference"], seconds["ours"]),
        **memory,
        "error": max(errors["logits"], errors["gradient"]),
        "plain_error": max(errors["plain_logits"], errors["plain_gradient"]),
    }


def _backends(problem: Problem, precision: str) -> list[str]:
    """The backend of each delayed layer, as a run would choose it."""
    network = our_network(problem)
    if problem.backend != "auto":
        return [problem.backend for _ in network.delayed_layers()]
    x, _ = random_batch(problem)
    with tensor_cores(precision), autocast(precision, x.device):
        return network.fastest_backends(x)


def our_steps(problem: Problem, precision: str, backends: list[str]) -> Callable[[], None]:
    """Steps of the package's training loop, then a synchronisation with the GPU."""
    network, device = our_network(problem), torch.device(problem.device)
    network.set_backends(backends)
    optimizers = build_optimizers(network, configure(problem).train)
    x, y = random_batch(problem)
    batch = Batch(x, y, y, np.arange(problem.batch))
    step = build_step(network, optimizers, precision, device)
    return _repeated(lambda: step(batch), problem.device, precision)


def their_steps(problem: Problem, precision: str, cudnn: bool) -> Callable[[], None]:
    """Steps of the reference, then a synchronisation with the GPU."""
    torch.backends.cudnn.enabled = cudnn
    return _repeated(reference_step(problem, precision), problem.device, precision)


def _repeated(step: Callable[[], object], device: str, precision: str) -> Callable[[], None]:
    def call() -> None:
        with tensor_cores(precision):
            for _ in range(STEPS):
                step()
        if device == "cuda":
            torch.cuda.synchronize()

    return call


# ---- a whole run -------------------------------------------------------------------------------


def _whole_run(options: argparse.Namespace, device: str, end: float) -> list[Row]:
    _, precisions = _chosen(options, device)
    rows = []
    with _recordings(options) as template:
        for precision, fits in _in_time(precisions, end):
            what = f"whole run, {options.samples} samples, {options.epochs} epochs, {precision}"
            if not fits:
                rows.append(_left_out(what, options))
                continue
            config = _run_config(template, device, options.epochs, precision, 0, precision)
            say(what)
            rows.append({"what": what, "ours_ms": milliseconds([_timed(train, config)])})
    return rows


def _seeds(options: argparse.Namespace, device: str, end: float) -> list[Row]:
    _, precisions = _chosen(options, device)
    precision, epochs = precisions[0], options.seed_epochs
    at_once, in_turn = [], []
    with _recordings(options) as template:
        for number, fits in _in_time(range(options.rounds), end):
            if not fits:
                break
            say(f"{options.seeds} seeds, round {number + 1} of {options.rounds}")
            runs = {
                how: [
                    _run_config(template, device, epochs, precision, seed, f"{how}{number}/{seed}")
                    for seed in range(options.seeds)
                ]
                for how in ("at_once", "in_turn")
            }
            at_once.append(_timed(train_batched, runs["at_once"]))
            in_turn.append(_timed(lambda configs: [train(c) for c in configs], runs["in_turn"]))
    return [
        {
            "what": f"{options.seeds} seeds at once, {epochs} epochs, {precision}; one by one;"
            f" rounds: {len(at_once)} of {options.rounds}",
            "ours_ms": milliseconds(at_once),
            "reference_ms": milliseconds(in_turn),
            "ratio": ratios(in_turn, at_once),
        }
    ]


@contextlib.contextmanager
def _recordings(options: argparse.Namespace) -> Iterator[Config]:
    """Options of a training on random recordings in a temporary folder, frames prepared."""
    problem = SHD.as_asked(options)
    with tempfile.TemporaryDirectory() as scratch:
        say(f"writing {options.samples} recordings and preparing their frames")
        path = write_recordings(Path(scratch) / "train.h5", options.samples, problem)
        config = data_config(problem, path)
        open_recordings(config)
        config.out, config.train.protocol = scratch, "last"
        yield config


def _run_config(
    template: Config, device: str, epochs: int, precision: str, seed: int, folder: str
) -> Config:
    config = copy.deepcopy(template)
    config.device, config.train.epochs, config.seed = device, epochs, seed
    config.precision = precision
    config.out = f"{template.out}/{folder}"
    return config


def _timed(work: Callable[[Any], object], of: Any) -> float:
    started = time.perf_counter()
    with contextlib.redirect_stdout(sys.stderr):
        work(of)
    return time.perf_counter() - started


# ---- kernels -----------------------------------------------------------------------------------


def _kernels(options: argparse.Namespace, device: str, end: float) -> list[Row]:
    problem = replace(SHD.as_asked(options), device=device)
    problem = replace(problem, batch=LARGER * problem.batch)
    kernels = {
        "LIF, forward and back": (our_lif, their_lif),
        "BatchNorm + LIF + dropout, forward and back": (our_norm_neuron, plain_norm_neuron),
        "Gaussian taps, forward and back": (our_taps, plain_taps),
    }
    errors = {what: _kernel_errors(what, problem, *two) for what, two in kernels.items()}
    return [
        {**_kernel_times(what, problem, *kernels[what], options.rounds), **errors[what]}
        if fits
        else _left_out(what, options)
        for what, fits in _in_time(kernels, end)
    ]


def _kernel_errors(what: str, problem: Problem, ours: Any, theirs: Any) -> Row:
    say(f"{what}: comparing the numbers")
    small = replace(problem, batch=min(problem.batch, 4))  # hardly a spike flips
    exact = theirs(small, torch.float64)()
    errors = {
        key: max(relative(a, b) for a, b in zip(make(small, torch.float32)(), exact, strict=True))
        for key, make in (("error", ours), ("plain_error", theirs))
    }
    require(what, errors["error"], errors["plain_error"], LIMIT)
    return errors


def _kernel_times(what: str, problem: Problem, ours: Any, theirs: Any, rounds: int) -> Row:
    say(f"{what}: timing")
    makes: dict[str, tuple[Any, ...]] = {
        "ours": (kernel_calls, ours, problem),
        "reference": (kernel_calls, theirs, problem),
    }
    with started(makes) as workers:
        seconds = {k: [s / STEPS for s in v] for k, v in alternate(workers, rounds).items()}
    return {
        "what": what,
        **asdict(problem),
        **{f"{who}_ms": milliseconds(s) for who, s in seconds.items()},
        "ratio": ratios(seconds["reference"], seconds["ours"]),
    }


def kernel_calls(make: Callable[..., Callable[[], object]], problem: Problem) -> Any:
    """Calls of a kernel in float32, then a synchronisation with the GPU."""
    return _repeated(make(problem, torch.float32), problem.device, "float32")


def our_lif(problem: Problem, dtype: torch.dtype) -> Callable[[], list[Tensor]]:
    """Our scan; the call returns spikes and the gradient of its input."""
    cell = Cell(LIF, (problem.tau,))
    return _with_gradients(lambda x: scan(x, cell)[0], _current(problem, dtype))


def their_lif(problem: Problem, dtype: torch.dtype) -> Callable[[], list[Tensor]]:
    """SpikingJelly's neuron, which has a kernel of its own on a GPU."""
    node = their_neuron(problem.tau, 1.0, False)

    def fire(x: Tensor) -> Tensor:
        node.reset()
        spikes: Tensor = node(x)
        return spikes

    return _with_gradients(fire, _current(problem, dtype))


def our_norm_neuron(problem: Problem, dtype: torch.dtype) -> Callable[[], list[Tensor]]:
    """Our kernels for BatchNorm, neuron and dropout."""
    settings = _settings(problem)

    def compute(y: Tensor, gamma: Tensor, beta: Tensor, mask: Tensor) -> Any:
        return norm_neuron.norm_neuron(y, gamma, beta, mask, **settings)

    return _block(problem, dtype, compute)


def plain_norm_neuron(problem: Problem, dtype: torch.dtype) -> Callable[[], list[Tensor]]:
    """BatchNorm, neuron and dropout in plain torch, step by step."""
    settings = _settings(problem)

    def compute(y: Tensor, gamma: Tensor, beta: Tensor, mask: Tensor) -> Any:
        return norm_neuron.plain(y, gamma, beta, mask, **settings)

    return _block(problem, dtype, compute)


def our_taps(problem: Problem, dtype: torch.dtype) -> Callable[[], list[Tensor]]:
    """Our Gaussian taps."""
    D = problem.taps
    return _with_gradients(
        lambda w, d: taps.delay_taps(_gaussian(w, d, D), D), *_synapses(problem, dtype)
    )


def plain_taps(problem: Problem, dtype: torch.dtype) -> Callable[[], list[Tensor]]:
    """The Gaussian taps from torch's operations."""
    return _with_gradients(
        lambda w, d: _gaussian(w, d, problem.taps).kernel(), *_synapses(problem, dtype)
    )


def _gaussian(weight: Tensor, delay: Tensor, D: int) -> taps.Synapses:
    return taps.Synapses(weight, delay, D, taps.SHAPES["gauss"], weight.new_tensor(SIGMA))


def _block(
    problem: Problem, dtype: torch.dtype, compute: Callable[..., Any]
) -> Callable[[], list[Tensor]]:
    y = _current(problem, dtype)
    gamma, beta = y.new_full(y.shape[2:], 1.5), y.new_zeros(y.shape[2:])
    mask = torch.ones_like(y[0])
    return _with_gradients(lambda *a: compute(*a, mask)[0], y, gamma, beta)


def _settings(problem: Problem) -> dict[str, Any]:
    return {"eps": 1e-5, "cell": Cell(LIF, (problem.tau,))}


def _current(problem: Problem, dtype: torch.dtype) -> Tensor:
    """Random input of a layer's neurons, [T, B, C]; the same numbers in every precision."""
    g = torch.Generator().manual_seed(problem.seed)
    x = torch.randn(problem.steps, problem.batch, problem.hidden[0], generator=g)
    return x.to(problem.device, dtype)


def _synapses(problem: Problem, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Weight and delay, [O, I, 1]."""
    g = torch.Generator().manual_seed(problem.seed)
    shape = (problem.hidden[0], problem.hidden[0], 1)
    weight, delay = torch.randn(shape, generator=g), torch.rand(shape, generator=g)
    return weight.to(problem.device, dtype), (delay * (problem.taps - 1)).to(problem.device, dtype)


def _with_gradients(compute: Callable[..., Tensor], *inputs: Tensor) -> Callable[[], list[Tensor]]:
    """A call that returns the output and every input's gradient, for a random output gradient."""
    leaves = [tensor.detach().requires_grad_() for tensor in inputs]
    out = compute(*leaves)
    pull = torch.randn(out.shape, generator=torch.Generator().manual_seed(0)).to(out)

    def call() -> list[Tensor]:
        out = compute(*leaves)
        return [out.detach(), *torch.autograd.grad(out, leaves, pull)]

    return call


# ---- table -------------------------------------------------------------------------------------


def _number(row: Row, key: str) -> str:
    return short(row[key]) if key in row else ""


def _error(row: Row, prefix: str) -> str:
    key = f"{prefix}error"
    return f"{row[key]:.0e}" if key in row else ""


if __name__ == "__main__":
    sys.exit(main())
