# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause

from __future__ import annotations

import hashlib
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from hypothesis import given
from hypothesis import strategies as st

from nfsverity_proto.certificate import (
    ANY_PURPOSE,
    Certificate,
    certificates_in,
    check_chain,
    check_leaf,
    parse_certificate,
)
from nfsverity_proto.errors import BadCertificate, Expired, NotYetValid, WrongUsage
from nfsverity_proto.trust import TrustEntry
from oracle import signers
from oracle.signers import DOCUMENT_SIGNING, ECDSA_P256, ED25519, NOT_AFTER, NOT_BEFORE, NOW, common_name

DERS = [signers.signer(scheme).der for scheme in signers.KEYS]


def leaf(**options: Any) -> Certificate:
    """A self-signed certificate."""
    key = signers.key(ED25519, "leaf")
    return parse_certificate(signers.certificate(key.public_key(), common_name("leaf"), key, **options))


@pytest.mark.parametrize("scheme", list(signers.KEYS), ids=hex)
def test_what_is_read_of_a_certificate(scheme: int) -> None:
    signer = signers.signer(scheme)
    found = parse_certificate(signer.der)
    assert (found.der, found.fingerprint.hash, found.fingerprint.digest) == (signer.der, 1, signer.digest)
    assert found.subject == "CN=example"
    assert (found.not_before, found.not_after) == (NOT_BEFORE, NOT_AFTER)
    assert found.signs
    assert found.purposes == {DOCUMENT_SIGNING}
    assert [(one.type, one.text) for one in found.attributes] == [("2.5.4.3", "example")]
    assert found.x509.public_bytes(serialization.Encoding.DER) == signer.der
    form = serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    assert found.key_id() == signer.key.public_key().public_bytes(*form)


def test_two_certificates_of_one_key_have_one_key_id() -> None:
    one, other = leaf(signs=True), leaf(signs=False)
    assert one.fingerprint != other.fingerprint
    assert one.key_id() == other.key_id() != parse_certificate(signers.signer().der).key_id()


@given(st.lists(st.tuples(st.sampled_from([b"", b"a comment\n", b"\r\n\r\n"]), st.booleans()), min_size=1, max_size=5))
def test_the_certificates_in_a_text_are_those_that_the_library_finds(texts: list[tuple[bytes, bool]]) -> None:
    pem = b""
    for number, (between, crlf) in enumerate(texts):
        one = signers.signer(name=f"certificate {number}")
        lines = x509.load_der_x509_certificate(one.der).public_bytes(serialization.Encoding.PEM)
        pem += between + (lines.replace(b"\n", b"\r\n") if crlf else lines)
    found = x509.load_pem_x509_certificates(pem)
    assert certificates_in(pem) == [one.public_bytes(serialization.Encoding.DER) for one in found]


@pytest.mark.parametrize(
    "pem",
    [
        b"",
        b"nonsense",
        b"-----BEGIN CERTIFICATE-----\nAAAA\n",
        b"-----BEGIN CERTIFICATE-----\nAAAA\n-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n-----BEGIN CERTIFICATE-----\nAA",
        b"-----BEGIN CERTIFICATE-----\nAAA\n-----END CERTIFICATE-----\n",
        b"-----BEGIN CERTIFICATE-----\nA*AA\n-----END CERTIFICATE-----\n",
        b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END X509 CERTIFICATE-----\n",
        b"-----BEGIN CERTIFICATE-----\n" * 500_000,  # in time that grows with its length only
    ],
)
def test_a_text_without_whole_certificates(pem: bytes) -> None:
    with pytest.raises(ValueError):
        certificates_in(pem)


@pytest.mark.spec("fim-cert-3")
@pytest.mark.parametrize("der", [b"", b"0", b"\x30\x00", DERS[0][:-1], DERS[0] + b"\0", DERS[0] * 2, b"\xff" * 40])
def test_what_is_no_certificate_is_a_bad_one(der: bytes) -> None:
    with pytest.raises(BadCertificate):
        parse_certificate(der)


@pytest.mark.spec("fim-cert-3")
@pytest.mark.parametrize(("length", "good"), [(16_384, True), (16_385, False)])
def test_the_bound_of_a_certificate(length: int, good: bool) -> None:
    def build(padding: int) -> bytes:
        key = signers.key(ED25519, "leaf")
        other = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), bytes(padding))
        return (
            x509.CertificateBuilder(common_name("leaf"), common_name("leaf"), key.public_key(), 5)
            .not_valid_before(datetime.fromtimestamp(NOT_BEFORE, UTC))
            .not_valid_after(datetime.fromtimestamp(NOT_AFTER, UTC))
            .add_extension(other, critical=False)
            .sign(key, None)
            .public_bytes(serialization.Encoding.DER)
        )

    der = build(16_000 + length - len(build(16_000)))
    assert len(der) == length
    if good:
        assert parse_certificate(der).subject == "CN=leaf"
    else:
        with pytest.raises(BadCertificate, match="16384 are allowed"):
            parse_certificate(der)


@pytest.mark.parametrize("der", DERS, ids=[hex(scheme) for scheme in signers.KEYS])
@given(data=st.data())
def test_a_changed_certificate_is_another_one_or_a_bad_one(der: bytes, data: st.DataObject) -> None:
    changed = bytearray(der)
    for _ in range(data.draw(st.integers(1, 3))):
        changed[data.draw(st.integers(0, 600)) % len(der)] ^= data.draw(st.integers(1, 255))
    try:
        found = parse_certificate(bytes(changed))
    except BadCertificate:
        return
    assert found.fingerprint.digest == hashlib.sha256(changed).digest()


def item(tag: int, *contents: bytes) -> bytes:
    body = b"".join(contents)
    assert len(body) < 2**16
    length = (
        bytes([len(body)])
        if len(body) < 128
        else b"\x82" + len(body).to_bytes(2)
        if len(body) > 255
        else bytes([0x81, len(body)])
    )
    return bytes([tag]) + length + body


ED25519_OID, COMMON_NAME = bytes.fromhex("06032b6570"), bytes.fromhex("0603550403")
NAME = item(0x30, item(0x31, item(0x30, COMMON_NAME, item(0x0C, b"made"))))
FIELDS = {
    "version": bytes.fromhex("a003020102"),
    "serial": bytes.fromhex("020105"),
    "algorithm": item(0x30, ED25519_OID),
    "issuer": NAME,
    "validity": item(0x30, item(0x17, b"260101000000Z"), item(0x18, b"20351231235959Z")),
    "subject": NAME,
    "spki": item(0x30, item(0x30, ED25519_OID), item(0x03, b"\0", bytes(range(1, 33)))),
    "ids": b"",
    "extensions": b"",
}
KEY_USAGE = item(0x30, bytes.fromhex("0603551d0f"), item(0x04, bytes.fromhex("03020780")))
UNKNOWN = bytes.fromhex("06032a0304")


def extension(*parts: bytes, identifier: bytes = UNKNOWN) -> bytes:
    return item(0x30, identifier, *parts)


def made(extensions: Sequence[bytes] = (KEY_USAGE,), after: bytes = b"", **changes: bytes) -> bytes:
    """A certificate by its parts; pinned ones are not signed by anybody that matters."""
    outer = changes.pop("outer", item(0x30, ED25519_OID))
    fields = FIELDS | {"extensions": item(0xA3, item(0x30, *extensions))} | changes
    return item(0x30, item(0x30, *fields.values(), after), outer, item(0x03, bytes(65)))


@pytest.mark.spec("fim-cert-3", "fim-cert-9", "fim-cert-18")
@pytest.mark.parametrize(
    "der",
    [
        made(),
        made(extensions=[KEY_USAGE, extension(item(0x04))]),
        made(extensions=[extension(b"\1\1\xff", item(0x04, b"critical, and not known")), KEY_USAGE]),
        made(extensions=[KEY_USAGE, extension(item(0x04, b"no names"), identifier=bytes.fromhex("0603551d11"))]),
        made(serial=bytes.fromhex("020100")),
        made(serial=bytes.fromhex("0201ff")),
        made(serial=item(0x02, bytes(40))),
        made(serial=item(0x02)),
        made(algorithm=item(0x30, b"no algorithm")),
        made(outer=item(0x30)),
        made(issuer=item(0x30, b"no name")),
        made(ids=item(0x81, b"\0\1") + item(0x82, b"\0\2")),
        made(subject=item(0x30)),
        made(validity=item(0x30, item(0x18, b"20260101000000Z"), item(0x17, b"351231235959Z"))),
        made(spki=item(0x30, b"no key")),
    ],
)  # fmt: skip
def test_what_is_not_judged_of_a_certificate(der: bytes) -> None:
    found = parse_certificate(der)
    assert found.signs
    assert found.purposes is None
    assert (found.not_before, found.not_after) == (NOT_BEFORE, NOT_AFTER)


@pytest.mark.spec("fim-cert-3")
@pytest.mark.parametrize(
    "der",
    [
        made(version=b""),
        made(version=bytes.fromhex("a003020101")),
        made(version=bytes.fromhex("a003020103")),
        made(version=bytes.fromhex("a00402020002")),
        made(serial=b""),
        made(issuer=b""),
        made(validity=item(0x30, item(0x17, b"260101000000Z"))),
        made(validity=item(0x30, *3 * [item(0x17, b"260101000000Z")])),
        made(validity=item(0x30, item(0x17, b"2601010000Z"), item(0x17, b"351231235959Z"))),
        made(validity=item(0x30, item(0x17, b"260101000000Z"), item(0x18, b"20351301000000Z"))),
        made(subject=item(0x30, item(0x31))),
        made(subject=item(0x30, item(0x31, item(0x30, COMMON_NAME)))),
        made(subject=item(0x30, item(0x30, COMMON_NAME, item(0x0C, b"made")))),
        made(ids=item(0x82, b"\0\2") + item(0x81, b"\0\1")),
        made(extensions=[]),
        made(extensions=[KEY_USAGE, KEY_USAGE]),
        made(extensions=[KEY_USAGE, extension(item(0x04)), extension(item(0x04))]),
        made(extensions=[KEY_USAGE, extension(b"\1\1\0", item(0x04))]),
        made(extensions=[KEY_USAGE, extension(b"\1\1\1", item(0x04))]),
        made(extensions=[KEY_USAGE, extension()]),
        made(extensions=[KEY_USAGE, extension(item(0x04), item(0x04))]),
        made(extensions=[extension(item(0x04, bytes.fromhex("03020080")), identifier=bytes.fromhex("0603551d0f"))]),
        made(extensions=[extension(item(0x04, bytes.fromhex("0302078000")), identifier=bytes.fromhex("0603551d0f"))]),
        made(extensions=[KEY_USAGE, extension(item(0x04, item(0x30)), identifier=bytes.fromhex("0603551d25"))]),
        made(after=item(0x04)),
        made() + b"\0",
        made()[:-1],
        b"\x30\x80" + made()[4:] + b"\0\0",
    ],
)  # fmt: skip
def test_what_cannot_be_decoded(der: bytes) -> None:
    with pytest.raises(BadCertificate):
        parse_certificate(der)


def test_a_serial_number_in_a_path_is_positive() -> None:
    der = signers.signer().der
    at = der.index(b"\xa0\x03\x02\x01\x02\x02") + 6
    for serial in (bytes(der[at]), b"\xff" * der[at]):
        changed = der[: at + 1] + serial + der[at + 1 + len(serial) :]
        with pytest.raises(BadCertificate):
            parse_certificate(changed).x509  # noqa: B018 - it is the reading that raises


@pytest.mark.parametrize(
    ("value", "subject"),
    [
        (item(0x0C, "é".encode()), "CN=é"),
        (item(0x13, b"made"), "CN=made"),
        (item(0x16, b"made"), "CN=made"),
        (item(0x0C, b' a+"b,;<>\\ '), 'CN=\\ a\\+\\"b\\,\\;\\<\\>\\\\\\ '),
        (item(0x0C, b"#1"), "CN=\\#1"),
        (item(0x0C, b" "), "CN=\\ "),
        (item(0x0C, b"a\0"), "CN=a\\00"),
        (item(0x0C, b""), "CN="),
        (item(0x0C, b"\xff"), "CN=#ff"),
        (item(0x13, b"\xe9"), "CN=#e9"),
        (item(0x1E, b"\0a"), "CN=#0061"),
    ],
)
def test_a_subject_as_rfc_4514_writes_it(value: bytes, subject: str) -> None:
    found = parse_certificate(made(subject=item(0x30, item(0x31, item(0x30, COMMON_NAME, value)))))
    assert found.subject == subject


@pytest.mark.spec("fim-trust-6")
@pytest.mark.parametrize(
    ("values", "fits"),
    [
        ([item(0x0C, b"made")], True),
        ([item(0x13, b"made")], True),
        ([item(0x16, b"made")], True),
        ([item(0x14, b"made")], False),
        ([item(0x1E, b"\0m\0a\0d\0e")], False),
        ([item(0x0C, b"Made")], False),
        ([item(0x0C, b"made ")], False),
        ([item(0x0C, b"other"), item(0x13, b"made")], True),
        ([item(0x0C, b"other"), item(0x13, b"another")], False),
    ],
)
def test_an_attribute_fits_by_its_characters(values: Sequence[bytes], fits: bool) -> None:
    names = [item(0x31, item(0x30, COMMON_NAME, value)) for value in values]
    certificate = parse_certificate(made(subject=item(0x30, *names)))
    assert TrustEntry(b"", subject="CN=made").subject_fits(certificate) is fits


def test_the_subject_is_written_as_the_library_writes_it() -> None:
    key = signers.key(ED25519, "leaf")
    name = x509.Name([
        x509.RelativeDistinguishedName([x509.NameAttribute(x509.NameOID.COUNTRY_NAME, "DE")]),
        x509.RelativeDistinguishedName([
            x509.NameAttribute(x509.NameOID.ORGANIZATION_NAME, "A, B + C\nverified\x1b[0m\x7f"),
            x509.NameAttribute(x509.NameOID.DOMAIN_COMPONENT, "example"),
        ]),
        x509.RelativeDistinguishedName([x509.NameAttribute(x509.ObjectIdentifier("2.5.4.12"), "#title ")]),
    ])  # fmt: skip
    found = parse_certificate(signers.certificate(key.public_key(), name, key, signs=True))
    assert x509.Name.from_rfc4514_string(found.subject) == name
    assert found.subject.isprintable()


# Keys


@pytest.mark.spec("fim-sig-3")
@pytest.mark.tool("openssl")
def test_a_key_for_rsassa_pss_only_is_one_for_no_scheme(tmp_path: Path) -> None:
    command = "openssl req -x509 -newkey rsa-pss -pkeyopt rsa_keygen_bits:2048 -nodes -keyout key -out crt -outform DER"
    subprocess.run(
        [*command.split(), "-subj", "/CN=pss", "-addext", "keyUsage=digitalSignature"],
        cwd=tmp_path,
        check=True,
        capture_output=True,
    )
    certificate = parse_certificate((tmp_path / "crt").read_bytes())
    with pytest.raises(BadCertificate, match="encoding"):
        certificate.public_key  # noqa: B018


EC_PUBLIC_KEY, RSA_ENCRYPTION = bytes.fromhex("06072a8648ce3d0201"), bytes.fromhex("06092a864886f70d010101")
P256 = bytes.fromhex("06082a8648ce3d030107")
NULL = bytes.fromhex("0500")


def point(form: serialization.PublicFormat) -> bytes:
    key = signers.key(ECDSA_P256).public_key()
    return bytes(key.public_bytes(serialization.Encoding.X962, form))


def rsa_key() -> bytes:
    form = serialization.Encoding.DER, serialization.PublicFormat.PKCS1
    return bytes(signers.key(signers.RSA_PSS).public_key().public_bytes(*form))


def spki(*algorithm: bytes, key: bytes, unused: bytes = b"\0") -> bytes:
    return item(0x30, item(0x30, *algorithm), item(0x03, unused, key))


UNCOMPRESSED = serialization.PublicFormat.UncompressedPoint
COMPRESSED = serialization.PublicFormat.CompressedPoint


@pytest.mark.spec("fim-sig-13")
def test_a_key_has_one_encoding() -> None:
    good = [
        spki(EC_PUBLIC_KEY, P256, key=point(UNCOMPRESSED)),
        spki(RSA_ENCRYPTION, NULL, key=rsa_key()),
        spki(ED25519_OID, key=bytes(range(1, 33))),
    ]
    for key in good:
        assert parse_certificate(made(spki=key)).public_key is not None
    whole = point(UNCOMPRESSED)
    numbers = signers.key(signers.RSA_PSS).public_key().public_numbers()
    modulus = numbers.n.to_bytes(257)
    for key in [
        spki(EC_PUBLIC_KEY, P256, key=point(COMPRESSED)),
        spki(EC_PUBLIC_KEY, P256, key=bytes([6 + whole[-1] % 2]) + whole[1:]),  # the hybrid form
        spki(EC_PUBLIC_KEY, P256, key=whole[:-1] + bytes([whole[-1] ^ 1])),  # not on the curve
        spki(EC_PUBLIC_KEY, P256, key=b"\0"),  # infinity
        spki(EC_PUBLIC_KEY, key=whole),
        spki(EC_PUBLIC_KEY, NULL, key=whole),
        spki(EC_PUBLIC_KEY, P256, key=whole, unused=b"\1"),
        spki(RSA_ENCRYPTION, key=rsa_key()),
        spki(RSA_ENCRYPTION, NULL, key=item(0x30, item(0x02, b"\0", modulus), item(0x02, b"\1\0\1"))),
        spki(RSA_ENCRYPTION, NULL, key=item(0x30, item(0x02, modulus), item(0x02, b"\0\1\0\1"))),
        spki(RSA_ENCRYPTION, NULL, key=rsa_key() + b"\0"),
        spki(ED25519_OID, NULL, key=bytes(range(1, 33))),
        spki(ED25519_OID, key=bytes(range(1, 32))),
        spki(UNKNOWN, key=bytes(32)),
        item(0x30),
    ]:
        certificate = parse_certificate(made(spki=key))
        with pytest.raises(BadCertificate):
            certificate.public_key  # noqa: B018


@pytest.mark.spec("fim-cert-4")
@pytest.mark.parametrize(
    ("now", "error"),
    [
        (0, NotYetValid),
        (NOT_BEFORE - 1, NotYetValid),
        (NOT_BEFORE, None),
        (NOT_AFTER, None),
        (NOT_AFTER + 1, Expired),
        (253_402_300_799, Expired),
    ],
)
@pytest.mark.parametrize("in_chain", [False, True])
def test_a_certificate_is_judged_at_the_time_given(now: int, error: type[Exception] | None, in_chain: bool) -> None:
    certificate = parse_certificate(signers.signer().der)
    if error is None:
        check_leaf(certificate, now, in_chain=in_chain)
    else:
        with pytest.raises(error):
            check_leaf(certificate, now, in_chain=in_chain)


@pytest.mark.spec("fim-cert-5", "fim-cert-6", "fim-cert-7", "fim-cert-8")
@pytest.mark.parametrize(
    ("signs", "purposes", "pinned", "in_chain"),
    [
        (True, (DOCUMENT_SIGNING,), True, True),
        (True, (signers.CODE_SIGNING, DOCUMENT_SIGNING), True, True),
        (True, None, True, False),
        (True, (signers.CODE_SIGNING,), False, False),
        (True, (ANY_PURPOSE,), False, False),
        (True, (ANY_PURPOSE, DOCUMENT_SIGNING), True, True),
        (False, (DOCUMENT_SIGNING,), False, False),
        (None, (DOCUMENT_SIGNING,), False, False),
        (None, None, False, False),
    ],
    ids=[
        "right",
        "two purposes",
        "no purpose",
        "another purpose",
        "any purpose",
        "any purpose and the right one",
        "does not sign",
        "no key usage",
        "neither",
    ],
)
def test_the_usage_of_a_certificate(
    signs: bool | None, purposes: Sequence[str] | None, pinned: bool, in_chain: bool
) -> None:
    certificate = leaf(signs=signs, purposes=purposes)
    for allowed, chained in ((pinned, False), (in_chain, True)):
        if allowed:
            check_leaf(certificate, NOW, in_chain=chained)
        else:
            with pytest.raises(WrongUsage):
                check_leaf(certificate, NOW, in_chain=chained)


# Chains


def chain(
    scheme: int = ED25519, root: int = ECDSA_P256, intermediates: int = 0, **changes: dict[str, Any]
) -> tuple[Certificate, list[bytes], Certificate]:
    """A leaf, what leads from it to a CA, and the CA. `changes` are options of `root_`, `ca` (all) and `leaf_`."""
    key = signers.key(root, "root")
    issuer = common_name("root")
    top = signers.certificate(key.public_key(), issuer, key, ca=True, **changes.get("root_", {}))
    between = []
    for at in range(intermediates):
        next_key, subject = signers.key(ECDSA_P256, f"ca {at}"), common_name(f"ca {at}")
        options = {"ca": True} | changes.get("ca", {})
        between.insert(0, signers.certificate(next_key.public_key(), subject, key, issuer, **options))
        key, issuer = next_key, subject
    public_key = signers.key(scheme, "leaf").public_key()
    end = signers.certificate(public_key, common_name("leaf"), key, issuer, signs=True, **changes.get("leaf_", {}))
    return parse_certificate(end), between, parse_certificate(top)


@pytest.mark.spec("fim-cert-10")
@pytest.mark.parametrize("scheme", list(signers.KEYS), ids=hex)
@pytest.mark.parametrize("intermediates", [0, 1, 2])
def test_a_leaf_of_any_scheme_leads_to_its_ca(scheme: int, intermediates: int) -> None:
    check_chain(*chain(scheme, intermediates=intermediates), NOW)


@pytest.mark.spec("fim-cert-10")
@pytest.mark.parametrize("root", [scheme for scheme in signers.KEYS if scheme != ED25519], ids=hex)
def test_a_ca_has_a_key_of_any_scheme_but_ed25519(root: int) -> None:
    check_chain(*chain(root=root), NOW)


def test_an_ed25519_ca_is_refused() -> None:
    with pytest.raises(BadCertificate):
        check_chain(*chain(root=ED25519), NOW)


@pytest.mark.spec("fim-cert-10")
@pytest.mark.parametrize(("intermediates", "good"), [(7, True), (8, False)])
def test_at_most_8_certificates_are_below_the_ca(intermediates: int, good: bool) -> None:
    if good:
        check_chain(*chain(intermediates=intermediates), NOW)
    else:
        with pytest.raises(BadCertificate):
            check_chain(*chain(intermediates=intermediates), NOW)


@pytest.mark.spec("fim-cert-11")
@pytest.mark.parametrize("which", ["root_", "ca"])
@pytest.mark.parametrize(
    "options",
    [
        {"not_after": NOW - 1},
        {"not_before": NOW + 1},
        {"signs": True, "signs_certificates": False},
        {"signs": False},
    ],
    ids=["expired", "not yet valid", "signs no certificates", "no right at all"],
)
def test_each_ca_of_a_path_is_valid_now_and_signs_certificates(which: str, options: dict[str, Any]) -> None:
    with pytest.raises(BadCertificate):
        check_chain(*chain(intermediates=1, **{which: options}), NOW)


@pytest.mark.spec("fim-cert-11")
def test_what_is_no_ca_leads_nowhere() -> None:
    with pytest.raises(BadCertificate):
        check_chain(*chain(intermediates=1, ca={"ca": False, "signs": True, "signs_certificates": True}), NOW)


@pytest.mark.spec("fim-cert-13")
def test_no_more_than_8_of_the_certificates_given_are_looked_at() -> None:
    end, between, top = chain(intermediates=1)
    check_chain(end, [*[DERS[0]] * 6, *between], top, NOW)
    with pytest.raises(BadCertificate):
        check_chain(end, [*[DERS[0]] * 7, *between], top, NOW)


@pytest.mark.spec("fim-cert-14")
@pytest.mark.parametrize(
    ("digest", "good"),
    [(hashes.SHA256(), True), (hashes.SHA384(), True), (hashes.SHA512(), True), (hashes.SHA224(), False),
     (hashes.SHA3_256(), False)],
    ids=lambda value: getattr(value, "name", None),
)  # fmt: skip
def test_a_path_is_signed_under_sha_2(digest: Any, good: bool) -> None:
    key, root = signers.key(ED25519, "leaf"), signers.key(ECDSA_P256, "root")
    _, _, top = chain()
    built = (
        x509.CertificateBuilder(common_name("root"), common_name("leaf"), key.public_key(), 5)
        .not_valid_before(datetime.fromtimestamp(NOT_BEFORE, UTC))
        .not_valid_after(datetime.fromtimestamp(NOT_AFTER, UTC))
        .sign(root, digest)
    )
    end = parse_certificate(built.public_bytes(serialization.Encoding.DER))
    if good:
        check_chain(end, [], top, NOW)
    else:
        with pytest.raises(BadCertificate):
            check_chain(end, [], top, NOW)


@pytest.mark.spec("fim-cert-15")
@pytest.mark.parametrize("which", ["root_", "ca"])
@pytest.mark.parametrize(
    ("purposes", "good"),
    [
        ((DOCUMENT_SIGNING,), True),
        ((ANY_PURPOSE,), True),
        ((signers.CODE_SIGNING, DOCUMENT_SIGNING), True),
        ((signers.CODE_SIGNING,), False),
        (("1.3.6.1.5.5.7.3.2",), False),
    ],
)
def test_the_purposes_of_a_ca_bound_what_it_signs(which: str, purposes: tuple[str, ...], good: bool) -> None:
    parts = chain(intermediates=1, **{which: {"ca_purposes": purposes}})
    if good:
        check_chain(*parts, NOW)
    else:
        with pytest.raises(BadCertificate):
            check_chain(*parts, NOW)


@pytest.mark.spec("fim-cert-16")
def test_a_ca_is_not_its_own_signer() -> None:
    key = signers.key(ECDSA_P256, "root")
    both = parse_certificate(
        signers.certificate(key.public_key(), common_name("root"), key, ca=True, signs=True, signs_certificates=True)
    )
    with pytest.raises(BadCertificate, match="CA itself"):
        check_chain(both, [], both, NOW)


@pytest.mark.spec("fim-cert-17")
def test_the_search_for_a_path_ends() -> None:
    """Seven certificates of one name, issued in a ring."""
    keys = [signers.key(ECDSA_P256, f"maze {at}") for at in range(7)]
    name = common_name("maze")
    maze = [signers.certificate(key.public_key(), name, keys[at - 1], name, ca=True) for at, key in enumerate(keys)]
    leaf = signers.key(ED25519, "leaf").public_key()
    end = parse_certificate(signers.certificate(leaf, common_name("leaf"), keys[0], name, signs=True))
    _, _, top = chain()
    with pytest.raises(BadCertificate):
        check_chain(end, maze, top, NOW)


def test_a_path_that_is_not_there_is_a_bad_certificate() -> None:
    end, between, top = chain(intermediates=2)
    other = signers.key(ECDSA_P256, "another root")
    namesake = signers.certificate(other.public_key(), common_name("root"), other, ca=True)
    cases: list[tuple[list[bytes], Certificate]] = [
        ([], top),
        (between[:1], top),
        (between[1:], top),
        ([b"", b"\x30\x00"], top),
        (between, parse_certificate(namesake)),
    ]
    for given_along, anchor in cases:
        with pytest.raises(BadCertificate, match="lead"):
            check_chain(end, given_along, anchor, NOW)
    for given_along in (between[::-1], [*between, b"junk"], [DERS[0], *between]):
        check_chain(end, given_along, top, NOW)


def test_a_critical_extension_that_is_not_known_ends_a_path() -> None:
    key, root = signers.key(ED25519, "leaf"), signers.key(ECDSA_P256, "root")
    _, _, top = chain()
    unknown = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\5\0")
    for critical in (False, True):
        built = (
            x509.CertificateBuilder(common_name("root"), common_name("leaf"), key.public_key(), 5)
            .not_valid_before(datetime.fromtimestamp(NOT_BEFORE, UTC))
            .not_valid_after(datetime.fromtimestamp(NOT_AFTER, UTC))
            .add_extension(unknown, critical)
            .sign(root, hashes.SHA256())
        )
        certificate = parse_certificate(built.public_bytes(serialization.Encoding.DER))
        if critical:
            with pytest.raises(BadCertificate):
                check_chain(certificate, [], top, NOW)
        else:
            check_chain(certificate, [], top, NOW)
