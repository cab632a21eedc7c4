# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause

from __future__ import annotations

import struct
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nfsverity_proto import rpc
from nfsverity_proto.errors import MalformedMessage, RpcRefused
from nfsverity_proto.rpc import (
    Accepted,
    AcceptStatus,
    Auth,
    AuthStatus,
    Denied,
    MessageAssembler,
    MessageType,
    Mismatch,
    ProgramMismatch,
    Reply,
)
from oracle import xdr

uints = st.integers(0, 2**32 - 1)
auths = st.builds(Auth, uints, st.binary(max_size=400))
NO_AUTH = xdr.uint(0) + xdr.opaque(b"")


def encode_auth(auth: Auth) -> bytes:
    return xdr.uint(auth.flavor) + xdr.opaque(auth.body)


def mark(length: int, last: bool = True) -> bytes:
    return struct.pack(">I", length | (0x80000000 if last else 0))


def unmarked(parts: list[bytes | bytearray | memoryview]) -> bytes:
    """A message of one fragment, without its mark."""
    data = b"".join(parts)
    assert data[:4] == mark(len(data) - 4)
    return data[4:]


# Headers


@pytest.mark.spec("fip-rpc-8", "fip-mark-6")
@given(uints, uints, uints, uints, st.binary(max_size=50).map(xdr.fixed))
def test_a_call_is_one_fragment_without_credentials(xid: int, prog: int, vers: int, proc: int, body: bytes) -> None:
    data = rpc.encode_call(xid, prog, vers, proc, body)
    words = [xid, 0, 2, prog, vers, proc, 0, 0, 0, 0]
    assert unmarked([data]) == b"".join(map(xdr.uint, words)) + body
    call, arguments = rpc.decode_call(data[4:])
    assert (call.xid, call.type, call.rpcvers, call.prog, call.vers, call.proc) == (xid, 0, 2, prog, vers, proc)
    assert (call.cred, call.verf) == (rpc.NO_AUTH, rpc.NO_AUTH)
    assert arguments == body


@pytest.mark.spec("fip-rpc-5", "fip-rpc-7")
@given(uints, uints, uints, uints, uints, auths, auths, st.binary(max_size=50))
def test_any_credential_and_verifier_are_read(
    xid: int, rpcvers: int, prog: int, vers: int, proc: int, cred: Auth, verf: Auth, body: bytes
) -> None:
    header = b"".join(map(xdr.uint, [xid, 0, rpcvers, prog, vers, proc])) + encode_auth(cred) + encode_auth(verf)
    call, arguments = rpc.decode_call(header + body)
    assert call == rpc.Call(xid, MessageType.CALL, rpcvers, prog, vers, proc, cred, verf)
    assert arguments == body


CALL = b"".join(map(xdr.uint, [5, 0, 2, 1, 1, 0]))


@pytest.mark.spec("fip-rpc-12")
@pytest.mark.parametrize(
    "message",
    [
        b"",
        xdr.uint(5),
        CALL,
        CALL + NO_AUTH,
        CALL + NO_AUTH + xdr.uint(0),
        xdr.uint(5) + xdr.uint(1) + bytes(40),
        xdr.uint(5) + xdr.uint(2) + bytes(40),
        CALL + xdr.uint(0) + xdr.uint(401) + bytes(404) + NO_AUTH,
        CALL + NO_AUTH + xdr.uint(0) + xdr.uint(2**32 - 1),
        CALL + xdr.uint(1) + xdr.opaque(b"a", b"\0\0\1") + NO_AUTH,
    ],
    ids=[
        "nothing",
        "an xid",
        "no credential",
        "no verifier",
        "half a verifier",
        "a reply",
        "neither call nor reply",
        "a credential too long",
        "a verifier too long",
        "padding",
    ],
)
def test_what_is_no_canonical_call_header_is_malformed(message: bytes) -> None:
    with pytest.raises(MalformedMessage):
        rpc.decode_call(message)


REPLIES: list[tuple[Reply, bytes, str]] = [
    (rpc.success(7), xdr.uint(0) + NO_AUTH + xdr.uint(0), ""),
    *(
        (
            Reply(7, MessageType.REPLY, Accepted(rpc.NO_AUTH, status)),
            xdr.uint(0) + NO_AUTH + xdr.uint(status),
            status.name,
        )
        for status in AcceptStatus
        if status not in (AcceptStatus.SUCCESS, AcceptStatus.PROG_MISMATCH)
    ),
    (
        Reply(7, MessageType.REPLY, Accepted(rpc.NO_AUTH, ProgramMismatch(1, 3))),
        xdr.uint(0) + NO_AUTH + xdr.uint(2) + xdr.uint(1) + xdr.uint(3),
        "1 to 3",
    ),
    (
        Reply(7, MessageType.REPLY, Denied(Mismatch(2, 2))),
        xdr.uint(1) + xdr.uint(0) + xdr.uint(2) + xdr.uint(2),
        "2 to 2",
    ),
    *(
        (Reply(7, MessageType.REPLY, Denied(status)), xdr.uint(1) + xdr.uint(1) + xdr.uint(status), status.name)
        for status in AuthStatus
    ),
]


@pytest.mark.spec("fip-rpc-10", "fip-rpc-13")
@pytest.mark.parametrize(("reply", "body", "text"), REPLIES, ids=[text or "SUCCESS" for _, _, text in REPLIES])
def test_replies_are_those_of_rfc_5531(reply: Reply, body: bytes, text: str) -> None:
    message = unmarked(rpc.encode_reply(reply))
    assert message == xdr.uint(7) + xdr.uint(1) + body
    assert rpc.reply_xid(message) == 7
    if not text:
        assert rpc.decode_reply(message + b"results") == b"results"
        return
    with pytest.raises(RpcRefused, match=text) as caught:
        rpc.decode_reply(message)
    assert caught.value.result == (reply.body.result)
    with pytest.raises(MalformedMessage):
        rpc.decode_reply(message + b"\0\0\0\0")


def test_the_numbers_of_auth_stat_are_all_there() -> None:
    assert sorted(AuthStatus) == list(range(15))


@pytest.mark.spec("fip-client-7")
@pytest.mark.parametrize("verf", [Auth(1, b""), Auth(0, b"abcd"), Auth(7, b"STARTTLS"), Auth(2**32 - 1, bytes(400))])
@pytest.mark.parametrize("status", list(AcceptStatus))
def test_a_reply_with_another_verifier_is_malformed(verf: Auth, status: AcceptStatus) -> None:
    versions = xdr.uint(1) + xdr.uint(1) if status is AcceptStatus.PROG_MISMATCH else b""
    message = xdr.uint(7) + xdr.uint(1) + xdr.uint(0) + encode_auth(verf) + xdr.uint(status) + versions
    with pytest.raises(MalformedMessage, match="verifier"):
        rpc.decode_reply(message)


@pytest.mark.spec("fip-client-7")
@given(
    st.binary(max_size=60)
    | st.binary(max_size=40).map(lambda rest: xdr.uint(7) + xdr.uint(1) + rest)
    | st.binary(max_size=40).map(lambda rest: xdr.uint(7) + xdr.uint(1) + xdr.uint(0) + NO_AUTH + rest)
)
def test_any_bytes_are_a_message_or_raise_the_one_error(data: bytes) -> None:
    try:
        results = rpc.decode_reply(data)
    except RpcRefused:
        pass
    except MalformedMessage:
        pass
    else:
        assert data == data[:4] + xdr.uint(1) + xdr.uint(0) + NO_AUTH + xdr.uint(0) + bytes(results)
    try:
        call, arguments = rpc.decode_call(data)
    except MalformedMessage:
        pass
    else:
        assert data.endswith(arguments)
        assert call.type is MessageType.CALL
    try:
        rpc.reply_xid(data)
    except MalformedMessage:
        assert len(data) < 4


@pytest.mark.spec("fip-client-7")
@pytest.mark.parametrize(("_", "body", "text"), REPLIES, ids=[text or "SUCCESS" for _, _, text in REPLIES])
def test_a_reply_cut_short_is_malformed(_: Reply, body: bytes, text: str) -> None:
    message = xdr.uint(7) + xdr.uint(1) + body
    for length in range(len(message)):
        with pytest.raises(MalformedMessage):
            rpc.decode_reply(message[:length])


@pytest.mark.spec("fip-client-7")
@pytest.mark.parametrize(
    "message",
    [
        CALL + NO_AUTH + NO_AUTH,
        xdr.uint(7) + xdr.uint(1) + xdr.uint(2) + bytes(16),
        xdr.uint(7) + xdr.uint(1) + xdr.uint(0) + NO_AUTH + xdr.uint(6),
        xdr.uint(7) + xdr.uint(1) + xdr.uint(1) + xdr.uint(2) + bytes(8),
        xdr.uint(7) + xdr.uint(1) + xdr.uint(1) + xdr.uint(1) + xdr.uint(15),
    ],
    ids=["a call", "reply_stat 2", "accept_stat 6", "reject_stat 2", "auth_stat 15"],
)
def test_other_replies_are_malformed(message: bytes) -> None:
    with pytest.raises(MalformedMessage):
        rpc.decode_reply(message)


def test_results_are_sent_as_they_were_given() -> None:
    data = bytearray(b"data")
    parts = rpc.encode_reply(rpc.success(7), [b"head", data, b"\0\0\0\0"])
    assert parts[1] is data
    assert rpc.decode_reply(unmarked(parts)) == b"headdata\0\0\0\0"


@pytest.mark.spec("fip-mark-1")
def test_a_reply_beyond_the_bound_of_a_message_is_not_sent() -> None:
    room = 4_259_840 - 24
    assert len(unmarked(rpc.encode_reply(rpc.success(7), [bytes(room)]))) == 4_259_840
    with pytest.raises(ValueError, match="4259844"):
        rpc.encode_reply(rpc.success(7), [bytes(room + 4)])


# Record marking


def feed(assembler: MessageAssembler, data: bytes, sizes: list[int] | None = None) -> list[bytes]:
    """The messages in a stream that comes in pieces of at most `sizes` bytes, over and over."""
    messages, at, turn = [], 0, 0
    while at < len(data):
        buffer = assembler.buffer()
        assert len(buffer) > 0
        count = min(len(buffer), len(data) - at, sizes[turn % len(sizes)] if sizes else 2**30)
        turn += 1
        buffer[:count] = data[at : at + count]
        at += count
        message = assembler.received(count)
        if message is not None:
            messages.append(bytes(message))
            assembler.recycle(message)
    return messages


@st.composite
def streams(draw: st.DrawFn) -> tuple[list[bytes], bytes]:
    """Some messages, each in some fragments, and the bytes that carry them."""
    messages, stream = [], b""
    for _ in range(draw(st.integers(1, 4))):
        fragments = draw(st.lists(st.binary(min_size=1, max_size=40), min_size=1, max_size=6))
        messages.append(b"".join(fragments))
        for at, fragment in enumerate(fragments):
            stream += mark(len(fragment), at == len(fragments) - 1) + fragment
    return messages, stream


@given(streams(), st.lists(st.integers(1, 50), min_size=1, max_size=5))
def test_messages_come_whole_however_they_are_cut(stream: tuple[list[bytes], bytes], sizes: list[int]) -> None:
    messages, data = stream
    assembler = MessageAssembler()
    assert feed(assembler, data, sizes) == messages
    assert assembler.idle
    assert feed(MessageAssembler(), data, [1]) == messages


@pytest.mark.spec("fip-mark-8")
@given(streams(), st.data())
def test_a_message_that_is_not_whole_is_not_given_out(stream: tuple[list[bytes], bytes], data: st.DataObject) -> None:
    messages, whole = stream
    cut = data.draw(st.integers(0, len(whole) - 1))
    assembler = MessageAssembler()
    found = feed(assembler, whole[:cut])
    assert found == messages[: len(found)]
    assert len(found) < len(messages)
    assert feed(assembler, whole[cut:]) == messages[len(found) :]


@given(st.binary(max_size=300), st.lists(st.integers(1, 50), min_size=1, max_size=5))
def test_any_bytes_are_messages_or_raise_the_one_error(data: bytes, sizes: list[int]) -> None:
    def outcome(sizes: list[int] | None) -> list[bytes] | str:
        try:
            return feed(MessageAssembler(100), data, sizes)
        except MalformedMessage as error:
            return str(error)

    assert outcome(sizes) == outcome(None) == outcome([1])


@pytest.mark.spec("fip-mark-3", "fip-mark-4")
@pytest.mark.parametrize("before", [b"", mark(3, False) + b"abc"])
@pytest.mark.parametrize("last", [True, False])
def test_an_empty_fragment_is_refused_at_its_mark(before: bytes, last: bool) -> None:
    with pytest.raises(MalformedMessage, match="empty"):
        feed(MessageAssembler(), before + mark(0, last))


@pytest.mark.spec("fip-mark-2", "fip-mark-4")
@pytest.mark.parametrize(("fragments", "good"), [(64, True), (65, False)])
def test_a_message_has_at_most_64_fragments(fragments: int, good: bool) -> None:
    stream = (mark(1, False) + b"x") * (fragments - 1) + mark(1)
    if good:
        assert feed(MessageAssembler(), (stream + b"x") * 2) == [b"x" * 64] * 2
    else:
        with pytest.raises(MalformedMessage, match="64 fragments"):
            feed(MessageAssembler(), stream)


@pytest.mark.spec("fip-mark-1", "fip-mark-4", "fip-mark-5")
@pytest.mark.parametrize(
    ("before", "length"),
    [
        (b"", 4_259_841),
        (b"", 2**31 - 1),
        (mark(3, False) + b"abc", 4_259_838),
        (mark(3, False) + b"abc", 2**31 - 1),
    ],
)
@pytest.mark.parametrize("last", [True, False])
def test_a_mark_beyond_the_bound_is_refused_before_memory_is_set_aside(before: bytes, length: int, last: bool) -> None:
    assembler = MessageAssembler()
    feed(assembler, before)
    tracemalloc.start()
    try:
        with pytest.raises(MalformedMessage, match="4259840 bytes"):
            feed(assembler, mark(length, last))
        assert tracemalloc.get_traced_memory()[1] < 65_536
    finally:
        tracemalloc.stop()


@pytest.mark.spec("fip-mark-1")
def test_a_message_at_the_bound_is_taken() -> None:
    data = bytes(4_259_840)
    assert feed(MessageAssembler(), mark(len(data)) + data) == [data]
    half = data[: len(data) // 2]
    assert feed(MessageAssembler(), mark(len(half), False) + half + mark(len(half)) + half) == [data]


@pytest.mark.spec("fip-mark-7")
def test_a_receiver_can_have_a_lower_bound() -> None:
    assert feed(MessageAssembler(rpc.CALL_MAX), mark(65_536) + bytes(65_536)) == [bytes(65_536)]
    with pytest.raises(MalformedMessage, match="65536 bytes"):
        feed(MessageAssembler(rpc.CALL_MAX), mark(65_537))


@given(st.lists(st.integers(1, 3000), min_size=1, max_size=20))
def test_no_more_memory_is_set_aside_than_was_announced(lengths: list[int]) -> None:
    assembler = MessageAssembler()
    for at, length in enumerate(lengths):
        assert len(assembler.buffer()) == 4
        feed(assembler, mark(length, at == len(lengths) - 1))
        assert len(assembler.buffer()) == length
        feed(assembler, bytes(length - 1))
        assert len(assembler.buffer()) == 1
        feed(assembler, b"\0")


def test_idle_is_between_messages_only() -> None:
    assembler = MessageAssembler()
    assert assembler.idle
    for data, idle in ((mark(2, False)[:1], False), (mark(2, False)[1:], False), (b"ab", False), (mark(1), False)):
        feed(assembler, data)
        assert assembler.idle is idle
    assert feed(assembler, b"c") == [b"abc"]
    assert assembler.idle


def test_memory_is_used_again_once_it_was_given_back() -> None:
    assembler = MessageAssembler()

    def receive(data: bytes) -> memoryview:
        message = None
        for piece in (mark(len(data)), data):
            assembler.buffer()[: len(piece)] = piece
            message = assembler.received(len(piece))
        assert message is not None
        return message

    first = receive(b"x" * 1000)
    second = receive(b"y" * 1000)
    assert first.obj is not second.obj
    assert first == b"x" * 1000
    memory = first.obj
    assembler.recycle(first)
    third = receive(b"z" * 900)
    assert third.obj is memory
    assert third == b"z" * 900
    assert second == b"y" * 1000
