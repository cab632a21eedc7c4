# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""A file of a volume, judged under a head that has been verified (fim, "Members").

No signature is checked here: the head's stands for all. The result is a `Verified` like that of a stand-alone
record, with the identity, times and signers of the head.
"""

from __future__ import annotations

import hmac
from collections.abc import Sequence

from .entry import Entry, FileNode, kind_of
from .entry_range import verify_range
from .errors import Mismatch, NotMember, OtherHead, RefusedAlgorithm, Unsigned, WrongKind, WrongPath
from .hashes import hash_by_number
from .membership import Membership
from .path import shown_path
from .record import MEMBERSHIP, Record, decode_record, membership_of
from .signers import check_signers
from .statement import Content, File, Kind, Statement, decode_statement, tag_of
from .trust import TrustEntry
from .verification import Verified, check_algorithms, check_extensions, check_identity, check_validity
from .verifier import ALL_ALGORITHMS, Algorithms, Expected
from .xdr import Buffer


def verify_member(
    data: Buffer | None, path: bytes, head: Verified, algorithms: Algorithms = ALL_ALGORITHMS
) -> Verified:
    """The record of the file at `path`. Raises the `VerificationError` of the first step that fails.

    Whether the tag is revoked is for who has the list (`verification.check_revoked`).
    """
    if data is None:  # step 0
        raise Unsigned("there is no record")
    data = bytes(data)
    record = decode_record(data)  # step 1
    statement = decode_statement(record.statement, Kind.CONTENT)  # steps 1 and 2
    membership = _membership(record, path, head)  # step 3
    _check_statement(statement, head, algorithms)  # steps 4 and 5
    try:
        verify_range(head.head, hash_by_number(head.statement.hash), membership.range)  # step 9
    except (Mismatch, ValueError) as error:
        raise NotMember(f"the volume has no such entry: {error}") from error
    return _verified(data, record, statement, membership.entry, head)


def check_head(
    head: Verified, expected: Expected, trust: Sequence[TrustEntry], now: int, algorithms: Algorithms = ALL_ALGORITHMS
) -> None:
    """That a head that was verified for the volume holds for one place in it, and still does (fim-member-5).

    What is accepted and expected can be less there than for the whole volume. Raises `VerificationError`.
    """
    check_identity(head.statement, expected)
    check_algorithms(head.statement, algorithms)
    signers = [signer for signer in head.signers if signer.scheme in algorithms.schemes]
    if not signers:
        raise RefusedAlgorithm("the head is signed by no scheme that is accepted here")
    check_signers(signers, head.statement, expected, trust)
    check_validity(head.statement, now)


def kind_of_record(data: bytes) -> int | None:
    """The kind of the statement in a record that nobody has decoded yet; None where it ends before that."""
    kind = data[16:20]
    return int.from_bytes(kind) if len(kind) == 4 else None


def verify_listed(statement: bytes, entry: Entry, head: Verified, algorithms: Algorithms = ALL_ALGORITHMS) -> Verified:
    """The same for a statement whose entry came in a range under `head` that was verified. It has no record."""
    decoded = decode_statement(statement, Kind.CONTENT)
    _check_statement(decoded, head, algorithms)
    return _verified(b"", Record(statement, ()), decoded, entry, head)


def _membership(record: Record, path: bytes, head: Verified) -> Membership:
    attestation = next((found for found in record.attestations if found.type == MEMBERSHIP), None)
    if attestation is None:
        raise NotMember("the record says nothing of a volume")
    membership = membership_of(attestation)
    if membership.head != head.tag:
        raise OtherHead(
            "the record is of another state of the volume", expected=str(head.tag), found=str(membership.head)
        )
    entry = membership.entry
    if entry.path != path:
        raise WrongPath("the record is of another path", expected=shown_path(path), found=shown_path(entry.path))
    if not isinstance(entry.node, FileNode):
        raise WrongKind("the volume has something else there", expected="a file", found=kind_of(entry))
    return membership


def _check_statement(statement: Statement, head: Verified, algorithms: Algorithms) -> None:
    check_extensions(statement)
    if statement.hash != head.statement.hash:
        raise NotMember("the record has another hash than the volume")
    check_algorithms(statement, algorithms)


def _verified(data: bytes, record: Record, statement: Statement, entry: Entry, head: Verified) -> Verified:
    """Step 9 for the digest, and what came out of all."""
    tag = tag_of(record.statement, statement.hash)
    node, volume, content = entry.node, head.head, statement.claim
    if not isinstance(node, FileNode) or not isinstance(content, Content):
        raise WrongKind("the volume has something else there", expected="a file", found=kind_of(entry))
    if not hmac.compare_digest(tag.digest, node.content):
        raise NotMember("the volume has another content there", expected=node.content.hex(), found=str(tag))
    file = File(volume.volume, volume.label, entry.path, volume.when, node.executable, content)
    return Verified(data, record, statement, tag, head.signers, file, head.tag)
