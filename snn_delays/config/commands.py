"""The options of every command besides ``snn-delays train``."""

from __future__ import annotations

import functools
from dataclasses import dataclass

from snn_delays.config.options import LARGEST, LARGEST_SEED, MOST, option
from snn_delays.config.schema import (
    ARITHMETICS,
    AUDIO_CHANNELS,
    BACKENDS,
    DEVICE_WORDS,
    WEIGHT_WORDS,
    WEIGHTS,
)

# Forms that a network is exported to, each a module of snn_delays.deploy.export.
TARGETS = ("c", "nir", "onnx", "nest", "brian2", "lava")

HARDWARE = ("loihi2", "loihi1", "xylo_audio", "spinnaker1", "spinnaker2")  # of deploy/limits.yaml

# Options of several commands.
_checkpoint = functools.partial(
    option,
    "best",
    "best: the epoch that the protocol chose; last: the last one",
    choices=("best", "last"),
    synonyms={"chosen": "best", "final": "last", "latest": "last"},
)
_network = functools.partial(
    option,
    "???",
    "folder of the run, file of a deployed network, or fsdd-best, which comes with the package"
    " (required)",
    path=True,
)
_steps = functools.partial(
    option,
    None,
    "length in steps that recordings are padded to; null: as trained, but a run of"
    " train.protocol=paper has none",
    at_least=1,
    at_most=MOST,
)
_channel = functools.partial(
    option,
    None,
    "channel to read of audio with several: left, right, the mean of all, or its number from 0;"
    " null: as in training",
    choices=AUDIO_CHANNELS,
)
_weights = functools.partial(
    option,
    None,
    "round weights: integers of so many bits, or -1, 0 and 1, times a step of each neuron, in a"
    " network of integers; null: as trained; float32: a network of floats",
    choices=WEIGHTS,
    synonyms=WEIGHT_WORDS,
)
_delays = functools.partial(
    option,
    None,
    "round delays to so many values, spread evenly over 0 to taps-1; null: as trained",
    at_least=2,
    at_most=MOST,
)
_arithmetic = functools.partial(
    option,
    None,
    "of a network of integers; loihi: that of Loihi 2, with weights=8; null: plain, in which each"
    " neuron has its own step",
    choices=ARITHMETICS,
)


@dataclass
class EvaluateConfig:
    """Options of ``snn-delays evaluate``."""

    run: str = option("???", "folder of the run (required)", path="folder")
    checkpoint: str = _checkpoint()
    split: str = option(
        "test", "data to evaluate on", choices=("test", "valid"), synonyms={"dev": "valid"}
    )
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
        synonyms=DEVICE_WORDS,
    )
    backend: str = option(
        "auto", "computation of the delayed linear map; affects speed alone", choices=BACKENDS
    )
    weights: str | None = _weights()
    delays: int | None = _delays()
    arithmetic: str | None = _arithmetic()
    target: str | None = option(
        None,
        "hardware whose limits the network is compared with; exit code 2 if it exceeds one",
        choices=HARDWARE,
    )
    fit: bool = option(False, "round weights first as the target needs it")


@dataclass
class AnalyseConfig:
    """Options of ``snn-delays analyse``."""

    run: str | None = option(None, "folder of the run to report on", path="folder")
    runs: list[str] | None = option(
        None, "folders of runs to compare, instead of run", path="folder"
    )
    out: str | None = option(
        None, "folder to write; null: <run>/analysis, or analysis for runs", path="folder"
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
    trials: int | None = option(
        None,
        "number of trials in the search of each network's options, for suites that have one; null:"
        " the suite's number; 0: no search",
        at_least=0,
        at_most=MOST,
    )
    out: str | None = option(None, "folder to write; null: runs/benchmark/<suite>", path="folder")
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
class SearchConfig:
    """Options ``hydra.sweeper.<name>`` of ``snn-delays train -m hydra/sweeper=optuna``."""

    n_trials: int = option(16, "number of runs", at_least=1, at_most=MOST)
    n_jobs: int = option(
        1, "number of runs whose options are drawn at a time", at_least=1, at_most=MOST
    )
    seed: int = option(0, "seed of the drawn options", at_least=0, at_most=2**32 - 1)
    max_failure_rate: float = option(
        0.0, "share of n_trials that may fail before the search ends", at_least=0, at_most=1
    )
    params: dict | None = option(None, "values of options to search, beside the command line's")


@dataclass
class RunsConfig:
    """Options of ``snn-delays runs``, where ``source`` is written ``in``."""

    source: str = option("runs", "folder of the runs, which may lie deeper in it", path="folder")
    sort: str = option(
        "time",
        "order of the runs; time: the newest last; accuracy: the best last, behind those with"
        " data.target=per_step by their NRMSE; name: by folder",
        choices=("time", "accuracy", "name"),
    )
    format: str = option("table", "form of the list", choices=("table", "json", "csv"))


@dataclass
class PredictConfig:
    """Options of ``snn-delays predict``, where ``source`` is written ``in``."""

    run: str = _network()
    source: str = option(
        "???",
        "audio file, folder of audio files, HDF5 file of SHD's format, or -: standard input"
        " (required)",
        path=True,
    )
    every: float | None = option(
        None,
        "ms between running decisions, a multiple of the step; null: the last decision alone",
        above=0,
        at_most=LARGEST,
    )
    format: str = option(
        "json", "form of the lines; json: an object a line", choices=("json", "csv")
    )
    checkpoint: str = _checkpoint()
    steps: int | None = _steps()
    channel: str | None = _channel()
    weights: str | None = _weights()
    delays: int | None = _delays()
    arithmetic: str | None = _arithmetic()


@dataclass
class LiveConfig:
    """Options of ``snn-delays live``."""

    run: str = _network()
    every: float | None = option(
        None,
        "ms between running decisions, a multiple of the step; null: about 100",
        above=0,
        at_most=LARGEST,
    )
    level: float = option(
        -30.0,
        "amplitude in dB of full scale at which a sound begins a recording, of the length that the"
        " network was trained on",
        at_least=-100,
        at_most=0,
    )
    input: str | None = option(
        None, "name or number of the microphone; null: the system's default input"
    )
    checkpoint: str = _checkpoint()
    steps: int | None = _steps()


@dataclass
class ExportConfig:
    """Options of ``snn-delays export``, where ``source`` is written ``in``."""

    run: str = _network()
    target: str = option(
        "???",
        "form to write; c: a file and a header of C99; nir: a NIR graph; onnx: an ONNX model; nest,"
        " brian2, lava: a program for this simulator (required)",
        choices=TARGETS,
    )
    out: str = option("???", "folder to write, a new or an empty one (required)", path="folder")
    verify: int = option(
        200,
        "number of held-out recordings on which the export is run and compared with the network,"
        " spread over all of them; 0: none",
        at_least=0,
        at_most=MOST,
    )
    source: str | None = option(
        None,
        "recordings to verify on, as for predict: audio file, folder of audio files or HDF5 file;"
        " null: those that the run was tested on",
        path=True,
    )
    checkpoint: str = _checkpoint()
    steps: int | None = _steps()
    channel: str | None = _channel()
    weights: str | None = _weights()
    delays: int | None = _delays()
    arithmetic: str | None = _arithmetic()


@dataclass
class EncodeConfig:
    """Options of ``snn-delays data encode``, where ``source`` is written ``in``."""

    source: str = option("???", "folder of <word>/*.wav (required)", path="folder")
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
    channel: str | None = option(
        None,
        "channel to read of recordings with several: left, right, the mean of all, or its number"
        " from 0; null: such recordings are refused",
        choices=AUDIO_CHANNELS,
    )
    channels: int = option(700, "number of cochlea channels", at_least=2, at_most=65536)
    seed: int = option(0, "seed of the fibres' random spikes", at_least=0, at_most=LARGEST_SEED)
