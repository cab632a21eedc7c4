# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""Reads at any offset, with spans under way ahead of those that go on where the one before ended."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

from .opening import Opened
from .presentation import SPAN


class SequentialReader:
    """For one user at a time."""

    def __init__(self, reader: Opened) -> None:
        self.reader = reader
        self._at = 0
        """Where the last read ended."""
        self._in_order = 0
        """Bytes that were read one after the other, up to there."""
        self._stream: AsyncGenerator[memoryview, None] | None = None
        self._rest = memoryview(b"")
        """What the stream gave and nobody took yet."""
        self._loop: asyncio.AbstractEventLoop | None = None
        self._left: list[object] = []
        """Streams of other event loops; after a fork, of the other process."""

    @property
    def active(self) -> bool:
        """Whether there is something for `close` to end."""
        return self._stream is not None

    async def readinto(self, offset: int, buffer: memoryview) -> int:
        """Fill `buffer` with verified bytes from `offset` on; how many, fewer only at the end. Raises as `Reader`."""
        self._leave_other_loop()
        if offset != self._at:
            await self.close()
            self._in_order = 0
        if self._in_order < SPAN:  # it may be a look at a few bytes only
            count = await self.reader.preadinto(offset, buffer)
        else:
            count = await self._continue(offset, buffer)
        self._at = offset + count
        self._in_order += count
        return count

    async def _continue(self, offset: int, buffer: memoryview) -> int:
        if self._stream is None:
            self._stream = self.reader.stream(offset)
        filled = 0
        try:
            while filled < len(buffer):
                if not self._rest:
                    try:
                        self._rest = await anext(self._stream)
                    except StopAsyncIteration:
                        break
                part = self._rest[: len(buffer) - filled]
                buffer[filled : filled + len(part)] = part
                filled += len(part)
                self._rest = self._rest[len(part) :]
        except BaseException:
            await self.close()  # or the next read would find the stream at its end, and take that for the file's
            raise
        return filled

    async def close(self) -> None:
        """End what is under way."""
        self._leave_other_loop()
        stream, self._stream, self._rest = self._stream, None, memoryview(b"")
        if stream is not None:
            await stream.aclose()

    def _leave_other_loop(self) -> None:
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            if self._stream is not None:
                self._left.append(self._stream)
            self._loop, self._stream, self._rest = loop, None, memoryview(b"")
