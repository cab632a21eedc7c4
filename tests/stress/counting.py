# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""A relay between readers and server that notes every RECORD call about a record that the reader has already."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from adversary import Adversary, Call, Reply, between
from nfsverity_proto import messages as m
from serving import in_a_thread


@dataclass(slots=True)
class Asked:
    connection: int
    object: bytes
    wait: float
    """Seconds for which the server may hold it; 0 for no poll."""
    at: float
    answered: float | None = None


@dataclass
class Counting:
    port: int = 0
    asked: list[Asked] = field(default_factory=list)
    records: int = 0
    """All RECORD calls."""


@contextlib.contextmanager
def counting(server: int) -> Iterator[Counting]:
    """In front of the server at a port of this machine, by an event loop in a thread."""
    noted = Counting()

    async def run(ready: Callable[[], None], stop: asyncio.Event) -> None:
        async with between(server) as adversary:
            follow(adversary, noted)
            noted.port = adversary.port
            ready()
            await stop.wait()

    with in_a_thread("counting", run):
        yield noted


def follow(adversary: Adversary, noted: Counting) -> None:
    waiting: dict[int, Asked] = {}

    async def on_call(call: Call) -> None:
        if call.procedure is m.RECORD:
            noted.records += 1
            arguments = call.arguments
            if arguments.known and arguments.object != m.ROOT_HANDLE:
                asked = Asked(id(call.line), arguments.object, arguments.wait / 1000, time.time())
                noted.asked.append(asked)
                waiting[call.index] = asked
        await call.forward()

    async def on_reply(reply: Reply) -> None:
        asked = waiting.pop(reply.call.index, None)
        if asked is not None:
            asked.answered = time.time()
        await reply.send()

    adversary.on_call, adversary.on_reply = on_call, on_reply
