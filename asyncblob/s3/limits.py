"""What a store in S3 does at once, within the descriptors that its process may have."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from asyncblob.engine.descriptors import fitting
from asyncblob.wire.pool import PoolLimits

__all__ = ["Limits"]

_REQUESTS_IN_FLIGHT = 64
"""Parts in flight of all transfers of a store together, or `Options.concurrency` if that is more: each is a connection,
and a hundred transfers of 16 parts each would be more connections than a process may have descriptors."""

_CONTROL_REQUESTS, _URGENT_REQUESTS = 32, 16
"""Requests of the control plane in flight at once. They have connections of their own: an abort must not wait for parts
that take minutes on a slow uplink, nor for other requests that the service doesn't answer."""

_OPEN_TRANSFERS = 256
"""Transfers that have files open at once. A few times the requests in flight, so that none of those waits for a
transfer that is just being opened or published."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How much of what there is at once.

    Attributes:
        requests: Requests of the data plane in flight.
        control: Those of the control plane, the look-ups of checksums included.
        urgent: Those of the control plane that clean up.
        transfers: Transfers with files open; two descriptors each.
        pool: The connections of an I/O thread.
    """

    requests: int
    control: int
    urgent: int
    transfers: int
    pool: PoolLimits

    @classmethod
    def within(cls, to_spare: int | None, *, concurrency: int) -> Self:
        """What fits into a number of descriptors; None: there is no limit.

        Of those to spare, a quarter is for parts in flight, an eighth for the idle connections of each I/O thread, a
        quarter for the files of transfers, an eighth for ordinary requests and as much for the look-ups of the wire, a
        sixteenth for urgent ones. With 64 descriptors that is 8 parts in flight, from 288 on all 64.
        """
        requests = fitting(max(_REQUESTS_IN_FLIGHT, concurrency), each=4, to_spare=to_spare)
        control = fitting(_CONTROL_REQUESTS, each=8, to_spare=to_spare)
        return cls(
            requests=requests,
            control=control,
            urgent=fitting(_URGENT_REQUESTS, each=16, to_spare=to_spare),
            transfers=fitting(_OPEN_TRANSFERS, each=8, to_spare=to_spare),
            # An I/O thread may have all of the requests at once, and those that look checksums up.
            pool=PoolLimits(connections=requests + control, idle=fitting(requests, each=8, to_spare=to_spare)),
        )
