"""Checkpoints, and reading a network back from a run's folder."""

from __future__ import annotations

import os
import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml

from snn_delays.config import Config, from_dict, validate
from snn_delays.device import pick_dtype
from snn_delays.errors import UserError
from snn_delays.nn import Network, build_network

FORMAT = 2
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


@dataclass(frozen=True)
class Run:
    """A network read back from its run."""

    config: Config
    network: Network
    meta: Meta


def checkpoint_path(folder: Path, which: str) -> Path:
    """Path of the checkpoint "last" or "best" in a run's folder."""
    return folder / "checkpoints" / f"{which}.pt"


def save_checkpoint(path: Path, config: dict[str, Any], meta: Meta, state: dict[str, Any]) -> None:
    """Write a checkpoint under a temporary name, then rename it.

    Args:
        path: where.
        config: the resolved configuration, as plain values.
        meta: what the network must know besides its parameters.
        state: "model" and whatever training needs to go on.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".part")
    torch.save({"format": FORMAT, "config": config, "meta": vars(meta), **state}, partial)
    os.replace(partial, path)


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
    path = checkpoint_path(folder, which)
    saved = _read(path)
    try:
        meta = Meta(**saved["meta"])
        state = saved["model"]
    except (KeyError, TypeError) as error:
        raise UserError(f"{path} is not a checkpoint of this version.") from error
    network = build_network(config, len(meta.classes)).to(pick_dtype(config.precision))
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        reason = str(error).splitlines()[1 if "\n" in str(error) else 0].strip()
        raise UserError(
            f"{path} does not fit the network of {folder / CONFIG_FILE}: {reason}"
        ) from error
    network.set_sigma(meta.sigma)
    return Run(config, network.to(device).eval(), meta)


def read_config(folder: Path) -> Config:
    """The resolved configuration of a run.

    Raises:
        UserError: the folder is no run's, or its configuration is not valid.
    """
    path = folder / CONFIG_FILE
    if not path.is_file():
        raise UserError(f"{folder} is not the folder of a run: it has no {CONFIG_FILE}.")
    try:
        values = yaml.safe_load(path.read_text())
        config = from_dict(Config, values)
        validate(config)
    except (OSError, ValueError, TypeError, AttributeError, yaml.YAMLError) as error:
        raise UserError(f"{path} is not a configuration of this version: {error}") from error
    return config


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise UserError(f"There is no checkpoint {path}: the run has not finished an epoch.")
    try:
        saved = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise UserError(f"{path} is damaged or not a checkpoint; it cannot be read.") from error
    if not isinstance(saved, dict) or saved.get("format") != FORMAT:
        raise UserError(f"{path} is not a checkpoint of format {FORMAT}.")
    return saved
