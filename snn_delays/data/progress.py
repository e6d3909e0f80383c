"""Progress of work on many recordings: a bar on a terminal, else a line now and then."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Generator, Iterable
from typing import TypeVar

from tqdm import tqdm

T = TypeVar("T")

INTERVAL = 15.0  # seconds from line to line


def progress(items: Iterable[T], title: str, total: int, unit: str) -> Generator[T, None, None]:
    """Yield the items, and show on standard error how many are done.

    ``close()`` removes the bar of a loop that ends early.

    Args:
        items: the items.
        title: the work that is done on them.
        total: number of items.
        unit: plural noun for the items.
    """
    bar = tqdm(items, title, total, unit=f" {unit}", disable=None, leave=False)
    return _with_lines(items, title, total, unit) if bar.disable else (item for item in bar)


def _with_lines(items: Iterable[T], title: str, total: int, unit: str) -> Generator[T, None, None]:
    started = said = time.monotonic()
    for done, item in enumerate(items):
        now = time.monotonic()
        if done > 1 and now - said > INTERVAL:  # the first item's time is mostly starting
            said, left = now, (now - started) / done * (total - done)
            with contextlib.suppress(OSError, ValueError):  # standard error is closed
                line = f"{title}: {done:,} of {total:,} {unit}, {left:,.0f} s left"
                print(line, file=sys.stderr, flush=True)
        yield item
