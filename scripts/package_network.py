"""Put a trained network of spoken digits into the package, with a card made from its result.json.

    snn-delays train experiment=fsdd/best data.root=<folder> out=<run>
    python -m scripts.package_network <run>

Writes snn_delays/networks/fsdd-best.h5, which ``snn_delays.load("fsdd-best")`` reads, and the card
beside it, fsdd-best.md.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from snn_delays.deploy import Deployed, from_run
from snn_delays.deploy.network import PACKAGED
from snn_delays.documents import read_json, read_yaml
from snn_delays.errors import UserError
from snn_delays.files import replace_file

NAME, RUN = "fsdd-best", "fsdd_best"  # of the network, and of the run's options
LARGEST = 300_000  # bytes of a network's file
CARD = """\
# {name}

A spiking network that tells ten spoken English digits apart, trained on the Free Spoken Digit
Dataset as spikes.

    net = snn_delays.load("{name}")                  # in Python
    snn-delays predict run={name} in=recordings.h5   # spikes in the format of SHD
    snn-delays export run={name} target=c out=digits verify=0

{table}

## Data and licence

The Free Spoken Digit Dataset by Z. Jackson and others
(https://github.com/Jakobovski/free-spoken-digit-dataset) has the licence Creative Commons
Attribution-ShareAlike 4.0 (https://creativecommons.org/licenses/by-sa/4.0/). Its recordings,
encoded as the spikes of {units} channels of a cochlea, trained this network. The network has the
same licence as the recordings; the code of the package has its own.

## Limits

- The recordings are of six speakers, and four of them trained the network. It understands speakers
  that it never heard much worse than these four.
- Recordings that are encoded by another model of the cochlea were not tested.
- The network is that of seed {seed}. No network was chosen among the seeds.
"""


def card(result: dict[str, Any], config: dict[str, Any], net: Deployed) -> str:
    """The card of a network, Markdown."""
    model, data = config["model"], config["data"]
    learned = f"learned, {model['delay_type']}, up to {model['taps'] - 1} steps"
    scores = {"all recordings": result, **result["per_speaker_group"]}
    rows = {
        **{f"test accuracy, {group}": _share(score) for group, score in scores.items()},
        "epoch": f"{result['epoch']} ({result['selection']})",
        "neurons": f"{model['neuron']}, hidden layers of {' and '.join(map(str, model['hidden']))}",
        "delays": learned if model["delays"] == "learned" else model["delays"],
        "parameters": f"{result['parameters']:,}",
        "delay buffer": f"{result['delay_buffer_bytes']:,} bytes",
        "input": f"spike counts of {net.front.channels} channels in {data['step_ms']:g} ms",
        "trained on": f"{result['trained_on']:,} recordings",
        "made by": f"`snn-delays train experiment=fsdd/best seed={result['seed']}`",
        "commit": result["commit"],
        "hashes": f"options {result['config_hash']}, data {result['data_hash']}",
        "digest of the network": net.digest,
        "versions": ", ".join(f"{name} {number}" for name, number in result["versions"].items()),
    }
    lines = ["| | |", "|---|---|", *(f"| {name} | {text} |" for name, text in rows.items())]
    return CARD.format(name=NAME, table="\n".join(lines), units=data["units"], seed=result["seed"])


def _share(score: dict[str, Any]) -> str:
    low, high = score["interval"]
    return f"{score['accuracy']:.1%} [{low:.1%}, {high:.1%}], n = {score['n']:,}"


def write(run: Path) -> str:
    """Write the network of a run and its card; returns a sentence.

    Raises:
        UserError: the run is not finished or of another experiment, or its network is too large.
    """
    net, config = from_run(run), read_yaml(run / "config.yaml")
    if config["name"] != RUN:
        raise UserError(
            f"{run} is a run of {config['name']}; a run of {RUN} goes into the package."
        )
    text = card(read_json(run / "result.json"), config, net)
    path = PACKAGED / f"{NAME}.h5"
    with tempfile.TemporaryDirectory() as folder:
        net.save(made := Path(folder) / path.name)
        content = made.read_bytes()
    if len(content) > LARGEST:
        raise UserError(
            f"{run}: the network takes {len(content):,} bytes; at most {LARGEST:,} may."
        )
    PACKAGED.mkdir(exist_ok=True)
    replace_file(path, content)
    replace_file(path.with_suffix(".md"), text.encode())
    return f"{path}: {len(content):,} bytes, with its card beside it"


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    given = sys.argv[1:] if arguments is None else arguments
    try:
        if len(given) != 1:
            raise UserError("Usage: python -m scripts.package_network <run>")
        print(write(Path(given[0])))
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
