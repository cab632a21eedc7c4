# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""One client's connection: calls in, replies out.

Calls are answered one after the other, each when its reply can be sent, so that a connection has the memory of
one reply. What has to wait (for a tree that is made, or for another record) waits beside, and is answered when
it can be (fip-rpc-14). When replies are not taken, calls are not read (fip-server-15).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from nfsverity_proto import messages as m
from nfsverity_proto import rpc
from nfsverity_proto.errors import MalformedMessage
from nfsverity_proto.messages import Status
from nfsverity_proto.xdr import Buffer

from .data import CHUNK, FileData, bring_in, cannot_send, is_in_memory
from .service import Held, Service
from .trees import Later

log = logging.getLogger("nfsverity.server")
PATIENCE = 60.0
"""Seconds for a message to be whole, from its first byte; and for a peer to take more of a reply (fip-server-16)."""
INCOMING = 2**14
"""Bytes that are received at a time."""
SMALL = 2**16
"""Bytes up to which the parts of a reply are joined, to be sent at once."""
TREES_MAX = 4
"""Trees that calls of one connection wait for at a time (fip-server-13)."""
TRIES_MAX = 3
"""How often a call is asked again after it waited."""
TURN = 0.002
"""Seconds after which other connections have their turn."""
HANG_UP = 0.5
"""Seconds for a peer to close, when the server stops: else what it still sends could cost it our last replies."""
_MORE = getattr(socket, "MSG_MORE", 0)


@dataclass(frozen=True, slots=True)
class _Call:
    xid: int
    procedure: m.Procedure[Any, Any]
    arguments: Any


class Connection:
    def __init__(self, service: Service, sock: socket.socket, patience: float = PATIENCE) -> None:
        self._service = service
        self._sock = sock
        self._patience = patience
        self._loop = asyncio.get_running_loop()
        self._assembler = rpc.MessageAssembler(rpc.CALL_MAX)
        self._incoming = memoryview(bytearray(INCOMING))
        self._unread = self._incoming[:0]
        self._reading: asyncio.Future[None] | None = None
        self._sending = asyncio.Lock()
        self._waiting: dict[asyncio.Task[None], Later] = {}
        self._stopping = False

    async def run(self) -> None:
        """Until the client closes, breaks a rule or is too slow; or, after `stop`, until it has all its replies."""
        try:
            turn = self._loop.time()
            while (message := await self._receive()) is not None:
                await self._answer(message)
                if self._loop.time() > turn + TURN:
                    await asyncio.sleep(0)
                    turn = self._loop.time()
            if self._stopping:
                await self._finish()
        except MalformedMessage as error:
            log.info("closing a connection: %s", error)
        except (OSError, TimeoutError) as error:
            log.debug("a connection ended: %s", error)
        finally:
            for task in list(self._waiting):
                task.cancel()
            await self._waited()
            self._sock.close()

    def stop(self) -> None:
        """Read no more; then `run` answers what was read, and ends (fip-server-18)."""
        self._stopping = True
        if self._reading is not None and not self._reading.done():
            self._reading.set_result(None)

    async def _waited(self) -> None:
        if self._waiting:
            await asyncio.wait(list(self._waiting))

    async def _finish(self) -> None:
        await self._waited()
        self._sock.shutdown(socket.SHUT_WR)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(HANG_UP):
                while await self._loop.sock_recv_into(self._sock, self._incoming):
                    pass

    async def _receive(self) -> memoryview | None:
        """The next message; None where there is none any more."""
        late: float | None = None
        while True:
            while self._unread:
                space = self._assembler.buffer()
                count = min(len(space), len(self._unread))
                space[:count] = self._unread[:count]
                self._unread = self._unread[count:]
                message = self._assembler.received(count)
                if message is not None:
                    return message
            if self._stopping:
                return None
            if late is None and not self._assembler.idle:
                late = self._loop.time() + self._patience
            try:
                count = self._sock.recv_into(self._incoming)
            except BlockingIOError:
                self._reading = self._loop.create_future()
                await self._ready(self._reading, self._loop.add_reader, self._loop.remove_reader, late)
                continue
            if count == 0:
                return None
            self._unread = self._incoming[:count]

    async def _ready(
        self,
        ready: asyncio.Future[None],
        add: Callable[..., object],
        remove: Callable[[int], object],
        late: float | None,
    ) -> None:
        """Until the socket can be read or written. Raises `TimeoutError`."""
        fd = self._sock.fileno()
        add(fd, _set, ready)
        try:
            async with asyncio.timeout_at(late):
                await ready
        finally:
            remove(fd)

    async def _answer(self, message: memoryview) -> None:
        """Answer a call, or have it wait."""
        header, arguments = rpc.decode_call(message)
        reply = _refusal(header)
        if reply is not None:
            await self._send_alone(reply)
            return
        if header.proc == 0:
            ok = rpc.AcceptStatus.GARBAGE_ARGS if len(arguments) else rpc.AcceptStatus.SUCCESS
            await self._send_alone(_accepted(header.xid, ok))
            return
        procedure = m.PROCEDURES[header.proc]
        try:
            call = _Call(header.xid, procedure, procedure.decode_arguments(arguments))
        except ValueError:
            await self._send_alone(_accepted(header.xid, rpc.AcceptStatus.GARBAGE_ARGS))
            return
        self._assembler.recycle(message)
        later = await self._try(call)
        if later is not None:
            await self._defer(call, later)

    async def _defer(self, call: _Call, later: Later) -> None:
        if self._is_too_much(later):
            await self._send_result(call, Status.BUSY)
            return
        task = asyncio.create_task(self._answer_later(call, later))
        self._waiting[task] = later
        task.add_done_callback(self._waiting.pop)

    def _is_too_much(self, later: Later) -> bool:
        """Whether the connection has all waiting that it may have (fip-poll-6, fip-server-14)."""
        polls = sum(isinstance(other, Held) for other in self._waiting.values())
        if isinstance(later, Held):
            return polls >= m.POLLS_MAX
        trees = {other.tree for other in self._waiting.values() if not isinstance(other, Held)} | {later.tree}
        return len(trees) > TREES_MAX or len(self._waiting) - polls >= m.CALLS_MAX

    async def _answer_later(self, call: _Call, later: Later | None) -> None:
        """Wait, and answer then."""
        try:
            for _ in range(TRIES_MAX):
                if later is None:
                    return
                status = await later.wait()
                if status is not None:
                    await self._send_result(call, status)
                    return
                if isinstance(later, Held):
                    call = _Call(call.xid, call.procedure, m.RecordArgs(call.arguments.object, call.arguments.known, 0))
                later = await self._try(call)
            if later is not None:
                await self._send_result(call, Status.BUSY)
        except (OSError, TimeoutError) as error:
            log.debug("a connection ended: %s", error)
            self._abort()

    def _abort(self) -> None:
        """A reply was not sent whole: nothing can follow it."""
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)

    async def _try(self, call: _Call) -> Later | None:
        """Answer a call, unless it has to wait."""
        async with self._sending:
            data: object = None
            try:
                result = self._service.answer(call.procedure, call.arguments)
                data = getattr(result, "data", None)
                reply = _encoded(call, result)
            except Later as later:
                return later
            except Exception:
                log.exception("%s failed", call.procedure.name)
                reply = rpc.encode_reply(_accepted(call.xid, rpc.AcceptStatus.SYSTEM_ERR))
            try:
                await self._send(reply)
            finally:
                if isinstance(data, FileData):
                    data.close()
        return None

    async def _send_result(self, call: _Call, result: Status) -> None:
        async with self._sending:
            await self._send(_encoded(call, result))

    async def _send_alone(self, reply: rpc.Reply) -> None:
        async with self._sending:
            await self._send(rpc.encode_reply(reply))

    async def _send(self, parts: list[Buffer]) -> None:
        """Send a reply's parts. Whoever calls has the lock. Raises `OSError`, `TimeoutError`."""
        parts = [part for part in parts if len(part)]
        if not any(isinstance(part, FileData) for part in parts) and sum(map(len, parts)) <= SMALL:
            parts = [b"".join(parts)]
        for part in parts:
            more = _MORE if part is not parts[-1] else 0
            if isinstance(part, FileData):
                await self._send_file(part)
            else:
                await self._send_bytes(memoryview(part), more)

    async def _send_bytes(self, data: memoryview, flags: int = 0) -> None:
        while data:
            try:
                data = data[self._sock.send(data, flags) :]
            except BlockingIOError:
                await self._writable()

    async def _writable(self) -> None:
        late = self._loop.time() + self._patience
        await self._ready(self._loop.create_future(), self._loop.add_writer, self._loop.remove_writer, late)

    async def _send_file(self, data: FileData) -> None:
        for offset, length in data.pieces:
            if not is_in_memory(data.fd, offset, length):
                await self._loop.run_in_executor(None, bring_in, data.fd, offset, length)
            end = offset + length
            while offset < end:
                try:
                    count = os.sendfile(self._sock.fileno(), data.fd, offset, end - offset)
                except BlockingIOError:
                    await self._writable()
                    continue
                except OSError as error:
                    if not cannot_send(error):
                        raise
                    part = os.pread(data.fd, min(CHUNK, end - offset), offset)
                    await self._send_bytes(memoryview(part))
                    count = len(part)
                if not count:
                    raise ConnectionAbortedError("a file became shorter while it was sent")
                offset += count


def _set(ready: asyncio.Future[None]) -> None:
    if not ready.done():
        ready.set_result(None)


def _encoded(call: _Call, result: Any) -> list[Buffer]:
    return rpc.encode_reply(rpc.success(call.xid), call.procedure.encode_result(result))


def _accepted(xid: int, status: rpc.AcceptStatus | rpc.ProgramMismatch) -> rpc.Reply:
    return rpc.Reply(xid, rpc.MessageType.REPLY, rpc.Accepted(rpc.NO_AUTH, status))


def _refusal(call: rpc.Call) -> rpc.Reply | None:
    """The reply of the RPC layer to a call that does not reach a procedure, in the order of fip-rpc-11."""
    if call.rpcvers != rpc.RPC_VERSION:
        versions = rpc.Mismatch(rpc.RPC_VERSION, rpc.RPC_VERSION)
        return rpc.Reply(call.xid, rpc.MessageType.REPLY, rpc.Denied(versions))
    if call.cred.flavor not in (rpc.AUTH_NONE, rpc.AUTH_SYS):
        return rpc.Reply(call.xid, rpc.MessageType.REPLY, rpc.Denied(rpc.AuthStatus.REJECTEDCRED))
    if call.prog != m.PROGRAM:
        return _accepted(call.xid, rpc.AcceptStatus.PROG_UNAVAIL)
    if call.vers != m.VERSION:
        return _accepted(call.xid, rpc.ProgramMismatch(m.VERSION, m.VERSION))
    if call.proc != 0 and call.proc not in m.PROCEDURES:
        return _accepted(call.xid, rpc.AcceptStatus.PROC_UNAVAIL)
    return None
