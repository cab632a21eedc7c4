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
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Iterable, Sequence
from functools import partial
from typing import Any, TypeVar

from nfsverity_proto import messages as m
from nfsverity_proto.entry import DirectoryNode
from nfsverity_proto.errors import (
    Hidden,
    MalformedMessage,
    Mismatch,
    OtherHead,
    Rollback,
    Stale,
    StatusError,
    Unsigned,
    Updating,
    VerificationError,
)
from nfsverity_proto.proof import proof_length
from nfsverity_proto.verification import Verified

from .faults import LocatedMismatch, locate
from .gates import Rules
from .heads import HEADS_MAX, judge_next
from .marks import Judged
from .pipeline import in_order
from .presentation import (
    LONG_SPAN,
    SPAN,
    WINDOW,
    GrantsLess,
    Presentation,
    TreeFailed,
    prepare,
    read_verified,
    received_proof,
    spans,
    window,
)
from .session import Session
from .streamed import Streamed
from .version import Span, UnitsFailed, Version, check_empty, span_leaves, verify_span
from .volume import find

T = TypeVar("T")
FETCH_DEFAULT = 2**16
"""Bytes of units that come with the record when a file is opened."""
MILLISECOND = 0.001
"""Seconds; what waits count in."""
RESOLVES_MAX = 3
_TROUBLE = frozenset((m.Status.CHANGED, m.Status.UPDATING, m.Status.UNSIGNED, m.Status.BAD_HANDLE))
MISSING = frozenset((m.Status.NOT_FOUND, m.Status.NOT_DIRECTORY, m.Status.IS_DIRECTORY, m.Status.UNSIGNED))
"""The server's word that there is no signed file, which is not believed of a volume (fip-vol-2)."""
_GONE = frozenset((m.Status.NOT_FOUND, m.Status.NOT_DIRECTORY, m.Status.IS_DIRECTORY, m.Status.BAD_HANDLE))
Trouble = UnitsFailed | TreeFailed | StatusError


class Replaced(Exception):
    """A following reader has gone over to a newer version; what was under way is begun again."""


def _is_trouble(error: Trouble) -> bool:
    return not isinstance(error, StatusError) or error.status in _TROUBLE


def _units_fetched(version: Version, most: int) -> int:
    """How many units come with FETCH."""
    shape = version.shape
    return shape.units if shape.size <= most else most >> shape.unit_log2


class Reader(Streamed):
    """One open file. Made by `open_file`.

    All that reads raises the `VerificationError` of what did not verify, `StatusError` and `PeerError`. No
    byte of any other version than that of `verified` is delivered once one was.
    """

    def __init__(self, session: Session, path: bytes, presentation: Presentation | None) -> None:
        self.session = session
        self.path = path
        self.presentation = Presentation(presentation or session.settings.presentation)
        self.version: Version
        self.rules: Rules = ()
        """What a policy requires of the record, beyond that it verifies."""
        self._pinned = False
        self._first: Span | None = None
        self._prepared: Version | None = None
        self._preparing = asyncio.Lock()
        self._settling = asyncio.Lock()
        self.later = False
        """Whether the caller sees to it that `remembered` is awaited before anything leaves it."""
        self._fresh = False
        """Whether what is read has to come from the server, as it is there now."""
        self._turns = 0
        """How often trouble was settled such that it is to be tried again."""
        self._resolves = 0
        """How often the path was resolved again since something was verified."""
        self._heads = 0
        """How often the head was another one after the server had said that there is no such file."""

    @property
    def unverified(self) -> str | None:
        """Why it passed without being verified, which a reader never does."""
        return None

    @property
    def verdict(self) -> str:
        return "verified"

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

    def passed(self) -> None:
        """All that is wanted of it was verified, elsewhere than in `stream`."""

    @property
    def seen_before(self) -> bool | None:
        """Whether a version of it was accepted here before; None where no marks are kept (fim-mark-5)."""
        return self.version.seen_before

    async def remembered(self) -> None:
        """Wait until the version that is read has its marks, durably. All that delivers does it, unless `later`.

        A version that another process has overtaken meanwhile gives way to the newer one, if nothing was delivered.
        Raises `Rollback`, `Equivocation`, `StateError`; `StatusError`, `PeerError`.
        """
        while (raised := self.version.raised) is not None:
            version = self.version
            try:
                await self.session.durable(raised)
                version.raised = None
            except VerificationError as error:
                if not isinstance(error, Rollback) or self._pinned or not await self._overtaken(version):
                    raise self._named(error) from error.__cause__

    async def _overtaken(self, version: Version) -> bool:
        """Whether the server has a version by now that is not before the marks."""
        async with self._settling:
            if self.version is not version:
                return True
            before: bytes | None = None
            for _ in range(HEADS_MAX):  # it may be overtaken again, and again
                answer = await self._ask(version, 0.0)
                if not isinstance(answer, bytes) or answer == before:
                    break
                if await self._take(version, answer):
                    self._turns += 1
                    return True
                before = answer
            return False

    def pin(self) -> None:
        """Stay with this version from now on, as if a byte of it had been delivered."""
        self._pinned = True

    # delivery

    async def stream(self, offset: int = 0, length: int | None = None) -> AsyncGenerator[memoryview, None]:
        """Verified bytes in order, several spans ahead. Each view is valid until the next one is asked for."""
        if offset < 0 or (length is not None and length < 0):
            raise ValueError("a negative offset or length")
        while True:
            if not self.later and self.version.raised is not None:
                await self.remembered()  # fim-mark-3
            version = self.version
            stop = version.shape.size if length is None else min(version.shape.size, offset + length)
            try:
                if offset >= stop:
                    if version.shape.units == 0:
                        check_empty(version)
                    self._pinned |= length != 0
                    return
                held = self._first
                if held is not None and held.start <= offset and stop <= held.start + held.length:
                    self._pinned = True
                    for part in held.cut(offset, stop):  # a small file has come whole: no task is needed
                        yield part
                    return
                async with contextlib.aclosing(self._spans(version, offset, stop)) as found:
                    async for span in found:
                        if self.version is not version:
                            raise Replaced
                        self._pinned = True
                        for part in span.cut(offset, stop):
                            yield part
                        if span is not self._first:
                            span.release()
                return
            except Replaced:
                continue
            except VerificationError as error:
                raise self._named(error) from error.__cause__

    async def _spans(self, version: Version, offset: int, stop: int) -> AsyncGenerator[Span, None]:
        """The units that hold bytes [offset, stop), verified, in order."""
        first, end = version.shape.units_of(offset, stop)
        held = self._first
        if held is not None and held.first <= first < held.end:
            yield held
            first = held.end
        if first < end:
            await self.attempt(version, lambda: self._prepare(version))
            most = await self._span_size(stop - offset)
            jobs = (self._span(version, *units) for units in spans(version.shape, first, end, most))
            async with contextlib.aclosing(in_order(jobs, window(version.shape))) as found:
                async for span in found:
                    yield span

    async def read_spans(self, version: Version, ranges: Iterable[tuple[int, int]]) -> AsyncGenerator[Span, None]:
        """Ranges of units [first, end) of `version`, verified, in order; several under way at once.

        Each span is valid until the next one is asked for. Raises `Replaced` where the reader has gone over to
        a newer version, which it does only while nothing was delivered.
        """
        jobs = (self._span(version, *units) for part in ranges for units in spans(version.shape, *part))
        try:
            async with contextlib.aclosing(in_order(jobs, window(version.shape))) as found:
                async for span in found:
                    if self.version is not version:
                        raise Replaced
                    self._pinned = True
                    yield span
                    span.release()
        except VerificationError as error:
            raise self._named(error) from error.__cause__

    async def _span_size(self, length: int) -> int:
        if length < 2 * WINDOW * SPAN:
            return SPAN
        await self.session.ask_limits()
        return LONG_SPAN if self.session.read_most >= LONG_SPAN else SPAN

    async def _span(self, version: Version, first: int, end: int) -> Span:
        read = partial(self._read, version, first, end)
        span = await self.attempt(version, read)
        self._resolves = 0
        return span

    async def _read(self, version: Version, first: int, end: int) -> Span:
        """Units [first, end), in smaller calls where the connection is another one now that grants less."""
        try:
            return await read_verified(self.session, version, first, end, self.presentation, fresh=self._fresh)
        except GrantsLess:
            parts = [
                await read_verified(self.session, version, *units, self.presentation, fresh=self._fresh)
                for units in spans(version.shape, first, end)
            ]
        whole = Span(first, end, parts[0].start, sum(part.length for part in parts), [])
        for part in parts:
            whole.pieces += part.pieces
            whole.holders += part.holders
        return whole

    async def attempt(self, version: Version, work: Callable[[], Awaitable[T]], *, asked_again: bool = False) -> T:
        """The result of `work`, done again as often as trouble can be settled.

        `asked_again`: this is what V3 asks for again already. Raises `Replaced` where there is another version by then.
        """
        while self.version is version:
            turn = self._turns
            try:
                return await work()
            except (UnitsFailed, TreeFailed, StatusError) as trouble:
                if not _is_trouble(trouble):
                    raise
                asked_again = await self._settle(version, trouble, turn, asked_again)
        raise Replaced

    async def _prepare(self, version: Version) -> None:
        """What the presentation does first, once for all who read."""
        if version.shape.units == 0:
            check_empty(version)
        elif self.presentation in (Presentation.AHEAD, Presentation.RECONSTRUCT):
            async with self._preparing:
                if self._prepared is not version:
                    await prepare(self.session, version, self.presentation)
                    self._prepared = version

    # faults

    async def faults(self) -> AsyncGenerator[Mismatch, None]:
        """Every part of the file that is not what was signed, as the server has it now; nothing where all of it is."""
        self._fresh = True  # fim-cache-9
        if not self.later:
            await self.remembered()
        self._pinned = True
        version = self.version
        units = version.shape.units
        first = 0 if self._first is None else self._first.end
        if units and first == units:
            return
        whole = await self._faults_of(self.attempt(version, lambda: self._prepare(version)))
        for fault in whole:
            yield fault
        if whole:
            return
        jobs = (self._faults_of(self._span(version, *span)) for span in spans(version.shape, first, units))
        async with contextlib.aclosing(in_order(jobs, window(version.shape))) as found:
            async for faults in found:
                for fault in faults:
                    yield fault

    async def _faults_of(self, job: Coroutine[Any, Any, Span | None]) -> Sequence[Mismatch]:
        try:
            span = await job
        except Mismatch as error:
            faults = error.faults if isinstance(error, LocatedMismatch) else (error,)
            for fault in faults:
                self._named(fault)
            return faults
        except VerificationError as error:
            raise self._named(error) from error.__cause__
        if span is not None:
            span.release()
        return ()

    def _named(self, error: VerificationError) -> VerificationError:
        error.where = error.where or self.url
        return error

    # versions

    async def _open(self, most: int, *, tolerant: bool) -> None:
        """FETCH; where the server has no whole answer, RECORD: then trouble is settled by whoever reads."""
        while True:
            head = self.session.heads.accepted
            try:
                held = await self.session.call_holding(m.FETCH, m.FetchArgs(m.ROOT_HANDLE, self.path, most))
                break
            except StatusError as error:
                if error.status in MISSING and await self._leads_elsewhere(error, head):
                    continue
                if error.status not in (m.Status.CHANGED, m.Status.UPDATING):
                    raise self._unsigned(error) from error
            self.version = await self._version_of(await self._record())
            return
        ok = held.ok
        try:
            judged = await self._judge(ok.record)  # fip-fetch-6
        except (Rollback, OtherHead):
            held.release()
            self.version = await judge_next((ok.object, ok.record), self._record, self._version_of)
            return
        self.version = version = Version(ok.object, judged, self.session.nodes)
        try:
            self._first = self._fetched(version, ok, most)
        except UnitsFailed as trouble:
            if not tolerant and await self._settle_open(version, trouble):
                await self._ask_for_first_again(version, most)
        if self._first is None:
            held.release()

    async def _leads_elsewhere(self, error: StatusError, head: Judged | None) -> bool:
        """Whether it is to be tried again: the path is that of a link in a volume, which it leads to from now on, or
        the head is not the one of before by now, and the server can have spoken of another.

        Otherwise raises what is there, or that it is absent or hidden (fip-vol-2), where the server serves a volume.
        """
        try:
            found = await find(self.session, self.path)
            if found is None:
                return False
            path, entry = found
            if path != self.path:
                self.path = path
                return True
            if entry is None or isinstance(entry.node, DirectoryNode):
                raise StatusError(m.Status.IS_DIRECTORY, "it is a directory in the volume, and no file") from error
            if self.session.heads.accepted is not head:
                self._heads += 1
                if self._heads > HEADS_MAX:
                    raise OtherHead("the volume changes faster than it can be read")
                return True
            raise Hidden(f"the volume has a file there, and {error}")
        except VerificationError as verdict:
            raise self._named(verdict) from error

    async def _version_of(self, given: tuple[bytes, bytes]) -> Version:
        """By a handle and a record."""
        handle, record = given
        return Version(handle, await self._judge(record), self.session.nodes)

    async def _record(self) -> tuple[bytes, bytes]:
        """A handle, and the record that the server has for it, whatever it is."""
        resolves = 0
        while True:
            handle = await self._resolve()
            try:
                return handle, (await self.session.call(m.RECORD, m.RecordArgs(handle, b"", 0))).record
            except StatusError as error:
                if error.status in (m.Status.UNCHANGED, m.Status.UPDATING):  # than what? (fip-record-3)
                    raise MalformedMessage(f"a reply to RECORD where nothing was known: {error}") from error
                if error.status is not m.Status.BAD_HANDLE or resolves == RESOLVES_MAX:
                    raise self._unsigned(error) from error
            resolves += 1

    async def _resolve(self) -> bytes:
        """A handle. That there is no such file is believed of a volume only with a proof, unless it ends as stale."""
        while True:
            head = self.session.heads.accepted
            try:
                return (await self.session.resolve(self.path)).object
            except StatusError as error:
                if self._pinned or error.status not in MISSING or not await self._leads_elsewhere(error, head):
                    raise

    def _unsigned(self, error: StatusError) -> Exception:
        """The error to raise for a status: unsigned is a verdict."""
        if error.status is m.Status.UNSIGNED:
            return self._named(Unsigned("the server has no record for it"))
        return error

    async def _settle_open(self, version: Version, trouble: Trouble) -> bool:
        try:
            return await self._settle(version, trouble, self._turns, False)
        except VerificationError as error:
            raise self._named(error) from error.__cause__

    async def _ask_for_first_again(self, version: Version, most: int) -> None:
        """The units that FETCH brought and that failed; by READ, so that it is the same version (fim-upd-3)."""
        end = _units_fetched(version, most)
        read = partial(read_verified, self.session, version, 0, end, self.presentation)
        try:
            self._first = await self.attempt(version, read, asked_again=True)
        except Replaced:
            return
        except VerificationError as error:
            raise self._named(error) from error.__cause__

    async def _judge(self, record: bytes) -> Judged:
        try:
            return await self.session.judge(record, self.path, self.rules)
        except VerificationError as error:
            raise self._named(error) from error.__cause__

    def _fetched(self, version: Version, ok: m.FetchOk, most: int) -> Span | None:
        """The units that came with the record, verified. Raises `MalformedMessage` (fip-fetch-7), `UnitsFailed`."""
        shape = version.shape
        units = _units_fetched(version, most)
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

    async def _settle(self, version: Version, trouble: Trouble, turn: int, asked_again: bool) -> bool:
        """Steps V1 to V4: returns where it is to be tried again, maybe under a newer version.

        Raises the verdict where it is not. `turn` is that in which the trouble was met. The result is whether the
        next trouble is met again, by V3: then its verdict is final, where the server still expects nothing.
        """
        async with self._settling:
            if self.version is not version or self._turns != turn:
                return asked_again
            asked_now = False
            if isinstance(trouble, StatusError) and trouble.status is m.Status.BAD_HANDLE:
                await self._resolve_again(version, trouble)
            else:
                asked_now = await self._follow_steps(version, trouble, asked_again)
            self._turns += 1
            return asked_now

    async def _follow_steps(self, version: Version, trouble: Trouble, asked_again: bool) -> bool:
        polled = False
        answer = await self._ask(version, 0.0)  # V1
        while True:
            if isinstance(answer, bytes):  # V2
                if await self._take(version, answer):
                    return False
                answer = m.Status.UNCHANGED
            if answer is m.Status.UNCHANGED:  # V3
                if polled:
                    return False
                if not asked_again:
                    return True  # an update may have ended since the trouble was met
                raise await self._verdict(version, trouble)
            if self.session.budget.left() < MILLISECOND:  # V4
                raise Updating("the file is still being updated, and the time to wait is over")
            answer = await self._poll(version)
            polled = True

    async def _take(self, version: Version, record: bytes) -> bool:
        """Step V2; whether there is a newer version now."""
        try:
            judged = await self.session.judge(record, self.path, self.rules)
        except VerificationError:
            return False  # of no use, by V2: the verdict is about what was opened
        verified = judged.verified
        if verified.tag == version.tag:
            version.take(judged)
            return False
        if verified.file.when.generation <= version.generation:
            return False
        if self._pinned:
            raise Stale(
                "there is a newer version, and the one that was opened is not to be had any more",
                expected=f"generation {version.generation}",
                found=f"generation {verified.file.when.generation}",
            )
        self.version = Version(version.handle, judged, self.session.nodes)
        self._first = None
        return True

    async def _ask(self, version: Version, wait: float) -> bytes | m.Status:
        """RECORD with what is known: another record, UNCHANGED or UPDATING. Raises the verdict for what is gone."""
        known = hashlib.sha256(version.verified.data).digest()
        while True:
            arguments = m.RecordArgs(version.handle, known, int(wait / MILLISECOND))
            try:
                record = (await self.session.call(m.RECORD, arguments, wait=wait)).record
            except StatusError as error:
                for answer in (m.Status.UNCHANGED, m.Status.UPDATING):
                    if error.status is answer:
                        return answer
                if error.status is m.Status.BUSY and wait:  # it holds polls enough: ask again with what is left
                    return m.Status.UPDATING
                if error.status is m.Status.UNSIGNED:
                    gone = Stale if self._pinned else Unsigned
                    raise gone("the server has no record for it any more") from error
                if error.status is not m.Status.BAD_HANDLE:
                    raise self._gone(error) from error
                await self._resolve_again(version, error)
                wait = 0.0
                continue
            if hashlib.sha256(record).digest() == known:
                raise MalformedMessage("a reply to RECORD has the record that was known (fip-record-4)")
            return record

    def _gone(self, error: StatusError) -> Exception:
        """The error to raise for a status: for a pinned reader, what is gone is stale."""
        if self._pinned and error.status in _GONE:
            return Stale("the file is not there any more")
        return error

    async def _poll(self, version: Version) -> bytes | m.Status:
        """Step V4, within the budget."""
        budget = self.session.budget
        with budget.spending():
            async with self.session.polls.place(self.path, budget.left) as wait:
                return await self._ask(version, wait)

    async def _resolve_again(self, version: Version, error: StatusError) -> None:
        self._resolves += 1
        if self._resolves > RESOLVES_MAX:
            raise error
        try:
            version.handle = await self._resolve()
        except StatusError as gone:
            raise self._gone(gone) from gone

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
    reader: Reader | None = None,
) -> Reader:
    """Open the file at `path`: record and first units in one round trip, verified.

    `most`: bytes of units to bring along (at most 2^20). `tolerant`: leave units that fail to the first read.
    `reader`: one that was made for it. No policy is asked: that is `opening.open_at`.
    Raises `VerificationError`, `StatusError`, `PeerError`.
    """
    reader = reader or Reader(session, path, presentation)
    await reader._open(most, tolerant=tolerant)
    return reader
