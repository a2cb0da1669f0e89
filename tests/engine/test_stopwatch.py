"""The stopwatch: every backend's `TransferInfo` is made in one place."""

from __future__ import annotations

import math
import time

import pytest

from asyncblob.engine.stopwatch import Stopwatch


def test_the_time_and_the_speed_are_those_since_it_was_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """The duration is in seconds, and the speed in decimal megabytes per second."""
    clock = iter([10.0, 12.5])
    monkeypatch.setattr(time, "perf_counter", lambda: next(clock))
    info = Stopwatch().info(5_000_000)
    assert (info.duration, info.transfer_speed, info.bytes_transferred) == (2.5, 2.0, 5_000_000)


def test_the_speed_is_that_of_what_was_moved_now(monkeypatch: pytest.MonkeyPatch) -> None:
    """What an earlier call had moved doesn't make this one faster."""
    clock = iter([10.0, 12.5])
    monkeypatch.setattr(time, "perf_counter", lambda: next(clock))
    info = Stopwatch().info(5_000_000, bytes_resumed=4_000_000)
    assert (info.transfer_speed, info.bytes_transferred, info.bytes_resumed) == (0.4, 5_000_000, 4_000_000)


def test_what_a_backend_does_not_know_is_empty() -> None:
    """A backend names what it knows; all else has the value that stands for nothing."""
    info = Stopwatch().info(0)
    assert (info.request_id, info.etag, info.checksum) == ("", "", "")
    assert (info.part_count, info.concurrency, info.retries) == (0, 0, 0)
    assert math.isfinite(info.transfer_speed)
    known = Stopwatch().info(1, request_id="id", part_count=2, concurrency=3, etag='"e"', checksum="c", retries=4)
    assert (known.request_id, known.etag, known.checksum) == ("id", '"e"', "c")
    assert (known.part_count, known.concurrency, known.retries) == (2, 3, 4)
