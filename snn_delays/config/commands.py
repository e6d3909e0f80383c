"""The options of every command besides ``snn-delays train``."""

from __future__ import annotations

from dataclasses import dataclass

from snn_delays.config.options import LARGEST_SEED, MOST, option
from snn_delays.config.schema import BACKENDS


@dataclass
class EvaluateConfig:
    """Options of ``snn-delays evaluate``."""

    run: str = option("???", "folder of the run to read (required)", path=True)
    checkpoint: str = option(
        "best", "best: the epoch that the protocol chose", choices=("best", "last")
    )
    split: str = option("test", "data to evaluate on", choices=("test", "valid"))
    file: str | None = option(
        None,
        "another HDF5 file (audio: folder of <word>/*.wav) to evaluate on instead of the run's own",
        path=True,
    )
    batch_size: int | None = option(
        None, "samples per step; null: as in training", at_least=1, at_most=MOST
    )
    device: str = option(
        "auto",
        "auto: the GPU where there is one",
        choices=("auto", "cpu", "cuda"),
        synonyms={"gpu": "cuda"},
    )
    backend: str = option("auto", "delayed linear map, speed alone", choices=BACKENDS)


@dataclass
class AnalyseConfig:
    """Options of ``snn-delays analyse``."""

    run: str | None = option(None, "folder of the run to report on", path=True)
    runs: list[str] | None = option(None, "folders of runs to compare instead", path=True)
    out: str | None = option(
        None, "folder to write; null: <run>/analysis, or analysis for runs", path=True
    )
    sample: int = option(
        0, "number of the recording whose spikes are drawn", at_least=0, at_most=MOST
    )
    repeats: int = option(5, "draws of each random causal test", at_least=1, at_most=MOST)


@dataclass
class BenchmarkConfig:
    """Options of ``snn-delays benchmark``, besides those of the runs."""

    suite: str = option("???", "networks to compare, a file in configs/suites (required)")
    seeds: int | None = option(
        None, "number of seeds, from 0; null: as many as the suite says", at_least=1, at_most=MOST
    )
    out: str | None = option(None, "folder to write; null: runs/benchmark/<suite>", path=True)
    jobs: int | None = option(
        None,
        "runs at a time; null: as many as there are GPUs, or cores for",
        at_least=1,
        at_most=MOST,
    )
    threads: int = option(
        1, "CPU threads of each run; results depend on it in rounding", at_least=1, at_most=MOST
    )
    batched: bool = option(
        False,
        "train the seeds of a network at once, as one batched network: for GPUs that one network"
        " does not fill; results depend on it in rounding",
    )


@dataclass
class EncodeConfig:
    """Options of ``snn-delays data encode``, where ``source`` is written ``in``."""

    source: str = option("???", "folder of <word>/*.wav (required)", path=True)
    out: str = option("???", "HDF5 file of SHD's format to write (required)", path=True)
    only: str | None = option(
        None,
        "text file that names the recordings to encode, <word>/<name>.wav a line; null: all",
        path=True,
    )
    speaker_pattern: str | None = option(
        None,
        "regular expression that finds the speaker, its one group, in <word>/<name>.wav;"
        " null: speakers are not known",
    )
    channels: int = option(700, "channels of the cochlea", at_least=2, at_most=65536)
    seed: int = option(0, "seed of the fibres' spikes", at_least=0, at_most=LARGEST_SEED)
