"""The folder of a run: a new one, or one whose run goes on; written by one process at a time."""

from __future__ import annotations

import contextlib
import datetime
import itertools
import json
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
import yaml

from snn_delays.config import Config, shaping
from snn_delays.data.cache import cache_folder
from snn_delays.data.sources import Data
from snn_delays.errors import UserError
from snn_delays.files import PART, Locked, locked, replace_file
from snn_delays.train.checkpoint import CONFIG_FILE, read_checkpoint, read_config, read_last
from snn_delays.train.loop import RunFolder
from snn_delays.train.signals import StopSignal
from snn_delays.train.tracking import open_tracker

LOCK_FILE = ".lock"
RESULT_FILE = "result.json"
SPLIT_FILE = "split.json"
MOST_SHOWN = 3  # options that differ


def run_folder(config: Config) -> Path:
    """The folder to write: ``out``, or one named by name, time and seed.

    Raises:
        UserError: something is there already that is no run to go on with.
    """
    if config.out is None:
        now = datetime.datetime.now().strftime("%Y%m%d-%H%M%S")
        wanted = Path("runs", config.name, f"{now}-s{config.seed}")
        names = (f"{wanted.name}-{n}" for n in itertools.count(2))
        paths = itertools.chain([wanted], map(wanted.with_name, names))
        return next(path for path in paths if not path.exists())
    out = Path(config.out).expanduser()
    if config.resume == "auto" and (out / CONFIG_FILE).is_file():
        _check_options(config, out)
    elif out.exists() and (not out.is_dir() or _content(out)):
        hint = ", or go on with the run in it (resume=auto)" if _is_run(out) else ""
        raise UserError(f"out={config.out} is not an empty folder; choose another{hint}.")
    return out


def _content(out: Path) -> list[str]:
    return [path.name for path in out.iterdir() if path.name != LOCK_FILE]


def _is_run(out: Path) -> bool:
    return (out / CONFIG_FILE).is_file()


def _check_options(config: Config, out: Path) -> None:
    """Refuse to go on with a run of other options."""
    given, stored = (_flat(shaping(c)) for c in (_comparable(config), read_config(out)))
    wrong = [f"{k}={given[k]} ({stored[k]} there)" for k in given if given[k] != stored[k]]
    if wrong:
        more = f" and {len(wrong) - MOST_SHOWN} more" if len(wrong) > MOST_SHOWN else ""
        raise UserError(
            f"out={config.out} holds a run of other options: {', '.join(wrong[:MOST_SHOWN])}{more};"
            " give the run's own, or choose another out."
        )


def _comparable(config: Config) -> Config:
    """With what null and "auto" stand for, as a run's stored options have it."""
    return resolved(config, Path(str(config.out)), config.device)


def resolved(config: Config, out: Path, device: str) -> Config:
    """What "auto" and null stand for, so that config.yaml says what was done."""
    data = replace(
        config.data,
        cache=str(cache_folder(config.data)),
        frame_arithmetic=config.frame_arithmetic,
    )
    model = replace(config.model, extra_steps=config.model.layer_extra_steps)
    return replace(config, out=str(out), device=device, data=data, model=model)


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def read_result(out: Path) -> dict[str, Any] | None:
    """The result of a run that has ended, or None.

    Raises:
        UserError: it cannot be read.
    """
    path = out / RESULT_FILE
    if not path.is_file():
        return None
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise UserError(f"{path} is damaged: remove it, and resume=auto makes it anew.") from error


def read_split(out: Path) -> dict[str, Any]:
    """Which samples trained, selected and tested in a run (``Data.describe_split``).

    Raises:
        UserError: it cannot be read.
    """
    try:
        noted = json.loads((out / SPLIT_FILE).read_text())
        for name in ("train", "test", *({"valid"} & noted.keys())):
            noted[name]["file"], noted[name]["sha256"], noted[name]["samples"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{out / SPLIT_FILE}, which says what the run tested on, is missing or damaged;"
            " evaluate recordings by file=<path>."
        ) from error
    return noted


@contextlib.contextmanager
def opened(config: Config, data: Data, out: Path) -> Iterator[RunFolder]:
    """The folder, locked, with its options and split written; signals are noted meanwhile.

    What goes wrong inside, a full disk or too little memory, ends in a sentence; what was saved
    stays.

    Raises:
        UserError: it cannot be written, or another run writes to it.
    """
    with _explained(out):
        out.mkdir(parents=True, exist_ok=True)
        with _alone(out), StopSignal() as stop:
            _write_head(config, data, out)
            tracker = open_tracker(config, out)
            try:
                yield RunFolder(out, tracker, stop)
            except BaseException:
                tracker.finish({})
                raise


@contextlib.contextmanager
def _alone(out: Path) -> Iterator[None]:
    try:
        with locked(out / LOCK_FILE, wait=False):
            yield
    except Locked as error:
        raise UserError(
            f"Another run (process {error}) is writing to {out}; wait for it, or choose another"
            " out."
        ) from error


def _write_head(config: Config, data: Data, out: Path) -> None:
    for part in (*out.glob(f".*{PART}"), *(out / "checkpoints").glob(f".*{PART}")):
        part.unlink()  # a killed process left it
    split = json.dumps(data.describe_split()) + "\n"
    path = out / SPLIT_FILE
    if _is_run(out) and path.is_file() and path.read_text() != split:
        raise UserError(f"The data of the run in {out} has changed; it cannot go on.")
    replace_file(path, split.encode())
    if not _is_run(out):
        text = yaml.safe_dump(asdict(config), sort_keys=False)
        replace_file(out / CONFIG_FILE, text.encode())


def read_state(out: Path) -> dict[str, Any] | None:
    """The checkpoint that a run goes on from, or None where there is none yet.

    Raises:
        UserError: it is damaged, or of a version from which training cannot go on.
    """
    saved = read_last(out)
    if saved is None:
        return None
    if "position" not in saved:
        raise UserError(f"The checkpoint in {out} is of an earlier version: train anew.")
    if saved["position"]["best_epoch"]:
        read_checkpoint(out, "best")
    return saved


@contextlib.contextmanager
def _explained(out: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        kept = ". What was saved before is whole: resume=auto goes on from there"
        raise UserError(
            f"out={out} cannot be written: {error.strerror or error}{kept if _is_run(out) else ''}."
        ) from error
    except (MemoryError, RuntimeError) as error:
        if not _is_memory(error):
            raise
        raise UserError(
            f"Memory ran out ({str(error).splitlines()[0] if str(error) else 'host'}); lower"
            " train.batch_size or model.hidden. What was saved before is whole."
        ) from error


def _is_memory(error: Exception) -> bool:
    words = ("not enough memory", "can't allocate memory", "out of memory")
    known = isinstance(error, MemoryError | torch.OutOfMemoryError)
    return known or any(word in str(error).lower() for word in words)
