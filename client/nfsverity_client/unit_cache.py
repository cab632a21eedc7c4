# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""Units that are kept on disk, where the user asks for it (fim, "The Trust Envelope and Caches").

A unit from here is verified as one from the server, in each open; what does not verify is dropped, and fetched
(fim-cache-8). A span is taken from here if all of it is here; else it is fetched, and then kept.

The file data/CONTENT/BLOCK has the bytes of one block, each at its place, and behind them a bit for each unit that is
there. The content is named as in the node cache, so that copies and later statements share it. Data is written before
its bit, and nothing is synced: a process that is killed leaves units without a bit, a machine that loses its power
maybe wrong units, which do not verify. No file is mapped: one that somebody cuts short would kill the process.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import shutil
import stat
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from nfsverity_proto.tree import Shape

from .cache_place import make_private, size_of

Pieces = Sequence[memoryview | int]
"""Data and numbers of zero bytes, in order."""

NAME = "data"
SIZE_VARIABLE = "NFSVERITY_CACHE_DATA_SIZE"
SIZE_DEFAULT = 2**32
BLOCK = 2**20
"""Bytes of content in one file; where a unit is larger, that."""
LIMIT_MIN = 16 * BLOCK
STEP = 16
"""This part of the limit is written until what is there is counted again."""


def unit_cache_size() -> int:
    """Bytes that may be kept. Raises `ValueError` for a size that is none."""
    return size_of(SIZE_VARIABLE, SIZE_DEFAULT)


@dataclass(frozen=True, slots=True)
class UnitUsage:
    """What is on disk."""

    contents: int
    bytes: int


@dataclass(frozen=True, slots=True)
class _Block:
    """Units [first, end) as a part of block `number`."""

    number: int
    start: int
    """The offset in the content of the block's first byte."""
    length: int
    """Bytes of content in it."""
    units: int
    low: int
    high: int
    """The bytes [low, high) of the content are those of units [first, end)."""
    bits: int
    """Of the units [first, end)."""

    @property
    def size(self) -> int:
        """Bytes of its file."""
        return self.length + -(-self.units // 8)


def _blocks(shape: Shape, first: int, end: int) -> Iterator[_Block]:
    """The blocks that have units [first, end), in order."""
    per_block = max(1, BLOCK >> shape.unit_log2)
    for number in range(first // per_block, (end - 1) // per_block + 1):
        base = number * per_block
        units = min(per_block, shape.units - base)
        start, stop = shape.unit_span(base, base + units)
        begin, until = max(first, base), min(end, base + units)
        bits = ((1 << (until - begin)) - 1) << (begin - base)
        yield _Block(number, start, stop - start, units, *shape.unit_span(begin, until), bits)


class UnitCache:
    """A directory of blocks, shared by the processes of one user. What works with them blocks; any thread may call it.

    `on_trouble` is told, once, why nothing is kept any more.
    """

    def __init__(
        self, directory: Path, limit: int = SIZE_DEFAULT, on_trouble: Callable[[str], None] | None = None
    ) -> None:
        self.directory = directory / NAME
        self.limit = max(limit, LIMIT_MIN)
        self.on_trouble = on_trouble
        self._off = False
        self._lock = threading.Lock()
        self._room = 0
        """Bytes that may be written until what is there is counted again."""

    def get(self, content: bytes, shape: Shape, first: int, end: int) -> memoryview | None:
        """Units [first, end) if all are there; they prove nothing."""
        start, stop = shape.unit_span(first, end)
        found = memoryview(bytearray(stop - start))
        for block in _blocks(shape, first, end):
            try:
                if not self._read(self._path(content, block), block, found[block.low - start : block.high - start]):
                    return None
            except OSError:
                return None
        return found

    def _read(self, path: Path, block: _Block, wanted: memoryview) -> bool:
        with _opened(path, os.O_RDONLY) as fd:
            if os.fstat(fd).st_size != block.size or ~_present(fd, block) & block.bits:
                return False
            if os.preadv(fd, [wanted], block.low - block.start) != len(wanted):
                return False
            with contextlib.suppress(OSError):  # on storage that is read-only
                os.utime(fd)
            return True

    def put(self, content: bytes, shape: Shape, first: int, end: int, pieces: Pieces) -> None:
        """Keep verified units [first, end)."""
        blocks = list(_blocks(shape, first, end))
        if self._off or any(block.length > self.limit // STEP for block in blocks):
            return
        start = shape.unit_span(first, end)[0]
        try:
            self._make_room(sum(block.size for block in blocks))
            for block in blocks:
                path = self._path(content, block)
                path.parent.mkdir(mode=0o700, exist_ok=True)
                with contextlib.suppress(BlockingIOError, FileNotFoundError):  # written, or deleted, by another process
                    _write(path, block, _data(pieces, start, block.low, block.high))
        except OSError as error:
            self._stop(f"{self.directory}: {error.strerror}")

    def drop(self, content: bytes, shape: Shape, first: int, end: int) -> None:
        """Delete the blocks that have units [first, end)."""
        for block in _blocks(shape, first, end):
            with contextlib.suppress(OSError):
                self._path(content, block).unlink()

    def usage(self) -> UnitUsage:
        """Raises `OSError`."""
        files = list(self._files())
        return UnitUsage(len({path.parent for path, _ in files}), sum(_bytes(found) for _, found in files))

    def clear(self) -> int:
        """Delete everything; the bytes that were freed. Whoever reads or writes meanwhile goes on. Raises `OSError`."""
        freed = self.usage().bytes
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(self.directory)
        return freed

    def _path(self, content: bytes, block: _Block) -> Path:
        return self.directory / content.hex() / str(block.number)

    def _make_room(self, needed: int) -> None:
        """Now and then, count what is there, and delete what was used longest ago. Raises `OSError`."""
        with self._lock:
            self._room -= needed
            if self._room >= 0:
                return
            make_private(self.directory.parent)
            self.directory.mkdir(mode=0o700, exist_ok=True)
            step = self.limit // STEP
            files = sorted(self._files(), key=lambda file: file[1].st_mtime_ns, reverse=True)
            total = sum(_bytes(found) for _, found in files)
            while files and total > self.limit - 2 * step:
                path, found = files.pop()
                total -= _bytes(found)
                with contextlib.suppress(FileNotFoundError):
                    path.unlink()
                with contextlib.suppress(OSError):  # it has others
                    path.parent.rmdir()
            self._room = step

    def _files(self) -> Iterator[tuple[Path, os.stat_result]]:
        """All blocks. Raises `OSError`."""
        with contextlib.suppress(FileNotFoundError):
            for folder in os.scandir(self.directory):
                with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                    for file in os.scandir(folder):
                        with contextlib.suppress(FileNotFoundError):
                            yield Path(file.path), file.stat(follow_symlinks=False)

    def _stop(self, trouble: str) -> None:
        with self._lock:
            told, self._off = self._off, True
        if not told and self.on_trouble is not None:
            self.on_trouble(trouble)


def _bytes(found: os.stat_result) -> int:
    """What a file takes on disk: where it has holes, less than its size."""
    return found.st_blocks * 512


@contextlib.contextmanager
def _opened(path: Path, flags: int) -> Iterator[int]:
    """A regular file, and nothing that waits or leads elsewhere. Raises `OSError`."""
    fd = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o600)
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise FileNotFoundError(2, "not a file", str(path))
        yield fd
    finally:
        os.close(fd)


def _present(fd: int, block: _Block) -> int:
    """The bits of the units that are there."""
    return int.from_bytes(os.pread(fd, block.size - block.length, block.length), "little")


def _write(path: Path, block: _Block, data: Iterator[tuple[int, memoryview]]) -> None:
    """Raises `BlockingIOError` where another process does."""
    with _opened(path, os.O_RDWR | os.O_CREAT) as fd:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.fstat(fd).st_size != block.size:
            os.ftruncate(fd, 0)
            os.ftruncate(fd, block.size)
        for offset, part in data:
            _write_all(fd, part, offset - block.start)
        present = _present(fd, block) | block.bits
        _write_all(fd, memoryview(present.to_bytes(block.size - block.length, "little")), block.length)


def _write_all(fd: int, data: memoryview, offset: int) -> None:
    while data:
        written = os.pwrite(fd, data, offset)
        data, offset = data[written:], offset + written


def _data(pieces: Pieces, start: int, low: int, high: int) -> Iterator[tuple[int, memoryview]]:
    """The data with its offset, of bytes [low, high) of the content; zeros are what a new file has anyway."""
    at = start
    for piece in pieces:
        length = piece if isinstance(piece, int) else len(piece)
        first, end = max(low, at), min(high, at + length)
        if first < end and not isinstance(piece, int):
            yield first, piece[first - at : end - at]
        at += length


_caches: dict[tuple[Path, int], UnitCache] = {}


def unit_cache(directory: Path, on_trouble: Callable[[str], None] | None = None) -> UnitCache | None:
    """The cache in a directory; the same object each time. None: its size is 0.

    Raises `ValueError` for a size that is none.
    """
    limit = unit_cache_size()
    if not limit:
        return None
    return _caches.setdefault((directory, limit), UnitCache(directory, limit, on_trouble))


class CachedUnits:
    """The units of one content in the cache."""

    def __init__(self, cache: UnitCache, content: bytes, shape: Shape) -> None:
        self._cache = cache
        self._content = content
        self._shape = shape

    async def get(self, first: int, end: int) -> memoryview | None:
        """Units [first, end) if all are there; they prove nothing."""
        return await asyncio.to_thread(self._cache.get, self._content, self._shape, first, end)

    async def put(self, first: int, end: int, pieces: Pieces) -> None:
        """Keep verified units [first, end), whose memory is not used again before this returns."""
        await asyncio.to_thread(self._cache.put, self._content, self._shape, first, end, pieces)

    async def drop(self, first: int, end: int) -> None:
        await asyncio.to_thread(self._cache.drop, self._content, self._shape, first, end)
