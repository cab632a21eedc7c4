# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""Verification and certificates: usage, time, decoding, CAs and paths (fim-cert)."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from . import certificates, keys, sample
from .case import (
    HOST,
    SCHEMES,
    Case,
    certificates_for,
    entry,
    example_case,
    fault,
    needs,
    signed_by,
)
from .certificates import COMMON_NAME, Signer, authority, example, intermediate, issued, self_signed
from .der import item
from .form import Vector
from .sample import statement


def build() -> Iterator[Vector]:
    yield from _usage()
    yield from _decoding()
    yield from _authorities()
    yield from _time()


def _usage() -> Iterator[Vector]:
    """keyUsage and extended key usage of a pinned certificate (fim-cert-5 to fim-cert-8)."""
    key = keys.ed25519("usage")
    both = (bytes([certificates.DIGITAL_SIGNATURE[0][0] | certificates.KEY_ENCIPHERMENT[0][0]]), 5)
    document, code, client, anything = (
        certificates.DOCUMENT_SIGNING,
        certificates.CODE_SIGNING,
        certificates.CLIENT_AUTH,
        certificates.ANY_PURPOSE,
    )
    plain = self_signed("usage-plain", key)
    base = signed_by(plain).vector("usage", "a pinned certificate with digitalSignature", ("fim-cert-5", "fim-cert-7"))
    yield base
    for slug, more, clause in (
        ("more-usages", {"usage": both}, "fim-cert-5"),
        ("document-signing", {"purposes": (document,)}, "fim-cert-6"),
        ("with-others", {"purposes": (code, document, client)}, "fim-cert-6"),
        ("any-and-document", {"purposes": (anything, document)}, "fim-cert-8"),
        ("unknown-extension", {"unknown_critical": True}, "fim-cert-18"),
        ("serial-0", {"serial": 0}, "fim-cert-18"),
        ("serial-negative", {"serial": -1}, "fim-cert-18"),
        ("serial-long", {"serial": 1 << 300}, "fim-cert-18"),
    ):
        signer = self_signed(f"usage-{slug}", key, **more)
        yield signed_by(signer).vector(f"usage-{slug}", f"a pinned certificate: {slug}", (clause,))
    unusable: list[tuple[str, str, dict[str, Any], str]] = [
        ("none", "no keyUsage", {"usage": None}, "fim-cert-5"),
        ("encipherment", "keyEncipherment only", {"usage": certificates.KEY_ENCIPHERMENT}, "fim-cert-5"),
        ("cert-sign", "keyCertSign only", {"usage": certificates.CERT_SIGN}, "fim-cert-5"),
        (
            "none-but-purpose",
            "documentSigning, and no keyUsage",
            {"usage": None, "purposes": (document,)},
            "fim-cert-5",
        ),
        ("code", "for signing code", {"purposes": (code,)}, "fim-cert-6"),
        ("client", "for clients of TLS", {"purposes": (client, code)}, "fim-cert-6"),
        ("any", "for any purpose", {"purposes": (anything,)}, "fim-cert-8"),
        ("any-and-code", "for any purpose and for code", {"purposes": (anything, code)}, "fim-cert-8"),
    ]
    for slug, about, more, clause in unusable:
        signer = self_signed(f"usage-{slug}", key, **more)
        yield fault(
            base, slug, f"a certificate: {about}", "wrong-usage", 8, signed_by(signer), (clause,), ["re-signed"]
        )
    other = issued("usage-issuer-unknown", key, authority("ca-of-nobody"), purposes=None, ca=None)
    yield signed_by(other).vector(
        "usage-issuer-unknown", "a pinned certificate of an issuer that nobody knows", ("fim-cert-9",)
    )
    broken = other.der[:-8] + bytes(8)
    certificates.listed("usage-issuer-broken", broken)
    signer = Signer("usage-issuer-broken", key, broken)
    yield signed_by(signer).vector(
        "usage-issuer-broken", "a pinned certificate whose own signature does not verify", ("fim-cert-9",)
    )
    ended = issued(
        "usage-issuer-ended",
        key,
        Signer("ca-ended", keys.ecdsa(keys.ECDSA_P256, "ca-ended"), b""),
        purposes=None,
        ca=None,
    )
    yield signed_by(ended).vector(
        "usage-issuer-ended", "a pinned certificate below one that is nowhere to be had", ("fim-cert-9",)
    )


def _decoding() -> Iterator[Vector]:
    """Pinned certificates that cannot be decoded, or are too long (fim-cert-3)."""
    signer = example()
    base = example_case().vector("certificate", "a pinned certificate that can be decoded", ("fim-cert-3",))
    yield base
    der = signer.der
    for slug, changed in (
        ("empty", b""),
        ("cut", der[:-1]),
        ("more", der + b"\0"),
        ("text", b"-----BEGIN CERTIFICATE-----\n"),
        ("half", der[: len(der) // 2]),
        ("integer", b"\2\1\5"),
    ):
        name = certificates.listed(f"undecodable-{slug}", changed)
        case = signed_by(Signer(name, signer.key, changed))
        yield fault(
            base, slug, f"not a certificate: {slug}", "bad-certificate", 8, case, ("fim-cert-3",), ["re-signed"]
        )
    version = der.index(b"\xa0\3\2\1\2") + 4
    for number in (0, 1, 3):
        changed = der[:version] + bytes([number]) + der[version + 1 :]
        name = certificates.listed(f"undecodable-version-{number + 1}", changed)
        case = signed_by(Signer(name, signer.key, changed))
        about = f"a certificate of version {number + 1}"
        yield fault(base, f"version-{number + 1}", about, "bad-certificate", 8, case, ("fim-cert-3",), ["re-signed"])
    for slug, usage in (("usage-zeros", (b"\x80\0", 7)), ("usage-unused", (b"\x80", 0)), ("usage-8", (b"\x80", 8))):
        case = signed_by(self_signed(f"undecodable-{slug}", signer.key, usage=usage))
        about = "a keyUsage that is not in its one form"
        yield fault(base, slug, about, "bad-certificate", 8, case, ("fim-cert-3",), ["re-signed"])
    for slug, fault_in in (("month", b"261301000000Z"), ("second", b"260101000060Z"), ("zone", b"260101000000+")):
        changed = der.replace(b"260101000000Z", fault_in)
        case = signed_by(Signer(certificates.listed(f"undecodable-{slug}", changed), signer.key, changed))
        about = f"a time that is none: its {slug}"
        yield fault(base, slug, about, "bad-certificate", 8, case, ("fim-cert-3",), ["re-signed"])
    utc, general = 0x17, 0x18
    year = (b"260101000000Z", b"351231235959Z")
    for slug, first, last in (
        ("generalized", item(general, b"20" + year[0]), item(general, b"20" + year[1])),
        ("1950", item(utc, b"500101000000Z"), item(utc, year[1])),
        ("year-1", item(general, b"00010101000000Z"), item(utc, year[1])),
        ("leap-day", item(utc, b"240229000000Z"), item(utc, year[1])),
        ("9999", item(utc, year[0]), item(general, b"99991231235959Z")),
    ):
        form = self_signed(f"time-form-{slug}", signer.key, times=(first, last))
        yield signed_by(form).vector(
            f"certificate-time-{slug}", f"a form of a time that is one: {slug}", ("fim-cert-3",)
        )
    for slug, first in (
        ("no-seconds", item(utc, b"2601010000Z")),
        ("offset", item(utc, b"260101000000+0000")),
        ("fraction", item(general, b"20260101000000.5Z")),
        ("two-digits", item(general, year[0])),
        ("four-digits", item(utc, b"20" + year[0])),
        ("no-zone", item(utc, b"260101000000")),
        ("day", item(utc, b"260230000000Z")),
        ("hour", item(utc, b"260101240000Z")),
        ("year-0", item(general, b"00000101000000Z")),
        ("spaces", item(utc, b" 60101000000Z")),
        ("text", item(0x0C, year[0])),
    ):
        form = self_signed(f"undecodable-time-{slug}", signer.key, times=(first, item(utc, year[1])))
        about = f"a form of a time that is none: {slug}"
        yield fault(base, f"time-{slug}", about, "bad-certificate", 8, signed_by(form), ("fim-cert-3",), ["re-signed"])
    for length, verdict in ((16384, "verified"), (16385, "bad-certificate"), (20000, "bad-certificate")):
        filled = _of_length(length)
        certificates.listed(f"length-{length}", filled.der)
        case = signed_by(filled)
        if verdict == "verified":
            yield case.vector(f"certificate-{length}", f"a certificate of {length} bytes", ("fim-cert-3",))
        else:
            yield fault(
                base, str(length), f"a certificate of {length} bytes", verdict, 8, case, ("fim-cert-3",), ["re-signed"]
            )


def _of_length(length: int) -> Signer:
    key = keys.ed25519("long")
    subject = certificates.common_name("long")
    start = len(certificates.certificate(key, subject, key, padding=b"\1" * 14000))
    der = certificates.certificate(key, subject, key, padding=b"\1" * (14000 + length - start))
    if len(der) != length:
        raise ValueError(f"{len(der)} bytes, not {length}")
    return Signer(f"length-{length}", key, der)


def _authorities() -> Iterator[Vector]:
    """Signers below a CA (fim-cert-1, -7, -10, -11, fim-trust-6)."""
    path, use = ("fim-cert-10", "fim-cert-11", "fim-cert-14", "fim-cert-16"), ("fim-cert-7",)
    for name, scheme in (("ca", keys.ECDSA_P256), ("ca-p384", keys.ECDSA_P384), ("ca-rsa", keys.RSA_PSS)):
        ca = authority(name, scheme)
        leaf = issued(f"{name}-leaf", keys.ed25519(f"{name}-leaf"), ca)
        yield below(leaf, ca).vector(f"ca-{name.removeprefix('ca-')}", f"a signer below the CA {name}", path)
    ca = authority("ca")
    for scheme in (keys.ECDSA_P256, keys.ECDSA_P384, keys.RSA_PSS, 0x0905):
        key = (
            keys.rsa("rsa-2048")
            if scheme == keys.RSA_PSS
            else keys.ml_dsa(scheme, "ml-dsa-65")
            if scheme == 0x0905
            else keys.ecdsa(scheme, "ca-leaf")
        )
        leaf = issued(f"ca-leaf-{keys.NAMES[scheme]}", key, ca)
        yield below(leaf, ca).vector(
            f"ca-leaf-{keys.NAMES[scheme]}", f"a signer with {keys.NAMES[scheme]} below a CA", path, needs(scheme)
        )
    leaf = issued("ca-leaf", keys.ed25519("ca-leaf"), ca)
    case = below(leaf, ca)
    base = case.vector(
        "ca-base",
        "a signer below a CA",
        (*path, "fim-cert-1", "fim-cert-2", "fim-trust-1", "fip-cert-1", "fip-cert-5", "fip-cert-6", "fip-cert-7"),
    )
    yield base
    subject = case.trust[0]["subject"]

    def bad(
        slug: str,
        about: str,
        verdict: str,
        changed: Case,
        clauses: Sequence[str],
        step: int | None = None,
        flags: Sequence[str] = (),
    ) -> Vector:
        return fault(base, slug, about, verdict, step, changed, clauses, flags)

    yield bad(
        "nothing",
        "no certificate is to be had",
        "no-certificate",
        replace(case, certificates=()),
        ("fim-cert-2", "fim-ver-4"),
    )
    yield bad(
        "other-name",
        "the certificate is to be had under another fingerprint only",
        "no-certificate",
        replace(case, certificates=(certificates_for(example()),)),
        ("fim-ver-4",),
    )
    wrong = {"hash": 1, "digest": leaf.digest, "given": ["ca-leaf-ecdsa-p256"]}
    yield bad(
        "another",
        "another certificate is given for the fingerprint",
        "bad-certificate",
        replace(case, certificates=(wrong,)),
        ("fim-cert-1", "fip-cert-1", "fip-cert-5"),
    )
    altered = bytearray(leaf.der)
    altered[-1] ^= 1
    certificates.listed("ca-leaf-altered", bytes(altered))
    wrong = {"hash": 1, "digest": leaf.digest, "given": ["ca-leaf-altered"]}
    yield bad(
        "altered",
        "the certificate given has a bit altered",
        "bad-certificate",
        replace(case, certificates=(wrong,)),
        ("fim-cert-1", "fip-cert-1", "fip-cert-5"),
    )
    not_first = {"hash": 1, "digest": leaf.digest, "given": [ca.name, leaf.name]}
    yield bad(
        "second",
        "the certificate is given as the second",
        "bad-certificate",
        replace(case, certificates=(not_first,)),
        ("fim-cert-1", "fip-cert-1", "fip-cert-5"),
    )
    yield bad(
        "no-ca",
        "no entry for the CA: to be given a certificate is not to trust it",
        "untrusted",
        replace(case, trust=()),
        ("fim-cert-2", "fip-cert-7"),
    )
    pinned_ca = replace(case, trust=(entry(ca.name),))
    yield bad(
        "pinned-ca",
        "the CA is pinned as a signer, which it is not",
        "untrusted",
        pinned_ca,
        ("fim-cert-2", "fip-cert-7"),
    )
    given_root = replace(
        case,
        trust=(entry(authority("ca-p384", keys.ECDSA_P384).name, ca=True, subject=subject, volumes=[sample.VOLUME]),),
        certificates=(certificates_for(leaf, ca.name),),
    )
    yield bad(
        "given-root",
        "the CA is given along, and not trusted",
        "bad-certificate",
        given_root,
        ("fim-cert-2", "fim-cert-10", "fip-cert-6"),
    )

    for slug, about, asked in (
        ("subject", "another subject", [{"type": COMMON_NAME, "value": "other"}]),
        ("subject-part", "the start of the subject", [{"type": COMMON_NAME, "value": "ca-lea"}]),
        ("subject-more", "an attribute more", [*subject, {"type": certificates.ORGANIZATION, "value": "Example"}]),
    ):
        yield bad(
            slug,
            f"the entry asks for {about}",
            "out-of-scope",
            replace(case, trust=(entry(ca.name, ca=True, subject=asked, volumes=[sample.VOLUME]),)),
            ("fim-trust-6",),
            8,
        )
    yield bad(
        "volume",
        "the CA entry is for another volume",
        "out-of-scope",
        replace(case, trust=(case.trust[0] | {"volumes": [bytes(16)]},)),
        ("fim-ver-4",),
        7,
    )
    yield bad(
        "scheme",
        "the CA entry is for another scheme",
        "out-of-scope",
        replace(case, trust=(case.trust[0] | {"schemes": [keys.ECDSA_P256]},)),
        ("fim-ver-4",),
        7,
    )
    yield bad(
        "prefix",
        "the CA entry is for a URL, where there is none",
        "out-of-scope",
        replace(case, trust=(case.trust[0] | {"volumes": [], "prefixes": [f"{HOST}/"]},)),
        ("fim-trust-4",),
        7,
    )

    document, code = certificates.DOCUMENT_SIGNING, certificates.CODE_SIGNING
    key = leaf.key

    def instead(slug: str, by: Signer = ca, **more: Any) -> Case:
        options = {"subject": certificates.common_name(leaf.name)} | more
        return below(issued(f"ca-leaf-{slug}", key, by, **options), ca)

    yield bad(
        "no-purpose",
        "the certificate has no extended key usage",
        "wrong-usage",
        instead("no-purpose", purposes=None),
        use,
        flags=["re-signed"],
    )
    yield bad(
        "code",
        "the certificate is for signing code",
        "wrong-usage",
        instead("code", purposes=(code,)),
        ("fim-cert-6",),
        flags=["re-signed"],
    )
    yield bad(
        "any",
        "the certificate is for any purpose",
        "wrong-usage",
        instead("any", purposes=(certificates.ANY_PURPOSE,)),
        ("fim-cert-8",),
        flags=["re-signed"],
    )
    yield bad(
        "no-purpose-no-usage",
        "the certificate has neither keyUsage nor extended key usage",
        "wrong-usage",
        instead("no-purpose-no-usage", usage=None, purposes=None),
        ("fim-cert-5", *use),
        flags=["re-signed"],
    )
    yield bad(
        "no-usage",
        "the certificate has no keyUsage",
        "wrong-usage",
        instead("no-usage", usage=None),
        ("fim-cert-5",),
        flags=["re-signed"],
    )
    yield bad(
        "encipherment",
        "the certificate is for encipherment",
        "wrong-usage",
        instead("encipherment", usage=certificates.KEY_ENCIPHERMENT),
        ("fim-cert-5",),
        flags=["re-signed"],
    )
    yield instead("two-purposes", purposes=(code, document)).vector(
        "ca-leaf-two-purposes", "a signer below a CA with two purposes", ("fim-cert-6", "fim-cert-7")
    )
    yield bad(
        "early",
        "the certificate is not valid yet",
        "not-yet-valid",
        instead("early", not_before=sample.NOW + 1),
        ("fim-cert-4",),
        flags=["re-signed"],
    )
    yield bad(
        "late",
        "the certificate is not valid any more",
        "expired",
        instead("late", not_after=sample.NOW - 1),
        ("fim-cert-4",),
        flags=["re-signed"],
    )
    yield instead("just", not_before=sample.NOW, not_after=sample.NOW).vector(
        "ca-leaf-just", "a signer below a CA, valid for this second", ("fim-cert-4",)
    )

    ca_key = ca.key
    for slug, about, hash, dotted in (
        ("sha1", "ECDSA under SHA-1", hashlib.sha1, "1.2.840.10045.4.1"),
        ("sha224", "ECDSA under SHA-224", hashlib.sha224, "1.2.840.10045.4.3.1"),
    ):
        weak = Signer(ca.name, keys.ecdsa_under(ca.name, hash, dotted), ca.der)
        if weak.key.spki != ca_key.spki:
            raise ValueError("another key")
        changed = instead(slug, weak)
        yield bad(
            slug, f"the CA signed with {about}", "bad-certificate", changed, ("fim-cert-14",), flags=["re-signed"]
        )
    small = self_signed("ca-rsa-1024", keys.rsa("rsa-1024"), ca=True, usage=certificates.CERT_SIGN)
    changed = below(issued("ca-leaf-rsa-1024", key, small, subject=certificates.common_name(leaf.name)), small)
    yield bad(
        "rsa-1024", "the CA has a key of 1,024 bits", "bad-certificate", changed, ("fim-cert-14",), flags=["re-signed"]
    )
    impostor = Signer(ca.name, keys.ecdsa(keys.ECDSA_P256, "impostor"), ca.der)
    yield bad(
        "impostor",
        "signed by another key under the CA's name",
        "bad-certificate",
        instead("impostor", impostor),
        path,
        flags=["re-signed"],
    )
    own = self_signed("ca-leaf-own", key, purposes=(document,), ca=False)
    own_case = replace(
        below(own, ca),
        trust=(entry(ca.name, ca=True, subject=[{"type": COMMON_NAME, "value": own.name}], volumes=[sample.VOLUME]),),
    )
    yield bad("own", "the certificate is self-signed", "bad-certificate", own_case, path, flags=["re-signed"])
    stranger = authority("ca-stranger")
    yield bad(
        "stranger",
        "issued by a CA that is not trusted",
        "bad-certificate",
        below(issued("ca-leaf-stranger", key, stranger, subject=certificates.common_name(leaf.name)), ca),
        path,
        flags=["re-signed"],
    )

    yield from _chains(ca, key)


def below(leaf: Signer, ca: Signer, **changed: Any) -> Case:
    """Signed by a leaf; trusted is the CA, for the leaf's name and the volume."""
    subject = [
        {
            "type": COMMON_NAME,
            "value": "ca-leaf" if leaf.name.startswith("ca-leaf-") and leaf.name not in OWN_NAMES else leaf.name,
        }
    ]
    parts: dict[str, Any] = {
        "trust": (entry(ca.name, ca=True, subject=subject, volumes=[sample.VOLUME]),),
        "certificates": (certificates_for(leaf, *leaf.chain),),
    }
    return signed_by(leaf, **(parts | changed))


OWN_NAMES = {f"ca-leaf-{keys.NAMES[scheme]}" for scheme in SCHEMES} | {"ca-leaf-own"}
"""Leaves whose subject is their own name; the subject of the others is that of the one they stand in for."""


def _chains(ca: Signer, key: keys.Key) -> Iterator[Vector]:
    path = ("fim-cert-10", "fim-cert-11", "fip-cert-6")
    first = intermediate("sub", ca)
    leaf = issued("sub-leaf", key, first)
    case = below(leaf, ca)
    base = case.vector("chain", "a signer below a CA below the CA", path)
    yield base

    def bad(slug: str, about: str, leaf: Signer | None = None, **changed: Any) -> Vector:
        changed_case = replace(case if leaf is None else below(leaf, ca), **changed)
        trust = [part | {"subject": case.trust[0]["subject"]} for part in changed_case.trust]
        return fault(
            base,
            slug,
            about,
            "bad-certificate",
            8,
            replace(changed_case, trust=tuple(trust)),
            path,
            [] if leaf is None else ["re-signed"],
        )

    def under(slug: str, **more: Any) -> Signer:
        between = intermediate(f"sub-{slug}", ca, **more)
        return issued(f"sub-{slug}-leaf", key, between, subject=certificates.common_name(leaf.name))

    yield bad("missing", "the CA between is not given", certificates=(certificates_for(leaf),))
    yield bad(
        "other", "another CA is given instead", certificates=(certificates_for(leaf, authority("ca-stranger").name),)
    )
    yield bad("expired", "the CA between is not valid any more", under("expired", not_after=sample.NOW - 1))
    yield bad("early", "the CA between is not valid yet", under("early", not_before=sample.NOW + 1))
    yield bad("no-ca", "the one between is no CA", under("no-ca", ca=False, usage=certificates.DIGITAL_SIGNATURE))
    yield bad("no-constraints", "the one between has no basicConstraints", under("no-constraints", ca=None))
    yield bad(
        "no-cert-sign",
        "the CA between may not sign certificates",
        under("no-cert-sign", usage=certificates.DIGITAL_SIGNATURE),
    )
    yield bad(
        "critical",
        "the CA between has a critical extension that nobody knows",
        under("critical", unknown_critical=True),
    )
    deep = intermediate("sub-deep", intermediate("sub-path-0", ca, path_length=0))
    yield bad(
        "path-length",
        "a CA below one that allows none below",
        issued("sub-deep-leaf", key, deep, subject=certificates.common_name(leaf.name)),
    )
    wide = intermediate("sub-wide-2", intermediate("sub-path-1", ca, path_length=1))
    yield below(issued("sub-wide-leaf", key, wide), ca).vector(
        "chain-path-length", "a CA below one that allows one below", path
    )
    yield replace(case, certificates=(certificates_for(leaf, *leaf.chain, example().name, "undecodable-text"),)).vector(
        "chain-more", "certificates that have nothing to do with it are given along", ("fim-cert-10",)
    )
    yield replace(case, certificates=(certificates_for(leaf, example().name, *leaf.chain),)).vector(
        "chain-order", "the CA between is given after one that has nothing to do with it", ("fim-cert-10",)
    )
    for count in (2, 7, 8):
        by = ca
        for number in range(count):
            by = intermediate(f"sub-{count}-{number + 1}", by)
        last = issued(f"sub-{count}-leaf", key, by)
        if count <= 7:
            yield below(last, ca).vector(
                f"chain-{count}", f"{count} CAs between: {count + 1} certificates below that of the entry", path
            )
        else:
            last = issued(f"sub-{count}-leaf-as", key, by, subject=certificates.common_name(leaf.name))
            yield bad("8-between", "eight CAs between: nine certificates below that of the entry", last)
    for slug, purposes, good in (
        ("document", (certificates.DOCUMENT_SIGNING,), True),
        ("any", (certificates.ANY_PURPOSE,), True),
        ("code", (certificates.CODE_SIGNING,), False),
        ("client", (certificates.CLIENT_AUTH, certificates.CODE_SIGNING), False),
    ):
        between = under(f"purpose-{slug}", purposes=purposes)
        about = f"the CA between is for: {slug}"
        if good:
            yield below(between, ca, trust=case.trust).vector(f"chain-purpose-{slug}", about, ("fim-cert-15",))
        else:
            yield replace(bad(f"purpose-{slug}", about, between), clauses=("fim-cert-15",))
    strangers = (*[example().name] * 6, authority("ca-stranger").name)
    yield replace(case, certificates=(certificates_for(leaf, *strangers[:6], *leaf.chain),)).vector(
        "chain-eighth", "the CA between is the eighth certificate that is given", ("fim-cert-13",)
    )
    for slug, count in (("ninth", 7), ("later", 20)):
        late = certificates_for(leaf, *(strangers * 3)[:count], *leaf.chain)
        about = f"the CA between is given after {count + 1} others"
        yield replace(bad(slug, about, certificates=(late,)), clauses=("fim-cert-13",))
    for slug, usage in (("ca", b"\x86"), ("ca-only", b"\x84")):
        both = self_signed(f"ca-signs-{slug}", ca.key, ca=True, usage=(usage, 1 if usage == b"\x86" else 2),
                           purposes=(certificates.DOCUMENT_SIGNING,))  # fmt: skip
        alone = replace(below(both, both), trust=(entry(both.name, ca=True, subject=[
            {"type": COMMON_NAME, "value": both.name}], volumes=[sample.VOLUME]),))  # fmt: skip
        yield fault(
            base,
            f"signer-is-{slug}",
            "the signer is the CA itself",
            "bad-certificate",
            8,
            alone,
            ("fim-cert-16",),
            ["re-signed"],
        )
    swapped = below(leaf, first)
    yield swapped.vector("chain-anchor-between", "the entry names the CA between itself", ("fim-cert-10",))
    two = replace(
        case,
        trust=(entry("ca-stranger", ca=True, subject=case.trust[0]["subject"], volumes=[sample.VOLUME]), case.trust[0]),
    )
    yield two.vector("chain-second-entry", "the second CA entry is the one that the path leads to", ("fim-cert-10",))
    other_subject = [{"type": COMMON_NAME, "value": "other"}]
    two = replace(case, trust=(case.trust[0] | {"subject": other_subject}, case.trust[0]))
    yield two.vector("chain-second-subject", "two entries for the CA, the second with the subject", ("fim-trust-6",))


def _time() -> Iterator[Vector]:
    case = example_case()
    for slug, about, clause, now in (
        ("not-before", "now is the first second of the certificate", "fim-cert-4", certificates.NOT_BEFORE),
        ("not-after", "now is the last second of the certificate", "fim-cert-4", certificates.NOT_AFTER),
    ):
        yield replace(case, statement=statement(issued=0).encode(), now=now).vector(f"time-{slug}", about, (clause,))
    base = replace(case, statement=statement(issued=sample.NOW + 300, not_after=sample.NOW).encode()).vector(
        "time", "issued at now + 300, to end now", ("fim-ver-4", "fim-st-5")
    )
    yield base
    late = replace(case, statement=statement(issued=sample.NOW + 301, not_after=sample.NOW).encode())
    yield fault(base, "issued", "issued at now + 301", "issued-in-future", 12, late, ("fim-ver-4",), ["re-signed"])
    ended = replace(case, statement=statement(issued=sample.NOW + 300, not_after=sample.NOW - 1).encode())
    yield fault(base, "ended", "ended a second ago", "record-expired", 12, ended, ("fim-ver-4",), ["re-signed"])
    both = replace(case, statement=statement(issued=2**63 - 1, not_after=-(2**63)).encode())
    yield fault(
        base,
        "both",
        "issued at the end of time, ended at its start: now + 300 does not overflow",
        "issued-in-future",
        12,
        both,
        ("fim-ver-4",),
        ["re-signed", "several-faults"],
    )
    yield fault(
        base,
        "second-later",
        "a second later",
        "record-expired",
        12,
        replace(case, statement=statement(issued=sample.NOW + 300, not_after=sample.NOW).encode(), now=sample.NOW + 1),
        ("fim-ver-4",),
    )
    yield fault(
        base,
        "second-earlier",
        "a second earlier",
        "issued-in-future",
        12,
        replace(case, statement=statement(issued=sample.NOW + 300, not_after=sample.NOW).encode(), now=sample.NOW - 1),
        ("fim-ver-4",),
    )
    old_key = self_signed("time-ended", keys.ed25519("time-ended"), not_after=sample.NOW - 1)
    good = self_signed("time-valid", keys.ed25519("time-ended"), not_after=sample.NOW)
    base = signed_by(good).vector("time-valid", "a certificate that ends now", ("fim-cert-4",))
    yield base
    yield fault(
        base,
        "ended",
        "a certificate that ended, and a statement issued before that: now counts",
        "expired",
        8,
        signed_by(old_key),
        ("fim-cert-4",),
        ["re-signed"],
    )
    century = self_signed("time-2050", keys.ed25519("time-2050"), not_after=2_524_608_000 + 86_400)
    yield signed_by(century, now=2_524_608_000 + 86_400).vector(
        "time-2050", "a certificate that ends in 2050, at that second", ("fim-cert-4",)
    )
    base = signed_by(century).vector("time-2050-now", "a certificate that ends in 2050", ("fim-cert-4",))
    yield base
    yield fault(
        base,
        "late",
        "a second after its end",
        "expired",
        8,
        signed_by(century, now=2_524_608_000 + 86_401),
        ("fim-cert-4",),
    )
