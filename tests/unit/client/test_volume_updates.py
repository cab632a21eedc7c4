# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""A volume that is published again, or whose head is renewed, while it is listed and read."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Iterator
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path

import pytest

from adversary import Adversary, Call, Reply
from made_volume import MadeVolume, directory, file, link
from nfsverity_client.listing import list_below, take_below
from nfsverity_client.reader import open_file
from nfsverity_client.session import Session, Settings
from nfsverity_client.state import State
from nfsverity_proto import messages as m
from nfsverity_proto.errors import Absent, RecordExpired, Stale
from nfsverity_proto.messages import Status
from serving import Published, Served, keys, publish_as_volume, serving, session

UNIT = 4096
SIZE = 400 * UNIT
OLD, NEW, OTHER = (random.Random(seed).randbytes(SIZE) for seed in (1, 2, 3))


@pytest.fixture
def published(tmp_path: Path) -> Published:
    return publish_as_volume(tmp_path / "tree", {"f": OLD, "g": OTHER, "small": b"small"}, unit_log2=12)


@pytest.fixture
def served(published: Published) -> Iterator[Served]:
    with serving(published.root) as served:
        yield served


async def sign(published: Published) -> None:
    await asyncio.to_thread(published.sign_volume, unit_log2=12)


async def generation(opened: Session) -> int:
    head = opened.heads.accepted
    assert head is not None
    return head.verified.when.generation


async def names(opened: Session, path: bytes = b"") -> list[bytes]:
    async with aclosing(list_below(opened, path, deep=True)) as found:
        return [entry.path async for entry in found]


@pytest.mark.spec("fip-vol-3", "fip-client-20", "fip-client-22")
async def test_readers_when_the_volume_is_published_again(published: Published, served: Served) -> None:
    """Pinned to what did not change: it goes on. Pinned to what did: stale. Following: it takes the newer version."""
    async with session(served, wait=5.0) as opened:
        same = await open_file(opened, b"g", most=0)
        pinned = await open_file(opened, b"f", most=0)
        following = await open_file(opened, b"f", most=0)
        assert await same.pread(0, UNIT) == OTHER[:UNIT]
        assert await pinned.pread(0, UNIT) == OLD[:UNIT]
        before = await generation(opened)
        published.replace("f", NEW)
        await sign(published)
        assert await following.pread() == NEW
        assert await generation(opened) > before
        assert await same.pread() == OTHER
        assert same.verified.file.when.generation == before
        with pytest.raises(Stale):
            await pinned.pread()
        assert await (await open_file(opened, b"g")).pread() == OTHER


@pytest.mark.spec("fip-vol-3", "fip-client-20")
async def test_a_pinned_reader_meets_its_version_under_a_newer_head(published: Published, adversary: Adversary) -> None:
    """Its record is another one by then, and its content the same: it is only asked again."""
    async with session(adversary.where, wait=5.0) as opened:
        reader = await open_file(opened, b"g", most=0)
        assert await reader.pread(0, UNIT) == OTHER[:UNIT]
        published.replace("f", NEW)
        await sign(published)
        updating = [True]

        async def on_call(call: Call) -> None:
            polls = call.procedure is m.RECORD and call.arguments.wait
            if updating and (call.procedure is m.READ or (call.procedure is m.RECORD and not polls)):
                await call.answer(Status.UPDATING)
            elif call.procedure is m.RECORD and updating:
                updating.clear()
                await call.forward()
            else:
                await call.forward()

        before = await generation(opened)
        adversary.on_call = on_call
        assert await reader.pread() == OTHER
        assert await generation(opened) > before
        assert reader.verified.file.when.generation > before


@pytest.mark.spec("fip-vol-3", "fim-head-4")
async def test_files_that_come_and_go(published: Published, served: Served) -> None:
    async with session(served) as opened:
        assert await names(opened) == [b"f", b"g", b"small"]
        (published.root / "g").unlink()
        published.write({"new/file": b"new"})
        await sign(published)
        with pytest.raises(Absent):
            await open_file(opened, b"g")
        assert await (await open_file(opened, b"new/file")).pread() == b"new"
        assert await names(opened) == [b"f", b"new", b"small", b"new/file"]


@pytest.mark.spec("fim-member-3", "fip-vol-2", "fip-vol-3")
async def test_a_file_that_comes_between_two_calls_is_not_hidden(published: Published, adversary: Adversary) -> None:
    """Under the old head the server was right to say that there is none."""
    asked = 0

    async def on_reply(reply: Reply) -> None:
        nonlocal asked
        if reply.procedure is m.FETCH:
            asked += 1
            if asked == 1:
                published.write({"new": b"new"})
                await sign(published)
        await reply.send()

    async with session(adversary.where) as opened:
        await opened.heads.current()
        adversary.on_reply = on_reply
        assert await (await open_file(opened, b"new")).pread() == b"new"
    assert asked == 2


@pytest.mark.spec("fim-head-3", "fim-range-4")
async def test_a_listing_is_of_one_head(published: Published, adversary: Adversary) -> None:
    published.write({f"many/{number:04}": b"x" for number in range(1200)})
    await sign(published)
    async with session(adversary.where) as opened:
        found = 0

        async def all_below() -> None:
            nonlocal found
            async with aclosing(take_below(opened, b"", deep=True, most=0)) as members:
                async for _ in members:
                    found += 1
                    if found == 10:
                        published.write({"many/x": b"x"})
                        await sign(published)

        with pytest.raises(Stale):
            await all_below()
        assert 10 < found < 1200
        assert len(await names(opened)) == 1205


@pytest.mark.spec("fim-head-4")
@pytest.mark.parametrize("renewed", [True, False])
async def test_a_head_that_expires(adversary: Adversary, renewed: bool) -> None:
    """One that was signed again, with the same root, is taken for it, and all goes on; else nothing passes any more."""
    puts = [file(b"a", b"a"), file(b"b", b"b"), directory(b"links"), link(b"links/l", b"../a")]
    first = MadeVolume(puts, not_after=int(time.time()) + 2)
    adversary.on_call = first.serve
    async with session(adversary.where) as opened:
        assert await (await open_file(opened, b"a")).pread() == b"a"
        while time.time() < first.volume.when.not_after + 1:
            await asyncio.sleep(0.1)
        if renewed:
            adversary.on_call = MadeVolume(puts, generation=2).serve
            assert await (await open_file(opened, b"b")).pread() == b"b"
            assert await names(opened) == [b"a", b"b", b"links", b"links/l"]
            return
        with pytest.raises(RecordExpired):
            await open_file(opened, b"b")
        with pytest.raises(RecordExpired):
            await names(opened)
        with pytest.raises(RecordExpired):
            await names(opened, b"links")
        with pytest.raises(RecordExpired):
            await open_file(opened, b"none")


async def test_a_session_goes_on_after_its_connection_was_lost(adversary: Adversary) -> None:
    async with session(adversary.where) as opened:
        assert len(await names(opened)) == 3
        reader = await open_file(opened, b"g", most=0)
        assert await reader.pread(0, UNIT) == OTHER[:UNIT]
        for line in adversary.lines:
            line.close()
        assert await reader.pread() == OTHER
        assert len(await names(opened)) == 3
    heads = [call for call in adversary.calls if call.procedure is m.RECORD and call.arguments.object == m.ROOT_HANDLE]
    assert len(heads) == 1


@pytest.mark.spec("fim-head-4")
@pytest.mark.parametrize("again", [1, 2])
async def test_a_head_that_others_have_gone_beyond_is_asked_for_once_more(
    published: Published, adversary: Adversary, tmp_path: Path, again: int
) -> None:
    """The server's answer is under way while another process of the user accepts the next head."""
    where, state = adversary.where, tmp_path / "state"
    settings = Settings(trust=(keys().pin,), timeout=20.0)
    rounds = 0

    async def late(reply: Reply) -> None:
        nonlocal rounds
        if reply.procedure is m.RECORD and rounds < again:
            rounds += 1
            published.replace("small", b"%d" % rounds)
            await sign(published)
            async with Session(replace(where, port=adversary.server), settings, state=State(state)) as other:
                assert await (await open_file(other, b"small")).pread() == b"%d" % rounds
        await reply.send()

    adversary.on_reply = late
    async with Session(where, settings, state=State(state)) as opened:
        assert await (await open_file(opened, b"small")).pread() == b"%d" % again
        assert len(await names(opened)) == 3
    assert rounds == again
