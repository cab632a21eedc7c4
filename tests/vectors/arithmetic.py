# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""Signatures by plain arithmetic, the same on each run (RFC 8032, RFC 6979, RFC 8017). Not constant in time."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

# Ed25519 (RFC 8032 section 5.1), points as (X, Y, Z, T) with x = X/Z, y = Y/Z, xy = T/Z

P = 2**255 - 19
L = 2**252 + 27742317777372353535851937790883648493
_D = -121665 * pow(121666, -1, P) % P
Point = tuple[int, int, int, int]


def add(p: Point, q: Point) -> Point:
    a, b = (p[1] - p[0]) * (q[1] - q[0]) % P, (p[1] + p[0]) * (q[1] + q[0]) % P
    c, d = 2 * p[3] * q[3] * _D % P, 2 * p[2] * q[2] % P
    e, f, g, h = b - a, d - c, d + c, b + a
    return e * f % P, g * h % P, f * g % P, e * h % P


def multiply(scalar: int, point: Point) -> Point:
    result: Point = (0, 1, 1, 0)
    while scalar:
        if scalar & 1:
            result = add(result, point)
        point = add(point, point)
        scalar >>= 1
    return result


def point_of(y: int, sign: int) -> Point:
    """The point with this y and this lowest bit of x."""
    square = (y * y - 1) * pow(_D * y * y + 1, -1, P) % P
    x = pow(square, (P + 3) // 8, P)
    if (x * x - square) % P:
        x = x * pow(2, (P - 1) // 4, P) % P
    if (x * x - square) % P:
        raise ValueError("no point has this y")
    if x & 1 != sign:
        x = P - x
    return x, y, 1, x * y % P


BASE = point_of(4 * pow(5, -1, P) % P, 0)


def encode_point(point: Point) -> bytes:
    inverse = pow(point[2], -1, P)
    x, y = point[0] * inverse % P, point[1] * inverse % P
    return (y | (x & 1) << 255).to_bytes(32, "little")


def ed25519_secret(seed: bytes) -> tuple[int, bytes]:
    digest = hashlib.sha512(seed).digest()
    scalar = int.from_bytes(digest[:32], "little") & ((1 << 254) - 8) | (1 << 254)
    return scalar, digest[32:]


def ed25519_public(seed: bytes) -> bytes:
    return encode_point(multiply(ed25519_secret(seed)[0], BASE))


def ed25519_sign(seed: bytes, message: bytes) -> bytes:
    scalar, prefix = ed25519_secret(seed)
    public = encode_point(multiply(scalar, BASE))
    r = int.from_bytes(hashlib.sha512(prefix + message).digest(), "little") % L
    first = encode_point(multiply(r, BASE))
    k = int.from_bytes(hashlib.sha512(first + public + message).digest(), "little") % L
    return first + ((r + k * scalar) % L).to_bytes(32, "little")


# ECDSA (FIPS 186-5 section 6.4.1) with the nonce of RFC 6979 section 3.2


@dataclass(frozen=True)
class Curve:
    p: int
    b: int
    x: int
    y: int
    n: int
    size: int
    """Bytes of a coordinate, and of a scalar."""
    hash: Callable[[bytes], Any]


P256 = Curve(
    2**256 - 2**224 + 2**192 + 2**96 - 1,
    0x5AC635D8AA3A93E7B3EBBD55769886BC651D06B0CC53B0F63BCE3C3E27D2604B,
    0x6B17D1F2E12C4247F8BCE6E563A440F277037D812DEB33A0F4A13945D898C296,
    0x4FE342E2FE1A7F9B8EE7EB4A7C0F9E162BCE33576B315ECECBB6406837BF51F5,
    0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551,
    32,
    hashlib.sha256,
)
P384 = Curve(
    2**384 - 2**128 - 2**96 + 2**32 - 1,
    0xB3312FA7E23EE7E4988E056BE3F82D19181D9C6EFE8141120314088F5013875AC656398D8A2ED19D2A85C8EDD3EC2AEF,
    0xAA87CA22BE8B05378EB1C71EF320AD746E1D3B628BA79B9859F741E082542A385502F25DBF55296C3A545E3872760AB7,
    0x3617DE4A96262C6F5D9E98BF9292DC29F8F41DBD289A147CE9DA3113B5F0B8C00A60B1CE1D7E819D7A431D7C90EA0E5F,
    0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFC7634D81F4372DDF581A0DB248B0A77AECEC196ACCC52973,
    48,
    hashlib.sha384,
)


def times(curve: Curve, k: int) -> tuple[int, int]:
    """k·G, through Jacobian coordinates (x = X/Z², y = Y/Z³) with a = −3."""
    p = curve.p
    x, y, z = 0, 1, 0
    for bit in bin(k)[2:]:
        delta, gamma = z * z % p, y * y % p
        beta = x * gamma % p
        alpha = 3 * (x - delta) * (x + delta) % p
        x, z = (alpha * alpha - 8 * beta) % p, ((y + z) ** 2 - gamma - delta) % p
        y = (alpha * (4 * beta - x) - 8 * gamma * gamma) % p
        if bit == "1":
            if not z:
                x, y, z = curve.x, curve.y, 1
                continue
            zz = z * z % p
            h, r = (curve.x * zz - x) % p, (curve.y * zz * z - y) % p
            hh = h * h % p
            hhh, v = h * hh % p, x * hh % p
            x, y, z = (r * r - hhh - 2 * v) % p, (r * (v - (r * r - hhh - 2 * v)) - y * hhh) % p, z * h % p
    inverse = pow(z, -1, p)
    return x * inverse**2 % p, y * inverse**3 % p


def ecdsa_public(curve: Curve, secret: int) -> bytes:
    """The uncompressed point (SEC 1 section 2.3.3)."""
    x, y = times(curve, secret)
    return b"\4" + x.to_bytes(curve.size, "big") + y.to_bytes(curve.size, "big")


def ecdsa_sign(curve: Curve, secret: int, message: bytes) -> tuple[int, int]:
    """r and s; the orders have as many bits as their hashes, so that nothing is shifted."""
    return ecdsa_sign_digest(curve, secret, curve.hash(message).digest())


def ecdsa_sign_digest(curve: Curve, secret: int, digest: bytes) -> tuple[int, int]:
    """As long as the order, or shorter."""
    z = int.from_bytes(digest, "big") % curve.n
    for k in nonces(curve, secret, z):
        r = times(curve, k)[0] % curve.n
        s = pow(k, -1, curve.n) * (z + r * secret) % curve.n
        if r and s:
            return r, s
    raise AssertionError


def nonces(curve: Curve, secret: int, z: int) -> Iterator[int]:
    def mac(key: bytes, data: bytes) -> bytes:
        made: Any = hmac.new(key, data, curve.hash)  # type: ignore[arg-type]
        return bytes(made.digest())

    seed = secret.to_bytes(curve.size, "big") + z.to_bytes(curve.size, "big")
    v, key = b"\1" * curve.size, b"\0" * curve.size
    for step in (b"\0", b"\1"):
        key = mac(key, v + step + seed)
        v = mac(key, v)
    while True:
        v = mac(key, v)
        k = int.from_bytes(v, "big")
        if 0 < k < curve.n:
            yield k
        key = mac(key, v + b"\0")
        v = mac(key, v)


# RSA (RFC 8017)


@dataclass(frozen=True)
class Rsa:
    p: int
    q: int
    e: int

    @property
    def n(self) -> int:
        return self.p * self.q

    def power(self, base: int) -> int:
        """The private operation, modulo each prime (section 5.1.2)."""
        by_p, by_q = (pow(base, pow(self.e, -1, prime - 1), prime) for prime in (self.p, self.q))
        return by_q + (by_p - by_q) * pow(self.q, -1, self.p) % self.p * self.q

    @property
    def size(self) -> int:
        return (self.n.bit_length() + 7) // 8


def mgf1(seed: bytes, length: int, hash: Callable[[bytes], Any]) -> bytes:
    blocks = range((length + hash(b"").digest_size - 1) // hash(b"").digest_size)
    return b"".join(hash(seed + block.to_bytes(4, "big")).digest() for block in blocks)[:length]


def pss_sign(
    key: Rsa,
    message: bytes,
    salt: bytes,
    hash: Callable[[bytes], Any] = hashlib.sha256,
    mask_hash: Callable[[bytes], Any] = hashlib.sha256,
) -> bytes:
    """RSASSA-PSS (section 8.1.1), the salt as given."""
    bits = key.n.bit_length() - 1
    length = (bits + 7) // 8
    digest = hash(bytes(8) + hash(message).digest() + salt).digest()
    data = bytes(length - len(digest) - len(salt) - 2) + b"\1" + salt
    mask = mgf1(digest, len(data), mask_hash)
    masked = bytearray(x ^ y for x, y in zip(data, mask, strict=True))
    masked[0] &= 0xFF >> (8 * length - bits)
    encoded = int.from_bytes(bytes(masked) + digest + b"\xbc", "big")
    return key.power(encoded).to_bytes(key.size, "big")


def pkcs1_sign(key: Rsa, message: bytes) -> bytes:
    """RSASSA-PKCS1-v1_5 with SHA-256 (section 8.2.1), for certificates."""
    info = bytes.fromhex("3031300d060960864801650304020105000420") + hashlib.sha256(message).digest()
    encoded = b"\0\1" + b"\xff" * (key.size - len(info) - 3) + b"\0" + info
    return key.power(int.from_bytes(encoded, "big")).to_bytes(key.size, "big")
