"""How much accuracy rounding costs after short trainings, on validation data of known speakers.

    python -m scripts.reproduce.when_delays_pay.settling <data.root> <folder> [threads]

Each setting of ``SETTINGS`` and ``FURTHER`` trains ``experiment=fsdd/learned`` with every seed; the
same command goes on with an interrupted measurement. No test file is evaluated. A fifth of every
class of the training speakers is held out, and the last epoch is measured. The folder's
settling.jsonl has a line for each run, and table.md a row for each setting.
"""

from __future__ import annotations

import copy
import itertools
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from snn_delays.benchmark.statistics import summarise
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
MEASURED = ("training", "trained", "rounded", "renewed", "moved", "between")
SEEDS = 3
EPOCHS, ANNEALED = 20, 14  # sigma shrinks over 70 % of the epochs, as in experiment=fsdd/learned
COMMON = [
    "experiment=fsdd/learned", "train.protocol=validation", "data.split=random",
    "train.test=false", "device=cpu", f"train.epochs={EPOCHS}", f"train.sigma_epochs={ANNEALED}",
]  # fmt: skip
SETTINGS = {  # of all seeds first
    "to 0.3 over 70 %": [],
    "constant 0.3": ["train.sigma_schedule=constant"],
    "to 0.5 over 70 %": ["train.sigma_end=0.5"],
    "to 0.5 over 70 %, last quarter rounded": ["train.sigma_end=0.5", "train.round_epochs=0.25"],
    "to 0.3 over 70 %, last quarter rounded": ["train.round_epochs=0.25"],
}
FURTHER = {
    "40 epochs, to 0.3 over 70 %": ["train.epochs=40", "train.sigma_epochs=28"],
    "40 epochs, constant 0.3": ["train.epochs=40", "train.sigma_schedule=constant"],
    "to 0.3 over 70 %, straight through": ["train.delay_gradient=straight_through"],
    "to 0.3 over 25 %": ["train.sigma_epochs=5"],
    "to 0.3 over 70 %, lr_delay 0.1": ["train.lr_delay=0.1"],
    "to 0.3 over 70 %, lr_delay constant": ["train.delay_schedule=constant"],
    "40 epochs, batch 256, to 0.3 over 70 %": [
        "train.epochs=40", "train.sigma_epochs=28", "train.batch_size=256"],
    "80 epochs, to 0.3 over 70 %": ["train.epochs=80", "train.sigma_epochs=56"],
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
    """Validation accuracy of the trained network, the rounded one, and that with new statistics."""
    network, loader = training.network, training.selector
    assert isinstance(loader, Loader)
    rounded = evaluate(network, loader).score().accuracy
    adapted = copy.deepcopy(network)
    adapted.freeze_delays()
    _renew_statistics(adapted, training.loader)
    last = training.position.metrics[-1]
    return {
        "training": last["train_accuracy"],
        "trained": evaluate(Unrounded(network), loader).score().accuracy,
        "rounded": rounded,
        "renewed": evaluate(adapted, loader).score().accuracy,
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


def table(lines: Sequence[Line]) -> str:
    """Markdown; differences are paired by seed with the first setting."""
    first = next(iter(SETTINGS))
    base = {line["seed"]: line["rounded"] for line in lines if line["setting"] == first}
    heads = [
        "setting", "seeds", "training", "validation, as trained", "rounded", "new statistics",
        "cost of rounding", "rounded, minus the first row", "moved, steps", "between",
    ]  # fmt: skip
    rows = [heads, ["---"] * len(heads)]
    for name in SETTINGS | FURTHER:
        own = [line for line in lines if line["setting"] == name]
        if not own:
            continue
        costs = [100 * (line["trained"] - line["rounded"]) for line in own]
        gains = [100 * (ln["rounded"] - base[ln["seed"]]) for ln in own if ln["seed"] in base]
        mean = {key: sum(line[key] for line in own) / len(own) for key in MEASURED}
        shares = [f"{mean[key]:.1%}" for key in ("training", "trained", "rounded", "renewed")]
        compared = [_shown(costs), "" if name == first or not gains else _shown(gains)]
        ends = [f"{mean['moved']:.2f}", f"{mean['between']:.0%}"]
        rows.append([name, str(len(own)), *shares, *compared, *ends])
    return "".join(f"| {' | '.join(cells)} |\n" for cells in rows)


def _shown(points: list[float]) -> str:
    """Mean difference with its 95 % interval over the seeds."""
    s = summarise(points)
    return f"{s.mean:+.1f}" if s.n < 2 else f"{s.mean:+.1f} [{s.low:+.1f}, {s.high:+.1f}]"


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if len(given) not in (2, 3):
        print(f"snn_delays: {__doc__}", file=sys.stderr)
        return 2
    folder = Path(given[1])
    torch.set_num_threads(int(given[2]) if len(given) == 3 else 1)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "settling.jsonl"
    lines: list[Line] = read_json_lines(path) if path.exists() else []
    done = {(line["setting"], line["seed"]) for line in lines}
    parts = (SETTINGS.items(), FURTHER.items())
    for part, seed in itertools.product(parts, range(SEEDS)):
        for name, own in part:
            if (name, seed) not in done:
                line = {"setting": name, "seed": seed, "options": own}
                lines.append(line | _measured([*own, f"data.root={given[0]}", f"seed={seed}"]))
                replace_file(path, "".join(json.dumps(line) + "\n" for line in lines).encode())
                replace_file(folder / "table.md", table(lines).encode())
    print(table(lines))
    return 0


def _measured(own: list[str]) -> Line:
    with tempfile.TemporaryDirectory() as out:
        return measure(compose("train", [*COMMON, *own, f"out={out}/run"]))


if __name__ == "__main__":
    sys.exit(main())
