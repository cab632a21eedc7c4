# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""Durable marks: the highest generations that were accepted (fim, "Marks"), and the latest time of issue.

A mark is raised by a `Raise`, which waits with others for one change of the state: one sync is for all that
came together. Inside that change each is judged again, since other processes may have raised marks meanwhile;
a mark that is there is never lowered. Nothing may be delivered before its `Raise` is settled (fim-mark-3).
"""

from __future__ import annotations

import copy
import hashlib
import shlex
import sqlite3
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from nfsverity_proto.errors import Equivocation, Rollback, VerificationError, WrongKind
from nfsverity_proto.marks import Mark, MarkKey, Marks, effective_now, time_to_keep, to_raise
from nfsverity_proto.record import decode_record
from nfsverity_proto.revocation import Revocations
from nfsverity_proto.statement import Content, File, Kind, Revocation, Tag, decode_statement
from nfsverity_proto.trust import TrustEntry
from nfsverity_proto.verification import Verified, check_version
from nfsverity_proto.verifier import Expected

from .state import State, StateError, StateUnusable

if TYPE_CHECKING:
    import asyncio

WAITING_MAX = 512
"""Raises that may wait before a change is begun for them."""
SUM = 8
"""Bytes of the sum that tells a row that is not what was written."""


@dataclass(frozen=True, slots=True)
class Kept:
    """A mark with what it is of, and when it was made (Unix seconds)."""

    of: MarkKey
    mark: Mark
    made: int


@dataclass(slots=True, eq=False)
class Raise:
    """What one verified record raises. `MarkStore.durable` or `MarkStore.flush` settles it."""

    judge: Callable[[Marks], None]
    """Step 11 by the marks that there are then. Raises `VerificationError`."""
    marks: Mapping[MarkKey, Mark]
    issued: int
    also: Callable[[sqlite3.Connection], None] | None = None
    """What else is to be kept, in the same change."""
    settled: bool = False
    error: Exception | None = field(default=None, repr=False)

    def check(self) -> None:
        """Raises `Rollback`, `Equivocation`, `StateError` where the marks were not raised."""
        if not self.settled:
            raise ValueError("it is not settled yet")
        if self.error is not None:
            raise copy.copy(self.error)


@dataclass(frozen=True, slots=True)
class Judged:
    """A record that verifies, and what of it is to be remembered."""

    verified: Verified
    raised: Raise | None = None
    """None where its marks are there already, or none are kept."""
    seen_before: bool | None = None
    """Whether a version of it was accepted here before; None where no marks are kept (fim-mark-5)."""


class MarkStore:
    """The marks of one user. It is what `nfsverity_proto.verification` takes as marks.

    Everything raises `StateError`. Safe to use by many threads and event loops.
    """

    def __init__(self, state: State) -> None:
        self.state = state
        self._anchors: dict[bytes, int] = {}
        self._signers: dict[int, bytes] = {}
        self._waiting: deque[Raise] = deque()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._change: asyncio.Task[None] | None = None

    # reading

    def under(self, anchor: bytes, volume: bytes, kind: Kind, path: bytes) -> Mapping[bytes, Mark]:
        """The marks of an anchor for one path, by the signer's public key."""
        with self.state.reading() as connection:
            return {} if connection is None else self._under(connection, anchor, volume, kind, path)

    def _under(
        self, connection: sqlite3.Connection, anchor: bytes, volume: bytes, kind: Kind, path: bytes
    ) -> dict[bytes, Mark]:
        number = self._anchor(connection, anchor)
        if number is None:
            return {}
        rows = connection.execute(
            "SELECT signer, generation, hash, digest, made, sum FROM mark"
            " WHERE anchor = ? AND volume = ? AND kind = ? AND path = ?",
            (number, volume, int(kind), path),
        ).fetchall()
        found = {}
        for signer, *values in rows:
            key = self._signer(connection, signer)
            found[key] = self._kept(MarkKey(anchor, volume, kind, path, key), number, signer, values).mark
        return found

    def _anchor(self, connection: sqlite3.Connection, anchor: bytes) -> int | None:
        if anchor not in self._anchors:
            self._anchors |= {value: number for number, value in self._named(connection, "anchor")}
        return self._anchors.get(anchor)

    def _signer(self, connection: sqlite3.Connection, number: int) -> bytes:
        if number not in self._signers:
            self._signers |= dict(self._named(connection, "signer"))
            if number not in self._signers:
                raise self.state.damaged("a mark is of a signer that is not there")
        return self._signers[number]

    def _named(self, connection: sqlite3.Connection, table: str) -> Iterator[tuple[int, bytes]]:
        for number, value, sum in connection.execute(f"SELECT id, value, sum FROM {table}"):  # noqa: S608 - ours
            if type(value) is not bytes or sum != row_sum(table, number, value):
                raise self.state.damaged(f"a row of {table} is not what was written")
            yield number, value

    def _kept(self, of: MarkKey, anchor: int, signer: int, values: list[Any]) -> Kept:
        generation, hash, digest, made, sum = values
        if sum != row_sum(anchor, of.volume, int(of.kind), of.path, signer, generation, hash, digest, made):
            raise self.state.damaged("a mark is not what was written")
        return Kept(of, Mark(int.from_bytes(generation), Tag(hash, digest)), made)

    def find(
        self, *, volume: bytes | None = None, kind: Kind | None = None, path: bytes | None = None, below: bytes = b""
    ) -> list[Kept]:
        """Marks with all that there is to say of them: of a volume, of a kind, of one path, at and below one."""
        with self.state.reading() as connection:
            if connection is None:
                return []
            where, values = _where(volume, kind, path, below)
            rows = connection.execute(FIND.format(where), values).fetchall()
            found = []
            for number, der, in_volume, of_kind, path, signer, *rest in rows:
                key = self._signer(connection, signer)
                found.append(self._kept(MarkKey(der, in_volume, Kind(of_kind), path, key), number, signer, rest))
            return found

    def counts(self) -> dict[bytes, int]:
        """How many files of each volume have marks of their own; 0 where its head has one for all of them."""
        with self.state.reading() as connection:
            if connection is None:
                return {}
            text = (
                "SELECT volume, count(DISTINCT iif(kind = ?, path, NULL)) FROM mark WHERE kind IN (?, ?)"
                " GROUP BY volume ORDER BY volume"
            )
            kinds = (int(Kind.FILE), int(Kind.FILE), int(Kind.VOLUME))
            return dict(connection.execute(text, kinds).fetchall())

    def heads(self) -> dict[bytes, Mark]:
        """The highest mark of a head of each volume that has one."""
        found = sorted(self.find(kind=Kind.VOLUME), key=lambda kept: kept.mark.generation)
        return {kept.of.volume: kept.mark for kept in found}

    def has_head(self, volumes: Collection[bytes], trust: Sequence[TrustEntry], url: str) -> bool:
        """Whether one of some volumes had a head, under an entry that covers it at a place (fim-head-2)."""
        return any(
            self.under(entry.anchor, volume, Kind.VOLUME, b"")
            for volume in volumes
            for entry in trust
            if entry.covers(volume, url)
        )

    def latest(self) -> int | None:
        """The latest time of issue that was accepted; None where none was."""
        with self.state.reading() as connection:
            return None if connection is None else self._latest(connection)

    def _latest(self, connection: sqlite3.Connection) -> int | None:
        row = connection.execute("SELECT issued FROM latest").fetchone()
        if row is None or type(row[0]) is not int:
            raise self.state.damaged("the latest time of issue is missing")
        return None if row[0] == NEVER else int(row[0])

    def now(self) -> int:
        """The time to judge by: the clock's, but never before what was accepted already (fim-time-1)."""
        latest = self.latest()
        return effective_now(int(time.time()), NEVER if latest is None else latest)

    def explain(self, error: VerificationError, record: bytes, url_of: Callable[[bytes], str]) -> None:
        """Say when the mark was made that a record did not pass, and how a user who knows better drops it.

        `url_of` is told a path; empty for the root, which the mark of a head is reset by (fim-mark-4).
        """
        if not isinstance(error, Rollback | Equivocation | WrongKind):
            return
        try:
            statement = decode_statement(decode_record(record).statement)
        except VerificationError:
            return
        claim = statement.claim
        if isinstance(claim, Content | Revocation):
            return
        kind, path = (Kind.FILE, claim.path) if isinstance(claim, File) else (Kind.VOLUME, b"")
        if isinstance(error, WrongKind):
            if kind is not Kind.FILE:
                return
            kind, path = Kind.VOLUME, b""  # which a stand-alone record did not pass (fim-head-2)
        found = self.find(volume=claim.volume, path=path, kind=kind)
        if isinstance(error, Equivocation):
            found = [kept for kept in found if str(kept.mark.tag) == error.expected]
        if not found:
            return
        kept = max(found, key=lambda kept: kept.mark.generation)
        made = datetime.fromtimestamp(kept.made, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        error.message += f": generation {kept.mark.generation} was accepted here on {made}"
        first = error.advice if isinstance(error, Equivocation) else ELSEWHERE
        error.advice = reset_advice(url_of(path), first, of_volume=kind is Kind.VOLUME)

    # raising

    def soon(self, raised: Raise) -> Raise:
        """Have it settled with the next change. Nothing of its record may be delivered before."""
        self._waiting.append(raised)
        return raised

    @property
    def many_waiting(self) -> bool:
        return len(self._waiting) >= WAITING_MAX

    def flush(self) -> None:
        """Settle all that waits, in one change. What goes wrong is for each `Raise` to say."""
        if not self._waiting:
            return
        batch: list[Raise] = []
        where = str(self.state.path)
        try:
            with self.state.changing() as connection:
                while self._waiting:
                    batch.append(self._waiting.popleft())
                self._raise(connection, batch)
        except BaseException as error:
            batch = batch or [self._waiting.popleft() for _ in range(len(self._waiting))]
            for raised in batch:
                raised.error = error if isinstance(error, StateError) else StateUnusable(where, "the change was ended")
            if not isinstance(error, StateError):
                raise
        finally:
            for raised in batch:
                raised.settled = True

    async def durable(self, raised: Raise) -> None:
        """Wait until it is settled, together with others. Raises as `Raise.check`."""
        while not raised.settled:
            await self.begin()
        raised.check()

    def begin(self) -> asyncio.Future[None]:
        """Begin a change, in another thread, or join the one that is under way; for the running event loop."""
        import asyncio  # which takes long, and `nfsverity trust list` has no use for

        loop = asyncio.get_running_loop()
        if self._change is None or self._loop is not loop or self._change.done():
            self._loop, self._change = loop, loop.create_task(asyncio.to_thread(self.flush))
        return asyncio.shield(self._change)

    def _raise(self, connection: sqlite3.Connection, batch: Iterable[Raise]) -> None:
        inside = _Inside(self, connection)
        numbers: dict[tuple[str, bytes], int] = {}
        made = int(time.time())
        latest = NEVER
        for raised in batch:
            try:
                raised.judge(inside)
            except VerificationError as error:
                raised.error = error
                continue
            latest = max(latest, time_to_keep(raised.issued, made))  # fim-time-2
            for of, mark in raised.marks.items():
                anchor = number_of(connection, "anchor", of.anchor, numbers)
                signer = number_of(connection, "signer", of.key, numbers)
                values = (
                    anchor, of.volume, int(of.kind), of.path, signer,
                    mark.generation.to_bytes(8), mark.tag.hash, mark.tag.digest, made,
                )  # fmt: skip
                connection.execute(RAISE, (*values, row_sum(*values)))
            if raised.also is not None:
                raised.also(connection)
        connection.execute("UPDATE latest SET issued = max(issued, ?)", (latest,))

    # dropping

    def drop(self, found: Iterable[Kept]) -> int:
        """Drop marks that were not raised since they were found; how many. For the user to decide (fim-mark-4)."""
        with self.state.changing() as connection:
            gone = 0
            for kept in found:
                of, generation = kept.of, kept.mark.generation.to_bytes(8)
                done = connection.execute(DROP, (of.anchor, of.key, of.volume, int(of.kind), of.path, generation))
                gone += done.rowcount
            return gone

    def drop_anchor(self, anchor: bytes) -> int:
        """Drop the marks of an anchor that no trust entry has any more; how many there were (fim-mark-4)."""
        with self.state.reading() as known:
            if known is None:
                return 0
        with self.state.changing() as connection:
            text = "DELETE FROM mark WHERE anchor = (SELECT id FROM anchor WHERE value = ?)"
            return connection.execute(text, (anchor,)).rowcount

    def forget_time(self) -> None:
        """Judge by the clock alone again. For the user to decide."""
        with self.state.changing() as connection:
            connection.execute("UPDATE latest SET issued = ?", (NEVER,))


class Seen:
    """The marks that one judgement looks at: those of entries that cover what is judged."""

    def __init__(self, marks: Marks) -> None:
        self._marks = marks
        self._found: dict[tuple[bytes, bytes, Kind, bytes], Mapping[bytes, Mark]] = {}

    def under(self, anchor: bytes, volume: bytes, kind: Kind, path: bytes) -> Mapping[bytes, Mark]:
        what = (anchor, volume, kind, path)
        if what not in self._found:
            self._found[what] = self._marks.under(*what)
        return self._found[what]

    def __bool__(self) -> bool:
        """Whether there was any: else this is the first use."""
        return any(self._found.values())

    def due(self, marks: Mapping[MarkKey, Mark]) -> dict[MarkKey, Mark]:
        """Those that are not there yet."""
        return {
            of: mark
            for of, mark in marks.items()
            if self.under(of.anchor, of.volume, of.kind, of.path).get(of.key) != mark
        }


def judged(
    marks: MarkStore,
    verified: Verified,
    expected: Expected,
    trust: Sequence[TrustEntry],
    seen: Seen,
    revoked: Revocations,
) -> Judged:
    """A record of which every step passed by the marks in `seen`; what it raises waits for the next change."""
    due = seen.due(to_raise(verified))
    if not due:
        return Judged(verified, None, bool(seen))
    of_volume = revoked.of(verified.volume)

    def again(marks: Marks) -> None:
        check_version(verified, expected, trust, marks, of_volume)

    return Judged(verified, marks.soon(Raise(again, due, verified.when.issued)), bool(seen))


class _Inside:
    """The marks as a change sees them, those included that it has raised itself."""

    def __init__(self, marks: MarkStore, connection: sqlite3.Connection) -> None:
        self._marks = marks
        self._connection = connection

    def under(self, anchor: bytes, volume: bytes, kind: Kind, path: bytes) -> Mapping[bytes, Mark]:
        return self._marks._under(self._connection, anchor, volume, kind, path)


def reset_command(url: str) -> str:
    return f"nfsverity trust reset {shlex.quote(url)}"


ELSEWHERE = "get it from elsewhere"


def reset_advice(url: str, first: str = ELSEWHERE, *, of_volume: bool) -> str:
    """What to do where a mark refuses something: `first`, or what helps where the publisher means it."""
    what = ", which is for the whole volume" if of_volume else ""
    return (
        f"{first}; if you know from the publisher that this version is meant, accept it with "
        f"`{reset_command(url)}`{what}"
    )


NEVER = -(2**63)
DROP = (
    "DELETE FROM mark WHERE anchor = (SELECT id FROM anchor WHERE value = ?)"
    " AND signer = (SELECT id FROM signer WHERE value = ?)"
    " AND volume = ? AND kind = ? AND path = ? AND generation = ?"
)
FIND = (
    "SELECT anchor, anchor.value, volume, kind, path, signer, generation, hash, digest, made, mark.sum"
    " FROM mark JOIN anchor ON anchor.id = anchor {} ORDER BY volume, path, kind, generation"
)
RAISE = (
    "INSERT INTO mark VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET"
    " generation = excluded.generation, hash = excluded.hash, digest = excluded.digest, made = excluded.made,"
    " sum = excluded.sum WHERE excluded.generation > generation"
)


def number_of(connection: sqlite3.Connection, table: str, value: bytes, known: dict[tuple[str, bytes], int]) -> int:
    """The number that stands for an anchor or a signer, given at its first use, inside a change."""
    if (table, value) not in known:
        row = connection.execute(f"SELECT id FROM {table} WHERE value = ?", (value,)).fetchone()  # noqa: S608
        if row is None:
            (last,) = connection.execute(f"SELECT coalesce(max(id), 0) FROM {table}").fetchone()  # noqa: S608
            row = (last + 1,)
            text = f"INSERT INTO {table} VALUES (?, ?, ?)"  # noqa: S608
            connection.execute(text, (row[0], value, row_sum(table, row[0], value)))
        known[table, value] = row[0]
    return known[table, value]


def row_sum(*values: object) -> bytes:
    """What a row has beside its values."""
    return hashlib.sha256(repr(values).encode()).digest()[:SUM]


def _where(volume: bytes | None, kind: Kind | None, path: bytes | None, below: bytes) -> tuple[str, list[object]]:
    parts: list[str] = []
    values: list[object] = []
    for name, value in (("volume", volume), ("kind", kind), ("path", path)):
        if value is not None:
            parts, values = [*parts, f"{name} = ?"], [*values, value]
    if below:  # the path itself, and what begins with it and a slash, which 0x30 follows
        parts, values = [*parts, "(path = ? OR (path > ? AND path < ?))"], [*values, below, below + b"/", below + b"0"]
    return (f"WHERE {' AND '.join(parts)}" if parts else ""), values
