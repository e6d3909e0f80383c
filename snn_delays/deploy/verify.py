"""Runs an export on recordings, and compares it with the network that was exported."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from snn_delays.deploy.export import Answer, Target, target
from snn_delays.deploy.margin import Margin
from snn_delays.deploy.network import Deployed
from snn_delays.deploy.stream import Decision, Stream
from snn_delays.evaluate import Evaluation
from snn_delays.training.provenance import commit

REPORT = "verify.json"
EXAMPLE = "example.json"  # the network's answer to the recording that ``Target.example`` writes


@dataclass(frozen=True)
class HeldOut:
    """Recordings to verify on.

    Attributes:
        frames: [T, I] of each.
        source: where they come from.
        evaluation: what ``snn-delays evaluate`` finds of them; None: it was not asked.
    """

    frames: list[Any]
    source: str
    evaluation: Evaluation | None = None


@dataclass
class Comparison:
    """An export against ``Stream``, whose spikes are those of ``evaluate backend=event``.

    Attributes:
        samples: number of recordings.
        spikes: number of the network's spikes on them.
        spikes_that_differ: number of neurons and steps in which one fires and the other does not;
            None: the export does not tell its spikes.
        predictions: class that the export decides for, of each recording.
        predictions_that_differ: number of recordings.
        largest_score_difference: over all classes and recordings.
    """

    samples: int = 0
    spikes: int = 0
    spikes_that_differ: int | None = 0
    predictions: list[int] = field(default_factory=list)
    predictions_that_differ: int = 0
    largest_score_difference: float = 0.0

    @property
    def is_equal(self) -> bool:
        """Whether all predictions are the same, and all spikes that the export tells."""
        return not self.spikes_that_differ and not self.predictions_that_differ

    def add(self, answer: Answer, decision: Decision, spikes: list[NDArray[Any]]) -> None:
        """Count a recording."""
        self.samples += 1
        self.spikes += sum(int(np.count_nonzero(s)) for s in spikes)
        if answer.spikes is None or self.spikes_that_differ is None:
            self.spikes_that_differ = None
        else:
            pairs = zip(answer.spikes, spikes, strict=True)
            self.spikes_that_differ += sum(int(np.sum(a != b)) for a, b in pairs)
        self.predictions.append(answer.prediction)
        self.predictions_that_differ += answer.prediction != decision.number
        difference = float(np.abs(answer.scores - decision.scores).max())
        self.largest_score_difference = max(self.largest_score_difference, difference)


def compare(
    form: Target,
    network: Deployed,
    out: Path,
    recordings: Iterable[NDArray[Any]],
    margin: Margin | None = None,
) -> Comparison:
    """Run an export on recordings, and compare every spike and decision with the network's.

    Args:
        form: the module that wrote the export.
        network: the network that was written.
        out: the export's folder.
        recordings: frames [T, I] of each.
        margin: counts the recordings, too; None: nothing does.

    Raises:
        UserError: see ``Target.run``.
    """
    stream, made = Stream(network), Comparison()
    fires = [layer.neurons.fires for layer in network.layers]
    wanted: list[tuple[Decision, list[NDArray[Any]]]] = []

    def watched() -> Iterator[NDArray[Any]]:
        for frames in recordings:
            decision, outputs = stream.record(frames)
            if margin is not None:
                margin.add(frames, outputs)
            wanted.append((decision, [o for o, f in zip(outputs, fires, strict=True) if f]))
            yield frames

    for answer in form.run(network, out, watched()):
        made.add(answer, *wanted.pop(0))
    return made


def verify(name: str, network: Deployed, out: Path, held_out: HeldOut | None) -> tuple[str, bool]:
    """Compare an export with its network, and write verify.json and an example into its folder.

    Args:
        name: the target.
        network: the network that was written.
        out: the export's folder.
        held_out: the recordings; None: none, the export is not run.

    Returns:
        A sentence on what was compared, and whether all of it is equal.
    """
    form = target(name)
    computed = form.reference(network)
    report = {
        "target": name,
        "digest": network.digest,
        "commit": commit(),
        "arithmetic": computed.arithmetic,
        **form.facts(network),
    }
    sentence, is_equal = "It was not compared with the network.", True
    if held_out is not None:
        margin = Margin(computed)
        compared = compare(form, computed, out, held_out.frames, margin)
        report |= {"recordings": held_out.source, **_numbers(compared, held_out.evaluation)}
        report["margin"] = margin.report()
        _write_example(form, computed, out, held_out.frames[0])
        sentence, is_equal = _sentence(report), compared.is_equal
    (out / REPORT).write_text(json.dumps(report, indent=2) + "\n", "utf-8")
    return sentence, is_equal


def _write_example(form: Target, network: Deployed, out: Path, frames: NDArray[Any]) -> None:
    """A recording, and the network's answer to it, as the export's program prints it."""
    decision = Stream(network).run(frames)
    answer = {
        "file": form.example(network, out, frames),
        "class": decision.name,
        "scores": decision.scores.tolist(),
    }
    (out / EXAMPLE).write_text(json.dumps(answer) + "\n", "utf-8")


def _numbers(compared: Comparison, evaluation: Evaluation | None) -> dict[str, Any]:
    numbers = {
        "samples": compared.samples,
        "spikes": compared.spikes,
        "spikes_that_differ": compared.spikes_that_differ,
        "predictions_that_differ": compared.predictions_that_differ,
        "largest_score_difference": compared.largest_score_difference,
    }
    if evaluation is None:
        return numbers
    mine = np.array(compared.predictions)
    return {
        **numbers,
        "predictions_that_differ_from_evaluate": int(np.sum(mine != evaluation.predictions)),
        "accuracy": float(np.mean(mine == evaluation.labels)),
        "accuracy_of_evaluate": evaluation.score().accuracy,
    }


def _sentence(report: dict[str, Any]) -> str:
    spikes, of_evaluate = report["spikes_that_differ"], "predictions_that_differ_from_evaluate"
    told = "" if spikes is None else f"{spikes:,} of {report['spikes']:,} spikes and "
    more = f", and {report[of_evaluate]:,} from evaluate's" if of_evaluate in report else ""
    return (
        f"Run on {report['samples']:,} recordings, {told}{report['predictions_that_differ']:,}"
        f" predictions differ from the network's{more}."
    )
