"""Signals that ask a training to stop."""

from __future__ import annotations

import os
import signal

import pytest

from snn_delays.training.signals import StopSignal, request_stop


@pytest.fixture
def before():
    """What a second signal does: it is counted."""
    heard: list[int] = []
    was = signal.signal(signal.SIGUSR1, lambda number, frame: heard.append(number))
    yield heard
    signal.signal(signal.SIGUSR1, was)


def test_the_second_does_what_it_did_before_however_many_listen(before, capfd) -> None:
    told: list[int] = []
    with StopSignal(told.append) as outer, StopSignal() as inner:
        os.kill(os.getpid(), signal.SIGUSR1)
        assert outer.received == inner.received == signal.SIGUSR1
        assert told == [signal.SIGUSR1]
        os.kill(os.getpid(), signal.SIGUSR1)
    assert before == [signal.SIGUSR1]
    assert told == [signal.SIGUSR1]
    assert capfd.readouterr().err.count("stopping at the next batch") == 1


def test_another_thread_may_ask(before) -> None:
    request_stop(signal.SIGUSR1)  # nobody listens
    with StopSignal() as stop:
        request_stop(signal.SIGUSR1)
        assert stop.received == signal.SIGUSR1
        request_stop(signal.SIGTERM)  # the first counts
        assert stop.received == signal.SIGUSR1
    request_stop(signal.SIGUSR1)
    assert before == []
