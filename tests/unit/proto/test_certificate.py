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

from nfsverity_proto.certificate import Certificate, check_chain, check_leaf, parse_certificate
from nfsverity_proto.errors import BadCertificate, Expired, NotYetValid, WrongUsage
from oracle import signers
from oracle.signers import DOCUMENT_SIGNING, ECDSA_P256, ED25519, NOT_AFTER, NOT_BEFORE, NOW, common_name

DERS = [signers.signer(scheme).der for scheme in signers.KEYS]
ANY_PURPOSE = "2.5.29.37.0"


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
    form = serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    assert found.key_id() == signer.key.public_key().public_bytes(*form)


def test_two_certificates_of_one_key_have_one_key_id() -> None:
    one, other = leaf(signs=True), leaf(signs=False)
    assert one.fingerprint != other.fingerprint
    assert one.key_id() == other.key_id() != parse_certificate(signers.signer().der).key_id()


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


def test_a_serial_number_is_positive() -> None:
    der = signers.signer().der
    at = der.index(b"\xa0\x03\x02\x01\x02\x02") + 6
    for serial in (bytes(der[at]), b"\xff" * der[at]):
        changed = der[: at + 1] + serial + der[at + 1 + len(serial) :]
        with pytest.raises(BadCertificate):
            parse_certificate(changed)


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
    with pytest.raises(BadCertificate, match="RSASSA-PSS"):
        parse_certificate((tmp_path / "crt").read_bytes())


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
