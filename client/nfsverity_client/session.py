# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""A session with one server: connections as they are needed, and records judged by the user's trust.

The I/O that `nfsverity_proto.verification` leaves out is here: certificates are fetched, the clock is read,
and the volume ID is bound to the server at first use.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Protocol, Self, TypeVar

from nfsverity_proto import messages as m
from nfsverity_proto.errors import MalformedMessage, StatusError, Unreachable, VerificationError, WrongVolume
from nfsverity_proto.path import check_name, join_path
from nfsverity_proto.record import Fingerprint, decode_record
from nfsverity_proto.tree import SIZE_MAX
from nfsverity_proto.trust import TrustEntry, expected_volumes
from nfsverity_proto.url import Url
from nfsverity_proto.verification import (
    ALL_ALGORITHMS,
    Algorithms,
    Expected,
    Verified,
    signers_to_fetch,
    verify_record,
)

from .budget import WaitBudget
from .connection import Connection, Held, Traffic, connect
from .presentation import Presentation

Ok = TypeVar("Ok")
RECONNECTS = 5
"""How often one call is begun again after its connection was lost."""
PAUSE = 0.1
"""Seconds before a call that was answered BUSY, or whose connection was lost, is made again; then twice that, …"""
PAUSE_MAX = 1.0


class Bindings(Protocol):
    """Where the volume ID that a server had at first use is kept; `trust_store.Bindings` is one."""

    def get(self, server: str) -> bytes | None:
        """The volume ID bound to a server's root URL."""

    def bind(self, server: str, volume: bytes) -> bytes:
        """Bind, durably before this returns; the volume ID that is then bound (another process may be first)."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What a user asked for. Times in seconds."""

    trust: tuple[TrustEntry, ...] = ()
    volume: bytes | None = None
    """The volume ID to expect; None: what trust entries or the binding say."""
    presentation: Presentation = Presentation.INLINE
    wait: float = 30.0
    """For all updates together; 0 = never wait."""
    timeout: float = 30.0
    """For one answer."""
    algorithms: Algorithms = ALL_ALGORITHMS


class Session:
    """Use it as an async context manager. It is a `Caller`, and safe to use by many tasks of one event loop.

    `on_binding` is told the server and the volume ID when a binding is made.
    """

    def __init__(
        self,
        url: Url,
        settings: Settings,
        bindings: Bindings | None = None,
        on_binding: Callable[[str, bytes], None] | None = None,
    ) -> None:
        self.url = url.with_path(b"")
        self.settings = settings
        self.budget = WaitBudget(settings.wait)
        self.traffic = Traffic()
        self._bindings = bindings
        self._on_binding = on_binding
        self._bound: bytes | None = None
        self._certificates: dict[Fingerprint, Sequence[bytes]] = {}
        self._connection: Connection | None = None
        self._connecting = asyncio.Lock()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        if self._connection is not None:
            await self._connection.close()

    # calls

    async def call(self, procedure: m.Procedure[Any, Ok], arguments: Any, *, wait: float = 0.0) -> Ok:
        """The result, nothing of which is a view. Raises `StatusError`, `PeerError`."""
        held = await self.call_holding(procedure, arguments, wait=wait)
        held.release()
        return held.ok

    async def call_holding(self, procedure: m.Procedure[Any, Ok], arguments: Any, *, wait: float = 0.0) -> Held[Ok]:
        """The result, whose `Tail` is a view. `wait`: seconds by which the server may hold the call.

        Made again while the server is busy, and on a new connection where the old one was lost: every
        procedure is idempotent (fip-rpc-19, fip-client-3). Raises `StatusError`, `PeerError`.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self.settings.timeout + wait
        pause, losses = PAUSE, 0
        while True:
            connection = None
            try:
                connection = await self._connected(deadline)
                return await connection.call_holding(procedure, arguments, deadline)
            except Unreachable:
                losses += 1
                if losses > RECONNECTS or (connection is None and losses == 1) or loop.time() + pause > deadline:
                    raise
            except StatusError as error:
                if error.status is not m.Status.BUSY or loop.time() + pause > deadline:
                    raise
            await asyncio.sleep(pause)
            pause = min(2 * pause, PAUSE_MAX)

    async def _connected(self, deadline: float) -> Connection:
        connection = self._connection
        if connection is None or connection.lost is not None:
            async with self._connecting:
                connection = self._connection
                if connection is None or connection.lost is not None:
                    connection = await connect(self.url, self.traffic, deadline)
                    self._connection = connection
        return connection

    # records

    def url_of(self, path: bytes) -> str:
        return str(self.url.with_path(path))

    async def verify(self, record: bytes | None, path: bytes) -> Verified:
        """Every step for the record of the file at `path`. The volume is bound at first use, before this returns.

        Raises `VerificationError`, `StatusError`, `PeerError`; `OSError` where a binding cannot be stored.
        """
        url = self.url_of(path)
        expected = Expected(path, self._expected_volumes(url), url)
        certificates = {} if record is None else await self._signers(record)
        verified = verify_record(
            record, expected, self.settings.trust, certificates, int(time.time()), self.settings.algorithms
        )
        self._bind(verified.file.volume, expected)
        return verified

    def _expected_volumes(self, url: str) -> frozenset[bytes] | None:
        if self.settings.volume is not None:
            return frozenset((self.settings.volume,))
        volumes = expected_volumes(self.settings.trust, url)
        if volumes is not None:
            return volumes
        if self._bound is None and self._bindings is not None:
            self._bound = self._bindings.get(self.url.server)
        return None if self._bound is None else frozenset((self._bound,))

    def _bind(self, volume: bytes, expected: Expected) -> None:
        if expected.volumes is not None:
            return
        bound = volume
        if self._bindings is not None:
            bound = self._bindings.bind(self.url.server, volume)
        self._bound = bound
        if bound != volume:
            raise WrongVolume("the record is of another volume", expected=bound.hex(), found=volume.hex())
        if self._on_binding is not None:
            self._on_binding(self.url.server, volume)

    async def _signers(self, record: bytes) -> dict[Fingerprint, Sequence[bytes]]:
        """Certificates of signers that are not pinned, from the server; believed only by their digest."""
        try:
            wanted = signers_to_fetch(decode_record(record), self.settings.trust)
        except VerificationError:
            return {}  # `verify_record` says it in its turn
        for signer in wanted:
            if signer not in self._certificates:
                with contextlib.suppress(StatusError):
                    ok = await self.call(m.CERTIFICATE, m.CertificateArgs(signer))
                    self._certificates[signer] = ok.certificates
        return self._certificates

    # names

    async def resolve(self, path: bytes) -> m.ResolveOk:
        """Raises `StatusError`, `PeerError`."""
        ok = await self.call(m.RESOLVE, m.ResolveArgs(m.ROOT_HANDLE, path))
        _check_attributes(ok.attributes)
        return ok

    async def list(self, path: bytes) -> AsyncIterator[m.Entry]:
        """The entries of a directory, ascending by name: the server's word (fip-dir-7).

        Raises `StatusError`, `PeerError`.
        """
        async for entry in self._list((await self.resolve(path)).object):
            yield entry

    async def _list(self, directory: bytes) -> AsyncIterator[m.Entry]:
        after, eof = b"", False
        while not eof:
            ok = await self.call(m.READDIR, m.ReaddirArgs(directory, after, m.ENTRIES_MAX))
            _check_listing(ok, after)
            for entry in ok.entries:
                yield entry
            eof = ok.eof
            after = ok.entries[-1].name if ok.entries else after

    async def walk(self, path: bytes) -> AsyncIterator[tuple[bytes, m.Entry]]:
        """Every file below a directory, with its path; directories that are too deep are `MalformedMessage`."""
        found = await self.resolve(path)
        async for item in self._walk(path, found.object):
            yield item

    async def _walk(self, path: bytes, directory: bytes) -> AsyncIterator[tuple[bytes, m.Entry]]:
        async for entry in self._list(directory):
            try:
                below = join_path(path, entry.name)
            except ValueError as error:
                raise MalformedMessage(f"the server lists {error}") from error
            if entry.attributes.type is m.FileType.DIRECTORY:
                async for item in self._walk(below, entry.object):
                    yield item
            else:
                yield below, entry


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
        _check_attributes(entry.attributes)


def _check_attributes(attributes: m.Attributes) -> None:
    """Raises `MalformedMessage` (fip-attr-2)."""
    if attributes.size > SIZE_MAX:
        raise MalformedMessage(f"attributes have a size of {attributes.size} bytes")
