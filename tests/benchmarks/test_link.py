"""The link: how fast it is, which of its connections stall, and that it passes each byte of the others."""

from __future__ import annotations

import contextlib
import dataclasses
import heapq
import os
import socket
import struct
import threading
import time
from collections.abc import Iterator
from urllib.parse import parse_qs, urlsplit

import pytest

from benchmarks.model import Target
from benchmarks.servers.link.passage import PIECE_BYTES, Counts
from benchmarks.servers.link.rules import BURST_SECONDS, MOST_BYTES_BEFORE_STALL, Stalls, Throttle
from benchmarks.servers.link.start import LinkSettings, RunningLink, run_link, why_no_link

RATE = 100_000_000
WAIT_SECONDS = 20.0


def senders(throttle: Throttle, count: int, until: float, late: float = 0.0) -> dict[int, list[float]]:
    """When each piece of each sender is through, where each reserves its next piece `late` after the one before."""
    queue = [(0.0, number) for number in range(count)]
    through: dict[int, list[float]] = {number: [] for number in range(count)}
    while queue and queue[0][0] < until:
        now, number = heapq.heappop(queue)
        at = throttle.reserve(PIECE_BYTES, now)
        through[number].append(at)
        heapq.heappush(queue, (max(at, now) + late, number))
    return through


@pytest.mark.parametrize("count", [1, 3, 16])
def test_all_connections_together_have_the_rate_and_each_the_same_share(count: int) -> None:
    through = senders(Throttle(RATE), count, until=2.0)
    total = sum(at <= 2.0 for times in through.values() for at in times) * PIECE_BYTES
    assert 2.0 * RATE - count * PIECE_BYTES <= total <= (2.0 + BURST_SECONDS) * RATE
    pieces = [len(times) for times in through.values()]
    # Who is first has what the link may catch up at its start.
    assert max(pieces) - min(pieces) <= BURST_SECONDS * RATE / PIECE_BYTES + 1


def test_a_sender_that_is_a_little_late_each_time_has_the_whole_rate() -> None:
    """Sleeping is never exact; without it, one connection alone would be slower than several."""
    [times] = senders(Throttle(RATE), 1, until=2.0, late=BURST_SECONDS / 10).values()
    assert sum(at <= 2.0 for at in times) * PIECE_BYTES >= 2.0 * RATE - PIECE_BYTES


def test_a_link_that_was_idle_is_not_faster_afterwards() -> None:
    throttle = Throttle(RATE)
    throttle.reserve(PIECE_BYTES, 0.0)
    sent = 0
    while throttle.reserve(PIECE_BYTES, 100.0) <= 100.5:
        sent += PIECE_BYTES
    assert sent <= (0.5 + BURST_SECONDS) * RATE


def test_every_tenth_connection_stalls_after_a_few_megabytes_at_most() -> None:
    """From an offset on that the seed says; the same seed, the same connections and bytes."""
    offsets = set()
    for seed in range(60):
        stalls, again = Stalls(10, seed), Stalls(10, seed)
        found = [stalls.after_bytes() for _ in range(95)]
        assert found == [again.after_bytes() for _ in range(95)]
        stalled = [number for number, after in enumerate(found) if after is not None]
        assert stalled == list(range(stalled[0], 95, 10))
        assert all(after is None or 0 <= after <= MOST_BYTES_BEFORE_STALL for after in found)
        offsets.add(stalled[0])
    assert offsets == set(range(10))


def test_none_stalls_where_none_should() -> None:
    stalls = Stalls(0, 1)
    assert [stalls.after_bytes() for _ in range(30)] == [None] * 30


def target_at(port: int) -> Target:
    endpoint = f"http://127.0.0.1:{port}"
    return Target(
        f"s3://bucket/p?endpoint={endpoint}&use_path_style=true", "bucket", "p", endpoint, "", path_style=True
    )


@contextlib.contextmanager
def connected(seed: int, *, is_disturbed: bool) -> Iterator[tuple[RunningLink, socket.socket, socket.socket]]:
    """A link, on which all connections stall if it is disturbed, and one through it: the client's and server's ends."""
    settings = LinkSettings(100, stalls_every=1, least_limit_seconds=1)
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(WAIT_SECONDS)
        target = target_at(server.getsockname()[1])
        with run_link(target, settings, is_disturbed=is_disturbed, seed=seed) as link:
            parts = urlsplit(link.target.endpoint)
            assert parse_qs(urlsplit(link.target.url).query) == {
                "endpoint": [link.target.endpoint],
                "use_path_style": ["true"],
            }
            with socket.create_connection(("127.0.0.1", parts.port or 0), timeout=WAIT_SECONDS) as client:
                accepted, _ = server.accept()
                with accepted:
                    accepted.settimeout(WAIT_SECONDS)
                    yield link, client, accepted


def send_in_background(sender: socket.socket, content: bytes) -> threading.Thread:
    def send() -> None:
        with contextlib.suppress(OSError):  # a stalled connection ends with the link
            sender.sendall(content)
            sender.shutdown(socket.SHUT_WR)

    thread = threading.Thread(target=send)
    thread.start()
    return thread


def test_each_byte_passes_both_ways_and_so_does_the_end_of_each() -> None:
    up, down = os.urandom(1_000_003), os.urandom(3_000_001)
    with connected(1, is_disturbed=False) as (link, client, server):
        for sender, receiver, content in ((client, server, up), (server, client, down)):
            thread = send_in_background(sender, content)
            with receiver.makefile("rb") as file:
                assert file.read() == content
            thread.join()
        assert link.counts() == Counts(connections=1, stalled=0, bytes_down=len(down), bytes_up=len(up))


def test_a_client_that_goes_away_is_missed_by_the_server() -> None:
    with connected(1, is_disturbed=False) as (_, client, server):
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()
        assert server.recv(1) == b""


def test_a_connection_that_has_stalled_stays_open_and_nothing_moves_any_more() -> None:
    after = Stalls(1, 1).after_bytes()
    assert after
    content = os.urandom(after + 1_000_000)
    with connected(1, is_disturbed=True) as (link, client, server):
        thread = send_in_background(server, content)
        with client.makefile("rb") as file:
            assert file.read(after) == content[:after]
        deadline = time.monotonic() + WAIT_SECONDS
        while not link.counts().stalled and time.monotonic() < deadline:
            pass  # it answers, so this doesn't spin
        client.sendall(b"still there?")
        assert link.counts() == Counts(connections=1, stalled=1, bytes_down=after, bytes_up=0)
        for end in (client, server):
            end.setblocking(False)
            with pytest.raises(BlockingIOError):
                end.recv(1)
            end.settimeout(WAIT_SECONDS)
    thread.join()


def test_a_link_is_only_where_clients_can_be_sent_to_it() -> None:
    target = target_at(1)
    assert why_no_link(target) == ""
    assert "endpoint" in why_no_link(dataclasses.replace(target, endpoint=""))
    assert "path_style" in why_no_link(dataclasses.replace(target, path_style=False))
    assert "certificate" in why_no_link(dataclasses.replace(target, endpoint="https://store.example"))
    assert why_no_link(dataclasses.replace(target, endpoint="https://127.0.0.1:1")) == ""
