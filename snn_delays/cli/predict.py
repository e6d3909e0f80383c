"""``snn-delays predict run=<folder> in=<file>``: what a run's network says of recordings."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from snn_delays.cli.app import run_without_hydra
from snn_delays.cli.deployed import SHORT, deployed
from snn_delays.config import PredictConfig

if TYPE_CHECKING:
    from collections.abc import Iterable

    from snn_delays.deploy import Deployed
    from snn_delays.deploy.predict import Prediction
    from snn_delays.deploy.recordings import Recording

DIGITS = 6  # of a score behind the point


def main() -> None:
    """Entry point."""
    run_without_hydra("predict", _predict)


def _predict(given: PredictConfig) -> None:
    from snn_delays.deploy.predict import predict

    network = deployed(given)
    write = _json_lines if given.format == "json" else _csv_lines(network)
    for prediction in predict(network, _recordings(given, network), given.every):
        write(_values(prediction, network))
        sys.stdout.flush()


def _recordings(given: PredictConfig, network: Deployed) -> Iterable[Recording]:
    from snn_delays.deploy.recordings import PIPE, piped, recordings

    if given.source == PIPE:
        return [piped(sys.stdin.buffer, network.front)]
    return recordings(Path(given.source), network.front)


def _values(prediction: Prediction, network: Deployed) -> dict[str, Any]:
    decision = prediction.decision
    scores = (round(score, DIGITS) for score in decision.scores.tolist())
    return {
        "file": prediction.file,
        "sample": prediction.sample,
        "class": decision.name,
        "scores": dict(zip(network.classes, scores, strict=True)),
        "decided_at_ms": prediction.decided_at_ms,
        "leads_since_ms": prediction.leads_since_ms,
        "ended_at_ms": prediction.ended_at_ms,
        "final": prediction.final,
        "digest": network.digest[:SHORT],
    }


def _json_lines(values: dict[str, Any]) -> None:
    print(json.dumps(values, ensure_ascii=False))


def _csv_lines(network: Deployed) -> Callable[[dict[str, Any]], None]:
    """Writes a line of commas, one score a column; the first line names the columns."""
    writer = csv.writer(sys.stdout, lineterminator="\n")

    def write(values: dict[str, Any]) -> None:
        if not written:
            names = [name for name in values if name != "scores"]
            writer.writerow([*names, *(f"score {name}" for name in network.classes)])
        written.append(True)
        scores = values.pop("scores")
        writer.writerow([*values.values(), *scores.values()])

    written: list[bool] = []
    return write


if __name__ == "__main__":
    main()
