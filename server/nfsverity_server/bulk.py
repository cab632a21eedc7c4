# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""The contents of many small files in one reply (fip, "BULK").

What would have to be waited for is brought into memory first, in a thread, and the call answered after that.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence

from nfsverity_proto.messages import BulkItem, Status
from nfsverity_proto.path import split_path
from nfsverity_store.content import open_file
from nfsverity_store.volume_index import VolumeEntry
from nfsverity_store.volume_view import VolumeView

from .catalog import Catalog
from .data import bring_in, read_now
from .trees import Later

FILE_MAX = 2**20
"""Bytes up to which a file comes along."""
BROUGHT_MAX = 4096
"""Files that are remembered to have been brought in: what is not in memory after that is left out."""


class Bulk:
    """Takes contents for one served tree."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._brought: set[tuple[int, int]] = set()

    def take(self, volume: VolumeView, found: Sequence[VolumeEntry], most: int) -> tuple[tuple[BulkItem, ...], bytes]:
        """An item for each entry, and the data of those whose content comes along. Raises `Later`."""
        items: list[BulkItem] = []
        parts: list[bytes | bytearray] = []
        missing: list[tuple[bytes, bytes, int]] = []
        room, parent, at = most, None, -1
        try:
            for entry in found:
                if not entry.is_file:
                    items.append(_NOTHING)
                    continue
                statement = entry.statement(volume.hash)
                size = entry.seen.size
                content: bytes | bytearray | None = b""
                if size > min(room, FILE_MAX):
                    content = None
                elif size:
                    if entry.parent != parent:
                        at, parent = self._directory(at, entry.parent), entry.parent
                    content = self._content(at, entry, missing)
                if content is None:
                    items.append(BulkItem(statement, 0))
                    continue
                items.append(BulkItem(statement, size))
                parts.append(content)
                room -= size
        finally:
            if at >= 0:
                os.close(at)
        if missing:
            raise Later(lambda: self._bring_in(missing))
        return tuple(items), b"".join(parts)

    def _directory(self, before: int, path: bytes) -> int:
        if before >= 0:
            os.close(before)
        try:
            return self._catalog.open_directory(split_path(path))
        except OSError:
            return -1

    def _content(self, at: int, entry: VolumeEntry, missing: list[tuple[bytes, bytes, int]]) -> bytearray | None:
        """None where it is not what was signed, as far as `stat` tells, or has to be waited for."""
        if at < 0:
            return None
        try:
            fd = open_file(entry.name, at)
        except OSError:
            return None
        try:
            status = os.fstat(fd)
            if status.st_size != entry.seen.size:
                return None
            content = read_now(fd, [(0, entry.seen.size)])
            key = status.st_dev, status.st_ino
            if content is None and key not in self._brought:
                if len(self._brought) >= BROUGHT_MAX:
                    self._brought.clear()
                self._brought.add(key)
                missing.append((entry.parent, entry.name, entry.seen.size))
            return content
        finally:
            os.close(fd)

    async def _bring_in(self, missing: Sequence[tuple[bytes, bytes, int]]) -> Status | None:
        await asyncio.get_running_loop().run_in_executor(None, self._read, missing)
        return None

    def _read(self, missing: Sequence[tuple[bytes, bytes, int]]) -> None:
        for parent, name, size in missing:
            try:
                above = self._catalog.open_directory(split_path(parent))
            except OSError:
                continue
            try:
                fd = open_file(name, above)
            except OSError:
                continue
            finally:
                os.close(above)
            try:
                bring_in(fd, 0, size)
            except OSError:
                continue
            finally:
                os.close(fd)


_NOTHING = BulkItem(b"", 0)
