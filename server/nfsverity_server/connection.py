# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""One client's connection: calls in, replies out.

Calls are answered one after the other, in the order in which they came, so that one buffer is enough for all
data; those that wait for a new record wait beside them, a few at a time (fip-poll).
"""

from __future__ import annotations

import asyncio
import logging
import socket
from typing import Any

from nfsverity_proto import messages as m
from nfsverity_proto import rpc
from nfsverity_proto.errors import MalformedMessage
from nfsverity_proto.xdr import Buffer as Bytes

from .service import Buffer, Service

log = logging.getLogger("nfsverity.server")
MESSAGE_SECONDS = 60.0
"""A message that was begun must be whole within this time."""


class Connection:
    def __init__(self, service: Service, sock: socket.socket) -> None:
        self._service = service
        self._sock = sock
        self._loop = asyncio.get_running_loop()
        self._assembler = rpc.MessageAssembler(rpc.CALL_MAX)
        self._buffer = Buffer()
        self._sending = asyncio.Lock()
        self._polls: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Until the client closes, breaks the rules of record marking, or the task is cancelled."""
        try:
            while (message := await self._receive()) is not None:
                await self._answer(message)
                self._assembler.recycle(message)
        except MalformedMessage as error:
            log.info("closing a connection: %s", error)
        except (ConnectionError, TimeoutError) as error:
            log.debug("a connection ended: %s", error)
        finally:
            for poll in self._polls:
                poll.cancel()
            self._sock.close()

    async def _receive(self) -> memoryview | None:
        while True:
            if self._assembler.idle:
                count = await self._loop.sock_recv_into(self._sock, self._assembler.buffer())
            else:
                async with asyncio.timeout(MESSAGE_SECONDS):
                    count = await self._loop.sock_recv_into(self._sock, self._assembler.buffer())
            if count == 0:
                return None
            message = self._assembler.received(count)
            if message is not None:
                return message

    async def _answer(self, message: memoryview) -> None:
        call, arguments = rpc.decode_call(message)
        refusal = _refusal(call)
        if refusal is not None:
            await self._send(rpc.encode_reply(refusal))
            return
        if call.proc == 0:
            ok = rpc.AcceptStatus.GARBAGE_ARGS if len(arguments) else rpc.AcceptStatus.SUCCESS
            await self._send(rpc.encode_reply(_accepted(call.xid, ok)))
            return
        procedure = m.PROCEDURES[call.proc]
        try:
            decoded = procedure.decode_arguments(arguments)
        except ValueError:
            await self._send(rpc.encode_reply(_accepted(call.xid, rpc.AcceptStatus.GARBAGE_ARGS)))
            return
        if isinstance(decoded, m.RecordArgs) and decoded.wait:
            self._poll(call.xid, procedure, decoded)
            return
        await self._finish(call.xid, procedure, decoded)

    def _poll(self, xid: int, procedure: m.Procedure[Any, Any], arguments: m.RecordArgs) -> None:
        if len(self._polls) >= m.POLLS_MAX:
            work = self._send(rpc.encode_reply(rpc.success(xid), procedure.encode_result(m.Status.BUSY)))
        else:
            work = self._finish(xid, procedure, arguments)
        task = asyncio.create_task(work)
        self._polls.add(task)
        task.add_done_callback(self._polls.discard)

    async def _finish(self, xid: int, procedure: m.Procedure[Any, Any], arguments: Any) -> None:
        try:
            result = await self._service.answer(procedure, arguments, self._buffer)
            reply = rpc.encode_reply(rpc.success(xid), procedure.encode_result(result))
        except Exception:
            log.exception("%s failed", procedure.name)
            reply = rpc.encode_reply(_accepted(xid, rpc.AcceptStatus.SYSTEM_ERR))
        await self._send(reply)

    async def _send(self, parts: list[Bytes]) -> None:
        async with self._sending:
            for part in parts:
                if len(part):
                    await self._loop.sock_sendall(self._sock, part)


def _accepted(xid: int, status: rpc.AcceptStatus | rpc.ProgramMismatch) -> rpc.Reply:
    return rpc.Reply(xid, rpc.MessageType.REPLY, rpc.Accepted(rpc.NO_AUTH, status))


def _refusal(call: rpc.Call) -> rpc.Reply | None:
    """The reply of the RPC layer to a call that does not reach a procedure, in the order of fip-rpc."""
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
