# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""The installed command with a server that speaks of updates and means none: told within the budget, nothing given."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from adversary import Adversary, Call, Reply, between, flipped
from nfsverity_command.network import FILES_AT_ONCE
from nfsverity_proto import messages as m
from nfsverity_proto.messages import Status
from serving import Published, publish_tree, serving

FILES = {f"d/{name}": os.urandom(7 * 2**20) for name in ("a", "b", "c")}
WAIT = 1.2
"""Seconds; what the command may wait for all files together."""
HOLD = 0.3
"""Seconds by which a poll is held: so many polls fit in that."""
DATA = (m.READ, m.FETCH)


@pytest.fixture
def published(tmp_path: Path) -> Published:
    return publish_tree(tmp_path / "tree", FILES)


async def run(published: Published, nfsverity: Any, behave: Callable[[Adversary], None], *words: str | Path) -> Any:
    with serving(published.root) as served:
        async with between(served.port) as adversary:
            behave(adversary)
            command, *rest = words
            url, trust = f"nfsv://127.0.0.1:{adversary.port}/d", published.keys.write(published.root.parent)[1]
            url += "/a" if command == "cat" else ""
            result = await asyncio.to_thread(
                nfsverity, command, url, *rest, "--trust", trust, "--wait", str(WAIT), status=None
            )
            return result, [c.arguments for c in adversary.calls if c.procedure is m.RECORD and c.arguments.wait]


def updating(answer: Status) -> Callable[[Adversary], None]:
    """For ever; `answer` is that to polls."""

    async def on_call(call: Call) -> None:
        if call.procedure is m.RECORD and call.arguments.known:
            if call.arguments.wait:
                await asyncio.sleep(HOLD)
            await call.answer(answer if call.arguments.wait else Status.UPDATING)
        elif call.procedure in DATA:
            await call.answer(Status.UPDATING)
        else:
            await call.forward()

    return lambda adversary: setattr(adversary, "on_call", on_call)


def between_reads(adversary: Adversary) -> None:
    """Each poll is followed by one read that succeeds."""
    left = 0

    async def on_call(call: Call) -> None:
        nonlocal left
        if call.procedure is m.RECORD and call.arguments.known:
            if call.arguments.wait:
                await asyncio.sleep(HOLD)
                left = 1
            await call.answer(Status.UNCHANGED if call.arguments.wait else Status.UPDATING)
        elif call.procedure in DATA and not left:
            await call.answer(Status.UPDATING)
        else:
            left = 0 if call.procedure in DATA else left
            await call.forward()

    adversary.on_call = on_call


def record_first(said: Status) -> Callable[[Adversary], None]:
    """The content of the record never comes, another one does; `said` is what the server says of it."""

    async def on_call(call: Call) -> None:
        if call.procedure is m.RECORD and call.arguments.known:
            await asyncio.sleep(HOLD if call.arguments.wait else 0)
            await call.answer(said)
        else:
            await call.forward()

    async def on_reply(reply: Reply) -> None:
        data = reply.procedure in DATA
        await reply.send(flipped(reply.message, len(reply.message) - 1, 1) if data else None)

    def behave(adversary: Adversary) -> None:
        adversary.on_call, adversary.on_reply = on_call, on_reply

    return behave


CASES = [
    pytest.param(updating(Status.UPDATING), "updating", id="for ever"),
    pytest.param(updating(Status.BUSY), "updating", id="busy polls"),
    pytest.param(between_reads, "updating", id="between reads"),
    pytest.param(record_first(Status.UPDATING), "updating", id="record first, updating"),
    pytest.param(record_first(Status.UNCHANGED), "mismatch", id="record first, unchanged"),
]


@pytest.mark.spec("fim-upd-5", "fip-client-20", "fip-client-24")
@pytest.mark.parametrize(("behave", "verdict"), CASES)
async def test_nothing_is_given_and_the_wait_ends(
    published: Published, nfsverity: Any, tmp_path: Path, behave: Callable[[Adversary], None], verdict: str
) -> None:
    result, polls = await run(published, nfsverity, behave, "get", tmp_path / "copy")
    assert result.status == 1
    assert verdict in result.err
    assert not [path for path in tmp_path.joinpath("copy").rglob("*") if path.is_file()]
    if verdict == "mismatch":
        assert not polls
    else:
        assert polls
        assert all(poll.wait <= WAIT * 1000 for poll in polls)


@pytest.mark.spec("fim-upd-4", "fip-client-23")
async def test_files_that_come_later_find_the_budget_spent(tmp_path: Path, nfsverity: Any) -> None:
    files = {f"d/{number}": b"small" for number in range(FILES_AT_ONCE + 4)}

    async def on_call(call: Call) -> None:
        if call.procedure is m.RECORD and call.arguments.known:
            await call.answer(Status.BUSY if call.arguments.wait else Status.UPDATING)
        elif call.procedure in DATA:
            await call.answer(Status.UPDATING)
        else:
            await call.forward()

    def behave(adversary: Adversary) -> None:
        adversary.on_call = on_call

    result, polls = await run(publish_tree(tmp_path / "tree", files), nfsverity, behave, "get", tmp_path / "copy")
    assert result.status == 1
    assert result.err.count(": updating:") == len(files)
    assert 0 < len({poll.object for poll in polls}) <= FILES_AT_ONCE  # those that were open when it ended


@pytest.mark.spec("fim-upd-5", "fip-client-21")
@pytest.mark.parametrize(("behave", "verdict"), CASES)
async def test_what_is_written_out_is_a_beginning_of_the_signed_version(
    published: Published, nfsverity: Any, behave: Callable[[Adversary], None], verdict: str
) -> None:
    result, polls = await run(published, nfsverity, behave, "cat")
    assert result.status == 1
    assert verdict in result.err
    assert FILES["d/a"].startswith(result.out)
    assert behave is between_reads or not result.out
    assert len(polls) <= (0 if verdict == "mismatch" else WAIT / HOLD + 1)
