# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""`nfsverity get` of what a volume has below a directory: files, links and directories, all under one head.

Small files come many at a time. What is here already, at the destination or from a run that was interrupted, is
hashed again, and not fetched twice.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from nfsverity._hashed import beside
from nfsverity_client.listing import take_below, take_between
from nfsverity_client.pipeline import in_order
from nfsverity_client.volume import ENTRIES_AT_ONCE, Member
from nfsverity_proto.entry import DirectoryNode, LinkNode
from nfsverity_proto.errors import LinkOutside, NameCollision, NfsVerityError, Stale
from nfsverity_proto.hashes import hash_by_number
from nfsverity_proto.messages import BULK_MAX
from nfsverity_proto.verification import Verified

from .checked import Checked
from .failure import LocalProblem, about
from .output import shown
from .reuse import Transfer, is_as_signed, old_file_below
from .staging import NewTree

if TYPE_CHECKING:
    from nfsverity_client.marks import Judged
    from nfsverity_client.session import Session

    from .get import Got
    from .progress import Meter

HEADS_MAX = 3
"""How often all is begun again because the volume changed."""
SMALL = 2**16
"""Bytes up to which files that are missing are fetched many at a time."""
ALL_LINKS = "--links all makes such links too, if you believe the publisher"
FEW = 4
"""Neighbours fewer than these are fetched one by one."""


async def get_volume(
    session: Session,
    path: bytes,
    destination: Path,
    whole: bool,
    all_links: bool,
    shows: Meter,
    begin: Callable[[], Got],
) -> Got:
    """Everything at and below a directory of the volume; what does not verify is reported, and left out.

    Raises `Stale` where the volume changes again and again, `VerificationError`, `StatusError`, `PeerError`, `OSError`.
    """
    for turn in range(1, HEADS_MAX + 1):
        tree = NewTree(destination)
        taking = _Taking(session, path, tree, whole, all_links, shows, begin())
        try:
            await taking.run()
            got = taking.got
            if not got.checks.files or any(checked.error is None for checked in got.checks.files):
                tree.commit()
            tree.close()
            return got
        except Stale:
            tree.leave(silently=turn < HEADS_MAX)
        except BaseException as error:
            tree.end(error)
            raise
    raise Stale("the volume changes faster than all of it can be taken", where=session.url_of(path))


class _Taking:
    """One run through the volume, under one head."""

    def __init__(
        self, session: Session, path: bytes, tree: NewTree, whole: bool, all_links: bool, shows: Meter, got: Got
    ) -> None:
        self.session, self.path, self.tree, self.got, self.shows = session, path, tree, got, shows
        self.whole, self.all_links = whole, all_links
        self.reuses = tree.existing and not whole
        bulk = session.settings.gates.is_silent
        self.looks = bulk and (tree.resumed or self.reuses)
        """Whether it is looked for files that are here, before they are fetched."""
        self.most = BULK_MAX if bulk and not self.looks else 0
        self.head: Judged | None = None
        self.later: list[bytes] = []
        """Files that are fetched one by one."""
        self.links: list[tuple[bytes, bytes]] = []
        """Path and target. They are made last: what they lead through is known by then."""
        self.missing: list[bytes] = []
        """Small files that are neighbours but for what is no file, and are not here."""
        self.missing_bytes = self.span = 0
        """What they have together; the number of entries from the first to the last, and behind it so far."""

    async def run(self) -> None:
        """Raises `Stale` where the head did not stay."""
        from .get import get_below
        from .network import FILES_AT_ONCE

        async with contextlib.aclosing(take_below(self.session, self.path, deep=True, most=self.most)) as found:
            async for member in found:
                self.head = self.head or self.session.heads.accepted
                await self._take(member)
        await self._fetch_missing()
        tree, whole, shows = self.tree, self.whole, self.shows
        jobs = (get_below(self.session, one, self._below(one), tree, whole, shows) for one in self.later)
        async with contextlib.aclosing(in_order(jobs, FILES_AT_ONCE)) as results:
            async for checked, transfer, _ in results:  # the head's mark is there already
                self.got.add(checked, transfer)
        for path, target in self.links:
            self._made(path, lambda path=path, target=target: self._link(path, target))  # type: ignore[misc]
        if self.head is not None and self.session.heads.accepted is not self.head:  # a file is from under a newer one
            raise Stale("the volume changed while all of it was taken")

    def _below(self, path: bytes) -> bytes:
        """Where in the destination an entry belongs."""
        return path[len(self.path) :].lstrip(b"/")

    async def _take(self, member: Member) -> None:
        path, node = member.path, member.entry.node
        self.span += bool(self.missing)
        if isinstance(node, LinkNode):
            self.links.append((path, node.target))
        elif isinstance(node, DirectoryNode):
            self._made(path, lambda: self.tree.directory(self._below(path)))
        elif member.verified is None:
            await self._fetch_later(path)
        elif self.looks and (transfer := await self._is_here(path, member.verified)) is not None:
            await self._fetch_missing()
            self._add(path, member.verified, transfer)
        elif member.content is not None:
            self._write(member, member.verified, member.content)
        elif not self.looks or member.verified.content.tree.size > SMALL or self._is_old(path):
            await self._fetch_later(path)
        else:
            self.missing.append(path)
            self.missing_bytes += member.verified.content.tree.size
            self.span = self.span or 1
            if self.missing_bytes > BULK_MAX - SMALL or self.span >= ENTRIES_AT_ONCE - 1:
                await self._fetch_missing()

    async def _fetch_later(self, path: bytes) -> None:
        await self._fetch_missing()
        self.later.append(path)

    async def _fetch_missing(self) -> None:
        missing, span = self.missing, self.span
        self.missing, self.missing_bytes, self.span = [], 0, 0
        if len(missing) >= FEW and self.head is not None:
            left = set(missing)
            found = take_between(self.session, self.head, missing[0], missing[-1], span, BULK_MAX)
            async with contextlib.aclosing(found) as members:
                async for member in members:
                    if member.path in left and member.content is not None and member.verified is not None:
                        self._write(member, member.verified, member.content)
                        left.remove(member.path)
            missing = [path for path in missing if path in left]
        self.later += missing

    async def _is_here(self, path: bytes, verified: Verified) -> Transfer | None:
        """Where the file is here already, whole and as signed: where its bytes came from."""
        below, content = self._below(path), verified.content
        hash = hash_by_number(verified.statement.hash)
        size = content.tree.size
        with contextlib.suppress(LocalProblem, NameCollision):
            if self.reuses:
                with old_file_below(self.tree.destination, below) as old:
                    if old is not None and await is_as_signed(old, verified, self.shows):
                        self.tree.leave_alone(below)
                        return Transfer(0, size, unchanged=True)
            if self.tree.resumed:
                tree, executable, mtime = content.tree, verified.file.executable, content.mtime.to_ns()

                def taken(progress: Callable[[int], None]) -> bool:
                    return self.tree.take_left_over(below, executable, tree.shape, hash, tree.root, mtime, progress)

                if await beside(size, taken, self.shows.add):
                    return Transfer(0, size)
        return None

    def _is_old(self, path: bytes) -> bool:
        """Whether something of an older copy may be taken."""
        if not self.reuses:
            return False
        with old_file_below(self.tree.destination, self._below(path)) as old:
            return old is not None

    def _write(self, member: Member, verified: Verified, content: memoryview) -> None:
        def write() -> None:
            below = self._below(member.path)
            file = self.tree.create(below, verified.file.executable)
            try:
                if len(content):
                    file.write(content)
                file.finish(verified.content.mtime.to_ns())
            finally:
                os.close(file.fd)
            self.tree.keep(below)
            self.shows.add(len(content))
            self._add(member.path, verified, Transfer(len(content), 0))

        self._made(member.path, write)

    def _link(self, path: bytes, target: bytes) -> None:
        below = self._below(path)
        if not self.all_links:
            try:
                check_link(self.tree, below, target)
            except LinkOutside as error:
                error.advice = ALL_LINKS
                raise
        self.tree.link(below, target)

    def _made(self, path: bytes, make: Callable[[], None]) -> None:
        """Make something at the destination; what is wrong with it is told, and all else goes on."""
        url = self.session.url_of(path)
        try:
            with about(url):
                make()
        except (NfsVerityError, LocalProblem) as error:
            self.got.add(Checked(url, path, None, error), None)

    def _add(self, path: bytes, verified: Verified, transfer: Transfer) -> None:
        seen_before = None if self.head is None else self.head.seen_before
        self.got.add(Checked(self.session.url_of(path), path, verified, seen_before=seen_before), transfer)


def check_link(tree: NewTree, path: bytes, target: bytes) -> None:
    """That a link leads nowhere out of the tree: neither by its names, nor through other links in it (fim-link-1).

    A ".." is only followed back from a directory that was made here: what is above where another link leads to, is not
    what stands before it. Raises `LinkOutside`.
    """
    if target.startswith(b"/"):
        raise LinkOutside("the link is absolute", found=shown(target))
    at = path.split(b"/")[:-1]
    own = len(at)
    """The names that are still those of the directories that the link is in."""
    for name in target.split(b"/"):
        if name in (b"", b"."):
            continue
        if name != b"..":
            at.append(name)
            continue
        if not at:
            raise LinkOutside("the link leads above all that is taken", found=shown(target))
        if len(at) > own and not tree.has_directory(b"/".join(at)):
            raise LinkOutside("the link leads back from what is no directory", found=shown(target))
        at.pop()
        own = min(own, len(at))
