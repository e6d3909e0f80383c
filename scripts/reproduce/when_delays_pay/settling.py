"""How much accuracy rounding costs after short trainings, on validation data of known speakers.

    python -m scripts.reproduce.when_delays_pay.settling <data.root> <folder> [threads]

Each setting of ``SETTINGS`` trains ``experiment=fsdd/learned`` with every seed; the same command
goes on with an interrupted measurement. No test file is evaluated. A fifth of every class of the
training speakers is held out; the last epoch is measured. <folder>/settling.jsonl has one line for
each run, and table.md beside it has a row for each setting.
"""

from __future__ import annotations

import copy
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from snn_delays.cli.compose import compose
from snn_delays.config import Config
from snn_delays.data.gpu_loader import AnyLoader
from snn_delays.data.loaders import Loader
from snn_delays.evaluate import evaluate
from snn_delays.files import replace_file
from snn_delays.nn import Network
from snn_delays.runtime.device import pick_device
from snn_delays.training.loop import Training
from snn_delays.training.run import Run
from snn_delays.training.signals import StopSignal

SEEDS = 3
EPOCHS, ANNEALED = 20, 14  # sigma shrinks over 70 % of the epochs, as in experiment=fsdd/learned
COMMON = [
    "experiment=fsdd/learned", "train.protocol=validation", "data.split=random",
    "train.test=false", "device=cpu", f"train.epochs={EPOCHS}", f"train.sigma_epochs={ANNEALED}",
]  # fmt: skip
SETTINGS = {
    "to 0.3 over 70 %": [],
    "constant 0.3": ["train.sigma_schedule=constant"],
    "to 0.5 over 70 %": ["train.sigma_end=0.5"],
    "to 0.3 over 25 %": ["train.sigma_epochs=5"],
    "to 0.5 over 70 %, last quarter rounded": ["train.sigma_end=0.5", "train.round_epochs=0.25"],
    "to 0.3 over 70 %, last quarter rounded": ["train.round_epochs=0.25"],
    "to 0.3 over 70 %, straight through": ["train.delay_gradient=straight_through"],
    "to 0.3 over 70 %, lr_delay 0.1": ["train.lr_delay=0.1"],
    "to 0.3 over 70 %, lr_delay constant": ["train.delay_schedule=constant"],
    "40 epochs, to 0.3 over 70 %": ["train.epochs=40", "train.sigma_epochs=28"],
    "40 epochs, constant 0.3": ["train.epochs=40", "train.sigma_schedule=constant"],
    "40 epochs, batch 256, to 0.3 over 70 %": [
        "train.epochs=40", "train.sigma_epochs=28", "train.batch_size=256"],
    "80 epochs, to 0.3 over 70 %": ["train.epochs=80", "train.sigma_epochs=56"],
}  # fmt: skip


def measure(config: Config) -> dict[str, Any]:
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
        "trained": _accuracy_unrounded(network, loader),
        "rounded": rounded,
        "renewed": evaluate(adapted, loader).score().accuracy,
    }


@torch.no_grad()
def _accuracy_unrounded(network: Network, loader: AnyLoader) -> float:
    """The accuracy of the network as it was trained: delays act through taps of width sigma."""
    network.eval()
    for linear in network.delayed_layers():
        linear.train()
    right = sum(int((network(batch.x).argmax(1) == batch.y).sum()) for batch in loader.epoch())
    return right / len(loader.samples)


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


def table(lines: Sequence[dict[str, Any]]) -> str:
    """Markdown; differences are paired by seed with the first setting."""
    first = next(iter(SETTINGS))
    base = {line["seed"]: line for line in lines if line["setting"] == first}
    rows = [
        "| setting | n | training | trained | rounded | rounding costs | statistics renewed |"
        " rounded, against the first row | moved, steps | between |"
    ]
    rows.append("|---" * 10 + "|")
    for name in SETTINGS:
        own = [line for line in lines if line["setting"] == name]
        if not own:
            continue

        def mean(key: str, own: list[dict[str, Any]] = own) -> float:
            return sum(line[key] for line in own) / len(own)

        costs = [100 * (line["trained"] - line["rounded"]) for line in own]
        pairs = [line for line in own if line["seed"] in base and name != first]
        apart = [100 * (line["rounded"] - base[line["seed"]]["rounded"]) for line in pairs]
        rows.append(
            f"| {name} | {len(own)} | {mean('training'):.1%} | {mean('trained'):.1%} |"
            f" {mean('rounded'):.1%} | {', '.join(f'{c:.1f}' for c in costs)} |"
            f" {mean('renewed'):.1%} | {', '.join(f'{a:+.1f}' for a in apart)} |"
            f" {mean('moved'):.3f} | {mean('between'):.0%} |"
        )
    return "\n".join(rows) + "\n"


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if len(given) not in (2, 3):
        print(f"snn_delays: {__doc__}", file=sys.stderr)
        return 2
    root, folder = given[0], Path(given[1])
    torch.set_num_threads(int(given[2]) if len(given) == 3 else 1)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "settling.jsonl"
    for seed in range(SEEDS):
        for name, own in SETTINGS.items():
            lines = (
                [json.loads(line) for line in path.read_text().splitlines()]
                if path.exists()
                else []
            )
            if any(line["setting"] == name and line["seed"] == seed for line in lines):
                continue
            with tempfile.TemporaryDirectory(dir=folder) as out:
                config = compose(
                    "train", [*COMMON, *own, f"data.root={root}", f"seed={seed}", f"out={out}/run"]
                )
                line = {"setting": name, "options": own, "seed": seed, **measure(config)}
            replace_file(path, "".join(json.dumps(line) + "\n" for line in [*lines, line]).encode())
            replace_file(folder / "table.md", table([*lines, line]).encode())
    print(table([json.loads(line) for line in path.read_text().splitlines()]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
