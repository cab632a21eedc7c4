# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""Contents that come with the entries of a volume, when they are more than one reply takes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path

import pytest

from adversary import Adversary, Call, Reply, between
from nfsverity_client.listing import take_below
from nfsverity_client.session import Session
from nfsverity_proto import messages as m
from nfsverity_proto.errors import TimedOut
from serving import publish_as_volume, serving, session

SMALL = {f"d{number // 100}/{number:03}": b"%03d" % number * 5000 for number in range(400)}
LARGE = {"d1/150-large": b"large" * 200_000, "d9-large": b"large" * 200_000, "z": b"last"}


@pytest.fixture
async def adversary(tmp_path: Path) -> AsyncIterator[Adversary]:
    published = publish_as_volume(tmp_path / "tree", SMALL | LARGE)
    with serving(published.root) as served:
        async with between(served.port) as adversary:
            yield adversary


async def taken(opened: Session, most: int) -> dict[str, bytes | None]:
    async with aclosing(take_below(opened, b"", deep=True, most=most)) as found:
        members = [
            (member.path.decode(), None if member.content is None else bytes(member.content), member.is_file)
            async for member in found
        ]
    assert len(members) == len({path for path, _, _ in members})
    return {path: content for path, content, is_file in members if is_file}


@pytest.mark.spec("fip-bulk-5")
async def test_small_files_that_had_no_room_come_with_the_next_reply(adversary: Adversary) -> None:
    async with session(adversary.where) as opened:
        found = await taken(opened, m.BULK_MAX)
    assert found == SMALL | {path: content for path, content in LARGE.items() if found[path] is not None} | {
        "d1/150-large": None  # no reply begins with it
    }
    assert adversary.names.count("BULK") < 12


@pytest.mark.spec("fip-bulk-5")
@pytest.mark.parametrize("most", [0, 1, 10_000, 100_000])
async def test_with_little_room_each_entry_comes_once(adversary: Adversary, most: int) -> None:
    async with session(adversary.where) as opened:
        found = await taken(opened, most)
    assert found.keys() == (SMALL | LARGE).keys()
    assert all(content == (SMALL | LARGE)[path] for path, content in found.items() if content is not None)


@pytest.mark.spec("fip-bulk-5")
async def test_a_server_that_never_sends_a_content_is_not_asked_for_ever(adversary: Adversary) -> None:
    async def on_reply(reply: Reply) -> None:
        if reply.procedure is m.BULK:
            items = tuple(replace(item, length=0) for item in reply.ok.items)
            await reply.send(reply.call.reply(replace(reply.ok, items=items, data=b"")))
        else:
            await reply.send()

    adversary.on_reply = on_reply
    async with session(adversary.where) as opened:
        found = await taken(opened, m.BULK_MAX)
    assert found == dict.fromkeys(SMALL | LARGE)
    assert adversary.names.count("BULK") < 5


async def test_the_next_page_is_on_its_way_while_one_is_gone_through(adversary: Adversary) -> None:
    """And who stops there leaves nothing under way."""

    async def on_call(call: Call) -> None:
        if adversary.names.count("BULK") != 2:  # that one is never answered
            await call.forward()

    adversary.on_call = on_call
    async with session(adversary.where) as opened:
        async with aclosing(take_below(opened, b"", deep=True, most=m.BULK_MAX)) as found:
            await anext(found)
            while adversary.names.count("BULK") < 2:
                await asyncio.sleep(0.01)
        assert not [task for task in asyncio.all_tasks() if getattr(task.get_coro(), "__name__", "") == "_bulk"]
        assert len(await taken(opened, m.BULK_MAX)) == len(SMALL | LARGE)


@pytest.mark.parametrize("end", [True, False])
async def test_a_page_for_which_nobody_was_there_is_asked_for_again(adversary: Adversary, end: bool) -> None:
    """Who goes through a page for longer than an answer may take; but a server that does not answer is given up."""
    asked = 0

    async def on_call(call: Call) -> None:
        nonlocal asked
        asked += call.procedure is m.BULK
        if call.procedure is m.BULK and (asked == 2 or (asked > 2 and end)):
            return
        await call.forward()

    adversary.on_call = on_call
    async with session(adversary.where, timeout=0.3) as opened:
        taking = taken(opened, m.BULK_MAX)
        if end:
            with pytest.raises(TimedOut):
                await taking
        else:
            assert len(await taking) == len(SMALL | LARGE)
    assert asked == 3 if end else asked > 3
