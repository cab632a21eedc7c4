# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""Members by the oracle's bytes: each change of one has its verdict, and none is verified.

`tests/spec/test_pseudocode_volumes.py` compares the order of the checks with that of the draft.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nfsverity_proto.entry import decode_entry
from nfsverity_proto.errors import Malformed, NotMember, OtherHead, VerificationError, WrongKind, WrongPath
from nfsverity_proto.exported import (
    EXPORTED_MAX,
    Exported,
    decode_exported,
    encode_exported,
    is_exported,
    verify_exported,
)
from nfsverity_proto.marks import Mark
from nfsverity_proto.member import check_head, verify_listed, verify_member
from nfsverity_proto.membership import decode_membership
from nfsverity_proto.record import decode_record, fingerprint_of, membership_of
from nfsverity_proto.revocation import NOTHING_REVOKED, Revocations, Revoked
from nfsverity_proto.statement import Item, Kind, Tag
from nfsverity_proto.trust import TrustEntry
from nfsverity_proto.verification import Verified, verify_head
from nfsverity_proto.verifier import Algorithms, Expected, Verifier
from oracle import merkle, records, signers, volumes
from oracle.xdr import opaque, uint

ID = bytes(range(16))
WHEN = (5, signers.NOW, 2**63 - 1)
SIGNER = signers.signer()
TRUST = [TrustEntry(SIGNER.der)]
EXPECTED = Expected(b"", frozenset({ID}))


def content(text: bytes) -> bytes:
    return records.Statement(
        kind=records.CONTENT, size=len(text), root=merkle.tree_hash(merkle.SHA256, merkle.cut(text, 4096))
    ).encode()


FILES = {b"README": b"read me", b"bin/run": b"run", b"bin/stop": b"stop", b"lib/a": b"same", b"lib/b": b"same"}
ENTRIES = volumes.ordered(
    [
        *(
            volumes.Entry(
                *path.rpartition(b"/")[::2], volumes.FILE, int(path == b"bin/run"), merkle.SHA256(content(text))
            )
            for path, text in FILES.items()
        ),
        volumes.Entry(b"", b"bin", volumes.DIRECTORY),
        volumes.Entry(b"", b"lib", volumes.DIRECTORY),
        volumes.Entry(b"", b"sbin", volumes.LINK, 0, b"bin"),
    ]
)


def head_record(entries: list[volumes.Entry] = ENTRIES, when: tuple[int, int, int] = WHEN) -> bytes:
    root = volumes.root(merkle.SHA256, entries)
    return signers.signed(volumes.volume(ID, b"label", when, len(entries), root))


def head_of(record: bytes) -> Verified:
    return verify_head(record, EXPECTED, Verifier(TRUST, {}, signers.NOW))


HEAD_RECORD = head_record()
HEAD = head_of(HEAD_RECORD)


def tag_bytes(tag: Tag = HEAD.tag) -> bytes:
    return uint(tag.hash) + opaque(tag.digest)


def index(path: bytes) -> int:
    return next(at for at, entry in enumerate(ENTRIES) if entry.path == path)


def member(
    path: bytes, text: bytes | None = None, entries: list[volumes.Entry] = ENTRIES, tag: Tag = HEAD.tag
) -> bytes:
    at = next(at for at, entry in enumerate(entries) if entry.path == path)
    membership = tag_bytes(tag) + volumes.range_of(merkle.SHA256, entries, at, at + 1)
    return records.record(content(FILES[path] if text is None else text), [(records.MEMBERSHIP, membership)])


@pytest.mark.spec("fim-member-1", "fim-member-2", "fim-vol-4")
@pytest.mark.parametrize("path", FILES)
def test_a_member(path: bytes) -> None:
    found = verify_member(member(path), path, HEAD)
    assert (found.volume, found.path, found.when.generation) == (ID, path, WHEN[0])
    assert found.file.executable == (path == b"bin/run")
    assert found.file.content.tree.size == len(FILES[path])
    assert found.signers == HEAD.signers
    listed = verify_listed(content(FILES[path]), decode_entry(ENTRIES[index(path)].encode()), HEAD)
    assert replace(listed, data=found.data, record=found.record) == found


def test_equal_contents_share_a_statement_and_are_two_members() -> None:
    one, two = member(b"lib/a"), member(b"lib/b")
    assert decode_record(one).statement == decode_record(two).statement
    with pytest.raises(WrongPath):
        verify_member(one, b"lib/b", HEAD)


@pytest.mark.spec("fim-head-3")
def test_a_member_of_another_state_of_the_volume() -> None:
    changed = [replace(entry, executable=0) for entry in ENTRIES]
    newer = head_of(head_record(changed, (6, *WHEN[1:])))
    assert not verify_member(member(b"bin/run", entries=changed, tag=newer.tag), b"bin/run", newer).file.executable
    with pytest.raises(OtherHead):
        verify_member(member(b"bin/run"), b"bin/run", newer)
    with pytest.raises(OtherHead):
        verify_member(member(b"bin/run", entries=changed, tag=newer.tag), b"bin/run", HEAD)
    with pytest.raises(NotMember):
        verify_member(member(b"bin/run", entries=changed), b"bin/run", HEAD)


def test_what_the_entry_does_not_name_is_no_member() -> None:
    with pytest.raises(NotMember):
        verify_member(member(b"README", b"another text"), b"README", HEAD)
    with pytest.raises(WrongKind):
        verify_member(member(b"sbin", b""), b"sbin", HEAD)
    with pytest.raises(WrongKind):
        verify_listed(content(b""), decode_entry(ENTRIES[index(b"sbin")].encode()), HEAD)
    with pytest.raises(NotMember):
        verify_listed(content(b""), decode_entry(ENTRIES[index(b"README")].encode()), HEAD)


@pytest.mark.spec("fim-rec-9")
def test_two_memberships_are_malformed() -> None:
    bodies = [tag_bytes() + volumes.range_of(merkle.SHA256, ENTRIES, at, at + 1) for at in (0, 1)]
    data = records.record(content(b"read me"), sorted((records.MEMBERSHIP, body) for body in bodies))
    with pytest.raises(Malformed):
        verify_member(data, b"README", HEAD)


@pytest.mark.parametrize("count", [0, 2])
def test_a_membership_has_exactly_one_entry(count: int) -> None:
    body = tag_bytes() + volumes.range_of(merkle.SHA256, ENTRIES, 0, count)
    with pytest.raises(ValueError, match=f"{count} entries"):
        decode_membership(body)
    with pytest.raises(Malformed):
        verify_member(records.record(content(b"read me"), [(records.MEMBERSHIP, body)]), b"README", HEAD)


@given(st.sampled_from(list(FILES)), st.data())
def test_no_member_with_a_bit_changed_is_verified(path: bytes, data: st.DataObject) -> None:
    record = bytearray(member(path))
    bit = data.draw(st.integers(0, 8 * len(record) - 1))
    record[bit // 8] ^= 1 << bit % 8
    with pytest.raises(VerificationError):
        verify_member(bytes(record), path, HEAD)


def test_a_membership_is_decoded_in_the_record_of_a_head_too() -> None:
    statement = volumes.volume(ID, b"label", WHEN, len(ENTRIES), volumes.root(merkle.SHA256, ENTRIES))
    with pytest.raises(Malformed):
        head_of(records.record(statement, [SIGNER.attestation(statement), (records.MEMBERSHIP, b"")]))
    body = tag_bytes() + volumes.range_of(merkle.SHA256, ENTRIES, 0, 1)
    found = head_of(records.record(statement, [SIGNER.attestation(statement), (records.MEMBERSHIP, body)]))
    assert membership_of(found.record.attestations[1]).head == HEAD.tag


@pytest.mark.spec("fim-member-5")
def test_a_head_that_was_verified_is_judged_anew_for_a_place() -> None:
    url = "nfsv://h:1/bin/run"
    place = Expected(b"bin/run", frozenset({ID}), url)
    check_head(HEAD, place, TRUST, signers.NOW)
    below = [*TRUST, TrustEntry(SIGNER.der, prefixes=("nfsv://h:1/bin",), signers=2)]
    expiring = head_of(head_record(when=(5, signers.NOW, signers.NOW)))
    check_head(HEAD, replace(place, url="nfsv://h:1/lib"), below, signers.NOW)
    check_head(expiring, place, TRUST, signers.NOW)
    for verdict, head, expected, trust, now, accepted in (
        ("wrong-volume", HEAD, replace(place, volumes=frozenset({bytes(16)})), TRUST, signers.NOW, Algorithms()),
        ("refused-algorithm", HEAD, place, TRUST, signers.NOW, Algorithms(hashes=frozenset({8}))),
        ("refused-algorithm", HEAD, place, TRUST, signers.NOW, Algorithms(schemes=frozenset({signers.ECDSA_P256}))),
        ("too-few-signers", HEAD, place, below, signers.NOW, Algorithms()),
        ("record-expired", expiring, place, TRUST, signers.NOW + 1, Algorithms()),
    ):
        with pytest.raises(VerificationError) as caught:
            check_head(head, expected, trust, now, accepted)
        assert caught.value.verdict == verdict


# Exported


def exported(path: bytes = b"bin/run", record: bytes | None = None, head: bytes = HEAD_RECORD) -> bytes:
    return opaque(member(path) if record is None else record) + opaque(head)


def judge(data: bytes | None, path: bytes = b"bin/run", **given: object) -> tuple[Verified, Verified]:
    expected = replace(EXPECTED, path=path)
    return verify_exported(data, expected, Verifier(TRUST, {}, signers.NOW, **given))  # type: ignore[arg-type]


@pytest.mark.spec("fim-export-2", "fim-export-3")
def test_an_exported_member_is_verified_alone() -> None:
    head, found = judge(exported())
    assert head == HEAD
    assert found == verify_member(member(b"bin/run"), b"bin/run", HEAD)
    assert encode_exported(Exported(member(b"bin/run"), HEAD_RECORD)) == exported()
    assert is_exported(exported())
    assert not is_exported(member(b"bin/run"))
    assert not is_exported(HEAD_RECORD)
    assert is_exported(b"")


@pytest.mark.spec("fim-export-1")
@pytest.mark.parametrize(
    "data",
    [
        b"",
        member(b"bin/run"),
        exported()[:-4],
        exported() + bytes(4),
        exported(record=bytes(65_537)),
        exported(head=bytes(65_537)),
        bytes(EXPORTED_MAX + 4),
        opaque(b"odd", b"\1") + opaque(HEAD_RECORD),
    ],
    ids=["nothing", "a record", "cut", "extended", "a long record", "a long head", "too long", "padding"],
)
def test_what_is_no_exported_member(data: bytes) -> None:
    with pytest.raises(Malformed):
        decode_exported(data)
    with pytest.raises(Malformed):
        judge(data)


def test_the_longest_exported_member_is_decoded() -> None:
    assert len(decode_exported(opaque(bytes(65_536)) * 2).head) == 65_536
    assert len(opaque(bytes(65_536)) * 2) == EXPORTED_MAX


@pytest.mark.spec("fim-export-2", "fim-head-4")
@pytest.mark.parametrize(
    ("data", "path", "verdict"),
    [
        (None, b"bin/run", "unsigned"),
        (exported(), b"bin/stop", "wrong-path"),
        (exported(head=member(b"bin/run")), b"bin/run", "wrong-kind"),
        (exported(record=HEAD_RECORD), b"bin/run", "wrong-kind"),
        (exported(record=b"x", head=b"x"), b"bin/run", "malformed"),
        (exported(head=head_record(when=(6, *WHEN[1:]))), b"bin/run", "other-head"),
        (exported(head=head_record(when=(6, WHEN[1], signers.NOW - 1)), record=b""), b"bin/run", "record-expired"),
    ],
    ids=["none", "another path", "no head", "no member", "junk", "another head", "the head comes first"],
)
def test_the_verdicts_of_exported_members(data: bytes | None, path: bytes, verdict: str) -> None:
    with pytest.raises(VerificationError) as caught:
        judge(data, path)
    assert caught.value.verdict == verdict


class Marked:
    """One mark of the volume's head."""

    def __init__(self, mark: Mark) -> None:
        self.mark = mark

    def under(self, anchor: bytes, volume: bytes, kind: Kind, path: bytes) -> dict[bytes, Mark]:
        is_head = (anchor, volume, kind, path) == (SIGNER.der, ID, Kind.VOLUME, b"")
        return {HEAD.signers[0].certificate.key_id(): self.mark} if is_head else {}


class Listed(Revocations):
    def __init__(self, revoked: Revoked) -> None:
        self.revoked = revoked

    def of(self, volume: bytes) -> Revoked:
        return self.revoked if volume == ID else NOTHING_REVOKED


@pytest.mark.spec("fim-head-4", "fim-export-2")
def test_the_mark_of_the_head_holds_for_what_was_exported() -> None:
    judge(exported(), marks=Marked(Mark(WHEN[0], HEAD.tag)))
    for mark, verdict in (
        (Mark(WHEN[0] + 1, HEAD.tag), "rollback"),
        (Mark(WHEN[0], Tag(1, bytes(32))), "equivocation"),
    ):
        with pytest.raises(VerificationError) as caught:
            judge(exported(), marks=Marked(mark))
        assert caught.value.verdict == verdict


@pytest.mark.parametrize("data", [content(b"run"), decode_record(HEAD_RECORD).statement], ids=["member", "head"])
def test_a_revoked_version_of_member_or_head(data: bytes) -> None:
    item = Item(records.VERSION, 1, merkle.SHA256(data))
    with pytest.raises(VerificationError) as caught:
        judge(exported(), revoked=Listed(Revoked(frozenset([item]))))
    assert caught.value.verdict == "revoked"
    other = Item(records.VERSION, 1, merkle.SHA256(b"other"))
    assert judge(exported(), revoked=Listed(Revoked(frozenset([other]))))[1].path == b"bin/run"


def test_the_signer_is_the_heads() -> None:
    assert judge(exported())[1].signers[0].certificate.fingerprint == fingerprint_of(SIGNER.der)
