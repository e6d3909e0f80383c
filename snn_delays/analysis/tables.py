"""Delays and weights as pandas tables: synapse by synapse, neuron by neuron, layer by layer.

Shapes: O outputs, I inputs, C kernel count. Delays are in ms, and those of the deployed network,
rounded to whole steps, unless a column says otherwise.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from snn_delays.analysis.trained_run import TrainedRun, recurrences
from snn_delays.nn import DelayedLinear

WINDOW = 0.9  # share of the absolute weight that the effective temporal window holds

Array = NDArray[Any]


def synapses(subject: TrainedRun) -> pd.DataFrame:
    """A row for each synapse that exists.

    Returns:
        Columns layer, output, input, kernel, weight, delay_ms (trained, not rounded),
        deployed_ms, drawn_ms.
    """
    return pd.concat([_synapses(*layer, subject.step_ms) for layer in subject.layers()])


def _synapses(
    name: str, drawn: DelayedLinear, trained: DelayedLinear, step_ms: float
) -> pd.DataFrame:
    exists = array(trained.exists)
    output, source, kernel = np.nonzero(exists)
    delay, before = (_each_delay(linear).astype(float) for linear in (trained, drawn))
    return pd.DataFrame(
        {
            "layer": name,
            "output": output,
            "input": source,
            "kernel": kernel,
            "weight": array(trained.weight)[exists].astype(float),
            "delay_ms": step_ms * delay[exists],
            "deployed_ms": step_ms * delay[exists].round(),
            "drawn_ms": step_ms * before[exists],
        }
    )


def recurrent_delays(subject: TrainedRun) -> pd.DataFrame:
    """A row for each neuron of the recurrent layers, by the time its spikes take to their layer.

    Returns:
        Columns layer, neuron, weight_size (sum of its absolute recurrent weights), delay_ms
        (trained, not rounded), deployed_ms, drawn_ms; the shortest of these times is a step.
    """
    frames, step = [], subject.step_ms
    drawn = recurrences(subject.drawn)
    for name, trained in recurrences(subject.network).items():
        delay, before = (array(part.delay).astype(float) for part in (trained, drawn[name]))
        rows = {
            "layer": name,
            "neuron": np.arange(len(delay)),
            "weight_size": np.abs(array(trained.weight)).sum(0).astype(float),
            "delay_ms": step * (1 + delay),
            "deployed_ms": step * (1 + delay.round()),
            "drawn_ms": step * (1 + before),
        }
        frames.append(pd.DataFrame(rows))
    return pd.concat(frames) if frames else pd.DataFrame()


def layers(subject: TrainedRun) -> pd.DataFrame:
    """A row for each layer, its name being the index.

    Returns:
        Columns: synapses; excitatory, share of positive weights; delay_mean_ms, delay_std_ms,
        weighted_delay_ms (by absolute weight); window_low_ms, window_high_ms, window_ms (the
        middle 90 % of the absolute weight). Where delays are learned, also, before they are
        rounded: clamped_low, clamped_high, shares of them at either end; moved_ms, mean distance
        from where they were drawn.
    """
    frame = synapses(subject)
    rows = {}
    for name, _, trained in subject.layers():
        layer = frame[frame["layer"] == name]
        rows[name] = _layer(layer)
        if subject.learns_delays:
            rows[name] |= _learned(layer, (trained.taps - 1) * subject.step_ms)
    return pd.DataFrame.from_dict(rows, orient="index")


def _layer(frame: pd.DataFrame) -> dict[str, float]:
    delay, size = frame["deployed_ms"].to_numpy(), frame["weight"].abs().to_numpy()
    low, high = window(delay, size)
    return {
        "synapses": len(frame),
        "excitatory": (frame["weight"] > 0).mean(),
        "delay_mean_ms": frame["deployed_ms"].mean(),
        "delay_std_ms": frame["deployed_ms"].std(ddof=0),
        "weighted_delay_ms": np.average(delay, weights=size) if size.any() else np.nan,
        "window_low_ms": low,
        "window_high_ms": high,
        "window_ms": high - low,
    }


def _learned(frame: pd.DataFrame, longest_ms: float) -> dict[str, float]:
    return {
        "clamped_low": (frame["delay_ms"] <= 0).mean(),
        "clamped_high": (frame["delay_ms"] >= longest_ms).mean(),
        "moved_ms": (frame["delay_ms"] - frame["drawn_ms"]).abs().mean(),
    }


def window(delay: Array, size: Array) -> tuple[float, float]:
    """The effective temporal window: delays between which the middle 90 % of the weight lies.

    Args:
        delay: of each synapse.
        size: its absolute weight.

    Returns:
        The two delays, NaN where all weights are zero.
    """
    order = np.argsort(delay, kind="stable")
    total = np.cumsum(size[order])
    if not len(total) or total[-1] == 0:
        return np.nan, np.nan
    ends = [(1 - WINDOW) / 2 * total[-1], (1 + WINDOW) / 2 * total[-1]]
    first, last = np.searchsorted(total, ends)
    return float(delay[order][first]), float(delay[order][last])


def neurons(subject: TrainedRun) -> pd.DataFrame:
    """A row for each neuron of each layer, over its incoming synapses.

    Returns:
        Columns layer, neuron, synapses, weight_sum, weight_size (sum of absolute weights),
        excitatory, weighted_delay_ms, window_ms.
    """
    frame = synapses(subject)
    groups = dict(list(frame.groupby(["layer", "output"])))
    rows = [
        {"layer": name, "neuron": output, **_neuron(groups.get((name, output), frame[:0]))}
        for name, _, trained in subject.layers()
        for output in range(len(trained.weight))
    ]
    return pd.DataFrame(rows)


def _neuron(frame: pd.DataFrame) -> dict[str, float]:
    delay, size = frame["deployed_ms"].to_numpy(), frame["weight"].abs().to_numpy()
    low, high = window(delay, size)
    return {
        "synapses": len(frame),
        "weight_sum": frame["weight"].sum(),
        "weight_size": size.sum(),
        "excitatory": (frame["weight"] > 0).mean(),
        "weighted_delay_ms": np.average(delay, weights=size) if size.any() else np.nan,
        "window_ms": high - low,
    }


def receptive_fields(linear: DelayedLinear, steps: Array | None = None) -> Array:
    """Weight at each input and delay, [O, I, D]; synapses of one delay add up.

    Args:
        linear: a layer.
        steps: whole delays [O, I, C]; None: the deployed ones.
    """
    weight = array(linear.weight)
    steps = deployed_steps(linear) if steps is None else steps
    fields = np.zeros((*weight.shape[:2], linear.taps))
    output, source, _ = np.indices(weight.shape)
    np.add.at(fields, (output, source, steps), weight)
    return fields


def deployed_steps(linear: DelayedLinear) -> Array:
    """Delays of the deployed layer, whole steps, one for each synapse, [O, I, C]."""
    return _each_delay(linear).round().astype(int)


def _each_delay(linear: DelayedLinear) -> Array:
    """The delay of each synapse, shared or not, [O, I, C]."""
    return array(linear.delay.expand_as(linear.weight))


def array(tensor: Any) -> Array:
    """A parameter or buffer as numpy sees it."""
    return tensor.detach().cpu().numpy()
