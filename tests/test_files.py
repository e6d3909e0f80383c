"""Files that other users of the machine may have put where this user's are expected."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest

from snn_delays import files
from snn_delays.data import checksums
from snn_delays.data.checksums import content_digest
from snn_delays.data.datasets import synthetic
from snn_delays.errors import UserError
from tests.conftest import open_spikes

OTHER = 4242  # a user's number


@pytest.fixture
def as_another(monkeypatch) -> None:
    """What is on the disk is another user's, and not the system's."""
    real = Path.lstat

    class Stat:
        def __init__(self, path) -> None:
            self.real = real(path)

        def __getattr__(self, name):
            return OTHER if name == "st_uid" else getattr(self.real, name)

    monkeypatch.setattr(Path, "lstat", lambda path: Stat(path))


def test_what_others_put_where_everybody_can_write_is_not_trusted(tmp_path, as_another) -> None:
    path = tmp_path / "a"
    path.touch()
    for mode, trusted in ((0o755, True), (0o775, True), (0o1777, False), (0o777, False)):
        tmp_path.chmod(mode)
        assert files.is_trusted(path) is trusted, oct(mode)


def test_ones_own_is_trusted_anywhere(tmp_path) -> None:
    (tmp_path / "a").touch()
    tmp_path.chmod(0o777)
    assert files.is_trusted(tmp_path / "a")


def test_frames_of_another_user_are_made_anew(small_config, request) -> None:
    config = small_config()
    place = Path(config.data.cache)
    path = Path(config.data.train_file)
    expected = open_spikes(path, config).frames(0)
    place.chmod(0o777)
    assert open_spikes(path, config).status == "sound"
    request.getfixturevalue("as_another")
    store = open_spikes(path, config)
    assert store.status == (
        "damaged (another user's, in a folder that everybody can write to), made anew"
    )
    assert (store.frames(0) == expected).all()


def test_a_digest_that_another_user_noted_is_not_believed(tmp_path, as_another) -> None:
    path, memo = tmp_path / "a", tmp_path / "memo"
    path.write_text("one", "utf-8")
    os.utime(path, (1e9, 1e9))
    digest = content_digest(path, memo)
    (note,) = (memo / "digests").iterdir()
    note.write_text(checksums._signed("0" * 64), "utf-8")
    assert content_digest(path, memo) == "0" * 64
    note.parent.chmod(0o777)
    assert content_digest(path, memo) == digest


def test_words_that_another_user_made_are_refused(tmp_path, as_another) -> None:
    settings = synthetic.SyntheticConfig(train_samples=4, valid_samples=4, test_samples=4)
    synthetic.synthetic_files(settings, tmp_path)
    tmp_path.chmod(0o777)
    with pytest.raises(UserError, match="is another user's, in a folder that everybody can write"):
        synthetic.synthetic_files(settings, tmp_path)


# ---- locks -------------------------------------------------------------------------------------


class Asked(Exception):
    """What a signal's handler raises."""


def test_who_finds_a_lock_held_learns_by_which_process(tmp_path) -> None:
    path = tmp_path / "new" / "lock"
    with files.locked(path, wait=False):
        for _ in range(2):  # the first attempt leaves the number there
            with (
                pytest.raises(files.Locked, match=f"^{os.getpid()}$"),
                files.locked(path, wait=False),
            ):
                pass
    with files.locked(path, wait=False):
        pass


def test_a_wait_for_a_lock_heeds_signals(tmp_path) -> None:
    fcntl = pytest.importorskip("fcntl")

    def handler(number: int, frame: object) -> None:
        raise Asked

    before = signal.signal(signal.SIGALRM, handler)
    try:
        with open(tmp_path / "lock", "wb") as held:
            fcntl.flock(held, fcntl.LOCK_EX)
            signal.setitimer(signal.ITIMER_REAL, 0.05)
            with pytest.raises(Asked), files.locked(tmp_path / "lock", wait=True):
                pass
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have other folders")
@pytest.mark.parametrize(("chosen", "folder"), [("", "~/.cache"), ("/elsewhere", "/elsewhere")])
def test_the_cache_folder_is_the_users(chosen, folder, monkeypatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", chosen)
    assert files.user_cache() == Path(folder).expanduser() / "snn_delays"
