"""The options of a training run: type, default, meaning and bounds. YAML files hold values only.

Derived values are properties, so they are computed after all overrides.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from typing import Any

from snn_delays.config.datasets import DATASETS, TARGETS, kind_of
from snn_delays.config.neurons import NEURONS, SURROGATES
from snn_delays.config.options import LARGEST, LARGEST_SEED, MOST, option

# DCLS stores SIG; its width s = |SIG| + an offset of the kernel is called sigma in this package.
SIGMA_OFFSETS = {"gauss": 0.27, "triangle": 1.0}
OWN_OFFSET = SIGMA_OFFSETS["gauss"]  # of a user's own kernel
SIG_END = 0.23  # the paper's final SIG
BACKENDS = ("auto", "reference", "dense", "fft", "matmul", "numba", "event", "depthwise")
# Words that other programs use for the values of several options, for hints in messages.
DEVICE_WORDS = dict.fromkeys(("gpu", "gpu0", "gpu:0", "cuda:0", "nvidia", "0"), "cuda")
STEADY = dict.fromkeys(("none", "no", "off", "false", "flat", "fixed"), "constant")
MEL_BANDS = 140  # of the log-mel frames of audio.
LONGEST_S = 60  # longest recording of audio in seconds; words are shorter, and memory is bounded
# What weights may be rounded to, and how an integer network computes.
WEIGHTS = ("float32", "16", "8", "4", "ternary")
WEIGHT_WORDS = {
    **dict.fromkeys(("float", "none", "null", "no", "32"), "float32"),
    **dict.fromkeys(("int16", "16bit"), "16"),
    **dict.fromkeys(("int8", "8bit"), "8"),
    **dict.fromkeys(("int4", "4bit"), "4"),
    **dict.fromkeys(("1.58", "2", "t", "tern"), "ternary"),
}
ARITHMETICS = ("plain", "loihi")
AUDIO_CHANNELS = ("left", "right", "mean", *"01234567")  # of a recording with several


@dataclass
class SyntheticConfig:
    """Options of the synthetic data: words that differ in timing alone."""

    seed: int = option(0, "seed of the generated files", at_least=0, at_most=LARGEST_SEED)
    classes: int = option(16, "number of words", at_least=2, at_most=16)
    train_samples: int = option(2000, "recordings to train on", at_least=1, at_most=MOST)
    valid_samples: int = option(500, "validation recordings", at_least=1, at_most=MOST)
    test_samples: int = option(1000, "recordings to test on", at_least=1, at_most=MOST)
    jitter_ms: float = option(
        5.0, "standard deviation of every spike's time, ms", at_least=0, at_most=1000
    )


@dataclass
class LocalisationConfig:
    """Options of the sounds to localise by the time between two ears."""

    seed: int = option(0, "seed of the generated files", at_least=0, at_most=LARGEST_SEED)
    classes: int = option(9, "number of directions", at_least=2, at_most=1000)
    itd_ms: float = option(
        0.8,
        "largest time between the ears, ms; those of the directions lie evenly from minus to plus"
        " this",
        above=0,
        at_most=1000,
    )
    length_ms: float = option(15.0, "length of a sound, ms", above=0, at_most=60_000)
    clicks_per_ms: float = option(
        0.5, "mean number of clicks in a frequency band, per ms", above=0, at_most=1000
    )
    jitter_ms: float = option(
        0.05, "standard deviation of every click's time, ms", at_least=0, at_most=1000
    )
    train_samples: int = option(2000, "sounds to train on", at_least=1, at_most=MOST)
    valid_samples: int = option(500, "validation sounds", at_least=1, at_most=MOST)
    test_samples: int = option(1000, "sounds to test on", at_least=1, at_most=MOST)


@dataclass
class MackeyGlassConfig:
    """Options of the Mackey-Glass series, of which a step of the network is a unit of time."""

    seed: int = option(0, "seed of the generated files", at_least=0, at_most=LARGEST_SEED)
    tau: float = option(
        17.0,
        "delay of the equation, rounded to a tenth; from about 16.8 the series is chaotic",
        at_least=1,
        at_most=100,
    )
    horizon: int = option(
        24,
        "number of steps between an input and the value to predict; a cycle takes about 50",
        at_least=1,
        at_most=1000,
    )
    steps: int = option(250, "length of a recording, steps", at_least=2, at_most=MOST)
    washout: int = option(
        50, "number of steps at the start of a recording without a target", at_least=0, at_most=MOST
    )
    train_samples: int = option(400, "recordings to train on", at_least=1, at_most=MOST)
    valid_samples: int = option(100, "validation recordings", at_least=1, at_most=MOST)
    test_samples: int = option(200, "recordings to test on", at_least=1, at_most=MOST)


@dataclass
class AugmentConfig:
    """Random changes of training batches, drawn again in every epoch; by default all are off.

    snn_delays/data/augment.py and speech.py cite the source of each.
    """

    time_shift: int = option(
        0, "largest shift of a sample in time, steps, either way", at_least=0, at_most=MOST
    )
    channel_shift: int = option(
        0, "largest shift of a sample over input channels, either way", at_least=0, at_most=MOST
    )
    time_mask: int = option(
        0, "largest number of successive steps silenced in a sample", at_least=0, at_most=MOST
    )
    channel_mask: int = option(
        0, "largest number of neighbouring channels silenced in a sample", at_least=0, at_most=MOST
    )
    spike_drop: float = option(
        0.0, "probability that a spike is removed (spikes only)", at_least=0, below=1
    )
    noise_spikes: float = option(
        0.0,
        "mean number of noise spikes added per sample and step (spikes only)",
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
        "probability that a stretch of a sample is replaced by another sample's; labels are mixed",
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
        "largest relative change of a waveform's speed (audio only)",
        at_least=0,
        below=1,
    )

    @property
    def of_waves(self) -> bool:
        """Whether waveforms are augmented."""
        return bool(self.roll_ms or self.speed)


@dataclass
class DataConfig:
    """Options of the data set, its frames and its splits."""

    name: str = option(
        "synthetic",
        "data set",
        choices=tuple(DATASETS),
        own="a function of (config) that returns the file of SHD's format, or the Source, of each"
        ' split: {"train": path, "test": path}, perhaps with "valid"',
        synonyms={
            **dict.fromkeys(("heidelberg", "spiking_heidelberg_digits"), "shd"),
            **dict.fromkeys(("speech_commands", "speechcommands", "google"), "gsc"),
            **dict.fromkeys(("wav", "audio", "folder", "own"), "audio_folder"),
            **dict.fromkeys(("hdf5", "h5", "file"), "spikes"),
        },
    )
    target: str = option(
        "class",
        "what the network is to answer; class: the class of a recording; per_step: numbers at every"
        " step, whose targets the file holds (data=spikes, mackey_glass)",
        choices=TARGETS,
        synonyms={
            **dict.fromkeys(("classes", "label", "labels", "classification"), "class"),
            **dict.fromkeys(("step", "steps", "regression", "targets"), "per_step"),
        },
    )
    root: str = option(
        "datasets", "folder of the published data sets (SHD/, SSC/, GSC/)", path="folder"
    )
    cache: str | None = option(
        None,
        "folder of prepared frames and synthetic files; null: ~/.cache/snn_delays",
        path="folder",
    )
    train_file: str | None = option(
        None,
        "HDF5 file of SHD's format to train on (data=spikes; with shd and ssc also its .zip)",
        path=True,
    )
    valid_file: str | None = option(None, "validation file; null: see data.split", path=True)
    test_file: str | None = option(
        None,
        "test file; null: held out of train_file, see data.test_... (data=spikes)",
        path=True,
    )
    folder: str | None = option(
        None, "folder of <word>/*.wav (data=audio_folder; with gsc also its .tar.gz)", path=True
    )
    test_list: str | None = option(
        None,
        "text file that lists the test recordings, one <word>/<name>.wav a line; null:"
        " testing_list.txt in the folder, if it exists (data=audio_folder)",
        path=True,
    )
    valid_list: str | None = option(
        None,
        "text file that lists the validation recordings; null: validation_list.txt in the folder,"
        " if it exists (data=audio_folder)",
        path=True,
    )
    speaker_pattern: str | None = option(
        None,
        "regular expression with one group, which matches the speaker in <word>/<name>.wav;"
        " null: speakers are unknown (data=audio_folder)",
    )
    channel: str | None = option(
        None,
        "channel to read of recordings with several: left, right, the mean of all, or its number"
        " from 0; null: such recordings are refused (data=audio_folder)",
        choices=AUDIO_CHANNELS,
    )
    seconds: float = option(
        1.0,
        "length to which recordings are cut or padded with silence, s (audio only)",
        above=0,
        at_most=LONGEST_S,
    )
    step_ms: float = option(10.0, "length of a time step, ms", above=0, at_most=60_000)
    time_unit: str = option(
        "auto",
        "unit of the spike times in the files; auto: s, but recordings longer than 100 s are"
        " refused (data=spikes)",
        choices=("auto", "s", "ms", "us", "ns"),
        synonyms={
            **dict.fromkeys(("second", "seconds", "sec"), "s"),
            **dict.fromkeys(("millisecond", "milliseconds", "msec"), "ms"),
            **dict.fromkeys(("microsecond", "microseconds", "usec", "µs", "μs"), "us"),
            **dict.fromkeys(("nanosecond", "nanoseconds", "nsec"), "ns"),
        },
    )
    units: int = option(700, "number of spike channels in the files", at_least=1, at_most=MOST)
    units_per_channel: int = option(
        5, "neighbouring units summed into one input channel", at_least=1, at_most=MOST
    )
    frame_arithmetic: str = option(
        "auto",
        "precision of the frame index; auto: float16 for train.protocol=paper, else float64",
        choices=("auto", "float64", "float16"),
        synonyms={"fp16": "float16", "half": "float16", "fp64": "float64", "double": "float64"},
    )
    split: str = option(
        "auto",
        "how validation data are held out of the training data; auto: the official split or the"
        " validation file if it exists, else speakers if known, else random; speakers: all samples"
        " of some speakers; random: a share of every class; fold: the speaker number data.fold",
        choices=("auto", "speakers", "random", "fold"),
        synonyms={"kfold": "fold", "k-fold": "fold", "stratified": "random", "official": "auto"},
    )
    fold: int = option(
        0,
        "number of the speaker held out by data.split=fold, from 0 in order of name",
        at_least=0,
        at_most=MOST,
    )
    valid_speakers: list[str] | None = option(
        None, "speakers held out for validation; null: drawn, see valid_count and valid_share"
    )
    valid_count: int | None = option(
        None,
        "number of speakers held out for validation, drawn by split_seed; null: see valid_share",
        at_least=1,
        at_most=MOST,
    )
    valid_share: float = option(
        0.2,
        "share of speakers held out for validation (at least one), or of every class",
        above=0,
        below=1,
    )
    test_speakers: list[str] | None = option(
        None, "speakers to test on, without a test file or list (data=spikes, audio_folder)"
    )
    test_fold: int | None = option(
        None,
        "number of the one speaker to test on, from 0 in order of name (data=spikes, audio_folder)",
        at_least=0,
        at_most=MOST,
    )
    test_share: float = option(
        0.2,
        "share of speakers to test on, or of every class if speakers are unknown; used without a"
        " test file, list, test_speakers and test_fold",
        above=0,
        below=1,
    )
    split_seed: int = option(
        0, "seed of the held-out speakers or samples", at_least=0, at_most=LARGEST_SEED
    )
    augment: AugmentConfig = option(AugmentConfig, "augmentation of training batches")
    synthetic: SyntheticConfig = option(SyntheticConfig, "settings of data=synthetic")
    localisation: LocalisationConfig = option(LocalisationConfig, "settings of data=localisation")
    mackey_glass: MackeyGlassConfig = option(MackeyGlassConfig, "settings of data=mackey_glass")

    @property
    def audio(self) -> bool:
        """Whether the recordings are audio, with real-valued frames instead of spike counts."""
        return kind_of(self.name).audio

    @property
    def channels(self) -> int:
        """Input channels of the network."""
        return MEL_BANDS if self.audio else -(-self.units // self.units_per_channel)


@dataclass
class QuantiseConfig:
    """Roundings of weights and delays in training, through which gradients pass unchanged.

    A run with rounded weights is tested as the integer network that is deployed.
    """

    weights: str = option(
        "float32",
        "what weights are rounded to: integers of so many bits, or -1, 0 and 1, times a step of"
        " each neuron; float32: not rounded",
        choices=WEIGHTS,
        synonyms=WEIGHT_WORDS,
    )
    delays: int | None = option(
        None,
        "number of values that delays may have, spread evenly over 0 to taps-1; null: not rounded",
        at_least=2,
        at_most=MOST,
    )


@dataclass
class ModelConfig:
    """Layers of delayed linear -> BatchNorm -> neuron -> dropout -> (filter), and a readout."""

    hidden: list[int] = option([256, 256], "neurons of each hidden layer", at_least=1, at_most=MOST)
    delays: str = option(
        "learned",
        "learned: trained; fixed: drawn at random, rounded and not trained; none: linear maps"
        " without delays; dense: a weight at every delay, an ordinary temporal convolution",
        choices=("learned", "fixed", "none", "dense"),
        synonyms={
            **dict.fromkeys(("trained", "trainable", "train", "true", "yes", "on"), "learned"),
            **dict.fromkeys(("random", "frozen", "constant"), "fixed"),
            **dict.fromkeys(("no", "off", "false", "without", "zero"), "none"),
            **dict.fromkeys(("conv", "convolution", "temporal"), "dense"),
        },
    )
    delay_type: str = option(
        "synaptic",
        "whose the delays are; synaptic: each synapse's; axonal: one for every input of a layer;"
        " dendritic: one for every neuron of a layer",
        choices=("synaptic", "axonal", "dendritic"),
        synonyms={
            **dict.fromkeys(("synapse", "synapses", "full"), "synaptic"),
            **dict.fromkeys(("axon", "axons", "input", "inputs"), "axonal"),
            **dict.fromkeys(("dendrite", "dendrites", "neuron", "output"), "dendritic"),
        },
    )
    taps: int = option(
        25, "number D of delay taps, odd; delays lie in 0 to D-1 steps", at_least=1, at_most=MOST
    )
    kernel_count: int = option(
        1, "number of delayed copies of each synapse", at_least=1, at_most=MOST
    )
    delay_kernel: str = option(
        "gauss",
        "shape of the taps around a learned delay in training: gauss, or triangle (DCLS's max)",
        choices=tuple(SIGMA_OFFSETS),
        own="a function of a tensor u, the distance of a tap from the delay in widths, that returns"
        " the tap's size before all are divided by their sum; offset as gauss",
        synonyms={"normal": "gauss", "max": "triangle", "linear": "triangle"},
    )
    delay_init: str = option(
        "uniform",
        "uniform: over the range; uniform_clamped: as in the paper's code, where a share of 1/D"
        " starts at the largest delay",
        choices=("uniform", "uniform_clamped"),
    )
    extra_steps: int | None = option(
        None,
        "number of steps by which each layer lengthens the sequence; null: (taps-1)//2",
        at_least=0,
        at_most=MOST,
    )
    density: float = option(
        1.0, "share of synapses that exist, chosen by a fixed random mask", above=0, at_most=1
    )
    bias: bool = option(False, "use a bias in every linear map")
    batch_norm: bool = option(True, "use BatchNorm over time and batch before the hidden neurons")
    neuron: str = option(
        "lif",
        "plif: a LIF neuron that learns tau; adlif, cadlif, silif, se_adlif: adaptive neurons that"
        " learn time constants and adaptation of their own; each presets the four options below",
        choices=tuple(NEURONS),
        own="a torch module from input [T, B, N] to spikes [T, B, N], whose __init__ may take"
        " neurons, tau (steps), v_threshold, surrogate_alpha, surrogate_function and step_ms",
    )
    reset: str = option(
        "auto",
        "what a spike does to the membrane; hard: sets it to 0; soft: takes the threshold off;"
        " auto: the neuron's own, hard for lif and plif",
        choices=("auto", "hard", "soft"),
    )
    detach_reset: bool | None = option(
        None,
        "pass no gradient through the reset; null: the neuron's own, true for lif and plif",
    )
    surrogate: str = option(
        "auto",
        "what stands for the derivative of a spike; auto: the neuron's own, atan for lif and plif",
        choices=("auto", *SURROGATES),
    )
    tau_scope: str = option(
        "auto",
        "learn a time constant for each layer, or for each neuron; auto: the neuron's own, layer"
        " for plif",
        choices=("auto", "layer", "neuron"),
    )
    tau_ms: float = option(
        10.05,
        "membrane time constant, ms, longer than a step; plif: its initial value; adaptive neurons"
        " have their own",
        above=0,
        at_most=LARGEST,
    )
    v_threshold: float = option(
        1.0, "firing threshold of the hidden neurons", above=0, at_most=LARGEST
    )
    surrogate_alpha: float = option(
        5.0,
        "steepness of the surrogate gradients atan and exponential",
        above=0,
        at_most=LARGEST,
    )
    dropout: float = option(0.4, "share of hidden neurons silenced per sample", at_least=0, below=1)
    dropout_place: str = option(
        "after",
        "what dropout silences; after: the neurons' spikes; before: their feedforward current",
        choices=("after", "before"),
    )
    filter_tau_ms: float | None = option(
        None,
        "time constant of the hidden layers' synaptic filter, ms; null: no filter",
        above=0,
        at_most=LARGEST,
    )
    filter_learnable: bool = option(False, "learn the synaptic filter's time constant")
    recurrent: str = option(
        "none",
        "connections of a layer's neurons with each other, a delay for each neuron's spikes;"
        " undelayed: a spike arrives in the next step; fixed: delays are drawn at random, rounded"
        " and not trained; learned: trained",
        choices=("none", "undelayed", "fixed", "learned"),
    )
    recurrent_layers: str = option(
        "all", "hidden layers that are recurrent: all, or the last alone", choices=("all", "last")
    )
    recurrent_dropout: float = option(
        0.0, "share of neurons without recurrent current per sample", at_least=0, below=1
    )
    recurrent_delay_init: str = option(
        "half_normal",
        "draw of recurrent delays, from recurrent_delay_low up; half_normal: with"
        " recurrent_delay_spread as standard deviation; uniform: over an interval of this length",
        choices=("half_normal", "uniform"),
    )
    recurrent_delay_low: float = option(
        0.0, "smallest recurrent delay that is drawn, steps", at_least=0, at_most=MOST
    )
    recurrent_delay_spread: float = option(
        12.0, "spread of the recurrent delays that are drawn, steps", at_least=0, at_most=MOST
    )
    recurrent_width_scope: str = option(
        "layer",
        "layer: learned recurrent delays have taps of one width; neuron: each learns a share of"
        " twice this width",
        choices=("layer", "neuron"),
    )
    readout: str = option(
        "sum",
        "class scores; sum: of softmax(membrane) over time; mean, max, last: of the membrane;"
        " spike_count: number of output spikes; linear_sum: sum of the linear map over time",
        choices=("sum", "mean", "max", "last", "spike_count", "linear_sum"),
        own="a function, or a torch module made with classes if it takes that, from membranes"
        " [T, B, K] to scores [B, K]",
        synonyms={
            **dict.fromkeys(("softmax", "softmax_sum"), "sum"),
            **dict.fromkeys(("average", "avg"), "mean"),
            **dict.fromkeys(("peak",), "max"),
            **dict.fromkeys(("final", "last_step"), "last"),
            **dict.fromkeys(("spikes", "count", "rate", "firing_rate"), "spike_count"),
        },
    )
    readout_threshold: float = option(
        2.0, "firing threshold of readout=spike_count", above=0, at_most=LARGEST
    )
    quantise: QuantiseConfig = option(QuantiseConfig, "rounding of weights and delays in training")

    @property
    def layer_taps(self) -> int:
        """Taps of every layer; 1 without delays."""
        return 1 if self.delays == "none" else self.taps

    @property
    def layer_kernel_count(self) -> int:
        """Delayed copies per synapse; 1 without delays, D for a dense convolution."""
        return {"none": 1, "dense": self.taps}.get(self.delays, self.kernel_count)

    @property
    def layer_extra_steps(self) -> int:
        """Steps by which every layer lengthens the sequence; 0 without delays."""
        if self.delays == "none":
            return 0
        return (self.taps - 1) // 2 if self.extra_steps is None else self.extra_steps


@dataclass
class TrainConfig:
    """Options of the optimisation, its schedules, and the choice of the tested epoch."""

    protocol: str = option(
        "validation",
        "validation: test the best epoch on held-out data; refit: then train again on all training"
        " data for as many epochs; last: train on all training data, test the last epoch; paper: as"
        " its authors, test the best epoch on the test set",
        choices=("validation", "refit", "last", "paper"),
        synonyms={
            "test": "paper",
            "best": "validation",
            "final": "last",
            "none": "last",
            "retrain": "refit",
        },
    )
    init: str | None = option(
        None,
        "folder of a finished run, or a checkpoint, whose weights, delays and BatchNorm statistics"
        " training starts from; null: they are drawn",
        path=True,
    )
    init_parts: str = option(
        "all",
        "what training takes from train.init; delays: delays alone, and everything else is drawn;"
        " permuted_delays: delays alone, permuted among the inputs of each neuron",
        choices=("all", "delays", "permuted_delays"),
        synonyms={
            **dict.fromkeys(("delay", "d", "transplant"), "delays"),
            **dict.fromkeys(("permuted", "shuffled", "shuffled_delays"), "permuted_delays"),
        },
    )
    epochs: int = option(150, "passes over the training data", at_least=1, at_most=MOST)
    batch_size: int = option(
        256, "samples per training step, over all ranks", at_least=1, at_most=MOST
    )
    loss: str = option(
        "cross_entropy",
        "what training minimises; mse: the squared error with data.target=per_step, averaged over"
        " the steps of each sample",
        choices=("cross_entropy", "mse"),
        own="a function of (scores [B, K], target), or of (scores, target, network), that returns"
        " the mean over the samples; target: classes [B], with data.augment.cutmix probabilities"
        " [B, K]; with data.target=per_step of (outputs [S, B, K], target [T, B, K]), S at least T,"
        " NaN where there is no target",
    )
    running_loss: float = option(
        0.0,
        "share of the loss that is the mean of the running scores' losses over all steps, for an"
        " early answer; the rest is the loss of the scores at the end",
        at_least=0,
        at_most=1,
    )
    lr_weight: float = option(
        5e-3, "peak learning rate of weights and BatchNorm", above=0, at_most=LARGEST
    )
    lr_delay: float = option(
        0.1, "initial learning rate of delays, steps per update", above=0, at_most=LARGEST
    )
    weight_decay: float = option(
        1e-5,
        "coupled L2 on weights and on the time constants of plif and of filters",
        at_least=0,
        at_most=LARGEST,
    )
    weight_schedule: str = option(
        "one_cycle",
        "schedule of lr_weight over epochs",
        choices=("one_cycle", "constant"),
        synonyms=STEADY,
    )
    delay_schedule: str = option(
        "cosine",
        "schedule of lr_delay over epochs",
        choices=("cosine", "one_cycle", "constant"),
        synonyms=STEADY,
    )
    sigma_schedule: str = option(
        "exponential",
        "width of the taps; exponential: from sigma_start to sigma_end; constant: sigma_end",
        choices=("exponential", "constant"),
        synonyms=STEADY,
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
        "number of epochs until sigma_end; null: epochs//4; 0: sigma stays at sigma_start",
        at_least=0,
        at_most=MOST,
    )
    delay_gradient: str = option(
        "smooth",
        "how learned delays act in training; smooth: through taps of width sigma; straight_through:"
        " through one tap, as deployed, but their gradient is that of taps of width sigma",
        choices=("smooth", "straight_through"),
        synonyms=dict.fromkeys(("ste", "rounded", "round"), "straight_through"),
    )
    round_epochs: float = option(
        0.0,
        "share of the epochs, the last ones, in which learned delays are rounded and frozen while"
        " weights and BatchNorm train on",
        at_least=0,
        at_most=1,
    )
    freeze: str = option(
        "none",
        "what is not trained; weights: everything that lr_weight trains, BatchNorm's scale and"
        " shift included; delays: everything that lr_delay trains",
        choices=("none", "weights", "delays"),
        synonyms={
            **dict.fromkeys(("no", "off", "false"), "none"),
            **dict.fromkeys(("weight", "w"), "weights"),
            **dict.fromkeys(("delay", "d"), "delays"),
        },
    )
    delay_noise: float = option(
        0.0,
        "standard deviation of the noise on every learned delay in training, steps, drawn anew for"
        " each batch",
        at_least=0,
        at_most=MOST,
    )
    rate_penalty: float = option(
        0.0,
        "factor of the penalty on firing rates r (spikes per step) that is added to the loss: the"
        " mean of max(0, r - rate_limit)^2 over hidden neurons and samples",
        at_least=0,
        at_most=LARGEST,
    )
    rate_limit: float = option(
        0.0,
        "firing rate up to which rate_penalty takes nothing, spikes per step",
        at_least=0,
        below=1,
    )
    delay_penalty: float = option(
        0.0,
        "factor of the penalty on delay length that is added to the loss: the mean of all learned"
        " delays, steps",
        at_least=0,
        at_most=LARGEST,
    )
    buffer_budget: int | None = option(
        None,
        "largest size of the deployed network's delay buffer, in steps summed over the inputs of"
        " all layers; synapses are pruned to it when round_epochs begin; null: none are pruned",
        at_least=1,
        at_most=MOST,
    )
    recurrent_sigma_start: float = option(
        10.0, "initial width of recurrent delays' taps, steps", above=0, at_most=MOST
    )
    recurrent_sigma_decay: float = option(
        0.95,
        "factor of this width after every hundredth of the epochs; 1: it stays",
        above=0,
        at_most=1,
    )
    test: bool = option(
        True, "evaluate the test set at the end; false: do not read it, as in a search"
    )
    checkpoint_minutes: float = option(
        10.0, "minutes between checkpoints within an epoch", above=0, at_most=LARGEST
    )
    nonfinite: str = option(
        "stop",
        "if a loss or gradient is infinite or NaN; stop: end the run; skip: skip the batch",
        choices=("stop", "skip"),
        synonyms={
            **dict.fromkeys(("raise", "error", "fail", "abort"), "stop"),
            **dict.fromkeys(("ignore", "continue", "drop"), "skip"),
        },
    )
    deterministic: bool = option(False, "refuse torch's nondeterministic algorithms (GPU; slower)")


@dataclass
class TrackingConfig:
    """Options of the tracker, which gets the metrics in addition to metrics.jsonl."""

    name: str = option(
        "none",
        "tracker",
        choices=("none", "wandb", "tensorboard"),
        synonyms={
            **dict.fromkeys(("no", "off", "false"), "none"),
            **dict.fromkeys(("tb", "tensorboardx"), "tensorboard"),
            **dict.fromkeys(("w&b", "wb", "weights_and_biases"), "wandb"),
        },
    )
    project: str = option("snn_delays", "wandb project")
    entity: str | None = option(None, "wandb team or user; null: the account's own")


@dataclass
class Config:
    """All options of a training run."""

    name: str = option("run", "name of the run, used in the default of out")
    out: str | None = option(
        None, "folder to write; null: runs/<name>/<date>-<time>-s<seed>", path="folder"
    )
    resume: str = option(
        "never",
        "auto: resume the run in out, if there is one; its options must be the same; last: resume"
        " the newest unfinished run with these options in runs/",
        choices=("never", "auto", "last"),
        synonyms={
            **dict.fromkeys(("no", "off", "false"), "never"),
            **dict.fromkeys(("yes", "on", "true", "always"), "auto"),
        },
    )
    seed: int = option(
        0, "seed of initial values, order of the data and dropout", at_least=0, at_most=LARGEST_SEED
    )
    device: str = option(
        "auto",
        "auto: the GPU, if there is one",
        choices=("auto", "cpu", "cuda"),
        synonyms=DEVICE_WORDS,
    )
    backend: str = option(
        "auto",
        "computation of the delayed linear map, which affects speed alone; auto: chosen by sizes,"
        " on a GPU by timing; numba: with fused blocks (CPU); matmul: spectra by matrix products"
        " (GPU)",
        choices=BACKENDS,
    )
    precision: str = option(
        "float32",
        "number format; tf32: float32 with matrix products on a GPU's tensor cores; mixed: float32"
        " with training's matrix products in bfloat16",
        choices=("float32", "float64", "tf32", "mixed"),
        synonyms={
            **dict.fromkeys(("bf16", "bfloat16", "fp16", "float16", "half", "amp", "16"), "mixed"),
            **dict.fromkeys(("fp32", "single", "full", "32"), "float32"),
            **dict.fromkeys(("fp64", "double", "64"), "float64"),
        },
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
        return SIG_END + sigma_offset(self.model.delay_kernel) if given is None else given

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
        """How the tested epoch is chosen, in the words that appear beside its numbers."""
        return {
            "validation": "selected on validation data",
            "refit": "epochs selected on validation data",
            "last": "last epoch, not selected",
            "paper": "test-selected",
        }[self.train.protocol]


def sigma_offset(delay_kernel: str) -> float:
    """The offset in steps between DCLS's SIG and the width of this kernel."""
    return SIGMA_OFFSETS.get(delay_kernel, OWN_OFFSET)


# Options of the data that are paths.
PATHS = tuple(f.name for f in dataclasses.fields(DataConfig) if f.metadata["path"])
# Options that affect a run's files and speed, but not its result.
_NOT_SHAPING = (
    "name", "out", "resume", "device", "backend", "tracking", "train.checkpoint_minutes",
    *(f"data.{path}" for path in PATHS),
)  # fmt: skip


# Options that shape the result; "auto" or null stands for a value that follows from other options.
DERIVED = ("data.frame_arithmetic", "model.extra_steps", "train.sigma_end")


def with_derived(config: Config) -> Config:
    """The configuration with the values of the options ``DERIVED``."""
    data = dataclasses.replace(config.data, frame_arithmetic=config.frame_arithmetic)
    model = dataclasses.replace(config.model, extra_steps=config.model.layer_extra_steps)
    train = dataclasses.replace(config.train, sigma_end=config.sigma_end)
    return dataclasses.replace(config, data=data, model=model, train=train)


def result_options(config: Config) -> dict[str, Any]:
    """All options that affect the result, nested; without paths, since the data have a hash."""
    values = dataclasses.asdict(config)
    for name in _NOT_SHAPING:
        group, _, key = name.rpartition(".")
        (values[group] if group else values).pop(key)
    return values


def shapes_result(name: str) -> bool:
    """Whether the option or group of this dotted name affects a run's result."""
    return not any(name == free or name.startswith(f"{free}.") for free in _NOT_SHAPING)


def config_hash(config: Config) -> str:
    """First 12 hex digits of the SHA-256 of all options that affect the result."""
    values = result_options(config)
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:12]
