# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""ONC RPC on the wire: what is refused and how, record marking, and calls beside each other."""

from __future__ import annotations

import contextlib
import hashlib
import socket
import struct
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nfsverity_proto import messages as m
from nfsverity_proto.messages import Status
from nfsverity_proto.record import Fingerprint, decode_record, signature_of
from oracle.xdr import opaque, uint
from serving import Published, publish_tree
from unit.server.raw import Ended, Raw
from unit.server.running import Running, running

pytestmark = pytest.mark.spec("fip-rpc-1")

NO_AUTH = uint(0) + opaque(b"")
SUCCESS = uint(1) + uint(0) + NO_AUTH
"""A reply behind its xid, up to accept_stat."""


def call(
    proc: int, arguments: bytes = b"", *, rpcvers: int = 2, prog: int = m.PROGRAM, vers: int = 1,
    cred: bytes = NO_AUTH, verf: bytes = NO_AUTH, xid: int = 7, type: int = 0,
) -> bytes:  # fmt: skip
    return b"".join(map(uint, (xid, type, rpcvers, prog, vers, proc))) + cred + verf + arguments


def answer(client: Raw, message: bytes) -> bytes:
    """The reply to a message, behind its xid."""
    client.message(message)
    reply = client.receive()
    assert reply[:4] == uint(7)
    return reply[4:]


@pytest.mark.spec("fip-rpc-3", "fip-rpc-10")
def test_null(client: Raw) -> None:
    assert answer(client, call(0)) == SUCCESS + uint(0)
    assert answer(client, call(0, uint(0))) == SUCCESS + uint(4)


@pytest.mark.spec("fip-rpc-4", "fip-rpc-5", "fip-rpc-7", "fip-rpc-10")
@pytest.mark.parametrize("cred", [NO_AUTH, uint(1) + opaque(b"not what AUTH_SYS looks like"), uint(0) + opaque(b"x")])
@pytest.mark.parametrize("verf", [NO_AUTH, uint(6) + opaque(b"whatever"), uint(99) + opaque(b"y" * 400)])
@pytest.mark.parametrize("proc", range(15))
def test_credentials_that_are_accepted(client: Raw, cred: bytes, verf: bytes, proc: int) -> None:
    reply = answer(client, call(proc, b"", cred=cred, verf=verf))
    assert reply[:16] == SUCCESS
    assert reply[16:20] == uint(0 if proc < 2 else 4)


@pytest.mark.spec("fip-rpc-6")
@pytest.mark.parametrize("flavor", [2, 3, 6, 7, 2**32 - 1])
def test_credentials_that_are_not(client: Raw, flavor: int) -> None:
    assert answer(client, call(0, cred=uint(flavor) + opaque(b""))) == uint(1) + uint(1) + uint(1) + uint(2)


GARBAGE = b"\xff\xff\xff\xff"
REFUSALS = [
    ({"rpcvers": 3}, uint(1) + uint(1) + uint(0) + uint(2) + uint(2)),
    ({"cred": uint(7) + opaque(b"")}, uint(1) + uint(1) + uint(1) + uint(2)),
    ({"prog": m.PROGRAM + 1}, SUCCESS + uint(1)),
    ({"vers": 2}, SUCCESS + uint(2) + uint(1) + uint(1)),
    ({"proc": 15}, SUCCESS + uint(3)),
    ({"arguments": GARBAGE}, SUCCESS + uint(4)),
]
"""What is wrong with a call, and the reply; the first that applies is the answer."""


@pytest.mark.spec("fip-rpc-11")
@pytest.mark.parametrize("first", range(len(REFUSALS)))
def test_the_first_refusal_that_applies(client: Raw, first: int) -> None:
    values: dict[str, object] = {"proc": 2}
    for change, _ in REFUSALS[first:]:
        values |= change
    assert answer(client, call(**values)) == REFUSALS[first][1]  # type: ignore[arg-type]
    alone = {"proc": 2} | REFUSALS[first][0]
    assert answer(client, call(**alone)) == REFUSALS[first][1]  # type: ignore[arg-type]


@pytest.mark.spec("fip-rpc-11", "fip-ext-8")
@pytest.mark.parametrize("proc", [15, 16, 17, 18, 19, 2**32 - 1])
def test_procedures_that_are_not_there(client: Raw, proc: int) -> None:
    assert answer(client, call(proc)) == SUCCESS + uint(3)


@pytest.mark.spec("fip-rpc-11")
@pytest.mark.parametrize("vers", [0, 2, 2**32 - 1])
def test_versions_that_are_not_there(client: Raw, vers: int) -> None:
    assert answer(client, call(0, vers=vers)) == SUCCESS + uint(2) + uint(1) + uint(1)


RESOLVE = opaque(b"") + opaque(b"top")
GARBLED = {
    "too short": RESOLVE[:-1],
    "too long": RESOLVE + uint(0),
    "padding": opaque(b"") + opaque(b"top", b"\1"),
    "a handle above its bound": opaque(b"h" * 129) + opaque(b"top"),
    "a path above its bound": opaque(b"") + opaque(b"p" * 4096),
    "nothing": b"",
}


@pytest.mark.spec("fip-rpc-11")
@pytest.mark.parametrize("arguments", GARBLED.values(), ids=GARBLED.keys())
def test_arguments_that_are_not_canonical(client: Raw, arguments: bytes) -> None:
    assert answer(client, call(2, RESOLVE))[:20] == SUCCESS + uint(0)
    assert answer(client, call(2, arguments)) == SUCCESS + uint(4)


def test_a_boolean_of_two_is_not_canonical(client: Raw) -> None:
    handle, _, tag = client.file(b"big")
    read = opaque(handle) + uint(tag.hash) + opaque(tag.digest) + struct.pack(">QI", 0, 1)
    assert answer(client, call(8, read + uint(0)))[:24] == SUCCESS + uint(0) + uint(0)
    assert answer(client, call(8, read + uint(2) + uint(0))) == SUCCESS + uint(4)


@pytest.mark.spec("fip-rpc-12")
@pytest.mark.parametrize(
    "message",
    [
        call(0, type=1),
        call(0, type=2),
        call(0)[:-1],
        call(0, cred=uint(0) + opaque(b"x", b"\0\0\1")),
        call(0, verf=uint(0) + opaque(b"x" * 401)),
        call(0)[:3],
        b"\0",
    ],
    ids=["a reply", "neither", "short", "padding", "a long verifier", "no xid", "a byte"],
)
def test_what_is_no_call_ends_the_connection(client: Raw, message: bytes) -> None:
    client.message(message)
    assert client.ended()


def marks(*parts: tuple[int, bytes]) -> bytes:
    return b"".join(struct.pack(">I", mark) + data for mark, data in parts)


LAST = 0x80000000


@pytest.mark.spec("fip-rpc-1", "fip-mark-1")
@pytest.mark.parametrize("cut", [1, 4, 39])
def test_a_call_in_fragments(client: Raw, cut: int) -> None:
    message = call(0)
    client.sock.sendall(marks((cut, message[:cut]), (LAST | len(message) - cut, message[cut:])))
    assert client.receive() == uint(7) + SUCCESS + uint(0)


@pytest.mark.spec("fip-mark-2")
def test_sixty_four_fragments_are_enough(client: Raw) -> None:
    message = call(2, opaque(b"") + opaque(b"top" + bytes(30)))
    parts = [(1, message[i : i + 1]) for i in range(63)]
    client.sock.sendall(marks(*parts, (LAST | len(message) - 63, message[63:])))
    assert client.receive()[4:20] == SUCCESS


BROKEN_MARKS = {
    "an empty fragment": marks((0, b"")),
    "an empty last fragment": marks((4, b"abcd"), (LAST, b"")),
    "a fragment too many": marks(*[(1, b"x")] * 63, (1, b"")),
    "a message too long": marks((2**31 - 1, b"")),
    "a last fragment too long": marks((LAST | 4_259_841, b"")),
    "too long together": marks((4, b"abcd"), (LAST | 4_259_837, b"")),
}


@pytest.mark.spec("fip-mark-1", "fip-mark-2", "fip-mark-3", "fip-mark-4", "fip-mark-5", "fip-mark-7")
@pytest.mark.parametrize("data", BROKEN_MARKS.values(), ids=BROKEN_MARKS.keys())
def test_a_broken_mark_ends_the_connection_at_once(client: Raw, data: bytes) -> None:
    """None of the bytes that the mark announces are sent."""
    client.sock.sendall(data)
    assert client.ended()


@pytest.mark.spec("fip-mark-8")
def test_a_message_that_is_not_whole_is_discarded(server: Running) -> None:
    with server.client() as client:
        message = call(0)
        client.sock.sendall(marks((LAST | len(message), message[:-1])))
        client.sock.shutdown(socket.SHUT_WR)
        assert client.ended()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A server that all examples of a property share."""
    published = publish_tree(tmp_path_factory.mktemp("shared"), {"f": b"content"})
    with running(published.root) as server:
        yield server


@given(st.lists(st.binary(min_size=1, max_size=60), max_size=4))
@settings(max_examples=40)
def test_nonsense_is_answered_or_ends_the_connection(shared: Running, bodies: list[bytes]) -> None:
    """Whatever comes, the server is there afterwards."""
    with shared.client() as client:
        with contextlib.suppress(OSError):
            for body in bodies:
                client.message(body)
            client.message(call(0, xid=1))
        with contextlib.suppress(Ended):
            for _ in bodies:
                client.receive()
    with shared.client() as client:
        assert answer(client, call(0)) == SUCCESS + uint(0)


@pytest.mark.spec("fip-rpc-14", "fip-rpc-15", "fip-poll-7", "fip-limits-1")
def test_thirty_two_calls_at_once_four_of_them_polls(client: Raw) -> None:
    """Each is answered once; the polls last, for nothing happens."""
    record = client.record(b"top")
    known = hashlib.sha256(record).digest()
    handle = client.handle(b"top")
    polls = [client.send(m.RECORD, m.RecordArgs(handle, known, 300)) for _ in range(4)]
    others = [client.send(m.GETATTR, m.GetattrArgs(handle)) for _ in range(28)]
    for xid in others:
        assert isinstance(client.result(m.GETATTR, xid), m.Attributes)
    assert not client.early
    for xid in polls:
        assert client.result(m.RECORD, xid) is Status.UNCHANGED


@pytest.mark.spec("fip-rpc-15")
def test_many_more_calls_than_are_granted(client: Raw, published: Published) -> None:
    """They are read when there is room; none is lost, and none is answered twice."""
    handle, _, tag = client.file(b"big")
    xids = [client.send(m.READ, m.ReadArgs(handle, tag, i % 37, 1, 6)) for i in range(500)]
    for i, xid in enumerate(xids):
        result = client.result(m.READ, xid)
        assert isinstance(result, m.ReadOk)
        assert bytes(result.data) == (published.root / "big").read_bytes()[(i % 37) * 4096 :][:4096]
    assert not client.early


@pytest.mark.spec("fip-mark-6")
def test_a_reply_is_one_fragment(client: Raw) -> None:
    """Which `Raw` asserts."""
    handle, file, tag = client.file(b"big")
    assert len(client.raw(m.READ, m.ReadArgs(handle, tag, 0, 38, None))) > file.content.tree.size


@pytest.mark.spec("fip-limits-2", "fip-limits-4", "fip-limits-6", "fip-server-1", "fip-server-2")
def test_limits(client: Raw) -> None:
    limits = client.call(m.LIMITS, None)
    assert limits == m.LimitsOk(3, 4_194_304, 65_536, 32, 60_000, (1, 7, 8, 10, 65_536), (1,))


@pytest.mark.spec("fip-server-1", "fip-server-2")
def test_every_procedure_is_there(client: Raw) -> None:
    """NULL, and those of both profiles: each knows its arguments."""
    handle, _, tag = client.file(b"big")
    certificate = m.CertificateArgs(_signer(client))
    arguments = (
        None, m.ResolveArgs(b"", b"big"), m.RecordArgs(handle, b"", 0), certificate, m.TreeArgs(handle, tag, 0, 0, 1),
        m.ProofArgs(handle, tag, 0, 0, 1), m.FetchArgs(b"", b"big", 0), m.ReadArgs(handle, tag, 0, 1, None),
        m.ReaddirArgs(b"", b"", 10), m.GetattrArgs(handle),
        m.RevocationArgs(b"", b""), m.PlainArgs(handle, 0, 1),
    )  # fmt: skip
    for number, argument in enumerate(arguments, 1):
        procedure = m.PROCEDURES[number]
        none = {Status.UNSIGNED} if procedure is m.REVOCATION else set()  # there is none in this tree
        found = client.call(procedure, argument)
        assert not isinstance(found, Status) or found in none, procedure.name


def _signer(client: Raw) -> Fingerprint:
    return signature_of(decode_record(client.record(b"big")).attestations[0]).signer


def test_a_call_after_a_refusal_on_the_same_connection(client: Raw) -> None:
    for change, expected in REFUSALS:
        values = {"proc": 2} | change
        assert answer(client, call(**values)) == expected  # type: ignore[arg-type]
    assert answer(client, call(0)) == SUCCESS + uint(0)
