# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""Whoever sits between client and server: a TCP proxy that knows record marking, calls and replies.

What it does with a reply, or instead of a call, is the test's to say: send it changed, cut into other fragments,
twice, later, never, or something else. It has no code of the client's.
"""

from __future__ import annotations

import asyncio
import contextlib
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from nfsverity_proto import messages as m
from nfsverity_proto import rpc
from nfsverity_proto.url import Url

HOST = "127.0.0.1"
HEADER = 24
"""Bytes of the RPC header of a successful reply."""


def mark(length: int, *, last: bool = True) -> bytes:
    return struct.pack(">I", length | (0x80000000 if last else 0))


def marked(message: bytes, cuts: Sequence[int] = ()) -> bytes:
    """A message as it travels, cut into fragments at some of its offsets."""
    ends = [*cuts, len(message)]
    starts = [0, *cuts]
    return b"".join(
        mark(end - start, last=end == len(message)) + message[start:end]
        for start, end in zip(starts, ends, strict=True)
    )


async def messages(reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
    """Until the other side closes."""
    message = b""
    while True:
        try:
            head = struct.unpack(">I", await reader.readexactly(4))[0]
            message += await reader.readexactly(head & 0x7FFFFFFF)
        except (asyncio.IncompleteReadError, ConnectionError):
            return
        if head & 0x80000000:
            yield message
            message = b""


@dataclass
class Call:
    """A call that came from the client."""

    index: int
    """How many came before it, on all connections."""
    xid: int
    procedure: m.Procedure[Any, Any]
    arguments: Any
    message: bytes = field(repr=False)
    line: Line = field(repr=False)

    def reply(self, result: Any) -> bytes:
        """A whole reply, as a server would send it, without its mark."""
        parts = rpc.encode_reply(rpc.success(self.xid), self.procedure.encode_result(result))
        return b"".join(bytes(part) for part in parts)[4:]

    async def answer(self, result: Any) -> None:
        """Answer in the server's place."""
        await self.line.send(marked(self.reply(result)))

    async def forward(self, arguments: Any = None) -> None:
        """Pass it on to the server, or ask something else under its xid."""
        message = self.message if arguments is None else self.procedure.encode_call(self.xid, arguments)[4:]
        await self.line.forward(message)


@dataclass
class Reply:
    """What the server answered to a call."""

    call: Call
    message: bytes = field(repr=False)

    @property
    def procedure(self) -> m.Procedure[Any, Any]:
        return self.call.procedure

    @property
    def ok(self) -> Any:
        """What it says, decoded. Raises `StatusError`, `RpcRefused`."""
        return self.procedure.decode_result(rpc.decode_reply(self.message))

    async def send(self, message: bytes | None = None) -> None:
        await self.line.send(marked(self.message if message is None else message))

    @property
    def line(self) -> Line:
        return self.call.line


@dataclass
class Line:
    """One connection of a client, and the one to the server that belongs to it."""

    client: asyncio.StreamWriter
    server: asyncio.StreamWriter

    async def send(self, data: bytes) -> None:
        """Bytes to the client, just as they are."""
        with contextlib.suppress(ConnectionError):
            self.client.write(data)
            await self.client.drain()

    async def forward(self, message: bytes) -> None:
        with contextlib.suppress(ConnectionError):
            self.server.write(marked(message))
            await self.server.drain()

    def close(self) -> None:
        self.client.close()
        self.server.close()


OnCall = Callable[[Call], Awaitable[None]]
OnReply = Callable[[Reply], Awaitable[None]]


class Adversary:
    """Honest until `on_call` or `on_reply` is set: those then have to pass on what is to be passed on."""

    def __init__(self, server: int) -> None:
        self.server = server
        """The port of the true server; it may become another."""
        self.port = 0
        self.on_call: OnCall | None = None
        self.on_reply: OnReply | None = None
        self.calls: list[Call] = []
        self.lines: list[Line] = []
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def where(self) -> Url:
        return Url(HOST, self.port)

    @property
    def names(self) -> list[str]:
        """The procedures that were called."""
        return [call.procedure.name for call in self.calls]

    def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._tasks.append(asyncio.create_task(self._serve(reader, writer)))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            server_reader, server_writer = await asyncio.open_connection(HOST, self.server)
        except OSError:
            await abort(writer)
            return
        line = Line(writer, server_writer)
        self.lines.append(line)
        waiting: dict[int, Call] = {}
        pumps = [
            asyncio.create_task(self._calls(reader, line, waiting)),
            asyncio.create_task(self._replies(server_reader, waiting)),
        ]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
            line.close()
        for pump in pumps:
            if not pump.cancelled() and pump.exception() is not None:
                raise pump.exception()  # type: ignore[misc]

    async def _calls(self, reader: asyncio.StreamReader, line: Line, waiting: dict[int, Call]) -> None:
        async for message in messages(reader):
            header, arguments = rpc.decode_call(message)
            procedure = m.PROCEDURES[header.proc]
            decoded = procedure.decode_arguments(arguments)
            call = Call(len(self.calls), header.xid, procedure, decoded, message, line)
            self.calls.append(call)
            waiting[call.xid] = call
            await (call.forward() if self.on_call is None else self.on_call(call))

    async def _replies(self, reader: asyncio.StreamReader, waiting: dict[int, Call]) -> None:
        async for message in messages(reader):
            reply = Reply(waiting.pop(rpc.reply_xid(message)), message)
            await (reply.send() if self.on_reply is None else self.on_reply(reply))

    async def end(self) -> None:
        """Close all connections. Raises what went wrong in `on_call` and `on_reply`."""
        for task in self._tasks:
            task.cancel()
        ended = await asyncio.gather(*self._tasks, return_exceptions=True)
        await abort(*(writer for line in self.lines for writer in (line.client, line.server)))
        for error in ended:
            if isinstance(error, Exception):
                raise error


async def abort(*writers: asyncio.StreamWriter) -> None:
    """Close connections, whatever was not sent yet."""
    for writer in writers:
        writer.transport.abort()
    for writer in writers:
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


@contextlib.asynccontextmanager
async def between(server: int) -> AsyncIterator[Adversary]:
    """An adversary in front of the server at a port of this machine."""
    adversary = Adversary(server)
    listener = await asyncio.start_server(adversary.accept, HOST, 0)
    adversary.port = listener.sockets[0].getsockname()[1]
    try:
        yield adversary
    finally:
        listener.close()
        await adversary.end()
        await listener.wait_closed()


def flipped(data: bytes, at: int, mask: int) -> bytes:
    """The data with some bits of one byte changed."""
    return data[:at] + bytes([data[at] ^ mask]) + data[at + 1 :]
