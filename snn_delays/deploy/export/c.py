"""A deployed network as a file and a header of C99, and an example program.

The code is in ``c_templates``; this module fills in the network's numbers. All operations are those
of ``plain`` in the same order, so spikes are equal to the bit.
"""

from __future__ import annotations

import ctypes
import math
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from numpy.typing import NDArray

from snn_delays.data.frames import SECOND
from snn_delays.deploy.export import Answer
from snn_delays.deploy.export.c_layers import c_layers, overflow
from snn_delays.deploy.network import MOST_COUNT, Deployed, Layer
from snn_delays.errors import UserError

NUMBERS = {"float32": "float", "float64": "double", "int32": "int32_t"}
FILES = ("snn.h", "snn.c", "main.c")
EXAMPLE = "example.txt"
COMPILERS = ("cc", "gcc", "clang")
FLAGS = ("-std=c99", "-O2", "-shared", "-fPIC")
# Runs a recording and keeps every output of the layers ``fires``; compiled beside snn.c by ``run``.
RECORDER = """
#include "snn.h"
uint32_t snn_record(const snn_number *x, uint32_t steps, const uint32_t *fires,
                    const uint32_t *outputs, snn_number *out, double *scores)
{
    snn_reset();
    for (;;) {
        for (uint32_t i = 0; snn_time() < steps && i < SNN_CHANNELS; i++, x++)
            if (*x != 0)
                snn_event(i, *x);
        if (snn_time() == steps)
            snn_end();
        if (snn_is_done())
            break;
        snn_step();
        for (uint32_t l = 0; l < SNN_LAYERS; l++)
            for (uint32_t o = 0; fires[l] && o < outputs[l]; o++)
                *out++ = snn_output(l, o);
    }
    for (uint32_t k = 0; k < SNN_CLASSES; k++)
        scores[k] = snn_score(k);
    return snn_decision();
}
"""


def refusal(network: Deployed) -> str | None:
    """Why C cannot hold this network, in one sentence; None: it can."""
    if not all(layer.neurons.fires for layer in network.layers[:-1]):
        return "a hidden layer has no threshold."
    return overflow(network) if network.is_integer else None


def write(network: Deployed, out: Path) -> None:
    """Write snn.c, snn.h and the example main.c."""
    loader = jinja2.FileSystemLoader(Path(__file__).with_name("c_templates"))
    env = jinja2.Environment(
        loader=loader, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True,
        undefined=jinja2.StrictUndefined,
    )  # fmt: skip
    values = _values(network)
    for name in FILES:
        (out / name).write_text(env.get_template(f"{name}.jinja").render(values), "utf-8")


def reference(network: Deployed) -> Deployed:
    """The network itself."""
    return network


def facts(network: Deployed) -> dict[str, Any]:
    """Bytes of constants and of state, without code and stack, and the work of a step."""
    return _facts(c_layers(network), network)


def run(network: Deployed, out: Path, samples: Iterable[NDArray[Any]]) -> Iterator[Answer]:
    """Compile snn.c and run it on recordings; see ``Target.run``."""
    with tempfile.TemporaryDirectory() as folder:
        record = _compiled(out, Path(folder))
        for frames in samples:
            yield _answer(record, network, frames)


def example(network: Deployed, out: Path, frames: NDArray[Any]) -> str:
    """Write example.txt, a recording as main.c reads it."""
    (out / EXAMPLE).write_text(_example(network, frames), "utf-8")
    return EXAMPLE


def compiler() -> str | None:
    """The C compiler: that of the variable CC, or the first of ``COMPILERS``; None: none."""
    named = os.environ.get("CC")
    return shutil.which(named) if named else next(filter(None, map(shutil.which, COMPILERS)), None)


def _compiled(out: Path, folder: Path) -> Any:
    """The function ``snn_record`` of the files in ``out``, compiled in ``folder``."""
    found = compiler()
    if found is None:
        raise UserError(
            "The export of C cannot be run: there is no C compiler (cc, gcc, clang, or that of the"
            " variable CC). Install one, or give verify=0."
        )
    (folder / "record.c").write_text(RECORDER, "utf-8")
    library = folder / "snn.so"
    files = [str(folder / "record.c"), str(out / "snn.c"), f"-I{out}", "-o", str(library)]
    done = subprocess.run([found, *FLAGS, *files], capture_output=True, encoding="utf-8")
    if done.returncode:
        reason = next((n for n in done.stderr.splitlines() if "error" in n), "it says no reason")
        raise UserError(f"{found} cannot compile snn.c: {reason}.")
    return ctypes.CDLL(str(library)).snn_record


def _answer(record: Any, network: Deployed, frames: NDArray[Any]) -> Answer:
    layers, dtype = network.layers, network.dtype
    x = np.ascontiguousarray(frames, dtype)
    fires = np.array([layer.neurons.fires for layer in layers], np.uint32)
    outputs = np.array([layer.outputs for layer in layers], np.uint32)
    sizes = outputs[fires > 0]
    out = np.empty((network.ends(len(x))[-1], int(sizes.sum())), dtype)
    scores = np.empty(len(network.classes))
    pointers = [ctypes.c_void_p(a.ctypes.data) for a in (x, fires, outputs, out, scores)]
    best = record(pointers[0], ctypes.c_uint32(len(x)), *pointers[1:])
    spikes = np.split(out, np.cumsum(sizes)[:-1].astype(int), axis=1) if len(sizes) else []
    return Answer(scores, best, spikes)


def _example(network: Deployed, frames: NDArray[Any]) -> str:
    """Lines of events, or of frames."""
    front = network.front
    if not _reads_events(network):
        return "".join(" ".join(map(str, frame)) + "\n" for frame in frames.tolist())
    lines = []
    for t, channel in np.argwhere(frames):
        ms = (t + 0.5 * (t > 0)) * front.step_ms  # the clock starts at the first event
        time = ms * (SECOND[front.time_unit] / 1000)
        line = f"{time:.10g} {channel * front.units_per_channel}\n"
        lines += [line] * int(frames[t, channel])
    return "".join(lines)


def _reads_events(network: Deployed) -> bool:
    return network.front.kind == "spikes" and network.front.arithmetic == "float64"


# ---- what the templates take ---------------------------------------------------------------------


def _values(network: Deployed) -> dict[str, Any]:
    layers, front = c_layers(network), network.front
    made = _facts(layers, network)
    return {
        "layers": layers,
        "number": NUMBERS[network.arithmetic],
        "arithmetic": network.arithmetic,
        "is_integer": network.is_integer,
        "one": {"float32": "1.0f", "float64": "1.0", "int32": "1"}[network.arithmetic],
        "largest": MOST_COUNT if network.is_integer else None,
        "short": layers[0]["fits_16_bits_up_to"],
        "readout": network.readout,
        "unit": _unit(network.layers[-1]),
        "powers": [(2.0 ** (-j / 16)).hex() for j in range(16)],
        "per_log": (-16 / math.log(2)).hex(),
        "log_part": (math.log(2) / 16).hex(),
        "steps": network.steps,
        "last": network.ends(0)[-1],
        "channels": network.layers[0].inputs,
        "classes": [_text(name) for name in network.classes],
        "digest": network.digest,
        "sizes": "-".join(
            map(str, [network.layers[0].inputs, *(n.outputs for n in network.layers)])
        ),
        "flash": made["flash_bytes"],
        "ram": made["ram_bytes"],
        "additions": made["additions_per_step_at_most"],
        "neurons": sum(layer.outputs for layer in network.layers),
        "kind": front.kind,
        "step_ms": repr(float(front.step_ms)),
        "seconds": front.seconds,
        "units": front.units,
        "units_per_channel": front.units_per_channel,
        "time_unit": front.time_unit,
        "reads_events": _reads_events(network),
        "to_ms": "* 1000.0" if front.time_unit == "s" else f"/ {SECOND[front.time_unit] / 1000!r}",
    }


def _facts(layers: list[dict[str, Any]], network: Deployed) -> dict[str, Any]:
    frame = network.layers[0].inputs * network.dtype.itemsize
    return {
        "flash_bytes": sum(layer["flash"] for layer in layers),
        "ram_bytes": sum(layer["ram"] for layer in layers) + frame + 8 * len(network.classes),
        "additions_per_step_at_most": sum(layer["additions"] for layer in layers),
    }


def _unit(readout: Layer) -> str | None:
    """What a 1 of each of its outputs stands for, as C; None: 1."""
    units = np.broadcast_to(readout.output_unit, readout.outputs).astype(float)
    if (units == 1).all():
        return None
    return f"((const double[]){{{', '.join(value.hex() for value in units.tolist())}}})[k]"


def _text(name: str) -> str:
    """A string literal of C: bytes of UTF-8, as octal where they are not plain."""
    plain = {ord(c) for c in " _-+.,:;()[]/"}
    parts = (
        chr(b) if chr(b).isascii() and (chr(b).isalnum() or b in plain) else f"\\{b:03o}"
        for b in name.encode()
    )
    return f'"{"".join(parts)}"'
