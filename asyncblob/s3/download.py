"""A download: parallel ranged GETs into one file, the first of which doubles as the look-up, all pinned to one ETag."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from functools import partial

from asyncblob.engine.budget import Share
from asyncblob.engine.cancellation import task_group
from asyncblob.engine.hedging import hedged
from asyncblob.engine.plan import AUTO_CONCURRENCY, MIB, Part, Plan, plan_download
from asyncblob.engine.progress import PartMeter, ProgressMeter
from asyncblob.engine.retry import RetryPolicy
from asyncblob.engine.scheduler import run_parts
from asyncblob.errors import BlobChangedError, IntegrityError, TransferError
from asyncblob.files.directory import naming
from asyncblob.files.publish import PendingFile
from asyncblob.s3 import crc
from asyncblob.s3.context import StoreContext
from asyncblob.s3.dataplane import DataPlane, ObjectHead
from asyncblob.s3.failures import ConnectionFailure, FileFailure, ObjectChanged, RequestFailure, ServiceFailure
from asyncblob.s3.ledger import Kept, Ledger, verified
from asyncblob.s3.object_changes import changed, range_changed
from asyncblob.s3.open_reply import OpenReply
from asyncblob.s3.racing import Racing
from asyncblob.s3.requests import Tally
from asyncblob.s3.stored_checksum import find_stored_checksum, verify

__all__ = ["Download", "DownloadResult"]

_RESTARTS = 3
"""How often a download starts again because the object changed under it."""

_ONE_ATTEMPT = RetryPolicy(max_attempts=1)

_INTEGRITY_ATTEMPTS = 2
"""How often the whole is fetched when its checksum is wrong: a byte may have flipped on the way."""


@dataclass(frozen=True, slots=True)
class DownloadResult:
    """What a download did; the fields are those of `TransferInfo`."""

    size: int
    etag: str
    request_id: str
    checksum: str
    part_count: int
    concurrency: int


class Download:
    """One download of one key to one file.

    Theory of operation. The first GET asks for one part's worth of bytes: its reply's head tells the object's size and
    ETag. Only then the destination's temporary file is made, the other ranges are planned and requested, each with
    ``If-Match``, and, since a ranged reply never carries the checksum of the whole, a HEAD for that runs beside them.
    The CRCs of the ranges are combined and compared, and then the file is published.

    A 412, or another ETag, means that the object changed: everything starts again with the new one.

    With a ledger, the parts that it has are not fetched, and the first GET, with ``If-Match``, is for the first one
    that it has not. If it has all of them, the HEAD alone tells whether they still are the object.
    """

    def __init__(
        self,
        context: StoreContext,
        plane: DataPlane,
        key: str,
        dest_path: str,
        meter: ProgressMeter,
        tally: Tally,
        ledger: Ledger | None = None,
    ) -> None:
        self._context = context
        self._options = context.options
        self._plane = plane
        self._requests = context.requests
        self._verify = context.checksums.verifies
        self._key = key
        self._dest_path = dest_path
        self._meter = meter
        self._tally = tally
        self._ledger = ledger
        self._with_crc = self._verify or ledger is not None
        self._pending: PendingFile | None = None
        self._request_id = ""

    def _plan(self, size: int, kept: Kept | None) -> Plan:
        options = self._options
        part_size = kept.part_size if kept is not None else options.part_size_mb * MIB
        return plan_download(size, part_size_bytes=part_size, concurrency=options.concurrency)

    async def run(self) -> DownloadResult:
        """Download the object and publish the file.

        Cancellation: at any await, `CancelledError` after every request and thread has ended; the destination is
        untouched unless the rename was under way.
        """
        try:
            result = await self._fetch_unchanged()
            self._meter.finish(result.size)
            await self._context.in_thread(self._commit)
            return result
        finally:
            if self._pending is not None and self._ledger is None:
                await self._context.clean_up_in_thread(self._pending.discard)

    def _commit(self) -> None:
        if self._pending is None:
            raise AssertionError("fetched without a file")
        self._pending.commit(fsync=self._options.fsync)
        self._pending = None

    async def _fetch_unchanged(self) -> DownloadResult:
        changes = mismatches = 0
        while True:
            try:
                return await self._fetch()
            except ObjectChanged as change:
                changes += 1
                if changes > _RESTARTS:
                    raise BlobChangedError(
                        f"the object changed {changes} times meanwhile ({change}); download it when it is at rest"
                    ) from change
            except IntegrityError:
                mismatches += 1
                if mismatches == _INTEGRITY_ATTEMPTS:
                    raise
            if self._ledger is not None:
                await self._context.in_thread(self._ledger.forget)
            self._tally.retries += 1
            self._meter.restart()

    async def _fetch(self) -> DownloadResult:
        concurrency = self._options.concurrency or AUTO_CONCURRENCY
        with self._context.budget.share(concurrency=concurrency) as share:
            kept = await self._find_kept()
            number = kept.first_missing if kept is not None else 1
            first: OpenReply | None = None
            if kept is None or number:
                first = await self._requests.send(
                    partial(self._open_first, share, kept, number), tally=self._tally, special=changed
                )
                head = first.reply.head
            else:
                head = kept.head
            racing: Racing | None = None
            try:
                self._request_id = self._request_id or head.request_id
                plan = self._plan(head.size, kept)
                if plan.is_multipart and not head.etag:
                    raise TransferError("the service gives no ETag, so its ranges can't be told to be of one object")
                self._meter.bytes_total = plan.size
                self._meter.parts_total = plan.part_count if plan.is_multipart else 0
                fd = await self._prepare_file(head.etag, plan)
                whole = crc.Whole()
                done = kept.parts if kept is not None else {}
                self._tally.bytes_resumed = done_bytes = 0
                if kept is not None:
                    done_bytes = await self._context.in_thread(partial(kept.add_to, whole))
                    self._tally.bytes_resumed = done_bytes
                    self._meter.skip(len(done), done_bytes)
                expected: list[int | None] = [None]
                racing = self._racing(plan.part_count - len(done), plan.size - done_bytes, head.etag, fd, share)
                async with task_group() as group:
                    if self._verify or first is None:
                        group.start_soon(self._look_checksum_up, head, expected, first is None)
                    if first is not None:
                        group.start_soon(self._save_first, first, plan.part(number), fd, whole, racing)
                    if first is not None and plan.is_multipart:
                        others = (part for part in plan.parts(number + 1) if part.number not in done)
                        group.start_soon(self._fetch_others, others, head.etag, fd, whole, share, racing)
                        group.start_soon(racing.watch)
            finally:
                try:
                    if first is not None:
                        await first.aclose()
                finally:
                    if racing is not None:
                        await racing.aclose()
        return DownloadResult(
            size=plan.size,
            etag=head.etag,
            request_id=self._request_id,
            checksum=verify(whole.value, expected[0]) if self._verify else "",
            part_count=plan.part_count if plan.is_multipart else 0,
            concurrency=share.peak if plan.is_multipart else 0,
        )

    async def _find_kept(self) -> Kept | None:
        """What an earlier run has fetched, as far as it is there; None: nothing."""
        ledger = self._ledger
        if ledger is None or ledger.found is None or ledger.pending is None:
            return None
        found = ledger.found
        try:
            kept = await verified(found, ledger.pending.fd, self._context.threads)
        except FileFailure as failure:
            with naming(self._dest_path):
                raise failure.error from None
        await self._context.in_thread(partial(ledger.confirm, kept))
        return ledger.found

    async def _open_first(self, share: Share, kept: Kept | None, number: int) -> OpenReply:
        """Ask for the first part's bytes, or for all of an object that is empty; twice if no answer comes soon.

        Of an object of which something is there, it is the first part that isn't.
        """
        part_size = self._plan(0, kept).part_size
        # Had before the clock runs: to ask twice because the budget is used up would only make the queue longer.
        tickets = [await share.acquire(self._plane.part_memory_bytes)]

        async def open_(length: int | None) -> OpenReply:
            ticket = tickets.pop() if tickets else await share.acquire(self._plane.part_memory_bytes)
            start, etag = (number - 1) * part_size, kept.etag if kept is not None else ""
            return await OpenReply.open(
                self._plane.get_object(self._key, start=start, length=length, etag=etag), ticket
            )

        async def ask() -> OpenReply:
            try:
                reply = await open_(part_size)
            except ServiceFailure as failure:
                if failure.status != 416:
                    raise
                if kept is not None:
                    raise ObjectChanged(str(failure)) from failure
            else:
                if kept is not None and reply.reply.head.size != kept.size:
                    await reply.aclose()
                    raise ObjectChanged("the object has another size than it had")
                return reply
            # Of an empty object no range can be satisfied.
            reply = await open_(None)
            if reply.reply.head.size:
                await reply.aclose()
                raise ObjectChanged("the object was empty, and is not any more")
            return reply

        try:
            return await hedged(ask, discard=OpenReply.aclose, passing=ConnectionFailure)
        finally:
            for ticket in tickets:  # cancelled before its first step
                ticket.release()

    async def _save_first(self, first: OpenReply, part: Part, fd: int, whole: crc.Whole, racing: Racing) -> None:
        meter = self._meter.start_part()

        async def save() -> int | None:
            try:
                return await first.reply.save(fd, meter=meter, with_crc=self._with_crc)
            except ConnectionFailure:
                # Its attempt is spent; from here on it is a part like the others.
                self._tally.retries += 1
                return await self._fetch_part(part, first.reply.head.etag, fd, meter)
            except RequestFailure as failure:
                # Not to be tried again; what it means to the caller is said in one place.
                return await self._requests.send(
                    _raiser(failure), tally=self._tally, special=changed, path=self._dest_path
                )
            finally:
                await first.aclose()

        await self._complete_part(part, await racing.fetch(part, meter, save), meter, whole)

    async def _complete_part(self, part: Part, value: int | None, meter: PartMeter, whole: crc.Whole) -> None:
        if value is not None:
            whole.add(part.number, value, part.length)
        self._meter.complete_part(meter, part.length)
        ledger = self._ledger
        if ledger is not None and value is not None:
            await self._context.in_thread(lambda: ledger.add(part.number, value))

    async def _fetch_others(
        self, parts: Iterator[Part], etag: str, fd: int, whole: crc.Whole, share: Share, racing: Racing
    ) -> None:
        async def fetch(part: Part) -> None:
            meter = self._meter.start_part()
            value = await racing.fetch(part, meter, lambda: self._fetch_part(part, etag, fd, meter))
            await self._complete_part(part, value, meter, whole)

        await run_parts(
            racing.to_the_last(parts),
            fetch,
            share=share,
            memory_bytes=lambda _: self._plane.part_memory_bytes,
        )

    def _racing(self, part_count: int, size_bytes: int, etag: str, fd: int, share: Share) -> Racing:
        async def fetch_rest(*, start: int, length: int, fd: int, meter: PartMeter) -> None:
            async def fetch() -> int | None:
                return await self._plane.fetch_range(
                    self._key, start=start, length=length, etag=etag, fd=fd, meter=meter, with_crc=False
                )

            await self._requests.send(
                fetch, tally=Tally(), special=range_changed, policy=_ONE_ATTEMPT, path=self._dest_path
            )

        return Racing(
            self._context,
            share,
            fetch_rest,
            part_count=part_count,
            size_bytes=size_bytes,
            dest_path=self._dest_path,
            fd=fd,
            memory_bytes=self._plane.part_memory_bytes,
            with_crc=self._with_crc,
        )

    async def _fetch_part(self, part: Part, etag: str, fd: int, meter: PartMeter) -> int | None:
        async def fetch() -> int | None:
            return await self._plane.fetch_range(
                self._key,
                start=part.offset,
                length=part.length or None,
                etag=etag,
                fd=fd,
                meter=meter,
                with_crc=self._with_crc,
            )

        return await self._requests.send(fetch, tally=self._tally, special=range_changed, path=self._dest_path)

    async def _look_checksum_up(self, head: ObjectHead, found: list[int | None], must_answer: bool) -> None:
        found[0] = await find_stored_checksum(
            self._context, self._plane, self._key, head.etag, self._tally, must_answer=must_answer
        )

    async def _prepare_file(self, etag: str, plan: Plan) -> int:
        """Make the temporary file, or take that of an earlier attempt, with room for the object."""
        old, ledger = self._pending, self._ledger

        def prepare() -> PendingFile:
            if ledger is not None:
                return ledger.prepare(etag, plan)
            pending = old or PendingFile.create(self._dest_path)
            try:
                pending.reserve(plan.size)
            except BaseException:
                if old is None:
                    pending.discard()
                raise
            return pending

        made: list[PendingFile] = []

        def remember() -> None:
            made.append(prepare())

        try:
            await self._context.in_thread(remember)
        finally:
            if made:  # cancelled or not, what the thread has made is ours to discard
                self._pending = made[0]
        return made[0].fd


def _raiser(error: Exception) -> Callable[[], Awaitable[int | None]]:
    async def fail() -> int | None:
        raise error

    return fail
