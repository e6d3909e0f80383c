"""``snn-delays data prepare|verify|info|encode``: frame caches, checksums, encoding of audio."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from snn_delays.cli import DATA_ACTIONS
from snn_delays.cli.app import report_errors, run_command
from snn_delays.cli.compose import compose
from snn_delays.cli.overrides import split_words
from snn_delays.cli.wrapping import wrapped
from snn_delays.config import Config, EncodeConfig
from snn_delays.config.options import nearest
from snn_delays.errors import UserError

if TYPE_CHECKING:
    from snn_delays.data.frame_cache import FrameStore

USAGE = """usage: snn-delays data prepare [option=value ...]
       snn-delays data verify [option=value ...]
       snn-delays data info [option=value ...]
       snn-delays data encode in=<folder> out=<file.h5> [option=value ...]

  prepare  make the frames for a training with these options
  verify   compute and compare every checksum, of the published files and of the frames
  info     samples, classes, speakers, spikes, channels and frames of each split; oddities
  encode   spoken words (<word>/*.wav) to spikes in SHD's file format, by a cochlea model

prepare, verify and info take the options of `snn-delays train`, such as data=shd data.root=~/data.
`snn-delays data encode --help` lists the options of encode."""


def main() -> None:
    """Entry point."""
    arguments = sys.argv[1:]
    if not arguments or arguments[0] in ("-h", "--help"):
        report_errors(lambda: print(wrapped(USAGE)))
        return
    prints = arguments[0] in ("verify", "info")
    report_errors(lambda: _run(arguments[0], arguments[1:]), prints=prints)


def _run(action: str, arguments: list[str]) -> None:
    actions: dict[str, Callable[[Config], None]] = {
        "prepare": _prepare,
        "verify": _verify,
        "info": _info,
    }
    if action == "encode":
        sys.argv[1:] = arguments
        run_command("encode", _encode)
        return
    if action not in actions:
        names = list(DATA_ACTIONS)
        raise UserError(
            f"There is no action data {action}; choose from {', '.join(names)}."
            f"{nearest(action, names)}"
        )
    if {"-h", "--help"} & set(arguments):
        print(wrapped(USAGE))
        return
    _, overrides = split_words("train", arguments, allowed=())
    actions[action](compose("train", overrides))


def _prepare(config: Config) -> None:
    for split, store, seconds in _timed_stores(config):
        how = "there already"
        if store.status != "sound":
            how = f"{store.status} in {seconds:.1f} s, {len(store) / seconds:,.0f} samples/s"
        print(f"{split:6} {len(store):8,} samples  {how}")
        print(f"       {store.file.path}  {_size(store.file.bytes)}")


def _verify(config: Config) -> None:
    from snn_delays.data.frame_file import Damaged
    from snn_delays.data.progress import progress

    for split, store, _ in _timed_stores(config, fresh=True):
        number = len(store)
        numbers = progress(range(number), f"checking {split}", number, "samples")
        found = store.status
        try:
            store.file.check(numbers)
        except Damaged as damage:
            store.file = store.remake()
            found = f"damaged ({damage}), made anew"
        print(f"{split:6} {store.source}  SHA-256 {store.digest}")
        print(f"       frames {found}: {store.file.path}")


def _info(config: Config) -> None:
    from snn_delays.data.loaders import Samples
    from snn_delays.data.remarks import remarks

    splits = {}
    for split, store, _ in _timed_stores(config):
        print(f"{split}: {store.source}")
        print(_describe(config, store))
        splits[split] = Samples.of(store)
    for sentence in remarks(splits, config.data):
        print(sentence)


def _describe(config: Config, store: FrameStore) -> str:
    import numpy as np

    from snn_delays.data.remarks import ranges
    from snn_delays.data.splits import first_names, sort_names

    steps, totals = store.steps, store.file.totals
    speakers = [] if store.speakers is None else sort_names(set(store.speakers))
    lines = [
        f"  samples   {len(store):,}",
        f"  {'outputs' if store.has_targets else 'classes'}   {len(store.classes)}:"
        f" {first_names(store.classes)}",
        f"  speakers  {f'{len(speakers)}: {first_names(speakers)}' if speakers else 'not known'}",
    ]
    if not config.data.audio:
        lines.append(
            f"  spikes    {totals.sum():,.0f}; per sample {totals.mean():,.0f}"
            f" ({totals.min():,.0f} to {totals.max():,.0f})"
        )
        used = np.flatnonzero(store.file.used)
        lines.append(
            f"  channels  {len(used)} of {store.file.channels} hold spikes: {ranges(used)}"
        )
    lines.append(
        f"  frames    {steps.sum():,} of {config.data.step_ms:g} ms and {store.file.channels}"
        f" channels; per sample {steps.mean():.1f} ({steps.min()} to {steps.max()})"
    )
    return "\n".join([*lines, f"  cache     {_size(store.file.bytes)}, {store.file.path}"])


def _timed_stores(config: Config, fresh: bool = False) -> Iterator[tuple[str, FrameStore, float]]:
    """Yield name, frame store and seconds to open or make it, for each split."""
    from snn_delays.data.dataset import open_stores

    started = time.perf_counter()
    for split, store in open_stores(config, fresh=fresh):
        yield split, store, time.perf_counter() - started
        started = time.perf_counter()


def _encode(options: EncodeConfig) -> None:
    from snn_delays.data.encode import encode_words
    from snn_delays.data.formats.words import list_words

    words = list_words(Path(options.source).expanduser(), options.speaker_pattern)
    if options.only is not None:
        words = words.where(words.listed(Path(options.only).expanduser()))
    if not words.files:
        raise UserError(f"{options.only} names no recording.")
    for remark in words.remarks:
        print(remark, flush=True)
    started = time.perf_counter()
    seconds = encode_words(
        words,
        Path(options.out).expanduser(),
        channel=options.channel,
        channels=options.channels,
        seed=options.seed,
    )
    took = time.perf_counter() - started
    print(
        f"{len(words.files)} recordings, {seconds:.1f} s of audio, encoded in {took:.1f} s"
        f" ({seconds / took:.1f} s of audio per second): {options.out}"
    )


def _size(number: int) -> str:
    return f"{number / 2**20:,.1f} MiB"


if __name__ == "__main__":
    main()
