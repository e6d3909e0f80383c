"""Facts about each data set that the options need; snn_delays/data/datasets/<name>.py finds it."""

from __future__ import annotations

from dataclasses import dataclass, field

from snn_delays.config.options import is_own

TARGETS = ("class", "per_step")  # values of data.target
FILES = ("train_file", "valid_file", "test_file")
HELD_OUT = ("test_speakers", "test_fold")  # options that choose test recordings without a test file


@dataclass(frozen=True)
class DataKind:
    """Facts about a data set.

    Attributes:
        takes: the options that it uses, among those that only some data sets use.
        needs: its required options, each with a description of the value.
        audio: whether its recordings are audio, with real-valued frames instead of spike counts.
        validation: the name of its own validation split in messages; "" if it has none.
        targets: the values of data.target that its recordings can serve.
    """

    takes: tuple[str, ...] = ()
    needs: dict[str, str] = field(default_factory=dict)
    audio: bool = False
    validation: str = ""
    targets: tuple[str, ...] = ("class",)


DATASETS = {
    "shd": DataKind(takes=("train_file", "test_file")),
    "ssc": DataKind(takes=FILES, validation="official validation split"),
    "gsc": DataKind(takes=("folder",), audio=True, validation="official validation split"),
    "audio_folder": DataKind(
        takes=("folder", "test_list", "valid_list", "speaker_pattern", "channel", *HELD_OUT),
        needs={"folder": "folder of <word>/*.wav"},
        audio=True,
    ),
    "spikes": DataKind(
        takes=(*FILES, "time_unit", *HELD_OUT),
        needs={"train_file": "HDF5 file of SHD's format"},
        targets=TARGETS,
    ),
    "synthetic": DataKind(validation="validation file"),
    "localisation": DataKind(validation="validation file"),
    "mackey_glass": DataKind(validation="validation file", targets=("per_step",)),
}
_OWN = DataKind(
    takes=(*FILES, "time_unit", "folder", "test_list", "valid_list", "speaker_pattern", *HELD_OUT),
    targets=TARGETS,
)


def kind_of(name: str) -> DataKind:
    """The facts about the data set of this name; a user's own may use every option."""
    return _OWN if is_own(name) else DATASETS[name]
