# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""One connection to a server: calls out, replies in, matched by xid (fip-rpc-16).

Replies are received straight into the memory that their data is verified in and delivered from; nothing is
copied between. Framing and headers are `nfsverity_proto.rpc`'s. Deadlines are `session`'s: a call that is
given up is one that was cancelled.
"""

from __future__ import annotations

import asyncio
import os
import re
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from nfsverity_proto import rpc
from nfsverity_proto.errors import MalformedMessage, NfsVerityError, Unreachable
from nfsverity_proto.messages import CALLS_MAX, Procedure
from nfsverity_proto.url import Url

Ok = TypeVar("Ok")


@dataclass(slots=True)
class Traffic:
    """What crossed the wire on all connections of a session, record marks included."""

    calls: int = 0
    sent: int = 0
    received: int = 0
    hashes: int = 0
    """Hashes in proofs and trees."""
    data: int = 0
    """Bytes of files."""

    def since(self, before: Traffic) -> Traffic:
        return Traffic(
            self.calls - before.calls,
            self.sent - before.sent,
            self.received - before.received,
            self.hashes - before.hashes,
            self.data - before.data,
        )

    def copy(self) -> Traffic:
        return Traffic(self.calls, self.sent, self.received, self.hashes, self.data)


class Held(Generic[Ok]):
    """A result whose `Tail` is a view of received memory. `release` gives the memory back for the next reply."""

    __slots__ = ("ok", "_message", "_connection")

    def __init__(self, ok: Ok, message: memoryview, connection: Connection) -> None:
        self.ok = ok
        self._message: memoryview | None = message
        self._connection = connection

    def release(self) -> None:
        """No view of the result may be used after this."""
        message, self._message = self._message, None
        if message is not None:
            self._connection.recycle(message)


@dataclass(slots=True, eq=False)
class Connection(asyncio.BufferedProtocol):
    """Opened by `connect`; of no use once `lost` is set."""

    traffic: Traffic
    lost: NfsVerityError | None = None
    _assembler: rpc.MessageAssembler = field(default_factory=rpc.MessageAssembler)
    _waiting: dict[int, asyncio.Future[memoryview]] = field(default_factory=dict)
    _given_up: set[int] = field(default_factory=set)
    """Calls whose reply is still due though nobody waits for it (fip-client-2)."""
    _xid: int = field(default_factory=lambda: int.from_bytes(os.urandom(4), "big"))
    _slots: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(CALLS_MAX))
    _transport: asyncio.Transport | None = None
    _closed: asyncio.Event = field(default_factory=asyncio.Event)

    async def call_holding(self, procedure: Procedure[Any, Ok], arguments: Any) -> Held[Ok]:
        """The result, whose `Tail` is a view until it is released. Raises `StatusError`, `PeerError`."""
        xid = self._next_xid()
        call = procedure.encode_call(xid, arguments)
        await self._slots.acquire()
        reply = self._send(xid, call)
        try:
            message = await reply
        finally:
            if self._waiting.pop(xid, None) is not None:
                self._given_up.add(xid)
            elif reply.done() and not reply.cancelled():
                reply.exception()  # it was told, or it was given up and is of no interest
        try:
            results = rpc.decode_reply(message)
        except MalformedMessage as error:
            self._end(error)  # fip-client-7
            raise
        return Held(procedure.decode_result(results), message, self)

    def _send(self, xid: int, call: bytes) -> asyncio.Future[memoryview]:
        if self.lost is not None or self._transport is None:
            self._slots.release()
            raise self.lost or Unreachable("the connection is closed")
        reply = self._waiting[xid] = asyncio.get_running_loop().create_future()
        self.traffic.calls += 1
        self.traffic.sent += len(call)
        self._transport.write(call)
        return reply

    def _next_xid(self) -> int:
        self._xid = (self._xid + 1) & 0xFFFFFFFF
        while self._xid in self._waiting or self._xid in self._given_up:
            self._xid = (self._xid + 1) & 0xFFFFFFFF
        return self._xid

    def recycle(self, message: memoryview) -> None:
        self._assembler.recycle(message)

    async def close(self) -> None:
        self._end(Unreachable("the connection was closed"))
        if self._transport is not None:
            await self._closed.wait()

    # asyncio.BufferedProtocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if not isinstance(transport, asyncio.Transport):
            raise TypeError("a stream transport is needed")
        self._transport = transport

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._assembler.buffer()

    def buffer_updated(self, nbytes: int) -> None:
        self.traffic.received += nbytes
        try:
            message = self._assembler.received(nbytes)
            if message is not None:
                self._deliver(message)
        except MalformedMessage as error:
            self._end(error)

    def _deliver(self, message: memoryview) -> None:
        """Raises `MalformedMessage` for a reply to nothing that was asked (fip-client-7)."""
        xid = rpc.reply_xid(message)
        reply = self._waiting.pop(xid, None)
        if reply is None:
            if xid not in self._given_up:
                raise MalformedMessage(f"a reply to no outstanding call (xid {xid})")
            self._given_up.remove(xid)
            self._assembler.recycle(message)
        elif not reply.done():
            reply.set_result(message)
        self._slots.release()

    def connection_lost(self, exc: Exception | None) -> None:
        self._closed.set()
        reason = f": {exc}" if exc is not None else ""
        self._end(Unreachable(f"the server closed the connection{reason}"))

    def _end(self, error: NfsVerityError) -> None:
        if self.lost is None:
            self.lost = error
            for reply in self._waiting.values():
                if not reply.done():
                    reply.set_exception(error)
            self._waiting.clear()
            for _ in range(CALLS_MAX):  # whoever waits for a slot finds `lost`
                self._slots.release()
        if self._transport is not None:
            self._transport.abort()


async def connect(url: Url, traffic: Traffic) -> Connection:
    """A connection to the server of a URL. Raises `Unreachable`."""
    loop = asyncio.get_running_loop()
    try:
        _, connection = await loop.create_connection(lambda: Connection(traffic), url.host, url.port)
    except (OSError, UnicodeError) as error:  # UnicodeError: no name of a host
        raise Unreachable(f"{url.server} cannot be reached: {_reason(error)}") from error
    return connection


def _reason(error: OSError | UnicodeError) -> str:
    """As the system words it: asyncio has the calls and addresses of all attempts there, and the number in its text."""
    if isinstance(error, OSError):
        numbers = (
            [error.errno] if error.errno else [int(number) for number in re.findall(r"\[Errno (\d+)\]", str(error))]
        )
        if numbers and numbers[-1] > 0:  # below that are the errors of names, which have no other text
            return os.strerror(numbers[-1])
        return error.strerror or str(error)
    return str(error)
