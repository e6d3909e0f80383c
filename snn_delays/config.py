"""The schema of every option: type, default, meaning and bounds. YAML files hold values only.

Derived values are properties, so they are computed after all overrides. ``validate`` checks what
the types cannot. Standard library only.
"""

from __future__ import annotations

import dataclasses
import difflib
import hashlib
import json
import types
import typing
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from snn_delays.errors import UserError

# DCLS stores SIG and uses the width s = |SIG| + an offset of the kernel; "sigma" here is always s.
SIGMA_OFFSETS = {"gauss": 0.27, "triangle": 1.0}
SIG_END = 0.23  # the narrowest of the paper.
BACKENDS = ("auto", "reference", "dense", "fft", "matmul", "numba", "event")
MEL_BANDS = 140  # of the log-mel frames of audio.
LONGEST_S = 60  # of a recording of audio, in seconds: no word is longer, and memory is bounded.

# Upper bounds of numbers that nothing else bounds. Every one fits the arithmetic that uses it.
MOST = 1_000_000  # of what is counted: epochs, samples, steps, channels, neurons.
LARGEST_SEED = 2**63 - 1  # torch's generators take no more.
LARGEST = 1e38  # of a real number; float32 ends at 3.4e38.

WRITTEN = {"source": "in"}  # options whose name on the command line is a keyword of Python


def option(
    default: Any,
    help: str,
    *,
    choices: tuple[str, ...] = (),
    at_least: float | None = None,
    above: float | None = None,
    at_most: float | None = None,
    below: float | None = None,
    path: bool = False,
    synonyms: dict[str, str] | None = None,
) -> Any:
    """A dataclass field with its help text and bounds; a list default is copied per instance.

    Args:
        default: of the option.
        help: one phrase, with the unit.
        choices: the only values, where there are few.
        at_least: bound of the number, or of every number of a list.
        above: the same, excluded.
        at_most: the same.
        below: the same, excluded.
        path: whether the text is a path, in which ``~`` is the home folder.
        synonyms: words that people write for one of ``choices``.
    """
    bounds = {"at_least": at_least, "above": above, "at_most": at_most, "below": below}
    metadata = {"help": help, "choices": choices, "bounds": bounds, "path": path}
    metadata["synonyms"] = synonyms or {}
    if isinstance(default, list):
        return field(default_factory=lambda: list(default), metadata=metadata)
    if dataclasses.is_dataclass(default):
        return field(default_factory=default, metadata=metadata)  # type: ignore[arg-type]
    return field(default=default, metadata=metadata)


@dataclass
class SyntheticConfig:
    """The data that the package makes itself: words that only their timing tells apart."""

    seed: int = option(0, "seed of the generated files", at_least=0, at_most=LARGEST_SEED)
    classes: int = option(16, "number of words", at_least=2, at_most=16)
    train_samples: int = option(2000, "recordings to train on", at_least=1, at_most=MOST)
    valid_samples: int = option(500, "recordings to select on", at_least=1, at_most=MOST)
    test_samples: int = option(1000, "recordings to test on", at_least=1, at_most=MOST)
    jitter_ms: float = option(
        5.0, "standard deviation of every spike's time, ms", at_least=0, at_most=1000
    )


@dataclass
class AugmentConfig:
    """Changes of training batches, drawn anew in every epoch, never made in evaluation; all off.

    The literature of each stands in snn_delays/data/augment.py and speech.py.
    """

    time_shift: int = option(
        0, "largest shift of a sample in time, steps, either way", at_least=0, at_most=MOST
    )
    channel_shift: int = option(
        0, "largest shift of a sample over input channels, either way", at_least=0, at_most=MOST
    )
    time_mask: int = option(
        0, "longest stretch of steps silenced in a sample", at_least=0, at_most=MOST
    )
    channel_mask: int = option(
        0, "widest band of neighbouring channels silenced in a sample", at_least=0, at_most=MOST
    )
    spike_drop: float = option(
        0.0, "probability that a spike is left out (spikes only)", at_least=0, below=1
    )
    noise_spikes: float = option(
        0.0,
        "mean number of spikes strewn in per sample and step (spikes only)",
        at_least=0,
        at_most=1000,
    )
    blend: float = option(
        0.0,
        "probability that a sample is blended with another of its class (spikes only)",
        at_least=0,
        at_most=1,
    )
    cutmix: float = option(
        0.0,
        "probability that a stretch of time comes from another sample, with its share of the label",
        at_least=0,
        at_most=1,
    )
    roll_ms: float = option(
        0.0,
        "largest rotation of a waveform, ms, either way (audio only)",
        at_least=0,
        at_most=60_000,
    )
    speed: float = option(
        0.0,
        "largest change of a waveform's speed, as a share of it (audio only)",
        at_least=0,
        below=1,
    )

    @property
    def of_waves(self) -> bool:
        """Whether waveforms are changed."""
        return bool(self.roll_ms or self.speed)


@dataclass
class DataConfig:
    """Where spikes come from and how they become frames."""

    name: str = option(
        "synthetic",
        "kind of data",
        choices=("shd", "ssc", "gsc", "audio_folder", "spikes", "synthetic"),
    )
    root: str = option(
        "datasets", "folder of the published data sets (SHD/, SSC/, GSC/)", path=True
    )
    cache: str | None = option(
        None, "folder of prepared frames and synthetic files; null: ~/.cache/snn_delays", path=True
    )
    train_file: str | None = option(
        None,
        "HDF5 file of SHD's format to train on (data=spikes; shd and ssc: or its .zip)",
        path=True,
    )
    valid_file: str | None = option(None, "file to select on; null: see data.split", path=True)
    test_file: str | None = option(
        None,
        "file to test on; null: held out of train_file as test_... says (data=spikes)",
        path=True,
    )
    folder: str | None = option(
        None, "folder of <word>/*.wav (data=audio_folder; gsc: or its .tar.gz)", path=True
    )
    test_list: str | None = option(
        None,
        "text file that names the test recordings, <word>/<name>.wav a line; null:"
        " testing_list.txt in the folder, if it is there (audio_folder)",
        path=True,
    )
    valid_list: str | None = option(
        None,
        "the same for validation; null: validation_list.txt in the folder, if it is there",
        path=True,
    )
    speaker_pattern: str | None = option(
        None,
        "regular expression that finds the speaker, its one group, in <word>/<name>.wav;"
        " null: speakers are not known (audio_folder)",
    )
    seconds: float = option(
        1.0,
        "length that recordings are padded with silence or cut to, s (audio)",
        above=0,
        at_most=LONGEST_S,
    )
    step_ms: float = option(10.0, "length of a time step, ms", above=0, at_most=60_000)
    time_unit: str = option(
        "auto",
        "unit of the spike times in the files; auto: s, and recordings that are longer than 100 s"
        " in it are refused (data=spikes)",
        choices=("auto", "s", "ms", "us", "ns"),
    )
    units: int = option(700, "number of spike channels in the files", at_least=1, at_most=MOST)
    units_per_channel: int = option(
        5, "neighbouring units summed into one input channel", at_least=1, at_most=MOST
    )
    frame_arithmetic: str = option(
        "auto",
        "precision of the frame index; auto: float16 for train.protocol=paper, else float64",
        choices=("auto", "float64", "float16"),
    )
    split: str = option(
        "auto",
        "how validation data is held out of the training data; auto: the official split or"
        " validation file where there is one, else speakers, else random; speakers: whole speakers;"
        " random: a share of every class; fold: the one speaker of number data.fold",
        choices=("auto", "speakers", "random", "fold"),
    )
    fold: int = option(
        0,
        "speaker left out by data.split=fold, counted from 0 in order of name",
        at_least=0,
        at_most=MOST,
    )
    valid_speakers: list[str] | None = option(
        None, "speakers held out for validation; null: as many as valid_count or valid_share says"
    )
    valid_count: int | None = option(
        None,
        "number of speakers held out, drawn by split_seed; null: valid_share",
        at_least=1,
        at_most=MOST,
    )
    valid_share: float = option(
        0.2, "share of speakers held out (at least one), or of samples", above=0, below=1
    )
    test_speakers: list[str] | None = option(
        None, "speakers to test on, where there is no test file and no list of test recordings"
    )
    test_fold: int | None = option(
        None,
        "number of the one speaker to test on, from 0, likewise: leave one out",
        at_least=0,
        at_most=MOST,
    )
    test_share: float = option(
        0.2,
        "share of speakers to test on, or of every class where speakers are not known, where"
        " nothing else says",
        above=0,
        below=1,
    )
    split_seed: int = option(
        0, "seed of the split: the same for every run", at_least=0, at_most=LARGEST_SEED
    )
    augment: AugmentConfig = option(AugmentConfig, "augmentation of training batches")
    synthetic: SyntheticConfig = option(SyntheticConfig, "settings of data=synthetic")

    @property
    def audio(self) -> bool:
        """Whether the recordings are audio: real-valued frames instead of counts of spikes."""
        return self.name in ("gsc", "audio_folder")

    @property
    def channels(self) -> int:
        """Input channels of the network."""
        return MEL_BANDS if self.audio else -(-self.units // self.units_per_channel)


@dataclass
class ModelConfig:
    """Layers of delayed linear -> BatchNorm -> LIF -> dropout -> (filter), and a readout."""

    hidden: list[int] = option([256, 256], "neurons of each hidden layer", at_least=1, at_most=MOST)
    delays: str = option(
        "learned",
        "learned; fixed: drawn at random and rounded, not trained; none: plain linear maps; dense:"
        " a weight at every delay, which is an ordinary temporal convolution",
        choices=("learned", "fixed", "none", "dense"),
    )
    taps: int = option(
        25, "delay taps D of each synapse, odd; delays reach D-1 steps", at_least=1, at_most=MOST
    )
    kernel_count: int = option(1, "delayed copies of each synapse", at_least=1, at_most=MOST)
    delay_kernel: str = option(
        "gauss",
        "shape of the taps around a learned delay in training: gauss, or triangle (DCLS's max)",
        choices=tuple(SIGMA_OFFSETS),
    )
    delay_init: str = option(
        "uniform",
        "uniform over the range; uniform_clamped: the authors' draw, 1/D start at the largest",
        choices=("uniform", "uniform_clamped"),
    )
    extra_steps: int | None = option(
        None,
        "steps that each layer lengthens the sequence; null: (taps-1)//2",
        at_least=0,
        at_most=MOST,
    )
    density: float = option(
        1.0, "share of synapses that exist, by a fixed random mask", above=0, at_most=1
    )
    bias: bool = option(False, "a bias in every linear map")
    batch_norm: bool = option(True, "BatchNorm over time and batch before every hidden neuron")
    neuron: str = option(
        "lif", "plif learns one tau per layer, from tau_ms on", choices=("lif", "plif")
    )
    tau_ms: float = option(
        10.05, "membrane time constant, ms; longer than one step", above=0, at_most=LARGEST
    )
    v_threshold: float = option(
        1.0, "firing threshold of the hidden neurons", above=0, at_most=LARGEST
    )
    surrogate_alpha: float = option(
        5.0, "steepness of the ATan surrogate gradient", above=0, at_most=LARGEST
    )
    dropout: float = option(0.4, "share of hidden neurons silenced per sample", at_least=0, below=1)
    filter_tau_ms: float | None = option(
        None,
        "time constant of the hidden layers' synaptic filter, ms; null: none",
        above=0,
        at_most=LARGEST,
    )
    filter_learnable: bool = option(False, "learn the synaptic filter's time constant")
    readout: str = option(
        "sum",
        "class scores: sum of softmax(membrane), mean, max or last of the membrane, spike_count",
        choices=("sum", "mean", "max", "last", "spike_count"),
    )
    readout_threshold: float = option(
        2.0, "firing threshold of readout=spike_count", above=0, at_most=LARGEST
    )

    @property
    def layer_taps(self) -> int:
        """Taps of every layer: one where there are no delays."""
        return 1 if self.delays == "none" else self.taps

    @property
    def layer_kernel_count(self) -> int:
        """Delayed copies per synapse: one where there are no delays to tell them apart."""
        return {"none": 1, "dense": self.taps}.get(self.delays, self.kernel_count)

    @property
    def layer_extra_steps(self) -> int:
        """Steps that every layer adds behind the sequence: none without delays."""
        if self.delays == "none":
            return 0
        return (self.taps - 1) // 2 if self.extra_steps is None else self.extra_steps


@dataclass
class TrainConfig:
    """Optimisation, its schedules, and how the epoch that counts is chosen."""

    protocol: str = option(
        "validation",
        "validation: best epoch on held-out data; refit: then train anew on everything for as many"
        " epochs; last: everything, last epoch; paper: the authors', best epoch on the test set",
        choices=("validation", "refit", "last", "paper"),
    )
    epochs: int = option(150, "passes over the training data", at_least=1, at_most=MOST)
    batch_size: int = option(
        256, "samples per step, of all processes together", at_least=1, at_most=MOST
    )
    lr_weight: float = option(
        5e-3, "peak learning rate of weights and BatchNorm", above=0, at_most=LARGEST
    )
    lr_delay: float = option(
        0.1, "initial learning rate of delays, steps per update", above=0, at_most=LARGEST
    )
    weight_decay: float = option(
        1e-5, "coupled L2 on weights and learned time constants", at_least=0, at_most=LARGEST
    )
    weight_schedule: str = option(
        "one_cycle", "learning rate of weights over epochs", choices=("one_cycle", "constant")
    )
    delay_schedule: str = option(
        "cosine", "learning rate of delays over epochs", choices=("cosine", "constant")
    )
    sigma_schedule: str = option(
        "exponential",
        "width of the taps: exponential from sigma_start to sigma_end, or constant sigma_end",
        choices=("exponential", "constant"),
    )
    sigma_start: float | None = option(
        None,
        "initial width, steps; null: taps//2 + "
        + ", ".join(f"{offset:g} ({name})" for name, offset in SIGMA_OFFSETS.items()),
        above=min(SIGMA_OFFSETS.values()),
        at_most=LARGEST,
    )
    sigma_end: float | None = option(
        None,
        "final width, steps; null: "
        + ", ".join(f"{SIG_END + offset:g} ({name})" for name, offset in SIGMA_OFFSETS.items()),
        above=min(SIGMA_OFFSETS.values()),
        at_most=LARGEST,
    )
    sigma_epochs: int | None = option(
        None,
        "epochs until sigma_end; null: epochs//4; 0: sigma never shrinks",
        at_least=0,
        at_most=MOST,
    )

    test: bool = option(
        True, "read the test set at the end; false: leave it unread, as a search should"
    )
    checkpoint_minutes: float = option(
        10.0, "minutes from checkpoint to checkpoint within an epoch", above=0, at_most=LARGEST
    )
    nonfinite: str = option(
        "stop",
        "a loss or gradient that is infinite or NaN: stop the run, or skip the batch",
        choices=("stop", "skip"),
    )
    deterministic: bool = option(False, "refuse torch's nondeterministic algorithms (GPU; slower)")


@dataclass
class TrackingConfig:
    """Where metrics go besides metrics.jsonl."""

    name: str = option("none", "tracker", choices=("none", "wandb", "tensorboard"))
    project: str = option("snn_delays", "wandb project")
    entity: str | None = option(None, "wandb team or user; null: the account's own")


@dataclass
class Config:
    """Everything that a training run depends on."""

    name: str = option("run", "name of the run, part of the default of out")
    out: str | None = option(
        None, "folder to write; null: runs/<name>/<date>-<time>-s<seed>", path=True
    )
    resume: str = option(
        "never",
        "auto: go on with the run that is in out, if there is one; the options must be its own",
        choices=("never", "auto"),
    )
    seed: int = option(
        0, "seed of initial values, order of the data and dropout", at_least=0, at_most=LARGEST_SEED
    )
    device: str = option(
        "auto",
        "auto: the GPU where there is one",
        choices=("auto", "cpu", "cuda"),
        synonyms={"gpu": "cuda"},
    )
    backend: str = option(
        "auto",
        "delayed linear map, speed alone: auto decides by sizes; numba: blocks fused (CPU);"
        " matmul: spectra by matrix products (GPU)",
        choices=BACKENDS,
    )
    precision: str = option(
        "float32",
        "number format; tf32: float32 with products on a GPU's tensor cores; mixed: float32 with"
        " training's products in bfloat16",
        choices=("float32", "float64", "tf32", "mixed"),
        synonyms=dict.fromkeys(("bf16", "bfloat16", "fp16", "float16", "half", "amp"), "mixed")
        | {"fp32": "float32", "fp64": "float64", "double": "float64"},
    )
    data: DataConfig = option(DataConfig, "data")
    model: ModelConfig = option(ModelConfig, "model")
    train: TrainConfig = option(TrainConfig, "training")
    tracking: TrackingConfig = option(TrackingConfig, "tracking")

    @property
    def tau(self) -> float:
        """Membrane time constant in steps."""
        return self.model.tau_ms / self.data.step_ms

    @property
    def sigma_end(self) -> float:
        """Final width of a delay's taps in steps."""
        given = self.train.sigma_end
        return SIG_END + SIGMA_OFFSETS[self.model.delay_kernel] if given is None else given

    @property
    def filter_tau(self) -> float | None:
        """Time constant of the synaptic filter in steps."""
        tau_ms = self.model.filter_tau_ms
        return None if tau_ms is None else tau_ms / self.data.step_ms

    @property
    def frame_arithmetic(self) -> str:
        """Precision of the frame index, after ``auto``."""
        if self.data.frame_arithmetic != "auto":
            return self.data.frame_arithmetic
        return "float16" if self.train.protocol == "paper" else "float64"

    @property
    def selection(self) -> str:
        """On what the epoch that counts is chosen, in the words that stand beside its numbers."""
        return {
            "validation": "selected on validation data",
            "refit": "epochs selected on validation data",
            "last": "last epoch, not selected",
            "paper": "test-selected",
        }[self.train.protocol]


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


# Options of the data that are paths.
PATHS = tuple(f.name for f in dataclasses.fields(DataConfig) if f.metadata["path"])
# Those that change where a run reads and writes and how fast it is, not what it computes.
_NOT_SHAPING = (
    "name", "out", "resume", "device", "backend", "tracking", "train.checkpoint_minutes",
    *(f"data.{path}" for path in PATHS),
)  # fmt: skip


def result_options(config: Config) -> dict[str, Any]:
    """All options that shape the result, nested; the data's own hash stands for its files."""
    values = dataclasses.asdict(config)
    for name in _NOT_SHAPING:
        group, _, key = name.rpartition(".")
        (values[group] if group else values).pop(key)
    return values


def shapes_result(name: str) -> bool:
    """Whether the option or group of this dotted name shapes what a run computes."""
    return not any(name == free or name.startswith(f"{free}.") for free in _NOT_SHAPING)


def config_hash(config: Config) -> str:
    """First 12 hex digits of the SHA-256 of all options that shape the result."""
    values = result_options(config)
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:12]


def options(config: Any, prefix: str = "") -> Iterator[tuple[str, Any, dataclasses.Field[Any]]]:
    """Every leaf option as (dotted name, value, field)."""
    for f in dataclasses.fields(config):
        value = getattr(config, f.name)
        if dataclasses.is_dataclass(value):
            yield from options(value, f"{prefix}{f.name}.")
        else:
            yield f"{prefix}{f.name}", value, f


def from_dict(kind: type[Any], values: dict[str, Any], prefix: str = "") -> Any:
    """A configuration from nested plain values, as ``dataclasses.asdict`` gives them.

    Raises:
        UserError: ``values`` is no dictionary, or has a key that ``kind`` does not have.
    """
    if not isinstance(values, dict):
        where = prefix.rstrip(".") or "the whole"
        raise UserError(f"{where}={shown(values)} must be a group of options.")
    fields = {f.name: f for f in dataclasses.fields(kind)}
    for key in values.keys() - fields.keys():
        raise UserError(f"There is no option {prefix}{key}.{nearest(str(key), list(fields))}")
    made = {}
    for key, value in values.items():
        factory = fields[key].default_factory
        if isinstance(factory, type) and dataclasses.is_dataclass(factory):
            value = from_dict(factory, value, f"{prefix}{key}.")
        made[key] = value
    return kind(**made)


def shown(value: object, most: int = 80) -> str:
    """A value in a message, cut where it has more than ``most`` letters."""
    text = str(value)
    return text if len(text) <= most else f"{text[:most]}..."


def nearest(name: str, valid: list[str]) -> str:
    """`` Did you mean 'x'?`` for the closest valid name, or nothing."""
    close = close_match(name, valid)
    return f" Did you mean {close!r}?" if close else ""


def close_match(name: str, valid: list[str], cutoff: float = 0.5) -> str | None:
    """The closest valid name; where names are dotted, the last part may be enough.

    Args:
        name: what was written.
        valid: the names that there are, such as "train.epochs".
        cutoff: least likeness, from 0 to 1.
    """
    tails = {full.rpartition(".")[2]: full for full in sorted(valid, key=len, reverse=True)}
    if name in tails:  # the shortest name that ends so
        return tails[name]
    close = difflib.get_close_matches(name, valid, n=1, cutoff=cutoff)
    close = close or difflib.get_close_matches(name, list(tails), n=1, cutoff=max(cutoff, 0.6))
    return tails.get(close[0], close[0]) if close else None


def validate(config: Any) -> None:
    """Check choices, bounds and the rules between options.

    Raises:
        UserError: names the option, its value and what is allowed.
    """
    check_types(config)
    for name, value, f in options(config):
        _check_value(WRITTEN.get(name, name), value, f.metadata)
    if isinstance(config, Config):
        _check_rules(config)


def check_types(config: Any, prefix: str = "") -> None:
    """Check that every field of a dataclass, nested ones included, is of its declared type.

    Raises:
        UserError: names the field, its value and what it must be.
    """
    hints = typing.get_type_hints(type(config))
    for f in dataclasses.fields(config):
        value, name = getattr(config, f.name), f"{prefix}{f.name}"
        if dataclasses.is_dataclass(value):
            check_types(value, f"{name}.")
        elif not _fits(value, hints[f.name]):
            written = WRITTEN.get(name, name)
            raise UserError(f"{written}={shown(value)} must be {type_name(hints[f.name])}.")


def _fits(value: Any, hint: Any) -> bool:
    if typing.get_origin(hint) is types.UnionType:
        return any(_fits(value, part) for part in typing.get_args(hint))
    if typing.get_origin(hint) is list:
        (part,) = typing.get_args(hint)
        return isinstance(value, list) and all(_fits(v, part) for v in value)
    if isinstance(value, bool) or hint is bool:
        return isinstance(value, bool) and hint is bool
    return isinstance(value, int | float) if hint is float else isinstance(value, hint)


def type_name(hint: Any) -> str:
    """A type as a person says it: "a number, or null"."""
    if typing.get_origin(hint) is types.UnionType:
        return ", or ".join(type_name(part) for part in typing.get_args(hint))
    if typing.get_origin(hint) is list:
        names = typing.get_args(hint) == (str,)
        return "a list of " + (
            "names, such as [anna,3]" if names else "whole numbers, as [256,256]"
        )
    return {int: "a whole number", float: "a number", bool: "true or false", str: "text"}.get(
        hint, "null"
    )


def check_options(group: type, **values: Any) -> None:
    """Hold values to the choices and bounds of a group's options, as ``validate`` does.

    Raises:
        UserError: a value that its option cannot have.
    """
    for option in dataclasses.fields(group):
        if option.name in values:
            _check_value(option.name, values[option.name], option.metadata)


def _check_value(name: str, value: Any, metadata: Any) -> None:
    choices = list(metadata["choices"])
    if choices and value not in choices:
        meant = metadata["synonyms"].get(value)
        hint = f" Did you mean {meant!r}?" if meant else nearest(str(value), choices)
        raise UserError(f"{name}={value} is not one of {', '.join(choices)}.{hint}")
    if value == "":
        raise UserError(f"{name}= is empty; give a value, or null.")
    for part in value if isinstance(value, list) else [value]:
        within = f" in {name}" if isinstance(value, list) else ""
        if part == "":
            raise UserError(f"An entry of {name}={value} is empty.")
        if isinstance(part, str) and "\0" in part:
            raise UserError(f"{name} holds a zero byte, which no name and no path has.")
        if isinstance(part, int | float) and not isinstance(part, bool):
            _check_bounds("" if within else f"{name}=", part, within, metadata["bounds"])


def _check_bounds(prefix: str, number: float, within: str, bounds: dict[str, float | None]) -> None:
    tests = {
        "at_least": lambda bound: number >= bound,
        "above": lambda bound: number > bound,
        "at_most": lambda bound: number <= bound,
        "below": lambda bound: number < bound,
    }
    for kind, bound in bounds.items():
        if bound is not None and not tests[kind](bound):  # NaN fails every test
            raise UserError(
                f"{prefix}{_shown(number)}{within} must be {kind.replace('_', ' ')}"
                f" {_shown(bound)}."
            )


def _shown(number: float) -> str:
    """A number as a person reads it; of a huge integer, which no float holds, its size alone."""
    if not isinstance(number, int):
        return f"{number:g}"
    return str(number) if abs(number) < 10**20 else f"a number of {number.bit_length()} bits"


def _check_rules(config: Config) -> None:
    if config.resume == "auto" and config.out is None:
        raise UserError("resume=auto needs out=<folder of the run>.")
    model, train, data = config.model, config.train, config.data
    if train.protocol == "paper" and not train.test:
        raise UserError(
            "train.test=false has no use with train.protocol=paper, which selects on it."
        )
    if not model.hidden:
        raise UserError(f"model.hidden={model.hidden} must list at least one layer of neurons.")
    if model.taps % 2 == 0:
        raise UserError(f"model.taps={model.taps} must be odd; use {model.taps + 1}.")
    if model.delays == "dense" and model.kernel_count != 1:
        raise UserError(
            f"model.kernel_count={model.kernel_count} has no use with model.delays=dense, whose"
            " every synapse has a weight at every delay."
        )
    if not 1 < config.tau < float("inf"):
        raise UserError(
            f"model.tau_ms={model.tau_ms:g} must be longer than one time step"
            f" (data.step_ms={data.step_ms:g})."
        )
    if config.filter_tau is not None and config.filter_tau <= 1:
        raise UserError(
            f"model.filter_tau_ms={model.filter_tau_ms:g} must be longer than one time step"
            f" (data.step_ms={data.step_ms:g})."
        )
    for key in ("sigma_start", "sigma_end"):
        width, offset = getattr(train, key), SIGMA_OFFSETS[model.delay_kernel]
        if width is not None and width <= offset:
            raise UserError(
                f"train.{key}={width:g} must be above {offset:g} with"
                f" model.delay_kernel={model.delay_kernel}."
            )
    if train.sigma_start is not None and train.sigma_start < config.sigma_end:
        raise UserError(
            f"train.sigma_start={train.sigma_start:g} must not be below"
            f" train.sigma_end={config.sigma_end:g}."
        )
    if model.filter_learnable and model.filter_tau_ms is None:
        raise UserError("model.filter_learnable=true needs model.filter_tau_ms.")
    _check_data_rules(data)


def _check_data_rules(data: DataConfig) -> None:
    official = data.valid_file is not None or data.name in ("ssc", "gsc", "synthetic")
    for key in ("valid_speakers", "valid_count"):
        if getattr(data, key) is not None and (official or data.split in ("random", "fold")):
            reason = "a validation split of its own" if official else f"data.split={data.split}"
            raise UserError(f"data.{key} has no use beside {reason}.")
    if data.valid_speakers is not None and data.valid_count is not None:
        raise UserError("data.valid_speakers and data.valid_count exclude each other.")
    if data.fold and data.split != "fold":
        raise UserError(f"data.fold={data.fold} has a use with data.split=fold alone.")
    if official and data.split != "auto":
        raise UserError(f"data.split={data.split} has no use beside a validation split of its own.")
    _check_files(data)
    _check_augmentation(data)


def _check_files(data: DataConfig) -> None:
    """Which files may be named for which kind of data."""
    files = [key for key in ("train_file", "valid_file", "test_file") if getattr(data, key)]
    if data.name == "spikes":
        if "train_file" not in files:
            raise UserError("data=spikes needs data.train_file=<HDF5 file of SHD's format>.")
    elif files and not (data.name == "ssc" or (data.name == "shd" and "valid_file" not in files)):
        raise UserError(
            f"data={data.name} brings its own files; use data=spikes with data.train_file,"
            " data.valid_file and data.test_file."
        )
    if data.name == "audio_folder" and data.folder is None:
        raise UserError("data=audio_folder needs data.folder=<folder of <word>/*.wav>.")
    own_words = ("test_list", "valid_list", "speaker_pattern")
    no_test = data.name == "audio_folder" or (data.name == "spikes" and data.test_file is None)
    lone = {
        "folder": data.audio,
        **dict.fromkeys(own_words, data.name == "audio_folder"),
        **dict.fromkeys(("test_speakers", "test_fold"), no_test),
    }
    for key, allowed in lone.items():
        if getattr(data, key) is not None and not allowed:
            beside = " and a test file" if data.test_file else ""
            raise UserError(f"data.{key} has no use with data={data.name}{beside}.")
    if data.time_unit != "auto" and data.name != "spikes":
        raise UserError(f"data.time_unit={data.time_unit} has no use with data={data.name}.")
    if data.test_fold is not None and data.test_speakers is not None:
        raise UserError("data.test_fold and data.test_speakers exclude each other.")


def _check_augmentation(data: DataConfig) -> None:
    unfit = ("spike_drop", "noise_spikes", "blend") if data.audio else ("roll_ms", "speed")
    needs = "counts of spikes" if data.audio else "audio (data=gsc or data=audio_folder)"
    for key in unfit:
        if getattr(data.augment, key):
            raise UserError(f"data.augment.{key} needs {needs}; leave it at 0.")
