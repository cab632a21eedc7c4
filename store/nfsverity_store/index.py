# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""The index: every published name, its record, and what the file looked like when it was signed (SQLite)."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from nfsverity_proto.path import split_path

from .layout import DIRECTORY, Head, StoreError, read_head

ROOT_ID = 1
_SCHEMA = """
CREATE TABLE entry (
    id INTEGER PRIMARY KEY AUTOINCREMENT, parent INTEGER NOT NULL, name BLOB NOT NULL,
    record BLOB, size INTEGER, mtime INTEGER, ctime INTEGER, inode INTEGER, executable INTEGER,
    tree BLOB, UNIQUE (parent, name));
CREATE TABLE certificate (digest BLOB PRIMARY KEY, der BLOB NOT NULL);
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


def _entry(row: tuple[int, int, bytes, bytes | None, int, int, int, int, int, bytes | None]) -> IndexEntry:
    seen = None if row[3] is None else Seen(row[4], row[5], row[6], row[7])
    return IndexEntry(row[0], row[1], row[2], row[3], seen, bool(row[8]), row[9])


class Index:
    """An index that is open. Raises `StoreError` for one that is damaged."""

    def __init__(self, path: Path, *, writable: bool = False) -> None:
        self.path = path
        mode = "rwc" if writable else "ro&immutable=1"
        uri = f"file:{quote(os.fsencode(path.absolute()))}?mode={mode}"
        try:
            self._db = sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False)
            if writable:
                self._db.execute("PRAGMA journal_mode = OFF")
                self._db.execute("PRAGMA synchronous = OFF")
            else:
                self._db.execute("SELECT count(*) FROM sqlite_master").fetchone()
        except sqlite3.Error as error:
            raise StoreError(f"{path} cannot be read: {error}") from error

    def create(self) -> None:
        self._db.executescript(_SCHEMA)

    def close(self) -> None:
        self._db.close()

    def begin(self) -> None:
        self._db.execute("BEGIN")

    def commit(self) -> None:
        self._db.execute("COMMIT")

    def _one(self, where: str, *values: object) -> IndexEntry | None:
        try:
            row = self._db.execute(f"SELECT {_COLUMNS} FROM entry WHERE {where}", values).fetchone()  # noqa: S608 - our own words
        except sqlite3.Error as error:
            raise StoreError(f"{self.path} is damaged: {error}") from error
        return None if row is None else _entry(row)

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
        try:
            rows = self._db.execute(
                f"SELECT {_COLUMNS} FROM entry WHERE parent = ? AND name > ? ORDER BY name LIMIT ?",  # noqa: S608 - our own words
                (parent, after, most),
            ).fetchall()
        except sqlite3.Error as error:
            raise StoreError(f"{self.path} is damaged: {error}") from error
        return [_entry(row) for row in rows]

    def files(self, base: int = ROOT_ID, path: bytes = b"") -> Iterator[tuple[bytes, IndexEntry]]:
        """Every file below a directory, with its path, directory by directory."""
        for entry in self.children(base):
            below = path + b"/" + entry.name if path else entry.name
            if entry.is_file:
                yield below, entry
            else:
                yield from self.files(entry.id, below)

    def put_directory(self, parent: int, name: bytes) -> int:
        found = self.child(parent, name)
        if found is not None:
            if found.is_file:
                self.remove(found.id)
            else:
                return found.id
        return self._insert(parent, name)

    def _insert(self, parent: int, name: bytes) -> int:
        cursor = self._db.execute("INSERT INTO entry (parent, name) VALUES (?, ?)", (parent, name))
        if cursor.lastrowid is None:
            raise StoreError(f"{self.path} gave no id for a new entry")
        return cursor.lastrowid

    def put_file(
        self, parent: int, name: bytes, record: bytes, seen: Seen, executable: bool, tree: bytes | None
    ) -> None:
        found = self.child(parent, name)
        if found is not None and not found.is_file:
            self.remove(found.id)
            found = None
        id = self._insert(parent, name) if found is None else found.id
        self._db.execute(
            "UPDATE entry SET record = ?, size = ?, mtime = ?, ctime = ?, inode = ?, executable = ?, tree = ?"
            " WHERE id = ?",
            (record, seen.size, seen.mtime, seen.ctime, seen.inode, executable, tree, id),
        )

    def touch(self, id: int, seen: Seen) -> None:
        """The same content, but another `stat`."""
        self._db.execute(
            "UPDATE entry SET mtime = ?, ctime = ?, inode = ? WHERE id = ?",
            (seen.mtime, seen.ctime, seen.inode, id),
        )

    def remove(self, id: int) -> None:
        """An entry and all below it."""
        for child in self.children(id):
            self.remove(child.id)
        self._db.execute("DELETE FROM entry WHERE id = ?", (id,))

    def put_certificate(self, digest: bytes, der: bytes) -> None:
        self._db.execute("INSERT OR REPLACE INTO certificate VALUES (?, ?)", (digest, der))

    def certificates(self) -> list[bytes]:
        return [row[0] for row in self._db.execute("SELECT der FROM certificate ORDER BY digest")]


def open_index(root: Path) -> tuple[Head, Index]:
    """The present publication of a tree. Raises `NotPublished`, `StoreError`."""
    for _ in range(8):
        head = read_head(root)
        try:
            return head, Index(root / DIRECTORY / head.index)
        except StoreError:
            if read_head(root) == head:
                raise
    raise StoreError(f"{root / DIRECTORY} changes faster than it can be read")
