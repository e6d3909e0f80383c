"""``snn-delays live run=<folder>``: what a run's network says of what a microphone hears."""

from __future__ import annotations

import math
import sys
from typing import TYPE_CHECKING

from snn_delays.cli.app import run_without_hydra
from snn_delays.cli.deployed import deployed
from snn_delays.config import LiveConfig, PredictConfig
from snn_delays.output import one_line

if TYPE_CHECKING:
    from snn_delays.deploy.predict import Prediction

EVERY_MS = 100
BAR = 20  # letters


def main() -> None:
    """Entry point."""
    run_without_hydra("live", _live)


def _live(given: LiveConfig) -> None:
    from snn_delays.deploy.live import listening
    from snn_delays.deploy.predict import predict

    asked = PredictConfig(run=given.run, checkpoint=given.checkpoint, steps=given.steps)
    network = deployed(asked)
    step_ms = network.front.step_ms
    every = given.every or step_ms * max(1, round(EVERY_MS / step_ms))
    with listening(network.front, given.level, given.input) as microphone:
        print(f"Listening for {', '.join(map(one_line, network.classes))}; Ctrl-C ends.")
        for prediction in predict(network, microphone.recordings(), every):
            _show(prediction)


def _show(prediction: Prediction) -> None:
    """Print a decision; on a terminal the next one takes a running decision's place."""
    line, stays = _line(prediction), prediction.final or not sys.stdout.isatty()
    print(line if stays else f"{line}\r", end="\n" if stays else "", flush=True)


def _line(prediction: Prediction) -> str:
    """The time from the recording's start, the class, and the softmax of its score."""
    decision = prediction.decision
    scores = decision.scores - decision.scores.max()
    share = 1 / sum(map(math.exp, scores.tolist()))
    bar = "#" * round(BAR * share)
    end = f"since {prediction.leads_since_ms:.0f} ms" if prediction.final else "..."
    return (
        f"{prediction.decided_at_ms:6.0f} ms  {one_line(decision.name):12} {share:4.0%}"
        f"  {bar:{BAR}}  {end:14}"
    )


if __name__ == "__main__":
    main()
