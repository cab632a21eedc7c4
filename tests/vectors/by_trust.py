# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""Verification and trust entries: scope, and several signers (fim-trust, fim-ver-5, fim-ver-6)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from oracle import records

from . import certificates, keys, sample
from .case import (
    HOST,
    Attestation,
    Case,
    certificates_for,
    entry,
    example_case,
    fault,
    signed_by,
)
from .certificates import COMMON_NAME, Signer, authority, example, issued, pinned, self_signed
from .form import Vector


def build() -> Iterator[Vector]:
    yield from _scope()
    yield from _several_signers()


def _scope() -> Iterator[Vector]:
    """What an entry may speak for (fim-trust)."""
    case, name = example_case(url=f"{HOST}/d/f"), example().name
    other = pinned(keys.ED25519)
    sample_subject = [{"type": COMMON_NAME, "value": "example"}]
    named = certificates.certificate(
        keys.ed25519("scope"),
        ((certificates.COUNTRY, "DE"), (certificates.ORGANIZATION, "Example"), (COMMON_NAME, "signer")),
        keys.ed25519("scope"),
    )
    certificates.listed("scope-named", named)
    full = Signer("scope-named", keys.ed25519("scope"), named)

    def trusting(**parts: Any) -> Case:
        return replace(case, trust=(entry(name, **parts),))

    base = case.vector("scope", "an entry without limits, at a URL", ("fim-trust-4",))
    yield base
    for slug, about, parts, clause in (
        ("volume", "an entry for the volume", {"volumes": [sample.VOLUME]}, "fim-ver-4"),
        ("volumes", "an entry for two volumes", {"volumes": [bytes(16), sample.VOLUME]}, "fim-ver-4"),
        ("prefix-host", "an entry for the whole server", {"prefixes": [f"{HOST}/"]}, "fim-trust-3"),
        ("prefix-directory", "an entry for the directory", {"prefixes": [f"{HOST}/d"]}, "fim-trust-3"),
        ("prefix-slash", "an entry for the directory, with a slash", {"prefixes": [f"{HOST}/d/"]}, "fim-trust-3"),
        ("prefix-file", "an entry for the very file", {"prefixes": [f"{HOST}/d/f"]}, "fim-trust-3"),
        (
            "prefixes",
            "an entry for two places",
            {"prefixes": ["nfsv://other.example:7447/", f"{HOST}/d"]},
            "fim-trust-3",
        ),
        ("scheme", "an entry for the scheme", {"schemes": [keys.ED25519]}, "fim-ver-4"),
        ("schemes", "an entry for two schemes", {"schemes": [keys.ECDSA_P256, keys.ED25519]}, "fim-ver-4"),
        ("subject", "an entry for the subject", {"subject": sample_subject}, "fim-trust-6"),
        (
            "all",
            "an entry with every limit",
            {
                "subject": sample_subject,
                "volumes": [sample.VOLUME],
                "prefixes": [f"{HOST}/d"],
                "schemes": [keys.ED25519],
            },
            "fim-trust-6",
        ),
    ):
        yield trusting(**parts).vector(f"scope-{slug}", about, (clause,))
    for slug, about, parts, clause in (
        ("volume", "an entry for another volume", {"volumes": [bytes(16)]}, "fim-ver-4"),
        ("prefix-host", "an entry for another server", {"prefixes": ["nfsv://host.example:7448/"]}, "fim-trust-3"),
        ("prefix-part", "a prefix that is longer than the name", {"prefixes": [f"{HOST}/d/f0"]}, "fim-trust-3"),
        (
            "prefix-sibling",
            "a prefix that is the start of the name only",
            {"prefixes": [f"{HOST}/d/f/g"]},
            "fim-trust-3",
        ),
        ("prefix-case", "a prefix in other letters", {"prefixes": [f"{HOST}/D"]}, "fim-trust-3"),
        ("scheme", "an entry for another scheme", {"schemes": [keys.ECDSA_P256]}, "fim-ver-4"),
        (
            "subject-value",
            "an entry for another subject",
            {"subject": [{"type": COMMON_NAME, "value": "exampl"}]},
            "fim-trust-6",
        ),
        (
            "subject-case",
            "an entry for the subject in other letters",
            {"subject": [{"type": COMMON_NAME, "value": "Example"}]},
            "fim-trust-6",
        ),
        (
            "subject-type",
            "an entry for the subject as another attribute",
            {"subject": [{"type": certificates.ORGANIZATION, "value": "example"}]},
            "fim-trust-6",
        ),
        (
            "subject-more",
            "an entry that asks for an attribute more",
            {"subject": [*sample_subject, {"type": certificates.ORGANIZATION, "value": "Example"}]},
            "fim-trust-6",
        ),
    ):
        yield fault(base, slug, about, "out-of-scope", 7, trusting(**parts), (clause,))
    segments = case.vector("scope-segments", "a prefix compared by segments", ("fim-trust-3",))
    yield segments
    short = replace(case, url=f"{HOST}/dd/f", trust=(entry(name, prefixes=[f"{HOST}/d"]),))
    yield fault(
        segments,
        "name",
        "the place is not below the prefix: only its name begins so",
        "out-of-scope",
        7,
        short,
        ("fim-trust-3",),
    )
    yield fault(
        segments,
        "above",
        "the place is above the prefix",
        "out-of-scope",
        7,
        replace(case, url=f"{HOST}/d", trust=(entry(name, prefixes=[f"{HOST}/d/f"]),)),
        ("fim-trust-3",),
    )
    yield fault(
        base,
        "no-url",
        "an entry for a place, where there is no URL",
        "out-of-scope",
        7,
        replace(case, url=None, trust=(entry(name, prefixes=[f"{HOST}/"]),)),
        ("fim-trust-4",),
    )
    yield fault(
        base,
        "no-url-two",
        "an entry for two places, where there is no URL",
        "out-of-scope",
        7,
        replace(case, url=None, trust=(entry(name, prefixes=[f"{HOST}/", f"{HOST}/d"]),)),
        ("fim-trust-4",),
    )

    subject = signed_by(full, url=case.url)
    three = [
        {"type": certificates.COUNTRY, "value": "DE"},
        {"type": certificates.ORGANIZATION, "value": "Example"},
        {"type": COMMON_NAME, "value": "signer"},
    ]
    for slug, asked in (("all", three), ("some", three[1:]), ("one", three[:1]), ("order", three[::-1])):
        yield replace(subject, trust=(entry(full.name, subject=asked),)).vector(
            f"subject-{slug}", f"attributes asked for: {slug}", ("fim-trust-6",)
        )
    whole = replace(subject, trust=(entry(full.name, subject=three),)).vector(
        "subject", "the subject, whole", ("fim-trust-6",)
    )
    yield whole
    for slug, asked in (
        ("value", [*three[:2], {"type": COMMON_NAME, "value": "signer2"}]),
        ("type", [*three[:2], {"type": "2.5.4.11", "value": "signer"}]),
    ):
        yield fault(
            whole,
            slug,
            "one attribute does not fit",
            "out-of-scope",
            7,
            replace(subject, trust=(entry(full.name, subject=asked),)),
            ("fim-trust-6",),
        )

    alike = ("fim-trust-6",)
    key = keys.ed25519("scope-string")

    def typed(slug: str, string: int) -> Case:
        signer = self_signed(f"scope-string-{slug}", key, string=string)
        subject = [{"type": COMMON_NAME, "value": signer.name}]
        return replace(signed_by(signer, url=case.url), trust=(entry(signer.name, subject=subject),))

    strings = typed("utf8", certificates.UTF8_STRING).vector("subject-utf8", "a subject that is a UTF8String", alike)
    yield strings
    for slug, string in (("printable", certificates.PRINTABLE_STRING), ("ia5", certificates.IA5_STRING)):
        yield typed(slug, string).vector(f"subject-{slug}", f"a subject that is of the type {slug}", alike)
    for slug, string in (("bmp", certificates.BMP_STRING), ("teletex", certificates.TELETEX_STRING)):
        about = f"a subject of the same characters and the type {slug}"
        yield fault(strings, slug, about, "out-of-scope", 7, typed(slug, string), alike, ["re-signed"])

    yield replace(case, trust=(entry(other.name), entry(name))).vector(
        "scope-second", "the second entry pins the signer", ("fim-ver-4",)
    )
    yield replace(case, trust=(entry(name, volumes=[bytes(16)]), entry(name))).vector(
        "scope-one-of-two", "two pins of the signer, one in scope", ("fim-trust-5",)
    )
    ca = authority("ca")
    both = issued("scope-both", keys.ed25519("scope-both"), ca)
    ca_entry = entry(ca.name, ca=True, subject=[{"type": COMMON_NAME, "value": both.name}], volumes=[sample.VOLUME])
    pin_and_ca = replace(signed_by(both), trust=(ca_entry, entry(both.name)), certificates=(certificates_for(both),))
    base = pin_and_ca.vector(
        "scope-pin-and-ca", "a signer that is pinned, and that a CA entry would do for", ("fim-trust-5",)
    )
    yield base
    narrow = replace(pin_and_ca, trust=(ca_entry, entry(both.name, volumes=[bytes(16)])))
    yield fault(
        base,
        "pin-elsewhere",
        "the pin is out of scope, and the CA entry is not considered",
        "out-of-scope",
        7,
        narrow,
        ("fim-trust-5",),
    )
    narrow = replace(pin_and_ca, trust=(ca_entry, entry(both.name, schemes=[keys.ECDSA_P256])))
    yield fault(
        base,
        "pin-scheme",
        "the pin is for another scheme, and the CA entry is not considered",
        "out-of-scope",
        7,
        narrow,
        ("fim-trust-5",),
    )


def _several_signers() -> Iterator[Vector]:
    one, two, three = example(), pinned(keys.ED25519), pinned(keys.ECDSA_P256)
    count = ("fim-trust-7", "fim-trust-8")
    pins = (entry(one.name), entry(two.name), entry(three.name))

    def of(*signers: Signer, trust: Sequence[dict[str, Any]], **more: Any) -> Case:
        return replace(signed_by(*signers), trust=tuple(trust), **more)

    for slug, signers, asked in (
        ("one-of-three", (one,), 1),
        ("two-of-three", (one, two), 2),
        ("three-of-three", (one, two, three), 3),
        ("two-asked-three-there", (one, two, three), 2),
    ):
        yield of(*signers, trust=[part | {"signers": asked} for part in pins]).vector(
            f"signers-{slug}", f"signed by {len(signers)}, asked for {asked}", count
        )
    all_three = [part | {"signers": 3} for part in pins]
    base = of(one, two, three, trust=all_three).vector("signers", "signed by three, asked for three", count)
    yield base
    for signers in ((one, two), (one, three), (two, three), (one,), (three,)):
        names = "-".join(signer.name for signer in signers)
        yield fault(
            base,
            f"only-{names}",
            f"signed by {len(signers)} of three",
            "too-few-signers",
            10,
            of(*signers, trust=all_three),
            count,
            ["re-signed"],
        )
    again = self_signed("example-again", keys.ed25519("example"), serial=2)
    case = of(one, again, trust=[entry(one.name, signers=2), entry(again.name, signers=2)])
    base = of(one, two, trust=[entry(one.name, signers=2), entry(two.name, signers=2)]).vector(
        "signers-two", "signed by two, asked for two", count
    )
    yield base
    yield fault(
        base,
        "same-key",
        "two certificates of one key count once",
        "too-few-signers",
        10,
        case,
        ("fim-trust-8",),
        ["re-signed"],
    )
    both_hashes = replace(
        of(one, trust=[entry(one.name, signers=2)]), attestations=(Attestation(one), Attestation(one, hash=10))
    ).ordered()
    yield fault(
        base,
        "same-certificate",
        "one certificate, named by two digests, counts once",
        "too-few-signers",
        10,
        both_hashes,
        ("fim-trust-8",),
        ["re-signed", "needs-hash-sha3-256"],
    )
    not_trusted = of(one, two, trust=[entry(one.name, signers=2)])
    yield fault(
        base,
        "not-trusted",
        "the other signer is not trusted, and does not count",
        "too-few-signers",
        10,
        not_trusted,
        ("fim-trust-8",),
    )
    strict = of(one, trust=[entry(one.name), entry(three.name, signers=2)])
    yield fault(
        base,
        "other-entry",
        "an entry asks for two whose own signer is not among them",
        "too-few-signers",
        10,
        strict,
        ("fim-trust-7",),
        ["re-signed"],
    )
    elsewhere = of(one, trust=[entry(one.name), entry(three.name, signers=2, volumes=[bytes(16)])])
    yield elsewhere.vector("signers-elsewhere", "an entry that asks for two, of another volume", ("fim-trust-7",))
    elsewhere = of(one, trust=[entry(one.name), entry(three.name, signers=2, prefixes=[f"{HOST}/"])])
    yield elsewhere.vector(
        "signers-elsewhere-url", "an entry that asks for two, of another place", ("fim-trust-7", "fim-trust-4")
    )
    schemes = of(one, trust=[entry(one.name), entry(three.name, signers=2, schemes=[keys.ECDSA_P256])])
    yield fault(
        base,
        "other-scheme",
        "an entry covers volume and place, for another scheme: it counts all the same",
        "too-few-signers",
        10,
        schemes,
        ("fim-trust-7",),
        ["re-signed"],
    )

    # one passes, whatever became of the others (fim-ver-5)
    good = Attestation(one)
    passing = ("fim-ver-5",)
    stranger = self_signed("stranger", keys.ed25519("stranger"))
    for slug, about, others, trust in (
        ("untrusted", "the other signer is not trusted", (Attestation(stranger),), [entry(one.name)]),
        (
            "bad-signature",
            "the other signature does not verify",
            (Attestation(two, value=b"\1" * 64),),
            [entry(one.name), entry(two.name)],
        ),
        (
            "unsupported",
            "the other scheme is not known",
            (Attestation(two, scheme=0x0999),),
            [entry(one.name), entry(two.name)],
        ),
        (
            "unknown-hash",
            "the other fingerprint has a hash that is not known",
            ((1, records.signature(99, b"\1" * 20, 0x0807, b"\1" * 64)),),
            [entry(one.name)],
        ),
        (
            "refused-hash",
            "the other fingerprint has a truncated hash",
            ((1, records.signature(3, b"\1" * 15, 0x0807, b"\1" * 64)),),
            [entry(one.name)],
        ),
        ("unknown-type", "the other is of a type that is not known", ((7, b"x"),), [entry(one.name)]),
        ("future", "the other is of type 3", ((3, b"x"),), [entry(one.name)]),
        (
            "out-of-scope",
            "the other signer is out of scope",
            (Attestation(two),),
            [entry(one.name), entry(two.name, volumes=[bytes(16)])],
        ),
        (
            "wrong-usage",
            "the other certificate is for something else",
            (Attestation(self_signed("usage-code", keys.ed25519("usage"), purposes=(certificates.CODE_SIGNING,))),),
            [entry(one.name), entry("usage-code")],
        ),
    ):
        case = replace(example_case(), attestations=(good, *others), trust=tuple(trust)).ordered()
        yield case.vector(
            f"one-passes-{slug}",
            f"one attestation passes; {about}",
            passing,
        )
    eight = [self_signed(f"signer-{n}", keys.ed25519(f"signer-{n}")) for n in range(8)]
    yield of(*eight, trust=[entry(signer.name, signers=8) for signer in eight]).vector(
        "signers-eight", "signed by eight, asked for eight", count
    )

    # none passes: the one that failed at the highest step, and the first of these (fim-ver-6)
    base = of(one, two, trust=[entry(one.name), entry(two.name)]).vector(
        "none-passes", "signed by two, asked for one", ("fim-ver-5", "fim-ver-6")
    )
    yield base
    failing: list[tuple[str, str, int, Callable[[Signer], tuple[Any, list[dict[str, Any]]]]]] = [
        ("unsupported", "unsupported", 6, lambda signer: (Attestation(signer, scheme=0x0999), [entry(signer.name)])),
        ("untrusted", "untrusted", 7, lambda signer: (Attestation(signer), [])),
        (
            "out-of-scope",
            "out-of-scope",
            7,
            lambda signer: (Attestation(signer), [entry(signer.name, volumes=[bytes(16)])]),
        ),
        (
            "bad-certificate",
            "bad-certificate",
            8,
            lambda signer: (Attestation(signer, scheme=keys.ECDSA_P384), [entry(signer.name)]),
        ),
        (
            "bad-signature",
            "bad-signature",
            9,
            lambda signer: (Attestation(signer, value=b"\1" * 64), [entry(signer.name)]),
        ),
    ]
    for left, right in ((a, b) for a in failing for b in failing if a is not b):
        parts = [left[3](one), right[3](two)]
        case = replace(
            example_case(),
            attestations=tuple(part[0] for part in parts),
            trust=tuple(item for part in parts for item in part[1]),
        ).ordered()
        first = case.attestations[0]
        in_order = [left, right] if isinstance(first, Attestation) and first.signer is one else [right, left]
        worst = max(in_order, key=lambda part: part[2])
        yield fault(
            base,
            f"{left[0]}-and-{right[0]}",
            f"one is {left[1]}, the other {right[1]}",
            worst[1],
            worst[2],
            case,
            ("fim-ver-6",),
            ["several-faults"],
        )
