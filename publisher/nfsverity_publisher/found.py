# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""What is told of directories before they are gone through, and what was found in them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nfsverity_store.volume_index import DirectoryNote, Row

from .content import Before
from .replacement import Replacement
from .transaction import Change

FILES_MAX, BYTES_MAX = 500, 2**24
"""Of one directory, what a process hashes at once, where others could do so, too: some 50 ms."""


@dataclass(frozen=True, slots=True)
class Terms:
    """How every file is to be hashed. `unit_log2`: None for what it had, or the default."""

    hash: int
    unit_log2: int | None
    default_unit_log2: int
    rehash: bool
    jobs: int = 1
    """Processes: for directories, and for one large file."""


@dataclass(slots=True)
class Told:
    """What the caller says of the one file that is to be signed."""

    path: bytes
    before: Before | None
    """What one of the keys signed of it; None where there is nothing of the kind."""
    changed: Sequence[tuple[int, int | None]] = ()
    appended: bool = False
    replacement: Path | None = None
    moving: Replacement | None = None
    """Set when the file that is to be moved in was read."""

    @property
    def is_partial(self) -> bool:
        return self.appended or bool(self.changed)

    def close(self) -> None:
        if self.moving is not None:
            self.moving.close()


@dataclass(frozen=True, slots=True)
class Part:
    """Some files of a directory that are to be hashed: where they are among its rows, and their names."""

    path: bytes
    indexes: Sequence[int]
    names: Sequence[bytes]


@dataclass(slots=True)
class Found:
    """What became of one directory."""

    path: bytes
    rows: list[Row] = field(default_factory=list)
    is_put: bool = False
    """The rows are in the index of the process that found them, and not here."""
    leaves: bytes = b""
    """Of all rows, end to end; empty where `same`."""
    note: DirectoryNote | None = None
    """Of what `rows` say; None where `same`, or without rows."""
    same: bool = False
    """All is as it was, and there are no rows."""
    looks_same: bool = False
    """So it is by its looks: nothing else is to be said of it."""
    directories: list[bytes] = field(default_factory=list)
    """The names of those to go on with."""
    below: frozenset[bytes] = frozenset()
    """The names of all directories in it; not set where `same`."""
    signed: int = 0
    unchanged: int = 0
    removed: int = 0
    """Files that were there before, and are not any more."""
    large: list[int] = field(default_factory=list)
    """Rows that are still to be hashed, by all processes together; then there are no leaves yet."""
    left: list[int] = field(default_factory=list)
    """Rows that are still to be hashed, by whichever process; the same."""
    part: Part | None = None
    """Which files of a directory these are the rows of, where they are not all of it."""
    hashed: list[tuple[bytes, int]] = field(default_factory=list)
    """The path of each file that was read, and how many bytes of it were hashed."""
    changes: list[Change] = field(default_factory=list)
    whole: list[tuple[bytes, str]] = field(default_factory=list)
    """Files that were hashed in whole where only some of it was to be: path and why."""
    trees: list[tuple[bytes, int, bytes]] = field(default_factory=list)
    made: list[Path] = field(default_factory=list)
    """Tree files that were written."""
    skipped: list[tuple[bytes, str]] = field(default_factory=list)
    failed: list[tuple[bytes, str]] = field(default_factory=list)

    def part_of(self, indexes: Sequence[int]) -> Part:
        return Part(self.path, indexes, [self.rows[index].name for index in indexes])

    def parts(self) -> Iterator[Part]:
        """What was left, in pieces for one process each."""
        indexes: list[int] = []
        size = 0
        for index in self.left:
            indexes.append(index)
            size += self.rows[index].size
            if len(indexes) >= FILES_MAX or size >= BYTES_MAX:
                yield self.part_of(indexes)
                indexes, size = [], 0
        if indexes:
            yield self.part_of(indexes)

    def __reduce__(self) -> tuple[Any, ...]:
        """For another process: rows as plain tuples, which take a fifth of the time."""
        values = [getattr(self, name) for name in self.__slots__]
        values[1] = [tuple(row) for row in self.rows]
        return _found, (values,)


def _found(values: list[Any]) -> Found:
    found = Found(*values)
    found.rows = list(map(Row._make, found.rows))
    return found
