"""From a configuration to a run's folder: load, train as the protocol says, test, write down."""

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
from snn_delays.data.dataset import Data, load_data
from snn_delays.errors import UserError
from snn_delays.evaluate import Evaluation, Score, evaluate
from snn_delays.nn import Network, count_parameters, draw_network
from snn_delays.output import guarded
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
from snn_delays.train import provenance
from snn_delays.train.checkpoint import Position, load_run
from snn_delays.train.distributed import first_then_others, from_first, group, is_first
from snn_delays.train.error_messages import explained, writing
from snn_delays.train.loop import Plan, Training, build_loader, speakers_of
from snn_delays.train.run_folder import opened, read_result, resolved, run_folder, write_result
from snn_delays.train.signals import StopSignal

log = logging.getLogger(__name__)

# the parts of a run, where their names do not say
_CALLED = {
    "processes": "number of processes",
    "together": "number of seeds at once",
    "backends": "choice of backends",
    "gpu": "GPU",
}


def train(config: Config) -> dict[str, Any]:
    """Train, select and test as ``config`` says.

    Writes ``config.out`` (config.yaml, split.json, metrics.jsonl, checkpoints/, result.json). The
    test set is evaluated once, after training, or not at all (``train.test=false``), except with
    ``train.protocol=paper``, whose numbers say so. With ``config.resume`` "auto" a run that is
    there goes on, and ends as if it had never stopped; one that has ended gives its result.

    Under torchrun the processes share every batch and end, up to rounding, with what one alone
    would have; the first of them writes. Where one fails, all end.

    Args:
        config: options; validated here.

    Returns:
        The content of result.json, and the folder as "out".

    Raises:
        UserError: a mistake in the options or the data (found before anything is written), a loss
            or gradient that became infinite or NaN, a folder that is full or in use, or too little
            memory.
        OtherRankFailed: another process failed so.
        Interrupted: a signal came; all is saved.
    """
    validate(config)
    device = pick_device(config.device)
    with (
        guarded(),
        group(device, config_hash(config)),
        explained(),
        deterministic(config.train.deterministic),
        tensor_cores(config.precision),
        Run(config, device, StopSignal(heard=is_first())) as run,
    ):
        while (training := run.next_training()) is not None:
            training.run()
        return run.finish()


class Run:
    """One run, from its options to result.json; the folder is locked inside the ``with``.

    ``next_training`` gives the trainings one after the other, each to be driven to its end.

    Args:
        config: options, validated.
        device: where.
        stop: the signal that may stop it, in use while the folder is written.
        batched: how many runs train in one pass.
    """

    def __init__(
        self,
        config: Config,
        device: torch.device,
        stop: AbstractContextManager[StopSignal],
        batched: int = 1,
    ) -> None:
        self.config, self.device, self._stop, self._batched = config, device, stop, batched
        self._held = contextlib.ExitStack()
        self._training: Training | None = None

    def __enter__(self) -> Self:
        """Find the folder or the result in it; read the data, lock, say what begins."""
        started = time.perf_counter()
        self.out, self._found = from_first(lambda: _find(self.config, self.device))
        if self._found is not None:
            print(f"{self.out}/ holds a finished run; this is its result.", flush=True)
            return self
        config = self.config = resolved(self.config, self.out, self.device.type)
        data, network = first_then_others(lambda: _prepare(config, self.device, self._batched))
        self.data, self._parameters = data, count_parameters(network)
        with contextlib.ExitStack() as held:
            self.folder, self._saved = held.enter_context(
                opened(config, data, self.out, self._stop)
            )
            self._begin(network, started)
            self._held = held.pop_all()
        return self

    def __exit__(self, *error: Any) -> None:
        """Remove the progress bar; unlock the folder."""
        if self._training is not None:
            self._training.close()
        self._held.__exit__(*error)

    def _begin(self, network: Network, started: float) -> None:
        config, data, batched = self.config, self.data, self._batched
        position = Position(**self._saved["position"]) if self._saved else Position()
        backends = _timed_backends(config, data, network, position, batched)
        _note_part(position, config, self.device, batched, backends)
        if backends:
            network.set_backends(backends)
        print(
            f"{config.name}: {self._parameters:,} parameters, delays"
            f" {config.model.delays}; {_describe_backend(config, data, network, batched)}"
            f"{_describe_company(batched)}\n"
            f"{_describe_data(config, data)}\n"
            f"{_describe_position(position)} {self.out}/",
            flush=True,
        )
        self.folder.started = started - position.seconds
        self.folder.write_metrics(position.metrics)
        self.position = position

    def next_training(self) -> Training | None:
        """The training to be driven to its end now, or None where all are done."""
        if self._found is not None:
            return None
        if self._training is not None:
            self._training.close()
            self._training = None  # lets go of its frames on the GPU
            if self.position.phase == "train":
                self.position.chosen, self._saved = self.position.best_epoch, None
            if self.position.phase == "refit" or self.config.train.protocol != "refit":
                return None
            self.position = _refit_position(self.position)
        self._plan = _plan(self.config, self.data)
        if self.position.phase == "refit":
            self._plan = Plan("refit", self.data.everything, None, "", self.position.chosen)
        self._training = Training(
            self.config, self._plan, self.data.classes, self.device, self.folder, self._saved,
            self.position,
        )  # fmt: skip
        return self._training

    def finish(self) -> dict[str, Any]:
        """Test, and write result.json.

        Returns:
            Its content, and the folder as "out".
        """
        if self._found is not None:
            return {**self._found, "out": str(self.out)}
        config, data, position = self.config, self.data, self.position
        tested: dict[str, Any] = {}
        if config.train.test:
            tested = _outcome(config, self._plan, data, _test(self.out, data, self.device))
        epoch = position.best_epoch if position.phase == "refit" else position.chosen
        result = {
            "name": config.name,
            "protocol": config.train.protocol,
            "selection": config.selection,
            **tested,
            **_selected(_plan(config, data), position.metrics, epoch),
            "epoch": epoch,
            "parameters": self._parameters,
            "trained_on": len(self._plan.train),
            **_provenance(config, data, self.device),
            "parts": position.parts,
            "seconds": round(self.folder.seconds, 1),
        }
        written = from_first(lambda: _write_result(self.out, result))
        self.folder.tracker.finish(written)
        return {**written, "out": str(self.out)}


def _find(config: Config, device: torch.device) -> tuple[Path, dict[str, Any] | None]:
    """The folder to write, and the result that is there already, or None."""
    check_precision(config.precision, device)
    out = run_folder(config)
    return out, read_result(out)


def _prepare(config: Config, device: torch.device, together: int) -> tuple[Data, Network]:
    """The data, and the network as it would be drawn, which can be computed as asked."""
    data = load_data(config)
    network = draw_network(config, len(data.classes)).to(device, pick_dtype(config.precision))
    _describe_backend(config, data, network, together)
    return data, network


def _timed_backends(
    config: Config, data: Data, network: Network, position: Position, together: int
) -> list[str]:
    """On a GPU the backend that each delayed layer trains soonest with; elsewhere empty.

    A run keeps to what it began with. Nothing is timed where equal runs are to be equal to the bit.
    """
    if not _is_timed(config, network, together):
        return []
    x = _like_a_batch(config, data, network)
    with autocast(config.precision, x.device):
        return position.backends or from_first(lambda: network.fastest_backends(x))


def _is_timed(config: Config, network: Network, together: int) -> bool:
    chosen = config.backend != "auto" or config.train.deterministic or together > 1
    return not chosen and _is_on_gpu(network)


def _is_on_gpu(network: Network) -> bool:
    return next(network.parameters()).is_cuda


def _like_a_batch(config: Config, data: Data, network: Network) -> Tensor:
    """Of the shape of this process's part of one, [T, B, I], and no memory."""
    like = next(network.parameters())
    batch = -(-min(config.train.batch_size, len(data.train)) // world_size())
    return like.detach().new_empty(1).expand(data.train.longest, batch, config.data.channels)


def _write_result(out: Path, result: dict[str, Any]) -> dict[str, Any]:
    with writing(out):
        return write_result(out, result)


def _refit_position(before: Position) -> Position:
    """Where the training on all data begins, with the epoch that the first one chose."""
    return Position("refit", before.chosen, metrics=before.metrics, parts=before.parts)


def _note_part(
    position: Position,
    config: Config,
    device: torch.device,
    together: int,
    backends: Sequence[str],
) -> None:
    """Note what computes from here on; say where it is not what computed before."""
    part = {
        "backend": config.backend,
        "device": device.type,
        "gpu": torch.cuda.get_device_name(device) if device.type == "cuda" else "",
        "threads": torch.get_num_threads(),
        "torch": str(torch.__version__),
        "processes": world_size(),
        "together": together,
        "backends": [*backends],
        "resident": {**position.resident},
    }
    of_earlier_versions = {
        "processes": 1, "together": 1, "backends": [], "gpu": part["gpu"], "resident": {},
    }  # fmt: skip
    before = {**of_earlier_versions, **position.parts[-1]} if position.parts else part
    changed = [_CALLED.get(k, k) for k in part if before[k] != part[k]]
    if changed:
        log.warning(
            "The run goes on with another %s than before: it will not be equal bit by bit.",
            " and ".join(changed),
        )
    position.parts = [*position.parts, part]


def _describe_position(position: Position) -> str:
    if not position.metrics and not position.batch:
        return "writing"
    phase = " of the refit" if position.phase == "refit" else ""
    return f"going on after {position.epoch} epochs and {position.batch} batches{phase}, writing"


def _plan(config: Config, data: Data) -> Plan:
    """The training that the protocol asks for; ``refit`` adds a second one."""
    epochs = config.train.epochs
    if config.train.protocol == "last":
        return Plan("train", data.train, None, "", epochs)
    if config.train.protocol == "paper":
        return Plan("train", data.train, data.test, "test", epochs)
    return Plan("train", data.train, data.valid, "valid", epochs)


def _describe_backend(config: Config, data: Data, network: Network, together: int) -> str:
    """What will compute, and with which threads.

    Raises:
        UserError: the backend that was asked for cannot.
    """
    x = _like_a_batch(config, data, network)
    reason = network.why_not(config.backend, x)
    if reason:
        raise UserError(f"backend={config.backend} cannot train this network: {reason}.")
    chosen = network.describe_backend(x)
    if config.precision == "mixed" and "fft" in chosen and not _is_timed(config, network, together):
        raise UserError(
            "precision=mixed changes nothing in backend=fft; take numba, matmul or dense."
        )
    what = f"device {x.device.type}, backend {config.backend}: {chosen}"
    on_cpu = x.device.type == "cpu"
    what += f"; {torch.get_num_threads()} threads" if on_cpu else ""
    slower = numba_jit.why_not() if on_cpu else triton_jit.why_not(x)
    return what + (f"; slower: {slower}" if slower else "")


def _describe_company(together: int) -> str:
    return f"; trained with {together - 1} others, by batched matrix products" * (together > 1)


def _describe_data(config: Config, data: Data) -> str:
    valid = f", {len(data.valid)} validation ({data.split})" if data.valid else ""
    samples = (
        f"{len(data.train)} training{valid} and {len(data.test)} test samples;"
        f" protocol {config.train.protocol} ({config.selection})"
    )
    return "\n".join([samples, *data.remarks])


# ---- the result --------------------------------------------------------------------------------


def _test(out: Path, data: Data, device: torch.device) -> Evaluation:
    run = from_first(lambda: load_run(out, "best"))
    loader = build_loader(run.config, data.test, run.meta.steps, device)
    return evaluate(run.network.to(device), loader)


def _outcome(config: Config, plan: Plan, data: Data, evaluation: Evaluation) -> dict[str, Any]:
    groups = evaluation.per_speaker_group(
        data.test.speakers, speakers_of(plan.train), plan.valid_speakers
    )

    def marked(scores: dict[str, Score]) -> dict[str, Any]:
        return {k: {**s.as_dict(), "selection": config.selection} for k, s in scores.items()}

    outcome = {
        **evaluation.score().as_dict(),
        "loss": evaluation.loss,
        "per_class": marked(evaluation.per_class(data.classes)),
        "per_speaker_group": marked(groups),
    }
    if config.train.protocol == "paper":
        outcome["batch_accuracy"] = evaluation.batch_accuracy
    return outcome


def _selected(plan: Plan, metrics: list[dict[str, Any]], epoch: int) -> dict[str, Any]:
    """On how many samples the epoch was chosen; its score there, if they are validation data."""
    if plan.select is None:
        return {"selected_on": 0}
    chosen: dict[str, Any] = {"selected_on": len(plan.select)}
    if plan.select_name == "valid":
        line = metrics[epoch - 1]  # the first training's come first
        score = Score(round(line["valid_accuracy"] * len(plan.select)), len(plan.select))
        chosen["valid"] = {**score.as_dict(), "loss": line["valid_loss"]}
    return chosen


def _provenance(config: Config, data: Data, device: torch.device) -> dict[str, Any]:
    described = data.describe()
    return {
        "seed": config.seed,
        "config_hash": config_hash(config),
        "data_hash": described["hash"],
        "data": described,
        "commit": provenance.commit(),
        "versions": provenance.versions(),
        "machine": provenance.machine(device),
    }
