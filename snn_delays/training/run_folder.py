"""The folder of a run, new or resumed; only one process at a time writes to it."""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import itertools
import json
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import yaml

from snn_delays.config import Config, result_options, with_derived
from snn_delays.config.options import is_own, shown
from snn_delays.config.own_parts import copies, pinned
from snn_delays.data.dataset import Data
from snn_delays.data.frame_cache import cache_folder
from snn_delays.documents import read_json, read_json_lines
from snn_delays.errors import InUse, UserError
from snn_delays.evaluate import Score
from snn_delays.files import PARTIAL, Locked, locked, replace_file
from snn_delays.regression import StepError
from snn_delays.training.checkpoint import (
    config_of,
    different,
    is_damaged,
    read_config,
    read_last,
)
from snn_delays.training.distributed import broadcast_from_first, is_first
from snn_delays.training.error_messages import writing
from snn_delays.training.loop import RunFolder
from snn_delays.training.run_files import (
    CONFIG_FILE,
    LOCK_FILE,
    METRICS_FILE,
    RESULT_FILE,
    SPLIT_FILE,
    checkpoint_path,
    find_runs,
    is_run,
    summarise_run,
)
from snn_delays.training.signals import StopSignal
from snn_delays.training.tracking import NoTracker, open_tracker

MODULES_FOLDER = "modules"  # copies of the user's own modules
RUNS = "runs"  # the folder of runs whose folder is not given
MOST_SHOWN = 3  # differing options in a message
_RESULT_KINDS = {
    "selection": str, "epoch": int, "parameters": int, "seconds": int | float, "loss": float,
    "batch_accuracy": float, "versions": dict, "machine": dict,
}  # fmt: skip
CHANGEABLE = ("train.nonfinite", "train.deterministic")  # options that a resumed run may change


def run_folder(config: Config) -> Path:
    """The folder to write: ``out``, or one named by name, time and seed.

    Raises:
        UserError: the folder exists and holds something else than a run to resume, or there is none
            to resume.
    """
    if config.resume == "last":
        return _last_unfinished(config)
    if config.out is None:
        now = datetime.datetime.now().strftime("%Y%m%d-%H%M%S")
        wanted = Path(RUNS, config.name, f"{now}-s{config.seed}")
        names = (f"{wanted.name}-{n}" for n in itertools.count(2))
        paths = itertools.chain([wanted], map(wanted.with_name, names))
        return next(path for path in paths if not path.exists())
    out = Path(config.out).expanduser()
    _check_free(config, out)
    return out


def _last_unfinished(config: Config) -> Path:
    """The newest run in ``RUNS`` that has these options, no result, and no process."""
    found = []
    for folder in find_runs(Path(RUNS)):
        with contextlib.suppress(UserError):  # a damaged run is none to resume
            found.append(summarise_run(folder))
    open_runs = [run for run in found if run.state in ("stopped", "failed")]
    newest = ""
    for run in sorted(open_runs, key=lambda run: run.modified, reverse=True):
        with contextlib.suppress(UserError):
            differing = other_options(config, run.folder)
            if not differing:
                return run.folder
            newest = newest or f"; the newest, {run.folder}, has other options: {differing}"
    raise UserError(
        f"resume=last finds no unfinished run with these options in {RUNS}/, where"
        f" `snn-delays runs` lists all{newest}."
    )


def _check_free(config: Config, out: Path) -> None:
    if config.resume == "auto" and is_run(out):
        differing = other_options(config, out)
        if differing:
            start = f" and start from this run by train.init={out}"
            longer = "train.epochs=" in differing and (out / RESULT_FILE).is_file()
            raise UserError(
                f"out={config.out} holds a run with other options: {differing}; give the run's own"
                f" options, or choose another out{start if longer else ''}."
            )
    elif out.exists() and (not out.is_dir() or _content(out)):
        hint = ", or resume the run in it (resume=auto)" if is_run(out) else ""
        raise UserError(f"out={out} is not an empty folder; choose another{hint}.")


def _content(out: Path) -> list[str]:
    """Names in a folder, without the files that a run leaves if it is killed at its start."""
    names = [path.name for path in out.iterdir()]
    return [name for name in names if name != LOCK_FILE and not name.endswith(PARTIAL)]


def other_options(config: Config, out: Path) -> str:
    """The options that shape the result and differ from those of the run in ``out``, or "".

    The run's options are read from its checkpoint, or from config.yaml if it has none.

    Raises:
        UserError: the run's options cannot be read.
    """
    saved = read_last(out)
    stored = read_config(out) if saved is None else config_of(saved)
    given = resolved(config, Path(str(config.out)), config.device)
    wrong = [
        f"{name}={shown(mine)} ({shown(theirs)} there{_hint(mine, theirs)})"
        for name, mine, theirs in different(result_options(given), result_options(stored))
        if name not in CHANGEABLE
    ]
    more = f" and {len(wrong) - MOST_SHOWN} more" if len(wrong) > MOST_SHOWN else ""
    return f"{', '.join(wrong[:MOST_SHOWN])}{more}"


def _hint(mine: object, theirs: object) -> str:
    """What to say of two values where the code of a user's own part is all that differs."""
    if not is_own(mine) or str(mine).partition("@")[0] != str(theirs).partition("@")[0]:
        return ""
    return f": the module has changed; the run's folder holds a copy in {MODULES_FOLDER}"


def resolved(config: Config, out: Path, device: str) -> Config:
    """The options with "auto" and null replaced by values, own parts pinned, for config.yaml."""
    derived = with_derived(config)
    data = replace(derived.data, cache=str(cache_folder(config.data)))
    resume = "auto" if config.resume == "last" else config.resume
    return pinned(replace(derived, out=str(out), device=device, data=data, resume=resume))


def read_result(out: Path) -> dict[str, Any] | None:
    """The result of a finished run, or None if the run has not finished.

    Raises:
        UserError: result.json cannot be read, or is damaged.
    """
    path = out / RESULT_FILE
    if not os.path.lexists(path):
        return None
    try:
        result: dict[str, Any] = read_json(path)
        _check_result(result)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{path} is damaged: remove it, and resume=auto writes it again."
        ) from error
    return result


def write_result(out: Path, result: dict[str, Any]) -> dict[str, Any]:
    """Write result.json with digests of the result and of metrics.jsonl; returns its content."""
    metrics = hashlib.sha256((out / METRICS_FILE).read_bytes()).hexdigest()
    signed = {**result, "checksums": {"metrics": metrics, "result": _digest(result)}}
    replace_file(out / RESULT_FILE, (json.dumps(signed, indent=2) + "\n").encode())
    return signed


def _digest(result: dict[str, Any]) -> str:
    """SHA-256 of a result without its own digests."""
    rest = {key: value for key, value in result.items() if key != "checksums"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def _check_result(result: dict[str, Any]) -> None:
    """Refuse a result that is not as a run writes it; earlier versions wrote no checksums."""
    if "checksums" in result and result["checksums"]["result"] != _digest(result):
        raise ValueError("its checksum is wrong")
    for key, kind in _RESULT_KINDS.items():
        if key in result and not isinstance(result[key], kind):
            raise TypeError(f"{key} has another type")
    result["selection"], result["epoch"], result["parameters"], result["seconds"]
    scores = [result["valid"]] if "valid" in result else []
    if "accuracy" in result:
        scores += [result, *result["per_class"].values(), *result["per_speaker_group"].values()]
    for score in scores:
        Score.from_dict(score) if "accuracy" in score else StepError.from_dict(score)
    if "nrmse" in result:
        StepError.from_dict(result)


def read_metrics(out: Path, result: dict[str, Any] | None) -> list[dict[str, Any]]:
    """The lines of a run's metrics.jsonl; an unfinished run may have none yet.

    Args:
        out: the run's folder.
        result: the result of ``read_result``.

    Raises:
        UserError: the file is missing, cannot be read, or is damaged.
    """
    path = out / METRICS_FILE
    if result is None and not os.path.lexists(path):
        return []
    try:
        lines = read_json_lines(path)
        _check_metrics(path, lines, result)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{path} is damaged or missing: remove it and {RESULT_FILE} beside it, and resume=auto"
            " writes both again."
        ) from error
    return lines


def _check_metrics(path: Path, lines: list[Any], result: dict[str, Any] | None) -> None:
    """Refuse metrics that are not as a run writes them."""
    digest = (result or {}).get("checksums", {}).get("metrics")
    if digest not in (None, hashlib.sha256(path.read_bytes()).hexdigest()):
        raise ValueError("its checksum is wrong")
    for line in lines:
        score = "train_nrmse" if "train_nrmse" in line else "train_accuracy"
        for key in ("epoch", "sigma", "train_loss", score):
            if not isinstance(line[key], int | float):
                raise TypeError(f"{key} is no number")
        if not isinstance(line["phase"], str):
            raise TypeError("phase is no text")


def read_split(out: Path, digest: str | None) -> dict[str, Any]:
    """The content of a run's split.json: the samples of each split (``Data.describe_split``).

    Args:
        out: the run's folder.
        digest: SHA-256 of the file according to a checkpoint (``LoadedRun.split``), or None.

    Raises:
        UserError: the file cannot be read, or is damaged.
    """
    path = out / SPLIT_FILE
    try:
        noted: dict[str, Any] = read_json(path)
        if digest not in (None, hashlib.sha256(path.read_bytes()).hexdigest()):
            raise ValueError("its checksum is wrong")
        for name in ("train", "test", *({"valid"} & noted.keys())):
            noted[name]["file"], noted[name]["sha256"], noted[name]["samples"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{path}, which lists the run's test recordings, is missing or damaged;"
            " `snn-delays evaluate` also takes recordings by file=<path>."
        ) from error
    return noted


@contextlib.contextmanager
def opened(
    config: Config, data: Data, out: Path, stop: AbstractContextManager[StopSignal]
) -> Iterator[tuple[RunFolder, dict[str, Any] | None]]:
    """Lock the folder, and write its options and split; ``stop`` is entered meanwhile.

    The first rank does so for all ranks.

    Yields:
        The folder, and the checkpoint to resume from, or None.

    Raises:
        UserError: it cannot be written, another run writes to it, or its data has changed.
    """
    split = json.dumps(data.describe_split()) + "\n"
    digest = hashlib.sha256(split.encode()).hexdigest()
    with contextlib.ExitStack() as held, stop as signal:

        def claim() -> dict[str, Any] | None:
            with writing(out):
                out.mkdir(parents=True, exist_ok=True)
                held.enter_context(_locked_folder(out))
            _check_free(config, out)  # again, now locked: another run may have been faster
            saved = _state(out, digest) if config.resume == "auto" else None
            with writing(out):
                _begin(out, config, split)
            return saved

        saved = broadcast_from_first(claim)
        tracker = open_tracker(config, out) if is_first() else NoTracker()
        folder = RunFolder(out, tracker, signal, split=digest)
        try:
            yield folder, saved
        except Exception:
            folder.tracker.finish({})
            raise


def _begin(out: Path, config: Config, split: str) -> None:
    for temporary in out.rglob(f".*{PARTIAL}"):
        temporary.unlink()  # a killed process left it
    text = yaml.safe_dump(asdict(config), sort_keys=False)
    replace_file(out / CONFIG_FILE, text.encode())
    replace_file(out / SPLIT_FILE, split.encode())
    for name, content in copies(config).items():
        replace_file(out / MODULES_FOLDER / name, content)


@contextlib.contextmanager
def _locked_folder(out: Path) -> Iterator[None]:
    try:
        with locked(out / LOCK_FILE, wait=False):
            yield
    except Locked as error:
        raise InUse(
            f"Another run (process {error}) is writing to {out}; wait for it, or choose another"
            " out."
        ) from error


def _state(out: Path, split: str) -> dict[str, Any] | None:
    """The checkpoint from which a run is resumed, or None if it has none yet."""
    saved = read_last(out)
    if saved is None:
        return None
    if "position" not in saved:
        raise UserError(
            f"The checkpoint in {out} is of an earlier version: train anew, in another out."
        )
    if saved["split"] != split:
        raise UserError(
            f"The data of the run in {out} has changed since it started; train anew, in another"
            " out."
        )
    if is_damaged(out, "last"):  # else the next save would rename it to "previous"
        os.replace(checkpoint_path(out, "previous"), checkpoint_path(out, "last"))
    return saved
