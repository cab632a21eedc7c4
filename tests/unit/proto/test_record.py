# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nfsverity_proto.errors import Malformed
from nfsverity_proto.record import (
    Attestation,
    Fingerprint,
    Record,
    Signature,
    decode_record,
    encode_record,
    fingerprint_of,
    signature_attestation,
    signature_of,
    signed_bytes,
)
from oracle import merkle, records, signers

uints = st.integers(0, 2**32 - 1)
lengths = {number: len(digest(b"")) for number, (_, digest) in merkle.HASHES.items()} | {11: 48, 12: 64}


@st.composite
def fingerprints(draw: st.DrawFn) -> tuple[int, bytes]:
    number = draw(st.sampled_from(list(lengths)) | uints.filter(lambda n: n not in lengths))
    length = lengths.get(number) or draw(st.integers(0, 64))
    return number, draw(st.binary(min_size=length, max_size=length))


signatures = st.tuples(fingerprints(), uints, st.binary(max_size=100))
others = st.tuples(uints.filter(lambda type: type not in (1, 2)), st.binary(max_size=100))
attestations = st.lists(
    others | signatures.map(lambda s: (records.SIGNATURE, records.signature(*s[0], s[1], s[2]))),
    min_size=1,
    max_size=8,
    unique=True,
).map(sorted)


@given(st.binary(max_size=200), attestations)
def test_records_are_encoded_as_the_draft_says_and_decoded_again(
    statement: bytes, attested: list[tuple[int, bytes]]
) -> None:
    data = records.record(statement, attested)
    value = Record(statement, tuple(Attestation(type, body) for type, body in attested))
    assert encode_record(statement, list(reversed(value.attestations))) == data
    for form in (data, bytearray(data), memoryview(data)):
        assert decode_record(form) == value


@given(fingerprints(), uints, st.binary(max_size=8192))
def test_signatures_and_what_is_signed(signer: tuple[int, bytes], scheme: int, value: bytes) -> None:
    signature = Signature(Fingerprint(*signer), scheme, value)
    attestation = signature_attestation(signature)
    assert attestation == Attestation(records.SIGNATURE, records.signature(*signer, scheme, value))
    assert signature_of(attestation) == signature
    assert signed_bytes(signature.signer, scheme, value) == records.signed_bytes(*signer, scheme, value)


@pytest.mark.spec("fim-signed-1")
def test_what_is_signed_begins_with_109_bytes_that_are_no_xdr() -> None:
    whole = signed_bytes(Fingerprint(1, bytes(32)), 0x0807, b"statement")
    assert whole[:64] == b" " * 64
    assert whole[:109].index(b"\0") == 108
    assert whole[109:] == records.fingerprint(1, bytes(32)) + b"\0\0\x08\x07" + b"\0\0\0\x09statement\0\0\0"


@pytest.mark.spec("fim-dec-1")
@given(st.binary(max_size=60), attestations, st.data())
def test_other_encodings_are_malformed(
    statement: bytes, attested: list[tuple[int, bytes]], data: st.DataObject
) -> None:
    whole = records.record(statement, attested)
    with pytest.raises(Malformed):
        decode_record(whole[: data.draw(st.integers(0, len(whole) - 1))])
    with pytest.raises(Malformed):
        decode_record(whole + data.draw(st.binary(min_size=1, max_size=8)))


@given(st.binary(max_size=60), attestations, st.data())
def test_a_changed_record_is_malformed_or_another_one(
    statement: bytes, attested: list[tuple[int, bytes]], data: st.DataObject
) -> None:
    whole = records.record(statement, attested)
    changed = bytearray(whole)
    changed[data.draw(st.integers(0, len(changed) - 1))] ^= data.draw(st.integers(1, 255))
    try:
        other = decode_record(changed)
    except Malformed:
        return
    assert other != decode_record(whole)
    assert encode_record(other.statement, list(other.attestations)) == changed


@given(st.binary(max_size=200))
def test_any_bytes_decode_or_raise_the_one_error(data: bytes) -> None:
    try:
        record = decode_record(data)
    except Malformed:
        return
    assert encode_record(record.statement, list(record.attestations)) == data


def signature(**changes: object) -> tuple[int, bytes]:
    fields = {"hash": 1, "digest": bytes(32), "scheme": 0x0807, "value": bytes(64)} | changes
    return records.SIGNATURE, records.signature(**fields)  # type: ignore[arg-type]


@pytest.mark.spec("fim-rec-1", "fim-rec-2", "fim-dec-1", "fim-dec-4")
@pytest.mark.parametrize(
    "attested",
    [
        [],
        [(3, bytes([n])) for n in range(9)],
        [(4, b""), (3, b"")],
        [(3, b"b"), (3, b"a")],
        [(3, b"a"), (3, b"a")],
        [(3, b"ab"), (3, b"a")],
        [(3, bytes(61_441))],
        [(records.SIGNATURE, b"")],
        [(records.SIGNATURE, signature()[1][:-4])],
        [(records.SIGNATURE, signature()[1] + bytes(4))],
        [signature(digest=bytes(31))],
        [signature(digest=bytes(65), hash=99)],
        [signature(value=bytes(8193))],
        [signature(hash=7)],
        [signature(), signature(hash=7), (3, b"")],
    ],
    ids=[
        "none",
        "nine",
        "types descend",
        "bodies descend",
        "repeated",
        "a prefix after what it begins",
        "too long a body",
        "an empty signature",
        "a signature cut short",
        "a signature extended",
        "a digest too short",
        "a digest beyond its bound",
        "a value beyond its bound",
        "a digest of another hash",
        "one of several",
    ],
)
def test_attestations_that_break_their_rules_are_malformed(attested: list[tuple[int, bytes]]) -> None:
    with pytest.raises(Malformed):
        decode_record(records.record(b"statement", attested))


@pytest.mark.spec("fim-rec-3", "fim-rec-5")
def test_attestations_of_any_other_type_are_kept_as_they_are() -> None:
    record = decode_record(records.record(b"statement", [(0, b"?"), signature(), (3, bytes(61_440 - 5000)), (99, b"")]))
    assert [attestation.type for attestation in record.attestations] == [0, 1, 3, 99]


@pytest.mark.spec("fim-dec-2")
def test_the_bound_of_a_record_is_checked_first() -> None:
    def record(length: int) -> bytes:
        return records.record(bytes(4096), [(3, bytes(61_440 - 4096 - 28 + length))])

    at = next(length for length in range(0, 8192, 4) if len(record(length)) == 65_536)
    assert len(decode_record(record(at)).attestations) == 1
    with pytest.raises(Malformed, match="65540 bytes; 65536 are allowed"):
        decode_record(record(at + 4))
    with pytest.raises(Malformed, match="100000 bytes"):
        decode_record(b"\xff" * 100_000)
    with pytest.raises(ValueError, match="65540"):
        encode_record(bytes(4096), [Attestation(3, record(at + 4)[4096 + 16 :])])


@pytest.mark.spec("fip-status-5")
@pytest.mark.parametrize("number", list(lengths))
def test_a_fingerprint_has_the_length_of_its_hash(number: int) -> None:
    for length in {0, 31, 33, 47, 63, 64} - {lengths[number]}:
        with pytest.raises(ValueError, match=f"{length} bytes"):
            Fingerprint(number, bytes(length))


@pytest.mark.spec("fim-rec-7", "fim-hash-4")
@pytest.mark.parametrize("number", list(merkle.HASHES))
def test_the_fingerprint_of_a_certificate(number: int) -> None:
    der = signers.signer().der
    fingerprint = fingerprint_of(der, number)
    assert fingerprint == Fingerprint(number, merkle.HASHES[number][1](der))
    assert str(fingerprint) == fingerprint.digest.hex()
    assert fingerprint_of(der) == fingerprint_of(der, 1)


def test_a_record_with_ed25519_and_a_path_of_40_bytes_has_at_most_320_bytes() -> None:
    statement = records.Statement()
    assert len(statement.path) == 40
    assert len(signers.signed(statement)) <= 320
