"""Runs a spiking network with a delay on every synapse in ONNX Runtime (pip install onnxruntime).

The model takes a recording of any length, and pads it. It computes in float64.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from snn_delays.deploy.export.programs.common import main


class Onnx:
    """The network in a folder."""

    def __init__(self, folder: Path) -> None:
        self.session = onnxruntime.InferenceSession(folder / "network.onnx")
        told = self.session.get_modelmeta().custom_metadata_map
        self.classes = json.loads(told["classes"])

    def run(self, samples: list[NDArray[Any]]) -> Iterator[tuple[NDArray[Any], list[NDArray[Any]]]]:
        """Scores and every layer's output."""
        for frames in samples:
            scores, *outputs = self.session.run(None, {"frames": frames.astype(np.float32)})
            yield scores, outputs


if __name__ == "__main__":
    main(Onnx)
