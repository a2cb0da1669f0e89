"""Whether a service takes checksums: what is known of it, and the fallback for one that refuses them."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

from asyncblob.engine.retry import Verdict
from asyncblob.s3 import crc
from asyncblob.s3.failures import ChecksumRefused, Corrupted, ServiceFailure
from asyncblob.s3.judge import is_checksum_refusal

__all__ = ["ChecksumPolicy"]

T = TypeVar("T")

_log = logging.getLogger("asyncblob.s3")


class ChecksumPolicy:
    """Decides, for one store, whether an upload carries a CRC64NVME.

    With ``checksum=auto`` the first uploads carry one. If the service answers in a way that a service which doesn't
    take checksums would, the upload is made again without; if that succeeds, the store goes on without, and says so
    once in its log. A service that has accepted a checksum before is taken at its word when it refuses something.

    Attributes:
        untold: Whether the service refused, when it was asked last, to tell the checksum of an object.
    """

    def __init__(self, option: str, *, store: str) -> None:
        self._option = option
        self._store = store
        self._accepted = False
        self._refused = False
        self.untold = False

    @property
    def verifies(self) -> bool:
        """Whether downloads are checked."""
        return self._option != "none"

    async def upload(self, run: Callable[[bool], Awaitable[T]]) -> T:
        """Run an upload, with a checksum if the service takes them.

        Args:
            run: Makes the upload, with a checksum or without. Raises `ChecksumRefused` by way of `refusal`.
        """
        if self._option == "none" or self._refused:
            return await run(False)
        try:
            result = await run(True)
        except ChecksumRefused as refused:
            first = refused
        else:
            self._accepted = True
            return result
        failure = first.__cause__
        if not isinstance(failure, ServiceFailure):  # pragma: no cover - refusal() always sets it
            raise first
        result = await run(False)
        if not self._refused:
            self._refused = True
            _log.warning(
                "%s refuses checksums (%s); uploads go on without, downloads are still checked where it has one",
                self._store,
                failure,
            )
        return result

    def refusal(self, with_crc: bool) -> Callable[[Exception], Verdict | None]:
        """What a failure of a request that carries a checksum, or does not, means."""

        def special(failure: Exception) -> Verdict | None:
            if (
                with_crc
                and self._option == "auto"
                and not self._accepted
                and isinstance(failure, ServiceFailure)
                and is_checksum_refusal(failure)
            ):
                raise ChecksumRefused(str(failure)) from failure
            return None

        return special

    def check_echo(self, sent: int | None, echo: int | None) -> bool:
        """Compare what was sent with what the service says it received; True: it says so, and they are equal.

        Raises:
            Corrupted: They differ, so what is stored is not what was sent.
        """
        if sent is None or echo is None:
            return False
        if sent != echo:
            raise Corrupted(
                f"the service received other bytes (CRC64NVME {crc.encode(echo)}) than were sent ({crc.encode(sent)})"
            )
        return True
