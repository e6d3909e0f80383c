"""What the options must know of each data set, which snn_delays/data/datasets/<name>.py finds."""

from __future__ import annotations

from dataclasses import dataclass, field

FILES = ("train_file", "valid_file", "test_file")
HELD_OUT = ("test_speakers", "test_fold")  # which recordings to test on, where no file is for that


@dataclass(frozen=True)
class DataKind:
    """What a data set is and takes.

    Attributes:
        takes: the options of the data, of those that only some data sets have a use for.
        needs: options without which it is not found, each with what its value must be.
        audio: its recordings are audio: frames are real-valued, not counts of spikes.
        validation: how it calls the validation split that it brings along; "": it brings none.
    """

    takes: tuple[str, ...] = ()
    needs: dict[str, str] = field(default_factory=dict)
    audio: bool = False
    validation: str = ""


DATASETS = {
    "shd": DataKind(takes=("train_file", "test_file")),
    "ssc": DataKind(takes=FILES, validation="official validation split"),
    "gsc": DataKind(takes=("folder",), audio=True, validation="official validation split"),
    "audio_folder": DataKind(
        takes=("folder", "test_list", "valid_list", "speaker_pattern", *HELD_OUT),
        needs={"folder": "folder of <word>/*.wav"},
        audio=True,
    ),
    "spikes": DataKind(
        takes=(*FILES, "time_unit", *HELD_OUT), needs={"train_file": "HDF5 file of SHD's format"}
    ),
    "synthetic": DataKind(validation="validation file"),
}
