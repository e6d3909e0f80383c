"""From a configuration to a run's folder: load, train as the protocol says, test, write down."""

from __future__ import annotations

import datetime
import itertools
import json
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
import yaml

from snn_delays.config import Config, config_hash, validate
from snn_delays.data.cache import cache_folder
from snn_delays.data.loaders import Samples
from snn_delays.data.sources import Data, load_data
from snn_delays.device import pick_device, pick_dtype
from snn_delays.errors import UserError
from snn_delays.evaluate import Evaluation, Score, evaluate
from snn_delays.nn import Network, build_network, count_parameters
from snn_delays.ops import compiled
from snn_delays.train import record
from snn_delays.train.checkpoint import CONFIG_FILE, load_run
from snn_delays.train.loop import Plan, RunFolder, build_loader, fit, speakers_of
from snn_delays.train.tracking import open_tracker

RESULT_FILE = "result.json"
SPLIT_FILE = "split.json"


def train(config: Config) -> dict[str, Any]:
    """Train, select and test as ``config`` says.

    Writes ``config.out`` (config.yaml, split.json, metrics.jsonl, checkpoints/, result.json). The
    test set is evaluated once, after training, except with ``train.protocol=paper``, whose numbers
    say so.

    Args:
        config: options; validated here.

    Returns:
        The content of result.json, and the folder as "out".

    Raises:
        UserError: a mistake in the options or the data (found before anything is written), or a
            loss that became infinite or NaN.
    """
    started = time.perf_counter()
    validate(config)
    device = pick_device(config.device)
    out = free_folder(config)
    config = _resolve(config, out, device.type)
    data = load_data(config)
    network = build_network(config, len(data.classes)).to(device, pick_dtype(config.precision))
    parameters = count_parameters(network)
    backend = _describe_backend(config, data, network)
    folder = _create(config, data, out)
    print(
        f"{config.name}: {parameters:,} parameters, delays {config.model.delays}; {backend}\n"
        f"{_describe_data(config, data)}\nwriting {out}/",
        flush=True,
    )
    plan = first = _plan(config, data)
    epoch = fit(config, plan, data.classes, device, folder)
    if config.train.protocol == "refit":
        plan = Plan("refit", data.everything, None, "", epoch)
        epoch = fit(config, plan, data.classes, device, folder)
    result = {
        **_outcome(config, plan, data, _test(out, data.test, device)),
        "epoch": epoch,
        "parameters": parameters,
        "trained_on": len(plan.train),
        "selected_on": len(first.select) if first.select else 0,
        **_provenance(config, data, device),
        "seconds": round(time.perf_counter() - started, 1),
    }
    (out / RESULT_FILE).write_text(json.dumps(result, indent=2) + "\n")
    folder.tracker.finish(result)
    return {**result, "out": str(out)}


def _plan(config: Config, data: Data) -> Plan:
    """The training that the protocol asks for; ``refit`` adds a second one."""
    epochs = config.train.epochs
    if config.train.protocol == "last":
        return Plan("train", data.train, None, "", epochs)
    if config.train.protocol == "paper":
        return Plan("train", data.train, data.test, "test", epochs)
    return Plan("train", data.train, data.valid, "valid", epochs)


def _describe_backend(config: Config, data: Data, network: Network) -> str:
    """What will compute, and with which threads.

    Raises:
        UserError: the backend that was asked for cannot.
    """
    like = next(network.parameters())
    batch = min(config.train.batch_size, len(data.train))
    x = like.detach().new_empty(1).expand(data.train.longest, batch, config.data.channels)
    reason = network.why_not(config.backend, x)
    if reason:
        raise UserError(f"backend={config.backend} cannot train this network: {reason}.")
    chosen = network.describe_backend(x)
    if config.precision == "mixed" and "fft" in chosen:
        raise UserError("precision=mixed changes nothing in backend=fft; take numba or dense.")
    what = f"device {x.device.type}, backend {config.backend}: {chosen}"
    if x.device.type == "cpu":
        what += f"; {torch.get_num_threads()} threads"
        what += f"; slower: {compiled.why_not()}" if compiled.why_not() else ""
    return what


def _describe_data(config: Config, data: Data) -> str:
    valid = f", {len(data.valid)} validation ({data.split})" if data.valid else ""
    return (
        f"{len(data.train)} training{valid} and {len(data.test)} test samples;"
        f" protocol {config.train.protocol} ({config.selection})"
    )


def _resolve(config: Config, out: Path, device: str) -> Config:
    """What "auto" and null stand for, so that config.yaml says what was done."""
    data = replace(
        config.data,
        cache=str(cache_folder(config.data)),
        frame_arithmetic=config.frame_arithmetic,
    )
    model = replace(config.model, extra_steps=config.model.layer_extra_steps)
    return replace(config, out=str(out), device=device, data=data, model=model)


# ---- the result --------------------------------------------------------------------------------


def _test(out: Path, test: Samples, device: torch.device) -> Evaluation:
    run = load_run(out, "best", device)
    return evaluate(run.network, build_loader(run.config, test, run.meta.steps, device))


def _outcome(config: Config, plan: Plan, data: Data, evaluation: Evaluation) -> dict[str, Any]:
    groups = evaluation.per_speaker_group(
        data.test.speakers, speakers_of(plan.train), plan.valid_speakers
    )

    def marked(scores: dict[str, Score]) -> dict[str, Any]:
        return {k: {**s.as_dict(), "selection": config.selection} for k, s in scores.items()}

    outcome = {
        "name": config.name,
        **evaluation.score().as_dict(),
        "loss": evaluation.loss,
        "protocol": config.train.protocol,
        "selection": config.selection,
        "per_class": marked(evaluation.per_class(data.classes)),
        "per_speaker_group": marked(groups),
    }
    if config.train.protocol == "paper":
        outcome["batch_accuracy"] = evaluation.batch_accuracy
    return outcome


def _provenance(config: Config, data: Data, device: torch.device) -> dict[str, Any]:
    described = data.describe()
    return {
        "seed": config.seed,
        "config_hash": config_hash(config),
        "data_hash": described["hash"],
        "data": described,
        "commit": record.commit(),
        "versions": record.versions(),
        "machine": record.machine(device),
    }


# ---- the folder --------------------------------------------------------------------------------


def free_folder(config: Config) -> Path:
    """The folder to write: ``out``, or one named by name, time and seed.

    Raises:
        UserError: something is there already.
    """
    if config.out is None:
        now = datetime.datetime.now().strftime("%Y%m%d-%H%M%S")
        wanted = Path("runs", config.name, f"{now}-s{config.seed}")
        names = (f"{wanted.name}-{n}" for n in itertools.count(2))
        paths = itertools.chain([wanted], map(wanted.with_name, names))
        return next(path for path in paths if not path.exists())
    out = Path(config.out).expanduser()
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"out={config.out} is not an empty folder; choose another or remove it.")
    return out


def _create(config: Config, data: Data, out: Path) -> RunFolder:
    try:
        out.mkdir(parents=True, exist_ok=True)
        (out / CONFIG_FILE).write_text(yaml.safe_dump(asdict(config), sort_keys=False))
        (out / SPLIT_FILE).write_text(json.dumps(data.describe_split()) + "\n")
    except OSError as error:
        raise UserError(f"out={out} cannot be written: {error.strerror}.") from error
    return RunFolder(out, open_tracker(config, out))
