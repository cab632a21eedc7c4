# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""All that a record says, and what this user's trust makes of each part of it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from nfsverity_proto.entry import FileNode
from nfsverity_proto.errors import NotMember, VerificationError
from nfsverity_proto.hashes import hash_by_number
from nfsverity_proto.member import verify_member
from nfsverity_proto.record import (
    MEMBERSHIP,
    SIGNATURE,
    Attestation,
    Record,
    decode_record,
    membership_of,
    signature_of,
)
from nfsverity_proto.signers import Signer, check_attestations
from nfsverity_proto.statement import NO_END, Content, File, Kind, Statement, Tag, Volume, decode_statement, tag_of
from nfsverity_proto.trust import TrustEntry
from nfsverity_proto.verification import Verified, check_revoked, verify_head, verify_record, verify_revocation
from nfsverity_proto.verifier import ALL_ALGORITHMS, Certificates, Expected, Verifier

from .failure import error_fields
from .output import count_text, name_fields, printable, scheme_name, seconds_text, shown, time_text
from .trust_state import mark_fields

if TYPE_CHECKING:
    from nfsverity_client.marks import Kept

    from .belief import Belief


@dataclass(frozen=True, slots=True)
class Judged:
    """One attestation: the signer that verified, or why none did."""

    attestation: Attestation
    signer: Signer | None
    error: VerificationError | None
    subject: str | None
    """Of the certificate that has the fingerprint, believed or not."""


@dataclass(frozen=True, slots=True)
class Member:
    """How a file belongs to its volume. Nothing of it is verified where the report has an error."""

    file: File
    """What head, entry and statement say together."""
    head: Tag | None
    index: int
    entries: int


@dataclass(frozen=True, slots=True)
class RecordReport:
    url: str
    data: bytes
    statement: Statement
    tag: Tag | None
    """None where the hash is not known here."""
    judged: tuple[Judged, ...]
    error: VerificationError | None
    """Of the record as a whole."""
    kept: Kept | None = None
    """The highest mark of the file, or of its volume; None before its first use."""
    member: Member | None = None
    """Of a file in a volume: the head, which is what was signed."""

    @property
    def file(self) -> File:
        if self.member is not None:
            return self.member.file
        claim = self.statement.claim
        if not isinstance(claim, File):
            raise ValueError("this statement is not about a file")
        return claim


def judge_here(
    data: bytes, expected: Expected, believed: Belief, certificates: Certificates, url_of: Callable[[bytes], str]
) -> RecordReport:
    """The record of a file, by what was accepted here before, too. `url_of` names what has a path at the place.

    Raises as `judge`, and `StateError`.
    """
    from nfsverity_client.marks import MarkStore
    from nfsverity_client.revocations import RevocationStore

    marks, revoked = MarkStore(believed.state), RevocationStore(believed.state, believed.revoked)
    report = judge(data, expected, Verifier(believed.trust, certificates, marks.now(), ALL_ALGORITHMS, marks, revoked))
    if report.error is not None:
        marks.explain(report.error, data, url_of)
    kept = marks.find(volume=report.file.volume, kind=Kind.FILE, path=report.file.path)
    return replace(report, kept=max(kept, key=lambda one: one.mark.generation, default=None))


def judge_member_here(
    data: bytes,
    head: bytes,
    expected: Expected,
    believed: Belief,
    certificates: Certificates,
    url_of: Callable[[bytes], str],
) -> RecordReport:
    """The record of a file in a volume, and the head that is offered for it. Raises as `judge_here`."""
    from nfsverity_client.revocations import RevocationStore

    record = decode_record(data)
    statement = decode_statement(record.statement, Kind.CONTENT)
    membership = next((membership_of(found) for found in record.attestations if found.type == MEMBERSHIP), None)
    if membership is None:
        raise NotMember("the record says nothing of a volume")
    report = judge_head_here(head, expected, believed, certificates, url_of)
    volume, content, error = report.statement.claim, statement.claim, report.error
    if not isinstance(volume, Volume) or not isinstance(content, Content):
        raise ValueError("a member has a statement of kind content, and a head")
    entry = membership.entry
    executable = isinstance(entry.node, FileNode) and entry.node.executable
    if error is None:
        try:
            verified = Verified(head, decode_record(head), report.statement, report.tag or membership.head, ())
            revoked = RevocationStore(believed.state, believed.revoked)
            check_revoked(verify_member(data, expected.path, verified), revoked.of(volume.volume))
        except VerificationError as problem:
            error = problem
            error.where = expected.url
    file = File(volume.volume, volume.label, entry.path, volume.when, executable, content)
    member = Member(file, report.tag, membership.range.first, volume.entries)
    tag = tag_of(record.statement, statement.hash)
    return RecordReport(expected.url or "", data, statement, tag, report.judged, error, report.kept, member)


def judge_head_here(
    head: bytes, expected: Expected, believed: Belief, certificates: Certificates, url_of: Callable[[bytes], str]
) -> RecordReport:
    """The head of a volume. Raises as `judge_here`."""
    from nfsverity_client.marks import MarkStore
    from nfsverity_client.revocations import RevocationStore

    marks, revoked = MarkStore(believed.state), RevocationStore(believed.state, believed.revoked)
    verifier = Verifier(believed.trust, certificates, marks.now(), ALL_ALGORITHMS, marks, revoked)
    report = judge(head, expected, verifier, Kind.VOLUME)
    if report.error is not None:
        marks.explain(report.error, head, url_of)
    volume = report.statement.claim
    if not isinstance(volume, Volume):
        raise ValueError("a head has a statement of kind volume")
    kept = marks.find(volume=volume.volume, kind=Kind.VOLUME, path=b"")
    return replace(report, kept=max(kept, key=lambda one: one.mark.generation, default=None))


def judge(
    data: bytes,
    expected: Expected,
    verifier: Verifier,
    kind: Kind = Kind.FILE,
) -> RecordReport:
    """Raises the `VerificationError` of steps 1 and 2: then there is nothing to show."""
    record = decode_record(data)
    statement = decode_statement(record.statement, kind)
    if isinstance(statement.claim, Content):
        raise ValueError("this statement has no volume")
    judged = tuple(_judge(record, attestation, statement, expected, verifier) for attestation in record.attestations)
    error: VerificationError | None = None
    try:
        verify = {Kind.REVOCATION: verify_revocation, Kind.VOLUME: verify_head}.get(kind, verify_record)
        verify(data, expected, verifier)
    except VerificationError as problem:
        error = problem
        error.where = expected.url
    tag = None
    with contextlib.suppress(VerificationError):  # a hash that is not known, which `error` says
        tag = tag_of(record.statement, statement.hash)
    return RecordReport(expected.url or "", data, statement, tag, judged, error)


def _judge(
    record: Record,
    attestation: Attestation,
    statement: Statement,
    expected: Expected,
    verifier: Verifier,
) -> Judged:
    alone = Record(record.statement, (attestation,))
    try:
        (signer,) = check_attestations(alone, statement, expected, verifier)
    except VerificationError as error:
        return Judged(attestation, None, error, _subject(attestation, verifier.trust, verifier.certificates))
    return Judged(attestation, signer, None, signer.certificate.subject)


def _subject(attestation: Attestation, trust: Sequence[TrustEntry], certificates: Certificates) -> str | None:
    from nfsverity_proto.certificate import parse_certificate

    if attestation.type != SIGNATURE:
        return None
    signer = signature_of(attestation).signer
    with contextlib.suppress(VerificationError):  # a hash or a certificate that cannot be used names nobody
        for der in (*(entry.anchor for entry in trust), *(der for chain in certificates.values() for der in chain)):
            if hash_by_number(signer.hash).digest(der) == signer.digest:
                return parse_certificate(der).subject
    return None


def report_fields(report: RecordReport) -> dict[str, Any]:
    """A record as `--json` has it."""
    file, statement = report.file, report.statement
    tree, when = file.content.tree, file.when
    return {
        "file": report.url,
        "type": "file",
        "record_size": len(report.data),
        "volume": file.volume.hex(),
        **name_fields("label", file.label),
        **name_fields("path", file.path),
        "target": None,
        "generation": str(when.generation),
        "issued": str(when.issued),
        "not_after": None if when.not_after == NO_END else str(when.not_after),
        "executable": file.executable,
        "mtime": f"{file.content.mtime.seconds}.{file.content.mtime.nseconds:09}",
        "size": str(tree.size),
        "unit_size": 1 << tree.unit_log2,
        "units": str(tree.shape.units),
        "tree_type": tree.type,
        "entries": None,
        "hash": hash_name(statement.hash),
        "root": tree.root.hex(),
        "tag": None if report.tag is None else str(report.tag),
        "extensions": extensions_fields(statement),
        "attestations": [judged_fields(judged) for judged in report.judged],
        "head": None if report.member is None else _member_fields(report.member),
        "mark": None if report.kept is None else mark_fields(report.kept),
        "verified": report.error is None,
        "error": None if report.error is None else error_fields(report.error),
    }


NOT_OF_A_FILE = dict.fromkeys(("executable", "mtime", "size", "unit_size", "units", "tree_type"))
"""What of `report_fields` a head, a link and a directory do not have."""


def extensions_fields(statement: Statement) -> list[dict[str, Any]]:
    return [
        {"number": extension.number, "critical": extension.critical, "value": extension.value.hex()}
        for extension in statement.extensions
    ]


def _member_fields(member: Member) -> dict[str, Any]:
    return {
        "tag": None if member.head is None else str(member.head),
        "entry": str(member.index),
        "entries": str(member.entries),
    }


def judged_fields(judged: Judged) -> dict[str, Any]:
    attestation = judged.attestation
    signature = signature_of(attestation) if attestation.type == SIGNATURE else None
    return {
        "type": {SIGNATURE: "signature", MEMBERSHIP: "membership"}.get(attestation.type, attestation.type),
        "fingerprint": None if signature is None else str(signature.signer),
        "fingerprint_hash": None if signature is None else hash_name(signature.signer.hash),
        "scheme": None if signature is None else scheme_name(signature.scheme),
        "subject": judged.subject,
        "verified": judged.error is None,
        "error": None if judged.error is None else error_fields(judged.error),
    }


def report_text(report: RecordReport) -> str:
    """A record for people."""
    file, statement = report.file, report.statement
    tree, when = file.content.tree, file.when
    rows = [
        ("file", report.url),
        ("volume", f'{file.volume.hex()} "{shown(file.label)}"'),
        ("path", shown(file.path)),
        ("generation", str(when.generation)),
        ("issued", seconds_text(when.issued)),
        ("not after", "does not expire" if when.not_after == NO_END else seconds_text(when.not_after)),
        ("executable", "yes" if file.executable else "no"),
        ("mtime", time_text(file.content.mtime)),
        ("size", f"{tree.size:,} bytes"),
        ("unit size", f"{1 << tree.unit_log2:,} bytes ({count_text(tree.shape.units, 'unit')})"),
        ("hash", f"{hash_name(statement.hash)}, tree type {tree.type}"),
        ("root", tree.root.hex()),
        ("tag", "not known" if report.tag is None else str(report.tag)),
    ]
    rows += [*extension_rows(statement), *signer_rows(report.judged)]
    if report.member is not None:
        member = report.member
        rows.append(("member", f"entry {member.index:,} of {member.entries:,}, under the head with tag {member.head}"))
    rows.append(("mark", mark_text(report.kept)))
    rows.append(("record", f"{len(report.data):,} bytes; {verdict(report.error)}"))
    return printable(rows_text(rows))


def rows_text(rows: Sequence[tuple[str, str]]) -> str:
    return "\n".join(f"{name:<11} {text}".rstrip() for name, text in rows)


def extension_rows(statement: Statement) -> list[tuple[str, str]]:
    return [
        ("extension", f"{one.number} ({'critical' if one.critical else 'not critical'}): {one.value.hex()}")
        for one in statement.extensions
    ]


def signer_rows(found: Sequence[Judged]) -> list[tuple[str, str]]:
    return [
        (f"signer {number}" if not index else "", text)
        for number, judged in enumerate(found, 1)
        for index, text in enumerate(judged_lines(judged))
    ]


def mark_text(kept: Kept | None) -> str:
    if kept is None:
        return "none: no version of it was accepted here yet, so whether this is the latest cannot be told"
    return f"generation {kept.mark.generation}, accepted here on {seconds_text(kept.made)}"


def judged_lines(judged: Judged) -> list[str]:
    attestation = judged.attestation
    if attestation.type != SIGNATURE:
        return [f"attestation of type {attestation.type}", verdict(judged.error)]
    signature = signature_of(attestation)
    name = "not known" if judged.subject is None else f'"{judged.subject}"'
    return [
        f"{name}, scheme {scheme_name(signature.scheme)}",
        f"fingerprint {signature.signer} ({hash_name(signature.signer.hash)})",
        verdict(judged.error),
    ]


def verdict(error: VerificationError | None) -> str:
    if error is None:
        return "verified"
    detail = f" (expected {error.expected}, found {error.found})" if error.expected is not None else ""
    return f"{error.verdict}: {error.message}{detail}"


def hash_name(number: int) -> str:
    try:
        return hash_by_number(number).name
    except VerificationError:
        return str(number)
