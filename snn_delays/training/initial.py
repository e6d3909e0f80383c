"""The network that a fine-tuning starts from: another run's (``train.init``)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from snn_delays.config import Config
from snn_delays.config.options import options, shown
from snn_delays.data.dataset import Data
from snn_delays.data.splits import first_names
from snn_delays.errors import UserError
from snn_delays.nn import Network, build_network, draw_network
from snn_delays.nn.delays import HasDelays
from snn_delays.runtime.device import pick_dtype
from snn_delays.training.checkpoint import (
    Meta,
    checkpoint_path,
    config_of,
    parameters_digest,
    read_checkpoint,
    read_checkpoint_file,
    save_checkpoint,
    why_unfit,
)
from snn_delays.training.run_files import RESULT_FILE
from snn_delays.training.run_folder import read_split
from snn_delays.training.schedules import is_rounded, sigma_at

INITIAL = "init"  # the checkpoint of a run's own folder that holds its initial values
_PARTS = {"all": "", "delays": "the delays of ", "permuted_delays": "the permuted delays of "}
SAME = (  # options on which the meaning of weights and delays depends
    "model.hidden", "model.delays", "model.delay_type", "model.taps", "model.kernel_count",
    "model.density", "model.bias", "model.batch_norm", "model.neuron", "data.step_ms",
)  # fmt: skip


@dataclass(frozen=True)
class Initial:
    """The initial values of a network.

    Attributes:
        model: parameters, delays and BatchNorm statistics, as ``state_dict`` has them.
        origin: the run that they come from, for result.json: path, epoch, SHA-256 of its values,
            and whether its readout is "kept" or "drawn" anew.
        remarks: sentences on the origin, for the terminal and result.json.
    """

    model: dict[str, Tensor]
    origin: dict[str, Any]
    remarks: list[str]

    def save(self, config: Config, classes: list[str], sigma: float, folder: Path) -> None:
        """Keep the values in the folder of the new run, which then needs the other run no more."""
        if not checkpoint_path(folder, INITIAL).is_file():
            meta = Meta(classes, None, None, None, 0, sigma)
            save_checkpoint(folder, INITIAL, asdict(config), meta, vars(self))


def read_initial(config: Config, data: Data, out: Path) -> Initial | None:
    """The initial values that ``train.init`` names; None: they are drawn.

    Args:
        config: options of the new run.
        data: its data.
        out: its folder, from which a resumed run takes its initial values again.

    Raises:
        UserError: there is no finished run or checkpoint, or its network has another shape.
    """
    if config.train.init is None:
        return None
    kept = read_checkpoint(out, INITIAL)
    if kept is not None:
        return Initial(kept["model"], kept["origin"], kept["remarks"])
    path = Path(config.train.init).expanduser()
    saved = _read(path)
    _check_same(config, config_of(saved), path)
    there, here = saved["meta"]["classes"], data.classes
    keeps = len(there) == len(here)
    network = draw_network(config, len(here)).to(pick_dtype(config.precision))
    drawn = network.state_dict()
    model = {
        name: value.to(drawn[name].dtype) if name in drawn else value
        for name, value in saved["model"].items()
        if keeps or not name.startswith("readout.")
    }
    model |= {} if keeps else {n: v for n, v in drawn.items() if n.startswith("readout.")}
    reason = why_unfit(network, model)
    if reason:
        raise UserError(f"train.init={path} does not fit this run's network: {reason}.")
    epoch = saved["meta"]["epoch"]
    origin = {
        "path": str(path),
        "epoch": epoch,
        "sha256": parameters_digest(saved["model"]),
        "readout": "kept" if keeps else "drawn",
    }
    remarks = [f"Training starts from {_PARTS[config.train.init_parts]}epoch {epoch} of {path}."]
    if config.train.init_parts != "all":
        network = _with_delays_of(network, config, len(here))
        origin["parts"] = config.train.init_parts
        remarks.append("Everything else is drawn anew.")
    if not keeps:
        remarks.append(
            f"The readout is drawn anew, for {len(here)} classes instead of {len(there)}."
        )
    elif there != here and config.train.init_parts == "all":
        remarks.append(
            f"The readout is kept, although its classes were {first_names(there)}, and now are"
            f" {first_names(here)}."
        )
    start, sharp = sigma_at(0, config), saved["meta"]["sigma"]
    if config.model.delays == "learned" and start > sharp and not is_rounded(0, config):
        remarks.append(
            f"Sigma begins at {start:g} steps, after {sharp:.3g} there, and blurs the learned"
            " delays at first; train.sigma_schedule=constant keeps the taps narrow."
        )
    remarks += _recordings_seen(data, path, saved)
    return Initial(network.state_dict(), origin, remarks)


def load_initial(network: Network, folder: Path) -> None:
    """Load the values that a fine-tuned run kept as its initial ones.

    Raises:
        UserError: the file is missing or damaged.
    """
    path = checkpoint_path(folder, INITIAL)
    kept = read_checkpoint(folder, INITIAL)
    reason = "it is missing" if kept is None else why_unfit(network, kept["model"])
    if reason:
        raise UserError(f"{path} does not hold the values that the run started from: {reason}.")


def _read(path: Path) -> dict[str, Any]:
    """The checkpoint of a finished run's folder, or the file itself."""
    if path.is_dir() and not (path / RESULT_FILE).is_file():
        raise UserError(
            f"train.init={path} is not the folder of a finished run; finish the run, or name a file"
            " in its folder checkpoints."
        )
    file = checkpoint_path(path, "best") if path.is_dir() else path
    saved = read_checkpoint_file(file)
    if saved is None:
        raise UserError(
            f"There is no checkpoint {file}; train.init takes the folder of a finished run, or a"
            " file in its folder checkpoints."
        )
    return saved


def _check_same(mine: Config, theirs: Config, path: Path) -> None:
    """Refuse a network of another shape, or whose delays count other steps."""
    here, there = ({n: v for n, v, _ in options(config)} for config in (mine, theirs))
    for name in SAME:
        if here[name] != there[name]:
            raise UserError(
                f"train.init={path} holds a network with {name}={shown(there[name])}, and this run"
                f" has {name}={shown(here[name])}; give {name}={shown(there[name])}."
            )
    budget = theirs.train.buffer_budget
    if budget is not None and mine.train.buffer_budget is None and mine.model.density == 1:
        raise UserError(
            f"train.init={path} holds a network that was pruned to train.buffer_budget={budget};"
            " give this run the budget, too, and train.round_epochs."
        )
    if mine.data.channels != theirs.data.channels:
        raise UserError(
            f"train.init={path} holds a network of {theirs.data.channels} input channels, and this"
            f" run's data have {mine.data.channels}."
        )


@torch.no_grad()
def _with_delays_of(source: Network, config: Config, classes: int) -> Network:
    """A network of the source's delays, perhaps permuted; everything else is drawn.

    It is the second draw of the seed: the first is the start of a run that learned its delays with
    this seed, and delays that fit those weights would say little about delays alone.
    """
    draw_network(config, classes)
    network = build_network(config, classes).to(pick_dtype(config.precision))
    for own, theirs in zip(_delayed(network), _delayed(source), strict=True):
        delay = theirs.delay
        if config.train.init_parts == "permuted_delays":
            inputs = min(1, delay.dim() - 1)  # the dimension: [O, I, C], of recurrent delays [N]
            delay = delay.gather(inputs, torch.rand(delay.shape).argsort(inputs))
        own.delay.copy_(delay)
    return network


def _delayed(network: Network) -> Iterator[HasDelays]:
    return (module for module in network.modules() if isinstance(module, HasDelays))


def _recordings_seen(data: Data, path: Path, saved: dict[str, Any]) -> Iterator[str]:
    """Sentences on held-out recordings that the other run was trained on, if it says which."""
    folder = path if path.is_dir() else path.absolute().parent.parent
    try:
        noted = read_split(folder, saved.get("split"))
    except UserError:  # a checkpoint alone
        return
    names = ["train", "valid"] if config_of(saved).train.protocol == "refit" else ["train"]
    trained = [noted[name] for name in names if name in noted]
    for name, samples in (("validation", data.valid), ("test", data.test)):
        if samples is not None:
            numbers = set(samples.rows[:, 1].tolist())
            same = [t for t in trained if t["sha256"] == samples.stores[0].digest]
            seen = sum(
                len(numbers if t["samples"] == "all" else numbers & set(t["samples"])) for t in same
            )
            if seen:
                yield (
                    f"{seen} of {len(samples)} {name} recordings were training recordings of"
                    " train.init: accuracy on them says nothing about new recordings."
                )
