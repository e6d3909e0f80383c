"""How much accuracy rounding costs after short trainings, on validation data.

    python -m scripts.reproduce.when_delays_pay.settling words <folder>
    python -m scripts.reproduce.when_delays_pay.settling digits <folder> <data.root>

``words`` trains ``experiment=demo/learned`` and ``digits`` ``experiment=fsdd/learned``, with each
of ``SETTINGS`` and every seed; the same command goes on with an interrupted measurement. No test
data are evaluated: of the digits, a fifth of every class is held out, so that the speakers are
known. The last epoch is measured. The folder's settling.jsonl has a line for each run, and table.md
a row for each setting.
"""

from __future__ import annotations

import copy
import itertools
import json
import math
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from snn_delays.benchmark.statistics import summarise
from snn_delays.benchmark.suite import overrides
from snn_delays.cli.compose import compose
from snn_delays.config import Config
from snn_delays.data.gpu_loader import AnyLoader
from snn_delays.data.loaders import Loader
from snn_delays.documents import read_json_lines
from snn_delays.evaluate import Unrounded, evaluate
from snn_delays.files import replace_file
from snn_delays.nn import Network
from snn_delays.runtime.device import pick_device
from snn_delays.training.loop import Training
from snn_delays.training.run import Run
from snn_delays.training.signals import StopSignal

Line = dict[str, Any]
SHARES = ("training", "trained", "narrowed", "shifted", "rounded", "renewed")
NARROW = 0.28  # steps; the least width is 0.27
SEEDS = 3
COMMON = {
    "words": ["experiment=demo/learned"],
    "digits": ["experiment=fsdd/learned", "data.split=random",
               "train.epochs=20", "train.sigma_epochs=14"],
}  # fmt: skip
ALL = ["train.protocol=validation", "train.test=false", "device=cpu"]
ROUNDED, THROUGH = "train.round_epochs=0.25", "train.delay_gradient=straight_through"
SETTINGS = {
    "words": {
        "to 0.5 over 5 of 15 epochs": [],
        "to 0.3 over 5": ["train.sigma_end=0.3"],
        "to 0.5, last quarter rounded": [ROUNDED],
        "to 0.3, last quarter rounded": ["train.sigma_end=0.3", ROUNDED],
        "to 0.5, straight through": [THROUGH],
        "to 0.3 over 10": ["train.sigma_end=0.3", "train.sigma_epochs=10"],
        "to 0.3 over 5, lr_delay 0.5": ["train.sigma_end=0.3", "train.lr_delay=0.5"],
        "to 0.5, lr_delay constant": ["train.delay_schedule=constant"],
        "to 0.5, batch 25": ["train.batch_size=25"],
        "to 0.5 over 20 of 60 epochs": ["train.epochs=60", "train.sigma_epochs=20"],
    },
    "digits": {
        "to 0.3 over 14 of 20 epochs": [],
        "constant 0.3": ["train.sigma_schedule=constant"],
        "to 0.5 over 14": ["train.sigma_end=0.5"],
        "to 0.5, last quarter rounded": ["train.sigma_end=0.5", ROUNDED],
        "to 0.3, last quarter rounded": [ROUNDED],
        "to 0.3, straight through": [THROUGH],
        "to 0.3 over 28 of 40 epochs": ["train.epochs=40", "train.sigma_epochs=28"],
        "constant 0.3, 40 epochs": ["train.epochs=40", "train.sigma_schedule=constant"],
        "to 0.3 over 28 of 40 epochs, batch 256": [
            "train.epochs=40", "train.sigma_epochs=28", "train.batch_size=256"],
        "to 0.3 over 5": ["train.sigma_epochs=5"],
        "to 0.3, lr_delay 0.1": ["train.lr_delay=0.1"],
        "to 0.3, lr_delay constant": ["train.delay_schedule=constant"],
    },
}  # fmt: skip


def measure(config: Config) -> Line:
    """Train one network, and measure it at its last epoch, before and after rounding."""
    device = pick_device(config.device)
    with Run(config, device, StopSignal()) as run:
        training = run.next_training()
        assert training is not None
        threequarters = config.train.epochs - config.train.epochs // 4
        while not training.done:
            if training.position.epoch == threequarters:
                before = _delays(training.network).clone()
            while (pending := training.next_step()) is not None:
                training.add(training.step(pending.batch))
            training.end_epoch()
        return {**_accuracies(training), **_settled(_delays(training.network), before)}


def _accuracies(training: Training) -> dict[str, float]:
    """Accuracy on training data, and of several forms of the last network on validation data.

    ``trained``: delays act through taps of the last width; ``narrowed``: through taps of width
    ``NARROW``; ``shifted``: delays are rounded, and the taps keep their width; ``rounded``: each
    delay acts through the nearest tap alone; ``renewed``: with BatchNorm's statistics of that.
    """
    network, loader = training.network, training.selector
    assert isinstance(loader, Loader)
    rounded = evaluate(network, loader).score().accuracy
    narrow, shifted, renewed = (copy.deepcopy(network) for _ in range(3))
    narrow.set_sigma(NARROW)
    for linear in shifted.delayed_layers():
        linear.delay.data.round_()
    renewed.freeze_delays()
    _renew_statistics(renewed, training.loader)
    last = training.position.metrics[-1]
    return {
        "training": last["train_accuracy"],
        "trained": evaluate(Unrounded(network), loader).score().accuracy,
        "narrowed": evaluate(Unrounded(narrow), loader).score().accuracy,
        "shifted": evaluate(Unrounded(shifted), loader).score().accuracy,
        "rounded": rounded,
        "renewed": evaluate(renewed, loader).score().accuracy,
    }


@torch.no_grad()
def _renew_statistics(network: Network, loader: AnyLoader) -> None:
    """Replace BatchNorm's running statistics by their means over an epoch, in this network."""
    for module in network.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            module.reset_running_stats()
            module.momentum = None
    network.train()
    for batch in loader.epoch(0):
        network(batch.x)


def _delays(network: Network) -> Tensor:
    return torch.cat([m.delay.detach().flatten() for m in network.delayed_layers()])


def _settled(delay: Tensor, before: Tensor) -> dict[str, float]:
    """How far the delays moved in the last quarter, steps; the share nearer to a half step."""
    return {
        "moved": (delay - before).abs().mean().item(),
        "between": ((delay - delay.round()).abs() > 0.25).float().mean().item(),
    }


def table(task: str, lines: Sequence[Line]) -> str:
    """Markdown; differences are paired by seed with the first setting."""
    first = next(iter(SETTINGS[task]))
    base = {line["seed"]: line["rounded"] for line in lines if line["setting"] == first}
    heads = ["setting", "seeds", *SHARES, "cost of rounding", "minus the first", "moved", "between"]
    rows = [heads, ["---"] * len(heads)]
    for name in SETTINGS[task]:
        own = [line for line in lines if line["setting"] == name]
        if not own:
            continue
        costs = [100 * (line["trained"] - line["rounded"]) for line in own]
        gains = [100 * (ln["rounded"] - base[ln["seed"]]) for ln in own if ln["seed"] in base]
        shares = [f"{_mean(own, key):.1%}" for key in SHARES]
        compared = [_shown(costs), "" if name == first or not gains else _shown(gains)]
        ends = [f"{_mean(own, 'moved'):.2f}", f"{_mean(own, 'between'):.0%}"]
        rows.append([name, str(len(own)), *shares, *compared, *ends])
    return "".join(f"| {' | '.join(cells)} |\n" for cells in rows).replace("nan%", "-")


def _mean(lines: Sequence[Line], key: str) -> float:
    """Over the lines that have the value; some of the first runs were measured in less detail."""
    values = [line[key] for line in lines if key in line]
    return sum(values) / len(values) if values else math.nan


def _shown(points: list[float]) -> str:
    """Mean difference with its 95 % interval over the seeds."""
    s = summarise(points)
    return f"{s.mean:+.1f}" if s.n < 2 else f"{s.mean:+.1f} [{s.low:+.1f}, {s.high:+.1f}]"


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    task, *places = [*(sys.argv[1:] if arguments is None else arguments)] or [""]
    if task not in SETTINGS or len(places) != (2 if task == "digits" else 1):
        print(f"snn_delays: {__doc__}", file=sys.stderr)
        return 2
    torch.set_num_threads(1)
    folder = Path(places[0])
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "settling.jsonl"
    lines: list[Line] = read_json_lines(path) if path.exists() else []
    done = {(line["setting"], line["seed"]) for line in lines}
    for (name, own), seed in itertools.product(SETTINGS[task].items(), range(SEEDS)):
        if (name, seed) not in done:
            options = overrides(COMMON[task], ALL, own)
            given = [*options, f"seed={seed}", *(f"data.root={root}" for root in places[1:])]
            with tempfile.TemporaryDirectory() as out:
                measured = measure(compose("train", [*given, f"out={out}/run"]))
            lines.append({"setting": name, "seed": seed, "options": options, **measured})
            replace_file(path, "".join(json.dumps(line) + "\n" for line in lines).encode())
            replace_file(folder / "table.md", table(task, lines).encode())
    print(table(task, lines))
    return 0


if __name__ == "__main__":
    sys.exit(main())
