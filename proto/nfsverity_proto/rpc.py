# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""ONC RPC version 2 (RFC 5531): record marking, and the headers of calls and replies.

`MessageAssembler` is given received bytes where it says, and returns whole messages. It never asks for
more memory than an announced length that was checked against the bound (fip-mark-5).
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from .errors import MalformedMessage, RpcRefused
from .xdr import Buffer, Codec, Enumerated, Opaque, Structure, UInt, Union

MESSAGE_MAX = 4 * 2**20 + 2**16
CALL_MAX = 2**16
"""Bytes of the longest call of the procedures that exist."""
FRAGMENTS_MAX = 64
_MARK = struct.Struct(">I")
_LAST = 0x80000000
RPC_VERSION = 2
AUTH_NONE, AUTH_SYS = 0, 1


class MessageType(IntEnum):
    CALL = 0
    REPLY = 1


class ReplyStatus(IntEnum):
    ACCEPTED = 0
    DENIED = 1


class AcceptStatus(IntEnum):
    SUCCESS = 0
    PROG_UNAVAIL = 1
    PROG_MISMATCH = 2
    PROC_UNAVAIL = 3
    GARBAGE_ARGS = 4
    SYSTEM_ERR = 5


class RejectStatus(IntEnum):
    RPC_MISMATCH = 0
    AUTH_ERROR = 1


class AuthStatus(IntEnum):
    """auth_stat, whole, as a reply may have any of them; here only REJECTEDCRED is sent (fip-rpc-6)."""

    OK = 0
    BADCRED = 1
    REJECTEDCRED = 2
    BADVERF = 3
    REJECTEDVERF = 4
    TOOWEAK = 5
    INVALIDRESP = 6
    FAILED = 7
    KERB_GENERIC = 8
    TIMEEXPIRE = 9
    TKT_FILE = 10
    DECODE = 11
    NET_ADDR = 12
    RPCSEC_GSS_CREDPROBLEM = 13
    RPCSEC_GSS_CTXPROBLEM = 14


@dataclass(frozen=True, slots=True)
class Auth:
    """opaque_auth."""

    flavor: int = AUTH_NONE
    body: bytes = b""


NO_AUTH = Auth()


@dataclass(frozen=True, slots=True)
class Call:
    """The header of a call; the arguments follow it."""

    xid: int
    type: MessageType
    rpcvers: int
    prog: int
    vers: int
    proc: int
    cred: Auth = NO_AUTH
    verf: Auth = NO_AUTH


@dataclass(frozen=True, slots=True)
class Mismatch:
    """The lowest and the highest version that the server has."""

    low: int
    high: int


@dataclass(frozen=True, slots=True)
class ProgramMismatch(Mismatch):
    pass


@dataclass(frozen=True, slots=True)
class Accepted:
    """`result` is an `AcceptStatus`, or `ProgramMismatch`. After SUCCESS the results follow."""

    verf: Auth
    result: AcceptStatus | ProgramMismatch


@dataclass(frozen=True, slots=True)
class Denied:
    """`result` is `Mismatch` of the RPC version, or an `AuthStatus`."""

    result: Mismatch | AuthStatus


@dataclass(frozen=True, slots=True)
class Reply:
    """The header of a reply."""

    xid: int
    type: MessageType
    body: Accepted | Denied


_AUTH = Structure(Auth, flavor=UInt, body=Opaque(400))
_CALL: Codec[Call] = Codec(
    Structure(
        Call,
        xid=UInt,
        type=Enumerated(MessageType),
        rpcvers=UInt,
        prog=UInt,
        vers=UInt,
        proc=UInt,
        cred=_AUTH,
        verf=_AUTH,
    )
)
_VERSIONS = Structure(Mismatch, low=UInt, high=UInt)
_PROGRAM_VERSIONS = Structure(ProgramMismatch, low=UInt, high=UInt)
_ACCEPTED = Structure(
    Accepted,
    verf=_AUTH,
    result=Union(
        Enumerated(AcceptStatus),
        dict.fromkeys(AcceptStatus) | {AcceptStatus.PROG_MISMATCH: _PROGRAM_VERSIONS},
        lambda result: AcceptStatus.PROG_MISMATCH if isinstance(result, ProgramMismatch) else result,
    ),
)
_DENIED = Structure(
    Denied,
    result=Union(
        Enumerated(RejectStatus),
        {RejectStatus.RPC_MISMATCH: _VERSIONS, RejectStatus.AUTH_ERROR: Enumerated(AuthStatus)},
        lambda result: RejectStatus.RPC_MISMATCH if isinstance(result, Mismatch) else RejectStatus.AUTH_ERROR,
    ),
)
_REPLY: Codec[Reply] = Codec(
    Structure(
        Reply,
        xid=UInt,
        type=Enumerated(MessageType),
        body=Union(
            Enumerated(ReplyStatus),
            {ReplyStatus.ACCEPTED: _ACCEPTED, ReplyStatus.DENIED: _DENIED},
            lambda body: ReplyStatus.ACCEPTED if isinstance(body, Accepted) else ReplyStatus.DENIED,
        ),
    )
)
_HEADER_MAX = 1024
"""Bytes that hold any call's or reply's header: two opaque_auth of 400 bytes, and numbers."""
_SPARES = 4
"""Messages whose memory is kept to be used again: the longest ones."""
_GRAIN = 4096
"""Memory is had in multiples of this, so that the next message, a few bytes longer, fits into it too."""
_SUCCESS = struct.Struct(">IIIIII")
_SUCCESS_REST = (MessageType.REPLY, ReplyStatus.ACCEPTED, AUTH_NONE, 0, AcceptStatus.SUCCESS)
_CALL_HEADER = struct.Struct(">IIIIIIIIII")


def encode_call(xid: int, prog: int, vers: int, proc: int, arguments: bytes) -> bytes:
    """A call without credentials, with its record mark."""
    header = _CALL_HEADER.pack(xid, MessageType.CALL, RPC_VERSION, prog, vers, proc, AUTH_NONE, 0, AUTH_NONE, 0)
    return _MARK.pack(_LAST | len(header) + len(arguments)) + header + arguments


def decode_call(message: Buffer) -> tuple[Call, memoryview]:
    """A call's header and its arguments. Raises `MalformedMessage`."""
    view = memoryview(message)
    try:
        call, end = _CALL.decode_head(view[:_HEADER_MAX])
    except ValueError as error:
        raise MalformedMessage(f"not the header of an RPC call: {error}") from error
    if call.type is not MessageType.CALL:
        raise MalformedMessage("a reply where a call is due")
    return call, view[end:]


def encode_reply(reply: Reply, results: Sequence[Buffer] = ()) -> list[Buffer]:
    """A reply's buffers, the record mark first; the results are as they were given."""
    header = _SUCCESS.pack(reply.xid, *_SUCCESS_REST) if reply.body is _SUCCEEDED else _REPLY.encode(reply)
    length = len(header) + sum(len(part) for part in results)
    if length > MESSAGE_MAX:
        raise ValueError(f"a reply of {length} bytes; {MESSAGE_MAX} are allowed")
    if not results:
        return [_MARK.pack(_LAST | length) + header]
    return [b"".join((_MARK.pack(_LAST | length), header, results[0])), *results[1:]]


_SUCCEEDED = Accepted(NO_AUTH, AcceptStatus.SUCCESS)


def success(xid: int) -> Reply:
    return Reply(xid, MessageType.REPLY, _SUCCEEDED)


def reply_xid(message: Buffer) -> int:
    """The xid of a message, without looking further. Raises `MalformedMessage`."""
    if len(message) < 4:
        raise MalformedMessage(f"a message of {len(message)} bytes")
    return int.from_bytes(memoryview(message)[:4], "big")


def decode_reply(message: Buffer) -> memoryview:
    """The results of a successful reply. Raises `MalformedMessage`, or `RpcRefused` for any other reply."""
    view = memoryview(message)
    if len(view) >= _SUCCESS.size and _SUCCESS.unpack_from(view)[1:] == _SUCCESS_REST:
        return view[_SUCCESS.size :]
    try:
        reply, end = _REPLY.decode_head(view[:_HEADER_MAX])
        if reply.type is not MessageType.REPLY:
            raise ValueError("a call where a reply is due")
        if isinstance(reply.body, Accepted) and reply.body.verf != NO_AUTH:
            raise ValueError("a verifier other than AUTH_NONE of length zero")  # fip-client-7
    except ValueError as error:
        raise MalformedMessage(f"not the header of an RPC reply: {error}") from error
    body = reply.body
    if isinstance(body, Accepted) and body.result is AcceptStatus.SUCCESS:
        return view[end:]
    if end != len(view):
        raise MalformedMessage(f"{len(view) - end} bytes after the end of a refusal")
    result: Any = body.result
    if isinstance(result, Mismatch):
        raise RpcRefused(f"the server has versions {result.low} to {result.high} only", result)
    raise RpcRefused(f"the server refused the call: {result.name}", result)


class MessageAssembler:
    """Record marking (RFC 5531 section 11), one way.

    Receive into `buffer()`, then tell `received(count)`, which returns a message when one is whole. The
    message's memory is the caller's until it is given back with `recycle`.
    """

    def __init__(self, most: int = MESSAGE_MAX) -> None:
        self._most = most
        self._mark = memoryview(bytearray(4))
        self._mark_filled = 0
        self._message = bytearray()
        self._filled = 0
        self._fragment_end = 0
        self._fragments = 0
        self._last = False
        self._spare: list[bytearray] = []

    @property
    def idle(self) -> bool:
        """Nothing of a message has been received: the other side may close here."""
        return not (self._mark_filled or self._fragments)

    def buffer(self) -> memoryview:
        """Where the next bytes go; never empty, and never beyond the end of the fragment or its mark."""
        if self._filled < self._fragment_end:
            return memoryview(self._message)[self._filled : self._fragment_end]
        return self._mark[self._mark_filled :]

    def received(self, count: int) -> memoryview | None:
        """`count` bytes were put into `buffer()`. Raises `MalformedMessage`; then the connection must end."""
        if self._filled < self._fragment_end:
            self._filled += count
            if self._filled < self._fragment_end:
                return None
            return self._message_end() if self._last else None
        self._mark_filled += count
        if self._mark_filled == 4:
            self._mark_filled = 0
            self._start_fragment(_MARK.unpack(self._mark)[0])
        return None

    def recycle(self, message: memoryview) -> None:
        """The caller needs the message no more: its memory may be used again."""
        memory = message.obj
        message.release()
        if isinstance(memory, bytearray):
            self._spare = sorted((*self._spare, memory), key=len)[-_SPARES:]

    def _start_fragment(self, mark: int) -> None:
        length = mark & ~_LAST
        self._last = bool(mark & _LAST)
        self._fragments += 1
        if length == 0:
            raise MalformedMessage("an empty fragment")
        if self._fragments > FRAGMENTS_MAX or (self._fragments == FRAGMENTS_MAX and not self._last):
            raise MalformedMessage(f"a message of more than {FRAGMENTS_MAX} fragments")
        if self._filled + length > self._most:
            raise MalformedMessage(f"a message of more than {self._most} bytes")
        self._fragment_end = self._filled + length
        if len(self._message) < self._fragment_end:
            self._grow(self._fragment_end)

    def _grow(self, length: int) -> None:
        if not self._filled:
            fitting = next((at for at, memory in enumerate(self._spare) if len(memory) >= length), None)
            if fitting is not None:
                self._message = self._spare.pop(fitting)
                return
        larger = bytearray(-(-length // _GRAIN) * _GRAIN)
        larger[: self._filled] = memoryview(self._message)[: self._filled]
        self._message = larger

    def _message_end(self) -> memoryview:
        message = memoryview(self._message)[: self._filled]
        self._message = bytearray()
        self._filled = self._fragment_end = self._fragments = 0
        return message
