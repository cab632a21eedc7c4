# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""What a session takes for an answer to PLAIN and to REVOCATION."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any

import pytest

from adversary import Adversary, Call, Reply
from nfsverity_client.session import Session
from nfsverity_proto import messages as m
from nfsverity_proto.errors import MalformedMessage, StatusError
from nfsverity_proto.messages import Status
from serving import Published, publish_tree

CONTENT = b"0123456789"


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Published:
    return publish_tree(tmp_path_factory.mktemp("plain") / "tree", {"f": CONTENT, "empty": b""})


@pytest.mark.spec("fip-plain-4", "fip-plain-5")
async def test_what_there_is(opened: Session) -> None:
    file = (await opened.resolve(b"f")).object
    assert await opened.plain(file, 0, 100) == m.PlainOk(10, True, CONTENT)
    assert await opened.plain(file, 3, 4) == m.PlainOk(10, False, b"3456")
    assert await opened.plain(file, 3, 7) == m.PlainOk(10, True, b"3456789")
    assert await opened.plain(file, 10, 1) == m.PlainOk(10, True, b"")
    assert await opened.plain(file, 2**64 - 1, 1) == m.PlainOk(10, True, b"")
    empty = (await opened.resolve(b"empty")).object
    assert await opened.plain(empty, 0, 1) == m.PlainOk(0, True, b"")
    with pytest.raises(StatusError):
        await opened.plain(m.ROOT_HANDLE, 0, 1)


def telling(procedure: m.Procedure[Any, Any], **changes: Any) -> Any:
    async def on_reply(reply: Reply) -> None:
        told = reply.call.reply(replace(reply.ok, **changes)) if reply.procedure is procedure else None
        await reply.send(told)

    return on_reply


LIES: list[tuple[int, int, dict[str, Any]]] = [
    (0, 5, {"data": b"012345"}),
    (0, 5, {"data": b""}),
    (0, 5, {"eof": True}),
    (0, 10, {"eof": False}),
    (0, 5, {"size": 5}),
    (0, 5, {"size": 4}),
    (0, 10, {"size": 11}),
    (20, 5, {"data": b"x"}),
    (20, 5, {"eof": False}),
    (10, 5, {"size": 11}),
]


@pytest.mark.spec("fip-plain-7", "fip-client-6", "fip-client-8")
@pytest.mark.parametrize(("offset", "count", "changes"), LIES)
async def test_what_the_call_and_the_size_do_not_allow(
    adversary: Adversary, opened: Session, offset: int, count: int, changes: dict[str, Any]
) -> None:
    file = (await opened.resolve(b"f")).object
    adversary.on_reply = telling(m.PLAIN, **changes)
    with pytest.raises(MalformedMessage):
        await opened.plain(file, offset, count)


@pytest.mark.spec("fip-plain-5", "fip-plain-7")
async def test_fewer_bytes_than_asked_for(adversary: Adversary, opened: Session) -> None:
    file = (await opened.resolve(b"f")).object
    adversary.on_reply = telling(m.PLAIN, data=b"0", eof=False)
    assert await opened.plain(file, 0, 10) == m.PlainOk(10, False, b"0")


def answering(procedure: m.Procedure[Any, Any], result: Any) -> Any:
    async def on_call(call: Call) -> None:
        await (call.answer(result) if call.procedure is procedure else call.forward())

    return on_call


@pytest.mark.spec("fip-revoke-6")
async def test_a_revocation_that_is_known_or_unchanged_from_nothing(adversary: Adversary, opened: Session) -> None:
    record, known = b"a record", hashlib.sha256(b"a record").digest()
    assert await opened.revocation() is None
    adversary.on_call = answering(m.REVOCATION, m.RevocationOk(record))
    assert await opened.revocation() == record
    assert await opened.revocation(bytes(32)) == record
    with pytest.raises(MalformedMessage):
        await opened.revocation(known)
    adversary.on_call = answering(m.REVOCATION, Status.UNCHANGED)
    assert await opened.revocation(known) is None
    with pytest.raises(MalformedMessage):
        await opened.revocation()
    adversary.on_call = answering(m.REVOCATION, Status.IO)
    with pytest.raises(StatusError):
        await opened.revocation()
