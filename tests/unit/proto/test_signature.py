# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause

from __future__ import annotations

import hashlib
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, padding, rsa, utils
from hypothesis import given
from hypothesis import strategies as st

from nfsverity_proto.errors import BadCertificate, BadSignature, Unsupported
from nfsverity_proto.signature import (
    SCHEME_NAMES,
    SCHEME_NUMBERS,
    check_key,
    check_signature,
    scheme_by_number,
    scheme_for_key,
)
from oracle import signers

MESSAGE = b"what is signed"
every_scheme = pytest.mark.parametrize("number", list(signers.KEYS), ids=lambda number: f"{number:#06x}")
P, L = 2**255 - 19, 2**252 + 27742317777372353535851937790883648493
CURVES = {
    signers.ECDSA_P256: (ec.SECP256R1(), 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551),
    signers.ECDSA_P384: (
        ec.SECP384R1(),
        0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFC7634D81F4372DDF581A0DB248B0A77AECEC196ACCC52973,
    ),
}
ecdsa = pytest.mark.parametrize("number", list(CURVES), ids=["P-256", "P-384"])


def check(number: int, public_key: Any, value: bytes, message: bytes = MESSAGE) -> None:
    """As a verifier does it: the key, then the signature."""
    scheme = scheme_by_number(number)
    check_key(scheme, public_key)
    check_signature(scheme, public_key, value, message)


@pytest.mark.spec("fim-sig-1", "fim-sig-2", "fim-sig-12")
@every_scheme
@given(message=st.binary(max_size=100))
def test_what_a_key_signed_verifies_and_nothing_else_does(number: int, message: bytes) -> None:
    key = signers.key(number)
    value = signers.sign(key, message)
    check(number, key.public_key(), value, message)
    with pytest.raises(BadSignature):
        check(number, key.public_key(), value, message + b"\0")
    with pytest.raises(BadSignature):
        check(number, signers.key(number, "other").public_key(), value, message)


@every_scheme
@given(data=st.data())
def test_any_change_of_a_signature_is_refused(number: int, data: st.DataObject) -> None:
    key = signers.key(number)
    value = bytearray(signers.sign(key, MESSAGE))
    value[data.draw(st.integers(0, 9999)) % len(value)] ^= data.draw(st.integers(1, 255))
    with pytest.raises(BadSignature):
        check(number, key.public_key(), bytes(value))


@every_scheme
@given(value=st.binary(max_size=100))
def test_any_bytes_are_refused_with_the_one_error(number: int, value: bytes) -> None:
    with pytest.raises(BadSignature):
        check(number, signers.key(number).public_key(), value)


@every_scheme
def test_a_signature_has_its_length(number: int) -> None:
    key = signers.key(number)
    value = signers.sign(key, MESSAGE)
    for other in (value[:-1], value + b"\0", b"\0" + value, b""):
        with pytest.raises(BadSignature):
            check(number, key.public_key(), other)


@every_scheme
def test_a_key_has_one_scheme(number: int) -> None:
    public_key = signers.key(number).public_key()
    assert scheme_for_key(public_key).number == number
    assert SCHEME_NAMES[scheme_for_key(public_key).name] == number
    for other in signers.KEYS:
        if other != number:
            with pytest.raises(BadCertificate):
                check_key(scheme_by_number(other), public_key)


@pytest.mark.spec("fim-sig-3")
@pytest.mark.parametrize(
    "key",
    [
        ec.generate_private_key(ec.SECP521R1()),
        ec.generate_private_key(ec.SECP256K1()),
        ed448.Ed448PrivateKey.generate(),
    ],
)
def test_keys_of_other_types_have_no_scheme(key: Any) -> None:
    with pytest.raises(ValueError, match="no signature scheme"):
        scheme_for_key(key.public_key())
    for number in signers.KEYS:
        with pytest.raises(BadCertificate):
            check_key(scheme_by_number(number), key.public_key())


def test_the_known_numbers_and_no_other() -> None:
    assert set(SCHEME_NUMBERS) == set(signers.KEYS)
    for number in (0, 0x0401, 0x0603, 0x0805, 0x0808, 0x0809, 0x0903, 0x0907, 2**32 - 1):
        with pytest.raises(Unsupported):
            scheme_by_number(number)


# Ed25519


def ed25519_key(y: int, sign: int = 0) -> ed25519.Ed25519PublicKey:
    return ed25519.Ed25519PublicKey.from_public_bytes((y | sign << 255).to_bytes(32, "little"))


def test_rfc_8032_test_1() -> None:
    key = ed25519.Ed25519PrivateKey.from_private_bytes(signers.SECRET).public_key()
    value = bytes.fromhex(
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e06522490155"
        "5fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b"
    )
    check(signers.ED25519, key, value, b"")


@pytest.mark.spec("fim-sig-6")
def test_ed25519_s_not_below_the_order_is_refused() -> None:
    key = signers.key(signers.ED25519)
    value = signers.sign(key, MESSAGE)
    s = int.from_bytes(value[32:], "little")
    for other in (s + L, s + 2 * L, L, L + 1, 2**256 - 1):
        if other < 2**256:
            with pytest.raises(BadSignature):
                check(signers.ED25519, key.public_key(), value[:32] + other.to_bytes(32, "little"))


def x_of(y: int) -> int | None:
    """The x of RFC 8032 section 5.1.3, or None where y is of no point."""
    d = -121665 * pow(121666, -1, P) % P
    square = (y * y - 1) * pow(d * y * y + 1, -1, P) % P
    x = pow(square, (P + 3) // 8, P)
    if (x * x - square) % P:
        x = x * pow(2, (P - 1) // 4, P) % P
    return x if (x * x - square) % P == 0 else None


def double(point: tuple[int, int]) -> tuple[int, int]:
    x, y = point
    d = -121665 * pow(121666, -1, P) % P
    product = d * x * x * y * y
    return 2 * x * y * pow(1 + product, -1, P) % P, (y * y + x * x) * pow(1 - product, -1, P) % P


def small_order() -> list[int]:
    """The y of every point whose order divides 8: 1, -1, 0, and the y with 8 times the point = neutral."""
    found = {1, P - 1, 0}
    # A point of order 8 doubles to one of order 4, which has y = 0, so y² + x² = 0; and on the curve
    # -x² + y² = 1 + d x² y² that is d y⁴ + 2 y² - 1 = 0.
    d = -121665 * pow(121666, -1, P) % P
    root = pow(1 + d, (P + 3) // 8, P)
    if (root * root - (1 + d)) % P:
        root = root * pow(2, (P - 1) // 4, P) % P
    for sign in (1, -1):
        square = (-1 + sign * root) * pow(d, -1, P) % P
        y = pow(square, (P + 3) // 8, P)
        if (y * y - square) % P:
            y = y * pow(2, (P - 1) // 4, P) % P
        if (y * y - square) % P == 0:
            found |= {y, P - y}
    return sorted(found)


def test_the_small_order_points_are_five_values_of_y() -> None:
    ys = small_order()
    assert len(ys) == 5
    for y in ys:
        x = x_of(y)
        assert x is not None
        assert double(double(double((x, y)))) == (0, 1)


@pytest.mark.spec("fim-sig-5")
@pytest.mark.parametrize("y", small_order(), ids=lambda y: y.to_bytes(32, "little").hex()[:8])
@pytest.mark.parametrize("sign", [0, 1])
def test_a_key_of_small_order_is_no_key(y: int, sign: int) -> None:
    with pytest.raises(BadCertificate):
        check_key(scheme_by_number(signers.ED25519), ed25519_key(y, sign))


@pytest.mark.spec("fim-sig-4")
@pytest.mark.parametrize("y", range(P, 2**255), ids=lambda y: f"p+{y - P}")
def test_a_key_that_is_not_canonical_is_no_key(y: int) -> None:
    for sign in (0, 1):
        with pytest.raises(BadCertificate):
            check_key(scheme_by_number(signers.ED25519), ed25519_key(y, sign))


def test_a_key_that_is_no_point_ends_in_bad_signature() -> None:
    y = next(y for y in range(2, 100) if x_of(y) is None)
    with pytest.raises(BadSignature):
        check(signers.ED25519, ed25519_key(y), bytes(64))


@pytest.mark.spec("fim-sig-7")
def test_the_equation_is_without_the_cofactor() -> None:
    """A signature whose R is off by a point of order 8 holds with the cofactor 8 and not without."""
    d = -121665 * pow(121666, -1, P) % P

    def add(a: tuple[int, int], b: tuple[int, int]) -> tuple[int, int]:
        (x1, y1), (x2, y2) = a, b
        product = d * x1 * x2 * y1 * y2
        return (
            (x1 * y2 + x2 * y1) * pow(1 + product, -1, P) % P,
            (y1 * y2 + x1 * x2) * pow(1 - product, -1, P) % P,
        )

    def times(k: int, point: tuple[int, int]) -> tuple[int, int]:
        total = (0, 1)
        while k:
            if k & 1:
                total = add(total, point)
            point, k = add(point, point), k >> 1
        return total

    def encode(point: tuple[int, int]) -> bytes:
        return (point[1] | (point[0] & 1) << 255).to_bytes(32, "little")

    base_y = 4 * pow(5, -1, P) % P
    base_x = x_of(base_y)
    assert base_x is not None
    base = (base_x if base_x % 2 == 0 else P - base_x, base_y)
    a, r = 12345, 67890
    public = encode(times(a, base))
    small = next(y for y in small_order() if y not in (0, 1, P - 1))
    small_x = x_of(small)
    assert small_x is not None

    def signed(offset: tuple[int, int]) -> bytes:
        commitment = encode(add(times(r, base), offset))
        k = int.from_bytes(hashlib.sha512(commitment + public + MESSAGE).digest(), "little") % L
        return commitment + ((r + k * a) % L).to_bytes(32, "little")

    key = ed25519.Ed25519PublicKey.from_public_bytes(public)
    check(signers.ED25519, key, signed((0, 1)))
    with pytest.raises(BadSignature):
        check(signers.ED25519, key, signed((small_x, small)))


# ECDSA


def der_integer(content: bytes) -> bytes:
    return bytes([2, len(content)]) + content


def der_sequence(content: bytes, long_form: bool = False) -> bytes:
    length = bytes([len(content)]) if len(content) < 128 and not long_form else bytes([0x81, len(content)])
    return b"\x30" + length + content


def minimal(value: int) -> bytes:
    return value.to_bytes(value.bit_length() // 8 + 1, "big")


@pytest.mark.spec("fim-sig-8")
@ecdsa
def test_ecdsa_signatures_are_strict_der(number: int) -> None:
    key = signers.key(number)
    r, s = utils.decode_dss_signature(signers.sign(key, MESSAGE))
    good = der_sequence(der_integer(minimal(r)) + der_integer(minimal(s)))
    check(number, key.public_key(), good)
    inner = der_integer(minimal(r)) + der_integer(minimal(s))
    for other in (
        der_sequence(der_integer(b"\0" + minimal(r)) + der_integer(minimal(s))),
        der_sequence(der_integer(minimal(r)) + der_integer(b"\0" + minimal(s))),
        b"\x30\x82\0" + bytes([len(inner)]) + inner,
        good + b"\0",
        der_sequence(inner + der_integer(b"\1")),
        der_sequence(inner + b"\5\0"),
        b"\x30\x80" + inner + b"\0\0",
        b"\x31" + good[1:],
        inner,
        *([der_sequence(inner, long_form=True)] if len(inner) < 128 else []),
    ):
        with pytest.raises(BadSignature):
            check(number, key.public_key(), other)


@pytest.mark.spec("fim-sig-9")
@ecdsa
def test_ecdsa_r_and_s_are_in_range(number: int) -> None:
    key, order = signers.key(number), CURVES[number][1]
    r, s = utils.decode_dss_signature(signers.sign(key, MESSAGE))
    for pair in ((0, s), (r, 0), (order, s), (r, order), (r + order, s), (r, s + order), (-r, s), (r, -s), (0, 0)):
        value = der_sequence(
            b"".join(der_integer(n.to_bytes(n.bit_length() // 8 + 1, "big", signed=True)) for n in pair)
        )
        with pytest.raises(BadSignature):
            check(number, key.public_key(), value)


@ecdsa
def test_both_s_and_its_negative_are_accepted(number: int) -> None:
    key, order = signers.key(number), CURVES[number][1]
    r, s = utils.decode_dss_signature(signers.sign(key, MESSAGE))
    check(number, key.public_key(), utils.encode_dss_signature(r, order - s))


@ecdsa
def test_an_ecdsa_signature_with_another_hash_is_refused(number: int) -> None:
    key = signers.key(number)
    with pytest.raises(BadSignature):
        check(number, key.public_key(), key.sign(MESSAGE, ec.ECDSA(hashes.SHA512())))


# RSA


@pytest.mark.spec("fim-sig-10")
@pytest.mark.parametrize(("bits", "good"), [(2048, True), (4096, True), (1024, False), (2040, False), (4104, False)])
def test_rsa_keys_have_2048_to_4096_bits(bits: int, good: bool) -> None:
    key = rsa.RSAPublicNumbers(65537, (1 << bits) - 1).public_key()
    scheme = scheme_by_number(signers.RSA_PSS)
    if good:
        check_key(scheme, key)
    else:
        with pytest.raises(BadCertificate):
            check_key(scheme, key)


@pytest.mark.spec("fim-sig-10")
@pytest.mark.parametrize(
    ("exponent", "good"),
    [(3, False), (257, False), (65535, False), (65537, True), (65539, True), (2**31 - 1, True), (2**31 + 1, False)],
)
def test_the_exponent_of_an_rsa_key(exponent: int, good: bool) -> None:
    modulus = signers.key(signers.RSA_PSS).public_key().public_numbers().n
    key = rsa.RSAPublicNumbers(exponent, modulus).public_key()
    if good:
        check_key(scheme_by_number(signers.RSA_PSS), key)
    else:
        with pytest.raises(BadCertificate):
            check_key(scheme_by_number(signers.RSA_PSS), key)


@pytest.mark.spec("fim-sig-11")
@pytest.mark.parametrize("salt_length", [0, 20, 31, 33, 64, padding.PSS.MAX_LENGTH])
def test_rsa_pss_with_another_salt_is_refused(salt_length: Any) -> None:
    key = signers.key(signers.RSA_PSS)
    with pytest.raises(BadSignature):
        check(signers.RSA_PSS, key.public_key(), signers.sign(key, MESSAGE, salt_length))


@pytest.mark.spec("fim-sig-11")
def test_other_rsa_signatures_are_refused() -> None:
    key = signers.key(signers.RSA_PSS)
    sha256, sha384 = hashes.SHA256(), hashes.SHA384()
    modulus = key.public_key().public_numbers().n
    good = signers.sign(key, MESSAGE)
    for value in (
        key.sign(MESSAGE, padding.PKCS1v15(), sha256),
        key.sign(MESSAGE, padding.PSS(padding.MGF1(sha256), 32), sha384),
        key.sign(MESSAGE, padding.PSS(padding.MGF1(sha384), 32), sha256),
        (int.from_bytes(good, "big") + modulus).to_bytes(257, "big"),
        bytes(256),
        b"\xff" * 256,
    ):
        with pytest.raises(BadSignature):
            check(signers.RSA_PSS, key.public_key(), value)


# ML-DSA


@pytest.mark.spec("fim-sig-12")
@pytest.mark.parametrize("number", [0x0904, 0x0905, 0x0906], ids=["44", "65", "87"])
def test_ml_dsa_with_a_context_is_refused(number: int) -> None:
    key = signers.key(number)
    assert len(signers.sign(key, MESSAGE)) == {0x0904: 2420, 0x0905: 3309, 0x0906: 4627}[number]
    check(number, key.public_key(), key.sign(MESSAGE, b""))
    with pytest.raises(BadSignature):
        check(number, key.public_key(), key.sign(MESSAGE, b"context"))
