# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""A relay between readers and server that notes every RECORD call about a record that the reader has already."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from adversary import Adversary, Call, Reply, between
from nfsverity_proto import messages as m


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
    noted, ready = Counting(), threading.Event()
    stop: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []
    failed: list[BaseException] = []

    async def run() -> None:
        ended = asyncio.Event()
        async with between(server) as adversary:
            follow(adversary, noted)
            noted.port = adversary.port
            stop.append((asyncio.get_running_loop(), ended))
            ready.set()
            await ended.wait()

    def body() -> None:
        try:
            asyncio.run(run())
        except BaseException as error:  # noqa: BLE001 - it is raised where the block ends
            failed.append(error)
        finally:
            ready.set()

    thread = threading.Thread(target=body, name="counting")
    thread.start()
    ready.wait()
    try:
        yield noted
    finally:
        for loop, event in stop:
            if not loop.is_closed():
                loop.call_soon_threadsafe(event.set)
        thread.join()
    if failed:
        raise failed[0]


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
