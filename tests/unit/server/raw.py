# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""A client that verifies nothing and forgives nothing: calls in, bytes out, on a blocking socket."""

from __future__ import annotations

import socket
import struct
from typing import Any

from nfsverity_proto import messages as m
from nfsverity_proto import rpc
from nfsverity_proto.errors import StatusError
from nfsverity_proto.messages import Status
from nfsverity_proto.record import decode_record
from nfsverity_proto.statement import File, Kind, Tag, decode_statement, tag_of

SECONDS = 20
"""Until a reply that does not come fails the test."""


class Ended(Exception):
    """The server ended the connection."""


class Raw:
    def __init__(self, port: int, *, receive_buffer: int = 0) -> None:
        self.sock = socket.socket()
        if receive_buffer:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.sock.settimeout(SECONDS)
        self.sock.connect(("127.0.0.1", port))
        self.xid = 0
        self.early: dict[int, bytes] = {}

    def __enter__(self) -> Raw:
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()

    def send(self, procedure: m.Procedure[Any, Any], arguments: Any) -> int:
        self.xid += 1
        self.sock.sendall(procedure.encode_call(self.xid, arguments))
        return self.xid

    def message(self, body: bytes) -> None:
        """Send a message that may be anything, as one fragment."""
        self.sock.sendall(struct.pack(">I", 0x80000000 | len(body)) + body)

    def exactly(self, length: int) -> bytes:
        data = bytearray(length)
        filled = 0
        while filled < length:
            try:
                count = self.sock.recv_into(memoryview(data)[filled:])
            except ConnectionError as error:
                raise Ended from error
            if not count:
                raise Ended
            filled += count
        return bytes(data)

    def receive(self) -> bytes:
        """The next message."""
        (mark,) = struct.unpack(">I", self.exactly(4))
        assert mark & 0x80000000, "a server sends one fragment"
        return self.exactly(mark & 0x7FFFFFFF)

    def reply(self, xid: int) -> bytes:
        """The reply to a call; others that come before it are kept."""
        while xid not in self.early:
            message = self.receive()
            other = rpc.reply_xid(message)
            assert other not in self.early, "two replies to one call"
            self.early[other] = message
        return self.early.pop(xid)

    def result(self, procedure: m.Procedure[Any, Any], xid: int) -> Any:
        """The result of a call, or its status."""
        try:
            return procedure.decode_result(rpc.decode_reply(self.reply(xid)))
        except StatusError as error:
            return error.status

    def call(self, procedure: m.Procedure[Any, Any], arguments: Any) -> Any:
        return self.result(procedure, self.send(procedure, arguments))

    def raw(self, procedure: m.Procedure[Any, Any], arguments: Any) -> bytes:
        """The bytes of the reply behind its xid."""
        return self.reply(self.send(procedure, arguments))[4:]

    def ended(self) -> bool:
        """Whether the server ends the connection without a further message."""
        try:
            message = self.receive()
        except Ended:
            return True
        raise AssertionError(f"a message instead of the end: {message.hex()}")

    def handle(self, path: bytes) -> bytes:
        found = self.call(m.RESOLVE, m.ResolveArgs(b"", path))
        assert isinstance(found, m.ResolveOk), found
        return found.object

    def record(self, path: bytes) -> bytes:
        found = self.call(m.RECORD, m.RecordArgs(self.handle(path), b"", 0))
        assert isinstance(found, m.RecordOk), found
        return found.record

    def file(self, path: bytes) -> tuple[bytes, File, Tag]:
        """Handle, claim and tag of a file."""
        statement = decode_record(self.record(path)).statement
        decoded = decode_statement(statement, Kind.FILE)
        assert isinstance(decoded.claim, File)
        return self.handle(path), decoded.claim, tag_of(statement, decoded.hash)


def read_args(handle: bytes, tag: Tag, first: int = 0, count: int = 1, level: int | None = None) -> m.ReadArgs:
    return m.ReadArgs(handle, tag, first, count, level)


def is_status(found: object, *statuses: Status) -> bool:
    return found in statuses
