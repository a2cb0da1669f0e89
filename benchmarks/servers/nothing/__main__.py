"""``python -m benchmarks.servers.nothing PORT DIRECTORY [CERTIFICATE]``: serves until it is killed."""

from __future__ import annotations

import contextlib
import socket
import ssl
import sys
import threading
from collections.abc import Sequence

from benchmarks.servers.nothing.bucket import Bucket
from benchmarks.servers.nothing.connection import Connection, ProtocolError
from benchmarks.servers.nothing.service import Service

__all__ = ["main"]

_BACKLOG = 1024


def main(arguments: Sequence[str]) -> None:
    """Serve on a port of 127.0.0.1; a certificate is a PEM file of key and chain."""
    port, directory, *certificate = arguments
    context = None
    if certificate:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(certificate[0])
    service = Service(Bucket(directory))
    with socket.create_server(("127.0.0.1", int(port)), backlog=_BACKLOG) as listener:
        while True:
            connected, _ = listener.accept()
            threading.Thread(target=_serve, args=(connected, context, service), daemon=True).start()


def _serve(connected: socket.socket, context: ssl.SSLContext | None, service: Service) -> None:
    with contextlib.ExitStack() as stack:
        stack.callback(connected.close)
        # A client that goes away, in whatever state, is its own business.
        stack.enter_context(contextlib.suppress(OSError))
        if context is not None:
            connected = stack.enter_context(context.wrap_socket(connected, server_side=True))
        connection = Connection(connected)
        try:
            while head := connection.next_head():
                service.answer(connection, head)
                if head.headers.get("connection", "").lower() == "close":
                    break
        except ProtocolError as error:
            print(error, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
