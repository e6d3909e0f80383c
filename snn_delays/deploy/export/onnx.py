"""A deployed network as an ONNX model: a whole recording, by ``Scan`` around one step.

Shapes: T frames, S steps of the last layer, L layers, I inputs, O outputs, C kernel count.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper, numpy_helper

from snn_delays.deploy.export import Answer, folded, program
from snn_delays.deploy.network import Deployed, Layer, Neurons

INSTALL = "pip install onnxruntime"
OPSET, IR = 18, 9  # of 2022, to be read by runtimes that are years old


def refusal(network: Deployed) -> str | None:
    """Why ONNX cannot hold this network; None: it can."""
    return "its numbers are integers." if network.is_integer else None


def write(network: Deployed, out: Path) -> None:
    """Write network.onnx, run.py and README.md."""
    (out / "network.onnx").write_bytes(model(network).SerializeToString())
    files = {
        "network.onnx": (
            f"input `frames` [steps, {network.front.channels}] float32; outputs `scores`, and"
            " `layer0`, `layer1`, ... [steps, neurons], what each layer gives; all in float64"
        )
    }
    program.write("onnx", network, out, title="ONNX Runtime", install=INSTALL, files=files)


def run(network: Deployed, out: Path, samples: Iterable[NDArray[Any]]) -> Iterator[Answer]:
    """Run run.py, in the Python that the environment variable ONNXRUNTIME_PYTHON names, or this."""
    return program.run(network, out, samples, package="onnxruntime", install=INSTALL)


example = program.example


def reference(network: Deployed) -> Deployed:
    """The network in float64."""
    return folded.wide(network)


def facts(network: Deployed) -> dict[str, Any]:
    """The version of operators that a runtime needs."""
    return {"opset": OPSET}


def model(network: Deployed) -> ModelProto:
    """The model: ``frames`` [T, I] float32 to ``scores`` [K] and ``layer0``, ... [S, O] float64.

    It computes in float64, since ONNX leaves the order of a sum open. Numbers of a network in
    float32 are stored as such.
    """
    step = _step(folded.wide(network))
    graph, names = Graph("g"), [f"layer{n}" for n in range(len(network.layers))]
    padded, runs = _padded(graph, network)
    zero = numpy_helper.from_array(np.zeros(1))
    shapes = [graph.integers(shape) for shape in step.states.values()]
    zeros = [graph.add("ConstantOfShape", shape, value=zero) for shape in shapes]
    last = [f"last_{name}" for name in step.states]
    scan = helper.make_node(
        "Scan", [*zeros, padded, runs], [*last, *names], body=step.proto(), num_scan_inputs=2
    )
    graph.nodes.append(scan)
    _scores(graph, network.readout, names[-1])
    outputs = [
        _value(name, "S", layer.outputs) for name, layer in zip(names, network.layers, strict=True)
    ]
    channels = network.front.channels
    frames = helper.make_tensor_value_info("frames", TensorProto.FLOAT, ["T", channels])
    answers = [_value("scores", len(network.classes)), *outputs]
    whole = helper.make_graph(graph.nodes, "network", [frames], answers, graph.constants)
    made = helper.make_model(
        whole,
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR,
        producer_name="snn_delays",
    )
    told = {"classes": network.classes, "step_ms": network.front.step_ms}
    helper.set_model_props(
        made, {name: json.dumps(value) for name, value in told.items()} | {"digest": network.digest}
    )
    return made


class Graph:
    """Nodes and constants of an ONNX graph.

    Args:
        prefix: of the names of what it makes.
    """

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self._numbers = itertools.count()

    def name(self) -> str:
        """A new name."""
        return f"{self._prefix}{next(self._numbers)}"

    def add(self, operator: str, *inputs: str, **attributes: Any) -> str:
        """Add a node with one output; returns the output's name."""
        output = self.name()
        self.nodes.append(helper.make_node(operator, inputs, [output], **attributes))
        return output

    def double(self, x: str) -> str:
        """The same numbers in float64."""
        return self.add("Cast", x, to=TensorProto.DOUBLE)

    def constant(self, value: Any) -> str:
        """A constant in float64, stored in float32 where no digit is lost; returns its name."""
        array = np.array(value, np.float64)
        narrow = array.astype(np.float32)
        return self.double(self._stored(narrow if np.array_equal(narrow, array) else array))

    def integers(self, value: Any) -> str:
        """A constant in int64; returns its name."""
        return self._stored(np.array(value, np.int64))

    def indices(self, value: NDArray[Any]) -> str:
        """The same of numbers from 0 on, stored as narrow as they fit."""
        narrow = value.astype(np.min_scalar_type(int(value.max())))
        return self.add("Cast", self._stored(narrow), to=TensorProto.INT64)

    def _stored(self, array: NDArray[Any]) -> str:
        name = self.name()
        self.constants.append(numpy_helper.from_array(array, name))
        return name


class Step(Graph):
    """The graph of a step, with states that are 0 before the first one."""

    def __init__(self, network: Deployed) -> None:
        super().__init__("s")
        self.states: dict[str, tuple[int, ...]] = {}
        self._next: dict[str, str] = {}
        self._network = network
        self.outputs: list[str] = []

    def state(self, *shape: int) -> str:
        """A new state; returns the name of its value before the step."""
        name = self.name()
        self.states[name] = shape
        return name

    def become(self, state: str, value: str) -> None:
        """Set a state's value after the step."""
        self._next[state] = self.add("Identity", value)

    def push(self, state: str, row: str) -> str:
        """The rows of a state with a new first one [1, N], and without their last."""
        depth = self.states[state][0]
        kept = self.add("Slice", state, *map(self.integers, ([0], [depth - 1], [0])))
        rows = self.add("Concat", row, kept, axis=0)
        self.become(state, rows)
        return rows

    def proto(self) -> Any:
        """The graph: states, frame and which layers run, to states and outputs."""

        layers = self._network.layers
        inputs = [_value(name, *shape) for name, shape in self.states.items()]
        after = [_value(self._next[name], *shape) for name, shape in self.states.items()]
        seen = [_value(x, layer.outputs) for x, layer in zip(self.outputs, layers, strict=True)]
        more = [_value("frame", layers[0].inputs), _value("runs", len(layers))]
        return helper.make_graph(
            self.nodes, "step", [*inputs, *more], [*after, *seen], self.constants
        )


def _value(name: str, *shape: int | str) -> Any:
    """What goes into or out of a graph, in float64."""
    return helper.make_tensor_value_info(name, TensorProto.DOUBLE, shape)


def _padded(g: Graph, network: Deployed) -> tuple[str, str]:
    """The frames [S, I], with zeros behind, and whether a layer runs in a step, [S, L]."""
    extra = [*itertools.accumulate(layer.extra_steps for layer in network.layers)]
    frames = g.add("Gather", g.add("Shape", "frames"), g.integers(0))
    ends = g.add("Add", g.add("Max", frames, g.integers(network.steps or 0)), g.integers(extra))
    total = g.add("Gather", ends, g.integers(len(extra) - 1))
    missing = g.add("Unsqueeze", g.add("Sub", total, frames), g.integers([0]))
    pads = g.add("Concat", g.integers([0, 0]), missing, g.integers([0]), axis=0)
    steps = g.add("Range", g.integers(0), total, g.integers(1))
    runs = g.double(g.add("Less", g.add("Unsqueeze", steps, g.integers([1])), ends))
    return g.add("Pad", g.double("frames"), pads), runs


def _scores(g: Graph, readout: str, outputs: str) -> None:
    """Add ``scores`` [K], of the readout's outputs [S, K]."""
    if readout in ("last", "linear_sum"):
        scores = g.add("Gather", outputs, g.integers(-1))
    else:
        v = g.add("Softmax", outputs, axis=1) if readout == "sum" else outputs
        reduce = {"mean": "ReduceMean", "max": "ReduceMax"}.get(readout, "ReduceSum")
        scores = g.add(reduce, v, g.integers([0]), keepdims=0)
    g.nodes.append(helper.make_node("Identity", [scores], ["scores"]))


def _step(network: Deployed) -> Step:
    g, x = Step(network), "frame"
    for number, layer in enumerate(network.layers):
        output = _layer(g, layer, x)
        x = g.add("Mul", output, g.add("Gather", "runs", g.integers(number)))
        g.outputs.append(x)
    return g


def _layer(g: Step, layer: Layer, x: str) -> str:
    """A layer's output; the order of all operations but the sum is that of ``plain``."""
    y = _sum(g, layer, x)
    for operator, numbers in (("Add", layer.bias), ("Mul", layer.alpha), ("Add", layer.beta)):
        y = y if numbers is None else g.add(operator, y, g.constant(numbers))
    if layer.recurrent is None:
        s = _fire(g, layer.neurons, y, layer.outputs)
    else:
        back = g.state(1 + int(layer.recurrent.delay.max()), layer.outputs)
        arrived = g.add("GatherElements", back, g.indices(layer.recurrent.delay[None]), axis=0)
        current = g.add("MatMul", arrived, g.constant(layer.recurrent.weight.T))
        y = g.add("Add", y, g.add("Squeeze", current, g.integers([0])))
        s = _fire(g, layer.neurons, y, layer.outputs)
        g.push(back, _row(g, s))
    return s if layer.filter_leak is None else _filter(g, layer, s)


def _row(g: Graph, x: str) -> str:
    return g.add("Unsqueeze", x, g.integers([0]))


def _sum(g: Step, layer: Layer, x: str) -> str:
    """Each weight times the input as it was its delay ago, added up, [O]."""
    inputs, outputs = layer.inputs, layer.outputs
    rows = g.push(g.state(1 + int(layer.delay.max()), inputs), _row(g, x))
    delay = layer.delays.transpose(0, 2, 1).reshape(-1, inputs)  # [O C, I]
    weight = g.constant(layer.weight.transpose(0, 2, 1).reshape(-1, inputs))
    products = g.add("Mul", g.add("GatherElements", rows, g.indices(delay), axis=0), weight)
    of_neuron = g.add("Reshape", products, g.integers([outputs, -1]))
    return g.add("ReduceSum", of_neuron, g.integers([1]), keepdims=0)


def _fire(g: Step, neurons: Neurons, y: str, outputs: int) -> str:
    """Charge, fire and reset; see ``Neurons``. Returns the spikes, or u without a threshold."""
    r, p = g.state(outputs), neurons.parameters
    w = g.state(outputs) if "b" in p else None
    u = _charge(g, neurons, r, y, w)
    s = rest = u
    if neurons.threshold is not None:
        theta = g.constant(neurons.threshold)
        fires = g.add("GreaterOrEqual", u, theta)
        s = g.double(fires)
        rest = (
            g.add("Where", fires, g.constant(0), u)
            if neurons.reset == "hard"
            else g.add("Sub", u, g.add("Mul", theta, s))
        )
    g.become(r, rest)
    if w is not None:
        seen = rest if neurons.kind == "adaptive_after" else u
        drive = g.add("Add", _times(g, p["a"], seen), _times(g, p["b"], s))
        g.become(w, g.add("Add", _times(g, p["be"], w), drive))
    return s


def _charge(g: Step, neurons: Neurons, r: str, y: str, w: str | None) -> str:
    p = neurons.parameters
    if "al" in p:
        drive = y if w is None else g.add("Sub", y, w)
        return g.add("Add", _times(g, p["al"], r), _times(g, 1 - p["al"], drive))
    leak = _times(g, p["share"], r) if "share" in p else g.add("Div", r, g.constant(p["tau"]))
    return g.add("Add", g.add("Sub", r, leak), y)


def _times(g: Graph, number: Any, x: str) -> str:
    return g.add("Mul", g.constant(number), x)


def _filter(g: Step, layer: Layer, s: str) -> str:
    """The synaptic filter's output: ``out - (1 - s) out leak + s``."""
    before = g.state(layer.outputs)
    silent = g.add("Mul", g.add("Sub", g.constant(1), s), before)
    leak = g.add("Mul", silent, g.constant(layer.filter_leak))
    output = g.add("Add", g.add("Sub", before, leak), s)
    g.become(before, output)
    return output
