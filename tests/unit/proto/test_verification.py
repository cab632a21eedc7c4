# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""What the draft's table of changes does not have: several attestations, CAs, and faults at several steps."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence
from typing import Any

import pytest
from cryptography import x509

from nfsverity_proto import signers as proto_signers
from nfsverity_proto.errors import RecordExpired, VerificationError
from nfsverity_proto.record import Fingerprint, decode_record, encode_record
from nfsverity_proto.signers import signers_to_fetch
from nfsverity_proto.statement import Content, File, Statement
from nfsverity_proto.trust import TrustEntry
from nfsverity_proto.verification import Verified, check_identity, verify_record
from nfsverity_proto.verifier import Algorithms, Certificates, Expected, Verifier
from oracle import merkle, records, signers
from oracle.signers import ECDSA_P256, ED25519, NOT_AFTER, NOT_BEFORE, NOW, Signer, common_name, signed, signer

BASE = records.Statement()
ML_DSA = 0x0905
URL = "nfsv://host:7447/docs/file"


def verify(
    data: bytes | None,
    *trust: TrustEntry,
    certificates: Certificates | None = None,
    now: int = NOW,
    url: str | None = URL,
    algorithms: Algorithms | None = None,
    path: bytes = BASE.path,
    volumes: frozenset[bytes] | None = frozenset({BASE.volume}),
) -> Verified:
    expected = Expected(path, volumes, url)
    return verify_record(data, expected, Verifier(trust, certificates or {}, now, algorithms or Algorithms()))


def verdict(*arguments: Any, **options: Any) -> str:
    try:
        verify(*arguments, **options)
    except VerificationError as error:
        return error.verdict
    return "verified"


def pin(one: Signer, **parts: Any) -> TrustEntry:
    return TrustEntry(one.der, **parts)


def record(*attestations: tuple[int, bytes], statement: records.Statement = BASE) -> bytes:
    return records.record(statement.encode(), sorted(attestations))


# What comes out


@pytest.mark.parametrize("scheme", list(signers.KEYS), ids=hex)
@pytest.mark.parametrize("hash", list(merkle.HASHES))
def test_a_record_under_every_scheme_and_hash(scheme: int, hash: int) -> None:
    digest = merkle.HASHES[hash][1]
    statement = dataclasses.replace(BASE, hash=hash, root=digest(b"root"))
    one = signer(scheme)
    data = signed(statement, one)
    verified = verify(data, pin(one))
    assert verified.data == data
    assert (verified.tag.hash, verified.tag.digest) == (hash, digest(statement.encode()))
    assert verified.file.path == BASE.path
    assert verified.content.tree.root == statement.root
    assert [(found.certificate.der, found.scheme) for found in verified.signers] == [(one.der, scheme)]


def test_a_record_may_be_given_in_any_buffer() -> None:
    data = signed(BASE)
    for form in (bytearray(data), memoryview(data)):
        assert verify(form, pin(signer())).data == data  # type: ignore[arg-type]


@pytest.mark.spec("fim-rec-7")
@pytest.mark.parametrize("hash", list(merkle.HASHES))
def test_a_signer_may_be_named_under_every_hash(hash: int) -> None:
    one, statement = signer(), BASE.encode()
    digest = merkle.HASHES[hash][1](one.der)
    value = signers.sign(one.key, records.signed_bytes(hash, digest, ED25519, statement))
    assert verdict(record((1, records.signature(hash, digest, ED25519, value))), pin(one)) == "verified"


@pytest.mark.spec("fim-tag-1", "fim-rec-6")
def test_a_signature_beside_another_makes_another_record_of_the_same_version() -> None:
    one, other = signer(), signer(ML_DSA)
    alone, both = verify(signed(BASE, one), pin(one)), verify(signed(BASE, one, other), pin(one))
    assert alone.data != both.data
    assert alone.tag == both.tag
    assert verify(signed(dataclasses.replace(BASE, generation=1), one), pin(one)).tag != alone.tag


@pytest.mark.spec("fim-rest-1")
def test_a_record_may_be_written_anew_with_fewer_or_more_attestations() -> None:
    one, other = signer(), signer(ML_DSA)
    whole = signed(BASE, one, other)
    both = decode_record(whole)
    for kept, gone in ((one, other), (other, one)):
        attestations = [each for each in both.attestations if kept.digest in each.body]
        data = encode_record(both.statement, attestations)
        assert data == records.record(BASE.encode(), [(1, each.body) for each in attestations])
        assert (verdict(data, pin(kept)), verdict(data, pin(gone))) == ("verified", "untrusted")
    assert encode_record(both.statement, list(reversed(both.attestations))) == whole


# Several attestations (steps 6 to 9)


@pytest.mark.spec("fim-ver-5", "fim-rec-3", "fim-rec-5")
@pytest.mark.parametrize(
    "other",
    [
        (0, b""),
        (3, b"anything"),
        (2**32 - 1, b"\xff" * 100),
        (1, records.signature(1, bytes(32), 0x0999, b"a scheme of the future")),
        (1, records.signature(99, b"short", ED25519, bytes(64))),
        (1, records.signature(2, bytes(16), ED25519, bytes(64))),
        (1, records.signature(1, bytes(32), ED25519, bytes(64))),
        (1, records.signature(1, signer().digest, ED25519, bytes(64))),
        (1, records.signature(1, signer().digest, ECDSA_P256, bytes(64))),
    ],
    ids=[
        "type 0",
        "type 3",
        "another type",
        "unknown scheme",
        "unknown hash",
        "truncated hash",
        "unknown signer",
        "bad signature",
        "scheme of another key",
    ],
)
def test_one_attestation_that_passes_is_enough_whatever_the_others_are(other: tuple[int, bytes]) -> None:
    verified = verify(record(signer().attestation(BASE.encode()), other), pin(signer()))
    assert len(verified.signers) == 1


@pytest.mark.spec("fim-ver-5")
def test_two_signatures_of_two_schemes_stand_for_each_other() -> None:
    one, other = signer(), signer(ML_DSA)
    data = signed(BASE, one, other)
    assert len(verify(data, pin(one), pin(other)).signers) == 2
    assert [found.certificate.der for found in verify(data, pin(other)).signers] == [other.der]
    only_classical = Algorithms(schemes=frozenset({ED25519}))
    assert [found.scheme for found in verify(data, pin(one), pin(other), algorithms=only_classical).signers] == [
        ED25519
    ]


UNKNOWN_TYPE = (7, b"x")  # step 6


def failing(step: int) -> tuple[int, bytes]:
    """An attestation that fails at a step, under the entries of `FAILING`."""
    one = {7: signer(name="stranger"), 8: signer(name="other key"), 9: signer(name="pinned")}.get(step)
    if one is None:
        return UNKNOWN_TYPE
    if step == 8:  # an Ed25519 certificate, and an ECDSA scheme
        return one.attestation(BASE.encode(), scheme=ECDSA_P256, value=b"x")
    return one.attestation(BASE.encode(), value=bytes(64))


FAILING = [pin(signer(name="other key")), pin(signer(name="pinned"))]
AT_STEP = {6: "unsupported", 7: "untrusted", 8: "bad-certificate", 9: "bad-signature"}


@pytest.mark.spec("fim-ver-6")
@pytest.mark.parametrize("steps", [s for n in (1, 2, 3, 4) for s in itertools.combinations(AT_STEP, n)])
def test_the_attestation_that_got_furthest_is_reported(steps: tuple[int, ...]) -> None:
    assert verdict(record(*map(failing, steps)), *FAILING) == AT_STEP[max(steps)]


@pytest.mark.spec("fim-ver-6")
def test_of_several_that_got_as_far_the_first_in_the_record_is_reported() -> None:
    one, other = sorted([signer(name="a"), signer(name="b")], key=lambda signer: signer.digest)
    late = {"not_before": NOW + 10}
    expired, early = renewed(one, not_after=NOW - 10), renewed(other, **late)
    data = record(*(each.attestation(BASE.encode()) for each in (expired, early)))
    in_order = [found for found in decode_order(data) if found in (expired.digest, early.digest)]
    expected = "expired" if in_order[0] == expired.digest else "not-yet-valid"
    assert verdict(data, pin(expired), pin(early)) == expected
    assert verdict(data, pin(early), pin(expired)) == expected


def renewed(one: Signer, **options: Any) -> Signer:
    """The same key, with another certificate."""
    der = signers.certificate(one.key.public_key(), common_name("renewed"), one.key, signs=True, **options)
    return Signer(one.key, one.scheme, der)


def decode_order(data: bytes) -> list[bytes]:
    return [attestation.body[8:40] for attestation in decode_record(data).attestations]


# What is signed (step 9)


@pytest.mark.spec("fim-signed-1", "fim-signed-2")
def test_a_signature_cannot_be_given_to_another_certificate_of_its_key() -> None:
    one = signer()
    other = renewed(one)
    message = records.signed_bytes(1, one.digest, ED25519, BASE.encode())
    moved = records.signature(1, other.digest, ED25519, signers.sign(one.key, message))
    assert verdict(record((1, moved)), pin(other)) == "bad-signature"
    assert verdict(record(other.attestation(BASE.encode())), pin(other)) == "verified"


@pytest.mark.spec("fim-signed-1")
@pytest.mark.parametrize("label", [b"", b" " * 64, b" " * 64 + b"File Integrity Metadata, statement, format 2\0"])
def test_a_signature_over_other_bytes_is_a_bad_one(label: bytes) -> None:
    one, statement = signer(), BASE.encode()
    whole = records.signed_bytes(1, one.digest, ED25519, statement)
    value = signers.sign(one.key, label + whole[109:])
    assert verdict(record(one.attestation(statement, value=value)), pin(one)) == "bad-signature"
    bare = signers.sign(one.key, statement)
    assert verdict(record(one.attestation(statement, value=bare)), pin(one)) == "bad-signature"


# Signers and certificates (steps 7 and 8)


CA_SUBJECT = common_name("root")


def under_ca(
    scheme: int = ED25519,
    *,
    root: str = "root",
    subject: x509.Name | None = None,
    intermediates: int = 1,
    **options: Any,
) -> tuple[Signer, list[bytes], bytes]:
    """A signer, what leads from its certificate to a CA, and that of the CA."""
    key, issuer = signers.key(ECDSA_P256, root), common_name(root)
    top = signers.certificate(key.public_key(), issuer, key, ca=True)
    between: list[bytes] = []
    for at in range(intermediates):
        next_key, name = signers.key(ECDSA_P256, f"{root} {at}"), common_name(f"{root} {at}")
        between.insert(0, signers.certificate(next_key.public_key(), name, key, issuer, ca=True))
        key, issuer = next_key, name
    private = signers.key(scheme, "employee")
    name = subject or signers.name_of((x509.NameOID.ORGANIZATION_NAME, "Example"), (x509.NameOID.COMMON_NAME, "Eve"))
    usage = {"signs": True} | options
    leaf = Signer(private, scheme, signers.certificate(private.public_key(), name, key, issuer, **usage))
    return leaf, between, top


def ca_entry(der: bytes, subject: str = "O=Example", **parts: Any) -> TrustEntry:
    scope = {"volumes": (BASE.volume,)} if "prefixes" not in parts and "volumes" not in parts else {}
    return TrustEntry(der, ca=True, subject=subject, **scope | parts)


def fetched(one: Signer, along: Sequence[bytes], hash: int = 1) -> Certificates:
    return {Fingerprint(hash, merkle.HASHES[hash][1](one.der)): (one.der, *along)}


@pytest.mark.spec("fim-cert-10")
@pytest.mark.parametrize("scheme", list(signers.KEYS), ids=hex)
def test_a_signer_under_a_ca(scheme: int) -> None:
    one, along, top = under_ca(scheme)
    verified = verify(signed(BASE, one), ca_entry(top), certificates=fetched(one, along))
    assert verified.signers[0].certificate.subject == "CN=Eve,O=Example"
    assert verified.signers[0].entry.ca


def test_a_signer_under_a_ca_needs_its_certificate() -> None:
    one, along, top = under_ca()
    data = signed(BASE, one)
    assert verdict(data, ca_entry(top)) == "no-certificate"
    assert verdict(data, ca_entry(top), certificates={Fingerprint(1, one.digest): ()}) == "no-certificate"
    assert verdict(data, ca_entry(top), certificates=fetched(one, [])) == "bad-certificate"
    assert verdict(data, ca_entry(top), certificates=fetched(one, along)) == "verified"


@pytest.mark.spec("fim-cert-1", "fip-cert-5")
def test_a_certificate_is_the_one_that_the_fingerprint_names() -> None:
    one, along, top = under_ca()
    other, _, _ = under_ca(ECDSA_P256)
    again, _, _ = under_ca()  # all the same, but for its serial number
    assert verdict(signed(BASE, again), ca_entry(top), certificates=fetched(again, along)) == "verified"
    for der in (again.der, other.der, b"", one.der[:-1], one.der + b"\0"):
        found = {Fingerprint(1, one.digest): (der, *along)}
        assert verdict(signed(BASE, one), ca_entry(top), certificates=found) == "bad-certificate"


@pytest.mark.spec("fim-cert-2", "fip-cert-6", "fip-cert-7")
def test_a_certificate_that_came_along_makes_no_trust() -> None:
    one, along, top = under_ca()
    found = fetched(one, [*along, top])
    assert verdict(signed(BASE, one), certificates=found) == "untrusted"
    assert verdict(signed(BASE, one), pin(signer(name="other")), certificates=found) == "untrusted"
    other = under_ca(root="another root")[2]
    assert verdict(signed(BASE, one), ca_entry(other), certificates=found) == "bad-certificate"


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"not_after": NOW - 1}, "expired"),
        ({"not_before": NOW + 1}, "not-yet-valid"),
        ({"signs": False}, "wrong-usage"),
        ({"signs": None}, "wrong-usage"),
        ({"purposes": None}, "wrong-usage"),
        ({"purposes": (signers.CODE_SIGNING,)}, "wrong-usage"),
        ({"subject": common_name("Example")}, "out-of-scope"),
        ({"not_after": NOW - 1, "signs": False}, "expired"),
        ({"not_after": NOW - 1, "subject": common_name("x")}, "expired"),
        ({"purposes": None, "subject": common_name("x")}, "wrong-usage"),
    ],
    ids=lambda value: value if isinstance(value, str) else "-".join(value),
)
def test_what_a_certificate_under_a_ca_lacks(options: dict[str, Any], expected: str) -> None:
    one, along, top = under_ca(**options)
    assert verdict(signed(BASE, one), ca_entry(top), certificates=fetched(one, along)) == expected


def test_time_and_usage_are_judged_before_the_path() -> None:
    for options, expected in (
        ({"not_after": NOW - 1}, "expired"),
        ({"purposes": None}, "wrong-usage"),
        ({}, "bad-certificate"),
    ):
        one, _, top = under_ca(**options)
        assert verdict(signed(BASE, one), ca_entry(top), certificates=fetched(one, [])) == expected


def test_the_key_is_judged_before_the_time() -> None:
    one = renewed(signer(name="expired"), not_after=NOW - 1)
    data = record(one.attestation(BASE.encode(), scheme=ECDSA_P256, value=b"x"))
    assert verdict(data, pin(one)) == "bad-certificate"


def test_any_of_several_cas_will_do() -> None:
    one, along, top = under_ca()
    other = under_ca(root="another root")[2]
    found = fetched(one, along)
    for entries in itertools.permutations([ca_entry(other), ca_entry(top, "CN=Alice"), ca_entry(top)]):
        assert verdict(signed(BASE, one), *entries, certificates=found) == "verified"
    for entries in itertools.permutations([ca_entry(other), ca_entry(top, "CN=Alice")]):
        assert verdict(signed(BASE, one), *entries, certificates=found) == "out-of-scope"
    assert verdict(signed(BASE, one), ca_entry(other), certificates=found) == "bad-certificate"


@pytest.mark.spec("fim-trust-5")
def test_a_pin_that_is_out_of_scope_is_not_replaced_by_a_ca() -> None:
    one, along, top = under_ca()
    found = fetched(one, along)
    assert verdict(signed(BASE, one), ca_entry(top), certificates=found) == "verified"
    assert (
        verdict(signed(BASE, one), ca_entry(top), pin(one, volumes=(bytes(16),)), certificates=found) == "out-of-scope"
    )
    both = verify(signed(BASE, one), ca_entry(top), pin(one), certificates=found)
    assert not both.signers[0].entry.ca


@pytest.mark.spec("fim-cert-9")
def test_the_issuer_of_a_pinned_certificate_is_not_looked_at() -> None:
    one, _, _ = under_ca(purposes=None)
    assert verdict(signed(BASE, one), pin(one)) == "verified"
    forged = bytearray(one.der)
    forged[-1] ^= 1
    unsigned = Signer(one.key, one.scheme, bytes(forged))
    assert verdict(signed(BASE, unsigned), pin(unsigned)) == "verified"


@pytest.mark.spec("fim-cert-4")
@pytest.mark.parametrize(
    ("now", "expected"),
    [
        (NOT_BEFORE - 1, "not-yet-valid"),
        (NOT_BEFORE, "verified"),
        (NOT_AFTER, "verified"),
        (NOT_AFTER + 1, "expired"),
    ],
)
def test_the_time_is_the_verifiers_and_not_that_of_the_statement(now: int, expected: str) -> None:
    statement = dataclasses.replace(BASE, issued=NOT_BEFORE)
    assert verdict(signed(statement), pin(signer()), now=now) == expected


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        ({}, "verified"),
        ({"volumes": (BASE.volume,)}, "verified"),
        ({"volumes": (bytes(16), BASE.volume)}, "verified"),
        ({"volumes": (bytes(16),)}, "out-of-scope"),
        ({"prefixes": ("nfsv://host:7447/docs",)}, "verified"),
        ({"prefixes": ("nfsv://host:7447/doc",)}, "out-of-scope"),
        ({"prefixes": ("nfsv://host:7447/docs",), "volumes": (bytes(16),)}, "out-of-scope"),
        ({"schemes": (ED25519,)}, "verified"),
        ({"schemes": (ECDSA_P256, ML_DSA)}, "out-of-scope"),
        ({"subject": "CN=example"}, "verified"),
        ({"subject": "CN=other"}, "out-of-scope"),
    ],
)
def test_the_scope_of_an_entry(parts: dict[str, Any], expected: str) -> None:
    assert verdict(signed(BASE), pin(signer(), **parts)) == expected
    assert verdict(signed(BASE), pin(signer(), **parts), pin(signer())) == "verified"
    one, along, top = under_ca()
    if "subject" not in parts:
        scope = {"volumes": (BASE.volume,)} | parts if not {"volumes", "prefixes"} & set(parts) else parts
        assert verdict(signed(BASE, one), ca_entry(top, **scope), certificates=fetched(one, along)) == expected


@pytest.mark.spec("fim-trust-4")
def test_a_file_without_a_url_is_in_the_scope_of_no_prefix() -> None:
    assert verdict(signed(BASE), pin(signer(), prefixes=("nfsv://host:7447/",)), url=None) == "out-of-scope"


def test_a_pin_that_is_no_certificate_is_a_bad_one() -> None:
    junk = Signer(signer().key, ED25519, b"no certificate")
    for entry in (pin(junk), pin(junk, subject="CN=x")):
        assert verdict(signed(BASE, junk), entry) == "bad-certificate"
    assert verdict(signed(BASE, junk), pin(junk, volumes=(bytes(16),))) == "out-of-scope"


def test_an_unknown_signer_is_named_by_its_subject_where_its_certificate_is_there() -> None:
    one = signer(name="Mallory")
    with pytest.raises(VerificationError, match="Mallory"):
        verify(signed(BASE, one), certificates=fetched(one, []))
    with pytest.raises(VerificationError, match=one.digest.hex()):
        verify(signed(BASE, one))


# How many signers (step 10)


@pytest.mark.spec("fim-trust-8")
@pytest.mark.parametrize(
    ("needed", "present", "expected"), [(1, 1, True), (2, 1, False), (2, 2, True), (3, 2, False), (3, 3, True)]
)
def test_k_of_n_signers(needed: int, present: int, expected: bool) -> None:
    everyone = [signer(), signer(ECDSA_P256), signer(ML_DSA)]
    data = signed(BASE, *everyone[:present])
    found = verdict(data, *(pin(one, signers=needed) for one in everyone))
    assert found == ("verified" if present >= needed else "too-few-signers")


@pytest.mark.spec("fim-trust-7")
def test_an_entry_is_satisfied_even_if_its_own_signer_is_not_there() -> None:
    one, strict = signer(), signer(ECDSA_P256)
    assert verdict(signed(BASE, one), pin(one), pin(strict, signers=2)) == "too-few-signers"
    assert verdict(signed(BASE, one, strict), pin(one), pin(strict, signers=2)) == "verified"
    elsewhere = pin(strict, signers=2, volumes=(bytes(16),))
    assert verdict(signed(BASE, one), pin(one), elsewhere) == "verified"
    other_place = pin(strict, signers=2, prefixes=("nfsv://elsewhere:1/",))
    assert verdict(signed(BASE, one), pin(one), other_place) == "verified"


@pytest.mark.spec("fim-trust-8")
def test_signers_are_counted_by_their_keys() -> None:
    one = signer()
    again, other = renewed(one), signer(ECDSA_P256)
    entries = [pin(each, signers=2) for each in (one, again, other)]
    assert verdict(signed(BASE, one, again), *entries) == "too-few-signers"
    assert verdict(signed(BASE, again, other), *entries) == "verified"


@pytest.mark.spec("fim-trust-8")
def test_only_those_that_passed_are_counted() -> None:
    one, other = signer(), signer(ECDSA_P256)
    bad = other.attestation(BASE.encode(), value=b"x")
    assert verdict(record(one.attestation(BASE.encode()), bad), pin(one, signers=2), pin(other)) == "too-few-signers"


# The order of the steps

FAULTS: list[tuple[str, dict[str, Any]]] = [
    ("wrong-kind", {"kind": records.CONTENT}),
    ("wrong-volume", {"volume": bytes(16)}),
    ("wrong-path", {"path": b"elsewhere"}),
    ("unknown-extension", {"extensions": [(1, 1, b"")]}),
    ("refused-algorithm", {"hash": 3}),
    ("unsupported", {"tree_type": 77}),
    ("refused-algorithm", {"unit_log2": 13}),
    ("bad-signature", {}),
    ("too-few-signers", {}),
    ("issued-in-future", {"issued": NOW + 301}),
    ("record-expired", {"not_after": NOW - 1}),
]
"""Verdicts in the order of their checks, and what brings each about in the statement."""


@pytest.mark.spec("fim-ver-4")
@pytest.mark.parametrize("first_fault", range(len(FAULTS)), ids=[f"{at}-{name}" for at, (name, _) in enumerate(FAULTS)])
def test_the_first_check_that_fails_is_reported_whatever_fails_after_it(first_fault: int) -> None:
    chosen = FAULTS[first_fault:]
    statement = dataclasses.replace(BASE, **{field: value for _, fault in chosen for field, value in fault.items()})
    names = [name for name, _ in chosen]
    value = bytes(64) if "bad-signature" in names else None
    data = record(signer().attestation(statement.encode(), value=value), statement=statement)
    entry = pin(signer(), signers=2 if "too-few-signers" in names else 1)
    units = frozenset(Algorithms().unit_log2s - {13})
    assert verdict(data, entry, algorithms=Algorithms(unit_log2s=units)) == names[0]


@pytest.mark.spec("fim-ver-4")
def test_the_checks_of_an_attestation_come_in_their_order() -> None:
    """Type, scheme, hash truncated, hash known, scheme accepted, signer, scope, certificate."""
    few = Algorithms(schemes=frozenset({ECDSA_P256}))
    body = records.signature
    cases = [
        ((9, body(2, b"", 0x999, b"")), "unsupported"),
        ((1, body(2, b"", 0x999, b"")), "unsupported"),
        ((1, body(2, b"", ED25519, b"")), "refused-algorithm"),
        ((1, body(99, b"", ED25519, b"")), "unsupported"),
        ((1, body(1, bytes(32), ED25519, b"")), "refused-algorithm"),
        ((1, body(1, bytes(32), ECDSA_P256, b"")), "untrusted"),
        ((1, body(1, signer().digest, ECDSA_P256, b"")), "bad-certificate"),
    ]
    for attestation, expected in cases:
        assert verdict(record(attestation), pin(signer()), algorithms=few) == expected
    out = pin(signer(), volumes=(bytes(16),))
    assert verdict(record((1, body(1, signer().digest, ECDSA_P256, b""))), out) == "out-of-scope"


@pytest.mark.spec("fim-dec-4", "fim-kind-2")
def test_the_whole_record_is_decoded_before_the_statement_is_looked_at() -> None:
    for statement in (dataclasses.replace(BASE, format=2), dataclasses.replace(BASE, kind=records.CONTENT)):
        data = records.record(statement.encode(), [(1, b"no signature")])
        assert verdict(data, pin(signer())) == "malformed"
        cut = records.record(statement.encode()[:16] + b"\xff" * 7, [signer().attestation(BASE.encode())])
        assert verdict(cut, pin(signer())) == ("unsupported" if statement.format == 2 else "wrong-kind")


@pytest.mark.parametrize(("issued", "expected"), [(NOW + 300, "verified"), (NOW + 301, "issued-in-future")])
def test_a_statement_may_be_300_seconds_ahead(issued: int, expected: str) -> None:
    assert verdict(signed(dataclasses.replace(BASE, issued=issued)), pin(signer())) == expected


@pytest.mark.spec("fim-kind-1")
def test_a_record_of_kind_content_is_not_that_of_a_file() -> None:
    assert verdict(signed(dataclasses.replace(BASE, kind=records.CONTENT)), pin(signer())) == "wrong-kind"


@pytest.mark.spec("fim-path-5", "fim-rest-2")
@pytest.mark.parametrize("path", [BASE.path.upper(), BASE.path + b"/", b"/" + BASE.path, b"e\xcc\x81"])
def test_paths_are_compared_byte_for_byte(path: bytes) -> None:
    assert verdict(signed(BASE), pin(signer()), path=path) == "wrong-path"
    composed = dataclasses.replace(BASE, path=b"\xc3\xa9")
    assert verdict(signed(composed), pin(signer()), path=path) == "wrong-path"
    assert verdict(signed(composed), pin(signer()), path=b"\xc3\xa9") == "verified"


def test_one_of_several_expected_volumes_will_do() -> None:
    both = frozenset({BASE.volume, bytes(16)})
    assert verdict(signed(BASE), pin(signer()), volumes=both) == "verified"
    assert verdict(signed(BASE), pin(signer()), volumes=frozenset()) == "wrong-volume"


def test_an_error_says_what_was_expected_and_found() -> None:
    with pytest.raises(VerificationError) as caught:
        verify(signed(BASE), pin(signer()), volumes=frozenset({bytes(16)}))
    assert (caught.value.expected, caught.value.found) == (bytes(16).hex(), BASE.volume.hex())
    with pytest.raises(VerificationError) as caught:
        verify(signed(BASE), pin(signer()), path=b"\xff\n")
    assert caught.value.expected == "\\xff\\x0a"


@pytest.mark.spec("fim-fsv-2")
@pytest.mark.parametrize("hash", [number for number in merkle.HASHES if number not in (1, 8)])
def test_tree_type_2_is_not_known_for_other_hashes(hash: int) -> None:
    root = merkle.HASHES[hash][1](b"root")
    assert verdict(signed(dataclasses.replace(BASE, hash=hash, root=root, tree_type=2)), pin(signer())) == "unsupported"


# What is fetched


def test_the_certificates_that_no_pin_provides_are_fetched_once_each() -> None:
    one, other = signer(), signer(ECDSA_P256)
    statement = BASE.encode()
    unknown = (1, records.signature(99, b"x", ED25519, b""))
    data = record(
        one.attestation(statement),
        other.attestation(statement),
        other.attestation(statement, value=b"x"),
        unknown,
        (3, b""),
    )
    decoded = decode_record(data)
    assert set(signers_to_fetch(decoded, [])) == {Fingerprint(1, one.digest), Fingerprint(1, other.digest)}
    assert len(signers_to_fetch(decoded, [])) == 2
    assert signers_to_fetch(decoded, [pin(one)]) == [Fingerprint(1, other.digest)]
    assert signers_to_fetch(decoded, [pin(one), pin(other)]) == []


# Misuse


def test_only_files_have_an_identity() -> None:
    verified = verify(signed(BASE), pin(signer()))
    content = Statement(1, verified.content)
    assert isinstance(verified.statement.claim, File)
    assert isinstance(content.claim, Content)
    with pytest.raises(ValueError, match="identity"):
        check_identity(content, Expected(b"x", None))
    with pytest.raises(ValueError, match="content has no identity"):
        _ = dataclasses.replace(verified, statement=content).file


@pytest.mark.spec("fim-ver-7")
def test_each_signature_is_checked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    checked: list[bytes] = []
    original = proto_signers.check_signature

    def count(scheme: Any, public_key: Any, value: bytes, message: bytes) -> None:
        checked.append(value)
        original(scheme, public_key, value, message)

    monkeypatch.setattr(proto_signers, "check_signature", count)
    one, other = signer(), signer(ECDSA_P256)
    verify(signed(BASE, one, other), pin(one), pin(other), pin(one, signers=2))
    assert len(checked) == len(set(checked)) == 2


def test_times_are_told_as_people_read_them() -> None:
    one = signer()
    with pytest.raises(RecordExpired) as caught:
        verify(signed(dataclasses.replace(BASE, not_after=NOW - 1), one), pin(one))
    assert caught.value.expected == "not after 2026-11-24T05:59:59Z"
    assert caught.value.found == "2026-11-24T06:00:00Z"
