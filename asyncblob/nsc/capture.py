"""A bounded memory of what a process prints: the beginning and the end, and how much was dropped between them."""

from __future__ import annotations

from asyncblob.nsc.redaction import redact

__all__ = ["HEAD_BYTES", "TAIL_BYTES", "Capture"]

# The JSON of `nsc artifact describe` is about 500 bytes and an error some lines; but without a terminal a line of
# progress comes every 3 s, and the error after all of them. So the end gets more room than the beginning.
HEAD_BYTES = 16 * 1024
TAIL_BYTES = 48 * 1024


class Capture:
    """Takes any amount of output and keeps at most `HEAD_BYTES` and twice `TAIL_BYTES` of it in memory."""

    __slots__ = ("_head", "_tail", "_total_bytes")

    def __init__(self) -> None:
        self._head = bytearray()
        self._tail = bytearray()
        self._total_bytes = 0

    def feed(self, data: bytes) -> None:
        """Take what was read."""
        self._total_bytes += len(data)
        room = HEAD_BYTES - len(self._head)
        if room > 0:
            self._head += data[:room]
            data = data[room:]
        self._tail += data[-TAIL_BYTES:]
        if len(self._tail) > 2 * TAIL_BYTES:
            del self._tail[:-TAIL_BYTES]

    def text(self) -> str:
        """What was kept, decoded (what is no UTF-8 is escaped), and free of what looks like a credential."""
        head, tail = bytes(self._head), bytes(self._tail[-TAIL_BYTES:])
        if len(head) + len(tail) == self._total_bytes:
            return _decode(head + tail)
        # A token that was cut in two is no longer recognised as one: both cuts move to the next white space.
        head = head[: _last_space(head)]
        tail = tail[_first_space(tail) :]
        dropped_bytes = self._total_bytes - len(head) - len(tail)
        return f"{_decode(head)}\n[… {dropped_bytes} bytes dropped …]\n{_decode(tail)}"


def _decode(data: bytes) -> str:
    return redact(data.decode("utf-8", "backslashreplace"))


def _last_space(data: bytes) -> int:
    return max(data.rfind(b" "), data.rfind(b"\n"), 0)


def _first_space(data: bytes) -> int:
    found = [position for position in (data.find(b" "), data.find(b"\n")) if position >= 0]
    return min(found) if found else len(data)
