# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""What a served directory has: verified and complete in a volume, else the server's word (fip, "Volumes")."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, AsyncIterable, Callable
from contextlib import aclosing
from dataclasses import dataclass

from nfsverity_proto import messages as m
from nfsverity_proto.entry import DirectoryNode, EntryType, FileNode, LinkNode
from nfsverity_proto.errors import Absent, IsRevoked, LinkOutside, ListingTooLong, MalformedMessage, Stale
from nfsverity_proto.path import join_path
from nfsverity_proto.statement import Tag, Time
from nfsverity_proto.verification import Verified
from nfsverity_proto.verifier import Expected

from .heads import HEADS_MAX
from .marks import Judged
from .session import Session
from .volume import Member, NewHead, find, member_at, members, members_between

KEPT_MAX = 2**30
KEPT_ENTRY = 512
"""Bytes of what is kept, and those of an entry beside its path."""


@dataclass(frozen=True, slots=True)
class Listed:
    """One name of a served tree."""

    path: bytes
    type: EntryType
    has_record: bool
    is_verified: bool
    """Whether a volume shows it, and all that is beside it; else it is the server's word."""
    executable: bool = False
    size: int | None = None
    """Bytes of a file, where it is known."""
    mtime: Time | None = None
    target: bytes | None = None
    """Of a link."""
    revoked: bool = False
    """A file whose name is verified and whose version is taken back: neither size nor time are given."""

    @property
    def name(self) -> bytes:
        return self.path.rpartition(b"/")[2]


async def list_below(
    session: Session, path: bytes, *, deep: bool = False, by_word: bool = False
) -> AsyncGenerator[Listed, None]:
    """What is in a directory, and with `deep` below it; of a file, itself. `by_word`: nothing is verified.

    Links to a directory are followed; one that leads to nothing in the volume is given itself.

    Raises `VerificationError` (in a volume also `Absent`), `StatusError`, `PeerError`.
    """
    head = None if by_word else await session.heads.current()
    if head is None:
        async with aclosing(_by_word(session, path, deep)) as entries:
            async for entry in entries:
                yield entry
        return
    async with aclosing(take_below(session, path, deep=deep, most=0)) as found:
        async for member in found:
            if member.error is not None and not isinstance(member.error, IsRevoked):
                raise member.error
            yield _listed(member, _is_revoked(session, member))


async def take_below(session: Session, path: bytes, *, deep: bool, most: int) -> AsyncGenerator[Member, None]:
    """The entries of a volume at a path, all under one head; contents of small files with them, `most` bytes at a time.

    Raises `Stale` where the volume changed in the middle of it; else as `list_below`.
    """
    head = await session.heads.current()
    begun = False
    for _ in range(HEADS_MAX):
        if head is None:
            break
        try:
            async with aclosing(_take(session, head, path, deep, most)) as found:
                async for member in found:
                    begun = True
                    yield member
            return
        except NewHead:
            if begun:
                raise Stale("the volume changed while all of it was taken") from None
            head = await session.heads.after(head)
    else:
        raise Stale("the volume changes faster than it can be read", where=session.url_of(path))
    raise MalformedMessage("the server has another head than the one that it gives (fip-entries-3)")


async def take_between(
    session: Session, head: Judged, first: bytes, last: bytes, count: int, most: int
) -> AsyncGenerator[Member, None]:
    """What `take_below` gave under `head` without contents, once more with them: the entries from one path to another.

    There may be fewer than `count` that they are. Raises as `take_below`.
    """
    judge = _judging(session, head)
    try:
        found = members_between(session, head.verified, first, last, count, most=most, judge=judge)
        async with aclosing(found) as between:
            async for member in between:
                yield member
    except NewHead:
        raise Stale("the volume changed while all of it was taken") from None


def _judging(session: Session, head: Judged) -> Callable[[Verified], None]:
    volumes = frozenset((head.verified.volume,))
    now, asked = 0, 0.0

    def judge(verified: Verified) -> None:
        nonlocal now, asked
        if (clock := time.monotonic()) - asked >= 1 or not asked:  # times are in seconds
            now, asked = session.now(), clock
        expected = Expected(verified.path, volumes, session.url_of(verified.path))
        session.check_member(verified, head.verified, expected, (), now=now)

    return judge


async def _take(session: Session, head: Judged, path: bytes, deep: bool, most: int) -> AsyncGenerator[Member, None]:
    judge = _judging(session, head)
    at = path
    if path:
        try:
            found = await find(session, path)
        except (Absent, LinkOutside):
            found = await find(session, path, last=False)
            if found is None or found[1] is None or not isinstance(found[1].node, LinkNode):
                raise
            yield Member(found[1], None, None)
            return
        if found is not None:
            at, entry = found
            if entry is not None and not isinstance(entry.node, DirectoryNode):
                yield await member_at(session, head.verified, at, most=most, judge=judge)
                return
    async with aclosing(members(session, head.verified, at, deep=deep, most=most, judge=judge)) as all_below:
        async for member in all_below:
            yield member


def _is_revoked(session: Session, member: Member) -> bool:
    """Also where the server left its statement out (fip-bulk-5): the entry names the version."""
    node, head = member.entry.node, session.heads.accepted
    if member.error is not None or not isinstance(node, FileNode) or head is None:
        return member.error is not None
    tag = Tag(head.verified.statement.hash, node.content)
    return session.revoked.of(head.verified.volume).tag(tag)


def _listed(member: Member, revoked: bool) -> Listed:
    entry, verified = member.entry, member.verified
    match entry.node:
        case FileNode():
            if verified is None:
                return Listed(entry.path, EntryType.FILE, True, True, entry.node.executable, revoked=revoked)
            content = verified.content
            return Listed(
                entry.path, EntryType.FILE, True, True, entry.node.executable, content.tree.size, content.mtime
            )
        case LinkNode():
            return Listed(entry.path, EntryType.LINK, True, True, target=entry.node.target)
    return Listed(entry.path, EntryType.DIRECTORY, True, True)


class Kept:
    """How much a server has its reader keep by listings that nothing but its word gives an end (fip-dir-8)."""

    def __init__(self) -> None:
        self.bytes = 0

    def add(self, path: bytes) -> None:
        """Raises `ListingTooLong`."""
        self.bytes += len(path) + KEPT_ENTRY
        if self.bytes > KEPT_MAX:
            raise ListingTooLong("the server lists more than is kept on its word alone")

    def drop(self, path: bytes) -> None:
        self.bytes -= len(path) + KEPT_ENTRY


async def bounded(listed: AsyncIterable[Listed]) -> AsyncGenerator[Listed, None]:
    """For who keeps what comes: raises `ListingTooLong` where that is too much of the server's word."""
    kept = Kept()
    async for entry in listed:
        if not entry.is_verified:
            kept.add(entry.path)
        yield entry


async def _by_word(session: Session, path: bytes, deep: bool) -> AsyncGenerator[Listed, None]:
    found = await session.resolve(path)
    if found.attributes.type is m.FileType.FILE:
        yield _said(path, found.attributes)
        return
    kept, directories = Kept(), [(path, found.object)]
    kept.add(path)
    while directories:
        at, directory = directories.pop()
        kept.drop(at)
        deeper: list[tuple[bytes, bytes]] = []
        async with aclosing(session.list(at, directory)) as entries:
            async for entry in entries:
                try:
                    below = join_path(at, entry.name)
                except ValueError as error:
                    raise MalformedMessage(f"the server lists {error}") from error
                yield _said(below, entry.attributes)
                if deep and entry.attributes.type is m.FileType.DIRECTORY:
                    kept.add(below)
                    deeper.append((below, entry.object))
        directories += reversed(deeper)


def _said(path: bytes, attributes: m.Attributes) -> Listed:
    is_directory = attributes.type is m.FileType.DIRECTORY
    return Listed(
        path,
        EntryType.DIRECTORY if is_directory else EntryType.FILE,
        attributes.has_record,
        False,
        attributes.executable,
        None if is_directory else attributes.size,
        attributes.mtime,
    )
