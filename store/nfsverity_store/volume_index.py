# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""The index of a volume: its entries in their order, and what each file looked like when it was signed (SQLite).

A row has what the statement of kind *content* says, from which that is made again when it is asked for. The
parent is kept as entries are ordered by it (0x00 for "/"), so that the order of the rows is that of the volume.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from nfsverity_proto.entry import DirectoryNode, Entry, EntryType, FileNode, Key, LinkNode, key_of
from nfsverity_proto.hashes import Hash
from nfsverity_proto.statement import Tree, encode_content
from nfsverity_proto.tree import RFC9162

from .database import Database
from .index import Seen
from .layout import StoreError

_SCHEMA = """
CREATE TABLE entry (
    parent BLOB NOT NULL, name BLOB NOT NULL, position INTEGER NOT NULL, type INTEGER NOT NULL,
    executable INTEGER, target BLOB, size INTEGER, mtime INTEGER, ctime INTEGER, inode INTEGER,
    unit_log2 INTEGER, root BLOB, kept TEXT,
    PRIMARY KEY (parent, name)) WITHOUT ROWID;
CREATE TABLE tree (root BLOB NOT NULL, unit_log2 INTEGER NOT NULL, nodes BLOB NOT NULL,
    PRIMARY KEY (root, unit_log2)) WITHOUT ROWID;
CREATE TABLE head (record BLOB NOT NULL, hash INTEGER NOT NULL);
"""
_COLUMNS = "parent, name, position, type, executable, target, size, mtime, ctime, inode, unit_log2, root, kept"
_REST = "name, type, executable, target, size, mtime, ctime, inode, unit_log2, root, kept"


class Row(NamedTuple):
    """An entry without its place, as it is put. All behind `target` is of files only."""

    name: bytes
    type: int
    executable: int = 0
    target: bytes | None = None
    """Of a link."""
    size: int = 0
    mtime: int = 0
    ctime: int = 0
    inode: int = 0
    unit_log2: int = 0
    root: bytes | None = None
    kept: str | None = None


RowValues = tuple[Any, ...]
"""What a `Row` has, as it comes from the database: for those who read very many."""


@dataclass(frozen=True, slots=True)
class VolumeEntry:
    """One entry with its place in the order, and what `stat` said of a file. Times in nanoseconds."""

    parent: bytes
    name: bytes
    position: int
    type: EntryType
    executable: bool
    target: bytes | None
    seen: Seen
    unit_log2: int
    root: bytes | None
    kept: str | None

    @property
    def path(self) -> bytes:
        return self.parent + b"/" + self.name if self.parent else self.name

    @property
    def is_file(self) -> bool:
        return self.type is EntryType.FILE

    @property
    def length_most(self) -> int:
        """No fewer bytes than its encoding has."""
        return len(self.parent) + len(self.name) + len(self.target or b"") + 96

    @property
    def tree(self) -> Tree:
        return Tree(RFC9162, self.unit_log2, self.seen.size, self.root or b"")

    def statement(self, hash: Hash) -> bytes:
        """The statement of kind content of a file."""
        return encode_content(hash.number, self.seen.mtime, self.unit_log2, self.seen.size, self.root or b"")

    def entry(self, hash: Hash) -> Entry:
        """As it is in the volume."""
        match self.type:
            case EntryType.FILE:
                node = FileNode(self.executable, hash.digest(self.statement(hash)))
                return Entry(self.parent, self.name, node)
            case EntryType.LINK:
                return Entry(self.parent, self.name, LinkNode(self.target or b""))
        return Entry(self.parent, self.name, DirectoryNode())


def _volume_entry(row: tuple[Any, ...]) -> VolumeEntry:
    parent, name, position, type, executable, target, size, mtime, ctime, inode, unit_log2, root, kept = row
    seen = Seen(size or 0, mtime or 0, ctime or 0, inode or 0)
    path = parent.replace(b"\0", b"/")
    return VolumeEntry(
        path, name, position, EntryType(type), bool(executable), target, seen, unit_log2 or 0, root, kept
    )


class VolumeIndex(Database):
    """The index of a volume. Raises `StoreError`."""

    schema = _SCHEMA

    # reading

    def head(self) -> tuple[bytes, int]:
        """The record of kind volume, and the number of the hash of all. Raises `StoreError` where there is none."""
        rows = self._execute("SELECT record, hash FROM head")
        if not rows:
            raise StoreError(f"{self.path} has no head")
        record, hash = rows[0]
        return record, hash

    def by_path(self, path: bytes) -> VolumeEntry | None:
        parent, _, name = path.rpartition(b"/")
        return self.at(key_of(parent, name))

    def at(self, key: Key) -> VolumeEntry | None:
        rows = self._execute(f"SELECT {_COLUMNS} FROM entry WHERE parent = ? AND name = ?", *key)  # noqa: S608 - our own words
        return _volume_entry(rows[0]) if rows else None

    def around(self, key: Key, most: int) -> list[VolumeEntry]:
        """The last entry below a place, where there is one, and those from there on: `most` in all."""
        before = self._execute(
            f"SELECT {_COLUMNS} FROM entry WHERE (parent, name) < (?, ?)"  # noqa: S608 - our own words
            " ORDER BY parent DESC, name DESC LIMIT 1",
            *key,
        )
        behind = self._execute(
            f"SELECT {_COLUMNS} FROM entry WHERE (parent, name) >= (?, ?) ORDER BY parent, name LIMIT ?",  # noqa: S608 - our own words
            *key,
            most - len(before),
        )
        return [_volume_entry(row) for row in (*before, *behind)]

    def children(self, parent: bytes, after: bytes = b"", most: int = -1) -> list[VolumeEntry]:
        """What is in a directory, by name, above `after`."""
        rows = self._execute(
            f"SELECT {_COLUMNS} FROM entry WHERE parent = ? AND name > ? ORDER BY name LIMIT ?",  # noqa: S608 - our own words
            *(parent.replace(b"/", b"\0"), after, most),
        )
        return [_volume_entry(row) for row in rows]

    def names(self, parent: bytes, after: bytes, most: int) -> list[tuple[bytes, bool]]:
        """Files and directories above `after`, and whether each is a file; -1 for all."""
        rows = self._execute(
            "SELECT name, type = 1 FROM entry WHERE parent = ? AND name > ? AND type != 2 ORDER BY name LIMIT ?",
            *(parent.replace(b"/", b"\0"), after, most),
        )
        return [(name, bool(is_file)) for name, is_file in rows]

    def size(self, path: bytes) -> int:
        """Bytes of all files at a path and below it."""
        entry = self.by_path(path) if path else None
        if entry is not None and entry.is_file:
            return entry.seen.size
        low = path.replace(b"/", b"\0")
        where: str = "1"
        values: tuple[bytes, ...] = ()
        if path:
            where, values = "parent = ? OR (parent >= ? AND parent < ?)", (low, low + b"\0", low + b"\1")
        return int(self._execute(f"SELECT total(size) FROM entry WHERE {where}", *values)[0][0])  # noqa: S608 - our own words

    def all(self) -> Iterator[VolumeEntry]:
        """Every entry, in order."""
        for row in self._rows(f"SELECT {_COLUMNS} FROM entry ORDER BY parent, name"):  # noqa: S608 - our own words
            yield _volume_entry(row)

    def below(self, path: bytes) -> Iterator[VolumeEntry]:
        """Every entry below a directory, in order; of all where the path is empty."""
        if not path:
            yield from self.all()
            return
        low = path.replace(b"/", b"\0")
        rows = self._rows(
            f"SELECT {_COLUMNS} FROM entry WHERE parent = ? OR (parent >= ? AND parent < ?) ORDER BY parent, name",  # noqa: S608 - our own words
            *(low, low + b"\0", low + b"\1"),
        )
        for row in rows:
            yield _volume_entry(row)

    def counts(self) -> dict[EntryType, int]:
        """The number of entries of each type."""
        return {
            EntryType(type): count for type, count in self._execute("SELECT type, count(*) FROM entry GROUP BY type")
        }

    def directories(self) -> dict[bytes, int]:
        """Every directory that is not empty, in the order of the volume, and how many entries are in it."""
        rows = self._execute("SELECT parent, count(*) FROM entry GROUP BY parent ORDER BY parent")
        return {parent.replace(b"\0", b"/"): count for parent, count in rows}

    def directory_rows(self) -> Callable[[bytes], list[RowValues]]:
        """Gives what is in a directory, by name; of directories in the volume's order, by one query for all."""
        places = {path: (place, count) for place, (path, count) in enumerate(self.directories().items())}
        query = f"SELECT {_REST} FROM entry WHERE parent >= ? ORDER BY parent, name"  # noqa: S608 - our own words
        following = -1
        """The place of the directory that the rows go on with."""
        rows: sqlite3.Cursor

        def of(path: bytes) -> list[RowValues]:
            nonlocal following, rows
            place, count = places.get(path, (-1, 0))
            if not count:
                return []
            if place != following:
                rows = self._query(query, path.replace(b"/", b"\0"))
            following = place + 1
            return self._some(rows, count)

        return of

    def tree(self, root: bytes, unit_log2: int) -> bytes | None:
        """The kept tree of some content, where it is small."""
        rows = self._execute("SELECT nodes FROM tree WHERE root = ? AND unit_log2 = ?", root, unit_log2)
        return rows[0][0] if rows else None

    # writing

    def commit(self) -> None:
        """What was put. Trees that no entry needs are left out."""
        self._execute(
            "DELETE FROM tree WHERE (root, unit_log2) NOT IN"
            " (SELECT root, unit_log2 FROM entry WHERE type = 1 AND size > 1 << unit_log2)"
        )
        super().commit()

    def put(self, parent: bytes, first: int, rows: Iterable[Row]) -> None:
        """All of one directory, of which nothing is there yet; `first` is the position of its first entry."""
        key = parent.replace(b"/", b"\0")
        values = ((key, row.name, position, *row[1:]) for position, row in enumerate(rows, first))
        holders = ", ".join("?" * 13)
        self._execute_many(f"INSERT INTO entry ({_COLUMNS}) VALUES ({holders})", values)  # noqa: S608 - our own words

    def remove_all_in(self, parent: bytes) -> None:
        """Forget what is in one directory, not what is below it."""
        self._execute("DELETE FROM entry WHERE parent = ?", parent.replace(b"/", b"\0"))

    def move(self, first: bytes, last: bytes, by: int) -> None:
        """Other positions for all in the directories from one to another, in their order."""
        places = first.replace(b"/", b"\0"), last.replace(b"/", b"\0")
        self._execute("UPDATE entry SET position = position + ? WHERE parent >= ? AND parent <= ?", by, *places)

    def count_files(self, parent: bytes) -> int:
        """The number of files in a directory, not below it."""
        key = parent.replace(b"/", b"\0")
        count: int = self._execute("SELECT count(*) FROM entry WHERE parent = ? AND type = 1", key)[0][0]
        return count

    def put_trees(self, trees: Iterable[tuple[bytes, int, bytes]]) -> None:
        """Root, unit size and nodes of each."""
        self._execute_many("INSERT OR REPLACE INTO tree VALUES (?, ?, ?)", trees)

    def put_head(self, record: bytes, hash: int) -> None:
        self._execute("DELETE FROM head")
        self._execute("INSERT INTO head VALUES (?, ?)", record, hash)
