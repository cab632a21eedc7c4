# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""Reads at any offset, with spans under way ahead of those that go on where the one before ended."""

from __future__ import annotations

from collections.abc import AsyncGenerator

from .reader import Reader


class SequentialReader:
    """For one user at a time."""

    def __init__(self, reader: Reader) -> None:
        self.reader = reader
        self._at = 0
        """Where the last read ended."""
        self._stream: AsyncGenerator[memoryview, None] | None = None
        self._rest = memoryview(b"")
        """What the stream gave and nobody took yet."""

    async def readinto(self, offset: int, buffer: memoryview) -> int:
        """Fill `buffer` with verified bytes from `offset` on; how many, fewer only at the end. Raises as `Reader`."""
        if offset != self._at or offset == 0:
            await self.close()
            count = await self.reader.preadinto(offset, buffer)
        else:
            count = await self._continue(buffer)
        self._at = offset + count
        return count

    async def _continue(self, buffer: memoryview) -> int:
        if self._stream is None:
            self._stream = self.reader.stream(self._at)
        filled = 0
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
        return filled

    async def close(self) -> None:
        """End what is under way."""
        stream, self._stream, self._rest = self._stream, None, memoryview(b"")
        if stream is not None:
            await stream.aclose()
