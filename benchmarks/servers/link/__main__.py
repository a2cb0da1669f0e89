"""``python -m benchmarks.servers.link JSON``: passes bytes until it is killed; the JSON is of a `LinkSettings`."""

from __future__ import annotations

import json
import socket
import sys
import threading
from dataclasses import asdict

from benchmarks.servers.link.passage import Link
from benchmarks.servers.link.rules import Stalls

__all__ = ["main"]

_BACKLOG = 1024


def main(told: str) -> None:
    """Serve on two ports of 127.0.0.1: one is the link's, and the other tells whoever connects the counts."""
    settings = json.loads(told)
    stalls = Stalls(settings["stalls_every"], settings["seed"])
    link = Link((settings["host"], settings["host_port"]), settings["bytes_per_second"], stalls)
    with (
        socket.create_server(("127.0.0.1", settings["port"]), backlog=_BACKLOG) as listener,
        socket.create_server(("127.0.0.1", settings["door_port"])) as door,
    ):
        threading.Thread(target=_tell, args=(door, link), daemon=True).start()
        while True:
            connected, _ = listener.accept()
            link.accept(connected)


def _tell(door: socket.socket, link: Link) -> None:
    while True:
        asking, _ = door.accept()
        with asking:
            asking.sendall(json.dumps(asdict(link.counts)).encode())


if __name__ == "__main__":
    main(sys.argv[1])
