"""The pool of large buffers: what is used again, and what is given back."""

from __future__ import annotations

import resource
import sys
import threading
from pathlib import Path

import pytest
import torch

from snn_delays.runtime import buffers
from snn_delays.runtime.buffers import SMALL, WASTE, WINDOW, Pool

LIKE = torch.empty(0, dtype=torch.uint8)


def test_a_buffer_comes_back_when_its_last_tensor_is_gone() -> None:
    pool = Pool()
    a = pool.empty((2, SMALL), LIKE)
    view, address = a[1], a.data_ptr()
    del a
    other = pool.empty((2, SMALL), LIKE)
    assert other.data_ptr() != address  # the view still needs it
    del view
    b = pool.empty((2 * SMALL - 5,), LIKE)
    assert b.data_ptr() == address
    assert b.shape == (2 * SMALL - 5,)


def test_the_smallest_buffer_that_fits_is_taken_and_none_much_too_large(monkeypatch) -> None:
    monkeypatch.setattr(buffers, "SPARE", 1.25)
    pool = Pool()
    large, small = pool.empty((8 * SMALL,), LIKE), pool.empty((6 * SMALL,), LIKE)
    addresses = large.data_ptr(), small.data_ptr()
    del large, small
    first = pool.empty((5 * SMALL,), LIKE)
    assert first.data_ptr() == addresses[1]
    second = pool.empty((3 * SMALL,), LIKE)  # the large one is kept: 17 of at most 17.5
    assert WASTE * 3 < 8
    assert second.data_ptr() not in addresses
    assert [raw.ctypes.data for raw in pool._free] == [addresses[0]]


def test_no_more_is_kept_than_a_tenth_above_what_was_lent_at_once() -> None:
    pool = Pool()
    for size in range(2, 40):  # each too large for those before it
        pool.empty((size * SMALL,), LIKE)
        assert pool._held <= 1.1 * 1.07 * size * SMALL
    before = pool._held
    for _ in range(3):  # what fits is used again
        pool.empty((39 * SMALL,), LIKE)
    assert pool._held == before


def test_a_need_that_is_over_is_forgotten() -> None:
    pool = Pool()
    pool.empty((100 * SMALL,), LIKE)
    for _ in range(2 * WINDOW):
        pool.empty((SMALL,), LIKE)
    assert pool._held < 3 * SMALL


def test_a_request_that_fails_is_not_counted() -> None:
    pool = Pool()
    with pytest.raises(MemoryError):
        pool.empty((1 << 60,), LIKE)
    assert pool._held == 0


def test_several_threads_at_once(request) -> None:
    interval = sys.getswitchinterval()
    request.addfinalizer(lambda: sys.setswitchinterval(interval))
    sys.setswitchinterval(1e-6)
    pool, failures = Pool(), []

    def work(mark: int) -> None:
        try:
            for n in range(1500):
                held = [pool.empty((SMALL + 7 * k * n,), LIKE) for k in range(4)]
                for tensor in held:
                    tensor[:: 1 << 16] = mark
                assert all((tensor[:: 1 << 16] == mark).all() for tensor in held)
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(mark,)) for mark in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert pool._in_use == 0


def lends_huge_pages() -> bool:
    setting = Path("/sys/kernel/mm/transparent_hugepage/enabled")
    return setting.is_file() and "[never]" not in setting.read_text("utf-8")


@pytest.mark.skipif(not lends_huge_pages(), reason="the system lends no huge pages")
def test_tensors_of_torch_lie_on_huge_pages() -> None:
    pages = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        torch.zeros(12 * SMALL)  # 48 MB
        pages.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
    assert min(pages) < 48 * SMALL / resource.getpagesize() / 10
