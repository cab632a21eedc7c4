# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""The procedures (fip, "Procedures"): arguments in, results or a status out.

The server verifies nothing and holds no key. What it knows not to be of the version asked for it does not
send (fip-server); everything else is for the client to judge.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import time
from collections.abc import Awaitable, Callable
from typing import Any

from nfsverity_proto import messages as m
from nfsverity_proto.hashes import HASH_NUMBERS, hash_by_number
from nfsverity_proto.messages import Status
from nfsverity_proto.path import split_path
from nfsverity_proto.proof import check_range, siblings
from nfsverity_proto.slices import slice_count, slice_log2, slice_span, units_of_slices
from nfsverity_proto.statement import Tag
from nfsverity_proto.tree import RFC9162, Shape
from nfsverity_store.content import open_below
from nfsverity_store.hashing import next_data, next_hole, read_into
from nfsverity_store.nodes import Nodes

from .catalog import Answer, Catalog, SignedFile
from .trees import Trees

UPDATE_WINDOW = 10.0
"""Seconds after a change of a file in which a new record for it is expected."""
WATCH_INTERVAL = 0.05
"""Seconds between looks at the head while somebody waits for a new record."""


class Service:
    """One served tree, for all connections."""

    def __init__(self, catalog: Catalog, trees: Trees) -> None:
        self.catalog = catalog
        self.trees = trees
        self._news = asyncio.Event()
        self._watchers = 0
        self._handlers: dict[int, Callable[[Any, Buffer], Awaitable[Any]]] = {
            m.LIMITS.number: self._limits,
            m.RESOLVE.number: self._resolve,
            m.RECORD.number: self._record,
            m.CERTIFICATE.number: self._certificate,
            m.TREE.number: self._tree,
            m.PROOF.number: self._proof,
            m.FETCH.number: self._fetch,
            m.READ.number: self._read,
            m.READDIR.number: self._readdir,
            m.GETATTR.number: self._getattr,
        }

    async def answer(self, procedure: m.Procedure[Any, Any], arguments: Any, buffer: Buffer) -> Any:
        """The result of a call, or the status that it ends with. `buffer` holds the data until it is sent."""
        if self.catalog.refresh():
            self.trees.forget()
        try:
            return await self._handlers[procedure.number](arguments, buffer)
        except Answer as answer:
            return answer.status
        except (FileNotFoundError, NotADirectoryError):
            return Status.CHANGED if Status.CHANGED in procedure.statuses else Status.IO
        except PermissionError:
            return Status.ACCESS
        except OSError:
            return Status.IO

    async def _limits(self, arguments: None, buffer: Buffer) -> m.LimitsOk:
        return m.LimitsOk(
            capabilities=m.CAP_CORE | m.CAP_DATA,
            max_data=m.DATA_MAX,
            max_hashes=m.TREE_MAX,
            max_calls=m.CALLS_MAX,
            max_wait=m.WAIT_MAX,
            hashes=HASH_NUMBERS,
            tree_types=(RFC9162,),
        )

    async def _resolve(self, arguments: m.ResolveArgs, buffer: Buffer) -> m.ResolveOk:
        found = self.catalog.resolve(arguments.base, arguments.path)
        return m.ResolveOk(self.catalog.handle_of(found), self.catalog.attributes(found))

    async def _getattr(self, arguments: m.GetattrArgs, buffer: Buffer) -> m.Attributes:
        return self.catalog.attributes(self.catalog.object(arguments.object))

    async def _readdir(self, arguments: m.ReaddirArgs, buffer: Buffer) -> m.ReaddirOk:
        if not 1 <= arguments.count <= m.ENTRIES_MAX:
            raise Answer(Status.INVALID)
        found = self.catalog.object(arguments.directory)
        entries, eof = self.catalog.entries(found, arguments.after, arguments.count)
        return m.ReaddirOk(tuple(entries), eof)

    async def _record(self, arguments: m.RecordArgs, buffer: Buffer) -> m.RecordOk | Status:
        if arguments.wait > m.WAIT_MAX:
            raise Answer(Status.INVALID)
        until = time.monotonic() + arguments.wait / 1000
        while True:
            file = self.catalog.signed_file(self.catalog.object(arguments.object))
            if hashlib.sha256(file.record).digest() != arguments.known:
                return m.RecordOk(file.record)
            left = until - time.monotonic()
            if left <= 0:
                return Status.UPDATING if self._is_updating(file) else Status.UNCHANGED
            await self._wait_for_news(left)

    async def _wait_for_news(self, seconds: float) -> None:
        """Until the publication is another one, or the time is over."""
        until = time.monotonic() + seconds
        while not self.catalog.refresh():
            left = until - time.monotonic()
            if left <= 0:
                return
            await asyncio.sleep(min(left, WATCH_INTERVAL))
        self.trees.forget()

    def _is_updating(self, file: SignedFile) -> bool:
        """Whether there is reason to expect a new record soon."""
        try:
            fd = open_below(self.catalog.root, split_path(file.path))
        except OSError:
            return False
        try:
            status = os.fstat(fd)
        finally:
            os.close(fd)
        seen = file.entry.seen
        if seen is not None and (status.st_size, status.st_mtime_ns) == (seen.size, seen.mtime):
            return False
        return time.time() - status.st_ctime < UPDATE_WINDOW

    async def _certificate(self, arguments: m.CertificateArgs, buffer: Buffer) -> m.CertificateOk:
        if arguments.fingerprint.hash not in HASH_NUMBERS:
            raise Answer(Status.NOT_FOUND)
        hash = hash_by_number(arguments.fingerprint.hash)
        certificates = self.catalog.index.certificates()
        for der in certificates:
            if hash.digest(der) == arguments.fingerprint.digest:
                others = [other for other in certificates if other != der]
                return m.CertificateOk((der, *others[:7]))
        raise Answer(Status.NOT_FOUND)

    def _version(self, handle: bytes, tag: Tag) -> SignedFile:
        file = self.catalog.signed_file(self.catalog.object(handle))
        if file.tag != tag:
            raise Answer(Status.CHANGED)
        return file

    async def _tree(self, arguments: m.TreeArgs, buffer: Buffer) -> m.TreeOk:
        file = self._version(arguments.object, arguments.tag)
        shape = file.file.content.tree.shape
        if not 1 <= arguments.count <= m.TREE_MAX or arguments.level > shape.height:
            raise Answer(Status.INVALID)
        if arguments.first + arguments.count > shape.width(arguments.level):
            raise Answer(Status.INVALID)
        nodes = await self.trees.nodes(file)
        return m.TreeOk(nodes.run(arguments.level, arguments.first, arguments.count))

    async def _proof(self, arguments: m.ProofArgs, buffer: Buffer) -> m.ProofOk:
        file = self._version(arguments.object, arguments.tag)
        end = arguments.first + arguments.count
        return m.ProofOk(await self._range_proof(file, arguments.first, end, arguments.level))

    async def _range_proof(self, file: SignedFile, first: int, end: int, level: int) -> bytes:
        shape = file.file.content.tree.shape
        try:
            check_range(shape.units, first, end, level)
        except ValueError:
            raise Answer(Status.INVALID) from None
        left, right = siblings(shape.units, first, end, level)
        if not left and not right:
            return b""
        nodes: Nodes = await self.trees.nodes(file)
        return b"".join(nodes.node(at, index) for at, index in left + right)

    def _open(self, file: SignedFile) -> int:
        """Raises `Answer` where the size tells that the content is of another version."""
        fd = open_below(self.catalog.root, split_path(file.path))
        status = os.fstat(fd)
        if status.st_size != file.file.content.tree.size:
            os.close(fd)
            recent = time.time() - status.st_ctime < UPDATE_WINDOW
            raise Answer(Status.UPDATING if recent else Status.CHANGED)
        return fd

    async def _fetch(self, arguments: m.FetchArgs, buffer: Buffer) -> m.FetchOk:
        if arguments.most > m.FETCH_MAX:
            raise Answer(Status.INVALID)
        found = self.catalog.resolve(arguments.base, arguments.path)
        file = self.catalog.signed_file(found)
        shape = file.file.content.tree.shape
        units = shape.units if shape.size <= arguments.most else arguments.most >> shape.unit_log2
        handle = self.catalog.handle_of(found)
        if units == 0:
            return m.FetchOk(handle, file.record, b"", b"")
        proof = await self._range_proof(file, 0, units, shape.height)
        length = shape.unit_span(0, units)[1]
        data = buffer.take(length)
        try:
            fd = self._open(file)
        except Answer:
            return m.FetchOk(handle, file.record, b"", b"")
        try:
            read_into(fd, data, 0)
        finally:
            os.close(fd)
        return m.FetchOk(handle, file.record, proof, data)

    async def _read(self, arguments: m.ReadArgs, buffer: Buffer) -> m.ReadOk:
        file = self._version(arguments.object, arguments.tag)
        shape = file.file.content.tree.shape
        first, end = arguments.first, arguments.first + arguments.count
        if arguments.count < 1 or end > slice_count(shape) or arguments.count << slice_log2(shape) > m.DATA_MAX:
            raise Answer(Status.INVALID)
        proof = b""
        if arguments.level is not None:
            proof = await self._range_proof(file, *units_of_slices(shape, first, end), arguments.level)
        start, stop = slice_span(shape, first, end)
        fd = self._open(file)
        try:
            holes = _holes(fd, shape, start, stop)
            data = _read_around(fd, shape, start, stop, holes, buffer)
        finally:
            os.close(fd)
        return m.ReadOk(proof, holes, data)


class Buffer:
    """Memory for the data of one reply at a time, so that it is not made anew for each."""

    def __init__(self) -> None:
        self._memory = bytearray()

    def take(self, length: int) -> memoryview:
        if len(self._memory) < length:
            self._memory = bytearray(length)
        return memoryview(self._memory)[:length]


def _holes(fd: int, shape: Shape, start: int, stop: int) -> tuple[m.Hole, ...]:
    """The whole slices of [start, stop) that are not stored."""
    log2 = slice_log2(shape)
    size = 1 << log2
    holes: list[m.Hole] = []
    hole_at = next_hole(fd, start, stop)
    while hole_at < stop and len(holes) < m.HOLES_MAX:
        data_at = next_data(fd, hole_at, stop)
        low = (hole_at - start + size - 1) >> log2
        high = (data_at - start) >> log2
        if low < high:
            holes.append(m.Hole(low, high - low))
        if data_at >= stop:
            break
        hole_at = next_hole(fd, data_at, stop)
    return tuple(holes)


def _read_around(fd: int, shape: Shape, start: int, stop: int, holes: tuple[m.Hole, ...], buffer: Buffer) -> memoryview:
    """All bytes of [start, stop) that are not in holes, in order."""
    log2 = slice_log2(shape)
    left_out = sum(hole.count for hole in holes) << log2
    data = buffer.take(stop - start - left_out)
    filled, at = 0, start
    for hole in (*holes, None):
        until = stop if hole is None else start + (hole.first << log2)
        read_into(fd, data[filled : filled + until - at], at)
        filled += until - at
        at = until if hole is None else until + (hole.count << log2)
    return data
