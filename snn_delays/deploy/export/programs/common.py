"""Every program of an export: from files of frames to answers."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray


class Engine(Protocol):
    """Runs the network in a folder.

    Attributes:
        classes: names of the K classes.
    """

    classes: list[str]

    def run(self, samples: list[NDArray[Any]]) -> Iterable[tuple[NDArray[Any], list[NDArray[Any]]]]:
        """Scores [K], and every layer's output in each step [S, O], of frames [T, I] each.

        Outputs are the spikes of neurons that fire, the membranes of others, and 0 from the
        layer's end on.
        """


def scores(readout: str, v: NDArray[Any]) -> NDArray[Any]:
    """From the readout's outputs v [S, K] to the scores [K]."""
    if readout == "sum":
        e = np.exp(v - v.max(1, keepdims=True))
        return np.asarray((e / e.sum(1, keepdims=True)).sum(0))
    of: Any = {"mean": np.mean, "max": np.max, "spike_count": np.sum}.get(readout)
    return np.asarray(v[-1] if of is None else of(v, axis=0))


def main(engine_of: Callable[[Path], Engine]) -> None:
    """Answer the command line: a line of JSON for each recording."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("frames", nargs="+", help="file of numpy, [steps, channels], a recording")
    parser.add_argument("--answers", help="file of numpy (.npz) to write the layers' outputs into")
    given = parser.parse_args()
    engine = engine_of(Path(__file__).parent)
    answers: dict[str, NDArray[Any]] = {}
    for number, (file, (score, outputs)) in enumerate(_answers(engine, given.frames)):
        name = engine.classes[int(score.argmax())]
        print(json.dumps({"file": file, "class": name, "scores": score.tolist()}), flush=True)
        answers |= {f"{number}/{layer}": output for layer, output in enumerate(outputs)}
        answers[f"{number}/scores"] = score
    if given.answers:
        np.savez(given.answers, **answers)  # type: ignore[arg-type]


def _answers(engine: Engine, files: list[str]) -> Iterator[tuple[str, Any]]:
    return zip(files, engine.run([np.load(file) for file in files]), strict=True)
