"""Output that cannot be written, or that a terminal would obey rather than show."""

from __future__ import annotations

import errno
import io
import logging
import os
import subprocess
import sys

import pytest

from snn_delays.errors import UserError
from snn_delays.output import guarded, needed_output, one_line, printable


class Broken(io.StringIO):
    """A stream that fails from its ``after``-th flush on."""

    def __init__(self, number: int, after: int = 0) -> None:
        super().__init__()
        self._left, self._error = after, OSError(number, os.strerror(number))

    def flush(self) -> None:
        self._left -= 1
        if self._left < 0:
            raise self._error


def narrow(encoding: str) -> io.TextIOWrapper:
    return io.TextIOWrapper(io.BytesIO(), encoding=encoding)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain, größe, 零, عربي", "plain, größe, 零, عربي"),
        ("zero\x1b[2J\x1b]0;title\x07", r"zero\x1b[2J\x1b]0;title\x07"),
        ("\x9b31mred\x7f\x00", r"\x9b31mred\x7f\x00"),
        ("half\rwhole\x08", r"half\rwhole\x08"),
        ("right\u202eleft\u2066", r"right\u202eleft\u2066"),
    ],
)
def test_control_characters_are_written_out(text, shown) -> None:
    assert one_line(text) == shown
    assert printable(text) == shown


def test_only_the_program_ends_lines() -> None:
    assert printable("a\n\tb\r\n") == "a\n\tb\\r\n"
    assert one_line("a\n\tb\u2028") == r"a\n\tb\u2028"
    assert printable("\r 50 %|##  | zero\r\x1b") == "\r 50 %|##  | zero\\r\\x1b"


@pytest.mark.parametrize(
    ("encoding", "shown"),
    [("ascii", rb"gr\xf6\xdfe \u96f6"), ("cp1252", b"gr\xf6\xdfe \\u96f6")],
)
def test_narrow_encodings(encoding, shown, monkeypatch) -> None:
    stream = narrow(encoding)
    monkeypatch.setattr(sys, "stdout", stream)
    with guarded():
        print("größe 零")
    assert stream.buffer.getvalue() == shown + b"\n"
    assert sys.stdout is stream


def test_names_that_are_no_text(monkeypatch) -> None:
    monkeypatch.setattr(sys, "stdout", narrow("utf-8"))
    with guarded():
        print(os.fsdecode(b"word\xff"))
    assert sys.stdout.buffer.getvalue() == b"word\\udcff\n"


def test_lost_output_is_told_once(monkeypatch, capsys) -> None:
    monkeypatch.setattr(sys, "stdout", Broken(errno.ENOSPC, after=1))
    with guarded():
        for _ in range(3):
            print("a line", flush=True)
    error = capsys.readouterr().err
    told = "Standard output cannot be written (No space left on device); the work continues.\n"
    assert error == told


def test_no_stream_can_be_written(monkeypatch) -> None:
    for stream in ("stdout", "stderr"):
        monkeypatch.setattr(sys, stream, Broken(errno.EIO))
    with guarded():
        print("a line", flush=True)
        print("an error", file=sys.stderr, flush=True)


@pytest.mark.parametrize("closed", [None, "closed"])
def test_closed_output(closed, monkeypatch, capsys) -> None:
    stream = None
    if closed:
        stream = io.StringIO()
        stream.close()
    monkeypatch.setattr(sys, "stdout", stream)
    with guarded():
        print("a line", flush=True)
        assert not sys.stdout.closed if stream is None else sys.stdout.closed
    assert capsys.readouterr().err.count("\n") == (1 if closed else 0)
    with pytest.raises(UserError, match="Standard output"), guarded(), needed_output():
        print("a line", flush=True)


def test_needed_output(monkeypatch, capsys) -> None:
    monkeypatch.setattr(sys, "stdout", Broken(errno.ENOSPC))
    with pytest.raises(UserError, match="cannot be written: No space"), guarded(), needed_output():
        print("a line")
    monkeypatch.setattr(sys, "stdout", Broken(errno.EPIPE))
    with pytest.raises(SystemExit) as ended, guarded(), needed_output():
        print("a line")
    assert ended.value.code == 1
    assert capsys.readouterr().err == ""


def test_a_failure_is_not_hidden_by_lost_output(monkeypatch) -> None:
    def command() -> None:
        with guarded(), needed_output():
            print("a line")
            raise KeyError

    monkeypatch.setattr(sys, "stdout", Broken(errno.ENOSPC))
    with pytest.raises(KeyError):
        command()


def test_logs_may_write_after_the_command(monkeypatch, capsys) -> None:
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    with guarded():
        handler = logging.StreamHandler(sys.stdout)
    sys.stdout.close()
    handler.emit(logging.makeLogRecord({"msg": "late"}))
    assert capsys.readouterr().err == ""


DESCRIPTORS = """
import os, sys
from snn_delays.output import own_descriptors
os.closerange(0, 3)
own_descriptors()
with open(sys.argv[1], "w", encoding="utf-8") as file:
    os.write(1, b"printed by a library")
    file.write(str(file.fileno() > 2))
"""


def test_no_file_takes_the_number_of_a_closed_stream(tmp_path) -> None:
    subprocess.run([sys.executable, "-c", DESCRIPTORS, str(tmp_path / "data")], check=True)
    assert (tmp_path / "data").read_text("utf-8") == "True"
