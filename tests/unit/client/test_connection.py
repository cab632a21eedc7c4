# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""Replies that no server may send, connections that end, and servers that say nothing."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import socket
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from adversary import HOST, Adversary, Call, Reply, abort, between, flipped, mark, marked
from nfsverity_client.reader import open_file
from nfsverity_client.session import Session, Settings
from nfsverity_proto import messages as m
from nfsverity_proto import rpc
from nfsverity_proto.errors import (
    MalformedMessage,
    PeerError,
    RpcRefused,
    StatusError,
    TimedOut,
    Unreachable,
)
from nfsverity_proto.url import Url
from serving import Published, Served, calls_made, keys, publish_tree, serving, session

FILES = {"a/one": b"1" * 1000, "a/two": b"2" * 100_000, "b/three": b"3" * 3_000_000}
Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
WAIT = 0.3
"""Seconds for an answer, where there is none."""


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Published:
    return publish_tree(tmp_path_factory.mktemp("connection") / "tree", FILES)


@contextlib.asynccontextmanager
async def answered_by(
    talk: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
) -> AsyncIterator[Url]:
    """A server that is just this function."""

    writers: list[asyncio.StreamWriter] = []
    done: list[asyncio.Task[None]] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        with contextlib.suppress(ConnectionError):
            await talk(reader, writer)

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        done.append(asyncio.create_task(serve(reader, writer)))

    listener = await asyncio.start_server(accept, HOST, 0)
    try:
        yield Url(HOST, listener.sockets[0].getsockname()[1])
    finally:
        listener.close()
        for task in done:
            task.cancel()
        await asyncio.gather(*done, return_exceptions=True)
        await abort(*writers)
        await listener.wait_closed()


# framing


@pytest.mark.spec("fip-mark-6")
@pytest.mark.parametrize("fragments", [2, 3, 63, 64])
async def test_how_a_message_is_cut_has_no_effect(adversary: Adversary, fragments: int) -> None:
    async def cut(reply: Reply) -> None:
        step = len(reply.message) // fragments
        await reply.line.send(marked(reply.message, [step * i for i in range(1, fragments)]))

    adversary.on_reply = cut
    async with session(adversary.where) as opened:
        assert await (await open_file(opened, b"b/three")).pread() == FILES["b/three"]


async def test_bytes_may_come_one_by_one(adversary: Adversary) -> None:
    async def trickle(reply: Reply) -> None:
        for byte in marked(reply.message, [3, 10]):
            await reply.line.send(bytes([byte]))
            await asyncio.sleep(0)

    adversary.on_reply = trickle
    async with session(adversary.where) as opened:
        assert await (await open_file(opened, b"a/one")).pread() == FILES["a/one"]


def broken(message: bytes) -> dict[str, bytes]:
    unknown = bytes([message[0] ^ 0x80]) + message[1:]
    verifier = message[:12] + b"\0\0\0\0\0\0\0\4abcd" + message[20:]
    sys_verifier = message[:12] + b"\0\0\0\1" + message[16:]
    call = message[:4] + b"\0\0\0\0" + message[8:]
    return {
        "an empty last fragment": mark(0),
        "an empty first fragment": mark(0, last=False) + marked(message),
        "an empty fragment at the end": mark(len(message), last=False) + message + mark(0),
        "65 fragments": marked(message, range(1, 65)),
        "64 fragments, none of them the last": b"".join(mark(1, last=False) + b"x" for _ in range(64)),
        "a message that is too long": mark(rpc.MESSAGE_MAX + 1),
        "the longest length there is": mark(0x7FFFFFFF),
        "fragments that are too long together": mark(rpc.MESSAGE_MAX, last=False) + bytes(rpc.MESSAGE_MAX) + mark(1),
        "a message of three bytes": marked(message[:3]),
        "only an xid": marked(message[:4]),
        "a header that ends early": marked(message[:20]),
        "an unknown xid": marked(unknown),
        "a call": marked(call),
        "another verifier": marked(sys_verifier),
        "a verifier with a body": marked(verifier),
        "an unknown reply status": marked(message[:8] + b"\0\0\0\2" + message[12:]),
        "an unknown accept status": marked(message[:20] + b"\0\0\0\6" + message[24:]),
        "text": b"HTTP/1.1 400 Bad Request\r\n\r\n",
    }


@pytest.mark.spec("fip-mark-1", "fip-mark-2", "fip-mark-3", "fip-mark-4", "fip-rpc-16", "fip-client-6", "fip-client-7")
@pytest.mark.parametrize("what", broken(bytes(100)))
async def test_what_breaks_the_rules_of_connections_ends_the_connection(adversary: Adversary, what: str) -> None:
    async def send(reply: Reply) -> None:
        adversary.on_reply = None
        await reply.line.send(broken(reply.message)[what])

    adversary.on_reply = send
    async with session(adversary.where) as opened:
        with pytest.raises(MalformedMessage):
            await open_file(opened, b"a/one")
        assert await (await open_file(opened, b"a/one")).pread() == FILES["a/one"]
    assert len(adversary.lines) == 2, "on a new connection"


@pytest.mark.spec("fip-client-7", "fip-mark-4")
async def test_each_bit_of_a_mark(served: Served) -> None:
    """The message becomes another one, or stays incomplete."""

    async def one(bit: int) -> None:
        async def change(reply: Reply) -> None:
            sent = marked(reply.message)
            await reply.line.send(flipped(sent, bit // 8, 0x80 >> bit % 8))

        async with between(served.port) as adversary:
            adversary.on_reply = change
            async with session(adversary.where, timeout=WAIT) as opened:
                with pytest.raises(PeerError):
                    await opened.resolve(b"a/one")

    await asyncio.gather(*(one(bit) for bit in range(32)))


@pytest.mark.spec("fip-client-8")
async def test_a_reply_that_is_malformed_otherwise_ends_only_the_call(adversary: Adversary) -> None:
    async def send(reply: Reply) -> None:
        adversary.on_reply = None
        await reply.send(reply.message + bytes(4))

    adversary.on_reply = send
    async with session(adversary.where) as opened:
        with pytest.raises(MalformedMessage):
            await open_file(opened, b"a/one")
        await open_file(opened, b"a/one")
    assert len(adversary.lines) == 1


@pytest.mark.spec("fip-mark-5")
async def test_no_memory_is_set_aside_for_what_is_only_announced(adversary: Adversary) -> None:
    async def announce(reply: Reply) -> None:
        await reply.line.send(mark(0x7FFFFFFF))

    adversary.on_reply = announce
    async with session(adversary.where) as opened:
        tracemalloc.start()
        try:
            with pytest.raises(MalformedMessage):
                await opened.resolve(b"")
            assert tracemalloc.get_traced_memory()[1] < 2**20
        finally:
            tracemalloc.stop()


@pytest.mark.spec("fip-rpc-16", "fip-client-7")
async def test_a_reply_that_comes_twice_ends_the_connection(adversary: Adversary) -> None:
    async def twice(reply: Reply) -> None:
        adversary.on_reply = None
        await reply.line.send(marked(reply.message) * 2)

    adversary.on_reply = twice
    async with session(adversary.where) as opened:
        await opened.resolve(b"a")
        with contextlib.suppress(MalformedMessage):  # where it was sent before the second reply came
            await opened.resolve(b"b")
        assert (await opened.resolve(b"b")).object
    assert len(adversary.lines) == 2


@pytest.mark.spec("fip-rpc-16", "fip-rpc-14")
async def test_replies_are_matched_by_xid(adversary: Adversary) -> None:
    held: list[Reply] = []

    async def reverse(reply: Reply) -> None:
        held.append(reply)
        if len(held) == 3:
            for one in reversed(held):
                await one.send()

    async with session(adversary.where) as opened:
        await opened.resolve(b"")
        adversary.on_reply = reverse
        found = await asyncio.gather(*(opened.resolve(path) for path in (b"a", b"b", b"a/two")))
        adversary.on_reply = None
        assert found == [await opened.resolve(path) for path in (b"a", b"b", b"a/two")]


@pytest.mark.spec("fip-rpc-20")
async def test_replies_are_read_while_calls_are_sent(adversary: Adversary) -> None:
    """A server that takes no call before its last reply was taken, whole."""
    taken = asyncio.Event()

    async def wait(call: Call) -> None:
        await call.forward()
        await taken.wait()
        taken.clear()

    async def send(reply: Reply) -> None:
        reply.line.client.transport.set_write_buffer_limits(0)
        await reply.send()
        taken.set()

    adversary.on_call, adversary.on_reply = wait, send
    async with session(adversary.where) as opened:
        reader = await open_file(opened, b"b/three")
        parts = await asyncio.gather(*(reader.pread(at, 100_000) for at in range(0, 3_000_000, 100_000)))
    assert b"".join(parts) == FILES["b/three"]


@pytest.mark.spec("fip-rpc-17", "fip-rpc-8", "fip-rpc-9")
async def test_calls_are_as_the_draft_has_them(adversary: Adversary) -> None:
    async with session(adversary.where) as opened:
        for _ in range(50):
            await opened.resolve(b"a")
    xids = [call.xid for call in adversary.calls]
    assert len(set(xids)) == len(xids)
    for call in adversary.calls:
        header, _ = rpc.decode_call(call.message)
        assert header.cred == header.verf == rpc.NO_AUTH


# RPC errors


@pytest.mark.spec("fip-rpc-13", "fip-ext-4")
@pytest.mark.parametrize(
    "body",
    [
        rpc.Accepted(rpc.NO_AUTH, rpc.AcceptStatus.PROG_UNAVAIL),
        rpc.Accepted(rpc.NO_AUTH, rpc.ProgramMismatch(2, 3)),
        rpc.Accepted(rpc.NO_AUTH, rpc.AcceptStatus.PROC_UNAVAIL),
        rpc.Accepted(rpc.NO_AUTH, rpc.AcceptStatus.GARBAGE_ARGS),
        rpc.Accepted(rpc.NO_AUTH, rpc.AcceptStatus.SYSTEM_ERR),
        rpc.Denied(rpc.Mismatch(3, 4)),
        rpc.Denied(rpc.AuthStatus.TOOWEAK),
    ],
    ids=str,
)
async def test_an_rpc_error_is_a_failure_of_the_call(adversary: Adversary, body: rpc.Accepted | rpc.Denied) -> None:
    async def refuse(call: Call) -> None:
        parts = rpc.encode_reply(rpc.Reply(call.xid, rpc.MessageType.REPLY, body))
        await call.line.send(b"".join(bytes(part) for part in parts))

    adversary.on_call = refuse
    async with session(adversary.where) as opened:
        with pytest.raises(RpcRefused):
            await open_file(opened, b"a/one")
        adversary.on_call = None
        await open_file(opened, b"a/one")
    assert len(adversary.lines) == 1


# time


@pytest.mark.spec("fip-client-1")
async def test_a_server_that_does_not_answer(adversary: Adversary) -> None:
    async def ignore(reply: Reply) -> None:
        pass

    adversary.on_reply = ignore
    async with session(adversary.where, timeout=WAIT) as opened:
        with pytest.raises(TimedOut, match="did not answer FETCH"):
            await open_file(opened, b"a/one")


@pytest.mark.spec("fip-client-1", "fip-mark-8")
@pytest.mark.parametrize("part", [2, 4, 20, 500])
async def test_half_a_reply_and_then_silence(adversary: Adversary, part: int) -> None:
    async def begin(reply: Reply) -> None:
        await reply.line.send(marked(reply.message)[:part])

    adversary.on_reply = begin
    async with session(adversary.where, timeout=WAIT) as opened:
        with pytest.raises(TimedOut):
            await open_file(opened, b"a/one")


async def test_a_server_that_does_not_accept() -> None:
    """Its queue of connections is full, so that no handshake ends."""
    with socket.create_server((HOST, 0), backlog=0) as sock, contextlib.ExitStack() as others:
        where = sock.getsockname()
        for _ in range(4):
            other = others.enter_context(socket.socket())
            other.setblocking(False)
            other.connect_ex(where)
        async with session(Url(*where), timeout=WAIT) as opened:
            with pytest.raises(TimedOut, match="did not accept a connection"):
                await opened.resolve(b"")


@pytest.mark.spec("fip-client-2", "fip-rpc-17")
async def test_the_late_reply_to_a_call_that_was_given_up_is_no_trouble(adversary: Adversary) -> None:
    late: list[Reply] = []

    async def keep(reply: Reply) -> None:
        late.append(reply)

    async with session(adversary.where, timeout=WAIT) as opened:
        adversary.on_reply = keep
        with pytest.raises(TimedOut):
            await opened.resolve(b"a")
        adversary.on_reply = None
        await opened.resolve(b"b")
        await late[0].send()
        await opened.resolve(b"b")
        assert len(adversary.lines) == 1
        await late[0].send()  # now it is one too many
        with contextlib.suppress(MalformedMessage):
            await opened.resolve(b"b")
        await opened.resolve(b"b")
        assert len(adversary.lines) == 2


@pytest.mark.spec("fip-client-4", "fip-client-2")
async def test_at_most_32_calls_are_outstanding(adversary: Adversary) -> None:
    held: list[Reply] = []
    full = asyncio.Event()

    async def hold(reply: Reply) -> None:
        held.append(reply)
        if len(held) == m.CALLS_MAX:
            full.set()

    async with session(adversary.where) as opened:
        await opened.resolve(b"")
        adversary.on_reply = hold
        jobs = [asyncio.create_task(opened.resolve(b"a")) for _ in range(m.CALLS_MAX + 8)]
        await full.wait()
        for job in jobs[:4]:
            job.cancel()  # what was given up is still outstanding
        for _ in range(20):
            await asyncio.sleep(0)
        assert len(adversary.calls) == 1 + m.CALLS_MAX
        adversary.on_reply = None
        for reply in held:
            await reply.send()
        done = await asyncio.gather(*jobs, return_exceptions=True)
    assert [isinstance(one, asyncio.CancelledError) for one in done] == [True] * 4 + [False] * 36
    assert len(adversary.calls) == 1 + m.CALLS_MAX + 8


# connections that end


async def test_nobody_listens() -> None:
    with socket.create_server((HOST, 0)) as sock:
        where = sock.getsockname()
    async with session(Url(*where)) as opened:
        with pytest.raises(Unreachable, match=r"cannot be reached: Connection refused$"):
            await opened.resolve(b"")


@pytest.mark.parametrize("host", ["a" * 64 + ".invalid", "no-such-host.invalid"])
async def test_a_host_that_cannot_be_found(host: str) -> None:
    async with Session(Url(host, 1), Settings()) as opened:
        with pytest.raises(Unreachable):
            await opened.resolve(b"")


@pytest.mark.spec("fip-rpc-19", "fip-mark-8")
@pytest.mark.parametrize("part", [0, 3, 4, 300])
async def test_calls_are_made_again_when_the_connection_was_lost(adversary: Adversary, part: int) -> None:
    async def end(reply: Reply) -> None:
        adversary.on_reply = None
        await reply.line.send(marked(reply.message)[:part])
        reply.line.close()

    async with session(adversary.where) as opened:
        reader = await open_file(opened, b"b/three")
        adversary.on_reply = end
        assert await reader.pread() == FILES["b/three"]
    assert len(adversary.lines) == 2


async def test_a_connection_that_is_always_lost_is_an_error() -> None:
    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.close()

    async with answered_by(hang_up) as where, session(where, timeout=60) as opened:
        with pytest.raises(Unreachable, match="closed the connection"):
            await opened.resolve(b"")


@pytest.mark.spec("fip-handle-3", "fip-rpc-19")
async def test_a_reader_goes_on_when_the_server_starts_again(published: Published, adversary: Adversary) -> None:
    """Handles live through it."""
    with serving(published.root) as first:
        adversary.server = first.port
        opened = Session(adversary.where, Settings(trust=(keys().pin,)))
        reader = await open_file(opened, b"b/three")
        assert await reader.pread(0, 70_000) == FILES["b/three"][:70_000]
        handle = reader.version.handle
    with serving(published.root) as second:
        adversary.server = second.port
        assert await reader.pread() == FILES["b/three"]
        assert reader.version.handle == handle
        assert "RESOLVE" not in adversary.names
    await opened.close()


@pytest.mark.spec("fip-rpc-18")
async def test_nothing_is_sent_again_on_a_connection_that_is_up(adversary: Adversary) -> None:
    async def ignore(reply: Reply) -> None:
        pass

    adversary.on_reply = ignore
    async with session(adversary.where, timeout=WAIT) as opened:
        with pytest.raises(TimedOut):
            await opened.resolve(b"a")
    assert adversary.names == ["RESOLVE"]


# BUSY


@pytest.mark.spec("fip-client-3")
async def test_a_busy_server_is_asked_again(adversary: Adversary) -> None:

    async def busy(call: Call) -> None:
        await (call.answer(m.Status.BUSY) if len(adversary.calls) < 3 else call.forward())

    adversary.on_call = busy
    with calls_made() as calls:
        async with session(adversary.where) as opened:
            assert await (await open_file(opened, b"a/one")).pread() == FILES["a/one"]
    assert len(calls) == 3
    assert min(later.at - earlier.at for earlier, later in itertools.pairwise(calls)) >= 0.1


@pytest.mark.spec("fip-client-3", "fip-status-4")
async def test_a_server_that_is_busy_for_ever(adversary: Adversary) -> None:
    adversary.on_call = lambda call: call.answer(m.Status.BUSY)
    async with session(adversary.where, timeout=WAIT) as opened:
        with pytest.raises(StatusError) as raised:
            await open_file(opened, b"a/one")
    assert raised.value.status is m.Status.BUSY
    assert 1 <= len(adversary.calls) <= 4


async def test_waiting_for_somebody_elses_connection_ends_too() -> None:
    with socket.create_server((HOST, 0), backlog=0) as sock, contextlib.ExitStack() as others:
        where = sock.getsockname()
        for _ in range(4):
            other = others.enter_context(socket.socket())
            other.setblocking(False)
            other.connect_ex(where)
        async with session(Url(*where), timeout=WAIT) as opened:
            long = asyncio.create_task(opened.call(m.RESOLVE, m.ResolveArgs(b"", b""), wait=60))
            await asyncio.sleep(0)
            with pytest.raises(TimedOut):
                await opened.resolve(b"")
            long.cancel()
            await asyncio.gather(long, return_exceptions=True)


async def test_a_session_that_was_closed_is_of_no_use(served: Served) -> None:
    async with session(served) as opened:
        reader = await open_file(opened, b"b/three")
    with pytest.raises(ValueError, match="closed"):
        await reader.pread()
    await opened.close()


async def test_closing_ends_what_is_under_way(adversary: Adversary) -> None:
    arrived = asyncio.Event()

    async def ignore(reply: Reply) -> None:
        arrived.set()

    adversary.on_reply = ignore
    opened = Session(adversary.where, Settings(trust=(keys().pin,)))
    job = asyncio.create_task(opened.resolve(b"a"))
    await arrived.wait()
    await opened.close()
    with pytest.raises((PeerError, ValueError)):
        await job
