"""The published files put there by hand, named, unpacked, downloaded; the network closed."""

from __future__ import annotations

import hashlib
import http.server
import shutil
import tarfile
import threading
import zipfile
from pathlib import Path

import pytest
import tonic

from snn_delays.data import download
from snn_delays.data.datasets import gsc
from snn_delays.data.datasets.gsc import speech_commands_folder
from snn_delays.data.datasets.shd import SHD
from snn_delays.data.datasets.ssc import SSC
from snn_delays.data.download import fetch
from snn_delays.data.published import Places, spike_file
from snn_delays.errors import UserError
from tests.conftest import random_spikes


def md5(path: Path) -> str:
    return hashlib.md5(path.read_bytes()).hexdigest()


def pass_for_shd(path: Path, samples: int, monkeypatch) -> None:
    """Let a file pass for the published shd_train.h5."""
    monkeypatch.setitem(SHD.md5, "train", md5(path))
    monkeypatch.setitem(SHD.samples, "train", samples)


@pytest.fixture
def closed(monkeypatch) -> None:
    """No network."""

    def refuse(*arguments, **options):
        raise OSError("the network is closed")

    monkeypatch.setattr(download, "urlopen", refuse)
    monkeypatch.setattr(tonic.dataset, "download_and_extract_archive", refuse)


@pytest.fixture
def shd(tmp_path, monkeypatch, closed) -> tuple[Path, Places]:
    """A file that passes for shd_train.h5, and an empty root; the network is closed."""
    path = random_spikes(tmp_path / "shd_train.h5", 12, 0)
    pass_for_shd(path, 12, monkeypatch)
    root = tmp_path / "root"
    root.mkdir()
    return path, Places(root, tmp_path / "memo")


def zipped(path: Path, archive: Path, monkeypatch) -> Path:
    """An archive that passes for the published one."""
    with zipfile.ZipFile(archive, "w") as file:
        file.write(path, path.name)
    monkeypatch.setattr(tonic.datasets.SHD, "train_md5", md5(archive))
    return archive


@pytest.mark.parametrize("folder", ["SHD", "shd", "."])
def test_files_put_there_by_hand_are_used(shd, folder) -> None:
    path, places = shd
    (places.root / folder).mkdir(exist_ok=True)
    shutil.copy(path, places.root / folder)
    assert spike_file(SHD, "train", places) == places.root / folder / "shd_train.h5"


def test_a_file_named_by_path_is_used(shd, tmp_path, monkeypatch) -> None:
    path, places = shd
    mine = shutil.copy(path, tmp_path / "mine.h5")
    assert spike_file(SHD, "train", places, Path(mine)) == tmp_path / "mine.h5"
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    archive = zipped(path, elsewhere / "archive.zip", monkeypatch)
    assert spike_file(SHD, "train", places, archive) == elsewhere / "shd_train.h5"
    with pytest.raises(UserError, match=r"There is no file .*none\.h5"):
        spike_file(SHD, "train", places, tmp_path / "none.h5")
    assert list(places.root.iterdir()) == []


def test_a_file_with_another_checksum_is_refused(shd) -> None:
    _, places = shd
    random_spikes(places.root / "shd_train.h5", 12, 1)
    with pytest.raises(UserError, match="its MD5 is"):
        spike_file(SHD, "train", places)


def test_a_file_with_too_few_samples_is_refused(shd, monkeypatch) -> None:
    path, places = shd
    shutil.copy(path, places.root)
    pass_for_shd(path, 13, monkeypatch)
    with pytest.raises(UserError, match=r"has 12 samples, the published shd_train.h5 13"):
        spike_file(SHD, "train", places)


def test_an_archive_put_there_by_hand_is_unpacked(shd, monkeypatch) -> None:
    path, places = shd
    archive = places.root / "shd_train.h5.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.write(path, "shd_train.h5")
    with pytest.raises(UserError, match=r"shd_train.h5.zip is damaged"):
        spike_file(SHD, "train", places)
    zipped(path, archive, monkeypatch)
    assert spike_file(SHD, "train", places) == places.root / "shd_train.h5"
    names = sorted(p.name for p in places.root.iterdir())
    assert names == ["shd_train.h5", "shd_train.h5.zip"]


def test_a_missing_file_says_where_it_belongs(shd) -> None:
    _, places = shd
    words = rf"put shd_train\.h5 or shd_train\.h5\.zip into {places.root}/SHD/, set data\.root"
    with pytest.raises(UserError, match=words):
        spike_file(SHD, "train", places)
    with pytest.raises(UserError, match=r"ssc_valid\.h5 is missing.*data\.valid_file=<path>"):
        spike_file(SSC, "valid", places)
    with pytest.raises(UserError, match=r"Speech Commands is missing.*into .*GSC/"):
        speech_commands_folder(places.root)


# ---- downloads, from a server on this machine --------------------------------------------------


class Server(http.server.BaseHTTPRequestHandler):
    """Serves ``content``, the first ``cut`` bytes of what is asked for; with ranges or without."""

    content = b""
    cut: int | None = None
    ranges = True
    asked: list[str | None]

    def do_GET(self) -> None:
        wanted = self.headers.get("Range")
        self.asked.append(wanted)
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and self.ranges else 0
        if start and start >= len(self.content):
            self.send_error(416)
            return
        rest = self.content[start:]
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(rest)))
        self.end_headers()
        self.wfile.write(rest[: self.cut])

    def log_message(self, *arguments) -> None:
        pass


@pytest.fixture
def server():
    handler = type("Handler", (Server,), {"asked": [], "content": bytes(range(256)) * 40})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        handler.url = f"http://127.0.0.1:{running.server_port}/file"
        handler.md5 = hashlib.md5(handler.content).hexdigest()
        yield handler
        running.shutdown()
        thread.join()


def test_a_broken_download_goes_on_where_it_stopped(server, tmp_path) -> None:
    server.cut = 3000
    fetch(server.url, tmp_path / "a" / "file", server.md5)
    assert (tmp_path / "a" / "file").read_bytes() == server.content
    assert server.asked == [None, "bytes=3000-", "bytes=6000-", "bytes=9000-"]
    assert [p.name for p in (tmp_path / "a").iterdir()] == ["file"]


def test_a_failed_download_leaves_no_folder(server, tmp_path) -> None:
    (tmp_path / "mine").mkdir()
    for cut, wanted in ((0, server.md5), (None, "of another file")):
        server.cut = cut
        for folder in ("mine", "mine/a/b", "c/d"):
            with pytest.raises(UserError):
                fetch(server.url, tmp_path / folder / "file", wanted)
    assert [*tmp_path.rglob("*")] == [tmp_path / "mine"]


def test_what_an_earlier_attempt_left_is_kept(server, tmp_path) -> None:
    server.cut = 0
    (tmp_path / "file.part").write_bytes(server.content[:5000])
    with pytest.raises(UserError, match=r"could not be downloaded .* are kept"):
        fetch(server.url, tmp_path / "file", server.md5)
    assert (tmp_path / "file.part").read_bytes() == server.content[:5000]
    server.cut = None
    server.asked.clear()
    fetch(server.url, tmp_path / "file", server.md5)
    assert server.asked == ["bytes=5000-"]
    assert (tmp_path / "file").read_bytes() == server.content


def test_a_whole_part_is_not_fetched_again(server, tmp_path) -> None:
    (tmp_path / "file.part").write_bytes(server.content)
    fetch(server.url, tmp_path / "file", server.md5)
    assert (tmp_path / "file").read_bytes() == server.content


def test_a_server_without_ranges_sends_all_again(server, tmp_path) -> None:
    server.ranges = False
    (tmp_path / "file.part").write_bytes(b"something else")
    fetch(server.url, tmp_path / "file", server.md5)
    assert (tmp_path / "file").read_bytes() == server.content


def test_a_wrong_checksum_leaves_nothing(server, tmp_path) -> None:
    with pytest.raises(UserError, match="its MD5 differs"):
        fetch(server.url, tmp_path / "a" / "file", "0" * 32)
    assert list(tmp_path.iterdir()) == []


def test_shd_is_downloaded_from_where_tonic_says(server, tmp_path, monkeypatch) -> None:
    path = random_spikes(tmp_path / "shd_train.h5", 12, 0)
    pass_for_shd(path, 12, monkeypatch)
    server.content = zipped(path, tmp_path / "shd_train.h5.zip", monkeypatch).read_bytes()
    base = server.url.removesuffix("file")
    monkeypatch.setattr(tonic.datasets.SHD, "base_url", base, raising=False)
    places = Places(tmp_path / "root", tmp_path / "memo")
    found = spike_file(SHD, "train", places)
    assert found == tmp_path / "root" / "SHD" / "shd_train.h5"
    assert found.read_bytes() == path.read_bytes()
    dataset = tonic.datasets.SHD(str(tmp_path / "root"))  # Tonic itself finds it there
    assert len(dataset) == 12


def test_speech_commands_is_unpacked_or_found(tmp_path, monkeypatch, closed) -> None:
    tree = tmp_path / "tree"
    (tree / "yes").mkdir(parents=True)
    for name in ("yes/a.wav", "testing_list.txt", "validation_list.txt"):
        (tree / name).write_text("", encoding="utf-8")
    root = tmp_path / "root"
    root.mkdir()
    archive = root / "speech_commands_v0.02.tar.gz"
    with tarfile.open(archive, "w:gz") as file:
        file.add(tree, ".")
    with pytest.raises(UserError, match="is damaged"):
        speech_commands_folder(root)
    monkeypatch.setattr(gsc, "GSC_MD5", md5(archive))
    found = speech_commands_folder(root)
    assert found == root / "speech_commands_v0.02"
    assert (found / "yes" / "a.wav").is_file()
    archive.unlink()
    assert speech_commands_folder(root) == found
    assert speech_commands_folder(tmp_path / "none", named=tree) == tree
    for folder in ("GSC", "SpeechCommands/speech_commands_v0.02"):
        shutil.copytree(tree, tmp_path / "other" / folder)
        assert speech_commands_folder(tmp_path / "other") == tmp_path / "other" / folder
        shutil.rmtree(tmp_path / "other" / folder)
