"""`Limits`: what a store in S3 does at once."""

from __future__ import annotations

import pytest

from asyncblob.s3.limits import Limits


def test_without_a_limit() -> None:
    """64 parts in flight, or the concurrency that was asked for if that is more."""
    assert Limits.within(None, concurrency=0).requests == 64
    assert Limits.within(None, concurrency=100).requests == 100


@pytest.mark.parametrize("to_spare", [32, 64, 100, 224, 480, 992])
@pytest.mark.parametrize("concurrency", [0, 100])
def test_all_fits(to_spare: int, concurrency: int) -> None:
    """Whatever is open at the worst moment fits into the descriptors to spare.

    On the wire: all parts and all look-ups on one I/O thread, what the other one keeps idle, the control plane's
    requests, and two files of each transfer. On the plain data plane the connections are in one pool of that size.
    """
    limits = Limits.within(to_spare, concurrency=concurrency)
    connections = limits.pool.connections + limits.pool.idle + limits.control + limits.urgent
    assert connections + 2 * limits.transfers <= to_spare
    assert limits.pool.connections == limits.requests + limits.control


def test_the_usual_limits_take_nothing_away() -> None:
    """With 1,024 descriptors, and with the 512 that some have, as many parts are in flight as without a limit."""
    for soft in (512, 1024):
        assert Limits.within(soft - 32, concurrency=0).requests == 64
