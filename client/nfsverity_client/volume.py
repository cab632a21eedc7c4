# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""The volume that a server serves: what is in it, and what is not, by ranges of its entries (fip, "Volumes").

Nothing here is the server's word: a range that does not fold to the signed root is never looked at.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeAlias

from nfsverity_proto import messages as m
from nfsverity_proto.entry import Entry, FileNode, Key, key_of, key_of_path
from nfsverity_proto.entry_range import EntryRange, entry_at, verify_range
from nfsverity_proto.errors import (
    MalformedMessage,
    Mismatch,
    OtherHead,
    StatusError,
    TimedOut,
    VerificationError,
)
from nfsverity_proto.hashes import Hash, hash_by_number
from nfsverity_proto.member import verify_listed
from nfsverity_proto.tree import root
from nfsverity_proto.verification import Verified

from .heads import HEADS_MAX
from .links import following

if TYPE_CHECKING:
    from .connection import Held
    from .session import Session

ENTRIES_AT_ONCE = 512
ENTRIES_AT_LEAST = 32
SMALL_SHARE = 8
"""Contents that fill all but this part of what may come at once are taken for all that there was room for."""

Item: TypeAlias = tuple[Entry, memoryview, m.BulkItem]
"""An entry of a reply, with its content and what else came of it."""


@dataclass(frozen=True, slots=True)
class Member:
    """An entry of a volume, verified; of a file also what its statement says, and maybe its whole content."""

    entry: Entry
    verified: Verified | None
    """Of a file, where the statement came."""
    content: memoryview | None
    """Verified. None where it did not come; then it is opened like any file."""
    error: VerificationError | None = None
    """Why what came of a file does not verify."""

    @property
    def path(self) -> bytes:
        return self.entry.path

    @property
    def is_file(self) -> bool:
        return isinstance(self.entry.node, FileNode)


class NewHead(Exception):
    """The server has another head by now than the one that the call was about."""


async def look_up(session: Session, head: Verified, path: bytes) -> Entry | None:
    """The entry at a path, not empty; None where it is shown that there is none (fim-range-3).

    Raises `NewHead`, `VerificationError`, `StatusError`, `PeerError`.
    """
    key = key_of_path(path)
    parent, _, name = path.rpartition(b"/")
    try:
        found = (await session.call(m.ENTRIES, m.EntriesArgs(head.tag, parent, name, 2))).range
    except StatusError as error:
        raise _changed(error) from error
    _check(session, head, found, key, 2)
    try:
        return entry_at(head.head, found, key)
    except ValueError as error:
        raise MalformedMessage(f"a reply to ENTRIES: {error} (fip-entries-6)") from error


def _changed(error: StatusError) -> Exception:
    """What a status of a call that names a head is to be raised as."""
    return NewHead() if error.status is m.Status.CHANGED else error


def _check(session: Session, head: Verified, found: EntryRange, key: Key, count: int) -> None:
    """That a range is of the volume, whose head has not expired, and begins where it was asked for.

    Raises `MalformedMessage`, `VerificationError`.
    """
    if len(found.entries) > count:
        raise MalformedMessage(f"a range of {len(found.entries)} entries where {count} were asked for (fip-entries-6)")
    try:
        verify_range(head.head, hash_by_number(head.statement.hash), found)
    except ValueError as error:
        raise MalformedMessage(f"a range of entries: {error} (fip-entries-6)") from error
    session.check_still_valid(head)
    if found.first and found.entries[0].key >= key:
        raise MalformedMessage("a range that begins behind what was asked for (fip-entries-6)")


async def _bulk(session: Session, head: Verified, key: Key, count: int, most: int) -> Held[m.BulkOk]:
    """Entries around a place, with what comes along; checked, and the caller's to release. Raises as `members`."""
    parent, name = key[0].replace(b"\0", b"/"), key[1]
    try:
        held = await session.call_holding(m.BULK, m.BulkArgs(head.tag, parent, name, count, most))
    except StatusError as error:
        raise _changed(error) from error
    try:
        _check(session, head, held.ok.range, key, count)
    except BaseException:
        held.release()
        raise
    return held


async def members(
    session: Session,
    head: Verified,
    path: bytes,
    *,
    deep: bool,
    most: int,
    judge: Callable[[Verified], None],
) -> AsyncGenerator[Member, None]:
    """What is in a directory and, with `deep`, below it: all of it, in the order of the volume (fim-range-4).

    Contents of small files come along, `most` bytes at a time; the view of one is valid until the next member is asked
    for. `judge` raises where a file that is a member is refused.
    Raises `NewHead`, `VerificationError`, `StatusError`, `PeerError`.
    """
    hash = hash_by_number(head.statement.hash)
    inside = path.replace(b"/", b"\0")

    def is_below(key: Key) -> bool:
        return key[0] == inside or (deep and (not inside or key[0].startswith(inside + b"\0")))

    async with contextlib.aclosing(_pages(session, head, key_of(path, b""), is_below, most)) as pages:
        async for page in pages:
            for entry, content, item in page:
                yield _member(head, hash, entry, content, item.statement, judge)


async def _pages(
    session: Session, head: Verified, low: Key, is_wanted: Callable[[Key], bool], most: int
) -> AsyncGenerator[list[Item], None]:
    """The entries behind `low` up to the first that is not wanted, with what comes along; raises as `members`.

    While one page is gone through, the next is on its way. The views of one are valid until then.
    """
    count, ahead = ENTRIES_AT_ONCE, False
    asked: asyncio.Task[Held[m.BulkOk]] | None = asyncio.ensure_future(_bulk(session, head, low, count, most))
    try:
        while asked is not None:
            try:
                held = await asked
            except TimedOut:
                if not ahead:
                    raise
                held = await _bulk(session, head, low, count, most)  # nobody was there to receive what was ahead
            asked = None
            try:
                page, count, goes_on = _part(head, held.ok, low, is_wanted, count, most)
                if goes_on:
                    low, ahead = page[-1][0].key, True
                    asked = asyncio.ensure_future(_bulk(session, head, low, count, most))
                    asked.add_done_callback(_told)
                    await asyncio.sleep(0)  # it is sent before this page is gone through, in which nothing is awaited
                if not most:
                    held.release()  # nothing is a view of it: who stops here holds nothing
                yield page
            finally:
                held.release()
    finally:
        if asked is not None:
            asked.cancel()
            (unused,) = await asyncio.gather(asked, return_exceptions=True)
            if not isinstance(unused, BaseException):
                unused.release()


def _told(task: asyncio.Task[Any]) -> None:
    """What went wrong where nobody asks for it any more is of no interest."""
    if not task.cancelled():
        task.exception()


def _part(
    head: Verified, ok: m.BulkOk, low: Key, is_wanted: Callable[[Key], bool], count: int, most: int
) -> tuple[list[Item], int, bool]:
    """Of a reply to a call for `count`, what is wanted behind `low`; the next count; and whether there may be more.

    Where small files lack their content because there was no room for it, they are left for the next reply.
    Raises `MalformedMessage`.
    """
    is_last = ok.range.first + len(ok.range.entries) == head.head.entries
    if not is_last and ok.range.entries[-1].key <= low:
        raise MalformedMessage("a range with nothing behind what was asked for (fip-entries-6)")
    data, page = 0, list[Item]()
    for number, (entry, content, item) in enumerate(_items(ok, most)):
        data += item.length
        if entry.key <= low:
            continue
        if not is_wanted(entry.key):
            return page, count, False
        if page and item.statement and not content and data > most - most // SMALL_SHARE:
            return page, max(number + number // 4, ENTRIES_AT_LEAST), True
        page.append((entry, content, item))
    return page, min(2 * count, ENTRIES_AT_ONCE), not is_last


async def member_at(
    session: Session, head: Verified, path: bytes, *, most: int, judge: Callable[[Verified], None]
) -> Member:
    """The one entry at a path, which is there. Raises as `members`."""
    held = await _bulk(session, head, key_of_path(path), 2, most)
    try:
        for entry, content, item in _items(held.ok, most):
            if entry.path == path:
                member = _member(head, hash_by_number(head.statement.hash), entry, content, item.statement, judge)
                return replace(member, content=None if member.content is None else memoryview(bytes(member.content)))
    finally:
        held.release()
    raise MalformedMessage("a range without the entry that was there before (fip-entries-6)")


async def members_between(
    session: Session,
    head: Verified,
    first: bytes,
    last: bytes,
    count: int,
    *,
    most: int,
    judge: Callable[[Verified], None],
) -> AsyncGenerator[Member, None]:
    """The entries from one path to another, which are `count`, or as many of them as come at once. As `members`."""
    low, high = key_of_path(first), key_of_path(last)
    held = await _bulk(session, head, low, min(count + 1, ENTRIES_AT_ONCE), most)
    try:
        hash = hash_by_number(head.statement.hash)
        for entry, content, item in _items(held.ok, most):
            if low <= entry.key <= high:
                yield _member(head, hash, entry, content, item.statement, judge)
    finally:
        held.release()


def _items(ok: m.BulkOk, most: int) -> list[Item]:
    """Each entry with its content. Raises `MalformedMessage` (fip-bulk-6)."""
    entries = ok.range.entries
    data = memoryview(ok.data)
    if len(ok.items) != len(entries) or len(data) > most or sum(item.length for item in ok.items) != len(data):
        raise MalformedMessage("a reply to BULK whose parts do not fit together (fip-bulk-6)")
    found, at = [], 0
    for entry, item in zip(entries, ok.items, strict=True):
        if not isinstance(entry.node, FileNode) and (item.statement or item.length):
            raise MalformedMessage("a reply to BULK with the content of what is no file (fip-bulk-6)")
        found.append((entry, data[at : at + item.length], item))
        at += item.length
    return found


def _member(
    head: Verified, hash: Hash, entry: Entry, content: memoryview, statement: bytes, judge: Callable[[Verified], None]
) -> Member:
    if not isinstance(entry.node, FileNode) or not statement:
        return Member(entry, None, None)
    try:
        verified = verify_listed(statement, entry, head)
        judge(verified)
        tree = verified.content.tree
        if len(content) not in (0, tree.size):
            raise MalformedMessage("a reply to BULK with a part of a file (fip-bulk-6)")
        if len(content) != tree.size:
            return Member(entry, verified, None)
        unit = tree.shape.unit_size
        found = root(hash, [hash.leaf(content[at : at + unit]) for at in range(0, len(content), unit)])
        if not hmac.compare_digest(found, tree.root):
            raise Mismatch("the content is not what was signed", expected=tree.root.hex(), found=found.hex())
    except VerificationError as error:
        return Member(entry, None, None, error)
    return Member(entry, verified, content)


async def follow(session: Session, head: Verified, path: bytes, *, last: bool = True) -> tuple[bytes, Entry | None]:
    """The path and the entry that a path leads to once all links in it are followed; no entry for the root.

    Without `last`, its last name is not followed where it is a link.
    Raises `Absent`, `LinkOutside`, and what `look_up` raises.
    """
    walk = following(path, last=last)
    entry: Entry | None = None
    with contextlib.closing(walk):
        try:
            here = next(walk)
            while True:
                entry = await look_up(session, head, here)
                here = walk.send(entry)
        except StopIteration as end:
            found: tuple[bytes, Entry | None] = end.value
            return found


async def find(session: Session, path: bytes, *, last: bool = True) -> tuple[bytes, Entry | None] | None:
    """Where a path leads to in the volume that the server serves, links followed; None where it serves none.

    Without `last`, its last name is not followed where it is a link.

    Raises `Absent`, `LinkOutside` and other verdicts, `StatusError`, `PeerError`.
    """
    head = await session.heads.current()
    for _ in range(HEADS_MAX):
        if head is None:
            return None
        try:
            return await follow(session, head.verified, path, last=last)
        except NewHead:
            newer = await session.heads.after(head)
            if newer is None:
                raise MalformedMessage(
                    "the server has another head than the one that it gives (fip-entries-3)"
                ) from None
            head = newer
    raise OtherHead("the volume changes faster than it can be read")
