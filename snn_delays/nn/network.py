"""The network: blocks of delayed linear -> BatchNorm -> neuron -> dropout, and a readout."""

from __future__ import annotations

import contextlib
import itertools
import math
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from spikingjelly.activation_based import layer
from torch import Tensor, nn

from snn_delays.config import Config
from snn_delays.config.options import is_own
from snn_delays.errors import UserError
from snn_delays.nn.block import Block, How
from snn_delays.nn.delayed_linear import DelayedLinear
from snn_delays.nn.delays import HasDelays
from snn_delays.nn.neurons import WEIGHT_DRAWS, LearnedNode, build_neuron
from snn_delays.nn.own_parts import own_neuron
from snn_delays.nn.plan import plan_layers
from snn_delays.nn.readout import Readout
from snn_delays.nn.recurrence import Recurrence
from snn_delays.nn.rounding import LEVELS, Rounding
from snn_delays.nn.state import detach, reset, stateful
from snn_delays.nn.sync import BatchNorm1d, Dropout
from snn_delays.ops.maps import BACKENDS, check_backend
from snn_delays.ops.maps.timing import fastest_backend
from snn_delays.runtime.distributed import whole_batch
from snn_delays.runtime.tracing import watcher


class Network(nn.Module):
    """A feedforward spiking network with delays. Shape: [T, B, I] -> class scores [B, K].

    Every call starts from silence: state is reset first, so none leaks from batch to batch, and
    what the neurons hold afterwards can be looked at; no gradient passes through it.

    Threads may share a network: its calls run one after another. Copies run at the same time.

    Attributes:
        plan: how each layer computed the last pass, the readout last; empty before the first one.
    """

    def __init__(self, blocks: list[Block], readout: Readout) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.readout = readout
        self.plan: list[How] = []
        self._lock = threading.RLock()

    def __getstate__(self) -> dict[str, Any]:
        """All but the lock, which can be neither copied nor saved."""
        return {name: value for name, value in self.__dict__.items() if name != "_lock"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """The state, and a lock of its own."""
        super().__setstate__(state)
        self._lock = threading.RLock()

    def forward(self, x: Tensor, *, running: bool = False) -> Tensor:
        """[T, B, I] -> [B, K].

        Args:
            x: the input.
            running: return the scores after each of the S steps of the readout instead,
                [S, B, K]; the last are those of the whole input.

        Raises:
            ValueError: an input of another shape or precision, or without steps; in training, one
                without samples or with too few numbers for BatchNorm.
        """
        self._check_input(x)
        # torch.compile knows no locks
        with contextlib.nullcontext() if torch.compiler.is_compiling() else self._lock:
            parts = stateful(self)
            reset(parts)
            scores = self._scores(x, running)
            if watcher():
                reset(parts)  # or they would hold on to tensors of a trace
            elif torch.is_grad_enabled():
                detach(parts)
        return scores

    def _scores(self, x: Tensor, running: bool) -> Tensor:
        plan = self.plan_for(x)
        if not watcher():
            self.plan = plan
        for block, how in zip(self.blocks, plan[:-1], strict=True):
            # a foreign block takes x alone
            x = block(x) if how.path == "modules" else block(x, how=how)
        return self.readout(x, running=True) if running else self.readout(x)

    def _check_input(self, x: Tensor) -> None:
        first, shape = self._first_delayed(), list(x.shape)
        channels = "I" if first is None else first.weight.shape[1]
        if len(shape) != 3 or (first is not None and shape[2] != channels):
            raise ValueError(
                f"x {shape} must be [T, B, {channels}]: time steps, samples, input channels."
            )
        steps, samples = shape[0], whole_batch(shape[1])
        if steps < 1:
            raise ValueError(f"x {shape} has no time steps.")
        if not self.training:
            return
        if samples < 1:
            raise ValueError(f"x {shape} has no samples to train on.")
        if first is None:  # nobody knows how many steps it makes
            return
        if samples * (steps + first.extra_steps) < 2 and _normalises(self):
            raise UserError(
                f"A batch {shape} of one sample of one step cannot train, since BatchNorm needs two"
                " numbers of a channel: change train.batch_size, or leave the sample out."
            )

    def _first_delayed(self) -> DelayedLinear | None:
        """The delayed linear layer that takes the network's input; None where a foreign part does.

        A part of a derived class is foreign, too.
        """
        layer = next(iter([*self.blocks, self.readout]))
        linear = layer.linear if type(layer) in (Block, Readout) else None
        return linear if type(linear) is DelayedLinear else None

    def delayed_layers(self) -> Iterator[DelayedLinear]:
        """The delayed linear layers from input to output, the readout's last."""
        return (module for module in self.modules() if isinstance(module, DelayedLinear))

    def recurrences(self) -> Iterator[Recurrence]:
        """The recurrent connections of the layers that have them, from input to output."""
        return (module for module in self.modules() if isinstance(module, Recurrence))

    @property
    def buffer_steps(self) -> int:
        """Rows of the deployed delays' ring buffers, summed over the inputs of all layers.

        A neuron with recurrent connections is an input of its layer, too. See
        ``HasDelays.buffer_steps``.
        """
        parts: list[HasDelays] = [*self.delayed_layers(), *self.recurrences()]
        return sum(int(part.buffer_steps.sum()) for part in parts)

    @property
    def delay_buffer_bytes(self) -> int:
        """Memory that the deployed delays need: a byte for each of ``buffer_steps``.

        The byte holds a spike, or the spikes of an input's bin.
        """
        return self.buffer_steps

    def set_sigma(self, sigma: float) -> None:
        """Set the width of the feedforward delays' taps, in steps, in every layer."""
        for linear in self.delayed_layers():
            linear.sigma = sigma

    def set_recurrent_sigma(self, sigma: float) -> None:
        """Set the width of the recurrent delays' taps, in steps, in every layer that has them."""
        for recurrence in self.recurrences():
            recurrence.sigma = sigma

    @property
    def frozen(self) -> bool:
        """Whether learned delays are rounded and stay where they are."""
        return any(part.frozen for part in (*self.delayed_layers(), *self.recurrences()))

    def freeze_delays(self) -> None:
        """Round learned delays and keep them, in every layer, while all else may train on."""
        for linear in self.delayed_layers():
            linear.freeze_delays()
        for recurrence in self.recurrences():
            recurrence.freeze_delays()

    def set_backend(self, backend: str) -> None:
        """Set the implementation of the delayed linear map in every layer: speed, nothing else.

        Raises:
            ValueError: no such implementation.
        """
        check_backend(backend)
        for linear in self.delayed_layers():
            linear.backend = backend

    def set_backends(self, names: Sequence[str]) -> None:
        """Set that of every delayed layer, from input to output."""
        for linear, name in zip(self.delayed_layers(), names, strict=True):
            check_backend(name)
            linear.backend = name

    def fastest_backends(self, x: Tensor) -> list[str]:
        """For every delayed layer, the backend that trains soonest on inputs such as ``x`` here.

        Of ``x`` [T, B, I] the shape counts; see ``ops.maps.timing``.
        """
        names, steps = [], x.shape[0]
        for number, m in enumerate(self.delayed_layers()):
            part = x.new_ones(steps, x.shape[1], m.weight.shape[1], requires_grad=number > 0)
            names.append(fastest_backend(part, m.synapses(), m.extra_steps))
            steps += m.extra_steps
        return names

    def why_not(self, backend: str, x: Tensor) -> str | None:
        """Why a backend cannot serve this network, in its mode, for such an input; or None."""
        if backend == "auto":
            return None
        problems = (linear.problem(x, x.shape[0]) for linear in self.delayed_layers())
        reasons = (BACKENDS[backend].why_not(problem) for problem in problems)
        return next((reason for reason in reasons if reason), None)

    def plan_for(self, x: Tensor) -> list[How]:
        """How each layer would compute such an input [T, B, I] in its present mode."""
        return plan_layers(self.blocks, self.readout, x)

    def constrain(self) -> None:
        """Bring every layer's parameters into their bounds, as its next training pass would."""
        for module in self.modules():
            if isinstance(module, DelayedLinear | LearnedNode | Recurrence):
                module.constrain()


def _normalises(network: nn.Module) -> bool:
    return any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in network.modules())


def build_network(config: Config, classes: int) -> Network:
    """The network that ``config`` describes, drawn from torch's global random state.

    Args:
        config: validated configuration.
        classes: number of classes K.
    """
    model = config.model
    sizes = [config.data.channels, *model.hidden]
    blocks = [
        _build_block(config, inputs, outputs, last=number == len(model.hidden))
        for number, (inputs, outputs) in enumerate(itertools.pairwise(sizes), 1)
    ]
    counts_spikes = model.readout == "spike_count"
    threshold = model.readout_threshold if counts_spikes else math.inf
    node = _build_neuron(config, classes, threshold, store_membrane=not counts_spikes)
    if model.readout == "linear_sum":
        node = build_neuron(
            "lif", tau=math.inf, v_threshold=math.inf, surrogate_alpha=1.0, store_membrane=True
        )
    linear = _build_linear(config, sizes[-1], classes, fires=counts_spikes)
    return Network(blocks, Readout(linear, node, model.readout))


def weight_shapes(config: Config, classes: int) -> dict[str, tuple[int, int, int]]:
    """Name and shape of each delayed layer's weight in what ``build_network`` builds, unbuilt."""
    sizes = [config.data.channels, *config.model.hidden, classes]
    names = [*(f"blocks.{n}" for n in range(len(config.model.hidden))), "readout"]
    count = config.model.layer_kernel_count
    return {
        f"{name}.linear.weight": (outputs, inputs, count)
        for name, (inputs, outputs) in zip(names, itertools.pairwise(sizes), strict=True)
    }


def draw_network(config: Config, classes: int) -> Network:
    """The network as training with ``config.seed`` starts from it."""
    torch.manual_seed(config.seed)
    return build_network(config, classes)


def _build_block(config: Config, inputs: int, outputs: int, *, last: bool) -> Block:
    model = config.model
    linear = _build_linear(config, inputs, outputs)
    norm: nn.Module = BatchNorm1d(outputs, step_mode="m") if model.batch_norm else nn.Identity()
    node = _build_neuron(config, outputs, model.v_threshold)
    dropout: nn.Module = nn.Identity()
    if model.dropout:
        dropout = Dropout(model.dropout, step_mode="m")
    if model.dropout_place == "before":
        norm, dropout = nn.Sequential(norm, dropout), nn.Identity()
    filter: nn.Module = nn.Identity()
    if config.filter_tau is not None:
        filter = layer.SynapseFilter(
            tau=config.filter_tau, learnable=model.filter_learnable, step_mode="m"
        )
    recurrent = model.recurrent != "none" and (last or model.recurrent_layers == "all")
    recurrence = _build_recurrence(config, outputs) if recurrent else None
    measured = config.train.rate_penalty > 0
    return Block(linear, norm, node, dropout, filter, recurrence, measured)


def _build_recurrence(config: Config, neurons: int) -> Recurrence:
    model = config.model
    return Recurrence(
        neurons,
        delays=model.recurrent,
        delay_init=model.recurrent_delay_init,
        delay_low=model.recurrent_delay_low,
        delay_spread=model.recurrent_delay_spread,
        delay_gradient=config.train.delay_gradient,
        delay_noise=config.train.delay_noise,
        width_scope=model.recurrent_width_scope,
        dropout=model.recurrent_dropout,
    )


def _build_neuron(
    config: Config, neurons: int, v_threshold: float, *, store_membrane: bool = False
) -> Any:
    """Neurons; where the membrane is stored, those of a readout that never fire.

    A user's own neurons fire. The readout's membrane is then that of LIF neurons.
    """
    model = config.model
    own = is_own(model.neuron)
    if own and not store_membrane:
        return own_neuron(
            model.neuron,
            neurons=neurons,
            tau=config.tau,
            v_threshold=v_threshold,
            surrogate_alpha=model.surrogate_alpha,
            step_ms=config.data.step_ms,
        )
    return build_neuron(
        "lif" if own else model.neuron,
        tau=config.tau,
        v_threshold=v_threshold,
        surrogate_alpha=model.surrogate_alpha,
        store_membrane=store_membrane,
        size=neurons,
        step_ms=config.data.step_ms,
        reset=model.reset,
        detach_reset=model.detach_reset,
        surrogate=model.surrogate,
        tau_scope=model.tau_scope,
    )


def _build_linear(
    config: Config, inputs: int, outputs: int, *, fires: bool = True
) -> DelayedLinear:
    """A linear layer; the neurons behind it fire, or have membranes that are compared."""
    model = config.model
    linear = DelayedLinear(
        inputs,
        outputs,
        taps=model.layer_taps,
        kernel_count=model.layer_kernel_count,
        delays=model.delays,
        delay_type=model.delay_type,
        delay_init=model.delay_init,
        delay_kernel=model.delay_kernel,
        delay_gradient=config.train.delay_gradient,
        delay_noise=config.train.delay_noise,
        extra_steps=model.layer_extra_steps,
        bias=model.bias,
        density=model.density,
        rounding=Rounding(LEVELS[model.quantise.weights], not fires, model.quantise.delays),
        prunable=config.train.buffer_budget is not None,
        backend=config.backend,
    )
    if draw := WEIGHT_DRAWS.get(model.neuron):
        draw(linear.weight)
        linear.constrain()
    return linear


def count_parameters(network: nn.Module) -> int:
    """Trained numbers: weights, learned delays, BatchNorm; synapses that a mask removes are not."""
    removed = 0
    for module in network.modules():
        if isinstance(module, DelayedLinear) and module.mask is not None:
            missing = int((~module.mask).sum()) * module.weight.shape[2]
            removed += missing
            if module.delays == "learned":
                removed += int((~module.delay_exists).sum())
    return sum(p.numel() for p in network.parameters() if p.requires_grad) - removed
