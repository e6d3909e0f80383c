"""What the delays are worth to the network: accuracy after one thing about them is changed.

Each intervention acts on a copy of the deployed network and changes nothing else, so that a loss of
accuracy is caused by it. Shapes: O outputs, I inputs, C kernel count.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
import torch

from snn_delays.analysis.trained_run import TrainedRun, layer_names, recurrences
from snn_delays.data.loaders import Samples
from snn_delays.evaluate import evaluate
from snn_delays.nn import DelayedLinear, Network
from snn_delays.nn.recurrence import Recurrence

JITTER = (1, 2, 3, 5, 8, 12)  # steps
LEVELS = (1, 2, 3, 4, 6, 12)  # values that delays may take
PRUNED = (0.1, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95)  # shares of the synapses
REPEATS = 5  # draws of what is random

Change = Callable[[Any, torch.Generator], None]


@dataclass(frozen=True)
class Intervention:
    """A change of layers.

    Attributes:
        kind: "intact", "shuffled", "mean", "zero", "jitter", "levels" or "pruned"; the second to
            the fourth after "recurrent " change recurrent delays.
        amount: how much: steps, levels, share; NaN where it has none.
        layer: name of the layer that is changed, or "all".
        change: what is done to a layer, in place.
        random: whether draws differ.
        recurrent: whether it changes a layer's recurrent connections instead of its inputs'.
    """

    kind: str
    amount: float
    layer: str
    change: Change
    random: bool = False
    recurrent: bool = False


def shuffle(linear: DelayedLinear | Recurrence, generator: torch.Generator) -> None:
    """Deal the delays of a layer out anew over their owners: their distribution stays.

    The owners are synapses, inputs or neurons (``model.delay_type``).
    """
    exists = linear.delay_exists
    delay = linear.delay[exists]
    linear.delay[exists] = delay[torch.randperm(len(delay), generator=generator)]


def set_to_mean(linear: DelayedLinear | Recurrence, generator: torch.Generator) -> None:
    """Give all delays of a layer their mean."""
    delay = linear.delay[linear.delay_exists]
    if len(delay):
        linear.delay.fill_(float(delay.mean()))


def set_to_zero(linear: DelayedLinear | Recurrence, generator: torch.Generator) -> None:
    """Take all delays away."""
    linear.delay.zero_()


def jitter(steps: int) -> Change:
    """Move every delay by up to ``steps`` steps, either way, within its range."""

    def change(linear: DelayedLinear, generator: torch.Generator) -> None:
        moved = torch.randint(-steps, steps + 1, linear.delay.shape, generator=generator)
        moved = moved.to(linear.delay.device)
        linear.delay.copy_((linear.delay.round() + moved).clamp(0, linear.taps - 1))

    return change


def round_to_levels(levels: int) -> Change:
    """Round delays to ``levels`` values, evenly spaced over the range; one is its middle."""

    def change(linear: DelayedLinear, generator: torch.Generator) -> None:
        longest = linear.taps - 1
        if levels == 1 or longest == 0:
            linear.delay.fill_(longest / 2)
        else:
            width = longest / (levels - 1)
            linear.delay.copy_((linear.delay / width).round() * width)

    return change


def prune(share: float) -> Change:
    """Set the smallest ``share`` of a layer's existing weights to zero, the first of equal ones."""

    def change(linear: DelayedLinear, generator: torch.Generator) -> None:
        exists = linear.exists
        weight = linear.weight[exists]
        smallest = weight.abs().argsort(stable=True)[: round(share * len(weight))]
        weight[smallest] = 0
        linear.weight[exists] = weight

    return change


def interventions(network: Network) -> list[Intervention]:
    """All that are tried on a network, those of single layers included.

    Without delays, or with a weight at every delay, only pruning is left.
    """
    found = [Intervention("intact", float("nan"), "all", lambda linear, generator: None)]
    plain: list[tuple[str, Change, bool]] = [
        ("shuffled", shuffle, True),
        ("mean", set_to_mean, False),
        ("zero", set_to_zero, False),
    ]
    if any(part.delays != "undelayed" for part in network.recurrences()):
        for layer in ("all", *recurrences(network)):
            found += [
                Intervention(f"recurrent {k}", float("nan"), layer, c, r, recurrent=True)
                for k, c, r in plain
            ]
    if next(network.delayed_layers()).delays in ("learned", "fixed"):
        for layer in ("all", *layer_names(network)):
            found += [Intervention(k, float("nan"), layer, c, r) for k, c, r in plain]
        found += [Intervention("jitter", n, "all", jitter(n), True) for n in JITTER]
        found += [Intervention("levels", q, "all", round_to_levels(q)) for q in LEVELS]
    return found + [Intervention("pruned", p, "all", prune(p)) for p in PRUNED]


@torch.no_grad()
def intervene(network: Network, intervention: Intervention, seed: int) -> Network:
    """A changed copy of a network.

    Args:
        network: stays as it is.
        intervention: what to change.
        seed: of what is random.
    """
    changed = copy.deepcopy(network).eval()
    generator = torch.Generator().manual_seed(seed)
    linears = zip(layer_names(changed), changed.delayed_layers(), strict=True)
    for name, part in recurrences(changed).items() if intervention.recurrent else linears:
        if intervention.layer in ("all", name):
            intervention.change(part, generator)
    return changed


def causal_tests(
    subject: TrainedRun,
    samples: Samples,
    chosen: Sequence[Intervention] | None = None,
    repeats: int = REPEATS,
) -> Iterator[pd.DataFrame]:
    """Accuracy of the deployed network under each intervention.

    Args:
        subject: its network stays as it is.
        samples: to evaluate on.
        chosen: interventions; None: all.
        repeats: draws of each random one, seeds 0 to repeats - 1.

    Yields:
        A row for each evaluation: kind, amount, layer, draw, correct, n, accuracy.
    """
    loader = subject.loader(samples)
    for intervention in interventions(subject.network) if chosen is None else chosen:
        for draw in range(repeats if intervention.random else 1):
            score = evaluate(intervene(subject.network, intervention, draw), loader).score()
            row = {
                "kind": intervention.kind,
                "amount": intervention.amount,
                "layer": intervention.layer,
                "draw": draw,
                "correct": score.correct,
                "n": score.n,
                "accuracy": score.accuracy,
            }
            yield pd.DataFrame([row])


def count_evaluations(network: Network, repeats: int = REPEATS) -> int:
    """Number of evaluations that ``causal_tests`` takes."""
    return sum(repeats if found.random else 1 for found in interventions(network))
