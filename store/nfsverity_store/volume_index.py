# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""The index of a volume: its entries in their order, and what each file looked like when it was signed (SQLite).

A row has what the statement of kind *content* says, from which that is made again when it is asked for. The
parent is kept as entries are ordered by it (0x00 for "/"), so that the order of the rows is that of the volume.
A row has its place among those of its directory only: so all other rows stay when a directory gets one more.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
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
    parent BLOB NOT NULL, name BLOB NOT NULL, place INTEGER NOT NULL, type INTEGER NOT NULL,
    executable INTEGER, target BLOB, size INTEGER, mtime INTEGER, ctime INTEGER, inode INTEGER,
    unit_log2 INTEGER, root BLOB, kept TEXT,
    PRIMARY KEY (parent, name)) WITHOUT ROWID;
CREATE TABLE directory (
    parent BLOB PRIMARY KEY, first INTEGER, count INTEGER NOT NULL, units INTEGER NOT NULL,
    seen BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE tree (root BLOB NOT NULL, unit_log2 INTEGER NOT NULL, nodes BLOB NOT NULL,
    PRIMARY KEY (root, unit_log2)) WITHOUT ROWID;
CREATE TABLE head (record BLOB NOT NULL, hash INTEGER NOT NULL);
"""
_REST = "type, executable, target, size, mtime, ctime, inode, unit_log2, root, kept"
_ENTRY = f"SELECT parent, name, first + place, {_REST} FROM entry CROSS JOIN directory USING (parent)"  # noqa: S608 - our own words
"""Entries with their positions; the join is one that SQLite does not turn round."""


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
class DirectoryNote:
    """What the publisher noted of a directory that is not empty."""

    count: int
    """Of its entries."""
    units: int
    """The unit sizes of its files: each its bit, 2^unit_log2."""
    seen: bytes
    """A digest of what was seen of it when it was signed."""


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
    _has_removed_trees = False
    """Whether something was forgotten that had a small tree."""

    # reading

    def head(self) -> tuple[bytes, int]:
        """The record of kind volume, and the number of the hash of all. Raises `StoreError` where there is none."""
        rows = self._execute("SELECT record, hash FROM head")
        if not rows:
            raise StoreError(f"{self.path} has no head")
        record, hash = rows[0]
        if not isinstance(record, bytes) or not isinstance(hash, int):
            raise StoreError(f"{self.path} has a head that is none")
        return record, hash

    def by_path(self, path: bytes) -> VolumeEntry | None:
        parent, _, name = path.rpartition(b"/")
        return self.at(key_of(parent, name))

    def at(self, key: Key) -> VolumeEntry | None:
        rows = self._execute(f"{_ENTRY} WHERE parent = ? AND name = ?", *key)
        return _volume_entry(rows[0]) if rows else None

    def around(self, key: Key, most: int) -> list[VolumeEntry]:
        """The last entry below a place, where there is one, and those from there on: `most` in all."""
        before = self._execute(
            f"{_ENTRY} WHERE (parent, name) < (?, ?) ORDER BY parent DESC, name DESC LIMIT 1",
            *key,
        )
        behind = self._execute(
            f"{_ENTRY} WHERE (parent, name) >= (?, ?) ORDER BY parent, name LIMIT ?",
            *key,
            most - len(before),
        )
        return [_volume_entry(row) for row in (*before, *behind)]

    def children(self, parent: bytes, after: bytes = b"", most: int = -1) -> list[VolumeEntry]:
        """What is in a directory, by name, above `after`."""
        rows = self._execute(
            f"{_ENTRY} WHERE parent = ? AND name > ? ORDER BY name LIMIT ?",
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
        for row in self._rows(f"{_ENTRY} ORDER BY parent, name"):
            yield _volume_entry(row)

    def below(self, path: bytes) -> Iterator[VolumeEntry]:
        """Every entry below a directory, in order; of all where the path is empty."""
        if not path:
            yield from self.all()
            return
        low = path.replace(b"/", b"\0")
        rows = self._rows(
            f"{_ENTRY} WHERE parent = ? OR (parent >= ? AND parent < ?) ORDER BY parent, name",
            *(low, low + b"\0", low + b"\1"),
        )
        for row in rows:
            yield _volume_entry(row)

    def counts(self) -> dict[EntryType, int]:
        """The number of entries of each type."""
        columns = ", ".join(f"total(type = {int(type)})" for type in EntryType)
        rows = self._execute(f"SELECT count(*), {columns} FROM entry")  # noqa: S608 - our own words; no sorter, as GROUP BY has
        count, *counts = map(int, rows[0])
        if count != sum(counts):
            raise StoreError(f"{self.path} is damaged: it has entries of no type")
        return dict(zip(EntryType, counts, strict=True))

    def notes(self) -> dict[bytes, DirectoryNote]:
        """Of every directory that is not empty, in the order of the volume, in which their entries follow."""
        rows = self._execute("SELECT parent, first, count, units, seen FROM directory ORDER BY parent")
        notes: dict[bytes, DirectoryNote] = {}
        due = 0
        for parent, first, count, units, seen in rows:
            if first != due:
                raise StoreError(f"{self.path} is damaged: it has entries at position {first}, where {due} is next")
            notes[parent.replace(b"\0", b"/")] = DirectoryNote(count, units, seen)
            due += count
        return notes

    def rows_in(self, path: bytes) -> list[RowValues]:
        """What is in a directory, by name."""
        key = path.replace(b"/", b"\0")
        return self._execute(f"SELECT name, {_REST} FROM entry WHERE parent = ? ORDER BY name", key)  # noqa: S608 - our own words

    def tree(self, root: bytes, unit_log2: int) -> bytes | None:
        """The kept tree of some content, where it is small."""
        rows = self._execute("SELECT nodes FROM tree WHERE root = ? AND unit_log2 = ?", root, unit_log2)
        return rows[0][0] if rows else None

    # writing

    def commit(self) -> None:
        """What was put. Trees that no entry needs are left out."""
        if self._has_removed_trees:
            self._execute(
                "DELETE FROM tree WHERE (root, unit_log2) NOT IN"
                " (SELECT root, unit_log2 FROM entry WHERE type = 1 AND size > 1 << unit_log2)"
            )
        super().commit()

    def put(self, parent: bytes, rows: Iterable[Row], note: DirectoryNote) -> None:
        """All of one directory, of which nothing is there yet; where its entries begin is said by `arrange`."""
        key = parent.replace(b"/", b"\0")
        values = ((key, row.name, place, *row[1:]) for place, row in enumerate(rows))
        holders = ", ".join("?" * 13)
        self._execute_many(f"INSERT INTO entry (parent, name, place, {_REST}) VALUES ({holders})", values)  # noqa: S608 - our own words
        self._execute("INSERT INTO directory VALUES (?, NULL, ?, ?, ?)", key, note.count, note.units, note.seen)

    def arrange(self, first: Mapping[bytes, int]) -> None:
        """The positions of the first entries of directories."""
        values = ((position, parent.replace(b"/", b"\0")) for parent, position in first.items())
        self._execute_many("UPDATE directory SET first = ? WHERE parent = ?", values)

    def remove_all_in(self, parent: bytes) -> None:
        """Forget what is in one directory, not what is below it."""
        key = parent.replace(b"/", b"\0")
        trees = "SELECT 1 FROM entry WHERE parent = ? AND type = 1 AND size > 1 << unit_log2 LIMIT 1"
        self._has_removed_trees = self._has_removed_trees or bool(self._execute(trees, key))
        for table in ("entry", "directory"):
            self._execute(f"DELETE FROM {table} WHERE parent = ?", key)  # noqa: S608 - our own words

    def count_files(self, parent: bytes) -> int:
        """The number of files in a directory, not below it."""
        key = parent.replace(b"/", b"\0")
        count: int = self._execute("SELECT count(*) FROM entry WHERE parent = ? AND type = 1", key)[0][0]
        return count

    def put_trees(self, trees: Iterable[tuple[bytes, int, bytes]]) -> None:
        """Root, unit size and nodes of each."""
        self._execute_many("INSERT OR REPLACE INTO tree VALUES (?, ?, ?)", trees)

    def take_in_part(self, part: Path) -> None:
        """All that was put into another index: directories of which nothing is here."""
        self.take_in(part, ("entry", "directory", "tree"))

    def put_head(self, record: bytes, hash: int) -> None:
        self._execute("DELETE FROM head")
        self._execute("INSERT INTO head VALUES (?, ?)", record, hash)
