# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""What a publisher notes of each directory of a volume, to know it again without a look at what it has of its files.

The head has a digest of the notes, in its extension of that name: so who can write to the metadata can neither have a
file taken for what it was, nor have something signed that was not (fim-ext-4).
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from stat import S_IFREG, S_IXUSR
from typing import TYPE_CHECKING, Any

from nfsverity_proto.entry import EntryType, encode_file, encode_link, encode_parent, encode_subdirectory
from nfsverity_proto.hashes import Hash, hash_by_number
from nfsverity_proto.statement import NOTES, Extension, Statement, encode_content
from nfsverity_proto.tree import UNIT_LOG2_MAX, UNIT_LOG2_MIN
from nfsverity_store.volume_index import DirectoryNote, RowValues

from .lock import PublicationError

if TYPE_CHECKING:
    from .private import PrivateKeys

Item = tuple[bytes, "os.DirEntry[str] | None"]
"""A name in a directory, and what is there; None for what is to be moved in."""
INODE = 0x7FFFFFFFFFFFFFFF
"""What of the number of an inode is kept: SQLite has signed integers."""
_SIGNED_MODE, _PROGRAM = 0o170000 | S_IXUSR, S_IFREG | S_IXUSR
_FILE, _LINK, _DIRECTORY = (int(type) for type in EntryType)
_OTHER_FILE, _PROGRAM_FILE, _A_LINK, _A_DIRECTORY = b"f", b"x", b"l", b"d"
_SEEN = struct.Struct(">cBQqqQ")
"""Of a file: which, the length of its name, size, mtime, ctime and inode."""
_NAMED = struct.Struct(">cBH")
"""Of anything else: which, the length of its name and of its target."""
_NOTE = struct.Struct(">HQQH")
"""Of a directory: the length of its path, the number of its entries, the units, the length of what was seen."""


ALTERED = "what was published before was altered"


class Altered(PublicationError):
    """What was published before is not what one of the keys signed."""


@dataclass(frozen=True, slots=True)
class Notes:
    """Those of a whole volume, verified: by directory in the volume's order, and the leaves of all entries."""

    hash: int
    """Its number: notes are given to other processes."""
    directories: Mapping[bytes, DirectoryNote]
    """All that are not empty."""
    leaves: bytes
    """Of all entries, end to end."""
    first: Mapping[bytes, int]
    """By directory, the position of its first entry."""

    @classmethod
    def of(cls, hash: int, directories: Mapping[bytes, DirectoryNote], leaves: bytes) -> Notes:
        return cls(hash, directories, leaves, first_of(directories))

    def leaves_in(self, path: bytes) -> bytes:
        """Those of what a directory had, end to end."""
        note = self.directories.get(path)
        if note is None:
            return b""
        first, length = self.first[path], hash_by_number(self.hash).length
        return self.leaves[first * length : (first + note.count) * length]

    def check(self, path: bytes, rows: Sequence[RowValues]) -> None:
        """That rows are what a directory had when they were signed. Raises `Altered`."""
        hash = hash_by_number(self.hash)
        seen = note_of(hash, rows) if rows else None
        if seen != self.directories.get(path) or leaves_of(hash, path, rows) != self.leaves_in(path):
            raise Altered(ALTERED)


def first_of(directories: Mapping[bytes, DirectoryNote]) -> dict[bytes, int]:
    """By directory, in the volume's order, the position of its first entry."""
    starts = accumulate((note.count for note in directories.values()), initial=0)
    return dict(zip(directories, starts, strict=False))


def digest_of(hash: Hash, directories: Mapping[bytes, DirectoryNote], levels: Iterable[bytes]) -> bytes:
    """What the extension of a head has: a digest of all notes, and of all nodes."""
    state: Any = hash.new(struct.pack(">Q", len(directories)))
    for path, note in directories.items():
        state.update(_NOTE.pack(len(path), note.count, note.units, len(note.seen)) + path + note.seen)
    for level in levels:
        state.update(level)
    digest: bytes = state.digest()
    return digest


def extension_of(statement: Statement) -> Extension | None:
    """The one that has the digest of the notes."""
    return next((one for one in statement.extensions if one.number == NOTES), None)


def note_of(hash: Hash, rows: Iterable[RowValues]) -> DirectoryNote:
    """Of a directory that has these entries. Raises `Altered` for rows that no publisher has put."""
    seen: list[bytes] = []
    units = 0
    try:
        for name, type, executable, target, size, mtime, ctime, inode, unit_log2, _, _ in rows:
            if type == _FILE:
                if not UNIT_LOG2_MIN <= unit_log2 <= UNIT_LOG2_MAX:
                    raise ValueError(f"a unit of 2^{unit_log2} bytes")
                units |= 1 << unit_log2
                which = _PROGRAM_FILE if executable else _OTHER_FILE
                seen.append(_SEEN.pack(which, len(name), size, mtime, ctime, inode) + name)
            elif type == _LINK:
                seen.append(_NAMED.pack(_A_LINK, len(name), len(target)) + name + target)
            else:
                seen.append(_NAMED.pack(_A_DIRECTORY, len(name), 0) + name)
    except (TypeError, ValueError, OverflowError, struct.error) as error:
        raise Altered(f"what is published has an entry that is none: {error}") from error
    return DirectoryNote(len(seen), units, hash.digest(b"".join(seen)))


@dataclass(frozen=True, slots=True)
class Sight:
    """What a look at a directory tells: as `note_of` has it of rows."""

    seen: bytes
    files: int
    directories: list[bytes]


def look(hash: Hash, at: int, path: bytes, items: Iterable[Item], private: PrivateKeys) -> Sight | None:
    """At what is in an open directory, by name; None where there is something that has no entry.

    How almost all directories are, in a tree that is signed again, is told by this: so it has to be quick.
    Raises `OSError`, `struct.error` for times that nothing has that was signed, `PublicationError` for a private key.
    """
    states: list[bytes] = []
    directories: list[bytes] = []
    files = 0
    secret, pack = private.sizes, _SEEN.pack
    for name, item in items:
        if item is None:
            return None
        if item.is_file(follow_symlinks=False):
            status = item.stat(follow_symlinks=False)
            mode = status.st_mode & _SIGNED_MODE
            which = _OTHER_FILE if mode == S_IFREG else _PROGRAM_FILE if mode == _PROGRAM else None
            if which is None:
                return None
            size = status.st_size
            if size in secret:
                private.check(status, at, name, path)
            inode = status.st_ino & INODE
            states.append(pack(which, len(name), size, status.st_mtime_ns, status.st_ctime_ns, inode) + name)
            files += 1
        elif item.is_dir(follow_symlinks=False):
            states.append(_NAMED.pack(_A_DIRECTORY, len(name), 0) + name)
            directories.append(name)
        elif item.is_symlink():
            target = os.fsencode(os.readlink(name, dir_fd=at))
            states.append(_NAMED.pack(_A_LINK, len(name), len(target)) + name + target)
        else:
            return None
    return Sight(hash.digest(b"".join(states)), files, directories)


def leaves_of(hash: Hash, path: bytes, rows: Iterable[RowValues]) -> bytes:
    """The leaves of the volume's tree over what is in one directory, end to end.

    Raises `Altered` for rows that no publisher has put.
    """
    number, new = hash.number, hash.new
    head = b"\0" + encode_parent(path)
    leaves: list[bytes] = []
    try:
        for name, type, executable, target, size, mtime, _, _, unit_log2, root, _ in rows:
            if type == _FILE:
                content = new(encode_content(number, mtime, unit_log2, size, root)).digest()
                leaf = encode_file(head, name, bool(executable), content)
            elif type == _LINK:
                leaf = encode_link(head, name, target)
            elif type == _DIRECTORY:
                leaf = encode_subdirectory(head, name)
            else:
                raise ValueError(f"an entry of type {type!r}")
            leaves.append(new(leaf).digest())
    except (TypeError, ValueError, IndexError, struct.error) as error:
        raise Altered(f"what is published has an entry that is none: {error}") from error
    return b"".join(leaves)
