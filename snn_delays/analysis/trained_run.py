"""What is analysed: a network, how it was before training, and what its run says of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from snn_delays.config import Config
from snn_delays.data.dataset import stored_samples
from snn_delays.data.loaders import Loader, Samples
from snn_delays.errors import UserError
from snn_delays.nn import DelayedLinear, Network, draw_network
from snn_delays.nn.recurrence import Recurrence
from snn_delays.runtime.device import pick_dtype
from snn_delays.training.checkpoint import load_run
from snn_delays.training.initial import load_initial
from snn_delays.training.run_folder import read_metrics, read_result, read_split


@dataclass(frozen=True)
class TrainedRun:
    """A network to look at.

    Attributes:
        name: how reports call it.
        config: its options.
        network: as trained.
        drawn: as before training.
        classes: class names.
        steps: length that samples are padded to, or None.
        metrics: lines of metrics.jsonl.
        result: result.json, or None where the run has not ended.
        split_digest: SHA-256 of split.json as the run wrote it, or None where it is not known.
    """

    name: str
    config: Config
    network: Network
    drawn: Network
    classes: list[str]
    steps: int | None = None
    metrics: list[dict[str, Any]] = field(default_factory=list)
    result: dict[str, Any] | None = None
    split_digest: str | None = None

    @property
    def step_ms(self) -> float:
        """Length of a time step, ms."""
        return self.config.data.step_ms

    @property
    def learns_delays(self) -> bool:
        """Whether training moves the delays."""
        return self.config.model.delays == "learned"

    @property
    def training(self) -> list[dict[str, Any]]:
        """Lines of metrics.jsonl of the training that made this network: the last phase's."""
        return [line for line in self.metrics if line["phase"] == self.metrics[-1]["phase"]]

    @property
    def split(self) -> str:
        """The recordings that the run keeps for its result: "test", or "validation"."""
        return "test" if self.config.train.test else "validation"

    @property
    def accuracy_label(self) -> str:
        """What an accuracy on them is called, "test-selected" included."""
        chosen = self.config.selection == "test-selected"
        return f"{self.split} accuracy{' (test-selected)' if chosen else ''}"

    def layers(self) -> Iterator[tuple[str, DelayedLinear, DelayedLinear]]:
        """Name, layer as drawn and as trained, from input to readout."""
        pairs = zip(self.drawn.delayed_layers(), self.network.delayed_layers(), strict=True)
        for name, (drawn, trained) in zip(layer_names(self.network), pairs, strict=True):
            yield name, drawn, trained

    def loader(self, samples: Samples, batch_size: int | None = None) -> Loader:
        """Batches of samples as the network wants them, on its device."""
        device = next(self.network.parameters()).device
        size = batch_size or self.config.train.batch_size
        return Loader(samples, size, self.steps, pick_dtype(self.config.precision), device)


def open_run(folder: str | Path) -> TrainedRun:
    """The network of a run after the epoch that the protocol chose, on the CPU.

    Args:
        folder: of the run.

    Raises:
        UserError: there is no such run, or it is damaged.
    """
    folder = Path(folder).expanduser()
    run = load_run(folder)
    classes, result = run.meta.classes, read_result(folder)
    drawn = draw_network(run.config, len(classes)).to(pick_dtype(run.config.precision))
    if run.config.train.init is not None:
        load_initial(drawn, folder)
    return TrainedRun(
        str(folder),
        run.config,
        run.network.eval(),
        drawn.eval(),
        classes,
        run.meta.steps,
        read_metrics(folder, result),
        result,
        run.split,
    )


def refuse_targets(subject: TrainedRun) -> None:
    """Refuse a network that answers at every step: the reports are of decisions on a class."""
    if subject.config.data.target == "per_step":
        raise UserError(
            f"{subject.name} has data.target=per_step: reports are of networks that decide on a"
            " class; analysis.tables has its delays as tables."
        )


def held_out_samples(subject: TrainedRun, folder: str | Path) -> Samples:
    """The recordings that the run was tested on, as it noted them.

    Those of its validation where it leaves the test set unread (``train.test=false``).

    Raises:
        UserError: it keeps neither, they are not there any more, or they have changed.
    """
    noted = read_split(Path(folder).expanduser(), subject.split_digest)
    if subject.config.train.test:
        return stored_samples(subject.config, noted, "test")
    if "valid" not in noted or subject.config.train.protocol == "refit":  # which trains on it, too
        raise UserError(
            f"The run in {folder} leaves its test set unread (train.test=false) and keeps no"
            " validation data aside: there is nothing to look at its network with."
        )
    return stored_samples(subject.config, noted, "valid")


def recurrences(network: Network) -> dict[str, Recurrence]:
    """The recurrent connections of a network, by the name of their layer."""
    blocks: list[Any] = list(network.blocks)
    named = {name: b.recurrence for name, b in zip(layer_names(network), blocks, strict=False)}
    return {name: found for name, found in named.items() if found is not None}


def layer_names(network: Network) -> list[str]:
    """A name for each delayed layer, from input to output."""
    return [*(f"hidden layer {n + 1}" for n in range(len(network.blocks))), "readout"]
