# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""One directory of a volume: what is in it, hashed where it may have changed. Made to run in a process of its own.

What comes back is as small as can be: rows for the index, and the leaves of the volume's tree, end to end.
"""

from __future__ import annotations

import os
import stat
import struct
import sys
import time
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from operator import itemgetter
from pathlib import Path

from nfsverity_proto.entry import EntryType
from nfsverity_proto.hashes import Hash, hash_by_number
from nfsverity_proto.path import join_path
from nfsverity_proto.statement import Content, Time, Tree
from nfsverity_proto.tree import RFC9162, Shape
from nfsverity_store.content import Descent, open_file
from nfsverity_store.differences import differences
from nfsverity_store.hashing import ChangedSize, is_small, small_root
from nfsverity_store.index import Seen
from nfsverity_store.kept import kept_tree
from nfsverity_store.layout import DIRECTORY, DIRECTORY_BYTES
from nfsverity_store.update import NotTakenOver
from nfsverity_store.volume_index import Row, VolumeIndex

from . import workers
from .content import Hashed, Hasher, Place, seen_of
from .found import BYTES_MAX, FILES_MAX, Found, Part, Terms, Told
from .lock import PublicationError
from .notes import INODE, Item, Notes, leaves_of, look, note_of
from .private import PrivateKeys
from .replacement import Replacement
from .transaction import RACY, Change
from .workers import Changed

NO_TYPE = 0
"""Of a row in place of a file that could not be read."""
Progress = Callable[[bytes, int], None]
"""Told a path, and how many more bytes of it are hashed."""
_FILE, _LINK, _DIRECTORY = (int(type) for type in EntryType)
_ENCODING, _ERRORS = sys.getfilesystemencoding(), sys.getfilesystemencodeerrors()
"""What `os.fsencode` uses."""


class Unmoved(PublicationError):
    """The file that was to be moved in cannot be used."""

    def __init__(self, error: OSError) -> None:
        super().__init__(f"{error.filename}: {error.strerror or error}" if error.filename else str(error))


class Directories:
    """Goes through directories of one tree, one at a time; knows what was published before."""

    def __init__(
        self,
        root: Path,
        previous: Path | None,
        terms: Terms,
        private: PrivateKeys,
        notes: Notes | None = None,
        *,
        leaves_some: bool = False,
        progress: Progress | None = None,
        told: Told | None = None,
    ) -> None:
        self.root = root
        self.leaves_some = leaves_some
        """Whether large files, and those of a directory that has many, are left for others."""
        self.progress = progress
        self.told = told
        self.terms = terms
        self.private = private
        self.hash: Hash = hash_by_number(terms.hash)
        self.previous_path = previous
        self.previous = None if previous is None else VolumeIndex(previous)
        self.notes = notes
        self.same_hash = notes is not None and notes.hash == terms.hash
        self._last: tuple[bytes, dict[bytes, Row]] | None = None
        """The directory of which rows were read last, and these by name."""
        self._bytes = 0
        """Hashed in the directory that is gone through."""
        self.hasher = Hasher(root, terms.jobs)
        self.descent = Descent(root)

    def close(self) -> None:
        self.descent.close()
        if self.previous is not None:
            self.previous.close()

    def done(self, path: bytes, count: int) -> None:
        if self.progress is not None:
            self.progress(path, count)

    def go_through(self, path: bytes, only: frozenset[bytes] | None = None) -> Found:
        """One directory; with `only`, nothing but these names, and all others as they were."""
        found, self._bytes = Found(path), 0
        try:
            at = self.descent.open(path)
            with os.scandir(at) as scan:
                items: list[Item] = [(item.name.encode(_ENCODING, _ERRORS), item) for item in scan]
        except OSError as error:
            found.failed.append((path, error.strerror or str(error)))
            known = self._known(path)
            found.rows = list(known.values()) if self.same_hash else []
            return self._finished(found, known)
        replaced = self._replaced_in(path)
        if replaced is not None:
            items = [*((name, item) for name, item in items if name != replaced), (replaced, None)]
        items.sort(key=itemgetter(0))
        if not path:
            items = [(name, item) for name, item in items if name != DIRECTORY_BYTES]
        if only is None and replaced is None and self._is_as_it_was(at, items, found):
            return found
        if any(name == DIRECTORY_BYTES for name, _ in items):
            nested = self.root / os.fsdecode(path) / DIRECTORY
            raise PublicationError(f"{nested} is inside the published tree of {self.root / DIRECTORY}")
        known = self._known(path)
        for name, item in items if only is None else _only(only, items, known):
            if isinstance(item, Row):
                found.rows.append(item)
                found.unchanged += item.type == _FILE
                continue
            try:
                if item is None:
                    found.rows.append(self._replacement(at, name, known.get(name), found))
                else:
                    self._entry(at, name, item, known.get(name), found)
            except (OSError, ValueError) as error:  # ValueError: the path is longer or deeper than one may be
                reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
                found.failed.append((path + b"/" + name if path else name, reason))
                if name in known and self.same_hash:
                    found.rows.append(known[name])
        return self._finished(found, known, replaced=replaced is not None)

    def _known(self, path: bytes) -> dict[bytes, Row]:
        """What the publication before has in a directory, by name. Raises `Altered` for what nobody has put there."""
        if self.previous is None or self.notes is None:
            return {}
        if self._last is None or self._last[0] != path:  # parts of a directory come one after the other
            rows = self.previous.rows_in(path)
            self.notes.check(path, rows)
            self._last = path, {row.name: row for row in map(Row._make, rows)}
        return self._last[1]

    def _is_as_it_was(self, at: int, items: Sequence[Item], found: Found) -> bool:
        """Whether nothing tells that anything in a directory is another. Then all is in `found`; else nothing is."""
        looks = self.terms.rehash or (self.told is not None and self.told.is_partial)
        if looks or self.notes is None or not self.same_hash:
            return False
        note = self.notes.directories.get(found.path)
        if note is None:
            found.same = found.looks_same = not items
            return found.same
        if note.count != len(items):
            return False
        unit_log2 = self.terms.unit_log2
        if unit_log2 is not None and note.units & ~(1 << unit_log2):
            return False
        try:
            sight = look(self.hash, at, found.path, items, self.private)
        except (OSError, struct.error):  # whatever it is, it comes again
            return False
        if sight is None or sight.seen != note.seen:
            return False
        found.same = found.looks_same = True
        found.unchanged, found.directories = sight.files, sight.directories
        return True

    def _replaced_in(self, path: bytes) -> bytes | None:
        """The name in a directory of what is to be replaced, if that is in it."""
        if self.told is None or self.told.replacement is None:
            return None
        above, _, name = self.told.path.rpartition(b"/")
        return name if above == path else None

    def hash_part(self, part: Part) -> Found:
        """The rows of some files, as they come; of one that cannot be read, that of before, or one of no type."""
        found = Found(part.path, part=part)
        known = self._known(part.path)
        for name in part.names:
            path = join_path(part.path, name)
            try:
                at = self.descent.open(part.path)
                found.rows.append(self._file(at, name, path, known.get(name), found))
            except OSError as error:
                found.failed.append((path, error.strerror or str(error)))
                found.rows.append(known[name] if name in known and self.same_hash else Row(name, NO_TYPE))
        return self._made(found)

    def put_together(self, found: Found, parts: Iterable[Found]) -> Found:
        """A directory of which files were left, and these."""
        for one in parts:
            for index, row in zip(one.part.indexes if one.part else (), one.rows, strict=True):
                found.rows[index] = row
            found.signed += one.signed
            found.unchanged += one.unchanged
            found.hashed += one.hashed
            found.changes += one.changes
            found.trees += one.trees
            found.made += one.made
            found.failed += one.failed
        found.rows = [row for row in found.rows if row.type != NO_TYPE]
        found.large, found.left = [], []
        return self._finished(found, self._known(found.path))

    def _entry(self, at: int, name: bytes, item: os.DirEntry[str], known: Row | None, found: Found) -> None:
        path = join_path(found.path, name)
        if item.is_symlink():
            row = Row(name, _LINK, 0, os.fsencode(os.readlink(name, dir_fd=at)))
        elif item.is_dir(follow_symlinks=False):
            row = Row(name, _DIRECTORY)
            found.directories.append(name)
        elif item.is_file(follow_symlinks=False):
            status = item.stat(follow_symlinks=False)
            self.private.check(status, at, name, found.path)
            looks_in = self.told is not None and self.told.is_partial
            if known is not None and not looks_in and self._is_same(known, status):
                found.unchanged += 1
                row = known
            elif self.leaves_some and status.st_size >= workers.PARALLEL_MIN:
                found.large.append(len(found.rows))
                row = Row(name, _FILE)
            elif self.leaves_some and (len(found.hashed) >= FILES_MAX or self._bytes >= BYTES_MAX):
                found.left.append(len(found.rows))
                row = Row(name, _FILE, size=status.st_size)
            else:
                row = self._file(at, name, path, known, found)
        else:
            found.skipped.append((path, "special file"))
            return
        found.rows.append(row)

    def _is_same(self, known: Row, status: os.stat_result) -> bool:
        """Whether nothing in `stat` tells that the content may be another."""
        return (
            known.type == _FILE
            and known.ctime == status.st_ctime_ns
            and known.size == status.st_size
            and known.mtime == status.st_mtime_ns
            and known.inode == status.st_ino & INODE
            and bool(known.executable) == bool(status.st_mode & stat.S_IXUSR)
            and self.terms.unit_log2 in (None, known.unit_log2)
            and self.same_hash
            and not self.terms.rehash
        )

    def _file(self, at: int, name: bytes, path: bytes, known: Row | None, found: Found) -> Row:
        """A file that may be another than before, read and hashed. Raises `OSError`, `Changed` among them."""
        fd = open_file(name, at)
        try:
            return self._open_file(fd, name, path, (self.root, path.split(b"/")), known, found)
        finally:
            os.close(fd)

    def _replacement(self, at: int, name: bytes, known: Row | None, found: Found) -> Row:
        """The file that is to be moved in, as the one that it replaces. What is wrong with it ends all."""
        if self.told is None or self.told.replacement is None:
            raise ValueError("nothing is to be replaced")
        path = join_path(found.path, name)
        moving = self.told.moving = Replacement(self.told.replacement, at, name)
        try:
            fd = moving.open()
            try:
                above = os.fsencode(moving.above)
                self.private.check(os.fstat(fd), moving.source, moving.source_name, above)
                row = self._open_file(fd, name, path, (moving.above, (moving.source_name,)), known, found)
                os.fsync(fd)
            finally:
                os.close(fd)
        except OSError as error:
            raise Unmoved(error) from error
        return row

    def _open_file(self, fd: int, name: bytes, path: bytes, place: Place, known: Row | None, found: Found) -> Row:
        """An open file that lies at `place`. Raises `OSError`."""
        was_file = known is not None and known.type == _FILE
        unit_log2 = self.terms.unit_log2 or (known.unit_log2 if known and was_file else self.terms.default_unit_log2)
        status = os.fstat(fd)
        seen = seen_of(status)
        hashed = self._hashed(fd, path, place, seen, unit_log2, found)
        if Seen.of(os.fstat(fd)) != seen:
            raise Changed
        root, kept = hashed.content.tree.root, hashed.kept
        if hashed.tree is not None:
            found.trees.append((root, unit_log2, hashed.tree))
        found.hashed.append((path, hashed.count))
        self._bytes += hashed.count
        executable = int(bool(status.st_mode & stat.S_IXUSR))
        ctime = 0 if seen.ctime > time.time_ns() - RACY else seen.ctime
        row = Row(name, _FILE, executable, None, seen.size, seen.mtime, ctime, seen.inode, unit_log2, root, kept)
        if was_file and known is not None and self.same_hash and _claims(known) == _claims(row):
            found.unchanged += 1
            return row
        found.signed += 1
        if was_file and known is not None:
            self._note_change(path, known, row, hashed, found)
        return row

    def _hashed(self, fd: int, path: bytes, place: Place, seen: Seen, unit_log2: int, found: Found) -> Hashed:
        told = self.told
        if told is not None and told.is_partial and told.path == path:
            try:
                if told.before is None:
                    raise NotTakenOver("none of the keys that sign now has signed it before")
                return self.hasher.update_as_told(
                    fd, place, seen, self.hash.number, unit_log2, told.before, told.changed, told.appended,
                    lambda count: self.done(path, count),
                )  # fmt: skip
            except NotTakenOver as error:
                found.whole.append((path, str(error)))
        shape = Shape(seen.size, unit_log2)
        if not is_small(shape):
            return self.hasher.hash(fd, place, seen, self.hash, unit_log2, lambda count: self.done(path, count))
        try:
            root = small_root(fd, shape, self.hash)
        except ChangedSize:
            raise Changed from None
        self.done(path, seen.size)
        return Hashed(
            Content(Time.from_ns(seen.mtime), Tree(RFC9162, unit_log2, seen.size, root)), None, None, seen.size
        )

    def _note_change(self, path: bytes, known: Row, row: Row, hashed: Hashed, found: Found) -> None:
        """What changed in a file since it was signed the last time."""
        before = Tree(RFC9162, known.unit_log2, known.size, known.root or b"")
        after = hashed.content.tree
        if before == after and self.same_hash:
            return
        ranges = None
        if self.previous is not None and self.same_hash and before.unit_log2 == after.unit_log2:
            inline = None if known.kept else self.previous.tree(before.root, before.unit_log2)
            old = kept_tree(self.root, self.hash, before, inline)
            new = kept_tree(self.root, self.hash, after, hashed.tree)
            if old is not None and new is not None:
                ranges = differences(old, new)
        found.changes.append(Change(path, known.size, row.size, ranges))

    def _finished(self, found: Found, known: Mapping[bytes, Row], *, replaced: bool = False) -> Found:
        """With the leaves; without rows where all is as it was, and nothing is to be moved in."""
        rows = found.rows
        if not replaced and self.previous is not None and self.same_hash and rows == list(known.values()):
            found.rows, found.same = [], True
            return found
        self._made(found)
        if found.large or found.left:
            return found
        found.below = frozenset(row.name for row in rows if row.type == _DIRECTORY)
        files = {row.name for row in rows if row.type == _FILE}
        found.removed = sum(row.type == _FILE and row.name not in files for row in known.values())
        found.leaves = leaves_of(self.hash, found.path, rows)
        found.note = note_of(self.hash, rows) if rows else None
        return found

    def _made(self, found: Found) -> Found:
        """With the tree files that were written."""
        found.made += self.hasher.made
        self.hasher.made = []
        return found


def _only(
    names: Container[bytes], items: Iterable[Item], known: Mapping[bytes, Row]
) -> list[tuple[bytes, os.DirEntry[str] | Row | None]]:
    """What is there of these names, and all others as they were signed, whether they are there or not, in order."""
    named = ((name, item) for name, item in items if name in names)
    others = ((name, row) for name, row in known.items() if name not in names)
    return sorted((*named, *others), key=itemgetter(0))


def _claims(row: Row) -> tuple[object, ...]:
    """What of a row is signed."""
    return row.type, row.executable, row.target, row.size, row.mtime, row.unit_log2, row.root
