"""Checkpoints: writing them, and loading a network from a run's folder."""

from __future__ import annotations

import hashlib
import io
import logging
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from snn_delays.config import Config, result_options, validate
from snn_delays.config.options import check_types, from_dict, shown
from snn_delays.documents import read_yaml
from snn_delays.errors import UserError
from snn_delays.files import replace_file
from snn_delays.nn import DelayedLinear, Network, build_network, weight_shapes
from snn_delays.nn.recurrence import Recurrence
from snn_delays.runtime.device import pick_dtype
from snn_delays.training.run_files import CONFIG_FILE, checkpoint_path

log = logging.getLogger(__name__)

FORMAT = 4
MOST_SIGMA = 1e9  # steps


@dataclass(frozen=True)
class Meta:
    """Data that a network needs besides its parameters.

    Attributes:
        classes: class names, in order of the scores.
        steps: length that samples are padded to; None pads a batch to its longest sample.
        speakers: speakers of the training data, or None if unknown.
        valid_speakers: speakers of the validation data alone, or None if unknown.
        epoch: number of epochs trained.
        sigma: width of the Gaussian taps in the last trained epoch, in steps.
    """

    classes: list[str]
    steps: int | None
    speakers: list[str] | None
    valid_speakers: list[str] | None
    epoch: int
    sigma: float

    def check(self) -> None:
        """Check the values, which may come from a damaged file.

        Raises:
            ValueError: no network can have a value.
        """
        check_types(self)
        if not self.classes:
            raise ValueError("it names no classes")
        if self.steps is not None and self.steps < 1:
            raise ValueError(f"its recordings are of {self.steps} steps")
        if not 0 < self.sigma < MOST_SIGMA:
            raise ValueError(f"its sigma is {self.sigma}")


@dataclass
class Position:
    """Progress of a training; with the saved tensors, everything needed to resume it.

    Attributes:
        phase: title of the training; "refit" comes after "train".
        chosen: number of epochs that the phase "train" chose; used in the phase "refit".
        epoch: number of finished epochs in this phase.
        batch: number of finished batches of the next epoch.
        sums: running sums over these batches.
        best_epoch: the best epoch so far, from 1; the earliest of equals.
        best_rank: its selection score.
        metrics: the lines of metrics.jsonl.
        seconds: seconds that the run has taken in all its sessions.
        sessions: for each session what computed it: backend, device, GPU, threads, torch,
            number of processes and of batched runs, the layers' timed backends, how each layer
            computes a batch of the usual size (``nn.block.How``), and whether the
            data of each phase lie on the GPU.
    """

    phase: str = "train"
    chosen: int = 0
    epoch: int = 0
    batch: int = 0
    sums: dict[str, float] = field(default_factory=dict)
    best_epoch: int = 0
    best_rank: list[float] = field(default_factory=lambda: [-1.0, 0.0])
    metrics: list[dict[str, Any]] = field(default_factory=list)
    seconds: float = 0.0
    sessions: list[dict[str, Any]] = field(default_factory=list)

    @property
    def backends(self) -> list[str]:
        """Backends of the delayed layers, if they were chosen by timing; else empty."""
        backends: list[str] = self.sessions[-1].get("backends", []) if self.sessions else []
        return backends

    @property
    def data_on_gpu(self) -> dict[str, bool]:
        """Of each phase, whether its training data lie on the GPU; to be added to."""
        data_on_gpu: dict[str, bool] = (
            self.sessions[-1].get("data_on_gpu", {}) if self.sessions else {}
        )
        return data_on_gpu

    def update_best(self, epoch: int, rank: tuple[float, float]) -> bool:
        """Make epoch ``epoch`` (from 1) the best if its score is higher; whether it is the best."""
        better = not self.best_epoch or list(rank) > self.best_rank
        if better:
            self.best_epoch, self.best_rank = epoch, list(rank)
        return better


@dataclass(frozen=True)
class LoadedRun:
    """A run's network, loaded from a checkpoint.

    Attributes:
        config: options of the run.
        network: the network, in evaluation mode.
        meta: data that the network needs besides its parameters.
        split: SHA-256 of split.json as the run wrote it; None in checkpoints of format 1 and 2.
    """

    config: Config
    network: Network
    meta: Meta
    split: str | None


# ---- writing -----------------------------------------------------------------------------------


def save_checkpoint(
    folder: Path, which: str, config: dict[str, Any], meta: Meta, state: dict[str, Any]
) -> None:
    """Write a checkpoint; the earlier one stays until the new one is complete.

    The earlier "last" is kept as "previous".

    Args:
        folder: of the run.
        which: "last" or "best".
        config: the resolved configuration, as plain values.
        meta: data that the network needs besides its parameters.
        state: "model", and in "last" everything needed to resume.

    Raises:
        OSError: it cannot be written; the earlier checkpoint is unchanged.
    """
    content = {"format": FORMAT, "config": config, "meta": vars(meta), **state}
    buffer = io.BytesIO()
    torch.save({**content, "digest": _digest(content)}, buffer)
    keep = checkpoint_path(folder, "previous") if which == "last" else None
    replace_file(checkpoint_path(folder, which), buffer.getvalue(), keep)


def parameters_digest(parameters: dict[str, Tensor]) -> str:
    """SHA-256 of a network's parameters, with their names and types."""
    return _digest(parameters)


def _digest(content: Any) -> str:
    """SHA-256 of nested plain values and tensors."""
    digest = hashlib.sha256()

    def add(value: Any) -> None:
        """Add a value and everything in it to the digest, with types and sizes."""
        if isinstance(value, Tensor):
            _check_plain(value)
            plain = value.detach().cpu().contiguous()
            digest.update(f"{plain.dtype}{tuple(plain.shape)}".encode())
            digest.update(plain.view(-1).view(torch.uint8).numpy().data)
        elif isinstance(value, dict):
            digest.update(f"{{{len(value)}".encode())
            for key, item in value.items():
                digest.update(repr(key).encode())
                add(item)
        elif isinstance(value, list | tuple):
            digest.update(f"[{len(value)}".encode())
            for item in value:
                add(item)
        else:
            digest.update(repr(value).encode())

    add(content)
    return digest.hexdigest()


def _check_plain(value: Tensor) -> None:
    """Refuse a tensor that is larger than its storage, or not strided."""
    plain = value.layout == torch.strided and not (value.is_nested or value.is_quantized)
    if not plain or value.nbytes > value.untyped_storage().nbytes():
        raise ValueError("a tensor in it is not stored in full")


# ---- reading -----------------------------------------------------------------------------------


def load_run(
    folder: str | Path, which: str = "best", device: str | torch.device = "cpu"
) -> LoadedRun:
    """Load the network of a run.

    Args:
        folder: the run's folder.
        which: "best", the epoch that the protocol chose, or "last".
        device: of the network.

    Raises:
        UserError: the folder is no run's, or its checkpoint is missing, damaged, or does not fit
            the configuration.
    """
    folder = Path(folder).expanduser()
    config = read_config(folder)
    saved = read_last(folder) if which == "last" else read_checkpoint(folder, which)
    if saved is None:
        path = checkpoint_path(folder, which)
        raise UserError(f"There is no checkpoint {path}: the run has not finished an epoch.")
    _check_config(folder, config, saved)
    if config.data.cache is not None and not Path(config.data.cache).is_dir():
        config.data.cache = None  # another machine's, or deleted: use this user's own
    meta = Meta(**saved["meta"])
    _check_shapes(folder, weight_shapes(config, len(meta.classes)), saved["model"])
    network = build_network(config, len(meta.classes)).to(pick_dtype(config.precision))
    load_parameters(network, saved["model"], folder)
    network.set_sigma(meta.sigma)
    return LoadedRun(config, network.to(device).eval(), meta, saved.get("split"))


def _check_config(folder: Path, config: Config, saved: dict[str, Any]) -> None:
    """Refuse a config.yaml whose options differ from the checkpoint's."""
    for name, mine, theirs in different(result_options(config), result_options(config_of(saved))):
        raise UserError(
            f"{folder / CONFIG_FILE} says {name}={shown(mine)}, but the checkpoint says"
            f" {name}={shown(theirs)}: the file was changed or damaged; correct it."
        )


def config_of(saved: dict[str, Any]) -> Config:
    """The configuration in the content of a checkpoint (``read_checkpoint``)."""
    return _config(saved["config"])


def different(mine: dict[str, Any], theirs: dict[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    """Yield the dotted name and both values of every option that differs."""
    for key, value in mine.items():
        if isinstance(value, dict):
            for name, one, other in different(value, theirs[key]):
                yield f"{key}.{name}", one, other
        elif value != theirs[key]:
            yield key, value, theirs[key]


def _check_shapes(
    folder: Path, claimed: dict[str, tuple[int, int, int]], parameters: dict[str, Any]
) -> None:
    """Refuse sizes that are not the checkpoint's before a network of them takes memory."""
    for name, shape in claimed.items():
        there = parameters.get(name)
        if not isinstance(there, Tensor):
            raise _unfit(folder, f"{name} is missing")
        if there.shape != shape:
            raise _unfit(folder, f"{name} is of shape {[*there.shape]} there, {[*shape]} here")


def load_parameters(network: Network, parameters: dict[str, Any], folder: Path) -> None:
    """Load a checkpoint's parameters into a network.

    Raises:
        UserError: they are another network's, or have invalid values.
    """
    reason = why_unfit(network, parameters)
    if reason:
        raise _unfit(folder, reason)


def why_unfit(network: Network, parameters: dict[str, Any]) -> str | None:
    """Load a checkpoint's parameters into a network; the reason why they do not fit, or None."""
    reason = _why_unusable(network, parameters)
    try:
        network.load_state_dict(parameters)
    except RuntimeError as error:
        reason = str(error).splitlines()[1 if "\n" in str(error) else 0].strip()
    return reason and shown(reason.rstrip("."), 300)


def _unfit(folder: Path, reason: str) -> UserError:
    return UserError(
        f"The checkpoint in {folder} does not fit the network of {folder / CONFIG_FILE}: {reason}."
    )


def _why_unusable(network: Network, parameters: dict[str, Any]) -> str | None:
    """The reason why parameters have invalid values for a network, or None."""
    expected = network.state_dict()
    for name in expected.keys() & parameters.keys():
        value = parameters[name]
        if isinstance(value, Tensor) and value.dtype != expected[name].dtype:
            return f"{name} is of {value.dtype}, not of {expected[name].dtype}"
        if isinstance(value, Tensor) and not value.isfinite().all():
            return f"{name} holds numbers that are infinite or NaN"
    for name, layer in network.named_modules():
        delay = parameters.get(f"{name}.delay")
        if isinstance(layer, Recurrence) and isinstance(delay, Tensor) and (delay < 0).any():
            return f"{name}.delay is below 0"
        if not isinstance(layer, DelayedLinear) or not isinstance(delay, Tensor):
            continue
        if not ((delay >= 0) & (delay <= layer.taps - 1)).all():
            return f"{name}.delay lies outside [0, {layer.taps - 1}]"
    return None


def read_config(folder: Path) -> Config:
    """The resolved configuration of a run.

    Raises:
        UserError: the folder is no run's, or its configuration is invalid.
    """
    path = folder / CONFIG_FILE
    if not path.is_file():
        raise UserError(f"{folder} is not the folder of a run: it has no {CONFIG_FILE}.")
    try:
        config = _config(read_yaml(path))
        validate(config)
    except (OSError, ValueError) as error:
        raise UserError(f"{path} is not a configuration of this version: {error}") from error
    return config


def _config(values: Any) -> Config:
    """The configuration from plain values; earlier versions wrote speakers as numbers."""
    if not isinstance(values, dict) or "data" not in values:
        raise UserError("it does not say which data the run is of")
    config: Config = from_dict(Config, values)
    named = config.data.valid_speakers
    if isinstance(named, list):
        config.data.valid_speakers = [str(s) if isinstance(s, int) else s for s in named]
    check_types(config)
    return config


def read_last(folder: Path) -> dict[str, Any] | None:
    """The checkpoint "last"; if it is damaged, "previous" with a warning.

    Returns:
        Its content; None if there is none yet.

    Raises:
        UserError: both are damaged.
    """
    try:
        saved = read_checkpoint(folder, "last")
    except UserError as error:
        previous = read_checkpoint(folder, "previous")
        if previous is None:
            raise
        log.warning("%s The checkpoint before it is used.", error)
        return previous
    return read_checkpoint(folder, "previous") if saved is None else saved


def is_damaged(folder: Path, which: str) -> bool:
    """Whether a checkpoint exists and cannot be read."""
    try:
        read_checkpoint(folder, which)
    except UserError:
        return True
    return False


def read_checkpoint(folder: Path, which: str) -> dict[str, Any] | None:
    """The checked content of a checkpoint; None if it does not exist. No code in it is executed.

    Raises:
        UserError: the file is damaged, is no checkpoint, or is of a later version.
    """
    return read_checkpoint_file(checkpoint_path(folder, which))


def read_checkpoint_file(path: Path) -> dict[str, Any] | None:
    """See ``read_checkpoint``."""
    if not path.is_file():
        return None
    try:
        _check_size(path)
        saved = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged pickle raises anything
        raise UserError(f"{path} is damaged or not a checkpoint; it cannot be read.") from error
    if not isinstance(saved, dict) or not isinstance(saved.get("format"), int):
        raise UserError(f"{path} is not a checkpoint of this package.")
    if saved["format"] > FORMAT:
        raise UserError(f"{path} is of format {saved['format']}, later than {FORMAT}: upgrade.")
    try:
        return _checked(_migrated(_verified(saved)))
    except ValueError as error:
        reason = str(error).rstrip(".")
        raise UserError(f"{path} is damaged: {reason}.") from error
    except (KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(f"{path} is not a checkpoint of this package.") from error


def _check_size(path: Path) -> None:
    """Refuse a compressed file: torch compresses nothing, and unpacking could fill the memory."""
    with zipfile.ZipFile(path) as file:
        if sum(entry.file_size for entry in file.infolist()) > path.stat().st_size:
            raise ValueError("it is compressed")


def _verified(saved: dict[str, Any]) -> dict[str, Any]:
    """A checkpoint whose content is what was written; formats 1 and 2 have no checksum."""
    if saved["format"] > 2 and saved.pop("digest") != _digest(saved):
        raise ValueError("its checksum is wrong")
    return saved


def _migrated(saved: dict[str, Any]) -> dict[str, Any]:
    """A checkpoint in today's names; training cannot go on from formats 1 and 2."""
    if saved["format"] < 3:
        for key in ("speakers", "valid_speakers"):
            names = saved["meta"][key]
            saved["meta"][key] = None if names is None else [str(name) for name in names]
        saved.pop("position", None)
    elif saved["format"] == 3 and "position" in saved:
        position = _renamed(saved["position"], parts="sessions")
        position["sums"] = _renamed(position["sums"], right="correct")
        position["sessions"] = [
            _renamed(session, together="batched", resident="data_on_gpu")
            for session in position["sessions"]
        ]
        saved["position"] = position
    return saved


def _renamed(values: dict[str, Any], **names: str) -> dict[str, Any]:
    return {names.get(key, key): value for key, value in values.items()}


def _checked(saved: dict[str, Any]) -> dict[str, Any]:
    Meta(**saved["meta"]).check()
    if not isinstance(saved["model"], dict) or not all(isinstance(k, str) for k in saved["model"]):
        raise TypeError("parameters without names")
    _config(saved["config"])
    return saved
