# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""When polls for records may be sent (fip, "RECORD"): so many at once, and for one file not too soon after another."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

from nfsverity_proto import messages as m

POLL_PAUSE = 0.1
"""Seconds between two polls for one file (fip-poll-8)."""
PATIENCE = 1.0
"""Seconds after which a file that gets no place asks without being held, so that no other one delays it for longer."""


class Polls:
    """The polls of one connection."""

    def __init__(self) -> None:
        self._places = asyncio.Semaphore(m.POLLS_MAX)
        self._sent: dict[bytes, float] = {}
        """When the last poll for a path was sent, by the event loop's time."""

    @contextlib.asynccontextmanager
    async def place(self, path: bytes, left: Callable[[], float]) -> AsyncIterator[float]:
        """Seconds for which a file may be polled for inside, now: 0 where four others are (fip-poll-9)."""
        try:
            async with asyncio.timeout(min(PATIENCE, left())):
                await self._places.acquire()
        except TimeoutError:
            yield 0.0
            return
        try:
            while left() and (pause := self._pause(path)):
                await asyncio.sleep(min(pause, left()))
            yield min(left(), m.WAIT_MAX / 1000)
        finally:
            self._places.release()

    def _pause(self, path: bytes) -> float:
        """Seconds to let pass; where it is none, the poll is taken for sent now."""
        now = asyncio.get_running_loop().time()
        self._sent = {other: sent for other, sent in self._sent.items() if sent + POLL_PAUSE > now}
        if path in self._sent:
            return self._sent[path] + POLL_PAUSE - now
        self._sent[path] = now
        return 0.0
