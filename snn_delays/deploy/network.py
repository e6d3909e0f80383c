"""The deployed network as plain numbers: the one description that every target reads.

Shapes: T time, I inputs, O outputs, C kernel count, N neurons of a recurrent layer, K classes.

A layer's step, with ``x`` [I] what it receives::

    y[o]    = sum over t', i, c of weight[o, i, c] x[t'][i]  where t' + delay[o, i, c] is this step,
              added up in the order t', i, c; then << shift (integers), then + bias
    y       = alpha y + beta                    BatchNorm
    y      += sum over i of R[o, i] s[t - 1 - recurrent delay i][i]
    u       = charge(y, states)                 the neurons' kind: see ``Neurons``
    s       = u >= threshold, then the reset    or s = u where there is no threshold
    out     = out - (1 - s) out leak + s        the synaptic filter; else s

Every layer ends ``extra_steps`` after the layer before it, and is silent from then on.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import itertools
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from snn_delays.errors import UserError
from snn_delays.files import replace_file

FORMAT = 1
PACKAGED = Path(__file__).parents[1] / "networks"  # trained networks that come with the package
MOST_COUNT = 255  # of an input channel in a step, for which sums of integers are proven to fit
# Kinds of neurons and their parameters.
PARAMETERS = {
    "lif": ("tau",),
    "plif": ("share",),
    "adaptive": ("al", "be", "a", "b"),
    "adaptive_after": ("al", "be", "a", "b"),
    "leaky": ("al",),
    "integer": ("keep",),
    "loihi": ("keep",),
}


@dataclass(frozen=True)
class Neurons:
    """The neurons of a layer: ``u`` is the membrane after the charge, r that after the reset.

    - lif: ``u = r - r / tau + y``, in this order
    - plif: ``u = r - r share + y``
    - adaptive: ``u = al r + (1 - al) (y - w)``, then ``w = be w + (a u + b s)``
    - adaptive_after: the same with r after the reset for u in the second equation
    - leaky: ``u = al r + (1 - al) y``
    - integer: ``u = ((r keep) >> 16) + y``, all of them integers
    - loihi: the same with ``sign(r) ((|r| keep) >> 16)``, the product rounded toward zero

    All states are 0 at the start.

    Attributes:
        kind: a key of ``PARAMETERS``.
        parameters: by name, a scalar or [O] each.
        threshold: they fire where ``u >= threshold``, a scalar or [O]; None: they never fire, and
            give u.
        reset: what a spike leaves of u: "hard", 0; "soft", ``u - threshold``.
    """

    kind: str
    parameters: dict[str, NDArray[Any]]
    threshold: NDArray[Any] | None
    reset: str = "hard"

    @property
    def fires(self) -> bool:
        """Whether they have a threshold."""
        return self.threshold is not None


@dataclass(frozen=True)
class Recurrent:
    """The connections of a layer's neurons with each other.

    Attributes:
        weight: R [N, N], from the second to the first.
        delay: [N] int32; a spike of neuron i arrives ``1 + delay[i]`` steps later.
    """

    weight: NDArray[Any]
    delay: NDArray[np.int32]


@dataclass(frozen=True)
class Layer:
    """A hidden layer, or the readout.

    Attributes:
        weight: [O, I, C], 0 where a mask removes the synapse; of an integer network an integer.
        delay: int32 in [0, taps - 1]; [O, I, C], axonal [1, I, C], dendritic [O, 1, C].
        taps: D.
        extra_steps: steps by which the layer ends after the one before it.
        neurons: what comes after the sum.
        bias: [O], added to the sum; None: nothing.
        alpha: [O], BatchNorm's factor of the sum with its bias; None: there is no BatchNorm.
        beta: [O], added to that product; None together with alpha.
        filter_leak: share of the synaptic filter's output that leaks in a step; None: no filter.
        recurrent: None: none.
        shift: bits by which an integer network's sum is shifted to the left.
        unit: [O], what a 1 of an integer network's membrane stands for; None: floats.
    """

    weight: NDArray[Any]
    delay: NDArray[np.int32]
    taps: int
    extra_steps: int
    neurons: Neurons
    bias: NDArray[Any] | None = None
    alpha: NDArray[Any] | None = None
    beta: NDArray[Any] | None = None
    filter_leak: NDArray[Any] | None = None
    recurrent: Recurrent | None = None
    shift: int = 0
    unit: NDArray[Any] | None = None

    @property
    def outputs(self) -> int:
        """O."""
        return int(self.weight.shape[0])

    @property
    def inputs(self) -> int:
        """I."""
        return int(self.weight.shape[1])

    @property
    def delays(self) -> NDArray[np.int32]:
        """A delay for every weight, [O, I, C]."""
        return np.broadcast_to(self.delay, self.weight.shape)

    @property
    def output_unit(self) -> NDArray[Any] | float:
        """What a 1 of the output stands for: a spike, or the unit of a membrane."""
        return 1.0 if self.unit is None or self.neurons.fires else self.unit


@dataclass(frozen=True)
class FrontEnd:
    """From a recording to the network's input, a frame of I numbers for each step.

    Attributes:
        kind: "spikes", counts of spikes (``data.frames.to_frames``), or "log_mel", energies of
            sound in dB (``data.speech.log_mel``).
        step_ms: length of a step.
        channels: I.
        units: number of spike channels of a recording, "spikes" alone.
        units_per_channel: neighbouring units that are summed into one channel.
        time_unit: of spike times: "s", "ms", "us" or "ns".
        arithmetic: of the frame index, "float64" or "float16".
        seconds: length to which sound is cut or padded, "log_mel" alone.
        channel: of a recording with several; None: such recordings are refused.
    """

    kind: str
    step_ms: float
    channels: int
    units: int = 0
    units_per_channel: int = 1
    time_unit: str = "s"
    arithmetic: str = "float64"
    seconds: float | None = None
    channel: str | None = None


@dataclass(frozen=True)
class Deployed:
    """A trained network, frozen, arrays included: what ``snn-delays evaluate`` runs.

    Attributes:
        layers: the hidden layers, then the readout.
        readout: from the readout's outputs v [S, K] to scores [K]; "sum": of softmax(v) over the
            steps; "mean", "max", "last": of v; "spike_count": number of spikes; "linear_sum": the
            last v. Membranes v of an integer network are multiplied by the readout's unit first.
        steps: length that recordings are padded to with zeros, never cutting a longer one; None:
            none is stored (``train.protocol=paper``).
        front: from a recording to frames.
        classes: K names, in order of the scores.
        arithmetic: "float32", "float64" or "int32": all numbers of the layers are of it, weights
            of an integer network perhaps narrower; every operation rounds to it. No channel of
            the frames of an integer network may count more than ``MOST_COUNT``.
    """

    layers: tuple[Layer, ...]
    readout: str
    steps: int | None
    front: FrontEnd
    classes: tuple[str, ...]
    arithmetic: str = "float32"

    def __post_init__(self) -> None:
        _freeze(self.layers)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the sums and states."""
        return np.dtype(self.arithmetic)

    @property
    def is_integer(self) -> bool:
        """Whether all sums are of integers, and so exact in any order."""
        return self.arithmetic == "int32"

    def ends(self, frames: int) -> tuple[int, ...]:
        """For an input of so many frames, the number of steps of each layer: T + extra steps.

        Raises:
            UserError: the network has no stored length.
        """
        if self.steps is None:
            raise UserError(
                "The network has no stored length (its protocol is paper, which pads a batch to its"
                " longest recording): give steps=, the length in steps to pad every recording to."
            )
        extra = itertools.accumulate(layer.extra_steps for layer in self.layers)
        return tuple(max(frames, self.steps) + more for more in extra)

    def widened(self) -> Deployed:
        """The network with the same numbers in float64, to compute on them with less rounding."""
        if self.arithmetic != "float32":
            raise ValueError(f"A network in {self.arithmetic} is not one in float32.")
        parts, arrays = _split(dataclasses.asdict(self))
        wide = {n: a.astype(np.float64) if a.dtype.kind == "f" else a for n, a in arrays.items()}
        return _build(_join({**parts, "arithmetic": "float64"}, wide))

    @cached_property
    def digest(self) -> str:
        """SHA-256 of all of it, 64 hex digits."""
        parts, arrays = _split(dataclasses.asdict(self))
        digest = hashlib.sha256(_as_json(parts).encode())
        for name, array in sorted(arrays.items()):
            digest.update(f"{name} {array.dtype.str} {array.shape}".encode())
            digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()

    def save(self, path: str | Path) -> None:
        """Write an HDF5 file, which needs no code of this package to be read.

        Every array is a data set such as ``layers/0/weight``; all else is JSON in the attribute
        ``network``, and ``digest`` is the checksum.
        """
        import h5py  # late, as below: a training writes no such file

        parts, arrays = _split(dataclasses.asdict(self))
        content = io.BytesIO()
        with h5py.File(content, "w") as file:
            for name, array in arrays.items():
                small = array.ndim == 0
                file.create_dataset(name, data=array, compression=None if small else "gzip")
            file.attrs["format"] = FORMAT
            file.attrs["network"] = _as_json(parts)
            file.attrs["digest"] = self.digest
        replace_file(Path(path).expanduser(), content.getvalue())


def network_file(network: str | Path) -> Path:
    """The file of a network that is named by its path, or that comes with the package.

    A file or folder of the working directory goes before a network of the package.
    """
    path, packaged = Path(network).expanduser(), PACKAGED / f"{network}.h5"
    return packaged if packaged.is_file() and not path.exists() else path


def load(network: str | Path) -> Deployed:
    """The network in a file that ``Deployed.save`` has written, or one that comes with the package.

    Args:
        network: path of the file, or name of a network of the package: "fsdd-best".

    Raises:
        UserError: there is no such file, it is of another kind or of a later version, or damaged.
    """
    from snn_delays.data.formats.hdf5 import BROKEN, open_file

    path = network_file(network)
    with open_file(path) as file:
        try:
            version = int(file.attrs.get("format", 0))
            if version > FORMAT:
                raise UserError(f"{path} is of format {version}, later than {FORMAT}: upgrade.")
            parts, written = json.loads(file.attrs["network"]), file.attrs["digest"]
            arrays: dict[str, Any] = {}
            file.visititems(lambda n, d: arrays.update({n: d[()]} if hasattr(d, "dtype") else {}))
            built = _build(_join(parts, {n: np.asarray(a) for n, a in arrays.items()}))
        except UserError:
            raise
        except (*BROKEN, IndexError) as error:
            raise UserError(f"{path} is damaged or not a deployed network.") from error
    if built.digest != written:
        raise UserError(f"{path} is damaged: its checksum is wrong.")
    return built


def _freeze(value: Any) -> None:
    """Write-protect all arrays in a value."""
    if isinstance(value, np.ndarray):
        value.setflags(write=False)
    elif dataclasses.is_dataclass(value):
        _freeze(vars(value))
    elif isinstance(value, dict | tuple):
        for item in value.values() if isinstance(value, dict) else value:
            _freeze(item)


# ---- from a network to plain values and arrays, and back -----------------------------------------


def _split(tree: dict[str, Any]) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """Nested values without their arrays, and the arrays by their place, such as ``a/0/b``."""
    arrays: dict[str, NDArray[Any]] = {}

    def walk(value: Any, place: str) -> Any:
        if isinstance(value, np.ndarray | np.generic):
            arrays[place] = np.asarray(value)
            return None
        if isinstance(value, dict):
            return {key: walk(item, f"{place}/{key}") for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [walk(item, f"{place}/{n}") for n, item in enumerate(value)]
        return value

    return {key: walk(value, key) for key, value in tree.items()}, arrays


def _join(parts: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> dict[str, Any]:
    """Put arrays back into their places."""
    for place, array in arrays.items():
        *before, last = place.split("/")
        inner: Any = parts
        for name in before:
            inner = inner[int(name) if isinstance(inner, list) else name]
        inner[last] = array
    return parts


def _build(tree: dict[str, Any]) -> Deployed:
    layers = tuple(_build_layer(layer) for layer in tree["layers"])
    front = FrontEnd(**tree["front"])
    return Deployed(**{**tree, "layers": layers, "front": front, "classes": (*tree["classes"],)})


def _build_layer(tree: dict[str, Any]) -> Layer:
    recurrent = tree["recurrent"]
    made = recurrent and Recurrent(**recurrent)
    return Layer(**{**tree, "neurons": Neurons(**tree["neurons"]), "recurrent": made})


def _as_json(parts: dict[str, Any]) -> str:
    return json.dumps(parts, sort_keys=True)
