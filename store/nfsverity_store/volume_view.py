# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""A published volume, read like an index of stand-alone records: each file has the record that its membership makes.

Links are entries of the volume, and nothing that is opened: they are in no listing of names here.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from nfsverity_proto.entry import Entry, EntryType, Key, key_of
from nfsverity_proto.entry_range import EntryRange, prove_range
from nfsverity_proto.errors import VerificationError
from nfsverity_proto.hashes import Hash, hash_by_number
from nfsverity_proto.membership import Membership
from nfsverity_proto.path import split_path
from nfsverity_proto.record import decode_record, encode_record, membership_attestation
from nfsverity_proto.statement import Kind, Tag, Volume, decode_statement, tag_of

from .index import ROOT_ID, IndexEntry
from .layout import DIRECTORY, Head, StoreError
from .volume_index import VolumeEntry, VolumeIndex
from .volume_nodes import VolumeNodes


class VolumeView:
    """The volume that a head file names; close it. Raises `StoreError` for one that is damaged."""

    def __init__(self, root: Path, head: Head) -> None:
        self._index = VolumeIndex(root / DIRECTORY / head.index)
        self.path = self._index.path
        try:
            self.record, number = self._index.head()
            """The record of kind volume."""
            statement = decode_record(self.record).statement
            claim = decode_statement(statement, Kind.VOLUME).claim
            if not isinstance(claim, Volume):
                raise StoreError(f"{self.path} has a head of another kind")
            self.volume: Volume = claim
            self.hash: Hash = hash_by_number(number)
            self.tag: Tag = tag_of(statement, number)
            self._nodes = VolumeNodes(root / DIRECTORY / (head.nodes or ""), self.hash, claim.entries)
        except VerificationError as error:
            self._index.close()
            raise StoreError(f"{self.path} has a head that cannot be read: {error}") from error
        except BaseException:
            self._index.close()
            raise
        self._ids: dict[bytes, int] = {b"": ROOT_ID}
        """Numbers for the directories that were looked at."""
        self._paths: dict[int, bytes] = {ROOT_ID: b""}

    def close(self) -> None:
        self._index.close()
        self._nodes.close()

    # as an index

    def by_id(self, id: int) -> IndexEntry | None:
        path = self._paths.get(id)
        if path is None:
            return None
        parent = self._ids.get(path.rpartition(b"/")[0], ROOT_ID)
        return IndexEntry(id, parent, path.rpartition(b"/")[2], None, None, False, None)

    def child(self, parent: int, name: bytes) -> IndexEntry | None:
        found = self._index.at(key_of(self._paths[parent], name))
        return None if found is None or found.type is EntryType.LINK else self._index_entry(found)

    def by_path(self, path: bytes) -> IndexEntry | None:
        if not path:
            return self.by_id(ROOT_ID)
        split_path(path)
        found = self._index.by_path(path)
        return None if found is None or found.type is EntryType.LINK else self._index_entry(found)

    def children(self, parent: int, after: bytes = b"", most: int = -1) -> list[IndexEntry]:
        """Files and directories above `after` in byte order."""
        found = self._index.children(self._paths[parent], after, most)
        return [self._index_entry(entry) for entry in found if entry.type is not EntryType.LINK]

    def names(self, parent: int, after: bytes, most: int) -> list[tuple[bytes, bool]]:
        """Files and directories above `after` in byte order, and whether each is a file; -1 for all."""
        return self._index.names(self._paths[parent], after, most)

    def files(self, base: int = ROOT_ID, path: bytes = b"") -> Iterator[tuple[bytes, IndexEntry]]:
        """Every file below a directory, with its path, in the order of the volume. `path` is what `base` has."""
        for entry in self._index.below(self._paths[base]):
            if entry.is_file:
                yield entry.path, self._index_entry(entry)

    def certificates(self) -> list[bytes]:
        return self._index.certificates()

    def size(self, below: bytes) -> int:
        """Bytes that were signed at a path and below it."""
        return self._index.size(below)

    def _id(self, path: bytes) -> int:
        id = self._ids.setdefault(path, len(self._ids) + ROOT_ID)
        self._paths[id] = path
        return id

    def _index_entry(self, found: VolumeEntry) -> IndexEntry:
        parent = self._id(found.parent)
        if found.type is EntryType.DIRECTORY:
            return IndexEntry(self._id(found.path), parent, found.name, None, None, False, None)
        tree, record = self.kept_tree(found), self.record_of(found)
        return IndexEntry(0, parent, found.name, record, found.seen, found.executable, tree)

    # as a volume

    def at(self, path: bytes) -> VolumeEntry | None:
        """What the volume has at a path, links too."""
        return self._index.by_path(path)

    def kept_tree(self, found: VolumeEntry) -> bytes | None:
        """The kept tree of a file, where it is small."""
        if found.kept is not None or found.tree.shape.units < 2:
            return None
        return self._index.tree(found.tree.root, found.unit_log2)

    def below(self, path: bytes) -> Iterator[VolumeEntry]:
        """Every entry below a directory, in order."""
        return self._index.below(path)

    def record_of(self, found: VolumeEntry) -> bytes:
        """The record of a file: its statement, and its membership under the present head."""
        membership = Membership(self.tag, self._range(found.position, [found]))
        return encode_record(found.statement(self.hash), [membership_attestation(membership)])

    def tag_of(self, found: VolumeEntry) -> Tag:
        """The tag of a file."""
        return Tag(self.hash.number, self.hash.digest(found.statement(self.hash)))

    def around(self, key: Key, most: int) -> list[VolumeEntry]:
        """The last entry below a place, where there is one, and those from there on: `most` in all."""
        return self._index.around(key, most)

    def range(self, found: list[VolumeEntry]) -> EntryRange:
        """Neighbouring entries with their proof."""
        return self._range(found[0].position if found else 0, found)

    def _range(self, first: int, found: list[VolumeEntry]) -> EntryRange:
        def entry(index: int) -> Entry:
            return found[index - first].entry(self.hash)

        return prove_range(self.volume, self._nodes.node, entry, first, first + len(found))
