"""Checkpoints, and reading a network back from a run's folder."""

from __future__ import annotations

import hashlib
import io
import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import yaml

from snn_delays.config import Config, from_dict, shaping, validate
from snn_delays.device import pick_dtype
from snn_delays.errors import UserError
from snn_delays.files import replace_file
from snn_delays.nn import Network, build_network

log = logging.getLogger(__name__)

FORMAT = 3
CONFIG_FILE = "config.yaml"


@dataclass(frozen=True)
class Meta:
    """What a network must know besides its parameters.

    Attributes:
        classes: class names, in order of the scores.
        steps: length that samples are padded to; None pads a batch to its longest sample.
        speakers: speakers of the training data, or None.
        valid_speakers: speakers of the validation data alone, or None.
        epoch: epochs trained.
        sigma: width of the Gaussian taps in the epoch last trained, in steps.
    """

    classes: list[str]
    steps: int | None
    speakers: list[str] | None
    valid_speakers: list[str] | None
    epoch: int
    sigma: float


@dataclass
class Position:
    """Where a training stands: with the tensors, all that going on with it needs.

    Attributes:
        phase: title of the training; "refit" comes after "train".
        chosen: epochs that the first phase chose, in the second.
        epoch: epochs finished in this phase.
        batch: batches done of the next.
        sums: running sums over these batches.
        best_epoch: the best epoch so far, from 1; the first of equals.
        best_rank: its rank.
        metrics: the lines of metrics.jsonl.
        seconds: that the run has taken, in all its processes.
        parts: what computed, a line for each stretch: backend, device, GPU, threads, torch,
            processes, networks trained together, layers' backends where they were timed, and
            whether the data of each phase lie on the GPU.
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
    parts: list[dict[str, Any]] = field(default_factory=list)

    @property
    def backends(self) -> list[str]:
        """Of the delayed layers, where they were timed; else empty."""
        backends: list[str] = self.parts[-1].get("backends", []) if self.parts else []
        return backends

    @property
    def resident(self) -> dict[str, bool]:
        """Of each phase, whether its training data lie on the GPU; to be added to."""
        resident: dict[str, bool] = self.parts[-1].get("resident", {}) if self.parts else {}
        return resident

    def update_best(self, epoch: int, rank: tuple[float, float]) -> bool:
        """Take epoch ``epoch`` (from 1) if its rank is higher; say whether it was taken."""
        better = list(rank) > self.best_rank
        if better:
            self.best_epoch, self.best_rank = epoch, list(rank)
        return better


@dataclass(frozen=True)
class Run:
    """A network read back from its run."""

    config: Config
    network: Network
    meta: Meta


def checkpoint_path(folder: Path, which: str) -> Path:
    """Path of the checkpoint "last", "previous" or "best" in a run's folder."""
    return folder / "checkpoints" / f"{which}.pt"


# ---- writing -----------------------------------------------------------------------------------


def save_checkpoint(
    folder: Path, which: str, config: dict[str, Any], meta: Meta, state: dict[str, Any]
) -> None:
    """Write a checkpoint; the one before it stays until it is complete, "last" as "previous".

    Args:
        folder: of the run.
        which: "last" or "best".
        config: the resolved configuration, as plain values.
        meta: what the network must know besides its parameters.
        state: "model" and whatever training needs to go on.

    Raises:
        OSError: it cannot be written; what was there is still there.
    """
    content = {"format": FORMAT, "config": config, "meta": vars(meta), **state}
    buffer = io.BytesIO()
    torch.save({**content, "digest": _digest(content)}, buffer)
    keep = checkpoint_path(folder, "previous") if which == "last" else None
    replace_file(checkpoint_path(folder, which), buffer.getvalue(), keep)


def _digest(content: Any) -> str:
    """SHA-256 of nested plain values and tensors."""
    digest = hashlib.sha256()

    def add(value: Any) -> None:
        """Take in a value and all that it holds, each with its kind and size."""
        if isinstance(value, torch.Tensor):
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


# ---- reading -----------------------------------------------------------------------------------


def load_run(folder: str | Path, which: str = "best", device: str | torch.device = "cpu") -> Run:
    """The network of a run.

    Args:
        folder: the run's folder.
        which: "best", the epoch that the protocol chose, or "last".
        device: where to put it.

    Raises:
        UserError: not a run, no checkpoint, a damaged one, or one that does not fit the
            configuration.
    """
    folder = Path(folder).expanduser()
    config = read_config(folder)
    saved = read_last(folder) if which == "last" else read_checkpoint(folder, which)
    if saved is None:
        path = checkpoint_path(folder, which)
        raise UserError(f"There is no checkpoint {path}: the run has not finished an epoch.")
    _check_config(folder, config, saved)
    meta = Meta(**saved["meta"])
    network = build_network(config, len(meta.classes)).to(pick_dtype(config.precision))
    load_parameters(network, saved["model"], folder)
    network.set_sigma(meta.sigma)
    return Run(config, network.to(device).eval(), meta)


def _check_config(folder: Path, config: Config, saved: dict[str, Any]) -> None:
    """Refuse a config.yaml that is not the checkpoint's, cut short or edited."""
    for name, mine, theirs in different(shaping(config), shaping(config_of(saved))):
        raise UserError(
            f"{folder / CONFIG_FILE} says {name}={mine}, the checkpoint beside it {theirs}: the"
            " file was changed or damaged; put it right."
        )


def config_of(saved: dict[str, Any]) -> Config:
    """The configuration in a checkpoint."""
    return from_dict(Config, _named_speakers(saved["config"]))


def different(mine: dict[str, Any], theirs: dict[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    """Dotted name and both values of every option that differs."""
    for key, value in mine.items():
        if isinstance(value, dict):
            for name, one, other in different(value, theirs[key]):
                yield f"{key}.{name}", one, other
        elif value != theirs[key]:
            yield key, value, theirs[key]


def load_parameters(network: Network, parameters: dict[str, Any], folder: Path) -> None:
    """Take the parameters of a checkpoint.

    Raises:
        UserError: they are those of another network.
    """
    try:
        network.load_state_dict(parameters)
    except RuntimeError as error:
        reason = str(error).splitlines()[1 if "\n" in str(error) else 0].strip()
        raise UserError(
            f"The checkpoint in {folder} does not fit the network of {folder / CONFIG_FILE}:"
            f" {reason}"
        ) from error


def read_config(folder: Path) -> Config:
    """The resolved configuration of a run.

    Raises:
        UserError: the folder is no run's, or its configuration is not valid.
    """
    path = folder / CONFIG_FILE
    if not path.is_file():
        raise UserError(f"{folder} is not the folder of a run: it has no {CONFIG_FILE}.")
    try:
        values = yaml.safe_load(path.read_text("utf-8"))
        config = from_dict(Config, _named_speakers(values))
        validate(config)
    except (OSError, ValueError, TypeError, KeyError, AttributeError, yaml.YAMLError) as error:
        raise UserError(f"{path} is not a configuration of this version: {error}") from error
    return config


def _named_speakers(values: dict[str, Any]) -> dict[str, Any]:
    """Speakers were numbers once; they are names now."""
    chosen = values["data"].get("valid_speakers")
    if chosen is not None:
        values["data"]["valid_speakers"] = [str(speaker) for speaker in chosen]
    return values


def read_last(folder: Path) -> dict[str, Any] | None:
    """The last checkpoint, or the one before, with a warning, where the last is damaged.

    Returns:
        Its content; None where there is none yet.

    Raises:
        UserError: all that is there is damaged.
    """
    try:
        saved = read_checkpoint(folder, "last")
    except UserError as error:
        previous = read_checkpoint(folder, "previous")
        if previous is None:
            raise
        log.warning("%s The one before it is taken.", error)
        return previous
    return read_checkpoint(folder, "previous") if saved is None else saved


def is_damaged(folder: Path, which: str) -> bool:
    """Whether a checkpoint is there and cannot be used."""
    try:
        read_checkpoint(folder, which)
    except UserError:
        return True
    return False


def read_checkpoint(folder: Path, which: str) -> dict[str, Any] | None:
    """The content of a checkpoint, checked; None where there is none. No code in it is run.

    Raises:
        UserError: it is damaged, no checkpoint, or of a later version.
    """
    path = checkpoint_path(folder, which)
    if not path.is_file():
        return None
    try:
        saved = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged pickle raises anything
        raise UserError(f"{path} is damaged or not a checkpoint; it cannot be read.") from error
    if not isinstance(saved, dict) or not isinstance(saved.get("format"), int):
        raise UserError(f"{path} is not a checkpoint of this package.")
    if saved["format"] > FORMAT:
        raise UserError(f"{path} is of format {saved['format']}, later than {FORMAT}: upgrade.")
    try:
        return _checked(_migrated(saved))
    except ValueError as error:
        raise UserError(f"{path} is damaged: {error}.") from error
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path} is not a checkpoint of this package.") from error


def _checked(saved: dict[str, Any]) -> dict[str, Any]:
    digest = saved.pop("digest", None)
    if digest is not None and digest != _digest(saved):
        raise ValueError("its checksum is wrong")
    Meta(**saved["meta"])
    saved["model"].keys()
    return saved


def _migrated(saved: dict[str, Any]) -> dict[str, Any]:
    """A checkpoint of an earlier format: of 1 and 2, from which training cannot go on."""
    if saved["format"] < FORMAT:
        for key in ("speakers", "valid_speakers"):
            names = saved["meta"][key]
            saved["meta"][key] = None if names is None else [str(name) for name in names]
        saved.pop("position", None)
    elif saved["digest"] is None:
        raise ValueError("it has no checksum")
    return saved
