# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""The index: every published name, its record, and what the file looked like when it was signed (SQLite)."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from nfsverity_proto.path import split_path

from .database import Database

ROOT_ID = 1
_SCHEMA = """
CREATE TABLE entry (
    id INTEGER PRIMARY KEY, parent INTEGER NOT NULL, name BLOB NOT NULL,
    size INTEGER, mtime INTEGER, ctime INTEGER, inode INTEGER, executable INTEGER,
    hash INTEGER, unit_log2 INTEGER, terms BLOB, kept TEXT, record BLOB, tree BLOB,
    UNIQUE (parent, name));
INSERT INTO entry (id, parent, name) VALUES (1, 0, x'');
"""
_COLUMNS = "id, parent, name, record, size, mtime, ctime, inode, executable, tree"


@dataclass(frozen=True, slots=True)
class Seen:
    """What of `stat` tells that a file has not changed. Times in nanoseconds."""

    size: int
    mtime: int
    ctime: int
    inode: int

    @classmethod
    def of(cls, status: os.stat_result) -> Seen:
        return cls(status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino & 0x7FFFFFFFFFFFFFFF)


@dataclass(frozen=True, slots=True)
class IndexEntry:
    """One name. A directory has no record."""

    id: int
    parent: int
    name: bytes
    record: bytes | None
    seen: Seen | None
    executable: bool
    tree: bytes | None
    """The kept tree, where it is small."""

    @property
    def is_file(self) -> bool:
        return self.record is not None


@dataclass(frozen=True, slots=True)
class Known:
    """An entry without its record: what tells whether a file must be signed again. A directory has its id only."""

    id: int
    seen: Seen | None = None
    executable: bool = False
    hash: int = 0
    unit_log2: int = 0
    terms: bytes = b""

    @property
    def is_file(self) -> bool:
        return self.seen is not None


@dataclass(frozen=True, slots=True)
class FileRow:
    """A file as it is put into the index."""

    parent: int
    name: bytes
    seen: Seen
    executable: bool
    hash: int
    unit_log2: int
    terms: bytes
    """What else the record says, digested by the publisher (who signed, until when, ...)."""
    kept: str | None
    """The name of the tree file, where the tree is large."""
    record: bytes
    tree: bytes | None
    """The kept tree, where it is small."""


_PUT = """
INSERT INTO entry (parent, name, size, mtime, ctime, inode, executable, hash, unit_log2, terms, kept, record, tree)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (parent, name) DO UPDATE SET size = excluded.size, mtime = excluded.mtime, ctime = excluded.ctime,
    inode = excluded.inode, executable = excluded.executable, hash = excluded.hash, unit_log2 = excluded.unit_log2,
    terms = excluded.terms, kept = excluded.kept, record = excluded.record, tree = excluded.tree
"""
_BELOW = """
WITH RECURSIVE below (id) AS (VALUES (?) UNION ALL SELECT entry.id FROM entry JOIN below ON entry.parent = below.id)
"""


def _values(row: FileRow) -> tuple[object, ...]:
    seen = row.seen
    what_is_seen = seen.size, seen.mtime, seen.ctime, seen.inode, row.executable
    what_is_signed = row.hash, row.unit_log2, row.terms, row.kept, row.record, row.tree
    return (row.parent, row.name, *what_is_seen, *what_is_signed)


def _entry(row: tuple[int, int, bytes, bytes | None, int, int, int, int, int, bytes | None]) -> IndexEntry:
    seen = None if row[3] is None else Seen(row[4], row[5], row[6], row[7])
    return IndexEntry(row[0], row[1], row[2], row[3], seen, bool(row[8]), row[9])


class Index(Database):
    """The index of a tree with stand-alone records. Raises `StoreError`."""

    schema = _SCHEMA

    def _one(self, where: str, *values: object) -> IndexEntry | None:
        rows = self._execute(f"SELECT {_COLUMNS} FROM entry WHERE {where}", *values)  # noqa: S608 - our own words
        return _entry(rows[0]) if rows else None

    def by_id(self, id: int) -> IndexEntry | None:
        return self._one("id = ?", id)

    def child(self, parent: int, name: bytes) -> IndexEntry | None:
        return self._one("parent = ? AND name = ?", parent, name)

    def by_path(self, path: bytes, base: int = ROOT_ID) -> IndexEntry | None:
        entry = self.by_id(base)
        for name in split_path(path):
            if entry is None:
                return None
            entry = self.child(entry.id, name)
        return entry

    def path_of(self, entry: IndexEntry) -> bytes:
        names: list[bytes] = []
        at: IndexEntry | None = entry
        while at is not None and at.id != ROOT_ID:
            names.append(at.name)
            at = self.by_id(at.parent)
        return b"/".join(reversed(names))

    def children(self, parent: int, after: bytes = b"", most: int = -1) -> list[IndexEntry]:
        """Names above `after` in byte order."""
        rows = self._execute(
            f"SELECT {_COLUMNS} FROM entry WHERE parent = ? AND name > ? ORDER BY name LIMIT ?",  # noqa: S608 - our own words
            parent,
            after,
            most,
        )
        return [_entry(row) for row in rows]

    def names(self, parent: int, after: bytes, most: int) -> list[tuple[bytes, bool]]:
        """Names above `after` in byte order, and whether each is a file; -1 for all."""
        rows = self._execute(
            "SELECT name, record IS NOT NULL FROM entry WHERE parent = ? AND name > ? ORDER BY name LIMIT ?",
            *(parent, after, most),
        )
        return [(name, bool(is_file)) for name, is_file in rows]

    def files(self, base: int = ROOT_ID, path: bytes = b"") -> Iterator[tuple[bytes, IndexEntry]]:
        """Every file below a directory, with its path, directory by directory."""
        for entry in self.children(base):
            below = path + b"/" + entry.name if path else entry.name
            if entry.is_file:
                yield below, entry
            else:
                yield from self.files(entry.id, below)

    def size(self, below: bytes) -> int:
        """Bytes that were signed at a path and below it."""
        entry = self.by_path(below)
        if entry is None:
            return 0
        entries = [entry] if entry.is_file else [file for _, file in self.files(entry.id)]
        return sum(file.seen.size for file in entries if file.seen is not None)

    def put_directory(self, parent: int, name: bytes) -> int:
        """The id of a directory, made where there is none; a file of that name gives way."""
        found = self.child(parent, name)
        if found is not None:
            if not found.is_file:
                return found.id
            self.remove(found.id)
        id: int = self._execute("INSERT INTO entry (parent, name) VALUES (?, ?) RETURNING id", parent, name)[0][0]
        return id

    def put_files(self, rows: Iterable[FileRow]) -> None:
        """New files, or new records of those that there are. A directory of that name must be removed before."""
        self._execute_many(_PUT, (_values(row) for row in rows))

    def touch(self, id: int, seen: Seen) -> None:
        """The same content, but another `stat`."""
        self._execute(
            "UPDATE entry SET mtime = ?, ctime = ?, inode = ? WHERE id = ?",
            *(seen.mtime, seen.ctime, seen.inode, id),
        )

    def remove(self, id: int) -> int:
        """An entry and all below it; returns how many files that were."""
        files: int = self._execute(f"{_BELOW} SELECT count(record) FROM entry WHERE id IN below", id)[0][0]  # noqa: S608 - our own words
        self._execute(f"{_BELOW} DELETE FROM entry WHERE id IN below", id)  # noqa: S608 - our own words
        return files

    def known(self, parent: int) -> dict[bytes, Known]:
        """What is in a directory, by name, as far as signing it again needs."""
        rows = self._execute(
            "SELECT name, id, record IS NOT NULL, size, mtime, ctime, inode, executable, hash, unit_log2, terms"
            " FROM entry WHERE parent = ? AND id != parent",
            parent,
        )
        return {
            name: Known(id, Seen(*rest[:4]), bool(rest[4]), rest[5], rest[6], rest[7]) if is_file else Known(id)
            for name, id, is_file, *rest in rows
        }

    def kept_name(self, id: int) -> str | None:
        """The name of the tree file of an entry."""
        name: str | None = self._execute("SELECT kept FROM entry WHERE id = ?", id)[0][0]
        return name
