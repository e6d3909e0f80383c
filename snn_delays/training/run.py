"""From a configuration to a run's folder: load the data, train, test, write the result."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor

from snn_delays.config import Config, config_hash, validate
from snn_delays.config.own_parts import describe as describe_own_parts
from snn_delays.config.own_parts import pinned
from snn_delays.data.dataset import Data, load_data
from snn_delays.deploy import Deployed, from_network
from snn_delays.deploy.module import StreamModule, module_of
from snn_delays.deploy.quantise import quantise
from snn_delays.errors import UserError
from snn_delays.evaluate import Evaluation, Latency, Score, evaluate
from snn_delays.nn import Network, count_parameters, draw_network
from snn_delays.nn.batched import plan_batched
from snn_delays.nn.block import How
from snn_delays.nn.loss import build_loss
from snn_delays.nn.plan import describe
from snn_delays.ops.maps import BACKENDS
from snn_delays.output import guarded
from snn_delays.regression import StepError, evaluate_steps
from snn_delays.runtime import numba_jit, triton_jit
from snn_delays.runtime.device import (
    autocast,
    check_precision,
    deterministic,
    pick_device,
    pick_dtype,
    tensor_cores,
)
from snn_delays.runtime.distributed import world_size
from snn_delays.training import provenance
from snn_delays.training.checkpoint import Position, load_run
from snn_delays.training.distributed import (
    broadcast_from_first,
    first_then_others,
    is_first,
    process_group,
)
from snn_delays.training.error_messages import explained, writing
from snn_delays.training.initial import Initial, read_initial
from snn_delays.training.loop import Phase, Training, build_loader, speakers_of
from snn_delays.training.rounding_cost import accuracy_before_rounding, describe_cost
from snn_delays.training.run_folder import opened, read_result, resolved, run_folder, write_result
from snn_delays.training.schedules import sigma_at
from snn_delays.training.signals import StopSignal

log = logging.getLogger(__name__)

# names of a session's values in messages, where they differ from the keys
_NAMES = {
    "processes": "number of processes",
    "batched": "number of batched seeds",
    "backends": "choice of backends",
    "data_on_gpu": "place of the data",
    "gpu": "GPU",
    "layers": "way to compute its layers",
}


def train(config: Config) -> dict[str, Any]:
    """Train a network, choose its epoch and test it, as ``config`` says.

    Writes ``config.out`` (config.yaml, split.json, metrics.jsonl, checkpoints/, result.json). The
    test set is evaluated once, after training, or not at all (``train.test=false``). Only
    ``train.protocol=paper`` evaluates it every epoch, and marks its numbers "test-selected". With
    ``config.resume`` "auto", a stopped run in the folder is resumed and ends as if it had never
    stopped; the result of a finished run is returned.

    Under torchrun each rank computes its part of every batch; the result equals that of a single
    process up to rounding. The first rank writes the files. If a rank fails, all ranks end.

    Args:
        config: options; validated here.

    Returns:
        The content of result.json, and the folder as "out".

    Raises:
        UserError: a mistake in the options or the data (found before anything is written), a loss
            or gradient that became infinite or NaN, a folder that is full or in use, or too little
            memory.
        OtherRankFailed: one of these happened on another rank.
        Interrupted: a signal came; the run is saved.
    """
    validate(config)
    device = pick_device(config.device)
    with (
        guarded(),
        process_group(device, config_hash(pinned(config))),
        explained(),
        deterministic(config.train.deterministic),
        tensor_cores(config.precision),
        Run(config, device, StopSignal(announce=is_first())) as run,
    ):
        while (training := run.next_training()) is not None:
            training.run()
        return run.finish()


class Run:
    """One run, from its options to result.json; its folder is locked inside the ``with`` block.

    ``next_training`` returns one training after another; the caller drives each to its end.

    Args:
        config: options, validated.
        device: device of the network.
        stop: the signal that may stop the run; entered while the folder is locked.
        batched: number of runs whose steps are batched; 1: this run alone.
    """

    def __init__(
        self,
        config: Config,
        device: torch.device,
        stop: AbstractContextManager[StopSignal],
        batched: int = 1,
    ) -> None:
        self.config, self.device, self._stop, self._batched = config, device, stop, batched
        self._stack = contextlib.ExitStack()
        self._training: Training | None = None

    def __enter__(self) -> Self:
        """Find the folder; unless it has a result, load the data, lock it, print the plan."""
        started = time.perf_counter()
        self.out, self._found = broadcast_from_first(lambda: _find(self.config, self.device))
        if self._found is not None:
            print(f"{self.out}/ holds a finished run; this is its result.", flush=True)
            return self
        config = self.config = resolved(self.config, self.out, self.device.type)
        data, network, self._initial = first_then_others(
            lambda: _prepare(config, self.device, self._batched, self.out)
        )
        self.data, self._parameters = data, count_parameters(network)
        with contextlib.ExitStack() as stack:
            self.folder, self._saved = stack.enter_context(
                opened(config, data, self.out, self._stop)
            )
            self._begin(network, started)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *error: Any) -> None:
        """Remove the progress bar; unlock the folder."""
        if self._training is not None:
            self._training.close()
        self._stack.__exit__(*error)

    def _begin(self, network: Network, started: float) -> None:
        config, data, batched = self.config, self.data, self._batched
        position = Position(**self._saved["position"]) if self._saved else Position()
        backends = _timed_backends(config, data, network, position, batched)
        if backends:
            network.set_backends(backends)
        plan = _plan_layers(config, data, network, batched)
        _note_session(position, config, self.device, batched, backends, plan)
        initial = self._initial
        if initial is not None and is_first():
            with writing(self.out):
                initial.save(config, data.classes, sigma_at(0, config), self.out)
        print(
            f"{config.name}: {self._parameters:,} parameters, delays"
            f" {_describe_delays(config)}; {_describe_backend(config, network, plan)}"
            f"{_describe_batching(batched)}\n"
            f"{_describe_data(config, data, initial)}\n"
            f"{_describe_position(position)} {self.out}/",
            flush=True,
        )
        self.folder.started = started - position.seconds
        self.folder.write_metrics(position.metrics)
        self.position = position

    def next_training(self) -> Training | None:
        """The next training, which the caller drives to its end; None: all are done."""
        if self._found is not None:
            return None
        if self._training is not None:
            self._training.close()
            self._parameters = count_parameters(self._training.network)  # fewer once pruned
            self._training = None  # frees its frames on the GPU
            if self.position.phase == "train":
                self.position.chosen, self._saved = self.position.best_epoch, None
            if self.position.phase == "refit" or self.config.train.protocol != "refit":
                return None
            self.position = _refit_position(self.position)
        self._phase = _phase(self.config, self.data)
        if self.position.phase == "refit":
            self._phase = Phase("refit", self.data.everything, None, "", self.position.chosen)
        self._training = Training(
            self.config, self._phase, self.data.classes, self.device, self.folder, self._saved,
            self.position, None if self._initial is None else self._initial.model,
        )  # fmt: skip
        return self._training

    def finish(self) -> dict[str, Any]:
        """Test the network and write result.json.

        Returns:
            The content of result.json, and the folder as "out".
        """
        if self._found is not None:
            return {**self._found, "out": str(self.out)}
        config, data, position, start = self.config, self.data, self.position, self._initial
        epoch = position.best_epoch if position.phase == "refit" else position.chosen
        before = accuracy_before_rounding(self.out, config, data, epoch, self.device)
        tested: dict[str, Any] = {}
        if config.train.test:
            tested = self._test()
        result = {
            "name": config.name,
            "protocol": config.train.protocol,
            "selection": config.selection,
            **tested,
            **_selected(_phase(config, data), position.metrics, epoch),
            **({"valid_before_rounding": before.as_dict()} if before else {}),
            "epoch": epoch,
            "parameters": self._parameters,
            "trained_on": len(self._phase.train),
            **_provenance(config, data, self.device),
            **({"init": {**start.origin, "remarks": start.remarks}} if start else {}),
            "sessions": position.sessions,
            "seconds": round(self.folder.seconds, 1),
        }
        written = broadcast_from_first(lambda: _write_result(self.out, result))
        if before and is_first():
            print(describe_cost(before, Score.from_dict(result["valid"])), end="", flush=True)
        self.folder.tracker.finish(written)
        return {**written, "out": str(self.out)}

    def _test(self) -> dict[str, Any]:
        """What result.json says of the test data."""
        config, data = self.config, self.data
        run = broadcast_from_first(lambda: load_run(self.out, "best"))
        loader = build_loader(run.config, data.test, run.meta.steps, self.device)
        network = run.network.to(self.device)
        loss = build_loss(run.config, network, len(data.classes))
        buffers = {"delay_buffer_bytes": network.delay_buffer_bytes}
        if config.data.target == "per_step":
            measured = evaluate_steps(network, loader, loss)
            return {**measured.error.as_dict(), "loss": measured.loss, **buffers}
        module = module_of(run).to(self.device)
        evaluation = evaluate(module, loader, loss, latency=True)
        tested = {**_test_result(config, self._phase, data, evaluation), **buffers}
        if isinstance(module, StreamModule):
            tested["deployed"] = _describe_integers(module.network)
        return tested


def _find(config: Config, device: torch.device) -> tuple[Path, dict[str, Any] | None]:
    """The folder to write, and the result that is already in it, or None."""
    check_precision(config.precision, device)
    out = run_folder(config)
    return out, read_result(out)


def _prepare(
    config: Config, device: torch.device, batched: int, out: Path
) -> tuple[Data, Network, Initial | None]:
    """The data, a network, and its initial values unless drawn; its backend can run."""
    data = load_data(config)
    initial = read_initial(config, data, out)
    network = draw_network(config, len(data.classes)).to(device, pick_dtype(config.precision))
    _plan_layers(config, data, network, batched)
    build_loss(config, network, len(data.classes))  # refuses one that does not fit
    if config.model.quantise.weights != "float32":  # refuses one without a form of integers
        quantise(from_network(network, config, data.classes, 1), config.model.quantise.weights)
    return data, network, initial


def _timed_backends(
    config: Config, data: Data, network: Network, position: Position, batched: int
) -> list[str]:
    """On a GPU the backend that trains each delayed layer fastest; elsewhere an empty list.

    A resumed run keeps its backends. Nothing is timed with ``train.deterministic=true``, since
    timings vary between runs.
    """
    if not _is_timed(config, network, batched):
        return []
    x = _example_batch(config, data, network)
    with autocast(config.precision, x.device):
        return position.backends or broadcast_from_first(lambda: network.fastest_backends(x))


def _is_timed(config: Config, network: Network, batched: int) -> bool:
    chosen = config.backend != "auto" or config.train.deterministic or batched > 1
    return not chosen and _is_on_gpu(network)


def _is_on_gpu(network: Network) -> bool:
    return next(network.parameters()).is_cuda


def _example_batch(config: Config, data: Data, network: Network) -> Tensor:
    """A tensor of the shape of this rank's part of a batch, [T, B, I], that takes no memory."""
    like = next(network.parameters())
    batch = -(-min(config.train.batch_size, len(data.train)) // world_size())
    return like.detach().new_empty(1).expand(data.train.longest, batch, config.data.channels)


def _write_result(out: Path, result: dict[str, Any]) -> dict[str, Any]:
    with writing(out):
        return write_result(out, result)


def _refit_position(before: Position) -> Position:
    """The start of the training on all data, for as many epochs as the first training chose."""
    return Position("refit", before.chosen, metrics=before.metrics, sessions=before.sessions)


def _note_session(
    position: Position,
    config: Config,
    device: torch.device,
    batched: int,
    backends: Sequence[str],
    plan: Sequence[How],
) -> None:
    """Begin a session: note what computes it; warn if that differs from the session before."""
    session = {
        "backend": config.backend,
        "device": device.type,
        "gpu": torch.cuda.get_device_name(device) if device.type == "cuda" else "",
        "threads": torch.get_num_threads(),
        "torch": str(torch.__version__),
        "processes": world_size(),
        "batched": batched,
        "backends": [*backends],
        "data_on_gpu": {**position.data_on_gpu},
        "layers": [how.as_dict() for how in plan],
    }
    of_earlier_versions = {
        "processes": 1, "batched": 1, "backends": [], "gpu": session["gpu"], "data_on_gpu": {},
        "layers": session["layers"],
    }  # fmt: skip
    before = {**of_earlier_versions, **position.sessions[-1]} if position.sessions else session
    changed = [k for k in session if k != "layers" and before[k] != session[k]]
    if not changed and _paths(before) != _paths(session):
        changed = ["layers"]
    if changed:
        log.warning(
            "The run is resumed with another %s than before: it will not be equal bit by bit.",
            " and ".join(_NAMES.get(k, k) for k in changed),
        )
    position.sessions = [*position.sessions, session]


def _paths(session: dict[str, Any]) -> list[tuple[str, str]]:
    """Backend and path of each layer, without the reasons, whose words may change."""
    return [(how["backend"], how["path"]) for how in session["layers"]]


def _describe_position(position: Position) -> str:
    if not position.metrics and not position.batch:
        return "writing"
    phase = " of the refit" if position.phase == "refit" else ""
    return f"resuming after {position.epoch} epochs and {position.batch} batches{phase}, writing"


def _phase(config: Config, data: Data) -> Phase:
    """The first training of the protocol; ``refit`` adds a second one."""
    epochs = config.train.epochs
    if config.train.protocol == "last":
        return Phase("train", data.train, None, "", epochs)
    if config.train.protocol == "paper":
        return Phase("train", data.train, data.test, "test", epochs)
    return Phase("train", data.train, data.valid, "valid", epochs)


def _plan_layers(config: Config, data: Data, network: Network, batched: int) -> list[How]:
    """How each layer will compute a batch of the usual size.

    Raises:
        UserError: the given backend cannot train this network.
    """
    x = _example_batch(config, data, network)
    reason = network.why_not(config.backend, x)
    if reason:
        raise UserError(f"backend={config.backend} cannot train this network: {reason}.")
    plan = plan_batched(network) if batched > 1 else network.plan_for(x)
    if config.precision == "mixed" and not _is_timed(config, network, batched):
        for backend in (how.backend for how in plan if how.backend):
            if not BACKENDS[backend].half:
                raise UserError(
                    f"precision=mixed changes nothing with backend={backend}; use numba, matmul or"
                    " dense."
                )
    return plan


def _describe_backend(config: Config, network: Network, plan: Sequence[How]) -> str:
    """A sentence on the device, the backends and the threads that compute the network."""
    like = next(network.parameters())
    what = f"device {like.device.type}, backend {config.backend}: {describe(plan)}"
    on_cpu = like.device.type == "cpu"
    what += f"; {torch.get_num_threads()} threads" if on_cpu else ""
    slower = numba_jit.why_not() if on_cpu else triton_jit.why_not(like)
    return what + (f"; slower: {slower}" if slower else "")


def _describe_delays(config: Config) -> str:
    kind = config.model.delay_type
    return config.model.delays + (f", {kind}" if kind != "synaptic" else "")


def _describe_batching(batched: int) -> str:
    return f"; trained with {batched - 1} others, by batched matrix products" * (batched > 1)


def _describe_data(config: Config, data: Data, initial: Initial | None) -> str:
    valid = f", {len(data.valid)} validation ({data.split})" if data.valid else ""
    samples = (
        f"{len(data.train)} training{valid} and {len(data.test)} test samples;"
        f" protocol {config.train.protocol} ({config.selection})"
    )
    return "\n".join([samples, *data.remarks, *(initial.remarks if initial else [])])


# ---- the result --------------------------------------------------------------------------------


def _describe_integers(network: Deployed) -> dict[str, Any]:
    """What result.json says of the network that was tested in place of the trained one."""
    return {"arithmetic": network.arithmetic, "digest": network.digest}


def _test_result(
    config: Config, phase: Phase, data: Data, evaluation: Evaluation
) -> dict[str, Any]:
    groups = evaluation.per_speaker_group(
        data.test.speakers, speakers_of(phase.train), phase.valid_speakers
    )

    def marked(scores: dict[str, Score]) -> dict[str, Any]:
        return {k: {**s.as_dict(), "selection": config.selection} for k, s in scores.items()}

    result = {
        **evaluation.score().as_dict(),
        "loss": evaluation.loss,
        "per_class": marked(evaluation.per_class(data.classes)),
        "per_speaker_group": marked(groups),
    }
    if (latency := evaluation.latency) is not None:
        result["latency"] = _describe_latency(latency, config)
    if config.train.protocol == "paper":
        result["batch_accuracy"] = evaluation.batch_accuracy
    return result


def _describe_latency(latency: Latency, config: Config) -> dict[str, Any]:
    steps = latency.thinned()
    return {
        "ms": latency.steps * config.data.step_ms,
        "at_last_input": {**latency.after(0).as_dict(), "selection": config.selection},
        "after_ms": [step * config.data.step_ms for step in steps],
        "accuracy": [latency.after(step).accuracy for step in steps],
    }


def _selected(phase: Phase, metrics: list[dict[str, Any]], epoch: int) -> dict[str, Any]:
    """Number of samples that chose the epoch, and the score on them if they are validation data."""
    if phase.select is None:
        return {"selected_on": 0}
    chosen: dict[str, Any] = {"selected_on": len(phase.select)}
    if phase.select_name == "valid":
        line = metrics[epoch - 1]  # the first training's lines come first
        if "valid_nrmse" in line:
            n = len(phase.select)
            mse = line["valid_nrmse"] ** 2 * phase.select.target_variance
            error = StepError(mse, line["valid_nrmse"], n)
            return {**chosen, "valid": {**error.as_dict(), "loss": line["valid_loss"]}}
        score = Score(round(line["valid_accuracy"] * len(phase.select)), len(phase.select))
        chosen["valid"] = {**score.as_dict(), "loss": line["valid_loss"]}
    return chosen


def _provenance(config: Config, data: Data, device: torch.device) -> dict[str, Any]:
    described = data.describe()
    return {
        "seed": config.seed,
        "config_hash": config_hash(config),
        "data_hash": described["hash"],
        "data": described,
        "own_parts": describe_own_parts(config),
        "commit": provenance.commit(),
        "versions": provenance.versions(),
        "machine": provenance.machine(device),
    }
