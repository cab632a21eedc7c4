# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""Signature schemes, with the edge rules that make all verifiers agree (fim, "Signature schemes").

The library does the arithmetic; what a scheme leaves to the implementer is checked here first. It is
imported where it is used: it is most of a program's start, and numbers and names do without it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .errors import BadCertificate, BadSignature, Unsupported

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric import padding

ED25519, ECDSA_P256, ECDSA_P384, RSA_PSS = 0x0807, 0x0403, 0x0503, 0x0804
ML_DSA_44, ML_DSA_65, ML_DSA_87 = 0x0904, 0x0905, 0x0906

_ED25519_P = 2**255 - 19
_ED25519_L = 2**252 + 27742317777372353535851937790883648493
_P256_N = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
_P384_N = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFC7634D81F4372DDF581A0DB248B0A77AECEC196ACCC52973
RSA_BITS_MIN, RSA_BITS_MAX = 2048, 4096
RSA_EXPONENT_MIN, RSA_EXPONENT_MAX = 65537, 2**31 - 1
PSS_SALT_LENGTH = 32

_ED25519_SMALL_ORDER_Y = frozenset({
    0,
    1,
    _ED25519_P - 1,
    2707385501144840649318225287225658788936804267575313519463743609750303402022,
    55188659117513257062467267217118295137698188065244968500265048394206261417927,
})  # fmt: skip
"""The y of the points of order 1, 2, 4 and 8 (RFC 8032 5.1 has the curve): no key may be one."""


def _fits_ed25519(key: Any) -> bool:
    from cryptography.hazmat.primitives.asymmetric import ed25519

    if not isinstance(key, ed25519.Ed25519PublicKey):
        return False
    y = int.from_bytes(key.public_bytes_raw(), "little") & (2**255 - 1)
    return y < _ED25519_P and y not in _ED25519_SMALL_ORDER_Y


def _verify_ed25519(key: Any, value: bytes, message: bytes) -> bool:
    if len(value) != 64 or int.from_bytes(value[32:], "little") >= _ED25519_L:
        return False
    key.verify(value, message)
    return True


def _fits_ecdsa(curve: str) -> Callable[[Any], bool]:
    def fits(key: Any) -> bool:
        from cryptography.hazmat.primitives.asymmetric import ec

        return isinstance(key, ec.EllipticCurvePublicKey) and key.curve.name == curve

    return fits


def _ecdsa_in_range(value: bytes, order: int) -> bool:
    """Strict DER (X.690 section 10), and 1 ≤ r, s < n (FIPS 186-5 section 6.4.2)."""
    from cryptography.hazmat.primitives.asymmetric import utils

    r, s = utils.decode_dss_signature(value)
    return 0 < r < order and 0 < s < order and utils.encode_dss_signature(r, s) == value


def _verify_p256(key: Any, value: bytes, message: bytes) -> bool:
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec

    if not _ecdsa_in_range(value, _P256_N):
        return False
    key.verify(value, message, ec.ECDSA(hashes.SHA256()))
    return True


def _verify_p384(key: Any, value: bytes, message: bytes) -> bool:
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec

    if not _ecdsa_in_range(value, _P384_N):
        return False
    key.verify(value, message, ec.ECDSA(hashes.SHA384()))
    return True


def _fits_rsa(key: Any) -> bool:
    from cryptography.hazmat.primitives.asymmetric import rsa

    if not isinstance(key, rsa.RSAPublicKey) or not RSA_BITS_MIN <= key.key_size <= RSA_BITS_MAX:
        return False
    numbers = key.public_numbers()
    return RSA_EXPONENT_MIN <= numbers.e <= RSA_EXPONENT_MAX and numbers.e % 2 == numbers.n % 2 == 1


def pss_padding() -> padding.PSS:
    """RSASSA-PSS with SHA-256 for the mask and a salt of exactly 32 bytes (RFC 8017 section 8.1)."""
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import padding

    return padding.PSS(mgf=padding.MGF1(hashes.SHA256()), salt_length=PSS_SALT_LENGTH)


def _verify_rsa(key: Any, value: bytes, message: bytes) -> bool:
    from cryptography.hazmat.primitives import hashes

    if len(value) != (key.key_size + 7) // 8:
        return False
    key.verify(value, message, pss_padding(), hashes.SHA256())
    return True


def _fits_mldsa(parameters: str) -> Callable[[Any], bool]:
    def fits(key: Any) -> bool:
        from cryptography.hazmat.primitives.asymmetric import mldsa

        return isinstance(key, getattr(mldsa, f"MLDSA{parameters}PublicKey"))

    return fits


def _verify_mldsa(key: Any, value: bytes, message: bytes) -> bool:
    key.verify(value, message)
    return True


@dataclass(frozen=True, slots=True)
class Scheme:
    """One TLS SignatureScheme as it is used here."""

    number: int
    name: str
    fits: Callable[[Any], bool]
    """Whether a public key is one for this scheme."""
    verify: Callable[[Any, bytes, bytes], bool]


_SCHEMES = {
    scheme.number: scheme
    for scheme in (
        Scheme(ED25519, "ed25519", _fits_ed25519, _verify_ed25519),
        Scheme(ECDSA_P256, "ecdsa-p256", _fits_ecdsa("secp256r1"), _verify_p256),
        Scheme(ECDSA_P384, "ecdsa-p384", _fits_ecdsa("secp384r1"), _verify_p384),
        Scheme(RSA_PSS, "rsa-pss", _fits_rsa, _verify_rsa),
        Scheme(ML_DSA_44, "ml-dsa-44", _fits_mldsa("44"), _verify_mldsa),
        Scheme(ML_DSA_65, "ml-dsa-65", _fits_mldsa("65"), _verify_mldsa),
        Scheme(ML_DSA_87, "ml-dsa-87", _fits_mldsa("87"), _verify_mldsa),
    )
}
SCHEME_NUMBERS = tuple(_SCHEMES)
SCHEME_NAMES = {scheme.name: scheme.number for scheme in _SCHEMES.values()}


def scheme_by_number(number: int) -> Scheme:
    """Raises `Unsupported`."""
    try:
        return _SCHEMES[number]
    except KeyError:
        raise Unsupported(f"signature scheme {number:#06x} is not known here") from None


def scheme_for_key(public_key: Any) -> Scheme:
    """The scheme that a key is for. Raises `ValueError`."""
    for scheme in _SCHEMES.values():
        if scheme.fits(public_key):
            return scheme
    raise ValueError("no signature scheme is defined for this key")


def check_key(scheme: Scheme, public_key: Any) -> None:
    """Raises `BadCertificate` unless the key is one for the scheme (fim-sig-3)."""
    if not scheme.fits(public_key):
        raise BadCertificate(f"the certificate's key is not one for {scheme.name}")


def check_signature(scheme: Scheme, public_key: Any, value: bytes, message: bytes) -> None:
    """Raises `BadSignature` unless `value` is `public_key`'s signature of `message`."""
    from cryptography.exceptions import InvalidSignature

    try:
        good = scheme.verify(public_key, value, message)
    except (InvalidSignature, ValueError):
        good = False
    if not good:
        raise BadSignature(f"the {scheme.name} signature does not verify")
