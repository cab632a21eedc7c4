# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""Held polls (fip, "RECORD"): one look at the storage for all who wait, as often as it costs little."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

from nfsverity_proto.messages import Status

INTERVAL = 0.05
"""Seconds between two looks, while somebody waits."""
TICK = 0.01
"""Seconds between two looks at whether there is a new publication: one stat(2) for all who wait."""
BATCH = 64
"""Objects that are looked at in one go, before other calls have their turn."""


@dataclass(frozen=True, slots=True)
class State:
    """What a poll waits to see change: a file's record, or the status that there is instead."""

    record: bytes | Status
    updating: bool
    """Whether there is reason to expect a new record."""


class _Poll:
    def __init__(self, state: State) -> None:
        self.record = state.record
        self.updating = state.updating
        self.news = asyncio.Event()

    def see(self, state: State) -> None:
        """End it when there is another record (fip-poll-1), none (5), or no more reason to expect one (4)."""
        if state.record != self.record or (self.updating and not state.updating):
            self.news.set()
        self.updating |= state.updating


class Polls:
    """The polls of all connections. `look` tells the state of the object that a handle stands for.

    `publication` is another one (by identity) when there is a new publication.
    """

    def __init__(self, look: Callable[[bytes], State], publication: Callable[[], object]) -> None:
        self._look = look
        self._publication = publication
        self._held: dict[bytes, set[_Poll]] = {}
        self._watch: asyncio.Task[None] | None = None
        self._closed = False

    async def hold(self, handle: bytes, known: State, until: float) -> None:
        """Until there is news of the object, the monotonic time is `until`, or the server stops.

        News is what differs from what the caller knows, not from what there is when the poll begins to wait: an
        update that ends in between would be missed.
        """
        poll = _Poll(known)
        poll.see(self._look(handle))
        if self._closed:
            return
        polls = self._held.setdefault(handle, set())
        polls.add(poll)
        if self._watch is None:
            self._watch = asyncio.create_task(self._keep_looking())
        try:
            async with asyncio.timeout(until - time.monotonic()):
                await poll.news.wait()
        except TimeoutError:
            return
        finally:
            polls.discard(poll)
            if not polls:
                self._held.pop(handle, None)

    def close(self) -> None:
        """End all polls, and hold no more (fip-server-18)."""
        self._closed = True
        for polls in self._held.values():
            for poll in polls:
                poll.news.set()
        if self._watch is not None:
            self._watch.cancel()

    async def _keep_looking(self) -> None:
        pause = INTERVAL
        seen = self._publication()
        while self._held:
            due = time.monotonic() + pause
            while (left := due - time.monotonic()) > 0:
                await asyncio.sleep(min(TICK, left))
                if pause == INTERVAL and self._publication() is not seen:  # where a look costs much, none is added
                    break
            seen = self._publication()
            spent = 0.0
            handles = list(self._held)
            for first in range(0, len(handles), BATCH):
                started = time.monotonic()
                for handle in handles[first : first + BATCH]:
                    state = self._look(handle)
                    for poll in self._held.get(handle, ()):
                        poll.see(state)
                spent += time.monotonic() - started
                await asyncio.sleep(0)
            pause = max(INTERVAL, 4 * spent)
        self._watch = None
