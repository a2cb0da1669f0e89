"""Which of the two data planes a store's transfers use."""

from __future__ import annotations

import logging

from asyncblob.errors import InvalidURLError
from asyncblob.s3.dataplane import DataPlane
from asyncblob.s3.options import Options
from asyncblob.s3.plain import PlainDataPlane
from asyncblob.s3.route import RouteFinder, Unroutable
from asyncblob.s3.small import SmallObjects
from asyncblob.s3.wired import WireDataPlane

__all__ = ["Planes"]

_log = logging.getLogger("asyncblob.s3")


class Planes:
    """The data planes of one store. The choice is made at the first transfer, and holds from then on.

    ``data_plane=auto`` takes the wire, and the plain one where the wire can't do what botocore would do; one line in
    the log, at DEBUG, says why.

    Attributes:
        chosen: The choice, once it is made.
        small: What transfers small objects in one request, if the choice was the wire.
    """

    def __init__(self, options: Options, plain: PlainDataPlane, wire: WireDataPlane, finder: RouteFinder) -> None:
        self.small: SmallObjects | None = None
        self._options = options
        self._plain = plain
        self._wire = wire
        self._finder = finder
        self.chosen: DataPlane | None = plain if options.data_plane == "plain" else None

    async def choose(self) -> DataPlane:
        """The data plane for a transfer that begins now.

        Raises:
            InvalidURLError: The wire was demanded, and can't do it; the message says why.
            CredentialsError: There are no usable credentials.
            ConnectionFailure: They could not be fetched.
        """
        if self.chosen is not None:
            return self.chosen
        plane: DataPlane = self._wire
        try:
            await self._finder.route()
        except Unroutable as reason:
            if self._options.data_plane == "wire":
                raise InvalidURLError(f"data_plane=wire can't be used: {reason}; use data_plane=auto") from None
            _log.debug("%s: the plain data plane is used: %s", self._options.store_name, reason)
            plane = self._plain
        else:
            self.small = SmallObjects(self._wire)
        self.chosen = plane
        return plane
