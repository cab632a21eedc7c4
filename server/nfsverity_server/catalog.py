# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""What is served: names, handles, and the present publication of one tree.

A handle is a kind, the volume ID, and the number of an index entry, which stays the same from one
publication to the next; so handles survive restarts and updates (fip-handle). Names without a record, which
only `--all` shows, have handles that last as long as the process.
"""

from __future__ import annotations

import os
import stat
import struct
from dataclasses import dataclass
from pathlib import Path

from nfsverity_proto.messages import ROOT_HANDLE, Attributes, Entry, FileType, Status
from nfsverity_proto.path import join_path, split_path
from nfsverity_proto.record import decode_record
from nfsverity_proto.statement import File, Kind, Statement, Tag, Time, decode_statement, tag_of
from nfsverity_store.content import open_below
from nfsverity_store.index import ROOT_ID, Index, IndexEntry, open_index
from nfsverity_store.layout import DIRECTORY_BYTES, Head, head_path, read_head

_HANDLE = struct.Struct(">B16sQ")
_SIGNED, _UNSIGNED = 1, 2
_UNSIGNED_MAX = 100_000
"""Handles without a record that are remembered; then they are forgotten all at once."""


class Answer(Exception):
    """Ends the work on a call with a status other than OK."""

    def __init__(self, status: Status) -> None:
        super().__init__(status.name)
        self.status = status


@dataclass(frozen=True, slots=True)
class Object:
    """What a handle stands for. `entry` is None for what has no record and is no directory above one."""

    path: bytes
    entry: IndexEntry | None


@dataclass(frozen=True, slots=True)
class SignedFile:
    """A file's record, decoded as far as serving it needs."""

    path: bytes
    record: bytes
    statement: Statement
    file: File
    tag: Tag
    entry: IndexEntry


class Catalog:
    """One published tree. Raises `StoreError` where there is none."""

    def __init__(self, root: Path, *, show_all: bool = False) -> None:
        self.root = root
        self.show_all = show_all
        self.head: Head
        self.index: Index
        self._identity: tuple[int, int] = (-1, -1)
        self._decoded: dict[bytes, tuple[Statement, File, Tag]] = {}
        self._unsigned: dict[bytes, bytes] = {}
        self._unsigned_numbers: dict[bytes, int] = {}
        self._open()

    def _open(self) -> None:
        identity = self._head_identity()
        self.head, self.index = open_index(self.root)
        self._identity = identity
        self._decoded.clear()

    def _head_identity(self) -> tuple[int, int]:
        status = os.stat(head_path(self.root))
        return status.st_ino, status.st_mtime_ns

    def refresh(self) -> bool:
        """Turn to a newer publication where there is one; whether there was."""
        try:
            if self._head_identity() == self._identity or read_head(self.root) == self.head:
                return False
        except OSError:
            return False
        previous = self.index
        self._open()
        previous.close()
        return True

    def handle(self, id: int) -> bytes:
        return _HANDLE.pack(_SIGNED, self.head.volume, id)

    def _unsigned_handle(self, path: bytes) -> bytes:
        number = self._unsigned_numbers.get(path)
        if number is None:
            if len(self._unsigned) >= _UNSIGNED_MAX:
                self._unsigned.clear()
                self._unsigned_numbers.clear()
            number = int.from_bytes(os.urandom(8), "big")
            self._unsigned_numbers[path] = number
        handle = _HANDLE.pack(_UNSIGNED, self.head.volume, number)
        self._unsigned[handle] = path
        return handle

    def object(self, handle: bytes) -> Object:
        """Raises `Answer(BAD_HANDLE)`."""
        if handle == ROOT_HANDLE:
            return Object(b"", self.index.by_id(ROOT_ID))
        if len(handle) == _HANDLE.size:
            kind, volume, number = _HANDLE.unpack(handle)
            if kind == _SIGNED and volume == self.head.volume and number < 2**63:
                entry = self.index.by_id(number)
                if entry is not None:
                    return Object(self.index.path_of(entry), entry)
            if kind == _UNSIGNED and self.show_all and handle in self._unsigned:
                return Object(self._unsigned[handle], None)
        raise Answer(Status.BAD_HANDLE)

    def resolve(self, base: bytes, path: bytes) -> Object:
        """The object at a path below another. Raises `Answer`."""
        at = self.object(base)
        try:
            names = split_path(path)
            whole = join_path(at.path, path)
        except ValueError:
            raise Answer(Status.INVALID) from None
        if DIRECTORY_BYTES in names:
            raise Answer(Status.NOT_FOUND)
        entry = at.entry
        for name in names:
            if entry is None:
                break
            if entry.is_file:
                raise Answer(Status.NOT_DIRECTORY)
            entry = self.index.child(entry.id, name)
        if entry is not None:
            return Object(whole, entry)
        if self.show_all and self._stat(whole) is not None:
            return Object(whole, None)
        raise Answer(Status.NOT_FOUND)

    def _stat(self, path: bytes) -> os.stat_result | None:
        """Of a regular file or directory in the tree; None for anything else."""
        names = split_path(path)
        try:
            if not names:
                return os.stat(self.root)
            fd = open_below(self.root, names[:-1], directory=True)
            try:
                status = os.stat(names[-1], dir_fd=fd, follow_symlinks=False)
            finally:
                os.close(fd)
        except OSError:
            return None
        return status if stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode) else None

    def handle_of(self, found: Object) -> bytes:
        if found.entry is None:
            return self._unsigned_handle(found.path)
        return ROOT_HANDLE if found.entry.id == ROOT_ID else self.handle(found.entry.id)

    def attributes(self, found: Object) -> Attributes:
        """The server's word on it. Raises `Answer(BAD_HANDLE)` where it is gone."""
        entry = found.entry
        if entry is not None and entry.seen is not None:
            seen = entry.seen
            return Attributes(FileType.FILE, True, entry.executable, seen.size, Time.from_ns(seen.mtime))
        status = self._stat(found.path)
        if status is None:
            raise Answer(Status.BAD_HANDLE)
        return _attributes(status)

    def signed_file(self, found: Object) -> SignedFile:
        """Raises `Answer` for what is no file or has no record."""
        entry = found.entry
        if entry is None:
            status = self._stat(found.path)
            if status is None:
                raise Answer(Status.BAD_HANDLE)
            raise Answer(Status.IS_DIRECTORY if stat.S_ISDIR(status.st_mode) else Status.UNSIGNED)
        if entry.record is None:
            raise Answer(Status.IS_DIRECTORY)
        decoded = self._decoded.get(entry.record)
        if decoded is None:
            statement = decode_statement(decode_record(entry.record).statement, Kind.FILE)
            claim = statement.claim
            if not isinstance(claim, File):
                raise Answer(Status.IO)
            decoded = statement, claim, tag_of(decode_record(entry.record).statement, statement.hash)
            if len(self._decoded) > 1024:
                self._decoded.clear()
            self._decoded[entry.record] = decoded
        return SignedFile(found.path, entry.record, *decoded, entry)

    def entries(self, found: Object, after: bytes, most: int) -> tuple[list[Entry], bool]:
        """At most `most` names above `after` in byte order, and whether those were the last. Raises `Answer`."""
        if found.entry is not None and found.entry.is_file:
            raise Answer(Status.NOT_DIRECTORY)
        rows: dict[bytes, Object] = {}
        if found.entry is not None:
            for child in self.index.children(found.entry.id, after, most + 1):
                rows[child.name] = Object(join_path(found.path, child.name), child)
        if self.show_all:
            for name in self._names(found.path, after):
                rows.setdefault(name, Object(join_path(found.path, name), None))
        names = sorted(rows)[: most + 1]
        listed = []
        for name in names[:most]:
            try:
                listed.append(Entry(name, self.handle_of(rows[name]), self.attributes(rows[name])))
            except Answer:
                continue
        return listed, len(names) <= most

    def _names(self, path: bytes, after: bytes) -> list[bytes]:
        try:
            fd = open_below(self.root, split_path(path), directory=True)
        except NotADirectoryError:
            raise Answer(Status.NOT_DIRECTORY) from None
        except OSError:
            return []
        try:
            with os.scandir(fd) as scan:
                return [
                    name
                    for item in scan
                    if (name := os.fsencode(item.name)) > after
                    and name != DIRECTORY_BYTES
                    and (item.is_file(follow_symlinks=False) or item.is_dir(follow_symlinks=False))
                ]
        finally:
            os.close(fd)


def _attributes(status: os.stat_result) -> Attributes:
    mtime = Time.from_ns(status.st_mtime_ns)
    if stat.S_ISDIR(status.st_mode):
        return Attributes(FileType.DIRECTORY, False, False, 0, mtime)
    return Attributes(FileType.FILE, False, bool(status.st_mode & stat.S_IXUSR), status.st_size, mtime)
