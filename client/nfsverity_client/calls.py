# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""Calls to one server: connections as they are needed, calls made again, names and listings by the server's word."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncGenerator
from dataclasses import replace
from types import TracebackType
from typing import Any, Self, TypeVar

from nfsverity_proto import messages as m
from nfsverity_proto.errors import MalformedMessage, StatusError, TimedOut, Unreachable
from nfsverity_proto.path import check_name
from nfsverity_proto.url import Url

from .connection import Connection, Held, Traffic, connect
from .presentation import GrantsLess

Ok = TypeVar("Ok")
RECONNECTS = 5
"""How often one call is begun again after its connection was lost."""
PAUSE = 0.1
"""Seconds before a call that was answered BUSY, or whose connection was lost, is made again; then twice that, …"""
PAUSE_MAX = 1.0


class Calls:
    """Use it as an async context manager. It is a `Caller`, and safe to use by many tasks of one event loop.

    `timeout`: seconds for one answer.
    """

    def __init__(self, url: Url, timeout: float) -> None:
        self.url = url.with_path(b"")
        self.timeout = timeout
        self.traffic = Traffic()
        self._last_url = b"", str(self.url)
        self._closed = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._connection: Connection | None = None
        self.read_most = m.DATA_MIN
        """Bytes of data that may be asked for at once, on the present connection."""
        self._limits_of: Connection | None = None
        """The connection on which LIMITS was asked last."""
        self._connecting = asyncio.Lock()
        self._left: list[Connection] = []
        """Connections of other event loops; after a fork, of the other process."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """End what is under way. Nothing can be asked any more."""
        self._closed = True
        if self._connection is not None and self._loop is asyncio.get_running_loop():
            await self._connection.close()

    def _begin_again(self) -> None:
        """Another event loop is used from now on."""

    def url_of(self, path: bytes) -> str:
        last = self._last_url
        if last[0] != path:  # it is asked for some times, of one file after the other
            last = self._last_url = path, str(self.url.with_path(path))
        return last[1]

    async def call(self, procedure: m.Procedure[Any, Ok], arguments: Any, *, wait: float = 0.0) -> Ok:
        """The result, nothing of which is a view: a `Tail` is copied. Raises `StatusError`, `PeerError`."""
        held = await self.call_holding(procedure, arguments, wait=wait)
        ok: Ok = _copied(held.ok)
        held.release()
        return ok

    async def call_holding(
        self, procedure: m.Procedure[Any, Ok], arguments: Any, *, wait: float = 0.0, data: int = 0
    ) -> Held[Ok]:
        """The result, whose `Tail` is a view. `wait`: seconds by which the server may hold the call.

        `data`: bytes of data that it asks for. Raises `GrantsLess` where the connection, which may be another one
        than when they were planned, has not as many.

        Made again while the server is busy (not where it may hold it), and on a new connection where the old
        one was lost: every procedure is idempotent (fip-rpc-19, fip-client-3). Raises `StatusError`, `PeerError`.
        """
        deadline = asyncio.get_running_loop().time() + self.timeout + wait  # fip-client-1
        asked = False
        pause, losses = PAUSE, 0
        try:
            async with asyncio.timeout_at(deadline):
                while True:
                    connected = False
                    try:
                        connection = await self._connected()
                        connected = asked = True
                        if data > self.read_most and not await self._grants(connection, data):
                            raise GrantsLess(f"{data} bytes at once are more than {self.url.server} grants")
                        held = await connection.call_holding(procedure, arguments)
                        if isinstance(held.ok, m.LimitsOk):
                            self._take_limits(connection, held.ok)
                        return held
                    except Unreachable:
                        losses += 1
                        if losses > RECONNECTS or (losses == 1 and not connected):
                            raise
                    except StatusError as error:
                        if error.status is not m.Status.BUSY or wait:
                            raise
                        if asyncio.get_running_loop().time() + pause > deadline:
                            raise
                    await asyncio.sleep(pause)
                    pause = min(2 * pause, PAUSE_MAX)
        except TimeoutError:
            what = f"did not answer {procedure.name}" if asked else "did not accept a connection"
            raise TimedOut(f"{self.url.server} {what} within {self.timeout + wait:g} seconds") from None

    async def _connected(self) -> Connection:
        loop = asyncio.get_running_loop()
        if self._closed:
            raise ValueError("the session is closed")
        if self._loop is not loop:
            if self._connection is not None:
                self._left.append(self._connection)
            self._loop, self._connection, self._connecting = loop, None, asyncio.Lock()
            self._begin_again()
        connection = self._connection
        if connection is None or connection.lost is not None:
            async with self._connecting:
                connection = self._connection
                if connection is None or connection.lost is not None:
                    connection = self._connection = await connect(self.url, self.traffic)
                    self.read_most = m.DATA_MIN
        return connection

    async def ask_limits(self) -> None:
        """Learn how much the server grants beyond the minimum, on this connection (fip-limits-3, fip-limits-7).

        Raises `StatusError`, `PeerError`.
        """
        if self._limits_of is None or self._limits_of is not self._connection:
            await self.call(m.LIMITS, None)
        if self._limits_of is None or self._limits_of is not self._connection:
            self.read_most = m.DATA_MIN  # another connection was begun meanwhile

    async def _grants(self, connection: Connection, data: int) -> bool:
        """Whether so many bytes may be asked for at once. Raises `StatusError`, `PeerError`."""
        if self._limits_of is not connection:
            held = await connection.call_holding(m.LIMITS, None)
            self._take_limits(connection, held.ok)
            held.release()
        return self._limits_of is connection and data <= self.read_most

    def _take_limits(self, connection: Connection, ok: m.LimitsOk) -> None:
        if self._connection is connection:
            self._limits_of = connection
            self.read_most = max(m.DATA_MIN, min(ok.max_data, m.DATA_MAX))

    # revocations

    async def revocation(self, known: bytes = b"") -> bytes | None:
        """The current revocation of what the server has at its root, for the caller to verify.

        `known` is the SHA-256 of the one that the caller has, if any. None: there is none, or it is that one.
        Raises `StatusError`, `PeerError`.
        """
        try:
            record = (await self.call(m.REVOCATION, m.RevocationArgs(m.ROOT_HANDLE, known))).record
        except StatusError as error:
            if error.status is m.Status.UNSIGNED:
                return None
            if error.status is not m.Status.UNCHANGED:
                raise
            if not known:
                raise MalformedMessage("the server answered UNCHANGED to who knows of no revocation") from error
            return None
        if hashlib.sha256(record).digest() == known:  # fip-revoke-6
            raise MalformedMessage("the server sent the revocation that is known")
        return record

    # without verification

    async def plain(self, object: bytes, offset: int, count: int) -> m.PlainOk:
        """Bytes of a file as the server has them, unverified: only where the policy does not enforce (fip-plain-8).

        `object` is a handle. There may be fewer than `count`. Raises `StatusError`, `PeerError`.
        """
        ok = await self.call(m.PLAIN, m.PlainArgs(object, offset, count))
        end = offset + len(ok.data)
        if len(ok.data) > count or end > max(ok.size, offset) or ok.eof != (end >= ok.size):  # fip-plain-7
            raise MalformedMessage(f"{len(ok.data)} bytes at {offset}, end {ok.eof}, of a file of {ok.size} bytes")
        if not ok.data and not ok.eof:
            raise MalformedMessage("a reply to PLAIN with neither data nor the end")
        return ok

    # names

    async def resolve(self, path: bytes) -> m.ResolveOk:
        """Raises `StatusError`, `PeerError`."""
        return await self.call(m.RESOLVE, m.ResolveArgs(m.ROOT_HANDLE, path))

    async def list(self, path: bytes, directory: bytes | None = None) -> AsyncGenerator[m.Entry, None]:
        """The entries of a directory, ascending by name: the server's word (fip-dir-7). `directory`: its handle.

        Raises `StatusError`, `PeerError`.
        """
        if directory is None:
            directory = (await self.resolve(path)).object
        after, eof, resolved = b"", False, False
        while not eof:
            try:
                ok = await self.call(m.READDIR, m.ReaddirArgs(directory, after, m.ENTRIES_MAX))
            except StatusError as error:
                if error.status is not m.Status.BAD_HANDLE or resolved:
                    raise
                directory, resolved = (await self.resolve(path)).object, True  # fip-handle-7
                continue
            _check_listing(ok, after)
            for entry in ok.entries:
                yield entry
            eof, resolved = ok.eof, False
            after = ok.entries[-1].name if ok.entries else after


def _copied(ok: Any) -> Any:
    match ok:
        case m.TreeOk():
            return replace(ok, hashes=bytes(ok.hashes))
        case m.FetchOk() | m.ReadOk() | m.PlainOk():
            return replace(ok, data=bytes(ok.data))
    return ok


def _check_listing(ok: m.ReaddirOk, after: bytes) -> None:
    """Raises `MalformedMessage` (fip-dir-6)."""
    if not ok.entries and not ok.eof:
        raise MalformedMessage("a listing with neither an entry nor an end")
    for entry in ok.entries:
        try:
            check_name(entry.name)
        except ValueError as error:
            raise MalformedMessage(f"a listing has {error}") from error
        if entry.name <= after:
            raise MalformedMessage(f"a listing has {entry.name!r} after {after!r}")
        after = entry.name
