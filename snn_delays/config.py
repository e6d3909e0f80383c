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

SIGMA_OFFSET = 0.27  # DCLS stores SIG and uses s = |SIG| + 0.27; "sigma" here is always s.
BACKENDS = ("auto", "reference", "dense", "fft", "numba", "event")
SIGMA_END = 0.5  # SIG = 0.23, the narrowest Gaussian of the paper.


def option(
    default: Any,
    help: str,
    *,
    choices: tuple[str, ...] = (),
    at_least: float | None = None,
    above: float | None = None,
    at_most: float | None = None,
    below: float | None = None,
) -> Any:
    """A dataclass field with its help text and bounds; a list default is copied per instance."""
    bounds = {"at_least": at_least, "above": above, "at_most": at_most, "below": below}
    metadata = {"help": help, "choices": choices, "bounds": bounds}
    if isinstance(default, list):
        return field(default_factory=lambda: list(default), metadata=metadata)
    if dataclasses.is_dataclass(default):
        return field(default_factory=default, metadata=metadata)  # type: ignore[arg-type]
    return field(default=default, metadata=metadata)


@dataclass
class SyntheticConfig:
    """The data that the package makes itself: words that only their timing tells apart."""

    seed: int = option(0, "seed of the generated files", at_least=0)
    classes: int = option(16, "number of words", at_least=2, at_most=16)
    train_samples: int = option(2000, "recordings to train on", at_least=1)
    valid_samples: int = option(500, "recordings to select on", at_least=1)
    test_samples: int = option(1000, "recordings to test on", at_least=1)
    jitter_ms: float = option(5.0, "standard deviation of every spike's time, ms", at_least=0)


@dataclass
class DataConfig:
    """Where spikes come from and how they become frames."""

    name: str = option(
        "synthetic",
        "kind of data",
        choices=("shd", "ssc", "spikes", "synthetic"),
    )
    root: str = option("datasets", "folder of the downloaded data sets (SHD/, SSC/)")
    cache: str | None = option(
        None, "folder of prepared frames and synthetic files; null: ~/.cache/snn_delays"
    )
    train_file: str | None = option(None, "HDF5 file of SHD's format to train on (data=spikes)")
    valid_file: str | None = option(
        None, "file to select on; null: speakers of train_file are held out"
    )
    test_file: str | None = option(None, "file to test on")
    step_ms: float = option(10.0, "length of a time step, ms", above=0)
    units: int = option(700, "number of spike channels in the files", at_least=1)
    units_per_channel: int = option(
        5, "neighbouring units summed into one input channel", at_least=1
    )
    frame_arithmetic: str = option(
        "auto",
        "precision of the frame index; auto: float16 for train.protocol=paper, else float64",
        choices=("auto", "float64", "float16"),
    )
    valid_speakers: list[int] | None = option(
        None, "speakers held out for validation; null: a share of them, drawn by split_seed"
    )
    valid_share: float = option(
        0.2,
        "share of speakers held out (at least one); of samples where there are fewer than two",
        above=0,
        below=1,
    )
    split_seed: int = option(0, "seed of the split: the same for every run", at_least=0)
    synthetic: SyntheticConfig = option(SyntheticConfig, "settings of data=synthetic")

    @property
    def channels(self) -> int:
        """Input channels of the network."""
        return -(-self.units // self.units_per_channel)


@dataclass
class ModelConfig:
    """Layers of delayed linear -> BatchNorm -> LIF -> dropout -> (filter), and a readout."""

    hidden: list[int] = option([256, 256], "neurons of each hidden layer")
    delays: str = option(
        "learned",
        "learned; fixed: drawn at random and rounded, not trained; none: plain linear maps",
        choices=("learned", "fixed", "none"),
    )
    taps: int = option(25, "delay taps D of each synapse, odd; delays reach D-1 steps", at_least=1)
    kernel_count: int = option(1, "delayed copies of each synapse", at_least=1)
    delay_init: str = option(
        "uniform",
        "uniform over the range; uniform_clamped: the authors' draw, 1/D start at the largest",
        choices=("uniform", "uniform_clamped"),
    )
    extra_steps: int | None = option(
        None, "steps that each layer lengthens the sequence; null: (taps-1)//2", at_least=0
    )
    density: float = option(
        1.0, "share of synapses that exist, by a fixed random mask", above=0, at_most=1
    )
    bias: bool = option(False, "a bias in every linear map")
    batch_norm: bool = option(True, "BatchNorm over time and batch before every hidden neuron")
    neuron: str = option(
        "lif", "plif learns one tau per layer, from tau_ms on", choices=("lif", "plif")
    )
    tau_ms: float = option(10.05, "membrane time constant, ms; longer than one step", above=0)
    v_threshold: float = option(1.0, "firing threshold of the hidden neurons", above=0)
    surrogate_alpha: float = option(5.0, "steepness of the ATan surrogate gradient", above=0)
    dropout: float = option(0.4, "share of hidden neurons silenced per sample", at_least=0, below=1)
    filter_tau_ms: float | None = option(
        None, "time constant of the hidden layers' synaptic filter, ms; null: none", above=0
    )
    filter_learnable: bool = option(False, "learn the synaptic filter's time constant")
    readout: str = option(
        "sum",
        "class scores: sum of softmax(membrane), mean, max or last of the membrane, spike_count",
        choices=("sum", "mean", "max", "last", "spike_count"),
    )
    readout_threshold: float = option(2.0, "firing threshold of readout=spike_count", above=0)

    @property
    def layer_taps(self) -> int:
        """Taps of every layer: one where there are no delays."""
        return 1 if self.delays == "none" else self.taps

    @property
    def layer_kernel_count(self) -> int:
        """Delayed copies per synapse: one where there are no delays to tell them apart."""
        return 1 if self.delays == "none" else self.kernel_count

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
    epochs: int = option(150, "passes over the training data", at_least=1)
    batch_size: int = option(256, "samples per step", at_least=1)
    lr_weight: float = option(5e-3, "peak learning rate of weights and BatchNorm", above=0)
    lr_delay: float = option(0.1, "initial learning rate of delays, steps per update", above=0)
    weight_decay: float = option(
        1e-5, "coupled L2 on weights and learned time constants", at_least=0
    )
    weight_schedule: str = option(
        "one_cycle", "learning rate of weights over epochs", choices=("one_cycle", "constant")
    )
    delay_schedule: str = option(
        "cosine", "learning rate of delays over epochs", choices=("cosine", "constant")
    )
    sigma_schedule: str = option(
        "exponential",
        "width of the Gaussian: exponential from sigma_start to sigma_end, or constant sigma_end",
        choices=("exponential", "constant"),
    )
    sigma_start: float | None = option(
        None, f"initial width, steps; null: taps//2 + {SIGMA_OFFSET}", above=SIGMA_OFFSET
    )
    sigma_end: float = option(SIGMA_END, "final width, steps", above=SIGMA_OFFSET)
    sigma_epochs: int | None = option(
        None, "epochs until sigma_end; null: epochs//4; 0: sigma never shrinks", at_least=0
    )


@dataclass
class TrackingConfig:
    """Where metrics go besides metrics.jsonl."""

    name: str = option("none", "tracker", choices=("none", "wandb"))
    project: str = option("snn_delays", "wandb project")
    entity: str | None = option(None, "wandb team or user; null: the account's own")


@dataclass
class Config:
    """Everything that a training run depends on."""

    name: str = option("run", "name of the run, part of the default of out")
    out: str | None = option(None, "folder to write; null: runs/<name>/<date>-<time>-s<seed>")
    seed: int = option(0, "seed of initial values, order of the data and dropout", at_least=0)
    device: str = option(
        "auto", "auto: the GPU where there is one", choices=("auto", "cpu", "cuda")
    )
    backend: str = option(
        "auto",
        "delayed linear map, speed alone: auto decides by sizes; numba: blocks fused (CPU)",
        choices=BACKENDS,
    )
    precision: str = option(
        "float32",
        "number format; mixed: float32 with training's products in bfloat16",
        choices=("float32", "float64", "mixed"),
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

    run: str = option("???", "folder of the run to read (required)")
    checkpoint: str = option(
        "best", "best: the epoch that the protocol chose", choices=("best", "last")
    )
    split: str = option("test", "data to evaluate on", choices=("test", "valid"))
    file: str | None = option(None, "another HDF5 file to evaluate on instead of the run's own")
    batch_size: int | None = option(None, "samples per step; null: as in training", at_least=1)
    device: str = option(
        "auto", "auto: the GPU where there is one", choices=("auto", "cpu", "cuda")
    )
    backend: str = option("auto", "delayed linear map, speed alone", choices=BACKENDS)


# Keys that change where a run writes and how fast it is, not what it computes.
_NOT_IN_HASH = ("name", "out", "device", "backend", "tracking")


def config_hash(config: Config) -> str:
    """First 12 hex digits of the SHA-256 of all options that shape the result."""
    values = dataclasses.asdict(config)
    for key in _NOT_IN_HASH:
        values.pop(key)
    for key in ("root", "cache", "train_file", "valid_file", "test_file"):
        values["data"].pop(key)  # the data's own hash stands for the files
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
        UserError: a key that ``kind`` does not have.
    """
    fields = {f.name: f for f in dataclasses.fields(kind)}
    for key in values.keys() - fields.keys():
        raise UserError(f"There is no option {prefix}{key}.{nearest(key, list(fields))}")
    made = {}
    for key, value in values.items():
        factory = fields[key].default_factory
        if isinstance(factory, type) and dataclasses.is_dataclass(factory):
            value = from_dict(factory, value, f"{prefix}{key}.")
        made[key] = value
    return kind(**made)


def nearest(name: str, valid: list[str]) -> str:
    """`` Did you mean 'x'?`` for the closest valid name, or nothing."""
    close = difflib.get_close_matches(name, valid, n=1, cutoff=0.5)
    return f" Did you mean {close[0]!r}?" if close else ""


def validate(config: Config | EvaluateConfig) -> None:
    """Check choices, bounds and the rules between options.

    Raises:
        UserError: names the option, its value and what is allowed.
    """
    _check_types(config)
    for name, value, f in options(config):
        _check_value(name, value, f.metadata)
    if isinstance(config, Config):
        _check_rules(config)


def _check_types(config: Any, prefix: str = "") -> None:
    hints = typing.get_type_hints(type(config))
    for f in dataclasses.fields(config):
        value, name = getattr(config, f.name), f"{prefix}{f.name}"
        if dataclasses.is_dataclass(value):
            _check_types(value, f"{name}.")
        elif not _fits(value, hints[f.name]):
            raise UserError(f"{name}={value} must be {type_name(hints[f.name])}.")


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
        return "a list of whole numbers, such as [256,256]"
    return {int: "a whole number", float: "a number", bool: "true or false", str: "text"}.get(
        hint, "null"
    )


def _check_value(name: str, value: Any, metadata: Any) -> None:
    choices = list(metadata["choices"])
    if choices and value not in choices:
        hint = nearest(str(value), choices)
        raise UserError(f"{name}={value} is not one of {', '.join(choices)}.{hint}")
    if isinstance(value, bool) or not isinstance(value, int | float):
        return
    tests = {
        "at_least": lambda bound: value >= bound,
        "above": lambda bound: value > bound,
        "at_most": lambda bound: value <= bound,
        "below": lambda bound: value < bound,
    }
    for kind, bound in metadata["bounds"].items():
        if bound is not None and not tests[kind](bound):  # NaN fails every test
            raise UserError(f"{name}={value:g} must be {kind.replace('_', ' ')} {bound:g}.")


def _check_rules(config: Config) -> None:
    model, train, data = config.model, config.train, config.data
    if not model.hidden or min(model.hidden) < 1:
        raise UserError(f"model.hidden={model.hidden} must list at least one layer of neurons.")
    if model.taps % 2 == 0:
        raise UserError(f"model.taps={model.taps} must be odd; use {model.taps + 1}.")
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
    if train.sigma_start is not None and train.sigma_start < train.sigma_end:
        raise UserError(
            f"train.sigma_start={train.sigma_start:g} must not be below"
            f" train.sigma_end={train.sigma_end:g}."
        )
    if model.filter_learnable and model.filter_tau_ms is None:
        raise UserError("model.filter_learnable=true needs model.filter_tau_ms.")
    if data.valid_speakers is not None and (data.valid_file is not None or data.name == "ssc"):
        raise UserError("data.valid_speakers has no use beside a validation file.")
    if data.name == "spikes":
        for key in ("train_file", "test_file"):
            if getattr(data, key) is None:
                raise UserError(f"data=spikes needs data.{key}=<HDF5 file of SHD's format>.")
    elif data.train_file or data.valid_file or data.test_file:
        raise UserError(
            f"data={data.name} brings its own files; use data=spikes with data.train_file,"
            " data.valid_file and data.test_file."
        )
