"""The program ``run.py`` and the README of an export, and its answers.

A program of ``programs`` is copied together with the modules of that folder that it imports, as one
file, which needs nothing of this package.
"""

from __future__ import annotations

import itertools
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from snn_delays.deploy.export import Answer
from snn_delays.deploy.network import Deployed, FrontEnd
from snn_delays.errors import UserError

PROGRAM = "run.py"
EXAMPLE = "example.npy"
AT_ONCE = 64  # recordings that a process runs
SOURCES = Path(__file__).with_name("programs")
IMPORT = re.compile(rf"^from {__package__}\.programs\.(\w+) import .*\n", re.MULTILINE)
FUTURE = "from __future__ import annotations\n"
README = """\
# A spiking network with delays, for {title}

| file | content |
|---|---|
{files}
| `run.py` | runs it |

```bash
{install}
python run.py recording.npy  # a line of JSON for each file: the class, and the score of every class
python run.py recording.npy --answers answers.npz  # also what every layer gives in every step
```

An export that was verified holds a recording, `example.npy`, and the answer to it, `example.json`:

```bash
python run.py example.npy
```

## What a recording is

A file of numpy, `np.save("recording.npy", frames)`, with `frames` [steps, {channels}].
{front}
It is padded with zeros to {steps} steps, the length in training, or stays longer. The layers
end {ends} steps after it.

Scores are in the order of the classes: {classes}.

## How it is computed

{about}

Network: {digest}.
"""


def write(
    name: str, network: Deployed, out: Path, *, title: str, install: str, files: dict[str, str]
) -> None:
    """Write run.py and README.md.

    Args:
        name: a module of ``programs``.
        network: the network that is exported.
        out: the export's folder.
        title: what runs the export.
        install: command that installs what run.py needs.
        files: what lies in the export's other files, by their names.
    """
    (out / PROGRAM).write_text(source(name), "utf-8")
    text = README.format(
        title=title,
        files="\n".join(f"| `{file}` | {content} |" for file, content in files.items()),
        about=(SOURCES / f"{name}.py").read_text("utf-8").split('"""')[1].strip(),
        install=install,
        channels=network.front.channels,
        front=_frames(network.front),
        steps=network.steps,
        ends=", ".join(str(end - (network.steps or 0)) for end in network.ends(0)),
        classes=", ".join(network.classes),
        digest=network.digest,
    )
    (out / "README.md").write_text(text, "utf-8")


def example(network: Deployed, out: Path, frames: NDArray[Any]) -> str:
    """Write example.npy, a recording as run.py reads it."""
    np.save(out / EXAMPLE, frames)
    return EXAMPLE


def source(name: str) -> str:
    """The program, with the modules that it imports from its folder in place of their imports."""
    text = (SOURCES / f"{name}.py").read_text("utf-8")
    parts = [_body(part) for part in IMPORT.findall(text)]
    first, *rest = IMPORT.split(text)[::2]
    return "".join([first, *parts, *rest])


def _body(name: str) -> str:
    """A module without its first lines, which a program has once."""
    return (SOURCES / f"{name}.py").read_text("utf-8").partition(FUTURE)[2].lstrip("\n")


def _frames(front: FrontEnd) -> str:
    if front.kind == "log_mel":
        return (
            f"A step is {front.step_ms:g} ms of sound. `frames[t, c]` is the energy of mel band c"
            " in\ndB, as `snn_delays.data.speech.log_mel` computes it."
        )
    return (
        f"A step is {front.step_ms:g} ms. `frames[t, c]` is the number of spikes of the units"
        f" {front.units_per_channel} c to {front.units_per_channel} c"
        f" + {front.units_per_channel - 1}\n(of {front.units}, from 0) from"
        f" {front.step_ms:g} t ms after the first spike to the\nnext step. The last step holds a"
        " spike at its very end, too."
    )


def run(
    network: Deployed, out: Path, samples: Iterable[NDArray[Any]], *, package: str, install: str
) -> Iterator[Answer]:
    """Answers of the program in an export's folder.

    Args:
        network: the network that was written.
        out: the export's folder.
        samples: frames [T, I] of each recording.
        package: what the program imports; the environment variable ``<PACKAGE>_PYTHON`` names
            another Python than this one.
        install: command that installs it.

    Raises:
        UserError: the program's Python lacks a package, or the program failed.
    """
    variable = f"{package.upper()}_PYTHON"
    python = os.environ.get(variable, sys.executable)
    fires = [layer.neurons.fires for layer in network.layers]
    waiting = iter(samples)
    while chunk := [*itertools.islice(waiting, AT_ONCE)]:
        with tempfile.TemporaryDirectory() as folder:
            done = _start(python, out / PROGRAM, chunk, Path(folder))
            if "ModuleNotFoundError" in done.stderr:
                missing = done.stderr.strip().splitlines()[-1].rpartition(": ")[2]
                raise UserError(
                    f"The export cannot run in {python}: {missing}. Install what it needs there"
                    f" ({install}), name another Python in {variable}, or give verify=0."
                )
            if done.returncode:
                raise UserError(f"{out / PROGRAM} failed: {done.stderr.strip()[-500:]}")
            with np.load(Path(folder) / "answers.npz") as answers:
                for number in range(len(chunk)):
                    scores = answers[f"{number}/scores"]
                    spikes = [answers[f"{number}/{n}"] for n, fire in enumerate(fires) if fire]
                    yield Answer(scores, int(scores.argmax()), spikes)


def _start(
    python: str, program: Path, samples: list[NDArray[Any]], folder: Path
) -> subprocess.CompletedProcess[str]:
    files = [folder / f"{number}.npy" for number in range(len(samples))]
    for file, frames in zip(files, samples, strict=True):
        np.save(file, frames)
    command = [python, program, *files, "--answers", folder / "answers.npz"]
    try:
        return subprocess.run(
            [str(part) for part in command], capture_output=True, encoding="utf-8", check=False
        )
    except OSError as error:
        raise UserError(f"The Python {python} cannot be started: {error.strerror}.") from error
