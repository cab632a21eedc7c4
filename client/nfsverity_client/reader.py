# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""A file that is open: verified bytes of one version, or a verdict (fip, "Versions and Updates").

Until its first byte is delivered a reader follows: a newer record that verifies replaces the old one. From
then on it is pinned. `_settle` is steps V1 to V4.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncGenerator, Coroutine, Iterator
from typing import Any, TypeVar

from nfsverity_proto import messages as m
from nfsverity_proto.errors import (
    MalformedMessage,
    Mismatch,
    Stale,
    StatusError,
    Unsigned,
    Updating,
    VerificationError,
)
from nfsverity_proto.proof import proof_length
from nfsverity_proto.verification import Verified

from .faults import LocatedMismatch, locate
from .pipeline import in_order
from .presentation import (
    WINDOW,
    Presentation,
    TreeFailed,
    prepare,
    read_verified,
    received_proof,
    spans,
)
from .session import Session
from .version import Span, UnitsFailed, Version, span_leaves, verify_span

T = TypeVar("T")
FETCH_DEFAULT = 2**16
"""Bytes of units that come with the record when a file is opened."""
POLL_PAUSE = 0.1
"""Seconds at least between two polls for one file (fip-poll-8)."""
RESOLVES_MAX = 3
_TROUBLE = frozenset((m.Status.CHANGED, m.Status.UPDATING, m.Status.UNSIGNED, m.Status.BAD_HANDLE))
_GONE = frozenset((m.Status.NOT_FOUND, m.Status.NOT_DIRECTORY, m.Status.IS_DIRECTORY, m.Status.BAD_HANDLE))
Trouble = UnitsFailed | TreeFailed | StatusError


class _Replaced(Exception):
    """A following reader has gone over to a newer version; what was under way is begun again."""


def _is_trouble(error: BaseException) -> bool:
    return isinstance(error, UnitsFailed | TreeFailed) or (isinstance(error, StatusError) and error.status in _TROUBLE)


class Reader:
    """One open file. Made by `open_file`.

    All that reads raises the `VerificationError` of what did not verify, `StatusError` and `PeerError`. No
    byte of any other version than that of `verified` is delivered once one was.
    """

    def __init__(self, session: Session, path: bytes, presentation: Presentation | None) -> None:
        self.session = session
        self.path = path
        self.presentation = presentation or session.settings.presentation
        self.version: Version
        self._pinned = False
        self._first: Span | None = None
        self._prepared: asyncio.Future[None] | None = None
        self._settling = asyncio.Lock()
        self._last_poll = float("-inf")
        self._resolves = 0

    @property
    def verified(self) -> Verified:
        """The record, whose every step has passed. A reader that has delivered nothing may turn to a newer one."""
        return self.version.verified

    @property
    def size(self) -> int:
        """Bytes of the file, as signed."""
        return self.version.shape.size

    @property
    def url(self) -> str:
        return self.session.url_of(self.path)

    # delivery

    async def pread(self, offset: int, length: int) -> bytes:
        """The verified bytes [offset, offset + length), fewer at the end of the file."""
        parts = [bytes(part) async for part in self.stream(offset, length)]
        return parts[0] if len(parts) == 1 else b"".join(parts)

    async def preadinto(self, offset: int, buffer: memoryview) -> int:
        """Fill `buffer` from `offset` on; the number of bytes, fewer only at the end of the file."""
        filled = 0
        async with contextlib.aclosing(self.stream(offset, len(buffer))) as parts:
            async for part in parts:
                buffer[filled : filled + len(part)] = part
                filled += len(part)
        return filled

    async def stream(self, offset: int = 0, length: int | None = None) -> AsyncGenerator[memoryview, None]:
        """Verified bytes in order, several spans ahead. Each view is valid until the next one is asked for."""
        if offset < 0 or (length is not None and length < 0):
            raise ValueError("a negative offset or length")
        while True:
            version = self.version
            stop = version.shape.size if length is None else min(version.shape.size, offset + length)
            if offset >= stop:
                self._pinned = True
                return
            units = version.shape.units_of(offset, stop)
            try:
                async with contextlib.aclosing(in_order(self._span_jobs(version, *units), WINDOW)) as found:
                    async for span in found:
                        for part in span.cut(offset, stop):
                            self._pinned = True
                            yield part
                        if span is not self._first:
                            span.release()
                return
            except _Replaced:
                continue
            except VerificationError as error:
                raise self._named(error) from error.__cause__

    def _span_jobs(self, version: Version, first: int, end: int) -> Iterator[Coroutine[Any, Any, Span]]:
        held = self._first
        if held is not None and held.first <= first < held.end:
            yield self._held(held)
            first = held.end
        for span_first, span_end in spans(version.shape, first, end):
            yield self._span(version, span_first, span_end)

    async def _held(self, span: Span) -> Span:
        return span

    async def _span(self, version: Version, first: int, end: int) -> Span:
        """Units that verified. Raises `_Replaced` where there is another version by now."""

        async def read() -> Span:
            await self._prepare(version)
            return await read_verified(self.session, version, first, end, self.presentation)

        while True:
            try:
                return await read()
            except (UnitsFailed, TreeFailed, StatusError) as trouble:
                if not _is_trouble(trouble):
                    raise
                await self._settle(version, trouble)
            if self.version is not version:
                raise _Replaced

    async def _prepare(self, version: Version) -> None:
        """What the presentation does first, once for all spans."""
        if self.presentation in (Presentation.INLINE, Presentation.ON_DEMAND):
            return
        if self._prepared is None:
            self._prepared = asyncio.ensure_future(prepare(self.session, version, self.presentation))
        prepared = self._prepared
        try:
            await asyncio.shield(prepared)
        except BaseException:
            if prepared.done() and self._prepared is prepared:
                self._prepared = None
            raise

    # faults

    async def faults(self) -> AsyncGenerator[Mismatch, None]:
        """Every part of the file that is not what was signed; nothing where all of it is."""
        version = self.version
        jobs = (self._faults_of(version, first, end) for first, end in spans(version.shape, 0, version.shape.units))
        async with contextlib.aclosing(in_order(jobs, WINDOW)) as found:
            async for faults, tree_failed in found:
                for fault in faults:
                    yield fault
                if tree_failed:
                    return

    async def _faults_of(self, version: Version, first: int, end: int) -> tuple[list[Mismatch], bool]:
        held = self._first
        if held is not None and held.first <= first and end <= held.end:
            return [], False
        self._pinned = True
        try:
            (await self._span(version, first, end)).release()
        except LocatedMismatch as error:
            return [self._located(fault) for fault in error.faults], False
        except Mismatch as error:
            return [self._located(error)], isinstance(error, TreeFailed)
        except VerificationError as error:
            raise self._named(error) from error.__cause__
        return [], False

    def _located(self, fault: Mismatch) -> Mismatch:
        fault.where = self.url
        return fault

    def _named(self, error: VerificationError) -> VerificationError:
        error.where = error.where or self.url
        return error

    # versions

    async def _open(self, most: int, *, tolerant: bool) -> None:
        """FETCH; where the server has no whole answer, RECORD and steps V1 to V4."""
        try:
            held = await self.session.call_holding(m.FETCH, m.FetchArgs(m.ROOT_HANDLE, self.path, most))
        except StatusError as error:
            if error.status is m.Status.UNSIGNED:
                raise self._named(Unsigned("the server has no record for it")) from error
            if error.status not in (m.Status.CHANGED, m.Status.UPDATING):
                raise
            await self._open_without_data(error, tolerant=tolerant)
            return
        ok = held.ok
        self.version = version = Version(ok.object, await self._verify(ok.record))
        try:
            span = self._fetched(version, ok, most)
            if span is not None:
                span.holders.append(held)
                self._first = span
        except UnitsFailed as trouble:
            if tolerant:
                return
            await self._settle_open(version, trouble)

    async def _open_without_data(self, trouble: StatusError, *, tolerant: bool) -> None:
        handle = (await self.session.resolve(self.path)).object
        try:
            record = (await self.session.call(m.RECORD, m.RecordArgs(handle, b"", 0))).record
        except StatusError as error:
            if error.status is m.Status.UNSIGNED:
                raise self._named(Unsigned("the server has no record for it")) from error
            raise
        self.version = Version(handle, await self._verify(record))
        if not tolerant:
            await self._settle_open(self.version, trouble)

    async def _settle_open(self, version: Version, trouble: Trouble) -> None:
        try:
            await self._settle(version, trouble)
        except VerificationError as error:
            raise self._named(error) from error.__cause__

    async def _verify(self, record: bytes) -> Verified:
        try:
            return await self.session.verify(record, self.path)
        except VerificationError as error:
            raise self._named(error) from error.__cause__

    def _fetched(self, version: Version, ok: m.FetchOk, most: int) -> Span | None:
        """The units that came with the record, verified. Raises `MalformedMessage` (fip-fetch-7), `UnitsFailed`."""
        shape = version.shape
        units = shape.units if shape.size <= most else most >> shape.unit_log2
        length = shape.unit_span(0, units)[1]
        due = proof_length(shape.units, 0, units, shape.height) if units else 0
        if len(ok.data) != length:
            raise MalformedMessage(f"a reply to FETCH has {len(ok.data)} bytes of data where {length} are due")
        proof = received_proof(self.session, version, ok.proof, due)
        if not units:
            return None
        self.session.traffic.data += length
        span = Span(0, units, 0, length, [memoryview(ok.data)])
        anchors = version.nodes.anchors(0, units)
        verify_span(version, span, span_leaves(version, span), anchors, [proof])
        return span

    async def _settle(self, version: Version, trouble: Trouble) -> None:
        """Steps V1 to V4: returns where it is to be tried again, maybe under a newer version.

        Raises the verdict where it is not.
        """
        async with self._settling:
            if self.version is not version:
                return
            if isinstance(trouble, StatusError) and trouble.status is m.Status.BAD_HANDLE:
                await self._resolve_again(version, trouble)
                return
            polled = False
            answer = await self._ask(version, 0.0)  # V1
            while True:
                if isinstance(answer, bytes):  # V2
                    if await self._take(version, answer):
                        return
                    answer = m.Status.UNCHANGED
                if answer is m.Status.UNCHANGED:  # V3
                    if polled:
                        return
                    raise await self._verdict(version, trouble)
                left = self.session.budget.left()  # V4
                if left <= 0:
                    raise Updating("the file is still being updated, and the time to wait is over")
                answer = await self._poll(version, left)
                polled = True

    async def _take(self, version: Version, record: bytes) -> bool:
        """Step V2; whether there is a newer version now."""
        try:
            verified = await self.session.verify(record, self.path)
        except VerificationError:
            return False  # of no use, by V2: the verdict is about what was opened
        if verified.tag == version.tag:
            version.take(verified)
            return False
        if verified.file.when.generation <= version.generation:
            return False
        if self._pinned:
            raise Stale(
                "there is a newer version, and the one that was opened is not to be had any more",
                expected=f"generation {version.generation}",
                found=f"generation {verified.file.when.generation}",
            )
        self.version = Version(version.handle, verified)
        self._first, self._prepared = None, None
        return True

    async def _ask(self, version: Version, wait: float) -> bytes | m.Status:
        """RECORD with what is known: another record, UNCHANGED or UPDATING. Raises the verdict for what is gone."""
        known = hashlib.sha256(version.verified.data).digest()
        try:
            arguments = m.RecordArgs(version.handle, known, min(int(wait * 1000), m.WAIT_MAX))
            record = (await self.session.call(m.RECORD, arguments, wait=wait)).record
        except StatusError as error:
            for status in (m.Status.UNCHANGED, m.Status.UPDATING):
                if error.status is status:
                    return status
            if error.status is m.Status.UNSIGNED and not self._pinned:
                raise Unsigned("the server has no record for it any more") from error
            if error.status is m.Status.BAD_HANDLE:
                await self._resolve_again(version, error)
                return await self._ask(version, wait)
            if error.status is m.Status.UNSIGNED or (self._pinned and error.status in _GONE):
                raise Stale("the server has no record for it any more") from error
            raise
        if hashlib.sha256(record).digest() == known:
            raise MalformedMessage("a reply to RECORD has the record that was known (fip-record-4)")
        return record

    async def _poll(self, version: Version, left: float) -> bytes | m.Status:
        """Step V4, within the budget."""
        loop = asyncio.get_running_loop()
        with self.session.budget.spending():
            pause = self._last_poll + POLL_PAUSE - loop.time()
            if pause > 0:
                await asyncio.sleep(min(pause, left))
            self._last_poll = loop.time()
            return await self._ask(version, max(0.001, self.session.budget.left()))

    async def _resolve_again(self, version: Version, error: StatusError) -> None:
        self._resolves += 1
        if self._resolves > RESOLVES_MAX:
            raise error
        try:
            version.handle = (await self.session.resolve(self.path)).object
        except StatusError as gone:
            if self._pinned and gone.status in _GONE:
                raise Stale("the file is not there any more") from gone
            raise

    async def _verdict(self, version: Version, trouble: Trouble) -> VerificationError:
        if isinstance(trouble, StatusError):
            return Stale(f"the server has not the version that its record is about ({trouble})")
        if isinstance(trouble, TreeFailed):
            return trouble
        return await locate(self.session, version, trouble)


async def open_file(
    session: Session,
    path: bytes,
    *,
    presentation: Presentation | None = None,
    most: int = FETCH_DEFAULT,
    tolerant: bool = False,
) -> Reader:
    """Open the file at `path`: record and first units in one round trip, verified.

    `most`: bytes of units to bring along (at most 2^20). `tolerant`: leave units that fail to the first read.
    Raises `VerificationError`, `StatusError`, `PeerError`.
    """
    reader = Reader(session, path, presentation)
    await reader._open(most, tolerant=tolerant)
    return reader
