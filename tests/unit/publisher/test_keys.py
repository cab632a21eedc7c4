# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""Signing keys: what is made can sign, and what does not fit together is told."""

from __future__ import annotations

import resource
import stat
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from nfsverity_proto.certificate import check_leaf, parse_certificate
from nfsverity_proto.record import signature_of, signed_bytes
from nfsverity_proto.signature import check_signature
from nfsverity_publisher.keys import load_signing_key
from nfsverity_publisher.new_file import write_new
from nfsverity_publisher.new_key import ALGORITHMS, make_key
from oracle import signers
from serving import fresh_keys

NOW = datetime(2026, 11, 24, 12, 0, 0, 5, UTC)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_every_algorithm_signs(algorithm: str, tmp_path: Path) -> None:
    private, certificate = make_key("a name", algorithm, 30, NOW)
    (tmp_path / "k").write_bytes(private)
    (tmp_path / "c").write_bytes(certificate)
    key = load_signing_key(tmp_path / "k", tmp_path / "c")
    leaf = key.certificate
    check_leaf(leaf, int(NOW.timestamp()), in_chain=True)
    assert (leaf.subject, leaf.not_after - int(NOW.timestamp())) == ("CN=a name", 30 * 86400)
    assert key.scheme.name == algorithm
    signature = signature_of(key.sign(b"statement"))
    assert (signature.signer, signature.scheme) == (leaf.fingerprint, key.scheme.number)
    message = signed_bytes(leaf.fingerprint, key.scheme.number, b"statement")
    check_signature(key.scheme, leaf.public_key, signature.value, message)


def test_an_algorithm_that_is_none() -> None:
    with pytest.raises(ValueError, match="ed25519"):
        make_key("n", "dsa", 30)


def test_a_new_file_is_new_and_has_its_mode(tmp_path: Path) -> None:
    write_new(tmp_path / "k", b"data", 0o600)
    assert stat.S_IMODE((tmp_path / "k").stat().st_mode) == 0o600
    with pytest.raises(FileExistsError):
        write_new(tmp_path / "k", b"other", 0o600)
    assert (tmp_path / "k").read_bytes() == b"data"


def test_a_new_file_that_finds_no_room_is_none(tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1, before[1]))
    try:
        with pytest.raises(OSError, match="too large"):
            write_new(tmp_path / "k", b"data", 0o600)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert list(tmp_path.iterdir()) == []


def test_a_chain_comes_with_the_certificate(tmp_path: Path) -> None:
    ca = signers.signer(name="ca")
    leaf = fresh_keys()
    chain = leaf.certificate + x509.load_der_x509_certificate(ca.der).public_bytes(serialization.Encoding.PEM)
    (tmp_path / "k").write_bytes(leaf.private)
    (tmp_path / "c").write_bytes(chain)
    key = load_signing_key(tmp_path / "k", tmp_path / "c")
    assert (key.certificate, key.issuers) == (parse_certificate(leaf.der), (ca.der,))


@pytest.mark.parametrize(
    ("key", "certificate", "says"),
    [
        (b"nonsense", None, "k is not a private key"),
        (None, b"nonsense", "c is not a certificate"),
        (None, b"", "c is not a certificate"),
        (
            None,
            b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
            "c: bad-certificate: the certificate",
        ),
        ("other", None, "not the one of the certificate"),
        ("locked", None, "without a password"),
    ],
)
def test_what_does_not_fit(tmp_path: Path, key: bytes | str | None, certificate: bytes | None, says: str) -> None:
    made = fresh_keys()
    if key == "other":
        key = fresh_keys().private
    if key == "locked":
        private = serialization.load_pem_private_key(made.private, None)
        key = private.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"password"),
        )
    (tmp_path / "k").write_bytes(made.private if key is None else key)  # type: ignore[arg-type]
    (tmp_path / "c").write_bytes(made.certificate if certificate is None else certificate)
    with pytest.raises(ValueError, match=says):
        load_signing_key(tmp_path / "k", tmp_path / "c")


def test_files_that_are_missing(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        load_signing_key(tmp_path / "k", tmp_path / "c")
