"""Finds the speakers of recordings in their names, by a regular expression."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from snn_delays.errors import UserError

PATIENCE = 20  # seconds; a sound pattern takes less than one for a hundred thousand names

# The search runs as a program of its own, since Python cannot stop it from within. The alarm ends
# the program even if this process was killed meanwhile.
_SEARCH = """
import json, re, signal, sys
pattern, names, seconds = json.load(sys.stdin)
if hasattr(signal, "alarm"):
    signal.alarm(seconds)
found = map(re.compile(pattern).search, names)
json.dump([match and match[1] for match in found], sys.stdout)
"""


def find_speakers(names: Sequence[str], pattern: str) -> NDArray[np.str_]:
    """The speaker of each name, [N].

    Python's search takes exponentially long for some patterns, so another process does it and is
    stopped after ``PATIENCE`` seconds.

    Args:
        names: [N] ``<word>/<name>.wav``.
        pattern: regular expression with one group, which matches the speaker.

    Raises:
        UserError: the pattern cannot be read, finds no speaker in a name, or takes too long.
    """
    _check_pattern(pattern)
    found = _search(names, pattern)
    if not all(found):
        name = next(name for name, speaker in zip(names, found, strict=True) if not speaker)
        raise UserError(f"speaker_pattern={pattern} finds no speaker in {name}.")
    return np.array(found)


def _check_pattern(pattern: str) -> None:
    try:
        compiled = re.compile(pattern)
    except (re.error, OverflowError, RecursionError) as error:
        raise UserError(f"speaker_pattern={pattern} cannot be read: {error}.") from error
    if compiled.groups != 1:
        raise UserError(
            f"speaker_pattern={pattern} must have one group (in parentheses), the speaker."
        )


def _search(names: Sequence[str], pattern: str) -> list[str | None]:
    try:
        done = subprocess.run(
            [sys.executable, "-I", "-S", "-c", _SEARCH],
            input=json.dumps([pattern, names, 2 * PATIENCE]),
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=True,
        )
    except subprocess.TimeoutExpired as error:
        raise UserError(
            f"speaker_pattern={pattern} takes longer than {PATIENCE} s for {len(names)} names;"
            " write it without repeats that can share the same letters, as in (a+)+ or .*.*."
        ) from error
    except subprocess.CalledProcessError as error:
        reason = error.stderr.strip().rpartition("\n")[2] or f"exit code {error.returncode}"
        raise UserError(
            f"speaker_pattern={pattern} cannot be searched for in {len(names)} names: {reason}."
        ) from error
    speakers: list[str | None] = json.loads(done.stdout)
    return speakers
