# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""Keys and signatures alone, with the edges that the standards leave open (fim-sig)."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from functools import partial

from . import arithmetic, certificates, inputs, keys
from .arithmetic import BASE, L, P, encode_point, multiply, point_of
from .certificates import Signer, pinned
from .der import bits, integer, item, null, oid, sequence
from .form import Vector, counting
from .keys import Key, ecdsa_der

MESSAGE = b"what is signed, as bytes"


def build() -> Iterator[Vector]:
    yield from _lengths()
    yield from _other_keys()
    yield from _ed25519()
    yield from _ed25519_keys()
    yield from _ecdsa()
    yield from _rsa()
    yield from _ml_dsa()
    yield from _encodings()


def needs(scheme: int) -> list[str]:
    return [] if scheme in (keys.ED25519, keys.ECDSA_P256) else [f"needs-scheme-{keys.NAMES[scheme]}"]


def vector(
    id: str, about: str, signer: Signer, value: bytes, clauses: Sequence[str], message: bytes = MESSAGE
) -> Vector:
    scheme = signer.key.scheme
    given = {"certificate": signer.name, "scheme": scheme, "message": message, "value": value}
    return Vector(id, about, clauses, given, flags=needs(scheme))


def _lengths() -> Iterator[Vector]:
    rules = {
        keys.ED25519: ("fim-sig-1", "fim-sig-6", "fim-sig-7"), keys.ECDSA_P256: ("fim-sig-1", "fim-sig-8", "fim-sig-9"),
        keys.ECDSA_P384: ("fim-sig-8", "fim-sig-9"), keys.RSA_PSS: ("fim-sig-2", "fim-sig-11"),
    }  # fmt: skip
    for scheme in keys.NAMES:
        signer = pinned(scheme)
        for length in (0, 1, 317, 9000) if scheme not in keys.ML_DSA else (0, 317):
            message = counting(length)
            base = vector(
                f"{signer.name}-{length}",
                f"{signer.name} over {length} bytes",
                signer,
                signer.key.sign(message),
                rules.get(scheme, ("fim-sig-12",)),
                message,
            )
            yield base
            if length:
                yield base.fault(
                    "message",
                    "a bit of the message altered",
                    "bad-signature",
                    message=bytes([message[0] ^ 1]) + message[1:],
                    flags=needs(scheme),
                )
                yield base.fault(
                    "message-longer",
                    "the message longer by a byte",
                    "bad-signature",
                    message=message + b"\0",
                    flags=needs(scheme),
                )


def _other_keys() -> Iterator[Vector]:
    """A key of another type than the scheme's (fim-sig-3)."""
    for scheme in keys.NAMES:
        signer = pinned(scheme)
        base = vector(
            f"key-{signer.name}",
            f"a key of the type for {signer.name}",
            signer,
            signer.key.sign(MESSAGE),
            ("fim-sig-3",),
        )
        yield base
        for other in keys.NAMES:
            if other != scheme:
                yield base.fault(
                    f"of-{keys.NAMES[other]}",
                    f"a key for {keys.NAMES[other]} instead",
                    "bad-certificate",
                    flags=needs(scheme),
                    certificate=pinned(other).name,
                )
    for scheme, name, about, spki in (
        (keys.ED25519, "x25519", "an X25519 key", sequence(sequence(oid("1.3.101.110")), bits(counting(32, 9)))),
        (keys.ED25519, "ed448", "an Ed448 key", sequence(sequence(oid("1.3.101.113")), bits(_ED448_BASE))),
        (keys.ECDSA_P256, "secp256k1", "a key on secp256k1", _ec_spki("1.3.132.0.10", _SECP256K1_BASE)),
        (
            keys.ECDSA_P256,
            "off-curve",
            "a point that is not on P-256",
            _ec_spki("1.2.840.10045.3.1.7", b"\4" + counting(64, 1)),
        ),
        (keys.RSA_PSS, "rsassa-pss", "an RSA key of type id-RSASSA-PSS", _rsassa_pss_spki()),
    ):
        base = _base_of_key(scheme, name)
        yield base
        signer = odd(f"key-{name}", scheme, spki)
        yield base.fault(name, about, "bad-certificate", ("fim-sig-3",), flags=needs(scheme), certificate=signer.name)


def _base_of_key(scheme: int, name: str) -> Vector:
    signer = pinned(scheme)
    about = f"a key of the type for {signer.name}, the base of odd ones"
    return vector(f"key-base-{name}", about, signer, signer.key.sign(MESSAGE), ("fim-sig-3",))


_ED448_BASE = bytes.fromhex(
    "14fa30f25b790898adc8d74e2c13bdfdc4397ce61cffd33ad7c2a0051e9c78874098a36c7373ea4b62c7c9563720768824bcb66e71463f6900"
)
_SECP256K1_BASE = bytes.fromhex(
    "0479be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798483ada7726a3c4655da4fbfc0e1108a8fd17b448a68554199c47d08ffb10d4b8"
)


def _ec_spki(curve: str, point: bytes) -> bytes:
    return sequence(sequence(oid("1.2.840.10045.2.1"), oid(curve)), bits(point))


def _rsassa_pss_spki() -> bytes:
    key = inputs.rsa("rsa-2048")
    return sequence(sequence(oid("1.2.840.113549.1.1.10")), bits(sequence(integer(key.n), integer(key.e))))


def odd(name: str, scheme: int, spki: bytes) -> Signer:
    """A certificate of a key that need not be one, issued by another."""
    issuer = keys.ed25519("odd")
    key = Key(scheme, spki, issuer.sign, issuer.algorithm, issuer.sign_certificate)
    der = certificates.certificate(key, certificates.common_name(name), issuer, certificates.common_name("odd"))
    certificates.listed(name, der)
    return Signer(name, key, der)


# Ed25519


def ed25519_spki(public: bytes) -> bytes:
    return sequence(sequence(oid("1.3.101.112")), bits(public))


def challenge(first: bytes, public: bytes, message: bytes) -> int:
    return int.from_bytes(hashlib.sha512(first + public + message).digest(), "little") % L


def order_8_point() -> arithmetic.Point:
    """A point of order 8: L times a point that is in no smaller subgroup."""
    y = 2
    while True:
        try:
            point = multiply(L, point_of(y, 0))
        except ValueError:
            y += 1
            continue
        if encode_point(multiply(4, point)) != encode_point((0, 1, 1, 0)):
            return point
        y += 1


def _ed25519() -> Iterator[Vector]:
    signer = pinned(keys.ED25519)
    seed_scalar, prefix = arithmetic.ed25519_secret(hashlib.sha256(b"nfs-verity test key ed25519").digest())
    public = encode_point(multiply(seed_scalar, BASE))
    value = signer.key.sign(MESSAGE)
    if signer.key.spki[-32:] != public:
        raise ValueError("not the key of ed25519")
    base = vector("ed25519", "an Ed25519 signature", signer, value, ("fim-sig-4", "fim-sig-6", "fim-sig-7"))
    yield base
    s = int.from_bytes(value[32:], "little")

    def bad(slug: str, about: str, value: bytes, clauses: Sequence[str] = ("fim-sig-6",)) -> Vector:
        return base.fault(slug, about, "bad-signature", clauses, value=value)

    for slug, other in (
        ("s-plus-l", s + L),
        ("s-plus-2l", s + 2 * L),
        ("s-is-l", L),
        ("s-zero", 0),
        ("s-one-more", s + 1),
        ("s-max", 2**256 - 1),
        ("s-minus", L - s),
    ):
        yield bad(slug, f"another S: {slug}", value[:32] + other.to_bytes(32, "little"))
    for length in (0, 1, 32, 63):
        yield bad(f"length-{length}", f"{length} bytes", value[:length])
    for length in (65, 96, 128):
        yield bad(f"length-{length}", f"{length} bytes", (value * 2)[:length])
    yield bad("swapped", "S before R", value[32:] + value[:32], ("fim-sig-7",))
    yield bad("r-sign", "the sign of R inverted", value[:31] + bytes([value[31] ^ 0x80]) + value[32:], ("fim-sig-7",))
    for slug, context in (("ctx", b"\0\1x"), ("ph", b"\1\0")):
        dom = b"SigEd25519 no Ed25519 collisions" + context
        message = hashlib.sha512(MESSAGE).digest() if slug == "ph" else MESSAGE
        r = int.from_bytes(hashlib.sha512(dom + prefix + message).digest(), "little") % L
        first = encode_point(multiply(r, BASE))
        k = int.from_bytes(hashlib.sha512(dom + first + public + message).digest(), "little") % L
        yield bad(
            slug,
            f"Ed25519{slug} instead (RFC 8032 section 5.1)",
            first + ((r + k * seed_scalar) % L).to_bytes(32, "little"),
            ("fim-sig-7",),
        )

    torsion = order_8_point()
    r = 12345
    for times in (
        1,
        2,
        4,
    ):  # R with a part of order 8, 4, 2: the equation with the cofactor holds, that without does not
        first = encode_point(arithmetic.add(multiply(r, BASE), multiply(times, torsion)))
        k = challenge(first, public, MESSAGE)
        mixed = first + ((r + k * seed_scalar) % L).to_bytes(32, "little")
        yield bad(
            f"r-mixed-{8 // times}",
            f"R has a part of order {8 // times}: valid only with the cofactor",
            mixed,
            ("fim-sig-7",),
        )
    for slug, first, ok in (
        ("r-identity", b"\1" + bytes(31), True),
        ("r-not-canonical", (P + 1).to_bytes(32, "little"), False),
        ("r-minus-zero", b"\1" + bytes(30) + b"\x80", False),
    ):
        k = challenge(first, public, MESSAGE)
        made = first + (k * seed_scalar % L).to_bytes(32, "little")
        if ok:
            yield vector(
                "ed25519-r-identity", "R is the neutral element, as it is encoded", signer, made, ("fim-sig-7",)
            )
        else:
            yield bad(slug, "R is the neutral element in an encoding that is not canonical", made, ("fim-sig-7",))

    # a key with a part of order 8: [S]B - [k]A has the encoding of R if and only if k is a multiple of 8
    mixed_public = encode_point(arithmetic.add(multiply(seed_scalar, BASE), torsion))
    mixed_signer = odd("key-ed25519-mixed", keys.ED25519, ed25519_spki(mixed_public))
    first = encode_point(multiply(r, BASE))
    by_remainder: dict[int, bytes] = {}
    counter = 0
    while len(by_remainder) < 8:
        message = b"mixed key, message %d" % counter
        by_remainder.setdefault(challenge(first, mixed_public, message) % 8, message)
        counter += 1

    def mixed_value(message: bytes) -> bytes:
        k = challenge(first, mixed_public, message)
        return first + ((r + k * seed_scalar) % L).to_bytes(32, "little")

    good = vector(
        "ed25519-key-mixed",
        "a key with a part of order 8, and k a multiple of 8",
        mixed_signer,
        mixed_value(by_remainder[0]),
        ("fim-sig-5", "fim-sig-7"),
        by_remainder[0],
    )
    yield good
    for remainder in (1, 2, 4):
        message = by_remainder[remainder]
        yield good.fault(
            f"k-{remainder}",
            f"the same key, and k mod 8 is {remainder}: valid only with the cofactor",
            "bad-signature",
            ("fim-sig-7",),
            message=message,
            value=mixed_value(message),
        )


def _ed25519_keys() -> Iterator[Vector]:
    torsion = order_8_point()
    base = _base_of_key(keys.ED25519, "ed25519")
    yield base

    def bad(slug: str, about: str, public: bytes, clause: str, outcome: str = "bad-certificate") -> Vector:
        made = odd(f"key-ed25519-{slug}", keys.ED25519, ed25519_spki(public))
        k = challenge(b"\1" + bytes(31), public, MESSAGE)  # what verifies under a key of order 1, for all that care not
        value = b"\1" + bytes(31) + (k * 0).to_bytes(32, "little")
        return base.fault(slug, about, outcome, (clause,), certificate=made.name, value=value, flags=["re-signed"])

    ys = {int.from_bytes(encode_point(multiply(times, torsion)), "little") & (2**255 - 1) for times in range(8)}
    for number, y in enumerate(sorted(ys)):
        for sign in (0, 1):
            yield bad(
                f"small-{number}-{sign}",
                f"a point of small order, sign bit {sign}",
                (y | sign << 255).to_bytes(32, "little"),
                "fim-sig-5",
            )
    for more in (0, 1, 2, 3, 18):
        for sign in (0, 1):
            yield bad(
                f"p-plus-{more}-{sign}",
                f"y is 2^255 - 19 + {more}, sign bit {sign}",
                (P + more | sign << 255).to_bytes(32, "little"),
                "fim-sig-4",
            )
    y = 2
    found = 0
    while found < 2:
        try:
            point_of(y, 0)
        except ValueError:
            found += 1
            yield bad(
                f"no-point-{found}", f"no point has y = {y}", y.to_bytes(32, "little"), "fim-sig-7", "bad-signature"
            )
        y += 1
    for length in (31, 33):
        yield bad(f"length-{length}", f"a key of {length} bytes", bytes([9]) * length, "fim-sig-3")


# ECDSA


def _ecdsa() -> Iterator[Vector]:
    for scheme, curve in ((keys.ECDSA_P256, arithmetic.P256), (keys.ECDSA_P384, arithmetic.P384)):
        signer = pinned(scheme)
        name = keys.NAMES[scheme]
        secret = (
            int.from_bytes(hashlib.sha256(b"nfs-verity test key " + name.encode()).digest(), "big") % (curve.n - 1) + 1
        )
        r, s = arithmetic.ecdsa_sign(curve, secret, MESSAGE)
        value = ecdsa_der(r, s)
        if value != signer.key.sign(MESSAGE):
            raise ValueError(f"not the key of {name}")
        n = curve.n
        form, order = ("fim-sig-8",), ("fim-sig-9",)
        base = vector(f"{name}-der", "an ECDSA signature", signer, value, ("fim-sig-8", "fim-sig-9"))
        yield base
        yield vector(f"{name}-minus-s", "n - s instead of s: valid too", signer, ecdsa_der(r, n - s), order)

        def bad(
            slug: str, about: str, value: bytes, clauses: Sequence[str], base: Vector = base, scheme: int = scheme
        ) -> Vector:
            return base.fault(slug, about, "bad-signature", clauses, flags=needs(scheme), value=value)

        for slug, pair in (
            ("r-zero", (0, s)),
            ("s-zero", (r, 0)),
            ("both-zero", (0, 0)),
            ("r-is-n", (n, s)),
            ("s-is-n", (r, n)),
            ("r-plus-n", (r + n, s)),
            ("s-plus-n", (r, s + n)),
            ("r-one", (1, s)),
            ("s-one", (r, 1)),
            ("swapped", (s, r)),
            ("r-minus", (r - n, s)),
            ("s-minus", (r, s - n)),
            ("s-negated", (r, -s)),
            ("r-p", (curve.p, s)),
        ):
            yield bad(slug, f"other numbers: {slug}", ecdsa_der(*pair), order)
        size = curve.size
        raw = r.to_bytes(size, "big") + s.to_bytes(size, "big")
        zero_r = item(2, b"\0" + integer(r)[2:])
        for slug, about, changed in (
            ("raw", "r and s end to end, no DER", raw),
            ("zero-in-front", "r with a zero byte too many", sequence(zero_r, integer(s))),
            ("long-length", "the length of the SEQUENCE in the long form", b"\x30\x81" + value[1:]),
            ("long-length-r", "the length of r in the long form", sequence(b"\2\x81" + integer(r)[1:], integer(s))),
            ("indefinite", "an indefinite length", b"\x30\x80" + value[2:] + b"\0\0"),
            ("trailing", "a byte after the SEQUENCE", value + b"\0"),
            ("trailing-inside", "a byte in the SEQUENCE after s", sequence(integer(r), integer(s), b"\0")),
            ("third", "three numbers", sequence(integer(r), integer(s), integer(1))),
            ("one", "one number", sequence(integer(r))),
            ("none", "an empty SEQUENCE", sequence()),
            ("empty-r", "an INTEGER without contents", sequence(item(2), integer(s))),
            ("set", "a SET", b"\x31" + value[1:]),
            ("octets", "OCTET STRINGs", sequence(item(4, integer(r)[2:]), item(4, integer(s)[2:]))),
            (
                "unsigned",
                "numbers without the zero that keeps them positive",
                sequence(item(2, r.to_bytes(size, "big")), item(2, s.to_bytes(size, "big"))),
            ),
            ("cut", "cut by a byte", value[:-1]),
            ("short-length", "a SEQUENCE that announces a byte less", value[:1] + bytes([value[1] - 1]) + value[2:]),
        ):
            if changed == value:
                continue  # neither number needs the zero
            yield bad(slug, about, changed, form)
        wrong = arithmetic.ecdsa_sign_digest(curve, secret, hashlib.sha512(MESSAGE).digest()[: curve.size])
        yield bad("sha512", "over a SHA-512 digest, cut", ecdsa_der(*wrong), ("fim-signed-1",))


# RSA


def _rsa() -> Iterator[Vector]:
    flags = needs(keys.RSA_PSS)
    key, signer = inputs.rsa("rsa-2048"), pinned(keys.RSA_PSS)
    value = signer.key.sign(MESSAGE)
    base = vector(
        "rsa-pss", "an RSA-PSS signature with a salt of 32 bytes", signer, value, ("fim-sig-10", "fim-sig-11")
    )
    yield base
    for slug, salt in (("zeros", bytes(32)), ("ones", b"\xff" * 32)):
        yield vector(
            f"rsa-pss-salt-{slug}",
            f"a salt of {slug}",
            signer,
            arithmetic.pss_sign(key, MESSAGE, salt),
            ("fim-sig-11",),
        )

    def bad(slug: str, about: str, value: bytes) -> Vector:
        return base.fault(slug, about, "bad-signature", ("fim-sig-11",), flags=flags, value=value)

    for length in (0, 1, 20, 31, 33, 48, 64, 222):
        yield bad(f"salt-{length}", f"a salt of {length} bytes", arithmetic.pss_sign(key, MESSAGE, counting(length)))
    for name, hash in (
        ("sha1", hashlib.sha1),
        ("sha384", hashlib.sha384),
        ("sha512", hashlib.sha512),
        ("sha3-256", hashlib.sha3_256),
    ):
        yield bad(f"mask-{name}", f"MGF1 with {name}", arithmetic.pss_sign(key, MESSAGE, keys.SALT, mask_hash=hash))
        yield bad(
            f"hash-{name}",
            f"{name} in place of SHA-256",
            arithmetic.pss_sign(key, MESSAGE, keys.SALT, hash=hash, mask_hash=hash),
        )
    yield bad("pkcs1", "RSASSA-PKCS1-v1_5", arithmetic.pkcs1_sign(key, MESSAGE))
    number = int.from_bytes(value, "big")
    yield bad("zero-in-front", "a zero byte in front", b"\0" + value)
    yield bad("zero-behind", "a zero byte behind", value + b"\0")
    yield bad("cut", "cut by a byte", value[:-1])
    yield bad("empty", "no bytes", b"")
    yield bad("zero", "the number 0", bytes(len(value)))
    yield bad("one", "the number 1", bytes(len(value) - 1) + b"\1")
    yield bad("n", "the modulus", key.n.to_bytes(len(value), "big"))
    yield bad("n-minus-1", "the modulus less 1", (key.n - 1).to_bytes(len(value), "big"))
    yield bad("plus-n", "the number and the modulus", (number + key.n).to_bytes(len(value) + 1, "big"))
    yield bad("minus", "the modulus less the number", (key.n - number).to_bytes(len(value), "big"))

    made = inputs.rsa("rsa-2048")
    p, q = inputs.rsa_primes("rsa-2048")
    for e, ok in (
        (2**32 + 1, False),
        (65539, True),
        (65535, False),
        (65538, False),
        (3, False),
        (1, False),
        (2**31 - 1, True),
    ):
        spki = sequence(sequence(oid("1.2.840.113549.1.1.1"), b"\5\0"), bits(sequence(integer(made.n), integer(e))))
        other = odd(f"key-rsa-e-{e}", keys.RSA_PSS, spki)
        try:
            value = arithmetic.pss_sign(arithmetic.Rsa(p, q, e), MESSAGE, keys.SALT)
        except ValueError:
            value = base.input["value"]
        if ok:
            yield vector(f"rsa-e-{e}", f"the public exponent {e}", other, value, ("fim-sig-10",))
        else:
            yield base.fault(
                f"e-{e}",
                f"the public exponent {e}",
                "bad-certificate",
                ("fim-sig-10",),
                flags=[*flags, "re-signed"],
                certificate=other.name,
                value=value,
            )
    for name, ok in (("1024", False), ("2040", False), ("3072", True), ("4096", True), ("4104", False)):
        other = pinned(keys.RSA_PSS, name)
        value = other.key.sign(MESSAGE)
        if ok:
            yield vector(f"rsa-{name}", f"a modulus of {name} bits", other, value, ("fim-sig-10",))
        else:
            yield base.fault(
                name,
                f"a modulus of {name} bits",
                "bad-certificate",
                ("fim-sig-10",),
                flags=[*flags, "re-signed"],
                certificate=other.name,
                value=value,
            )
    even = sequence(sequence(oid("1.2.840.113549.1.1.1"), null()), bits(sequence(integer(key.n - 1), integer(65537))))
    name = odd("key-rsa-even", keys.RSA_PSS, even).name
    yield base.fault(
        "even", "a modulus that is even", "bad-certificate", ("fim-sig-10",), flags=flags, certificate=name
    )


# ML-DSA


def _ml_dsa() -> Iterator[Vector]:
    for scheme, parameters in keys.ML_DSA.items():
        signer = pinned(scheme)
        name, flags = keys.NAMES[scheme], needs(scheme)
        value = signer.key.sign(MESSAGE)
        base = vector(name, f"an ML-DSA-{parameters} signature", signer, value, ("fim-sig-12",))
        yield base
        sign = partial(inputs.ml_dsa_sign, parameters, name)
        changes: list[tuple[str, str, bytes]] = [("context", "a context of one byte", sign(MESSAGE, b"x"))]
        if parameters == 44:
            changes += [
                ("context-255", "a context of 255 bytes", sign(MESSAGE, counting(255))),
                ("digest", "over the SHA-512 of the message", sign(hashlib.sha512(MESSAGE).digest(), b"")),
                ("first", "its first byte altered", bytes([value[0] ^ 1]) + value[1:]),
                ("hint", "its last byte, which counts hints, altered", value[:-1] + b"\xff"),
                ("cut", "cut by a byte", value[:-1]),
                ("more", "longer by a byte", value + b"\0"),
            ]  # fmt: skip
        changes += [("empty", "no bytes", b""), ("zeros", "zeros", bytes(len(value)))]
        for slug, about, changed in changes:
            yield base.fault(slug, about, "bad-signature", ("fim-sig-12",), flags=flags, value=changed)


# Encodings of keys


def _encodings() -> Iterator[Vector]:
    """A key has one encoding (fim-sig-13)."""
    rules = ("fim-sig-13",)
    for scheme in keys.NAMES:
        signer, flags = pinned(scheme), needs(scheme)
        about = f"a key for {signer.name} in its one encoding"
        base = vector(f"encoding-{signer.name}", about, signer, signer.key.sign(MESSAGE), rules)
        yield base
        for slug, about, spki in _other_encodings(scheme, signer.key.spki):
            name = odd(f"key-encoding-{signer.name}-{slug}", scheme, spki).name
            yield base.fault(slug, about, "bad-certificate", rules, flags=flags, certificate=name)


def _other_encodings(scheme: int, spki: bytes) -> Iterator[tuple[str, str, bytes]]:
    start = {0x81: 3, 0x82: 4}.get(spki[1], 2)
    algorithm = spki[start : start + 2 + spki[start + 1]]
    key = spki[start + len(algorithm) :]
    inside = algorithm[2:]
    yield "more", "something behind the key", sequence(algorithm, key, null())
    yield (
        "unused",
        "a bit of the key that is not used",
        sequence(algorithm, key[: _head(key)] + b"\1" + key[_head(key) + 1 :]),
    )
    if scheme == keys.RSA_PSS:
        made = inputs.rsa("rsa-2048")
        yield "absent", "no parameters", sequence(item(0x30, inside[:-2]), key)
        long = bits(sequence(integer(made.n), item(2, b"\0\1\0\1")))
        yield "long-e", "an exponent that is not in its shortest form", sequence(algorithm, long)
        yield "trailing", "a byte behind the numbers", sequence(algorithm, bits(key[_head(key) + 1 :] + b"\0"))
    elif scheme in (keys.ECDSA_P256, keys.ECDSA_P384):
        point = key[_head(key) + 1 :]
        half = len(point) // 2
        id_ec = oid("1.2.840.10045.2.1")
        yield (
            "compressed",
            "a compressed point",
            sequence(algorithm, bits(bytes([2 + point[-1] % 2]) + point[1 : half + 1])),
        )
        yield "hybrid", "a point in the hybrid form", sequence(algorithm, bits(bytes([6 + point[-1] % 2]) + point[1:]))
        yield "infinity", "the point at infinity", sequence(algorithm, bits(b"\0"))
        yield "no-curve", "no parameters", sequence(sequence(id_ec), key)
        yield "explicit", "parameters that are no name", sequence(sequence(id_ec, sequence(inside[len(id_ec) :])), key)
    else:
        yield "null", "NULL as parameters", sequence(item(0x30, inside, null()), key)


def _head(item: bytes) -> int:
    """Bytes of an item's tag and length."""
    return {0x81: 3, 0x82: 4}.get(item[1], 2)
