# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""The oracle's own arithmetic, by what RFCs print and by what another library says to it."""

from __future__ import annotations

import hashlib

import pytest
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.serialization import load_der_public_key

from vectors import arithmetic, certificates, inputs, keys, signatures


def test_ed25519_gives_what_rfc_8032_prints() -> None:
    """Section 7.1, tests 1 and 3."""
    seed = bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")
    assert arithmetic.ed25519_public(seed).hex() == "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"
    assert arithmetic.ed25519_sign(seed, b"").hex() == (
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b"
    )
    seed = bytes.fromhex("c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7")
    assert arithmetic.ed25519_public(seed).hex() == "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025"
    assert arithmetic.ed25519_sign(seed, bytes.fromhex("af82")).hex() == (
        "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a"
    )


@pytest.mark.parametrize(
    ("curve", "secret", "r", "s"),
    [
        (
            arithmetic.P256,
            0xC9AFA9D845BA75166B5C215767B1D6934E50C3DB36E89B127B8A622B120F6721,
            0xEFD48B2AACB6A8FD1140DD9CD45E81D69D2C877B56AAF991C34D0EA84EAF3716,
            0xF7CB1C942D657C41D436C7A1B6E29F65F3E900DBB9AFF4064DC4AB2F843ACDA8,
        ),
        (
            arithmetic.P384,
            0x6B9D3DAD2E1B8C1C05B19875B6659F4DE23C3B667BF297BA9AA47740787137D896D5724E4C70A825F872C9EA60D2EDF5,
            0x94EDBB92A5ECB8AAD4736E56C691916B3F88140666CE9FA73D64C4EA95AD133C81A648152E44ACF96E36DD1E80FABE46,
            0x99EF4AEB15F178CEA1FE40DB2603138F130E740A19624526203B6351D0A3A94FA329C145786E679E7B82C71A38628AC8,
        ),
    ],
    ids=["P-256", "P-384"],
)
def test_ecdsa_gives_what_rfc_6979_prints(curve: arithmetic.Curve, secret: int, r: int, s: int) -> None:
    """Sections A.2.5 and A.2.6, "sample" under the curve's own hash."""
    assert arithmetic.ecdsa_sign(curve, secret, b"sample") == (r, s)


@pytest.mark.parametrize("name", ["rsa-2048", "rsa-3072"])
def test_rsa_signatures_verify_elsewhere(name: str) -> None:
    key = load_der_public_key(keys.rsa(name).spki)
    assert isinstance(key, rsa.RSAPublicKey)
    pss = padding.PSS(padding.MGF1(hashes.SHA256()), 32)
    key.verify(keys.rsa(name).sign(b"message"), b"message", pss, hashes.SHA256())
    key.verify(arithmetic.pkcs1_sign(inputs.rsa(name), b"message"), b"message", padding.PKCS1v15(), hashes.SHA256())
    with pytest.raises(InvalidSignature):
        key.verify(arithmetic.pss_sign(inputs.rsa(name), b"message", b""), b"message", pss, hashes.SHA256())


def test_the_points_of_small_order_are_eight() -> None:
    point = signatures.order_8_point()
    multiples = {arithmetic.encode_point(arithmetic.multiply(times, point)) for times in range(8)}
    assert len(multiples) == 8
    assert arithmetic.encode_point(arithmetic.multiply(8, point)) == b"\1" + bytes(31)


@pytest.mark.parametrize("scheme", keys.NAMES, ids=list(keys.NAMES.values()))
def test_certificates_are_read_elsewhere(scheme: int) -> None:
    signer = certificates.pinned(scheme)
    certificate = x509.load_der_x509_certificate(signer.der)
    assert certificate.subject.rfc4514_string() == f"CN={signer.name}"
    assert int(certificate.not_valid_before_utc.timestamp()) == certificates.NOT_BEFORE
    assert int(certificate.not_valid_after_utc.timestamp()) == certificates.NOT_AFTER
    assert certificate.extensions.get_extension_for_class(x509.KeyUsage).value.digital_signature
    certificate.verify_directly_issued_by(certificate)


def test_inputs_are_keys_of_the_sizes_they_are_named_for() -> None:
    for name, (size, exponent) in inputs.RSA_KEYS.items():
        key = inputs.rsa(name)
        assert (key.n.bit_length(), key.e) == (size, exponent)
    assert hashlib.sha256(inputs.ml_dsa_public(44, "ml-dsa-44")).digest() != hashlib.sha256(b"").digest()
