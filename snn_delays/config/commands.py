"""The options of every command besides ``snn-delays train``."""

from __future__ import annotations

from dataclasses import dataclass

from snn_delays.config.options import LARGEST_SEED, MOST, option
from snn_delays.config.schema import BACKENDS


@dataclass
class EvaluateConfig:
    """Options of ``snn-delays evaluate``."""

    run: str = option("???", "folder of the run (required)", path=True)
    checkpoint: str = option(
        "best",
        "best: the epoch that the protocol chose; last: the last one",
        choices=("best", "last"),
    )
    split: str = option("test", "data to evaluate on", choices=("test", "valid"))
    file: str | None = option(
        None,
        "HDF5 file (audio: folder of <word>/*.wav) to evaluate on instead of the run's data",
        path=True,
    )
    batch_size: int | None = option(
        None, "samples per step; null: as in training", at_least=1, at_most=MOST
    )
    device: str = option(
        "auto",
        "auto: the GPU, if there is one",
        choices=("auto", "cpu", "cuda"),
        synonyms={"gpu": "cuda"},
    )
    backend: str = option(
        "auto", "computation of the delayed linear map; affects speed alone", choices=BACKENDS
    )


@dataclass
class AnalyseConfig:
    """Options of ``snn-delays analyse``."""

    run: str | None = option(None, "folder of the run to report on", path=True)
    runs: list[str] | None = option(None, "folders of runs to compare, instead of run", path=True)
    out: str | None = option(
        None, "folder to write; null: <run>/analysis, or analysis for runs", path=True
    )
    sample: int = option(
        0, "number of the recording whose spikes are drawn, from 0", at_least=0, at_most=MOST
    )
    repeats: int = option(5, "number of draws of each random causal test", at_least=1, at_most=MOST)


@dataclass
class BenchmarkConfig:
    """Options of ``snn-delays benchmark`` itself, without those of its runs."""

    suite: str = option(
        "???",
        "networks to compare: a file in configs/suites, or <path>.yaml (required)",
        path=True,
    )
    seeds: int | None = option(
        None, "number of seeds, from 0; null: the suite's number", at_least=1, at_most=MOST
    )
    out: str | None = option(None, "folder to write; null: runs/benchmark/<suite>", path=True)
    jobs: int | None = option(
        None,
        "number of runs at a time; null: number of GPUs, or of cores over threads",
        at_least=1,
        at_most=MOST,
    )
    threads: int = option(
        1, "CPU threads of each run; affects results by rounding", at_least=1, at_most=MOST
    )
    batched: bool = option(
        False,
        "compute the steps of a network's seeds as one pass, for GPUs that one network does not"
        " fill; affects results by rounding",
    )


@dataclass
class EncodeConfig:
    """Options of ``snn-delays data encode``, where ``source`` is written ``in``."""

    source: str = option("???", "folder of <word>/*.wav (required)", path=True)
    out: str = option("???", "HDF5 file of SHD's format to write (required)", path=True)
    only: str | None = option(
        None,
        "text file that lists the recordings to encode, one <word>/<name>.wav a line; null: all",
        path=True,
    )
    speaker_pattern: str | None = option(
        None,
        "regular expression with one group, which matches the speaker in <word>/<name>.wav;"
        " null: speakers are unknown",
    )
    channels: int = option(700, "number of cochlea channels", at_least=2, at_most=65536)
    seed: int = option(0, "seed of the fibres' random spikes", at_least=0, at_most=LARGEST_SEED)
