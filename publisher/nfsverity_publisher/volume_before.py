# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""What was published of a volume before, and what of it can be taken over."""

from __future__ import annotations

import struct
from contextlib import closing
from dataclasses import dataclass
from hmac import compare_digest
from pathlib import Path

from nfsverity_proto.errors import VerificationError
from nfsverity_proto.hashes import hash_by_number
from nfsverity_proto.record import Record, decode_record
from nfsverity_proto.statement import Extension, Kind, Volume, decode_statement
from nfsverity_store.layout import ANEW, Head, StoreError, file_digest
from nfsverity_store.volume_index import VolumeIndex
from nfsverity_store.volume_nodes import read_levels

from .lock import PublicationError
from .notes import ALTERED, Altered, Notes, digest_of, extension_of


@dataclass(frozen=True, slots=True)
class VolumeBefore:
    """The publication before: where its parts are, and its head."""

    index: Path
    nodes: Path
    hash: int
    record: Record
    volume: Volume
    extension: Extension | None
    """The one with the digest of the notes."""
    digest: str | None
    """Of the index, by the head file."""

    def check(self, head: Head) -> None:
        """That the head file, which nobody has signed, names the volume that the signed head is of.

        Else whoever can write there would have the tree signed as another volume, or its generations used up. Raises
        `PublicationError`.
        """
        claim = self.volume
        if (claim.volume, claim.label, claim.when.generation) != (head.volume, head.label, head.generation):
            raise PublicationError(
                f"{self.index.with_name('head')} has another volume, label or generation than the head that was"
                f" signed: {ANEW}"
            )

    def read(self) -> tuple[Notes, list[bytes]]:
        """What can be taken over, and the tree over all entries, read once. Raises `Altered`."""
        hash, noted = hash_by_number(self.hash), self.extension
        if noted is None:
            raise Altered("what was published before has no notes of what was seen")
        if self.digest is not None and file_digest(self.index) != self.digest:
            raise Altered(ALTERED)
        try:
            with closing(VolumeIndex(self.index)) as index:
                directories = index.notes()
            made = read_levels(self.nodes, hash, self.volume.entries)
            digest = digest_of(hash, directories, made)
        except (StoreError, TypeError, ValueError, AttributeError, struct.error) as error:
            raise Altered(f"what was published before is damaged: {error}") from error
        if not compare_digest(noted.value, digest):
            raise Altered(ALTERED)
        return Notes.of(self.hash, directories, made[0] if made else b""), made


def volume_before(directory: Path, head: Head | None) -> VolumeBefore | None:
    """None where there is none, or one of another form. Raises `StoreError` for what is damaged."""
    if head is None or head.nodes is None:
        return None
    with closing(VolumeIndex(directory / head.index)) as index:
        data, _ = index.head()
        try:
            record = decode_record(data)
            statement = decode_statement(record.statement, Kind.VOLUME)
            claim = statement.claim
        except VerificationError as error:
            raise PublicationError(f"{index.path} has a head that cannot be read: {error}") from error
        if not isinstance(claim, Volume):
            raise PublicationError(f"{index.path} has a head of another kind")
        nodes = directory / head.nodes
        return VolumeBefore(index.path, nodes, statement.hash, record, claim, extension_of(statement), head.digest)
