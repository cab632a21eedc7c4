# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""What is revoked, and what a revocation does. That each verdict is the draft's, tests/spec/test_pseudocode.py has."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nfsverity_proto.certificate import parse_certificate
from nfsverity_proto.errors import IsRevoked, RecordExpired, Rollback, Unsupported
from nfsverity_proto.hashes import HASH_NUMBERS, hash_by_number
from nfsverity_proto.revocation import NOTHING_REVOKED, Accepted, Revoked, key_item, version_item
from nfsverity_proto.statement import NO_END, PUBLIC_KEY, VERSION, Item, Revocation, Tag, When, tag_of
from nfsverity_proto.trust import TrustEntry
from nfsverity_proto.verification import Verified, accept_revocation, verify_record, verify_revocation
from nfsverity_proto.verifier import Expected, Verifier
from oracle import records
from oracle.records import Statement
from oracle.revocation import Reader, Version
from oracle.signers import NOW, Signer, signed, signer
from unit.proto.remembering import Remembering

VOLUME = Statement().volume
EXPECTED = Expected(Statement().path, None)
REVOCATION = Statement(kind=records.REVOCATION, issued=NOW)


def key_of(one: Signer) -> bytes:
    return parse_certificate(one.der).key_id()


def accept(statement: Statement, revoked: Revoked, *by: Signer) -> Verified:
    trust = [TrustEntry(one.der) for one in by]
    return accept_revocation(signed(statement, *by), EXPECTED, Verifier(trust, {}, NOW, revoked=revoked))


@pytest.mark.spec("fim-rev-3")
@given(st.binary(max_size=40), st.sampled_from(HASH_NUMBERS), st.binary(max_size=40))
def test_a_key_is_revoked_under_any_hash_that_is_known(key: bytes, number: int, other: bytes) -> None:
    revoked = Revoked(frozenset([Item(PUBLIC_KEY, number, hash_by_number(number).digest(key))]))
    assert revoked.key(key)
    assert revoked.key(other) == (key == other)
    assert revoked.items == {key_item(key, number)}
    assert not revoked.tag(Tag(number, hash_by_number(number).digest(key)))


def test_a_version_is_revoked_by_number_and_digest() -> None:
    tag = Tag(1, hashlib.sha256(b"x").digest())
    revoked = Revoked(frozenset([version_item(tag)]))
    assert revoked.tag(tag)
    assert not revoked.tag(Tag(10, tag.digest))
    assert not revoked.tag(Tag(1, bytes(32)))
    assert not revoked.key(b"x")


def test_a_key_under_a_hash_that_is_not_known_is_not_taken_for_one_that_is_not_revoked() -> None:
    with pytest.raises(Unsupported):
        Revoked(frozenset([Item(PUBLIC_KEY, 99, b"x")])).key(b"key")


@pytest.mark.spec("fim-rev-6")
def test_what_has_expired_counts_and_its_verdict_is_that_it_has() -> None:
    one = signer()
    item = (records.VERSION, 1, hashlib.sha256(b"x").digest())
    statement = replace(REVOCATION, not_after=NOW - 1, items=[item])
    verified = accept(statement, NOTHING_REVOKED, one)
    assert verified.revocation.items == (Item(*item),)
    with pytest.raises(RecordExpired):
        verify_revocation(signed(statement, one), EXPECTED, Verifier([TrustEntry(one.der)], {}, NOW))


@pytest.mark.spec("fim-rev-12")
def test_a_file_is_verified_no_longer_than_the_latest_revocation_says() -> None:
    one = signer()
    record, trust = signed(Statement(), one), [TrustEntry(one.der)]
    revoked = NOTHING_REVOKED
    for generation, not_after in ((1, NOW - 1), (2, NOW + 1), (3, NOW)):
        statement = replace(REVOCATION, generation=generation, not_after=not_after)
        revoked = revoked.after(accept(statement, revoked, one).revocation, [key_of(one)])
        assert revoked.not_after == not_after
        for now in (not_after, not_after + 1):
            if now <= not_after:
                verify_record(record, EXPECTED, Verifier(trust, {}, now, revoked=revoked))
            else:
                with pytest.raises(RecordExpired):
                    verify_record(record, EXPECTED, Verifier(trust, {}, now, revoked=revoked))


@pytest.mark.spec("fim-rev-10")
def test_an_item_stays_when_the_key_that_signed_it_is_revoked() -> None:
    """Each of two keys revokes something, and then the second one the first."""
    first, second = signer(), signer(name="second")
    version = (records.VERSION, 1, hashlib.sha256(b"x").digest())
    revoked = NOTHING_REVOKED.after(
        accept(replace(REVOCATION, items=[version]), NOTHING_REVOKED, first).revocation, [key_of(first)]
    )
    other = replace(REVOCATION, generation=REVOCATION.generation + 1)
    with pytest.raises(Rollback):
        accept(other, revoked, second)
    key = (records.PUBLIC_KEY, 1, hashlib.sha256(key_of(first)).digest())
    revoked = revoked.after(accept(replace(other, items=[key]), revoked, second).revocation, [key_of(second)])
    assert revoked.items == {Item(*version), Item(*key)}
    assert list(revoked.counting()) == [Accepted(other.generation, NO_END, frozenset([Item(*key)]))]
    with pytest.raises(IsRevoked):
        accept(other, revoked, first)


@dataclass(frozen=True)
class ByVolume:
    """What a client keeps: it differs from volume to volume."""

    revoked: dict[bytes, Revoked]

    def of(self, volume: bytes) -> Revoked:
        return self.revoked.get(volume, NOTHING_REVOKED)


@pytest.mark.spec("fim-rev-13")
def test_a_revocation_holds_for_its_volume_alone() -> None:
    """A first use, at which the volume is known only from the record."""
    one = signer()
    kept = ByVolume({VOLUME: Revoked(frozenset([key_item(key_of(one), 1)]))})
    trust = [TrustEntry(one.der)]
    with pytest.raises(IsRevoked):
        verify_record(signed(Statement(), one), EXPECTED, Verifier(trust, {}, NOW, revoked=kept))
    verify_record(signed(Statement(volume=bytes(16)), one), EXPECTED, Verifier(trust, {}, NOW, revoked=kept))


@pytest.mark.spec("fim-rev-12")
@given(st.data())
def test_what_is_kept_of_several_revocations(data: st.DataObject) -> None:
    """The union of all items; the latest generation of a key that is not revoked."""
    keys = [b"key %d" % i for i in range(3)]
    possible = [key_item(key, 1) for key in keys] + [Item(VERSION, 1, bytes([i]) * 32) for i in range(3)]
    revoked, seen, last = NOTHING_REVOKED, set[Item](), dict[bytes, Revocation]()
    for generation in range(data.draw(st.integers(0, 6))):
        items = data.draw(st.sets(st.sampled_from(possible)))
        by = data.draw(st.sets(st.sampled_from(keys), min_size=1))
        when = When(generation, 0, data.draw(st.integers(0, NO_END)))
        statement = Revocation(VOLUME, b"l", when, tuple(sorted(items)))
        revoked = revoked.after(statement, by)
        seen |= items
        last |= dict.fromkeys(by, statement)
    assert revoked.items == seen
    live = [statement for key, statement in last.items() if key_item(key, 1) not in seen]
    assert revoked.not_after == (max(live, key=lambda s: s.when.generation).when.not_after if live else NO_END)


SIGNERS = {name: signer(name=name) for name in ("first", "second", "third")}
LAST = 2**64 - 2


@st.composite
def versions(draw: st.DrawFn) -> tuple[Version, bytes]:
    """A statement as the oracle sees it, and its record. Files are told apart by their mtime."""
    by = draw(st.sets(st.sampled_from(sorted(SIGNERS)), min_size=1, max_size=2))
    generation = draw(st.sampled_from([1, 2, 3, LAST]))
    issued = draw(st.sampled_from([NOW, NOW, NOW + 300, NOW + 301]))
    not_after = draw(st.sampled_from([NO_END, NO_END, NOW, NOW - 1]))
    statement = Statement(
        generation=generation, issued=issued, not_after=not_after, seconds=draw(st.sampled_from([1, 2]))
    )
    named: frozenset[tuple[str, str]] | None = None
    if draw(st.booleans()):
        named = frozenset(draw(st.sets(st.sampled_from([*(("key", name) for name in SIGNERS), *FILES]), max_size=2)))
        statement = replace(statement, kind=records.REVOCATION, items=sorted(map(item_of, named)))
    version = Version(name_of(statement), frozenset(by), generation, issued, not_after, named)
    return version, signed(statement, *(SIGNERS[name] for name in sorted(by)))


def name_of(statement: Statement) -> str:
    return hashlib.sha256(statement.encode()).hexdigest()


FILES = [("version", name_of(Statement(generation=generation, issued=NOW, seconds=1))) for generation in (1, LAST)]


def item_of(named: tuple[str, str]) -> tuple[int, int, bytes]:
    what, which = named
    if what == "version":
        return records.VERSION, 1, bytes.fromhex(which)
    return records.PUBLIC_KEY, 1, hashlib.sha256(key_of(SIGNERS[which])).digest()


@pytest.mark.spec("fim-mark-7", "fim-mark-8", "fim-rev-6", "fim-rev-7", "fim-rev-8", "fim-rev-10", "fim-rev-12")
@settings(max_examples=300)
@given(st.lists(versions(), max_size=8))
def test_any_statements_one_after_the_other(given: list[tuple[Version, bytes]]) -> None:
    """The oracle keeps its whole history, we the marks and the latest revocations."""
    theirs = Reader(NOW)
    ours = Remembering([TrustEntry(one.der) for one in SIGNERS.values()], EXPECTED, NOW)
    for version, record in given:
        judge = ours.verify if version.items is None else ours.revoke
        assert judge(record) == theirs.judge(version), version


def test_a_revocation_is_about_its_volume_and_no_content() -> None:
    one = signer()
    verified = accept(REVOCATION, NOTHING_REVOKED, one)
    assert (verified.volume, verified.path, verified.when.generation) == (VOLUME, b"", REVOCATION.generation)
    assert verified.tag == tag_of(REVOCATION.encode(), 1)
    with pytest.raises(ValueError, match="not about a file"):
        _ = verified.file
    file = verify_record(signed(Statement(), one), EXPECTED, Verifier([TrustEntry(one.der)], {}, NOW))
    with pytest.raises(ValueError, match="not a revocation"):
        _ = file.revocation
