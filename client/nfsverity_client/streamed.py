# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""Reading at an offset, for whatever gives its bytes in order."""

from __future__ import annotations

import contextlib
import io
from collections.abc import AsyncGenerator


class Streamed:
    """What has a `stream`."""

    def stream(self, offset: int = 0, length: int | None = None) -> AsyncGenerator[memoryview, None]:
        """The bytes [offset, offset + length) in order. Each view is valid until the next one is asked for."""
        raise NotImplementedError

    async def pread(self, offset: int = 0, length: int | None = None) -> bytes:
        """The bytes [offset, offset + length), fewer at the end of the file; to its end without a length."""
        whole = io.BytesIO()
        async with contextlib.aclosing(self.stream(offset, length)) as parts:
            async for part in parts:
                whole.write(part)
        return whole.getvalue()

    async def preadinto(self, offset: int, buffer: memoryview) -> int:
        """Fill `buffer` from `offset` on; the number of bytes, fewer only at the end of the file."""
        filled = 0
        async with contextlib.aclosing(self.stream(offset, len(buffer))) as parts:
            async for part in parts:
                buffer[filled : filled + len(part)] = part
                filled += len(part)
        return filled
