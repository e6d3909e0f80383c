"""The options of a training run: type, default, meaning and bounds. YAML files hold values only.

Derived values are properties, so they are computed after all overrides.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from typing import Any

from snn_delays.config.datasets import DATASETS
from snn_delays.config.options import LARGEST, LARGEST_SEED, MOST, option

# DCLS stores SIG and uses the width s = |SIG| + an offset of the kernel; "sigma" here is always s.
SIGMA_OFFSETS = {"gauss": 0.27, "triangle": 1.0}
SIG_END = 0.23  # the narrowest of the paper.
BACKENDS = ("auto", "reference", "dense", "fft", "matmul", "numba", "event")
MEL_BANDS = 140  # of the log-mel frames of audio.
LONGEST_S = 60  # of a recording of audio, in seconds: no word is longer, and memory is bounded.


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
        choices=tuple(DATASETS),
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
        return DATASETS[self.name].audio

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


# Options of the data that are paths.
PATHS = tuple(f.name for f in dataclasses.fields(DataConfig) if f.metadata["path"])
# Those that change where a run reads and writes and how fast it is, not what it computes.
_NOT_SHAPING = (
    "name", "out", "resume", "device", "backend", "tracking", "train.checkpoint_minutes",
    *(f"data.{path}" for path in PATHS),
)  # fmt: skip  # fmt: skip


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
