# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""The verifier in C ends each change of the draft's table in the verdict of its row, as ours does.

The rows, and how they are carried out, are those of the tests of ours; the verifier shares no code with it.
"""

from __future__ import annotations

import base64
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from oracle import signers
from oracle.records import CONTENT_BYTES, Statement
from unit.proto.test_changes import ROWS, Case, changed
from vectors import der as asn1

pytestmark = [
    pytest.mark.tool("rpcgen", "gcc", library="libtirpc"),
    pytest.mark.tool(library="libcrypto"),
]

NOT_KNOWN = {65536, 2308, 2309, 2310}
"""BLAKE3 and ML-DSA, which OpenSSL 3.0 does not have: the verdict is then unsupported, as the draft allows."""
OTHERS = ("trust", "accepted", "proof", "revoked")
"""The verifier in C has pins without limits, accepts all that it knows, and needs no proof for a whole file.

What it knows as revoked it knows from revocations (test_check_revocations.py).
"""
HERE = [
    row
    for row in ROWS
    if row["id"] not in ("change-record-none", "change-expected-volume-any")
    and (not row["field"].startswith(OTHERS) or row["id"] == "change-trust-pin")
]


def pem(der: bytes) -> bytes:
    return b"-----BEGIN CERTIFICATE-----\n" + base64.encodebytes(der) + b"-----END CERTIFICATE-----\n"


class Checker:
    """The program `check`."""

    def __init__(self, program: Path, folder: Path) -> None:
        self.program = program
        self.record, self.content, self.certificate = (folder / name for name in ("record", "content", "certificate"))

    def verdict(self, record: bytes, content: bytes, volume: bytes, path: bytes, der: bytes, now: int) -> str:
        self.record.write_bytes(record)
        self.content.write_bytes(content)
        self.certificate.write_bytes(pem(der))
        words: Sequence[str | Path | bytes]
        words = [self.program, self.record, self.content, volume.hex(), path, self.certificate, str(now)]
        done = subprocess.run(words, capture_output=True, text=True, timeout=20)
        assert done.stderr == ""
        verdict = done.stdout.strip()
        assert done.returncode == (verdict != "verified")
        return verdict

    def of_case(self, case: Case) -> str:
        record = case.data()
        assert record is not None
        assert case.volumes is not None
        (volume,) = case.volumes
        (entry,) = case.trust
        return self.verdict(record, case.content, volume, case.path, entry["anchor"], case.now)

    def of_record(self, record: bytes, der: bytes) -> str:
        """With all else as in the draft's worked example."""
        return self.verdict(record, CONTENT_BYTES, Statement.volume, Statement.path, der, signers.NOW)


@pytest.fixture(scope="module")
def checker(programs: Path, tmp_path_factory: pytest.TempPathFactory) -> Checker:
    return Checker(programs / "check", tmp_path_factory.mktemp("check"))


def test_the_worked_example_verifies(checker: Checker) -> None:
    assert checker.of_case(Case()) == "verified"


@pytest.mark.spec("fim-ver-4", "fim-ver-9", "fim-dec-1", "fim-st-6", "fim-ext-2", "fim-proof-9")
@pytest.mark.parametrize("row", HERE, ids=[row["id"] for row in HERE])
@settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_change_ends_in_the_verdict_of_its_row(checker: Checker, row: dict[str, str], data: st.DataObject) -> None:
    case = changed(row, data)
    assume(b"\0" not in case.path)  # it cannot be on a command line
    unknown = NOT_KNOWN & {case.statement.hash, case.signature.get("hash"), case.signature.get("scheme")}
    assert checker.of_case(case) == ("unsupported" if unknown else row["verdict"])


# What the libraries leave open, and the draft closes


def ed25519_case(key: bytes, value: bytes) -> tuple[bytes, bytes]:
    """A record and a certificate with a public key and a signature of any bytes."""
    template = signers.signer(signers.ED25519, "example").der
    own = signers.key(signers.ED25519, "example").public_key().public_bytes_raw()
    der = template.replace(own, key)
    forged = signers.Signer(None, signers.ED25519, der)
    statement = Statement().encode()
    return signers.records.record(statement, [forged.attestation(statement, value=value)]), der


def little(text: str) -> int:
    return int.from_bytes(bytes.fromhex(text), "little")


P = 2**255 - 19
SMALL = {
    "0": 0,
    "1": 1,
    "-1": P - 1,
    "order 8": little("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"),
    "order 8 too": little("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a"),
    "p": P,
    "2^255 - 1": 2**255 - 1,
}


@pytest.mark.spec("fim-sig-4", "fim-sig-5")
@pytest.mark.parametrize("y", SMALL.values(), ids=SMALL)
@pytest.mark.parametrize("sign", [0, 1])
def test_a_weak_ed25519_key_is_refused(checker: Checker, y: int, sign: int) -> None:
    key = (y | sign << 255).to_bytes(32, "little")
    record, der = ed25519_case(key, b"\1" + bytes(63))
    assert checker.of_record(record, der) == "bad-certificate"


@pytest.mark.spec("fim-sig-6")
def test_an_s_not_below_l_is_refused(checker: Checker) -> None:
    signer = signers.signer(signers.ED25519, "example")
    statement = Statement().encode()
    value = signers.sign(signer.key, signers.records.signed_bytes(1, signer.digest, signer.scheme, statement))
    order = 2**252 + 27742317777372353535851937790883648493
    s = int.from_bytes(value[32:], "little") + order
    record, der = ed25519_case(signer.key.public_key().public_bytes_raw(), value[:32] + s.to_bytes(32, "little"))
    assert checker.of_record(record, der) == "bad-signature"


@pytest.mark.spec("fim-sig-8", "fim-sig-9")
@pytest.mark.parametrize("scheme", [signers.ECDSA_P256, signers.ECDSA_P384])
def test_an_ecdsa_signature_in_other_der_is_refused(checker: Checker, scheme: int) -> None:
    signer = signers.signer(scheme)
    statement = Statement().encode()
    value = signers.sign(signer.key, signers.records.signed_bytes(1, signer.digest, scheme, statement))
    assert value[1] < 0x80

    def verdict(value: bytes) -> str:
        record = signers.records.record(statement, [signer.attestation(statement, value=value)])
        return checker.of_record(record, signer.der)

    assert verdict(value) == "verified"
    assert verdict(value + b"\0") == "bad-signature"
    assert verdict(bytes([0x30, 0x81, value[1]]) + value[2:]) == "bad-signature"  # a length in two bytes
    padded = bytes([0x30, value[1] + 1, 2, value[3] + 1, 0]) + value[4:]  # a leading zero that is not needed
    assert verdict(padded) == "bad-signature"
    assert verdict(bytes([0x30, 6, 2, 1, 0, 2, 1, 1])) == "bad-signature"  # r = 0


@pytest.mark.spec("fim-sig-11")
@pytest.mark.parametrize("salt_length", [0, 20, 31, 33])
def test_an_rsa_signature_with_another_salt_is_refused(checker: Checker, salt_length: int) -> None:
    signer = signers.signer(signers.RSA_PSS)
    statement = Statement().encode()
    message = signers.records.signed_bytes(1, signer.digest, signer.scheme, statement)
    value = signers.sign(signer.key, message, salt_length)
    record = signers.records.record(statement, [signer.attestation(statement, value=value)])
    assert checker.of_record(record, signer.der) == "bad-signature"


@pytest.mark.spec("fim-cert-5", "fim-cert-6", "fim-cert-7", "fim-cert-8")
@pytest.mark.parametrize(
    ("options", "verdict"),
    [
        ({"signs": True}, "verified"),
        ({"signs": True, "purposes": None}, "verified"),
        ({}, "wrong-usage"),
        ({"signs": False}, "wrong-usage"),
        ({"signs": True, "purposes": [signers.CODE_SIGNING]}, "wrong-usage"),
        ({"signs": True, "purposes": ["2.5.29.37.0"]}, "wrong-usage"),
        ({"signs": True, "purposes": [signers.CODE_SIGNING, signers.DOCUMENT_SIGNING]}, "verified"),
        ({"signs": True, "not_before": signers.NOW}, "verified"),
        ({"signs": True, "not_before": signers.NOW + 1}, "not-yet-valid"),
        ({"signs": True, "not_after": signers.NOW}, "verified"),
        ({"signs": True, "not_after": signers.NOW - 1}, "expired"),
    ],
)
def test_the_certificate(checker: Checker, options: dict[str, object], verdict: str) -> None:
    key = signers.key(signers.ED25519, "other")
    der = signers.certificate(key.public_key(), signers.common_name("other"), key, **options)
    signer = signers.Signer(key, signers.ED25519, der)
    assert checker.of_record(signers.signed(Statement(), signer), der) == verdict


def forged(scheme: int, der: bytes) -> tuple[bytes, bytes]:
    """A record whose signature cannot verify, and the certificate: which of the two is refused tells them apart."""
    statement = Statement().encode()
    value = bytes(256)
    signer = signers.Signer(None, scheme, der)
    return signers.records.record(statement, [signer.attestation(statement, value=value)]), der


def other_extensions(*extensions: tuple[str, bytes, bool]) -> bytes:
    """A certificate that the signer of Ed25519 has, with more extensions."""
    key = signers.key(signers.ED25519, "example")
    name = signers.common_name("more")
    found = x509.load_der_x509_certificate(signers.signer(signers.ED25519, "example").der)
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1)
    builder = builder.not_valid_before(found.not_valid_before_utc).not_valid_after(found.not_valid_after_utc)
    for own in found.extensions:
        builder = builder.add_extension(own.value, own.critical)
    for oid, value, critical in extensions:
        builder = builder.add_extension(x509.UnrecognizedExtension(x509.ObjectIdentifier(oid), value), critical)
    return builder.sign(key, None).public_bytes(serialization.Encoding.DER)


def enclosed(der: bytes, old: bytes, new: bytes) -> bytes:
    """A certificate with something in its TBSCertificate replaced by what may have another length."""
    tbs = x509.load_der_x509_certificate(der).tbs_certificate_bytes
    assert der.count(old) == 1
    assert tbs[:2] == der[:2] == b"\x30\x82"
    body = tbs[4:].replace(old, new)
    changed = b"\x30\x82" + len(body).to_bytes(2, "big") + body
    rest = der[4 + len(tbs) :]
    return b"\x30\x82" + (len(changed) + len(rest)).to_bytes(2, "big") + changed + rest


def signed_with(scheme: int, der: bytes) -> tuple[bytes, bytes]:
    """A record that the key of `signers.signer(scheme)` signed, by another certificate."""
    return signers.signed(Statement(), signers.Signer(signers.key(scheme, "example"), scheme, der)), der


@pytest.mark.spec("fim-cert-3")
def test_bytes_after_the_certificate_are_refused(checker: Checker) -> None:
    der = signers.signer().der
    assert checker.of_record(*signed_with(signers.ED25519, der)) == "verified"
    assert checker.of_record(*signed_with(signers.ED25519, der + b"\0")) == "bad-certificate"


@pytest.mark.spec("fim-cert-3")
@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("a003020102", "a003020101"),  # version 2, which is without extensions
        ("0603551d0f0101ff", "0603551d0f010101"),  # TRUE in BER
        ("0603551d0f0101ff", "0603551d0f010100"),  # FALSE, which is left out
        ("0603551d0f0101ff", "0603551d0e0101ff"),  # two extensions of one kind
        ("040403020780", "040403020080"),  # zero bits at the end of keyUsage
    ],
)
def test_a_certificate_that_is_not_in_der_is_refused(checker: Checker, old: str, new: str) -> None:
    der = signers.signer().der
    changed = der.replace(bytes.fromhex(old), bytes.fromhex(new))
    assert changed != der
    assert checker.of_record(*signed_with(signers.ED25519, changed)) == "bad-certificate"


@pytest.mark.spec("fim-cert-18")
@pytest.mark.parametrize(
    ("oid", "value"),
    [("1.3.6.1.4.1.32473.1", b"\5\0"), ("1.3.6.1.4.1.32473.2", b"no DER"), ("2.5.29.30", b"no name constraints")],
)
def test_a_critical_extension_that_is_not_known_is_passed_over(checker: Checker, oid: str, value: bytes) -> None:
    assert checker.of_record(*signed_with(signers.ED25519, other_extensions((oid, value, True)))) == "verified"


def with_key(scheme: int, algorithm: bytes, key: bytes) -> bytes:
    """The certificate of `signers.signer(scheme)` with a public key written in another way, or another one."""
    spki = (
        signers.key(scheme, "example")
        .public_key()
        .public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    return enclosed(signers.signer(scheme).der, spki, asn1.sequence(algorithm, asn1.bits(key)))


EC, RSA = asn1.oid("1.2.840.10045.2.1"), asn1.oid("1.2.840.113549.1.1.1")


@pytest.mark.spec("fim-sig-13")
@pytest.mark.parametrize(
    ("scheme", "curve"), [(signers.ECDSA_P256, "1.2.840.10045.3.1.7"), (signers.ECDSA_P384, "1.3.132.0.34")]
)
def test_a_compressed_point_is_refused(checker: Checker, scheme: int, curve: str) -> None:
    public = signers.key(scheme, "example").public_key()
    algorithm = asn1.sequence(EC, asn1.oid(curve))

    def verdict(form: serialization.PublicFormat) -> str:
        der = with_key(scheme, algorithm, public.public_bytes(serialization.Encoding.X962, form))
        assert x509.load_der_x509_certificate(der).public_key() == public
        return checker.of_record(*signed_with(scheme, der))

    assert verdict(serialization.PublicFormat.UncompressedPoint) == "verified"
    assert verdict(serialization.PublicFormat.CompressedPoint) == "bad-certificate"


@pytest.mark.spec("fim-sig-13")
@pytest.mark.parametrize("scheme", [signers.ED25519, signers.RSA_PSS])
def test_other_parameters_of_a_key_are_refused(checker: Checker, scheme: int) -> None:
    """Those of Ed25519 are absent and those of RSA are NULL: each with those of the other."""
    public = signers.key(scheme, "example").public_key()
    if scheme == signers.RSA_PSS:
        key = public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.PKCS1)
        good, bad = asn1.sequence(RSA, asn1.null()), asn1.sequence(RSA)
    else:
        key, name = public.public_bytes_raw(), asn1.oid("1.3.101.112")
        good, bad = asn1.sequence(name), asn1.sequence(name, asn1.null())
    assert checker.of_record(*signed_with(scheme, with_key(scheme, good, key))) == "verified"
    assert checker.of_record(*signed_with(scheme, with_key(scheme, bad, key))) == "bad-certificate"


@pytest.mark.spec("fim-sig-10")
@pytest.mark.parametrize(
    ("exponent", "less", "verdict"),
    [
        (65_535, 0, "bad-certificate"),
        (65_537, 0, "bad-signature"),
        (65_537, 1, "bad-certificate"),
        (65_538, 0, "bad-certificate"),
        (2**31 - 1, 0, "bad-signature"),
        (2**31 + 1, 0, "bad-certificate"),
        (2**32 + 1, 0, "bad-certificate"),
    ],
)
def test_the_numbers_of_an_rsa_key(checker: Checker, exponent: int, less: int, verdict: str) -> None:
    """A modulus that is one less is even."""
    modulus = signers.key(signers.RSA_PSS, "example").public_key().public_numbers().n - less
    key = asn1.sequence(asn1.integer(modulus), asn1.integer(exponent))
    der = with_key(signers.RSA_PSS, asn1.sequence(RSA, asn1.null()), key)
    assert checker.of_record(*forged(signers.RSA_PSS, der)) == verdict
