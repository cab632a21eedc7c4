# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""The peer in C keeps marks: what is older than what it accepted is rollback, another one as old is equivocation.

In one session it keeps them without being asked; for the next one in a file.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from adversary import Adversary, Call, Reply, between
from made_volume import MadeVolume, file, link
from nfsverity_proto import messages as m
from serving import Published, Served, keys, publish_as_volume, publish_tree, serving

from .test_peer_reads import VOLUME, Peer, content

pytestmark = [
    pytest.mark.tool("rpcgen", "gcc", library="libtirpc"),
    pytest.mark.tool(library="libcrypto"),
]

Read = Callable[..., Any]


@pytest.fixture
def peer(programs: Path, tmp_path: Path) -> Peer:
    (tmp_path / "keys").mkdir()
    return Peer(programs, keys().write(tmp_path / "keys")[1])


@pytest.fixture
def marks(tmp_path: Path) -> Path:
    return tmp_path / "marks"


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    """With a record for each file, of the same volume ID."""
    published = publish_tree(tmp_path / "records", {"a": b"stand-alone", "large": content(2**21)}, volume=VOLUME)
    with serving(published.root) as served:
        yield served


def made(generation: int, a: bytes = b"one", **options: Any) -> MadeVolume:
    return MadeVolume([file(b"a", a), link(b"l", b"a")], id=VOLUME, generation=generation, **options)


@dataclass
class Volume:
    """A server that serves a volume that was made here, or lies."""

    adversary: Adversary
    peer: Peer
    marks: Path

    async def read(self, volume: MadeVolume | None = None, *, path: str = "a", keep: bool = True) -> Any:
        if volume is not None:
            self.adversary.on_call = volume.serve
        options = {"volume": VOLUME, "marks": self.marks if keep else None}
        return await asyncio.to_thread(self.peer.read, self.adversary.port, path, "inline", **options)


@pytest.fixture
async def volume(served: Served, peer: Peer, marks: Path) -> AsyncIterator[Volume]:
    async with between(served.port) as adversary:
        yield Volume(adversary, peer, marks)


@pytest.mark.spec("fim-mark-2", "fim-mark-3", "fim-mark-6", "fim-mark-7", "fim-head-4")
async def test_heads(volume: Volume) -> None:
    assert await volume.read(made(2)) == (0, b"one", "")
    assert await volume.read(made(1)) == (1, b"", "rollback")
    assert await volume.read(made(2, b"two")) == (1, b"", "equivocation")
    assert await volume.read(made(2)) == (0, b"one", "")
    assert await volume.read(made(9, b"two", not_after=1)) == (1, b"", "record-expired")  # no mark is raised
    assert await volume.read(made(3, b"two")) == (0, b"two", "")
    assert await volume.read(made(2)) == (1, b"", "rollback")
    assert await volume.read(made(1), keep=False) == (0, b"one", "")
    assert len(volume.marks.read_text().splitlines()) == 1


@pytest.mark.spec("fip-vol-1", "fim-head-2")
@pytest.mark.parametrize("status", [None, m.Status.UNSIGNED, m.Status.IS_DIRECTORY])
async def test_a_head_that_was_seen_is_expected(volume: Volume, status: m.Status | None) -> None:
    """The server has stand-alone records now, and says so in either way."""

    async def on_call(call: Call) -> None:
        if status is not None and call.procedure is m.RECORD and call.arguments.object == m.ROOT_HANDLE:
            await call.answer(status)
        else:
            await call.forward()

    volume.adversary.on_call = on_call
    assert await volume.read() == (0, b"stand-alone", "")
    assert await volume.read(made(2)) == (0, b"one", "")
    volume.adversary.on_call = on_call
    assert await volume.read() == (1, b"", "unsigned")
    assert await volume.read(keep=False) == (0, b"stand-alone", "")


@pytest.mark.spec("fim-mark-7", "fim-mark-2")
@pytest.mark.parametrize("presentation", ["ahead", "inline"])
def test_files(tmp_path: Path, peer: Peer, marks: Path, presentation: str) -> None:
    published = publish_tree(tmp_path / "tree", {"a": b"old", "b": b"old"}, volume=VOLUME)
    shutil.copytree(published.root, tmp_path / "old")

    def read(root: Path, path: str) -> Any:
        with serving(root) as served:
            return peer.read(served.port, path, presentation, marks=marks)

    assert read(published.root, "a") == (0, b"old", "")
    published.replace("a", b"new")
    published.replace("b", b"new")
    published.sign()
    assert read(published.root, "a") == (0, b"new", "")
    assert read(tmp_path / "old", "a") == (1, b"", "rollback")
    assert read(tmp_path / "old", "b") == (0, b"old", "")
    assert read(published.root, "b") == (0, b"new", "")
    assert read(tmp_path / "old", "b") == (1, b"", "rollback")


@pytest.mark.parametrize("damage", [b"", b"damaged\n", b"\0", b"no end"])
async def test_marks_that_cannot_be_read_let_nothing_pass(volume: Volume, damage: bytes) -> None:
    assert await volume.read(made(2)) == (0, b"one", "")
    good = volume.marks.read_bytes()
    volume.marks.write_bytes(good[:-1] if damage == b"" else good + damage)
    status, data, message = await volume.read()
    assert (status, data) == (4, b"")
    assert message == f"{volume.marks}: damaged"


# In one session


@pytest.mark.spec("fip-vol-3", "fim-head-3", "fim-head-4")
@pytest.mark.parametrize(
    ("then", "read"),
    [
        (made(3, b"new"), (0, b"new", "")),
        (made(1, b"new"), (1, b"", "rollback")),
        (made(2, b"new"), (1, b"", "equivocation")),
        (made(2), (1, b"", "other-head")),
        (made(9, b"new", not_after=1), (1, b"", "record-expired")),
        (None, (1, b"", "unsigned")),
    ],
    ids=["newer", "older", "of the same age", "the same", "expired", "none"],
)
async def test_the_second_head(volume: Volume, then: MadeVolume | None, read: Any) -> None:
    """The record is of the head of generation 3; the head that was accepted before has generation 2."""
    heads = iter((m.RecordOk(made(2).record), m.Status.UNSIGNED if then is None else m.RecordOk(then.record)))
    newer = made(3, b"new")

    async def on_call(call: Call) -> None:
        if call.procedure is m.RECORD and call.arguments.object == m.ROOT_HANDLE:
            await call.answer(next(heads))
        else:
            await newer.serve(call)

    volume.adversary.on_call = on_call
    assert await volume.read(keep=False) == read


@pytest.mark.spec("fim-member-3", "fip-vol-2")
@pytest.mark.parametrize("status", ["NOT_FOUND", "NOT_DIRECTORY", "UNSIGNED", "IS_DIRECTORY"])
async def test_what_a_server_says_of_a_file_of_a_volume(volume: Volume, status: str) -> None:
    honest = made(2)

    async def on_call(call: Call) -> None:
        if call.procedure in (m.FETCH, m.RESOLVE):
            await call.answer(m.Status[status])
        else:
            await honest.serve(call)

    volume.adversary.on_call = on_call
    assert await volume.read() == (1, b"", "hidden")
    assert await volume.read(path="b") == (1, b"", "absent")
    assert await volume.read(path="l") == (4, b"", "not a file, but a link")


# While a file is read


@pytest.fixture
def published(tmp_path: Path) -> Published:
    return publish_as_volume(tmp_path / "volume", {"large": content(5 * 2**20), "other": b"other"}, volume=VOLUME)


@pytest.mark.spec("fip-vol-3", "fim-head-3", "fip-client-21")
@pytest.mark.parametrize("presentation", ["ahead", "on-demand", "inline", "reconstruct"])
@pytest.mark.parametrize("changed", ["other", "large"])
async def test_a_pinned_reader_under_a_new_head(
    published: Published, peer: Peer, presentation: str, changed: str
) -> None:
    """It goes on where its own content is the same, and only there."""
    large, asked = (published.root / "large").read_bytes(), []

    async def on_reply(reply: Reply) -> None:
        call = reply.call
        asked.append(call.procedure.name)
        if call.procedure is m.READ and asked.count("READ") == (7 if presentation == "reconstruct" else 2):
            published.replace(changed, b"published meanwhile")
            await asyncio.to_thread(published.sign_volume)
            await reply.send(call.reply(m.Status.CHANGED))
        else:
            await reply.send()

    with serving(published.root) as served:
        async with between(served.port) as adversary:
            adversary.on_reply = on_reply
            status, data, verdict = await asyncio.to_thread(
                peer.read, adversary.port, "large", presentation, volume=VOLUME
            )
    assert large.startswith(data)
    assert len(data) >= 2**20
    assert (status, verdict, data == large) == ((0, "", True) if changed == "other" else (1, "stale", False))
    assert asked.count("RECORD") >= 3
