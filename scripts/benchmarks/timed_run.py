"""``snn-delays train`` in a process that notes how long the parts of the run take.

    python -m scripts.benchmarks.timed_run NOTES option=value ...

NOTES is the JSON file to write: when the process had imported what it needs, and the list of calls
of the functions in ``PARTS``.
"""

from __future__ import annotations

import contextlib
import functools
import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from snn_delays.cli import train
from snn_delays.training import loop, run, step


class Call(NamedTuple):
    """A call of a part: when it began and ended, and its seconds without the parts within it.

    Times are those of ``time.monotonic``, which all processes share.
    """

    part: str
    began: float
    ended: float
    seconds: float


PARTS: dict[str, list[tuple[Any, str]]] = {  # functions by owner and name
    "frames": [(run, "load_data")],
    "training": [(loop.Training, "run")],
    "waiting": [(loop.Epoch, "next_batch")],
    "steps": [(step, "take_step")],
    "end_of_epoch": [(loop.Training, "end_epoch")],
    "evaluation": [(loop, "evaluate"), (run, "evaluate")],
    "checkpoints": [(loop.Training, "save"), (loop, "save_checkpoint")],
}


def main() -> None:
    """Run the command, then write the notes."""
    imported = time.monotonic()
    _, path, *options = sys.argv
    sys.argv = ["snn-delays", *options]
    with noted() as calls:
        train.main()
    Path(path).write_text(json.dumps({"imported": imported, "calls": calls}), encoding="utf-8")


@contextlib.contextmanager
def noted() -> Iterator[list[Call]]:
    """A context in which every call of a part is appended to the list."""
    calls: list[Call] = []
    within = [0.0]  # for each part that is being called: seconds of the parts within it
    with contextlib.ExitStack() as stack:
        for part, functions in PARTS.items():
            for owner, name in functions:
                right = getattr(owner, name)
                stack.callback(setattr, owner, name, right)
                setattr(owner, name, _noting(part, right, calls, within))
        yield calls


def _noting(
    part: str, function: Callable[..., Any], calls: list[Call], within: list[float]
) -> Callable[..., Any]:
    @functools.wraps(function)
    def call(*arguments: Any, **settings: Any) -> Any:
        within.append(0.0)
        began = time.monotonic()
        try:
            return function(*arguments, **settings)
        finally:
            ended = time.monotonic()
            calls.append(Call(part, began, ended, ended - began - within.pop()))
            within[-1] += ended - began

    return call


if __name__ == "__main__":
    main()
