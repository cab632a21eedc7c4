# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""The head of the volume that a server serves: the one that is accepted now (fip, "Volumes")."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeVar

from nfsverity_proto import messages as m
from nfsverity_proto.errors import Equivocation, MalformedMessage, OtherHead, Rollback, StatusError, Unsigned
from nfsverity_proto.verification import Verified

from .marks import Judged, reset_advice

if TYPE_CHECKING:
    from .session import Session

T = TypeVar("T")
U = TypeVar("U")
HEADS_MAX = 5
"""Newer heads that are turned to while one thing is looked up or judged."""
_NO_HEAD = (m.Status.UNSIGNED, m.Status.IS_DIRECTORY)
"""The server's word that the root has no record; any other status says nothing of it (fip-status-4)."""


async def judge_next(before: T, ask: Callable[[], Awaitable[T]], judge: Callable[[T], Awaitable[U]]) -> U:
    """What `judge` makes of a newer answer than `before`, which was overtaken by what others have accepted meanwhile.

    A server that has none gives the same answer again: then raises what `judge` does, `Rollback` or `OtherHead`.
    """
    for _ in range(HEADS_MAX - 1):
        answer = await ask()
        try:
            return await judge(answer)
        except (Rollback, OtherHead):
            if answer == before:
                raise
        before = answer
    return await judge(await ask())


class Heads:
    """Asks for the head when it is first needed, and for a newer one when something shows that there may be one.

    What is accepted is never replaced by what is not strictly newer (fim-head-4), and its mark is durable before
    anything is taken from under it.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._asking = asyncio.Lock()
        self._asked = False
        self.accepted: Judged | None = None

    def begin_again(self) -> None:
        """Another event loop is used from now on."""
        self._asking = asyncio.Lock()

    def _none(self, error: StatusError) -> Unsigned:
        url = str(self._session.url)
        problem = Unsigned(f"the volume had a head, and the server gives none ({error})", where=url)
        problem.advice = reset_advice(url, of_volume=True)
        return problem

    async def current(self) -> Judged | None:
        """The head, verified; None where the server serves no volume.

        Raises `VerificationError`, also where a volume had a head before (fip-vol-1); `StatusError`, `PeerError`.
        """
        if self._asked:
            return self.accepted
        async with self._asking:
            if not self._asked:
                try:
                    record = await self._ask(b"")
                except StatusError as error:
                    if error.status in _NO_HEAD and self._session.has_mark_of_head():
                        raise self._none(error) from error
                    if error.status is not m.Status.IS_DIRECTORY:
                        raise
                else:
                    self.accepted = await self._judge(record, b"")
                self._asked = True
        return self.accepted

    async def _ask(self, known: bytes) -> bytes:
        """The record of the head that the server has, another than `known`, its SHA-256. Raises `StatusError`."""
        record = (await self._session.call(m.RECORD, m.RecordArgs(m.ROOT_HANDLE, known, 0))).record
        if hashlib.sha256(record).digest() == known:
            raise MalformedMessage("a reply to RECORD has the record that was known (fip-record-4)")
        return record

    async def _judge(self, record: bytes, known: bytes) -> Judged:
        """A head that the server has given, or a newer one where others have gone beyond it. Raises as `after`."""

        async def ask() -> bytes:
            try:
                return await self._ask(known)
            except StatusError as error:
                if error.status is not m.Status.UNCHANGED:
                    raise
                return record  # that one is not newer

        try:
            return await self._session.judge_head(record)
        except Rollback:
            return await judge_next(record, ask, self._session.judge_head)

    async def after(self, head: Judged) -> Judged | None:
        """A head that is newer than `head`: one that was accepted meanwhile, or that the server has; None for none.

        Raises as `current`, and where the server has an older one (fim-head-4).
        """
        async with self._asking:
            present = self.accepted or head
            if present.verified.when.generation > head.verified.when.generation:
                return present
            known = hashlib.sha256(present.verified.data).digest()
            try:
                record = await self._ask(known)
            except StatusError as error:
                if error.status is m.Status.UNCHANGED:
                    return None
                if error.status in _NO_HEAD:
                    raise self._none(error) from error
                raise
            newer = await self._judge(record, known)
            if not self._is_newer(newer.verified, present.verified):
                return None
            self.accepted = newer
            return newer

    def _is_newer(self, found: Verified, present: Verified) -> bool:
        """Raises `Rollback`, `Equivocation` (fim-head-4): what marks say, too, where the session keeps them."""
        url, generation = str(self._session.url), present.when.generation
        if found.when.generation < generation:
            raise Rollback(
                "an older head than the one before", where=url, expected=f"at least {generation}",
                found=str(found.when.generation),
            )  # fmt: skip
        if found.when.generation == generation and found.tag != present.tag:
            raise Equivocation(
                "another head of the same generation", where=url, expected=str(present.tag), found=str(found.tag)
            )
        return found.when.generation > generation
