"""Rules between options, beyond the type and bounds of a single option."""

from __future__ import annotations

from typing import Any

from snn_delays.config.datasets import DATASETS, FILES, HELD_OUT, kind_of
from snn_delays.config.neurons import NEURONS, STEEP, NeuronKind
from snn_delays.config.options import check_types, check_values, is_own
from snn_delays.config.schema import Config, DataConfig, ModelConfig, TrainConfig, sigma_offset
from snn_delays.errors import UserError

OF_LEARNED_DELAYS = (  # options of train that have no use where no delay is learned
    "delay_gradient", "round_epochs", "freeze", "delay_noise", "delay_penalty", "buffer_budget",
    "init_parts",
)  # fmt: skip

# Augmentations after which the targets of the steps would no longer be right.
MOVE_TARGETS = ("time_shift", "blend", "cutmix")


def validate(config: Any) -> None:
    """Check choices, bounds and the rules between options.

    Raises:
        UserError: names the option, its value and what is allowed.
    """
    check_types(config)
    check_values(config)
    if isinstance(config, Config):
        _check_rules(config)


def _check_rules(config: Config) -> None:
    if config.resume == "auto" and config.out is None:
        raise UserError("resume=auto needs out=<folder of the run>.")
    if config.resume == "last" and config.out is not None:
        raise UserError(
            "resume=last finds the folder of the run itself; leave out=... away, or give"
            " resume=auto."
        )
    train = config.train
    if train.protocol == "paper" and not train.test:
        raise UserError(
            "train.test=false has no use with train.protocol=paper, which selects on it."
        )
    _check_network(config)
    _check_delay_training(config)
    _check_switches(config.model, train)
    _check_data_rules(config.data)
    _check_target(config)


def _check_network(config: Config) -> None:
    model = config.model
    if not model.hidden:
        raise UserError(f"model.hidden={model.hidden} must list at least one layer of neurons.")
    if model.taps % 2 == 0:
        raise UserError(f"model.taps={model.taps} must be odd; use {model.taps + 1}.")
    if model.delays == "dense" and model.kernel_count != 1:
        raise UserError(
            f"model.kernel_count={model.kernel_count} has no use with model.delays=dense, whose"
            " every synapse has a weight at every delay."
        )
    if model.delays == "dense" and model.delay_type != "synaptic":
        raise UserError(
            f"model.delay_type={model.delay_type} has no use with model.delays=dense, whose every"
            " synapse has a weight at every delay."
        )
    kind = _check_neuron(model)
    if not (kind.adaptive or 1 < config.tau < float("inf")):
        raise UserError(
            f"model.tau_ms={model.tau_ms:g} must be longer than one time step"
            f" (data.step_ms={config.data.step_ms:g})."
        )
    if config.filter_tau is not None and config.filter_tau <= 1:
        raise UserError(
            f"model.filter_tau_ms={model.filter_tau_ms:g} must be longer than one time step"
            f" (data.step_ms={config.data.step_ms:g})."
        )
    if model.recurrent != "none" and is_own(model.neuron):
        raise UserError(
            f"model.recurrent={model.recurrent} needs one of this package's neurons:"
            f" {', '.join(NEURONS)}."
        )
    if model.recurrent == "none" and model.recurrent_dropout:
        raise UserError(
            f"model.recurrent_dropout={model.recurrent_dropout:g} has no use with"
            " model.recurrent=none."
        )
    if model.recurrent != "learned" and model.recurrent_width_scope == "neuron":
        raise UserError("model.recurrent_width_scope=neuron needs model.recurrent=learned.")
    if model.filter_learnable and model.filter_tau_ms is None:
        raise UserError("model.filter_learnable=true needs model.filter_tau_ms.")
    values = model.quantise.delays
    if values is not None and model.delays in ("none", "dense"):
        raise UserError(
            f"model.quantise.delays={values} has no use with model.delays={model.delays}."
        )
    if values is not None and values > model.taps:
        raise UserError(
            f"model.quantise.delays={values} must be at most model.taps={model.taps}, the number of"
            " values that delays have."
        )


def _check_delay_training(config: Config) -> None:
    model, train = config.model, config.train
    for key in OF_LEARNED_DELAYS:
        value = getattr(train, key)
        if value != getattr(TrainConfig, key) and "learned" not in (model.delays, model.recurrent):
            raise UserError(
                f"train.{key}={value} has no use with model.delays={model.delays} and"
                f" model.recurrent={model.recurrent}: no delay is learned."
            )
    for key in ("sigma_start", "sigma_end"):
        width, offset = getattr(train, key), sigma_offset(model.delay_kernel)
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


def _check_switches(model: ModelConfig, train: TrainConfig) -> None:
    """Refuse switches for research that exclude each other, or leave nothing to train."""
    if train.freeze == "weights" and train.round_epochs:
        raise UserError(
            f"train.freeze=weights leaves nothing to train in the epochs of"
            f" train.round_epochs={train.round_epochs:g}, which freeze the delays, too."
        )
    if train.freeze == "delays" and train.delay_penalty:
        raise UserError(
            f"train.delay_penalty={train.delay_penalty:g} has no use with train.freeze=delays."
        )
    if train.init_parts != "all":
        _check_init_parts(model, train)
    if train.rate_limit and not train.rate_penalty:
        raise UserError(f"train.rate_limit={train.rate_limit:g} needs train.rate_penalty.")
    if train.buffer_budget is not None:
        _check_budget(model, train, train.buffer_budget)


def _check_init_parts(model: ModelConfig, train: TrainConfig) -> None:
    option = f"train.init_parts={train.init_parts}"
    if train.init is None:
        raise UserError(f"{option} needs train.init=<folder of a finished run>.")
    if model.density < 1 or train.buffer_budget is not None:
        raise UserError(
            f"{option} needs a network of all synapses, without model.density and"
            " train.buffer_budget: delays of missing synapses were not learned."
        )
    if train.init_parts == "permuted_delays" and model.delay_type == "dendritic":
        raise UserError(
            f"{option} has no use with model.delay_type=dendritic, where all inputs of a neuron"
            " have one delay."
        )


def _check_budget(model: ModelConfig, train: TrainConfig, budget: int) -> None:
    option, layers = f"train.buffer_budget={budget}", len(model.hidden) + 1
    if model.delays != "learned" or model.recurrent != "none":
        raise UserError(
            f"{option} prunes feedforward synapses of learned delays alone: it needs"
            " model.delays=learned and model.recurrent=none."
        )
    if not round(train.round_epochs * train.epochs):
        raise UserError(
            f"{option} needs a train.round_epochs of at least one of train.epochs={train.epochs}:"
            " synapses are pruned when these last epochs begin."
        )
    if budget < layers:
        raise UserError(f"{option} must be at least {layers}, a step for each layer.")


def _check_neuron(model: ModelConfig) -> NeuronKind:
    """Refuse options that the neuron does not use; returns the facts about it."""
    kind = NEURONS.get(model.neuron, NeuronKind())
    if model.tau_scope != "auto" and kind.tau_scope is None:
        raise UserError(
            f"model.tau_scope={model.tau_scope} has no use with model.neuron={model.neuron}, which"
            " learns no time constant by this option."
        )
    for key in ("reset", "detach_reset", "surrogate"):
        value = getattr(model, key)
        if is_own(model.neuron) and value not in ("auto", None):
            raise UserError(f"model.{key}={value} has no use with model.neuron={model.neuron}.")
    surrogate = kind.chosen(surrogate=model.surrogate).surrogate
    if model.surrogate_alpha != ModelConfig.surrogate_alpha and surrogate not in STEEP:
        raise UserError(
            f"model.surrogate_alpha={model.surrogate_alpha:g} has no use with the surrogate"
            f" {surrogate}, which has one steepness."
        )
    return kind


def _check_data_rules(data: DataConfig) -> None:
    official = data.valid_file is not None or bool(kind_of(data.name).validation)
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
    series = data.mackey_glass
    if series.washout >= series.steps:
        raise UserError(
            f"data.mackey_glass.washout={series.washout} must be below"
            f" data.mackey_glass.steps={series.steps}, or no step has a target."
        )


def _check_target(config: Config) -> None:
    """Refuse a target that the data set lacks, and options that do not fit the target."""
    data, train = config.data, config.train
    if data.target not in kind_of(data.name).targets:
        raise UserError(f"data={data.name} needs data.target={kind_of(data.name).targets[0]}.")
    if data.target == "class":
        if train.loss == "mse":
            raise UserError("train.loss=mse needs data.target=per_step.")
        return
    fits = {
        "model.readout=last": config.model.readout == "last",
        "train.loss=mse": train.loss == "mse" or is_own(train.loss),
        "train.running_loss=0": not train.running_loss,
        "train.protocol=validation, refit or last": train.protocol != "paper",
        "model.quantise.weights=float32": config.model.quantise.weights == "float32",
        **{f"data.augment.{key}=0": not getattr(data.augment, key) for key in MOVE_TARGETS},
    }
    needed = [option for option, fit in fits.items() if not fit]
    if needed:
        raise UserError(f"data.target=per_step needs {' and '.join(needed)}.")


def _check_files(data: DataConfig) -> None:
    """Refuse options that a data set does not use, and require those that it needs."""
    kind = kind_of(data.name)
    if any(getattr(data, key) is not None and key not in kind.takes for key in FILES):
        raise UserError(
            f"data={data.name} brings its own files; use data=spikes with data.train_file,"
            " data.valid_file and data.test_file."
        )
    for key, needed in kind.needs.items():
        if getattr(data, key) is None:
            raise UserError(f"data={data.name} needs data.{key}=<{needed}>.")
    for key in ("folder", "test_list", "valid_list", "speaker_pattern", "channel", *HELD_OUT):
        useless = key not in kind.takes or (key in HELD_OUT and data.test_file is not None)
        if getattr(data, key) is not None and useless:
            beside = " and a test file" if data.test_file else ""
            raise UserError(f"data.{key} has no use with data={data.name}{beside}.")
    if data.time_unit != "auto" and "time_unit" not in kind.takes:
        raise UserError(f"data.time_unit={data.time_unit} has no use with data={data.name}.")
    if data.test_fold is not None and data.test_speakers is not None:
        raise UserError("data.test_fold and data.test_speakers exclude each other.")


def _check_augmentation(data: DataConfig) -> None:
    unfit = ("spike_drop", "noise_spikes", "blend") if data.audio else ("roll_ms", "speed")
    names = " or ".join(f"data={name}" for name, kind in DATASETS.items() if kind.audio)
    needs = "counts of spikes" if data.audio else f"audio ({names})"
    for key in unfit:
        if getattr(data.augment, key):
            raise UserError(f"data.augment.{key} needs {needs}; leave it at 0.")
