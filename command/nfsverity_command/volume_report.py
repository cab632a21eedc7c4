# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""The head of a volume, and what an entry that is no file says under it: all that there is of links and directories."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nfsverity_proto.entry import DirectoryNode, Entry, FileNode, Key, LinkNode, kind_of
from nfsverity_proto.entry_range import EntryRange, verify_range
from nfsverity_proto.errors import VerificationError
from nfsverity_proto.hashes import hash_by_number
from nfsverity_proto.record import decode_record
from nfsverity_proto.statement import NO_END, Tag, Volume, tag_of
from nfsverity_proto.verification import Verified
from nfsverity_proto.verifier import Certificates, Expected

from .failure import error_fields
from .output import count_text, name_fields, printable, seconds_text, shown
from .record_report import (
    NOT_OF_A_FILE,
    RecordReport,
    extension_rows,
    extensions_fields,
    hash_name,
    judge_head_here,
    judged_fields,
    mark_text,
    rows_text,
    signer_rows,
    verdict,
)
from .trust_state import mark_fields

if TYPE_CHECKING:
    from .belief import Belief


@dataclass(frozen=True, slots=True)
class Place:
    """An entry that folds to the root in the head, and its number; the head may still not verify."""

    entry: Entry
    index: int


@dataclass(frozen=True, slots=True)
class VolumeReport:
    """A head, and the link or directory that is shown under it; None for the head itself."""

    url: str
    head: RecordReport
    place: Place | None = None

    @property
    def error(self) -> VerificationError | None:
        return self.head.error

    @property
    def volume(self) -> Volume:
        claim = self.head.statement.claim
        if not isinstance(claim, Volume):
            raise ValueError("a head is of kind volume")
        return claim

    @property
    def under(self) -> Verified:
        """The head to take ranges from under, so that they are what it says, whether it verifies or not."""
        statement = self.head.statement
        record = decode_record(self.head.data)
        tag: Tag = self.head.tag or tag_of(record.statement, statement.hash)
        return Verified(self.head.data, record, statement, tag, ())


def head_report(
    record: bytes,
    url: str,
    expected: Expected,
    believed: Belief,
    certificates: Certificates,
    url_of: Callable[[bytes], str],
) -> VolumeReport:
    """Raises the `VerificationError` of what cannot be decoded, `StateError`."""
    return VolumeReport(url, judge_head_here(record, expected, believed, certificates, url_of))


def place_in(head: Verified, found: EntryRange, key: Key) -> Place | None:
    """The entry with this key in a range; None where it has none. Raises `Mismatch`, `Malformed`, `ValueError`."""
    verify_range(head.head, hash_by_number(head.statement.hash), found)
    at = next((at for at, entry in enumerate(found.entries) if entry.key == key), None)
    return None if at is None else Place(found.entries[at], found.first + at)


def kind_name(place: Place | None) -> str:
    if place is None:
        return "volume"
    return {FileNode: "file", LinkNode: "link", DirectoryNode: "directory"}[type(place.entry.node)]


def _target(place: Place | None) -> bytes | None:
    return place.entry.node.target if place is not None and isinstance(place.entry.node, LinkNode) else None


def volume_fields(report: VolumeReport) -> dict[str, Any]:
    """As `--json` has it: the keys are those of a file's record."""
    head, volume, place = report.head, report.volume, report.place
    when, target = volume.when, _target(place)
    member = None
    if place is not None:
        member = {
            "tag": None if head.tag is None else str(head.tag),
            "entry": str(place.index),
            "entries": str(volume.entries),
        }
    return {
        "file": report.url,
        "type": kind_name(place),
        "record_size": len(head.data),
        "volume": volume.volume.hex(),
        **name_fields("label", volume.label),
        **name_fields("path", b"" if place is None else place.entry.path),
        **({"target": None} if target is None else name_fields("target", target)),
        "generation": str(when.generation),
        "issued": str(when.issued),
        "not_after": None if when.not_after == NO_END else str(when.not_after),
        **NOT_OF_A_FILE,
        "entries": str(volume.entries),
        "hash": hash_name(head.statement.hash),
        "root": volume.root.hex(),
        "tag": None if head.tag is None else str(head.tag),
        "extensions": extensions_fields(head.statement),
        "attestations": [judged_fields(judged) for judged in head.judged],
        "head": member,
        "mark": None if head.kept is None else mark_fields(head.kept),
        "verified": report.error is None,
        "error": None if report.error is None else error_fields(report.error),
    }


def volume_text(report: VolumeReport) -> str:
    """For people."""
    head, volume, place = report.head, report.volume, report.place
    when = volume.when
    rows = [("file", report.url), ("volume", f'{volume.volume.hex()} "{shown(volume.label)}"')]
    if place is not None:
        rows += [("path", shown(place.entry.path)), ("type", kind_of(place.entry).removeprefix("a "))]
        target = _target(place)
        if target is not None:
            rows.append(("target", shown(target)))
    rows += [
        ("generation", str(when.generation)),
        ("issued", seconds_text(when.issued)),
        ("not after", "does not expire" if when.not_after == NO_END else seconds_text(when.not_after)),
    ]
    if place is None:
        rows.append(("entries", f"{volume.entries:,}"))
    rows += [
        ("hash", hash_name(head.statement.hash)),
        ("root", volume.root.hex()),
        ("tag", "not known" if head.tag is None else str(head.tag)),
        *extension_rows(head.statement),
        *signer_rows(head.judged),
    ]
    if place is not None:
        rows.append(("member", f"entry {place.index:,} of {volume.entries:,}, under the head with this tag"))
    rows += [
        ("mark", mark_text(head.kept)),
        ("head", f"{count_text(len(head.data), 'byte')}; {verdict(report.error)}"),
    ]
    return printable(rows_text(rows))
